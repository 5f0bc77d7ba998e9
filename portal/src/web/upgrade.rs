//! Upgrades to WebSocket (RFC 6455 §4.2), and which pages may ask for one: other than for requests, browsers leave that to the server.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, Method, Response, StatusCode, Version, header, uri::Authority},
    response::IntoResponse,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::derive_accept_key,
        protocol::{Role, WebSocketConfig},
    },
};

/// A request that asks for no WebSocket, where nothing else is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("A WebSocket is served here")]
pub(crate) struct NoUpgrade;

impl IntoResponse for NoUpgrade {
    fn into_response(self) -> Response<Body> {
        let needed = [(header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_VERSION, "13")];
        (StatusCode::UPGRADE_REQUIRED, needed, format!("{self}\n")).into_response()
    }
}

/// What is waiting for a client's bytes to be a WebSocket's.
pub(crate) struct Upgrade {
    waiting: OnUpgrade,
    config: WebSocketConfig,
}

impl Upgrade {
    /// The answer to a request for a WebSocket, and the WebSocket to be.
    ///
    /// # Errors
    /// [`NoUpgrade`] for anything else.
    pub(crate) fn begin(
        mut request: Request,
        max_message: usize,
    ) -> Result<(Self, Response<Body>), NoUpgrade> {
        let headers = request.headers();
        let says = |name: header::HeaderName, word: &str| {
            let words = headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
            words.split(',').any(|one| one.trim().eq_ignore_ascii_case(word))
        };
        let is_upgrade = request.method() == Method::GET
            && request.version() == Version::HTTP_11
            && says(header::UPGRADE, "websocket")
            && says(header::CONNECTION, "upgrade")
            && says(header::SEC_WEBSOCKET_VERSION, "13");
        let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_upgrade).cloned();
        let (Some(key), Some(_)) = (key, request.extensions().get::<OnUpgrade>()) else {
            return Err(NoUpgrade);
        };
        let accept = [
            (header::UPGRADE, "websocket".to_owned()),
            (header::CONNECTION, "Upgrade".to_owned()),
            (header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes())),
        ];
        let config = WebSocketConfig::default()
            .max_message_size(Some(max_message))
            .max_frame_size(Some(max_message))
            // One that does not read is given up before more than that waits.
            .max_write_buffer_size(4 * max_message);
        let upgrade = Self { waiting: hyper::upgrade::on(&mut request), config };
        Ok((upgrade, (StatusCode::SWITCHING_PROTOCOLS, accept).into_response()))
    }

    /// The WebSocket; `None` if the client is gone.
    pub(crate) async fn socket(self) -> Option<WebSocketStream<TokioIo<Upgraded>>> {
        let upgraded = self.waiting.await.ok()?;
        Some(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(self.config)).await)
    }
}

/// Whether the page that a request comes from may make it: any program that is no page, pages of this address, and those of the origins
/// that are allowed.
pub(crate) fn is_allowed_origin(headers: &HeaderMap, allowed: &[String]) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let Ok(origin) = origin.to_str() else { return false };
    if allowed.iter().any(|one| one.trim() == "*" || one.trim() == origin) {
        return true;
    }
    let host =
        headers.get(header::HOST).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<Authority>().ok());
    let page = origin.split_once("://").and_then(|(_, rest)| rest.parse::<Authority>().ok());
    host.is_some() && host == page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_other_origins_have_to_be_allowed() {
        let may = |origin: Option<&str>, allowed: &[&str]| {
            let mut headers = HeaderMap::from_iter([(header::HOST, "kaigi.example:8080".parse().unwrap())]);
            headers.extend(origin.map(|origin| (header::ORIGIN, origin.parse().unwrap())));
            is_allowed_origin(&headers, &allowed.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>())
        };
        assert!(may(None, &[]), "no page");
        assert!(may(Some("https://kaigi.example:8080"), &[]), "a page of its own");
        assert!(may(Some("https://app.example"), &["https://a.example", "https://app.example"]));
        assert!(may(Some("https://app.example"), &["*"]));
        for other in ["https://app.example", "https://kaigi.example", "null", "kaigi.example:8080"] {
            assert!(!may(Some(other), &["https://a.example"]), "{other}");
        }
    }
}
