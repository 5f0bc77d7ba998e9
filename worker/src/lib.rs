//! What every worker process shares: its command line ([`WorkerArgs`]), by what it knows the others ([`Trust`]), authenticated channels to the others
//! ([`Channels`]), registration and heartbeats at the cluster-manager ([`Registration`]) with what it can take ([`Capacity`]),
//! the way of events to it ([`EventPublisher`]), and a clean end ([`Shutdown`], [`stop_on_signal`]).

mod args;
mod capacity;
mod channels;
mod events;
mod group;
mod load;
mod registration;
mod shutdown;
mod trust;

pub use args::WorkerArgs;
pub use capacity::Capacity;
pub use channels::{Channel, ChannelError, Channels};
pub use events::{EventPublisher, EventQueue};
pub use load::{LoadGauge, Smoothed, cores, process_cpu_load};
pub use registration::{Registration, Tasks, new_worker_id};
pub use shutdown::{Shutdown, stop_on_signal};
pub use trust::{CLUSTER_NAME, TLS_FILES, TlsError, Trust, TrustArgs};
