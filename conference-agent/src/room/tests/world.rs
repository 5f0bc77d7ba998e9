//! A room with everything around it played: requests, nodes that answer or don't, and what each participant is told.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{ParticipantId, RoomId, SessionId, StreamId, SubscriptionId, TrackId, TransportId, WorkerId},
    v1::{self, join_event::Event, participant_event, progress::Progress, stream_event::Change},
};
use kaigi_room_config::RoomConfig;

use crate::room::{
    AccessChange, AccessEvent, CallError, CallId, CallReply, CallRequest, Callee, Command, Format, Happening,
    Input, Join, Kind, MadeOutputs, MixerChange, MixerEvent, Negotiated, Node, Output, Publish, PublishTrack,
    Refusal, Reply, RequestId, RequestKey, Room, Settings, Snapshot, Source, Subscribe, SubscribeTrack,
    ViewOutputs, Wish,
};

pub(super) const ROOM: &str = "000000000000000000000001";
pub(super) const MIXED: &str = "000000000000000000000001-common";

/// A published stream, as its publisher knows it.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) stream: StreamId,
    pub(super) transport: TransportId,
}

pub(super) struct World {
    pub(super) room: Room,
    pub(super) now: Instant,
    next_request: u64,
    pub(super) replies: BTreeMap<RequestId, Result<Reply, Refusal>>,
    told: BTreeMap<String, Vec<Event>>,
    pub(super) present: BTreeSet<String>,
    /// Calls not answered yet.
    pub(super) calls: VecDeque<(CallId, Callee, CallRequest)>,
    /// All calls since they were last looked at.
    made: Vec<CallRequest>,
    /// Subscriptions as access nodes know them.
    opened: BTreeMap<String, v1::OpenSubscriptionRequest>,
    /// Codecs that mixers have no encoder of.
    pub(super) lacking: Vec<&'static str>,
    /// Whether mixers make no output and don't say so.
    pub(super) omitting: bool,
    /// Which node the cluster picks next; `None` = there is none.
    pub(super) access: Option<&'static str>,
    pub(super) mixer: Option<&'static str>,
    pub(super) streaming: Option<&'static str>,
    /// Outputs are refused.
    pub(super) refusing: bool,
    /// Mixers make the layers of views, too.
    pub(super) layering: bool,
    pub(super) ended: bool,
    /// What is written down of the room.
    pub(super) kept: BTreeMap<String, Vec<u8>>,
    /// What the room's service is told.
    pub(super) happened: Vec<Happening>,
}

pub(super) fn participant(name: &str) -> ParticipantId {
    ParticipantId::new(name).unwrap()
}

pub(super) fn node(name: &str) -> Node {
    Node { worker: WorkerId::new(name).unwrap(), endpoint: format!("http://{name}") }
}

pub(super) fn stream(id: &str) -> StreamId {
    StreamId::new(id).unwrap()
}

pub(super) fn vp8() -> Format {
    Format { codec: "vp8".into(), ..Format::default() }
}

pub(super) fn opus() -> Format {
    Format { codec: "opus".into(), sample_rate: 48000, channels: 2, profile: String::new() }
}

fn source(track: String, at: &Node, kind: Kind) -> Source {
    let format = if kind == Kind::Audio { opus() } else { vp8() };
    Source { track: TrackId::new(track).unwrap(), node: at.clone(), kind, format }
}

pub(super) fn codec(name: &str) -> Format {
    Format { codec: name.into(), ..Format::default() }
}

pub(super) fn h264(profile: &str) -> Format {
    Format { profile: profile.into(), ..codec("h264") }
}

/// What an output is, in short: format, profile, size, rate, bitrate, factor, interval.
pub(super) fn video_name(output: &v1::VideoOutput) -> String {
    let v1::VideoOutput { framerate, bitrate, bitrate_factor, key_frame_interval, .. } = output;
    let v1::MediaFormat { codec, profile, .. } = output.format.as_ref().unwrap();
    let size = output.resolution.map(|r| format!("{}x{}", r.width, r.height)).unwrap_or_default();
    format!("{codec}:{profile}:{size}:{framerate}:{bitrate}:{bitrate_factor}:{key_frame_interval}")
}

/// What an output is, in short: format, and who is left out.
pub(super) fn audio_name(output: &v1::AudioOutput) -> String {
    let v1::MediaFormat { codec, sample_rate, channels, .. } = output.format.as_ref().unwrap();
    format!("{codec}:{sample_rate}:{channels}:{}", output.minus_participant)
}

impl World {
    /// The default room, with the given attributes.
    pub(super) fn new(attributes: serde_json::Value) -> Self {
        let attributes = attributes.as_object().cloned().unwrap_or_default();
        let config = RoomConfig::from_options(ROOM, "room", "service", &attributes).unwrap();
        Self::with(config)
    }

    pub(super) fn with(config: RoomConfig) -> Self {
        let settings = Settings {
            agent: WorkerId::new("agent-1").unwrap(),
            epoch: 7,
            idle: Duration::from_secs(30),
            seed: [1; 32],
        };
        let now = Instant::now();
        let mut world = Self {
            room: Room::new(RoomId::new(ROOM).unwrap(), config, settings, now).unwrap(),
            now,
            next_request: 0,
            replies: BTreeMap::new(),
            told: BTreeMap::new(),
            present: BTreeSet::new(),
            calls: VecDeque::new(),
            made: Vec::new(),
            opened: BTreeMap::new(),
            lacking: Vec::new(),
            omitting: false,
            access: Some("access-1"),
            mixer: Some("mixer-1"),
            streaming: Some("streaming-1"),
            refusing: false,
            layering: false,
            ended: false,
            kept: BTreeMap::new(),
            happened: Vec::new(),
        };
        world.collect();
        world
    }

    /// Writes down what has changed.
    pub(super) fn write_down(&mut self) {
        let changes = self.room.changes();
        self.kept.extend(changes.parts);
        for gone in &changes.removed {
            assert!(self.kept.remove(gone).is_some(), "{gone} was never there");
        }
    }

    /// The agent dies, and another one goes on with what is written down. Nobody is told what came of its calls and its requests.
    pub(super) fn take_over(&mut self) {
        self.write_down();
        self.calls.clear();
        let snapshot = Snapshot::read(&self.kept).unwrap();
        let settings = Settings {
            agent: WorkerId::new(format!("{}-successor", self.room.settings.agent)).unwrap(),
            epoch: self.room.settings.epoch + 1,
            idle: Duration::from_secs(30),
            seed: [self.room.settings.epoch as u8; 32],
        };
        self.room = Room::restore(RoomId::new(ROOM).unwrap(), snapshot, settings, self.now);
        self.kept.clear();
        self.collect();
        self.write_down();
    }

    pub(super) fn put(&mut self, input: Input) {
        self.room.handle(input, self.now);
        self.collect();
    }

    fn collect(&mut self) {
        while let Some(output) = self.room.poll_output() {
            assert!(!self.ended || matches!(output, Output::Reply { .. }), "after the end: {output:?}");
            match output {
                Output::Reply { request, result } => {
                    let again = self.replies.insert(request, result.clone());
                    assert!(again.is_none(), "{request:?} is replied to twice");
                    if let Ok(Reply::Joined(joined)) = result {
                        let name = joined.participants.last().unwrap().id.clone();
                        assert!(self.present.insert(name.clone()));
                        self.told.insert(name, vec![Event::Joined(*joined)]);
                    }
                }
                Output::Notify { to, event } => {
                    assert!(self.present.contains(to.as_str()), "{to} is not there: {event:?}");
                    self.told.get_mut(to.as_str()).unwrap().push(event);
                }
                Output::Broadcast { except, event } => {
                    for name in &self.present {
                        if except.as_ref().is_none_or(|except| except.as_str() != name) {
                            self.told.get_mut(name).unwrap().push(event.clone());
                        }
                    }
                }
                Output::Close { participant } => assert!(self.present.remove(participant.as_str())),
                Output::Call { call, callee, request } => {
                    if let CallRequest::OpenSubscription(open) = &request {
                        self.opened.insert(open.session_id.clone(), open.clone());
                    }
                    self.made.push(request.clone());
                    self.calls.push_back((call, callee, request));
                }
                Output::Log(_) => {}
                Output::Happened(happening) => self.happened.push(happening),
                Output::Ended => self.ended = true,
            }
        }
    }

    /// Makes a request without answering the calls that it leads to.
    pub(super) fn ask(&mut self, command: Command) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.put(Input::Request { request, key: None, command });
        request
    }

    /// The same, by a requester that may ask again.
    pub(super) fn ask_as(&mut self, key: &str, command: Command) -> RequestId {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        let key = RequestKey::new(key.to_owned());
        assert!(key.is_some());
        self.put(Input::Request { request, key, command });
        request
    }

    /// Makes such a request; all nodes answer.
    pub(super) fn run_as(&mut self, key: &str, command: Command) -> Result<Reply, Refusal> {
        let request = self.ask_as(key, command);
        self.answer_all();
        self.replies.get(&request).cloned().unwrap_or_else(|| panic!("{request:?} is not replied to"))
    }

    /// Makes a request; all nodes answer.
    pub(super) fn run(&mut self, command: Command) -> Result<Reply, Refusal> {
        let request = self.ask(command);
        self.answer_all();
        self.replies.get(&request).cloned().unwrap_or_else(|| panic!("{request:?} is not replied to"))
    }

    /// Answers calls, and those that follow, as good nodes do.
    pub(super) fn answer_all(&mut self) {
        while let Some((call, callee, request)) = self.calls.pop_front() {
            let result = self.good_answer(&callee, &request);
            self.put(Input::CallDone { call, result });
        }
    }

    /// Answers the calls waiting now that `which` picks with an error.
    pub(super) fn fail(&mut self, which: impl Fn(&CallRequest) -> bool, error: &CallError) {
        let (failing, rest): (VecDeque<_>, VecDeque<_>) =
            self.calls.drain(..).partition(|(_, _, r)| which(r));
        self.calls = rest;
        assert!(!failing.is_empty(), "no such call");
        for (call, _, _) in failing {
            self.put(Input::CallDone { call, result: Err(error.clone()) });
        }
    }

    pub(super) fn good_answer(&self, callee: &Callee, request: &CallRequest) -> Result<CallReply, CallError> {
        let nobody = || CallError::Unavailable("none is alive".into());
        match request {
            CallRequest::Schedule(schedule) => {
                let picked = match v1::Purpose::try_from(schedule.purpose) {
                    Ok(v1::Purpose::Access) => self.access,
                    Ok(v1::Purpose::Streaming) => self.streaming,
                    _ => self.mixer,
                };
                picked.map(|name| CallReply::Scheduled(node(name))).ok_or_else(nobody)
            }
            CallRequest::SetView(view) => {
                let Callee::Mixer(at) = callee else { panic!("a view at {callee:?}") };
                let track = |what: &str| format!("{}-{}-{what}", at.worker, view.label);
                let minus = view.minus_participants.iter().map(|name| {
                    (participant(name), source(track(&format!("minus-{name}")), at, Kind::Audio))
                });
                Ok(CallReply::View(Box::new(ViewOutputs {
                    video: view.video.as_ref().map(|_| source(track("video"), at, Kind::Video)),
                    audio: Some(source(track("audio"), at, Kind::Audio)),
                    layers: match self.layering {
                        true => {
                            let layers = view.video_layers.iter();
                            layers.map(|layer| source(track(&layer.id), at, Kind::Video)).collect()
                        }
                        false => Vec::new(),
                    },
                    minus: minus.collect(),
                    others: self.make(at, &view.label, &view.video_outputs, &view.audio_outputs),
                })))
            }
            CallRequest::SetTranscoder(transcoder) => {
                let Callee::Mixer(at) = callee else { panic!("a transcoder at {callee:?}") };
                let (video, audio) = (&transcoder.video_outputs, &transcoder.audio_outputs);
                assert_ne!(video.is_empty(), audio.is_empty(), "of one kind");
                Ok(CallReply::Outputs(self.make(at, &transcoder.id, video, audio)))
            }
            CallRequest::SetOutput(output) if self.refusing => {
                Err(CallError::Refused(format!("{} may not be", output.id.len())))
            }
            CallRequest::SetInput(_) if self.refusing => Err(CallError::Refused("it may not be".into())),
            CallRequest::SetInput(input) => {
                let Callee::Streaming(at) = callee else { panic!("an input at {callee:?}") };
                let listen_url = match input.listen_key.as_str() {
                    "" => String::new(),
                    _ => format!("rtmp://{}/live", at.worker),
                };
                Ok(CallReply::Ingest { listen_url })
            }
            CallRequest::SetOutput(_) => Ok(CallReply::Egress {
                host: "host".into(),
                file: "file".into(),
                manifest: "manifest".into(),
            }),
            CallRequest::EstimateBandwidth(_) => Ok(CallReply::Bandwidth(1_200_000)),
            CallRequest::AdoptRoom(adopt) => {
                let there = adopt.transport_ids.iter().map(|id| TransportId::new(id).unwrap());
                Ok(CallReply::Adopted(there.collect()))
            }
            CallRequest::AdoptTransports(_) => Ok(CallReply::Missing(Vec::new())),
            _ => Ok(CallReply::Done),
        }
    }

    /// Outputs as a mixer makes them.
    fn make(&self, at: &Node, of: &str, video: &[v1::VideoOutput], audio: &[v1::AudioOutput]) -> MadeOutputs {
        let mut made = MadeOutputs::default();
        let video = video.iter().map(|o| (&o.id, &o.format, video_name(o), Kind::Video));
        let audio = audio.iter().map(|o| (&o.id, &o.format, audio_name(o), Kind::Audio));
        for (id, format, name, kind) in video.chain(audio) {
            let format = Format::from_wire(format.clone().unwrap());
            if self.lacking.contains(&format.codec.as_str()) {
                made.failures.insert(id.clone(), format!("No encoder of {}", format.codec));
            } else if !self.omitting {
                let track = TrackId::new(format!("{}-{of}-{name}", at.worker)).unwrap();
                made.sources.insert(id.clone(), Source { track, node: at.clone(), kind, format });
            }
        }
        made
    }

    pub(super) fn timeout(&mut self) {
        self.room.handle_timeout(self.now);
        self.collect();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(deadline) = self.room.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.timeout();
            self.answer_all();
        }
        self.now = end;
    }

    pub(super) fn join(&mut self, name: &str, role: &str) -> Result<v1::Joined, Refusal> {
        let join = Join {
            participant: participant(name),
            user: format!("{{\"name\":\"{name}\"}}"),
            role: role.into(),
            isp: String::new(),
            region: String::new(),
        };
        match self.run(Command::Join(join))? {
            Reply::Joined(joined) => Ok(*joined),
            other => panic!("{other:?}"),
        }
    }

    /// Lets several presenters in and forgets what they were told.
    pub(super) fn presenters(&mut self, names: &[&str]) {
        for name in names {
            self.join(name, "presenter").unwrap();
        }
        self.forget();
    }

    pub(super) fn publish_command(name: &str, kinds: &[Kind], first_mid: u32) -> Command {
        let track = |(i, kind): (usize, &Kind)| PublishTrack {
            kind: *kind,
            mid: (first_mid as usize + i).to_string(),
            source: Some(if *kind == Kind::Audio { "mic" } else { "camera" }.into()),
        };
        Command::Publish(Publish {
            participant: participant(name),
            tracks: kinds.iter().enumerate().map(track).collect(),
            data: false,
            any_label: false,
            attributes: None,
            transport: None,
            own_transport: false,
        })
    }

    /// Asks to publish; the nodes answer, nothing is negotiated.
    pub(super) fn announce(&mut self, name: &str, kinds: &[Kind]) -> Result<Published, Refusal> {
        match self.run(Self::publish_command(name, kinds, 0))? {
            Reply::Session { session, transport, .. } => {
                Ok(Published { stream: stream(session.as_str()), transport })
            }
            other => panic!("{other:?}"),
        }
    }

    /// Publishes and negotiates opus and VP8.
    pub(super) fn publish(&mut self, name: &str, kinds: &[Kind]) -> Published {
        let published = self.announce(name, kinds).unwrap();
        self.establish(&published, kinds);
        published
    }

    pub(super) fn establish(&mut self, published: &Published, kinds: &[Kind]) {
        let tracks = kinds.iter().enumerate().map(|(i, kind)| Negotiated {
            track: Some(TrackId::new(format!("{}-{i}", published.transport)).unwrap()),
            mid: i.to_string(),
            kind: *kind,
            format: if *kind == Kind::Audio { opus() } else { vp8() },
        });
        let session = SessionId::new(published.stream.as_str()).unwrap();
        let change = AccessChange::Established { session, tracks: tracks.collect() };
        self.access_event(&published.transport, change);
    }

    /// The m-lines in their order, with what the client sends.
    pub(super) fn establish_publication_as(&mut self, published: &Published, formats: &[(Kind, Format)]) {
        let tracks = formats.iter().enumerate().map(|(i, (kind, format))| Negotiated {
            track: Some(TrackId::new(format!("{}-{i}", published.transport)).unwrap()),
            mid: i.to_string(),
            kind: *kind,
            format: format.clone(),
        });
        let session = SessionId::new(published.stream.as_str()).unwrap();
        self.access_event(
            &published.transport,
            AccessChange::Established { session, tracks: tracks.collect() },
        );
    }

    /// One m-line of several layers.
    pub(super) fn establish_layers(&mut self, published: &Published, rids: &[&str]) {
        let tracks = rids.iter().map(|rid| Negotiated {
            track: Some(TrackId::new(format!("{}-0:{rid}", published.transport)).unwrap()),
            mid: "0".into(),
            kind: Kind::Video,
            format: vp8(),
        });
        let session = SessionId::new(published.stream.as_str()).unwrap();
        self.access_event(
            &published.transport,
            AccessChange::Established { session, tracks: tracks.collect() },
        );
    }

    pub(super) fn access_event(&mut self, transport: &TransportId, change: AccessChange) {
        let node = self.room.node_of(transport).unwrap_or_else(|| node("access-1")).worker;
        self.put(Input::Access {
            node,
            event: AccessEvent { transport: transport.clone(), answer: 0, change },
        });
        self.answer_all();
    }

    pub(super) fn mixer_event(&mut self, mixer: &str, change: MixerChange) {
        let event = MixerEvent { label: "common".into(), change };
        self.put(Input::Mixer { node: WorkerId::new(mixer).unwrap(), event });
        self.answer_all();
    }

    pub(super) fn subscribe_command(name: &str, from: &str, kinds: &[Kind]) -> Command {
        let track = |(i, kind): (usize, &Kind)| SubscribeTrack {
            kind: *kind,
            mid: format!("s{i}"),
            from: from.into(),
            rid: None,
            wish: Wish::default(),
        };
        Command::Subscribe(Subscribe {
            participant: participant(name),
            tracks: kinds.iter().enumerate().map(track).collect(),
            data_from: None,
            transport: None,
            own_transport: false,
        })
    }

    pub(super) fn subscribe(
        &mut self,
        name: &str,
        from: &str,
        kinds: &[Kind],
    ) -> Result<SubscriptionId, Refusal> {
        match self.run(Self::subscribe_command(name, from, kinds))? {
            Reply::Session { session, .. } => Ok(SubscriptionId::new(session.as_str()).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// Negotiates the first of what is offered of each kind.
    pub(super) fn establish_subscription(&mut self, id: &SubscriptionId) {
        self.establish_as(id, &[]);
    }

    /// The client takes these formats, and what comes first where it has no say.
    pub(super) fn establish_as(&mut self, id: &SubscriptionId, formats: &[Format]) {
        let tracks = self.negotiated(id, |offered| {
            let wanted = |format: &&Format| formats.contains(format);
            offered.iter().find(wanted).unwrap_or(&offered[0]).clone()
        });
        let transport = self.room.state.subscriptions[id].transport.clone();
        let session = SessionId::new(id.as_str()).unwrap();
        self.access_event(&transport, AccessChange::Established { session, tracks });
    }

    /// What an access node negotiates for a subscription that it was asked for, if the client picks so of the formats offered.
    pub(super) fn negotiated(
        &self,
        id: &SubscriptionId,
        mut pick: impl FnMut(&[Format]) -> Format,
    ) -> Vec<Negotiated> {
        let tracks = self.opened.get(id.as_str()).map(|open| open.tracks.as_slice()).unwrap_or_default();
        let negotiated = |track: &v1::SubscriptionTrack| Negotiated {
            track: None,
            mid: track.mid.clone(),
            kind: Kind::from_wire(track.kind).unwrap(),
            format: pick(&track.formats.iter().cloned().map(Format::from_wire).collect::<Vec<_>>()),
        };
        tracks.iter().map(negotiated).collect()
    }

    pub(super) fn streams(&mut self) -> Vec<v1::Stream> {
        match self.run(Command::ListStreams).unwrap() {
            Reply::Streams(streams) => streams,
            other => panic!("{other:?}"),
        }
    }

    /// What a participant was told since it was last asked, in short words.
    pub(super) fn told(&mut self, name: &str) -> Vec<String> {
        let events = self.told.get_mut(name).map(std::mem::take).unwrap_or_default();
        events.iter().map(words).collect()
    }

    /// The events themselves.
    pub(super) fn events(&mut self, name: &str) -> Vec<Event> {
        self.told.get_mut(name).map(std::mem::take).unwrap_or_default()
    }

    pub(super) fn forget(&mut self) {
        self.told.values_mut().for_each(Vec::clear);
        self.made.clear();
    }

    /// The calls made since this was last asked.
    pub(super) fn made(&mut self) -> Vec<CallRequest> {
        std::mem::take(&mut self.made)
    }

    /// The last description of the view `common` among the calls made since then.
    pub(super) fn view(&mut self) -> v1::ViewDescription {
        let mut views = self.made().into_iter().rev().filter_map(|call| match call {
            CallRequest::SetView(view) if view.label == "common" => Some(*view),
            _ => None,
        });
        views.next().expect("no view was set")
    }
}

fn words(event: &Event) -> String {
    match event {
        Event::Joined(_) => "joined".into(),
        Event::Participant(event) => match event.action.as_ref().unwrap() {
            participant_event::Action::Joined(who) => format!("join {}", who.id),
            participant_event::Action::Left(who) => format!("leave {who}"),
        },
        Event::Stream(event) => {
            let id = &event.stream_id;
            match event.change.as_ref().unwrap() {
                Change::Added(_) => format!("add {id}"),
                Change::Removed(_) => format!("remove {id}"),
                Change::Status(status) => {
                    let kind = Kind::from_wire(status.kind).unwrap().name();
                    format!("status {id} {kind} {}", if status.active { "active" } else { "inactive" })
                }
                Change::Layout(layout) => {
                    let shown: Vec<_> = layout.regions.iter().map(|r| r.stream_id.as_str()).collect();
                    format!("layout {id} [{}]", shown.join(","))
                }
                Change::ActiveInput(input) => format!("active-input {id} {input}"),
                Change::Speaker(v1::ActiveSpeaker { stream_id, major }) => {
                    format!("{id} has {stream_id}, {}", if *major { "major" } else { "minor" })
                }
                Change::Replaced(_) => format!("replaced {id}"),
            }
        }
        Event::Layers(event) => {
            let name =
                |layer: &v1::StreamLayer| format!("{}{}", if layer.wanted { "+" } else { "-" }, layer.rid);
            let layers: Vec<_> = event.layers.iter().map(name).collect();
            format!("layers {} {}", event.stream_id, layers.join(" "))
        }
        Event::Text(text) => {
            format!("text {} {} {}", text.from, if text.to_all { "all" } else { "me" }, text.message)
        }
        Event::Progress(progress) => match progress.progress.as_ref().unwrap() {
            Progress::Answer(sdp) => format!("answer {sdp}"),
            Progress::TransportReady(_) => "transport-ready".into(),
            Progress::SessionReady(session) => format!("ready {session}"),
            Progress::SessionError(error) => format!("error {} {}", error.session_id, error.reason),
            Progress::TransportError(reason) => format!("transport-error {reason}"),
            Progress::TransportMoving(_) => format!("moving {}", progress.transport_id),
        },
        Event::Dropped(dropped) => format!("dropped {}", dropped.reason),
    }
}
