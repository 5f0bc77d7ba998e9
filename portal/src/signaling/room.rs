//! A client's place in a room, and the requests it makes there.

use std::time::Instant;

use kaigi_proto::v1::{
    AcknowledgeRequest, ControlRequest, EndSessionRequest, PublishRequest, RemovedCandidates, SessionReply,
    SignalRequest, SubscribeRequest, TextRequest, control_request::Operation, signal_request,
};
use kaigi_room_client::{Events, RoomAgent, Seat};
use serde_json::{Value, json};

use super::{Signaling, delivery::Delivery, receipts::Receipts, seats::Seat as Delivered};
use crate::{
    backend::{CallError, ROOM_TIMEOUT, new_request_id},
    protocol::{
        Version, control,
        request::{self as parse, Receiver, RequestError, Signal},
    },
    ticket::{Holder, Ticket},
};

/// A client's place in a room. Dropping it without [`Membership::leave`] leaves too, as the room sees the stream of events end, unless
/// the client may come back.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) version: Version,
    pub(super) place: Seat,
    pub(super) events: Events,
    /// Whether this client gets reconnection tickets.
    pub(super) reconnectable: bool,
    pub(super) delivery: Delivery,
    pub(super) seat: Delivered,
    /// The ticket that the client came back with, until it has shown that it is back.
    pub(super) used_ticket: Option<Used>,
}

/// A ticket that may be used once more.
#[derive(Debug)]
pub(super) struct Used {
    pub(super) ticket: Ticket,
    pub(super) kept_ms: u64,
}

/// Why a request is refused. The text is what the client is told.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("Illegal request")]
    Illegal,
}

impl Membership {
    /// What makes requests in this place, apart from its events.
    pub(super) fn caller(&self) -> Caller {
        Caller {
            version: self.version,
            room: self.place.room.to_string(),
            participant: self.place.participant.to_string(),
            conference: self.place.conference.clone(),
        }
    }

    /// Whom a ticket for this place is for.
    pub(super) fn holder(&self) -> Holder {
        Holder {
            participant: self.place.participant.clone(),
            room: self.place.room.clone(),
            version: self.version,
        }
    }

    /// What the client has for sure, as its receipts say.
    pub(super) fn receipts(&mut self, shared: &Signaling, receipts: &Receipts) {
        self.delivery.receipt(receipts.events());
        self.seat.delivered(self.delivery.delivered(Instant::now()));
        if receipts.any() {
            self.is_back(shared);
        }
    }

    /// The client has shown that it is back: its ticket is used up.
    pub(super) fn is_back(&mut self, shared: &Signaling) {
        if let Some(Used { ticket, kept_ms }) = self.used_ticket.take() {
            let backend = shared.backend.clone();
            tokio::spawn(async move {
                if let Err(error) = backend.use_once(ticket.second_use(), kept_ms).await {
                    tracing::warn!(%error, "a ticket is not known to be used up");
                }
            });
        }
    }

    /// Tells the room, aside from everything else, what the client is known to have got, if that is news.
    pub(super) fn acknowledge(&mut self) {
        if self.reconnectable
            && let Some(seq) = self.delivery.news(Instant::now())
        {
            tokio::spawn(acknowledge(self.place.conference.clone(), self.holder(), seq, false));
        }
    }

    /// Leaves the place to the client's return. `alive`: the client was there to the end.
    pub(super) async fn part(mut self, alive: bool) {
        let now = Instant::now();
        if alive {
            self.delivery.sign_of_life(now);
        }
        let delivered = self.delivery.delivered(now);
        let exact = self.delivery.is_receipted();
        acknowledge(self.place.conference.clone(), self.holder(), delivered, exact).await;
    }

    /// Gives the place up.
    pub(super) async fn leave(self) {
        self.place.leave().await;
    }
}

/// A room that is not told keeps more than it needs, and the client may hear things twice.
async fn acknowledge(conference: RoomAgent, holder: Holder, seq: u64, exact: bool) {
    let message = AcknowledgeRequest {
        room_id: holder.room.to_string(),
        participant_id: holder.participant.to_string(),
        seq,
        exact,
    };
    let call =
        conference.call(ROOM_TIMEOUT, "conference.acknowledge", message, |mut room, request| async move {
            room.acknowledge(request).await
        });
    if let Err(error) = call.await {
        tracing::debug!(%error, "not acknowledged");
    }
}

/// Makes requests in the name of a participant.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    version: Version,
    room: String,
    participant: String,
    conference: RoomAgent,
}

impl Caller {
    /// Whether the request's answer must reach the client before what the room tells about it: an SDK knows a session only from then on.
    pub(super) fn answers_first(event: &str) -> bool {
        matches!(event, "publish" | "subscribe")
    }

    /// Does what the client asks for; gives the data of the answer.
    pub(super) async fn perform(self, event: &str, data: Value) -> Result<Option<Value>, Refusal> {
        match event {
            "publish" => self.publish(data).await.map(Some),
            "subscribe" => self.subscribe(data).await.map(Some),
            "unpublish" => self.end_session(data, true).await,
            "unsubscribe" => self.end_session(data, false).await,
            "stream-control" => self.control_stream(data).await,
            "subscription-control" => self.control_subscription(data).await,
            "soac" => self.signal(data).await,
            "text" => self.text(data).await,
            _ => Err(Refusal::Illegal),
        }
    }

    async fn publish(self, data: Value) -> Result<Value, Refusal> {
        let publish = self.version.publish(data)?;
        let message = PublishRequest {
            room_id: self.room,
            participant_id: self.participant,
            tracks: publish.tracks,
            attributes: publish.attributes.map(|a| Value::Object(a).to_string()).unwrap_or_default(),
            transport_id: publish.transport.map(String::from).unwrap_or_default(),
            own_transport: publish.own_transport,
            data: publish.data,
            any_label: false,
            request_id: new_request_id(),
        };
        let call = self.conference.call(
            ROOM_TIMEOUT,
            "conference.publish",
            message,
            |mut room, request| async move { room.publish(request).await },
        );
        Ok(session(call.await?))
    }

    async fn subscribe(self, data: Value) -> Result<Value, Refusal> {
        let subscribe = self.version.subscribe(data)?;
        let message = SubscribeRequest {
            room_id: self.room,
            participant_id: self.participant,
            tracks: subscribe.tracks,
            transport_id: subscribe.transport.map(String::from).unwrap_or_default(),
            own_transport: subscribe.own_transport,
            data_from: subscribe.data_from.map(String::from).unwrap_or_default(),
            request_id: new_request_id(),
        };
        let call = self.conference.call(
            ROOM_TIMEOUT,
            "conference.subscribe",
            message,
            |mut room, request| async move { room.subscribe(request).await },
        );
        Ok(session(call.await?))
    }

    async fn end_session(self, data: Value, publication: bool) -> Result<Option<Value>, Refusal> {
        let id = if publication { parse::unpublish(data)? } else { parse::unsubscribe(data)? };
        let message = EndSessionRequest {
            room_id: self.room,
            participant_id: self.participant,
            session_id: id.into(),
            request_id: new_request_id(),
        };
        let name = if publication { "conference.unpublish" } else { "conference.unsubscribe" };
        let call = self.conference.call(ROOM_TIMEOUT, name, message, |mut room, request| async move {
            if publication { room.unpublish(request).await } else { room.unsubscribe(request).await }
        });
        call.await?;
        Ok(None)
    }

    async fn control_stream(self, data: Value) -> Result<Option<Value>, Refusal> {
        let control = control::stream_control(data)?;
        let asks = matches!(control.operation, Operation::GetRegion(_));
        let (message, agent) = (self.control(control.id.into(), control.operation), &self.conference);
        let call =
            agent.call(ROOM_TIMEOUT, "conference.controlStream", message, |mut room, request| async move {
                room.control_stream(request).await
            });
        let reply = call.await?;
        Ok(asks.then(|| json!({ "region": reply.region })))
    }

    async fn control_subscription(self, data: Value) -> Result<Option<Value>, Refusal> {
        let control = control::subscription_control(data)?;
        // An update without content.
        let Some(operation) = control.operation else { return Ok(None) };
        let asks = matches!(operation, Operation::QueryBandwidth(_));
        let (message, agent) = (self.control(control.id.into(), operation), &self.conference);
        let call = agent.call(
            ROOM_TIMEOUT,
            "conference.controlSubscription",
            message,
            |mut room, request| async move { room.control_subscription(request).await },
        );
        let reply = call.await?;
        Ok(asks.then(|| json!({ "estimatedBitrate": reply.estimated_bitrate })))
    }

    fn control(&self, id: String, operation: Operation) -> ControlRequest {
        ControlRequest {
            room_id: self.room.clone(),
            participant_id: self.participant.clone(),
            id,
            operation: Some(operation),
        }
    }

    async fn signal(self, data: Value) -> Result<Option<Value>, Refusal> {
        let soac = parse::soac(data)?;
        let signal = match soac.signal {
            Signal::Offer(sdp) => signal_request::Signal::Offer(sdp),
            Signal::Candidate(candidate) => signal_request::Signal::Candidate(candidate),
            Signal::RemovedCandidates(candidates) => {
                signal_request::Signal::RemovedCandidates(RemovedCandidates { candidates })
            }
            Signal::Answer => return Ok(None),
        };
        let message = SignalRequest {
            room_id: self.room,
            participant_id: self.participant,
            transport_id: soac.transport.into(),
            signal: Some(signal),
            request_id: new_request_id(),
        };
        let call = self.conference.call(
            ROOM_TIMEOUT,
            "conference.signal",
            message,
            |mut room, request| async move { room.signal(request).await },
        );
        call.await?;
        Ok(None)
    }

    async fn text(self, data: Value) -> Result<Option<Value>, Refusal> {
        let text = parse::text(data)?;
        let to = match text.to {
            Receiver::All => "all".to_owned(),
            Receiver::One(participant) => participant.into(),
        };
        let message = TextRequest {
            room_id: self.room,
            participant_id: self.participant,
            to,
            message: text.message,
            request_id: new_request_id(),
        };
        let call =
            self.conference.call(ROOM_TIMEOUT, "conference.text", message, |mut room, request| async move {
                room.text(request).await
            });
        call.await?;
        Ok(None)
    }
}

fn session(reply: SessionReply) -> Value {
    json!({ "id": reply.session_id, "transportId": reply.transport_id })
}
