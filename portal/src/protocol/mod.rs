//! The client–portal protocol: JSON from clients becomes typed requests here, and what rooms tell becomes JSON.
//!
//! Clients speak different versions. What is the same in all of them is in [`request`], [`notification`] and [`stream_info`]; what
//! differs goes through [`Version`], which has one module per version behind it.

pub(crate) mod notification;
pub(crate) mod request;
pub(crate) mod stream_info;
mod v1_0;
mod v1_1;
mod v1_2;

use kaigi_proto::v1;
use serde_json::Value;

use request::{Publish, RequestError, Subscribe};

/// A version of the protocol, as a client names it at login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V1_0,
    V1_1,
    V1_2,
}

impl Version {
    /// The version of that name, if it is spoken here.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "1.0" => Some(Self::V1_0),
            "1.1" => Some(Self::V1_1),
            "1.2" => Some(Self::V1_2),
            _ => None,
        }
    }

    /// What clients call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
        }
    }

    /// Reads a `publish` request.
    pub(crate) fn publish(self, data: Value) -> Result<Publish, RequestError> {
        match self {
            Self::V1_0 | Self::V1_1 => v1_1::publish(data),
            Self::V1_2 => v1_2::publish(data),
        }
    }

    /// Reads a `subscribe` request.
    pub(crate) fn subscribe(self, data: Value) -> Result<Subscribe, RequestError> {
        match self {
            Self::V1_0 | Self::V1_1 => v1_1::subscribe(data),
            Self::V1_2 => v1_2::subscribe(data),
        }
    }

    /// A stream as this version shows it.
    pub(crate) fn stream_info(self, stream: &v1::Stream) -> Value {
        match self {
            Self::V1_0 => v1_0::stream_info(stream),
            Self::V1_1 => v1_1::stream_info(stream),
            Self::V1_2 => v1_2::stream_info(stream),
        }
    }

    /// A notification of progress with its name; `None` if there is nothing to tell.
    pub(crate) fn progress(self, progress: v1::Progress) -> Option<(&'static str, Value)> {
        match self {
            Self::V1_0 | Self::V1_1 => v1_1::progress(progress),
            Self::V1_2 => v1_2::progress(progress),
        }
    }
}
