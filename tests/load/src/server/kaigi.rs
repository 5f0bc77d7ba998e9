//! Participants of a Kaigi's rooms, by OWT's protocol 1.2.

use std::sync::{Arc, Mutex};

use base64::{Engine, engine::general_purpose::STANDARD};
use kaigi_access_node::transport::Certificate;
use serde_json::{Value, json};

use super::{PeerHandle, Publication, ServerError, Way, Wish};
use crate::{
    driver::Driver,
    peer::Use,
    signaling::{Notification, SignalingError, Socket},
};

/// What is used of the management API. Calls may block.
pub trait Management: Send + Sync {
    /// A new room; its id.
    ///
    /// # Errors
    /// What the API says.
    fn create_room(&self, name: &str) -> Result<String, String>;
    /// A stream is to be seen in the room's mix.
    ///
    /// # Errors
    /// What the API says.
    fn mix(&self, room: &str, stream: &str) -> Result<(), String>;
    /// Removes a room.
    ///
    /// # Errors
    /// What the API says.
    fn delete_room(&self, room: &str) -> Result<(), String>;
    /// A token for a participant who may do everything.
    ///
    /// # Errors
    /// What the API says.
    fn token(&self, room: &str, user: &str) -> Result<String, String>;
}

/// A running Kaigi.
#[derive(Clone)]
pub struct Kaigi {
    management: Arc<dyn Management>,
    driver: Driver,
    certificate: Certificate,
    /// That were made and not yet removed.
    rooms: Arc<Mutex<Vec<String>>>,
}

impl std::fmt::Debug for Kaigi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kaigi").finish_non_exhaustive()
    }
}

impl Kaigi {
    /// Through its management API. All participants have one certificate, as making one takes time.
    ///
    /// # Errors
    /// If no certificate can be made.
    pub fn new(management: Arc<dyn Management>, driver: Driver) -> Result<Self, ServerError> {
        let rooms = Arc::default();
        Ok(Self { management, driver, certificate: Certificate::generate()?, rooms })
    }

    async fn manage<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&dyn Management) -> Result<T, String> + Send + 'static,
    ) -> Result<T, ServerError> {
        let management = self.management.clone();
        let asked = tokio::task::spawn_blocking(move || ask(management.as_ref())).await;
        asked.map_err(|error| ServerError::Management(error.to_string()))?.map_err(ServerError::Management)
    }

    /// A new room; its id.
    ///
    /// # Errors
    /// If the management API refuses.
    pub async fn create_room(&self, name: &str) -> Result<String, ServerError> {
        let (name, rooms) = (name.to_owned(), self.rooms.clone());
        self.manage(move |api| {
            let room = api.create_room(&name)?;
            rooms.lock().map_err(|error| error.to_string())?.push(room.clone());
            Ok(room)
        })
        .await
    }

    /// Removes the rooms that were made. One that can't be removed stays.
    pub async fn delete_rooms(&self) {
        let rooms = self.rooms.lock().map(|mut rooms| std::mem::take(&mut *rooms)).unwrap_or_default();
        for room in rooms {
            let _ = self.manage(move |api| api.delete_room(&room)).await;
        }
    }

    /// Somebody joins a room.
    ///
    /// # Errors
    /// If he is not let in.
    pub async fn join(
        &self,
        room: &str,
        user: &str,
        way: Way,
        seed: u64,
    ) -> Result<Participant, ServerError> {
        let (room, user) = (room.to_owned(), user.to_owned());
        let token = self.manage(move |api| api.token(&room, &user)).await?;
        let host = host(&token)?;
        let socket = Socket::connect(&host).await?;
        let login = json!({
            "token": token,
            "userAgent": {"sdk": {"type": "JavaScript", "version": "5.1"}},
            "protocol": "1.2",
        });
        let welcome = socket.request("login", login).await?;
        let ticket = welcome.get("reconnectionTicket").and_then(Value::as_str).map(str::to_owned);
        let peer = self.peer(way, seed).await?;
        Ok(Participant { socket, peer, transport: None, host, ticket })
    }

    async fn peer(&self, way: Way, seed: u64) -> Result<PeerHandle, ServerError> {
        PeerHandle::new(&self.driver, self.certificate.clone(), way, seed).await
    }

    /// A stream is to be seen in the room's mix.
    ///
    /// # Errors
    /// What the management API says.
    pub async fn mix(&self, room: &str, stream: &str) -> Result<(), ServerError> {
        let (room, stream) = (room.to_owned(), stream.to_owned());
        self.manage(move |api| api.mix(&room, &stream)).await
    }
}

/// Where the token sends clients.
fn host(token: &str) -> Result<String, SignalingError> {
    let read = || {
        let token: Value = serde_json::from_slice(&STANDARD.decode(token).ok()?).ok()?;
        Some(token.get("host")?.as_str()?.to_owned())
    };
    read().ok_or(SignalingError::Strange("the request for a token"))
}

/// Somebody in a room, with one transport for all that he publishes and subscribes.
#[derive(Debug)]
pub struct Participant {
    socket: Socket,
    /// His media.
    pub peer: PeerHandle,
    transport: Option<String>,
    host: String,
    ticket: Option<String>,
}

impl Participant {
    /// Publishes; the stream's id. Returns when media flows.
    ///
    /// # Errors
    /// If it is refused or does not come about.
    pub async fn publish(&mut self, publication: Publication) -> Result<String, ServerError> {
        let mut tracks = Vec::new();
        if let Some((track, level)) = publication.audio {
            let line = Use::Publish { track, rids: Vec::new(), level };
            let mid = self.peer.call(|peer, _| peer.add_line(line)).await?;
            tracks.push(json!({"type": "audio", "mid": mid, "source": "mic"}));
        }
        if let Some((track, rids)) = publication.video {
            let line = Use::Publish { track, rids, level: 0 };
            let mid = self.peer.call(|peer, _| peer.add_line(line)).await?;
            tracks.push(json!({"type": "video", "mid": mid, "source": "camera"}));
        }
        let session = self.open("publish", tracks).await?;
        self.negotiate().await?;
        self.peer.connected().await?;
        self.ready(vec![session.clone()]).await?;
        Ok(session)
    }

    /// Subscribes, with one offer for all; the m-lines on which frames are to be expected. Returns when media flows.
    ///
    /// # Errors
    /// If it is refused or does not come about.
    pub async fn subscribe(&mut self, wishes: Vec<Wish>) -> Result<Vec<String>, ServerError> {
        let (mut mids, mut sessions) = (Vec::new(), Vec::new());
        for wish in wishes {
            let mut tracks = Vec::new();
            if let Some(track) = wish.audio {
                let mid = self.peer.call(|peer, _| peer.add_line(Use::Receive(track))).await?;
                tracks.push(json!({"type": "audio", "mid": mid, "from": wish.stream}));
                mids.push(mid);
            }
            if let Some((track, size)) = wish.video {
                let mid = self.peer.call(|peer, _| peer.add_line(Use::Receive(track))).await?;
                let mut wanted = json!({"type": "video", "mid": mid, "from": wish.stream});
                if let Some((width, height)) = size {
                    wanted["parameters"] = json!({"resolution": {"width": width, "height": height}});
                }
                tracks.push(wanted);
                mids.push(mid);
            }
            sessions.push(self.open("subscribe", tracks).await?);
        }
        self.negotiate().await?;
        self.peer.connected().await?;
        self.ready(sessions).await?;
        Ok(mids)
    }

    async fn open(&mut self, request: &'static str, tracks: Vec<Value>) -> Result<String, ServerError> {
        let mut transport = json!({"type": "webrtc"});
        if let Some(id) = &self.transport {
            transport["id"] = json!(id);
        }
        let data = json!({"media": {"tracks": tracks}, "transport": transport});
        let answer = self.socket.request(request, data).await?;
        let field = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
        let (Some(session), Some(transport)) = (field("id"), field("transportId")) else {
            return Err(SignalingError::Strange(request).into());
        };
        self.transport = Some(transport);
        Ok(session)
    }

    async fn negotiate(&mut self) -> Result<(), ServerError> {
        let sdp = self.peer.call(|peer, _| peer.offer()).await?;
        let id = self.transport.clone().unwrap_or_default();
        let offer = json!({"id": id, "signaling": {"type": "offer", "sdp": sdp}});
        self.socket.request("soac", offer).await?;
        let answer = self
            .socket
            .told("an offer", |told| {
                let is_answer =
                    told.name == "progress" && told.data["status"] == "soac" && told.data["id"] == id;
                let sdp = told.data.pointer("/data/sdp").filter(|_| is_answer)?;
                sdp.as_str().map(str::to_owned)
            })
            .await?;
        self.peer.call(move |peer, now| peer.take_answer(now, &answer)).await??;
        Ok(())
    }

    /// Waits until sessions are established.
    async fn ready(&mut self, mut sessions: Vec<String>) -> Result<(), ServerError> {
        let refused = |told: &Notification| told.data.get("data").map(Value::to_string).unwrap_or_default();
        let told = self.socket.told("a session", |told| {
            let session = told.data.get("sessionId").or(told.data.get("id")).and_then(Value::as_str);
            if told.name != "progress" || !sessions.iter().any(|id| Some(id.as_str()) == session) {
                return None;
            }
            match told.data["status"].as_str() {
                Some("ready") => sessions.retain(|id| Some(id.as_str()) != session),
                Some("error") => {
                    let reason = refused(told);
                    return Some(Err(SignalingError::Refused { request: "a session", reason }));
                }
                _ => {}
            }
            sessions.is_empty().then_some(Ok(()))
        });
        Ok(told.await??)
    }

    /// Says something to all in the room.
    ///
    /// # Errors
    /// If it is refused or not answered.
    pub async fn say(&self, text: &str) -> Result<(), ServerError> {
        self.socket.request("text", json!({"to": "all", "message": text})).await?;
        Ok(())
    }

    /// Of which sessions it was told that they failed, since this was asked last.
    pub fn failed_sessions(&mut self) -> Vec<String> {
        let failed = |told: Notification| {
            let failed = told.name == "progress" && told.data["status"] == "error";
            let session = told.data.get("sessionId").or(told.data.get("id")).filter(|_| failed)?;
            session.as_str().map(str::to_owned)
        };
        self.socket.heard().into_iter().filter_map(failed).collect()
    }

    /// Comes back by another connection after the one before has ended, with the ticket of the one before.
    ///
    /// # Errors
    /// If there is no portal, or it does not know the participant any more.
    pub async fn come_back(&mut self) -> Result<(), ServerError> {
        let ticket = self.ticket.clone().ok_or(SignalingError::Strange("login"))?;
        let socket = Socket::connect(&self.host).await?;
        // With what was missed, or the next ticket alone.
        let answer = socket.request("relogin", json!(ticket)).await?;
        let next = answer.get("ticket").unwrap_or(&answer);
        self.ticket = next.as_str().map(str::to_owned);
        self.socket = socket;
        Ok(())
    }

    /// Begins anew with another transport: nothing is published or subscribed.
    ///
    /// # Errors
    /// If there is no socket for it.
    pub async fn begin_anew(&mut self, kaigi: &Kaigi) -> Result<(), ServerError> {
        let fresh = kaigi.peer(Way::default(), rand::random()).await?;
        let before = std::mem::replace(&mut self.peer, fresh);
        self.transport = None;
        before.remove(false).await
    }

    /// Leaves as a page that is closed properly does.
    ///
    /// # Errors
    /// If the portal does not let go.
    pub async fn leave(self) -> Result<(), ServerError> {
        let left = self.socket.request("logout", Value::Null).await;
        self.peer.remove(true).await?;
        left?;
        Ok(())
    }

    /// Is gone without a word, as a machine whose network is cut.
    ///
    /// # Errors
    /// If the thread has ended.
    pub async fn vanish(self) -> Result<(), ServerError> {
        self.peer.remove(false).await
    }
}
