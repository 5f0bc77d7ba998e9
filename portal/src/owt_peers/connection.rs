//! One client's connection: an actor between its socket and its seat at the hub.

use axum::extract::ConnectInfo;
use kaigi_proto::v1::PeerSpace;
use kaigi_room_client::{PeerEntered, PeerNews, PeerSeat};
use serde_json::{Value, json};
use socketioxide::extract::SocketRef;
use tokio::{
    sync::mpsc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    OwtPeers,
    protocol::{self, Code, Outgoing},
};
use crate::{
    backend::CallError,
    signaling::{Ack, Inbox, Incoming, Place},
    web::RateLimit,
};

/// Messages of one client at once, and a second in the long run. Two that connect send each other some thirty.
const MESSAGES: (u32, f64) = (256, 64.0);
/// Pause between attempts to disconnect a client whose queue is full, and how often.
const DISCONNECT_RETRY: (Duration, u32) = (Duration::from_millis(500), 20);

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The socket is closed.
    Closed,
    /// It is not wanted any more, or can't be served at the moment.
    Disconnect,
    /// The same name came from elsewhere: the client is told not to come back.
    Replaced,
}

/// Somebody who is known.
#[derive(Debug)]
struct Client {
    uid: String,
    seat: PeerSeat,
    news: mpsc::Receiver<PeerNews>,
}

/// The actor.
pub(super) struct Connection {
    peers: OwtPeers,
    socket: SocketRef,
    requests: mpsc::Receiver<Incoming>,
    closed: CancellationToken,
    client: Option<Client>,
    limit: RateLimit<()>,
    _place: Place,
}

impl Connection {
    /// Starts the actor of a new socket.
    pub(super) fn open(peers: OwtPeers, socket: SocketRef, place: Place) {
        let (inbox, requests) = Inbox::new(peers.signaling.limits.message_bytes);
        socket.on_fallback(inbox);
        let closed = CancellationToken::new();
        let closing = closed.clone();
        socket.on_disconnect(async move || closing.cancel());
        let peer =
            socket.req_parts().extensions.get::<ConnectInfo<std::net::SocketAddr>>().map(|info| info.0);
        let span = tracing::info_span!("owt peer", peer = peer.map(tracing::field::display));
        let tracker = peers.signaling.connections.clone();
        let limit = RateLimit::new(MESSAGES.0, MESSAGES.1);
        let connection = Self { peers, socket, requests, closed, client: None, limit, _place: place };
        tracker.spawn(connection.run().instrument(span));
    }

    async fn run(mut self) {
        let end = self.serve().await;
        tracing::debug!(?end, "connection ends");
        self.client = None;
        match end {
            End::Closed => return,
            End::Replaced => {
                self.socket.emit("server-disconnect", &[(); 0]).ok();
            }
            End::Disconnect => {}
        }
        for _ in 0..DISCONNECT_RETRY.1 {
            if self.closed.is_cancelled() || self.socket.clone().disconnect().is_ok() {
                return;
            }
            tokio::time::sleep(DISCONNECT_RETRY.0).await;
        }
    }

    async fn serve(&mut self) -> End {
        let unknown_until = Instant::now() + self.peers.signaling.limits.login;
        loop {
            let end = tokio::select! {
                biased;
                () = self.closed.cancelled() => Some(End::Closed),
                () = self.peers.signaling.stopping.cancelled() => Some(End::Disconnect),
                news = next(&mut self.client) => self.tell(news),
                request = self.requests.recv() => match request {
                    Some(request) => self.handle(request).await,
                    None => Some(End::Closed),
                },
                () = tokio::time::sleep_until(unknown_until), if self.client.is_none() => Some(End::Disconnect),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    fn tell(&mut self, news: PeerNews) -> Option<End> {
        match news {
            PeerNews::Message { text, .. } => {
                let message = protocol::incoming(&text)?;
                // One for whom there is no more place does not read.
                self.socket.emit("owt-message", &message).is_err().then_some(End::Disconnect)
            }
            PeerNews::Replaced => Some(End::Replaced),
            // Clients come back by themselves.
            PeerNews::Lost => Some(End::Disconnect),
            PeerNews::Back(_) | PeerNews::Joined(_) | PeerNews::Left(_) => None,
        }
    }

    async fn handle(&mut self, request: Incoming) -> Option<End> {
        let parsed = request.parse();
        let ack = request.into_ack();
        if !self.limit.allows((), std::time::Instant::now()) {
            ack.plain(Some(&Code::ServerUnavailable.value()));
            return Some(End::Disconnect);
        }
        let (event, data) = parsed?;
        match event.as_str() {
            "authentication" => self.authenticate(&data, ack).await,
            "owt-message" => self.pass_on(data, ack).await,
            _ => None,
        }
    }

    async fn authenticate(&mut self, data: &Value, ack: Ack) -> Option<End> {
        // Its older seat, if it has one, is given up first: it may be the same.
        self.client = None;
        match self.enter(&data["token"]).await {
            Ok(client) => {
                let known = json!({ "uid": client.uid });
                tracing::info!(uid = client.uid, "client is known");
                self.client = Some(client);
                self.socket.emit("server-authenticated", &known).ok();
                ack.plain(Some(&known));
                None
            }
            Err(code) => {
                ack.plain(Some(&json!({ "error": code.number() })));
                Some(End::Disconnect)
            }
        }
    }

    async fn enter(&self, token: &Value) -> Result<Client, Code> {
        let uid = self.peers.uid(token).await?;
        match self.peers.signaling.backend.peers.enter(PeerSpace::Directory, "", &uid, true).await {
            Ok(PeerEntered { seat, news, .. }) => Ok(Client { uid, seat, news }),
            Err(CallError::Refused { .. }) => Err(Code::ServerUnknown),
            Err(_) => Err(Code::ServerUnavailable),
        }
    }

    async fn pass_on(&mut self, data: Value, ack: Ack) -> Option<End> {
        let Some(Client { uid, seat, .. }) = &self.client else {
            ack.plain(Some(&Code::AuthUnknown.value()));
            return Some(End::Disconnect);
        };
        let outcome = match Outgoing::read(data, uid) {
            Ok(Outgoing { to, text }) => {
                let sent = seat.send(&to, text).await;
                sent.map_err(|error| match error {
                    CallError::Refused { .. } => Code::TargetUnreachable,
                    _ => Code::ServerUnavailable,
                })
            }
            Err(code) => Err(code),
        };
        ack.plain(outcome.err().map(Code::value).as_ref());
        None
    }
}

/// What the client's seat tells; never, if it has none. Cancel-safe.
async fn next(client: &mut Option<Client>) -> PeerNews {
    match client {
        Some(client) => client.news.recv().await.unwrap_or(PeerNews::Lost),
        None => std::future::pending().await,
    }
}
