//! Peers.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use kaigi_proto::v1::PeerSpace;
use kaigi_room_client::{CallError, PeerEntered};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Command, Problem,
    body::{Body, Id, Token},
    done, no_content, reply,
    request::peer,
    run,
};
use crate::{
    credential::{Credential, CredentialError},
    gateway::Gateway,
    ids,
    peer::{Peer, serve, unix_time},
};

/// Longest name of a room of peers or a peer, in characters.
const MAX_NAME: usize = 64;

#[derive(Debug, Deserialize)]
struct PeerOptions {
    key: String,
    domain: String,
    peer_id: Option<String>,
    #[serde(default = "yes")]
    turn: bool,
    credential: Option<CredentialBody>,
}

fn yes() -> bool {
    true
}

/// A credential whose numbers may be none.
#[derive(Debug, Deserialize)]
struct CredentialBody {
    timestamp: i64,
    ttl: i64,
    #[serde(rename = "authToken")]
    auth_token: String,
}

impl CredentialBody {
    fn read(self) -> Result<Credential, Problem> {
        let number = |name: &str, number: i64| {
            u64::try_from(number).map_err(|_| Problem::input(name, format!("{name} must not be negative")))
        };
        Ok(Credential {
            timestamp: number("timestamp", self.timestamp)?,
            ttl: number("ttl", self.ttl)?,
            auth_token: self.auth_token,
        })
    }
}

impl From<CredentialError> for Problem {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::Life => Self::input("ttl", error),
            CredentialError::Signature | CredentialError::Future | CredentialError::Expired => {
                Self::forbidden(error)
            }
        }
    }
}

/// Whether a text can name a peer or its room: as in peer-to-peer rooms.
pub(super) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-@".contains(&b))
}

const AWAY: Problem = Problem::Timeout("the cluster does not answer");

pub(super) async fn create(State(gateway): State<Arc<Gateway>>, body: Body) -> Response {
    let made = async {
        let options: PeerOptions = body.read()?;
        let names = "1 to 64 letters, digits, or characters of . _ ~ - @";
        if !is_name(&options.domain) {
            return Err(Problem::input("domain", format!("domain has {names}")));
        }
        let id = options.peer_id.unwrap_or_else(ids::peer_name);
        if !is_name(&id) {
            return Err(Problem::input("peer_id", format!("peer_id has {names}")));
        }
        let credential = options.credential.map(CredentialBody::read).transpose()?;
        if options.key.is_empty() || options.key.len() > 128 {
            return Err(Problem::forbidden("there is no such key"));
        }
        let found = gateway.cluster.service(&options.key).await.map_err(|_| AWAY)?;
        let service = found.ok_or_else(|| Problem::forbidden("there is no such key"))?;
        let good_for = match credential {
            Some(credential) => Some(credential.check(&service.key, &id, unix_time())?),
            None if gateway.args.require_credentials => {
                return Err(Problem::forbidden("a credential is needed"));
            }
            None => None,
        };
        gateway.has_room_for_peer(&id, &service.id)?;
        let hub = &gateway.cluster.peers;
        let entered = hub.enter(PeerSpace::Rooms, &options.domain, &id, false).await;
        let PeerEntered { seat, news, .. } = entered.map_err(|error| match error {
            CallError::Refused { code: tonic::Code::AlreadyExists, .. } => {
                Problem::input("peer_id", "a peer of that id is there")
            }
            CallError::Refused { code: tonic::Code::ResourceExhausted, .. } => {
                Problem::input("domain", "the room of peers is full")
            }
            _ => AWAY,
        })?;
        let new = Peer::new(id, service, options.turn, seat, good_for, gateway.stop.child_token());
        let peer = gateway.add_peer(new)?;
        tracing::info!(peer = peer.id, domain = options.domain, service = peer.service.id, "a peer is there");
        tokio::spawn(serve(gateway.clone(), peer.clone(), news));
        let params = json!({"peer_id": peer.id, "token": peer.token});
        Ok(done(StatusCode::CREATED, "PEERS_CREATE", params))
    };
    run(Command::PeersCreate, made).await
}

pub(super) async fn remove(State(gateway): State<Arc<Gateway>>, Id(id): Id, token: Token) -> Response {
    let removed = async {
        let peer = peer(&gateway, &id, &token.given()?)?;
        peer.stop.cancel();
        gateway.remove_peer(&peer, false);
        Ok(no_content())
    };
    run(Command::PeersDelete, removed).await
}

pub(super) async fn renew(
    State(gateway): State<Arc<Gateway>>,
    Id(id): Id,
    token: Token,
    body: Body,
) -> Response {
    let renewed = async {
        let token = token.given()?;
        let value: Value = body.read()?;
        let read: CredentialBody =
            serde_json::from_value(value.clone()).map_err(|error| Problem::input("credential", error))?;
        let credential = read.read()?;
        let peer = peer(&gateway, &id, &token)?;
        // Of a peer that is here without one it says nothing.
        if peer.has_credential() {
            peer.renew(credential.check(&peer.service.key, &peer.id, unix_time())?);
        }
        Ok(done(StatusCode::OK, "PEERS_CREDENTIAL_UPDATE", json!({"credential": credential})))
    };
    run(Command::PeersCredentialUpdate, renewed).await
}

pub(super) async fn events(State(gateway): State<Arc<Gateway>>, Id(id): Id, token: Token) -> Response {
    let told = async {
        let peer = peer(&gateway, &id, &token.given()?)?;
        let event = peer.events.take(gateway.event_timeout()).await;
        Ok(reply(StatusCode::OK, event.ok_or(Problem::Timeout("nothing has happened"))?))
    };
    run(Command::PeersEvents, told).await
}

pub(super) async fn status(State(gateway): State<Arc<Gateway>>, Id(id): Id, token: Token) -> Response {
    let told = async {
        let peer = peer(&gateway, &id, &token.given()?)?;
        let disconnected = peer.stop.is_cancelled();
        Ok(reply(StatusCode::OK, json!({"peer_id": peer.id, "disconnected": disconnected})))
    };
    run(Command::PeersStatus, told).await
}
