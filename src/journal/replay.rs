//! The effects that a run has already had: what replay takes instead of doing it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Effect;

/// The recorded effects of one run, found by node and visit.
///
/// A clone shares what it holds; adding to it leaves the other clones as they are.
#[derive(Debug, Clone, Default)]
pub struct Effects(Arc<BTreeMap<String, BTreeMap<u32, Arc<Effect>>>>);

impl Effects {
    /// Returns what `node` did at its visit `visit` (from 0), if it did.
    #[must_use]
    pub fn get(&self, node: &str, visit: u32) -> Option<&Effect> {
        self.0.get(node)?.get(&visit).map(AsRef::as_ref)
    }

    /// Adds an effect; of two of the same node and visit the later one stays.
    ///
    /// There are two only when a run did not know of the first. What it did afterwards follows from
    /// the second, so that one belongs to the rest of the journal.
    pub fn insert(&mut self, effect: Effect) {
        let visits = Arc::make_mut(&mut self.0).entry(effect.node.clone()).or_default();
        visits.insert(effect.visit, Arc::new(effect));
    }

    /// Returns every recorded effect.
    pub fn iter(&self) -> impl Iterator<Item = &Effect> {
        self.0.values().flat_map(BTreeMap::values).map(AsRef::as_ref)
    }

    /// Returns how many effects are recorded.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }

    /// Returns whether nothing is recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Effect> for Effects {
    fn from_iter<I: IntoIterator<Item = Effect>>(effects: I) -> Self {
        let mut all = Self::default();
        all.extend(effects);
        all
    }
}

impl Extend<Effect> for Effects {
    fn extend<I: IntoIterator<Item = Effect>>(&mut self, effects: I) {
        effects.into_iter().for_each(|effect| self.insert(effect));
    }
}
