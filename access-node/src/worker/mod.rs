//! The thread that moves packets: one [`Node`] with its sockets. Everything of a client happens on one worker, so nothing is shared
//! and nothing is locked. Several run side by side, each with clients and a port of its own ([`Placement`]); a track that is wanted on
//! another one crosses by a ring ([`Siblings`]).

mod arrivals;
mod data;
mod departures;
mod flush;
mod metrics;
mod placement;
mod sendmmsg;
mod siblings;
mod sockets;
mod tcp;
mod workers;

pub use data::{DataConsumers, DataStream, ExchangeStream};
pub use placement::Placement;
pub use siblings::Siblings;
pub use sockets::{BindError, Sockets};
pub use workers::Workers;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use kaigi_worker::{Channels, LoadGauge};
use rand::RngCore;
use tokio::{runtime::Handle, sync::mpsc, sync::oneshot};
use tokio_util::sync::CancellationToken;

use self::{
    arrivals::Arrivals,
    data::DataExit,
    departures::Departures,
    flush::Exit,
    metrics::Metrics,
    siblings::{FromWorker, Inward},
    tcp::{Connections, FromConnection},
};
use crate::{
    events::EventHub,
    node::{Node, NodeConfig},
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
/// Datagrams to be sent that are much work: they take a tenth of a millisecond.
const MUCH: usize = 64;
/// How often counters become metrics and the load is measured.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// Time for TCP connections to take their last datagrams at the end. The whole process has two seconds.
const FAREWELL: Duration = Duration::from_millis(500);

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

    /// Waits until the worker has ended.
    pub async fn ended(&self) {
        self.jobs.closed().await;
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
    /// Which of the process's workers it is, from 0.
    pub number: usize,
    /// Where it listens.
    pub sockets: Sockets,
    /// What its node is.
    pub config: NodeConfig,
    /// Where its events go.
    pub events: EventHub,
    /// Where data for other nodes go.
    pub data: DataConsumers,
    /// To other nodes.
    pub channels: Channels,
    /// Where it says which transports have ended.
    pub placement: Placement,
    /// The ways to the other workers of the process.
    pub siblings: Siblings,
    /// Its load, of one core.
    pub load: LoadGauge,
    /// Packets that it has sent, to clients and to other nodes.
    pub sent: Arc<AtomicU64>,
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
    std::thread::Builder::new().name(format!("media-{}", parts.number)).spawn(move || {
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
    arrivals: Arrivals,
    exit: Exit,
    inward: Inward,
    frames: mpsc::Receiver<FromConnection>,
    /// The way of each TCP connection, for when it closes.
    paths: HashMap<ConnectionId, Path>,
    jobs: mpsc::Receiver<Job>,
    load: LoadGauge,
    sent: Arc<AtomicU64>,
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
        let (own, count) = parts.siblings.place();
        let Siblings { inward, outward, .. } = parts.siblings;
        Ok(Self {
            node: Node::new(Instant::now(), SystemTime::now(), seed, parts.config).among(own, count),
            sockets: parts.sockets.open()?,
            arrivals: Arrivals::default(),
            exit: Exit {
                departures: Departures::default(),
                connections: Connections::new(sender),
                events: parts.events,
                data: DataExit::new(parts.data),
                placement: parts.placement,
                channels: parts.channels,
                calls,
                back,
                outward,
            },
            inward,
            frames,
            paths: HashMap::new(),
            jobs,
            load: parts.load,
            sent: parts.sent,
            metrics: Metrics::new(parts.number),
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
                ready = self.sockets.udp.socket.readable() => if ready.is_ok() { self.read_udp() },
                ready = self.sockets.link.socket.readable() => if ready.is_ok() { self.read_link() },
                Some(job) = self.jobs.recv() => self.run_jobs(job),
                () = self.inward.wait() => {}
                Some(frame) = self.frames.recv() => self.take_frame(frame),
                accepted = self.sockets.tcp.accept() => match accepted {
                    Ok((stream, peer)) => self.exit.connections.accept(stream, peer),
                    // Out of file descriptors, most likely: there is nothing to do but to wait.
                    Err(error) => {
                        tracing::warn!(%error, "TCP connection not accepted");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                },
                () = due => {}
                _ = housekeeping.tick() => {
                    self.metrics.publish(&self.node, &self.exit, &self.load);
                    let counted = self.node.counters();
                    self.sent.store(counted.packets_out + counted.link_packets_out, Ordering::Relaxed);
                }
                () = self.stop.cancelled() => break,
            }
            self.read_workers();
            self.node.handle_timeout(Instant::now());
            self.exit.flush(&mut self.node, &self.sockets);
        }
        self.say_farewell().await;
    }

    /// Tells the clients that the node ends.
    async fn say_farewell(mut self) {
        self.node.close(Instant::now());
        self.exit.flush(&mut self.node, &self.sockets);
        let mut open = self.exit.connections.finish();
        let written = async {
            while open > 0
                && let Some(frame) = self.frames.recv().await
            {
                open -= usize::from(matches!(frame, FromConnection::Closed(_)));
            }
        };
        if tokio::time::timeout(FAREWELL, written).await.is_err() {
            tracing::debug!("not all connections took their last datagrams");
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
        let Self { node, sockets, arrivals, exit, .. } = self;
        for _ in 0..BATCHES_AT_ONCE {
            let mut now = None;
            let received = arrivals.receive(&sockets.udp, |address, local, bytes| {
                let now = *now.get_or_insert_with(Instant::now);
                node.handle_datagram(now, Path { peer: Peer { address, tcp: None }, local }, bytes);
                exit.flush_if_full(node, sockets);
            });
            if received == 0 {
                break;
            }
            // What made much work took time, in which more has come.
            if Arrivals::is_all(received) && node.output().datagrams.len() < MUCH {
                sockets.udp.is_empty_now();
                break;
            }
        }
    }

    fn read_link(&mut self) {
        let Self { node, sockets, arrivals, exit, .. } = self;
        for _ in 0..BATCHES_AT_ONCE {
            let mut now = None;
            let received = arrivals.receive(&sockets.link, |address, _, bytes| {
                node.handle_link_datagram(*now.get_or_insert_with(Instant::now), address, bytes);
                exit.flush_if_full(node, sockets);
            });
            if received == 0 {
                break;
            }
        }
    }

    fn read_workers(&mut self) {
        let Self { node, sockets, inward, exit, .. } = self;
        let mut now = None;
        inward.take(|from, what| {
            let now = *now.get_or_insert_with(Instant::now);
            match what {
                FromWorker::Notice(notice) => node.handle_notice(now, from, notice),
                FromWorker::Record(record) => node.handle_crossing(now, from, record),
            }
            exit.flush_if_full(node, sockets);
        });
    }

    fn take_frame(&mut self, frame: FromConnection) {
        match frame {
            FromConnection::Frame { id, peer, local, bytes } => {
                let path = Path { peer: Peer { address: peer, tcp: Some(id) }, local: Some(local) };
                self.paths.insert(id, path);
                self.node.handle_datagram(Instant::now(), path, &bytes);
            }
            FromConnection::Closed(id) => {
                self.exit.connections.remove(id);
                if let Some(path) = self.paths.remove(&id) {
                    self.node.path_closed(&path);
                }
            }
        }
    }
}
