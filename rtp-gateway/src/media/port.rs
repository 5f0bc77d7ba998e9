//! Ports on which devices' datagrams come in. A port may serve several connections: each gets all that comes.

use std::{
    collections::HashMap,
    hash::Hash,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use tokio::{net::UdpSocket, sync::broadcast, task::JoinHandle};

/// Datagrams that wait for a connection; of more the oldest are lost.
const MAX_WAITING: usize = 512;
/// Longest datagram.
const MAX_DATAGRAM: usize = 65_535;

/// An open port. It closes when nobody has it any more.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) address: SocketAddr,
    datagrams: broadcast::Sender<Bytes>,
    users: AtomicUsize,
    reader: JoinHandle<()>,
}

impl Port {
    async fn open(address: IpAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(SocketAddr::new(address, 0)).await?;
        let address = socket.local_addr()?;
        let (datagrams, _) = broadcast::channel(MAX_WAITING);
        let to = datagrams.clone();
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; MAX_DATAGRAM];
            loop {
                match socket.recv_from(&mut buffer).await {
                    // Nobody may want it: then it is not even copied.
                    Ok((length, _)) if to.receiver_count() > 0 => {
                        let _: Result<_, _> = to.send(Bytes::copy_from_slice(&buffer[..length]));
                    }
                    Ok(_) => {}
                    Err(error) => tracing::debug!(%error, "a port's socket"),
                }
            }
        });
        Ok(Self { address, datagrams, users: AtomicUsize::new(0), reader })
    }

    /// Whether a connection has it.
    pub(crate) fn is_used(&self) -> bool {
        self.users.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A connection's use of a port.
#[derive(Debug)]
pub(crate) struct Use(Arc<Port>);

impl Use {
    pub(crate) fn of(port: Arc<Port>) -> Self {
        port.users.fetch_add(1, Ordering::Relaxed);
        Self(port)
    }

    /// All that comes from now on.
    pub(crate) fn datagrams(&self) -> broadcast::Receiver<Bytes> {
        self.0.datagrams.subscribe()
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why a port is not to be had, or not closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    #[error("there are too many ports")]
    TooMany,
    #[error("no port: {0}")]
    Socket(#[from] io::Error),
    #[error("a connection uses it")]
    InUse,
    #[error("there is no such port")]
    Unknown,
}

/// The ports of one kind, by their ids.
#[derive(Debug)]
pub(crate) struct Ports<Id> {
    address: IpAddr,
    open: Mutex<HashMap<Id, Arc<Port>>>,
    /// How many there are of all kinds.
    total: Arc<AtomicUsize>,
    most: usize,
}

impl<Id: Clone + Eq + Hash> Ports<Id> {
    /// None yet, at `address`, at most `most` with those of other kinds in `total`.
    pub(crate) fn new(address: IpAddr, total: Arc<AtomicUsize>, most: usize) -> Self {
        Self { address, open: Mutex::default(), total, most }
    }

    /// Opens one; gives where it is.
    pub(crate) async fn open(&self, id: Id) -> Result<SocketAddr, PortError> {
        if self.total.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.total.fetch_sub(1, Ordering::Relaxed);
            return Err(PortError::TooMany);
        }
        match Port::open(self.address).await {
            Ok(port) => {
                let address = port.address;
                self.lock().insert(id, Arc::new(port));
                Ok(address)
            }
            Err(error) => {
                self.total.fetch_sub(1, Ordering::Relaxed);
                Err(error.into())
            }
        }
    }

    pub(crate) fn get(&self, id: &Id) -> Option<Arc<Port>> {
        self.lock().get(id).cloned()
    }

    /// Closes one that no connection uses.
    pub(crate) fn close(&self, id: &Id) -> Result<(), PortError> {
        let mut open = self.lock();
        if open.get(id).ok_or(PortError::Unknown)?.is_used() {
            return Err(PortError::InUse);
        }
        open.remove(id);
        self.total.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Id, Arc<Port>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(most: usize) -> Ports<u32> {
        Ports::new("127.0.0.1".parse().unwrap(), Arc::default(), most)
    }

    #[tokio::test]
    async fn a_port_gives_each_of_its_users_all_that_comes() {
        let ports = ports(1);
        let address = ports.open(1).await.unwrap();
        let port = ports.get(&1).unwrap();
        let (one, other) = (Use::of(port.clone()), Use::of(port));
        let (mut first, mut second) = (one.datagrams(), other.datagrams());
        let device = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        device.send_to(b"hello", address).await.unwrap();
        assert_eq!(&first.recv().await.unwrap()[..], b"hello");
        assert_eq!(&second.recv().await.unwrap()[..], b"hello");
        assert!(matches!(ports.close(&1), Err(PortError::InUse)));
        drop(one);
        drop(other);
        ports.close(&1).unwrap();
        assert!(matches!(ports.close(&1), Err(PortError::Unknown)));
    }

    #[tokio::test]
    async fn ports_are_bounded_and_closed_ones_make_room() {
        let ports = ports(1);
        let address = ports.open(1).await.unwrap();
        assert!(matches!(ports.open(2).await, Err(PortError::TooMany)));
        ports.close(&1).unwrap();
        ports.open(2).await.unwrap();
        // The socket is gone with its reader.
        while UdpSocket::bind(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}
