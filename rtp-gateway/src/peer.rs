//! A peer: a seat at the hub, and the connections that come and go by it.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kaigi_room_client::{PeerNews, PeerSeat};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::Service,
    connection::{
        Answer, Common, DataConnection, MediaConnection, PeerWay, Pending, Serialization, Signal, Wire,
        accept_data, ring,
    },
    gateway::Gateway,
    ids::{DataConnectionId, MediaConnectionId, Token},
    leg::Offered,
    mailbox::Mailbox,
};

/// How long before the end of a credential its owner is told.
const WARNING: Duration = Duration::from_secs(300);
/// Signals that wait for a connection; of more those that come are lost.
const MAX_SIGNALS: usize = 32;

/// Who waits for what another peer says.
struct Route {
    remote: String,
    /// How the connection is called between two gateways.
    name: Option<String>,
    inbox: mpsc::Sender<Signal>,
    connection: Weak<dyn AsRef<Common> + Send + Sync>,
    /// By what the other side's descriptions are known to be of one connection.
    session: Option<String>,
}

impl Route {
    /// Whether a signal is of this connection. A page that is opened anew has the name of the one before, and offers another session.
    fn is_of(&mut self, signal: &Signal) -> bool {
        let (Signal::Offer { sdp, .. } | Signal::Answer { sdp }) = signal else { return true };
        let offered = session(sdp).map(str::to_owned);
        let is_other =
            matches!(signal, Signal::Offer { .. }) && self.session.is_some() && self.session != offered;
        if !is_other {
            self.session = offered;
        }
        !is_other
    }
}

/// See the module's description.
pub(crate) struct Peer {
    /// Who it is for others, and for the API.
    pub(crate) id: String,
    pub(crate) token: Token,
    pub(crate) service: Service,
    /// Whether TURN servers are used.
    pub(crate) turn: bool,
    pub(crate) events: Mailbox,
    pub(crate) stop: CancellationToken,
    seat: PeerSeat,
    routes: Mutex<Vec<Route>>,
    /// When its credential ends.
    expires: watch::Sender<Option<Instant>>,
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Peer {
    pub(crate) fn new(
        id: String,
        service: Service,
        turn: bool,
        seat: PeerSeat,
        good_for: Option<Duration>,
        stop: CancellationToken,
    ) -> Self {
        let peer = Self {
            id,
            token: Token::random(),
            service,
            turn,
            events: Mailbox::default(),
            stop,
            seat,
            routes: Mutex::default(),
            expires: watch::channel(good_for.map(|left| Instant::now() + left)).0,
        };
        peer.events.put(json!({"event": "OPEN", "params": {"peer_id": peer.id, "token": peer.token}}));
        peer
    }

    /// Whether it is here by a credential.
    pub(crate) fn has_credential(&self) -> bool {
        self.expires.borrow().is_some()
    }

    /// Its credential is good for so long from now on.
    pub(crate) fn renew(&self, left: Duration) {
        self.expires.send_replace(Some(Instant::now() + left));
    }

    /// The way to another peer, for one connection.
    pub(crate) fn way(
        &self,
        to: &str,
        name: Option<String>,
        connection: Weak<dyn AsRef<Common> + Send + Sync>,
        session: Option<String>,
    ) -> PeerWay {
        let (sender, inbox) = mpsc::channel(MAX_SIGNALS);
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        routes.retain(|route| !route.inbox.is_closed());
        routes.push(Route { remote: to.to_owned(), name: name.clone(), inbox: sender, connection, session });
        PeerWay {
            seat: self.seat.clone(),
            from: self.id.clone(),
            to: to.to_owned(),
            connection: name,
            inbox,
            early: Vec::new(),
        }
    }

    /// Hands a signal to the connection that it is of; gives it back if there is none.
    fn deliver(&self, from: &str, wire: Wire) -> Option<Wire> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut with =
            routes.iter_mut().rev().filter(|route| route.remote == from && !route.inbox.is_closed());
        let route = match &wire.connection {
            Some(name) => with.find(|route| route.name.as_ref() == Some(name)),
            // A page has one connection with each peer, the one begun last.
            None => with.next(),
        };
        match route {
            Some(route) => {
                let is_of = route.is_of(&wire.signal);
                let (passed, left) = if is_of { (wire.signal, None) } else { (Signal::Leave, Some(wire)) };
                if route.inbox.try_send(passed).is_err() {
                    tracing::debug!(from, "a signal is lost");
                }
                left
            }
            None => Some(wire),
        }
    }

    /// Tells somebody whose call can't be taken; a page does not know the message, and waits.
    fn refuse(&self, from: &str, connection: Option<String>) {
        let (seat, to) = (self.seat.clone(), from.to_owned());
        let text = Wire { connection, signal: Signal::Leave }.text(&self.id);
        tokio::spawn(async move {
            if let Err(error) = seat.send(&to, text).await {
                tracing::debug!(%error, "who has called is not told that the call is not taken");
            }
        });
    }

    /// Somebody is not there any more: calls that are not yet answered will not be. Those that are go on without the hub.
    fn left(&self, who: &str) {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        for route in routes.iter().filter(|route| route.remote == who) {
            let is_open = route.connection.upgrade().is_some_and(|one| (*one).as_ref().is_open());
            if !is_open {
                let _: Result<_, _> = route.inbox.try_send(Signal::Leave);
            }
        }
    }
}

/// Follows what a peer is told, to its end.
pub(crate) async fn serve(gateway: Arc<Gateway>, peer: Arc<Peer>, mut news: mpsc::Receiver<PeerNews>) {
    let mut expires = peer.expires.subscribe();
    let mut warned = false;
    let error = loop {
        let end = *expires.borrow_and_update();
        let warning = end.filter(|_| !warned).map(|end| end.checked_sub(WARNING).unwrap_or(end));
        tokio::select! {
            biased;
            () = peer.stop.cancelled() => break None,
            told = news.recv() => match told {
                Some(PeerNews::Message { from, text }) => take(&gateway, &peer, &from, &text),
                Some(PeerNews::Left(who)) => peer.left(&who),
                Some(PeerNews::Joined(_) | PeerNews::Back(_)) => {}
                Some(PeerNews::Replaced | PeerNews::Lost) | None => break Some("SERVER_DISCONNECTED"),
            },
            _ = expires.changed() => warned = false,
            () = at(warning) => {
                warned = true;
                let left = end.map_or(Duration::ZERO, |end| end.saturating_duration_since(Instant::now()));
                peer.events.put(json!({"event": "EXPIRESIN", "remainingSec": left.as_secs()}));
            }
            () = at(end) => break Some("INVALID_KEY"),
        }
    };
    if let Some(error) = error {
        peer.events.put(json!({"event": "ERROR", "error_message": error}));
    }
    peer.events.put(json!({"event": "CLOSE"}));
    tracing::info!(peer = peer.id, error, "a peer has left");
    gateway.remove_peer(&peer, error.is_some());
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// Takes what another peer has sent.
fn take(gateway: &Arc<Gateway>, peer: &Arc<Peer>, from: &str, text: &str) {
    let Some(wire) = Wire::read(text) else { return };
    let Some(Wire { connection, signal: Signal::Offer { sdp, metadata } }) = peer.deliver(from, wire) else {
        return;
    };
    let offered = Offered::of(&sdp);
    let common = || Common::new(from.to_owned(), Value::Object(metadata.clone()), peer.stop.child_token());
    let stage = gateway.stage(peer.turn);
    if offered.audio || offered.video {
        let (answer, answered) = oneshot::channel();
        let id = MediaConnectionId::random();
        let new = MediaConnection::new(id.clone(), peer.service.id.clone(), common(), Some(Answer(answer)));
        let Ok(new) = gateway.add_media_connection(new) else { return peer.refuse(from, connection) };
        let known: Arc<dyn AsRef<Common> + Send + Sync> = new.clone();
        let way = peer.way(from, connection, Arc::downgrade(&known), session(&sdp).map(str::to_owned));
        tokio::spawn(ring(new, stage, Pending { way, offer: sdp, answer: answered }));
        peer.events.put(json!({"event": "CALL", "call_params": {"media_connection_id": id}}));
    } else if offered.data {
        let id = DataConnectionId::random();
        let new =
            DataConnection::new(id.clone(), peer.service.id.clone(), common(), Serialization::default());
        let Ok(new) = gateway.add_data_connection(new) else { return peer.refuse(from, connection) };
        let known: Arc<dyn AsRef<Common> + Send + Sync> = new.clone();
        let way = peer.way(from, connection, Arc::downgrade(&known), session(&sdp).map(str::to_owned));
        tokio::spawn(accept_data(new, stage, way, sdp));
        peer.events.put(json!({"event": "CONNECTION", "data_params": {"data_connection_id": id}}));
    }
}

/// The session that a description is of: the user's name and the id of its origin (RFC 8866 §5.2), which further offers have, too.
fn session(sdp: &str) -> Option<&str> {
    let origin = sdp.lines().find_map(|line| line.strip_prefix("o="))?;
    let (end, _) = origin.match_indices(' ').nth(1)?;
    Some(&origin[..end])
}

/// Unix time in seconds.
pub(crate) fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_known_by_its_origin() {
        let sdp = "v=0\r\no=- 4711 2 IN IP4 127.0.0.1\r\ns=-\r\n";
        assert_eq!(session(sdp), Some("- 4711"));
        assert_eq!(session("v=0\r\no=-\r\n"), None);
    }
}
