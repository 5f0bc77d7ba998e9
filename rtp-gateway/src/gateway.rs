//! What there is in this process: peers, ports and connections, by their ids, within bounds.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    Args,
    cluster::Cluster,
    connection::{AFTERLIFE, Common, DataConnection, MediaConnection, Stage},
    ice::IceServers,
    ids::{DataConnectionId, DataId, MediaConnectionId, MediaId, RtcpId},
    leg::LegSettings,
    media::{Outlet, Ports},
    peer::{Peer, unix_time},
};

/// A table whose entries come and go.
#[derive(Debug)]
struct Table<K, V>(Mutex<HashMap<K, Arc<V>>>);

impl<K: Eq + Hash, V> Table<K, V> {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, Arc<V>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// Why there is no such peer yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PeerTableError {
    #[error("the service has too many peers")]
    TooMany,
    #[error("a peer of that id is there")]
    Taken,
    #[error(transparent)]
    Ending(#[from] Ending),
}

/// Nothing new begins here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gateway is about to end")]
pub(crate) struct Ending;

/// Why a connection does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectionTableError {
    #[error("the service has too many connections")]
    TooMany,
    #[error(transparent)]
    Ending(#[from] Ending),
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) cluster: Cluster,
    pub(crate) args: Args,
    pub(crate) media: Ports<MediaId>,
    pub(crate) rtcp: Ports<RtcpId>,
    pub(crate) data: Ports<DataId>,
    pub(crate) stop: CancellationToken,
    draining: AtomicBool,
    outlet: Arc<Outlet>,
    ice_servers: IceServers,
    peers: Table<String, Peer>,
    media_connections: Table<MediaConnectionId, MediaConnection>,
    data_connections: Table<DataConnectionId, DataConnection>,
}

impl Gateway {
    pub(crate) fn new(
        args: Args,
        ice_servers: IceServers,
        cluster: Cluster,
        outlet: Outlet,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let total = Arc::new(AtomicUsize::new(0));
        let (address, most) = (args.rtp_address, args.max_ports);
        Arc::new(Self {
            media: Ports::new(address, total.clone(), most),
            rtcp: Ports::new(address, total.clone(), most),
            data: Ports::new(address, total, most),
            draining: AtomicBool::new(false),
            outlet: Arc::new(outlet),
            ice_servers,
            peers: Table::default(),
            media_connections: Table::default(),
            data_connections: Table::default(),
            cluster,
            args,
            stop,
        })
    }

    /// How long a request for events waits.
    pub(crate) fn event_timeout(&self) -> Duration {
        Duration::from_secs(self.args.event_timeout)
    }

    /// What a new connection needs.
    pub(crate) fn stage(&self, turn: bool) -> Stage {
        Stage {
            cluster: self.cluster.clone(),
            leg: LegSettings {
                addresses: self.args.webrtc_address.clone(),
                ice_servers: self.ice_servers.for_leg(turn, unix_time()),
            },
            outlet: self.outlet.clone(),
        }
    }

    /// From now on nothing new begins; what there is goes on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn takes_more(&self) -> Result<(), Ending> {
        if self.draining.load(Ordering::Relaxed) { Err(Ending) } else { Ok(()) }
    }

    /// Whether a service has nothing left that must not be cut off.
    pub(crate) fn is_idle(&self) -> bool {
        self.media_connections.lock().values().all(|one| one.common.ended.is_cancelled())
            && self.data_connections.lock().values().all(|one| one.common.ended.is_cancelled())
    }

    pub(crate) fn peer(&self, id: &str) -> Option<Arc<Peer>> {
        self.peers.lock().get(id).cloned()
    }

    /// Whether a peer of that id may come.
    pub(crate) fn has_room_for_peer(&self, id: &str, service: &str) -> Result<(), PeerTableError> {
        self.takes_more()?;
        let peers = self.peers.lock();
        if peers.contains_key(id) {
            return Err(PeerTableError::Taken);
        }
        if peers.values().filter(|peer| peer.service.id == service).count() >= self.args.max_peers {
            return Err(PeerTableError::TooMany);
        }
        Ok(())
    }

    /// Makes a peer known.
    pub(crate) fn add_peer(&self, peer: Peer) -> Result<Arc<Peer>, PeerTableError> {
        let mut peers = self.peers.lock();
        if peers.contains_key(&peer.id) {
            return Err(PeerTableError::Taken);
        }
        let peer = Arc::new(peer);
        peers.insert(peer.id.clone(), peer.clone());
        metrics::gauge!("kaigi_gateway_peers").set(peers.len() as f64);
        Ok(peer)
    }

    /// Ends a peer's connections and forgets it; where it did not leave by itself, after a while, in which its last events can be fetched.
    pub(crate) fn remove_peer(self: &Arc<Self>, peer: &Arc<Peer>, later: bool) {
        let by_client = peer.stop.is_cancelled();
        peer.stop.cancel();
        let (gateway, peer) = (self.clone(), peer.clone());
        let forget = move || {
            let mut peers = gateway.peers.lock();
            if peers.get(&peer.id).is_some_and(|known| Arc::ptr_eq(known, &peer)) {
                peers.remove(&peer.id);
            }
            metrics::gauge!("kaigi_gateway_peers").set(peers.len() as f64);
        };
        if later && !by_client {
            tokio::spawn(async move {
                tokio::time::sleep(AFTERLIFE).await;
                forget();
            });
        } else {
            forget();
        }
    }

    pub(crate) fn media_connection(&self, id: &MediaConnectionId) -> Option<Arc<MediaConnection>> {
        self.media_connections.lock().get(id).cloned()
    }

    pub(crate) fn data_connection(&self, id: &DataConnectionId) -> Option<Arc<DataConnection>> {
        self.data_connections.lock().get(id).cloned()
    }

    /// How many connections a service has.
    fn connections_of(&self, service: &str) -> usize {
        let media = self.media_connections.lock().values().filter(|one| one.service == service).count();
        media + self.data_connections.lock().values().filter(|one| one.service == service).count()
    }

    /// Whether a service may have one more connection.
    fn has_room_for_connection(&self, service: &str) -> Result<(), ConnectionTableError> {
        self.takes_more()?;
        let full = self.connections_of(service) >= self.args.max_connections;
        if full { Err(ConnectionTableError::TooMany) } else { Ok(()) }
    }

    /// Makes a connection known until it is over, and its ports with it.
    pub(crate) fn add_media_connection(
        self: &Arc<Self>,
        connection: MediaConnection,
    ) -> Result<Arc<MediaConnection>, ConnectionTableError> {
        self.has_room_for_connection(&connection.service)?;
        let connection = Arc::new(connection);
        self.media_connections.lock().insert(connection.id.clone(), connection.clone());
        let (gateway, added) = (self.clone(), connection.clone());
        tokio::spawn(async move {
            added.common.forgotten().await;
            gateway.media_connections.lock().remove(&added.id);
            let ports = added.ports.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // Those that others use stay.
            ports.media.iter().for_each(|id| drop(gateway.media.close(id)));
            ports.rtcp.iter().for_each(|id| drop(gateway.rtcp.close(id)));
        });
        metrics::counter!("kaigi_gateway_connections_total", "kind" => "media").increment(1);
        Ok(connection)
    }

    /// The same with a connection of data.
    pub(crate) fn add_data_connection(
        self: &Arc<Self>,
        connection: DataConnection,
    ) -> Result<Arc<DataConnection>, ConnectionTableError> {
        self.has_room_for_connection(&connection.service)?;
        let connection = Arc::new(connection);
        self.data_connections.lock().insert(connection.id.clone(), connection.clone());
        let (gateway, added) = (self.clone(), connection.clone());
        tokio::spawn(async move {
            added.common.forgotten().await;
            gateway.data_connections.lock().remove(&added.id);
            let ports = added.ports.lock().unwrap_or_else(PoisonError::into_inner).clone();
            ports.iter().for_each(|id| drop(gateway.data.close(id)));
        });
        metrics::counter!("kaigi_gateway_connections_total", "kind" => "data").increment(1);
        Ok(connection)
    }

    /// Ends a connection, and waits until it has.
    pub(crate) async fn close(common: &Common) {
        common.stop.cancel();
        let _: Result<_, _> = tokio::time::timeout(Duration::from_secs(2), common.ended.cancelled()).await;
    }
}
