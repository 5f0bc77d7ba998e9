//! A place in a conference: joining it, publishing and subscribing on one transport, and what the room says of it.

use std::time::Duration;

use kaigi_proto::{
    ids::{ParticipantId, RoomId},
    v1::{
        Joined, Progress, PublishRequest, StreamType, SubscribeRequest, join_event, progress, stream_event,
    },
};
use kaigi_room_client::{CallError, Events, Line, Newcomer, Seat, Seated};

use super::Cluster;

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

impl From<RoomNews> for RoomError {
    fn from(news: RoomNews) -> Self {
        match news {
            RoomNews::StreamEnded => Self::NoStream,
            RoomNews::Lost(why) => Self::Refused(why),
        }
    }
}

/// The m-lines of an offer that a room is told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lines {
    pub(crate) publish: Vec<Line>,
    pub(crate) subscribe: Vec<Line>,
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
    seat: Seat,
    events: Events,
    ids: Ids,
}

/// By what a place knows what concerns it.
#[derive(Clone, Debug, Default)]
struct Ids {
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
        let participant = ParticipantId::new(hex::encode(rand::random::<[u8; 12]>()));
        let newcomer = Newcomer {
            room: &wish.room,
            participant: &participant.expect("hex characters are allowed"),
            user: &serde_json::Value::from(wish.name.as_str()).to_string(),
            role: &wish.role,
            isp: "",
            region: "",
            worker: &cluster.worker_id,
            window: Duration::ZERO,
        };
        let Seated { seat, events, joined } = cluster.rooms.join(newcomer).await?;
        let mut place = Self { seat, events, ids: Ids::default() };
        match place.negotiate(wish, lines, &joined, offer).await {
            Ok(answer) => Ok((place, answer)),
            Err(error) => {
                place.leave().await;
                Err(error)
            }
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
            let described =
                PublishRequest { attributes: wish.attributes.clone(), ..PublishRequest::default() };
            self.ids.transport = self.seat.publish(&lines.publish, described).await?.transport_id;
        }
        if !lines.subscribe.is_empty() {
            let found = match &wish.stream {
                Some(id) => joined.streams.iter().find(|stream| stream.id == *id),
                None => joined.streams.iter().find(|stream| stream.r#type() == StreamType::Mixed),
            };
            let stream = found.ok_or(RoomError::NoStream)?.id.clone();
            let there =
                SubscribeRequest { transport_id: self.ids.transport.clone(), ..SubscribeRequest::default() };
            self.ids.transport = self.seat.subscribe(&stream, &lines.subscribe, there).await?.transport_id;
            self.ids.stream = Some(stream);
        }
        let Self { seat, events, ids } = self;
        seat.offer(events, &ids.transport, offer, |told| ids.news(told).map(RoomError::from)).await
    }

    /// What concerns this place next. Cancellation safe.
    pub(crate) async fn next(&mut self) -> RoomNews {
        loop {
            let news = match self.events.next().await {
                Ok(Some(event)) => event.event.and_then(|event| self.ids.news(Some(event))),
                Ok(None) | Err(_) => self.ids.news(None),
            };
            if let Some(news) = news {
                return news;
            }
        }
    }

    /// Gives the place up.
    pub(crate) async fn leave(self) {
        self.seat.leave().await;
    }
}

impl Ids {
    /// What that which the room tells, or that it tells no more, means to the place.
    fn news(&self, event: Option<join_event::Event>) -> Option<RoomNews> {
        use join_event::Event;
        let Some(event) = event else { return Some(RoomNews::Lost("the room is gone".to_owned())) };
        match event {
            Event::Progress(Progress { transport_id, progress }) if transport_id == self.transport => {
                match progress? {
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
}
