//! What one participant is told, kept for as long as it may have to be told again: a client whose connection broke comes back and gets
//! everything after the last event that it has, and so does a portal that lost the agent.
//!
//! Without clock and channels: the time is an argument, and what is to be sent is returned.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_proto::v1::{self, join_event::Event, progress::Progress};
use serde::{Deserialize, Serialize};

use crate::log::Entry;

/// How much is kept for one participant. While it is away, more makes it leave; while it is there, the oldest is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backlog {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

impl Default for Backlog {
    /// A minute in a room in which something happens twenty times a second makes 1,200 events; the bytes are those of sixteen of the
    /// largest texts.
    fn default() -> Self {
        Self { events: 4096, bytes: 1 << 20 }
    }
}

/// How long portals have, when a room was taken over, to come back with their clients.
pub(crate) const REATTACH: Duration = Duration::from_secs(15);
/// What was handed to a stream so long before it broke has arrived, for events that must not come twice. About a slow round trip.
const CROSSING: Duration = Duration::from_millis(250);

/// An event and what is needed to tell it again.
#[derive(Debug)]
struct Kept {
    entry: Arc<Entry>,
    /// When it was handed to a stream; `None` while nobody was there to take it.
    handed: Option<Instant>,
}

impl Kept {
    /// Whether it must not be told again: SDKs take a second answer or `ready` for a fault and give the connection up, so these count
    /// as arrived unless the stream broke right behind them. All else is told again when in doubt.
    fn is_done(&self, broken: Instant) -> bool {
        let Some(Event::Progress(v1::Progress { progress: Some(progress), .. })) = &self.entry.event.event
        else {
            return false;
        };
        let once = match progress {
            Progress::Answer(_) | Progress::TransportReady(_) | Progress::SessionReady(_) => true,
            Progress::SessionError(_) | Progress::TransportError(_) | Progress::TransportMoving(_) => false,
        };
        once && self.handed.is_some_and(|handed| handed + CROSSING <= broken)
    }
}

/// What a successor of this agent has to know of a feed, beside the events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedFeed {
    pub(crate) window_ms: u64,
    pub(crate) confirmed: bool,
    pub(crate) acknowledged: u64,
    pub(crate) forgotten: u64,
}

/// One participant's events.
#[derive(Debug)]
pub(crate) struct Feed {
    /// How long the participant's place is kept when its stream breaks; zero = not at all.
    window: Duration,
    backlog: Backlog,
    /// Whether the client is known to have got its place. Until then a broken stream is a failed join, and nobody comes back.
    confirmed: bool,
    /// Number of the latest event that the client is known to have, or that came before it.
    acknowledged: u64,
    /// Number of the latest event that is not kept any more without being acknowledged.
    forgotten: u64,
    /// In order.
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// When the stream broke, if it is broken.
    broken: Option<Instant>,
    /// Whether it is known that nothing beyond what is acknowledged has arrived on it.
    exact: bool,
    /// The room was taken over, and the participant's portal has not come back yet: its place is kept for a while in any case.
    left_behind: bool,
}

/// More is to be told to a participant who is away than is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

/// Why a participant can't come back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotResumed {
    /// It has joined without a window.
    NotAllowed,
    /// Something that it would miss is forgotten.
    Forgotten,
}

impl Feed {
    /// Of one who joins when `latest` has happened.
    pub(crate) fn new(window: Duration, backlog: Backlog, latest: u64) -> Self {
        Self {
            window,
            backlog,
            confirmed: false,
            acknowledged: latest,
            forgotten: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
            broken: None,
            exact: false,
            left_behind: false,
        }
    }

    /// As another agent has left it. `entries`: what the participant was told since.
    pub(crate) fn restored<'e>(
        saved: &SavedFeed,
        entries: impl Iterator<Item = &'e Arc<Entry>>,
        backlog: Backlog,
        now: Instant,
    ) -> Self {
        let mut feed = Self {
            confirmed: saved.confirmed,
            forgotten: saved.forgotten,
            broken: Some(now),
            left_behind: true,
            ..Self::new(Duration::from_millis(saved.window_ms), backlog, saved.acknowledged)
        };
        for entry in entries {
            feed.kept_bytes += entry.size;
            // Most of it has been handed out; what exactly has not, only portals know.
            let handed = now.checked_sub(CROSSING).or(Some(now));
            feed.kept.push_back(Kept { entry: entry.clone(), handed });
        }
        feed
    }

    /// What a successor has to know.
    pub(crate) fn saved(&self) -> SavedFeed {
        SavedFeed {
            window_ms: u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX),
            confirmed: self.confirmed,
            acknowledged: self.acknowledged,
            forgotten: self.forgotten,
        }
    }

    /// Whether the client is not known to have got its place, and may be let in again.
    pub(crate) fn may_join_again(&self) -> bool {
        self.left_behind && !self.confirmed
    }

    /// An event. Whether it is to be sent: not if nobody is there to take it.
    ///
    /// # Errors
    /// If the participant is away and too much waits for it: it has to leave.
    pub(crate) fn push(&mut self, entry: &Arc<Entry>, now: Instant) -> Result<bool, Overflow> {
        if self.window.is_zero() && !self.left_behind {
            return Ok(true);
        }
        let handed = self.broken.is_none().then_some(now);
        self.kept.push_back(Kept { entry: entry.clone(), handed });
        self.kept_bytes += entry.size;
        while self.kept.len() > self.backlog.events || self.kept_bytes > self.backlog.bytes {
            if self.broken.is_some() {
                return Err(Overflow);
            }
            self.forgotten = self.forget_first();
        }
        Ok(self.broken.is_none())
    }

    /// The client's connection is gone, and nothing beyond what is acknowledged has arrived on it.
    pub(crate) fn nothing_else_arrived(&mut self) {
        self.exact = true;
    }

    /// The client has everything up to that event. Numbers that were never given (after `latest`) are nothing to go by.
    pub(crate) fn acknowledge(&mut self, seq: u64, latest: u64) {
        self.confirmed = true;
        if seq > latest {
            return;
        }
        self.acknowledged = self.acknowledged.max(seq);
        while self.kept.front().is_some_and(|kept| kept.entry.seq() <= seq) {
            self.forget_first();
        }
    }

    /// The stream is broken. Whether the participant's place is kept from now on.
    pub(crate) fn detach(&mut self, now: Instant) -> bool {
        if self.window.is_zero() || !self.confirmed {
            return false;
        }
        self.broken = Some(now);
        true
    }

    /// When the participant leaves if it does not come back.
    pub(crate) fn away_until(&self) -> Option<Instant> {
        let window = if self.left_behind { self.window.max(REATTACH) } else { self.window };
        // One who never got its place has a portal that tries for some seconds.
        let window = if self.confirmed { window } else { window.min(REATTACH) };
        self.broken.map(|broken| broken + window)
    }

    /// The participant is back on a new stream, with everything up to `after`, and `exact`ly that if it says so itself. Gives what it has
    /// missed, in order; where that is not known exactly, answers and `ready`s that have arrived by all appearances are left out.
    ///
    /// # Errors
    /// If it can't be, or if some of that is forgotten.
    pub(crate) fn resume(
        &mut self,
        after: u64,
        exact: bool,
        latest: u64,
        now: Instant,
    ) -> Result<Vec<v1::JoinEvent>, NotResumed> {
        if self.window.is_zero() {
            return Err(NotResumed::NotAllowed);
        }
        self.acknowledge(after, latest);
        if after > latest || self.forgotten > self.acknowledged {
            return Err(NotResumed::Forgotten);
        }
        self.left_behind = false;
        let broken = self.broken.take().unwrap_or(now);
        let exact = std::mem::take(&mut self.exact) || exact;
        self.kept.retain(|kept| exact || !kept.is_done(broken));
        self.kept_bytes = self.kept.iter().map(|kept| kept.entry.size).sum();
        let missed = self.kept.iter_mut().map(|kept| {
            kept.handed = Some(now);
            kept.entry.event.clone()
        });
        Ok(missed.collect())
    }

    /// The participant's portal is back, and has everything up to `after`. Gives what it has missed, in order; `None` if it can't be:
    /// the participant has left with the stream.
    pub(crate) fn reattach(&mut self, after: u64, now: Instant) -> Option<Vec<v1::JoinEvent>> {
        if self.window.is_zero() && !self.left_behind {
            return None;
        }
        self.confirmed = true;
        self.left_behind = false;
        self.broken = None;
        self.exact = false;
        let missed = self.kept.iter_mut().map(|kept| {
            kept.handed = Some(now);
            &kept.entry
        });
        let missed = missed.filter(|entry| entry.seq() > after).map(|entry| entry.event.clone()).collect();
        if self.window.is_zero() {
            self.kept.clear();
            self.kept_bytes = 0;
        }
        Some(missed)
    }

    fn forget_first(&mut self) -> u64 {
        let Some(kept) = self.kept.pop_front() else { return 0 };
        self.kept_bytes -= kept.entry.size;
        kept.entry.seq()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Log, Told};

    const WINDOW: Duration = Duration::from_secs(60);
    const BACKLOG: Backlog = Backlog { events: 100, bytes: 1 << 20 };

    fn text(message: &str) -> Event {
        Event::Text(v1::TextEvent { from: "a".into(), to_all: true, message: message.into() })
    }

    /// A feed with the log of its room, in which nobody else is.
    struct Fed {
        feed: Feed,
        log: Log,
    }

    impl std::ops::Deref for Fed {
        type Target = Feed;

        fn deref(&self) -> &Feed {
            &self.feed
        }
    }

    impl std::ops::DerefMut for Fed {
        fn deref_mut(&mut self) -> &mut Feed {
            &mut self.feed
        }
    }

    impl Fed {
        fn new(window: Duration) -> Self {
            Self { feed: Feed::new(window, BACKLOG, 0), log: Log::default() }
        }

        fn push(&mut self, event: Event, now: Instant) -> Result<Option<v1::JoinEvent>, Overflow> {
            let entry = self.log.append(Told::All { except: None }, event, now);
            let sent = self.feed.push(&entry, now)?;
            Ok(sent.then(|| entry.event.clone()))
        }

        fn acknowledge(&mut self, seq: u64) {
            self.feed.acknowledge(seq, self.log.latest());
        }

        fn resume(
            &mut self,
            after: u64,
            exact: bool,
            now: Instant,
        ) -> Result<Vec<v1::JoinEvent>, NotResumed> {
            self.feed.resume(after, exact, self.log.latest(), now)
        }

        /// As it is at the agent that takes the room over.
        fn taken_over(&self, now: Instant) -> Self {
            let saved = self.feed.saved();
            let ann = kaigi_proto::ids::ParticipantId::new("ann").unwrap();
            let mut log = Log::default();
            let entries: Vec<_> = self.log.after(0, &ann).cloned().collect();
            for entry in &entries {
                log.append(entry.to.clone(), entry.event.event.clone().unwrap(), now);
            }
            let feed = Feed::restored(&saved, self.log.after(saved.acknowledged, &ann), BACKLOG, now);
            Self { feed, log }
        }
    }

    /// A feed that has told this many events.
    fn told(count: u64) -> Fed {
        let mut feed = Fed::new(WINDOW);
        feed.acknowledge(0);
        for i in 1..=count {
            assert_eq!(feed.push(text("x"), Instant::now()).unwrap().unwrap().seq, i);
        }
        feed
    }

    fn seqs(events: &[v1::JoinEvent]) -> Vec<u64> {
        events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn whoever_comes_back_gets_exactly_what_it_missed() {
        let mut feed = told(3);
        assert!(feed.detach(Instant::now()));
        assert_eq!(feed.push(text("missed"), Instant::now()), Ok(None));
        assert_eq!(seqs(&feed.resume(2, false, Instant::now()).unwrap()), [3, 4]);
        assert_eq!(feed.push(text("next"), Instant::now()).unwrap().unwrap().seq, 5);
        assert_eq!(feed.resume(5, false, Instant::now()).unwrap(), []);
    }

    #[test]
    fn what_was_acknowledged_is_not_told_again_to_a_portal_that_knows_nothing() {
        let mut feed = told(5);
        feed.acknowledge(4);
        feed.acknowledge(2);
        assert_eq!(seqs(&feed.resume(0, false, Instant::now()).unwrap()), [5]);
        assert_eq!(
            seqs(&feed.resume(3, false, Instant::now()).unwrap()),
            [5],
            "older knowledge does not bring events back"
        );
    }

    #[test]
    fn answers_and_readys_do_not_come_twice_unless_the_stream_broke_right_behind_them() {
        let progress =
            |progress| Event::Progress(v1::Progress { transport_id: "t".into(), progress: Some(progress) });
        let (mut feed, start) = (told(0), Instant::now());
        let mut tell =
            |event, at: u64| feed.push(event, start + Duration::from_millis(at)).unwrap().unwrap().seq;
        let answer = tell(progress(Progress::Answer("sdp".into())), 0);
        let text = tell(text("x"), 0);
        let error = tell(progress(Progress::SessionError(v1::SessionError::default())), 0);
        let ready = tell(progress(Progress::SessionReady("s".into())), 900);
        feed.detach(start + Duration::from_secs(1));
        let missed = seqs(&feed.resume(0, false, start + Duration::from_secs(2)).unwrap());
        assert_eq!(missed, [text, error, ready], "not {answer}");
        let missed = seqs(&feed.resume(0, false, start + Duration::from_secs(9)).unwrap());
        assert_eq!(missed, [text, error], "and the other one has come now");
    }

    #[test]
    fn answers_come_again_where_it_is_known_that_they_did_not_arrive() {
        let answer = || Progress::Answer("sdp".into());
        let progress =
            || Event::Progress(v1::Progress { transport_id: "t".into(), progress: Some(answer()) });
        let (mut feed, start) = (told(1), Instant::now());
        let long_after = start + Duration::from_secs(40);
        feed.push(progress(), start).unwrap();
        feed.detach(long_after);
        assert_eq!(seqs(&feed.resume(1, true, long_after).unwrap()), [2], "as the client says");
        feed.acknowledge(1);
        feed.nothing_else_arrived();
        feed.detach(long_after + WINDOW / 2);
        assert_eq!(
            seqs(&feed.resume(0, false, long_after + WINDOW / 2).unwrap()),
            [2],
            "as its receipts say"
        );
        feed.detach(long_after + WINDOW);
        assert_eq!(seqs(&feed.resume(0, false, long_after + WINDOW).unwrap()), [0; 0], "nobody says");
    }

    #[test]
    fn numbers_never_given_are_refused() {
        let mut feed = told(2);
        feed.acknowledge(9);
        assert_eq!(feed.resume(3, false, Instant::now()), Err(NotResumed::Forgotten));
        assert_eq!(seqs(&feed.resume(0, false, Instant::now()).unwrap()), [1, 2]);
    }

    #[test]
    fn the_place_is_kept_for_the_window() {
        let (mut feed, now) = (told(1), Instant::now());
        assert_eq!(feed.away_until(), None);
        feed.detach(now);
        assert_eq!(feed.away_until(), Some(now + WINDOW));
        feed.resume(0, false, Instant::now()).unwrap();
        assert_eq!(feed.away_until(), None);
    }

    #[test]
    fn a_stream_that_breaks_before_the_client_has_its_place_is_a_failed_join() {
        let mut feed = Fed::new(WINDOW);
        feed.push(text("x"), Instant::now()).unwrap();
        assert!(!feed.detach(Instant::now()));
    }

    #[test]
    fn without_a_window_nothing_is_kept_and_nobody_comes_back() {
        let mut feed = Fed::new(Duration::ZERO);
        feed.push(text("x"), Instant::now()).unwrap();
        assert!(feed.kept.is_empty());
        assert!(!feed.detach(Instant::now()));
        assert_eq!(feed.resume(0, false, Instant::now()), Err(NotResumed::NotAllowed));
    }

    #[test]
    fn one_who_is_away_while_too_much_is_told_has_to_leave() {
        let mut feed = told(1);
        feed.detach(Instant::now());
        let fitting =
            (0..BACKLOG.events).take_while(|_| feed.push(text("x"), Instant::now()).is_ok()).count();
        assert_eq!(fitting, BACKLOG.events - 1);
        let mut feed = told(1);
        feed.detach(Instant::now());
        let large = "x".repeat(1 << 16);
        assert!(
            (0..BACKLOG.events).take_while(|_| feed.push(text(&large), Instant::now()).is_ok()).count() < 17
        );
    }

    #[test]
    fn one_who_is_there_goes_on_but_can_come_back_only_with_what_is_not_forgotten() {
        let mut feed = told(BACKLOG.events as u64 + 10);
        assert_eq!(feed.kept.len(), BACKLOG.events);
        assert_eq!(feed.resume(0, false, Instant::now()), Err(NotResumed::Forgotten));
        assert_eq!(feed.resume(10, false, Instant::now()).unwrap().len(), BACKLOG.events);
        assert_eq!(
            feed.resume(0, false, Instant::now()).unwrap().len(),
            BACKLOG.events,
            "as the tenth is acknowledged now"
        );
    }

    #[test]
    fn a_portal_that_lost_the_agent_gets_exactly_what_it_lacks_and_its_client_is_not_taken_to_have_it() {
        let mut feed = told(3);
        feed.acknowledge(1);
        let mut feed = feed.taken_over(Instant::now());
        assert_eq!(feed.push(text("missed"), Instant::now()), Ok(None));
        assert_eq!(seqs(&feed.reattach(2, Instant::now()).unwrap()), [3, 4]);
        assert_eq!(feed.push(text("next"), Instant::now()).unwrap().unwrap().seq, 5);
        feed.detach(Instant::now());
        assert_eq!(seqs(&feed.resume(0, false, Instant::now()).unwrap()), [2, 3, 4, 5]);
    }

    #[test]
    fn a_portal_may_come_back_without_a_window_too_and_nothing_is_kept_then() {
        let mut feed = Fed::new(Duration::ZERO);
        feed.push(text("x"), Instant::now()).unwrap();
        assert!(feed.reattach(0, Instant::now()).is_none(), "its agent is there");
        let now = Instant::now();
        let mut feed = feed.taken_over(now);
        assert_eq!(feed.away_until(), Some(now + REATTACH));
        feed.push(text("x"), now).unwrap();
        assert_eq!(seqs(&feed.reattach(1, now).unwrap()), [2]);
        assert!(feed.kept.is_empty());
        assert_eq!(feed.away_until(), None);
        assert!(!feed.detach(now));
    }

    #[test]
    fn what_was_forgotten_is_known_to_the_successor() {
        let feed = told(BACKLOG.events as u64 + 10);
        let mut feed = feed.taken_over(Instant::now());
        assert_eq!(feed.resume(0, false, Instant::now()), Err(NotResumed::Forgotten));
    }
}
