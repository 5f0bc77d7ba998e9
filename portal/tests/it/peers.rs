//! Peer-to-peer rooms: the hub's own service behind several portals.

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use jsonwebtoken::{EncodingKey, Header, encode};
use kaigi_cluster_manager::{PeerEvents, PeerRoomsService};
use kaigi_proto::v1::{
    EnterPeerRoomRequest, ListPeerRoomsReply, ListPeerRoomsRequest, ListPeersReply, ListPeersRequest,
    SendToPeerReply, SendToPeerRequest, peer_rooms_server::PeerRooms,
};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest, http::StatusCode},
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    House, PATIENCE,
    cluster::{Cluster, KEY, SERVICE},
    http,
};

/// The hub, which can be ended and begun anew.
pub(crate) struct Hub {
    service: PeerRoomsService,
    stop: CancellationToken,
}

impl Default for Hub {
    fn default() -> Self {
        let stop = CancellationToken::new();
        Self { service: PeerRoomsService::new(stop.clone()), stop }
    }
}

#[tonic::async_trait]
impl PeerRooms for Cluster {
    type EnterStream = PeerEvents;

    async fn enter(&self, request: Request<EnterPeerRoomRequest>) -> Result<Response<PeerEvents>, Status> {
        self.hub_of_peers().enter(request).await
    }
    async fn send(&self, request: Request<SendToPeerRequest>) -> Result<Response<SendToPeerReply>, Status> {
        self.hub_of_peers().send(request).await
    }
    async fn list_rooms(
        &self,
        request: Request<ListPeerRoomsRequest>,
    ) -> Result<Response<ListPeerRoomsReply>, Status> {
        self.hub_of_peers().list_rooms(request).await
    }
    async fn list_peers(
        &self,
        request: Request<ListPeersRequest>,
    ) -> Result<Response<ListPeersReply>, Status> {
        self.hub_of_peers().list_peers(request).await
    }
}

impl Cluster {
    fn hub_of_peers(&self) -> PeerRoomsService {
        self.state().peers.service.clone()
    }

    /// The hub ends, and another begins without knowing anybody.
    pub(crate) fn restart_hub_of_peers(&self) {
        let before = std::mem::take(&mut self.state().peers);
        before.stop.cancel();
    }
}

/// A client.
struct Peer(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Peer {
    async fn connect(portal: SocketAddr, path: &str) -> Self {
        Self(connect_async(format!("ws://{portal}/webrtc/signaling/{path}")).await.unwrap().0)
    }

    /// One that is in; who else is.
    async fn enter(portal: SocketAddr, path: &str) -> (Self, Value) {
        let mut peer = Self::connect(portal, path).await;
        let first = peer.told().await;
        assert_eq!(first["type"], "existing_peers", "{first}");
        (peer, first["peers"].clone())
    }

    async fn say(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message; `{"closed": code}` if the server closes.
    async fn told(&mut self) -> Value {
        loop {
            let message = timeout(PATIENCE, self.0.next()).await.expect("a message in time");
            match message.expect("a message before the end").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(frame) => return json!({"closed": frame.map(|frame| u16::from(frame.code))}),
                _ => {}
            }
        }
    }

    /// Is refused with that code, and put out with that one.
    async fn is_put_out(&mut self, code: &str, closed: u16) {
        assert_eq!(self.told().await["code"], code);
        assert_eq!(self.told().await, json!({"closed": closed}));
    }
}

fn offer(to: &str) -> Value {
    json!({"type": "offer", "target_peer_id": to, "sdp": "v=0 会議"})
}

#[tokio::test]
async fn peers_at_several_portals_find_each_other_and_pass_messages() {
    let one = House::new().await;
    let two = one.beside().await;
    let (mut a, there) = Peer::enter(one.http, "room/a").await;
    assert_eq!(there, json!([]));
    let (mut b, there) = Peer::enter(two.http, "room/b").await;
    assert_eq!(there, json!(["a"]));
    assert_eq!(a.told().await, json!({"type": "peer_joined", "peer_id": "b"}));

    b.say(&offer("a")).await;
    assert_eq!(a.told().await, json!({"type": "offer", "from_peer_id": "b", "sdp": "v=0 会議"}));
    a.say(&json!({"type": "answer", "target_peer_id": "b", "sdp": "x"})).await;
    assert_eq!(b.told().await, json!({"type": "answer", "from_peer_id": "a", "sdp": "x"}));
    let candidate = json!({"type": "ice_candidate", "target_peer_id": "b", "candidate": {"sdpMid": "0"}});
    a.say(&candidate).await;
    assert_eq!(b.told().await["candidate"], json!({"sdpMid": "0"}));

    let get = async |path: &str| http::send(two.http, "GET", path, &[], "").await.json();
    assert_eq!(get("/webrtc/rooms").await, json!({"rooms": [{"room_id": "room", "peers": 2}]}));
    assert_eq!(get("/webrtc/rooms/room/peers").await, json!({"room_id": "room", "peers": ["a", "b"]}));
    assert_eq!(get("/webrtc/rooms/other/peers").await["peers"], json!([]));

    b.0.close(None).await.unwrap();
    assert_eq!(a.told().await, json!({"type": "peer_left", "peer_id": "b"}));
    let (_elsewhere, there) = Peer::enter(two.http, "other/a").await;
    assert_eq!(there, json!([]), "rooms know nothing of each other");
}

#[tokio::test]
async fn what_is_wrong_is_said_and_the_socket_stays() {
    let house = House::new().await;
    let (mut a, _) = Peer::enter(house.http, "room/a").await;
    for (text, code) in [
        ("hello".to_owned(), "malformed"),
        (json!({"type": "peer_left", "peer_id": "a"}).to_string(), "unknown_type"),
        (json!({"type": "offer"}).to_string(), "no_target"),
        (json!({"type": "offer", "target_peer_id": "a", "sdp": "x".repeat(70_000)}).to_string(), "too_large"),
    ] {
        a.0.send(Message::text(text)).await.unwrap();
        let error = a.told().await;
        assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!(code)));
    }
    a.0.send(Message::binary(vec![0; 9])).await.unwrap();
    assert_eq!(a.told().await["code"], "malformed");
    a.say(&offer("nobody")).await;
    let error = a.told().await;
    assert_eq!((&error["code"], &error["target_peer_id"]), (&json!("unknown_peer"), &json!("nobody")));
    a.say(&offer("<script>")).await;
    assert_eq!(a.told().await.get("target_peer_id"), None, "what can't be a name is not repeated");
    a.say(&offer("a")).await;
    assert_eq!(a.told().await["from_peer_id"], "a", "it is still there");
}

#[tokio::test]
async fn who_can_not_enter_is_told_why() {
    let house = House::new().await;
    let (mut a, _) = Peer::enter(house.http, "room/a").await;
    Peer::connect(house.http, "room/a").await.is_put_out("name_taken", 4409).await;
    Peer::connect(house.http, "room/a%20b").await.is_put_out("invalid_name", 1008).await;
    let long = format!("{}/a", "r".repeat(65));
    Peer::connect(house.http, &long).await.is_put_out("invalid_name", 1008).await;
    a.say(&offer("a")).await;
    assert_eq!(a.told().await["type"], "offer", "who has the name keeps it");

    let mut others = Vec::new();
    for i in 1..64 {
        others.push(Peer::enter(house.http, &format!("room/p{i}")).await);
    }
    Peer::connect(house.http, "room/one-too-many").await.is_put_out("full", 1013).await;
    let plain = http::send(house.http, "GET", "/webrtc/signaling/room/b", &[], "").await;
    assert_eq!(plain.status, 426);
}

#[tokio::test]
async fn who_sends_too_much_is_put_out() {
    let house = House::new().await;
    let (mut a, _) = Peer::enter(house.http, "room/a").await;
    for _ in 0..600 {
        if a.0.feed(Message::text("{}")).await.is_err() {
            break;
        }
    }
    let _: Result<_, _> = a.0.flush().await;
    loop {
        match a.told().await["code"].as_str() {
            Some("malformed") => {}
            other => {
                assert_eq!(other, Some("too_fast"));
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_portal_that_ends_takes_its_peers_with_it_and_nobody_elses() {
    let one = House::new().await;
    let two = one.beside().await;
    let (mut a, _) = Peer::enter(one.http, "room/a").await;
    let (mut b, _) = Peer::enter(two.http, "room/b").await;
    assert_eq!(a.told().await["type"], "peer_joined");
    two.stop.cancel();
    assert_eq!(b.told().await, json!({"closed": 1012}));
    assert_eq!(a.told().await, json!({"type": "peer_left", "peer_id": "b"}));
}

#[tokio::test]
async fn a_hub_that_begins_anew_finds_everybody_there() {
    let one = House::new().await;
    let two = one.beside().await;
    let (mut a, _) = Peer::enter(one.http, "room/a").await;
    let (mut b, _) = Peer::enter(two.http, "room/b").await;
    assert_eq!(a.told().await["type"], "peer_joined");
    one.cluster.restart_hub_of_peers();
    // Until both are back; a's messages are refused meanwhile.
    let arrives = async {
        loop {
            a.say(&offer("b")).await;
            if let Ok(message) = timeout(std::time::Duration::from_millis(100), b.told()).await {
                return message;
            }
        }
    };
    assert_eq!(timeout(PATIENCE, arrives).await.unwrap()["from_peer_id"], "a");
    b.say(&json!({"type": "answer", "target_peer_id": "a"})).await;
    loop {
        let told = a.told().await;
        assert_ne!(told["type"], "peer_left", "nobody has left");
        assert_ne!(told["type"], "peer_joined", "nor joined");
        if told["type"] == "answer" {
            break;
        }
    }
}

#[tokio::test]
async fn with_tokens_a_service_says_who_may_be_where() {
    let house = House::with(&["--peer-rooms", "token"]).await;
    let token = |grants: Value| {
        let claims =
            json!({"iss": SERVICE, "exp": jsonwebtoken::get_current_timestamp() + 60, "grants": grants});
        encode(&Header::default(), &claims, &EncodingKey::from_secret(KEY.as_bytes())).unwrap()
    };
    let with = |path: &str, token: &str| format!("{path}?token={token}");
    Peer::connect(house.http, "room/a").await.is_put_out("unauthorized", 4401).await;
    let narrow = token(json!({"peers": {"room": "room", "peer": "a"}}));
    for path in ["room/b", "other/a"] {
        Peer::connect(house.http, &with(path, &narrow)).await.is_put_out("unauthorized", 4401).await;
    }
    let managing = token(json!({"tokensOnly": true}));
    Peer::connect(house.http, &with("room/a", &managing)).await.is_put_out("unauthorized", 4401).await;
    let (_a, _) = Peer::enter(house.http, &with("room/a", &narrow)).await;
    let (_b, _) = Peer::enter(house.http, &with("other/b", &token(json!({"peers": {}})))).await;

    let rooms = async |path: &str, token: &str| {
        let authorization = format!("Bearer {token}");
        http::send(house.http, "GET", path, &[("authorization", &authorization)], "").await
    };
    assert_eq!(rooms("/webrtc/rooms", "").await.status, 401);
    let seen = rooms("/webrtc/rooms", &narrow).await.json();
    assert_eq!(seen, json!({"rooms": [{"room_id": "room", "peers": 1}]}));
    assert_eq!(rooms("/webrtc/rooms/other/peers", &narrow).await.status, 401);
    assert_eq!(rooms("/webrtc/rooms/room/peers", &narrow).await.json()["peers"], json!(["a"]));
}

#[tokio::test]
async fn pages_of_other_origins_connect_only_if_they_are_allowed() {
    let house = House::with(&["--cors", "https://one.example", "--ice-servers", "stun:stun.example"]).await;
    let connect = async |origin: &str| {
        let mut request =
            format!("ws://{}/webrtc/signaling/room/a", house.http).into_client_request().unwrap();
        request.headers_mut().insert("origin", origin.parse().unwrap());
        match connect_async(request).await {
            Ok(_) => StatusCode::SWITCHING_PROTOCOLS,
            Err(Error::Http(answer)) => answer.status(),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(connect("https://two.example").await, StatusCode::FORBIDDEN);
    assert_eq!(connect("https://one.example").await, StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(connect(&format!("http://{}", house.http)).await, StatusCode::SWITCHING_PROTOCOLS);
    let config = http::send(house.http, "GET", "/webrtc/client/config.json", &[], "").await.json();
    assert_eq!(config, json!({"iceServers": [{"urls": "stun:stun.example"}], "token": false}));
}

#[tokio::test]
async fn they_can_be_switched_off() {
    let house = House::with(&["--peer-rooms", "off"]).await;
    assert_eq!(http::send(house.http, "GET", "/webrtc/rooms", &[], "").await.status, 404);
}
