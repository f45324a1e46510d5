//! The table of all environment variables: what exists, its default, its range and what it is for.
//!
//! Reading, checking, `config/.env.example` and `docs/configuration.md` all go by it. A variable's field
//! is its name without its section's prefix, in lower case; the rooms' `Default` agrees with the defaults
//! here (tested), and their field comments say more than the sentence here does.

use super::kind::Kind;

/// One environment variable.
#[derive(Debug)]
pub(super) struct Variable {
    pub name: &'static str,
    /// As it would be written in the environment; empty for none.
    pub default: &'static str,
    pub kind: Kind,
    /// One sentence; begins with a blank, as doc comments do.
    pub doc: &'static str,
}

/// Variables that fill one struct.
#[derive(Debug)]
pub(super) struct Group {
    pub section: Section,
    pub title: &'static str,
    pub variables: &'static [Variable],
}

/// The struct that a group fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Section {
    Kafka,
    Dispatch,
    Workflow,
    Llm,
    Ollama,
    OpenAi,
    Admin,
    Service,
    Telemetry,
}

impl Section {
    fn prefix(self) -> &'static str {
        match self {
            Self::Kafka => "KAFKA_",
            Self::Dispatch | Self::Workflow => "WORKFLOW_",
            Self::Llm => "LLM_",
            Self::Ollama => "OLLAMA_",
            Self::OpenAi => "OPENAI_",
            Self::Admin => "HTTP_",
            Self::Service => "",
            Self::Telemetry => "LOG_",
        }
    }
}

impl Group {
    /// Returns the name of the field that `variable` of this group fills.
    pub(super) fn field(&self, variable: &Variable) -> String {
        let name = variable.name;
        name.strip_prefix(self.section.prefix()).unwrap_or(name).to_ascii_lowercase()
    }
}

impl Variable {
    /// Returns the variable that names a file with this one's value, where it is a secret.
    pub(super) fn file(&self) -> Option<String> {
        (self.kind == Kind::Secret).then(|| format!("{}_FILE", self.name))
    }

    /// Returns what to do about a malformed value.
    pub(super) fn remedy(&self) -> String {
        let expects = self.kind.expects();
        match self.default {
            "" => format!("set {expects}"),
            default => format!("set {expects}; the default is {default}"),
        }
    }
}

/// Returns every variable, in the table's order.
pub(super) fn variables() -> impl Iterator<Item = &'static Variable> {
    TABLE.iter().flat_map(|group| group.variables)
}

macro_rules! variables {
    ($($(#[doc = $doc:literal])+ $name:ident = $default:literal, $kind:expr;)+) => {
        &[$(Variable {
            name: stringify!($name),
            default: $default,
            kind: $kind,
            doc: concat!($($doc),+),
        }),+]
    };
}

pub(super) static TABLE: &[Group] = &[
    Group { section: Section::Kafka, title: "Kafka", variables: KAFKA },
    Group { section: Section::Dispatch, title: "Work", variables: DISPATCH },
    Group { section: Section::Workflow, title: "Runs", variables: WORKFLOW },
    Group { section: Section::Llm, title: "Model", variables: LLM },
    Group { section: Section::Ollama, title: "Ollama", variables: OLLAMA },
    Group { section: Section::OpenAi, title: "OpenAI-compatible servers", variables: OPENAI },
    Group { section: Section::Admin, title: "HTTP", variables: ADMIN },
    Group { section: Section::Service, title: "Process", variables: SERVICE },
    Group { section: Section::Telemetry, title: "Log", variables: TELEMETRY },
];

const KAFKA: &[Variable] = variables! {
    /// The brokers to ask first; any one of them leads to the others.
    KAFKA_BOOTSTRAP_SERVERS = "localhost:9092", Kind::Servers;
    /// The consumer group that shares the events; another name is another reader, which answers them again.
    KAFKA_CONSUMER_GROUP_ID = "langgraph-consumer-group", Kind::Text;
    /// The topic that events are read from.
    KAFKA_WORKFLOW_EVENTS_TOPIC = "workflow-events", Kind::Name;
    /// The topic that results go to, one per event.
    KAFKA_WORKFLOW_RESULTS_TOPIC = "workflow-results", Kind::Name;
    /// The topic that dead letters go to, one per event that did not succeed.
    KAFKA_DLQ_TOPIC = "workflow-events-dlq", Kind::Name;
    /// The topic that holds the effects of unfinished runs; internal, as many partitions as the events topic.
    KAFKA_JOURNAL_TOPIC = "workflow-journal", Kind::Name;
    /// Has no effect: an offset is committed in the transaction that makes its result visible.
    KAFKA_ENABLE_AUTO_COMMIT = "false", Kind::Ignored;
    /// Where a group begins that has committed nothing on any partition: with what comes from now on, or
    /// with all that the topic holds.
    KAFKA_AUTO_OFFSET_RESET = "latest", Kind::Choice(&["latest", "earliest"]);
    /// How the connection is protected.
    KAFKA_SECURITY_PROTOCOL = "plaintext",
        Kind::ChoiceAnyCase(&["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]);
    /// How weir proves who it is, with a SASL protocol.
    KAFKA_SASL_MECHANISM = "SCRAM-SHA-512",
        Kind::ChoiceAnyCase(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]);
    /// The SASL user name.
    KAFKA_SASL_USERNAME = "", Kind::Text;
    /// The SASL password.
    KAFKA_SASL_PASSWORD = "", Kind::Secret;
    /// The certificates to trust: a PEM file, a directory, or `probe` for the system's usual places;
    /// OpenSSL's own choice when not set.
    KAFKA_SSL_CA_LOCATION = "", Kind::Path;
    /// The PEM file with the certificate that weir shows to the broker.
    KAFKA_SSL_CERTIFICATE_LOCATION = "", Kind::Path;
    /// The PEM file with the private key of that certificate.
    KAFKA_SSL_KEY_LOCATION = "", Kind::Path;
    /// The password of that private key.
    KAFKA_SSL_KEY_PASSWORD = "", Kind::Secret;
    /// How long the group waits for a silent member before it gives its partitions away; with the
    /// `consumer` protocol the broker decides.
    KAFKA_SESSION_TIMEOUT = "10s", Kind::Duration("6s", "30m");
    /// How long the runs of a revoked partition may go on before they are cancelled; nothing is fetched
    /// meanwhile.
    KAFKA_REVOKE_GRACE = "2s", Kind::Duration("0s", "30s");
    /// Whether the instance keeps its membership over a restart; for StatefulSets, as a member that stops
    /// for good keeps its partitions until the session ends.
    KAFKA_STATIC_MEMBERSHIP = "false", Kind::Switch;
    /// Who assigns the partitions: a member, or the broker (KIP-848).
    KAFKA_GROUP_PROTOCOL = "classic", Kind::Choice(&["classic", "consumer"]);
    /// What to do with committed offsets whose metadata weir did not write: stop the partition, or go on
    /// and answer some events again.
    KAFKA_FOREIGN_METADATA = "fail", Kind::Choice(&["fail", "ignore"]);
    /// Whether weir creates the topics that are missing.
    KAFKA_CREATE_TOPICS = "true", Kind::Switch;
    /// After how long the broker aborts a transaction that its producer left open; readers of the results
    /// stall for this and up to 10s more when an instance crashes and does not come back.
    KAFKA_TRANSACTION_TIMEOUT = "10s", Kind::Duration("2s", "15m");
    /// The most records in one transaction.
    KAFKA_TRANSACTION_MAX_RECORDS = "10000", Kind::Count(1, 100_000);
    /// The most bytes in one transaction; a larger record goes alone.
    KAFKA_TRANSACTION_MAX_BYTES = "8MiB", Kind::Size("64KiB", "256MiB");
    /// How long after one another transactions begin where much happens, so that each carries more; `0` for as
    /// soon as the last one has ended.
    KAFKA_TRANSACTION_SPACING = "60ms", Kind::Duration("0s", "1s");
    /// What librdkafka may read ahead, per partition.
    KAFKA_PREFETCH = "1MiB", Kind::Size("64KiB", "64MiB");
};

const DISPATCH: &[Variable] = variables! {
    /// The most runs at once; one that waits for the model costs its state, no thread.
    WORKFLOW_MAX_IN_FLIGHT = "512", Kind::Count(1, 100_000);
    /// The most offsets per partition that were received and are not committed.
    WORKFLOW_MAX_UNSETTLED = "1000", Kind::Count(1, 1000);
    /// The most bytes of events held; a larger event is taken alone.
    WORKFLOW_MEMORY = "64MiB", Kind::Size("1MiB", "");
    /// How old an event must be before its result is published, for clients that subscribe only after
    /// they have published; `0` where they subscribe first.
    WORKFLOW_RESULT_MIN_AGE = "1s", Kind::Duration("0s", "1m");
    /// How old an event may become, counted from its record's timestamp, before it is worked on no more and
    /// ends as `error`; `0` for any age. The header `weir-deadline` says it for one event.
    WORKFLOW_EVENT_TTL = "0s", Kind::Duration("0s", "30d");
    /// Which events wait for one another: none, those with the same key, or those of one partition.
    WORKFLOW_ORDERING = "unordered", Kind::Choice(&["unordered", "key", "partition"]);
    /// How often an event is attempted, the first time included.
    WORKFLOW_MAX_ATTEMPTS = "4", Kind::Count(1, 100);
    /// The upper bound of the first back-off; it doubles with each attempt.
    WORKFLOW_RETRY_BASE = "1s", Kind::Duration("1ms", "1m");
    /// The upper bound of every back-off.
    WORKFLOW_RETRY_MAX = "60s", Kind::Duration("1ms", "1h");
    /// Whether results and offsets are committed in one transaction, or flushed and then committed, for
    /// brokers without transactions.
    DELIVERY_GUARANTEE = "exactly_once", Kind::Choice(&["exactly_once", "at_least_once"]);
};

const WORKFLOW: &[Variable] = variables! {
    /// How long one attempt may take, time in queues not counted; a bare number means seconds.
    WORKFLOW_EXECUTION_TIMEOUT = "300s", Kind::Seconds("1s", "24h");
    /// Whether answers that a run has paid for are kept in the journal until its result is there: `sync`, and its
    /// next call waits for that; `async`, and nothing waits; `off`, they are not.
    WORKFLOW_DURABILITY = "sync", Kind::Choice(&["sync", "async", "off"]);
    /// The most supersteps of one run; the multi-agent graph takes seven.
    WORKFLOW_RECURSION_LIMIT = "25", Kind::Count(1, 10_000);
    /// The most calls of a model in one run, those of failed attempts included; `0` for any number.
    WORKFLOW_BUDGET_CALLS = "0", Kind::Count(0, 1_000_000);
    /// The most tokens in one run, of prompts and answers together, as the model counts them; `0` for any
    /// number.
    WORKFLOW_BUDGET_TOKENS = "0", Kind::Count(0, 1_000_000_000_000);
    /// The most time in calls of a model in one run, time in line not counted; `0` for any.
    WORKFLOW_BUDGET_TIME = "0s", Kind::Duration("0s", "24h");
    /// What an error of the model does to its run: it is tried again and then fails, or the error is
    /// written into the agent's results and the run goes on, as the original.
    LLM_ON_ERROR = "fail", Kind::Choice(&["fail", "degrade"]);
};

const LLM: &[Variable] = variables! {
    /// Who is asked; `openai` and `auto` without `OPENAI_API_KEY` and `OPENAI_BASE_URL` mean Ollama.
    LLM_PROVIDER = "ollama", Kind::ChoiceAnyCase(&["ollama", "openai", "auto"]);
    /// How long the connection may take, TLS included.
    LLM_CONNECT_TIMEOUT = "5s", Kind::Duration("100ms", "1m");
    /// How long the first byte of an answer may take; at Ollama from the last byte of any call of the model, and
    /// not while it loads.
    LLM_FIRST_BYTE_TIMEOUT = "2m", Kind::Duration("1s", "1h");
    /// How long all calls of a model that the endpoint says is loaded may be silent, before its runner counts
    /// as frozen; a second more per 200 bytes of the longest prompt, and twice as long after each time.
    LLM_RESIDENT_FIRST_BYTE_TIMEOUT = "20s", Kind::Duration("1s", "1h");
    /// How long a begun answer may fall silent.
    LLM_IDLE_TIMEOUT = "60s", Kind::Duration("1s", "1h");
    /// How long a call may take in all; the rest of `WORKFLOW_EXECUTION_TIMEOUT` may end it earlier.
    LLM_TOTAL_TIMEOUT = "10m", Kind::Duration("1s", "24h");
    /// The longest answer taken.
    LLM_MAX_ANSWER = "1MiB", Kind::Size("1KiB", "64MiB");
    /// The longest line of a stream taken, or body where nothing is streamed.
    LLM_MAX_LINE = "8MiB", Kind::Size("4KiB", "256MiB");
    /// How long calls wait where no endpoint can be asked, at start or because all rest; then they fail, for
    /// good where the servers are there and only fail.
    LLM_START_TIMEOUT = "30s", Kind::Duration("1s", "1h");
    /// After how many faults of its own in a row an endpoint rests from a model.
    LLM_BREAKER_FAULTS = "3", Kind::Count(1, 1000);
    /// How long an endpoint that failed or was overloaded rests at first, before one call tries it; it doubles
    /// with each that fails.
    LLM_BREAKER_REST = "1s", Kind::Duration("100ms", "10m");
    /// The longest rest.
    LLM_BREAKER_REST_MAX = "4s", Kind::Duration("100ms", "10m");
    /// How long calls of a model that is at no endpoint wait at most while the models there have work.
    LLM_SWAP_PATIENCE = "30s", Kind::Duration("1s", "1h");
    /// Who is asked, with its own model, where no endpoint of `LLM_PROVIDER` can be.
    LLM_FALLBACK_PROVIDER = "", Kind::ChoiceAnyCase(&["ollama", "openai"]);
};

const OLLAMA: &[Variable] = variables! {
    /// Where Ollama is, one URL or several separated by commas; scheme and port may be left out, a path is
    /// kept. `https://user:password@host` is sent as basic authentication, `https://:token@host` as a bearer
    /// token, to that endpoint alone.
    OLLAMA_BASE_URL = "http://localhost:11434", Kind::Urls;
    /// The word `true` makes `http://ollama:11434` the default of `OLLAMA_BASE_URL`.
    DOCKER_ENV = "", Kind::Text;
    /// The model, as `ollama list` names it.
    OLLAMA_MODEL = "llama3.2:latest", Kind::Text;
    /// The model that is asked where no endpoint can be asked for the other.
    OLLAMA_FALLBACK_MODEL = "", Kind::Text;
    /// Sent as a bearer token to every endpoint without credentials of its own.
    OLLAMA_API_KEY = "", Kind::Secret;
    /// How freely the model chooses its words; 0 takes always the likeliest.
    OLLAMA_TEMPERATURE = "0.7", Kind::Number(0.0, 2.0);
    /// The most calls at once of one model at one endpoint; Ollama itself queues without a bound.
    OLLAMA_MAX_CONCURRENCY = "32", Kind::Count(1, 10_000);
    /// The context that the model is loaded with, in tokens, sent with every call; the server's own when
    /// not set.
    OLLAMA_NUM_CTX = "", Kind::Count(512, 10_000_000);
    /// How long the model stays loaded after a call, `-1` for ever; the server's own when not set.
    OLLAMA_KEEP_ALIVE = "", Kind::DurationOrForever("0s", "720h");
    /// Whether the server is told to fetch the model when it does not have it; calls wait meanwhile.
    OLLAMA_PULL = "never", Kind::Choice(&["never", "missing"]);
};

const OPENAI: &[Variable] = variables! {
    /// Where the server is, with its version path; one URL or several separated by commas.
    OPENAI_BASE_URL = "https://api.openai.com/v1", Kind::Urls;
    /// Another name for `OPENAI_BASE_URL`, which wins.
    OPENAI_API_BASE = "", Kind::Urls;
    /// Sent as a bearer token to every endpoint without credentials of its own.
    OPENAI_API_KEY = "", Kind::Secret;
    /// The model.
    OPENAI_MODEL = "gpt-4o-mini", Kind::Text;
};

const ADMIN: &[Variable] = variables! {
    /// Where probes, metrics and results are served, to all who reach it; `off` for nowhere.
    HTTP_ADDR = "127.0.0.1:8080", Kind::Address;
};

const SERVICE: &[Variable] = variables! {
    /// How long runs may go on after SIGTERM; keep it 5s below what stops the process by force.
    SHUTDOWN_GRACE = "25s", Kind::Duration("0s", "1h");
    /// The instance's name, the same after a restart and unlike every other's; the host's name and a
    /// number when not set.
    INSTANCE_ID = "", Kind::Name;
    /// How many threads run tasks, besides those of librdkafka; `0` for half of the cores, at least one.
    WORKER_THREADS = "0", Kind::Count(0, 1024);
};

const TELEMETRY: &[Variable] = variables! {
    /// The form of a line: JSON, text, or text on a terminal and JSON elsewhere.
    LOG_FORMAT = "auto", Kind::ChoiceAnyCase(&["auto", "json", "text"]);
    /// Which lines are written: a level, or directives such as `info,weir::llm=debug`.
    LOG_LEVEL = "info", Kind::Level;
    /// The same, in place of `LOG_LEVEL`, where it is set.
    RUST_LOG = "", Kind::Filter;
};
