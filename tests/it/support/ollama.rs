//! The real Ollama server, where the tests have one.

/// Returns the base URL and the model, or `None` where `WEIR_TEST_SKIP` leaves the real model out.
pub(crate) fn real_model() -> Option<(String, String)> {
    let variable = |name: &str| std::env::var_os(name).and_then(|value| value.into_string().ok());
    if variable("WEIR_TEST_SKIP").is_some_and(|skip| skip.contains("ollama")) {
        return None;
    }
    let url = variable("WEIR_TEST_OLLAMA").expect(
        "WEIR_TEST_OLLAMA names no server: run the tests by tests/run, or set it, or WEIR_TEST_SKIP=ollama",
    );
    Some((url, variable("WEIR_TEST_OLLAMA_MODEL").unwrap_or_else(|| "tiny".to_owned())))
}
