//! Why a request is refused: `{"error":{"code","message"}}`.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;
use tonic::Code;

use super::fold::FoldError;
use crate::backend::CallError;

/// Seconds after which what was too much may be tried again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// Why a request is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum EchoError {
    #[error("The body is to be of type application/json")]
    MediaType,
    #[error("The body is too large")]
    TooLarge,
    #[error("The body did not come in time")]
    Late,
    #[error("The body is not what is expected: {0}")]
    Malformed(String),
    #[error("The type is not offer")]
    NoOffer,
    #[error(transparent)]
    Offer(#[from] FoldError),
    #[error("The offer has no format that is taken")]
    NoFormat,
    #[error("The session failed: {0}")]
    Failed(String),
    #[error("The session has ended, or there was none")]
    NoSession,
    #[error("The session has no open data channel")]
    NoChannel,
    #[error("Too many requests")]
    TooFast,
    #[error("Too many sessions")]
    Full,
    #[error("The portal ends")]
    Stopping,
    #[error(transparent)]
    Call(#[from] CallError),
}

impl EchoError {
    fn kind(&self) -> (StatusCode, &'static str) {
        match self {
            Self::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::Late => (StatusCode::REQUEST_TIMEOUT, "late"),
            Self::Malformed(_) | Self::NoOffer => (StatusCode::BAD_REQUEST, "malformed"),
            Self::Offer(_) => (StatusCode::BAD_REQUEST, "malformed_offer"),
            Self::NoFormat | Self::Failed(_) => (StatusCode::UNPROCESSABLE_ENTITY, "offer_not_served"),
            Self::NoSession => (StatusCode::NOT_FOUND, "no_session"),
            Self::NoChannel => (StatusCode::CONFLICT, "no_channel"),
            Self::TooFast => (StatusCode::TOO_MANY_REQUESTS, "too_fast"),
            Self::Full => (StatusCode::SERVICE_UNAVAILABLE, "full"),
            Self::Call(CallError::Refused { code: Code::InvalidArgument | Code::OutOfRange, .. }) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "offer_not_served")
            }
            Self::Stopping | Self::Call(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        }
    }
}

impl IntoResponse for EchoError {
    fn into_response(self) -> Response {
        let (status, code) = self.kind();
        let body = Json(json!({ "error": { "code": code, "message": self.to_string() } }));
        let mut response = (status, body).into_response();
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}
