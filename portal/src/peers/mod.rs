//! Peer-to-peer rooms: signaling by WebSocket for pages that send media to each other. Who is there is known to the hub, which all portals
//! share; a portal passes on.

mod message;
mod roster;
mod socket;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use clap::ValueEnum;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::Instrument;

use crate::{
    backend::CallError,
    clock::UnixMillis,
    rest::{self, PeersGrant},
    signaling::Signaling,
    web::{Upgrade, is_allowed_origin},
};
use message::PeerError;
use socket::Peer;

/// Who may enter rooms of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PeerRoomsMode {
    /// Everybody who can reach the portal.
    Open,
    /// Who has a token of a service.
    Token,
    /// Nobody: they are not served.
    Off,
}

/// The rooms of peers at this portal.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    signaling: Signaling,
    mode: PeerRoomsMode,
    origins: Arc<[String]>,
}

impl Peers {
    pub(crate) fn new(signaling: Signaling, mode: PeerRoomsMode, origins: Arc<[String]>) -> Self {
        Self { signaling, mode, origins }
    }

    /// The routes.
    pub(crate) fn router(self) -> Router {
        if self.mode == PeerRoomsMode::Off {
            return Router::new();
        }
        Router::new()
            .route("/webrtc/signaling/{room}/{peer}", get(connect))
            .route("/webrtc/rooms", get(list_rooms))
            .route("/webrtc/rooms/{room}/peers", get(list_peers))
            .route("/webrtc/client/config.json", get(config))
            .with_state(self)
    }

    /// What a token lets its bearer do; all in open rooms.
    async fn grant(&self, token: Option<&str>) -> Result<PeersGrant, PeerError> {
        if self.mode == PeerRoomsMode::Open {
            return Ok(PeersGrant::default());
        }
        let token = token.ok_or(PeerError::Unauthorized)?;
        match rest::peers_grant(&self.signaling.backend, token).await {
            Ok(grant) => Ok(grant),
            Err(rest::RestError::Operation(_)) => Err(PeerError::Unavailable),
            Err(_) => Err(PeerError::Unauthorized),
        }
    }
}

/// Why a list is not given.
#[derive(Debug, thiserror::Error)]
enum ListError {
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error(transparent)]
    Call(#[from] CallError),
}

impl IntoResponse for ListError {
    fn into_response(self) -> Response {
        let (status, code) = match &self {
            Self::Peer(error @ PeerError::Unauthorized) => (StatusCode::UNAUTHORIZED, error.code()),
            Self::Peer(error @ PeerError::InvalidName) => (StatusCode::BAD_REQUEST, error.code()),
            Self::Peer(error) => (StatusCode::SERVICE_UNAVAILABLE, error.code()),
            Self::Call(_) => (StatusCode::SERVICE_UNAVAILABLE, PeerError::Unavailable.code()),
        };
        let body = Json(json!({ "error": { "code": code, "message": self.to_string() } }));
        let mut response = (status, body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = header::HeaderValue::from_static("Bearer realm=\"kaigi\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// What a page says when it connects; WebSockets of browsers have no headers.
#[derive(Debug, Deserialize)]
struct Credentials {
    token: Option<String>,
}

/// `GET /webrtc/signaling/{room}/{peer}`
async fn connect(
    State(peers): State<Peers>,
    Path((room, name)): Path<(String, String)>,
    Query(credentials): Query<Credentials>,
    request: Request,
) -> Response {
    if !is_allowed_origin(request.headers(), &peers.origins) {
        return (StatusCode::FORBIDDEN, "Pages of this origin may not connect\n").into_response();
    }
    let (upgrade, answer) = match Upgrade::begin(request, peers.signaling.limits.message_bytes) {
        Ok(begun) => begun,
        Err(refusal) => return refusal.into_response(),
    };
    let Some(place) = peers.signaling.place() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "Too many connections\n").into_response();
    };
    let span = tracing::info_span!("peer", room, name);
    let signaling = peers.signaling.clone();
    let serve = async move {
        let Some(socket) = upgrade.socket().await else { return };
        let granted = peers.grant(credentials.token.as_deref()).await;
        let admitted = granted.and_then(|grant| {
            if grant.covers(&room, Some(&name)) { Ok(()) } else { Err(PeerError::Unauthorized) }
        });
        let signaling = peers.signaling.clone();
        Peer { signaling, room, name, admitted, _place: place }.run(socket).await;
    };
    signaling.connections.spawn(serve.instrument(span));
    answer
}

/// `GET /webrtc/rooms`
async fn list_rooms(State(peers): State<Peers>, headers: HeaderMap) -> Result<Json<Value>, ListError> {
    let grant = peers.grant(bearer(&headers)).await?;
    let rooms = peers.signaling.backend.peers.rooms().await?;
    let seen = rooms.into_iter().filter(|room| grant.covers(&room.room, None));
    let rooms: Vec<Value> = seen.map(|room| json!({"room_id": room.room, "peers": room.peers})).collect();
    Ok(Json(json!({ "rooms": rooms })))
}

/// `GET /webrtc/rooms/{room}/peers`
async fn list_peers(
    State(peers): State<Peers>,
    Path(room): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, ListError> {
    if !message::is_name(&room) {
        return Err(PeerError::InvalidName.into());
    }
    if !peers.grant(bearer(&headers)).await?.covers(&room, None) {
        return Err(PeerError::Unauthorized.into());
    }
    let there = peers.signaling.backend.peers.peers_in(&room).await?;
    Ok(Json(json!({ "room_id": room, "peers": there })))
}

/// `GET /webrtc/client/config.json`: what the page has to know of this portal.
async fn config(State(peers): State<Peers>) -> ([(HeaderName, &'static str); 1], Json<Value>) {
    let config = json!({
        "iceServers": peers.signaling.ice_servers.for_client(UnixMillis::now()),
        "token": peers.mode == PeerRoomsMode::Token,
    });
    ([(header::CACHE_CONTROL, "no-store")], Json(config))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then(|| token.trim())
}
