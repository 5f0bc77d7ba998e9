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
    /// Receives what is there, up to a batch; how many messages that were.
    pub(super) fn receive(
        &mut self,
        udp: &Udp,
        mut take: impl FnMut(SocketAddr, Option<IpAddr>, &[u8]),
    ) -> usize {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let received = {
            let mut slices = self.buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
            udp.socket
                .try_io(Interest::READABLE, || udp.state.recv((&udp.socket).into(), &mut slices, &mut metas))
        };
        let Ok(received) = received else { return 0 };
        for (meta, buffer) in metas.iter().zip(&self.buffers).take(received) {
            let bytes = buffer.get(..meta.len).unwrap_or_default();
            let peer = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            for datagram in bytes.chunks(meta.stride.max(1)) {
                take(peer, meta.dst_ip.map(|ip| ip.to_canonical()), datagram);
            }
        }
        received
    }

    /// Whether that many messages are all that was there.
    pub(super) fn is_all(received: usize) -> bool {
        received < BATCH_SIZE
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

    #[tokio::test]
    async fn a_socket_that_was_emptied_is_readable_again_when_something_comes() {
        let socket = StdUdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let to = socket.local_addr().unwrap();
        let udp = Udp::open(socket).unwrap();
        let (sender, mut arrivals) = (StdUdpSocket::bind("127.0.0.1:0").unwrap(), Arrivals::default());
        let mut read = |udp: &Udp| {
            let mut datagrams = 0;
            let received = arrivals.receive(udp, |_, _, _| datagrams += 1);
            assert!(Arrivals::is_all(received));
            udp.is_empty_now();
            datagrams
        };
        for count in [1, 3, 1] {
            (0..count).for_each(|_| assert_eq!(sender.send_to(b"x", to).unwrap(), 1));
            let mut datagrams = 0;
            while datagrams < count {
                udp.socket.readable().await.unwrap();
                datagrams += read(&udp);
            }
        }
    }
}
