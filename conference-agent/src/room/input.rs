//! What comes into a room: requests, replies of nodes, events of nodes. Parsed already; texts are bounded by whoever parses.

use kaigi_proto::{
    ids::{ParticipantId, SessionId, StreamId, SubscriptionId, TrackId, TransportId, WorkerId},
    v1,
};
use kaigi_room_config::Resolution;

use super::{
    egress::{Condition, EgressTarget},
    filters::Filter,
    ingest::IngestSource,
    judge::Loudness,
    layout::RequestedLayout,
    media::{Format, Kind, Kinds, Node, VideoParameters},
    output::CallId,
    outputs::MadeOutputs,
    stats::Counted,
    views::ViewOutputs,
    wish::Wish,
};

/// Names a request until it is replied to. Chosen by the caller, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RequestId(pub(crate) u64);

/// What a requester calls its request, to be told from others for as long as it may be made again: 1 to 64 printable characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(crate) struct RequestKey(String);

impl RequestKey {
    const MAX_LENGTH: usize = 64;

    /// `None` if the text can't be one.
    pub(crate) fn new(text: String) -> Option<Self> {
        let is_short = (1..=Self::MAX_LENGTH).contains(&text.len());
        (is_short && text.bytes().all(|byte| byte.is_ascii_graphic())).then_some(Self(text))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Everything that can happen to a room, besides the passing of time.
#[derive(Debug)]
pub(crate) enum Input {
    /// Replied to exactly once.
    Request {
        request: RequestId,
        key: Option<RequestKey>,
        command: Command,
    },
    /// What became of a call. Calls are answered exactly once, in any order.
    CallDone {
        call: CallId,
        result: Result<CallReply, CallError>,
    },
    Access {
        node: WorkerId,
        event: AccessEvent,
    },
    /// How loud publications of an access node are.
    Speakers {
        node: WorkerId,
        heard: Vec<(TrackId, Loudness)>,
    },
    Mixer {
        node: WorkerId,
        event: MixerEvent,
    },
    Streaming {
        node: WorkerId,
        event: EgressEvent,
    },
    /// The node is dead or can't be reached; its calls will not be answered any more.
    NodeLost(WorkerId),
    /// The node's events were interrupted: it may have forgotten what it was told.
    NodeResumed(WorkerId),
    /// The node takes nothing new: it is to be left.
    NodeDrains(WorkerId),
    /// The cluster has other mixers now: it may be worth asking again.
    MixersChanged,
    /// The participant's event stream is gone, or full.
    Gone(ParticipantId),
    /// The caller of a publish or subscribe request went away before the reply.
    Abandoned {
        participant: ParticipantId,
        session: SessionId,
    },
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Join(Join),
    Leave {
        participant: ParticipantId,
    },
    Publish(Publish),
    Subscribe(Subscribe),
    Unpublish {
        participant: ParticipantId,
        stream: StreamId,
    },
    Unsubscribe {
        participant: ParticipantId,
        subscription: SubscriptionId,
    },
    ControlStream {
        participant: ParticipantId,
        stream: StreamId,
        operations: Vec<StreamOperation>,
    },
    GetRegion {
        participant: ParticipantId,
        stream: StreamId,
        /// Label.
        view: String,
    },
    ControlSubscription {
        participant: ParticipantId,
        subscription: SubscriptionId,
        kinds: Kinds,
        active: bool,
    },
    UpdateSubscription {
        /// `None` = the management.
        by: Option<ParticipantId>,
        subscription: SubscriptionId,
        update: SubscriptionUpdate,
    },
    QueryBandwidth {
        participant: ParticipantId,
        subscription: SubscriptionId,
    },
    Signal {
        participant: ParticipantId,
        transport: TransportId,
        signal: v1::signal_transport_request::Signal,
    },
    Text {
        from: ParticipantId,
        to: Receiver,
        message: String,
    },
    ListParticipants,
    Stats {
        of: Counted,
        /// Unix ms.
        wall_ms: u64,
    },
    DropParticipant {
        participant: ParticipantId,
    },
    UpdateParticipant {
        participant: ParticipantId,
        change: PermissionChange,
    },
    ListStreams,
    UpdateStream {
        stream: StreamId,
        operations: Vec<StreamOperation>,
    },
    DeleteStream {
        stream: StreamId,
    },
    StartEgress(StartEgress),
    UpdateEgress {
        /// Its id.
        egress: String,
        update: SubscriptionUpdate,
        /// Which kinds are to flow, if that is to change.
        active: [Option<bool>; 2],
    },
    StopEgress {
        /// Its id.
        egress: String,
    },
    ListEgresses,
    StartAnalytics(StartAnalytics),
    StopAnalytics {
        /// Id.
        analytics: String,
    },
    ListAnalytics,
    StartIngest(StartIngest),
    ListIngests,
    Destroy {
        reason: String,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Join {
    pub(crate) participant: ParticipantId,
    /// JSON text.
    pub(crate) user: String,
    pub(crate) role: String,
    pub(crate) isp: String,
    pub(crate) region: String,
}

/// What a participant may do; `None` = as it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PermissionChange {
    pub(crate) publish_audio: Option<bool>,
    pub(crate) publish_video: Option<bool>,
    pub(crate) subscribe_audio: Option<bool>,
    pub(crate) subscribe_video: Option<bool>,
}

#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) participant: ParticipantId,
    /// At least one if there is no data, at most one of each kind, different mids.
    pub(crate) tracks: Vec<PublishTrack>,
    pub(crate) data: bool,
    /// Whether data channels of any label are its own.
    pub(crate) any_label: bool,
    /// JSON text.
    pub(crate) attributes: Option<String>,
    /// `None` = a new one.
    pub(crate) transport: Option<TransportId>,
    /// Whether a new transport ends with the session.
    pub(crate) own_transport: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct PublishTrack {
    pub(crate) kind: Kind,
    pub(crate) mid: String,
    /// "mic", "camera"…; `None` = unknown.
    pub(crate) source: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Subscribe {
    pub(crate) participant: ParticipantId,
    /// At least one if no data is wanted, at most one of each kind, different mids.
    pub(crate) tracks: Vec<SubscribeTrack>,
    /// Id of the stream whose data is wanted.
    pub(crate) data_from: Option<String>,
    /// `None` = a new one.
    pub(crate) transport: Option<TransportId>,
    /// Whether a new transport ends with the session.
    pub(crate) own_transport: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct SubscribeTrack {
    pub(crate) kind: Kind,
    pub(crate) mid: String,
    /// Id of a stream or of a track.
    pub(crate) from: String,
    /// The simulcast layer of the stream, if one is wanted.
    pub(crate) rid: Option<String>,
    pub(crate) wish: Wish,
}

/// Another source, or other parameters, of a subscription; what is `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct SubscriptionUpdate {
    pub(crate) audio: Option<TrackUpdate>,
    pub(crate) video: Option<TrackUpdate>,
}

impl SubscriptionUpdate {
    pub(crate) fn of(&self, kind: Kind) -> Option<&TrackUpdate> {
        match kind {
            Kind::Audio => self.audio.as_ref(),
            Kind::Video => self.video.as_ref(),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct TrackUpdate {
    /// Id of a stream or of a track. A new one takes back what was wanted of the old one.
    pub(crate) from: Option<String>,
    pub(crate) parameters: VideoParameters,
    /// "x0.6"
    pub(crate) bitrate_multiplier: Option<String>,
    pub(crate) priority: Option<u32>,
}

#[derive(Clone, Debug)]
pub(crate) enum Receiver {
    All,
    One(ParticipantId),
}

/// A recording or a broadcast that is to begin.
#[derive(Clone, Debug)]
pub(crate) struct StartEgress {
    pub(crate) target: EgressTarget,
    pub(crate) what: EgressWhat,
}

/// What goes out.
#[derive(Clone, Debug)]
pub(crate) enum EgressWhat {
    /// At least one, at most one of each kind.
    Media(Vec<EgressMedia>),
    /// These kinds of each forward stream, apart; recordings only.
    Each(Kinds),
}

#[derive(Clone, Debug)]
pub(crate) struct EgressMedia {
    pub(crate) kind: Kind,
    /// Id of a stream or of a track.
    pub(crate) from: String,
    pub(crate) wish: Wish,
}

/// The picture of a stream that is to be analysed.
#[derive(Clone, Debug)]
pub(crate) struct StartAnalytics {
    pub(crate) algorithm: String,
    /// JSON text; empty = the defaults.
    pub(crate) parameters: String,
    pub(crate) media: EgressMedia,
}

/// A stream that is to be pulled from elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct StartIngest {
    pub(crate) from: IngestSource,
    /// JSON text.
    pub(crate) attributes: Option<String>,
}

/// A change of a stream.
#[derive(Clone, Debug)]
pub(crate) enum StreamOperation {
    /// View label.
    Mix(String),
    Unmix(String),
    /// Pause or play. `repeat`: also told when nothing changes.
    Status {
        kinds: Kinds,
        active: bool,
        repeat: bool,
    },
    Filter(Filter),
    SetRegion {
        /// Label.
        view: String,
        /// Id.
        region: String,
    },
    /// Of mixed streams.
    Layout(RequestedLayout),
    /// Of mixed streams.
    Assignment(LayoutAssignment),
}

/// Who is shown in a region of a layout.
#[derive(Clone, Debug)]
pub(crate) struct LayoutAssignment {
    /// From 0.
    pub(crate) index: usize,
    pub(crate) stream: StreamId,
}

#[derive(Debug)]
pub(crate) enum CallReply {
    Done,
    Scheduled(Node),
    View(Box<ViewOutputs>),
    /// Of a transcoder.
    Outputs(MadeOutputs),
    /// Of transports that were named, those that are there.
    Adopted(Vec<TransportId>),
    /// Of sessions that were named, those that are not there.
    Missing(Vec<SessionId>),
    /// bit/s
    Bandwidth(u64),
    /// Of a recording: host and path of its first file.
    Egress {
        host: String,
        file: String,
        manifest: String,
    },
    /// Where it is pushed to, if it is.
    Ingest {
        listen_url: String,
    },
}

/// Why a call to a node or to the cluster failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CallError {
    /// Not reached, not answered in time, or no node there.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// The node has as much as it takes, or all that there are have.
    #[error("no capacity: {0}")]
    Full(String),
    /// The node does not know what was named.
    #[error("not found: {0}")]
    NotFound(String),
    /// The node will not do it.
    #[error("refused: {0}")]
    Refused(String),
}

/// What an access node tells of a transport.
#[derive(Clone, Debug)]
pub(crate) struct AccessEvent {
    pub(crate) transport: TransportId,
    /// Number of an answer; 0 = it has none.
    pub(crate) answer: u64,
    pub(crate) change: AccessChange,
}

#[derive(Clone, Debug)]
pub(crate) enum AccessChange {
    Answer(String),
    Ready,
    Established {
        session: SessionId,
        tracks: Vec<Negotiated>,
    },
    SessionFailed {
        session: SessionId,
        reason: String,
    },
    Failed {
        reason: String,
    },
    Resolution {
        track: TrackId,
        resolution: Resolution,
        /// Of a scalable picture: the sizes that it can be had in.
        layers: Vec<Resolution>,
        /// Frame rates that it can be had at; 0 = not known.
        temporal: u32,
    },
    /// Which layers of a publication somebody wants.
    WantedLayers {
        session: SessionId,
        layers: Vec<(TrackId, bool)>,
    },
}

/// A track as it was negotiated.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Negotiated {
    /// What is published, or subscribed; a subscription that waits for its source has none yet.
    pub(crate) track: Option<TrackId>,
    pub(crate) mid: String,
    pub(crate) kind: Kind,
    pub(crate) format: Format,
}

/// How a streaming node's output or input is.
#[derive(Clone, Debug)]
pub(crate) struct EgressEvent {
    /// Its id.
    pub(crate) egress: String,
    pub(crate) condition: Condition,
    /// Of an input that has ever flowed.
    pub(crate) tracks: Vec<PulledTrack>,
}

/// A track of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PulledTrack {
    pub(crate) id: TrackId,
    pub(crate) kind: Kind,
    pub(crate) format: Format,
    pub(crate) resolution: Option<Resolution>,
}

/// What a mixer node tells of a view or a transcoder.
#[derive(Clone, Debug)]
pub(crate) struct MixerEvent {
    /// View label; empty for a transcoder.
    pub(crate) label: String,
    pub(crate) change: MixerChange,
}

#[derive(Clone, Debug)]
pub(crate) enum MixerChange {
    ActiveInput(StreamId),
    InputFailed {
        stream: StreamId,
        reason: String,
    },
    /// By its id.
    TranscoderFailed {
        transcoder: String,
        reason: String,
    },
}
