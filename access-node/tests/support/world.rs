//! A node between clients, on virtual time.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use kaigi_access_node::{
    node::{Datagram, Limits, Node, NodeConfig, NodeError, request},
    sdp::Offer,
    transport::{Certificate, Path, Peer},
};
use kaigi_proto::{
    ids::{TransportId, WorkerId},
    v1::{self, access_event::Event},
};
use rtc_rtcp::{
    packet::{Packet, marshal, unmarshal},
    payload_feedbacks::picture_loss_indication::PictureLossIndication,
};

use super::{Client, Way, address, narrow::Narrow};

pub const AGENT: &str = "conference-1";

/// A node, its clients, and the agent that it reports to.
pub struct World {
    pub node: Node,
    pub now: Instant,
    pub clients: Vec<(SocketAddr, Client)>,
    /// Agent, transport, event.
    pub events: Vec<(String, String, Event)>,
    pub epoch: u64,
    pub agent: String,
    pub link: SocketAddr,
    /// Whether a datagram with data is lost.
    pub loses: Box<dyn FnMut() -> bool>,
    /// The ways to some clients.
    pub narrow: HashMap<usize, Narrow>,
}

impl World {
    pub fn new() -> Self {
        Self::with_worker("access-1", "127.0.0.1:7000", 7)
    }

    pub fn with_worker(worker: &str, link: &str, seed: u8) -> Self {
        Self::with_limits(worker, link, seed, Limits { transports: 4, sessions: 8, links: 8 })
    }

    pub fn with_limits(worker: &str, link: &str, seed: u8, limits: Limits) -> Self {
        let now = Instant::now();
        let config = NodeConfig {
            worker: WorkerId::new(worker).unwrap(),
            certificate: Certificate::generate().unwrap(),
            candidates: vec!["1 1 udp 2130706431 192.0.2.9 10000 typ host".to_owned()],
            link_address: address(link),
            limits,
        };
        let node = Node::new(now, SystemTime::UNIX_EPOCH, [seed; 32], config);
        Self {
            node,
            now,
            clients: Vec::new(),
            events: Vec::new(),
            epoch: 1,
            agent: AGENT.to_owned(),
            link: address(link),
            loses: Box::new(|| false),
            narrow: HashMap::new(),
        }
    }

    pub fn client(&mut self) -> usize {
        let port = 5000 + self.clients.len() as u16;
        self.clients.push((SocketAddr::from(([198, 51, 100, 1], port)), Client::new()));
        self.clients.len() - 1
    }

    pub fn transport(client: usize) -> String {
        format!("transport{client}")
    }

    pub fn publish(
        &mut self,
        client: usize,
        session: &str,
        tracks: &[(&str, v1::MediaKind)],
    ) -> Result<(), NodeError> {
        let transport = Self::transport(client);
        let request = v1::OpenPublicationRequest {
            agent_id: self.agent.clone(),
            room_id: "room".into(),
            epoch: self.epoch,
            participant_id: format!("participant{client}"),
            transport_id: transport.clone(),
            session_id: session.into(),
            tracks: tracks
                .iter()
                .map(|(mid, kind)| v1::PublicationTrack {
                    track_id: format!("{transport}-{mid}"),
                    kind: (*kind).into(),
                    mid: (*mid).into(),
                    accepted_formats: ["opus", "pcmu", "vp8", "h264"].map(format).into(),
                })
                .collect(),
            ..Default::default()
        };
        let (opened, tracks) = request::publication(request)?;
        self.node.open_publication(self.now, &opened, tracks)
    }

    pub fn subscribe(
        &mut self,
        client: usize,
        session: &str,
        tracks: &[(&str, v1::MediaKind, v1::TrackSource)],
    ) -> Result<(), NodeError> {
        let track = |(mid, kind, source): &(&str, v1::MediaKind, v1::TrackSource)| v1::SubscriptionTrack {
            kind: (*kind).into(),
            mid: (*mid).into(),
            source: Some(source.clone()),
            ..Default::default()
        };
        self.subscribe_to(client, session, tracks.iter().map(track).collect())
    }

    pub fn subscribe_to(
        &mut self,
        client: usize,
        session: &str,
        tracks: Vec<v1::SubscriptionTrack>,
    ) -> Result<(), NodeError> {
        let request = v1::OpenSubscriptionRequest {
            agent_id: self.agent.clone(),
            room_id: "room".into(),
            epoch: self.epoch,
            participant_id: format!("participant{client}"),
            transport_id: Self::transport(client),
            session_id: session.into(),
            tracks,
            ..Default::default()
        };
        let (opened, tracks) = request::subscription(request)?;
        self.node.open_subscription(self.now, &opened, tracks)
    }

    /// Offers and takes the answer.
    pub fn negotiate(&mut self, client: usize) {
        let offer = Offer::parse(&self.clients[client].1.offer()).unwrap();
        let transport = TransportId::new(Self::transport(client)).unwrap();
        self.node.offer(self.now, &transport, &offer).unwrap();
        self.settle();
        let name = Self::transport(client);
        let at =
            self.events.iter().position(|(_, t, e)| *t == name && matches!(e, Event::Answer(_))).unwrap();
        let (_, _, Event::Answer(answer)) = self.events.remove(at) else { unreachable!() };
        self.clients[client].1.take_answer(&answer);
    }

    /// Checks connectivity and shakes hands.
    pub fn connect(&mut self, client: usize) {
        let check = self.clients[client].1.check();
        self.send(client, &check);
        assert!(self.clients[client].1.is_connected());
    }

    pub fn send(&mut self, client: usize, datagram: &[u8]) {
        let path = Path { peer: Peer { address: self.clients[client].0, tcp: None }, local: None };
        self.node.handle_datagram(self.now, path, datagram);
        self.settle();
    }

    /// Carries datagrams to and fro until nobody says anything more.
    pub fn settle(&mut self) {
        loop {
            self.node.run_data(self.now);
            let output = self.node.output();
            let mut datagrams = std::mem::take(&mut output.datagrams);
            for (agent, event) in output.events.drain(..) {
                self.events.push((agent.to_string(), event.transport_id, event.event.unwrap()));
            }
            let mut replies = Vec::new();
            for Datagram { path, bytes, .. } in datagrams.iter() {
                let Some(at) = self.clients.iter().position(|(a, _)| *a == path.peer.address) else {
                    continue;
                };
                if bytes[0] >= 128
                    && let Some(narrow) = self.narrow.get_mut(&at)
                {
                    narrow.enter(self.now, bytes);
                    continue;
                }
                let (address, client) = &mut self.clients[at];
                if is_data(bytes) && (self.loses)() {
                    continue;
                }
                client.receive(self.now, bytes);
                replies.extend(client.outgoing.drain(..).map(|reply| (*address, reply)));
            }
            // Their buffer is used again, as by the worker.
            datagrams.clear();
            self.node.output().datagrams = datagrams;
            if replies.is_empty() && self.node.output().datagrams.is_empty() {
                // Data leave in turns.
                let Some(at) = self.node.data_due() else { return };
                self.now = self.now.max(at);
            }
            for (address, reply) in replies {
                if is_data(&reply) && (self.loses)() {
                    continue;
                }
                let path = Path { peer: Peer { address, tcp: None }, local: None };
                self.node.handle_datagram(self.now, path, &reply);
            }
        }
    }

    /// Sends what a client's data channels have to say.
    pub fn flush_data(&mut self, client: usize) {
        let (address, client) = &mut self.clients[client];
        let path = Path { peer: Peer { address: *address, tcp: None }, local: None };
        client.flush_data(self.now);
        for datagram in client.outgoing.drain(..) {
            if !(self.loses)() {
                self.node.handle_datagram(self.now, path, &datagram);
            }
        }
    }

    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let clients =
                self.clients.iter().filter_map(|(_, client)| client.data.as_ref()?.next_timeout()).min();
            let narrow = self.narrow.values().filter_map(Narrow::next_timeout).min();
            let next = [self.node.next_timeout(), clients, narrow].into_iter().flatten().min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            self.node.handle_timeout(self.now);
            self.leave_narrow();
            for client in 0..self.clients.len() {
                self.clients[client].1.data_timeout(self.now);
                self.flush_data(client);
            }
            self.settle();
        }
        self.now = end;
    }

    /// What has come through narrow ways arrives, and is reported on.
    fn leave_narrow(&mut self) {
        let clients: Vec<_> = self.narrow.keys().copied().collect();
        for client in clients {
            let Some(mut narrow) = self.narrow.remove(&client) else { continue };
            narrow.leave(self.now, &mut self.clients[client].1);
            let reports = narrow.reports(self.now, &mut self.clients[client].1);
            self.narrow.insert(client, narrow);
            for report in reports {
                self.send(client, &report);
            }
        }
    }

    pub fn media(&mut self, client: usize, mid: usize, payload: &[u8], step: u32) {
        let packet = self.clients[client].1.media(mid, payload, step, 0);
        self.send(client, &packet);
    }

    pub fn established(&self) -> Vec<String> {
        self.events
            .iter()
            .filter_map(|(_, _, event)| match event {
                Event::SessionEstablished(established) => Some(established.session_id.clone()),
                _ => None,
            })
            .collect()
    }

    /// A publisher (client 0) of sound and picture and a subscriber (client 1), both connected.
    pub fn conference() -> Self {
        let mut world = Self::new();
        world.add_publisher();
        world.add_subscriber();
        world
    }

    pub fn add_publisher(&mut self) -> usize {
        let client = self.client();
        let (audio, video) =
            (self.clients[client].1.add("audio", Way::Send), self.clients[client].1.add("video", Way::Send));
        let tracks = [(&audio[..], v1::MediaKind::Audio), (&video[..], v1::MediaKind::Video)];
        self.publish(client, &format!("publication{client}"), &tracks).unwrap();
        self.negotiate(client);
        self.connect(client);
        client
    }

    pub fn add_subscriber(&mut self) -> usize {
        let client = self.client();
        let (audio, video) = (
            self.clients[client].1.add("audio", Way::Receive),
            self.clients[client].1.add("video", Way::Receive),
        );
        let sources = [
            (&audio[..], v1::MediaKind::Audio, source("transport0-0", "opus")),
            (&video[..], v1::MediaKind::Video, source("transport0-1", "vp8")),
        ];
        self.subscribe(client, &format!("subscription{client}"), &sources).unwrap();
        self.negotiate(client);
        self.connect(client);
        client
    }

    pub fn rtcp(&mut self, client: usize) -> Vec<Box<dyn Packet>> {
        let datagrams = self.clients[client].1.take_rtcp();
        datagrams.iter().flat_map(|plain| unmarshal(&mut &plain[..]).unwrap()).collect()
    }

    pub fn key_frame_requests(&mut self, client: usize) -> usize {
        self.rtcp(client).iter().filter(|p| p.as_any().is::<PictureLossIndication>()).count()
    }

    pub fn send_rtcp(&mut self, client: usize, packets: &[Box<dyn Packet>]) {
        let plain = marshal(packets).unwrap();
        let protected = self.clients[client].1.protect_rtcp(&plain);
        self.send(client, &protected);
    }
}

/// Whether it is a DTLS record of data.
fn is_data(datagram: &[u8]) -> bool {
    datagram[0] == 23
}

/// Carries link datagrams from one node to another.
pub fn carry(from: &mut World, to: &mut World) {
    for (_, datagram) in std::mem::take(&mut from.node.output().link_datagrams) {
        to.node.handle_link_datagram(to.now, from.link, &datagram);
    }
}

pub fn format(codec: &str) -> v1::MediaFormat {
    let (sample_rate, channels) = if codec == "opus" { (48_000, 2) } else { (0, 0) };
    v1::MediaFormat { codec: codec.into(), sample_rate, channels, profile: String::new() }
}

pub fn source(track: &str, codec: &str) -> v1::TrackSource {
    let kind = if codec == "opus" { v1::MediaKind::Audio } else { v1::MediaKind::Video };
    v1::TrackSource {
        track_id: track.into(),
        worker_id: "access-1".into(),
        endpoint: "http://127.0.0.1:1".into(),
        kind: kind.into(),
        format: Some(format(codec)),
    }
}
