//! The hub of peers, and a seat there that is kept through the hub's absences: a stream that breaks is opened again under the same seat.

use std::{sync::Arc, time::Duration};

use kaigi_proto::v1::{
    EnterPeerRoomRequest, ListPeerRoomsRequest, ListPeersRequest, PeerEvent, PeerRoom, PeerSpace,
    PeersPresent, SendToPeerRequest, peer_event::Event, peer_rooms_client::PeerRoomsClient,
};
use kaigi_worker::Channel;
use tokio::{sync::mpsc, time::Instant};
use tonic::{Code, Streaming};

use crate::{CLUSTER_TIMEOUT, CallError, request, within};

/// Rooms that are listed at most.
const MAX_ROOMS: usize = 10_000;
/// News that wait for the peer; more wait at the hub, which gives a peer up that does not read.
const MAX_WAITING: usize = 64;
/// How long the hub may be away before the peer has left.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pauses between attempts to come back, the first and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// The hub of peers, which is the cluster-manager's. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PeerHub {
    client: PeerRoomsClient<Channel>,
}

/// What a peer learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerNews {
    /// Another has come.
    Joined(String),
    /// Another has left.
    Left(String),
    /// Another says something.
    Message {
        /// Who.
        from: String,
        /// What.
        text: String,
    },
    /// The seat was kept while the hub was away; who else is there now.
    Back(Vec<String>),
    /// Another has taken the name. The last news.
    Replaced,
    /// The hub has given the peer up, or is away for too long. The last news.
    Lost,
}

/// A seat among the peers of one room. Cheap to clone; it is given up when its news are dropped.
#[derive(Clone, Debug)]
pub struct PeerSeat {
    hub: PeerHub,
    seat: Arc<EnterPeerRoomRequest>,
}

/// A seat that was taken.
#[derive(Debug)]
pub struct PeerEntered {
    /// The seat.
    pub seat: PeerSeat,
    /// What is told there.
    pub news: mpsc::Receiver<PeerNews>,
    /// Who else is there.
    pub peers: Vec<String>,
}

impl PeerHub {
    /// The hub at `cluster`, the channel to the cluster-manager.
    #[must_use]
    pub fn new(cluster: Channel) -> Self {
        Self { client: PeerRoomsClient::new(cluster) }
    }

    /// Takes a seat. With `replace`, whoever has the name loses it.
    ///
    /// # Errors
    /// If the hub refuses, or is away.
    pub async fn enter(
        &self,
        space: PeerSpace,
        room: &str,
        peer: &str,
        replace: bool,
    ) -> Result<PeerEntered, CallError> {
        let wish = EnterPeerRoomRequest {
            space: space.into(),
            room: room.to_owned(),
            peer: peer.to_owned(),
            seat: hex::encode(rand::random::<[u8; 16]>()),
            replace,
        };
        let (events, peers) = self.open(wish.clone()).await?;
        // It comes back to its own seat, and takes nobody's.
        let again = EnterPeerRoomRequest { replace: false, ..wish };
        let seat = PeerSeat { hub: self.clone(), seat: Arc::new(again) };
        let (to, news) = mpsc::channel(MAX_WAITING);
        tokio::spawn(seat.clone().follow(events, to));
        Ok(PeerEntered { seat, news, peers })
    }

    /// The rooms in which peers are, [`MAX_ROOMS`] at most.
    ///
    /// # Errors
    /// If the hub is away.
    pub async fn rooms(&self) -> Result<Vec<PeerRoom>, CallError> {
        let mut rooms: Vec<PeerRoom> = Vec::new();
        loop {
            let after = rooms.last().map(|room| room.room.clone()).unwrap_or_default();
            let message = request(ListPeerRoomsRequest { after }, CLUSTER_TIMEOUT);
            let call = async { self.client.clone().list_rooms(message).await };
            let page = within(CLUSTER_TIMEOUT, "peers.listRooms", call).await?;
            let is_last = !page.more || page.rooms.is_empty();
            rooms.extend(page.rooms);
            if is_last || rooms.len() >= MAX_ROOMS {
                return Ok(rooms);
            }
        }
    }

    /// Who is in one.
    ///
    /// # Errors
    /// If the hub is away.
    pub async fn peers_in(&self, room: &str) -> Result<Vec<String>, CallError> {
        let message = request(ListPeersRequest { room: room.to_owned() }, CLUSTER_TIMEOUT);
        let call = async { self.client.clone().list_peers(message).await };
        Ok(within(CLUSTER_TIMEOUT, "peers.listPeers", call).await?.peers)
    }

    /// Opens the stream of a seat; tells who is there.
    async fn open(
        &self,
        seat: EnterPeerRoomRequest,
    ) -> Result<(Streaming<PeerEvent>, Vec<String>), CallError> {
        const NAME: &str = "peers.enter";
        // Without a deadline of its own, which would be the stream's.
        let call = async { self.client.clone().enter(seat).await };
        let mut events = within(CLUSTER_TIMEOUT, NAME, call).await?;
        let first = tokio::time::timeout(CLUSTER_TIMEOUT, events.message()).await;
        let first = first.map_err(|_| CallError::Timeout(NAME))?;
        match first.map_err(|status| CallError::from_status(NAME, &status))?.and_then(|event| event.event) {
            Some(Event::Entered(PeersPresent { peers })) => Ok((events, peers)),
            _ => Err(CallError::unreachable("peers")),
        }
    }
}

impl PeerSeat {
    /// Passes a message on.
    ///
    /// # Errors
    /// If nobody of that name is there, or the hub is away.
    pub async fn send(&self, to: &str, text: String) -> Result<(), CallError> {
        let EnterPeerRoomRequest { space, room, peer, seat, .. } = (*self.seat).clone();
        let message = SendToPeerRequest { space, room, from: peer, seat, to: to.to_owned(), text };
        let call = async { self.hub.client.clone().send(request(message, CLUSTER_TIMEOUT)).await };
        within(CLUSTER_TIMEOUT, "peers.send", call).await.map(|_| ())
    }

    /// Passes on what the hub tells until nobody wants it any more.
    async fn follow(self, mut events: Streaming<PeerEvent>, to: mpsc::Sender<PeerNews>) {
        loop {
            let told = tokio::select! {
                told = events.message() => told,
                () = to.closed() => return,
            };
            let news = match told {
                Ok(Some(event)) => match event.event {
                    Some(Event::Joined(peer)) => PeerNews::Joined(peer),
                    Some(Event::Left(peer)) => PeerNews::Left(peer),
                    Some(Event::Message(message)) => {
                        PeerNews::Message { from: message.from, text: message.text }
                    }
                    Some(Event::Replaced(_)) => PeerNews::Replaced,
                    Some(Event::Entered(_)) | None => continue,
                },
                // The hub ends the streams of those that do not read; all else is its absence.
                Ok(None) => PeerNews::Lost,
                Err(status) if status.code() == Code::ResourceExhausted => PeerNews::Lost,
                Err(_) => match self.come_back(&to).await {
                    Some((again, peers)) => {
                        events = again;
                        PeerNews::Back(peers)
                    }
                    None => PeerNews::Lost,
                },
            };
            let is_last = matches!(news, PeerNews::Replaced | PeerNews::Lost);
            if to.send(news).await.is_err() || is_last {
                return;
            }
        }
    }

    async fn come_back(&self, to: &mpsc::Sender<PeerNews>) -> Option<(Streaming<PeerEvent>, Vec<String>)> {
        let give_up = Instant::now() + PATIENCE;
        let mut pause = RETRY.0;
        while Instant::now() < give_up {
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())) => {}
                () = to.closed() => return None,
            }
            pause = (pause * 2).min(RETRY.1);
            match self.hub.open((*self.seat).clone()).await {
                Ok(back) => return Some(back),
                // Somebody else has the name, or there is no more room.
                Err(CallError::Refused { code: Code::AlreadyExists | Code::ResourceExhausted, .. }) => {
                    return None;
                }
                Err(error) => tracing::debug!(%error, "the hub of peers is away"),
            }
        }
        None
    }
}
