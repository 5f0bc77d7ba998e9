//! The door for what comes from other processes: protocol messages become the room's own types, or are refused.

mod egress;

pub(crate) use egress::{
    egress_event, listen_ingest, start_analytics, start_egress, start_ingest, update_egress,
};

use kaigi_proto::{
    ids::{IdError, ParticipantId, RoomId, SessionId, StreamId, SubscriptionId, TrackId, TransportId},
    v1,
};
use tonic::Status;

use crate::directory::News;
use crate::room::RequestKey;
use crate::room::{
    AccessChange, AccessEvent, Command, Counted, Filter, Format, Join, Kind, Kinds, LayoutAssignment,
    Loudness, MadeOutputs, MixerChange, MixerEvent, Negotiated, PermissionChange, Publish, PublishTrack,
    Receiver, RequestedLayout, Source, StreamOperation, Subscribe, SubscribeTrack, SubscriptionUpdate,
    TrackUpdate, VideoParameters, ViewOutputs, Wish, resolution_from_wire,
};

/// Longest text message, in bytes. OWT documents 2048 characters and does not enforce them; clients rely on that.
const MAX_TEXT: usize = 64 << 10;
/// Longest JSON text of a user or of a stream's attributes, in bytes: it is told to everybody in the room.
const MAX_JSON: usize = 64 << 10;
/// Longest SDP, in bytes. A client that sees a hundred streams offers about 200 kB.
const MAX_SDP: usize = 768 << 10;
/// Longest ICE candidate, in bytes.
const MAX_CANDIDATE: usize = 1024;
/// Most candidates removed at once.
const MAX_CANDIDATES: usize = 256;
/// Longest mid, in bytes: it is part of track ids.
const MAX_MID: usize = 64;
/// Longest role, view label or place name, in bytes.
const MAX_NAME: usize = 128;
/// Most operations on a stream at once.
const MAX_OPERATIONS: usize = 64;
/// Most publications whose loudness one event tells: those in slots, and as many that may take their places.
const MAX_SPEAKERS: usize = 64;
/// Loudest, in tenths of a decibel above silence.
const MAX_LOUDNESS: u32 = 1000;

type Parsed<T> = Result<T, Status>;

fn invalid(text: impl Into<String>) -> Status {
    Status::invalid_argument(text)
}

fn bad_id(error: IdError) -> Status {
    invalid(error.to_string())
}

fn bounded(text: String, most: usize, what: &str) -> Parsed<String> {
    if text.len() > most { Err(invalid(format!("{what} is longer than {most} bytes"))) } else { Ok(text) }
}

fn json(text: String, what: &str) -> Parsed<String> {
    let text = bounded(text, MAX_JSON, what)?;
    match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(invalid(format!("{what} is no JSON"))),
    }
}

/// What a requester calls its request; `None` if it does not.
pub(crate) fn request_key(text: String) -> Result<Option<RequestKey>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    RequestKey::new(text).map(Some).ok_or_else(|| Status::invalid_argument("request_id is none"))
}

pub(crate) fn room_id(id: &str) -> Parsed<RoomId> {
    RoomId::new(id).map_err(bad_id)
}

pub(crate) fn participant_id(id: &str) -> Parsed<ParticipantId> {
    ParticipantId::new(id).map_err(bad_id)
}

pub(crate) fn join(request: v1::JoinRequest) -> Parsed<Join> {
    let user = if request.user.is_empty() { "null".to_owned() } else { request.user };
    Ok(Join {
        participant: participant_id(&request.participant_id)?,
        user: json(user, "user")?,
        role: bounded(request.role, MAX_NAME, "role")?,
        isp: bounded(request.isp, MAX_NAME, "isp")?,
        region: bounded(request.region, MAX_NAME, "region")?,
    })
}

pub(crate) fn leave(request: &v1::LeaveRoomRequest) -> Parsed<Command> {
    Ok(Command::Leave { participant: participant_id(&request.participant_id)? })
}

pub(crate) fn drop_participant(request: &v1::ParticipantRequest) -> Parsed<Command> {
    Ok(Command::DropParticipant { participant: participant_id(&request.participant_id)? })
}

pub(crate) fn update_participant(request: &v1::UpdateParticipantRequest) -> Parsed<Command> {
    let change = PermissionChange {
        publish_audio: request.publish_audio,
        publish_video: request.publish_video,
        subscribe_audio: request.subscribe_audio,
        subscribe_video: request.subscribe_video,
    };
    Ok(Command::UpdateParticipant { participant: participant_id(&request.participant_id)?, change })
}

pub(crate) fn publish(request: v1::PublishRequest) -> Parsed<Command> {
    let mut tracks: Vec<PublishTrack> = Vec::new();
    for track in request.tracks {
        let kind = kind(track.kind)?;
        tracks.push(PublishTrack { kind, mid: mid(track.mid)?, source: known_source(kind, track.source) });
    }
    different(tracks.iter().map(|track| (track.kind, track.mid.as_str())), request.data)?;
    Ok(Command::Publish(Publish {
        participant: participant_id(&request.participant_id)?,
        tracks,
        data: request.data,
        any_label: request.any_label,
        attributes: some(request.attributes).map(|text| json(text, "attributes")).transpose()?,
        transport: transport(&request.transport_id)?,
        own_transport: request.own_transport,
    }))
}

pub(crate) fn subscribe(request: v1::SubscribeRequest) -> Parsed<Command> {
    let mut tracks: Vec<SubscribeTrack> = Vec::new();
    for track in request.tracks {
        tracks.push(SubscribeTrack {
            kind: kind(track.kind)?,
            mid: mid(track.mid)?,
            from: bounded(track.from, kaigi_proto::ids::MAX_ID_LENGTH, "from")?,
            rid: some(bounded(track.rid, MAX_NAME, "rid")?),
            wish: Wish {
                format: track.format.filter(|format| !format.codec.is_empty()).map(Format::from_wire),
                parameters: track.parameters.map(VideoParameters::from_wire).unwrap_or_default(),
                bitrate_multiplier: some(bounded(track.bitrate_multiplier, MAX_NAME, "bitrate")?),
                priority: track.priority,
            },
        });
    }
    let data_from = some(bounded(request.data_from, kaigi_proto::ids::MAX_ID_LENGTH, "data_from")?);
    different(tracks.iter().map(|track| (track.kind, track.mid.as_str())), data_from.is_some())?;
    Ok(Command::Subscribe(Subscribe {
        participant: participant_id(&request.participant_id)?,
        tracks,
        data_from,
        transport: transport(&request.transport_id)?,
        own_transport: request.own_transport,
    }))
}

/// At least one track or data, at most one track of each kind, each with a mid of its own.
fn different<'a>(tracks: impl Iterator<Item = (Kind, &'a str)>, data: bool) -> Parsed<()> {
    let tracks: Vec<_> = tracks.collect();
    if tracks.is_empty() && !data {
        return Err(invalid("Neither tracks nor data"));
    }
    for (i, (kind, mid)) in tracks.iter().enumerate() {
        if tracks[..i].iter().any(|(other, _)| other == kind) {
            return Err(invalid(format!("More than one {} track", kind.name())));
        }
        if tracks[..i].iter().any(|(_, other)| other == mid) {
            return Err(invalid(format!("mid {mid} is used twice")));
        }
    }
    Ok(())
}

fn kind(kind: i32) -> Parsed<Kind> {
    Kind::from_wire(kind).ok_or_else(|| invalid("A track is neither audio nor video"))
}

fn mid(mid: String) -> Parsed<String> {
    if mid.len() <= MAX_MID && TrackId::new(&mid).is_ok() { Ok(mid) } else { Err(invalid("Invalid mid")) }
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Only what receivers' SDKs can take; they throw at anything else.
fn known_source(kind: Kind, source: String) -> Option<String> {
    let known: &[&str] = match kind {
        Kind::Audio => &["mic", "screen-cast", "file", "mixed"],
        Kind::Video => &["camera", "screen-cast", "file", "encoded-file", "raw-file", "mixed"],
    };
    known.contains(&source.as_str()).then_some(source)
}

fn transport(id: &str) -> Parsed<Option<TransportId>> {
    if id.is_empty() {
        return Ok(None);
    }
    TransportId::new(id).map(Some).map_err(|_| Status::not_found("Transport does NOT exist"))
}

pub(crate) fn unpublish(request: &v1::EndSessionRequest) -> Parsed<Command> {
    let stream = StreamId::new(&request.session_id).map_err(|_| invalid("Invalid stream id"))?;
    Ok(Command::Unpublish { participant: participant_id(&request.participant_id)?, stream })
}

pub(crate) fn unsubscribe(request: &v1::EndSessionRequest) -> Parsed<Command> {
    let subscription =
        SubscriptionId::new(&request.session_id).map_err(|_| invalid("Invalid subscription id"))?;
    Ok(Command::Unsubscribe { participant: participant_id(&request.participant_id)?, subscription })
}

pub(crate) fn control_stream(request: v1::ControlRequest) -> Parsed<Command> {
    use v1::control_request::Operation;
    let status = |kinds: v1::KindFlags, active| StreamOperation::Status {
        kinds: Kinds::from(kinds),
        active,
        repeat: true,
    };
    let participant = participant_id(&request.participant_id)?;
    let stream = StreamId::new(&request.id).map_err(|_| invalid("Invalid stream id"))?;
    let operation = match request.operation.ok_or_else(|| invalid("Invalid operation"))? {
        Operation::Pause(kinds) => status(kinds, false),
        Operation::Play(kinds) => status(kinds, true),
        Operation::Mix(view) => StreamOperation::Mix(bounded(view, MAX_NAME, "view")?),
        Operation::Unmix(view) => StreamOperation::Unmix(bounded(view, MAX_NAME, "view")?),
        Operation::SetRegion(set) => StreamOperation::SetRegion {
            view: bounded(set.view, MAX_NAME, "view")?,
            region: bounded(set.region, MAX_NAME, "region")?,
        },
        Operation::GetRegion(view) => {
            let view = bounded(view, MAX_NAME, "view")?;
            return Ok(Command::GetRegion { participant, stream, view });
        }
        Operation::Update(_) | Operation::QueryBandwidth(_) => return Err(invalid("Invalid operation")),
    };
    Ok(Command::ControlStream { participant, stream, operations: vec![operation] })
}

pub(crate) fn control_subscription(request: v1::ControlRequest) -> Parsed<Command> {
    use v1::control_request::Operation;
    let participant = participant_id(&request.participant_id)?;
    let subscription = SubscriptionId::new(&request.id).map_err(|_| invalid("Invalid subscription id"))?;
    let (kinds, active) = match request.operation {
        Some(Operation::Pause(kinds)) => (kinds, false),
        Some(Operation::Play(kinds)) => (kinds, true),
        Some(Operation::Update(update)) => {
            let (by, update) = (Some(participant), subscription_update(update)?);
            return Ok(Command::UpdateSubscription { by, subscription, update });
        }
        Some(Operation::QueryBandwidth(v1::QueryBandwidth {})) => {
            return Ok(Command::QueryBandwidth { participant, subscription });
        }
        Some(Operation::Mix(_) | Operation::Unmix(_) | Operation::SetRegion(_) | Operation::GetRegion(_))
        | None => return Err(invalid("Invalid operation")),
    };
    Ok(Command::ControlSubscription { participant, subscription, kinds: kinds.into(), active })
}

pub(crate) fn subscription_update(update: v1::SubscriptionUpdate) -> Parsed<SubscriptionUpdate> {
    let track = |track: v1::TrackUpdate| -> Parsed<TrackUpdate> {
        Ok(TrackUpdate {
            from: some(bounded(track.from, kaigi_proto::ids::MAX_ID_LENGTH, "from")?),
            parameters: track.parameters.map(VideoParameters::from_wire).unwrap_or_default(),
            bitrate_multiplier: some(bounded(track.bitrate_multiplier, MAX_NAME, "bitrate")?),
            priority: track.priority,
        })
    };
    Ok(SubscriptionUpdate {
        audio: update.audio.map(track).transpose()?.map(|audio| {
            let from = audio.from;
            TrackUpdate { from, ..TrackUpdate::default() }
        }),
        video: update.video.map(track).transpose()?,
    })
}

pub(crate) fn signal(request: v1::SignalRequest) -> Parsed<Command> {
    use v1::{signal_request::Signal, signal_transport_request::Signal as ToNode};
    let candidate = |candidate: v1::IceCandidate| -> Parsed<v1::IceCandidate> {
        Ok(v1::IceCandidate {
            candidate: bounded(candidate.candidate, MAX_CANDIDATE, "candidate")?,
            sdp_mid: bounded(candidate.sdp_mid, MAX_MID, "sdpMid")?,
            sdp_mline_index: candidate.sdp_mline_index,
        })
    };
    let signal = match request.signal.ok_or_else(|| invalid("Invalid signaling type"))? {
        Signal::Offer(sdp) => ToNode::Offer(bounded(sdp, MAX_SDP, "sdp")?),
        Signal::Candidate(one) => ToNode::Candidate(candidate(one)?),
        Signal::RemovedCandidates(removed) => {
            if removed.candidates.len() > MAX_CANDIDATES {
                return Err(invalid("Too many candidates"));
            }
            let candidates = removed.candidates.into_iter().map(candidate).collect::<Parsed<_>>()?;
            ToNode::RemovedCandidates(v1::RemovedCandidates { candidates })
        }
    };
    let unknown =
        |_| Status::not_found(format!("Transport {} does NOT exist", printable(&request.transport_id)));
    Ok(Command::Signal {
        participant: participant_id(&request.participant_id)?,
        transport: TransportId::new(&request.transport_id).map_err(unknown)?,
        signal,
    })
}

/// The start of a text that came from outside, fit for a message.
fn printable(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic()).take(64).collect()
}

pub(crate) fn text(request: v1::TextRequest) -> Parsed<Command> {
    let to = match request.to.as_str() {
        "all" => Receiver::All,
        "" => return Err(invalid("Invalid receiver")),
        one => Receiver::One(ParticipantId::new(one).map_err(|_| {
            Status::not_found(format!("Target participant does NOT exist: {}", printable(one)))
        })?),
    };
    let message = bounded(request.message, MAX_TEXT, "message")?;
    Ok(Command::Text { from: participant_id(&request.participant_id)?, to, message })
}

pub(crate) fn update_stream(request: v1::UpdateStreamRequest) -> Parsed<Command> {
    use v1::stream_operation::Operation;
    if request.operations.len() > MAX_OPERATIONS {
        return Err(invalid("Too many operations"));
    }
    let mut operations = Vec::new();
    for operation in request.operations {
        operations.push(match operation.operation.ok_or_else(|| invalid("Invalid operation"))? {
            Operation::Mix(view) => StreamOperation::Mix(bounded(view, MAX_NAME, "view")?),
            Operation::Unmix(view) => StreamOperation::Unmix(bounded(view, MAX_NAME, "view")?),
            Operation::Status(status) => {
                let kind = kind(status.kind)?;
                let kinds = Kinds { audio: kind == Kind::Audio, video: kind == Kind::Video };
                StreamOperation::Status { kinds, active: status.active, repeat: false }
            }
            Operation::Layout(layout) => StreamOperation::Layout(
                RequestedLayout::from_wire(layout).map_err(|error| invalid(error.to_string()))?,
            ),
            Operation::Assignment(assignment) => StreamOperation::Assignment(LayoutAssignment {
                index: usize::try_from(assignment.index).map_err(|_| invalid("Invalid region"))?,
                stream: StreamId::new(assignment.stream_id)
                    .map_err(|_| invalid("Invalid input stream id"))?,
            }),
            Operation::Filter(name) => StreamOperation::Filter(filter(&name, "")?),
            Operation::SetFilter(v1::StreamFilter { name, parameters }) => {
                StreamOperation::Filter(filter(&name, &parameters)?)
            }
        });
    }
    let stream = StreamId::new(&request.stream_id).map_err(|_| Status::not_found("Stream does NOT exist"))?;
    Ok(Command::UpdateStream { stream, operations })
}

fn filter(name: &str, parameters: &str) -> Parsed<Filter> {
    Filter::new(name, parameters).map_err(|error| invalid(error.to_string()))
}

pub(crate) fn delete_stream(request: &v1::StreamRequest) -> Parsed<Command> {
    let stream = StreamId::new(&request.stream_id).map_err(|_| Status::not_found("Stream does NOT exist"))?;
    Ok(Command::DeleteStream { stream })
}

pub(crate) fn counted(request: &v1::RoomStatsRequest) -> Parsed<Counted> {
    match (request.stream_id.as_str(), request.subscription_id.as_str()) {
        ("", "") => Ok(Counted::All),
        (stream, "") => {
            StreamId::new(stream).map(Counted::Stream).map_err(|_| Status::not_found("Stream does NOT exist"))
        }
        ("", subscription) => SubscriptionId::new(subscription)
            .map(Counted::Subscription)
            .map_err(|_| Status::not_found("Subscription does NOT exist")),
        (_, _) => Err(invalid("Either a stream or a subscription")),
    }
}

/// The room and the event; `None` for an event that makes no sense.
pub(crate) fn access_event(event: v1::AccessEvent) -> Option<(RoomId, News)> {
    use v1::access_event::Event;
    let change = match event.event? {
        Event::Answer(sdp) => AccessChange::Answer(sdp),
        Event::TransportReady(v1::TransportReady {}) => AccessChange::Ready,
        Event::SessionEstablished(established) => AccessChange::Established {
            session: SessionId::new(established.session_id).ok()?,
            tracks: established.tracks.into_iter().filter_map(negotiated).collect(),
        },
        Event::SessionFailed(failed) => AccessChange::SessionFailed {
            session: SessionId::new(failed.session_id).ok()?,
            reason: failed.reason,
        },
        Event::TransportFailed(reason) => AccessChange::Failed { reason },
        Event::Resolution(change) => AccessChange::Resolution {
            track: TrackId::new(change.track_id).ok()?,
            resolution: change.resolution.and_then(resolution_from_wire)?,
            layers: change.layers.into_iter().filter_map(resolution_from_wire).collect(),
            temporal: change.temporal_layers,
        },
        Event::WantedLayers(wanted) => AccessChange::WantedLayers {
            session: SessionId::new(wanted.session_id).ok()?,
            layers: wanted
                .layers
                .into_iter()
                .filter_map(|layer| Some((TrackId::new(layer.track_id).ok()?, layer.wanted)))
                .collect(),
        },
        Event::Speakers(levels) => {
            let heard = levels.speakers.into_iter().take(MAX_SPEAKERS).filter_map(speaker).collect();
            return Some((RoomId::new(event.room_id).ok()?, News::Speakers(heard)));
        }
    };
    let transport = TransportId::new(event.transport_id).ok()?;
    Some((
        RoomId::new(event.room_id).ok()?,
        News::Access(AccessEvent { transport, answer: event.answer_number, change }),
    ))
}

fn speaker(level: v1::SpeakerLevel) -> Option<(TrackId, Loudness)> {
    let v1::SpeakerLevel { track_id, immediate, medium, long } = level;
    let most = |level: u32| level.min(MAX_LOUDNESS);
    let loudness = Loudness { immediate: most(immediate), medium: most(medium), long: most(long) };
    Some((TrackId::new(track_id).ok()?, loudness))
}

/// `None` for a track without a usable format.
fn negotiated(track: v1::NegotiatedTrack) -> Option<Negotiated> {
    Some(Negotiated {
        track: (!track.track_id.is_empty()).then(|| TrackId::new(track.track_id)).transpose().ok()?,
        kind: Kind::from_wire(track.kind)?,
        format: track.format.filter(|format| !format.codec.is_empty()).map(Format::from_wire)?,
        mid: track.mid,
    })
}

/// The room and the event; `None` for an event that makes no sense.
pub(crate) fn mixer_event(event: v1::MixerEvent) -> Option<(RoomId, MixerEvent)> {
    use v1::mixer_event::Event;
    let change = match event.event? {
        Event::ActiveInput(stream) => MixerChange::ActiveInput(StreamId::new(stream).ok()?),
        Event::InputFailed(failed) => {
            MixerChange::InputFailed { stream: StreamId::new(failed.stream_id).ok()?, reason: failed.reason }
        }
        Event::TranscoderFailed(failed) => {
            MixerChange::TranscoderFailed { transcoder: failed.id, reason: failed.reason }
        }
    };
    Some((RoomId::new(event.room_id).ok()?, MixerEvent { label: event.label, change }))
}

/// Where a view's tracks are.
pub(crate) fn view_outputs(reply: v1::ViewReply) -> ViewOutputs {
    let minus = reply.minus_audio.into_iter().filter_map(|own| {
        let participant = ParticipantId::new(own.participant_id).ok()?;
        Some((participant, own.audio.and_then(Source::from_wire)?))
    });
    let layers = reply.layers.into_iter().filter_map(|layer| layer.source.and_then(Source::from_wire));
    ViewOutputs {
        layers: layers.collect(),
        minus: minus.collect(),
        video: reply.video.and_then(Source::from_wire),
        audio: reply.audio.and_then(Source::from_wire),
        others: MadeOutputs::from_wire(reply.outputs, reply.failures),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audio(mid: &str) -> v1::PublishTrack {
        v1::PublishTrack { kind: v1::MediaKind::Audio.into(), mid: mid.into(), source: "mic".into() }
    }

    fn video(mid: &str) -> v1::PublishTrack {
        v1::PublishTrack { kind: v1::MediaKind::Video.into(), mid: mid.into(), source: "streaming".into() }
    }

    fn published(tracks: Vec<v1::PublishTrack>) -> Parsed<Command> {
        publish(v1::PublishRequest { participant_id: "p".into(), tracks, ..Default::default() })
    }

    #[test]
    fn a_subscribed_track_is_negotiated_before_it_has_a_source() {
        let wire = v1::NegotiatedTrack {
            mid: "1".into(),
            kind: v1::MediaKind::Video.into(),
            track_id: String::new(),
            format: Some(v1::MediaFormat { codec: "vp9".into(), ..v1::MediaFormat::default() }),
        };
        let track = negotiated(wire.clone()).unwrap();
        assert_eq!((track.track, track.mid.as_str(), track.format.codec.as_str()), (None, "1", "vp9"));
        assert_eq!(negotiated(v1::NegotiatedTrack { track_id: "a b".into(), ..wire.clone() }), None);
        assert_eq!(negotiated(v1::NegotiatedTrack { format: None, ..wire }), None);
    }

    #[test]
    fn tracks_are_one_of_each_kind_with_different_mids() {
        assert!(published(vec![audio("0"), video("1")]).is_ok());
        for bad in [
            vec![],
            vec![audio("0"), audio("1")],
            vec![audio("0"), video("0")],
            vec![audio("")],
            vec![audio("a/b")],
        ] {
            assert_eq!(published(bad).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
    }

    #[test]
    fn data_may_come_without_tracks() {
        let data = v1::PublishRequest { participant_id: "p".into(), data: true, ..Default::default() };
        assert!(matches!(publish(data), Ok(Command::Publish(publish)) if publish.data));
        let wanted = |data_from: &str| {
            subscribe(v1::SubscribeRequest {
                participant_id: "p".into(),
                data_from: data_from.into(),
                ..Default::default()
            })
        };
        assert!(matches!(wanted("s"), Ok(Command::Subscribe(s)) if s.data_from.as_deref() == Some("s")));
        assert!(wanted("").is_err());
        assert!(wanted(&"s".repeat(1000)).is_err());
    }

    #[test]
    fn a_source_that_sdks_throw_at_is_left_out() {
        let Command::Publish(publish) = published(vec![audio("0"), video("1")]).unwrap() else { panic!() };
        assert_eq!(publish.tracks[0].source.as_deref(), Some("mic"));
        assert_eq!(publish.tracks[1].source, None);
    }

    #[test]
    fn texts_are_bounded() {
        let send = |message: String| {
            text(v1::TextRequest {
                participant_id: "p".into(),
                to: "all".into(),
                message,
                ..Default::default()
            })
        };
        assert!(send("x".repeat(MAX_TEXT)).is_ok());
        assert!(send("x".repeat(MAX_TEXT + 1)).is_err());
    }

    #[test]
    fn a_user_must_be_json() {
        let user = |user: &str| {
            join(v1::JoinRequest { participant_id: "p".into(), user: user.into(), ..Default::default() })
        };
        assert_eq!(user("").unwrap().user, "null");
        assert!(user("{\"a\": 1}").is_ok());
        assert!(user("{a}").is_err());
        assert!(user(&"[".repeat(10_000)).is_err());
    }

    #[test]
    fn events_that_make_no_sense_are_none() {
        assert!(access_event(v1::AccessEvent::default()).is_none());
        assert!(mixer_event(v1::MixerEvent::default()).is_none());
        let event = v1::AccessEvent {
            room_id: "r".into(),
            transport_id: "a b".into(),
            event: Some(v1::access_event::Event::Answer("v=0".into())),
            ..Default::default()
        };
        assert!(access_event(event).is_none());
    }
}
