//! The server without sockets and clocks: what comes in, at which time, and what goes out for it.

mod allocation;
mod credentials;
mod frame;
mod message;
mod rate;
mod refusal;
mod requests;
mod server;

pub use allocation::{AllocationId, Family};
pub use credentials::{Secret, UnixSeconds, User};
pub use frame::{Deframer, FrameError, MAX_MESSAGE};
pub use rate::Bitrate;
pub use refusal::Refusal;
pub use server::{Config, ConnectionId, Counters, Flow, Limits, Now, Output, Server};
