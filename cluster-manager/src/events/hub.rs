//! The hub: one task that takes events in, one after the other, and a handle for those who call it.
//!
//! The task waits for the store (as long as [`Journal`] does) but never for an endpoint or a watcher.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_proto::{
    events::WebhookDocument,
    ids::{ServiceId, WebhookId, WorkerId},
    v1,
};
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    documents::Documents,
    event::{Draft, Event, EventId, UnixMillis},
    ids::EventIds,
    journal::{Chunk, Journal, Legacy, Records},
    log::EventLog,
    publishers::Publishers,
    settings::EventSettings,
    watchers::{TooManyWatchers, Watch, Watchers},
    webhook::{Attempt, Deliveries, Hook, Outcome, Output, Record, Sender, WebhookKey},
};
use crate::store::{Store, StoreError};

/// Calls that wait for the hub; callers wait beyond it.
const MAX_CALLS: usize = 1024;
/// Calls that are taken together, so that they share the cost of a write.
const CALLS_AT_ONCE: usize = 64;
/// Outcomes that wait for the hub; attempts wait beyond it, each webhook for itself.
const MAX_OUTCOMES: usize = 1024;
/// How often it is written down how far webhooks are: what was delivered since is delivered again after the hub was killed.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);
/// How often all webhooks are read, in case that word of a change did not arrive.
const READ_INTERVAL: Duration = Duration::from_secs(60);
/// At the end, attempts under way get so long.
const LAST_ATTEMPTS: Duration = Duration::from_millis(800);

/// What the hub is asked.
enum Call {
    Publish(Publication),
    Changed { key: WebhookKey, done: oneshot::Sender<Result<(), StoreError>> },
    Status { service: ServiceId, reply: oneshot::Sender<Vec<v1::WebhookStatus>> },
}

/// Events of one publisher.
struct Publication {
    publisher: WorkerId,
    first_seq: u64,
    events: Vec<Option<Draft>>,
    done: oneshot::Sender<()>,
}

/// The hub has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hub of events has stopped")]
pub(crate) struct Stopped;

/// See the module's description; cheap to clone. All calls may be cancelled; what was asked is done all the same or not at all.
#[derive(Clone)]
pub(crate) struct Hub {
    calls: mpsc::Sender<Call>,
    watchers: Arc<Mutex<Watchers>>,
}

impl Hub {
    /// Takes events in, the first of which has this number of its publisher; `None` stands for one that is none. Ready when they are
    /// written down, as far as somebody waits for them.
    pub(crate) async fn publish(
        &self,
        publisher: WorkerId,
        first_seq: u64,
        events: Vec<Option<Draft>>,
    ) -> Result<(), Stopped> {
        self.ask(|done| Call::Publish(Publication { publisher, first_seq, events, done })).await
    }

    /// Reads a webhook again.
    pub(crate) async fn changed(&self, key: WebhookKey) -> Result<Result<(), StoreError>, Stopped> {
        self.ask(|done| Call::Changed { key, done }).await
    }

    /// How the deliveries of a service's webhooks go.
    pub(crate) async fn status(&self, service: ServiceId) -> Result<Vec<v1::WebhookStatus>, Stopped> {
        self.ask(|reply| Call::Status { service, reply }).await
    }

    /// Begins a watch; see [`Watchers::watch`].
    pub(crate) fn watch(
        &self,
        service: Option<ServiceId>,
        after: Option<EventId>,
    ) -> Result<Watch, TooManyWatchers> {
        self.watchers.lock().watch(service, after)
    }

    async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, Stopped> {
        let (reply, replied) = oneshot::channel();
        self.calls.send(call(reply)).await.map_err(|_| Stopped)?;
        replied.await.map_err(|_| Stopped)
    }
}

/// What came of the attempt at an event.
type Done = (WebhookKey, EventId, Outcome);

struct Task {
    calls: mpsc::Receiver<Call>,
    outcomes: mpsc::Receiver<Done>,
    outcomes_to: mpsc::Sender<Done>,
    attempts: usize,
    watchers: Arc<Mutex<Watchers>>,
    ids: EventIds,
    publishers: Publishers,
    deliveries: Deliveries,
    journal: Journal,
    documents: Documents,
    sender: Sender,
}

/// Starts the hub on what a predecessor has left. The task ends after `stop`.
///
/// # Errors
/// If the store can't be read.
pub(crate) async fn start(
    store: Arc<dyn Store>,
    settings: EventSettings,
    sender: Sender,
    stop: CancellationToken,
) -> Result<(Hub, JoinHandle<()>), StoreError> {
    let (journal, legacy) = Journal::open(store.clone()).await?;
    let documents = Documents::new(store);
    let ids = EventIds::after(legacy.reserved, UnixMillis::now());
    let watchers = Arc::new(Mutex::new(Watchers::new(EventLog::new(settings.kept, ids.last()))));
    let (calls_to, calls) = mpsc::channel(MAX_CALLS);
    let (outcomes_to, outcomes) = mpsc::channel(MAX_OUTCOMES);
    let mut task = Task {
        calls,
        outcomes,
        outcomes_to,
        attempts: 0,
        watchers: watchers.clone(),
        ids,
        publishers: Publishers::default(),
        deliveries: Deliveries::new(settings.queue_limits(), EventSettings::backoff(), rand::random()),
        journal,
        documents,
        sender,
    };
    task.take_over(legacy).await?;
    Ok((Hub { calls: calls_to, watchers }, tokio::spawn(task.run(stop))))
}

impl Task {
    async fn run(mut self, stop: CancellationToken) {
        let mut record = tokio::time::interval(RECORD_INTERVAL);
        let mut read = tokio::time::interval(READ_INTERVAL);
        for interval in [&mut record, &mut read] {
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        }
        self.perform().await;
        loop {
            let deadline = self.deliveries.next_deadline().map(tokio::time::Instant::from_std);
            let timeout = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                Some(done) = self.outcomes.recv() => self.finish(done),
                Some(call) = self.calls.recv() => self.take(call).await,
                () = timeout => self.deliveries.handle_timeout(Instant::now()),
                _ = record.tick() => self.record().await,
                _ = read.tick() => self.read().await,
            }
            self.perform().await;
        }
        self.watchers.lock().stop();
        self.calls.close();
        let last_attempts = async {
            while self.attempts > 0
                && let Some(done) = self.outcomes.recv().await
            {
                self.finish(done);
            }
        };
        if tokio::time::timeout(LAST_ATTEMPTS, last_attempts).await.is_err() {
            tracing::info!(attempts = self.attempts, "attempts under way will be made again");
        }
        self.record().await;
    }

    /// What a predecessor has left: webhooks, how far they are, and events that still wait.
    async fn take_over(&mut self, mut legacy: Legacy) -> Result<(), StoreError> {
        let (now, time) = (Instant::now(), UnixMillis::now());
        for document in self.documents.all().await? {
            let key = WebhookDocument::key(&document.service, &document.id);
            // One that is new has nothing to do with what was before it.
            let unknown = || Record { done: document.created.saturating_mul(1000), ..Record::default() };
            let record = legacy.records.remove(&key).unwrap_or_else(unknown);
            self.configure(document, record, now);
        }
        for (chunk, taken) in legacy.chunks {
            if let Ok(publisher) = WorkerId::new(&taken.publisher) {
                self.publishers.take(&publisher, taken.first_seq, taken.events.len(), now);
            }
            for event in taken.events {
                let id = EventId(event.id);
                let Ok(draft) = Draft::try_from(event) else { continue };
                let event = Arc::new(Event::new(id, draft));
                let age = Duration::from_millis(time.0.saturating_sub(id.taken().0));
                self.deliveries.offer(&event, Some(&chunk), age, now);
            }
        }
        let waiting = self.deliveries.queued();
        if waiting > 0 {
            tracing::info!(waiting, "events wait for webhooks from before");
        }
        Ok(())
    }

    async fn take(&mut self, call: Call) {
        let mut publications = Vec::new();
        let mut next = Some(call);
        while let Some(call) = next.take() {
            match call {
                Call::Publish(publication) => {
                    publications.push(publication);
                    if publications.len() < CALLS_AT_ONCE {
                        next = self.calls.try_recv().ok();
                    }
                }
                // What was published before comes before.
                Call::Changed { key, done } => {
                    self.publish(std::mem::take(&mut publications)).await;
                    let _: Result<_, _> = done.send(self.changed(key).await);
                }
                Call::Status { service, reply } => {
                    self.publish(std::mem::take(&mut publications)).await;
                    let _: Result<_, _> = reply.send(self.status(&service));
                }
            }
        }
        self.publish(publications).await;
    }

    async fn publish(&mut self, publications: Vec<Publication>) {
        let (now, time) = (Instant::now(), UnixMillis::now());
        let count = publications.iter().map(|publication| publication.events.len()).sum();
        if count == 0 {
            return;
        }
        if let Some(up_to) = self.ids.reserve(count, time)
            && let Err(error) = self.journal.reserve(up_to).await
        {
            // Only a clock that is set back before the next start would make numbers come again.
            tracing::warn!(%error, "the numbers of events are not reserved");
        }
        let mut taken = Vec::new();
        let mut answers = Vec::new();
        for Publication { publisher, first_seq, events, done } in publications {
            let known = self.publishers.take(&publisher, first_seq, events.len(), now);
            let fresh = events.into_iter().skip(known).flatten();
            let events: Vec<Arc<Event>> =
                fresh.map(|draft| Event::new(self.ids.next(time), draft).into()).collect();
            taken.push(Taken { publisher, first_seq: first_seq + known as u64, events, chunk: None });
            answers.push(done);
        }
        self.keep(&mut taken).await;
        for Taken { events, chunk, .. } in &taken {
            for event in events {
                metrics::counter!("kaigi_events_total", "type" => label(event.kind())).increment(1);
                if event.kind() != kaigi_proto::events::EventType::Ping.as_str() {
                    self.watchers.lock().tell(event);
                }
                self.deliveries.offer(event, chunk.as_ref(), Duration::ZERO, now);
            }
        }
        for done in answers {
            // A publisher that has gone away does not need an answer.
            let _: Result<_, _> = done.send(());
        }
    }

    /// Writes down what a webhook waits for. If that fails it is delivered from memory.
    async fn keep(&mut self, taken: &mut [Taken]) {
        let mut wanted: Vec<&mut Taken> = taken
            .iter_mut()
            .filter(|taken| taken.events.iter().any(|e| self.deliveries.is_wanted(e)))
            .collect();
        if wanted.is_empty() {
            return;
        }
        let kept = self.journal.keep(wanted.iter().map(|taken| taken.to_wire()).collect()).await;
        for (taken, kept) in wanted.iter_mut().zip(kept) {
            match kept {
                Ok(chunk) => taken.chunk = Some(chunk),
                Err(error) => {
                    metrics::counter!("kaigi_events_not_kept_total").increment(taken.events.len() as u64);
                    tracing::warn!(%error, "events for webhooks are in memory only");
                }
            }
        }
    }

    async fn changed(&mut self, key: WebhookKey) -> Result<(), StoreError> {
        match self.documents.get(&key).await? {
            Some(document) => self.configure(document, self.fresh(), Instant::now()),
            None => self.deliveries.remove(&key),
        }
        Ok(())
    }

    /// How far a webhook is that begins now.
    fn fresh(&self) -> Record {
        Record { done: self.ids.last().0, ..Record::default() }
    }

    fn configure(&mut self, document: WebhookDocument, record: Record, now: Instant) {
        let (service, webhook) = (document.service.clone(), document.id.clone());
        if let Err(error) = self.deliveries.configure(document, record, now) {
            tracing::error!(%service, %webhook, %error, "webhook not served");
        }
    }

    async fn read(&mut self) {
        match self.documents.all().await {
            Ok(documents) => {
                let now = Instant::now();
                let mut gone = self.deliveries.keys();
                for document in documents {
                    gone.retain(|(service, id)| *service != document.service || *id != document.id);
                    self.configure(document, self.fresh(), now);
                }
                gone.iter().for_each(|key| self.deliveries.remove(key));
            }
            Err(error) => tracing::warn!(%error, "webhooks not read"),
        }
    }

    fn status(&self, service: &ServiceId) -> Vec<v1::WebhookStatus> {
        let (now, time) = (Instant::now(), UnixMillis::now());
        let of = |(id, hook): (&WebhookId, &Hook)| {
            let record = hook.record();
            let pause = hook.paused_until().map(|until| until.saturating_duration_since(now));
            v1::WebhookStatus {
                webhook_id: id.to_string(),
                queued: u32::try_from(hook.queued()).unwrap_or(u32::MAX),
                delivered: record.delivered,
                lost: record.lost,
                failures: record.failures,
                last_error: record.last_error.clone(),
                last_success_ms: record.last_success,
                next_try_ms: pause.map_or(0, |pause| time.0 + u64::try_from(pause.as_millis()).unwrap_or(0)),
            }
        };
        self.deliveries.of_service(service).map(of).collect()
    }

    fn finish(&mut self, (key, event, outcome): Done) {
        self.attempts -= 1;
        let label = match &outcome {
            Outcome::Delivered => "delivered",
            Outcome::Gone => "gone",
            Outcome::Failed { reason, .. } => {
                tracing::debug!(service = %key.0, webhook = %key.1, event = event.0, reason, "webhook not delivered");
                "failed"
            }
        };
        metrics::counter!("kaigi_webhook_attempts_total", "outcome" => label).increment(1);
        self.deliveries.finish(&key, event, outcome, (Instant::now(), UnixMillis::now()));
    }

    /// Does what the deliveries say.
    async fn perform(&mut self) {
        while let Some(output) = self.deliveries.poll_output() {
            match output {
                Output::Attempt(attempt) => self.attempt(attempt),
                Output::Lost { key, events } => {
                    metrics::counter!("kaigi_webhook_lost_total").increment(events);
                    tracing::warn!(service = %key.0, webhook = %key.1, events, "events for a webhook are lost");
                }
                Output::Deactivate(key) => {
                    tracing::warn!(service = %key.0, webhook = %key.1, "webhook ended by its endpoint");
                    if let Err(error) = self.documents.deactivate(&key, "status 410").await {
                        tracing::warn!(service = %key.0, webhook = %key.1, %error, "the webhook's end is not written down");
                    }
                }
            }
        }
    }

    fn attempt(&mut self, attempt: Attempt) {
        self.attempts += 1;
        let (sender, outcomes) = (self.sender.clone(), self.outcomes_to.clone());
        let (key, event) = (attempt.key.clone(), attempt.event.id());
        tokio::spawn(async move {
            let sent = tokio::spawn(async move { sender.send(&attempt, UnixMillis::now()).await }).await;
            let failed = |_| Outcome::Failed { reason: "internal error".to_owned(), retry_after: None };
            // An error means that the hub has stopped.
            let _: Result<_, _> = outcomes.send((key, event, sent.unwrap_or_else(failed))).await;
        });
    }

    /// Writes down how far webhooks are, and removes what is over.
    async fn record(&mut self) {
        metrics::gauge!("kaigi_webhook_queued").set(self.deliveries.queued() as f64);
        if self.deliveries.is_changed() {
            let records = self.deliveries.records();
            let records: Records =
                records.map(|(s, w, record)| (WebhookDocument::key(s, w), record.clone())).collect();
            match self.journal.record(&records).await {
                Ok(()) => self.deliveries.recorded(),
                Err(error) => tracing::warn!(%error, "how far webhooks are is not written down"),
            }
        }
        self.journal.sweep().await;
    }
}

/// Events of one call.
struct Taken {
    publisher: WorkerId,
    first_seq: u64,
    events: Vec<Arc<Event>>,
    chunk: Option<Arc<Chunk>>,
}

impl Taken {
    fn to_wire(&self) -> v1::PublishEventsRequest {
        v1::PublishEventsRequest {
            publisher: self.publisher.to_string(),
            first_seq: self.first_seq,
            events: self.events.iter().map(|event| event.wire().clone()).collect(),
        }
    }
}

/// An event's type as a metric's label; what this version does not know has one label for all.
fn label(kind: &str) -> &'static str {
    kaigi_proto::events::EventType::named(kind).map_or("other", |kind| kind.as_str())
}
