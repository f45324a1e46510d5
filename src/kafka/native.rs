//! What librdkafka knows and rdkafka does not say: the generation of a membership, and bytes that are no UTF-8.
//!
//! A commit is guarded by the generation that its group metadata holds, and rdkafka hides it.
//! rdkafka panics on a header's name, or on an offset's metadata, that another program wrote in some other encoding.
//! A record must never be able to stop the process, so both are read here as bytes. This is the one module of weir
//! with `unsafe` in it; nothing but owned values leaves it.
#![expect(unsafe_code, reason = "librdkafka's C API has no safe wrapper for these calls")]

use std::ffi::{CStr, CString};
use std::os::raw::{c_char, c_void};
use std::ptr::{self, NonNull};
use std::time::Duration;

use bytes::Bytes;
use rdkafka::{
    TopicPartitionList,
    bindings::{
        rd_kafka_brokers_add, rd_kafka_consumer_group_metadata,
        rd_kafka_consumer_group_metadata_destroy, rd_kafka_consumer_group_metadata_generation_id,
        rd_kafka_consumer_group_metadata_member_id, rd_kafka_consumer_group_metadata_t,
        rd_kafka_error_code, rd_kafka_error_destroy, rd_kafka_error_is_fatal,
        rd_kafka_error_is_retriable, rd_kafka_error_string, rd_kafka_error_txn_requires_abort,
        rd_kafka_handle_mock_cluster, rd_kafka_header_get_all, rd_kafka_headers_t,
        rd_kafka_message_headers, rd_kafka_mock_broker_add,
        rd_kafka_mock_group_initial_rebalance_delay_ms, rd_kafka_resp_err_t,
        rd_kafka_send_offsets_to_transaction,
    },
    client::{Client, ClientContext},
    error::RDKafkaErrorCode,
    message::BorrowedMessage,
};

/// The longest value of a header that is read: no name of a group is as long.
const HEADER_MAX: usize = 1024;

/// Who this process is in its group at one moment: what the broker checks a commit against.
#[derive(Debug)]
pub(crate) struct GroupMetadata(NonNull<rd_kafka_consumer_group_metadata_t>);

// SAFETY: the object is a value of its own: nothing else points to it, and nothing in it belongs to a thread.
unsafe impl Send for GroupMetadata {}

/// Why a producer refused offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: RDKafkaErrorCode,
    pub(crate) reason: String,
    pub(crate) is_fatal: bool,
    pub(crate) is_retriable: bool,
    pub(crate) requires_abort: bool,
}

/// One line of a list of partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) partition: i32,
    /// As librdkafka counts: negative numbers are not offsets.
    pub(crate) offset: i64,
    pub(crate) metadata: Vec<u8>,
    pub(crate) error: Option<RDKafkaErrorCode>,
}

impl GroupMetadata {
    /// Returns the current membership of a consumer, usable or not.
    pub(crate) fn of<C: ClientContext>(client: &Client<C>) -> Option<Self> {
        // SAFETY: the client's pointer lives as long as `client`. The object is ours until we destroy it.
        NonNull::new(unsafe { rd_kafka_consumer_group_metadata(client.native_ptr()) }).map(Self)
    }

    /// Says whether it names a member that has joined.
    ///
    /// A member that was lost shows an empty id with its old generation, or, where the broker assigns, its id with
    /// generation 0; a member that never joined shows -1, which the broker would accept from anybody.
    pub(super) fn is_valid(&self) -> bool {
        // SAFETY: the object lives as long as `self`; the id belongs to it, and ends with a NUL.
        unsafe {
            let id = rd_kafka_consumer_group_metadata_member_id(self.0.as_ptr());
            let generation = rd_kafka_consumer_group_metadata_generation_id(self.0.as_ptr());
            generation >= 1 && !id.is_null() && *id != 0
        }
    }

    /// Returns the member's id; empty where there is none.
    pub(super) fn member_id(&self) -> String {
        // SAFETY: the object lives as long as `self`; the id belongs to it, ends with a NUL, and is copied.
        unsafe { text(rd_kafka_consumer_group_metadata_member_id(self.0.as_ptr())) }
    }
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: nobody else destroys it, and nothing that it owned was given away.
        unsafe { rd_kafka_consumer_group_metadata_destroy(self.0.as_ptr()) }
    }
}

/// Adds offsets to the open transaction, as the member that `group` says we are.
///
/// rdkafka's own call takes group metadata that hides its generation. Blocks, for at most `timeout`.
pub(crate) fn send_offsets<C: ClientContext>(
    producer: &Client<C>,
    offsets: &TopicPartitionList,
    group: &GroupMetadata,
    timeout: Duration,
) -> Result<(), Refusal> {
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: all three pointers live as long as the borrows. The error, when there is one, is ours; what it says is
    // copied before it is destroyed.
    unsafe {
        let error = rd_kafka_send_offsets_to_transaction(
            producer.native_ptr(),
            offsets.ptr(),
            group.0.as_ptr(),
            timeout_ms,
        );
        if error.is_null() {
            return Ok(());
        }
        let refusal = Refusal {
            code: rd_kafka_error_code(error).into(),
            reason: text(rd_kafka_error_string(error)),
            is_fatal: rd_kafka_error_is_fatal(error) != 0,
            is_retriable: rd_kafka_error_is_retriable(error) != 0,
            requires_abort: rd_kafka_error_txn_requires_abort(error) != 0,
        };
        rd_kafka_error_destroy(error);
        Err(refusal)
    }
}

/// Returns the lines of a list, with their metadata as bytes.
pub(crate) fn lines(list: &TopicPartitionList) -> Vec<Line> {
    // SAFETY: `elems` points to `cnt` initialised elements for as long as the list lives; each element's metadata, when
    // there is any, to `metadata_size` bytes.
    unsafe {
        let native = &*list.ptr();
        let count = usize::try_from(native.cnt).unwrap_or(0);
        if count == 0 {
            return Vec::new();
        }
        let elements = std::slice::from_raw_parts(native.elems, count);
        let line = |element: &rdkafka::bindings::rd_kafka_topic_partition_t| Line {
            partition: element.partition,
            offset: element.offset,
            metadata: bytes(element.metadata.cast_const(), element.metadata_size),
            error: (element.err != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR)
                .then(|| element.err.into()),
        };
        elements.iter().map(line).collect()
    }
}

/// Returns the value of a message's header `name`: of the last one, where there are several. A null is an empty value,
/// and so is one of more than [`HEADER_MAX`] bytes: nobody reads that.
///
/// librdkafka parses headers when it is first asked for them; a message without any costs a comparison.
pub(crate) fn header(message: &BorrowedMessage<'_>, name: &str) -> Option<Bytes> {
    let mut native: *mut rd_kafka_headers_t = ptr::null_mut();
    // SAFETY: the message outlives this call, and with it the headers that it owns.
    unsafe {
        let error = rd_kafka_message_headers(message.ptr(), &raw mut native);
        if error != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        last(native, name)
    }
}

/// # Safety
/// `native` points to headers that live until this returns.
unsafe fn last(native: *const rd_kafka_headers_t, wanted: &str) -> Option<Bytes> {
    let mut found = None;
    // SAFETY: names end with a NUL, values are of `size` bytes, and both live as long as the headers. Reading past the
    // last header is an error code, not a fault.
    unsafe {
        for at in 0.. {
            let mut name: *const c_char = ptr::null();
            let mut value: *const c_void = ptr::null();
            let mut size = 0;
            let error =
                rd_kafka_header_get_all(native, at, &raw mut name, &raw mut value, &raw mut size);
            if error != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
                break;
            }
            if CStr::from_ptr(name).to_bytes() == wanted.as_bytes() {
                found = Some((value, size));
            }
        }
        let (value, size) = found?;
        Some(if size > HEADER_MAX { Bytes::new() } else { bytes(value, size).into() })
    }
}

/// Names brokers to a client, as in `bootstrap.servers`, and says whether it took any.
pub(super) fn add_brokers<C: ClientContext>(client: &Client<C>, servers: &str) -> bool {
    // A configured value that holds a NUL made no client.
    let Ok(servers) = CString::new(servers) else { return true };
    // SAFETY: the client's pointer lives as long as `client`; the text is copied.
    unsafe { rd_kafka_brokers_add(client.native_ptr(), servers.as_ptr()) > 0 }
}

/// Completes a client's own mock cluster, when it has one: its groups begin at once instead of after three seconds, and
/// it has a controller. librdkafka says that broker 0 is, and starts none of that number.
pub(super) fn complete_mock<C: ClientContext>(client: &Client<C>) {
    // SAFETY: the client's pointer lives as long as `client`, and so does the cluster that it owns.
    unsafe {
        let cluster = rd_kafka_handle_mock_cluster(client.native_ptr());
        if !cluster.is_null() {
            rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0);
            // Only a number that is taken is refused.
            rd_kafka_mock_broker_add(cluster, 0);
        }
    }
}

/// # Safety
/// `start` is null, or points to `size` readable bytes.
unsafe fn bytes(start: *const c_void, size: usize) -> Vec<u8> {
    if start.is_null() || size == 0 {
        return Vec::new();
    }
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts(start.cast::<u8>(), size).to_vec() }
}

/// # Safety
/// `start` points to a string that ends with a NUL.
unsafe fn text(start: *const c_char) -> String {
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(start).to_string_lossy().into_owned() }
}

#[cfg(test)]
mod tests {
    use rdkafka::bindings::{rd_kafka_header_add, rd_kafka_headers_destroy, rd_kafka_headers_new};

    use super::*;

    /// Returns what is read of the header `wanted` among these.
    fn found(headers: &[(&[u8], Option<&[u8]>)], wanted: &str) -> Option<Bytes> {
        // SAFETY: librdkafka copies names and values; the headers are destroyed after they were read.
        unsafe {
            let native = rd_kafka_headers_new(headers.len());
            for (name, value) in headers {
                let start = value.map_or(ptr::null(), |value| value.as_ptr().cast());
                let (name_size, size) =
                    (name.len().cast_signed(), value.map_or(0, |value| value.len().cast_signed()));
                rd_kafka_header_add(native, name.as_ptr().cast(), name_size, start, size);
            }
            let found = last(native, wanted);
            rd_kafka_headers_destroy(native);
            found
        }
    }

    #[test]
    fn of_all_headers_the_last_of_the_name_is_read_whatever_bytes_they_are() {
        let headers: [(&[u8], Option<&[u8]>); 5] = [
            (b"wanted", Some(b"first")),
            (b"na\xffme", None),
            (b"wanted", Some(b"\xff")),
            (b"", Some(b"")),
            (b"wanted-too", Some(b"x")),
        ];

        assert_eq!(found(&headers, "wanted"), Some(Bytes::from_static(b"\xff")));
        assert_eq!(found(&headers, "Wanted"), None);
        assert_eq!(found(&[], "wanted"), None);
    }

    #[test]
    fn a_null_and_what_is_too_long_are_empty() {
        let long = [b'1'; HEADER_MAX + 1];
        for (value, kept) in
            [(None, 0), (Some(&long[..]), 0), (Some(&long[..HEADER_MAX]), HEADER_MAX)]
        {
            assert_eq!(found(&[(b"wanted", value)], "wanted").map(|found| found.len()), Some(kept));
        }
    }
}
