//! Where packets for devices leave: one socket for each family of addresses, for all.

use std::{io, net::SocketAddr};

use tokio::net::UdpSocket;

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Outlet {
    v4: UdpSocket,
    /// There may be no IPv6.
    v6: Option<UdpSocket>,
}

impl Outlet {
    pub(crate) async fn bind() -> io::Result<Self> {
        Ok(Self { v4: UdpSocket::bind("0.0.0.0:0").await?, v6: UdpSocket::bind("[::]:0").await.ok() })
    }

    /// Sends without waiting: what finds no room is lost, as on a network. Whether it was sent.
    pub(crate) fn send(&self, datagram: &[u8], to: SocketAddr) -> bool {
        let socket = match to {
            SocketAddr::V4(_) => Some(&self.v4),
            SocketAddr::V6(_) => self.v6.as_ref(),
        };
        socket.is_some_and(|socket| socket.try_send_to(datagram, to).is_ok())
    }
}
