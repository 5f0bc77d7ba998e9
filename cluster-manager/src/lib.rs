//! Who is alive, who serves what, and the only owner of durable state.
//!
//! [`registry`] decides (pure), [`store`] remembers, [`group`] says which of several does so, `events` passes on what happens in rooms, [`serve`] offers it all by gRPC, and [`run`] is the whole process.

mod args;
mod bootstrap;
mod cluster_service;
mod events;
pub mod group;
mod hub;
mod journal;
mod opening;
mod peers;
mod probe;
pub mod registry;
mod server;
pub mod store;
mod store_service;

use std::{net::SocketAddr, os::unix::fs::DirBuilderExt, path::PathBuf, sync::Arc};

use kaigi_telemetry::{Health, HealthServer};
use kaigi_worker::TlsError;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use args::Args;
pub use bootstrap::{BootstrapError, CREDENTIALS_FILE, bootstrap};
pub use events::EventSettings;
use group::{Member, MemberId};
pub use hub::{Hub, TooManyWatchers, Watch};
pub use opening::{SEAL_KEY_FILE, SealKeyError};
pub use peers::{PeerEvents, PeerRoomsService};
pub use server::{ServeConfig, ServeError, serve};
use store::{OpenError, RedisLease, SealError, StoreError};

/// Name of the store's file in the data directory.
pub const STORE_FILE: &str = "kaigi.redb";

/// Why the process ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory can't be made.
    #[error("data directory {path}: {source}")]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// The store can't be opened.
    #[error("{path}: {source}")]
    Store {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: OpenError,
    },
    /// Redis can't be reached.
    #[error("{url}: {source}")]
    Redis {
        /// Where it should be.
        url: String,
        /// What happened.
        source: StoreError,
    },
    /// There is no key for what is sealed.
    #[error(transparent)]
    SealKey(#[from] SealKeyError),
    /// The key is not the store's.
    #[error("{source}; {key} is not the one that the store was first used with")]
    Seal {
        /// Where the key comes from.
        key: String,
        /// What happened.
        source: SealError,
    },
    /// An address can't be listened on.
    #[error("can't listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// There are to be certificates, and there are none.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The first start.
    #[error("first start: {0}")]
    Bootstrap(#[from] BootstrapError),
    /// While serving.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// The whole process, until `stop`. Ready when the first call can be answered.
///
/// # Errors
/// See [`RunError`].
pub async fn run(args: Args, health: Health, stop: CancellationToken) -> Result<(), RunError> {
    let trust = args.trust.read()?;
    trust.report();
    let health_server = HealthServer::bind(args.health_listen, health.clone())
        .await
        .map_err(|e| RunError::Listen { address: args.health_listen, reason: e.to_string() })?;
    let health_task = tokio::spawn(health_server.run());

    let dir = args.data_dir.clone();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(|source| RunError::DataDir { path: dir.clone(), source })?;
    let (store, redis) = opening::open_store(&args).await?;
    if redis.is_none() {
        bootstrap(&*store, &dir).await?;
    }

    let refused = |e: std::io::Error| RunError::Listen { address: args.listen, reason: e.to_string() };
    let listener = TcpListener::bind(args.listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    tracing::info!(%address, data_dir = %dir.display(), lease_ms = args.lease_ms, "cluster-manager serves");
    health.set_ready(true);
    let config = ServeConfig { registry: args.registry(), events: args.events() };
    let served = match redis {
        None => serve(listener, store, config, trust, stop).await.map_err(RunError::from),
        Some(redis) => {
            let (id, endpoint) = (MemberId::random(), args.endpoint(trust.scheme(), address));
            let lease = RedisLease::new(redis, id.clone(), endpoint.clone(), args.timing().lease());
            let member = Member {
                listener: listener.into_std().map_err(refused)?,
                id,
                lease: Arc::new(lease),
                timing: args.timing(),
                store,
                config,
                trust,
                endpoint,
                data_dir: dir,
            };
            member.run(stop).await
        }
    };
    health.set_ready(false);
    health_task.abort();
    served
}
