//! Calls of a room to others: in order per callee, each with a deadline, at most so many waiting.

use std::{sync::Arc, time::Duration};

use kaigi_proto::{
    ids::{SessionId, TransportId, WorkerId},
    v1::{
        self, access_node_client::AccessNodeClient, mixer_node_client::MixerNodeClient,
        streaming_node_client::StreamingNodeClient,
    },
};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};
use tonic::{Request, Status};

use crate::{
    nodes::{NodeKind, Nodes},
    parse,
    room::{CallError, CallId, CallReply, CallRequest, Callee, MadeOutputs, Node},
    shared::Shared,
    status::call_error,
};

/// Longest wait for a node or the cluster-manager; a little less than portals wait for a room.
const DEADLINE: Duration = Duration::from_millis(3500);
/// Longest wait for a view or a transcoder: its reply comes when the mixer's pipeline runs, which takes a loaded machine a second or two.
const VIEW_DEADLINE: Duration = Duration::from_secs(5);
/// Most calls of one room that wait for one callee.
const MAX_WAITING: usize = 1024;
/// Places among [`MAX_WAITING`] that only calls that end something get.
const RESERVED: usize = 256;

/// Why a call is not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotQueued {
    /// Too many calls wait; those that end something are still taken.
    Busy,
    /// The callee takes nothing any more.
    Stuck,
}

/// The result of a call, for the room that made it.
pub(crate) type CallDone = (CallId, Result<CallReply, CallError>);

/// The ordered calls of one room to one callee.
#[derive(Debug)]
pub(crate) struct CallQueue {
    calls: mpsc::Sender<(CallId, CallRequest)>,
    task: JoinHandle<()>,
}

impl CallQueue {
    /// Calls go out as soon as the callee's events are listened to; results go to `results`.
    pub(crate) fn start(shared: Arc<Shared>, callee: Callee, results: mpsc::Sender<CallDone>) -> Self {
        let (calls, waiting) = mpsc::channel(MAX_WAITING);
        let caller = Caller { shared, callee, results };
        Self { calls, task: tokio::spawn(caller.run(waiting)) }
    }

    /// Queues a call; never waits.
    pub(crate) fn push(&self, call: CallId, request: CallRequest) -> Result<(), NotQueued> {
        if !request.is_closing() && self.calls.capacity() <= RESERVED {
            return Err(NotQueued::Busy);
        }
        self.calls.try_send((call, request)).map_err(|_| NotQueued::Stuck)
    }

    /// Makes no further calls.
    pub(crate) fn abandon(self) {
        self.task.abort();
    }

    /// Completes when all queued calls are made.
    pub(crate) async fn finish(self) {
        drop(self.calls);
        let _: Result<_, _> = self.task.await;
    }
}

struct Caller {
    shared: Arc<Shared>,
    callee: Callee,
    results: mpsc::Sender<CallDone>,
}

impl Caller {
    async fn run(self, mut waiting: mpsc::Receiver<(CallId, CallRequest)>) {
        while let Some((call, request)) = waiting.recv().await {
            let started = std::time::Instant::now();
            let deadline = match request {
                CallRequest::SetView(_) | CallRequest::SetTranscoder(_) => VIEW_DEADLINE,
                _ => DEADLINE,
            };
            let result = match tokio::time::timeout(deadline, self.call(request)).await {
                Ok(Ok(reply)) => Ok(reply),
                Ok(Err(status)) => Err(call_error(&status)),
                Err(_) => Err(CallError::Unavailable("no answer in time".into())),
            };
            let outcome = if result.is_ok() { "ok" } else { "error" };
            metrics::histogram!("kaigi_conference_call_seconds", "outcome" => outcome)
                .record(started.elapsed().as_secs_f64());
            // Nobody waits for the results of a room that has ended.
            let _: Result<_, _> = self.results.send((call, result)).await;
        }
    }

    async fn call(&self, request: CallRequest) -> Result<CallReply, Status> {
        let permits = match &self.callee {
            Callee::Cluster => self.shared.cluster_permits.clone(),
            Callee::Access(node) => self.node(node, NodeKind::Access).await?,
            Callee::Mixer(node) => self.node(node, NodeKind::Mixer).await?,
            Callee::Streaming(node) => self.node(node, NodeKind::Streaming).await?,
        };
        let _permit = permits.acquire().await.map_err(|_| Status::unavailable("closed"))?;
        match &self.callee {
            Callee::Cluster => self.call_cluster(request).await,
            Callee::Access(node) => self.call_access(node, request).await,
            Callee::Mixer(node) => self.call_mixer(node, request).await,
            Callee::Streaming(node) => self.call_streaming(node, request).await,
        }
    }

    /// The right to call a node, once its events are listened to.
    async fn node(&self, node: &Node, kind: NodeKind) -> Result<Arc<Semaphore>, Status> {
        Nodes::open(&self.shared.nodes, node, kind).await
    }

    async fn call_cluster(&self, request: CallRequest) -> Result<CallReply, Status> {
        let mut cluster = self.shared.cluster.clone();
        match request {
            CallRequest::Schedule(request) => {
                let reply = cluster.schedule(Request::new(request)).await?.into_inner();
                let worker = reply.worker.ok_or_else(|| Status::unavailable("no worker"))?;
                let id = WorkerId::new(&worker.worker_id).map_err(|e| Status::internal(e.to_string()))?;
                Ok(CallReply::Scheduled(Node { worker: id, endpoint: worker.endpoint }))
            }
            CallRequest::Release(request) => {
                cluster.release(Request::new(request)).await?;
                Ok(CallReply::Done)
            }
            other => Err(misdirected(&other)),
        }
    }

    async fn call_access(&self, node: &Node, request: CallRequest) -> Result<CallReply, Status> {
        let mut access = AccessNodeClient::new(self.shared.channels.to(&node.endpoint)?);
        match request {
            CallRequest::OpenPublication(request) => drop(access.open_publication(request).await?),
            CallRequest::OpenSubscription(request) => drop(access.open_subscription(request).await?),
            CallRequest::SetSource(request) => drop(access.set_source(request).await?),
            CallRequest::SelectAudio(request) => drop(access.select_audio(request).await?),
            CallRequest::AdoptRoom(request) => {
                let there = access.adopt_room(request).await?.into_inner().transport_ids;
                return Ok(CallReply::Adopted(
                    there.iter().filter_map(|id| TransportId::new(id).ok()).collect(),
                ));
            }
            CallRequest::AdoptTransports(request) => {
                let missing = access.adopt_transports(request).await?.into_inner().missing_session_ids;
                let missing = missing.iter().filter_map(|id| SessionId::new(id).ok());
                return Ok(CallReply::Missing(missing.collect()));
            }
            CallRequest::CloseSession(request) => drop(access.close_session(request).await?),
            CallRequest::CloseTransport(request) => drop(access.close_transport(request).await?),
            CallRequest::Signal(request) => drop(access.signal_transport(request).await?),
            CallRequest::SetActive(request) => drop(access.set_active(request).await?),
            CallRequest::EstimateBandwidth(request) => {
                let reply = access.estimate_bandwidth(request).await?.into_inner();
                return Ok(CallReply::Bandwidth(reply.bitrate));
            }
            other => return Err(misdirected(&other)),
        }
        Ok(CallReply::Done)
    }

    async fn call_mixer(&self, node: &Node, request: CallRequest) -> Result<CallReply, Status> {
        let mut mixer = MixerNodeClient::new(self.shared.channels.to(&node.endpoint)?);
        match request {
            CallRequest::SetView(view) => {
                let reply = mixer.set_view(*view).await?.into_inner();
                Ok(CallReply::View(Box::new(parse::view_outputs(reply))))
            }
            CallRequest::RemoveView(request) => {
                mixer.remove_view(request).await?;
                Ok(CallReply::Done)
            }
            CallRequest::SetTranscoder(transcoder) => {
                let reply = mixer.set_transcoder(*transcoder).await?.into_inner();
                Ok(CallReply::Outputs(MadeOutputs::from_wire(reply.outputs, reply.failures)))
            }
            CallRequest::RemoveTranscoder(request) => {
                mixer.remove_transcoder(request).await?;
                Ok(CallReply::Done)
            }
            other => Err(misdirected(&other)),
        }
    }

    async fn call_streaming(&self, node: &Node, request: CallRequest) -> Result<CallReply, Status> {
        let mut streaming = StreamingNodeClient::new(self.shared.channels.to(&node.endpoint)?);
        match request {
            CallRequest::SetOutput(output) => {
                let reply = streaming.set_output(*output).await?.into_inner();
                let v1::OutputReply { host, file, manifest } = reply;
                Ok(CallReply::Egress { host, file, manifest })
            }
            CallRequest::RemoveOutput(request) => {
                streaming.remove_output(request).await?;
                Ok(CallReply::Done)
            }
            CallRequest::SetInput(input) => {
                let reply = streaming.set_input(*input).await?.into_inner();
                Ok(CallReply::Ingest { listen_url: reply.listen_url })
            }
            CallRequest::RemoveInput(request) => {
                streaming.remove_input(request).await?;
                Ok(CallReply::Done)
            }
            other => Err(misdirected(&other)),
        }
    }
}

fn misdirected(request: &CallRequest) -> Status {
    Status::internal(format!("call to the wrong kind of node: {request:?}"))
}
