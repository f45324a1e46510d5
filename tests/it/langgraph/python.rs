//! What the rows take from Python: which exception is which, and which values are equal.

use serde_json::Value;

/// A Python exception's class and those it descends from.
pub(crate) fn ancestry(class: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(class), |class| match *class {
        "Exception" => None,
        "ConnectionResetError"
        | "ConnectionRefusedError"
        | "ConnectionAbortedError"
        | "BrokenPipeError" => Some("ConnectionError"),
        "ConnectionError" | "TimeoutError" | "PermissionError" | "FileNotFoundError"
        | "FileExistsError" | "InterruptedError" | "BlockingIOError" => Some("OSError"),
        "KeyError" | "IndexError" => Some("LookupError"),
        "ZeroDivisionError" | "OverflowError" | "FloatingPointError" => Some("ArithmeticError"),
        "NotImplementedError" | "RecursionError" => Some("RuntimeError"),
        "UnicodeError" => Some("ValueError"),
        "ModuleNotFoundError" => Some("ImportError"),
        "UnboundLocalError" => Some("NameError"),
        _ => Some("Exception"),
    })
}

pub(crate) fn is_retried_by_default(class: &str) -> bool {
    const NEVER: [&str; 10] = [
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
    ];
    let is = |wanted: &[&str]| ancestry(class).any(|class| wanted.contains(&class));
    is(&["ConnectionError"]) || !is(&NEVER)
}

/// A value's JSON text, equal for values that are equal to Python: true is 1, and so is 1.0.
pub(crate) fn hashed(value: &Value) -> String {
    let whole = value.as_f64().filter(|number| number.fract() == 0.0);
    match (value.as_bool(), whole) {
        (Some(truth), _) => u8::from(truth).to_string(),
        (None, Some(whole)) => whole.to_string(),
        (None, None) => value.to_string(),
    }
}
