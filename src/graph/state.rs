//! What the nodes of a graph share: a state, the updates to it, and the rule for two writers.
//!
//! [`state!`](crate::graph::state!) declares all three at once; this is what it implements.

use std::borrow::Cow;

use super::shape::NodeId;

/// The state of a graph: a value that changes by updates only.
///
/// Nodes see it and return an [`Update`](State::Update); the engine applies the updates of one
/// superstep in the order of the nodes' names. [`state!`](crate::graph::state!) implements it from a
/// declaration; by hand it looks like this:
///
/// ```
/// use weir::graph::{Claims, Refusal, State};
///
/// #[derive(Clone)]
/// struct Account {
///     balance: i64,
///     owner: String,
/// }
///
/// #[derive(Clone, Default)]
/// struct Booking {
///     amount: i64,
///     new_owner: Option<String>,
/// }
///
/// impl State for Account {
///     type Update = Booking;
///     type Error = std::convert::Infallible;
///
///     fn check(&self, booking: &Booking, claims: &mut Claims<'_>) -> Result<(), Refusal> {
///         if self.balance + booking.amount < 0 {
///             return Err(Refusal::invalid("balance", "it would be below zero"));
///         }
///         // Each of several siblings sees the balance before them all: so only one of them may change it.
///         claims.claim("balance")?;
///         if booking.new_owner.is_some() {
///             claims.claim("owner")?;
///         }
///         Ok(())
///     }
///
///     fn apply(&mut self, booking: Booking) {
///         self.balance += booking.amount;
///         if let Some(owner) = booking.new_owner {
///             self.owner = owner;
///         }
///     }
/// }
///
/// let mut account = Account { balance: 5, owner: "Ada".to_owned() };
/// let check = |amount| {
///     account.check(&Booking { amount, new_owner: None }, &mut Claims::alone())
/// };
/// assert!(check(-5).is_ok() && check(-6).is_err());
/// account.apply(Booking { amount: -5, new_owner: Some("Charles".to_owned()) });
/// assert_eq!((account.balance, account.owner.as_str()), (0, "Charles"));
/// ```
pub trait State: Clone + Send + Sync + 'static {
    /// What a node has to say. Its default writes nothing.
    type Update: Default + Clone + Send + Sync + 'static;

    /// What a node on this state may fail with.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Looks at an update before anything of its superstep is applied: claims every field in it
    /// that takes one write per superstep, and refuses what `apply` could not apply.
    ///
    /// # Errors
    /// A [`Refusal`], from [`Claims::claim`] or made with [`Refusal::invalid`].
    fn check(&self, update: &Self::Update, claims: &mut Claims<'_>) -> Result<(), Refusal> {
        let _: (&Self::Update, &mut Claims<'_>) = (update, claims);
        Ok(())
    }

    /// Applies an update that [`check`](State::check) let pass.
    fn apply(&mut self, update: Self::Update);
}

/// Who wrote which last-value field in this superstep. See the example at [`State`].
#[derive(Debug)]
pub struct Claims<'a> {
    /// The node whose update is being checked, and what was claimed so far; `None` when it is
    /// alone.
    among: Option<(NodeId, &'a mut Taken)>,
}

/// The fields claimed so far in one superstep, each with its writer.
pub(super) type Taken = Vec<(Cow<'static, str>, NodeId)>;

impl<'a> Claims<'a> {
    /// The claims of an update that shares its superstep with no other: all of them hold.
    #[must_use]
    pub fn alone() -> Self {
        Self { among: None }
    }

    pub(super) fn among(writer: NodeId, taken: &'a mut Taken) -> Self {
        Self { among: Some((writer, taken)) }
    }

    /// Claims `field` for the node whose update is being checked.
    ///
    /// # Errors
    /// When another node of the superstep has claimed it; the run then ends with
    /// [`Error::Conflict`](super::Error::Conflict).
    pub fn claim(&mut self, field: impl Into<Cow<'static, str>>) -> Result<(), Refusal> {
        let Some((writer, taken)) = &mut self.among else {
            return Ok(());
        };
        let field = field.into();
        match taken.iter().find(|(name, _)| *name == field) {
            Some((_, by)) if by == writer => Ok(()),
            Some((_, by)) => Err(Refusal(Reason::Claimed { field: field.into_owned(), by: *by })),
            None => {
                taken.push((field, *writer));
                Ok(())
            }
        }
    }
}

/// Why an update can't be applied. See the example at [`State`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal(pub(super) Reason);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// Another node of the superstep wrote the field.
    Claimed {
        field: String,
        by: NodeId,
    },
    Invalid {
        field: String,
        reason: String,
    },
}

impl Refusal {
    /// Refuses an update whose value for `field` can't be applied, whoever else writes.
    #[must_use]
    pub fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self(Reason::Invalid { field: field.into(), reason: reason.into() })
    }
}
