//! Whom a peer knows of. While the hub comes back all peers do, one after the other: who is not there yet is not told to have left until
//! some time has passed.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// Others are waited for so long when the hub is back: longer than a portal's longest pause between attempts.
const GRACE: Duration = Duration::from_secs(6);

/// The others, as the client was told.
#[derive(Debug)]
pub(super) struct Roster {
    known: BTreeSet<String>,
    /// Those of them who are not back yet, and until when they are waited for.
    missing: Option<(BTreeSet<String>, Instant)>,
}

impl Roster {
    pub(super) fn new(peers: &[String]) -> Self {
        Self { known: peers.iter().cloned().collect(), missing: None }
    }

    /// Whether it is news that somebody joined.
    pub(super) fn joined(&mut self, peer: &str) -> bool {
        if let Some((missing, _)) = &mut self.missing {
            missing.remove(peer);
        }
        self.known.insert(peer.to_owned())
    }

    /// Whether it is news that somebody left.
    pub(super) fn left(&mut self, peer: &str) -> bool {
        if let Some((missing, _)) = &mut self.missing {
            missing.remove(peer);
        }
        self.known.remove(peer)
    }

    /// The hub is back, and knows these. Those who are new.
    pub(super) fn back(&mut self, now: Instant, peers: Vec<String>) -> Vec<String> {
        let there: BTreeSet<String> = peers.into_iter().collect();
        let missing: BTreeSet<String> = self.known.difference(&there).cloned().collect();
        self.missing = (!missing.is_empty()).then_some((missing, now + GRACE));
        let new: Vec<String> = there.difference(&self.known).cloned().collect();
        self.known.extend(new.iter().cloned());
        new
    }

    /// When to look who is still missing.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.missing.as_ref().map(|(_, until)| *until)
    }

    /// Those who have not come back in time.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<String> {
        match self.missing.take_if(|(_, until)| *until <= now) {
            Some((missing, _)) => {
                self.known.retain(|peer| !missing.contains(peer));
                missing.into_iter().collect()
            }
            None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn each_coming_and_going_is_news_once() {
        let mut roster = Roster::new(&names(&["a"]));
        assert!(!roster.joined("a"));
        assert!(roster.joined("b"));
        assert!(roster.left("a"));
        assert!(!roster.left("a"));
    }

    #[test]
    fn who_comes_back_after_the_hub_was_never_away() {
        let start = Instant::now();
        let mut roster = Roster::new(&names(&["a", "b", "c"]));
        assert_eq!(roster.back(start, names(&["a", "d"])), ["d"]);
        assert!(!roster.joined("b"), "b is back");
        assert_eq!(roster.overdue(start), names(&[]));
        let later = roster.deadline().unwrap();
        assert_eq!(roster.overdue(later), ["c"]);
        assert_eq!(roster.deadline(), None);
        assert!(roster.joined("c"));
        assert_eq!(roster.back(later, names(&["a", "b", "c", "d"])), names(&[]));
        assert_eq!(roster.deadline(), None);
    }
}
