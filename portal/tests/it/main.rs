//! A whole portal against a cluster made of memory: real Socket.IO and HTTP outside, real gRPC inside.
#![allow(clippy::unwrap_used)] // The lint takes the helpers of an integration test for production code.

mod client;
mod cluster;
mod documents;
mod drain;
mod echo;
mod entity_tags;
mod events;
mod http;

mod malformed;
mod management;
mod once;
mod openapi;
mod owt_peers;
mod pages;
mod peers;
mod reconnection;
mod relay;
mod requests;
mod signaling;
mod statistics;
mod versions;
mod whip;

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use kaigi_portal::{Args, Portal};
use kaigi_telemetry::Health;
use kaigi_worker::Shutdown;
use tokio_util::sync::CancellationToken;

use cluster::Cluster;

/// Longest wait for anything in these tests.
const PATIENCE: Duration = Duration::from_secs(10);

/// A portal with its cluster; ends when dropped.
struct House {
    cluster: Cluster,
    http: SocketAddr,
    management: SocketAddr,
    health: SocketAddr,
    /// Where OWT's peer-to-peer clients are served, if they are.
    owt_peers: Option<SocketAddr>,
    /// Where media are given back on a port of their own, if they are.
    echo: Option<SocketAddr>,
    stop: CancellationToken,
    shutdown: Shutdown,
    ended: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl House {
    async fn new() -> Self {
        Self::with(&[]).await
    }

    async fn with(more: &[&str]) -> Self {
        Self::of(Cluster::start().await, more).await
    }

    /// Another portal of the same cluster.
    async fn beside(&self) -> Self {
        Self::of(self.cluster.clone(), &[]).await
    }

    async fn of(cluster: Cluster, more: &[&str]) -> Self {
        let endpoint = cluster.endpoint();
        let mut args =
            vec!["kaigi-portal", "--bind", "127.0.0.1", "--http-port", "0", "--management-port", "0"];
        args.extend(["--cluster", &endpoint, "--cluster-secret", cluster::SECRET]);
        args.extend(more);
        let portal = Portal::bind(Args::try_parse_from(args).unwrap(), Health::detached()).await.unwrap();
        let (http, management, health) =
            (portal.http_addr().unwrap(), portal.management_addr().unwrap(), portal.health_addr().unwrap());
        let (owt_peers, echo) = (portal.owt_peers_addr().unwrap(), portal.echo_addr().unwrap());
        let shutdown = Shutdown::default();
        let stop = shutdown.stop().clone();
        let ended = tokio::spawn(portal.run(shutdown.clone()));
        Self { cluster, http, management, health, owt_peers, echo, stop, shutdown, ended }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Waits until `condition` holds.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let give_up = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < give_up, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
