//! Connections of media.

use std::sync::{Arc, PoisonError};

use axum::{extract::State, http::StatusCode, response::Response};
use kaigi_proto::ids::RoomId;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    Command, Problem,
    body::{Body, Id},
    done, no_content,
    peers::is_name,
    reply,
    request::{Address, Constraints, Planned, Redirects, peer},
    run,
};
use crate::{
    cluster::RoomWish,
    connection::{Common, MediaConnection, OwnPorts, Target, call},
    gateway::Gateway,
    ids::MediaConnectionId,
    peer::Peer,
};

/// What a peer's name begins with that is a conference.
const ROOM: &str = "room:";
/// As whom a peer joins a conference that does not say it.
const ROLE: &str = "presenter";

#[derive(Debug, Deserialize)]
struct CallOptions {
    peer_id: String,
    token: String,
    target_id: String,
    constraints: Constraints,
    #[serde(default)]
    redirect_params: Redirects,
}

#[derive(Debug, Deserialize)]
struct AnswerOptions {
    constraints: Constraints,
    #[serde(default)]
    redirect_params: Redirects,
}

fn connection(gateway: &Gateway, id: String) -> Result<Arc<MediaConnection>, Problem> {
    gateway.media_connection(&id.into()).ok_or(Problem::NotFound("there is no such connection"))
}

fn set_ports(connection: &MediaConnection, ports: OwnPorts) {
    *connection.ports.lock().unwrap_or_else(PoisonError::into_inner) = ports;
}

/// The conference that is meant, if the peer may be there.
async fn wish(
    gateway: &Gateway,
    peer: &Peer,
    room: &str,
    metadata: &Map<String, Value>,
) -> Result<RoomWish, Problem> {
    let unknown = || Problem::input("target_id", "the service has no such room");
    let room = RoomId::new(room).map_err(|_| unknown())?;
    let has = gateway.cluster.has_room(&peer.service, &room).await;
    if !has.map_err(|_| Problem::Timeout("the cluster does not answer"))? {
        return Err(unknown());
    }
    let text = |name: &str| match metadata.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Problem::input(format!("constraints.metadata.{name}"), format!("{name} is a text"))),
    };
    Ok(RoomWish {
        room,
        name: peer.id.clone(),
        role: text("role")?.unwrap_or_else(|| ROLE.to_owned()),
        attributes: if metadata.is_empty() {
            String::new()
        } else {
            Value::Object(metadata.clone()).to_string()
        },
        stream: text("stream")?,
    })
}

pub(super) async fn create(State(gateway): State<Arc<Gateway>>, body: Body) -> Response {
    let made = async {
        let options: CallOptions = body.read()?;
        let peer = peer(&gateway, &options.peer_id, &options.token)?;
        let (planned, metadata) = options.constraints.plan(&options.redirect_params, &gateway)?;
        let Planned { plan, ports } = planned;
        let room = match options.target_id.strip_prefix(ROOM) {
            Some(room) => Some(wish(&gateway, &peer, room, &metadata).await?),
            None if is_name(&options.target_id) && options.target_id != peer.id => None,
            None => return Err(Problem::input("target_id", "this is no other peer, and no room")),
        };
        let id = MediaConnectionId::random();
        let common = Common::new(options.target_id.clone(), Value::Object(metadata), peer.stop.child_token());
        let new = MediaConnection::new(id.clone(), peer.service.id.clone(), common, None);
        let new = gateway.add_media_connection(new)?;
        set_ports(&new, ports);
        let target = match room {
            Some(wish) => Target::Room(wish),
            None => {
                let known: Arc<dyn AsRef<Common> + Send + Sync> = new.clone();
                Target::Peer(peer.way(&options.target_id, Some(id.to_string()), Arc::downgrade(&known), None))
            }
        };
        tokio::spawn(call(new, gateway.stage(peer.turn), plan, target));
        Ok(done(StatusCode::ACCEPTED, "PEERS_CALL", json!({"media_connection_id": id})))
    };
    run(Command::MediaConnectionCreate, made).await
}

pub(super) async fn remove(State(gateway): State<Arc<Gateway>>, Id(id): Id) -> Response {
    let removed = async {
        let connection = connection(&gateway, id)?;
        Gateway::close(&connection.common).await;
        Ok(no_content())
    };
    run(Command::MediaConnectionDelete, removed).await
}

pub(super) async fn answer(State(gateway): State<Arc<Gateway>>, Id(id): Id, body: Body) -> Response {
    let answered = async {
        let options: AnswerOptions = body.read()?;
        let connection = connection(&gateway, id)?;
        let (Planned { plan, ports }, _) = options.constraints.plan(&options.redirect_params, &gateway)?;
        let waiting = connection.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let waiting =
            waiting.ok_or_else(|| Problem::forbidden("this is no call that waits for an answer"))?;
        let mut params = Map::new();
        for media in &ports.media {
            let name = if media.is_video() { "video_id" } else { "audio_id" };
            params.insert(name.to_owned(), media.as_ref().into());
        }
        set_ports(&connection, ports);
        if waiting.0.send(plan).is_err() {
            return Err(Problem::forbidden("the call is over"));
        }
        Ok(done(StatusCode::ACCEPTED, "MEDIA_CONNECTION_ANSWER", Value::Object(params)))
    };
    run(Command::MediaConnectionAnswer, answered).await
}

pub(super) async fn pli(State(gateway): State<Arc<Gateway>>, Id(id): Id, body: Body) -> Response {
    let asked = async {
        let address: Address = body.read()?;
        let address = address.socket("")?;
        let connection = connection(&gateway, id)?;
        let lanes = connection.lanes();
        let lane = lanes.all().find(|lane| lane.goes_to() == Some(address));
        let lane = lane.ok_or_else(|| Problem::input("port", "nothing is sent there"))?;
        if lane.ask_for_key_frame().await {
            Ok(reply(StatusCode::CREATED, json!({})))
        } else {
            Err(Problem::input("port", "no picture comes from the other side yet"))
        }
    };
    run(Command::MediaConnectionPli, asked).await
}

pub(super) async fn events(State(gateway): State<Arc<Gateway>>, Id(id): Id) -> Response {
    let told = async {
        let connection = connection(&gateway, id)?;
        let event = connection.common.events.take(gateway.event_timeout()).await;
        Ok(reply(StatusCode::OK, event.ok_or(Problem::Timeout("nothing has happened"))?))
    };
    run(Command::MediaConnectionEvents, told).await
}

pub(super) async fn status(State(gateway): State<Arc<Gateway>>, Id(id): Id) -> Response {
    let told = async {
        let connection = connection(&gateway, id)?;
        let (common, lanes) = (&connection.common, connection.lanes());
        let mut statistics = Map::new();
        for (name, lane) in [("audio", &lanes.audio), ("video", &lanes.video)] {
            if let Some(lane) = lane {
                statistics.insert(name.to_owned(), json!(lane.counts()));
            }
        }
        let status = json!({
            "open": common.is_open(),
            "metadata": common.metadata,
            "remote_id": common.remote_id,
            "statistics": statistics,
        });
        Ok(reply(StatusCode::OK, status))
    };
    run(Command::MediaConnectionStatus, told).await
}
