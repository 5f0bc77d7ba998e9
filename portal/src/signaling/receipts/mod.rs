//! Receipts: what of a client's notifications has surely arrived, without any help of the client's program.
//!
//! Socket.IO acknowledges nothing of itself, but every client's machine does. On a WebSocket a Ping frame (RFC 6455 §5.5.2) right behind
//! a packet is answered with a Pong when everything before it was read; with polling the next request proves that the answer to the one
//! before has come. [`layer`] sees the traffic of each session, [`tap`] that of one WebSocket, and both count in [`Receipts`], where
//! the connection's actor reads them.

mod frames;
mod layer;
mod payload;
mod tap;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(crate) use layer::ReceiptLayer;

/// Packets counted since a session began.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    /// Notifications.
    pub(super) events: u64,
    /// Answers to requests.
    pub(super) answers: u64,
}

impl Count {
    fn total(self) -> u64 {
        self.events + self.answers
    }

    fn plus(self, more: Self) -> Self {
        Self { events: self.events + more.events, answers: self.answers + more.answers }
    }
}

/// Counts a packet of Socket.IO, which begins with these bytes: `42[` is a notification, `43` the answer to a request. What else
/// there is belongs to the connection itself.
fn count_packet(begins: &[u8]) -> Count {
    Count { events: begins.starts_with(b"42[").into(), answers: begins.starts_with(b"43").into() }
}

/// The receipts of one session of Engine.IO, over all its transports.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    sent: Mutex<Count>,
    /// Notifications that have arrived.
    events: AtomicU64,
    /// Answers that have.
    answers: AtomicU64,
    /// Whether anything has arrived.
    any: AtomicBool,
    /// Something was lost within the session, so that its counts say nothing any more.
    void: AtomicBool,
    poll: Mutex<Poll>,
    news: Notify,
    /// The connection is to break.
    cut: CancellationToken,
}

/// The latest answered poll.
#[derive(Debug, Default)]
struct Poll {
    /// What makes the request's address different from all others.
    stamp: Option<String>,
    /// What was sent when it was answered.
    sent: Option<Count>,
}

/// What a poll says of the one before.
#[derive(Debug, PartialEq, Eq)]
enum Polled {
    /// Its answer has come.
    Next,
    /// It is the same again: its answer, with packets in it, was lost on the way.
    Again,
}

impl Receipts {
    /// Notifications that have arrived, of those told in this session.
    pub(super) fn events(&self) -> u64 {
        self.events.load(Ordering::Acquire)
    }

    /// Whether the client has got anything since the session began, be it an answer.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Whether the client has got everything that was sent.
    pub(super) fn all_arrived(&self) -> bool {
        let sent = *self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.events <= self.events() && sent.answers <= self.answers.load(Ordering::Acquire)
    }

    /// Breaks the connection, as a network would: clients come back by themselves after that, and only after that.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }

    /// Waits for something new. Cancel-safe; may return without.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    fn sent(&self, count: Count) -> Count {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        *sent = sent.plus(count);
        *sent
    }

    fn arrived(&self, count: Count) {
        if count.total() == 0 || self.void.load(Ordering::Acquire) {
            return;
        }
        self.events.fetch_max(count.events, Ordering::AcqRel);
        self.answers.fetch_max(count.answers, Ordering::AcqRel);
        self.any.store(true, Ordering::Release);
        self.news.notify_one();
    }

    fn lost(&self) {
        self.void.store(true, Ordering::Release);
    }

    /// A poll begins. Clients stamp each differently; one without a stamp counts as new.
    fn polled(&self, stamp: Option<&str>) -> Polled {
        let mut poll = self.poll.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sent) = poll.sent.take() else { return Polled::Next };
        if stamp.is_some() && stamp == poll.stamp.as_deref() {
            return Polled::Again;
        }
        drop(poll);
        self.arrived(sent);
        Polled::Next
    }

    /// A poll is answered with so much.
    fn answered(&self, stamp: Option<String>, count: Count) {
        let sent = (count.total() > 0).then(|| self.sent(count));
        *self.poll.lock().unwrap_or_else(PoisonError::into_inner) = Poll { stamp, sent };
    }
}

/// The sessions with a client that has opened the namespace, by their Engine.IO id.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions(Arc<Mutex<HashMap<String, Arc<Receipts>>>>);

impl Sessions {
    /// Enters a session for as long as the returned entry lives.
    pub(super) fn enter(&self, sid: String, receipts: Arc<Receipts>) -> Entry {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(sid.clone(), receipts);
        Entry { sessions: self.clone(), sid }
    }

    fn get(&self, sid: &str) -> Option<Arc<Receipts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(sid).cloned()
    }
}

/// A session's place among the others.
#[derive(Debug)]
pub(super) struct Entry {
    sessions: Sessions,
    sid: String,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.sessions.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.sid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Count = Count { events: 2, answers: 0 };

    #[test]
    fn the_next_poll_proves_the_answer_to_the_one_before() {
        let receipts = Receipts::default();
        assert_eq!(receipts.polled(Some("a")), Polled::Next);
        receipts.answered(Some("a".into()), TWO);
        assert_eq!((receipts.events(), receipts.any()), (0, false));
        assert_eq!(receipts.polled(Some("b")), Polled::Next);
        assert_eq!((receipts.events(), receipts.any()), (2, true));
        receipts.answered(None, TWO);
        assert_eq!(receipts.polled(None), Polled::Next);
        assert_eq!(receipts.events(), 4);
    }

    #[test]
    fn the_same_poll_again_proves_that_the_answer_was_lost() {
        let receipts = Receipts::default();
        receipts.polled(Some("a"));
        receipts.answered(Some("a".into()), TWO);
        assert_eq!(receipts.polled(Some("a")), Polled::Again);
        assert_eq!(receipts.events(), 0);
        receipts.answered(Some("b".into()), Count::default());
        assert_eq!(receipts.polled(Some("b")), Polled::Next, "nothing was in it");
    }

    #[test]
    fn all_has_arrived_when_answers_have_too() {
        let receipts = Receipts::default();
        assert!(receipts.all_arrived());
        receipts.sent(Count { events: 1, answers: 1 });
        receipts.arrived(Count { events: 1, answers: 0 });
        assert!(!receipts.all_arrived());
        receipts.arrived(Count { events: 1, answers: 1 });
        assert!(receipts.all_arrived());
    }

    #[test]
    fn a_session_that_has_lost_something_proves_nothing() {
        let receipts = Receipts::default();
        receipts.lost();
        receipts.arrived(TWO);
        assert_eq!((receipts.events(), receipts.any()), (0, false));
    }
}
