//! Rooms: participants, streams, subscriptions, layouts. Decides, never touches media.
//!
//! [`run`] is the process; each room is a synchronous core (`room`) run by a task of its own (`actor`).

mod actor;
mod audience;
mod callers;
mod directory;
mod events;
mod feed;
mod handover;
mod keeper;
mod log;
mod nodes;
mod parse;
mod room;
mod rooms;
mod service;
mod shared;
mod stats;
mod status;
mod watch;

use std::{sync::Arc, time::Duration};

use kaigi_proto::v1::{
    self, cluster_client::ClusterClient, conference_server::ConferenceServer, events_client::EventsClient,
};
use kaigi_telemetry::{Health, HealthServer, LogArgs};
use kaigi_worker::{
    Capacity, Channels, EventPublisher, Registration, Shutdown, Tasks, WorkerArgs, new_worker_id,
    process_cpu_load,
};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use crate::{
    feed::Backlog,
    rooms::Rooms,
    service::ConferenceService,
    shared::{Limits, Shared},
};

pub use room::built_in_layouts;

/// Largest request, in bytes: an SDP of a client that sees very many streams.
const MAX_MESSAGE: usize = 1 << 20;
/// Most calls on one connection: each participant of a portal holds one open for as long as it is in a room.
const MAX_STREAMS: u32 = 1 << 16;
/// What a room takes in which people come, go and ask for something now and then, in cores.
const CORES_OF_A_ROOM: f64 = 0.01;
/// Longest wait for rooms to end at shutdown.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(1500);
/// Longest wait for answers to be sent.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(200);

/// The conference-agent's command line.
#[derive(Clone, Debug, clap::Parser)]
#[command(
    name = "kaigi-conference-agent",
    version,
    about = "Rooms: who is in them, what is published, subscribed and mixed"
)]
pub struct Args {
    #[command(flatten)]
    /// Its place in the cluster.
    pub worker: WorkerArgs,
    #[command(flatten)]
    /// Its logs.
    pub log: LogArgs,
    /// Seconds for which a room that nobody is in is kept
    #[arg(long, env = "KAIGI_ROOM_IDLE", default_value_t = 30)]
    pub room_idle: u64,
    /// Seconds for which the place of a participant whose connection broke is kept, at most
    #[arg(long, env = "KAIGI_RECONNECTION_LIMIT", default_value_t = 300)]
    pub reconnection_limit: u64,
    /// Notifications kept for each participant, to be told again if its connection breaks; one who is away and misses more leaves
    #[arg(long, env = "KAIGI_MAX_KEPT", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(64..=1_000_000))]
    pub max_kept: u32,
    /// Bytes of notifications kept for each participant, likewise
    #[arg(long, env = "KAIGI_MAX_KEPT_BYTES", default_value_t = 1 << 20, value_parser = clap::value_parser!(u32).range(65_536..=1 << 30))]
    pub max_kept_bytes: u32,
}

/// Runs the process until it is to end. If it drains, its rooms go on at another agent, or when one comes; if it is stopped, they end. Then
/// it leaves the cluster.
///
/// # Errors
/// If an address can't be listened on, or the cluster's endpoint is none.
pub async fn run(args: Args, health: Health, shutdown: impl Into<Shutdown>) -> anyhow::Result<()> {
    let shutdown = shutdown.into();
    let listener = tokio::net::TcpListener::bind(args.worker.listen).await?;
    let trust = args.worker.trust.read()?;
    trust.report();
    let endpoint = args.worker.endpoint(listener.local_addr()?, &trust);
    let health_server = HealthServer::bind(args.worker.health_listen, health.clone()).await?;
    let (agent, capacity, tasks) =
        (new_worker_id(v1::Purpose::Conference), Capacity::of_cores(CORES_OF_A_ROOM), Tasks::default());
    tracing::info!(worker = %agent, endpoint, health = %health_server.local_addr()?, "conference-agent listens");

    let channels = Channels::new(trust.clone());
    let manager = channels.to_cluster(&args.worker.cluster)?;
    let limits = Limits {
        idle: Duration::from_secs(args.room_idle),
        away: Duration::from_secs(args.reconnection_limit),
        backlog: Backlog { events: args.max_kept as usize, bytes: args.max_kept_bytes as usize },
    };
    let shared = Arc::new(Shared::new(agent.clone(), channels, manager.clone(), tasks.clone(), limits));
    let rooms = Arc::new(Rooms::new(shared.clone()));
    let publisher = EventPublisher {
        queue: shared.events.clone(),
        hub: EventsClient::new(manager.clone()),
        publisher: agent.clone(),
    };

    let service =
        ConferenceServer::new(ConferenceService::new(rooms.clone())).max_decoding_message_size(MAX_MESSAGE);
    let guarded = tonic::service::interceptor::InterceptedService::new(service, trust.require());
    let server_stop = CancellationToken::new();
    let server = trust
        .server()?
        .max_concurrent_streams(Some(MAX_STREAMS))
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(5)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .add_service(guarded)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            server_stop.clone().cancelled_owned(),
        );

    let registration = Registration {
        cluster: ClusterClient::new(manager),
        worker: args.worker.describe(&agent, v1::Purpose::Conference, endpoint),
        capacity: capacity.clone(),
        tasks,
        shutdown: shutdown.clone(),
    };
    // The lease is given back after the rooms are, so that nobody takes them for lost.
    let leave = CancellationToken::new();
    let registered = {
        let health = health.clone();
        tokio::spawn(registration.run(leave.clone(), move || health.set_ready(true)))
    };
    let over = CancellationToken::new();
    let ending = over.clone().drop_guard();
    tokio::spawn(process_cpu_load(capacity, over.clone()));
    tokio::spawn(watch::watch_cluster(shared.clone(), rooms.clone(), over));
    let health_task = tokio::spawn(health_server.run());
    let mut server = tokio::spawn(server);
    let rooms_closed = CancellationToken::new();
    let published = tokio::spawn(publisher.run(rooms_closed.clone()));

    shutdown.begun().await;
    health.set_ready(false);
    if shutdown.is_draining() {
        rooms.hand_over(&shared, args.worker.drain_limit(), shutdown.stop()).await;
    } else if tokio::time::timeout(CLOSE_TIMEOUT, rooms.close("Server is shutting down")).await.is_err() {
        tracing::warn!("some rooms did not end in time");
    }
    drop(ending);
    rooms_closed.cancel();
    leave.cancel();
    server_stop.cancel();
    // Who was about to be answered is.
    if tokio::time::timeout(ANSWER_TIMEOUT, &mut server).await.is_err() {
        server.abort();
    }
    health_task.abort();
    let _: Result<_, _> = tokio::time::timeout(Duration::from_millis(400), registered).await;
    // Ends by itself, in time.
    let _: Result<_, _> = published.await;
    Ok(())
}
