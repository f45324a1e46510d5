//! Log lines: one JSON object each for machines, text for a terminal; and a panic as a log line.
//!
//! A JSON line is flat: `timestamp`, `level`, `target`, `message`, then the event's fields, then those of the spans
//! around it. Of two fields with one name the innermost counts, so that no line has a key twice.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::ops::Range;
use std::panic::PanicHookInfo;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber, error};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer};

use super::{Config, Format, Metrics};

/// Keys that every line has; a field of that name gets an underscore behind it.
const RESERVED: [&str; 4] = ["timestamp", "level", "target", "message"];

/// Crates below ours that tell every step of every connection at `debug`.
const TALKATIVE: [&str; 5] = ["hyper", "hyper_util", "h2", "reqwest", "rustls"];

/// Where log lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// For a service, whose lines are all that it says.
    Stdout,
    /// For a command whose standard output is data.
    Stderr,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The level is neither a level nor a list of directives.
    #[error("read the log level {level:?}")]
    Level {
        /// As configured.
        level: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging was set up before.
    #[error("set up logging")]
    Twice(#[source] TryInitError),
}

/// Sets up logging for the process, and the panic hook. To be called once.
///
/// # Errors
/// When the level can't be read, or when it is called twice.
pub fn init(config: &Config, output: Output, metrics: &Metrics) -> Result<(), Error> {
    let filter = filter(&config.level)?;
    let (terminal, writer) = match output {
        Output::Stdout => (io::stdout().is_terminal(), BoxMakeWriter::new(io::stdout)),
        Output::Stderr => (io::stderr().is_terminal(), BoxMakeWriter::new(io::stderr)),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let text = match config.format {
        Format::Json => false,
        Format::Text => true,
        Format::Auto => terminal,
    };
    let set = if text {
        let lines = tracing_subscriber::fmt::layer().with_writer(writer);
        // Left alone, the layer colours its lines unless NO_COLOR says otherwise.
        registry.with(if terminal { lines } else { lines.with_ansi(false) }).try_init()
    } else {
        registry.with(Json { writer }).try_init()
    };
    set.map_err(Error::Twice)?;
    report_panics(metrics.clone());
    Ok(())
}

/// Reads a level or directives. A bare `debug` or `trace` is meant for weir and not for the crates below.
fn filter(level: &str) -> Result<EnvFilter, Error> {
    let mut directives = level.to_owned();
    if level.parse::<Level>().is_ok_and(|level| level > Level::INFO) {
        for name in TALKATIVE {
            directives.push_str(&format!(",{name}=info"));
        }
    }
    let parsed = EnvFilter::builder().parse(directives);
    parsed.map_err(|source| Error::Level { level: level.to_owned(), source })
}

/// Makes every panic a log line and a count. Who catches one tells no more than that the run ended.
pub(super) fn report_panics(metrics: Metrics) {
    std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        metrics.panic();
        let text = panic.payload_as_str().unwrap_or("a payload that isn't text");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        // Captured only if RUST_BACKTRACE asks for it.
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            error!(panic = text, place, thread, %backtrace, "panicked");
        } else {
            error!(panic = text, place, thread, "panicked");
        }
    }));
}

/// Writes each event as one line of JSON.
pub(super) struct Json<W> {
    pub(super) writer: W,
}

/// Fields in the order in which they were recorded, their values already JSON.
#[derive(Default)]
struct Fields {
    text: Vec<u8>,
    places: Vec<(&'static str, Range<usize>)>,
}

impl<S, W> Layer<S> for Json<W>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();

        let mut line = b"{\"timestamp\":\"".to_vec();
        line.extend_from_slice(now().as_bytes());
        line.extend_from_slice(b"\",\"level\":\"");
        line.extend_from_slice(metadata.level().as_str().as_bytes());
        line.extend_from_slice(b"\",\"target\":");
        push_text(&mut line, format_args!("{}", metadata.target()));
        let mut written = Vec::with_capacity(16);
        fields.push_one(&mut line, "message");
        fields.push_all(&mut line, &mut written);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                fields.push_all(&mut line, &mut written);
            }
        }
        line.extend_from_slice(b"}\n");

        // A log that can't be written has nowhere to say so.
        drop(self.writer.make_writer_for(metadata).write_all(&line));
    }
}

impl Fields {
    /// Adds a field whose value `write` appends; a value recorded later for the same name replaces it.
    fn add(&mut self, field: &Field, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        write(&mut self.text);
        let name = field.name();
        // A field that is a Rust keyword is written `r#type`.
        let name = name.strip_prefix("r#").unwrap_or(name);
        self.places.retain(|(known, _)| *known != name);
        self.places.push((name, start..self.text.len()));
    }

    fn push_one(&self, line: &mut Vec<u8>, name: &str) {
        if let Some((_, place)) = self.places.iter().find(|(known, _)| *known == name) {
            self.push(line, name, place);
        }
    }

    /// Appends all fields whose name isn't on the line yet.
    fn push_all(&self, line: &mut Vec<u8>, written: &mut Vec<&'static str>) {
        for (name, place) in &self.places {
            if *name == "message" || written.contains(name) {
                continue;
            }
            written.push(name);
            if RESERVED.contains(name) {
                self.push(line, &format!("{name}_"), place);
            } else {
                self.push(line, name, place);
            }
        }
    }

    fn push(&self, line: &mut Vec<u8>, name: &str, place: &Range<usize>) {
        line.push(b',');
        push_text(line, format_args!("{name}"));
        line.push(b':');
        line.extend_from_slice(self.text.get(place.clone()).unwrap_or(b"null"));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinity and no NaN.
        if value.is_finite() {
            self.add(field, |text| push_plain(text, format_args!("{value}")));
        } else {
            self.add(field, |text| push_text(text, format_args!("{value}")));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, |text| push_plain(text, format_args!("{value}")));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, |text| push_plain(text, format_args!("{value}")));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, |text| push_plain(text, format_args!("{value}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, |text| push_text(text, format_args!("{value}")));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, |text| push_text(text, format_args!("{value}")));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, |text| push_text(text, format_args!("{value:?}")));
    }
}

/// Now in UTC, as RFC 3339 with microseconds.
fn now() -> String {
    let mut text = String::with_capacity(27);
    if SystemTime.format_time(&mut Writer::new(&mut text)).is_err() {
        text.clear();
    }
    text
}

fn push_plain(line: &mut Vec<u8>, value: fmt::Arguments<'_>) {
    // Writing to a vector can't fail.
    drop(line.write_fmt(value));
}

fn push_text(line: &mut Vec<u8>, value: fmt::Arguments<'_>) {
    let start = line.len();
    line.push(b'"');
    if fmt::write(&mut Escaped(line), value).is_ok() {
        line.push(b'"');
    } else {
        // A Display that fails would leave half a string. serde_json's own way for such text panics then.
        line.truncate(start);
        line.extend_from_slice(b"null");
    }
}

/// Appends text as the inside of a JSON string.
struct Escaped<'a>(&'a mut Vec<u8>);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            match byte {
                b'"' => self.0.extend_from_slice(br#"\""#),
                b'\\' => self.0.extend_from_slice(br"\\"),
                b'\n' => self.0.extend_from_slice(br"\n"),
                0..0x20 | 0x7f => push_plain(self.0, format_args!("\\u{byte:04x}")),
                _ => self.0.push(byte),
            }
        }
        Ok(())
    }
}
