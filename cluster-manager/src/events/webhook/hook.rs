//! One webhook: what waits for it, and how its deliveries go. Pure; the time is an argument.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_proto::events::WebhookDocument;

use super::super::{
    event::{Event, EventId, UnixMillis},
    journal::Chunk,
};

/// What an event waits for a webhook with.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) event: Arc<Event>,
    /// Where it is written down, as long as anybody waits for it.
    #[expect(dead_code, reason = "held so that the journal keeps it")]
    pub(crate) kept: Option<Arc<Chunk>>,
    /// When it is given up.
    pub(crate) expires: Instant,
}

/// What may wait for one webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueLimits {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A status of 200 to 299.
    Delivered,
    /// The status 410: never again.
    Gone,
    /// Anything else.
    Failed { reason: String, retry_after: Option<Duration> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// May send.
    Ready,
    /// An attempt at the first of the queue is under way.
    Sending,
    /// The next attempt is due then.
    Pausing(Instant),
}

/// What an endpoint has done so far. Part of the stored format.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Record {
    /// The last event that is over, delivered or not.
    pub(crate) done: u64,
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    /// In a row.
    pub(crate) failures: u32,
    pub(crate) last_error: String,
    /// Unix ms; 0 = never.
    pub(crate) last_success: u64,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Hook {
    document: Arc<WebhookDocument>,
    record: Record,
    queue: VecDeque<Item>,
    bytes: usize,
    state: State,
}

impl Hook {
    /// A webhook for which nothing waits yet.
    pub(crate) fn new(document: Arc<WebhookDocument>, record: Record) -> Self {
        Self { document, record, queue: VecDeque::new(), bytes: 0, state: State::Ready }
    }

    pub(crate) fn document(&self) -> &Arc<WebhookDocument> {
        &self.document
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// When it will be tried again, if it is paused.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        match self.state {
            State::Pausing(until) => Some(until),
            State::Ready | State::Sending => None,
        }
    }

    /// Whether it is to be told of an event of a service that it hears of.
    pub(crate) fn wants(&self, event: &Event) -> bool {
        self.document.active && self.document.events.lets_through(event.kind())
    }

    /// Takes a changed document; how many events nobody waits for any more. Another address, or a webhook that is active again, is
    /// tried at once.
    pub(crate) fn configure(&mut self, document: Arc<WebhookDocument>) -> u64 {
        let another = document.url != self.document.url || document.active && !self.document.active;
        self.document = document;
        if another && self.state != State::Sending {
            self.state = State::Ready;
            self.record.failures = 0;
        }
        if self.document.active { 0 } else { self.discard() }
    }

    /// Puts an event at the end of the queue; how many were pushed out of it. The first is safe while it is being sent.
    pub(crate) fn push(&mut self, item: Item, limits: QueueLimits) -> u64 {
        self.bytes += item.event.size();
        self.queue.push_back(item);
        let first = usize::from(self.state == State::Sending);
        let mut lost = 0;
        while (self.queue.len() > limits.events || self.bytes > limits.bytes) && self.queue.len() > first + 1
        {
            if let Some(oldest) = self.queue.remove(first) {
                self.over(&oldest);
                lost += 1;
            }
        }
        self.record.lost += lost;
        lost
    }

    /// The event to send now, if it is time and there is one. What is too old is given up before; how much comes second.
    pub(crate) fn begin(&mut self, now: Instant) -> (Option<Arc<Event>>, u64) {
        let ready = match self.state {
            State::Ready => true,
            State::Pausing(until) => until <= now,
            State::Sending => false,
        };
        if !ready {
            return (None, 0);
        }
        let mut lost = 0;
        while let Some(first) = self.queue.front()
            && first.expires <= now
            && let Some(first) = self.queue.pop_front()
        {
            self.over(&first);
            lost += 1;
        }
        self.record.lost += lost;
        let event = self.queue.front().map(|item| item.event.clone());
        self.state = if event.is_some() { State::Sending } else { State::Ready };
        (event, lost)
    }

    /// The attempt at that event is over; how many events are lost by that. `pause`: how long to wait after a failure.
    pub(crate) fn finish(
        &mut self,
        event: EventId,
        outcome: Outcome,
        pause: impl FnOnce(u32, Option<Duration>) -> Duration,
        (now, time): (Instant, UnixMillis),
    ) -> u64 {
        if self.state != State::Sending {
            return 0;
        }
        self.state = State::Ready;
        match outcome {
            Outcome::Delivered => {
                self.record.delivered += 1;
                self.record.failures = 0;
                self.record.last_error.clear();
                self.record.last_success = time.0;
                if self.queue.front().is_some_and(|item| item.event.id() == event)
                    && let Some(item) = self.queue.pop_front()
                {
                    self.over(&item);
                }
                0
            }
            Outcome::Gone => {
                self.record.failures = self.record.failures.saturating_add(1);
                self.record.last_error = "status 410".to_owned();
                let mut document = WebhookDocument::clone(&self.document);
                document.active = false;
                self.document = Arc::new(document);
                self.discard()
            }
            Outcome::Failed { reason, retry_after } => {
                self.record.failures = self.record.failures.saturating_add(1);
                self.record.last_error = reason;
                self.state = State::Pausing(now + pause(self.record.failures, retry_after));
                0
            }
        }
    }

    /// Nobody waits for what is queued.
    fn discard(&mut self) -> u64 {
        let lost = self.queue.len() as u64;
        if let Some(last) = self.queue.back() {
            self.record.done = self.record.done.max(last.event.id().0);
        }
        self.queue.clear();
        self.bytes = 0;
        self.record.lost += lost;
        lost
    }

    fn over(&mut self, item: &Item) {
        self.bytes -= item.event.size();
        self.record.done = self.record.done.max(item.event.id().0);
    }
}
