//! The hub of peers: rooms whose members find each other and pass messages, while their media go from one to the other. It is here, in the
//! one process that all portals know, because it is small and has to be one: a portal that dies takes its peers with it and nobody else's,
//! and a hub that dies is told by the portals who is there when it is back.

mod rooms;

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::Stream;
use kaigi_proto::v1::{self, PeerSpace, peer_event::Event, peer_rooms_server::PeerRooms};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Request, Response, Status};

use rooms::{Entered, News, Place, Refusal, Rooms, SeatKey};

/// Events that wait for one peer's portal; with more the peer has left.
const MAX_WAITING: usize = 256;
/// Rooms in one answer.
const PAGE: usize = 1000;

type Told = Result<v1::PeerEvent, Status>;

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::RoomName | Refusal::PeerName | Refusal::TooLong => Self::invalid_argument(text),
            Refusal::Taken => Self::already_exists(text),
            Refusal::RoomFull | Refusal::TooManyRooms | Refusal::TooManyPeers => {
                Self::resource_exhausted(text)
            }
            Refusal::NoPeer => Self::not_found(text),
            Refusal::NotSeated => Self::failed_precondition(text),
        }
    }
}

impl From<News> for Event {
    fn from(news: News) -> Self {
        match news {
            News::Joined(peer) => Self::Joined(peer),
            News::Left(peer) => Self::Left(peer),
            News::Replaced => Self::Replaced(v1::PeerReplaced {}),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    rooms: Rooms,
    seats: HashMap<SeatKey, Taken>,
}

/// How a peer is reached, and what it leaves when it can't be.
#[derive(Debug)]
struct Taken {
    place: Place,
    peer: String,
    events: mpsc::Sender<Told>,
}

impl State {
    /// Tells those concerned. Whoever does not read has left, of which others are told in turn.
    fn tell(&mut self, news: Vec<(SeatKey, News)>) {
        let mut waiting = news;
        while let Some((key, news)) = waiting.pop() {
            if !self.post(key, news.into()) {
                waiting.extend(self.remove(key));
            }
        }
        let (rooms, peers) = self.rooms.count();
        metrics::gauge!("kaigi_peer_rooms").set(rooms as f64);
        metrics::gauge!("kaigi_peers").set(peers as f64);
    }

    /// Whether the peer, if it is there, takes it.
    fn post(&self, key: SeatKey, event: Event) -> bool {
        let Some(seat) = self.seats.get(&key) else { return true };
        seat.events.try_send(Ok(v1::PeerEvent { event: Some(event) })).is_ok()
    }

    fn remove(&mut self, key: SeatKey) -> Vec<(SeatKey, News)> {
        let Some(Taken { place, peer, .. }) = self.seats.remove(&key) else { return Vec::new() };
        self.rooms.leave(&place, &peer, key)
    }
}

/// The gRPC service.
#[derive(Clone, Debug, Default)]
pub struct PeerRoomsService {
    state: Arc<Mutex<State>>,
    stop: CancellationToken,
}

impl PeerRoomsService {
    /// Ends all streams at `stop`; nobody is told that the others have left, as all come back to whoever follows.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        Self { state: Arc::default(), stop }
    }
}

fn place(space: PeerSpace, room: String) -> Result<Place, Status> {
    match space {
        PeerSpace::Rooms => Ok(Place::Room(room)),
        PeerSpace::Directory => Ok(Place::Directory),
        PeerSpace::Unspecified => Err(Status::invalid_argument("no space is named")),
    }
}

/// One peer's events; its end is the peer's.
#[derive(Debug)]
pub struct PeerEvents {
    hub: PeerRoomsService,
    key: SeatKey,
    events: mpsc::Receiver<Told>,
    stopped: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

impl Stream for PeerEvents {
    type Item = Told;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Told>> {
        let Some(stopped) = &mut self.stopped else { return Poll::Ready(None) };
        if stopped.as_mut().poll(cx).is_ready() {
            self.stopped = None;
            return Poll::Ready(Some(Err(Status::unavailable("the hub of peers ends"))));
        }
        self.events.poll_recv(cx)
    }
}

impl Drop for PeerEvents {
    fn drop(&mut self) {
        if self.hub.stop.is_cancelled() {
            return;
        }
        let mut state = self.hub.state.lock();
        let news = state.remove(self.key);
        state.tell(news);
    }
}

#[tonic::async_trait]
impl PeerRooms for PeerRoomsService {
    type EnterStream = PeerEvents;

    async fn enter(
        &self,
        request: Request<v1::EnterPeerRoomRequest>,
    ) -> Result<Response<PeerEvents>, Status> {
        let request = request.into_inner();
        let place = place(request.space(), request.room)?;
        let (events, receiver) = mpsc::channel(MAX_WAITING);
        let key = {
            let mut state = self.state.lock();
            let Entered { key, peers, before, tell } =
                state.rooms.enter(&place, &request.peer, &request.seat, request.replace)?;
            state.seats.insert(key, Taken { place, peer: request.peer, events });
            state.post(key, Event::Entered(v1::PeersPresent { peers }));
            state.tell(tell);
            // It has been told all that it is to be told.
            if let Some(before) = before {
                state.seats.remove(&before);
            }
            key
        };
        let stopped = Some(Box::pin(self.stop.clone().cancelled_owned()));
        Ok(Response::new(PeerEvents { hub: self.clone(), key, events: receiver, stopped }))
    }

    async fn send(
        &self,
        request: Request<v1::SendToPeerRequest>,
    ) -> Result<Response<v1::SendToPeerReply>, Status> {
        let request = request.into_inner();
        let place = place(request.space(), request.room)?;
        let mut state = self.state.lock();
        let v1::SendToPeerRequest { from, seat, to, text, .. } = request;
        let receiver = state.rooms.receiver(&place, &from, &seat, &to, &text)?;
        if state.post(receiver, Event::Message(v1::PeerMessage { from, text })) {
            metrics::counter!("kaigi_peer_messages_total").increment(1);
            return Ok(Response::new(v1::SendToPeerReply {}));
        }
        let news = state.remove(receiver);
        state.tell(news);
        Err(Refusal::NoPeer.into())
    }

    async fn list_rooms(
        &self,
        request: Request<v1::ListPeerRoomsRequest>,
    ) -> Result<Response<v1::ListPeerRoomsReply>, Status> {
        let (rooms, more) = self.state.lock().rooms.list(&request.into_inner().after, PAGE);
        let rooms = rooms
            .into_iter()
            .map(|(room, peers)| v1::PeerRoom { room, peers: u32::try_from(peers).unwrap_or(u32::MAX) });
        Ok(Response::new(v1::ListPeerRoomsReply { rooms: rooms.collect(), more }))
    }

    async fn list_peers(
        &self,
        request: Request<v1::ListPeersRequest>,
    ) -> Result<Response<v1::ListPeersReply>, Status> {
        Ok(Response::new(v1::ListPeersReply {
            peers: self.state.lock().rooms.peers(&request.into_inner().room),
        }))
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use kaigi_proto::v1::{EnterPeerRoomRequest, SendToPeerRequest};
    use tonic::Code;

    use super::*;

    fn seat(peer: &str) -> EnterPeerRoomRequest {
        EnterPeerRoomRequest {
            space: PeerSpace::Rooms.into(),
            room: "r".into(),
            peer: peer.into(),
            seat: format!("seat of {peer}"),
            replace: false,
        }
    }

    async fn enter(hub: &PeerRoomsService, peer: &str) -> PeerEvents {
        hub.enter(Request::new(seat(peer))).await.unwrap().into_inner()
    }

    async fn next(events: &mut PeerEvents) -> Event {
        events.next().await.unwrap().unwrap().event.unwrap()
    }

    fn to(from: &str, to: &str) -> Request<SendToPeerRequest> {
        Request::new(SendToPeerRequest {
            space: PeerSpace::Rooms.into(),
            room: "r".into(),
            from: from.into(),
            seat: format!("seat of {from}"),
            to: to.into(),
            text: "hi".into(),
        })
    }

    #[tokio::test]
    async fn a_stream_that_ends_is_a_peer_that_leaves() {
        let hub = PeerRoomsService::default();
        let mut a = enter(&hub, "a").await;
        assert_eq!(next(&mut a).await, Event::Entered(v1::PeersPresent { peers: vec![] }));
        let b = enter(&hub, "b").await;
        assert_eq!(next(&mut a).await, Event::Joined("b".into()));
        drop(b);
        assert_eq!(next(&mut a).await, Event::Left("b".into()));
        drop(a);
        assert!(hub.state.lock().seats.is_empty());
        assert_eq!(hub.state.lock().rooms.count(), (0, 0));
    }

    #[tokio::test]
    async fn one_who_is_back_keeps_his_seat_when_the_older_stream_ends() {
        let hub = PeerRoomsService::default();
        let (older, mut b) = (enter(&hub, "a").await, enter(&hub, "b").await);
        assert!(matches!(next(&mut b).await, Event::Entered(_)));
        let mut newer = enter(&hub, "a").await;
        assert!(matches!(next(&mut newer).await, Event::Entered(_)));
        drop(older);
        hub.send(to("b", "a")).await.unwrap();
        assert!(matches!(next(&mut newer).await, Event::Message(message) if message.from == "b"));
    }

    #[tokio::test]
    async fn a_hub_that_ends_says_of_nobody_that_he_has_left() {
        let stop = CancellationToken::new();
        let hub = PeerRoomsService::new(stop.clone());
        let (a, mut b) = (enter(&hub, "a").await, enter(&hub, "b").await);
        assert!(matches!(next(&mut b).await, Event::Entered(_)));
        stop.cancel();
        drop(a);
        assert_eq!(b.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
        assert!(b.next().await.is_none());
    }

    #[tokio::test]
    async fn who_does_not_read_has_left() {
        let hub = PeerRoomsService::default();
        let (mut a, mut silent) = (enter(&hub, "a").await, enter(&hub, "silent").await);
        let mut refused = None;
        for _ in 0..=MAX_WAITING {
            refused = hub.send(to("a", "silent")).await.err();
        }
        assert_eq!(refused.unwrap().code(), Code::NotFound);
        assert!(matches!(next(&mut a).await, Event::Entered(_)));
        assert_eq!(next(&mut a).await, Event::Joined("silent".into()));
        assert_eq!(next(&mut a).await, Event::Left("silent".into()));
        // It hears what was sent before, and then that it is over.
        assert!(matches!(next(&mut silent).await, Event::Entered(_)));
        let rest: Vec<_> = silent.by_ref().collect().await;
        assert_eq!(rest.len(), MAX_WAITING - 1);
    }
}
