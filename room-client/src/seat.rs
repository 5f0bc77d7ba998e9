//! A participant's place in a room, and what is done there.

use kaigi_proto::{
    ids::{ParticipantId, RoomId},
    v1::{
        LeaveRoomRequest, MediaKind, Progress, PublishRequest, PublishTrack, SessionReply, SignalRequest,
        SubscribeRequest, SubscribeTrack, join_event, progress, signal_request,
    },
};
use tokio::time::Instant;

use crate::{ANSWER_TIMEOUT, CallError, Events, ROOM_TIMEOUT, RoomAgent};

/// What a request that must not be done twice is called.
#[must_use]
pub fn new_request_id() -> String {
    hex::encode(rand::random::<[u8; 12]>())
}

/// An m-line of an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What flows on it.
    pub kind: MediaKind,
    /// Its `mid` (RFC 9143).
    pub mid: String,
}

/// A place in a room. It ends with its events; giving it up says so at once.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The room.
    pub room: RoomId,
    /// The participant, as the room knows it.
    pub participant: ParticipantId,
    /// Whoever has the room.
    pub conference: RoomAgent,
}

impl Seat {
    /// Gives it up. A room that does not answer learns it from the stream of events.
    pub async fn leave(&self) {
        let message =
            LeaveRoomRequest { room_id: self.room.to_string(), participant_id: self.participant.to_string() };
        let call =
            self.conference.call(ROOM_TIMEOUT, "conference.leave", message, |mut room, request| async move {
                room.leave(request).await
            });
        if let Err(error) = call.await
            && !error.is_not_found()
        {
            tracing::debug!(%error, "leaving was not answered");
        }
    }

    /// Publishes what comes on these m-lines of an offer, as a camera's and a microphone's: what the client sends is not known, and these are
    /// what SDKs take for granted. `request` has what is to be said besides.
    ///
    /// # Errors
    /// If the room refuses, or is away.
    pub async fn publish<'a>(
        &self,
        lines: impl IntoIterator<Item = &'a Line>,
        request: PublishRequest,
    ) -> Result<SessionReply, CallError> {
        let track = |line: &Line| PublishTrack {
            kind: line.kind.into(),
            mid: line.mid.clone(),
            source: if line.kind == MediaKind::Audio { "mic" } else { "camera" }.to_owned(),
        };
        let message = PublishRequest {
            room_id: self.room.to_string(),
            participant_id: self.participant.to_string(),
            tracks: lines.into_iter().map(track).collect(),
            request_id: new_request_id(),
            ..request
        };
        let call = self.conference.call(
            ROOM_TIMEOUT,
            "conference.publish",
            message,
            |mut room, request| async move { room.publish(request).await },
        );
        call.await
    }

    /// Subscribes a stream on these m-lines. `request` has what is to be said besides.
    ///
    /// # Errors
    /// If the room refuses, or is away.
    pub async fn subscribe<'a>(
        &self,
        stream: &str,
        lines: impl IntoIterator<Item = &'a Line>,
        request: SubscribeRequest,
    ) -> Result<SessionReply, CallError> {
        let track = |line: &Line| SubscribeTrack {
            kind: line.kind.into(),
            mid: line.mid.clone(),
            from: stream.to_owned(),
            ..SubscribeTrack::default()
        };
        let message = SubscribeRequest {
            room_id: self.room.to_string(),
            participant_id: self.participant.to_string(),
            tracks: lines.into_iter().map(track).collect(),
            request_id: new_request_id(),
            ..request
        };
        let call = self.conference.call(
            ROOM_TIMEOUT,
            "conference.subscribe",
            message,
            |mut room, request| async move { room.subscribe(request).await },
        );
        call.await
    }

    /// Says something of a transport.
    ///
    /// # Errors
    /// If the room refuses, or is away.
    pub async fn signal(&self, transport: &str, signal: signal_request::Signal) -> Result<(), CallError> {
        let message = SignalRequest {
            room_id: self.room.to_string(),
            participant_id: self.participant.to_string(),
            transport_id: transport.to_owned(),
            signal: Some(signal),
            request_id: new_request_id(),
        };
        let call = self.conference.call(
            ROOM_TIMEOUT,
            "conference.signal",
            message,
            |mut room, request| async move { room.signal(request).await },
        );
        call.await.map(|_| ())
    }

    /// Makes an offer for a transport and waits for its answer. All else that the room tells meanwhile goes to `otherwise`, and the end of its
    /// telling as `None`; what that gives ends the wait.
    ///
    /// # Errors
    /// If the room refuses, is away, or does not answer in time; and what `otherwise` gives.
    pub async fn offer<E: From<CallError>>(
        &self,
        events: &mut Events,
        transport: &str,
        offer: String,
        mut otherwise: impl FnMut(Option<join_event::Event>) -> Option<E>,
    ) -> Result<String, E> {
        let give_up = Instant::now() + ANSWER_TIMEOUT;
        self.signal(transport, signal_request::Signal::Offer(offer)).await?;
        loop {
            let told = tokio::time::timeout_at(give_up, events.next()).await;
            let told = told.map_err(|_| CallError::Timeout("conference.signal"))?;
            let Ok(Some(told)) = told else {
                return Err(otherwise(None).unwrap_or_else(|| CallError::unreachable("conference").into()));
            };
            match told.event {
                Some(join_event::Event::Progress(Progress {
                    transport_id,
                    progress: Some(progress::Progress::Answer(answer)),
                })) if transport_id == transport => return Ok(answer),
                Some(event) => {
                    if let Some(end) = otherwise(Some(event)) {
                        return Err(end);
                    }
                }
                None => {}
            }
        }
    }
}
