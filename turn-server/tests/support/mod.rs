//! A client that says what the tests want, also what no good client would.
#![allow(dead_code, unreachable_pub, reason = "each test uses some of it")]
#![allow(clippy::unwrap_used, reason = "a failing test says where")]
#![allow(clippy::unwrap_or_default, reason = "a new transaction id is by chance, the default one is 0")]

pub mod running;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_turn_server::{
    core::{
        AllocationId, Bitrate, Config, ConnectionId, Family, Flow, Limits, Now, Output, Server, UnixSeconds,
        User,
    },
    peers::{NearPeer, Peers},
};
use rtc_stun::{
    attributes::{
        ATTR_CHANNEL_NUMBER, ATTR_NONCE, ATTR_REALM, ATTR_REQUESTED_TRANSPORT, ATTR_USERNAME, AttrType,
    },
    crypto::{RTCCryptoProvider, default_provider},
    error_code::ErrorCodeAttribute,
    integrity::MessageIntegrity,
    message::{
        CLASS_REQUEST, CLASS_SUCCESS_RESPONSE, Getter, METHOD_ALLOCATE, METHOD_CHANNEL_BIND,
        METHOD_CREATE_PERMISSION, METHOD_REFRESH, Message, MessageType, Method, Setter, TransactionId,
    },
    textattrs::TextAttribute,
};
use rtc_turn::proto::{lifetime::Lifetime, peeraddr::PeerAddress};

/// When tests begin, in Unix seconds.
pub const BEGIN: u64 = 1_700_000_000;
pub const SECRET: &str = "north";
pub const REALM: &str = "kaigi.test";

/// Makes what a request has beside the user.
pub type Attributes = fn() -> Vec<Box<dyn Setter>>;

pub fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub fn raw(kind: AttrType, value: &[u8]) -> Box<dyn Setter> {
    Box::new(rtc_stun::attributes::RawAttribute { typ: kind, length: 0, value: value.to_vec() })
}

pub fn peer(address: &str) -> Box<dyn Setter> {
    let address = at(address);
    Box::new(PeerAddress { ip: address.ip(), port: address.port() })
}

pub fn channel(number: u16) -> Box<dyn Setter> {
    raw(ATTR_CHANNEL_NUMBER, &[number.to_be_bytes(), [0, 0]].concat())
}

pub fn lifetime(seconds: u64) -> Box<dyn Setter> {
    Box::new(Lifetime(Duration::from_secs(seconds)))
}

pub fn udp() -> Box<dyn Setter> {
    raw(ATTR_REQUESTED_TRANSPORT, &[17, 0, 0, 0])
}

pub struct Settings {
    pub allow: &'static [&'static str],
    pub deny: &'static [&'static str],
    pub near: &'static [&'static str],
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        let lifetime = Duration::from_secs(3600);
        let limits =
            Limits { allocations: 100, allocations_per_user: 10, rate: Bitrate(8_000_000), lifetime };
        Self { allow: &[], deny: &[], near: &[], limits }
    }
}

/// A server on virtual time, whose sockets are numbers.
pub struct Stage {
    pub server: Server,
    pub crypto: Arc<dyn RTCCryptoProvider>,
    began: Instant,
    pub now: Duration,
    next_port: u16,
    /// No socket can be had.
    pub no_ports: bool,
    pub to_clients: Vec<(Flow, Vec<u8>)>,
    pub to_peers: Vec<(AllocationId, SocketAddr, Vec<u8>)>,
    pub opened: Vec<AllocationId>,
    pub closed: Vec<AllocationId>,
}

impl Stage {
    pub fn new(settings: &Settings) -> Self {
        let rules = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let config = Config {
            realm: REALM.to_owned(),
            secret: SECRET.parse().unwrap(),
            nonce_key: [7; 32],
            peers: Peers::new(
                rules(settings.allow),
                rules(settings.deny),
                vec!["198.51.100.9".parse().unwrap()],
            ),
            near: settings.near.iter().map(|text| text.parse::<NearPeer>().unwrap()).collect(),
            families: vec![Family::V4],
            limits: settings.limits,
        };
        let crypto = default_provider().unwrap();
        Self {
            server: Server::new(config, Arc::clone(&crypto)),
            crypto,
            began: Instant::now(),
            now: Duration::ZERO,
            next_port: 61_000,
            no_ports: false,
            to_clients: Vec::new(),
            to_peers: Vec::new(),
            opened: Vec::new(),
            closed: Vec::new(),
        }
    }

    pub fn time(&self) -> Now {
        Now { instant: self.began + self.now, unix: UnixSeconds(BEGIN + self.now.as_secs()) }
    }

    /// Lets time go by as a shell would.
    pub fn after(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            self.now += Duration::from_secs(1);
            if self.server.next_timeout().is_some_and(|due| due <= self.began + self.now) {
                self.server.handle_timeout(self.time());
            }
        }
        self.put_out();
    }

    pub fn say(&mut self, flow: Flow, bytes: &[u8]) {
        self.server.handle_client(flow, bytes, self.time());
        self.put_out();
    }

    pub fn peer_says(&mut self, id: AllocationId, from: &str, payload: &[u8]) {
        self.server.handle_peer(id, at(from), payload, self.time());
        self.put_out();
    }

    pub fn put_out(&mut self) {
        let now = self.time();
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::ToClient(flow, message) => self.to_clients.push((flow, message)),
                Output::ToPeer(id, peer, payload) => self.to_peers.push((id, peer, payload)),
                Output::Open(id, _) => {
                    let relayed = (!self.no_ports)
                        .then(|| SocketAddr::new("203.0.113.7".parse().unwrap(), self.next_port));
                    self.next_port += 1;
                    self.opened.push(id);
                    self.server.opened(id, relayed, now);
                }
                Output::Close(id) => self.closed.push(id),
            }
        }
    }

    /// The only answer since this was last asked.
    pub fn answer(&mut self) -> Option<Message> {
        assert!(self.to_clients.len() <= 1, "{} answers", self.to_clients.len());
        let (_, bytes) = self.to_clients.pop()?;
        let mut message = Message::new();
        message.unmarshal_binary(&bytes).unwrap();
        Some(message)
    }
}

/// How a request ended.
pub fn outcome(answer: &Message) -> Result<(), u16> {
    if answer.typ.class == CLASS_SUCCESS_RESPONSE {
        return Ok(());
    }
    let mut error = ErrorCodeAttribute::default();
    error.get_from(answer).unwrap();
    Err(error.code.0)
}

/// Somebody with credentials.
#[derive(Clone)]
pub struct Client {
    pub flow: Flow,
    pub name: String,
    pub password: String,
    pub realm: String,
    pub nonce: String,
    pub transaction: Option<TransactionId>,
}

impl Client {
    pub fn new(port: u16, name: &str) -> Self {
        Self::by(
            Flow::Datagrams { listener: 0, client: SocketAddr::new("192.0.2.1".parse().unwrap(), port) },
            name,
        )
    }

    pub fn by_stream(connection: u64, name: &str) -> Self {
        Self::by(Flow::Stream { connection: ConnectionId(connection), client: at("192.0.2.1:5") }, name)
    }

    fn by(flow: Flow, name: &str) -> Self {
        let name = if name.contains(':') { name.to_owned() } else { format!("{}:{name}", BEGIN + 3600) };
        let user = User::new(name.as_bytes());
        let password = user.map_or(String::new(), |user| {
            SECRET.parse::<kaigi_turn_server::core::Secret>().unwrap().credential(&user)
        });
        Self { flow, name, password, realm: REALM.to_owned(), nonce: String::new(), transaction: None }
    }

    pub fn sign(&self, stage: &Stage, method: Method, attributes: Vec<Box<dyn Setter>>) -> Vec<u8> {
        let crypto = stage.crypto.crypto();
        let key = MessageIntegrity::long_term_integrity_key(
            self.name.clone(),
            self.realm.clone(),
            self.password.clone(),
            crypto,
        )
        .unwrap();
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(MessageType::new(method, CLASS_REQUEST)),
            Box::new(self.transaction.unwrap_or_else(TransactionId::new)),
        ];
        setters.extend(attributes);
        setters.push(Box::new(TextAttribute::new(ATTR_USERNAME, self.name.clone())));
        setters.push(Box::new(TextAttribute::new(ATTR_REALM, self.realm.clone())));
        setters.push(Box::new(TextAttribute::new(ATTR_NONCE, self.nonce.clone())));
        setters.push(Box::new(MessageIntegrity::new_raw_integrity_with_provider(key, crypto)));
        let mut message = Message::new();
        message.build(&setters).unwrap();
        message.raw
    }

    /// Asks, once more with the nonce that it is given, and tells how that ended.
    pub fn ask(&mut self, stage: &mut Stage, method: Method, attributes: Attributes) -> Result<Message, u16> {
        for _ in 0..2 {
            let request = self.sign(stage, method, attributes());
            stage.say(self.flow, &request);
            let answer = stage.answer().expect("an answer");
            match outcome(&answer) {
                Ok(()) => return Ok(answer),
                Err(438) => self.nonce = TextAttribute::get_from_as(&answer, ATTR_NONCE).unwrap().text,
                Err(code) => return Err(code),
            }
        }
        Err(438)
    }

    pub fn allocate(&mut self, stage: &mut Stage) -> Result<AllocationId, u16> {
        self.ask(stage, METHOD_ALLOCATE, || vec![udp()])?;
        Ok(*stage.opened.last().unwrap())
    }

    pub fn refresh(&mut self, stage: &mut Stage) -> Result<Message, u16> {
        self.ask(stage, METHOD_REFRESH, Vec::new)
    }

    pub fn permit(&mut self, stage: &mut Stage, attributes: Attributes) -> Result<(), u16> {
        self.ask(stage, METHOD_CREATE_PERMISSION, attributes).map(drop)
    }

    pub fn bind(&mut self, stage: &mut Stage, attributes: Attributes) -> Result<(), u16> {
        self.ask(stage, METHOD_CHANNEL_BIND, attributes).map(drop)
    }
}
