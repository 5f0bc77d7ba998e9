//! When a member claims the lease, renews it, begins to lead and ends: pure, with the time as an argument.

use std::time::{Duration, Instant};

use super::{Claim, Leader, MemberId, Term};

/// How often a leader renews, in one lease: an attempt that is not answered may take half of it.
const RENEWALS: u32 = 5;
/// How often the others look whether it is free, in one lease.
const CLAIMS: u32 = 8;
/// After a write was refused, whether the lease is still held is asked this soon.
const DOUBT: Duration = Duration::from_millis(10);

/// The times of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    lease: Duration,
}

/// A lease is shorter than a leader can keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a leader's lease lasts a second at least")]
pub struct InvalidTiming;

impl Timing {
    /// The times for a lease of that length.
    ///
    /// # Errors
    /// If it is below a second.
    pub fn new(lease: Duration) -> Result<Self, InvalidTiming> {
        if lease < Duration::from_secs(1) { Err(InvalidTiming) } else { Ok(Self { lease }) }
    }

    /// How long the lease lasts.
    #[must_use]
    pub fn lease(self) -> Duration {
        self.lease
    }
}

/// What is to be asked of the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Claim(Claim),
    Renew(Term),
}

/// What the lease says, as the election takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Leads(Leader),
    Nobody,
    Away,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Another one leads, or nobody.
    Follows(Option<Leader>),
    /// Until when calls are answered without asking again.
    Leads { term: Term, serves_until: Instant },
}

/// One member's part in it. One question at a time: after [`Election::ask`] comes [`Election::heard`].
#[derive(Debug)]
pub(crate) struct Election {
    timing: Timing,
    member: MemberId,
    state: State,
    known: Term,
    dead: Option<Leader>,
    next: Instant,
}

impl Election {
    pub(crate) fn new(timing: Timing, member: MemberId, now: Instant) -> Self {
        Self { timing, member, state: State::Follows(None), known: Term::default(), dead: None, next: now }
    }

    /// When [`Election::ask`] is due.
    pub(crate) fn deadline(&self) -> Instant {
        self.next
    }

    /// What is to be asked.
    pub(crate) fn ask(&self) -> Ask {
        match &self.state {
            State::Leads { term, .. } => Ask::Renew(*term),
            State::Follows(_) => Ask::Claim(Claim { known: self.known, over: self.dead.clone() }),
        }
    }

    /// What was answered to a question asked at `asked`.
    pub(crate) fn heard(&mut self, asked: Instant, now: Instant, heard: Heard) {
        if let Heard::Leads(leader) = &heard {
            self.known = self.known.max(leader.term);
            self.dead = self.dead.take().filter(|dead| dead == leader);
        }
        let (lease, is_away) = (self.timing.lease, heard == Heard::Away);
        match (heard, &mut self.state) {
            (Heard::Leads(leader), _) if leader.member == self.member => {
                // Reckoned from the question: the lease began later than that.
                self.state = State::Leads { term: leader.term, serves_until: asked + lease };
            }
            (Heard::Leads(other), _) => self.state = State::Follows(Some(other)),
            (Heard::Nobody, _) => self.state = State::Follows(None),
            // Nobody else can lead either, as long as the store is away from all. Is it away from this one alone, the others' fences hold.
            (Heard::Away, State::Leads { serves_until, .. }) => *serves_until = now + lease,
            (Heard::Away, State::Follows(_)) => {}
        }
        let pause = match &self.state {
            State::Leads { .. } => lease / RENEWALS,
            // When the store comes back, the one who led is to go on: he asks more often.
            State::Follows(_) if is_away => lease * 2 / 3,
            State::Follows(_) => lease / CLAIMS,
        };
        self.next = (asked + pause).max(now + DOUBT);
    }

    /// There is reason to ask soon.
    pub(crate) fn doubt(&mut self, now: Instant) {
        self.next = self.next.min(now + DOUBT);
    }

    /// The process of a leader is dead.
    pub(crate) fn died(&mut self, leader: Leader, now: Instant) {
        if self.follows() == Some(&leader) {
            self.dead = Some(leader);
            self.next = now;
        }
    }

    /// Gives up leading, of its own accord.
    pub(crate) fn resigned(&mut self, now: Instant) {
        self.state = State::Follows(None);
        self.next = now + self.timing.lease;
    }

    /// In which term it leads, and until when calls are answered without asking again.
    pub(crate) fn leads(&self) -> Option<(Term, Instant)> {
        match self.state {
            State::Leads { term, serves_until } => Some((term, serves_until)),
            State::Follows(_) => None,
        }
    }

    /// Who leads, if it is another.
    pub(crate) fn follows(&self) -> Option<&Leader> {
        match &self.state {
            State::Follows(leader) => leader.as_ref(),
            State::Leads { .. } => None,
        }
    }

    /// The last term that it knows of.
    pub(crate) fn known(&self) -> Term {
        self.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_millis(1500);
    const MS: Duration = Duration::from_millis(1);

    fn leader(term: u64, member: &str) -> Leader {
        Leader { term: Term(term), member: MemberId::new(member), endpoint: String::new() }
    }

    fn election(now: Instant) -> Election {
        Election::new(Timing::new(LEASE).unwrap(), MemberId::new("me"), now)
    }

    fn leading(now: Instant) -> Election {
        let mut election = election(now);
        election.heard(now, now, Heard::Leads(leader(3, "me")));
        election
    }

    #[test]
    fn whoever_gets_the_lease_leads_and_renews_it_several_times_before_it_ends() {
        let now = Instant::now();
        let mut election = election(now);
        assert_eq!(election.deadline(), now);
        assert_eq!(election.ask(), Ask::Claim(Claim::default()));
        election.heard(now, now + 5 * MS, Heard::Leads(leader(3, "me")));
        assert_eq!(election.leads(), Some((Term(3), now + LEASE)), "reckoned from the question");
        assert_eq!(election.ask(), Ask::Renew(Term(3)));
        assert!(election.deadline() <= now + LEASE / 4);
    }

    #[test]
    fn the_others_look_often_enough_to_follow_within_two_seconds() {
        let now = Instant::now();
        let mut election = election(now);
        election.heard(now, now, Heard::Leads(leader(3, "you")));
        assert_eq!(election.follows(), Some(&leader(3, "you")));
        assert!(LEASE + (election.deadline() - now) < Duration::from_millis(1800));
        assert_eq!(election.ask(), Ask::Claim(Claim { known: Term(3), over: None }));
    }

    #[test]
    fn a_leader_without_store_goes_on() {
        let now = Instant::now();
        let mut election = leading(now);
        let mut time = now;
        for _ in 0..100 {
            time += 300 * MS;
            election.heard(time, time + 200 * MS, Heard::Away);
            assert_eq!(election.leads(), Some((Term(3), time + 200 * MS + LEASE)));
        }
        election.heard(time, time, Heard::Leads(leader(3, "me")));
        assert_eq!(election.leads().unwrap().0, Term(3));
    }

    #[test]
    fn the_one_who_led_is_the_first_to_ask_a_store_that_comes_back() {
        let now = Instant::now();
        let (mut leader, mut other) = (leading(now), election(now));
        leader.heard(now, now, Heard::Away);
        other.heard(now, now, Heard::Away);
        assert!(2 * (leader.deadline() - now) < other.deadline() - now);
    }

    #[test]
    fn one_who_was_paused_answers_nothing_until_he_knows() {
        let now = Instant::now();
        let mut election = leading(now);
        let woken = now + 10 * LEASE;
        assert!(election.deadline() < woken, "asks at once");
        assert!(election.leads().unwrap().1 < woken, "and does not answer meanwhile");
        election.heard(woken, woken, Heard::Leads(leader(4, "you")));
        assert_eq!(election.leads(), None);
        assert_eq!(election.ask(), Ask::Claim(Claim { known: Term(4), over: None }));
    }

    #[test]
    fn a_dead_leaders_lease_is_not_waited_for() {
        let now = Instant::now();
        let mut election = election(now);
        election.heard(now, now, Heard::Leads(leader(3, "you")));
        election.died(leader(2, "you"), now);
        assert_eq!(election.ask(), Ask::Claim(Claim { known: Term(3), over: None }), "an older life of his");
        election.died(leader(3, "you"), now);
        assert_eq!(election.deadline(), now);
        assert_eq!(election.ask(), Ask::Claim(Claim { known: Term(3), over: Some(leader(3, "you")) }));
        election.heard(now, now, Heard::Leads(leader(4, "third")));
        assert_eq!(election.ask(), Ask::Claim(Claim { known: Term(4), over: None }), "not so his successor");
    }

    #[test]
    fn a_refused_write_is_a_reason_to_ask_soon() {
        let now = Instant::now();
        let mut election = leading(now);
        election.doubt(now);
        assert!(election.deadline() <= now + DOUBT);
    }

    #[test]
    fn one_who_gives_up_lets_the_others_go_first() {
        let now = Instant::now();
        let mut election = leading(now);
        election.resigned(now);
        assert_eq!(election.leads(), None);
        assert_eq!(election.deadline(), now + LEASE);
    }

    #[test]
    fn a_lease_has_a_least_length() {
        assert_eq!(Timing::new(999 * MS), Err(InvalidTiming));
    }
}
