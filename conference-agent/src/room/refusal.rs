//! Why a room refuses a request: the class that a caller decides by, and the text that OWT gives its clients.

use super::media::Kind;

/// What a subscriber's wish failed at (OWT's words).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsatisfied {
    #[error("Format is not acceptable")]
    Format,
    #[error("Resolution is not acceptable")]
    Resolution,
    #[error("Framerate is not acceptable")]
    Framerate,
    #[error("Bitrate is not acceptable")]
    Bitrate,
    #[error("KeyFrameInterval is not acceptable")]
    KeyFrameInterval,
}

/// The class of a refusal; each is one gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    NotFound,
    PermissionDenied,
    InvalidArgument,
    ResourceExhausted,
    Unavailable,
    FailedPrecondition,
}

/// Why a request is refused. The text goes to the client as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("Participant already in room")]
    AlreadyInRoom,
    #[error("Room is full")]
    RoomFull,
    #[error("Invalid role")]
    InvalidRole,
    #[error("Participant has not joined")]
    NotJoined,
    /// The participant has joined without a window for coming back.
    #[error("Reconnection is not allowed")]
    NotResumable,
    #[error("Participant early left")]
    EarlyLeft,
    #[error("unauthorized")]
    Unauthorized,
    #[error("Too many inputs")]
    TooManyInputs,
    /// More sessions or transports than one participant may have.
    #[error("Too many sessions")]
    TooManySessions,
    /// The mid belongs to another session of the transport.
    #[error("mid {0} is in use")]
    MidInUse(String),
    #[error("Transport {0} does NOT exist")]
    UnknownTransport(String),
    #[error("Stream does NOT exist")]
    UnknownStream,
    #[error("Subscription does NOT exist")]
    UnknownSubscription,
    #[error("Egress does NOT exist")]
    UnknownEgress,
    #[error("Too many egresses")]
    TooManyEgresses,
    #[error("Too many streaming-ins")]
    TooManyIngests,
    #[error("Analytics do NOT exist")]
    UnknownAnalytics,
    #[error("Too many analytics")]
    TooManyAnalytics,
    /// What is wrong with the algorithm or its parameters.
    #[error("Invalid algorithm: {0}")]
    InvalidAlgorithm(String),
    #[error("No streaming node is available")]
    NoStreamingNode,
    /// Which kind of node.
    #[error("All {} nodes are in full load", .0)]
    NoCapacity(&'static str),
    #[error("Stream is NOT ready")]
    StreamNotReady,
    #[error("Stream is Mixed")]
    StreamIsMixed,
    /// Nobody publishes it: whoever speaks is in it.
    #[error("Stream is Selecting")]
    StreamIsSelecting,
    #[error("Stream does NOT contain valid track to mute/unmute")]
    NoTrackToMute,
    #[error("Stream does NOT contain valid track to mix")]
    NoTrackToMix,
    /// Nobody but its subscribers can look into it.
    #[error("Stream is encrypted end to end")]
    StreamIsEncrypted,
    #[error("Target subscription does NOT have {} to update", .0.name())]
    SubscriptionLacks(Kind),
    #[error("Invalid view")]
    InvalidView,
    #[error("Invalid stream")]
    InvalidStream,
    /// No picture of the view has the stream as an input.
    #[error("Invalid input stream_id.")]
    InvalidInput,
    /// No region has the id, or none that shows an input.
    #[error("Invalid region_id.")]
    InvalidRegionId,
    /// There is no picture to lay out.
    #[error("Not mixed stream")]
    NotMixed,
    #[error("Not mixed stream or invalid region")]
    NoSuchRegion,
    /// The stream or track to subscribe is not there.
    #[error("Target {} stream does NOT satisfy:Requested {} stream", .0.name(), .0.name())]
    NoSuchSource(Kind),
    /// The stream to subscribe the data of is not there, or has none.
    #[error("Target data stream does NOT satisfy:Requested data stream")]
    NoSuchData,
    #[error("Target {} stream does NOT satisfy:{}", .0.name(), .1)]
    Unsatisfied(Kind, Unsatisfied),
    /// The subscription goes on as it was.
    #[error("Update subscription failed")]
    UpdateFailed,
    #[error("Target {} stream early released", .0.name())]
    SourceReleased(Kind),
    #[error("Target data stream early released")]
    DataReleased,
    #[error("Mixed stream is NOT ready")]
    MixerUnavailable,
    #[error("No access node is available")]
    NoAccessNode,
    #[error("Node lost")]
    NodeLost,
    /// A node's own words.
    #[error("{0}")]
    NodeRefused(String),
    #[error("Target participant does NOT exist: {0}")]
    UnknownReceiver(String),
    #[error("Room destruction")]
    RoomEnds,
    /// Whoever asked has asked once more, and that is answered.
    #[error("Asked again")]
    AskedAgain,
    /// The reason of a session that failed before its request was answered.
    #[error("{0}")]
    SessionFailed(String),
}

impl Refusal {
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::NotJoined
            | Self::UnknownTransport(_)
            | Self::UnknownStream
            | Self::UnknownSubscription
            | Self::UnknownEgress
            | Self::UnknownAnalytics
            | Self::NoSuchSource(_)
            | Self::NoSuchData
            | Self::SourceReleased(_)
            | Self::DataReleased
            | Self::UnknownReceiver(_)
            | Self::EarlyLeft => Class::NotFound,
            Self::Unauthorized | Self::InvalidRole => Class::PermissionDenied,
            Self::RoomFull
            | Self::TooManyInputs
            | Self::TooManySessions
            | Self::TooManyEgresses
            | Self::TooManyAnalytics
            | Self::NoCapacity(_)
            | Self::TooManyIngests => Class::ResourceExhausted,
            Self::InvalidView
            | Self::InvalidStream
            | Self::InvalidAlgorithm(_)
            | Self::InvalidInput
            | Self::InvalidRegionId
            | Self::NotMixed
            | Self::NoSuchRegion
            | Self::StreamIsMixed
            | Self::StreamIsSelecting
            | Self::NoTrackToMute
            | Self::NoTrackToMix
            | Self::StreamIsEncrypted
            | Self::SubscriptionLacks(_)
            | Self::MidInUse(_)
            | Self::Unsatisfied(..) => Class::InvalidArgument,
            Self::AlreadyInRoom
            | Self::NotResumable
            | Self::StreamNotReady
            | Self::UpdateFailed
            | Self::NodeRefused(_)
            | Self::SessionFailed(_) => Class::FailedPrecondition,
            Self::MixerUnavailable
            | Self::NoAccessNode
            | Self::NoStreamingNode
            | Self::NodeLost
            | Self::AskedAgain
            | Self::RoomEnds => Class::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_are_owts() {
        assert_eq!(
            Refusal::Unsatisfied(Kind::Video, Unsatisfied::Framerate).to_string(),
            "Target video stream does NOT satisfy:Framerate is not acceptable"
        );
        assert_eq!(
            Refusal::NoSuchSource(Kind::Audio).to_string(),
            "Target audio stream does NOT satisfy:Requested audio stream"
        );
    }
}
