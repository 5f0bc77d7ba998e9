//! Joining a room.

use std::time::Duration;

use kaigi_proto::{
    ids::{ParticipantId, RoomId},
    v1::{JoinRequest, Joined, join_event},
};
use tokio::time::Instant;

use crate::{CallError, Events, Rooms, Seat};

/// Longest wait for a place in the room (OWT's): a starting room waits for its mixers.
const JOIN_TIMEOUT: Duration = Duration::from_secs(6);
/// Pause between attempts at a conference-agent that is not there or has not yet the room.
const JOIN_RETRY: Duration = Duration::from_millis(150);

/// Who comes into which room.
#[derive(Clone, Copy, Debug)]
pub struct Newcomer<'a> {
    /// The room.
    pub room: &'a RoomId,
    /// Who it will be there: an id that nobody else has.
    pub participant: &'a ParticipantId,
    /// Who it is for others: any JSON value, as text.
    pub user: &'a str,
    /// A role of the room.
    pub role: &'a str,
    /// Nodes of that internet service provider are preferred; may be empty.
    pub isp: &'a str,
    /// Likewise of that region.
    pub region: &'a str,
    /// The process that it comes by, as rooms know it.
    pub worker: &'a str,
    /// How long the place is kept while its stream of events is broken; zero = not at all.
    pub window: Duration,
}

/// A place in a room, which ends with its events.
#[derive(Debug)]
pub struct Seated {
    /// The place.
    pub seat: Seat,
    /// What the room tells.
    pub events: Events,
    /// How the room is at the moment.
    pub joined: Joined,
}

impl Rooms {
    /// Finds the room's agent and joins. An agent that is gone or not yet there is tried again, with the same participant's id, until
    /// the time for joining is over.
    ///
    /// # Errors
    /// If the room refuses, or nobody can have it.
    pub async fn join(&self, newcomer: Newcomer<'_>) -> Result<Seated, CallError> {
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
        let Newcomer { room, participant, user, role, isp, region, worker, window } = newcomer;
        let agent = self.schedule(room, isp, region).await?;
        let mut conference = agent.located().conference;
        let request = JoinRequest {
            room_id: room.to_string(),
            participant_id: participant.to_string(),
            user: user.to_owned(),
            role: role.to_owned(),
            portal_worker_id: worker.to_owned(),
            isp: isp.to_owned(),
            region: region.to_owned(),
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
                let events = Events::new(agent.clone(), events, room, participant, worker.to_owned(), 0);
                let seat = Seat { room: room.clone(), participant: participant.clone(), conference: agent };
                Ok(Seated { seat, events, joined })
            }
            (_, Some(join_event::Event::Dropped(dropped))) => Err(CallError::Refused {
                code: tonic::Code::Aborted,
                message: format!("Joining room failed: {}", dropped.reason),
            }),
            _ => Err(CallError::unreachable("conference")),
        }
    }
}
