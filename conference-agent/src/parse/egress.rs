//! Recordings, broadcasts, and streams from elsewhere.

use kaigi_proto::{ids::RoomId, v1};

use super::{MAX_NAME, Parsed, bounded, invalid, json, kind, some, subscription_update};
use crate::room::{
    Command, Condition, EgressEvent, EgressMedia, EgressTarget, EgressWhat, Format, IngestSource, IngestWish,
    Kind, Kinds, Listen, PulledTrack, Segments, StartAnalytics, StartEgress, StartIngest, VideoParameters,
    Wish,
};

/// Longest URL, in bytes.
const MAX_URL: usize = 2048;

/// Longest parameters of an algorithm, in bytes of JSON.
const MAX_PARAMETERS: usize = 4096;

/// The room and how an output or input is; `None` for an event that makes no sense.
pub(crate) fn egress_event(event: v1::OutputEvent) -> Option<(RoomId, EgressEvent)> {
    let condition = match event.state() {
        v1::OutputState::Unspecified => return None,
        v1::OutputState::Starting => Condition::Starting,
        v1::OutputState::Active => Condition::Active,
        v1::OutputState::Trouble => Condition::Trouble(event.reason),
        v1::OutputState::Failed => Condition::Failed(event.reason),
    };
    let tracks = event.tracks.into_iter().filter_map(PulledTrack::from_wire).collect();
    Some((RoomId::new(event.room_id).ok()?, EgressEvent { egress: event.id, condition, tracks }))
}

pub(crate) fn start_egress(request: v1::StartEgressRequest) -> Parsed<Command> {
    use v1::start_egress_request::Target;
    let mut media: Vec<EgressMedia> = Vec::new();
    for one in request.media {
        let kind = kind(one.kind)?;
        if media.iter().any(|other| other.kind == kind) {
            return Err(invalid("two tracks of a kind"));
        }
        media.push(egress_media(one, kind)?);
    }
    let each = request.each.map(Kinds::from).filter(|kinds| kinds.any());
    let is_recording = matches!(request.target, Some(Target::Recording(_)));
    let what = match each {
        Some(kinds) if is_recording && media.is_empty() => EgressWhat::Each(kinds),
        None if !media.is_empty() => EgressWhat::Media(media),
        Some(_) => return Err(invalid("each stream apart can be recorded, and nothing beside")),
        None => return Err(invalid("neither audio nor video")),
    };
    let target = match request.target.ok_or_else(|| invalid("no target"))? {
        Target::Recording(recording) => EgressTarget::Recording {
            container: recording.container,
            name: bounded(recording.name, MAX_NAME, "name")?,
        },
        Target::Broadcast(broadcast) => EgressTarget::Broadcast {
            protocol: broadcast.protocol,
            url: bounded(broadcast.url, MAX_URL, "url")?,
            segments: broadcast.segments.map(Segments::from_wire),
        },
    };
    Ok(Command::StartEgress(StartEgress { target, what }))
}

fn egress_media(media: v1::EgressMedia, kind: Kind) -> Parsed<EgressMedia> {
    Ok(EgressMedia {
        kind,
        from: bounded(media.from, kaigi_proto::ids::MAX_ID_LENGTH, "from")?,
        wish: Wish {
            format: media.format.filter(|format| !format.codec.is_empty()).map(Format::from_wire),
            parameters: media.parameters.map(VideoParameters::from_wire).unwrap_or_default(),
            bitrate_multiplier: some(bounded(media.bitrate_multiplier, MAX_NAME, "bitrate")?),
            priority: 0,
        },
    })
}

pub(crate) fn start_analytics(request: v1::StartAnalyticsRequest) -> Parsed<Command> {
    let media = request.media.ok_or_else(|| invalid("no media"))?;
    let kind = kind(media.kind)?;
    Ok(Command::StartAnalytics(StartAnalytics {
        algorithm: bounded(request.algorithm, MAX_NAME, "algorithm")?,
        parameters: bounded(request.parameters, MAX_PARAMETERS, "parameters")?,
        media: egress_media(media, kind)?,
    }))
}

pub(crate) fn update_egress(request: v1::UpdateEgressRequest) -> Parsed<Command> {
    Ok(Command::UpdateEgress {
        egress: request.egress_id,
        update: subscription_update(request.update.unwrap_or_default())?,
        active: [request.audio_active, request.video_active],
    })
}

/// One that is pulled.
pub(crate) fn start_ingest(request: v1::StartIngestRequest) -> Parsed<Command> {
    match request.listen_key.is_empty() {
        true => ingest(request, None),
        false => Err(invalid("what is pulled has no stream key")),
    }
}

/// One that is pushed.
pub(crate) fn listen_ingest(mut request: v1::StartIngestRequest) -> Parsed<Command> {
    let key = some(bounded(std::mem::take(&mut request.listen_key), MAX_NAME, "key")?);
    let protocol = bounded(std::mem::take(&mut request.listen_protocol), MAX_NAME, "protocol")?;
    match key {
        Some(key) if request.url.is_empty() => ingest(request, Some(Listen { key, protocol })),
        _ => Err(invalid("what is pushed has a stream key, and no URL")),
    }
}

fn ingest(request: v1::StartIngestRequest, listen: Option<Listen>) -> Parsed<Command> {
    let wish = |wish: i32| -> Parsed<IngestWish> {
        let wish = v1::InputWish::try_from(wish).map_err(|_| invalid("no such wish"))?;
        Ok(IngestWish::from_wire(wish))
    };
    let (audio, video) = (wish(request.audio)?, wish(request.video)?);
    if (audio, video) == (IngestWish::Not, IngestWish::Not) {
        return Err(invalid("neither audio nor video"));
    }
    Ok(Command::StartIngest(StartIngest {
        from: IngestSource {
            url: bounded(request.url, MAX_URL, "url")?,
            listen,
            udp: request.udp,
            buffer: request.buffer_size,
            audio,
            video,
        },
        attributes: some(request.attributes).map(|text| json(text, "attributes")).transpose()?,
    }))
}
