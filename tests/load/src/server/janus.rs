//! Clients of a Janus videoroom, by its API over WebSockets: each has one handle that publishes or receives.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{SinkExt, StreamExt};
use kaigi_access_node::transport::Certificate;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use super::{PeerHandle, Publication, ServerError, Way, Wish};
use crate::{
    driver::Driver,
    peer::Use,
    signaling::{PATIENCE, SignalingError},
};

type WebSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A running Janus.
#[derive(Clone)]
pub struct Janus {
    /// "host:port" of its WebSocket API.
    host: String,
    driver: Driver,
    certificate: Certificate,
    rooms: Arc<AtomicU64>,
}

impl std::fmt::Debug for Janus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Janus").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Janus {
    /// By its WebSocket API at "host:port".
    ///
    /// # Errors
    /// If no certificate can be made.
    pub fn new(host: String, driver: Driver) -> Result<Self, ServerError> {
        let rooms = Arc::new(AtomicU64::new(1_000_000));
        Ok(Self { host, driver, certificate: Certificate::generate()?, rooms })
    }

    /// A new room; its id.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn create_room(&self) -> Result<String, ServerError> {
        let room = self.rooms.fetch_add(1, Ordering::Relaxed);
        let mut handle = Handle::open(&self.host).await?;
        let options = json!({
            "request": "create", "room": room, "publishers": 1000, "bitrate": 0, "videocodec": "vp8,h264",
            "audiocodec": "opus", "notify_joining": false, "transport_wide_cc_ext": true,
        });
        handle.ask("create", options, None).await?;
        Ok(room.to_string())
    }

    /// Somebody joins a room.
    ///
    /// # Errors
    /// If he is not let in.
    pub async fn join(&self, room: &str, way: Way, seed: u64) -> Result<Visitor, ServerError> {
        let room = room.parse().map_err(|_| SignalingError::Strange("a room"))?;
        let handle = Handle::open(&self.host).await?;
        let peer = PeerHandle::new(&self.driver, self.certificate.clone(), way, seed).await?;
        Ok(Visitor { handle, peer, room })
    }
}

/// Somebody who publishes or receives.
#[derive(Debug)]
pub struct Visitor {
    handle: Handle,
    /// His media.
    pub peer: PeerHandle,
    room: u64,
}

impl Visitor {
    /// Publishes; the feed's id.
    ///
    /// # Errors
    /// If it is refused or does not come about.
    pub async fn publish(&mut self, publication: Publication) -> Result<String, ServerError> {
        let join = json!({"request": "join", "ptype": "publisher", "room": self.room});
        let joined = self.handle.ask("join", join, None).await?;
        let feed = joined.pointer("/plugindata/data/id").cloned().ok_or(SignalingError::Strange("join"))?;
        if let Some((track, level)) = publication.audio {
            let line = Use::Publish { track, rids: Vec::new(), level };
            self.peer.call(|peer, _| peer.add_line(line)).await?;
        }
        if let Some((track, rids)) = publication.video {
            let line = Use::Publish { track, rids, level: 0 };
            self.peer.call(|peer, _| peer.add_line(line)).await?;
        }
        let sdp = self.peer.call(|peer, _| peer.offer()).await?;
        let answered =
            self.handle.ask("publish", json!({"request": "publish"}), Some(("offer", sdp))).await?;
        let answer = sdp_of(&answered).ok_or(SignalingError::Strange("publish"))?;
        self.peer.call(move |peer, now| peer.take_answer(now, &answer)).await??;
        self.peer.connected().await?;
        Ok(feed.to_string())
    }

    /// Receives; the m-lines on which frames are to be expected.
    ///
    /// # Errors
    /// If it is refused or does not come about.
    pub async fn subscribe(&mut self, wishes: Vec<Wish>) -> Result<Vec<String>, ServerError> {
        let feeds: Result<Vec<Value>, _> =
            wishes.iter().map(|wish| wish.stream.parse::<u64>().map(|feed| json!({"feed": feed}))).collect();
        let feeds = feeds.map_err(|_| SignalingError::Strange("a stream"))?;
        let join = json!({"request": "join", "ptype": "subscriber", "room": self.room, "streams": feeds});
        let joined = self.handle.ask("join", join, None).await?;
        let offer = sdp_of(&joined).ok_or(SignalingError::Strange("join"))?;
        // Janus lists m-lines as they were published: sound, then picture.
        let tracks = wishes.into_iter().flat_map(|wish| [wish.audio, wish.video.map(|(track, _)| track)]);
        let tracks: Vec<_> = tracks.flatten().collect();
        let (answer, mids) = self
            .peer
            .call(move |peer, now| {
                let answer = peer.answer(now, &offer, &tracks)?;
                let mids = peer.receivers().iter().map(|(mid, _)| mid.clone()).collect();
                Ok::<_, crate::peer::ConnectionError>((answer, mids))
            })
            .await??;
        self.handle.ask("start", json!({"request": "start"}), Some(("answer", answer))).await?;
        self.peer.connected().await?;
        Ok(mids)
    }

    /// Leaves.
    ///
    /// # Errors
    /// If the thread of the peer has ended.
    pub async fn leave(mut self, says_farewell: bool) -> Result<(), ServerError> {
        if says_farewell {
            // Whether or not Janus has heard it.
            let _ = self.handle.say(json!({"janus": "destroy"})).await;
        }
        self.peer.remove(says_farewell).await
    }
}

fn sdp_of(event: &Value) -> Option<String> {
    Some(event.pointer("/jsep/sdp")?.as_str()?.to_owned())
}

/// A session with one handle of the videoroom.
#[derive(Debug)]
struct Handle {
    socket: WebSocket,
    session: Value,
    handle: Value,
    count: u64,
}

impl Handle {
    async fn open(host: &str) -> Result<Self, SignalingError> {
        let wrong = |error: &dyn std::fmt::Display| SignalingError::Connect(error.to_string());
        let mut request = format!("ws://{host}/").into_client_request().map_err(|error| wrong(&error))?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("janus-protocol"));
        let (socket, _) = connect_async(request).await.map_err(|error| wrong(&error))?;
        let mut opened = Self { socket, session: Value::Null, handle: Value::Null, count: 0 };
        let created = opened.reply("create", json!({"janus": "create"})).await?;
        opened.session = created.pointer("/data/id").cloned().ok_or(SignalingError::Strange("create"))?;
        let attach = json!({"janus": "attach", "plugin": "janus.plugin.videoroom"});
        let attached = opened.reply("attach", attach).await?;
        opened.handle = attached.pointer("/data/id").cloned().ok_or(SignalingError::Strange("attach"))?;
        Ok(opened)
    }

    async fn say(&mut self, mut message: Value) -> Result<String, SignalingError> {
        self.count += 1;
        let transaction = self.count.to_string();
        message["transaction"] = json!(transaction);
        if !self.session.is_null() {
            message["session_id"] = self.session.clone();
        }
        if !self.handle.is_null() && message["janus"] == "message" {
            message["handle_id"] = self.handle.clone();
        }
        let said = self.socket.send(Message::text(message.to_string())).await;
        said.map_err(|_| SignalingError::Ended)?;
        Ok(transaction)
    }

    /// The plugin's answer to a request.
    async fn ask(
        &mut self,
        request: &'static str,
        body: Value,
        jsep: Option<(&str, String)>,
    ) -> Result<Value, SignalingError> {
        let mut message = json!({"janus": "message", "body": body});
        if let Some((kind, sdp)) = jsep {
            message["jsep"] = json!({"type": kind, "sdp": sdp});
        }
        let answer = self.reply(request, message).await?;
        match answer.pointer("/plugindata/data/error") {
            Some(reason) => Err(SignalingError::Refused { request, reason: reason.to_string() }),
            None => Ok(answer),
        }
    }

    async fn reply(&mut self, request: &'static str, message: Value) -> Result<Value, SignalingError> {
        let transaction = self.say(message).await?;
        let wait = async {
            while let Some(Ok(message)) = self.socket.next().await {
                let Message::Text(text) = message else { continue };
                let told: Value = serde_json::from_str(&text).unwrap_or_default();
                if told["transaction"] != transaction.as_str() || told["janus"] == "ack" {
                    continue;
                }
                if told["janus"] == "error" {
                    let reason = told["error"].to_string();
                    return Err(SignalingError::Refused { request, reason });
                }
                return Ok(told);
            }
            Err(SignalingError::Ended)
        };
        timeout(PATIENCE.max(Duration::from_secs(1)), wait)
            .await
            .map_err(|_| SignalingError::Silent(request))?
    }
}
