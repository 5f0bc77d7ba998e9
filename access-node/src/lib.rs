//! WebRTC termination and selective forwarding.
//!
//! The core is without I/O: [`node`] ties together what clients and the agent want ([`sdp`]), how clients connect ([`transport`]) and how
//! media flows ([`forward`]), with what each way carries ([`bandwidth`]), how that is divided ([`allocate`]), how much is sent twice
//! ([`protect`]) and how fast it leaves ([`pacing`]). Around it are the thread with the sockets ([`worker`]) and the gRPC services
//! ([`service`], [`events`]).

pub mod allocate;
pub mod arena;
mod args;
pub mod bandwidth;
pub mod events;
pub mod forward;
pub mod ids;
pub mod keys;
pub mod node;
pub mod pacing;
pub mod protect;
pub mod sctp;
pub mod sdp;
pub mod service;
pub mod timers;
pub mod transport;
pub mod worker;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use kaigi_proto::v1::{
    self, access_node_server::AccessNodeServer, cluster_client::ClusterClient,
    data_link_server::DataLinkServer, layer_link_server::LayerLinkServer, media_link_server::MediaLinkServer,
};
use kaigi_telemetry::{Health, HealthServer};
use kaigi_worker::{
    Capacity, Channels, LoadGauge, Registration, Shutdown, Smoothed, Tasks, cores, new_worker_id,
};
use tokio::net::TcpListener;
use tonic::{service::interceptor::InterceptedService, transport::server::TcpIncoming};

pub use args::{Args, candidates, default_workers};

use crate::{
    events::EventHub,
    node::{Limits, NodeConfig},
    service::{MAX_MESSAGE, Service},
    transport::Certificate,
    worker::{DataConsumers, Placement, Siblings, Sockets, WorkerHandle, WorkerParts, Workers},
};

/// What somebody takes who watches one large and eight small, and hears three: sent a second, and in cores.
const PACKETS_OF_A_PARTICIPANT: f64 = 570.0;
/// See [`PACKETS_OF_A_PARTICIPANT`].
const CORES_OF_A_PARTICIPANT: f64 = 0.0023;
/// How often absent agents are looked for.
const TICK: Duration = Duration::from_secs(1);
/// Time to leave the cluster and to tell the clients at the end.
const GRACE: Duration = Duration::from_secs(1);

/// Runs the process until it is to end. If it drains, its clients stay connected until they leave, at most for the time that is set. Ready
/// once it is registered.
///
/// # Errors
/// If an address can't be listened on, or the cluster's endpoint is none.
pub async fn run(args: Args, health: Health, shutdown: impl Into<Shutdown>) -> anyhow::Result<()> {
    let shutdown: Shutdown = shutdown.into();
    let stop = shutdown.stop().clone();
    let health_server = HealthServer::bind(args.worker.health_listen, health.clone()).await?;
    let listener = TcpListener::bind(args.worker.listen)
        .await
        .with_context(|| format!("can't listen on {}", args.worker.listen))?;
    let trust = args.worker.trust.read()?;
    trust.report();
    let endpoint = args.worker.endpoint(listener.local_addr()?, &trust);
    let sockets = (0..args.workers)
        .map(|number| {
            Ok(Sockets::bind(SocketAddr::new(args.bind, args.port_of(number)?), args.link_address)?)
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let media: Vec<_> = sockets.iter().map(Sockets::media_address).collect();
    let announced = args.announced().context("network interfaces can't be read")?;
    let worker_id = new_worker_id(v1::Purpose::Access);
    let channels = Channels::new(trust.clone());
    let (events, data) = (EventHub::default(), DataConsumers::default());
    let loads: Vec<_> = sockets.iter().map(|_| LoadGauge::default()).collect();
    let together = args.room_transports_per_worker.into();
    let placement = Placement::new(loads.clone(), together);
    let workers_of_cores = f64::from(args.workers).min(cores());
    let capacity = Capacity::default()
        .with(v1::Resource::Cpu, workers_of_cores, CORES_OF_A_PARTICIPANT)
        .with(v1::Resource::Packets, args.packets(), PACKETS_OF_A_PARTICIPANT);
    let sent: Vec<_> = sockets.iter().map(|_| Arc::<AtomicU64>::default()).collect();
    let siblings = Siblings::of(args.workers);
    let certificate = Certificate::generate()?;
    let mut handles = Vec::new();
    let counts = loads.iter().zip(&sent);
    for (number, ((sockets, (load, sent)), siblings)) in
        sockets.into_iter().zip(counts).zip(siblings).enumerate()
    {
        let parts = WorkerParts {
            number,
            config: NodeConfig {
                worker: worker_id.clone(),
                certificate: certificate.clone(),
                candidates: candidates(&announced, sockets.media_address().port()),
                link_address: sockets.link_address(),
                limits: Limits::default(),
            },
            sockets,
            events: events.clone(),
            data: data.clone(),
            channels: channels.clone(),
            placement: placement.clone(),
            siblings,
            load: load.clone(),
            sent: Arc::clone(sent),
            stop: stop.clone(),
        };
        handles.push(worker::start(parts, tokio::runtime::Handle::current())?);
    }
    let workers = Workers::new(handles, placement.clone());
    tracing::info!(worker = %worker_id, endpoint, ?media, ?announced, "access-node runs");

    let service = Service { workers: workers.clone(), events: events.clone(), data: data.clone() };
    let require = trust.require();
    let access = AccessNodeServer::new(service.clone()).max_decoding_message_size(MAX_MESSAGE);
    let server = trust
        .server()?
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .add_service(InterceptedService::new(access, require.clone()))
        .add_service(InterceptedService::new(MediaLinkServer::new(service.clone()), require.clone()))
        .add_service(InterceptedService::new(LayerLinkServer::new(service.clone()), require.clone()))
        .add_service(InterceptedService::new(DataLinkServer::new(service), require))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    let registration = Registration {
        cluster: ClusterClient::new(channels.to_cluster(&args.worker.cluster)?),
        worker: args.worker.describe(&worker_id, v1::Purpose::Access, endpoint),
        capacity: capacity.clone(),
        tasks: Tasks::default(),
        shutdown: shutdown.clone(),
    };
    let ready = health.clone();
    let registered = tokio::spawn(registration.run(stop.clone(), move || ready.set_ready(true)));
    tokio::select! {
        served = server => served?,
        served = health_server.run() => served?,
        () = watch(workers.clone(), events, data, Loads::new(loads, sent, capacity)) => anyhow::bail!("the media worker has ended"),
        () = async {
            shutdown.begun().await;
            health.set_ready(false);
            shutdown.drained(args.worker.drain_limit(), || placement.is_empty()).await;
        } => {}
    }
    health.set_ready(false);
    let _: Result<_, _> = tokio::time::timeout(GRACE, async {
        let _ = registered.await;
        for worker in workers.iter() {
            worker.ended().await;
        }
    })
    .await;
    Ok(())
}

/// What each worker uses and sends, put together to what the process can take more of.
struct Loads {
    cpu: Vec<LoadGauge>,
    sent: Vec<Arc<AtomicU64>>,
    smoothed: Smoothed,
    last: (Instant, u64),
    capacity: Capacity,
}

impl Loads {
    fn new(cpu: Vec<LoadGauge>, sent: Vec<Arc<AtomicU64>>, capacity: Capacity) -> Self {
        Self { cpu, sent, smoothed: Smoothed::default(), last: (Instant::now(), 0), capacity }
    }

    /// To be called about once a second.
    fn combine(&mut self, now: Instant) {
        let cpu = self.cpu.iter().map(LoadGauge::get).sum();
        self.capacity.set(v1::Resource::Cpu, self.smoothed.push(cpu));
        let sent = self.sent.iter().map(|sent| sent.load(Ordering::Relaxed)).sum();
        let (at, before) = std::mem::replace(&mut self.last, (now, sent));
        let seconds = now.duration_since(at).as_secs_f64();
        if seconds > 0.1 {
            self.capacity.set(v1::Resource::Packets, (sent - before) as f64 / seconds);
        }
    }
}

/// Closes what agents and other nodes leave behind that are gone. Returns if a worker has ended.
async fn watch(workers: Workers, events: EventHub, data: DataConsumers, mut loads: Loads) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        loads.combine(Instant::now());
        for agent in events.take_absent(Instant::now()) {
            tracing::warn!(worker = %agent, "agent is gone, its transports are closed");
            if workers.all(move |node, now| node.close_agent(now, &agent)).await.is_err() {
                return;
            }
        }
        for consumer in data.take_closed() {
            if workers.all(move |node, _| node.close_data_consumer(consumer)).await.is_err() {
                return;
            }
        }
        if workers.iter().any(WorkerHandle::is_gone) {
            return;
        }
    }
}
