//! What all rooms of this process share.

use std::{sync::Arc, time::Duration};

use kaigi_proto::{
    ids::WorkerId,
    v1::{cluster_client::ClusterClient, store_client::StoreClient},
};
use kaigi_worker::{Channel, Channels, EventQueue, Tasks};
use tokio::sync::Semaphore;

use crate::{directory::Directory, feed::Backlog, nodes::Nodes};

/// Most calls to the cluster-manager at a time, of all rooms together.
const MAX_CLUSTER_CALLS: usize = 64;

/// Clients of the other processes, and what rooms are run by.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) agent: WorkerId,
    pub(crate) channels: Channels,
    pub(crate) cluster: ClusterClient<Channel>,
    pub(crate) store: StoreClient<Channel>,
    pub(crate) cluster_permits: Arc<Semaphore>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) nodes: Arc<Nodes>,
    /// What happens in the rooms, for their services.
    pub(crate) events: EventQueue,
    /// The rooms, for heartbeats.
    pub(crate) tasks: Tasks,
    pub(crate) limits: Limits,
}

/// How long and how many things are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// A room without participants.
    pub(crate) idle: Duration,
    /// At most, the place of a participant whose stream is broken.
    pub(crate) away: Duration,
    /// What is kept for it.
    pub(crate) backlog: Backlog,
}

impl Default for Limits {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), away: Duration::from_secs(300), backlog: Backlog::default() }
    }
}

impl Shared {
    pub(crate) fn new(
        agent: WorkerId,
        channels: Channels,
        manager: Channel,
        tasks: Tasks,
        limits: Limits,
    ) -> Self {
        let directory = Arc::new(Directory::default());
        Self {
            nodes: Arc::new(Nodes::new(agent.clone(), channels.clone(), directory.clone())),
            cluster: ClusterClient::new(manager.clone()),
            store: StoreClient::new(manager),
            cluster_permits: Arc::new(Semaphore::new(MAX_CLUSTER_CALLS)),
            agent,
            channels,
            directory,
            events: EventQueue::default(),
            tasks,
            limits,
        }
    }
}
