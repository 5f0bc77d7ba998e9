//! `/health` (the process runs), `/ready` (it can take work) and `/metrics` (Prometheus text format).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// Whether this process can take work; shared between the process and its `/ready`.
#[derive(Clone, Debug)]
pub struct Health {
    ready: Arc<AtomicBool>,
    metrics: PrometheusHandle,
}

impl Health {
    /// Installs the process's metrics recorder; not ready until told so. Call once, first thing in `main`.
    ///
    /// # Errors
    /// If a recorder is already installed.
    pub fn install() -> anyhow::Result<Self> {
        let metrics = PrometheusBuilder::new().install_recorder()?;
        Ok(Self { ready: Arc::default(), metrics })
    }

    /// A health whose metrics go nowhere, for tests that start several processes' insides in one.
    #[must_use]
    pub fn detached() -> Self {
        Self { ready: Arc::default(), metrics: PrometheusBuilder::new().build_recorder().handle() }
    }

    /// Says whether work can be taken.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// What was last said.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// All metrics of the process in Prometheus text format.
    #[must_use]
    pub fn render_metrics(&self) -> String {
        self.metrics.run_upkeep();
        self.metrics.render()
    }
}

/// The three endpoints, to be merged into a process's own routes or served alone.
pub fn health_routes(health: Health) -> Router {
    Router::new()
        .route("/health", get(async || "ok\n"))
        .route(
            "/ready",
            get(async |State(health): State<Health>| {
                if health.is_ready() {
                    (StatusCode::OK, "ready\n")
                } else {
                    (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
                }
            }),
        )
        .route("/metrics", get(async |State(health): State<Health>| health.render_metrics().into_response()))
        .with_state(health)
}

/// A plain HTTP server with [`health_routes`] alone.
#[derive(Debug)]
pub struct HealthServer {
    listener: tokio::net::TcpListener,
    health: Health,
}

impl HealthServer {
    /// Listens on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// If the address can't be listened on.
    pub async fn bind(address: SocketAddr, health: Health) -> anyhow::Result<Self> {
        Ok(Self { listener: tokio::net::TcpListener::bind(address).await?, health })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until the process ends.
    ///
    /// # Errors
    /// If the listener breaks.
    pub async fn run(self) -> anyhow::Result<()> {
        axum::serve(self.listener, health_routes(self.health)).await?;
        Ok(())
    }
}
