//! What comes out of a room: replies, notifications, calls.

use kaigi_proto::{
    ids::{ParticipantId, SessionId, TransportId},
    v1::{self, join_event::Event},
};

use super::{happenings::Happening, input::RequestId, media::Node, refusal::Refusal, stats::StatsPlan};

/// Names a call until it is answered. Never used twice in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CallId(pub(crate) u64);

/// What is to be done for a room, in this order.
#[derive(Debug)]
pub(crate) enum Output {
    Reply {
        request: RequestId,
        result: Result<Reply, Refusal>,
    },
    Notify {
        to: ParticipantId,
        event: Event,
    },
    /// To everybody who is in the room now.
    Broadcast {
        except: Option<ParticipantId>,
        event: Event,
    },
    /// The participant's event stream ends after what it was told so far.
    Close {
        participant: ParticipantId,
    },
    /// Calls to the same callee stay in order.
    Call {
        call: CallId,
        callee: Callee,
        request: CallRequest,
    },
    /// For whoever operates the room.
    Log(Note),
    /// For the service that the room belongs to.
    Happened(Happening),
    /// The room is over; nothing follows.
    Ended,
}

/// What an operator should know of.
#[derive(Debug)]
pub(crate) enum Note {
    InputFailed { view: String, stream: String, reason: String },
    TranscoderFailed { transcoder: String, reason: String },
    MixerFailed { part: Option<String>, reason: String },
    UnreadableTemplates { view: String, count: usize },
    SourceNotChanged { subscription: String, reason: String },
    SessionFailed { participant: String, session: String, reason: String },
    EgressFailed { egress: String, reason: String },
    AnalyticsEnded { analytics: String, reason: String },
}

/// Answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    Joined(Box<v1::Joined>),
    Session {
        session: SessionId,
        transport: TransportId,
        /// Where the data of a publication are exchanged, if it has any.
        data: Option<v1::DataSource>,
    },
    Participants(Vec<v1::Participant>),
    Participant(v1::Participant),
    Streams(Vec<v1::Stream>),
    Stream(Box<v1::Stream>),
    /// Its id; empty if there is none.
    Region(String),
    /// bit/s
    Bandwidth(u64),
    Stats(Box<StatsPlan>),
    Egress(Box<v1::Egress>),
    Egresses(Vec<v1::Egress>),
    Analytics(Box<v1::Analytics>),
    AllAnalytics(Vec<v1::Analytics>),
    Ingests(Vec<v1::Ingest>),
    /// One that is waited for.
    Ingest(Box<v1::Ingest>),
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Callee {
    Cluster,
    Access(Node),
    Mixer(Node),
    Streaming(Node),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CallRequest {
    Schedule(v1::ScheduleRequest),
    Release(v1::ReleaseRequest),
    OpenPublication(v1::OpenPublicationRequest),
    OpenSubscription(v1::OpenSubscriptionRequest),
    SetSource(v1::SetSourceRequest),
    SelectAudio(v1::SelectAudioRequest),
    AdoptRoom(v1::AdoptRoomRequest),
    AdoptTransports(v1::AdoptTransportsRequest),
    CloseSession(v1::CloseSessionRequest),
    CloseTransport(v1::CloseTransportRequest),
    Signal(v1::SignalTransportRequest),
    SetActive(v1::SetActiveRequest),
    SetView(Box<v1::ViewDescription>),
    RemoveView(v1::RemoveViewRequest),
    SetTranscoder(Box<v1::TranscoderDescription>),
    RemoveTranscoder(v1::RemoveTranscoderRequest),
    EstimateBandwidth(v1::EstimateBandwidthRequest),
    SetOutput(Box<v1::OutputDescription>),
    RemoveOutput(v1::RemoveOutputRequest),
    SetInput(Box<v1::InputDescription>),
    RemoveInput(v1::RemoveInputRequest),
}

impl CallRequest {
    /// Whether it ends something at a node, or may; must reach it however busy it is.
    pub(crate) fn is_closing(&self) -> bool {
        match self {
            Self::Release(_)
            | Self::CloseSession(_)
            | Self::CloseTransport(_)
            | Self::RemoveView(_)
            | Self::RemoveTranscoder(_)
            | Self::RemoveOutput(_)
            | Self::RemoveInput(_)
            | Self::AdoptRoom(_)
            | Self::AdoptTransports(_) => true,
            Self::Schedule(_)
            | Self::OpenPublication(_)
            | Self::OpenSubscription(_)
            | Self::SetSource(_)
            | Self::SelectAudio(_)
            | Self::Signal(_)
            | Self::SetActive(_)
            | Self::SetView(_)
            | Self::SetTranscoder(_)
            | Self::EstimateBandwidth(_)
            | Self::SetOutput(_)
            | Self::SetInput(_) => false,
        }
    }
}
