//! The client–portal protocol: JSON from clients becomes typed requests here, and what rooms tell becomes JSON.
//!
//! Clients speak different versions. What is the same in all of them is in [`request`], [`control`], [`notification`] and [`stream_info`]; what
//! differs goes through [`Version`], which has one module per version behind it.

pub(crate) mod control;
pub(crate) mod notification;
pub(crate) mod request;
mod v1_0;
mod v1_1;
mod v1_2;

pub(crate) use kaigi_proto::shape::parts as stream_info;
use kaigi_proto::v1;
use serde_json::{Value, json};

use request::{Publish, RequestError, Subscribe};

/// The type that the project's own SDK gives itself at login.
pub(crate) const OWN_SDK: &str = "Kaigi";

/// A version of the protocol, as a client names it at login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1_0,
    V1_1,
    V1_2,
    /// 1.2 as the project's own SDK speaks it: its notifications are numbered, and it knows streams that have media and data.
    Kaigi,
}

impl Version {
    /// The version that a client asks for whose SDK is of that type, if it is spoken here.
    pub(crate) fn asked(protocol: &str, sdk: &str) -> Option<Self> {
        match protocol {
            "1.2" if sdk == OWN_SDK => Some(Self::Kaigi),
            "1.0" | "1.1" | "1.2" => Self::named(protocol),
            _ => None,
        }
    }

    /// The version of that [name](Self::name).
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::V1_0, Self::V1_1, Self::V1_2, Self::Kaigi].into_iter().find(|version| version.name() == name)
    }

    /// What it is called in logs and tickets.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
            Self::Kaigi => "1.2-Kaigi",
        }
    }

    /// Whether a notification has its number as a second argument.
    pub(crate) fn is_numbered(self) -> bool {
        match self {
            Self::V1_0 | Self::V1_1 | Self::V1_2 => false,
            Self::Kaigi => true,
        }
    }

    /// Whether clients are told of such a stream: the older versions have no form for one of data alone.
    pub(crate) fn shows(self, stream: &v1::Stream) -> bool {
        self.knows_data() || !stream.data || !stream.tracks.is_empty()
    }

    /// Whether there are streams of data in this version.
    pub(crate) fn knows_data(self) -> bool {
        match self {
            Self::V1_0 | Self::V1_1 => false,
            Self::V1_2 | Self::Kaigi => true,
        }
    }

    /// Whether clients understand who is in a selecting stream.
    pub(crate) fn knows_speakers(self) -> bool {
        match self {
            Self::V1_0 | Self::V1_1 => false,
            Self::V1_2 | Self::Kaigi => true,
        }
    }

    /// Reads a `publish` request.
    pub(crate) fn publish(self, data: Value) -> Result<Publish, RequestError> {
        match self {
            Self::V1_0 | Self::V1_1 => v1_1::publish(data),
            Self::V1_2 | Self::Kaigi => v1_2::publish(data),
        }
    }

    /// Reads a `subscribe` request.
    pub(crate) fn subscribe(self, data: Value) -> Result<Subscribe, RequestError> {
        match self {
            Self::V1_0 | Self::V1_1 => v1_1::subscribe(data),
            Self::V1_2 | Self::Kaigi => v1_2::subscribe(data),
        }
    }

    /// A stream as this version shows it.
    pub(crate) fn stream_info(self, stream: &v1::Stream) -> Value {
        match self {
            Self::V1_0 => v1_0::stream_info(stream),
            Self::V1_1 => v1_1::stream_info(stream),
            Self::V1_2 => v1_2::foreign_stream_info(stream),
            Self::Kaigi => v1_2::stream_info(stream),
        }
    }

    /// A notification of progress with its name; `None` if there is nothing to tell.
    pub(crate) fn progress(self, progress: v1::Progress) -> Option<(&'static str, Value)> {
        use v1::progress::Progress::TransportMoving;
        match self {
            Self::Kaigi if matches!(progress.progress, Some(TransportMoving(_))) => {
                Some(("progress", json!({ "id": progress.transport_id, "status": "moving" })))
            }
            Self::V1_0 | Self::V1_1 => v1_1::progress(progress),
            Self::V1_2 | Self::Kaigi => v1_2::progress(progress),
        }
    }
}
