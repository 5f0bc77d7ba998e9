//! Joining a room: from what a token stands for to a place there.

use std::time::Duration;

use kaigi_proto::{
    ids::{ParticipantId, RoomId},
    v1::{JoinRequest, Joined, LeaveRoomRequest, join_event},
};
use tokio::time::Instant;

use super::{Backend, CallError, Events, ROOM_TIMEOUT, RoomAgent};
use crate::token::TokenRecord;

/// Longest wait for a place in the room (OWT's): a starting room waits for its mixers.
const JOIN_TIMEOUT: Duration = Duration::from_secs(6);
/// Pause between attempts at a conference-agent that is not there or has not yet the room.
const JOIN_RETRY: Duration = Duration::from_millis(150);

/// Who comes into which room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newcomer<'a> {
    pub(crate) room: &'a RoomId,
    pub(crate) participant: &'a ParticipantId,
    pub(crate) record: &'a TokenRecord,
    /// This portal, as rooms know it.
    pub(crate) portal: &'a str,
    /// How long the place is kept while its stream of events is broken; zero = not at all.
    pub(crate) window: Duration,
}

/// A place in a room, which ends with its events.
#[derive(Debug)]
pub(crate) struct Seated {
    pub(crate) conference: RoomAgent,
    pub(crate) events: Events,
    pub(crate) joined: Joined,
}

impl Backend {
    /// Finds the room's agent and joins. An agent that is gone or not yet there is tried again, with the same participant's id, until
    /// the time for joining is over.
    pub(crate) async fn join(&self, newcomer: Newcomer<'_>) -> Result<Seated, CallError> {
        let give_up = Instant::now() + JOIN_TIMEOUT;
        loop {
            match self.attempt_join(newcomer, give_up).await {
                Err(error) if error.is_passing() && Instant::now() + JOIN_RETRY < give_up => {
                    tracing::debug!(room = %newcomer.room, %error, "joining again");
                    tokio::time::sleep(JOIN_RETRY.mul_f64(0.5 + rand::random::<f64>())).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt_join(&self, newcomer: Newcomer<'_>, give_up: Instant) -> Result<Seated, CallError> {
        const NAME: &str = "conference.join";
        let Newcomer { room, participant, record, portal, window } = newcomer;
        let agent = self.schedule_room(room, &record.isp, &record.region).await?;
        let mut conference = agent.located().conference;
        let request = JoinRequest {
            room_id: room.to_string(),
            participant_id: participant.to_string(),
            user: record.user.to_string(),
            role: record.role.clone(),
            portal_worker_id: portal.to_owned(),
            isp: record.isp.clone(),
            region: record.region.clone(),
            resume_window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
        };
        let first = async {
            let mut events =
                conference.join(request).await.map_err(|s| CallError::from_status(NAME, &s))?.into_inner();
            let first = events.message().await.map_err(|s| CallError::from_status(NAME, &s))?;
            Ok((events, first.and_then(|event| event.event)))
        };
        match tokio::time::timeout_at(give_up, first).await.map_err(|_| CallError::Timeout(NAME))?? {
            (events, Some(join_event::Event::Joined(joined))) => {
                let events = Events::new(agent.clone(), events, room, participant, portal.to_owned(), 0);
                Ok(Seated { conference: agent, events, joined })
            }
            (_, Some(join_event::Event::Dropped(dropped))) => Err(CallError::Refused {
                code: tonic::Code::Aborted,
                message: format!("Joining room failed: {}", dropped.reason),
            }),
            _ => Err(CallError::unreachable("conference")),
        }
    }
}

/// Gives a place up. A room that does not answer learns it from the stream of events.
pub(crate) async fn leave_room(agent: &RoomAgent, room: &RoomId, participant: &ParticipantId) {
    let message = LeaveRoomRequest { room_id: room.to_string(), participant_id: participant.to_string() };
    let call = agent.call(ROOM_TIMEOUT, "conference.leave", message, |mut agent, request| async move {
        agent.leave(request).await
    });
    if let Err(error) = call.await
        && !error.is_not_found()
    {
        tracing::debug!(%error, "leaving was not answered");
    }
}
