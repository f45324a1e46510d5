//! The model's variables, and those that speak for others.

use super::*;

#[test]
fn the_provider_is_the_one_that_can_be_asked() {
    let check = |vars: Vars<'_>, provider: &str, warnings: &[&str]| {
        let config = loaded(vars);
        assert_eq!(format!("{:?}", config.llm.provider), provider, "{vars:?}");
        check_warned(vars, warnings);
    };
    let key = ("OPENAI_API_KEY", "hunter2");
    let fallback = ["LLM_PROVIDER: asks Ollama, as neither"];
    check(&[], "Ollama", &[]);
    check(&[("LLM_PROVIDER", " OLLAMA "), key], "Ollama", &[]);
    check(&[key], "Ollama", &["OPENAI_API_KEY: is not used"]);
    check(&[("LLM_PROVIDER", "OpenAI")], "Ollama", &fallback);
    check(&[("LLM_PROVIDER", "auto")], "Ollama", &fallback);
    check(&[("LLM_PROVIDER", "openai"), key], "OpenAi", &[]);
    check(&[("LLM_PROVIDER", "auto"), key], "OpenAi", &[]);
    check(&[("LLM_PROVIDER", "auto"), ("OPENAI_BASE_URL", "http://vllm/v1")], "OpenAi", &[]);
    check(&[("LLM_PROVIDER", "auto"), ("OPENAI_API_BASE", "http://vllm/v1")], "OpenAi", &[]);
}

#[test]
fn some_variables_speak_for_others() {
    let ollama = |vars| loaded(vars).llm.ollama.base_url.first().as_str().to_owned();
    assert_eq!(ollama(&[("DOCKER_ENV", "true")]), "http://ollama:11434");
    assert_eq!(ollama(&[("DOCKER_ENV", "True")]), "http://localhost:11434");
    assert_eq!(ollama(&[("DOCKER_ENV", "true"), ("OLLAMA_BASE_URL", "http://o:1")]), "http://o:1");

    let both = [("OPENAI_API_BASE", "http://a/v1"), ("OPENAI_BASE_URL", "http://b/v1")];
    assert_eq!(loaded(&both).llm.openai.base_url.first().as_str(), "http://b/v1");
    check_warned(&both, &["OPENAI_API_BASE: is not read"]);

    let level = |vars| loaded(vars).telemetry.level;
    assert_eq!(level(&[("LOG_LEVEL", "Warn")]), "warn");
    assert_eq!(level(&[("LOG_LEVEL", "warn"), ("RUST_LOG", "weir=debug")]), "weir=debug");
    check_refused(&[("RUST_LOG", "weir=loud")], &["RUST_LOG=\"weir=loud\" is "]);
    check_refused(&[("LOG_LEVEL", "weir=loud")], &["LOG_LEVEL=\"weir=loud\" is "]);
}

#[test]
fn no_listener_is_a_choice() {
    assert_eq!(loaded(&[("HTTP_ADDR", "OFF")]).admin.addr, None);
    check_refused(
        &[("HTTP_ADDR", "localhost:8080")],
        &["HTTP_ADDR=\"localhost:8080\" is not an IP"],
    );
}

#[test]
fn what_the_model_will_not_like_is_pointed_out() {
    let open = ["OLLAMA_BASE_URL: sends its credentials readable"];
    let key = ("OLLAMA_API_KEY", "hunter2");
    check_warned(&[("OLLAMA_BASE_URL", "http://gpu:11434"), key], &open);
    check_warned(&[("OLLAMA_BASE_URL", "http://ada:pw@gpu:11434")], &open);
    check_warned(&[("OLLAMA_BASE_URL", "https://gpu"), key], &[]);
    check_warned(&[("OLLAMA_BASE_URL", "http://[::1]:11434"), key], &[]);
    check_warned(&[("OLLAMA_BASE_URL", "127.0.0.2"), key], &[]);
    check_warned(&[("OLLAMA_BASE_URL", "http://gpu/v1/")], &["ends in the API's own path"]);
    check_refused(
        &[("OLLAMA_BASE_URL", "https://ada:pw@gpu"), key],
        &["OLLAMA_API_KEY=\"[redacted]\" is set, and OLLAMA_BASE_URL holds credentials too"],
    );
    check_warned(
        &[("LLM_TOTAL_TIMEOUT", "10s"), ("LLM_IDLE_TIMEOUT", "20s")],
        &["LLM_IDLE_TIMEOUT: is never reached"],
    );
    check_warned(
        &[("SHUTDOWN_GRACE", "1s"), ("WORKFLOW_RESULT_MIN_AGE", "2s")],
        &["WORKFLOW_RESULT_MIN_AGE: is longer than SHUTDOWN_GRACE"],
    );
}
