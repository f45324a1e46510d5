//! The two documents written from the table.

use super::property::OWNED;
use super::table::TABLE;

/// The width of a comment in the example, in characters.
const COMMENT_MAX: usize = 98;

const EXAMPLE_HEAD: &str = "\
# Every variable of weir, at its default. Written from the table in src/config/table.rs.
#
# Take out what you need and remove the # before it. An empty variable counts as not set. For each
# secret there is a variable that names a file with it instead. docs/configuration.md says more.
";

const EXAMPLE_TAIL: &str = "
# === librdkafka ===

# Any librdkafka property, for every client, for the consumer or for the producer:
# _ is a dot, __ an underscore, ___ a hyphen.
#KAFKA_PROP_SOCKET_KEEPALIVE_ENABLE=true
#KAFKA_CONSUMER_PROP_FETCH_WAIT_MAX_MS=100
#KAFKA_PRODUCER_PROP_COMPRESSION_TYPE=zstd
";

const MARKDOWN_HEAD: &str = "\
# Configuration

<!-- Written from the table in src/config/table.rs; `WEIR_UPDATE=1 cargo test --test it configuration` \
writes it again. -->

weir is configured by environment variables alone; [config/.env.example](../config/.env.example) has all \
of them. `weir check` reads the configuration and prints what came of it, secrets redacted.

- An empty variable counts as not set. Blanks around a value are dropped, except around a secret.
- A **duration** is a number and a unit, or several: `500ms`, `30s`, `1m 30s`. A plain `0` is zero.
- A **size** is a number and a unit: `64KiB`, `8MiB` (powers of two), `1MB` (of ten); without one, bytes.
- Bounds are inclusive.
- A **secret** can stand in a file, which the variable with `_FILE` at its end names, as Docker and \
Kubernetes mount them. One line end at the file's end does not count. Both set is an error.
- A variable that weir does not know is not read. One that is a slip away from a known name gets a warning.
- When anything is wrong, weir exits with code 78 before it connects to anything, and names every problem: \
the variable, its value, what is wrong and what to do.
";

const MARKDOWN_PROPERTIES: &str = "
## librdkafka properties

Every property of librdkafka can be set: `KAFKA_PROP_` for all clients, `KAFKA_CONSUMER_PROP_` for the \
consumer, `KAFKA_PRODUCER_PROP_` for the producer, then the property's name, `_` for a dot, `__` for an \
underscore and `___` for a hyphen. `KAFKA_PRODUCER_PROP_COMPRESSION_TYPE=zstd` sets `compression.type`. \
Values whose names look secret are shown nowhere.

Refused are those that weir sets itself:

| Property | Instead |
|---|---|
";

/// Returns the text of `config/.env.example`.
#[must_use]
pub fn env_example() -> String {
    let mut text = EXAMPLE_HEAD.to_owned();
    for group in TABLE {
        text.push_str(&format!("\n# === {} ===\n", group.title));
        for variable in group.variables {
            text.push('\n');
            comment(&mut text, &variable.doc.replace('`', ""));
            let form = match variable.kind.range() {
                range if range.is_empty() => variable.kind.title().replace('`', ""),
                range => format!("{}: {range}", variable.kind.title()),
            };
            comment(&mut text, &format!("({form})"));
            text.push_str(&format!("#{}={}\n", variable.name, variable.default));
            if let Some(file) = variable.file() {
                text.push_str(&format!("#{file}=\n"));
            }
        }
    }
    text.push_str(EXAMPLE_TAIL);
    text
}

/// Returns the text of `docs/configuration.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = MARKDOWN_HEAD.to_owned();
    for group in TABLE {
        text.push_str(&format!("\n## {}\n\n", group.title));
        text.push_str("| Variable | Form | Default | Allowed | Meaning |\n|---|---|---|---|---|\n");
        for variable in group.variables {
            let default = match variable.default {
                "" => "none".to_owned(),
                default => format!("`{default}`"),
            };
            let file = variable.file().map(|file| format!(", `{file}`")).unwrap_or_default();
            let (kind, doc) = (variable.kind, variable.doc.trim());
            text.push_str(&format!(
                "| `{}`{file} | {} | {default} | {} | {doc} |\n",
                variable.name,
                kind.title(),
                kind.range(),
            ));
        }
    }
    text.push_str(MARKDOWN_PROPERTIES);
    for (names, instead) in OWNED {
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        text.push_str(&format!("| {} | {instead} |\n", names.join(", ")));
    }
    text
}

fn comment(text: &mut String, sentence: &str) {
    let mut line = String::from("#");
    for word in sentence.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > COMMENT_MAX {
            text.push_str(&format!("{line}\n"));
            line.truncate(1);
        }
        line.push(' ');
        line.push_str(word);
    }
    text.push_str(&format!("{line}\n"));
}
