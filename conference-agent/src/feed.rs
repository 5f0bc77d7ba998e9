//! What one participant is told, numbered, and kept for as long as it may have to be told again: a client whose connection broke
//! comes back and gets everything after the last event that it has.
//!
//! Without clock and channels: the time is an argument, and what is to be sent is returned.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use kaigi_proto::v1::{self, join_event::Event, progress::Progress};
use prost::Message;

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

/// What was handed to a stream so long before it broke has arrived, for events that must not come twice. About a slow round trip.
const CROSSING: Duration = Duration::from_millis(250);

/// An event and what is needed to tell it again.
#[derive(Debug)]
struct Kept {
    event: v1::JoinEvent,
    size: usize,
    /// When it was handed to a stream; `None` while nobody was there to take it.
    handed: Option<Instant>,
}

impl Kept {
    /// Whether it must not be told again: SDKs take a second answer or `ready` for a fault and give the connection up, so these count
    /// as arrived unless the stream broke right behind them. All else is told again when in doubt.
    fn is_done(&self, broken: Instant) -> bool {
        let Some(Event::Progress(v1::Progress { progress: Some(progress), .. })) = &self.event.event else {
            return false;
        };
        let once = match progress {
            Progress::Answer(_) | Progress::TransportReady(_) | Progress::SessionReady(_) => true,
            Progress::SessionError(_) | Progress::TransportError(_) => false,
        };
        once && self.handed.is_some_and(|handed| handed + CROSSING <= broken)
    }
}

/// One participant's events.
#[derive(Debug)]
pub(crate) struct Feed {
    /// How long the participant's place is kept when its stream breaks; zero = not at all.
    window: Duration,
    backlog: Backlog,
    /// Whether the client is known to have got its place. Until then a broken stream is a failed join, and nobody comes back.
    confirmed: bool,
    /// Number of the latest event.
    latest: u64,
    /// Number of the latest event that the client is known to have.
    acknowledged: u64,
    /// In order, without gaps up to `latest`.
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// When the stream broke, if it is broken.
    broken: Option<Instant>,
    /// Whether it is known that nothing beyond what is acknowledged has arrived on it.
    exact: bool,
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
    pub(crate) fn new(window: Duration, backlog: Backlog) -> Self {
        Self {
            window,
            backlog,
            confirmed: false,
            latest: 0,
            acknowledged: 0,
            kept: VecDeque::new(),
            kept_bytes: 0,
            broken: None,
            exact: false,
        }
    }

    /// Numbers an event. Gives it back to be sent; `None` if nobody is there to take it.
    ///
    /// # Errors
    /// If the participant is away and too much waits for it: it has to leave.
    pub(crate) fn push(&mut self, event: Event, now: Instant) -> Result<Option<v1::JoinEvent>, Overflow> {
        self.latest += 1;
        let event = v1::JoinEvent { seq: self.latest, event: Some(event) };
        if self.window.is_zero() {
            return Ok(Some(event));
        }
        let size = event.encoded_len();
        let handed = self.broken.is_none().then_some(now);
        self.kept.push_back(Kept { event: event.clone(), size, handed });
        self.kept_bytes += size;
        while self.kept.len() > self.backlog.events || self.kept_bytes > self.backlog.bytes {
            if self.broken.is_some() {
                return Err(Overflow);
            }
            self.forget_first();
        }
        Ok(self.broken.is_none().then_some(event))
    }

    /// The client's connection is gone, and nothing beyond what is acknowledged has arrived on it.
    pub(crate) fn nothing_else_arrived(&mut self) {
        self.exact = true;
    }

    /// The client has everything up to that event. Numbers that were never given are nothing to go by.
    pub(crate) fn acknowledge(&mut self, seq: u64) {
        self.confirmed = true;
        if seq > self.latest {
            return;
        }
        self.acknowledged = self.acknowledged.max(seq);
        while self.kept.front().is_some_and(|kept| kept.event.seq <= seq) {
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
        self.broken.map(|broken| broken + self.window)
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
        now: Instant,
    ) -> Result<Vec<v1::JoinEvent>, NotResumed> {
        if self.window.is_zero() {
            return Err(NotResumed::NotAllowed);
        }
        self.acknowledge(after);
        let oldest = self.kept.front().map_or(self.latest + 1, |kept| kept.event.seq);
        if after > self.latest || oldest > self.acknowledged + 1 {
            return Err(NotResumed::Forgotten);
        }
        let broken = self.broken.take().unwrap_or(now);
        let exact = std::mem::take(&mut self.exact) || exact;
        let missed = self.kept.iter_mut().filter(|kept| exact || !kept.is_done(broken)).map(|kept| {
            kept.handed = Some(now);
            kept.event.clone()
        });
        Ok(missed.collect())
    }

    fn forget_first(&mut self) {
        if let Some(kept) = self.kept.pop_front() {
            self.kept_bytes -= kept.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);
    const BACKLOG: Backlog = Backlog { events: 100, bytes: 1 << 20 };

    fn text(message: &str) -> Event {
        Event::Text(v1::TextEvent { from: "a".into(), to_all: true, message: message.into() })
    }

    /// A feed that has told this many events.
    fn told(count: u64) -> Feed {
        let mut feed = Feed::new(WINDOW, BACKLOG);
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
        let mut feed = Feed::new(WINDOW, BACKLOG);
        feed.push(text("x"), Instant::now()).unwrap();
        assert!(!feed.detach(Instant::now()));
    }

    #[test]
    fn without_a_window_nothing_is_kept_and_nobody_comes_back() {
        let mut feed = Feed::new(Duration::ZERO, BACKLOG);
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
}
