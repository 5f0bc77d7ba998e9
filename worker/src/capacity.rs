//! What limits a worker: how much of each thing there is, how much is taken, and how much of it a task takes as a rule.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kaigi_proto::v1::{self, Resource};
use tokio_util::sync::CancellationToken;

/// Between two counts of what is in use, several of which go into a heartbeat.
const COUNT: Duration = Duration::from_millis(200);

/// See the module. Set by whoever measures, reported by heartbeats. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Capacity(Arc<Mutex<Vec<Limit>>>);

#[derive(Clone, Copy, Debug)]
struct Limit {
    resource: Resource,
    used: f64,
    most: f64,
    /// What a task is expected to take.
    per_task: f64,
}

impl Limit {
    fn share(&self, amount: f64) -> f64 {
        (amount / self.most).clamp(0.0, 1.0)
    }
}

impl Capacity {
    /// Limited by the cores of the machine, of which a task takes `per_task` as a rule.
    #[must_use]
    pub fn of_cores(per_task: f64) -> Self {
        Self::default().with(Resource::Cpu, crate::cores(), per_task)
    }

    /// Limited by something else, too: `most` of it, of which a task takes `per_task` as a rule. A limit of less than one is one.
    #[must_use]
    pub fn with(self, resource: Resource, most: f64, per_task: f64) -> Self {
        let limit = Limit { resource, used: 0.0, most: most.max(1.0), per_task };
        self.limits().push(limit);
        self
    }

    /// How much of it is taken now. Nothing happens if it is not what this worker is limited by.
    pub fn set(&self, resource: Resource, used: f64) {
        for limit in self.limits().iter_mut().filter(|limit| limit.resource == resource) {
            limit.used = used.max(0.0);
        }
    }

    /// Counts again and again how much of it is taken, until `stop`.
    pub async fn follow(self, resource: Resource, stop: CancellationToken, count: impl Fn() -> usize + Send) {
        while !stop.is_cancelled() {
            self.set(resource, count() as f64);
            tokio::select! {
                () = tokio::time::sleep(COUNT) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// The largest share that is taken, 0..1.
    #[must_use]
    pub fn load(&self) -> f64 {
        self.limits().iter().map(|limit| limit.share(limit.used)).fold(0.0, f64::max)
    }

    /// By how much a task raises the load as a rule, 0..1.
    #[must_use]
    pub fn task_share(&self) -> f64 {
        self.limits().iter().map(|limit| limit.share(limit.per_task)).fold(0.0, f64::max)
    }

    /// All of it.
    #[must_use]
    pub fn list(&self) -> Vec<v1::ResourceUse> {
        let told = |limit: &Limit| v1::ResourceUse {
            resource: limit.resource.into(),
            used: limit.used,
            capacity: limit.most,
        };
        self.limits().iter().map(told).collect()
    }

    /// The load, which is published as a metric with what it is made of.
    pub(crate) fn report(&self) -> f64 {
        let load = self.load();
        metrics::gauge!("kaigi_worker_load").set(load);
        for limit in self.limits().iter() {
            metrics::gauge!("kaigi_worker_used", "resource" => name(limit.resource)).set(limit.used);
            metrics::gauge!("kaigi_worker_capacity", "resource" => name(limit.resource)).set(limit.most);
        }
        load
    }

    fn limits(&self) -> MutexGuard<'_, Vec<Limit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As in metrics and in the management API.
fn name(resource: Resource) -> &'static str {
    match resource {
        Resource::Unspecified => "none",
        Resource::Cpu => "cpu",
        Resource::Packets => "packets",
        Resource::Encoders => "encoders",
        Resource::Pipelines => "pipelines",
        Resource::Connections => "connections",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_the_largest_share() {
        let capacity = Capacity::default().with(Resource::Cpu, 2.0, 0.4).with(Resource::Encoders, 16.0, 1.0);
        assert_eq!(capacity.load(), 0.0);
        capacity.set(Resource::Cpu, 0.5);
        assert_eq!(capacity.load(), 0.25);
        capacity.set(Resource::Encoders, 12.0);
        assert_eq!(capacity.load(), 0.75);
        capacity.set(Resource::Encoders, 20.0);
        assert_eq!((capacity.load(), capacity.list()[1].used), (1.0, 20.0), "what is too much is told");
        capacity.set(Resource::Packets, 1e9);
        assert_eq!(capacity.list().len(), 2, "not what limits it");
    }

    #[test]
    fn a_task_is_expected_to_take_the_largest_share_of_what_it_takes() {
        let capacity = Capacity::default().with(Resource::Cpu, 2.0, 0.4).with(Resource::Encoders, 16.0, 1.0);
        assert_eq!(capacity.task_share(), 0.2);
        assert_eq!(Capacity::default().with(Resource::Cpu, 0.0, 5.0).task_share(), 1.0);
        assert_eq!((Capacity::default().task_share(), Capacity::default().load()), (0.0, 0.0));
    }
}
