//! A node between clients, on virtual time.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant, SystemTime},
};

use kaigi_access_node::{
    ids::WorkerNumber,
    keys::DataFlowKey,
    node::{ConsumerId, DataCall, Datagram, Limits, Node, NodeConfig, NodeError, record_length, request},
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
    receiver_report::ReceiverReport,
    reception_report::ReceptionReport,
    sender_report::SenderReport,
};

use super::{Client, Way, address, narrow::Narrow};

pub const AGENT: &str = "conference-1";

/// A node, its clients, and the agent that it reports to.
pub struct World {
    pub node: Node,
    /// The other workers of the process, if there are any. Clients are on them in turn.
    pub others: Vec<Node>,
    /// Whether a packet is lost between workers.
    pub loses_crossings: Box<dyn FnMut() -> bool>,
    /// Packets that crossed.
    pub crossed: usize,
    /// Who gets data of another worker: the worker and its flow.
    pub data_consumers: Vec<Option<(usize, DataFlowKey)>>,
    pub now: Instant,
    pub clients: Vec<(SocketAddr, Client)>,
    /// Agent, transport, event.
    pub events: Vec<(String, String, Event)>,
    pub epoch: u64,
    pub agent: String,
    pub link: SocketAddr,
    /// Whether clients offer repair packets of pictures.
    pub repairs: bool,
    /// Whether a datagram with data is lost.
    pub loses: Box<dyn FnMut() -> bool>,
    /// The ways to some clients.
    pub narrow: HashMap<usize, Narrow>,
    /// What the agent says of the room with each session.
    pub selection: Option<v1::AudioSelection>,
}

impl World {
    pub fn new() -> Self {
        Self::with_worker("access-1", "127.0.0.1:7000", 7)
    }

    pub fn with_worker(worker: &str, link: &str, seed: u8) -> Self {
        Self::with_limits(worker, link, seed, Limits { transports: 4, sessions: 8, links: 8 })
    }

    /// Several workers of one process.
    pub fn with_workers(count: u16, limits: Limits) -> Self {
        let mut world = Self::with_limits("access-1", "127.0.0.1:7000", 7, limits);
        let certificate = Certificate::generate().unwrap();
        let node = |number: u16| {
            let config = NodeConfig {
                worker: WorkerId::new("access-1").unwrap(),
                certificate: certificate.clone(),
                candidates: vec![format!("1 1 udp 2130706431 192.0.2.9 1000{number} typ host")],
                link_address: address("127.0.0.1:7000"),
                limits,
            };
            Node::new(world.now, SystemTime::UNIX_EPOCH, [7 + number as u8; 32], config)
                .among(WorkerNumber(number), count)
        };
        (world.node, world.others) = (node(0), (1..count).map(node).collect());
        world
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
            others: Vec::new(),
            loses_crossings: Box::new(|| false),
            crossed: 0,
            data_consumers: Vec::new(),
            now,
            clients: Vec::new(),
            events: Vec::new(),
            epoch: 1,
            agent: AGENT.to_owned(),
            link: address(link),
            repairs: false,
            loses: Box::new(|| false),
            narrow: HashMap::new(),
            selection: None,
        }
    }

    /// The worker of a client.
    pub fn place(&self, client: usize) -> usize {
        client % (1 + self.others.len())
    }

    pub fn node_at(&mut self, place: usize) -> &mut Node {
        place.checked_sub(1).map_or(&mut self.node, |other| &mut self.others[other])
    }

    pub fn node_of(&mut self, client: usize) -> &mut Node {
        self.node_at(self.place(client))
    }

    pub fn client(&mut self) -> usize {
        let port = 5000 + self.clients.len() as u16;
        let client = Client { repairs: self.repairs, ..Client::new() };
        self.clients.push((SocketAddr::from(([198, 51, 100, 1], port)), client));
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
            selection: self.selection.clone(),
            ..Default::default()
        };
        let (opened, tracks) = request::publication(request)?;
        let now = self.now;
        self.node_of(client).open_publication(now, &opened, tracks)
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
            selection: self.selection.clone(),
            ..Default::default()
        };
        let (opened, tracks) = request::subscription(request)?;
        let now = self.now;
        self.node_of(client).open_subscription(now, &opened, tracks)
    }

    /// Offers and takes the answer.
    pub fn negotiate(&mut self, client: usize) {
        let offer = Offer::parse(&self.clients[client].1.offer()).unwrap();
        let transport = TransportId::new(Self::transport(client)).unwrap();
        let now = self.now;
        self.node_of(client).offer(now, &transport, &offer).unwrap();
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
        let now = self.now;
        self.node_of(client).handle_datagram(now, path, datagram);
        self.settle();
    }

    /// Carries datagrams to and fro until nobody says anything more.
    pub fn settle(&mut self) {
        let places = 0..=self.others.len();
        loop {
            let mut replies = Vec::new();
            for place in places.clone() {
                self.run_worker(place, &mut replies);
            }
            let has_crossed = !self.others.is_empty() && self.cross();
            let is_empty = |world: &mut Self, place| world.node_at(place).output().datagrams.is_empty();
            if replies.is_empty() && !has_crossed && places.clone().all(|place| is_empty(self, place)) {
                // Data leave in turns.
                let Some(at) = places.clone().filter_map(|place| self.node_at(place).data_due()).min() else {
                    return;
                };
                self.now = self.now.max(at);
            }
            for (client, reply) in replies {
                if is_data(&reply) && (self.loses)() {
                    continue;
                }
                let path = Path { peer: Peer { address: self.clients[client].0, tcp: None }, local: None };
                let now = self.now;
                self.node_of(client).handle_datagram(now, path, &reply);
            }
        }
    }

    /// Takes what a worker has to say, and what clients reply.
    fn run_worker(&mut self, place: usize, replies: &mut Vec<(usize, Vec<u8>)>) {
        let now = self.now;
        self.node_at(place).run_data(now);
        self.node_at(place).deliver_all(now);
        let output = self.node_at(place).output();
        let mut datagrams = std::mem::take(&mut output.datagrams);
        let events = std::mem::take(&mut output.events);
        for (agent, event) in events {
            self.events.push((agent.to_string(), event.transport_id, event.event.unwrap()));
        }
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
            if is_data(bytes) && (self.loses)() {
                continue;
            }
            let client = &mut self.clients[at].1;
            client.receive(self.now, bytes);
            replies.extend(client.outgoing.drain(..).map(|reply| (at, reply)));
        }
        // Their buffer is used again, as by the worker.
        datagrams.clear();
        self.node_at(place).output().datagrams = datagrams;
    }

    /// Carries what workers have for each other; whether there was something.
    fn cross(&mut self) -> bool {
        let now = self.now;
        let mut has_crossed = false;
        for place in 0..=self.others.len() {
            let from = WorkerNumber(place as u16);
            let output = self.node_at(place).output();
            let notices = std::mem::take(&mut output.notices);
            let mut crossings = std::mem::take(&mut output.crossings);
            let data = std::mem::take(&mut output.data);
            has_crossed |= !notices.is_empty() || !crossings.is_empty() || !data.is_empty();
            for (to, notice) in notices {
                self.node_at(to.0.into()).handle_notice(now, from, notice);
            }
            for (to, mut bytes) in crossings.iter() {
                while let Some(length) = record_length(bytes) {
                    let (record, rest) = bytes.split_at(length);
                    if !(self.loses_crossings)() {
                        self.node_at(to.0.into()).handle_crossing(now, from, record);
                    }
                    self.crossed += 1;
                    bytes = rest;
                }
            }
            crossings.clear();
            self.node_at(place).output().crossings = crossings;
            for call in data {
                self.data_call(place, call);
            }
        }
        has_crossed
    }

    /// Data between workers, as their process carries them.
    fn data_call(&mut self, place: usize, call: DataCall) {
        let now = self.now;
        match call {
            DataCall::Subscribe { flow, stream, .. } => {
                let consumer = ConsumerId(self.data_consumers.len() as u64);
                self.data_consumers.push(Some((place, flow)));
                let opened = (0..=self.others.len())
                    .find(|other| self.node_at(*other).open_data_consumer(consumer, &stream).is_ok());
                if opened.is_none() {
                    let unknown = tonic::Status::not_found("stream unknown");
                    self.node_at(place).data_ended(now, flow, Err(unknown));
                }
            }
            DataCall::Unsubscribe { flow } => {
                let of = |consumer: &Option<_>| *consumer == Some((place, flow));
                let Some(at) = self.data_consumers.iter().position(of) else { return };
                self.data_consumers[at] = None;
                let consumer = ConsumerId(at as u64);
                (0..=self.others.len()).for_each(|other| self.node_at(other).close_data_consumer(consumer));
            }
            DataCall::Channels { .. } => {}
            DataCall::Message { consumer, message, .. } => {
                if let Some((place, flow)) = self.data_consumers[consumer.0 as usize] {
                    self.node_at(place).data_arrived(now, flow, &[message]);
                }
            }
            DataCall::End { consumer } => {
                if let Some((place, flow)) = self.data_consumers[consumer.0 as usize].take() {
                    self.node_at(place).data_ended(now, flow, Ok(()));
                }
            }
        }
    }

    /// Sends what a client's data channels have to say.
    pub fn flush_data(&mut self, at: usize) {
        let (address, client) = &mut self.clients[at];
        let path = Path { peer: Peer { address: *address, tcp: None }, local: None };
        client.flush_data(self.now);
        for datagram in client.outgoing.drain(..) {
            if !(self.loses)() {
                let place = at % (1 + self.others.len());
                let node = place.checked_sub(1).map_or(&mut self.node, |other| &mut self.others[other]);
                node.handle_datagram(self.now, path, &datagram);
            }
        }
    }

    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let clients =
                self.clients.iter().filter_map(|(_, client)| client.data.as_ref()?.next_timeout()).min();
            let narrow = self.narrow.values().filter_map(Narrow::next_timeout).min();
            let nodes = (0..=self.others.len()).filter_map(|place| self.node_at(place).next_timeout()).min();
            let next = [nodes, clients, narrow].into_iter().flatten().min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            let now = self.now;
            (0..=self.others.len()).for_each(|place| self.node_at(place).handle_timeout(now));
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

    /// A client's receiver reports on what sender reports are in a datagram, at once.
    pub fn answer_reports(&mut self, client: usize, datagram: &[u8]) {
        let packets = unmarshal(&mut &datagram[..]).unwrap();
        for report in packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<SenderReport>()) {
            let last_sender_report = (report.ntp_time >> 16) as u32;
            let block = ReceptionReport { ssrc: report.ssrc, last_sender_report, ..Default::default() };
            self.pass(Duration::from_millis(80));
            let answer = ReceiverReport { ssrc: 1, reports: vec![block], ..Default::default() };
            self.send_rtcp(client, &[Box::new(answer)]);
        }
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
    from.node.deliver_all(from.now);
    let mut datagrams = std::mem::take(&mut from.node.output().link_datagrams);
    for (_, datagram) in datagrams.iter() {
        to.node.handle_link_datagram(to.now, from.link, datagram);
    }
    // Their buffer is used again, as by the worker.
    datagrams.clear();
    from.node.output().link_datagrams = datagrams;
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
