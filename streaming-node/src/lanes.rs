//! The sound and the picture of an output: packets that come in become frames at their times.

use std::{
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError},
    },
    time::{Duration, Instant},
};

use futures::future::{self, BoxFuture, FutureExt};
use kaigi_intake::{Arrival, Consumer, IntakeError, LinkContext, Track, Wants};
use kaigi_media::rtp::RtpHeader;
use kaigi_proto::v1;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    depacketize::Depacketizer,
    frame::{Codec, Format, Frame},
    reorder::{Ordered, Reorder},
    timeline::TrackTime,
};

/// Sound or picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Sound.
    Audio,
    /// Picture.
    Video,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Audio, Self::Video];

    fn index(self) -> usize {
        match self {
            Self::Audio => 0,
            Self::Video => 1,
        }
    }
}

/// A frame of one of the lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneFrame {
    /// Which lane.
    pub kind: Kind,
    /// The frame.
    pub frame: Frame,
    /// What it takes to decode it; of pictures with key frames alone.
    pub format: Option<Format>,
}

/// Both lanes of an output.
#[derive(Debug)]
pub struct Lanes {
    shared: Arc<Shared>,
    lanes: [Option<Lane>; 2],
}

#[derive(Debug)]
struct Lane {
    source: Option<v1::TrackSource>,
    _track: Option<Track>,
}

#[derive(Debug)]
struct Shared {
    frames: SyncSender<LaneFrame>,
    states: Mutex<[LaneState; 2]>,
    urgent: [Arc<Notify>; 2],
}

#[derive(Debug)]
struct LaneState {
    /// Which attachment is current; what others bring is late.
    generation: u64,
    codec: Option<Codec>,
    reorder: Reorder,
    depacketizer: Option<Depacketizer>,
    time: TrackTime,
    capture: String,
    followed: Option<Duration>,
    /// A frame could not be handed on, or whoever muxes wants to begin anew.
    wants_key_frame: bool,
}

impl LaneState {
    fn new(origin: Instant) -> Self {
        Self {
            generation: 0,
            codec: None,
            reorder: Reorder::default(),
            depacketizer: None,
            time: TrackTime::new(origin, 1),
            capture: String::new(),
            followed: None,
            wants_key_frame: false,
        }
    }
}

/// Lets whoever muxes ask for key frames.
#[derive(Clone, Debug)]
pub struct KeyFrames(Arc<Shared>);

impl KeyFrames {
    /// The next frame of pictures should be a key frame.
    pub fn request(&self) {
        self.0.states.lock()[Kind::Video.index()].wants_key_frame = true;
        self.0.urgent[Kind::Video.index()].notify_one();
    }
}

impl Lanes {
    /// No lanes yet; what comes goes to `frames`, whose reader may lag, which costs frames and delays nobody.
    #[must_use]
    pub fn new(origin: Instant, frames: SyncSender<LaneFrame>) -> Self {
        let shared = Shared {
            frames,
            states: Mutex::new([LaneState::new(origin), LaneState::new(origin)]),
            urgent: Default::default(),
        };
        Self { shared: Arc::new(shared), lanes: [None, None] }
    }

    /// For whoever muxes.
    #[must_use]
    pub fn key_frames(&self) -> KeyFrames {
        KeyFrames(Arc::clone(&self.shared))
    }

    /// Takes a lane from another source, or from none. Must be called within a tokio runtime.
    pub fn set(&mut self, kind: Kind, lane: Option<&v1::OutputLane>, link: &LinkContext) {
        let place = &mut self.lanes[kind.index()];
        let source = lane.and_then(|lane| lane.source.clone());
        if let Some(lane) = lane {
            self.shared.states.lock()[kind.index()].capture.clone_from(&lane.capture);
        }
        if place.as_ref().is_some_and(|lane| lane.source == source) {
            return;
        }
        let generation = {
            let mut states = self.shared.states.lock();
            let state = &mut states[kind.index()];
            state.generation += 1;
            state.generation
        };
        let track = source.as_ref().map(|source| {
            let taker = Taker { shared: Arc::clone(&self.shared), kind, generation };
            let urgent = Arc::clone(&self.shared.urgent[kind.index()]);
            Track::start(link, source, Arc::new(taker), urgent)
        });
        *place = Some(Lane { source, _track: track });
    }
}

/// Takes the packets of one source of a lane.
struct Taker {
    shared: Arc<Shared>,
    kind: Kind,
    generation: u64,
}

impl Taker {
    fn drain(&self, states: &mut [LaneState; 2], now: Instant) {
        let [audio, video] = states;
        let (state, sound) = match self.kind {
            Kind::Audio => (audio, None),
            Kind::Video => (video, Some(audio)),
        };
        while let Some(ordered) = state.reorder.pop(now) {
            let Some(depacketizer) = &mut state.depacketizer else { continue };
            let packet = match ordered {
                Ordered::Packet(packet) => packet,
                Ordered::Lost => {
                    depacketizer.lost();
                    metrics::counter!("kaigi_streaming_losses_total").increment(1);
                    continue;
                }
            };
            let Ok(header) = RtpHeader::parse(&packet) else { continue };
            let Some(unit) = depacketizer.push(&header, &packet) else { continue };
            let time = state.time.stamp(now, unit.timestamp);
            if let Some(sound) = sound.as_ref().filter(|sound| {
                !state.capture.is_empty() && sound.capture == state.capture && sound.codec.is_some()
            }) {
                let passed = state.followed.map_or(Duration::ZERO, |before| time.saturating_sub(before));
                state.time.follow(&sound.time, passed);
                state.followed = Some(time);
            }
            let format = unit.format.or_else(|| state.codec.filter(|c| !c.is_video()).map(Format::audio));
            if unit.key {
                state.wants_key_frame = false;
            }
            let frame = Frame { time, key: unit.key, data: unit.data };
            match self.shared.frames.try_send(LaneFrame { kind: self.kind, frame, format }) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    metrics::counter!("kaigi_streaming_frames_not_taken_total").increment(1);
                    depacketizer.lost();
                }
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
    }
}

impl Consumer for Taker {
    fn attached(&self, reply: v1::AttachReply) -> BoxFuture<'_, Result<(), IntakeError>> {
        let name = reply.format.map(|format| format.codec).unwrap_or_default();
        let codec = Codec::from_name(&name).filter(|codec| codec.is_video() == (self.kind == Kind::Video));
        let Some(codec) = codec else {
            let text = format!("codec {name} can't be sent out or recorded");
            return future::ready(Err(IntakeError::Consumer(text))).boxed();
        };
        let mut states = self.shared.states.lock();
        let state = &mut states[self.kind.index()];
        if state.generation == self.generation {
            state.reorder.restart();
            state.depacketizer = Some(Depacketizer::new(codec));
            if state.codec != Some(codec) {
                state.time.set_rate(codec.clock_rate());
            }
            state.codec = Some(codec);
            state.time.restart();
        }
        future::ready(Ok(())).boxed()
    }

    fn take(&self, arrival: Arrival, now: Instant) {
        let mut states = self.shared.states.lock();
        let state = &mut states[self.kind.index()];
        if state.generation != self.generation {
            return;
        }
        match arrival {
            Arrival::Packet(packet) => {
                if let Ok(header) = RtpHeader::parse(&packet) {
                    state.reorder.push(now, header.sequence, packet);
                }
                self.drain(&mut states, now);
            }
            Arrival::SenderReport { ntp, rtp } => state.time.report(ntp, rtp),
        }
    }

    fn wants(&self, now: Instant) -> Result<Wants, IntakeError> {
        let mut states = self.shared.states.lock();
        if states[self.kind.index()].generation != self.generation {
            return Ok(Wants::default());
        }
        self.drain(&mut states, now);
        let state = &mut states[self.kind.index()];
        let waits = state.depacketizer.as_ref().is_some_and(Depacketizer::waits_for_key_frame);
        Ok(Wants { key_frame: waits || state.wants_key_frame, packets: state.reorder.wanted(now) })
    }

    fn detached(&self) {
        let mut states = self.shared.states.lock();
        let state = &mut states[self.kind.index()];
        if state.generation == self.generation {
            state.depacketizer = None;
        }
    }
}
