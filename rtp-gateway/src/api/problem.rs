//! What is said where something is not done.

use axum::{http::StatusCode, response::Response};
use serde_json::json;

use super::reply;
use crate::gateway::{ConnectionTableError, Ending, PeerTableError};

/// Names of commands, by which answers say what they answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    PeersCreate,
    PeersDelete,
    PeersCredentialUpdate,
    PeersEvents,
    PeersStatus,
    DataCreate,
    DataDelete,
    DataConnectionCreate,
    DataConnectionDelete,
    DataConnectionPut,
    DataConnectionEvents,
    DataConnectionStatus,
    MediaCreate,
    MediaDelete,
    RtcpCreate,
    RtcpDelete,
    MediaConnectionCreate,
    MediaConnectionDelete,
    MediaConnectionAnswer,
    MediaConnectionPli,
    MediaConnectionEvents,
    MediaConnectionStatus,
    /// Of no command.
    Unknown,
}

impl Command {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PeersCreate => "PEERS_CREATE",
            Self::PeersDelete => "PEERS_DELETE",
            Self::PeersCredentialUpdate => "PEERS_CREDENTIAL_UPDATE",
            Self::PeersEvents => "PEERS_EVENTS",
            Self::PeersStatus => "PEERS_STATUS",
            Self::DataCreate => "DATA_CREATE",
            Self::DataDelete => "DATA_DELETE",
            Self::DataConnectionCreate => "DATA_CONNECTION_CREATE",
            Self::DataConnectionDelete => "DATA_CONNECTION_DELETE",
            Self::DataConnectionPut => "DATA_CONNECTION_PUT",
            Self::DataConnectionEvents => "DATA_CONNECTION_EVENTS",
            Self::DataConnectionStatus => "DATA_CONNECTION_STATUS",
            Self::MediaCreate => "MEDIA_CREATE",
            Self::MediaDelete => "MEDIA_DELETE",
            Self::RtcpCreate => "RTCP_CREATE",
            Self::RtcpDelete => "RTCP_DELETE",
            Self::MediaConnectionCreate => "MEDIA_CONNECTION_CREATE",
            Self::MediaConnectionDelete => "MEDIA_CONNECTION_DELETE",
            Self::MediaConnectionAnswer => "MEDIA_CONNECTION_ANSWER",
            Self::MediaConnectionPli => "MEDIA_CONNECTION_PLI",
            Self::MediaConnectionEvents => "MEDIA_CONNECTION_EVENTS",
            Self::MediaConnectionStatus => "MEDIA_CONNECTION_STATUS",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl From<Ending> for Problem {
    fn from(_: Ending) -> Self {
        Self::Timeout("the gateway is about to end")
    }
}

/// Of a request to begin a connection.
impl From<ConnectionTableError> for Problem {
    fn from(error: ConnectionTableError) -> Self {
        match error {
            ConnectionTableError::TooMany => Self::input("peer_id", error),
            ConnectionTableError::Ending(ending) => ending.into(),
        }
    }
}

/// Of a request to make a peer.
impl From<PeerTableError> for Problem {
    fn from(error: PeerTableError) -> Self {
        match error {
            PeerTableError::TooMany | PeerTableError::Taken => Self::input("peer_id", error),
            PeerTableError::Ending(ending) => ending.into(),
        }
    }
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    /// A member or parameter of the request, and what is wrong with it.
    #[error("{field}: {message}")]
    Input { field: String, message: String },
    #[error("{0}")]
    Forbidden(String),
    #[error("{0}")]
    NotFound(&'static str),
    #[error("this can't be done there")]
    Method,
    #[error("answers are application/json")]
    NotAcceptable,
    /// Nothing has happened in time, or whoever has to be asked does not answer.
    #[error("{0}")]
    Timeout(&'static str),
}

impl Problem {
    pub(super) fn input(field: impl Into<String>, message: impl std::fmt::Display) -> Self {
        Self::Input { field: field.into(), message: message.to_string() }
    }

    pub(super) fn forbidden(why: impl std::fmt::Display) -> Self {
        Self::Forbidden(why.to_string())
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Input { .. } => StatusCode::BAD_REQUEST,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            Self::Timeout(_) => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// As the client is told.
    pub(super) fn of(self, command: Command) -> Response {
        let status = self.status();
        let (field, message) = match self {
            Self::Input { field, message } => (field, message),
            other => (String::new(), other.to_string()),
        };
        let errors = json!([{"field": field, "message": message}]);
        reply(status, json!({"command_type": command.name(), "params": {"errors": errors}}))
    }
}
