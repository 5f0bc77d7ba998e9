//! Signaling: Socket.IO connections of clients. Each connection is one actor ([`connection`]) that handles its requests in order and
//! passes on what its room tells.

mod connection;
mod delivery;
mod inbox;
mod login;
mod parting;
mod receipts;
mod relogin;
mod room;
mod seats;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kaigi_proto::ids::RoomId;
use kaigi_room_client::{Newcomer, Seated};
use socketioxide::{
    ParserConfig, SocketIo, SocketIoBuilder,
    adapter::LocalAdapter,
    extract::SocketRef,
    handler::{ConnectHandler, Value},
    socket::Socket,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    backend::{Backend, CallError},
    ice_servers::IceServers,
    ident::new_participant_id,
    token::TokenRecord,
};
use connection::Connection;
pub(crate) use inbox::{Ack, Inbox, Incoming};
use receipts::{ReceiptLayer, Sessions};
use seats::Seats;

/// What one connection may cost and how long it is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Largest message of a client, in bytes.
    pub(crate) message_bytes: usize,
    /// Packets that wait for a client that reads slowly; with more it is put out. A room of a hundred sends some three for each that
    /// joins.
    pub(crate) waiting_packets: usize,
    /// Connections of this portal at a time. Each idle one costs some 20 kB.
    pub(crate) connections: usize,
    /// A connection that is not logged in for so long is closed.
    pub(crate) login: Duration,
    /// Time between two pings.
    pub(crate) ping_interval: Duration,
    /// Longest wait for the answer to a ping.
    pub(crate) ping_timeout: Duration,
    /// How often at most a room is told what a client has got.
    pub(crate) acknowledge_interval: Duration,
}

impl Limits {
    /// A Socket.IO server that keeps them, and takes no binary attachments.
    pub(crate) fn socket_io(&self) -> SocketIoBuilder {
        SocketIo::builder()
            .ping_interval(self.ping_interval)
            .ping_timeout(self.ping_timeout)
            .max_payload(self.message_bytes as u64)
            .ws_max_message_size(self.message_bytes)
            .ws_max_frame_size(self.message_bytes)
            .max_buffer_size(self.waiting_packets)
            .with_parser(ParserConfig::common().max_incoming_binaries(0).max_incoming_binary_buf_size(0))
    }

    /// Who is silent for longer is surely disconnected.
    fn longest_silence(&self) -> Duration {
        self.ping_interval + self.ping_timeout + PING_MARGIN
    }
}

/// How far the end of a portal that drains is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ending {
    /// It takes no more of those who could not come back.
    pub(crate) draining: CancellationToken,
    /// Who can come back is sent elsewhere.
    pub(crate) handing_over: CancellationToken,
    /// Those who could not.
    pub(crate) staying: TaskTracker,
}

/// By so much the library may be late to close a connection that has not answered its ping.
const PING_MARGIN: Duration = Duration::from_secs(5);

/// How clients come back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reconnection {
    /// How long the place of a client whose connection broke is kept; zero = not at all.
    pub(crate) window: Duration,
    /// How long a ticket is good.
    pub(crate) ticket_life: Duration,
}

/// What all connections share.
#[derive(Clone, Debug)]
pub(crate) struct Signaling {
    pub(crate) backend: Backend,
    /// This portal, as rooms know it.
    pub(crate) worker_id: String,
    pub(crate) reconnection: Reconnection,
    pub(crate) limits: Limits,
    /// How far the portal's end is.
    pub(crate) ending: Ending,
    /// What clients are told of the way to their media.
    pub(crate) ice_servers: IceServers,
    /// Cancelled when the portal ends: everybody is dropped.
    pub(crate) stopping: CancellationToken,
    /// The actors, to be waited for at the end.
    pub(crate) connections: TaskTracker,
    open: Arc<AtomicUsize>,
    sessions: Sessions,
    seats: Seats,
}

impl Signaling {
    pub(crate) fn new(
        backend: Backend,
        worker_id: String,
        reconnection: Reconnection,
        limits: Limits,
        ice_servers: IceServers,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            backend,
            worker_id,
            reconnection,
            limits,
            ending: Ending::default(),
            ice_servers,
            stopping,
            connections: TaskTracker::new(),
            open: Arc::default(),
            sessions: Sessions::default(),
            seats: Seats::default(),
        }
    }

    /// Takes a place in a room for whom a token stands for; kept for `window` while its stream of events is broken.
    pub(crate) async fn join(
        &self,
        room: &RoomId,
        record: &TokenRecord,
        window: Duration,
    ) -> Result<Seated, CallError> {
        let newcomer = Newcomer {
            room,
            participant: &new_participant_id(),
            user: &record.user.to_string(),
            role: &record.role,
            isp: &record.isp,
            region: &record.region,
            worker: &self.worker_id,
            window,
        };
        self.backend.rooms.join(newcomer).await
    }

    /// Connections that there are.
    pub(crate) fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// One of the connections that this portal may have at a time, if there is one left.
    pub(crate) fn place(&self) -> Option<Place> {
        Place::take(&self.open, self.limits.connections)
    }

    /// The layer that serves `/socket.io/`.
    pub(crate) fn layer(&self) -> ReceiptLayer {
        let (layer, io) = self.limits.socket_io().build_layer();
        io.ns("/", Door(self.clone()));
        ReceiptLayer::new(layer, self.sessions.clone(), self.ending.handing_over.clone())
    }
}

/// Admits connections. The actor is set up before the client is told that it is connected, so that no request can come too early.
#[derive(Clone)]
struct Door(Signaling);

/// Refuses a connection.
#[derive(Debug, thiserror::Error)]
#[error("Too many connections")]
pub(crate) struct TooManyConnections;

impl ConnectHandler<LocalAdapter, Self> for Door {
    fn call(&self, _: Arc<Socket<LocalAdapter>>, _: Option<Value>) {}

    fn call_middleware<'a>(
        &'a self,
        socket: Arc<Socket<LocalAdapter>>,
        _: &'a Option<Value>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Box<dyn std::fmt::Display + Send>>> + Send + 'a>>
    {
        let admitted = self.0.place();
        Box::pin(async move {
            let Some(place) = admitted else {
                return Err(Box::new(TooManyConnections) as Box<dyn std::fmt::Display + Send>);
            };
            Connection::open(self.0.clone(), SocketRef::from(socket), place);
            Ok(())
        })
    }
}

/// One of the connections that are allowed at a time; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let place = Self(open.clone());
        let now = open.fetch_add(1, Ordering::Relaxed) + 1;
        metrics::gauge!("kaigi_portal_connections").set(now as f64);
        (now <= limit).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now = self.0.fetch_sub(1, Ordering::Relaxed) - 1;
        metrics::gauge!("kaigi_portal_connections").set(now as f64);
    }
}
