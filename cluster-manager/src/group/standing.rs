//! What a process knows of its own standing in the group, for all who answer calls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::watch;

use super::{Leader, Term};

/// Who leads, as this process knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// This one.
    Leads(Term),
    /// Another one, if any, and the last term that is known of.
    Follows(Option<Leader>, Term),
}

/// See the module's description; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Standing(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    began: Instant,
    watched: watch::Sender<Watched>,
    /// The term in which calls are answered.
    term: AtomicU64,
    /// Until when, in milliseconds after `began`; then it has to be asked first whether the term lasts.
    until: AtomicU64,
}

impl Standing {
    /// Follows nobody yet.
    pub(crate) fn new() -> Self {
        let watched = watch::Sender::new(Watched::Follows(None, Term::default()));
        Self(Arc::new(Inner {
            began: Instant::now(),
            watched,
            term: AtomicU64::new(0),
            until: AtomicU64::new(0),
        }))
    }

    /// Leads for ever, as there is nobody else.
    pub(crate) fn alone() -> (Self, Term) {
        let (standing, term) = (Self::new(), Term(1));
        standing.0.term.store(term.0, Ordering::Release);
        standing.0.until.store(u64::MAX, Ordering::Release);
        standing.0.watched.send_replace(Watched::Leads(term));
        (standing, term)
    }

    pub(super) fn leads(&self, term: Term, until: Instant) {
        self.0.until.store(self.milliseconds(until), Ordering::Release);
        self.0.term.store(term.0, Ordering::Release);
        self.tell(Watched::Leads(term));
    }

    pub(super) fn follows(&self, leader: Option<Leader>, known: Term) {
        self.0.until.store(0, Ordering::Release);
        self.tell(Watched::Follows(leader, known));
    }

    fn tell(&self, new: Watched) {
        self.0.watched.send_if_modified(|watched| {
            let is_new = *watched != new;
            *watched = new;
            is_new
        });
    }

    fn milliseconds(&self, time: Instant) -> u64 {
        u64::try_from(time.saturating_duration_since(self.0.began).as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether calls are answered in that term, now.
    pub(crate) fn serves(&self, term: Term, now: Instant) -> bool {
        self.milliseconds(now) < self.0.until.load(Ordering::Acquire)
            && self.0.term.load(Ordering::Acquire) == term.0
    }

    /// Who leads, now and from then on.
    pub(crate) fn watch(&self) -> watch::Receiver<Watched> {
        self.0.watched.subscribe()
    }

    /// Returns when that term is over.
    pub(crate) async fn over(&self, term: Term) {
        // The sender lives as long as this.
        let _ = self.watch().wait_for(|watched| *watched != Watched::Leads(term)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn calls_are_answered_in_the_term_and_as_long_as_it_is_known_to_last() {
        let (standing, now) = (Standing::new(), Instant::now());
        assert!(!standing.serves(Term(3), now));
        standing.leads(Term(3), now + SECOND);
        assert!(standing.serves(Term(3), now) && !standing.serves(Term(2), now));
        assert!(!standing.serves(Term(3), now + 2 * SECOND));
        standing.follows(None, Term(4));
        assert!(!standing.serves(Term(3), now));
    }

    #[test]
    fn one_alone_leads_for_ever() {
        let (standing, term) = Standing::alone();
        assert!(standing.serves(term, Instant::now() + 1_000_000 * SECOND));
    }
}
