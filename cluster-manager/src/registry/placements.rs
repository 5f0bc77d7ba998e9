//! Which worker has which task.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, Instant},
};

use kaigi_proto::ids::WorkerId;

use super::worker::{Purpose, TaskId};

/// Most tasks remembered: about 50 MB. Beyond it those that would be forgotten first are.
const MAX_TASKS: usize = 200_000;

/// How long a placement lasts that its worker does not report in heartbeats.
fn reserve_time(purpose: Purpose) -> Duration {
    match purpose {
        // The life of a token (OWT: 3 minutes): nobody asks for its portal later.
        Purpose::Portal => Duration::from_secs(180),
        // OWT's `schedule_reserve_time`. An agent that runs the room reports it long before.
        Purpose::Conference => Duration::from_secs(60),
        // These are released by whoever scheduled them; a day frees what a caller left behind when it died.
        Purpose::Access | Purpose::Mixer | Purpose::Streaming | Purpose::Gateway => {
            Duration::from_secs(24 * 3600)
        }
    }
}

type Place = (Purpose, TaskId);

#[derive(Debug)]
struct Placement {
    worker: WorkerId,
    /// When it is forgotten; none while its worker reports it.
    until: Option<Instant>,
}

/// The placements, findable by task and by worker.
#[derive(Debug, Default)]
pub(super) struct Placements {
    by_task: HashMap<Place, Placement>,
    by_worker: HashMap<WorkerId, HashSet<Place>>,
    reserved: BTreeSet<(Instant, Place)>,
}

impl Placements {
    pub(super) fn worker_of(&self, purpose: Purpose, task: &TaskId) -> Option<&WorkerId> {
        self.by_task.get(&(purpose, task.clone())).map(|placement| &placement.worker)
    }

    pub(super) fn count(&self, worker: &WorkerId) -> usize {
        self.by_worker.get(worker).map_or(0, HashSet::len)
    }

    /// Places the task, or renews the time for which it stays placed; wherever it was before.
    pub(super) fn reserve(&mut self, now: Instant, purpose: Purpose, task: &TaskId, worker: &WorkerId) {
        let place = (purpose, task.clone());
        if let Some(known) = self.by_task.get(&place)
            && known.worker == *worker
            && known.until.is_none()
        {
            return;
        }
        self.insert(place, worker, Some(now + reserve_time(purpose)));
        while self.by_task.len() > MAX_TASKS {
            let Some((_, first)) = self.reserved.first().cloned() else { break };
            self.remove(&first);
        }
    }

    /// Takes over what a worker says that it serves. A task that another one has stays there: it was moved meanwhile.
    pub(super) fn report(&mut self, purpose: Purpose, worker: &WorkerId, tasks: &[TaskId]) {
        let told: HashSet<Place> = tasks.iter().map(|task| (purpose, task.clone())).collect();
        let ended: Vec<Place> = self
            .by_worker
            .get(worker)
            .into_iter()
            .flatten()
            .filter(|place| {
                !told.contains(*place) && self.by_task.get(*place).is_some_and(|p| p.until.is_none())
            })
            .cloned()
            .collect();
        for place in ended {
            self.remove(&place);
        }
        for place in told {
            match self.by_task.get(&place) {
                Some(known) if known.worker != *worker || known.until.is_none() => {}
                Some(_) | None => self.insert(place, worker, None),
            }
        }
    }

    pub(super) fn release(&mut self, purpose: Purpose, task: &TaskId) {
        self.remove(&(purpose, task.clone()));
    }

    /// Forgets all tasks of a worker that is gone.
    pub(super) fn forget_worker(&mut self, worker: &WorkerId) {
        for place in self.by_worker.remove(worker).unwrap_or_default() {
            self.remove(&place);
        }
    }

    /// Forgets what was reserved and never reported.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((until, place)) = self.reserved.first().cloned() {
            if until > now {
                break;
            }
            self.remove(&place);
        }
    }

    fn insert(&mut self, place: Place, worker: &WorkerId, until: Option<Instant>) {
        self.remove(&place);
        if let Some(until) = until {
            self.reserved.insert((until, place.clone()));
        }
        self.by_worker.entry(worker.clone()).or_default().insert(place.clone());
        self.by_task.insert(place, Placement { worker: worker.clone(), until });
    }

    fn remove(&mut self, place: &Place) {
        let Some(old) = self.by_task.remove(place) else { return };
        if let Some(until) = old.until {
            self.reserved.remove(&(until, place.clone()));
        }
        if let Some(places) = self.by_worker.get_mut(&old.worker) {
            places.remove(place);
            if places.is_empty() {
                self.by_worker.remove(&old.worker);
            }
        }
    }
}
