//! Clients, their allocations, and what is relayed between them and peers.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use rtc_stun::{
    attributes::ATTR_DATA,
    crypto::RTCCryptoProvider,
    message::{
        CLASS_INDICATION, CLASS_REQUEST, METHOD_DATA, METHOD_SEND, Message, MessageType, TransactionId,
    },
};
use rtc_turn::proto::{data::Data, peeraddr::PeerAddress};

use super::{
    allocation::{Allocation, AllocationId, Channel, Family},
    credentials::{Nonces, Secret, UnixSeconds, User},
    frame::{MAX_MESSAGE, pad},
    message,
    rate::Bitrate,
    refusal::Refusal,
};
use crate::peers::{NearPeer, Peers};

/// Between two looks at what is over.
const SWEEP: Duration = Duration::from_secs(1);

/// The time, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Never goes back: for what lasts so and so long.
    pub instant: Instant,
    /// For users, whose names say when they end.
    pub unix: UnixSeconds,
}

/// A connection by TCP or TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(pub u64);

/// Which client by which way: what RFC 8656 calls the 5-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flow {
    /// By UDP.
    Datagrams {
        /// Which of the server's sockets.
        listener: usize,
        /// Who.
        client: SocketAddr,
    },
    /// By TCP or TLS.
    Stream {
        /// Which.
        connection: ConnectionId,
        /// Who.
        client: SocketAddr,
    },
}

impl Flow {
    pub(super) fn client(self) -> SocketAddr {
        match self {
            Self::Datagrams { client, .. } | Self::Stream { client, .. } => client,
        }
    }
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// A message for a client.
    ToClient(Flow, Vec<u8>),
    /// A datagram for a peer, from the allocation's socket.
    ToPeer(AllocationId, SocketAddr, Vec<u8>),
    /// A socket is wanted; [`Server::opened`] says what became of it.
    Open(AllocationId, Family),
    /// Its socket is no more wanted.
    Close(AllocationId),
}

/// How much there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Allocations in all: each is a socket.
    pub allocations: usize,
    /// Of one user.
    pub allocations_per_user: usize,
    /// To and from the peers of one allocation, each.
    pub rate: Bitrate,
    /// Until an allocation that is not refreshed ends.
    pub lifetime: Duration,
}

/// How a server is.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it calls itself.
    pub realm: String,
    /// What credentials are made by.
    pub secret: Secret,
    /// What nonces are made by; another one at each start.
    pub nonce_key: [u8; 32],
    /// Who may be reached.
    pub peers: Peers,
    /// Who is nearer than his address says.
    pub near: Vec<NearPeer>,
    /// Of which there are relayed addresses.
    pub families: Vec<Family>,
    /// How much there may be.
    pub limits: Limits,
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Bytes that clients sent to peers.
    pub bytes_to_peers: u64,
    /// Bytes that peers sent to clients.
    pub bytes_from_peers: u64,
    /// Allocations that were made.
    pub allocations: u64,
    /// Messages of clients that are none.
    pub malformed: u64,
    /// Datagrams beyond the rate of their allocation.
    pub over_rate: u64,
    /// Datagrams to or from peers without a permission, or that may not be reached.
    pub not_permitted: u64,
    /// Requests that were refused, by code.
    pub refused: HashMap<u16, u64>,
}

/// The server.
pub struct Server {
    pub(super) config: Config,
    pub(super) crypto: Arc<dyn RTCCryptoProvider>,
    pub(super) nonces: Nonces,
    pub(super) allocations: HashMap<Flow, Allocation>,
    pub(super) flows: HashMap<AllocationId, Flow>,
    /// Whose relayed address that is.
    pub(super) relayed: HashMap<SocketAddr, AllocationId>,
    pub(super) users: HashMap<User, usize>,
    pub(super) next: u64,
    pub(super) outputs: VecDeque<Output>,
    pub(super) counters: Counters,
    pub(super) draining: bool,
    next_sweep: Option<Instant>,
}

impl Server {
    /// One without clients.
    #[must_use]
    pub fn new(config: Config, crypto: Arc<dyn RTCCryptoProvider>) -> Self {
        Self {
            nonces: Nonces::new(config.nonce_key),
            config,
            crypto,
            allocations: HashMap::new(),
            flows: HashMap::new(),
            relayed: HashMap::new(),
            users: HashMap::new(),
            next: 0,
            outputs: VecDeque::new(),
            counters: Counters::default(),
            draining: false,
            next_sweep: None,
        }
    }

    /// What is to be done next, until there is nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Allocations at the moment.
    #[must_use]
    pub fn allocations(&self) -> usize {
        self.allocations.len()
    }

    /// Whether that client has an allocation.
    #[must_use]
    pub fn has_allocation(&self, flow: Flow) -> bool {
        self.allocations.contains_key(&flow)
    }

    /// Whether no allocation is made any more.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// From now on no allocation is made.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.next_sweep.filter(|_| !self.allocations.is_empty())
    }

    /// Ends what is over.
    pub fn handle_timeout(&mut self, now: Now) {
        self.next_sweep = Some(now.instant + SWEEP);
        let over = self.allocations.iter().filter(|(_, own)| own.expires <= now.instant);
        let over: Vec<Flow> = over.map(|(flow, _)| *flow).collect();
        over.into_iter().for_each(|flow| self.remove(flow));
        self.allocations.values_mut().for_each(|own| own.sweep(now.instant));
    }

    /// A client's connection is closed: what it had is over.
    pub fn handle_closed(&mut self, flow: Flow) {
        self.remove(flow);
    }

    /// A message of a client: a datagram, or what [`super::Deframer`] found.
    pub fn handle_client(&mut self, flow: Flow, bytes: &[u8], now: Now) {
        let malformed = match bytes.first() {
            Some(0..=0x3f) if bytes.len() <= MAX_MESSAGE => self.handle_stun(flow, bytes, now).is_none(),
            Some(0x40..=0x7f) => self.handle_channel_data(flow, bytes, now).is_none(),
            _ => true,
        };
        self.counters.malformed += u64::from(malformed);
    }

    /// `None` if it is malformed; there is no answer to that.
    fn handle_stun(&mut self, flow: Flow, bytes: &[u8], now: Now) -> Option<()> {
        let mut message = message::read(bytes)?;
        match message.typ.class {
            CLASS_REQUEST => self.handle_request(flow, &mut message, now),
            CLASS_INDICATION if message.typ.method == METHOD_SEND => {
                let [peer] = message::peers(&message).ok()?[..] else { return None };
                let payload = message::attribute(&message, ATTR_DATA)?;
                if message::unknown(&message).is_empty() {
                    self.send_to_peer(flow, peer, payload, now);
                }
            }
            // Keepalives (RFC 8489 §6), and answers to what was never asked.
            _ => {}
        }
        Some(())
    }

    fn handle_channel_data(&mut self, flow: Flow, bytes: &[u8], now: Now) -> Option<()> {
        let (&[n0, n1, l0, l1], rest) = bytes.split_first_chunk()?;
        let payload = rest.get(..usize::from(u16::from_be_bytes([l0, l1])))?;
        let channel = Channel::new(u16::from_be_bytes([n0, n1]))?;
        match self.allocations.get(&flow).and_then(|own| own.peer_of(channel, now.instant)) {
            Some(peer) => self.send_to_peer(flow, peer, payload, now),
            None => self.counters.not_permitted += 1,
        }
        Some(())
    }

    fn send_to_peer(&mut self, flow: Flow, peer: SocketAddr, payload: &[u8], now: Now) {
        let Some(own) = self.allocations.get_mut(&flow) else { return };
        // A user of this server is a peer by his relayed address, which only he has.
        let user = self.relayed.get(&peer).copied();
        if !own.permits(peer.ip(), now.instant) || !(user.is_some() || self.config.peers.allow(peer)) {
            self.counters.not_permitted += 1;
            return;
        }
        if !own.to_peers.takes(payload.len(), now.instant) {
            self.counters.over_rate += 1;
            return;
        }
        self.counters.bytes_to_peers += payload.len() as u64;
        match (user, own.relayed) {
            (Some(user), Some(from)) => self.handle_peer(user, from, payload, now),
            _ => {
                let at = SocketAddr::new(nearest(&self.config.near, peer.ip()), peer.port());
                self.outputs.push_back(Output::ToPeer(own.id, at, payload.to_vec()));
            }
        }
    }

    /// A datagram of a peer has come to an allocation's socket.
    pub fn handle_peer(&mut self, id: AllocationId, from: SocketAddr, payload: &[u8], now: Now) {
        let Some(flow) = self.flows.get(&id).copied() else { return };
        let Some(own) = self.allocations.get_mut(&flow) else { return };
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        // As the client knows him.
        let near = self.config.near.iter().filter(|near| near.local == from.ip()).map(|near| near.announced);
        let names = near.chain([from.ip()]).map(|ip| SocketAddr::new(ip, from.port()));
        let is_peer = |peer: &SocketAddr| {
            own.permits(peer.ip(), now.instant)
                && (self.relayed.contains_key(peer) || self.config.peers.allow(*peer))
        };
        let Some(peer) = names.into_iter().find(is_peer) else {
            self.counters.not_permitted += 1;
            return;
        };
        if !own.from_peers.takes(payload.len(), now.instant) {
            self.counters.over_rate += 1;
            return;
        }
        let Some(message) = relay(own, flow, peer, payload, now.instant) else { return };
        self.counters.bytes_from_peers += payload.len() as u64;
        self.outputs.push_back(Output::ToClient(flow, message));
    }

    /// What became of the socket that was wanted: where peers reach it, or nothing.
    pub fn opened(&mut self, id: AllocationId, relayed: Option<SocketAddr>, now: Now) {
        let Some(flow) = self.flows.get(&id).copied() else { return };
        self.next_sweep.get_or_insert(now.instant + SWEEP);
        let Some(relayed) = relayed else {
            self.answer_allocate(flow, Err(Refusal::Capacity), now);
            self.remove(flow);
            return;
        };
        if let Some(own) = self.allocations.get_mut(&flow) {
            own.relayed = Some(relayed);
            self.relayed.insert(relayed, id);
            self.counters.allocations += 1;
        }
        self.answer_allocate(flow, Ok(()), now);
    }

    pub(super) fn remove(&mut self, flow: Flow) {
        let Some(own) = self.allocations.remove(&flow) else { return };
        self.flows.remove(&own.id);
        if let Some(relayed) = own.relayed {
            self.relayed.remove(&relayed);
        }
        if let Some(count) = self.users.get_mut(&own.user) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(&own.user);
            }
        }
        self.outputs.push_back(Output::Close(own.id));
    }
}

/// Where a peer is.
fn nearest(near: &[NearPeer], peer: IpAddr) -> IpAddr {
    near.iter().find(|near| near.announced == peer).map_or(peer, |near| near.local)
}

/// What a peer says, as the client is told: by a channel if there is one.
fn relay(own: &Allocation, flow: Flow, peer: SocketAddr, payload: &[u8], now: Instant) -> Option<Vec<u8>> {
    if let Some(channel) = own.channel_of(peer, now) {
        let length = u16::try_from(payload.len()).ok()?;
        let mut message = Vec::with_capacity(payload.len() + 7);
        message.extend_from_slice(&channel.0.to_be_bytes());
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(payload);
        if matches!(flow, Flow::Stream { .. }) {
            pad(&mut message);
        }
        return Some(message);
    }
    if payload.len() > MAX_MESSAGE {
        return None;
    }
    let mut message = Message::new();
    let attributes: [Box<dyn rtc_stun::message::Setter>; 4] = [
        Box::new(MessageType::new(METHOD_DATA, CLASS_INDICATION)),
        Box::new(TransactionId::new()),
        Box::new(PeerAddress { ip: peer.ip(), port: peer.port() }),
        Box::new(Data(payload.to_vec())),
    ];
    message.build(&attributes).ok()?;
    Some(message.raw)
}
