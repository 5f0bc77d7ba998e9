//! The event queue of one participant: bounded in number and in bytes; whoever does not drain it is dropped, nobody waits.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use futures::Stream;
use kaigi_proto::v1;
use prost::Message;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use crate::feed::Backlog;

/// Most bytes that wait for one participant, beside all that is kept for one who comes back; the largest text is 64 kB.
const MAX_BYTES: usize = 4 << 20;

/// The room's end.
#[derive(Debug)]
pub(crate) struct EventSender {
    events: mpsc::Sender<v1::JoinEvent>,
    queued: Arc<AtomicUsize>,
    max_bytes: usize,
    gone: CancellationToken,
}

/// The participant's end: the answer to its Join call. Ends when the sender is dropped and all is taken.
#[derive(Debug)]
pub(crate) struct EventStream {
    events: mpsc::Receiver<v1::JoinEvent>,
    queued: Arc<AtomicUsize>,
    _gone: DropGuard,
}

/// The participant does not drain its queue, or is gone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotDrained;

/// A new queue: for all that is kept for one who comes back, and as many events again. A room of a hundred whose streams all change at
/// once makes a few hundred.
pub(crate) fn event_queue(backlog: Backlog) -> (EventSender, EventStream) {
    let (sender, receiver) = mpsc::channel(2 * backlog.events);
    let queued = Arc::new(AtomicUsize::new(0));
    let gone = CancellationToken::new();
    let stream = EventStream { events: receiver, queued: queued.clone(), _gone: gone.clone().drop_guard() };
    (EventSender { events: sender, queued, max_bytes: MAX_BYTES + backlog.bytes, gone }, stream)
}

impl EventSender {
    /// Queues an event; never waits.
    pub(crate) fn send(&self, event: v1::JoinEvent) -> Result<(), NotDrained> {
        let size = event.encoded_len();
        // The first event may be larger than all that is allowed to wait: it is the snapshot of a large room.
        if self.queued.fetch_add(size, Ordering::Relaxed) > self.max_bytes {
            return Err(NotDrained);
        }
        self.events.try_send(event).map_err(|_| NotDrained)
    }

    /// Cancelled when the participant's end is dropped.
    pub(crate) fn gone(&self) -> CancellationToken {
        self.gone.clone()
    }
}

impl Stream for EventStream {
    type Item = Result<v1::JoinEvent, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let event = std::task::ready!(self.events.poll_recv(cx));
        if let Some(event) = &event {
            self.queued.fetch_sub(event.encoded_len(), Ordering::Relaxed);
        }
        Poll::Ready(event.map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};

    use super::*;

    fn text(length: usize) -> v1::JoinEvent {
        let message = "x".repeat(length);
        let text = v1::TextEvent { from: "a".into(), to_all: true, message };
        v1::JoinEvent { seq: 1, event: Some(v1::join_event::Event::Text(text)) }
    }

    #[test]
    fn a_queue_that_is_not_drained_is_full_at_some_number_of_events() {
        let (sender, _stream) = event_queue(Backlog::default());
        for _ in 0..2 * Backlog::default().events {
            assert_eq!(sender.send(text(1)), Ok(()));
        }
        assert_eq!(sender.send(text(1)), Err(NotDrained));
    }

    #[test]
    fn and_at_some_number_of_bytes() {
        let (sender, _stream) = event_queue(Backlog::default());
        let sent =
            (0..2 * Backlog::default().events).take_while(|_| sender.send(text(1 << 16)).is_ok()).count();
        assert!((75..=85).contains(&sent), "{sent}: five megabytes");
    }

    #[tokio::test]
    async fn a_drained_queue_goes_on_and_ends_with_its_sender() {
        let (sender, mut stream) = event_queue(Backlog::default());
        for _ in 0..1000 {
            sender.send(text(1 << 16)).unwrap();
            stream.next().await.unwrap().unwrap();
        }
        drop(sender);
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_dropped_stream_is_noticed() {
        let (sender, stream) = event_queue(Backlog::default());
        let gone = sender.gone();
        assert!(gone.cancelled().now_or_never().is_none());
        drop(stream);
        gone.cancelled().await;
    }
}
