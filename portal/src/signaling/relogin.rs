//! `relogin`: back to a place in a room with a ticket, at this or any other portal.

use std::time::Duration;

use kaigi_proto::v1::{JoinEvent, ResumeRequest};
use serde_json::Value;
use tokio::time::Instant;
use tonic::Streaming;

use super::{Signaling, delivery::Delivery, login::new_ticket, room::Membership};
use crate::{
    backend::{CallError, Conference},
    clock::UnixMillis,
    ticket::{Holder, Ticket, TicketError},
};

/// Longest wait for the room.
const RESUME_TIMEOUT: Duration = Duration::from_secs(6);
/// Pause between attempts at an agent that can't be reached.
const RESUME_RETRY: Duration = Duration::from_millis(150);

/// Why a client can't come back. The text is what it is told (OWT's).
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloginError {
    #[error(transparent)]
    Ticket(#[from] TicketError),
    #[error("Client does NOT exist")]
    Gone,
    #[error("Reconnection is not allowed")]
    NotAllowed,
    #[error(transparent)]
    Call(#[from] CallError),
}

/// Gives a client its place back, and a new ticket. What it has missed comes first among the place's events.
pub(super) async fn relogin(shared: &Signaling, data: &Value) -> Result<(Membership, String), ReloginError> {
    let ticket = Ticket::parse(data.as_str().unwrap_or_default())?;
    let now = UnixMillis::now();
    let holder = ticket.verify(&shared.backend.secret("ticket-key").await?, now)?;
    if shared.reconnection.window.is_zero() {
        return Err(ReloginError::NotAllowed);
    }
    if shared.backend.lookup_room(&holder.room).await?.is_none() {
        return Err(ReloginError::Gone);
    }
    let kept_ms = ticket.not_after.saturating_sub(now.0) + 60_000;
    if !shared.backend.use_once(format!("ticket-{}", ticket.ticket_id), kept_ms).await? {
        return Err(TicketError::Expired.into());
    }
    let (conference, events) = resume(shared, &holder).await?;
    let fresh = new_ticket(shared, &holder).await?;
    let Holder { participant, room, version } = holder;
    let delivery = Delivery::default();
    let member = Membership { version, room, participant, conference, events, reconnectable: true, delivery };
    Ok((member, fresh))
}

async fn resume(
    shared: &Signaling,
    holder: &Holder,
) -> Result<(Conference, Streaming<JoinEvent>), ReloginError> {
    let give_up = Instant::now() + RESUME_TIMEOUT;
    loop {
        match tokio::time::timeout_at(give_up, attempt(shared, holder)).await {
            Ok(Err(ReloginError::Call(error)))
                if error.is_passing() && Instant::now() + RESUME_RETRY < give_up =>
            {
                tokio::time::sleep(RESUME_RETRY.mul_f64(0.5 + rand::random::<f64>())).await;
            }
            Ok(outcome) => return outcome,
            Err(_) => return Err(CallError::Timeout("conference.resume").into()),
        }
    }
}

async fn attempt(
    shared: &Signaling,
    holder: &Holder,
) -> Result<(Conference, Streaming<JoinEvent>), ReloginError> {
    let mut conference = shared.backend.lookup_room(&holder.room).await?.ok_or(ReloginError::Gone)?;
    let request = ResumeRequest {
        room_id: holder.room.to_string(),
        participant_id: holder.participant.to_string(),
        // What was delivered by the older connection, its portal has told the room.
        after_seq: 0,
        portal_worker_id: shared.worker_id.clone(),
    };
    match conference.resume(request).await {
        Ok(events) => Ok((conference, events.into_inner())),
        Err(status) => Err(match CallError::from_status("conference.resume", &status) {
            error if error.is_not_found() => ReloginError::Gone,
            error => error.into(),
        }),
    }
}
