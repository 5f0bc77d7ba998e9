//! The registry shared between calls, with those who watch it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_proto::ids::WorkerId;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::registry::{
    Event, Liveness, Measured, Preference, Purpose, Registry, ScheduleError, TaskId, TooManyWorkers,
    UnknownWorker, Worker,
};

/// Events that a watcher may be behind before its watch is ended. A whole cluster of this size may come up or die at once.
const WATCH_BUFFER: usize = 1024;
/// Most watchers at a time; a cluster has one or two per process.
const MAX_WATCHERS: usize = 10_000;
/// Ticks per lease: a death is noticed at most this fraction of a lease late.
const TICKS_PER_LEASE: u32 = 10;
/// Longest wait for a worker that a predecessor knew to be heard of, which they are six times per lease; below the time after which callers
/// give up.
const HEARD: Duration = Duration::from_millis(1500);

/// The limit on watchers is reached.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("there are {MAX_WATCHERS} watchers already")]
pub struct TooManyWatchers;

/// A watch: those alive when it began, and what changes from then on. The changes end if the watcher is too slow, or this
/// process stops.
#[derive(Debug)]
pub struct Watch {
    /// Alive at the beginning.
    pub alive: Vec<Worker>,
    /// Changes since.
    pub changes: mpsc::Receiver<Event>,
}

struct State {
    registry: Registry,
    watchers: Vec<mpsc::Sender<Event>>,
}

/// See the module's description. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    state: Arc<Mutex<State>>,
    /// Counts the changes of anybody's liveness.
    liveness: Arc<watch::Sender<u64>>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl Hub {
    /// Shares that registry.
    #[must_use]
    pub fn new(registry: Registry) -> Self {
        let state = State { registry, watchers: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)), liveness: Arc::new(watch::Sender::new(0)) }
    }

    /// Lets time pass for the registry until `stop`; then ends all watches.
    pub async fn run(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(self.lease() / TICKS_PER_LEASE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => break,
            }
            let mut state = self.state.lock();
            let events = state.registry.tick(Instant::now());
            for event in &events {
                self.lost(event);
            }
            self.publish(&mut state, events);
        }
        self.state.lock().watchers.clear();
        // Another may count them from now on.
        for purpose in Purpose::ALL {
            metrics::gauge!("kaigi_cluster_workers", "purpose" => purpose.name()).set(0.0);
        }
    }

    /// The registry's lease.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.state.lock().registry.lease()
    }

    /// See [`Registry::register`].
    ///
    /// # Errors
    /// If there are too many workers.
    pub fn register(&self, worker: Worker) -> Result<(), TooManyWorkers> {
        let mut state = self.state.lock();
        let events = state.registry.register(Instant::now(), worker)?;
        for event in &events {
            match event {
                Event::Joined(worker) => {
                    tracing::info!(worker = %worker.id, endpoint = worker.endpoint, draining = worker.draining, "worker joined");
                }
                Event::Left(worker) => {
                    tracing::info!(worker = %worker.id, "worker replaced by a new process")
                }
            }
        }
        self.publish(&mut state, events);
        // Even without an event: a worker that was only remembered has now been heard.
        self.liveness.send_modify(|changes| *changes += 1);
        Ok(())
    }

    /// See [`Registry::heartbeat`].
    ///
    /// # Errors
    /// If the worker is not registered.
    pub fn heartbeat(
        &self,
        id: &WorkerId,
        measured: impl Into<Measured>,
        tasks: &[TaskId],
    ) -> Result<(), UnknownWorker> {
        let mut state = self.state.lock();
        let before = state.registry.liveness(id);
        state.registry.heartbeat(Instant::now(), id, measured, tasks)?;
        if before != Liveness::Alive {
            self.liveness.send_modify(|changes| *changes += 1);
        }
        Ok(())
    }

    /// See [`Registry::drain`].
    ///
    /// # Errors
    /// If the worker is not registered.
    pub fn drain(&self, id: &WorkerId) -> Result<(), UnknownWorker> {
        let mut state = self.state.lock();
        if let Some(event) = state.registry.drain(id)? {
            tracing::info!(worker = %id, "worker is to drain");
            self.publish(&mut state, vec![event]);
        }
        Ok(())
    }

    /// Whether that worker is draining, or is to.
    #[must_use]
    pub fn is_draining(&self, id: &WorkerId) -> bool {
        self.state.lock().registry.workers().any(|worker| worker.id == *id && worker.draining)
    }

    /// See [`Registry::leave`].
    pub fn leave(&self, id: &WorkerId) {
        let mut state = self.state.lock();
        if let Some(event) = state.registry.leave(id) {
            tracing::info!(worker = %id, "worker left");
            self.publish(&mut state, vec![event]);
        }
    }

    /// The worker's process is known to be dead: its lease need not be waited for.
    pub fn dead(&self, id: &WorkerId) {
        let mut state = self.state.lock();
        if let Some(event) = state.registry.leave(id) {
            self.lost(&event);
            self.publish(&mut state, vec![event]);
        }
    }

    fn lost(&self, event: &Event) {
        if let Event::Left(worker) = event {
            tracing::warn!(worker = %worker.id, endpoint = worker.endpoint, "worker lost");
            metrics::counter!("kaigi_cluster_workers_lost_total", "purpose" => worker.purpose.name())
                .increment(1);
        }
    }

    /// See [`Registry::schedule`]. While none of that purpose was heard of yet, but some that a predecessor knew may be soon, it waits,
    /// for a while.
    ///
    /// # Errors
    /// See [`ScheduleError`].
    pub async fn schedule_when_heard(
        &self,
        purpose: Purpose,
        task: &TaskId,
        preference: &Preference,
    ) -> Result<Worker, ScheduleError> {
        let mut changes = self.liveness.subscribe();
        let give_up = tokio::time::Instant::now() + HEARD;
        loop {
            let scheduled = self.schedule(purpose, task, preference);
            if !matches!(scheduled, Err(ScheduleError::NoneAlive(_)))
                || !self.state.lock().registry.awaits(purpose)
                || !matches!(tokio::time::timeout_at(give_up, changes.changed()).await, Ok(Ok(())))
            {
                return scheduled;
            }
        }
    }

    /// See [`Registry::schedule`].
    ///
    /// # Errors
    /// See [`ScheduleError`].
    pub fn schedule(
        &self,
        purpose: Purpose,
        task: &TaskId,
        preference: &Preference,
    ) -> Result<Worker, ScheduleError> {
        self.state.lock().registry.schedule(Instant::now(), purpose, task, preference)
    }

    /// See [`Registry::can_fit`].
    ///
    /// # Errors
    /// See [`ScheduleError`].
    pub fn can_fit(&self, purpose: Purpose, preference: &Preference) -> Result<usize, ScheduleError> {
        self.state.lock().registry.can_fit(purpose, preference)
    }

    /// See [`Registry::lookup`].
    #[must_use]
    pub fn lookup(&self, purpose: Purpose, task: &TaskId) -> Option<Worker> {
        self.state.lock().registry.lookup(purpose, task).cloned()
    }

    /// See [`Registry::place`].
    ///
    /// # Errors
    /// If the worker is not registered.
    pub fn place(&self, task: &TaskId, id: &WorkerId) -> Result<(), UnknownWorker> {
        self.state.lock().registry.place(Instant::now(), task, id)
    }

    /// See [`Registry::release`].
    pub fn release(&self, purpose: Purpose, task: &TaskId) {
        self.state.lock().registry.release(purpose, task);
    }

    /// All that are alive, each with the number of its tasks.
    #[must_use]
    pub fn workers(&self) -> Vec<(Worker, usize)> {
        let state = self.state.lock();
        let counted =
            state.registry.workers().map(|worker| (worker.clone(), state.registry.tasks(&worker.id)));
        counted.collect()
    }

    /// What is known of that worker, not [`Liveness::Unheard`]: waits, at most one lease, until it was heard or is gone.
    pub async fn settled_liveness(&self, id: &WorkerId) -> Liveness {
        let mut changes = self.liveness.subscribe();
        loop {
            let liveness = self.state.lock().registry.liveness(id);
            if liveness != Liveness::Unheard || changes.changed().await.is_err() {
                return liveness;
            }
        }
    }

    /// What is known of that worker now.
    #[must_use]
    pub fn liveness(&self, id: &WorkerId) -> Liveness {
        self.state.lock().registry.liveness(id)
    }

    /// Begins a watch.
    ///
    /// # Errors
    /// If there are too many.
    pub fn watch(&self) -> Result<Watch, TooManyWatchers> {
        let mut state = self.state.lock();
        state.watchers.retain(|watcher| !watcher.is_closed());
        if state.watchers.len() >= MAX_WATCHERS {
            return Err(TooManyWatchers);
        }
        let (sender, changes) = mpsc::channel(WATCH_BUFFER);
        state.watchers.push(sender);
        Ok(Watch { alive: state.registry.workers().cloned().collect(), changes })
    }

    /// Never blocks: a watcher without room for an event is ended, and opens a new watch.
    fn publish(&self, state: &mut State, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        for event in events {
            state.watchers.retain(|watcher| watcher.try_send(event.clone()).is_ok());
        }
        for purpose in Purpose::ALL {
            let alive = state.registry.workers().filter(|worker| worker.purpose == purpose).count();
            metrics::gauge!("kaigi_cluster_workers", "purpose" => purpose.name()).set(alive as f64);
        }
        self.liveness.send_modify(|changes| *changes += 1);
    }
}

#[cfg(test)]
mod tests {
    use kaigi_proto::v1;

    use super::*;
    use crate::registry::{Load, RegistryConfig, Strategies};

    fn worker(id: &str) -> Worker {
        let purpose = v1::Purpose::Access.into();
        Worker::try_from(v1::Worker { worker_id: id.into(), purpose, ..Default::default() }).unwrap()
    }

    fn hub() -> Hub {
        let config = RegistryConfig { lease: Duration::from_secs(60), strategies: Strategies::default() };
        Hub::new(Registry::new(config, Instant::now(), 1))
    }

    #[tokio::test]
    async fn a_watcher_that_does_not_read_is_ended_after_what_fits() {
        let hub = hub();
        let mut slow = hub.watch().unwrap();
        for i in 0..=WATCH_BUFFER {
            hub.register(worker(&format!("w{i}"))).unwrap();
        }
        let mut seen = 0;
        while slow.changes.recv().await.is_some() {
            seen += 1;
        }
        assert_eq!(seen, WATCH_BUFFER);
        assert_eq!(hub.watch().unwrap().alive.len(), WATCH_BUFFER + 1);
    }

    #[tokio::test]
    async fn stopping_ends_the_watches() {
        let hub = hub();
        let mut watch = hub.watch().unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        hub.run(stop).await;
        assert!(watch.changes.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_task_waits_for_a_remembered_worker_to_be_heard() {
        let (hub, task) = (hub(), TaskId::new("t").unwrap());
        hub.state.lock().registry.restore(Instant::now(), [worker("a")]);
        let waiting = tokio::spawn({
            let (hub, task) = (hub.clone(), task.clone());
            async move { hub.schedule_when_heard(Purpose::Access, &task, &Preference::default()).await }
        });
        hub.heartbeat(&worker("a").id, Load::new(0.1).unwrap(), &[]).unwrap();
        assert_eq!(waiting.await.unwrap().unwrap().id.as_str(), "a");
        let nobody = hub.schedule_when_heard(Purpose::Mixer, &task, &Preference::default()).await;
        assert_eq!(nobody, Err(ScheduleError::NoneAlive(Purpose::Mixer)), "nobody to wait for");
    }

    #[tokio::test]
    async fn a_remembered_worker_is_waited_for() {
        let hub = hub();
        hub.state.lock().registry.restore(Instant::now(), [worker("a"), worker("b")]);
        let waiting = tokio::spawn({
            let hub = hub.clone();
            async move { hub.settled_liveness(&worker("a").id).await }
        });
        hub.register(worker("b")).unwrap();
        assert_eq!(hub.settled_liveness(&worker("b").id).await, Liveness::Alive);
        hub.leave(&worker("a").id);
        assert_eq!(waiting.await.unwrap(), Liveness::Gone);
    }
}
