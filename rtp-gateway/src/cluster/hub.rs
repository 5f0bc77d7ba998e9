//! A peer's seat at the hub, kept through the hub's absences: a stream that breaks is opened again under the same seat.

use std::{sync::Arc, time::Duration};

use kaigi_proto::v1::{EnterPeerRoomRequest, PeerEvent, PeerSpace, SendToPeerRequest, peer_event::Event};
use tokio::{sync::mpsc, time::Instant};
use tonic::{Code, Streaming};

use super::{CLUSTER_TIMEOUT, CallError, Cluster, request, within};

/// News that wait for the peer; more wait at the hub, which gives a peer up that does not read.
const MAX_WAITING: usize = 64;
/// How long the hub may be away before the peer has left.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pauses between attempts to come back, the first and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// What a peer learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HubNews {
    Left(String),
    Message {
        from: String,
        text: String,
    },
    /// The hub has given the peer up, or is away for too long.
    Lost,
}

/// A seat among the peers of one room. Cheap to clone; it is given up when what it was entered with is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    cluster: Arc<Cluster>,
    seat: Arc<EnterPeerRoomRequest>,
}

impl Seat {
    /// Takes a seat, whose end is the end of the news.
    ///
    /// # Errors
    /// If the hub refuses, or is away.
    pub(crate) async fn enter(
        cluster: Cluster,
        room: &str,
        peer: &str,
    ) -> Result<(Self, mpsc::Receiver<HubNews>), CallError> {
        let seat = EnterPeerRoomRequest {
            space: PeerSpace::Rooms.into(),
            room: room.to_owned(),
            peer: peer.to_owned(),
            seat: hex::encode(rand::random::<[u8; 16]>()),
            replace: false,
        };
        let seat = Self { cluster: Arc::new(cluster), seat: Arc::new(seat) };
        let events = seat.open().await?;
        let (to, news) = mpsc::channel(MAX_WAITING);
        tokio::spawn(seat.clone().follow(events, to));
        Ok((seat, news))
    }

    /// Passes a message on.
    ///
    /// # Errors
    /// If nobody of that name is there, or the hub is away.
    pub(crate) async fn send(&self, to: &str, text: String) -> Result<(), CallError> {
        let EnterPeerRoomRequest { space, room, peer, seat, .. } = (*self.seat).clone();
        let message = SendToPeerRequest { space, room, from: peer, seat, to: to.to_owned(), text };
        let call = async { self.cluster.peers.clone().send(request(message, CLUSTER_TIMEOUT)).await };
        within(CLUSTER_TIMEOUT, call).await.map(|_| ())
    }

    async fn open(&self) -> Result<Streaming<PeerEvent>, CallError> {
        // Without a deadline of its own, which would be the stream's.
        let call = async { self.cluster.peers.clone().enter((*self.seat).clone()).await };
        let mut events = within(CLUSTER_TIMEOUT, call).await?;
        match tokio::time::timeout(CLUSTER_TIMEOUT, events.message()).await {
            Ok(first) => match first?.and_then(|event| event.event) {
                Some(Event::Entered(_)) => Ok(events),
                _ => Err(CallError::Unreachable),
            },
            Err(_) => Err(CallError::Timeout),
        }
    }

    async fn follow(self, mut events: Streaming<PeerEvent>, to: mpsc::Sender<HubNews>) {
        loop {
            let told = tokio::select! {
                told = events.message() => told,
                () = to.closed() => return,
            };
            let news = match told {
                Ok(Some(event)) => match event.event {
                    Some(Event::Left(peer)) => HubNews::Left(peer),
                    Some(Event::Message(message)) => {
                        HubNews::Message { from: message.from, text: message.text }
                    }
                    Some(Event::Replaced(_)) => HubNews::Lost,
                    Some(Event::Entered(_) | Event::Joined(_)) | None => continue,
                },
                Ok(None) => HubNews::Lost,
                Err(status) if status.code() == Code::ResourceExhausted => HubNews::Lost,
                Err(_) => match self.come_back(&to).await {
                    Some(again) => {
                        events = again;
                        continue;
                    }
                    None => HubNews::Lost,
                },
            };
            let is_last = news == HubNews::Lost;
            if to.send(news).await.is_err() || is_last {
                return;
            }
        }
    }

    async fn come_back(&self, to: &mpsc::Sender<HubNews>) -> Option<Streaming<PeerEvent>> {
        let give_up = Instant::now() + PATIENCE;
        let mut pause = RETRY.0;
        while Instant::now() < give_up {
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())) => {}
                () = to.closed() => return None,
            }
            pause = (pause * 2).min(RETRY.1);
            match self.open().await {
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
