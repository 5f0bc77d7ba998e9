//! What a room tells a participant, from whichever agent has the room: when one is lost, its successor goes on where it left off.

use std::pin::Pin;

use kaigi_proto::{
    ids::{ParticipantId, RoomId},
    v1::{JoinEvent, ResumeRequest},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use crate::RoomAgent;

/// How long a room's next agent is waited for; then its people are told that it is gone.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

type Attached = Result<(Streaming<JoinEvent>, CancellationToken), Status>;

/// The events of one participant.
pub struct Events {
    agent: RoomAgent,
    request: ResumeRequest,
    state: State,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("after", &self.request.after_seq).finish_non_exhaustive()
    }
}

enum State {
    /// From an agent, of which it is known when it is dead.
    Open(Box<Streaming<JoinEvent>>, CancellationToken),
    /// The agent is lost, its successor is looked for.
    Looking(Pin<Box<dyn Future<Output = Attached> + Send>>),
    Ended,
}

impl Events {
    /// Goes on from `stream`. `worker`: the process that the participant comes by; `after`: what the participant has been told before it.
    #[must_use]
    pub fn new(
        agent: RoomAgent,
        stream: Streaming<JoinEvent>,
        room: &RoomId,
        participant: &ParticipantId,
        worker: String,
        after: u64,
    ) -> Self {
        let request = ResumeRequest {
            room_id: room.to_string(),
            participant_id: participant.to_string(),
            after_seq: after,
            portal_worker_id: worker,
            exact: false,
            same_portal: true,
        };
        let lost = agent.located().lost;
        Self { agent, request, state: State::Open(Box::new(stream), lost) }
    }

    /// The next event; an error, or `None`, if the room or the participant's place in it is gone. Cancellation safe.
    ///
    /// # Errors
    /// What the room's next agent says of a place that is not there, and if there is none for long.
    pub async fn next(&mut self) -> Result<Option<JoinEvent>, Status> {
        loop {
            match &mut self.state {
                State::Open(stream, lost) => {
                    let next = tokio::select! {
                        biased;
                        next = stream.message() => next,
                        () = lost.cancelled() => Err(Status::unavailable("the agent is gone")),
                    };
                    match next {
                        Ok(Some(event)) if event.seq > 0 && event.seq <= self.request.after_seq => {}
                        Ok(Some(event)) => {
                            self.request.after_seq = self.request.after_seq.max(event.seq);
                            return Ok(Some(event));
                        }
                        ended => {
                            tracing::debug!(?ended, "the room's agent is lost");
                            let (agent, request) = (self.agent.clone(), self.request.clone());
                            self.state = State::Looking(Box::pin(attach(agent, request)));
                        }
                    }
                }
                State::Looking(attaching) => match attaching.await {
                    Ok((stream, lost)) => {
                        tracing::info!("goes on with another agent");
                        metrics::counter!("kaigi_room_reattachments_total", "result" => "ok").increment(1);
                        self.state = State::Open(Box::new(stream), lost);
                    }
                    Err(status) => {
                        metrics::counter!("kaigi_room_reattachments_total", "result" => "refused")
                            .increment(1);
                        self.state = State::Ended;
                        return Err(status);
                    }
                },
                State::Ended => return Ok(None),
            }
        }
    }
}

/// Takes a participant's place at whoever has the room now.
async fn attach(agent: RoomAgent, request: ResumeRequest) -> Attached {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let outcome = match agent.look_again().await {
            Ok(Some(mut located)) => tokio::select! {
                biased;
                () = located.lost.cancelled() => Err(Status::unavailable("the agent is gone")),
                () = tokio::time::sleep_until(give_up) => Err(Status::unavailable("no answer in time")),
                events = located.conference.resume(request.clone()) => {
                    events.map(|events| (events.into_inner(), located.lost.clone()))
                }
            },
            Ok(None) => return Err(Status::not_found("the room is over")),
            Err(error) => Err(Status::unavailable(error.to_string())),
        };
        match outcome {
            Err(status) if Instant::now() < give_up && may_pass(&status) => RoomAgent::pause().await,
            outcome => return outcome,
        }
    }
}

fn may_pass(status: &Status) -> bool {
    !matches!(status.code(), Code::NotFound | Code::FailedPrecondition | Code::InvalidArgument)
}
