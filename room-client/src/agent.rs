//! The way to a room's agent, whoever that is by now: when an agent dies another one goes on with its rooms, and what was asked of the one is
//! asked of the other.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kaigi_proto::ids::RoomId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{CallError, Conference, Rooms, request, within};

/// Longest wait for a room's next agent; then the request fails.
pub const TAKE_OVER: Duration = Duration::from_secs(10);
/// Pause between looks for it.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// An agent as it was found.
#[derive(Clone, Debug)]
pub struct Located {
    /// Its client.
    pub conference: Conference,
    /// Cancelled when it is known to be dead.
    pub lost: CancellationToken,
}

/// See the module's description. Cheap to clone; what one clone finds out all know.
#[derive(Clone, Debug)]
pub struct RoomAgent {
    rooms: Rooms,
    room: RoomId,
    now: Arc<Mutex<Located>>,
}

impl RoomAgent {
    pub(crate) fn new(rooms: Rooms, room: RoomId, located: Located) -> Self {
        Self { rooms, room, now: Arc::new(Mutex::new(located)) }
    }

    /// The agent as it was found last.
    #[must_use]
    pub fn located(&self) -> Located {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks where the room is now; `None` if it does not run any more.
    ///
    /// # Errors
    /// If the cluster-manager is away.
    pub async fn look_again(&self) -> Result<Option<Located>, CallError> {
        let found = self.rooms.locate(&self.room).await?;
        if let Some(located) = &found {
            *self.now.lock().unwrap_or_else(PoisonError::into_inner) = located.clone();
        }
        Ok(found)
    }

    /// Pause before that.
    pub async fn pause() {
        tokio::time::sleep(LOOK_AGAIN.mul_f64(0.5 + rand::random::<f64>())).await;
    }

    /// Makes a call, again and elsewhere if its agent is lost before it answers. What must not be done twice has to have a request id.
    ///
    /// # Errors
    /// If the room refuses, is not running any more, or nobody has it for [`TAKE_OVER`].
    pub async fn call<M: Clone, R, F>(
        &self,
        limit: Duration,
        name: &'static str,
        message: M,
        call: impl Fn(Conference, Request<M>) -> F,
    ) -> Result<R, CallError>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let give_up = Instant::now() + TAKE_OVER;
        let mut located = self.located();
        loop {
            let answer = within(limit, name, call(located.conference, request(message.clone(), limit)));
            let outcome = tokio::select! {
                biased;
                outcome = answer => outcome,
                () = located.lost.cancelled() => Err(CallError::unreachable("conference")),
            };
            let Err(error) = outcome else { return outcome };
            if !error.is_lost() {
                return Err(error);
            }
            located = self.next(give_up, error).await?;
        }
    }

    /// Where to ask next after an error.
    async fn next(&self, give_up: Instant, error: CallError) -> Result<Located, CallError> {
        while Instant::now() < give_up {
            Self::pause().await;
            match self.look_again().await {
                Ok(Some(located)) if !located.lost.is_cancelled() => return Ok(located),
                Ok(Some(_)) => {}
                Ok(None) => {
                    let (code, message) = (tonic::Code::NotFound, "Room is not active".to_owned());
                    return Err(CallError::Refused { code, message });
                }
                Err(error) => tracing::debug!(room = %self.room, %error, "the room is not found"),
            }
        }
        Err(error)
    }
}
