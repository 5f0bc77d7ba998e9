//! The deliveries of all webhooks. Pure: events, changes, outcomes and the time go in; attempts and the next deadline come out.
//!
//! Each webhook has a queue of its own and one attempt at a time, so that its events arrive in order and nobody waits for another's
//! endpoint.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_proto::{
    events::{EventType, WebhookDocument},
    ids::{ServiceId, WebhookId},
};
use rand::{SeedableRng, rngs::StdRng};

use super::{
    super::{
        event::{Event, EventId, UnixMillis},
        journal::Chunk,
    },
    backoff::{Backoff, Jitter},
    hook::{Hook, Item, Outcome, QueueLimits, Record},
};

/// Most webhooks of all services together. Each costs a connection while it is told something.
pub(crate) const MAX_WEBHOOKS: usize = 4096;
/// How long after it has happened an event is given up.
pub(crate) const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Names a webhook.
pub(crate) type WebhookKey = (ServiceId, WebhookId);

/// One request to an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) key: WebhookKey,
    pub(crate) document: Arc<WebhookDocument>,
    pub(crate) event: Arc<Event>,
}

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    /// To be answered by [`Deliveries::finish`].
    Attempt(Attempt),
    /// The endpoint said that it is gone for good.
    Deactivate(WebhookKey),
    /// So many events will not be delivered.
    Lost { key: WebhookKey, events: u64 },
}

/// There are as many webhooks as there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are {MAX_WEBHOOKS} webhooks already")]
pub(crate) struct TooManyWebhooks;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Deliveries {
    hooks: BTreeMap<ServiceId, BTreeMap<WebhookId, Hook>>,
    count: usize,
    /// Those that hear of all services.
    of_all: BTreeSet<WebhookKey>,
    /// When which is tried again.
    pauses: BTreeSet<(Instant, WebhookKey)>,
    outputs: VecDeque<Output>,
    limits: QueueLimits,
    backoff: Backoff,
    rng: StdRng,
    /// Something that is worth keeping over a restart has changed.
    changed: bool,
}

impl Deliveries {
    pub(crate) fn new(limits: QueueLimits, backoff: Backoff, seed: u64) -> Self {
        Self {
            hooks: BTreeMap::new(),
            count: 0,
            of_all: BTreeSet::new(),
            pauses: BTreeSet::new(),
            outputs: VecDeque::new(),
            limits,
            backoff,
            rng: StdRng::seed_from_u64(seed),
            changed: false,
        }
    }

    /// A webhook is new or changed. `record`: how far a new one is, as far as it is known.
    ///
    /// # Errors
    /// If there are too many.
    pub(crate) fn configure(
        &mut self,
        document: WebhookDocument,
        record: Record,
        now: Instant,
    ) -> Result<(), TooManyWebhooks> {
        let key = (document.service.clone(), document.id.clone());
        if self.hook(&key).is_some_and(|hook| **hook.document() == document) {
            return Ok(());
        }
        if document.all_services {
            self.of_all.insert(key.clone());
        } else {
            self.of_all.remove(&key);
        }
        if let Some(hook) = self.hook_mut(&key) {
            let paused = hook.paused_until();
            let lost = hook.configure(Arc::new(document));
            self.unpause(&key, paused);
            self.lost(&key, lost);
        } else if self.count < MAX_WEBHOOKS {
            let hook = Hook::new(Arc::new(document), record);
            self.hooks.entry(key.0.clone()).or_default().insert(key.1.clone(), hook);
            self.count += 1;
        } else {
            self.of_all.remove(&key);
            return Err(TooManyWebhooks);
        }
        self.changed = true;
        self.advance(&key, now);
        Ok(())
    }

    /// A webhook is gone, with what waits for it.
    pub(crate) fn remove(&mut self, key: &WebhookKey) {
        let Some(of_service) = self.hooks.get_mut(&key.0) else { return };
        let Some(hook) = of_service.remove(&key.1) else { return };
        if of_service.is_empty() {
            self.hooks.remove(&key.0);
        }
        self.count -= 1;
        self.of_all.remove(key);
        if let Some(until) = hook.paused_until() {
            self.pauses.remove(&(until, key.clone()));
        }
        self.changed = true;
    }

    /// All that there are.
    pub(crate) fn keys(&self) -> Vec<WebhookKey> {
        let of = |(service, hooks): (&ServiceId, &BTreeMap<WebhookId, Hook>)| {
            hooks.keys().map(|id| (service.clone(), id.clone())).collect::<Vec<_>>()
        };
        self.hooks.iter().flat_map(of).collect()
    }

    /// Whether anybody is to be told of an event.
    pub(crate) fn is_wanted(&self, event: &Event) -> bool {
        !self.takers(event).is_empty()
    }

    /// An event has happened; `age` ago, if it is of a predecessor. Whoever is done with it does not get it again.
    pub(crate) fn offer(
        &mut self,
        event: &Arc<Event>,
        kept: Option<&Arc<Chunk>>,
        age: Duration,
        now: Instant,
    ) {
        let expires = now + GIVE_UP_AFTER.saturating_sub(age);
        let limits = self.limits;
        for key in self.takers(event) {
            let Some(hook) = self.hook_mut(&key).filter(|hook| hook.record().done < event.id().0) else {
                continue;
            };
            let lost = hook.push(Item { event: event.clone(), kept: kept.cloned(), expires }, limits);
            self.lost(&key, lost);
            self.advance(&key, now);
        }
    }

    /// What came of an attempt.
    pub(crate) fn finish(
        &mut self,
        key: &WebhookKey,
        event: EventId,
        outcome: Outcome,
        now: (Instant, UnixMillis),
    ) {
        let gone = outcome == Outcome::Gone;
        let (backoff, jitter) = (self.backoff, Jitter::random(&mut self.rng));
        let Some(hook) = self.hook_mut(key) else { return };
        let pause = |failures, retry_after| backoff.pause(failures, retry_after, jitter);
        let lost = hook.finish(event, outcome, pause, now);
        let paused = hook.paused_until();
        if let Some(until) = paused {
            self.pauses.insert((until, key.clone()));
        }
        self.lost(key, lost);
        if gone {
            self.outputs.push_back(Output::Deactivate(key.clone()));
        }
        self.changed = true;
        self.advance(key, now.0);
    }

    /// Lets time pass. Call it at [`Self::next_deadline`].
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((until, _)) = self.pauses.first()
            && *until <= now
            && let Some((_, key)) = self.pauses.pop_first()
        {
            self.advance(&key, now);
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.pauses.first().map(|(until, _)| *until)
    }

    /// The next thing to do.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Those of one service.
    pub(crate) fn of_service(&self, service: &ServiceId) -> impl Iterator<Item = (&WebhookId, &Hook)> {
        self.hooks.get(service).into_iter().flatten()
    }

    /// All, with how far they are.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&ServiceId, &WebhookId, &Record)> {
        self.hooks
            .iter()
            .flat_map(|(service, hooks)| hooks.iter().map(move |(id, hook)| (service, id, hook.record())))
    }

    /// Events that wait, of all together.
    pub(crate) fn queued(&self) -> usize {
        self.hooks.values().flat_map(BTreeMap::values).map(Hook::queued).sum()
    }

    /// Whether a record has changed since [`Self::recorded`].
    pub(crate) fn is_changed(&self) -> bool {
        self.changed
    }

    /// The records are written down.
    pub(crate) fn recorded(&mut self) {
        self.changed = false;
    }

    /// Whom an event concerns. A ping goes to the one that it names.
    fn takers(&self, event: &Event) -> Vec<WebhookKey> {
        let service = event.service();
        if event.kind() == EventType::Ping.as_str() {
            let data: serde_json::Value = serde_json::from_str(&event.wire().data).unwrap_or_default();
            let named = data["webhook"].as_str().and_then(|id| WebhookId::new(id).ok());
            let key = named.map(|id| (service.clone(), id));
            return key
                .filter(|key| self.hook(key).is_some_and(|hook| hook.document().active))
                .into_iter()
                .collect();
        }
        let own =
            self.of_service(service).filter(|(_, hook)| !hook.document().all_services && hook.wants(event));
        let own = own.map(|(id, _)| (service.clone(), id.clone()));
        let of_all = self.of_all.iter().filter(|key| self.hook(key).is_some_and(|hook| hook.wants(event)));
        own.chain(of_all.cloned()).collect()
    }

    fn hook(&self, key: &WebhookKey) -> Option<&Hook> {
        self.hooks.get(&key.0)?.get(&key.1)
    }

    fn hook_mut(&mut self, key: &WebhookKey) -> Option<&mut Hook> {
        self.hooks.get_mut(&key.0)?.get_mut(&key.1)
    }

    /// Sends the next event, if it is time.
    fn advance(&mut self, key: &WebhookKey, now: Instant) {
        let Some(hook) = self.hook_mut(key) else { return };
        let paused = hook.paused_until();
        let (event, lost) = hook.begin(now);
        let attempt =
            event.map(|event| Attempt { key: key.clone(), document: hook.document().clone(), event });
        self.unpause(key, paused);
        self.lost(key, lost);
        self.outputs.extend(attempt.map(Output::Attempt));
    }

    /// Forgets a pause that is over.
    fn unpause(&mut self, key: &WebhookKey, before: Option<Instant>) {
        if let Some(until) = before
            && self.hook(key).and_then(Hook::paused_until) != before
        {
            self.pauses.remove(&(until, key.clone()));
        }
    }

    fn lost(&mut self, key: &WebhookKey, events: u64) {
        if events > 0 {
            self.changed = true;
            self.outputs.push_back(Output::Lost { key: key.clone(), events });
        }
    }
}

#[cfg(test)]
mod tests;
