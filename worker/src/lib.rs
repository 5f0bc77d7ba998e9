//! What every worker process shares: its command line ([`WorkerArgs`]), authenticated channels to the others
//! ([`Channels`]), registration and heartbeats at the cluster-manager ([`Registration`]),
//! the way of events to it ([`EventPublisher`]), and a clean end ([`stop_on_signal`]).

mod args;
mod channels;
mod events;
mod registration;
mod shutdown;

pub use args::WorkerArgs;
pub use channels::{Channel, ChannelError, Channels};
pub use events::{EventPublisher, EventQueue};
pub use registration::{LoadGauge, Registration, Tasks, new_worker_id, process_cpu_load};
pub use shutdown::stop_on_signal;
