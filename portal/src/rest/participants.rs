//! Participants of a live room.

use axum::response::Response;
use kaigi_proto::{
    ids::{ParticipantId, RoomId},
    v1::Participant,
};
use serde_json::Value;

use super::{Management, empty_response, error::RestError, json_response};
use crate::protocol::notification::{participant_info, permission};

/// `GET participants`
pub(super) async fn list(api: &Management, room: &RoomId) -> Result<Response, RestError> {
    let participants = api.backend.participants(room).await?.unwrap_or_default();
    Ok(json_response(participants.iter().map(shown).collect()))
}

/// `GET participants/:participant`
pub(super) async fn get(api: &Management, room: &RoomId, id: &ParticipantId) -> Result<Response, RestError> {
    let participants = api.backend.participants(room).await?.unwrap_or_default();
    let found = participants.iter().find(|p| p.id == id.as_str()).ok_or(RestError::ParticipantNotFound)?;
    Ok(json_response(shown(found)))
}

/// `DELETE participants/:participant`
pub(super) async fn drop(api: &Management, room: &RoomId, id: &ParticipantId) -> Result<Response, RestError> {
    api.backend.drop_participant(room, id).await?;
    tracing::info!(%room, participant = %id, "dropped by management");
    Ok(empty_response())
}

fn shown(participant: &Participant) -> Value {
    let mut shown = participant_info(participant);
    shown["permission"] = permission(participant.permission.as_ref());
    shown
}
