//! Connections, each an actor with one leg: of media and of data, called and answered.

mod data;
mod far;
mod media;
mod wire;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::mailbox::Mailbox;

pub(crate) use data::{DataConnection, DataPlan, Serialization, accept_data, connect_data};
pub(crate) use far::PeerWay;
use far::{Far, FarNews};
pub(crate) use media::{Answer, MediaConnection, OwnPorts, Pending, Stage, Target, call, ring};
pub(crate) use wire::{Signal, Wire};

/// How long a connection that ended by itself is kept, for whoever asks what became of it.
pub(crate) const AFTERLIFE: Duration = Duration::from_secs(60);
/// How long the other side may take to answer a call.
pub(crate) const RINGING: Duration = Duration::from_secs(60);
/// How long a leg may take to connect.
pub(crate) const CONNECTING: Duration = Duration::from_secs(20);

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum End {
    /// By the client of this API.
    #[error("it was closed")]
    Closed,
    /// The other side has left, or the stream has.
    #[error("the other side has left")]
    Left,
    #[error("{0}")]
    Failed(String),
}

/// What both kinds of connections have.
#[derive(Debug)]
pub(crate) struct Common {
    /// Who it is with: a peer, or `room:` and a room.
    pub(crate) remote_id: String,
    pub(crate) metadata: Value,
    pub(crate) events: Mailbox,
    open: AtomicBool,
    /// Ends it.
    pub(crate) stop: CancellationToken,
    /// It has ended.
    pub(crate) ended: CancellationToken,
}

impl Common {
    pub(crate) fn new(remote_id: String, metadata: Value, stop: CancellationToken) -> Self {
        Self {
            remote_id,
            metadata,
            events: Mailbox::default(),
            open: AtomicBool::new(false),
            stop,
            ended: CancellationToken::new(),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Relaxed);
    }

    /// Waits until it is to be forgotten: at once if it was closed, after a while if it ended by itself.
    pub(crate) async fn forgotten(&self) {
        self.ended.cancelled().await;
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(AFTERLIFE) => {}
        }
    }

    /// Says that it has ended.
    fn finish(&self, end: End) {
        self.set_open(false);
        if let End::Failed(why) = &end {
            self.events.put(json!({"event": "ERROR", "error_message": why}));
        }
        self.events.put(json!({"event": "CLOSE"}));
        tracing::info!(remote = self.remote_id, %end, "a connection has ended");
        self.ended.cancel();
    }
}
