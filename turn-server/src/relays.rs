//! Sockets of allocations: each is one port, where peers send to.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    sync::Arc,
};

use tokio::{net::UdpSocket, sync::mpsc, task::AbortHandle};

use crate::{
    core::{AllocationId, Family},
    listeners::udp,
    shell::{Event, MAX_DATAGRAM},
};

/// Ports that are tried until one is free.
const TRIES: usize = 64;

struct Relay {
    socket: Arc<UdpSocket>,
    reader: AbortHandle,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// All of them.
pub(crate) struct Relays {
    /// Where sockets are bound, and what clients are told in place of that.
    addresses: Vec<(IpAddr, IpAddr)>,
    ports: RangeInclusive<u16>,
    open: HashMap<AllocationId, Relay>,
    events: mpsc::Sender<Event>,
}

impl Relays {
    /// `bind` is where the server listens; `announced` has an address for each family.
    pub(crate) fn new(
        bind: IpAddr,
        announced: Vec<IpAddr>,
        ports: RangeInclusive<u16>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let any = |ip: &IpAddr| match ip {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let bound = |ip: &IpAddr| if ip.is_ipv4() == bind.is_ipv4() { bind } else { any(ip) };
        let addresses = announced.iter().map(|ip| (bound(ip), *ip)).collect();
        Self { addresses, ports, open: HashMap::new(), events }
    }

    /// Opens a socket; where peers reach it.
    pub(crate) fn open(&mut self, id: AllocationId, family: Family) -> io::Result<SocketAddr> {
        let found = self.addresses.iter().find(|(_, ip)| Family::of(*ip) == family);
        let (bound, announced) = found.ok_or(io::ErrorKind::Unsupported)?;
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..TRIES {
            // By chance, so that nobody knows the next one (RFC 8656 §21.1.3).
            let port = rand::random_range(self.ports.clone());
            match udp(SocketAddr::new(*bound, port)) {
                Ok(socket) => {
                    let socket = Arc::new(socket);
                    let reader =
                        tokio::spawn(read(Arc::clone(&socket), id, self.events.clone())).abort_handle();
                    self.open.insert(id, Relay { socket, reader });
                    return Ok(SocketAddr::new(*announced, port));
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(crate) fn close(&mut self, id: AllocationId) {
        self.open.remove(&id);
    }

    /// Sends at once or not at all, as a network does.
    pub(crate) fn send(&self, id: AllocationId, peer: SocketAddr, payload: &[u8]) {
        if let Some(relay) = self.open.get(&id) {
            let _ = relay.socket.try_send_to(payload, peer);
        }
    }
}

async fn read(socket: Arc<UdpSocket>, id: AllocationId, events: mpsc::Sender<Event>) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        match socket.recv_from(&mut buffer).await {
            // Full: the server has more to do than it can, and datagrams get lost.
            Ok((length, from)) => drop(events.try_send(Event::Peer(id, from, buffer[..length].into()))),
            // Of something that was sent before; not of this socket.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}
