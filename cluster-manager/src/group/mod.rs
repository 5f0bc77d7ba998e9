//! Several cluster-managers on one Redis, of which one leads.
//!
//! Who leads is decided by a [`Lease`], which a leader renews and the others claim ([`election`], pure; [`candidate`], its shell). A leader
//! serves for a [`Term`]; what he writes after another one's has begun is refused by the store. Whoever calls is told who leads by the
//! service [`Group`](kaigi_proto::v1::group_server::Group), which all answer.

mod candidate;
mod election;
mod member;
#[cfg(test)]
mod model;
mod service;
mod standing;

use async_trait::async_trait;

use candidate::Candidate;
pub use election::{InvalidTiming, Timing};
pub(crate) use member::Member;
pub(crate) use service::{GroupService, Led};
pub(crate) use standing::{Standing, Watched};

use crate::store::StoreError;

/// A term of leadership: higher than all before, so that what is written in an earlier one can be refused (a fencing token).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// A cluster-manager of the group; random, new at each start.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemberId(Box<str>);

impl MemberId {
    /// A new random one.
    #[must_use]
    pub fn random() -> Self {
        Self(format!("{:016x}", rand::random::<u64>()).into())
    }

    pub(crate) fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// Since when, counted.
    pub term: Term,
    /// Which member.
    pub member: MemberId,
    /// Where it is called; empty = not known.
    pub endpoint: String,
}

/// A try to lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The last term that the member knows of: also if the store has lost it, the new one is higher.
    pub known: Term,
    /// A leader whose process is known to be dead, so that his lease need not be waited for.
    pub over: Option<Leader>,
}

/// What came of a claim or a renewal.
#[derive(Debug)]
pub enum Answer {
    /// Somebody leads: the one who asked, or another.
    Leads(Leader),
    /// Nobody does, and the one who asked did not get it.
    Nobody,
    /// It is not known.
    Away(StoreError),
}

/// The right to lead, which one at a time has and which ends by itself.
#[async_trait]
pub trait Lease: Send + Sync + 'static {
    /// Takes it, if nobody has it.
    async fn claim(&self, claim: &Claim) -> Answer;
    /// Keeps it for another while, if it is still held since `term`.
    async fn renew(&self, term: Term) -> Answer;
    /// Gives it back, if it is still held since `term`.
    async fn resign(&self, term: Term);
    /// Returns when there is reason to believe that it is held no more. Cancellation safe.
    async fn doubted(&self);
}
