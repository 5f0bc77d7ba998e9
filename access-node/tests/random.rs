//! Random sequences of what clients and the agent do, on virtual time, beside a model of what the signaling says: who publishes, who
//! subscribes what, what is paused. The m-lines and the media must agree with it.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use kaigi_access_node::{
    node::{Limits, NodeError, request},
    sdp::Kind,
};
use kaigi_proto::{
    ids::{SessionId, TransportId},
    v1::{self, access_event::Event},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use support::{world::*, *};

const SEQUENCES: u64 = 200;
const STEPS: usize = 45;
const CLIENTS: usize = 3;

/// An m-line: client and index.
type At = (usize, usize);

#[derive(Clone, Debug)]
enum Role {
    Publishes,
    /// From which line, the newest last.
    Subscribes(Vec<At>),
}

#[derive(Clone, Debug)]
struct Track {
    line: usize,
    kind: Kind,
    active: bool,
    role: Role,
}

#[derive(Debug)]
struct Session {
    id: String,
    client: usize,
    tracks: Vec<Track>,
    negotiated: bool,
}

struct Run {
    world: World,
    rng: StdRng,
    sessions: Vec<Session>,
    opened: HashSet<String>,
    /// The newest sequence number of each stream that a client got.
    sequence: HashMap<(usize, u32), u16>,
    moves: u16,
    next_session: usize,
}

fn media_kind(kind: Kind) -> v1::MediaKind {
    v1::MediaKind::from(kind)
}

fn codec(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "opus",
        Kind::Video => "vp8",
    }
}

fn track_source((client, line): At, kind: Kind) -> v1::TrackSource {
    source(&format!("transport{client}-{line}"), codec(kind))
}

impl Run {
    fn new(seed: u64) -> Self {
        // On one worker, or each client on one of its own or with another.
        let limits = Limits { transports: 4, sessions: 8, links: 64 };
        let mut world = World::with_workers([1, 2, 3][seed as usize % 3], limits);
        for _ in 0..CLIENTS {
            world.client();
        }
        Self {
            world,
            rng: StdRng::seed_from_u64(seed),
            sessions: Vec::new(),
            opened: HashSet::new(),
            sequence: HashMap::new(),
            moves: 0,
            next_session: 0,
        }
    }

    fn session_name(&mut self) -> String {
        self.next_session += 1;
        format!("session{}", self.next_session)
    }

    fn kinds(&mut self) -> Vec<Kind> {
        [vec![Kind::Audio], vec![Kind::Video], vec![Kind::Audio, Kind::Video]]
            .choose(&mut self.rng)
            .unwrap()
            .clone()
    }

    /// Adds an m-line; for what is refused it stays without a session.
    fn line(&mut self, client: usize, kind: Kind, way: Way) -> usize {
        self.world.clients[client].1.add(kind.as_str(), way).parse().unwrap()
    }

    fn publish(&mut self, client: usize) {
        let id = self.session_name();
        let kinds = self.kinds();
        let tracks: Vec<_> = kinds
            .into_iter()
            .map(|kind| {
                let line = self.line(client, kind, Way::Send);
                Track { line, kind, active: true, role: Role::Publishes }
            })
            .collect();
        let mids: Vec<_> = tracks.iter().map(|t| (t.line.to_string(), media_kind(t.kind))).collect();
        let wanted: Vec<_> = mids.iter().map(|(mid, kind)| (mid.as_str(), *kind)).collect();
        let result = self.world.publish(client, &id, &wanted);
        self.opened(id, client, tracks, result);
    }

    fn opened(&mut self, id: String, client: usize, tracks: Vec<Track>, result: Result<(), NodeError>) {
        match result {
            Ok(()) => {
                self.opened.insert(id.clone());
                self.sessions.push(Session { id, client, tracks, negotiated: false });
            }
            Err(error) => assert_eq!(error, NodeError::TooMany("sessions")),
        }
    }

    /// Lines of a kind that are published.
    fn published(&self, kind: Kind) -> Vec<At> {
        let tracks = self.sessions.iter().flat_map(|s| s.tracks.iter().map(move |t| (s.client, t)));
        tracks
            .filter(|(_, t)| matches!(t.role, Role::Publishes) && t.kind == kind)
            .map(|(client, t)| (client, t.line))
            .collect()
    }

    fn subscribe(&mut self, client: usize) {
        let id = self.session_name();
        let mut tracks = Vec::new();
        let mut wanted = Vec::new();
        for kind in self.kinds() {
            let from = self.published(kind).choose(&mut self.rng).copied();
            // Where there is nothing yet the agent names a source later.
            let from = from.filter(|_| self.rng.random_bool(0.7));
            let line = self.line(client, kind, Way::Receive);
            wanted.push(v1::SubscriptionTrack {
                kind: media_kind(kind).into(),
                mid: line.to_string(),
                source: from.map(|from| track_source(from, kind)),
                formats: vec![format(codec(kind))],
                client_order: self.rng.random_bool(0.5),
                ..Default::default()
            });
            tracks.push(Track {
                line,
                kind,
                active: true,
                role: Role::Subscribes(from.into_iter().collect()),
            });
        }
        let result = self.world.subscribe_to(client, &id, wanted);
        self.opened(id, client, tracks, result);
    }

    fn some_session(&mut self) -> Option<usize> {
        (!self.sessions.is_empty()).then(|| self.rng.random_range(0..self.sessions.len()))
    }

    fn close(&mut self) {
        let Some(at) = self.some_session() else { return };
        let session = self.sessions.swap_remove(at);
        let (transport, id) = names(&session);
        self.world.node_of(session.client).close_session(&transport, &id);
        for track in session.tracks {
            // A browser's sender is taken off at once, its receiver goes on being offered.
            if matches!(track.role, Role::Publishes) {
                self.world.clients[session.client].1.lines[track.line].way = Way::Inactive;
            }
        }
    }

    fn pause_or_play(&mut self) {
        let Some(at) = self.some_session() else { return };
        let active = self.rng.random_bool(0.5);
        let session = &mut self.sessions[at];
        let track = session.tracks.choose_mut(&mut self.rng);
        track.active = active;
        let kind = track.kind;
        let (transport, id) = names(session);
        let (now, client) = (self.world.now, session.client);
        self.world.node_of(client).set_active(now, &transport, &id, kind, active).unwrap();
    }

    fn set_source(&mut self) {
        let Some(at) = self.some_session() else { return };
        let kind = self.sessions[at].tracks[0].kind;
        let Some(to) = self.published(kind).choose(&mut self.rng).copied() else { return };
        let session = &mut self.sessions[at];
        let (transport, id) = names(session);
        let wanted = request::source(Some(track_source(to, kind)), kind).unwrap();
        let (now, client) = (self.world.now, session.client);
        let result = self.world.node_of(client).set_source(now, &transport, &id, kind, wanted);
        match &mut session.tracks[0].role {
            Role::Publishes => assert!(matches!(result, Err(NodeError::Invalid(_)))),
            Role::Subscribes(from) => {
                result.unwrap();
                from.push(to);
            }
        }
    }

    /// Offers, and sees that the answer is what the model says.
    fn negotiate(&mut self, client: usize) {
        if self.world.clients[client].1.lines.is_empty() {
            return;
        }
        if !self.has_transport(client) {
            return;
        }
        self.world.negotiate(client);
        for session in self.sessions.iter_mut().filter(|session| session.client == client) {
            session.negotiated = true;
        }
        let mut expected = vec!["inactive"; self.world.clients[client].1.lines.len()];
        for session in self.sessions.iter().filter(|session| session.client == client) {
            for track in &session.tracks {
                expected[track.line] = match track.role {
                    Role::Publishes => "recvonly",
                    Role::Subscribes(_) => "sendonly",
                };
            }
        }
        let answer = &self.world.clients[client].1.answer;
        assert_eq!(answer.directions, expected);
        for (ssrcs, direction) in answer.ssrcs.iter().zip(&expected) {
            assert_eq!(ssrcs.is_empty(), *direction != "sendonly", "sources of what is sent only");
        }
        if !self.world.clients[client].1.is_connected() {
            self.world.connect(client);
        }
    }

    /// A transport is there from a client's first session on.
    fn has_transport(&mut self, client: usize) -> bool {
        let id = TransportId::new(World::transport(client)).unwrap();
        self.world.node_of(client).has_transport(&id)
    }

    fn restart_ice(&mut self, client: usize) {
        if !self.world.clients[client].1.is_connected() {
            return;
        }
        self.world.clients[client].1.ice += 1;
        self.negotiate(client);
        // A client that restarts ICE again before it has nominated stays where it is.
        if self.rng.random_bool(0.6) {
            self.moves += 1;
            self.world.clients[client].0 = ([203, 0, 113, client as u8], 10_000 + self.moves).into();
            let check = self.world.clients[client].1.check();
            self.world.send(client, &check);
        }
    }

    /// Every client sends on each line that it publishes, if it can; returns the numbers of what was sent.
    fn send_everywhere(&mut self, key_frames: bool) -> HashMap<At, u8> {
        let mut sent = HashMap::new();
        for kind in [Kind::Audio, Kind::Video] {
            for (client, line) in self.published(kind) {
                if !self.world.clients[client].1.is_connected() {
                    continue;
                }
                let number = sent.len() as u8;
                let payload = match kind {
                    Kind::Audio => vec![number],
                    Kind::Video => vp8(key_frames, number),
                };
                self.world.media(client, line, &payload, 960);
                sent.insert((client, line), number);
            }
        }
        sent
    }

    /// What has arrived since the last time: of each stream of a client, the last bytes of the payloads. Numbers are without gaps.
    fn arrived(&mut self) -> HashMap<(usize, u32), Vec<u8>> {
        let mut arrived: HashMap<_, Vec<u8>> = HashMap::new();
        for (index, (_, client)) in self.world.clients.iter_mut().enumerate() {
            for received in client.received.drain(..) {
                let Received::Rtp(header, plain) = received else { continue };
                let before = self.sequence.insert((index, header.ssrc), header.sequence);
                if let Some(before) = before {
                    assert_eq!(header.sequence, before.wrapping_add(1), "of stream {}", header.ssrc);
                }
                let number = *header.payload(&plain).last().unwrap();
                arrived.entry((index, header.ssrc)).or_default().push(number);
            }
        }
        arrived
    }

    fn step(&mut self) {
        let client = self.rng.random_range(0..CLIENTS);
        match self.rng.random_range(0..20) {
            0..=2 => self.publish(client),
            3..=6 => self.subscribe(client),
            7 => self.close(),
            8..=11 => self.negotiate(client),
            12 | 13 => self.pause_or_play(),
            14 => self.restart_ice(client),
            15 | 16 => self.set_source(),
            17 => {
                let key_frames = self.rng.random_bool(0.3);
                self.send_everywhere(key_frames);
                self.arrived();
            }
            18 => self.world.pass(Duration::from_millis(self.rng.random_range(1..300))),
            // A request that is refused, after which the client offers its m-line all the same.
            _ => {
                self.line(client, Kind::Video, Way::Receive);
            }
        }
    }

    /// All that is under way is finished, then everybody sends once. Returns how many streams flow.
    fn finish(&mut self) -> usize {
        for client in 0..CLIENTS {
            self.negotiate(client);
        }
        self.send_everywhere(true);
        self.arrived();
        let sent = self.send_everywhere(true);
        let mut arrived = self.arrived();
        let before = arrived.len();
        for session in &self.sessions {
            assert!(session.negotiated);
            for track in &session.tracks {
                let Role::Subscribes(from) = &track.role else { continue };
                let ssrc = self.world.clients[session.client].1.answer.ssrcs[track.line][0];
                let got = arrived.remove(&(session.client, ssrc)).unwrap_or_default();
                let expected = self.expected(from, track.active, &sent);
                assert!(expected.contains(&got), "{} gets {got:?}, not {expected:?}", session.id);
            }
        }
        let flowing = before - arrived.len();
        assert!(arrived.is_empty(), "{arrived:?} flows without a subscription");
        self.check_events();
        let streams: usize = self.sessions.iter().map(|session| session.tracks.len()).sum();
        let counts: Vec<_> =
            (0..=self.world.others.len()).map(|at| self.world.node_at(at).streams()).collect();
        let (sources, sinks) = counts.iter().fold((0, 0), |sum, each| (sum.0 + each.0, sum.1 + each.1));
        assert!(sources + sinks <= 3 * streams, "{sources} sources and {sinks} sinks of {streams} tracks");
        flowing
    }

    /// What may arrive where the newest of these sources is wanted.
    fn expected(&self, from: &[At], active: bool, sent: &HashMap<At, u8>) -> Vec<Vec<u8>> {
        let flows = |at: &At| {
            let track =
                |s: &&Session| s.client == at.0 && s.tracks.iter().any(|t| t.line == at.1 && t.active);
            let number = self.sessions.iter().find(track).and_then(|_| sent.get(at));
            number.map(|number| vec![*number]).unwrap_or_default()
        };
        let Some(newest) = from.last().filter(|_| active) else { return vec![vec![]] };
        if self.sessions.iter().any(|s| s.client == newest.0 && s.tracks.iter().any(|t| t.line == newest.1)) {
            return vec![flows(newest)];
        }
        // One that ended before it could be joined was not gone over to.
        from.iter().map(flows).chain([vec![]]).collect()
    }

    fn check_events(&self) {
        let established = self.world.established();
        let unique: HashSet<_> = established.iter().cloned().collect();
        assert_eq!(unique.len(), established.len(), "each session is established once");
        assert!(unique.is_subset(&self.opened));
        for session in &self.sessions {
            assert!(unique.contains(&session.id), "{} is established", session.id);
        }
        let trouble = |event: &Event| matches!(event, Event::SessionFailed(_) | Event::TransportFailed(_));
        assert!(!self.world.events.iter().any(|(_, _, event)| trouble(event)));
    }
}

fn names(session: &Session) -> (TransportId, SessionId) {
    let transport = TransportId::new(World::transport(session.client)).unwrap();
    (transport, SessionId::new(&session.id).unwrap())
}

trait ChooseMut<T> {
    fn choose_mut(&mut self, rng: &mut StdRng) -> &mut T;
}

impl<T> ChooseMut<T> for Vec<T> {
    fn choose_mut(&mut self, rng: &mut StdRng) -> &mut T {
        let at = rng.random_range(0..self.len());
        &mut self[at]
    }
}

#[test]
fn m_lines_and_media_are_what_the_signaling_says() {
    let (mut flowing, mut crossed) = (0, 0);
    for seed in 0..SEQUENCES {
        let outcome = std::panic::catch_unwind(|| {
            let mut run = Run::new(seed);
            for _ in 0..STEPS {
                run.step();
            }
            (run.finish(), run.world.crossed)
        });
        match outcome {
            Ok((streams, packets)) => {
                flowing += streams;
                crossed += packets;
            }
            Err(panic) => {
                eprintln!("sequence {seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(flowing as u64 > 3 * SEQUENCES, "{flowing} streams at the end of all");
    assert!(crossed as u64 > 2 * SEQUENCES, "{crossed} packets between workers");
}
