//! The beginning of a session: a place in the room, a publication or subscription there, and an answer to the offer.

use std::time::Duration;

use kaigi_proto::{
    ids::{RoomId, StreamId},
    v1::{MediaKind, PublishRequest, SessionReply, Stream, SubscribeRequest},
};
use kaigi_room_client::{Line, Seat, Seated};

use super::{
    Doors,
    admission::Admission,
    error::WhipError,
    fragment::all_flow,
    offer::Offer,
    session::{Ids, Session},
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
    lines: Vec<Line>,
    admission: &Admission,
) -> Result<(Session, String), WhipError> {
    let Seated { seat, events, joined } =
        doors.signaling.join(room, &admission.record, Duration::ZERO).await?;
    let begun = async {
        let (ids, lines) = match wish {
            Wish::Publish => publish(&seat, lines).await?,
            Wish::Play(stream) => {
                let stream = joined.streams.iter().find(|s| s.id == stream.as_str());
                play(&seat, stream.ok_or(WhipError::NoStream)?, lines).await?
            }
        };
        let (session, answer) = Session::negotiate(seat.clone(), events, ids, offer).await?;
        if all_flow(&answer, &lines) { Ok((session, answer)) } else { Err(WhipError::NoFormat) }
    };
    match begun.await {
        Ok(begun) => Ok(begun),
        Err(error) => {
            seat.leave().await;
            Err(error)
        }
    }
}

async fn publish(seat: &Seat, lines: Vec<Line>) -> Result<(Ids, Vec<Line>), WhipError> {
    let own = PublishRequest { own_transport: true, ..PublishRequest::default() };
    let SessionReply { session_id, transport_id, .. } = seat.publish(&lines, own).await?;
    Ok((Ids { transport: transport_id, session: session_id.clone(), stream: session_id }, lines))
}

/// Plays what the stream has of what is asked for.
async fn play(seat: &Seat, stream: &Stream, lines: Vec<Line>) -> Result<(Ids, Vec<Line>), WhipError> {
    let has = |kind: MediaKind| stream.tracks.iter().any(|track| track.kind() == kind);
    let lines: Vec<Line> = lines.into_iter().filter(|line| has(line.kind)).collect();
    if lines.is_empty() {
        return Err(WhipError::NothingInCommon);
    }
    let own = SubscribeRequest { own_transport: true, ..SubscribeRequest::default() };
    let SessionReply { session_id, transport_id, .. } = seat.subscribe(&stream.id, &lines, own).await?;
    Ok((Ids { transport: transport_id, session: session_id, stream: stream.id.clone() }, lines))
}
