//! What the rows take from Python: which exception is which, how values compare and print.

use std::cmp::Ordering;

use serde_json::{Value, json};

/// An exception's class under its one name.
pub(crate) fn canonical(class: &str) -> &str {
    if matches!(class, "IOError" | "EnvironmentError") { "OSError" } else { class }
}

/// A Python exception's class and those it descends from.
pub(crate) fn ancestry(class: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(canonical(class)), |class| match *class {
        "BaseException" => None,
        "Exception" => Some("BaseException"),
        "ConnectionResetError"
        | "ConnectionRefusedError"
        | "ConnectionAbortedError"
        | "BrokenPipeError" => Some("ConnectionError"),
        "ConnectionError" | "TimeoutError" | "PermissionError" | "FileNotFoundError"
        | "FileExistsError" | "InterruptedError" | "BlockingIOError" | "ChildProcessError"
        | "ProcessLookupError" | "IsADirectoryError" | "NotADirectoryError" => Some("OSError"),
        "KeyError" | "IndexError" => Some("LookupError"),
        "ZeroDivisionError" | "OverflowError" | "FloatingPointError" => Some("ArithmeticError"),
        "NotImplementedError" | "RecursionError" => Some("RuntimeError"),
        "UnicodeError" => Some("ValueError"),
        "UnicodeDecodeError" | "UnicodeEncodeError" | "UnicodeTranslateError" => {
            Some("UnicodeError")
        }
        "ModuleNotFoundError" => Some("ImportError"),
        "UnboundLocalError" => Some("NameError"),
        "IndentationError" => Some("SyntaxError"),
        "TabError" => Some("IndentationError"),
        warning if warning.ends_with("Warning") && warning != "Warning" => Some("Warning"),
        _ => Some("Exception"),
    })
}

pub(crate) fn is_retried_by_default(class: &str) -> bool {
    const NEVER: [&str; 12] = [
        "ValueError",
        "TypeError",
        "ArithmeticError",
        "LookupError",
        "NameError",
        "RuntimeError",
        "OSError",
        "ImportError",
        "SyntaxError",
        "ReferenceError",
        "StopIteration",
        "StopAsyncIteration",
    ];
    let is = |wanted: &[&str]| ancestry(class).any(|class| wanted.contains(&class));
    is(&["ConnectionError"]) || !is(&NEVER)
}

/// A whole number: true is 1.
fn whole(value: &Value) -> Option<i128> {
    let truth = value.as_bool().map(i128::from);
    let number = || value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
    truth.or_else(number)
}

/// A number of any kind: true is 1.
fn number(value: &Value) -> Option<f64> {
    value.as_bool().map(|truth| f64::from(u8::from(truth))).or_else(|| value.as_f64())
}

pub(crate) fn is_number(value: &Value) -> bool {
    number(value).is_some()
}

/// Whole numbers are exact, as far as JSON goes.
pub(crate) fn sum(a: &Value, b: &Value) -> Value {
    let float = || json!(number(a).unwrap_or_default() + number(b).unwrap_or_default());
    let Some(sum) = whole(a).zip(whole(b)).map(|(a, b)| a + b) else {
        return float();
    };
    let signed = i64::try_from(sum).map(Value::from);
    signed.or_else(|_| u64::try_from(sum).map(Value::from)).unwrap_or_else(|_| float())
}

pub(crate) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(_) | Value::Number(_) => number(value) != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

pub(crate) fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let same = |(key, a): (&String, &Value)| b.get(key).is_some_and(|b| equal(a, b));
            a.len() == b.len() && a.iter().all(same)
        }
        _ if is_number(a) && is_number(b) => order(a, b) == Some(Ordering::Equal),
        _ => a == b,
    }
}

/// Which of two values comes first; `None` where Python raises a TypeError.
pub(crate) fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Array(a), Value::Array(b)) => {
            let differing = a.iter().zip(b).find(|(a, b)| !equal(a, b));
            differing.map_or_else(|| Some(a.len().cmp(&b.len())), |(a, b)| order(a, b))
        }
        _ => match whole(a).zip(whole(b)) {
            Some((a, b)) => Some(a.cmp(&b)),
            None => number(a)?.partial_cmp(&number(b)?),
        },
    }
}

/// Whether `value in found` holds.
pub(crate) fn contains(found: &Value, value: &Value) -> bool {
    match (found, value) {
        (Value::Object(map), Value::String(key)) => map.contains_key(key),
        (Value::Array(list), _) => list.iter().any(|item| equal(item, value)),
        (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
        _ => false,
    }
}

/// A value's JSON text, equal for values that are equal to Python: true is 1, and so is 1.0.
pub(crate) fn hashed(value: &Value) -> String {
    let float = || number(value).filter(|number| number.fract() == 0.0);
    match whole(value) {
        Some(whole) => whole.to_string(),
        // There is no minus zero among the whole numbers.
        None => float().map_or_else(|| value.to_string(), |float| format!("{:.0}", float + 0.0)),
    }
}

/// What `str(value)` is.
pub(crate) fn printed(value: &Value) -> String {
    value.as_str().map_or_else(|| representation(value), str::to_owned)
}

fn representation(value: &Value) -> String {
    let joined = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(_) => whole(value)
            .map_or_else(|| float(number(value).unwrap_or_default()), |whole| whole.to_string()),
        Value::String(text) if text.contains('\'') && !text.contains('"') => format!("\"{text}\""),
        Value::String(text) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        Value::Array(list) => format!("[{}]", joined(list.iter().map(representation).collect())),
        Value::Object(map) => {
            let pair = |(key, value): (&String, &Value)| {
                format!("{}: {}", representation(&json!(key)), representation(value))
            };
            format!("{{{}}}", joined(map.iter().map(pair).collect()))
        }
    }
}

/// Both languages print the shortest digits, and differ in the exponent alone.
fn float(number: f64) -> String {
    let text = format!("{number:?}");
    match text
        .split_once('e')
        .and_then(|(digits, power)| Some((digits, power.parse::<i32>().ok()?)))
    {
        Some((digits, power)) => format!("{digits}e{power:+03}"),
        None => text,
    }
}
