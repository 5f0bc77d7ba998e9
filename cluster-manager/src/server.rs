//! The gRPC services on one listener, and what runs beside them.

use std::{sync::Arc, time::Duration, time::Instant};

use kaigi_proto::v1::{
    cluster_server::ClusterServer, events_server::EventsServer, group_server::GroupServer,
    peer_rooms_server::PeerRoomsServer, store_server::StoreServer,
};
use kaigi_worker::Trust;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    service::{Routes, interceptor::InterceptedService},
    transport::{Server, server::TcpIncoming},
};

use crate::{
    cluster_service::ClusterService,
    events::{self, EventSettings, EventsService},
    group::{GroupService, Led, Standing, Term},
    hub::Hub,
    journal,
    peers::PeerRoomsService,
    probe,
    registry::{Registry, RegistryConfig},
    store::{Store, StoreError},
    store_service::{self, StoreService},
};

/// Longest time for any call but a watch, which it bounds only until its stream begins.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Most calls on one connection: each peer of a portal holds one open for as long as it is in a room.
const MAX_STREAMS: u32 = 1 << 17;
/// A peer that is gone without a word is noticed after this interval plus [`KEEP_ALIVE_TIMEOUT`].
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// See [`KEEP_ALIVE_INTERVAL`].
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often expired documents are removed. They are invisible from the moment they expire; this is for the disk alone.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// Longest time for calls under way to end when stopping.
const STOP_TIMEOUT: Duration = Duration::from_millis(1500);

/// Why the server ended early.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// What the predecessor left could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing can be sent to webhooks.
    #[error("{0}")]
    Client(String),
    /// The hub of events ended by itself, which is a fault in it. What it had taken in is in the store.
    #[error("the hub of events has failed")]
    Events,
    /// The listener broke.
    #[error(transparent)]
    Transport(#[from] tonic::transport::Error),
}

/// What is served by.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// The registry.
    pub registry: RegistryConfig,
    /// What happens in rooms.
    pub events: EventSettings,
}

impl From<RegistryConfig> for ServeConfig {
    fn from(registry: RegistryConfig) -> Self {
        Self { registry, events: EventSettings::default() }
    }
}

/// In which term of whose leadership calls are answered.
pub(crate) struct Lead {
    pub(crate) standing: Standing,
    pub(crate) term: Term,
    /// Where this process is called; empty = not known.
    pub(crate) endpoint: String,
}

/// Serves all services until `stop`, as the only cluster-manager on that store.
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(
    listener: TcpListener,
    store: Arc<dyn Store>,
    config: impl Into<ServeConfig>,
    trust: impl Into<Trust>,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let (standing, term) = Standing::alone();
    let lead = Lead { standing, term, endpoint: String::new() };
    lead_on(listener, store, config.into(), trust.into(), lead, stop).await
}

/// Says who leads, and refuses all else, until `stop`.
pub(crate) async fn follow_on(
    listener: TcpListener,
    trust: Trust,
    group: GroupService,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let refuse =
        async || Status::unavailable("this cluster-manager does not lead").into_http::<tonic::body::Body>();
    let routes = Routes::from(axum::Router::new().fallback(refuse))
        .add_service(GroupServer::with_interceptor(group, trust.require()));
    let serving = serving(&trust)?
        .add_routes(routes)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    tokio::select! {
        served = serving => Ok(served?),
        () = stop.cancelled() => Ok(()),
    }
}

fn serving(trust: &Trust) -> Result<Server, tonic::transport::Error> {
    Ok(trust
        .server()?
        .timeout(CALL_TIMEOUT)
        .max_concurrent_streams(Some(MAX_STREAMS))
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT)))
}

/// Serves all services until `stop`, in one term.
pub(crate) async fn lead_on(
    listener: TcpListener,
    store: Arc<dyn Store>,
    config: ServeConfig,
    trust: Trust,
    lead: Lead,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let now = Instant::now();
    let ServeConfig { registry, events } = config;
    let mut registry = Registry::new(registry, now, rand::random());
    registry.restore(now, journal::known_workers(&*store).await?);
    let hub = Hub::new(registry);

    let stop_all = stop.child_token();
    let _stop_all_at_the_end = stop_all.clone().drop_guard();
    tokio::spawn(hub.clone().run(stop_all.clone()));
    tokio::spawn(probe::look_after_all(hub.clone(), stop_all.clone()));
    let journal = tokio::spawn(journal::keep(hub.clone(), store.clone(), stop_all.clone()));
    tokio::spawn(sweep(store.clone(), stop_all.clone()));
    let sender = events::Sender::new(events.targets).map_err(|e| ServeError::Client(e.to_string()))?;
    let (events, passing_on) = events::start(store.clone(), events, sender, stop_all.clone()).await?;
    let passed_on = CancellationToken::new();
    let ended = passed_on.clone().drop_guard();
    tokio::spawn(async move {
        let _ended = ended;
        passing_on.await
    });

    let Lead { standing, term, endpoint } = lead;
    let group = GroupServer::with_interceptor(GroupService::new(standing.clone(), endpoint), trust.require());
    let led = Led { require: trust.require(), standing, term };
    let cluster = ClusterService::new(hub.clone(), store.clone());
    let documents =
        StoreServer::new(StoreService::new(hub, store)).max_decoding_message_size(store_service::MAX_MESSAGE);
    let serving = serving(&trust)?
        .add_service(group)
        .add_service(ClusterServer::with_interceptor(cluster, led.clone()))
        .add_service(InterceptedService::new(documents, led.clone()))
        .add_service(EventsServer::with_interceptor(EventsService::new(events), led.clone()))
        .add_service(PeerRoomsServer::with_interceptor(PeerRoomsService::new(stop_all.clone()), led))
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            stop_all.clone().cancelled_owned(),
        );
    let stopped_long_ago = async {
        stop_all.cancelled().await;
        tokio::time::sleep(STOP_TIMEOUT).await;
    };
    let failed = async {
        passed_on.cancelled().await;
        if stop_all.is_cancelled() {
            std::future::pending().await
        }
    };
    let served = tokio::select! {
        served = serving => served.map_err(ServeError::from),
        () = stopped_long_ago => Ok(()),
        () = failed => Err(ServeError::Events),
    };
    stop_all.cancel();
    if tokio::time::timeout(STOP_TIMEOUT, journal).await.is_err() {
        tracing::warn!("the last changes of who is alive were not recorded");
    }
    if tokio::time::timeout(STOP_TIMEOUT, passed_on.cancelled()).await.is_err() {
        tracing::warn!("how far the webhooks are was not recorded");
    }
    served
}

async fn sweep(store: Arc<dyn Store>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
        match store.sweep().await {
            Ok(0) => {}
            Ok(swept) => tracing::debug!(documents = swept, "expired documents removed"),
            Err(error) => tracing::warn!(%error, "expired documents not removed"),
        }
    }
}
