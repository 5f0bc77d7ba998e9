//! Why a call is refused.

use crate::sdp::SdpError;

/// A call that the node refuses; nothing has changed then.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NodeError {
    /// No such transport.
    #[error("transport unknown")]
    UnknownTransport,
    /// No transport of such a room.
    #[error("room unknown")]
    UnknownRoom,
    /// No such session on the transport.
    #[error("session unknown")]
    UnknownSession,
    /// No such track on this node, or it is not there yet.
    #[error("track unknown")]
    UnknownTrack,
    /// No data of such a stream on this node.
    #[error("stream unknown")]
    UnknownStream,
    /// A newer agent serves the room.
    #[error("room is served under epoch {0}")]
    OldEpoch(u64),
    /// The transport belongs to another room.
    #[error("transport belongs to another room")]
    WrongRoom,
    /// The session, track or mid is in use for something else.
    #[error("{0} is in use")]
    InUse(&'static str),
    /// Not what a call may say.
    #[error("{0}")]
    Invalid(String),
    /// The source's format is not the one that was negotiated.
    #[error("format differs from the negotiated one")]
    OtherFormat,
    /// The client has sent no feedback, or not lately.
    #[error("No bandwidth estimate")]
    NoEstimate,
    /// A limit of the node.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// The offer can't be read.
    #[error(transparent)]
    Sdp(#[from] SdpError),
    /// The crypto provider failed.
    #[error("cryptography failed: {0}")]
    Crypto(String),
}

impl From<NodeError> for tonic::Status {
    fn from(error: NodeError) -> Self {
        let text = error.to_string();
        match error {
            NodeError::UnknownTransport
            | NodeError::UnknownRoom
            | NodeError::UnknownSession
            | NodeError::UnknownTrack
            | NodeError::UnknownStream => Self::not_found(text),
            NodeError::OldEpoch(_)
            | NodeError::WrongRoom
            | NodeError::OtherFormat
            | NodeError::NoEstimate => Self::failed_precondition(text),
            NodeError::InUse(_) => Self::already_exists(text),
            NodeError::Invalid(_) | NodeError::Sdp(_) => Self::invalid_argument(text),
            NodeError::TooMany(_) => Self::resource_exhausted(text),
            NodeError::Crypto(_) => Self::internal(text),
        }
    }
}
