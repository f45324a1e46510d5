//! Holds what went in against what came out, as a read_committed reader sees it: the promise of docs/delivery.md.
//!
//! What went in is read from the events topic, so nobody's memory of it has to be believed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::counting_model::Asked;
use super::kafka::{Seen, World, seen, try_seen};

/// For how long nothing must go wrong after an answer for it to count as committed.
const TIME_TO_COMMIT: Duration = Duration::from_secs(2);

/// When something was being done to the instances or to the broker.
pub(crate) type Disturbances = Vec<Range<Instant>>;

/// What an audit looks at beside the topics.
pub(crate) struct Evidence {
    /// What the model was asked, by task.
    pub(crate) asked: BTreeMap<String, Vec<Asked>>,
    pub(crate) disturbances: Disturbances,
    /// Whether events of one key have to be answered in their order.
    pub(crate) is_ordered_by_key: bool,
}

/// What an audit found.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    pub(crate) violations: Vec<Violation>,
    pub(crate) figures: Figures,
    /// What happened to an event, by its id; of those with a violation.
    pub(crate) stories: BTreeMap<String, String>,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) kind: Kind,
    pub(crate) told: String,
}

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Lost,
    Duplicated,
    /// Two dead letters, or one too many.
    LetterDuplicated,
    LetterLost,
    /// Something came out that never went in.
    Stranger,
    /// The journal holds two different updates of one effect, or a result that does not follow from it.
    Journal,
    /// The model was asked again for an answer that was committed, or had all the time to be.
    Repeated,
    /// A later event of a key was answered before an earlier one.
    Order,
    /// An instance ended otherwise than it should.
    End,
}

/// What an audit counted.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) records: usize,
    pub(crate) successes: usize,
    pub(crate) dead_letters: usize,
    pub(crate) journaled: usize,
    pub(crate) requests: usize,
    /// Requests that never got their whole answer: who asked, or the model, broke off.
    pub(crate) cut_off: usize,
    /// Answers that the model gave and nobody committed: their receiver was killed, stopped or replaced just then.
    pub(crate) uncommitted: usize,
    /// Answers that had two quiet seconds to be committed in: none of these may be asked for again.
    pub(crate) undisturbed: usize,
    /// Pairs of neighbours of one key whose order was compared.
    pub(crate) in_order: usize,
}

/// One event, or one record that is none.
struct Account {
    /// The event's id; `None` for a record that is no event.
    id: Option<String>,
    key: String,
    task: Value,
    partition: i32,
    offset: i64,
}

/// The effects in the journal: event, node and visit, and all updates under that name.
type Journal = BTreeMap<(String, String, u64), Vec<String>>;

/// Returns the ids that have a result; or which partitions are held up by a transaction that does not end.
pub(crate) fn answered(world: &World) -> Result<BTreeSet<String>, String> {
    let results = try_seen(&world.config.workflow_results_topic)?;
    Ok(results.into_iter().map(|record| record.key).collect())
}

/// Compares the world's topics with each other and with the evidence.
pub(crate) fn audit(world: &World, evidence: &Evidence) -> Audit {
    let mut audit = Audit::default();
    let accounts: Vec<_> = seen(world.events()).iter().map(account).collect();
    let results = by_event(seen(&world.config.workflow_results_topic));
    let letters = by_place(seen(&world.config.dlq_topic));
    let journal = journal(seen(&world.config.journal_topic));

    audit.figures.records = accounts.len();
    audit.figures.requests = evidence.asked.values().map(Vec::len).sum();
    for account in &accounts {
        let results =
            account.id.as_ref().and_then(|id| results.get(id)).map_or(&[][..], Vec::as_slice);
        let letters = letters.get(&(account.partition, account.offset)).copied().unwrap_or(0);
        let before = audit.violations.len();
        audit.account(account, results, letters);
        audit.journal(account, results, &journal);
        audit.model(account, results, &journal, evidence);
        if audit.violations.len() > before {
            audit.tell(account, results, &journal, evidence);
        }
    }
    audit.strangers(&accounts, &results, &letters);
    audit.figures.journaled = journal.len();
    for (name, updates) in &journal {
        if updates.iter().any(|update| *update != updates[0]) {
            let told = format!("{name:?} is journaled with different updates: {updates:?}");
            audit.violate(Kind::Journal, told);
        }
    }
    if evidence.is_ordered_by_key {
        audit.order(&accounts, &results);
    }
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
            let kind = if results.len() < expected { Kind::Lost } else { Kind::Duplicated };
            self.violate(kind, format!("{account} has {} results", results.len()));
        }
        let expected = usize::from(!is_success);
        if letters != expected {
            let kind = if letters < expected { Kind::LetterLost } else { Kind::LetterDuplicated };
            let told = format!("{account} has {letters} dead letters, success: {is_success}");
            self.violate(kind, told);
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
            let told = format!("a result of {id:?}, which was never published");
            self.violate(Kind::Stranger, told);
        }
        for place in letters.keys().filter(|place| !places.contains(place)) {
            let told = format!("a dead letter about {place:?}, where no record is");
            self.violate(Kind::Stranger, told);
        }
    }

    /// The result says what the model has said, and what the journal says where that has anything of the event.
    fn journal(&mut self, account: &Account, results: &[Value], journal: &Journal) {
        let Some(id) = &account.id else { return };
        let Some(text) = results.first().and_then(text) else { return };
        let journaled: Vec<_> = effects(journal, id).filter_map(answer).collect();
        let contradicts = !journaled.is_empty() && !journaled.iter().any(|it| it == text);
        if number(text).is_none() || contradicts {
            let told = format!("{account} ends in {text:?}, journaled: {journaled:?}");
            self.violate(Kind::Journal, told);
        }
    }

    /// The answer that is committed, in the journal or in a result, is the last that the model was asked for; and so is one
    /// that nothing came in the way of, whatever is committed.
    fn model(
        &mut self,
        account: &Account,
        results: &[Value],
        journal: &Journal,
        evidence: &Evidence,
    ) {
        let (Some(id), Some(task)) = (&account.id, account.task.as_str()) else { return };
        let asked = evidence.asked.get(task).map_or(&[][..], Vec::as_slice);
        let journaled = effects(journal, id).filter_map(|it| number(&answer(it)?));
        let published = results.iter().filter_map(|result| number(text(result)?));
        let committed: BTreeSet<_> = journaled.chain(published).collect();
        let wasted = asked.iter().filter(|asked| !committed.contains(&asked.number));
        for asked in wasted {
            match asked.given {
                Some(_) => self.figures.uncommitted += 1,
                None => self.figures.cut_off += 1,
            }
        }
        let undisturbed: Vec<_> = asked.iter().filter(|it| evidence.is_undisturbed(it)).collect();
        self.figures.undisturbed += undisturbed.len();
        let undisturbed = undisturbed.first().map(|it| (it.number, "had two quiet seconds"));
        let committed = committed.first().map(|number| (*number, "is committed"));
        let Some((first, why)) = committed.into_iter().chain(undisturbed).min() else { return };
        for again in asked.iter().filter(|asked| asked.number > first) {
            let told = format!("{account}: answer {first} {why}, asked again: {}", again.number);
            self.violate(Kind::Repeated, told);
        }
    }

    /// Of one key, a later event's answer was asked for after an earlier one's.
    fn order(&mut self, accounts: &[Account], results: &BTreeMap<String, Vec<Value>>) {
        let mut last: BTreeMap<&str, (u64, &Account)> = BTreeMap::new();
        for account in accounts {
            let result = account.id.as_ref().and_then(|id| results.get(id)?.first());
            let Some(number) = result.and_then(text).and_then(number) else { continue };
            let before = last.insert(account.key.as_str(), (number, account));
            let Some((earlier, before)) = before else { continue };
            self.figures.in_order += 1;
            if earlier > number {
                let key = &account.key;
                let told =
                    format!("{key}: answer {earlier} for {before}, then {number} for {account}");
                self.violate(Kind::Order, told);
            }
        }
    }

    /// Notes all that is known of an event.
    fn tell(
        &mut self,
        account: &Account,
        results: &[Value],
        journal: &Journal,
        evidence: &Evidence,
    ) {
        let Some(id) = &account.id else { return };
        let mut story = format!("{account}, key {:?}", account.key);
        let began = evidence.asked.values().flatten().map(|asked| asked.at).min();
        for asked in
            account.task.as_str().and_then(|task| evidence.asked.get(task)).into_iter().flatten()
        {
            let since = |at: Instant| began.map_or(0.0, |began| (at - began).as_secs_f64());
            let given = asked.given.map(|at| format!(", given at {:.3} s", since(at)));
            let given = given.as_deref().unwrap_or(", never given");
            let (number, at) = (asked.number, since(asked.at));
            story.push_str(&format!("\n      asked for answer {number} at {at:.3} s{given}"));
        }
        for update in effects(journal, id) {
            story.push_str(&format!("\n      journaled {update}"));
        }
        for result in results {
            let (status, error) = (&result["status"], &result["error"]);
            let said = text(result).unwrap_or_default();
            story.push_str(&format!("\n      result {status} {said:?} error {error}"));
        }
        self.stories.insert(id.clone(), story);
    }

    pub(crate) fn violate(&mut self, kind: Kind, told: String) {
        self.violations.push(Violation { kind, told });
    }

    /// Returns how often each promise was broken.
    pub(crate) fn counts(&self) -> BTreeMap<Kind, usize> {
        let mut counts = BTreeMap::new();
        for violation in &self.violations {
            *counts.entry(violation.kind).or_default() += 1;
        }
        counts
    }
}

impl Evidence {
    /// Says whether an answer was given, and whoever got it had time enough to commit it.
    fn is_undisturbed(&self, asked: &Asked) -> bool {
        asked.given.is_some_and(|given| {
            let needed = given..given + TIME_TO_COMMIT;
            !self.disturbances.iter().any(|it| it.start < needed.end && needed.start < it.end)
        })
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, task, partition, offset, .. } = self;
        write!(f, "{} ({task}) at {partition}/{offset}", id.as_deref().unwrap_or("no event"))
    }
}

fn account(record: &Seen) -> Account {
    let event: Value = serde_json::from_str(&record.value).unwrap_or_default();
    Account {
        id: event["event_id"].as_str().map(str::to_owned),
        key: record.key.clone(),
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

/// Returns the model's words in a result.
fn text(result: &Value) -> Option<&str> {
    result.pointer("/result/agent_results/llm_analysis/result").and_then(Value::as_str)
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
