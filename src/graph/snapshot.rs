//! A thread as data: what is kept of it between two processes.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    DeserializeSeed, Error as _, IgnoredAny, IntoDeserializer as _, MapAccess, Visitor,
};
use serde::{Deserialize, Deserializer, Serialize};

use super::builder::Graph;
use super::run::{Answer, Routing};
use super::shape::{JoinId, Name, NodeId};
use super::state::State;
use super::thread::Thread;

/// The format that is written. A snapshot of another format is refused.
const VERSION: u32 = 1;

/// All that a thread needs to go on, with names instead of places. It can be serialised when the
/// state and its update can, and restored by any graph that has its nodes and joins.
///
/// ```
/// # use weir::graph::{self, Graph, Options, Snapshot, SnapshotError};
/// # graph::state! {
/// #     #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
/// #     pub struct Log { pub lines: Vec<String> => append }
/// #     pub update Line;
/// #     error std::io::Error;
/// # }
/// # fn line(text: &str) -> Line { Line::default().lines(vec![text.to_owned()]) }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let answer = |log: &Log| Ok(line(&format!("answer {}", log.lines.len())));
/// let graph = Graph::builder().node("answer", answer).entry("answer").build()?;
/// let mut thread = graph.thread(Log::default());
/// thread.start(line("question"), &Options::new()).await?;
///
/// let kept = serde_json::to_string(&thread.snapshot())?;
/// let mut thread = graph.restore(serde_json::from_str(&kept)?)?;
/// thread.start(line("another"), &Options::new()).await?;
/// assert_eq!(thread.state().lines, ["question", "answer 1", "another", "answer 3"]);
///
/// let later: Snapshot<Log> = serde_json::from_str(&kept.replace("\"version\":1", "\"version\":9"))?;
/// assert_eq!(graph.restore(later).err(), Some(SnapshotError::Version { found: 9 }));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(bound(serialize = "S: Serialize, S::Update: Serialize"))]
pub struct Snapshot<S: State> {
    /// Written first, so that it is known before the rest is read.
    version: u32,
    /// Absent: of another format, whose shape is not known here.
    #[serde(flatten)]
    content: Option<Content<S, S::Update>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Content<S, U> {
    step: i64,
    state: S,
    /// Nodes of the next superstep.
    due: Vec<Name>,
    /// Deferred nodes that wait until nothing else is due.
    held: Vec<Name>,
    /// Joins that some sources have reached.
    joins: Vec<JoinRecord>,
    visits: BTreeMap<Name, u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<Answered<U>>,
    answers: Vec<Answered<U>>,
    failed: Vec<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct JoinRecord {
    from: Vec<Name>,
    /// Absent: the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    to: Option<Name>,
    seen: Vec<Name>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Answered<U> {
    /// Absent: the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Name>,
    update: U,
    routing: RoutingRecord,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RoutingRecord {
    Due,
    Failed,
    Settled,
}

/// Why a snapshot can't be restored. See the example at [`Snapshot`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It has a format that this version does not read.
    #[error("snapshot format {found} is not format {VERSION}")]
    Version {
        /// The snapshot's format.
        found: u32,
    },
    /// It speaks of a node that the graph does not have.
    #[error("the snapshot names {node:?}, which is no node of this graph")]
    UnknownNode {
        /// The node.
        node: Name,
    },
    /// It speaks of a join that the graph does not have.
    #[error("the snapshot names a join of {from:?}, which this graph does not have")]
    UnknownJoin {
        /// The sources of the join.
        from: Vec<Name>,
    },
}

impl<S: State> Thread<'_, S> {
    /// Takes down where the thread stands. Clones the state. See the example at [`Snapshot`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<S> {
        let (run, shape) = (&self.run, &self.run.graph.shape);
        let name = |id: &NodeId| Name::clone(shape.name(*id));
        let names = |ids: &[NodeId]| ids.iter().map(name).collect::<Vec<Name>>();
        let answered = |answer: &Answer<S::Update>| Answered {
            node: answer.node.as_ref().map(name),
            update: answer.update.clone(),
            routing: answer.routing.into(),
        };
        let join = |id| {
            let join = &shape.joins[id];
            let seen: Vec<NodeId> =
                run.frontier.seen(id).filter_map(|at| join.sources.get(at).copied()).collect();
            (!seen.is_empty()).then(|| JoinRecord {
                from: names(&join.sources),
                to: join.target.as_ref().map(name),
                seen: names(&seen),
            })
        };
        let visited = shape.ids().filter(|id| run.visits[*id] > 0);
        let content = Content {
            step: run.step,
            state: run.state.clone(),
            due: names(run.frontier.due()),
            held: names(run.frontier.held()),
            joins: shape.join_ids().filter_map(join).collect(),
            visits: visited.map(|id| (name(&id), run.visits[id])).collect(),
            input: run.input.as_ref().map(answered),
            answers: run.answers.iter().map(answered).collect(),
            failed: names(&run.failed),
        };
        Snapshot { version: VERSION, content: Some(content) }
    }
}

impl<S: State> Graph<S> {
    /// Takes a thread up where its snapshot was taken. See the example at [`Snapshot`].
    ///
    /// # Errors
    /// When the snapshot has another format, or names what this graph does not have.
    pub fn restore(&self, snapshot: Snapshot<S>) -> Result<Thread<'_, S>, SnapshotError> {
        let Snapshot { version: VERSION, content: Some(snapshot) } = snapshot else {
            return Err(SnapshotError::Version { found: snapshot.version });
        };
        let mut thread = self.thread(snapshot.state);
        let run = &mut thread.run;
        run.step = snapshot.step;
        run.frontier.restore(&self.find_all(&snapshot.due)?, &self.find_all(&snapshot.held)?);
        for record in snapshot.joins {
            let sources = self.find_all(&record.from)?;
            let target = record.to.as_ref().map(|to| self.find(to)).transpose()?;
            let seen = self.find_all(&record.seen)?;
            let is_meant = |id: &JoinId| {
                let join = &self.shape.joins[*id];
                join.sources == sources && join.target == target
            };
            // Joins with the same sources and target are full at the same time: one record speaks
            // for all.
            let mut known = self.shape.join_ids().filter(is_meant).peekable();
            if known.peek().is_none() {
                return Err(SnapshotError::UnknownJoin { from: record.from });
            }
            for id in known {
                let places = seen.iter().filter_map(|node| sources.binary_search(node).ok());
                places.for_each(|at| run.frontier.restore_seen(id, at));
            }
        }
        for (node, visits) in &snapshot.visits {
            run.visits[self.find(node)?] = *visits;
        }
        let answer = |answered: Answered<S::Update>| {
            let node = answered.node.as_ref().map(|node| self.find(node)).transpose()?;
            let (update, routing) = (answered.update, answered.routing.into());
            Ok(Answer { node, update, routing })
        };
        run.input = snapshot.input.map(answer).transpose()?;
        run.answers = snapshot.answers.into_iter().map(answer).collect::<Result<_, _>>()?;
        run.failed = self.find_all(&snapshot.failed)?;
        Ok(thread)
    }

    fn find(&self, name: &Name) -> Result<NodeId, SnapshotError> {
        let unknown = || SnapshotError::UnknownNode { node: Name::clone(name) };
        self.shape.find(name).ok_or_else(unknown)
    }

    fn find_all(&self, names: &[Name]) -> Result<Vec<NodeId>, SnapshotError> {
        names.iter().map(|name| self.find(name)).collect()
    }
}

impl<'de, S> Deserialize<'de> for Snapshot<S>
where
    S: State + Deserialize<'de>,
    S::Update: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields(PhantomData))
    }
}

struct Fields<S>(PhantomData<S>);

impl<'de, S> Visitor<'de> for Fields<S>
where
    S: State + Deserialize<'de>,
    S::Update: Deserialize<'de>,
{
    type Value = Snapshot<S>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a snapshot")
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Snapshot<S>, M::Error> {
        let mut fields = Versioned { map, version: None };
        let content = Content::deserialize(MapAccessDeserializer::new(&mut fields));
        match fields.version {
            Some(VERSION) => Ok(Snapshot { version: VERSION, content: Some(content?) }),
            Some(version) => {
                while fields.map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Snapshot { version, content: None })
            }
            None => content.and(Err(M::Error::missing_field("version"))),
        }
    }
}

/// The fields besides the version, which it takes down; none that follow one of another format.
struct Versioned<M> {
    map: M,
    version: Option<u32>,
}

impl<'de, M: MapAccess<'de>> MapAccess<'de> for Versioned<M> {
    type Error = M::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, M::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if key != "version" {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            self.version = Some(self.map.next_value()?);
            if self.version != Some(VERSION) {
                break;
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, M::Error> {
        self.map.next_value_seed(seed)
    }
}

impl From<Routing> for RoutingRecord {
    fn from(routing: Routing) -> Self {
        match routing {
            Routing::Due => Self::Due,
            Routing::Failed => Self::Failed,
            Routing::Settled => Self::Settled,
        }
    }
}

impl From<RoutingRecord> for Routing {
    fn from(record: RoutingRecord) -> Self {
        match record {
            RoutingRecord::Due => Self::Due,
            RoutingRecord::Failed => Self::Failed,
            RoutingRecord::Settled => Self::Settled,
        }
    }
}
