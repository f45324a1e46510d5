//! The rules once more, as plainly as they can be put: sets of names, one node after the other.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A graph as data. Nodes are named by letters in the order of their numbers.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) nodes: usize,
    pub(super) deferred: BTreeSet<usize>,
    pub(super) durable: BTreeSet<usize>,
    pub(super) entries: BTreeSet<usize>,
    pub(super) edges: Vec<(usize, usize)>,
    pub(super) joins: Vec<(BTreeSet<usize>, usize)>,
    /// From where, and for each remainder of the total where to.
    pub(super) routers: Vec<(usize, Vec<Vec<usize>>)>,
}

pub(super) const NAMES: [&str; 7] = ["B", "a", "a10", "a2", "b", "z", "é"];

/// What node `node` answers on `tally`.
pub(super) fn answer(node: usize, tally: &Tally) -> Said {
    let name = NAMES[node];
    let weight = i64::try_from(node).unwrap() + tally.total % 2;
    Said::default()
        .log(vec![format!("{name}@{}", tally.total)])
        .total(weight)
        .best(tally.total * 3 % 17)
        .last(name.to_owned())
        .marks([(name.to_owned(), tally.best)].into())
}

/// Which of `ways` a router takes on `tally`.
pub(super) fn way<'a>(ways: &'a [Vec<usize>], tally: &Tally) -> &'a [usize] {
    &ways[usize::try_from(tally.total).unwrap() % ways.len()]
}

/// The state after at most `supersteps` supersteps, and whether that was the end.
pub(super) fn run(plan: &Plan, supersteps: usize) -> (Tally, bool) {
    let mut tally = Tally::default();
    let mut seen = BTreeMap::<usize, BTreeSet<usize>>::new();
    let mut held = BTreeSet::new();
    let mut due = settle(plan, plan.entries.clone(), &mut held);
    for _ in 0..supersteps {
        let mut next = BTreeSet::new();
        for (at, (from, to)) in plan.joins.iter().enumerate() {
            if due.contains(to) && seen.get(&at) == Some(from) {
                seen.remove(&at);
            }
        }
        let snapshot = tally.clone();
        for node in &due {
            let said = answer(*node, &snapshot);
            let mut view = snapshot.clone();
            view.apply(said.clone());
            tally.apply(said);
            let routers = plan.routers.iter().filter(|(from, _)| from == node);
            next.extend(routers.flat_map(|(_, ways)| way(ways, &view)).copied());
            next.extend(plan.edges.iter().filter(|(from, _)| from == node).map(|(_, to)| *to));
            for (at, (from, to)) in plan.joins.iter().enumerate() {
                let ran = seen.entry(at).or_default();
                if from.contains(node) && ran.insert(*node) && ran == from {
                    next.insert(*to);
                }
            }
        }
        due = settle(plan, next, &mut held);
    }
    (tally, due.is_empty())
}

/// Holds deferred nodes back, and gives them all free when nothing else is due.
fn settle(plan: &Plan, next: BTreeSet<usize>, held: &mut BTreeSet<usize>) -> BTreeSet<usize> {
    let (late, now) = next.into_iter().partition(|node| plan.deferred.contains(node));
    let late: BTreeSet<usize> = late;
    held.extend(late);
    if now.is_empty() { std::mem::take(held) } else { now }
}
