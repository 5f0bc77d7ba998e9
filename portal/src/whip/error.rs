//! Why a request of a WHIP or WHEP client is refused, as problem details (RFC 9457).

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tonic::Code;

use super::{fragment::FragmentError, offer::OfferError};
use crate::{backend::CallError, rest::RestError, token::TokenError};

/// Seconds after which what was too much may be tried again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum WhipError {
    #[error("A bearer token is needed")]
    NoToken,
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("The token is not good: {0}")]
    Bearer(String),
    #[error("The token is for another room")]
    OtherRoom,
    #[error("The token is not the one that the session was begun with")]
    OtherToken,
    #[error("The token does not let into rooms")]
    NoJoin,
    #[error("Room not found")]
    NoRoom,
    #[error("Stream does NOT exist")]
    NoStream,
    #[error("The session has ended, or there was none")]
    NoSession,
    #[error("The body is to be of type {0}")]
    MediaType(&'static str),
    #[error("The body is too large")]
    TooLarge,
    #[error("The body did not come in time")]
    Late,
    #[error("The body is no text")]
    NotText,
    #[error(transparent)]
    Offer(#[from] OfferError),
    #[error("The stream has nothing of what the offer asks for")]
    NothingInCommon,
    #[error("The offer has no format that the room takes")]
    NoFormat,
    #[error("The session failed: {0}")]
    Failed(String),
    #[error(transparent)]
    Fragment(#[from] FragmentError),
    #[error("If-Match is needed")]
    NoPrecondition,
    #[error("The ICE session is another one by now")]
    OtherIceSession,
    #[error("An ICE restart needs If-Match: *")]
    RestartWithTag,
    #[error("Too many requests")]
    TooManyRequests,
    #[error("Too many sessions")]
    TooManySessions,
    #[error("The portal ends")]
    Stopping,
    #[error(transparent)]
    Call(#[from] CallError),
}

impl From<RestError> for WhipError {
    fn from(error: RestError) -> Self {
        match error {
            RestError::RoomNotFound => Self::OtherRoom,
            RestError::Forbidden => Self::NoJoin,
            RestError::BadToken(why) => Self::Bearer(why),
            other => Self::Bearer(other.to_string()),
        }
    }
}

impl WhipError {
    /// The status, and the name of the kind of problem.
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, "no-token"),
            Self::Token(_) | Self::Bearer(_) | Self::OtherToken => {
                (StatusCode::UNAUTHORIZED, "invalid-token")
            }
            Self::OtherRoom | Self::NoJoin => (StatusCode::FORBIDDEN, "not-permitted"),
            Self::NoRoom => (StatusCode::NOT_FOUND, "no-room"),
            Self::NoStream => (StatusCode::NOT_FOUND, "no-stream"),
            Self::NoSession => (StatusCode::NOT_FOUND, "no-session"),
            Self::MediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
            Self::Late => (StatusCode::REQUEST_TIMEOUT, "late"),
            Self::NotText => (StatusCode::BAD_REQUEST, "no-text"),
            Self::Offer(error) if error.is_understood() => {
                (StatusCode::UNPROCESSABLE_ENTITY, "offer-not-served")
            }
            Self::Offer(_) => (StatusCode::BAD_REQUEST, "malformed-offer"),
            Self::NothingInCommon | Self::NoFormat | Self::Failed(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "offer-not-served")
            }
            Self::Fragment(_) | Self::RestartWithTag => (StatusCode::BAD_REQUEST, "malformed-fragment"),
            Self::NoPrecondition => (StatusCode::PRECONDITION_REQUIRED, "no-precondition"),
            Self::OtherIceSession => (StatusCode::PRECONDITION_FAILED, "other-ice-session"),
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "too-many-requests"),
            Self::TooManySessions => (StatusCode::SERVICE_UNAVAILABLE, "too-many-sessions"),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "not-available"),
            Self::Call(CallError::Refused { code, .. }) => refused(*code),
            Self::Call(CallError::Timeout(_) | CallError::Unreachable(_) | CallError::Conflict) => {
                (StatusCode::SERVICE_UNAVAILABLE, "not-available")
            }
        }
    }

    /// Whether the same request may succeed later, with the same token.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.kind().0, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS)
    }
}

/// What a room's refusal is to an HTTP client. Its limits are no fault of the client.
fn refused(code: Code) -> (StatusCode, &'static str) {
    match code {
        Code::PermissionDenied | Code::Unauthenticated => (StatusCode::FORBIDDEN, "not-permitted"),
        Code::NotFound => (StatusCode::NOT_FOUND, "not-found"),
        Code::InvalidArgument | Code::OutOfRange => (StatusCode::BAD_REQUEST, "refused"),
        Code::ResourceExhausted => (StatusCode::SERVICE_UNAVAILABLE, "full"),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
            (StatusCode::SERVICE_UNAVAILABLE, "not-available")
        }
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => (StatusCode::CONFLICT, "refused"),
        Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => {
            (StatusCode::INTERNAL_SERVER_ERROR, "failed")
        }
    }
}

impl IntoResponse for WhipError {
    fn into_response(self) -> Response {
        let (status, name) = self.kind();
        let problem = json!({
            "type": format!("urn:kaigi:problem:{name}"),
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "detail": self.to_string(),
        });
        let mut response = (status, problem.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            let challenge = if matches!(self, Self::NoToken) {
                "Bearer realm=\"kaigi\""
            } else {
                "Bearer realm=\"kaigi\", error=\"invalid_token\""
            };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if self.is_passing() {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}
