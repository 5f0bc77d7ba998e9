//! The thread that moves packets: one [`Node`] with its sockets. Everything of a client happens on one worker, so nothing is shared
//! and nothing is locked; several workers could run side by side, each with a port of its own.

mod batch;
mod metrics;
mod sockets;
mod tcp;

pub use sockets::{BindError, Sockets};

use std::{
    collections::HashMap,
    time::{Duration, Instant, SystemTime},
};

use kaigi_proto::v1::{self, media_link_client::MediaLinkClient};
use kaigi_worker::{Channels, LoadGauge};
use rand::RngCore;
use tokio::{runtime::Handle, sync::mpsc, sync::oneshot};
use tokio_util::sync::CancellationToken;

use self::{
    batch::Batch,
    metrics::Metrics,
    tcp::{Connections, FromConnection},
};
use crate::{
    events::EventHub,
    node::{LinkCall, Node, NodeConfig},
    transport::{ConnectionId, Path, Peer},
};

/// Calls that may wait for the worker; more wait at their callers.
const JOBS: usize = 1024;
/// Calls done between two looks at the sockets.
const JOBS_AT_ONCE: usize = 64;
/// Frames of TCP connections that may wait; more wait in the connections.
const FRAMES: usize = 1024;
/// Batches of datagrams read between two flushes; more adds delay to the first of them.
const BATCHES_AT_ONCE: usize = 4;
/// Deadline of calls to other nodes.
const LINK_CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// How often counters become metrics and the load is measured.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce(&mut Node, Instant) + Send>;

/// The worker has ended.
#[derive(Debug, thiserror::Error)]
#[error("the worker has ended")]
pub struct WorkerGone;

impl From<WorkerGone> for tonic::Status {
    fn from(gone: WorkerGone) -> Self {
        Self::unavailable(gone.to_string())
    }
}

/// Calls into a worker's node, from other threads.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    jobs: mpsc::Sender<Job>,
}

impl WorkerHandle {
    /// Whether the worker has ended.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.jobs.is_closed()
    }

    /// Has `job` done on the worker and waits for what it gives. If the caller goes away the job may be done all the same.
    ///
    /// # Errors
    /// If the worker has ended.
    pub async fn call<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Node, Instant) -> R + Send + 'static,
    ) -> Result<R, WorkerGone> {
        let (sender, receiver) = oneshot::channel();
        let job: Job = Box::new(move |node, now| {
            // Nobody waits any more: what was done stays done.
            let _ = sender.send(job(node, now));
        });
        self.jobs.send(job).await.map_err(|_| WorkerGone)?;
        receiver.await.map_err(|_| WorkerGone)
    }
}

/// What a worker is started with.
#[derive(Debug)]
pub struct WorkerParts {
    /// Where it listens.
    pub sockets: Sockets,
    /// What its node is.
    pub config: NodeConfig,
    /// Where its events go.
    pub events: EventHub,
    /// To other nodes.
    pub channels: Channels,
    /// Its load, of one core.
    pub load: LoadGauge,
    /// When to end.
    pub stop: CancellationToken,
}

/// Starts a worker's thread; `calls` runs its calls to other nodes.
///
/// # Errors
/// If the thread or its runtime can't be made.
pub fn start(parts: WorkerParts, calls: Handle) -> std::io::Result<WorkerHandle> {
    let (jobs, receiver) = mpsc::channel(JOBS);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = WorkerHandle { jobs };
    let back = handle.clone();
    std::thread::Builder::new().name("media".to_owned()).spawn(move || {
        runtime.block_on(async move {
            match Worker::new(parts, receiver, back, calls) {
                Ok(worker) => worker.run().await,
                Err(error) => tracing::error!(%error, "the media worker did not start"),
            }
        });
    })?;
    Ok(handle)
}

struct Worker {
    node: Node,
    sockets: sockets::Open,
    batch: Batch,
    connections: Connections,
    frames: mpsc::Receiver<FromConnection>,
    /// The way of each TCP connection, for when it closes.
    paths: HashMap<ConnectionId, Path>,
    jobs: mpsc::Receiver<Job>,
    back: WorkerHandle,
    calls: Handle,
    events: EventHub,
    channels: Channels,
    load: LoadGauge,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Worker {
    fn new(
        parts: WorkerParts,
        jobs: mpsc::Receiver<Job>,
        back: WorkerHandle,
        calls: Handle,
    ) -> std::io::Result<Self> {
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        let (sender, frames) = mpsc::channel(FRAMES);
        Ok(Self {
            node: Node::new(Instant::now(), SystemTime::now(), seed, parts.config),
            sockets: parts.sockets.open()?,
            batch: Batch::default(),
            connections: Connections::new(sender),
            frames,
            paths: HashMap::new(),
            jobs,
            back,
            calls,
            events: parts.events,
            channels: parts.channels,
            load: parts.load,
            metrics: Metrics::default(),
            stop: parts.stop,
        })
    }

    async fn run(mut self) {
        let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let deadline = self.node.next_timeout();
            let due = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ready = self.sockets.udp.readable() => if ready.is_ok() { self.read_udp() },
                ready = self.sockets.link.readable() => if ready.is_ok() { self.read_link() },
                Some(job) = self.jobs.recv() => self.run_jobs(job),
                Some(frame) = self.frames.recv() => self.take_frame(frame),
                accepted = self.sockets.tcp.accept() => match accepted {
                    Ok((stream, peer)) => self.connections.accept(stream, peer),
                    // Out of file descriptors, most likely: there is nothing to do but to wait.
                    Err(error) => {
                        tracing::warn!(%error, "TCP connection not accepted");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                },
                () = due => {}
                _ = housekeeping.tick() => self.metrics.publish(&self.node, self.batch.dropped(), &self.load),
                () = self.stop.cancelled() => break,
            }
            self.node.handle_timeout(Instant::now());
            self.flush();
        }
    }

    fn run_jobs(&mut self, first: Job) {
        let now = Instant::now();
        first(&mut self.node, now);
        for _ in 1..JOBS_AT_ONCE {
            let Ok(job) = self.jobs.try_recv() else { break };
            job(&mut self.node, now);
        }
    }

    fn read_udp(&mut self) {
        for _ in 0..BATCHES_AT_ONCE {
            let node = &mut self.node;
            let mut now = None;
            let read =
                self.batch.receive(&self.sockets.udp, &self.sockets.udp_state, |address, local, bytes| {
                    let now = *now.get_or_insert_with(Instant::now);
                    node.handle_datagram(now, Path { peer: Peer { address, tcp: None }, local }, bytes);
                });
            if !read {
                break;
            }
        }
    }

    fn read_link(&mut self) {
        for _ in 0..BATCHES_AT_ONCE {
            let node = &mut self.node;
            let now = Instant::now();
            let read =
                self.batch.receive(&self.sockets.link, &self.sockets.link_state, |address, _, bytes| {
                    node.handle_link_datagram(now, address, bytes);
                });
            if !read {
                break;
            }
        }
    }

    fn take_frame(&mut self, frame: FromConnection) {
        match frame {
            FromConnection::Frame { id, peer, local, bytes } => {
                let path = Path { peer: Peer { address: peer, tcp: Some(id) }, local: Some(local) };
                self.paths.insert(id, path);
                self.node.handle_datagram(Instant::now(), path, &bytes);
            }
            FromConnection::Closed(id) => {
                self.connections.remove(id);
                if let Some(path) = self.paths.remove(&id) {
                    self.node.path_closed(&path);
                }
            }
        }
    }

    /// Does what the node wants done.
    fn flush(&mut self) {
        let now = Instant::now();
        let output = self.node.output();
        for (agent, event) in output.events.drain(..) {
            self.events.send(now, &agent, event);
        }
        if !output.datagrams.is_empty() {
            let connections = &mut self.connections;
            self.batch.send(
                &self.sockets.udp,
                &self.sockets.udp_state,
                &mut output.datagrams,
                |id, bytes| {
                    connections.send(id, bytes);
                },
            );
        }
        if !output.link_datagrams.is_empty() {
            self.batch.send_plain(&self.sockets.link, &self.sockets.link_state, &mut output.link_datagrams);
        }
        for call in std::mem::take(&mut output.calls) {
            self.call(call);
        }
    }

    fn call(&self, call: LinkCall) {
        let (channels, back) = (self.channels.clone(), self.back.clone());
        match call {
            LinkCall::Attach { flow, endpoint, request } => {
                self.calls.spawn(async move {
                    let reply = attach(&channels, &endpoint, request.clone()).await;
                    let done = move |node: &mut Node, now| node.attached(now, flow, &request, reply);
                    // The worker has ended: there is nobody to tell.
                    let _: Result<(), WorkerGone> = back.call(done).await;
                });
            }
            LinkCall::Detach { endpoint, attachment } => {
                self.calls.spawn(async move {
                    let Ok(channel) = channels.to(&endpoint) else { return };
                    let request = v1::DetachRequest { attachment_id: attachment.to_string() };
                    let call = async { MediaLinkClient::new(channel).detach(request).await };
                    // If it fails the producer ends the flow by itself when it hears no reports.
                    let _: Result<_, _> = tokio::time::timeout(LINK_CALL_TIMEOUT, call).await;
                });
            }
        }
    }
}

async fn attach(
    channels: &Channels,
    endpoint: &str,
    request: v1::AttachRequest,
) -> Result<v1::AttachReply, tonic::Status> {
    let mut client = MediaLinkClient::new(channels.to(endpoint)?);
    match tokio::time::timeout(LINK_CALL_TIMEOUT, client.attach(request)).await {
        Ok(reply) => reply.map(tonic::Response::into_inner),
        Err(_) => Err(tonic::Status::deadline_exceeded("the producer does not answer")),
    }
}
