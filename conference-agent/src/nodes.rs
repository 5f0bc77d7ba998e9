//! The nodes that this agent's rooms use: their event streams, and whether they are there.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kaigi_proto::{
    ids::{RoomId, WorkerId},
    v1::{
        self, access_node_client::AccessNodeClient, mixer_node_client::MixerNodeClient,
        streaming_node_client::StreamingNodeClient,
    },
};
use kaigi_worker::Channels;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use crate::{
    directory::{Directory, News},
    parse,
    room::Node,
};

/// Most calls to one node at a time, of all rooms together.
const MAX_CALLS: usize = 128;
/// Longest wait for a node to open its event stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// Pauses between attempts to hear a node again; when they are used up it counts as lost. A dead process refuses at once, so that it
/// costs these pauses alone; a broken path takes [`OPEN_TIMEOUT`] each.
const REOPEN: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(200)];

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    Access,
    Mixer,
    Streaming,
}

/// The nodes in use.
#[derive(Debug)]
pub(crate) struct Nodes {
    agent: WorkerId,
    channels: Channels,
    directory: Arc<Directory>,
    entries: Mutex<HashMap<WorkerId, Entry>>,
}

#[derive(Debug)]
struct Entry {
    endpoint: String,
    /// Whether the node's events are listened to.
    open: watch::Receiver<bool>,
    permits: Arc<Semaphore>,
    /// Ends the listener.
    _stop: DropGuard,
}

impl Nodes {
    pub(crate) fn new(agent: WorkerId, channels: Channels, directory: Arc<Directory>) -> Self {
        Self { agent, channels, directory, entries: Mutex::default() }
    }

    /// Completes when the node's events are listened to, which begins now if it did not yet. Its calls take a permit each.
    ///
    /// # Errors
    /// UNAVAILABLE if the node is lost meanwhile.
    pub(crate) async fn open(
        nodes: &Arc<Self>,
        node: &Node,
        kind: NodeKind,
    ) -> Result<Arc<Semaphore>, Status> {
        let (mut open, permits) = {
            let mut entries = nodes.entries.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = entries.entry(node.worker.clone()).or_insert_with(|| Self::listen(nodes, node, kind));
            (entry.open.clone(), entry.permits.clone())
        };
        open.wait_for(|open| *open).await.map_err(|_| Status::unavailable("Node lost"))?;
        Ok(permits)
    }

    /// The node is dead: every room hears of it.
    pub(crate) fn lost(&self, worker: &WorkerId) {
        let entry = self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(worker);
        if let Some(entry) = entry {
            tracing::warn!(%worker, "node lost");
            metrics::counter!("kaigi_conference_nodes_lost_total").increment(1);
            self.channels.forget(&entry.endpoint);
            self.directory.tell_all(worker, || News::Lost);
        }
    }

    fn listen(nodes: &Arc<Self>, node: &Node, kind: NodeKind) -> Entry {
        let (open, is_open) = watch::channel(false);
        let stop = CancellationToken::new();
        let listener = Listener { nodes: nodes.clone(), node: node.clone(), kind, open };
        tokio::spawn({
            let stop = stop.clone();
            async move {
                tokio::select! {
                    () = listener.run() => {}
                    () = stop.cancelled() => {}
                }
            }
        });
        Entry {
            endpoint: node.endpoint.clone(),
            open: is_open,
            permits: Arc::new(Semaphore::new(MAX_CALLS)),
            _stop: stop.drop_guard(),
        }
    }
}

struct Listener {
    nodes: Arc<Nodes>,
    node: Node,
    kind: NodeKind,
    open: watch::Sender<bool>,
}

impl Listener {
    /// Ends when the node counts as lost.
    async fn run(self) {
        let mut heard_before = false;
        let mut failures = REOPEN.into_iter();
        loop {
            let result = match self.kind {
                NodeKind::Access => self.hear_access(&mut heard_before).await,
                NodeKind::Mixer => self.hear_mixer(&mut heard_before).await,
                NodeKind::Streaming => self.hear_streaming(&mut heard_before).await,
            };
            let was_open = self.open.send_replace(false);
            if was_open {
                failures = REOPEN.into_iter();
            }
            tracing::debug!(worker = %self.node.worker, ?result, "events of the node ended");
            let Some(pause) = failures.next() else { break };
            tokio::time::sleep(pause).await;
        }
        self.nodes.lost(&self.node.worker);
    }

    async fn hear_access(&self, heard_before: &mut bool) -> Result<(), Status> {
        let mut client = AccessNodeClient::new(self.nodes.channels.to(&self.node.endpoint)?);
        let request = v1::AccessEventsRequest { agent_id: self.nodes.agent.to_string() };
        let mut events = opened(client.events(request)).await?.into_inner();
        self.opened(heard_before);
        while let Some(event) = events.message().await? {
            self.tell(parse::access_event(event));
        }
        Ok(())
    }

    async fn hear_mixer(&self, heard_before: &mut bool) -> Result<(), Status> {
        let mut client = MixerNodeClient::new(self.nodes.channels.to(&self.node.endpoint)?);
        let request = v1::MixerEventsRequest { agent_id: self.nodes.agent.to_string() };
        let mut events = opened(client.events(request)).await?.into_inner();
        self.opened(heard_before);
        while let Some(event) = events.message().await? {
            self.tell(parse::mixer_event(event).map(|(room, event)| (room, News::Mixer(event))));
        }
        Ok(())
    }

    async fn hear_streaming(&self, heard_before: &mut bool) -> Result<(), Status> {
        let mut client = StreamingNodeClient::new(self.nodes.channels.to(&self.node.endpoint)?);
        let request = v1::StreamingEventsRequest { agent_id: self.nodes.agent.to_string() };
        let mut events = opened(client.events(request)).await?.into_inner();
        self.opened(heard_before);
        while let Some(event) = events.message().await? {
            self.tell(parse::egress_event(event).map(|(room, event)| (room, News::Streaming(event))));
        }
        Ok(())
    }

    fn opened(&self, heard_before: &mut bool) {
        self.open.send_replace(true);
        if std::mem::replace(heard_before, true) {
            self.nodes.directory.tell_all(&self.node.worker, || News::Resumed);
        }
    }

    fn tell(&self, event: Option<(RoomId, News)>) {
        match event {
            Some((room, news)) => self.nodes.directory.tell(&room, &self.node.worker, news),
            None => tracing::warn!(worker = %self.node.worker, "an event of the node makes no sense"),
        }
    }
}

async fn opened<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(OPEN_TIMEOUT, call)
        .await
        .map_err(|_| Status::deadline_exceeded("events not opened in time"))?
}
