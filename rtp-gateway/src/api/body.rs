//! Bodies and parameters of requests, read so that what is wrong is said by its name.

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, rejection::BytesRejection},
    http::request::Parts,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::Problem;

/// A body; what is wrong with it is known later, by the command.
pub(super) struct Body(Result<Bytes, BytesRejection>);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(Bytes::from_request(request, state).await))
    }
}

impl Body {
    /// Reads it as a JSON object.
    pub(super) fn read<T: DeserializeOwned>(self) -> Result<T, Problem> {
        let bytes = self.0.map_err(|error| Problem::input("body", error.body_text()))?;
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Problem::input("body", format!("no JSON: {error}")))?;
        if !value.is_object() {
            return Err(Problem::input("body", "no JSON object"));
        }
        serde_path_to_error::deserialize(value).map_err(|error| {
            let (path, message) = (error.path().to_string(), error.inner().to_string());
            let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
            match (missing, path.as_str()) {
                (Some(field), ".") => Problem::input(field, format!("{field} field is not specified")),
                (Some(field), path) => {
                    Problem::input(format!("{path}.{field}"), format!("{field} field is not specified"))
                }
                (None, ".") => Problem::input("body", message),
                (None, path) => Problem::input(path, message),
            }
        })
    }
}

/// The parameter `token` of a query.
pub(super) struct Token(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Token {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let query = parts.uri.query().unwrap_or_default();
        let token = query.split('&').find_map(|pair| pair.strip_prefix("token="));
        let decoded =
            token.map(|token| percent_encoding::percent_decode_str(token).decode_utf8_lossy().into_owned());
        Ok(Self(decoded.filter(|token| !token.is_empty())))
    }
}

impl Token {
    pub(super) fn given(self) -> Result<String, Problem> {
        self.0.ok_or_else(|| Problem::input("token", "token field is not specified"))
    }
}

/// One part of a path; bytes that are no text are replaced, and name nothing.
pub(super) struct Id(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let path = axum::extract::RawPathParams::from_request_parts(parts, state).await;
        let id = path.ok().and_then(|params| params.iter().next().map(|(_, value)| value.to_owned()));
        Ok(Self(id.unwrap_or_default()))
    }
}
