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

mod nodes;
mod participants;
mod words;

use words::words;

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
    /// If there is none, it is because all are full.
    pub(super) full: bool,
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
            full: false,
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
