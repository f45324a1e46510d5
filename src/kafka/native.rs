//! What librdkafka knows and rdkafka does not say: the generation of a membership, and bytes that are no UTF-8.
//!
//! rdkafka panics on a header's name, or on an offset's metadata, that another program wrote in some other encoding.
//! A record must never be able to stop the process, so both are read here as bytes. This is the one module of weir
//! with `unsafe` in it; nothing but owned values leaves it.
#![expect(unsafe_code, reason = "librdkafka's C API has no safe wrapper for these calls")]

use std::ffi::CStr;
use std::os::raw::{c_char, c_void};
use std::ptr;

use bytes::Bytes;
use rdkafka::{
    TopicPartitionList,
    bindings::{
        rd_kafka_consumer_group_metadata, rd_kafka_consumer_group_metadata_destroy,
        rd_kafka_consumer_group_metadata_generation_id, rd_kafka_consumer_group_metadata_member_id,
        rd_kafka_handle_mock_cluster, rd_kafka_header_get_all, rd_kafka_headers_t,
        rd_kafka_message_headers, rd_kafka_mock_broker_add,
        rd_kafka_mock_group_initial_rebalance_delay_ms, rd_kafka_resp_err_t,
    },
    client::{Client, ClientContext},
    error::RDKafkaErrorCode,
    message::BorrowedMessage,
};

/// Who this process is in its group at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) generation: i32,
    pub(super) id: String,
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

/// Returns the current membership of a consumer, usable or not.
pub(super) fn member<C: ClientContext>(client: &Client<C>) -> Option<Member> {
    // SAFETY: the client's pointer lives as long as `client`. The metadata object is ours until it is destroyed below,
    // and the id, which it owns, is copied before that.
    unsafe {
        let metadata = rd_kafka_consumer_group_metadata(client.native_ptr());
        if metadata.is_null() {
            return None;
        }
        let generation = rd_kafka_consumer_group_metadata_generation_id(metadata);
        let id = rd_kafka_consumer_group_metadata_member_id(metadata);
        let id = if id.is_null() { String::new() } else { text(id) };
        rd_kafka_consumer_group_metadata_destroy(metadata);
        Some(Member { generation, id })
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

/// Returns a message's headers in their order. A name that is no UTF-8 is read with replacement characters.
pub(crate) fn headers(message: &BorrowedMessage<'_>) -> Vec<(String, Option<Bytes>)> {
    let mut native: *mut rd_kafka_headers_t = ptr::null_mut();
    // SAFETY: the message outlives this call, and with it the headers that it owns.
    unsafe {
        let error = rd_kafka_message_headers(message.ptr(), &raw mut native);
        if error != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Vec::new();
        }
        owned(native)
    }
}

/// # Safety
/// `native` points to headers that live until this returns.
unsafe fn owned(native: *const rd_kafka_headers_t) -> Vec<(String, Option<Bytes>)> {
    let mut found = Vec::new();
    // SAFETY: names end with a NUL, values are of `size` bytes, and both live as long as the headers. Reading past the
    // last header is an error code, not a fault.
    unsafe {
        loop {
            let mut name: *const c_char = ptr::null();
            let mut value: *const c_void = ptr::null();
            let mut size = 0;
            let at = found.len();
            let error =
                rd_kafka_header_get_all(native, at, &raw mut name, &raw mut value, &raw mut size);
            if error != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
                return found;
            }
            let value = (!value.is_null()).then(|| Bytes::from(bytes(value, size)));
            found.push((text(name), value));
        }
    }
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

    #[test]
    fn a_headers_name_may_be_any_bytes_and_its_value_null_or_empty() {
        let names: [&[u8]; 3] = [b"plain", b"na\xffme", b""];
        let values: [Option<&[u8]>; 3] = [Some(b"\xff"), None, Some(b"")];
        // SAFETY: librdkafka copies names and values; the headers are destroyed after they were read.
        let found = unsafe {
            let native = rd_kafka_headers_new(3);
            for (name, value) in names.iter().zip(values) {
                let start = value.map_or(ptr::null(), |value| value.as_ptr().cast());
                let (name_size, size) =
                    (name.len().cast_signed(), value.map_or(0, |value| value.len().cast_signed()));
                rd_kafka_header_add(native, name.as_ptr().cast(), name_size, start, size);
            }
            let found = owned(native);
            rd_kafka_headers_destroy(native);
            found
        };

        let value = |bytes: &'static [u8]| Some(Bytes::from_static(bytes));
        assert_eq!(
            found,
            [
                ("plain".to_owned(), value(b"\xff")),
                ("na\u{fffd}me".to_owned(), None),
                (String::new(), value(b"")),
            ]
        );
    }
}
