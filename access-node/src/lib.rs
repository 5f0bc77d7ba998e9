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
    time::{Duration, Instant},
};

use anyhow::Context;
use kaigi_proto::v1::{
    self, access_node_server::AccessNodeServer, cluster_client::ClusterClient,
    data_link_server::DataLinkServer, layer_link_server::LayerLinkServer, media_link_server::MediaLinkServer,
};
use kaigi_telemetry::{Health, HealthServer};
use kaigi_worker::{Channels, LoadGauge, Registration, Shutdown, Tasks, new_worker_id};
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
    let (load, placement) = (LoadGauge::default(), Placement::new(loads.clone(), together));
    let siblings = Siblings::of(args.workers);
    let certificate = Certificate::generate()?;
    let mut handles = Vec::new();
    for (number, ((sockets, load), siblings)) in sockets.into_iter().zip(&loads).zip(siblings).enumerate() {
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
        load: load.clone(),
        tasks: Tasks::default(),
        shutdown: shutdown.clone(),
    };
    let ready = health.clone();
    let registered = tokio::spawn(registration.run(stop.clone(), move || ready.set_ready(true)));
    tokio::select! {
        served = server => served?,
        served = health_server.run() => served?,
        () = watch(workers.clone(), events, data, Loads { each: loads, all: load }) => anyhow::bail!("the media worker has ended"),
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

/// The load of each worker, and of all: what the process can take more of.
struct Loads {
    each: Vec<LoadGauge>,
    all: LoadGauge,
}

impl Loads {
    fn combine(&self) {
        let sum: f64 = self.each.iter().map(LoadGauge::get).sum();
        self.all.set(sum / self.each.len() as f64);
    }
}

/// Closes what agents and other nodes leave behind that are gone. Returns if a worker has ended.
async fn watch(workers: Workers, events: EventHub, data: DataConsumers, loads: Loads) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        loads.combine();
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
