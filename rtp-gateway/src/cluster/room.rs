//! A place in a conference: joining it, publishing and subscribing on one transport, and what the room says of it.

use std::time::Duration;

use kaigi_proto::{
    ids::RoomId,
    v1::{
        JoinEvent, JoinRequest, Joined, LeaveRoomRequest, MediaKind, Progress, PublishRequest, PublishTrack,
        ResumeRequest, SignalRequest, StreamType, SubscribeRequest, SubscribeTrack,
        conference_client::ConferenceClient, join_event, progress, signal_request, stream_event,
    },
};
use kaigi_worker::Channel;
use tokio::time::Instant;
use tonic::Streaming;

use super::{CallError, Cluster, request, within};

/// Longest wait for a room to do what it is asked.
const ROOM_TIMEOUT: Duration = Duration::from_secs(4);
/// Longest wait for a place in the room, which may have to be started.
const JOIN_TIMEOUT: Duration = Duration::from_secs(6);
/// Longest wait for an answer to an offer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(6);
/// How long a room's next agent is waited for.
const TAKE_OVER: Duration = Duration::from_secs(20);
/// Pause between attempts.
const RETRY: Duration = Duration::from_millis(150);

/// Why a room is not to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RoomError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("the room has no such stream")]
    NoStream,
    #[error("the room: {0}")]
    Refused(String),
}

/// The `mid`s of an offer's m-lines that a room is told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) publish: Vec<(MediaKind, String)>,
    pub(crate) subscribe: Vec<(MediaKind, String)>,
}

/// Who comes, and what for.
#[derive(Clone, Debug)]
pub(crate) struct RoomWish {
    pub(crate) room: RoomId,
    /// Who it is for others, the peer.
    pub(crate) name: String,
    pub(crate) role: String,
    /// Of what is published: a JSON object as text, or empty.
    pub(crate) attributes: String,
    /// The stream to receive; `None`: the first mixed one.
    pub(crate) stream: Option<String>,
}

/// What becomes of a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RoomNews {
    /// What is received has ended.
    StreamEnded,
    /// The place, or its transport, is lost.
    Lost(String),
}

/// A place. Given up by [`RoomPlace::leave`].
#[derive(Debug)]
pub(crate) struct RoomPlace {
    cluster: Cluster,
    agent: ConferenceClient<Channel>,
    room: RoomId,
    participant: String,
    events: Streaming<JoinEvent>,
    /// The last event that was told.
    seen: u64,
    transport: String,
    /// What is received.
    stream: Option<String>,
}

impl RoomPlace {
    /// Joins the room, publishes and subscribes what `lines` says, and has `offer` answered.
    ///
    /// # Errors
    /// Why that can't be; nothing is left behind then.
    pub(crate) async fn take(
        cluster: Cluster,
        wish: &RoomWish,
        lines: &Lines,
        offer: String,
    ) -> Result<(Self, String), RoomError> {
        let (mut place, joined) = Self::join(cluster, wish).await?;
        match place.negotiate(wish, lines, &joined, offer).await {
            Ok(answer) => Ok((place, answer)),
            Err(error) => {
                place.leave().await;
                Err(error)
            }
        }
    }

    async fn join(cluster: Cluster, wish: &RoomWish) -> Result<(Self, Joined), RoomError> {
        let give_up = Instant::now() + JOIN_TIMEOUT;
        let participant = hex::encode(rand::random::<[u8; 12]>());
        loop {
            match Self::try_to_join(&cluster, wish, &participant, give_up).await {
                Err(RoomError::Call(error)) if error.is_passing() && Instant::now() + RETRY < give_up => {
                    tokio::time::sleep(RETRY.mul_f64(0.5 + rand::random::<f64>())).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_to_join(
        cluster: &Cluster,
        wish: &RoomWish,
        participant: &str,
        give_up: Instant,
    ) -> Result<(Self, Joined), RoomError> {
        let mut agent = cluster.schedule_room(&wish.room).await?;
        let request = JoinRequest {
            room_id: wish.room.to_string(),
            participant_id: participant.to_owned(),
            user: serde_json::Value::from(wish.name.as_str()).to_string(),
            role: wish.role.clone(),
            portal_worker_id: cluster.worker_id.clone(),
            ..JoinRequest::default()
        };
        let first = async {
            let mut events = agent.join(request).await.map_err(CallError::from)?.into_inner();
            let first = events.message().await.map_err(CallError::from)?;
            Ok::<_, RoomError>((events, first.and_then(|event| event.event)))
        };
        let (events, first) =
            tokio::time::timeout_at(give_up, first).await.map_err(|_| CallError::Timeout)??;
        match first {
            Some(join_event::Event::Joined(joined)) => {
                let place = Self {
                    cluster: cluster.clone(),
                    agent,
                    room: wish.room.clone(),
                    participant: participant.to_owned(),
                    events,
                    seen: 0,
                    transport: String::new(),
                    stream: None,
                };
                Ok((place, joined))
            }
            Some(join_event::Event::Dropped(dropped)) => Err(RoomError::Refused(dropped.reason)),
            _ => Err(CallError::Unreachable.into()),
        }
    }

    async fn negotiate(
        &mut self,
        wish: &RoomWish,
        lines: &Lines,
        joined: &Joined,
        offer: String,
    ) -> Result<String, RoomError> {
        if !lines.publish.is_empty() {
            self.publish(wish, lines).await?;
        }
        if !lines.subscribe.is_empty() {
            let found = match &wish.stream {
                Some(id) => joined.streams.iter().find(|stream| stream.id == *id),
                None => joined.streams.iter().find(|stream| stream.r#type() == StreamType::Mixed),
            };
            let stream = found.ok_or(RoomError::NoStream)?.id.clone();
            self.subscribe(&stream, lines).await?;
            self.stream = Some(stream);
        }
        let message = SignalRequest {
            room_id: self.room.to_string(),
            participant_id: self.participant.clone(),
            transport_id: self.transport.clone(),
            signal: Some(signal_request::Signal::Offer(offer)),
            request_id: request_id(),
        };
        let give_up = Instant::now() + ANSWER_TIMEOUT;
        let call = async { self.agent.clone().signal(request(message, ROOM_TIMEOUT)).await };
        within(ROOM_TIMEOUT, call).await?;
        loop {
            let told = tokio::time::timeout_at(give_up, self.next_event()).await;
            let event = told.map_err(|_| CallError::Timeout)?.ok_or(CallError::Unreachable)?;
            if let Some(join_event::Event::Progress(Progress {
                transport_id,
                progress: Some(progress::Progress::Answer(answer)),
            })) = &event.event
                && *transport_id == self.transport
            {
                return Ok(answer.clone());
            }
            match self.news(event) {
                None => {}
                Some(RoomNews::StreamEnded) => return Err(RoomError::NoStream),
                Some(RoomNews::Lost(why)) => return Err(RoomError::Refused(why)),
            }
        }
    }

    async fn publish(&mut self, wish: &RoomWish, lines: &Lines) -> Result<(), RoomError> {
        let track = |(kind, mid): &(MediaKind, String)| PublishTrack {
            kind: (*kind).into(),
            mid: mid.clone(),
            source: if *kind == MediaKind::Audio { "mic" } else { "camera" }.to_owned(),
        };
        let message = PublishRequest {
            room_id: self.room.to_string(),
            participant_id: self.participant.clone(),
            tracks: lines.publish.iter().map(track).collect(),
            attributes: wish.attributes.clone(),
            request_id: request_id(),
            ..PublishRequest::default()
        };
        let call = async { self.agent.clone().publish(request(message, ROOM_TIMEOUT)).await };
        self.transport = within(ROOM_TIMEOUT, call).await?.transport_id;
        Ok(())
    }

    async fn subscribe(&mut self, stream: &str, lines: &Lines) -> Result<(), RoomError> {
        let track = |(kind, mid): &(MediaKind, String)| SubscribeTrack {
            kind: (*kind).into(),
            mid: mid.clone(),
            from: stream.to_owned(),
            ..SubscribeTrack::default()
        };
        let message = SubscribeRequest {
            room_id: self.room.to_string(),
            participant_id: self.participant.clone(),
            tracks: lines.subscribe.iter().map(track).collect(),
            transport_id: self.transport.clone(),
            request_id: request_id(),
            ..SubscribeRequest::default()
        };
        let call = async { self.agent.clone().subscribe(request(message, ROOM_TIMEOUT)).await };
        self.transport = within(ROOM_TIMEOUT, call).await?.transport_id;
        Ok(())
    }

    /// What concerns this place next. Cancellation safe, but for a change of the room's agent, which begins anew.
    pub(crate) async fn next(&mut self) -> RoomNews {
        loop {
            let Some(event) = self.next_event().await else {
                return RoomNews::Lost("the room is gone".to_owned());
            };
            if let Some(news) = self.news(event) {
                return news;
            }
        }
    }

    async fn next_event(&mut self) -> Option<JoinEvent> {
        loop {
            match self.events.message().await {
                Ok(Some(event)) if event.seq > 0 && event.seq <= self.seen => {}
                Ok(Some(event)) => {
                    self.seen = self.seen.max(event.seq);
                    return Some(event);
                }
                Ok(None) | Err(_) => self.resume().await?,
            }
        }
    }

    /// Goes on at the agent that has the room now, as nobody but the agent was away.
    async fn resume(&mut self) -> Option<()> {
        let give_up = Instant::now() + TAKE_OVER;
        while Instant::now() < give_up {
            if let Ok(mut agent) = self.cluster.find_room(&self.room).await {
                let message = ResumeRequest {
                    room_id: self.room.to_string(),
                    participant_id: self.participant.clone(),
                    after_seq: self.seen,
                    portal_worker_id: self.cluster.worker_id.clone(),
                    exact: false,
                    same_portal: true,
                };
                match within(ROOM_TIMEOUT, agent.resume(message)).await {
                    Ok(events) => {
                        (self.agent, self.events) = (agent, events);
                        return Some(());
                    }
                    Err(error) if error.is_passing() || error == CallError::Timeout => {}
                    Err(_) => return None,
                }
            }
            tokio::time::sleep(RETRY.mul_f64(0.5 + rand::random::<f64>())).await;
        }
        None
    }

    fn news(&self, event: JoinEvent) -> Option<RoomNews> {
        use join_event::Event;
        match event.event? {
            Event::Progress(progress) if progress.transport_id == self.transport => {
                match progress.progress? {
                    progress::Progress::SessionError(error) => Some(RoomNews::Lost(error.reason)),
                    progress::Progress::TransportError(why) => Some(RoomNews::Lost(why)),
                    progress::Progress::Answer(_)
                    | progress::Progress::SessionReady(_)
                    | progress::Progress::TransportMoving(_)
                    | progress::Progress::TransportReady(_) => None,
                }
            }
            Event::Stream(event) if self.stream.as_deref() == Some(&*event.stream_id) => {
                match event.change? {
                    stream_event::Change::Removed(_) => Some(RoomNews::StreamEnded),
                    _ => None,
                }
            }
            Event::Dropped(dropped) => Some(RoomNews::Lost(dropped.reason)),
            Event::Progress(_)
            | Event::Stream(_)
            | Event::Joined(_)
            | Event::Participant(_)
            | Event::Text(_)
            | Event::Layers(_) => None,
        }
    }

    /// Gives the place up. A room that does not answer learns it from the stream of events.
    pub(crate) async fn leave(&self) {
        let message =
            LeaveRoomRequest { room_id: self.room.to_string(), participant_id: self.participant.clone() };
        let call = async { self.agent.clone().leave(request(message, ROOM_TIMEOUT)).await };
        if let Err(error) = within(ROOM_TIMEOUT, call).await {
            tracing::debug!(%error, "leaving was not answered");
        }
    }
}

fn request_id() -> String {
    hex::encode(rand::random::<[u8; 16]>())
}
