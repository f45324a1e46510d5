//! The form that an answer is to have: a JSON schema, compiled once.

use std::fmt;

use jsonschema::Validator;
use serde::{Serialize, Serializer};
use serde_json::Value;

/// The longest schema taken, in bytes: a server turns it into a grammar, and the repair turn repeats it.
const SCHEMA_MAX: usize = 64 * 1024;

/// How many of an answer's mistakes are told.
const MISTAKES_MAX: usize = 8;

/// How much of a mistake is told, in characters: it repeats what the model wrote.
const MISTAKE_MAX: usize = 200;

/// A JSON schema. It refers to nothing outside of itself.
pub struct Schema {
    json: Value,
    validator: Validator,
}

/// Why a schema is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It is too long.
    #[error("schema of {size} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// How long it is.
        size: usize,
        /// How long it may be.
        limit: usize,
    },
    /// It does not follow the rules of schemas, or refers to something outside.
    #[error("malformed schema: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
}

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// [`SchemaError`].
    pub fn new(json: Value) -> Result<Self, SchemaError> {
        let size = json.to_string().len();
        if size > SCHEMA_MAX {
            return Err(SchemaError::TooLarge { size, limit: SCHEMA_MAX });
        }
        match jsonschema::validator_for(&json) {
            Ok(validator) => Ok(Self { json, validator }),
            Err(error) => Err(SchemaError::Malformed { reason: error.to_string() }),
        }
    }

    /// Returns the schema as JSON.
    #[must_use]
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// Returns what is wrong with `value`, the first mistakes only; nothing when it fits.
    #[must_use]
    pub fn mistakes(&self, value: &Value) -> Vec<String> {
        let mistake = |error: jsonschema::ValidationError<'_>| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { "/" } else { &place };
            format!("{place}: {error}").chars().take(MISTAKE_MAX).collect()
        };
        self.validator.iter_errors(value).take(MISTAKES_MAX).map(mistake).collect()
    }
}

impl Serialize for Schema {
    fn serialize<S>(&self, serializer: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
    {
        self.json.serialize(serializer)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.json).finish()
    }
}
