//! Servers that clients join: Kaigi, and Janus for the comparison.

mod handle;
mod janus;
mod kaigi;

use std::sync::Arc;

pub use handle::PeerHandle;
pub use janus::{Janus, Visitor};
pub use kaigi::{Kaigi, Management, Participant};

use crate::{
    driver::{DriverError, Impairment, SlotError},
    peer::{ConnectionError, Content},
    signaling::SignalingError,
    track::Track,
};

/// Why a client is not in.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The management API.
    #[error("management API: {0}")]
    Management(String),
    /// Signaling.
    #[error(transparent)]
    Signaling(#[from] SignalingError),
    /// The server's description.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// A thread.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// A socket.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The peer.
    #[error("no media: {0}")]
    Media(String),
    /// The certificate.
    #[error("no certificate: {0}")]
    Certificate(#[from] kaigi_access_node::transport::DtlsError),
}

/// What a client publishes.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    /// Picture, and names of its layers if there are several.
    pub video: Option<(Arc<Track>, Vec<String>)>,
    /// Sound, and how far below full scale it is said to be.
    pub audio: Option<(Arc<Track>, u8)>,
}

/// Width and height in pixels.
pub type Size = (u32, u32);

/// What a client wants to receive.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Of which stream.
    pub stream: String,
    /// Picture, and the size that is asked for.
    pub video: Option<(Content, Option<Size>)>,
    /// Sound.
    pub audio: Option<Content>,
}

/// The way to a client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    /// Share that is lost of what is sent to it.
    pub loss: f64,
    /// How much later it comes.
    pub delay: std::time::Duration,
}

impl Way {
    pub(crate) fn impairment(self, seed: u64) -> Option<Impairment> {
        let perfect = self.loss == 0.0 && self.delay.is_zero();
        (!perfect).then(|| Impairment::new(self.loss, self.delay, seed))
    }
}

/// Which server.
#[derive(Clone, Debug)]
pub enum Server {
    /// Kaigi.
    Kaigi(Kaigi),
    /// Janus.
    Janus(Janus),
}

/// Somebody in a room of a server. At Janus nobody both publishes and receives.
#[derive(Debug)]
pub enum Client {
    /// Of Kaigi.
    Kaigi(Box<Participant>),
    /// Of Janus.
    Janus(Box<Visitor>),
}

impl Server {
    /// A new room; its id.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn create_room(&self, name: &str) -> Result<String, ServerError> {
        match self {
            Self::Kaigi(kaigi) => kaigi.create_room(name).await,
            Self::Janus(janus) => janus.create_room().await,
        }
    }

    /// Removes the rooms that were made, where they outlive the run.
    pub async fn delete_rooms(&self) {
        match self {
            Self::Kaigi(kaigi) => kaigi.delete_rooms().await,
            Self::Janus(_) => {}
        }
    }

    /// Somebody joins a room.
    ///
    /// # Errors
    /// If he is not let in.
    pub async fn join(&self, room: &str, user: &str, way: Way, seed: u64) -> Result<Client, ServerError> {
        Ok(match self {
            Self::Kaigi(kaigi) => Client::Kaigi(Box::new(kaigi.join(room, user, way, seed).await?)),
            Self::Janus(janus) => Client::Janus(Box::new(janus.join(room, way, seed).await?)),
        })
    }
}

impl Client {
    /// Publishes; the stream's id. Returns when media flows.
    ///
    /// # Errors
    /// If it is refused or does not come about.
    pub async fn publish(&mut self, publication: Publication) -> Result<String, ServerError> {
        match self {
            Self::Kaigi(participant) => participant.publish(publication).await,
            Self::Janus(visitor) => visitor.publish(publication).await,
        }
    }

    /// Receives; returns when there is a whole frame of everything.
    ///
    /// # Errors
    /// If it is refused or does not come about.
    pub async fn subscribe(&mut self, wishes: Vec<Wish>) -> Result<(), ServerError> {
        match self {
            Self::Kaigi(participant) => {
                let mids = participant.subscribe(wishes).await?;
                participant.peer.first_frames(&mids).await
            }
            Self::Janus(visitor) => {
                let mids = visitor.subscribe(wishes).await?;
                visitor.peer.first_frames(&mids).await
            }
        }
    }

    /// Leaves as a page that is closed properly does.
    ///
    /// # Errors
    /// If the server does not let go.
    pub async fn leave(self) -> Result<(), ServerError> {
        match self {
            Self::Kaigi(participant) => participant.leave().await,
            Self::Janus(visitor) => visitor.leave(true).await,
        }
    }

    /// Is gone without a word, as a machine whose network is cut.
    ///
    /// # Errors
    /// If the thread has ended.
    pub async fn vanish(self) -> Result<(), ServerError> {
        match self {
            Self::Kaigi(participant) => participant.vanish().await,
            Self::Janus(visitor) => visitor.leave(false).await,
        }
    }
}
