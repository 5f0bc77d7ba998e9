//! Who is alive and who serves what: pure, with the time as an argument.

mod expected;
mod placements;
mod resources;
mod strategy;
#[cfg(test)]
mod tests;
mod worker;

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use kaigi_proto::ids::WorkerId;
use rand::{SeedableRng, rngs::StdRng};

use expected::Expected;
use placements::Placements;
pub use resources::{Measured, Use, parse as parse_resources};
use strategy::Candidate;
pub use strategy::{Strategies, Strategy, StrategyError, StrategyOption};
pub use worker::{DEFAULT_MAX_LOAD, InvalidInput, Load, Purpose, TaskId, Worker};

/// Most workers at a time.
const MAX_WORKERS: usize = 10_000;

/// What the registry goes by.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// How long a worker counts as alive after it was last heard.
    pub lease: Duration,
    /// Who gets a new task.
    pub strategies: Strategies,
}

/// A change of who is alive.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// New, or with other properties than before (its load does not count as one).
    Joined(Worker),
    /// Its lease expired or was given back.
    Left(Worker),
}

/// The worker is not registered, or its lease has expired.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("this worker is not registered")]
pub struct UnknownWorker;

/// The limit on workers is reached.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("there are {MAX_WORKERS} workers already")]
pub struct TooManyWorkers;

/// Why no worker was found. The texts are OWT's where OWT has the case.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleError {
    /// All that are alive are above their highest load, as measured.
    #[error("No worker available, all in full load.")]
    AllFull,
    /// None of those with room for more serves the preferred provider.
    #[error("No worker matches the preference.")]
    NoMatch,
    /// There is none for that purpose, or none that is not draining.
    #[error("No worker of purpose {} is alive.", .0.name())]
    NoneAlive(Purpose),
}

/// What is asked of a worker beside its purpose; empty = no wish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preference {
    /// Must be served.
    pub isp: String,
    /// Should be served.
    pub region: String,
}

/// What is known of a worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// Heard of within its lease.
    Alive,
    /// Was alive when the previous cluster-manager ended and was not heard of since; its lease decides.
    Unheard,
    /// Not registered.
    Gone,
}

#[derive(Debug)]
struct Entry {
    worker: Worker,
    joined: u64,
    expires: Instant,
    /// Whether this process heard of it, not only its predecessor.
    heard: bool,
    expected: Expected,
}

impl Entry {
    /// What is measured, or what is to be expected by what was placed on it since, whichever is more.
    fn expected_load(&self) -> f64 {
        self.expected.load(self.worker.load, self.worker.task_share)
    }
}

/// See the module's description. [`Registry::tick`] has to be called several times per lease.
#[derive(Debug)]
pub struct Registry {
    config: RegistryConfig,
    workers: BTreeMap<WorkerId, Entry>,
    placements: Placements,
    last_picked: HashMap<Purpose, u64>,
    registrations: u64,
    random: StdRng,
    ticked: Instant,
}

impl Registry {
    /// Nobody is registered. `seed` is for the strategy that picks at random.
    #[must_use]
    pub fn new(config: RegistryConfig, now: Instant, seed: u64) -> Self {
        Self {
            config,
            workers: BTreeMap::new(),
            placements: Placements::default(),
            last_picked: HashMap::new(),
            registrations: 0,
            random: StdRng::seed_from_u64(seed),
            ticked: now,
        }
    }

    /// Takes over the workers that a predecessor knew. They count as alive for one lease, within which their heartbeats
    /// have to come; before that they get no new tasks.
    pub fn restore(&mut self, now: Instant, workers: impl IntoIterator<Item = Worker>) {
        for worker in workers {
            self.insert(now, worker, false);
        }
    }

    /// How long a registration or heartbeat lasts.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.config.lease
    }

    /// Registers a worker, or changes and renews its registration; then it is known since the first one. Another one at the same
    /// endpoint is gone: one process listens there.
    ///
    /// # Errors
    /// If there are too many.
    pub fn register(&mut self, now: Instant, mut worker: Worker) -> Result<Vec<Event>, TooManyWorkers> {
        let same = self.workers.get(&worker.id).map(|known| &known.worker);
        let unchanged = same.is_some_and(|known| known.is_same_but_for_load(&worker));
        let replaced: Vec<WorkerId> = self
            .workers
            .values()
            .map(|known| &known.worker)
            .filter(|known| {
                if known.id == worker.id {
                    known.purpose != worker.purpose
                } else {
                    !worker.endpoint.is_empty() && known.endpoint == worker.endpoint
                }
            })
            .map(|known| known.id.clone())
            .collect();
        let mut events: Vec<Event> = replaced.iter().filter_map(|id| self.leave(id)).collect();
        if !self.workers.contains_key(&worker.id) && self.workers.len() >= MAX_WORKERS {
            return Err(TooManyWorkers);
        }
        if let Some(known) = self.workers.get(&worker.id) {
            worker.registered_ms = known.worker.registered_ms;
        }
        self.insert(now, worker.clone(), true);
        if !unchanged {
            events.push(Event::Joined(worker));
        }
        Ok(events)
    }

    fn insert(&mut self, now: Instant, worker: Worker, heard: bool) {
        let (joined, expected) = match self.workers.remove(&worker.id) {
            Some(known) => (known.joined, known.expected),
            None => {
                self.registrations += 1;
                (self.registrations, Expected::default())
            }
        };
        let entry = Entry { joined, expires: now + self.config.lease, heard, worker, expected };
        self.workers.insert(entry.worker.id.clone(), entry);
    }

    /// Renews a worker's lease and takes over its load and the tasks that it reports.
    ///
    /// # Errors
    /// If it is not registered.
    pub fn heartbeat(
        &mut self,
        now: Instant,
        id: &WorkerId,
        measured: impl Into<Measured>,
        tasks: &[TaskId],
    ) -> Result<(), UnknownWorker> {
        let entry = self.workers.get_mut(id).ok_or(UnknownWorker)?;
        entry.expires = now + self.config.lease;
        entry.heard = true;
        let Measured { load, resources } = measured.into();
        (entry.worker.load, entry.worker.resources) = (load, resources);
        entry.expected.reported(now, load);
        // What it has handed over may still be in what it tells.
        if !entry.worker.draining {
            self.placements.report(entry.worker.purpose, id, tasks);
        }
        Ok(())
    }

    /// The worker gets no new tasks any more. What has changed, if anything.
    ///
    /// # Errors
    /// If it is not registered.
    pub fn drain(&mut self, id: &WorkerId) -> Result<Option<Event>, UnknownWorker> {
        let worker = &mut self.workers.get_mut(id).ok_or(UnknownWorker)?.worker;
        let begins = !std::mem::replace(&mut worker.draining, true);
        Ok(begins.then(|| Event::Joined(worker.clone())))
    }

    /// Removes a worker with its tasks.
    pub fn leave(&mut self, id: &WorkerId) -> Option<Event> {
        let entry = self.workers.remove(id)?;
        self.placements.forget_worker(id);
        Some(Event::Left(entry.worker))
    }

    /// Lets leases and reservations expire. If the last tick is long ago, this process itself was held up (stopped, starved) and
    /// could hear nobody: then all leases begin anew.
    pub fn tick(&mut self, now: Instant) -> Vec<Event> {
        let held_up = now.saturating_duration_since(self.ticked) > self.config.lease / 2;
        self.ticked = now;
        self.placements.expire(now);
        if held_up {
            self.workers.values_mut().for_each(|entry| entry.expires = now + self.config.lease);
            return Vec::new();
        }
        let expired: Vec<WorkerId> =
            self.workers.iter().filter(|(_, entry)| entry.expires <= now).map(|(id, _)| id.clone()).collect();
        expired.iter().filter_map(|id| self.leave(id)).collect()
    }

    /// The task's worker if it has one, else a newly picked one that has it from now on. One that is draining is left if there is another.
    ///
    /// # Errors
    /// See [`ScheduleError`].
    pub fn schedule(
        &mut self,
        now: Instant,
        purpose: Purpose,
        task: &TaskId,
        preference: &Preference,
    ) -> Result<Worker, ScheduleError> {
        if let Some(worker) = self.lookup(purpose, task).cloned() {
            // Rooms are handed over by their agents.
            if worker.draining
                && purpose != Purpose::Conference
                && let Ok(other) = self.pick(now, purpose, task, preference)
            {
                return Ok(other);
            }
            self.placements.reserve(now, purpose, task, &worker.id);
            return Ok(worker);
        }
        self.pick(now, purpose, task, preference)
    }

    /// Whether a new task would find a worker; how many there are that it could be.
    ///
    /// # Errors
    /// See [`ScheduleError`].
    pub fn can_fit(&self, purpose: Purpose, preference: &Preference) -> Result<usize, ScheduleError> {
        self.suitable(purpose, preference).map(|suitable| suitable.len())
    }

    /// Those that may get a new task, in order of registration; at least one.
    fn suitable(&self, purpose: Purpose, preference: &Preference) -> Result<Vec<&Entry>, ScheduleError> {
        let alive =
            self.workers.values().filter(|e| e.heard && e.worker.purpose == purpose && !e.worker.draining);
        let alive: Vec<&Entry> = alive.collect();
        if alive.is_empty() {
            return Err(ScheduleError::NoneAlive(purpose));
        }
        let mut suitable: Vec<&Entry> =
            alive.into_iter().filter(|e| e.worker.load < e.worker.max_load).collect();
        if suitable.is_empty() {
            return Err(ScheduleError::AllFull);
        }
        if purpose.is_matched() {
            retain_matching(&mut suitable, preference);
        }
        if suitable.is_empty() {
            return Err(ScheduleError::NoMatch);
        }
        suitable.sort_by_key(|e| e.joined);
        Ok(suitable)
    }

    /// Those of them that are not full by what is expected either. What is expected may never come: where all would be full by it, it refuses nobody.
    fn with_room(suitable: Vec<&Entry>) -> Vec<&Entry> {
        let is_free = |e: &&Entry| e.expected_load() < e.worker.max_load.get();
        let free: Vec<&Entry> = suitable.iter().copied().filter(is_free).collect();
        if free.is_empty() { suitable } else { free }
    }

    /// A newly picked worker, that has the task from now on.
    fn pick(
        &mut self,
        now: Instant,
        purpose: Purpose,
        task: &TaskId,
        preference: &Preference,
    ) -> Result<Worker, ScheduleError> {
        let candidates: Vec<Candidate> = Self::with_room(self.suitable(purpose, preference)?)
            .into_iter()
            .map(|e| Candidate {
                joined: e.joined,
                load: e.expected_load(),
                tasks: self.placements.count(&e.worker.id),
            })
            .collect();
        let strategy = self.config.strategies.of(purpose);
        let last = self.last_picked.get(&purpose).copied();
        let picked =
            strategy::pick(strategy, &candidates, last, &mut self.random).ok_or(ScheduleError::NoMatch)?;
        let entry = self.workers.values_mut().find(|e| e.joined == picked.joined);
        let entry = entry.ok_or(ScheduleError::NoMatch)?;
        entry.expected.place(now, entry.worker.load, task.clone());
        let worker = entry.worker.clone();
        self.last_picked.insert(purpose, picked.joined);
        self.placements.reserve(now, purpose, task, &worker.id);
        Ok(worker)
    }

    /// Whether there are workers of that purpose which only a predecessor has heard of.
    #[must_use]
    pub fn awaits(&self, purpose: Purpose) -> bool {
        self.workers.values().any(|entry| !entry.heard && entry.worker.purpose == purpose)
    }

    /// The worker that has the task.
    #[must_use]
    pub fn lookup(&self, purpose: Purpose, task: &TaskId) -> Option<&Worker> {
        let id = self.placements.worker_of(purpose, task)?;
        self.workers.get(id).map(|entry| &entry.worker)
    }

    /// Places a task at a worker of which it is known otherwise that it has it.
    ///
    /// # Errors
    /// If it is not registered.
    pub fn place(&mut self, now: Instant, task: &TaskId, id: &WorkerId) -> Result<(), UnknownWorker> {
        let purpose = self.workers.get(id).ok_or(UnknownWorker)?.worker.purpose;
        self.placements.reserve(now, purpose, task, id);
        Ok(())
    }

    /// Forgets where a task is.
    pub fn release(&mut self, purpose: Purpose, task: &TaskId) {
        let worker = self.placements.worker_of(purpose, task);
        if let Some(entry) = worker.and_then(|id| self.workers.get_mut(id)) {
            entry.expected.release(task);
        }
        self.placements.release(purpose, task);
    }

    /// What is known of that worker.
    #[must_use]
    pub fn liveness(&self, id: &WorkerId) -> Liveness {
        match self.workers.get(id) {
            Some(entry) if entry.heard => Liveness::Alive,
            Some(_) => Liveness::Unheard,
            None => Liveness::Gone,
        }
    }

    /// All workers that count as alive.
    pub fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values().map(|entry| &entry.worker)
    }

    /// How many tasks are placed on that worker.
    #[must_use]
    pub fn tasks(&self, id: &WorkerId) -> usize {
        self.placements.count(id)
    }
}

/// OWT's matching: provider strict, region soft.
fn retain_matching(workers: &mut Vec<&Entry>, preference: &Preference) {
    let serves = |names: &[String], wish: &str| names.iter().any(|name| name == wish);
    if !preference.isp.is_empty() {
        workers.retain(|e| e.worker.isps.is_empty() || serves(&e.worker.isps, &preference.isp));
    }
    if !preference.region.is_empty() {
        let there = |e: &Entry| serves(&e.worker.regions, &preference.region);
        if workers.iter().any(|e| there(e)) {
            workers.retain(|e| there(e));
        }
    }
}
