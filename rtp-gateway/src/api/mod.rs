//! The REST API: SkyWay WebRTC Gateway's, version 0.4. See `docs/gateway.md`.

mod body;
mod data;
mod data_connections;
mod media;
mod media_connections;
mod peers;
mod problem;
mod request;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderMap, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};
use serde_json::{Value, json};

use crate::gateway::Gateway;
use problem::{Command, Problem};

/// Longest body, in bytes.
const MAX_BODY: usize = 64 << 10;

/// What this API is, in OpenAPI 3.1.
const DOCUMENT: &str = include_str!("../../openapi.json");

/// All of it.
pub(crate) fn router(gateway: Arc<Gateway>) -> Router {
    Router::new()
        .route("/openapi.json", get(async || ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)))
        .route("/peers", post(peers::create))
        .route("/peers/{peer_id}", delete(peers::remove))
        .route("/peers/{peer_id}/credential", put(peers::renew))
        .route("/peers/{peer_id}/events", get(peers::events))
        .route("/peers/{peer_id}/status", get(peers::status))
        .route("/data", post(data::create))
        .route("/data/{data_id}", delete(data::remove))
        .route("/data/connections", post(data_connections::create))
        .route(
            "/data/connections/{data_connection_id}",
            delete(data_connections::remove).put(data_connections::change),
        )
        .route("/data/connections/{data_connection_id}/events", get(data_connections::events))
        .route("/data/connections/{data_connection_id}/status", get(data_connections::status))
        .route("/media", post(media::create))
        .route("/media/{media_id}", delete(media::remove))
        .route("/media/rtcp", post(media::create_rtcp))
        .route("/media/rtcp/{rtcp_id}", delete(media::remove_rtcp))
        .route("/media/connections", post(media_connections::create))
        .route("/media/connections/{media_connection_id}", delete(media_connections::remove))
        .route("/media/connections/{media_connection_id}/answer", post(media_connections::answer))
        .route("/media/connections/{media_connection_id}/pli", post(media_connections::pli))
        .route("/media/connections/{media_connection_id}/events", get(media_connections::events))
        .route("/media/connections/{media_connection_id}/status", get(media_connections::status))
        .fallback(async || Problem::NotFound("there is no such path").of(Command::Unknown))
        .method_not_allowed_fallback(async || Problem::Method.of(Command::Unknown))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(acceptable))
        .with_state(gateway)
}

/// Answers are JSON: whoever takes none of that gets none.
async fn acceptable(request: Request, next: Next) -> Response {
    if takes_json(request.headers()) {
        next.run(request).await
    } else {
        Problem::NotAcceptable.of(Command::Unknown)
    }
}

fn takes_json(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter().peekable();
    if accepted.peek().is_none() {
        return true;
    }
    accepted.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let refused = parts
            .any(|part| matches!(part.replace(' ', "").as_str(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        !refused && matches!(kind.as_str(), "*/*" | "application/*" | "application/json")
    })
}

/// Runs a command, whose problems are told with its name.
async fn run(command: Command, outcome: impl Future<Output = Result<Response, Problem>>) -> Response {
    outcome.await.unwrap_or_else(|problem| problem.of(command))
}

fn reply(status: StatusCode, body: Value) -> Response {
    (status, Json(body)).into_response()
}

/// An answer to a command.
fn done(status: StatusCode, command: &'static str, params: Value) -> Response {
    reply(status, json!({"command_type": command, "params": params}))
}

fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_what_there_is() {
        let with = |value: &str| HeaderMap::from_iter([(header::ACCEPT, value.parse().unwrap())]);
        assert!(takes_json(&HeaderMap::new()));
        for taken in ["*/*", "text/html, application/json;q=0.5", "application/*"] {
            assert!(takes_json(&with(taken)), "{taken}");
        }
        for not in ["text/html", "application/json; q=0", "image/*"] {
            assert!(!takes_json(&with(not)), "{not}");
        }
    }
}
