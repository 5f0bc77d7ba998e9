//! Why a management request is refused, and OWT's statuses and codes for that.

use axum::{
    Json,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::backend::CallError;

/// Why a management request is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestError {
    /// OWT's text, which some clients compare.
    #[error("WWW-Authenticate: MAuth realm=\"http://marte3.dit.upm.es\"")]
    Unauthorized,
    /// A JSON Web Token that does not let in, and why.
    #[error("Bearer error=\"invalid_token\", error_description=\"{0}\"")]
    BadToken(String),
    #[error("The request was made before, or at another time than it says")]
    Replayed,
    #[error("Permission denied")]
    Forbidden,
    #[error("Service not found")]
    ServiceNotFound,
    #[error("Resource not found")]
    UnknownPath,
    #[error("Room not found")]
    RoomNotFound,
    #[error("Stream not found")]
    StreamNotFound,
    #[error("Participant not found")]
    ParticipantNotFound,
    #[error("Subscription not found")]
    SubscriptionNotFound,
    #[error("Webhook not found")]
    WebhookNotFound,
    #[error("Node not found")]
    NodeNotFound,
    /// The path has other methods.
    #[error("Resource not found")]
    MethodNotAllowed(Vec<Method>),
    /// The document is not one that the caller names.
    #[error("The document is another one by now")]
    PreconditionFailed,
    #[error("Request body is too large")]
    BodyTooLarge,
    #[error("Failed to parse JSON body")]
    MalformedJson,
    /// The request contradicts the API.
    #[error("{0}")]
    BadRequest(String),
    /// The room or the cluster refused or failed.
    #[error("{0}")]
    Operation(String),
    /// As much as there may be is there already.
    #[error("{0}")]
    TooMany(&'static str),
    /// Others changed the same thing whenever this request was about to.
    #[error("{0}")]
    Conflict(String),
    /// In the API, but not served here.
    #[error("The service {0} is not available")]
    NotAvailable(&'static str),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl RestError {
    /// OWT's code for it.
    #[cfg(test)]
    pub(super) fn code(&self) -> u16 {
        self.status_and_code().1
    }

    fn status_and_code(&self) -> (StatusCode, u16) {
        match self {
            Self::Unauthorized | Self::BadToken(_) | Self::Replayed => (StatusCode::UNAUTHORIZED, 1101),
            Self::Forbidden => (StatusCode::FORBIDDEN, 1102),
            Self::ServiceNotFound => (StatusCode::NOT_FOUND, 1002),
            Self::UnknownPath | Self::SubscriptionNotFound | Self::WebhookNotFound | Self::NodeNotFound => {
                (StatusCode::NOT_FOUND, 1001)
            }
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, 1001),
            Self::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, 1201),
            Self::RoomNotFound => (StatusCode::NOT_FOUND, 1003),
            Self::StreamNotFound => (StatusCode::NOT_FOUND, 1004),
            Self::ParticipantNotFound => (StatusCode::NOT_FOUND, 1005),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, 1201),
            Self::MalformedJson | Self::BadRequest(_) => (StatusCode::BAD_REQUEST, 1201),
            Self::Conflict(_) => (StatusCode::CONFLICT, 1301),
            Self::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, 1301),
            Self::Operation(_) | Self::NotAvailable(_) => (StatusCode::INTERNAL_SERVER_ERROR, 1301),
            Self::Other(_) => (StatusCode::INTERNAL_SERVER_ERROR, 2001),
        }
    }
}

impl From<CallError> for RestError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Conflict => Self::Conflict(error.to_string()),
            CallError::Timeout(_) | CallError::Unreachable(_) | CallError::Refused { .. } => {
                Self::Operation(error.to_string())
            }
        }
    }
}

impl IntoResponse for RestError {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        let body = Json(json!({ "error": { "code": code, "message": self.to_string() } }));
        let mut response = (status, body).into_response();
        if let Self::MethodNotAllowed(methods) = &self {
            let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
            if let Ok(value) = HeaderValue::from_str(&names.join(", ")) {
                response.headers_mut().insert(header::ALLOW, value);
            }
        }
        response
    }
}
