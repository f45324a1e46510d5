//! The model client against a real Ollama with a small model.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use weir::llm::{
    Answer, ChatModel as _, Client, Config, DoneReason, Error, Estimate, Message, Presence,
    Provider, QueueTime, Request, Role, Schema, structured,
};

use crate::support::real_ollama::Ollama;

use super::{ask, client};

fn config(real: &Ollama) -> Config {
    let ollama = json!({ "base_url": real.url, "model": real.model, "temperature": 0.0 });
    Config { ollama: serde_json::from_value(ollama).unwrap(), ..Config::default() }
}

fn of_model(real: &Ollama, model: &str) -> Client {
    let mut config = config(real);
    model.clone_into(&mut config.ollama.model);
    client(&config)
}

fn of_openai(real: &Ollama, model: &str) -> Client {
    let openai = json!({ "base_url": format!("{}/v1", real.url), "model": model });
    let mut config = config(real);
    config.provider = Provider::OpenAi;
    config.openai = serde_json::from_value(openai).unwrap();
    client(&config)
}

async fn chat(client: &Client, said: &[(Role, &str)]) -> Result<Answer, Error> {
    let messages: Vec<_> = said.iter().map(|(role, text)| Message::new(*role, *text)).collect();
    let queue = QueueTime::default();
    client.ask(Request::chat(&messages, &queue)).await
}

#[tokio::test]
async fn a_real_model_answers_a_prompt_and_a_conversation() {
    let Some(real) = Ollama::real().await else { return };
    // So few tokens that the server can't take them for a repetition without end.
    let few = real.variant("few", &json!({ "num_predict": 8 })).await;
    let client = of_model(&real, &few);
    let digest = client.check().await.unwrap().digest.unwrap();
    assert_eq!(digest.len(), 64, "{digest}");

    let prompt = ask(&client, "Is water wet?").await.unwrap();
    let said = [(Role::System, "Be brief."), (Role::User, "Is water wet?")];
    let chat = chat(&client, &said).await.unwrap();

    for answer in [&prompt, &chat] {
        assert_eq!(answer.digest.as_ref(), Some(&digest));
        assert!(matches!(answer.done_reason, DoneReason::Stop | DoneReason::Length), "{answer:?}");
        let usage = answer.usage.unwrap();
        assert!(usage.input_tokens > 5 && usage.output_tokens > 0, "{answer:?}");
        assert!(answer.timings.first_byte <= answer.timings.total, "{answer:?}");
    }
}

#[tokio::test]
async fn a_real_server_tells_that_it_has_no_such_model() {
    let Some(real) = Ollama::real().await else { return };
    for client in [of_model(&real, "nobodys"), of_openai(&real, "nobodys")] {
        assert_eq!(client.check().await.unwrap().presence, Presence::Missing);
        assert_eq!(ask(&client, "hi").await.unwrap_err().class(), "llm.model_missing");
    }
}

#[tokio::test]
async fn a_prompt_that_a_real_server_would_cut_is_an_overflow() {
    let Some(real) = Ollama::real().await else { return };
    let long = "word ".repeat(3000);
    // What is loaded is listed under the first name that it was asked for by, and that may be a variant's.
    real.unload(&real.model).await;
    while real.has_loaded().await {
        sleep(Duration::from_millis(20)).await;
    }
    let brief = real.variant("brief", &json!({ "num_predict": 1 })).await;

    // The server refuses it; then its context is known, and nothing is sent.
    let default = client(&config(&real));
    let error = ask(&default, &long).await.unwrap_err();
    assert!(error.to_string().contains("exceeds the context length"), "{error}");
    ask(&default, &"Water is wet, and ice is not. ".repeat(40)).await.unwrap();
    let error = ask(&default, &long).await.unwrap_err();
    assert!(error.to_string().contains("the context holds 2048; not sent"), "{error}");

    // What is configured holds: too long for 512 tokens, and nothing tells that before.
    let mut small = config(&real);
    small.ollama.model = brief;
    small.ollama.num_ctx = Some(512);
    let small = client(&small);
    let digits = "7 1 4 2 ".repeat(100);
    let error = ask(&small, &digits).await.unwrap_err();
    assert_eq!(error.class(), "llm.context_overflow");
    assert!(!error.to_string().contains("not sent"), "{error}");
    let error = chat(&small, &[(Role::User, &digits), (Role::User, "so?")]).await.unwrap_err();
    assert_eq!(error.class(), "llm.context_overflow");

    // A prompt that fits any usual context, at a model whose own is smaller: it is cut, with status 200.
    let short = real.variant("short", &json!({ "num_ctx": 512, "num_predict": 1 })).await;
    let error = ask(&of_model(&real, &short), &digits).await.unwrap_err();
    assert!(error.to_string().contains("the server read 512 tokens of it"), "{error}");

    // The compatible API cuts whatever it is told.
    let error = ask(&of_openai(&real, &real.model), &long).await.unwrap_err();
    assert_eq!(error.class(), "llm.context_overflow");
}

#[tokio::test]
async fn a_dropped_call_frees_the_slot_of_a_real_server() {
    let Some(real) = Ollama::real().await else { return };
    let endless = real.variant("endless", &json!({ "num_predict": 1500 })).await;
    let (endless, brief) = (of_model(&real, &endless), client(&config(&real)));
    ask(&brief, "Is water wet?").await.unwrap();

    let dropped = timeout(Duration::from_secs(3), ask(&endless, "Count: 1 2 3 4 5 6")).await;
    assert!(dropped.is_err(), "{dropped:?}");
    let begun = Instant::now();
    let answer = ask(&brief, "Is water wet?").await.unwrap();

    assert!(begun.elapsed() < Duration::from_secs(15), "{:?} {answer:?}", begun.elapsed());
}

#[tokio::test]
async fn a_real_server_goes_idle_when_a_call_is_dropped_in_the_middle_of_its_stream() {
    let Some(real) = Ollama::real().await else { return };
    let name = real.variant("endless", &json!({ "num_predict": 1500 })).await;
    let endless = of_model(&real, &name);
    let begun = Instant::now();
    let call = timeout(Duration::from_secs(30), ask(&endless, "Count: 1 2 3 4 5 6"));

    // A model that is to be unloaded goes when its last request has ended, and not before.
    let is_unloaded = async {
        sleep(Duration::from_secs(2)).await;
        real.unload(&name).await;
        for _ in 0..10 {
            sleep(Duration::from_millis(100)).await;
            assert!(real.has_loaded().await, "it was answering");
        }
    };
    tokio::select! {
        answered = call => panic!("{:?} {answered:?}", begun.elapsed()),
        () = is_unloaded => {}
    }

    let dropped = Instant::now();
    while real.has_loaded().await {
        assert!(dropped.elapsed() < Duration::from_secs(2), "it goes on answering nobody");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn two_real_models_answer_side_by_side() {
    let Some(real) = Ollama::real().await else { return };
    let second = real.variant("second", &json!({ "num_predict": 4 })).await;
    let (one, two) = (client(&config(&real)), of_model(&real, &second));

    let (first, second) = tokio::join!(ask(&one, "Is water wet?"), ask(&two, "Is water wet?"));

    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(&*first.model, real.model);
    assert_eq!(&*second.model, format!("{}-second", real.model));
    assert!(second.usage.unwrap().output_tokens <= 4, "{second:?}");
}

#[tokio::test]
async fn a_real_server_is_asked_the_openai_way() {
    let Some(real) = Ollama::real().await else { return };
    let client = of_openai(&real, &real.model);

    let prompt = ask(&client, "Is water wet?").await.unwrap();
    let chat = chat(&client, &[(Role::User, "Is water wet?")]).await.unwrap();

    assert_eq!(client.check().await.unwrap().presence, Presence::Present);
    for answer in [prompt, chat] {
        assert!(answer.usage.unwrap().input_tokens > 5, "{answer:?}");
    }
}

#[tokio::test]
async fn a_real_model_keeps_to_a_form() {
    let Some(real) = Ollama::real().await else { return };
    let schema = Schema::new(json!({
        "type": "object",
        "properties": { "wet": { "type": "boolean" } },
        "required": ["wet"],
        "additionalProperties": false,
    }))
    .unwrap();
    let queue = QueueTime::default();
    let prompt = "Is water wet? Answer as JSON: {\"wet\": true} or {\"wet\": false}.";

    for client in [client(&config(&real)), of_openai(&real, &real.model)] {
        let request = Request::prompt(prompt, &queue);
        let answered = structured::ask(&client, request, &schema).await.unwrap();
        assert!(answered.value["wet"].is_boolean(), "{answered:?}");
    }
}

/// Texts of many kinds, about as long as a task.
fn texts() -> Vec<(&'static str, String)> {
    let code = "fn main() {\n    let total: u64 = items.iter().map(|item| item.price * item.count).sum();\n    \
                println!(\"{total}\");\n}\n";
    let json = r#"{"id":"a1b2c3","items":[{"sku":"X-204","count":3,"price":19.95},{"sku":"Y-11","count":1}]}"#;
    let mut seed = 1_u32;
    let mut noise = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        u8::try_from(seed >> 24).unwrap()
    };
    let bytes: Vec<u8> = (0..600).map(|_| noise()).collect();
    let hex: String = (0..300).map(|_| format!("{:02x}", noise())).collect();
    vec![
        ("English", "The committee decided yesterday that the annual report should be published before the summer. ".repeat(6)),
        ("German", "Der Ausschuss beschloss gestern, den Jahresabschlussbericht noch vor der Sommerpause zu ver\u{f6}ffentlichen. ".repeat(6)),
        ("Russian", "\u{41a}\u{43e}\u{43c}\u{438}\u{442}\u{435}\u{442} \u{440}\u{435}\u{448}\u{438}\u{43b} \u{43e}\u{43f}\u{443}\u{431}\u{43b}\u{438}\u{43a}\u{43e}\u{432}\u{430}\u{442}\u{44c} \u{43e}\u{442}\u{447}\u{451}\u{442}. ".repeat(12)),
        ("Chinese", "\u{59d4}\u{5458}\u{4f1a}\u{6628}\u{5929}\u{51b3}\u{5b9a}\u{5728}\u{590f}\u{5929}\u{4e4b}\u{524d}\u{53d1}\u{8868}\u{5e74}\u{5ea6}\u{62a5}\u{544a}\u{3002}".repeat(16)),
        ("Japanese", "\u{59d4}\u{54e1}\u{4f1a}\u{306f}\u{590f}\u{306e}\u{524d}\u{306b}\u{5831}\u{544a}\u{66f8}\u{3092}\u{767a}\u{8868}\u{3059}\u{308b}\u{3053}\u{3068}\u{306b}\u{3057}\u{307e}\u{3057}\u{305f}\u{3002}".repeat(12)),
        ("Korean", "\u{c704}\u{c6d0}\u{d68c}\u{b294} \u{c5ec}\u{b984} \u{c804}\u{c5d0} \u{bcf4}\u{ace0}\u{c11c}\u{b97c} \u{bc1c}\u{d45c}\u{d558}\u{ae30}\u{b85c} \u{acb0}\u{c815}\u{d588}\u{b2e4}. ".repeat(12)),
        ("code", code.repeat(5)),
        ("JSON", json.repeat(6)),
        ("numbers", "3.14159 2026-11-24 1,234,567 0x7f3a 42%\n".repeat(12)),
        ("hexadecimal", hex),
        ("emoji", "\u{1f600}\u{1f680}\u{1f44d}\u{1f3fd} \u{2764}\u{fe0f}\u{1f389}".repeat(20)),
        ("random bytes", String::from_utf8_lossy(&bytes).into_owned()),
        ("blanks", format!("a{}b\n", " ".repeat(50)).repeat(12)),
        ("rulers", format!("{}\n{}\n", "-".repeat(80), "=".repeat(60)).repeat(5)),
    ]
}

/// Prints how far the bounds are off: `cargo test --test it estimate -- --nocapture`.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "the table is for whoever asks for it")]
async fn a_real_tokenizer_stays_within_the_estimate() {
    let Some(real) = Ollama::real().await else { return };
    let brief = real.variant("measure", &json!({ "num_predict": 1 })).await;
    let client = of_model(&real, &brief);
    let queue = QueueTime::default();
    let bare = ask(&client, "x").await.unwrap().usage.unwrap().input_tokens - 1;
    println!("{:<14}{:>8}{:>8}{:>8}{:>8}  least  most", "text", "bytes", "least", "tokens", "most");

    for (name, text) in texts() {
        let request = Request::prompt(&text, &queue);
        let Estimate { least, most } = Estimate::of(&request);
        let tokens = client.ask(request).await.unwrap().usage.unwrap().input_tokens;

        let said = tokens - bare;
        #[expect(clippy::cast_precision_loss, reason = "a ratio for the eye")]
        let of = |bound: u64| bound as f64 / said as f64;
        let bytes = text.len();
        println!(
            "{name:<14}{bytes:>8}{least:>8}{said:>8}{most:>8}  {:.2}   {:.2}",
            of(least),
            of(most)
        );
        assert!(least <= said && tokens <= most, "{name}: {least} {tokens} {most}");
    }
}
