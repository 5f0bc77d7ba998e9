//! One peer's WebSocket: an actor between the client and its seat at the hub.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kaigi_proto::v1::PeerSpace;
use kaigi_room_client::{PeerEntered, PeerNews, PeerSeat};
use tokio::time::Instant;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        protocol::{CloseFrame, frame::coding::CloseCode},
    },
};
use tonic::Code;

use super::{
    message::{self, Outgoing, PeerError, is_name},
    roster::Roster,
};
use crate::{
    backend::CallError,
    signaling::{Place, Signaling},
    web::RateLimit,
};

/// Messages of one peer at once, and a second in the long run. Two that connect send each other some thirty.
const MESSAGES: (u32, f64) = (256, 64.0);
/// Longest wait for a client to read; and for what it says after a close.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client is given so long to hear why it is put out.
const GOODBYE: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Why the socket's actor ends.
#[derive(Debug)]
enum End {
    /// The client closed it, or is gone.
    Gone,
    /// The portal ends.
    Stopping,
    Refused(PeerError),
}

impl From<tungstenite::Error> for End {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Capacity(_) => Self::Refused(PeerError::TooLarge),
            _ => Self::Gone,
        }
    }
}

/// A peer that connects.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) signaling: Signaling,
    pub(super) room: String,
    pub(super) name: String,
    /// Whether it may enter.
    pub(super) admitted: Result<(), PeerError>,
    /// Its share of the connections that there may be.
    pub(super) _place: Place,
}

impl Peer {
    /// Serves the connection to its end.
    pub(super) async fn run(self, mut socket: Socket) {
        let end = match self.serve(&mut socket).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        tracing::debug!(?end, "peer ends");
        let (code, reason) = match end {
            End::Gone => return,
            End::Stopping => (CloseCode::Restart, "the portal ends".to_owned()),
            End::Refused(error) => {
                let _: Result<_, _> = put(&mut socket, error.text(None)).await;
                (CloseCode::from(error.close_code()), error.to_string())
            }
        };
        let frame = CloseFrame { code, reason: reason.into() };
        let close = async {
            if socket.close(Some(frame)).await.is_ok() {
                // Until the client's close frame, so that it hears everything before.
                while let Some(Ok(_)) = socket.next().await {}
            }
        };
        let _: Result<_, _> = tokio::time::timeout(GOODBYE, close).await;
    }

    async fn serve(&self, socket: &mut Socket) -> Result<std::convert::Infallible, End> {
        self.admitted.map_err(End::Refused)?;
        if !is_name(&self.room) || !is_name(&self.name) {
            return Err(End::Refused(PeerError::InvalidName));
        }
        let hub = &self.signaling.backend.peers;
        let entered = hub.enter(PeerSpace::Rooms, &self.room, &self.name, false).await;
        let PeerEntered { seat, mut news, peers } = entered.map_err(|error| End::Refused(refusal(&error)))?;
        tracing::info!("peer enters");
        put(socket, message::existing_peers(&peers)).await?;
        let mut roster = Roster::new(&peers);
        let mut limit = RateLimit::new(MESSAGES.0, MESSAGES.1);
        let limits = &self.signaling.limits;
        let mut ping = tokio::time::interval_at(Instant::now() + limits.ping_interval, limits.ping_interval);
        let mut silent_until = Instant::now() + limits.ping_interval + limits.ping_timeout;
        loop {
            let missing = roster.deadline().map(Instant::from_std);
            tokio::select! {
                biased;
                () = self.signaling.ending.handing_over.cancelled() => return Err(End::Stopping),
                () = self.signaling.stopping.cancelled() => return Err(End::Stopping),
                told = news.recv() => self.tell(socket, &mut roster, told.unwrap_or(PeerNews::Lost)).await?,
                received = socket.next() => {
                    let received = received.ok_or(End::Gone)??;
                    silent_until = Instant::now() + limits.ping_interval + limits.ping_timeout;
                    match received {
                        Message::Text(_) | Message::Binary(_) if !limit.allows((), std::time::Instant::now()) => {
                            return Err(End::Refused(PeerError::TooFast));
                        }
                        Message::Text(text) => self.pass_on(socket, &seat, &text).await?,
                        Message::Binary(_) => put(socket, PeerError::Malformed.text(None)).await?,
                        Message::Close(_) => return Err(End::Gone),
                        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                    }
                }
                _ = ping.tick() => write(socket, Message::Ping(Vec::new().into())).await?,
                () = tokio::time::sleep_until(silent_until) => return Err(End::Gone),
                () = at(missing) => {
                    for peer in roster.overdue(std::time::Instant::now()) {
                        put(socket, message::peer_left(&peer)).await?;
                    }
                }
            }
        }
    }

    async fn tell(&self, socket: &mut Socket, roster: &mut Roster, news: PeerNews) -> Result<(), End> {
        match news {
            PeerNews::Joined(peer) if roster.joined(&peer) => put(socket, message::peer_joined(&peer)).await,
            PeerNews::Left(peer) if roster.left(&peer) => put(socket, message::peer_left(&peer)).await,
            PeerNews::Joined(_) | PeerNews::Left(_) => Ok(()),
            PeerNews::Message { text, .. } => put(socket, text).await,
            PeerNews::Back(peers) => {
                for peer in roster.back(std::time::Instant::now(), peers) {
                    put(socket, message::peer_joined(&peer)).await?;
                }
                Ok(())
            }
            PeerNews::Replaced => Err(End::Refused(PeerError::NameTaken)),
            PeerNews::Lost => Err(End::Refused(PeerError::Unavailable)),
        }
    }

    async fn pass_on(&self, socket: &mut Socket, seat: &PeerSeat, text: &str) -> Result<(), End> {
        let (error, to) = match Outgoing::read(text, &self.name) {
            Ok(Outgoing { to, text }) => match seat.send(&to, text).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_not_found() => (PeerError::UnknownPeer, Some(to)),
                Err(_) => (PeerError::Unavailable, Some(to)),
            },
            Err(error) => (error, None),
        };
        // A name that can't be one is not repeated.
        put(socket, error.text(to.as_deref().filter(|to| is_name(to)))).await
    }
}

/// Why the hub lets nobody in.
fn refusal(error: &CallError) -> PeerError {
    match error {
        CallError::Refused { code: Code::AlreadyExists, .. } => PeerError::NameTaken,
        CallError::Refused { code: Code::ResourceExhausted, .. } => PeerError::Full,
        CallError::Refused { code: Code::InvalidArgument, .. } => PeerError::InvalidName,
        _ => PeerError::Unavailable,
    }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn put(socket: &mut Socket, text: String) -> Result<(), End> {
    write(socket, Message::text(text)).await
}

async fn write(socket: &mut Socket, message: Message) -> Result<(), End> {
    match tokio::time::timeout(WRITE_TIMEOUT, socket.send(message)).await {
        Ok(sent) => sent.map_err(End::from),
        Err(_) => Err(End::Gone),
    }
}
