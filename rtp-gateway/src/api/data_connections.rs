//! Connections of data.

use std::sync::{Arc, PoisonError};

use axum::{extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use webrtc::data_channel::RTCDataChannelInit;

use super::{
    Command, Problem,
    body::{Body, Id},
    done, no_content,
    peers::is_name,
    reply,
    request::{Address, peer},
    run,
};
use crate::{
    connection::{Common, DataConnection, DataPlan, Serialization, connect_data},
    gateway::Gateway,
    ids::{DataConnectionId, DataId},
    media::{Port, Use},
};

/// Longest metadata, in bytes.
const MAX_METADATA: usize = 4096;

#[derive(Debug, Deserialize)]
struct ConnectOptions {
    peer_id: String,
    token: String,
    #[serde(default)]
    options: ChannelOptions,
    target_id: String,
    params: Feed,
    redirect_params: Option<Address>,
}

#[derive(Debug, Default, Deserialize)]
struct ChannelOptions {
    #[serde(default)]
    metadata: String,
    #[serde(default)]
    serialization: Serialization,
    #[serde(default, rename = "dcInit")]
    init: Init,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Init {
    ordered: Option<bool>,
    max_packet_life_time: Option<i64>,
    max_retransmits: Option<i64>,
    #[serde(default)]
    protocol: String,
    #[serde(default)]
    negotiated: bool,
    id: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Feed {
    data_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PutOptions {
    feed_params: Option<Feed>,
    redirect_params: Option<Address>,
}

impl Init {
    fn read(self) -> Result<RTCDataChannelInit, Problem> {
        let number = |name: &str, number: Option<i64>| {
            let read = number.map(u16::try_from).transpose();
            read.map_err(|_| {
                Problem::input(format!("options.dcInit.{name}"), format!("{name} is 0 to 65535"))
            })
        };
        let max_packet_life_time = number("maxPacketLifeTime", self.max_packet_life_time)?;
        let max_retransmits = number("maxRetransmits", self.max_retransmits)?;
        if max_packet_life_time.is_some() && max_retransmits.is_some() {
            let message = "maxPacketLifeTime and maxRetransmits are both given";
            return Err(Problem::input("options.dcInit", message));
        }
        let id = number("id", self.id)?.filter(|_| self.negotiated);
        if self.negotiated && id.is_none_or(|id| id == u16::MAX) {
            return Err(Problem::input("options.dcInit.id", "a negotiated channel has an id, 0 to 65534"));
        }
        if self.protocol.len() > 255 {
            return Err(Problem::input("options.dcInit.protocol", "protocol has more than 255 bytes"));
        }
        Ok(RTCDataChannelInit {
            ordered: self.ordered.unwrap_or(true),
            max_packet_life_time,
            max_retransmits,
            protocol: self.protocol,
            negotiated: id,
        })
    }
}

fn connection(gateway: &Gateway, id: String) -> Result<Arc<DataConnection>, Problem> {
    gateway.data_connection(&id.into()).ok_or(Problem::NotFound("there is no such connection"))
}

fn port(gateway: &Gateway, feed: Feed, field: &str) -> Result<Option<(DataId, Arc<Port>)>, Problem> {
    let Some(id) = feed.data_id.map(DataId::from) else { return Ok(None) };
    let port = gateway.data.get(&id);
    let port = port.ok_or_else(|| Problem::input(format!("{field}.data_id"), "there is no such port"))?;
    Ok(Some((id, port)))
}

fn feed(connection: &DataConnection, id: DataId, port: Arc<Port>) {
    connection.set_feed(Use::of(port));
    let mut ports = connection.ports.lock().unwrap_or_else(PoisonError::into_inner);
    if !ports.contains(&id) {
        ports.push(id);
    }
}

/// Metadata of a channel is a text. The status has an object, so a text that is none is told as a member of one.
fn metadata(text: &str) -> Result<Map<String, Value>, Problem> {
    if text.len() > MAX_METADATA {
        return Err(Problem::input("options.metadata", "metadata has more than 4096 bytes"));
    }
    Ok(match serde_json::from_str(text) {
        Ok(Value::Object(object)) => object,
        _ if text.is_empty() => Map::new(),
        _ => Map::from_iter([("text".to_owned(), text.into())]),
    })
}

pub(super) async fn create(State(gateway): State<Arc<Gateway>>, body: Body) -> Response {
    let made = async {
        let options: ConnectOptions = body.read()?;
        let peer = peer(&gateway, &options.peer_id, &options.token)?;
        if !is_name(&options.target_id) || options.target_id == peer.id {
            return Err(Problem::input("target_id", "this is no other peer"));
        }
        let fed = port(&gateway, options.params, "params")?;
        let to = options.redirect_params.map(|to| to.socket("redirect_params")).transpose()?;
        let metadata = metadata(&options.options.metadata)?;
        let plan = DataPlan { init: options.options.init.read()? };
        let id = DataConnectionId::random();
        let common = Common::new(options.target_id.clone(), Value::Object(metadata), peer.stop.child_token());
        let serialization = options.options.serialization;
        let new = DataConnection::new(id.clone(), peer.service.id.clone(), common, serialization);
        let new = gateway.add_data_connection(new)?;
        let data_port = fed.as_ref().map(|(_, port)| port.address.port());
        if let Some((id, port)) = fed {
            feed(&new, id, port);
        }
        if let Some(to) = to {
            new.set_redirect(to);
        }
        let known: Arc<dyn AsRef<Common> + Send + Sync> = new.clone();
        let way = peer.way(&options.target_id, Some(id.to_string()), Arc::downgrade(&known), None);
        tokio::spawn(connect_data(new, gateway.stage(peer.turn), plan, way));
        let params = json!({"data_connection_id": id, "data_port": data_port});
        Ok(done(StatusCode::ACCEPTED, "PEERS_CONNECT", params))
    };
    run(Command::DataConnectionCreate, made).await
}

pub(super) async fn remove(State(gateway): State<Arc<Gateway>>, Id(id): Id) -> Response {
    let removed = async {
        let connection = connection(&gateway, id)?;
        Gateway::close(&connection.common).await;
        Ok(no_content())
    };
    run(Command::DataConnectionDelete, removed).await
}

pub(super) async fn change(State(gateway): State<Arc<Gateway>>, Id(id): Id, body: Body) -> Response {
    let changed = async {
        let options: PutOptions = body.read()?;
        let connection = connection(&gateway, id)?;
        let fed = match options.feed_params {
            Some(params) => port(&gateway, params, "feed_params")?,
            None => None,
        };
        let to = options.redirect_params.map(|to| to.socket("redirect_params")).transpose()?;
        let mut reply_body = json!({"command_type": "DATA_CONNECTION_PUT"});
        if let Some((id, port)) = fed {
            reply_body["data_id"] = id.as_ref().into();
            feed(&connection, id, port);
        }
        if let Some(to) = to {
            connection.set_redirect(to);
        }
        Ok(reply(StatusCode::OK, reply_body))
    };
    run(Command::DataConnectionPut, changed).await
}

pub(super) async fn events(State(gateway): State<Arc<Gateway>>, Id(id): Id) -> Response {
    let told = async {
        let connection = connection(&gateway, id)?;
        let event = connection.common.events.take(gateway.event_timeout()).await;
        Ok(reply(StatusCode::OK, event.ok_or(Problem::Timeout("nothing has happened"))?))
    };
    run(Command::DataConnectionEvents, told).await
}

pub(super) async fn status(State(gateway): State<Arc<Gateway>>, Id(id): Id) -> Response {
    let told = async {
        let connection = connection(&gateway, id)?;
        let (common, channel) = (&connection.common, connection.channel());
        let status = json!({
            "remote_id": common.remote_id,
            "buffersize": connection.waiting(),
            "label": channel.label,
            "metadata": common.metadata,
            "open": common.is_open(),
            "reliable": channel.reliable,
            "serialization": connection.serialization,
            "type": "DATA",
            "statistics": connection.counts(),
        });
        Ok(reply(StatusCode::OK, status))
    };
    run(Command::DataConnectionStatus, told).await
}
