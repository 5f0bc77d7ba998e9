//! OWT's peer server: the signaling of OWT's peer-to-peer mode by Socket.IO, on a port of its own. All clients are in one directory at the hub
//! of peers, so that those at different portals reach each other.

mod connection;
mod protocol;

use std::sync::Arc;

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use serde_json::Value;
use socketioxide::{adapter::LocalAdapter, extract::SocketRef, handler::ConnectHandler, socket::Socket};

use crate::{
    peers::PeerRoomsMode,
    rest,
    signaling::{Signaling, TooManyConnections},
    web::{cors_layer, is_allowed_origin},
};
use connection::Connection;
use protocol::Code;

/// The peer server at this portal.
#[derive(Clone, Debug)]
pub(crate) struct OwtPeers {
    signaling: Signaling,
    mode: PeerRoomsMode,
    origins: Arc<[String]>,
}

impl OwtPeers {
    pub(crate) fn new(signaling: Signaling, mode: PeerRoomsMode, origins: Arc<[String]>) -> Self {
        Self { signaling, mode, origins }
    }

    /// What is served on its port.
    pub(crate) fn router(self) -> Router {
        let (layer, io) = self.signaling.limits.socket_io().build_layer();
        let cors = cors_layer(&self.origins);
        io.ns("/", Door(self));
        Router::new().fallback(nothing_else).layer(layer).layer(cors)
    }

    /// The name of the client whose token it is. Where tokens are not looked at, it is the name, as with OWT's server.
    async fn uid(&self, token: &Value) -> Result<String, Code> {
        let text = token.as_str().filter(|text| !text.is_empty());
        let uid = match (self.mode, text) {
            (PeerRoomsMode::Open, Some(uid)) => uid.to_owned(),
            (PeerRoomsMode::Open, None) if token.is_null() || *token == "" => protocol::anonymous(),
            (PeerRoomsMode::Open, None) => token.to_string(),
            (PeerRoomsMode::Token, Some(token)) => {
                match rest::peers_grant(&self.signaling.backend, token).await {
                    Ok(grant) => grant.peer().ok_or(Code::AuthFailed)?.to_owned(),
                    Err(rest::RestError::Operation(_)) => return Err(Code::ServerUnavailable),
                    Err(_) => return Err(Code::AuthFailed),
                }
            }
            (PeerRoomsMode::Token | PeerRoomsMode::Off, _) => return Err(Code::AuthFailed),
        };
        if protocol::is_uid(&uid) { Ok(uid) } else { Err(Code::AuthFailed) }
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        is_allowed_origin(headers, &self.origins)
    }
}

async fn nothing_else() -> impl IntoResponse {
    (StatusCode::METHOD_NOT_ALLOWED, "Peer-to-peer signaling by Socket.IO is served here, and nothing else\n")
}

/// Admits connections. The actor is set up before the client is told that it is connected, so that no request can come too early.
#[derive(Clone)]
struct Door(OwtPeers);

/// Refuses a connection.
#[derive(Debug, thiserror::Error)]
#[error("Pages of this origin may not connect")]
struct OtherOrigin;

impl ConnectHandler<LocalAdapter, Self> for Door {
    fn call(&self, _: Arc<Socket<LocalAdapter>>, _: Option<socketioxide::handler::Value>) {}

    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket<LocalAdapter>>,
        _: &'a Option<socketioxide::handler::Value>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Box<dyn std::fmt::Display + Send>>> + Send + 'a>>
    {
        let admitted = self.0.signaling.place();
        let is_allowed = self.0.admits(&socket.req_parts().headers);
        Box::pin(async move {
            if !is_allowed {
                return Err(Box::new(OtherOrigin) as Box<dyn std::fmt::Display + Send>);
            }
            let Some(place) = admitted else {
                return Err(Box::new(TooManyConnections) as Box<dyn std::fmt::Display + Send>);
            };
            Connection::open(self.0.clone(), SocketRef::from(socket), place);
            Ok(())
        })
    }
}
