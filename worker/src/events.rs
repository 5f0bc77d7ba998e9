//! What happens in a process, on its way to the hub of events in the cluster-manager.
//!
//! [`EventQueue::push`] never waits. [`EventPublisher::run`] publishes in order and in batches, tries again while the cluster-manager is
//! away, and numbers events so that what is published again is not taken again.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kaigi_proto::{
    events::{EventType, MAX_BATCH, MAX_DATA, MAX_EVENTS},
    ids::WorkerId,
    v1::{self, events_client::EventsClient},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::Channel;

/// Most events that wait while the cluster-manager is away; with more, the oldest are lost.
const MAX_WAITING: usize = 10_000;
/// Most bytes that wait, whatever their number.
const MAX_WAITING_BYTES: usize = 64 << 20;
/// Longest wait for an answer of the cluster-manager, which waits for its store.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// First and longest pause between attempts to reach a cluster-manager that does not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// At the end, what still waits gets so long.
const LAST_CALLS: Duration = Duration::from_millis(400);

/// Where events wait for the hub; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct EventQueue(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    queue: Mutex<Queue>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    events: VecDeque<v1::Event>,
    bytes: usize,
}

impl EventQueue {
    /// Puts an event at the end. `data`: a JSON object as text. The event is lost if it is too large, the oldest one if too many wait.
    pub fn push(&self, kind: EventType, service: &str, room: &str, data: String) {
        if data.len() > MAX_DATA {
            metrics::counter!("kaigi_events_lost_total", "why" => "too_large").increment(1);
            tracing::warn!(kind = kind.as_str(), room, bytes = data.len(), "an event is too large");
            return;
        }
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let event = v1::Event {
            id: 0,
            service_id: service.to_owned(),
            room_id: room.to_owned(),
            r#type: kind.as_str().to_owned(),
            time_ms: u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
            data,
        };
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.bytes += size(&event);
        queue.events.push_back(event);
        let mut lost = 0;
        while queue.events.len() > MAX_WAITING || queue.bytes > MAX_WAITING_BYTES {
            queue.take();
            lost += 1;
        }
        drop(queue);
        if lost > 0 {
            metrics::counter!("kaigi_events_lost_total", "why" => "pushed_out").increment(lost);
        }
        self.0.news.notify_one();
    }

    /// The next events, at least one: as many as one call may bring. Cancellation safe.
    async fn next(&self) -> Vec<v1::Event> {
        loop {
            let batch = self.take();
            if !batch.is_empty() {
                return batch;
            }
            self.0.news.notified().await;
        }
    }

    fn take(&self) -> Vec<v1::Event> {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(event) = queue.events.front()
            && batch.len() < MAX_EVENTS
            && bytes + event.data.len() <= MAX_BATCH
        {
            bytes += event.data.len();
            batch.extend(queue.take());
        }
        batch
    }
}

impl Queue {
    fn take(&mut self) -> Option<v1::Event> {
        let event = self.events.pop_front()?;
        self.bytes -= size(&event);
        Some(event)
    }
}

fn size(event: &v1::Event) -> usize {
    size_of::<v1::Event>() + event.service_id.len() + event.room_id.len() + event.data.len()
}

/// Brings the events of a queue to the hub.
#[derive(Debug)]
pub struct EventPublisher {
    /// The events.
    pub queue: EventQueue,
    /// The cluster-manager.
    pub hub: EventsClient<Channel>,
    /// This process.
    pub publisher: WorkerId,
}

impl EventPublisher {
    /// Publishes until `stop` is cancelled, then for a moment what still waits.
    pub async fn run(mut self, stop: CancellationToken) {
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_CALLS).await;
        };
        let all = async {
            let (queue, mut first_seq) = (self.queue.clone(), 1);
            loop {
                let events = tokio::select! {
                    events = queue.next() => events,
                    () = stop.cancelled() => queue.take(),
                };
                if events.is_empty() {
                    return;
                }
                let count = events.len() as u64;
                self.publish(first_seq, events).await;
                first_seq += count;
            }
        };
        tokio::select! {
            () = all => {}
            () = late => tracing::warn!("some events were not published"),
        }
    }

    /// Publishes some events, however long that takes.
    async fn publish(&mut self, first_seq: u64, events: Vec<v1::Event>) {
        let message = v1::PublishEventsRequest { publisher: self.publisher.to_string(), first_seq, events };
        let mut pause = RETRY.0;
        loop {
            let mut request = tonic::Request::new(message.clone());
            request.set_timeout(CALL_TIMEOUT);
            let call = tokio::time::timeout(CALL_TIMEOUT, self.hub.publish(request)).await;
            match call.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer in time"))) {
                Ok(_) => return,
                Err(status) if status.code() == Code::InvalidArgument => {
                    metrics::counter!("kaigi_events_lost_total", "why" => "refused")
                        .increment(message.events.len() as u64);
                    tracing::error!(%status, "events are refused");
                    return;
                }
                Err(status) => tracing::debug!(%status, "events not published, trying again"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY.1);
        }
    }
}

#[cfg(test)]
mod tests;
