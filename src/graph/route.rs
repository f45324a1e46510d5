//! Where a router sends the run: the names it answers with, and the targets that they stand for.

use std::borrow::Cow;

use super::shape::{END, Name, NodeId, START, Shape};

/// What a router answers: the name of one target, several, or none at all.
///
/// Made with `into()` from `&str`, `String`, an `Option` of either, a `Vec` or an array. A name
/// that comes twice counts once; [`END`] adds nothing, so a route of `END` alone just ends its
/// branch.
///
/// ```
/// # use weir::graph::Route;
/// let one: Route<'_> = "analysis".into();
/// let both: Route<'_> = ["research", "numbers"].into();
/// let none: Route<'_> = None::<&str>.into();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'a>(Names<'a>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Names<'a> {
    None,
    One(Cow<'a, str>),
    Many(Vec<Cow<'a, str>>),
}

impl Route<'_> {
    fn as_slice(&self) -> &[Cow<'_, str>] {
        match &self.0 {
            Names::None => &[],
            Names::One(name) => std::slice::from_ref(name),
            Names::Many(names) => names,
        }
    }
}

impl<'a> From<&'a str> for Route<'a> {
    fn from(name: &'a str) -> Self {
        Self(Names::One(Cow::Borrowed(name)))
    }
}

impl From<String> for Route<'_> {
    fn from(name: String) -> Self {
        Self(Names::One(Cow::Owned(name)))
    }
}

impl<'a, T: Into<Cow<'a, str>>> From<Option<T>> for Route<'a> {
    fn from(name: Option<T>) -> Self {
        Self(name.map_or(Names::None, |name| Names::One(name.into())))
    }
}

impl<'a, T: Into<Cow<'a, str>>> From<Vec<T>> for Route<'a> {
    fn from(names: Vec<T>) -> Self {
        Self(Names::Many(names.into_iter().map(Into::into).collect()))
    }
}

impl<'a, T: Into<Cow<'a, str>>, const N: usize> From<[T; N]> for Route<'a> {
    fn from(names: [T; N]) -> Self {
        Self(Names::Many(names.into_iter().map(Into::into).collect()))
    }
}

/// What the names that a router answers with stand for.
///
/// Made with `into()` from pairs of a name and a target, or from a list of targets that go by their
/// own names. A target that the graph does not have is refused when it is built.
///
/// ```
/// # use weir::graph::{END, Targets};
/// let mapped: Targets = [("data", "data_agent"), ("nobody", END)].into();
/// let by_name: Targets = ["data_agent", END].into();
///
/// assert_eq!(by_name, [("data_agent", "data_agent"), (END, END)].into());
/// assert!(mapped != by_name && by_name != Targets::any());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets(pub(super) Option<Vec<(String, String)>>);

impl Targets {
    /// Every node by its own name, and [`END`]: a router that is free to go anywhere.
    #[must_use]
    pub fn any() -> Self {
        Self(None)
    }
}

impl<K: Into<String>, T: Into<String>> From<Vec<(K, T)>> for Targets {
    fn from(pairs: Vec<(K, T)>) -> Self {
        Self(Some(pairs.into_iter().map(|(key, target)| (key.into(), target.into())).collect()))
    }
}

impl<K: Into<String>, T: Into<String>, const N: usize> From<[(K, T); N]> for Targets {
    fn from(pairs: [(K, T); N]) -> Self {
        Vec::from(pairs).into()
    }
}

impl<const N: usize> From<[&str; N]> for Targets {
    fn from(targets: [&str; N]) -> Self {
        targets.map(|target| (target, target)).into()
    }
}

/// A router as a function of the state.
pub(super) type Router<S> = dyn Fn(&S) -> Route<'_> + Send + Sync;

/// A conditional edge of a built graph.
pub(super) struct Conditional<S> {
    pub(super) label: Name,
    pub(super) router: Box<Router<S>>,
    pub(super) targets: Resolved,
}

/// Targets by what the router calls them. `None` is the end.
pub(super) enum Resolved {
    Any,
    Mapped(Box<[(Box<str>, Option<NodeId>)]>),
}

impl<S> Conditional<S> {
    /// Adds to `chosen` where the router sends a run that stands at `state`.
    ///
    /// # Errors
    /// The name that the router answered and that stands for nothing.
    pub(super) fn choose(
        &self,
        shape: &Shape,
        state: &S,
        chosen: &mut Vec<NodeId>,
    ) -> Result<(), String> {
        let route = (self.router)(state);
        for name in route.as_slice() {
            if let Some(target) = self.target(shape, name)? {
                chosen.push(target);
            }
        }
        Ok(())
    }

    fn target(&self, shape: &Shape, name: &str) -> Result<Option<NodeId>, String> {
        let unknown = || name.to_owned();
        match &self.targets {
            Resolved::Mapped(pairs) => pairs
                .iter()
                .find(|(key, _)| **key == *name)
                .map(|(_, target)| *target)
                .ok_or_else(unknown),
            Resolved::Any if name == END => Ok(None),
            Resolved::Any if name == START => Err(unknown()),
            Resolved::Any => shape.find(name).map(Some).ok_or_else(unknown),
        }
    }
}
