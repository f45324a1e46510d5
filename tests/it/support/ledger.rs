//! Holds what went in against what came out, as a read_committed reader sees it: the promise of docs/delivery.md.
//!
//! What went in is read from the events topic, so nobody's memory of it has to be believed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::Value;

use super::counting_model::Asked;
use super::kafka::{Seen, World, seen};

/// What an audit found.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Each is a broken promise, in words.
    pub(crate) violations: Vec<String>,
    pub(crate) figures: Figures,
}

/// What an audit counted.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) records: usize,
    pub(crate) successes: usize,
    pub(crate) dead_letters: usize,
    pub(crate) journaled: usize,
    pub(crate) requests: usize,
    /// Answers that the model gave and nobody journaled: their receiver was killed, stopped or replaced just then.
    pub(crate) unjournaled: usize,
}

/// One event, or one record that is none.
struct Account {
    /// The event's id; `None` for a record that is no event.
    id: Option<String>,
    task: Value,
    partition: i32,
    offset: i64,
}

/// The effects in the journal: event, node and visit, and all updates under that name.
type Journal = BTreeMap<(String, String, u64), Vec<String>>;

/// Returns the ids that have a result.
pub(crate) fn answered(world: &World) -> BTreeSet<String> {
    seen(&world.config.workflow_results_topic).into_iter().map(|record| record.key).collect()
}

/// Compares the world's topics with each other and with what the model was `asked`.
pub(crate) fn audit(world: &World, asked: &BTreeMap<String, Vec<Asked>>) -> Audit {
    let mut audit = Audit::default();
    let accounts: Vec<_> = seen(world.events()).iter().map(account).collect();
    let results = by_event(seen(&world.config.workflow_results_topic));
    let letters = by_place(seen(&world.config.dlq_topic));
    let journal = journal(seen(&world.config.journal_topic));

    audit.figures.records = accounts.len();
    audit.figures.requests = asked.values().map(Vec::len).sum();
    for account in &accounts {
        let results =
            account.id.as_ref().and_then(|id| results.get(id)).map_or(&[][..], Vec::as_slice);
        let letters = letters.get(&(account.partition, account.offset)).copied().unwrap_or(0);
        audit.account(account, results, letters);
    }
    audit.strangers(&accounts, &results, &letters);
    audit.journal(&accounts, &results, &journal);
    audit.model(&accounts, &journal, asked);
    audit
}

impl Audit {
    /// One result for an event and none for another record; one letter for what is no success.
    fn account(&mut self, account: &Account, results: &[Value], letters: usize) {
        let expected = usize::from(account.id.is_some());
        let is_success = results.first().is_some_and(|result| result["status"] == "success");
        self.figures.successes += usize::from(is_success);
        self.figures.dead_letters += letters;
        if results.len() != expected {
            self.violate(format!("{account} has {} results", results.len()));
        }
        if letters != usize::from(!is_success) {
            self.violate(format!("{account} has {letters} dead letters, success: {is_success}"));
        }
    }

    /// Nothing came out for what never went in.
    fn strangers(
        &mut self,
        accounts: &[Account],
        results: &BTreeMap<String, Vec<Value>>,
        letters: &BTreeMap<(i32, i64), usize>,
    ) {
        let ids: BTreeSet<_> = accounts.iter().filter_map(|account| account.id.as_ref()).collect();
        let places: BTreeSet<_> = accounts.iter().map(|it| (it.partition, it.offset)).collect();
        for id in results.keys().filter(|id| !ids.contains(id)) {
            self.violate(format!("a result of {id:?}, which was never published"));
        }
        for place in letters.keys().filter(|place| !places.contains(place)) {
            self.violate(format!("a dead letter about {place:?}, where no record is"));
        }
    }

    /// One update per effect; and the result says what the journal says.
    fn journal(
        &mut self,
        accounts: &[Account],
        results: &BTreeMap<String, Vec<Value>>,
        journal: &Journal,
    ) {
        self.figures.journaled = journal.len();
        for (name, updates) in journal {
            if updates.iter().any(|update| *update != updates[0]) {
                self.violate(format!("{name:?} is journaled with different updates: {updates:?}"));
            }
        }
        for account in accounts {
            let Some(id) = &account.id else { continue };
            let result = results.get(id).and_then(|results| results.first());
            let Some(text) = result.and_then(|result| {
                result.pointer("/result/agent_results/llm_analysis/result").and_then(Value::as_str)
            }) else {
                continue;
            };
            let journaled: Vec<_> = effects(journal, id).filter_map(answer).collect();
            if number(text).is_none() || !journaled.iter().any(|journaled| journaled == text) {
                self.violate(format!("{account} ends in {text:?}, journaled: {journaled:?}"));
            }
        }
    }

    /// The journaled answer is the last that the model was asked for.
    fn model(
        &mut self,
        accounts: &[Account],
        journal: &Journal,
        asked: &BTreeMap<String, Vec<Asked>>,
    ) {
        for account in accounts {
            let (Some(id), Some(task)) = (&account.id, account.task.as_str()) else { continue };
            let asked = asked.get(task).map_or(&[][..], Vec::as_slice);
            let journaled: BTreeSet<_> =
                effects(journal, id).filter_map(|it| number(&answer(it)?)).collect();
            let given = asked.iter().filter(|asked| asked.is_given);
            self.figures.unjournaled +=
                given.filter(|asked| !journaled.contains(&asked.number)).count();
            let Some(first) = journaled.first() else { continue };
            for again in asked.iter().filter(|asked| asked.number > *first) {
                self.violate(format!(
                    "{account}: answer {first} is journaled, asked again: {again:?}"
                ));
            }
        }
    }

    fn violate(&mut self, violation: String) {
        self.violations.push(violation);
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, task, partition, offset } = self;
        write!(f, "{} ({task}) at {partition}/{offset}", id.as_deref().unwrap_or("no event"))
    }
}

fn account(record: &Seen) -> Account {
    let event: Value = serde_json::from_str(&record.value).unwrap_or_default();
    Account {
        id: event["event_id"].as_str().map(str::to_owned),
        task: event["payload"]["data"]["task"].clone(),
        partition: record.partition,
        offset: record.offset,
    }
}

fn by_event(records: Vec<Seen>) -> BTreeMap<String, Vec<Value>> {
    let mut results: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for record in records {
        results.entry(record.key).or_default().push(serde_json::from_str(&record.value).unwrap());
    }
    results
}

fn by_place(records: Vec<Seen>) -> BTreeMap<(i32, i64), usize> {
    let mut letters = BTreeMap::new();
    for record in records {
        let letter: Value = serde_json::from_str(&record.value).unwrap();
        let partition = letter["source"]["partition"].as_i64().and_then(|it| it.try_into().ok());
        let offset = letter["source"]["offset"].as_i64();
        *letters.entry((partition.unwrap(), offset.unwrap())).or_default() += 1;
    }
    letters
}

fn journal(records: Vec<Seen>) -> Journal {
    let mut journal = Journal::new();
    for record in records {
        let effect: Value = serde_json::from_str(&record.value).unwrap();
        let word = |name: &str| effect[name].as_str().unwrap().to_owned();
        let name = (word("event_id"), word("node"), effect["visit"].as_u64().unwrap());
        journal.entry(name).or_default().push(effect["update"].to_string());
    }
    journal
}

/// Returns the updates of an event's effects.
fn effects<'a>(journal: &'a Journal, id: &'a str) -> impl Iterator<Item = &'a str> {
    let from = (id.to_owned(), String::new(), 0);
    let of_event = journal.range(from..).take_while(move |((event, ..), _)| event == id);
    of_event.flat_map(|(_, updates)| updates).map(String::as_str)
}

/// Returns the model's words in an update.
fn answer(update: &str) -> Option<String> {
    let update: Value = serde_json::from_str(update).ok()?;
    update.pointer("/agent_results/llm_analysis/result")?.as_str().map(str::to_owned)
}

/// Returns the number in the model's words.
fn number(answer: &str) -> Option<u64> {
    answer.strip_prefix("answer ")?.split(' ').next()?.parse().ok()
}
