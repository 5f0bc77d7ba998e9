//! A Socket.IO 5 client over a WebSocket (Engine.IO 4), as far as OWT's protocol needs one.

mod packet;
mod socket;

pub use socket::{Notification, Socket};

use std::time::Duration;

/// Longest wait for an answer. A server that thousands join within seconds takes its time.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Why a request was not granted.
#[derive(Debug, thiserror::Error)]
pub enum SignalingError {
    /// No connection.
    #[error("no connection to the portal: {0}")]
    Connect(String),
    /// The connection has ended.
    #[error("the connection to the portal has ended")]
    Ended,
    /// Nothing came for too long.
    #[error("{0} was not answered in time")]
    Silent(&'static str),
    /// The portal said no.
    #[error("{request} was refused: {reason}")]
    Refused {
        /// What was asked.
        request: &'static str,
        /// What it said.
        reason: String,
    },
    /// The portal's answer lacks something.
    #[error("the answer to {0} is not understood")]
    Strange(&'static str),
}
