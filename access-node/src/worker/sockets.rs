//! A worker's sockets.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdTcpListener, UdpSocket as StdUdpSocket},
};

use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::Interest,
    net::{TcpListener, UdpSocket},
};

/// Kernel buffers of UDP sockets, in bytes: a tenth of a second of 400 Mbit/s. The kernel gives less if `net.core.rmem_max` says so.
const BUFFER: usize = 5 << 20;
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 256;
/// Attempts to find a port that is free for both UDP and TCP.
const ATTEMPTS: usize = 16;

/// An address that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("can't use {protocol} {address}: {source}")]
pub struct BindError {
    protocol: &'static str,
    address: SocketAddr,
    source: io::Error,
}

/// Sockets that are bound but not yet watched.
#[derive(Debug)]
pub struct Sockets {
    udp: StdUdpSocket,
    tcp: StdTcpListener,
    link: StdUdpSocket,
    media_address: SocketAddr,
    link_address: SocketAddr,
}

impl Sockets {
    /// Binds UDP and TCP for clients on one port (0 takes one that is free for both), and UDP for other nodes on any.
    ///
    /// # Errors
    /// If an address is in use or not the machine's.
    pub fn bind(media: SocketAddr, link: IpAddr) -> Result<Self, BindError> {
        let (udp, tcp) = bind_media(media)?;
        let link_address = SocketAddr::new(link, 0);
        let link = bind_udp(link_address)?;
        let address = |result: io::Result<SocketAddr>, wanted| {
            result.map_err(|source| BindError { protocol: "UDP", address: wanted, source })
        };
        let media_address = address(udp.local_addr(), media)?;
        let link_address = address(link.local_addr(), link_address)?;
        Ok(Self { udp, tcp, link, media_address, link_address })
    }

    /// Where clients' media comes in.
    #[must_use]
    pub fn media_address(&self) -> SocketAddr {
        self.media_address
    }

    /// Where other nodes' media comes in.
    #[must_use]
    pub fn link_address(&self) -> SocketAddr {
        self.link_address
    }

    /// Watches them on the current runtime.
    pub(super) fn open(self) -> io::Result<Open> {
        Ok(Open {
            udp: Udp::open(self.udp)?,
            tcp: TcpListener::from_std(self.tcp)?,
            link: Udp::open(self.link)?,
        })
    }
}

/// Sockets in use.
pub(super) struct Open {
    pub(super) udp: Udp,
    pub(super) tcp: TcpListener,
    pub(super) link: Udp,
}

/// A UDP socket in use, with GRO and the own address of each datagram.
pub(super) struct Udp {
    pub(super) socket: UdpSocket,
    pub(super) state: UdpSocketState,
    /// Most datagrams that the kernel cuts one message into; 1 if it can't.
    pub(super) max_segments: usize,
    is_v6: bool,
}

impl Udp {
    /// Watches it on the current runtime.
    pub(super) fn open(socket: StdUdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let is_v6 = socket.local_addr()?.is_ipv6();
        Ok(Self {
            max_segments: state.max_gso_segments(),
            socket: UdpSocket::from_std(socket)?,
            state,
            is_v6,
        })
    }

    /// All that was there has been read: to be ready it takes what comes next. Saves the call that would say so.
    pub(super) fn is_empty_now(&self) {
        let nothing = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
        let _ = self.socket.try_io(Interest::READABLE, nothing);
    }

    /// An address as the socket's family writes it.
    pub(super) fn ip(&self, ip: IpAddr) -> IpAddr {
        match ip {
            IpAddr::V4(v4) if self.is_v6 => IpAddr::V6(v4.to_ipv6_mapped()),
            other => other,
        }
    }

    /// The same with a port.
    pub(super) fn address(&self, address: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.ip(address.ip()), address.port())
    }
}

fn bind_media(address: SocketAddr) -> Result<(StdUdpSocket, StdTcpListener), BindError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let udp = bind_udp(address)?;
        let port = udp.local_addr().map_or(address.port(), |bound| bound.port());
        let same = SocketAddr::new(address.ip(), port);
        match bind_tcp(same) {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(_) if address.port() == 0 && attempt < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}

fn bind_udp(address: SocketAddr) -> Result<StdUdpSocket, BindError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(BUFFER)?;
        socket.set_send_buffer_size(BUFFER)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    bind().map_err(|source| BindError { protocol: "UDP", address, source })
}

fn bind_tcp(address: SocketAddr) -> Result<StdTcpListener, BindError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bind().map_err(|source| BindError { protocol: "TCP", address, source })
}
