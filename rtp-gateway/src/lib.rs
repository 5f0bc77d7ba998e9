//! Devices that speak plain RTP, RTCP and UDP: a REST API (that of SkyWay's WebRTC gateway) by which they take part in conferences, and call
//! and are called by other peers.
//!
//! Each connection is one WebRTC peer connection, a *leg*, with sockets for a device on its other side (`leg`, `media`). Who the leg is
//! with, and how the two agree, is its *far side* (`connection`): a room of the cluster, or another peer by the hub of peers (`cluster`).

mod api;
mod args;
mod cluster;
mod connection;
mod credential;
mod gateway;
mod ice;
mod ids;
mod leg;
mod mailbox;
mod media;
mod peer;

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use kaigi_proto::v1::Purpose;
use kaigi_telemetry::{Health, HealthServer};
use kaigi_worker::{Capacity, Channels, Registration, Shutdown, Tasks, new_worker_id, process_cpu_load};
use tokio::net::TcpListener;

pub use args::Args;
pub use ice::{IceServer, InvalidIceServer};

use cluster::Cluster;
use gateway::Gateway;
use ice::IceServers;
use media::Outlet;

/// What a peer with sound and picture takes, in cores; nobody places peers by it yet.
const CORES_OF_A_PEER: f64 = 0.01;
/// Time for connections and requests to end with the process.
const GRACE: Duration = Duration::from_secs(1);

/// The whole process, until it is to end. If it drains, connections that there are may end first. Ready when it is registered.
///
/// # Errors
/// If an address can't be listened on, the cluster's is none, or nobody could use a TURN server that is named.
pub async fn run(args: Args, health: Health, shutdown: impl Into<Shutdown>) -> anyhow::Result<()> {
    let shutdown: Shutdown = shutdown.into();
    let stop = shutdown.stop().clone();
    // Another part of this process may have done it before; it would be the same one.
    let _: Result<_, _> = rustls::crypto::ring::default_provider().install_default();
    let servers = [&args.ice_servers[..], &args.own_ice_servers].concat();
    let ice_servers = IceServers::new(servers, args.turn_secret.clone())?;
    let listen = async |address: SocketAddr| {
        TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
    };
    let listener = listen(args.api_listen).await?;
    let listening = listener.local_addr()?;
    let health_server = HealthServer::bind(args.worker.health_listen, health.clone()).await?;
    let trust = args.worker.trust.read()?;
    trust.report();
    let channels = Channels::new(trust);
    let to_cluster = channels.to_cluster(&args.worker.cluster)?;
    let worker_id = new_worker_id(Purpose::Gateway);
    let cluster = Cluster::new(channels, to_cluster, worker_id.to_string());
    let rooms = cluster.rooms.clone();
    let capacity = Capacity::of_cores(CORES_OF_A_PEER);
    let registration = Registration {
        cluster: cluster.manager(),
        worker: args.worker.describe(&worker_id, Purpose::Gateway, String::new()),
        capacity: capacity.clone(),
        tasks: Tasks::default(),
        shutdown: shutdown.clone(),
    };
    let limit = args.worker.drain_limit();
    let gateway = Gateway::new(args, ice_servers, cluster, Outlet::bind().await?, stop.clone());
    tracing::info!(worker = %worker_id, %listening, "rtp-gateway runs");

    tokio::spawn(health_server.run());
    tokio::spawn(process_cpu_load(capacity, stop.clone()));
    tokio::spawn(rooms.forget_the_dead(stop.clone()));
    let ready = health.clone();
    let registered = tokio::spawn(registration.run(stop.clone(), move || ready.set_ready(true)));
    let draining = gateway.clone();
    tokio::spawn(async move {
        shutdown.begun().await;
        health.set_ready(false);
        draining.drain();
        shutdown.drained(limit, || draining.is_idle()).await;
    });
    let ending = stop.clone();
    let serving = axum::serve(listener, api::router(gateway.clone()))
        .with_graceful_shutdown(async move { ending.cancelled().await });
    tokio::select! {
        served = serving => served.context("the API is no longer served")?,
        // Long polls end by themselves, but not in time.
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE / 2).await } => {}
    }
    // Peers and connections end with `stop`, whose children theirs are.
    let ended = async {
        while !gateway.is_idle() {
            tokio::time::sleep(GRACE / 50).await;
        }
    };
    let _: Result<_, _> = tokio::time::timeout(GRACE, ended).await;
    let _: Result<_, _> = tokio::time::timeout(GRACE, registered).await;
    Ok(())
}
