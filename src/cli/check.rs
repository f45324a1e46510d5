//! `weir check`: is the configuration right, and with `--online` is the world there that it names?

use clap::Args;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::config::{self, Config, Origin, Problems, Warning};
use crate::dispatch::DeliveryGuarantee;
use crate::llm::{CheckReport, Client, Ollama, Presence, Provider, Pull};
use crate::sink::{self, Finding, Guarantee};

use super::exit::Exit;
use super::terminal::{chain, print, say};
use super::{Vars, block_on};

const EXAMPLES: &str = "\
Examples:
  weir check             the settings, where each comes from, what is odd
  weir check --online    also brokers, topics, transactions and the model
  weir check --json | jq .problems

Nothing is changed: no topic is created and no group is joined.

Exit codes: 0 all is well; 69 something that a run needs does not answer, or is
not as it must be; 78 wrong configuration.";

/// What to check.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Also ask the brokers and the model's server
    #[arg(long)]
    online: bool,
    /// Print one JSON object: ok, problems, warnings, settings, checks
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments, vars: Vars) -> Exit {
    let (config, warnings) = match config::load(vars) {
        Ok(loaded) => loaded,
        Err(problems) => return refuse(arguments, &problems).into(),
    };
    if arguments.online {
        block_on(1, async {
            let mut findings = sink::inspect(&config.kafka, guarantee(&config)).await;
            findings.extend(models(&config).await);
            report(arguments, &config, &warnings, &findings).into()
        })
    } else {
        report(arguments, &config, &warnings, &[]).into()
    }
}

fn refuse(arguments: &Arguments, problems: &Problems) -> Result<(), Exit> {
    if !arguments.json {
        say(problems);
        return Err(Exit::Config);
    }
    let told = problems.problems().iter().map(|problem| {
        json!({
            "variable": problem.variable,
            "value": problem.value,
            "reason": problem.reason,
            "remedy": problem.remedy,
        })
    });
    let told: Vec<Value> = told.collect();
    let object = json!({
        "ok": false,
        "problems": told,
        "warnings": all(problems.warnings()),
        "settings": [],
        "checks": [],
    });
    print(&format!("{object}\n"))?;
    Err(Exit::Config)
}

fn report(
    arguments: &Arguments,
    config: &Config,
    warnings: &[Warning],
    findings: &[Finding],
) -> Result<(), Exit> {
    let ok = findings.iter().all(|finding| finding.outcome.is_ok());
    if arguments.json {
        let object = json!({
            "ok": ok,
            "problems": [],
            "warnings": all(warnings),
            "settings": settings(config),
            "checks": findings.iter().map(check).collect::<Vec<_>>(),
        });
        print(&format!("{object}\n"))?;
    } else {
        warnings.iter().for_each(|warning| say(format_args!("warning: {warning}")));
        print(&config.print())?;
        print(&findings.iter().map(line).collect::<String>())?;
    }
    if ok { Ok(()) } else { Err(Exit::Unavailable) }
}

fn line(finding: &Finding) -> String {
    let name = &finding.name;
    match &finding.outcome {
        Ok(detail) => format!("ok      {name}: {detail}\n"),
        Err(reason) => format!("failed  {name}: {reason}\n"),
    }
}

fn check(finding: &Finding) -> Value {
    let (Ok(detail) | Err(detail)) = &finding.outcome;
    json!({ "name": finding.name, "ok": finding.outcome.is_ok(), "detail": detail })
}

fn all(warnings: &[Warning]) -> Value {
    let told =
        |warning: &Warning| json!({ "variable": warning.variable, "message": warning.message });
    warnings.iter().map(told).collect()
}

fn settings(config: &Config) -> Value {
    let origin = |origin: &Origin| match origin {
        Origin::Default => "default".to_owned(),
        Origin::Environment => "environment".to_owned(),
        Origin::File(path) => format!("file {path}"),
        Origin::Derived(reason) => (*reason).to_owned(),
    };
    let told = config.settings().iter().map(|setting| {
        json!({
            "variable": setting.variable,
            "value": setting.value,
            "origin": origin(&setting.origin),
        })
    });
    told.collect()
}

fn guarantee(config: &Config) -> Guarantee {
    match config.dispatch.delivery_guarantee {
        DeliveryGuarantee::ExactlyOnce => Guarantee::ExactlyOnce,
        DeliveryGuarantee::AtLeastOnce => Guarantee::AtLeastOnce,
    }
}

/// Looks at every server of the model, without asking the model anything.
async fn models(config: &Config) -> Vec<Finding> {
    let client = match Client::new(&config.llm, std::sync::Arc::new(|_| ())) {
        Ok(client) => client,
        Err(error) => {
            return vec![Finding { name: "model".to_owned(), outcome: Err(chain(&error)) }];
        }
    };
    let (endpoints, fallbacks) = (client.endpoints(), client.fallbacks());
    let settings = &config.llm.ollama;
    let endpoints = endpoints.iter().map(|client| model(client, settings, false));
    let fallbacks = fallbacks.iter().map(|client| model(client, settings, true));
    join_all(endpoints.chain(fallbacks)).await
}

async fn model(client: &Client, settings: &Ollama, is_fallback: bool) -> Finding {
    let outcome = match client.check().await {
        Ok(report) => judge(&report, client.provider(), settings, is_fallback),
        Err(error) => {
            let variable = match client.provider() {
                Provider::Ollama => "OLLAMA_BASE_URL",
                Provider::OpenAi => "OPENAI_BASE_URL",
            };
            Err(format!("{error}; start the server, or see {variable}"))
        }
    };
    Finding { name: format!("model {}", client.model()), outcome }
}

fn judge(
    report: &CheckReport,
    provider: Provider,
    settings: &Ollama,
    is_fallback: bool,
) -> Result<String, String> {
    let endpoint = &report.endpoint;
    let mut server = match &report.version {
        Some(version) => format!("{endpoint}, version {version}"),
        None => endpoint.to_string(),
    };
    if let Some(digest) = &report.digest {
        // As `ollama list` shows it.
        server.push_str(&format!(", digest {}", digest.get(..12).unwrap_or(digest)));
    }
    let asked = match provider {
        Provider::Ollama => settings.num_ctx.unwrap_or_default(),
        Provider::OpenAi => 0,
    };
    match (report.presence, provider) {
        (Presence::Present, _) => Ok(match report.context_length {
            Some(tokens) if tokens < asked => format!(
                "present at {server}, made for up to {tokens} tokens of context: the server cuts OLLAMA_NUM_CTX \
                 ({asked}) to that"
            ),
            Some(tokens) => {
                format!("present at {server}, made for up to {tokens} tokens of context")
            }
            None => format!("present at {server}"),
        }),
        (Presence::Unknown, _) => Ok(format!("{server} answers; it keeps no list of models")),
        (Presence::Missing, Provider::Ollama) if settings.pull == Pull::Missing && !is_fallback => {
            Ok(format!(
                "is not at {server}, which is told to fetch it (OLLAMA_PULL) when weir starts"
            ))
        }
        (Presence::Missing, Provider::Ollama) => {
            let model = &report.model;
            let variable = if is_fallback { "OLLAMA_FALLBACK_MODEL" } else { "OLLAMA_MODEL" };
            Err(format!("is not at {server}; run `ollama pull {model}` there, or set {variable}"))
        }
        (Presence::Missing, Provider::OpenAi) => {
            Err(format!("is not at {server}; set OPENAI_MODEL"))
        }
    }
}
