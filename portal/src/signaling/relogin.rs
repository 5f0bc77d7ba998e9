//! `relogin`: back to a place in a room with a ticket, at this or any other portal.

use std::time::Duration;

use kaigi_proto::v1::{JoinEvent, ResumeRequest};
use kaigi_room_client::{Events, RoomAgent, Seat};
use serde_json::Value;
use tokio::time::Instant;
use tonic::Streaming;

use super::{
    Signaling,
    delivery::Delivery,
    login::new_ticket,
    room::{Membership, Used},
};
use crate::{
    backend::CallError,
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

/// What a client comes back with: its ticket and, from the project's own SDK, the number of the last notification that it has.
fn credentials(data: &Value) -> (&str, Option<u64>) {
    match data {
        Value::String(ticket) => (ticket, None),
        _ => (data["ticket"].as_str().unwrap_or_default(), data["seq"].as_u64()),
    }
}

/// Gives a client its place back, and a new ticket. What it has missed comes first among the place's events. `delivery` is that
/// of its new socket.
pub(super) async fn relogin(
    shared: &Signaling,
    data: &Value,
    delivery: Delivery,
) -> Result<(Membership, String), ReloginError> {
    let (text, seq) = credentials(data);
    let ticket = Ticket::parse(text)?;
    let now = UnixMillis::now();
    let holder = ticket.verify(&shared.backend.secret("ticket-key").await?, now)?;
    if shared.reconnection.window.is_zero() {
        return Err(ReloginError::NotAllowed);
    }
    match shared.backend.rooms.lookup(&holder.room).await {
        Ok(Some(_)) => {}
        Ok(None) => return Err(ReloginError::Gone),
        // It is looked for again.
        Err(error) if error.is_passing() => {
            tracing::debug!(room = %holder.room, %error, "the room is not found")
        }
        Err(error) => return Err(error.into()),
    }
    let kept_ms = ticket.not_after.saturating_sub(now.0) + 60_000;
    let first = shared.backend.use_once(ticket.first_use(), kept_ms).await?;
    if !first && !shared.backend.use_once(ticket.second_use(), kept_ms).await? {
        return Err(TicketError::Expired.into());
    }
    let fresh = new_ticket(shared, &holder).await?;
    // A client that counts knows best. What another portal has delivered, it has told the room.
    let counted = seq.filter(|_| holder.version.is_numbered());
    let after = counted.unwrap_or_else(|| shared.seats.delivered(&holder.participant));
    let (conference, events) = resume(shared, &holder, (after, counted.is_some())).await?;
    let seat = shared.seats.take(holder.participant.clone());
    seat.delivered(after);
    let Holder { participant, room, version } = holder;
    let events = Events::new(conference.clone(), events, &room, &participant, shared.worker_id.clone(), 0);
    let member = Membership {
        version,
        place: Seat { room, participant, conference },
        events,
        reconnectable: true,
        delivery,
        seat,
        used_ticket: first.then_some(Used { ticket, kept_ms }),
    };
    Ok((member, fresh))
}

async fn resume(
    shared: &Signaling,
    holder: &Holder,
    after: (u64, bool),
) -> Result<(RoomAgent, Streaming<JoinEvent>), ReloginError> {
    let give_up = Instant::now() + RESUME_TIMEOUT;
    loop {
        match tokio::time::timeout_at(give_up, attempt(shared, holder, after)).await {
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
    (after_seq, exact): (u64, bool),
) -> Result<(RoomAgent, Streaming<JoinEvent>), ReloginError> {
    let agent = shared.backend.rooms.lookup(&holder.room).await?.ok_or(ReloginError::Gone)?;
    let mut conference = agent.located().conference;
    let request = ResumeRequest {
        room_id: holder.room.to_string(),
        participant_id: holder.participant.to_string(),
        after_seq,
        portal_worker_id: shared.worker_id.clone(),
        exact,
        same_portal: false,
    };
    match conference.resume(request).await {
        Ok(events) => Ok((agent, events.into_inner())),
        Err(status) => Err(match CallError::from_status("conference.resume", &status) {
            error if error.is_not_found() => ReloginError::Gone,
            error => error.into(),
        }),
    }
}
