//! The beginning of a session: a place in the room, a publication or subscription there, and an answer to the offer.

use std::time::Duration;

use kaigi_proto::{
    ids::{RoomId, StreamId},
    v1::{MediaKind, PublishRequest, PublishTrack, SessionReply, Stream, SubscribeRequest, SubscribeTrack},
};

use super::{
    Doors,
    admission::Admission,
    error::WhipError,
    fragment::all_flow,
    offer::{Offer, Section},
    session::{Ids, Seat, Session},
};
use crate::{
    backend::{Newcomer, ROOM_TIMEOUT, Seated},
    ident::{new_participant_id, new_request_id},
};

/// What a client wants of a room.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish<'a> {
    Publish,
    Play(&'a StreamId),
}

/// Begins a session; gives it with the answer. Whatever was begun is taken back if that fails.
///
/// # Errors
/// Why it can't be.
pub(super) async fn begin(
    doors: &Doors,
    room: &RoomId,
    wish: Wish<'_>,
    offer: Offer,
    sections: Vec<Section>,
    admission: &Admission,
) -> Result<(Session, String), WhipError> {
    let participant = new_participant_id();
    let newcomer = Newcomer {
        room,
        participant: &participant,
        record: &admission.record,
        portal: &doors.signaling.worker_id,
        window: Duration::ZERO,
    };
    let Seated { conference, events, joined } = doors.signaling.backend.join(newcomer).await?;
    let seat = Seat { room: room.clone(), participant: participant.clone(), conference };
    let begun = async {
        let (ids, mids) = match wish {
            Wish::Publish => publish(&seat, &sections).await?,
            Wish::Play(stream) => {
                let stream = joined.streams.iter().find(|s| s.id == stream.as_str());
                play(&seat, stream.ok_or(WhipError::NoStream)?, sections).await?
            }
        };
        let (session, answer) = Session::negotiate(seat.clone(), events, ids, offer).await?;
        if all_flow(&answer, &mids) { Ok((session, answer)) } else { Err(WhipError::NoFormat) }
    };
    match begun.await {
        Ok(begun) => Ok(begun),
        Err(error) => {
            seat.leave().await;
            Err(error)
        }
    }
}

async fn publish(seat: &Seat, sections: &[Section]) -> Result<(Ids, Vec<String>), WhipError> {
    let track = |section: &Section| PublishTrack {
        kind: section.kind.into(),
        mid: section.mid.clone(),
        // What these clients send is not known; these are what SDKs take for granted.
        source: if section.kind == MediaKind::Audio { "mic" } else { "camera" }.to_owned(),
    };
    let message = PublishRequest {
        room_id: seat.room.to_string(),
        participant_id: seat.participant.to_string(),
        tracks: sections.iter().map(track).collect(),
        own_transport: true,
        request_id: new_request_id(),
        ..PublishRequest::default()
    };
    let call =
        seat.conference.call(ROOM_TIMEOUT, "conference.publish", message, |mut room, request| async move {
            room.publish(request).await
        });
    let SessionReply { session_id, transport_id, .. } = call.await?;
    let mids = sections.iter().map(|section| section.mid.clone()).collect();
    Ok((Ids { transport: transport_id, session: session_id.clone(), stream: session_id }, mids))
}

/// Plays what the stream has of what is asked for.
async fn play(seat: &Seat, stream: &Stream, sections: Vec<Section>) -> Result<(Ids, Vec<String>), WhipError> {
    let has = |kind: MediaKind| stream.tracks.iter().any(|track| track.kind() == kind);
    let sections: Vec<Section> = sections.into_iter().filter(|section| has(section.kind)).collect();
    if sections.is_empty() {
        return Err(WhipError::NothingInCommon);
    }
    let track = |section: &Section| SubscribeTrack {
        kind: section.kind.into(),
        mid: section.mid.clone(),
        from: stream.id.clone(),
        ..SubscribeTrack::default()
    };
    let message = SubscribeRequest {
        room_id: seat.room.to_string(),
        participant_id: seat.participant.to_string(),
        tracks: sections.iter().map(track).collect(),
        own_transport: true,
        request_id: new_request_id(),
        ..SubscribeRequest::default()
    };
    let call =
        seat.conference.call(ROOM_TIMEOUT, "conference.subscribe", message, |mut room, request| async move {
            room.subscribe(request).await
        });
    let SessionReply { session_id, transport_id, .. } = call.await?;
    let mids = sections.into_iter().map(|section| section.mid).collect();
    Ok((Ids { transport: transport_id, session: session_id, stream: stream.id.clone() }, mids))
}
