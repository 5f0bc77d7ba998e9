//! A peer's seat at the hub, kept through the hub's absences: a stream that breaks is opened again under the same seat.

use std::time::Duration;

use kaigi_proto::v1::{
    EnterPeerRoomRequest, PeerEvent, PeerSpace, PeersPresent, SendToPeerRequest, peer_event::Event,
};
use tokio::{sync::mpsc, time::Instant};
use tonic::{Code, Streaming};

use crate::backend::{Backend, CallError};

/// Events that wait for the socket; more wait at the hub, which gives a peer up that does not read.
const MAX_WAITING: usize = 64;
/// How long the hub may be away before the peer has left.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pauses between attempts to come back, the first and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// What a peer learns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum News {
    Joined(String),
    Left(String),
    Message {
        from: String,
        text: String,
    },
    /// The seat was kept while the hub was away; who else is there now.
    Back(Vec<String>),
    /// Another has taken the name.
    Replaced,
    /// The hub has given the peer up, or is away for too long.
    Lost,
}

/// A seat.
#[derive(Debug)]
pub(crate) struct Link {
    backend: Backend,
    seat: EnterPeerRoomRequest,
    pub(crate) news: mpsc::Receiver<News>,
}

impl Link {
    /// Takes a seat; tells who is there. With `replace`, whoever has the name loses it.
    ///
    /// # Errors
    /// If the hub refuses, or is away.
    pub(crate) async fn open(
        backend: Backend,
        space: PeerSpace,
        room: &str,
        peer: &str,
        replace: bool,
    ) -> Result<(Self, Vec<String>), CallError> {
        let seat = EnterPeerRoomRequest {
            space: space.into(),
            room: room.to_owned(),
            peer: peer.to_owned(),
            seat: hex::encode(rand::random::<[u8; 16]>()),
            replace,
        };
        let (events, peers) = enter(&backend, seat.clone()).await?;
        let (to, news) = mpsc::channel(MAX_WAITING);
        // It comes back to its own seat, and takes nobody's.
        let again = EnterPeerRoomRequest { replace: false, ..seat.clone() };
        tokio::spawn(follow(backend.clone(), again, events, to));
        Ok((Self { backend, seat, news }, peers))
    }

    /// Passes a message on.
    ///
    /// # Errors
    /// If nobody of that name is there, or the hub is away.
    pub(crate) async fn send(&self, to: &str, text: String) -> Result<(), CallError> {
        let EnterPeerRoomRequest { space, room, peer, seat, .. } = self.seat.clone();
        let message = SendToPeerRequest { space, room, from: peer, seat, to: to.to_owned(), text };
        self.backend.send_to_peer(message).await
    }
}

async fn enter(
    backend: &Backend,
    seat: EnterPeerRoomRequest,
) -> Result<(Streaming<PeerEvent>, Vec<String>), CallError> {
    const NAME: &str = "peers.enter";
    let mut events = backend.enter_peer_room(seat).await?;
    let first = events.message().await.map_err(|status| CallError::from_status(NAME, &status))?;
    match first.and_then(|event| event.event) {
        Some(Event::Entered(PeersPresent { peers })) => Ok((events, peers)),
        _ => Err(CallError::unreachable("peers")),
    }
}

/// Passes on what the hub tells until nobody wants it any more.
async fn follow(
    backend: Backend,
    seat: EnterPeerRoomRequest,
    mut events: Streaming<PeerEvent>,
    to: mpsc::Sender<News>,
) {
    loop {
        let told = tokio::select! {
            told = events.message() => told,
            () = to.closed() => return,
        };
        let news = match told {
            Ok(Some(event)) => match event.event {
                Some(Event::Joined(peer)) => News::Joined(peer),
                Some(Event::Left(peer)) => News::Left(peer),
                Some(Event::Message(message)) => News::Message { from: message.from, text: message.text },
                Some(Event::Replaced(_)) => News::Replaced,
                Some(Event::Entered(_)) | None => continue,
            },
            // The hub ends the streams of those that do not read; all else is its absence.
            Ok(None) => News::Lost,
            Err(status) if status.code() == Code::ResourceExhausted => News::Lost,
            Err(_) => match come_back(&backend, &seat, &to).await {
                Some((again, peers)) => {
                    events = again;
                    News::Back(peers)
                }
                None => News::Lost,
            },
        };
        let is_last = matches!(news, News::Replaced | News::Lost);
        if to.send(news).await.is_err() || is_last {
            return;
        }
    }
}

async fn come_back(
    backend: &Backend,
    seat: &EnterPeerRoomRequest,
    to: &mpsc::Sender<News>,
) -> Option<(Streaming<PeerEvent>, Vec<String>)> {
    let give_up = Instant::now() + PATIENCE;
    let mut pause = RETRY.0;
    while Instant::now() < give_up {
        tokio::select! {
            () = tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())) => {}
            () = to.closed() => return None,
        }
        pause = (pause * 2).min(RETRY.1);
        match enter(backend, seat.clone()).await {
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
