//! The event itself, with every field in the form that the contract gives it.

use std::borrow::Cow;

use serde_json::{Map, Value};
use uuid::Uuid;

use super::json::Object;
use super::{Data, Timestamp};

/// An event of the events topic that keeps the contract.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkflowEvent {
    /// Its id, and its result's correlation id.
    pub event_id: Uuid,
    /// What happened; only [`EventType::Triggered`] starts a run.
    pub event_type: EventType,
    /// When, by the client's clock.
    pub timestamp: Timestamp,
    /// Who says so.
    pub source: Source,
    /// The workflow, as the client names it; may be empty.
    pub workflow_id: String,
    /// The run of the workflow, as the client names it; may be empty.
    pub workflow_run_id: String,
    /// `payload.data`.
    pub data: Data,
    /// `metadata.environment`.
    pub environment: Environment,
    /// `metadata.version`; `1.0` unless it is given.
    pub version: String,
}

/// Declares an enum whose variants have one name each on the wire.
macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Returns the name on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// Returns the variant of that name, letter for letter.
            pub(super) fn named(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

names! {
    /// What happened to a workflow.
    EventType {
        /// Somebody wants a run.
        Triggered = "workflow.triggered",
        /// A run elsewhere is complete; not weir's concern.
        Completed = "workflow.completed",
        /// A run elsewhere failed; not weir's concern.
        Failed = "workflow.failed",
        /// A result, told as an event; not weir's concern.
        Result = "workflow.result",
    }
}

names! {
    /// The system that an event comes from.
    Source {
        /// Apache Airflow.
        Airflow = "airflow",
        /// LangGraph.
        LangGraph = "langgraph",
        /// A FastAPI service.
        FastApi = "fastapi",
    }
}

names! {
    /// The environment that an event belongs to. It changes nothing about how the event is run.
    Environment {
        /// Development.
        Dev = "dev",
        /// Staging.
        Staging = "staging",
        /// Production.
        Prod = "prod",
    }
}

impl WorkflowEvent {
    /// Returns what the run is to do: `data.data.task` where `data.data` is an object that has a
    /// `task`, else `data.task`, else the text `process_workflow`.
    ///
    /// Only presence counts, so it may be of any type, null included. A number that is not finite
    /// is null here, and an integer beyond 64 bits the nearest double.
    #[must_use]
    pub fn task(&self) -> Value {
        self.data.task().unwrap_or_else(|| Value::from("process_workflow"))
    }

    /// Returns the metadata that a run starts with and its result repeats, in the contract's order.
    #[must_use]
    pub fn run_metadata(&self) -> Map<String, Value> {
        let fields = [
            (
                "event_id",
                self.event_id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).to_owned(),
            ),
            ("workflow_id", self.workflow_id.clone()),
            ("workflow_run_id", self.workflow_run_id.clone()),
            ("source", self.source.as_str().to_owned()),
            ("timestamp", self.timestamp.to_string()),
            ("environment", self.environment.as_str().to_owned()),
            ("version", self.version.clone()),
        ];
        fields.into_iter().map(|(name, text)| (name.to_owned(), Value::String(text))).collect()
    }

    /// Returns the event in its normal form: every field there, none besides, in the contract's
    /// order.
    ///
    /// Numbers as in [`task`](Self::task); [`normal_text`](Self::normal_text) keeps integers exact.
    #[must_use]
    pub fn normal_form(&self) -> Value {
        let object = |fields: Vec<(&str, Value)>| {
            Value::Object(
                fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            )
        };
        object(vec![
            ("event_id", self.event_id.to_string().into()),
            ("event_type", self.event_type.as_str().into()),
            ("timestamp", self.timestamp.to_string().into()),
            ("source", self.source.as_str().into()),
            ("workflow_id", self.workflow_id.as_str().into()),
            ("workflow_run_id", self.workflow_run_id.as_str().into()),
            ("payload", object(vec![("data", self.data.to_value())])),
            (
                "metadata",
                object(vec![
                    ("environment", self.environment.as_str().into()),
                    ("version", self.version.as_str().into()),
                ]),
            ),
        ])
    }

    /// Returns the normal form as compact JSON: integers of any length exactly, null for what is
    /// not finite. An event that is read from it has the same normal form.
    #[must_use]
    pub fn normal_text(&self) -> String {
        self.write(&self.data.normal_text(), Cow::Borrowed)
    }

    /// Writes the normal form with `data`, which is JSON, for the payload's data, and `shown` of
    /// each text that a client may have made long.
    pub(super) fn write<'t>(
        &'t self,
        data: &str,
        shown: impl Fn(&'t str) -> Cow<'t, str>,
    ) -> String {
        let payload = Object::new().json("data", data).end();
        let metadata = Object::new()
            .text("environment", self.environment.as_str())
            .text("version", &shown(&self.version))
            .end();
        Object::new()
            .id("event_id", self.event_id)
            .text("event_type", self.event_type.as_str())
            .timestamp("timestamp", self.timestamp)
            .text("source", self.source.as_str())
            .text("workflow_id", &shown(&self.workflow_id))
            .text("workflow_run_id", &shown(&self.workflow_run_id))
            .json("payload", &payload)
            .json("metadata", &metadata)
            .end()
    }
}
