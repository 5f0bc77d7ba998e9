//! Many datagrams a system call: received by `recvmmsg`, those of one sender joined by the kernel (GRO).

use std::{
    io::IoSliceMut,
    net::{IpAddr, SocketAddr},
};

use quinn_udp::{BATCH_SIZE, RecvMeta};
use tokio::io::Interest;

use super::sockets::Udp;

/// One receive buffer: the kernel joins up to 64 kB of datagrams in it.
const RECEIVE_BUFFER: usize = 65_536;

/// Buffers to receive into.
pub(super) struct Arrivals {
    buffers: [Vec<u8>; BATCH_SIZE],
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { buffers: std::array::from_fn(|_| vec![0; RECEIVE_BUFFER]) }
    }
}

impl Arrivals {
    /// Receives what is there, up to a batch; `false` if there was nothing.
    pub(super) fn receive(
        &mut self,
        udp: &Udp,
        mut take: impl FnMut(SocketAddr, Option<IpAddr>, &[u8]),
    ) -> bool {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let received = {
            let mut slices = self.buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
            udp.socket
                .try_io(Interest::READABLE, || udp.state.recv((&udp.socket).into(), &mut slices, &mut metas))
        };
        let Ok(received) = received else { return false };
        for (meta, buffer) in metas.iter().zip(&self.buffers).take(received) {
            let bytes = buffer.get(..meta.len).unwrap_or_default();
            let peer = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            for datagram in bytes.chunks(meta.stride.max(1)) {
                take(peer, meta.dst_ip.map(|ip| ip.to_canonical()), datagram);
            }
        }
        received > 0
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as StdUdpSocket;

    use super::*;

    #[tokio::test]
    async fn each_datagram_comes_with_its_addresses_and_without_an_allocation() {
        for (bound, own) in [("127.0.0.1", "127.0.0.1"), ("::", "127.0.0.1"), ("::", "::1")] {
            let socket = StdUdpSocket::bind((bound, 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            let port = socket.local_addr().unwrap().port();
            let udp = Udp::open(socket).unwrap();
            let sender = StdUdpSocket::bind((own, 0)).unwrap();
            for size in 1..=50 {
                sender.send_to(&vec![7; size], (own, port)).unwrap();
            }
            let from = sender.local_addr().unwrap();
            let local: IpAddr = own.parse().unwrap();
            let (mut arrivals, mut sizes) = (Arrivals::default(), Vec::with_capacity(50));
            while sizes.len() < 50 {
                udp.socket.readable().await.unwrap();
                let info = allocation_counter::measure(|| {
                    arrivals.receive(&udp, |peer, to, bytes| {
                        assert_eq!((peer, to), (from, Some(local)));
                        sizes.push(bytes.len());
                    });
                });
                assert_eq!(info.count_total, 0);
            }
            assert_eq!(sizes, (1..=50).collect::<Vec<_>>());
        }
    }
}
