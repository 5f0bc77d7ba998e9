//! Random transitions against models of what clients, access nodes and mixers know: whatever happens in whatever order, the room
//! stays consistent, and at rest everybody knows what the room knows.

mod checks;
mod client;
mod controls;
mod encodings;
mod nodes;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use kaigi_proto::{
    ids::{SessionId, TrackId, WorkerId},
    v1,
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;

use client::Client;
use nodes::NodeModel;

use super::world::{MIXED, World, node, participant};
use crate::room::{
    AccessChange, AccessEvent, CallError, CallId, CallRequest, Callee, Command, Input, Kind, Loudness,
    MixerChange, MixerEvent, Negotiated, RequestId, state::Phase,
};

const NAMES: [&str; 4] = ["ann", "bob", "cat", "dan"];
/// Between two rests.
const STEPS: usize = 100;

struct Play {
    world: World,
    rng: StdRng,
    clients: BTreeMap<String, Client>,
    nodes: BTreeMap<String, NodeModel>,
    dead: BTreeSet<String>,
    waiting: BTreeMap<Option<WorkerId>, VecDeque<(CallId, Callee, CallRequest)>>,
    requests: Vec<RequestId>,
    incarnation: usize,
    /// How many inputs each view shows at most.
    capacity: BTreeMap<&'static str, usize>,
}

const VIEWS: [&str; 2] = ["common", "other"];

fn callee_worker(callee: &Callee) -> Option<WorkerId> {
    match callee {
        Callee::Cluster => None,
        Callee::Access(node) | Callee::Mixer(node) | Callee::Streaming(node) => Some(node.worker.clone()),
    }
}

impl Play {
    fn new(seed: u64) -> Self {
        let view = |label: &str, base: &str, most: u32| {
            json!({"label": label, "video": {"maxInput": most, "keepActiveInputPrimary": seed.is_multiple_of(2),
                "layout": {"templates": {"base": base}}}})
        };
        let views = json!([view("common", "fluid", 3), view("other", "lecture", 16)]);
        let mut world = World::new(
            json!({"autoMix": seed.is_multiple_of(3), "views": views, "inputLimit": 6, "participantLimit": 3,
                "selectActiveAudio": seed.is_multiple_of(5)}),
        );
        if seed.is_multiple_of(4) {
            world.lacking = vec!["vp9", "pcma"];
        }
        Self {
            world,
            rng: StdRng::seed_from_u64(seed),
            clients: BTreeMap::new(),
            nodes: BTreeMap::new(),
            dead: BTreeSet::new(),
            waiting: BTreeMap::new(),
            requests: Vec::new(),
            incarnation: 1,
            capacity: BTreeMap::from([("common", 3), ("other", 16)]),
        }
    }

    fn name(&mut self) -> &'static str {
        NAMES.choose(&mut self.rng).unwrap()
    }

    fn pick<T: Clone>(&mut self, all: Vec<T>) -> Option<T> {
        all.choose(&mut self.rng).cloned()
    }

    fn kinds(&mut self) -> Vec<Kind> {
        [vec![Kind::Audio], vec![Kind::Video], vec![Kind::Audio, Kind::Video]]
            .choose(&mut self.rng)
            .unwrap()
            .clone()
    }

    fn streams(&self) -> Vec<kaigi_proto::ids::StreamId> {
        self.world.room.state.publications.keys().cloned().collect()
    }

    fn step(&mut self) {
        match self.rng.random_range(0..30) {
            0 => self.join(),
            1 if self.rng.random_bool(0.1) => {
                let name = self.name();
                self.ask(Command::Leave { participant: participant(name) });
            }
            1 => {
                if self.rng.random_bool(0.1) {
                    let name = self.name();
                    self.world.put(Input::Gone(participant(name)));
                }
            }
            2 | 3 => self.publish(),
            4 | 5 => self.subscribe(),
            6..=9 => self.establish(),
            10 if self.rng.random_bool(0.5) => self.end_something(),
            10 | 11 => self.control(),
            13 if self.rng.random_bool(0.3) => self.lay_out(),
            14 if self.rng.random_bool(0.5) => self.permit(),
            14 | 15 => self.control_subscription(),
            17 | 18 => self.update_subscription(),
            13 => self.move_stream(),
            19 => self.hear_speakers(),
            12 if self.rng.random_bool(0.1) => self.lose_node(),
            12 if self.rng.random_bool(0.2) => self.fail_something(),
            12 if self.rng.random_bool(0.2) => self.take_over(),
            12 => self.hear_mixer(),
            16 => {
                let time = Duration::from_millis(self.rng.random_range(1..2000));
                self.pass(time);
            }
            _ => self.answer_one(0.03),
        }
        self.collect();
        if self.rng.random_bool(0.05) {
            self.world.write_down();
        }
        self.check_always();
    }

    /// The agent dies. Of its calls that were under way some arrive, none is answered.
    fn take_over(&mut self) {
        self.collect();
        for (worker, calls) in std::mem::take(&mut self.waiting) {
            let Some(worker) = worker.filter(|worker| !self.dead.contains(worker.as_str())) else { continue };
            let arrive = self.rng.random_range(0..=calls.len().min(2));
            for (_, _, request) in calls.into_iter().take(arrive) {
                let node = self.nodes.entry(worker.to_string()).or_default();
                node.take(&request);
                node.adopt(&request);
            }
        }
        // Their requesters ask again, or not.
        let replied: Vec<_> = self.world.replies.keys().copied().collect();
        self.requests.retain(|request| replied.contains(request));
        self.world.take_over();
    }

    fn join(&mut self) {
        let join = crate::room::Join {
            participant: participant(self.name()),
            user: "null".into(),
            role: ["presenter", "viewer", "audio_only_presenter"].choose(&mut self.rng).unwrap().to_string(),
            isp: String::new(),
            region: String::new(),
        };
        self.ask(Command::Join(join));
    }

    fn ask(&mut self, command: Command) -> RequestId {
        let request = self.world.ask(command);
        self.requests.push(request);
        request
    }

    /// A transport of the participant, now and then somebody else's.
    fn transport(&mut self) -> Option<kaigi_proto::ids::TransportId> {
        let all: Vec<_> = self.world.room.state.transports.keys().cloned().collect();
        if self.rng.random_bool(0.2) { self.pick(all) } else { None }
    }

    fn publish(&mut self) {
        let (name, kinds, mid) = (self.name(), self.kinds(), self.rng.random_range(0..50));
        let transport = self.transport();
        if let Command::Publish(publish) = World::publish_command(name, &kinds, mid) {
            let data = self.rng.random_bool(0.3);
            let mut publish = crate::room::Publish { transport, data, ..publish };
            if data && self.rng.random_bool(0.5) {
                publish.tracks.clear();
            }
            self.ask(Command::Publish(publish));
        }
    }

    fn subscribe(&mut self) {
        let (name, kinds) = (self.name(), self.kinds());
        let mut from: Vec<String> = self.streams().into_iter().map(String::from).collect();
        from.extend([MIXED.to_owned(), MIXED.replace("common", "other"), "active-audio-1".to_owned()]);
        let from = self.pick(from).unwrap();
        let transport = self.transport();
        if let Command::Subscribe(mut subscribe) = World::subscribe_command(name, &from, &kinds) {
            for track in &mut subscribe.tracks {
                track.mid = format!("s{}", self.rng.random_range(0..50));
                track.wish = self.wish(track.kind);
            }
            if self.rng.random_bool(0.3) {
                subscribe.data_from = self.pick(self.streams()).map(String::from);
                if subscribe.data_from.is_some() && self.rng.random_bool(0.5) {
                    subscribe.tracks.clear();
                }
            }
            if subscribe.tracks.len() < 2 || subscribe.tracks[0].mid != subscribe.tracks[1].mid {
                self.ask(Command::Subscribe(crate::room::Subscribe { transport, ..subscribe }));
            }
        }
    }

    fn event(&mut self, transport: &kaigi_proto::ids::TransportId, change: AccessChange) {
        if let Some(node) = self.world.room.node_of(transport) {
            let event = AccessEvent { transport: transport.clone(), answer: 0, change };
            self.world.put(Input::Access { node: node.worker, event });
        }
    }

    /// Mostly of a session that waits for it.
    fn establish(&mut self) {
        let (any, layers) = (self.rng.random_bool(0.1), self.rng.random_bool(0.3));
        let (audio, video) = (self.published(Kind::Audio), self.published(Kind::Video));
        let state = &self.world.room.state;
        let due = |phase: &Phase| any || *phase == Phase::Connecting;
        let publications = state.publications.iter().filter(|(_, p)| due(&p.phase)).map(|(id, p)| {
            let negotiated = |track: &crate::room::state::RequestedTrack| {
                let rids: &[&str] = match track.kind {
                    Kind::Video if layers => &[":q", ":h", ":f"],
                    Kind::Video | Kind::Audio => &[""],
                };
                let transport = p.transport().expect("nobody pulls");
                let layer = |rid: &&str| Negotiated {
                    track: Some(TrackId::new(format!("{transport}-{}{rid}", track.mid)).unwrap()),
                    mid: track.mid.clone(),
                    kind: track.kind,
                    format: if track.kind == Kind::Audio { audio.clone() } else { video.clone() },
                };
                rids.iter().map(layer).collect::<Vec<_>>()
            };
            let transport = p.transport().expect("nobody pulls").clone();
            (id.to_string(), transport, p.requested.iter().flat_map(negotiated).collect::<Vec<_>>())
        });
        let subscriptions = state.subscriptions.iter().filter(|(_, s)| due(&s.phase));
        let rng = &mut self.rng;
        let world = &self.world;
        let subscriptions = subscriptions.map(|(id, s)| {
            let negotiated = world.negotiated(id, |offered| offered.choose(rng).unwrap().clone());
            (id.to_string(), s.transport.clone(), negotiated)
        });
        let all = publications.chain(subscriptions).collect();
        if let Some((session, transport, tracks)) = self.pick(all) {
            let session = SessionId::new(session).unwrap();
            self.event(&transport, AccessChange::Established { session, tracks });
        }
    }

    /// Any node says that some tracks are loud, or not.
    fn hear_speakers(&mut self) {
        let state = &self.world.room.state;
        let tracks = state.publications.values().flat_map(|p| p.tracks.iter().map(|track| track.id.clone()));
        let tracks: Vec<TrackId> = tracks.chain([TrackId::new("unheard-of").unwrap()]).collect();
        let nodes = state.transports.values().filter_map(|t| t.node.as_ref().map(|node| node.worker.clone()));
        let Some(node) = self.pick(nodes.collect()) else { return };
        let rng = &mut self.rng;
        let mut level = || if rng.random_bool(0.3) { 0 } else { rng.random_range(0..600) };
        let heard = tracks
            .into_iter()
            .map(|track| (track, Loudness { immediate: level(), medium: level(), long: level() }));
        let heard = heard.collect();
        self.world.put(Input::Speakers { node, heard });
    }

    fn end_something(&mut self) {
        let (streams, name) = (self.streams(), self.name());
        let subscriptions: Vec<_> = self.world.room.state.subscriptions.keys().cloned().collect();
        match self.rng.random_range(0..3) {
            0 => {
                if let Some(stream) = self.pick(streams) {
                    let owner = self.world.room.state.publications[&stream].owner.clone();
                    self.ask(Command::Unpublish { participant: owner, stream });
                }
            }
            1 => {
                if let Some(subscription) = self.pick(subscriptions) {
                    self.ask(Command::Unsubscribe { participant: participant(name), subscription });
                }
            }
            _ => {
                if let Some(stream) = self.pick(streams) {
                    self.ask(Command::DeleteStream { stream });
                }
            }
        }
    }

    fn fail_something(&mut self) {
        let state = &self.world.room.state;
        let sessions: Vec<_> = state
            .publications
            .iter()
            .filter_map(|(id, p)| Some((id.to_string(), p.transport()?.clone())))
            .collect();
        let Some((session, transport)) = self.pick(sessions) else { return };
        let Some(at) = self.world.room.node_of(&transport) else { return };
        let model = self.nodes.entry(at.worker.to_string()).or_default();
        if self.rng.random_bool(0.5) {
            // A node ends only what it has.
            let known = model.transports.get_mut(transport.as_str()).is_some_and(|s| s.remove(&session));
            if known {
                let session = SessionId::new(session).unwrap();
                self.event(&transport, AccessChange::SessionFailed { session, reason: "failed".into() });
            }
        } else if model.transports.remove(transport.as_str()).is_some() {
            self.event(&transport, AccessChange::Failed { reason: "Ice procedure failed.".into() });
        }
    }

    fn hear_mixer(&mut self) {
        let (Some(stream), Some(mixer)) = (self.pick(self.streams()), self.world.room.state.mixer.clone())
        else {
            return;
        };
        let event = MixerEvent { label: "common".into(), change: MixerChange::ActiveInput(stream) };
        self.world.put(Input::Mixer { node: mixer.worker, event });
    }

    fn lose_node(&mut self) {
        self.incarnation += 1;
        let fresh: &'static str = Box::leak(format!("node-{}", self.incarnation).into_boxed_str());
        let lost = if self.rng.random_bool(0.5) {
            self.world.access.replace(fresh)
        } else {
            self.world.mixer.replace(fresh)
        };
        let lost = node(lost.unwrap()).worker;
        self.dead.insert(lost.to_string());
        self.nodes.remove(lost.as_str());
        self.waiting.remove(&Some(lost.clone()));
        self.world.calls.retain(|(_, callee, _)| callee_worker(callee).as_ref() != Some(&lost));
        self.world.put(Input::NodeLost(lost));
    }

    /// Takes the new calls to where they wait, in order per callee.
    fn collect(&mut self) {
        for (call, callee, request) in self.world.calls.drain(..) {
            self.waiting.entry(callee_worker(&callee)).or_default().push_back((call, callee, request));
        }
    }

    /// The next call to some callee is answered, now and then with an error that does not say whether it was done.
    fn answer_one(&mut self, failing: f64) {
        self.collect();
        let callees =
            self.waiting.iter().filter(|(_, calls)| !calls.is_empty()).map(|(c, _)| c.clone()).collect();
        let Some(callee_id) = self.pick(callees) else { return };
        let Some((call, callee, request)) = self.waiting.get_mut(&callee_id).and_then(VecDeque::pop_front)
        else {
            return;
        };
        let is_dead = callee_id.as_ref().is_some_and(|worker| self.dead.contains(worker.as_str()));
        // These are rare, and their failure ends nothing.
        let often = if matches!(request, CallRequest::SetActive(_)) { 10.0 } else { 1.0 };
        let fails = is_dead || (!request.is_closing() && self.rng.random_bool(failing * often));
        if !is_dead
            && (!fails || self.rng.random_bool(0.5))
            && let Some(worker) = &callee_id
        {
            self.nodes.entry(worker.to_string()).or_default().take(&request);
        }
        let adopted = callee_id
            .as_ref()
            .and_then(|worker| self.nodes.entry(worker.to_string()).or_default().adopt(&request));
        let result = if fails {
            Err(CallError::Unavailable("no answer".into()))
        } else if let Some(adopted) = adopted {
            Ok(adopted)
        } else {
            self.world.good_answer(&callee, &request)
        };
        self.world.put(Input::CallDone { call, result });
    }

    fn pass(&mut self, time: Duration) {
        let end = self.world.now + time;
        while let Some(deadline) = self.world.room.next_deadline().filter(|deadline| *deadline <= end) {
            self.world.now = self.world.now.max(deadline);
            // The room would end; somebody always comes in time.
            if self.world.room.state.participants.is_empty() {
                self.join();
            }
            self.world.timeout();
        }
        self.world.now = end;
    }

    fn check_always(&mut self) {
        let state = &self.world.room.state;
        let mut sessions = BTreeSet::new();
        let publications = state
            .publications
            .iter()
            .filter_map(|(id, p)| Some((id.as_str(), &p.owner, p.transport()?, &p.phase)));
        let subscriptions =
            state.subscriptions.iter().map(|(id, s)| (id.as_str(), &s.owner, &s.transport, &s.phase));
        for (id, owner, transport, phase) in publications.chain(subscriptions) {
            assert!(sessions.insert(id), "two sessions {id}");
            assert!(state.participants.contains_key(owner), "{id} has no owner");
            assert_eq!(&state.transports[transport].owner, owner);
            let waits = matches!(phase, Phase::Placing | Phase::Opening);
            assert_eq!(waits, self.world.room.opening.contains_key(id), "{id} in {phase:?}");
        }
        assert!(self.world.room.opening.keys().all(|id| sessions.contains(id.as_str())));
        let tracks: Vec<_> = state.publications.values().flat_map(|p| &p.tracks).map(|t| &t.id).collect();
        assert_eq!(tracks.iter().collect::<BTreeSet<_>>().len(), tracks.len(), "a track id is there twice");
        for view in &state.views {
            for input in &view.inputs {
                assert_eq!(state.publications[input].phase, Phase::Established);
                assert!(!state.publications[input].tracks.is_empty(), "there is nothing to mix of it");
            }
            let layout = view.picture.as_ref().unwrap().layout();
            let shown: Vec<_> =
                layout.regions.iter().map(|r| r.stream_id.as_str()).filter(|s| !s.is_empty()).collect();
            assert_eq!(shown.iter().collect::<BTreeSet<_>>().len(), shown.len(), "shown twice: {shown:?}");
            let with_video =
                |id: &&kaigi_proto::ids::StreamId| state.publications[*id].first_track(Kind::Video).is_some();
            let pictures = view.inputs.iter().filter(with_video).count();
            let most = self.capacity[view.label.as_str()];
            assert_eq!(shown.len(), pictures.min(most));
            assert!(shown.iter().all(|id| view.inputs.iter().any(|input| input.as_str() == *id)));
            assert!(view.active_input.as_ref().is_none_or(|input| view.inputs.contains(input)));
        }
        self.check_permissions();
        let state = &self.world.room.state;
        for subscription in state.subscriptions.values() {
            if let Some(data) = &subscription.data {
                assert!(
                    state.publications[data].data && state.publications[data].phase == Phase::Established
                );
            }
            for track in &subscription.tracks {
                if let crate::room::state::Origin::Track { stream, track, .. } = &track.from {
                    assert!(state.publications[stream].tracks.iter().any(|t| t.id == *track));
                }
            }
        }
        self.check_demand();
    }

    /// All calls are answered well, and time passes until nothing is left to do.
    fn rest(&mut self) {
        for _ in 0..10 {
            loop {
                self.collect();
                if self.waiting.values().all(VecDeque::is_empty) {
                    break;
                }
                self.answer_one(0.0);
            }
            self.pass(Duration::from_secs(2));
        }
    }

    fn check_at_rest(&mut self) {
        self.rest();
        self.collect();
        assert!(self.waiting.values().all(VecDeque::is_empty), "the room does not come to rest");
        for request in self.requests.drain(..) {
            assert!(self.world.replies.contains_key(&request), "{request:?} is not replied to");
        }
        self.check_always();
        self.check_clients();
        self.check_nodes();
    }

    fn check_clients(&mut self) {
        let present: Vec<String> = self.world.present.iter().cloned().collect();
        self.clients.retain(|name, _| present.contains(name));
        let quiet = |stream: &v1::Stream| v1::Stream { active_input: String::new(), ..stream.clone() };
        let streams: BTreeMap<_, _> =
            self.world.room.describe_streams().iter().map(|s| (s.id.clone(), quiet(s))).collect();
        for name in &present {
            let client = self.clients.entry(name.clone()).or_default();
            self.world.events(name).into_iter().for_each(|event| client.hear(event));
            assert_eq!(client.participants.iter().collect::<Vec<_>>(), present.iter().collect::<Vec<_>>());
            let known: BTreeMap<_, _> = client.streams.iter().map(|(id, s)| (id.clone(), quiet(s))).collect();
            assert_eq!(known, streams, "what {name} knows is not what there is");
        }
    }

    fn check_nodes(&self) {
        let room = &self.world.room;
        let mut expected: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
        for (id, transport) in &room.state.transports {
            let at = transport.node.as_ref().unwrap().worker.to_string();
            assert!(!self.dead.contains(&at), "transport {id} is at a dead node");
            let sessions = room.sessions_where(|_, of| of == id);
            let sessions = sessions.iter().map(|s| s.as_str().to_owned()).collect();
            expected.entry(at).or_default().insert(id.to_string(), sessions);
        }
        for (name, model) in &self.nodes {
            let there = expected.remove(name).unwrap_or_default();
            assert_eq!(model.transports, there, "{name} does not have what it should have");
        }
        assert!(expected.is_empty(), "not at any node: {expected:?}");
        self.check_flows();
        let mixer = room.state.mixer.as_ref().unwrap();
        for view in &room.state.views {
            let known = self.nodes[mixer.worker.as_str()].views.get(&view.label);
            assert_eq!(
                known,
                room.describe_view(view, &room.demand()).as_ref(),
                "the mixer has another view {}",
                view.label
            );
        }
        for (id, subscription) in &room.state.subscriptions {
            let at = room.node_of(&subscription.transport).unwrap().worker;
            let data = subscription.data.as_ref().map(|stream| room.data_source(stream).unwrap());
            assert_eq!(self.nodes[at.as_str()].data[id.as_str()], data, "its data comes from elsewhere");
        }
        let transports = room.state.subscriptions.values().map(|subscription| &subscription.transport);
        let transports = transports.chain(room.state.publications.values().filter_map(|p| p.transport()));
        for transport in transports {
            let at = room.node_of(transport).unwrap().worker;
            let selection = &self.nodes[at.as_str()].selection;
            assert_eq!(*selection, room.selection_to_wire(), "others are in the slots at {at}");
        }
        self.check_encodings();
    }

    /// Nobody receives anything any more.
    fn part(&mut self) {
        let all: Vec<_> =
            self.world.room.state.subscriptions.iter().map(|(id, s)| (id.clone(), s.owner.clone())).collect();
        for (subscription, participant) in all {
            self.ask(Command::Unsubscribe { participant, subscription });
        }
        self.check_at_rest();
        self.check_empty();
    }
}

#[test]
fn whatever_happens_everybody_knows_what_the_room_knows() {
    for seed in 0..80 {
        let mut play = Play::new(seed);
        for round in 0..4 {
            let steps = || {
                (0..STEPS).for_each(|_| play.step());
                play.check_at_rest();
                if round == 3 {
                    play.part();
                }
            };
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(steps));
            if let Err(panic) = result {
                eprintln!("seed {seed}, round {round}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}
