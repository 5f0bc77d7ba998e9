//! Registration at the cluster-manager and the heartbeats that keep it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kaigi_proto::{
    ids::WorkerId,
    v1::{self, cluster_client::ClusterClient},
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{Capacity, Channel, Shutdown};

/// Longest wait for an answer of the cluster-manager.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// A few may be late or lost before the lease is.
const HEARTBEATS_PER_LEASE: u32 = 6;
/// First and longest pause between attempts to reach a cluster-manager that does not answer.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A new random worker id.
#[must_use]
pub fn new_worker_id(purpose: v1::Purpose) -> WorkerId {
    let name = match purpose {
        v1::Purpose::Portal => "portal",
        v1::Purpose::Conference => "conference",
        v1::Purpose::Access => "access",
        v1::Purpose::Mixer => "mixer",
        v1::Purpose::Streaming => "streaming",
        v1::Purpose::Gateway => "gateway",
        v1::Purpose::Unspecified => "worker",
    };
    WorkerId::new(format!("{name}-{:016x}", rand::random::<u64>())).expect("hex and letters are allowed")
}

/// The tasks that heartbeats report (room ids of an agent).
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<Mutex<BTreeSet<String>>>);

impl Tasks {
    /// A task begins.
    pub fn insert(&self, task: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(task.to_owned());
    }

    /// A task has ended.
    pub fn remove(&self, task: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(task);
    }

    /// The tasks as they stand.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// One worker's place in the cluster.
#[derive(Debug)]
pub struct Registration {
    /// The cluster-manager.
    pub cluster: ClusterClient<Channel>,
    /// What is registered; its load is taken from `capacity`.
    pub worker: v1::Worker,
    /// What heartbeats report.
    pub capacity: Capacity,
    /// What heartbeats report.
    pub tasks: Tasks,
    /// Whether it drains, which the cluster-manager is told, and may ask for.
    pub shutdown: Shutdown,
}

impl Registration {
    /// Registers, calls `on_registered` each time that it worked and the worker takes tasks, and heartbeats until `stop` is cancelled; then gives the lease back.
    /// A cluster-manager that is away is waited for; one that forgot this worker is told again.
    pub async fn run(mut self, stop: CancellationToken, on_registered: impl Fn() + Send) {
        let mut pause = RETRY.0;
        while !stop.is_cancelled() {
            match self.register().await {
                Ok(lease) => {
                    pause = RETRY.0;
                    if !self.worker.draining {
                        on_registered();
                    }
                    tracing::info!(
                        worker = self.worker.worker_id,
                        lease_ms = lease.as_millis(),
                        "registered"
                    );
                    self.keep(lease, &stop).await;
                }
                Err(status) => {
                    tracing::debug!(%status, "cluster-manager not reached");
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = stop.cancelled() => {}
                    }
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        }
        let leave = v1::LeaveRequest { worker_id: self.worker.worker_id.clone() };
        let _: Result<_, _> = tokio::time::timeout(CALL_TIMEOUT, self.cluster.leave(leave)).await;
    }

    async fn register(&mut self) -> Result<Duration, tonic::Status> {
        self.worker.draining = self.shutdown.is_draining();
        let worker = v1::Worker {
            load: self.capacity.load(),
            resources: self.capacity.list(),
            task_share: self.capacity.task_share(),
            ..self.worker.clone()
        };
        let mut request = tonic::Request::new(v1::RegisterRequest { worker: Some(worker) });
        request.set_timeout(CALL_TIMEOUT);
        let reply = self.cluster.register(request).await?.into_inner();
        Ok(Duration::from_millis(reply.lease_ms.max(300).into()))
    }

    /// Returns when the lease has to be taken anew, or at `stop`.
    async fn keep(&mut self, lease: Duration, stop: &CancellationToken) {
        let mut tick = tokio::time::interval(lease / HEARTBEATS_PER_LEASE);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
                // Is told at once.
                () = self.shutdown.draining(), if !self.worker.draining => return,
            }
            let mut request = tonic::Request::new(v1::HeartbeatRequest {
                worker_id: self.worker.worker_id.clone(),
                load: self.capacity.report(),
                tasks: self.tasks.list(),
                resources: self.capacity.list(),
            });
            request.set_timeout(CALL_TIMEOUT);
            match self.cluster.heartbeat(request).await {
                Ok(reply) if reply.get_ref().drain => self.shutdown.drain(),
                Ok(_) => {}
                Err(status) if status.code() == Code::NotFound => return,
                Err(status) => {
                    tracing::debug!(%status, "heartbeat not answered");
                    // Perhaps another leads by now, who wants to hear of all soon.
                    tick.reset_after(RETRY.0);
                }
            }
        }
    }
}
