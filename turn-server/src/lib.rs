//! A TURN and STUN server (RFC 8656, RFC 8489) for the clients of a Kaigi whose networks let nothing else through: it relays datagrams between them and
//! access-nodes, or each other. It knows nothing of rooms and asks nobody: who may use it shows a credential made by the secret that it shares with the
//! portals.
//!
//! [`core`] is the server without sockets and clocks, [`listeners`] where clients come in, [`shell`] what moves the bytes.

mod args;
pub mod core;
pub mod listeners;
pub mod peers;
mod relays;
pub mod shell;
mod streams;
mod tls;
mod web;

use std::time::Duration;

use kaigi_telemetry::{Health, HealthServer};
use kaigi_worker::Shutdown;

pub use args::{Args, Ports};
use listeners::{ListenError, Listeners};
use shell::Shell;
pub use web::{InvalidUpstream, Upstream};

/// Why the process ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A port can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// There is no cryptography.
    #[error("no cryptography: {0}")]
    Crypto(String),
    /// Health can't be told.
    #[error("health: {0:#}")]
    Health(anyhow::Error),
}

/// Runs until it is stopped, or has drained.
///
/// # Errors
/// See [`RunError`].
pub async fn run(args: Args, health: Health, shutdown: Shutdown) -> Result<(), RunError> {
    let listeners = Listeners::bind(&args)?;
    let crypto = rtc_stun::crypto::default_provider().map_err(|error| RunError::Crypto(error.to_string()))?;
    let server = HealthServer::bind(args.health_listen, health.clone()).await.map_err(RunError::Health)?;
    let serving = tokio::spawn(server.run());
    tokio::spawn(kaigi_worker::process_cpu_load(kaigi_worker::Capacity::default(), shutdown.stop().clone()));
    for at in listeners.places() {
        tracing::info!(%at, "clients are expected");
    }
    let shell = Shell::new(&args, listeners, crypto);
    let allocations = shell.allocations();
    let running = tokio::spawn(shell.run(shutdown.clone()));
    health.set_ready(true);
    tokio::spawn({
        let (health, shutdown) = (health.clone(), shutdown.clone());
        async move {
            shutdown.begun().await;
            health.set_ready(false);
        }
    });
    let limit = Duration::from_secs(args.drain_timeout);
    shutdown.drained(limit, || allocations.load(std::sync::atomic::Ordering::Relaxed) == 0).await;
    // It ends by the same signal; what it holds is sockets.
    let _ = running.await;
    serving.abort();
    Ok(())
}
