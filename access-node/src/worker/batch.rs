//! Many datagrams a system call: received by `recvmmsg` with GRO, sent with GSO. The kernel's send is the largest cost of
//! forwarding; packets of one frame to one receiver that leave together cost half.

use std::{
    io::IoSliceMut,
    net::{IpAddr, SocketAddr},
};

use bytes::BytesMut;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket};

use crate::transport::{ConnectionId, Path};

/// One receive buffer: the kernel joins up to 64 kB of datagrams in it.
const RECEIVE_BUFFER: usize = 65_536;
/// Most bytes of one send: what fits into the length of an IP datagram (RFC 791 §3.1), less headers.
const MAX_SEND: usize = 65_000;

/// Buffers to receive into.
pub(super) struct Arrivals {
    buffers: Vec<Vec<u8>>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { buffers: vec![vec![0; RECEIVE_BUFFER]; BATCH_SIZE] }
    }
}

impl Arrivals {
    /// Receives what is there, up to a batch; `false` if there was nothing.
    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        state: &UdpSocketState,
        mut take: impl FnMut(SocketAddr, Option<IpAddr>, &[u8]),
    ) -> bool {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let received = {
            let mut slices: Vec<IoSliceMut<'_>> =
                self.buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
            socket.try_io(Interest::READABLE, || state.recv(socket.into(), &mut slices, &mut metas))
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

/// Buffers to send from.
#[derive(Default)]
pub(super) struct Departures {
    order: Vec<usize>,
    joined: Vec<u8>,
    dropped: u64,
}

impl Departures {
    /// Datagrams that the kernel did not take.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Sends datagrams, those to one receiver together and in order; frames go to `tcp`.
    pub(super) fn send(
        &mut self,
        socket: &UdpSocket,
        state: &UdpSocketState,
        datagrams: &mut Vec<(Path, BytesMut)>,
        mut tcp: impl FnMut(ConnectionId, &[u8]),
    ) {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        order.extend(0..datagrams.len());
        order.sort_by_key(|at| datagrams[*at].0.peer);
        let mut rest = &order[..];
        while let [first, ..] = rest {
            let (path, bytes) = &datagrams[*first];
            if let Some(connection) = path.peer.tcp {
                tcp(connection, bytes);
                rest = &rest[1..];
                continue;
            }
            let sizes = rest.iter().map(|at| &datagrams[*at]);
            let count = joinable(state, sizes.take_while(|(p, _)| p == path).map(|(_, d)| d.len()));
            let together = rest[..count].iter().map(|at| &datagrams[*at].1[..]);
            self.transmit(socket, state, path.peer.address, path.local, together);
            rest = &rest[count..];
        }
        self.order = order;
        datagrams.clear();
    }

    /// Sends datagrams in order.
    pub(super) fn send_plain(
        &mut self,
        socket: &UdpSocket,
        state: &UdpSocketState,
        datagrams: &mut Vec<(SocketAddr, BytesMut)>,
    ) {
        let mut rest = &datagrams[..];
        while let [(address, _), ..] = rest {
            let sizes = rest.iter().take_while(|(a, _)| a == address).map(|(_, d)| d.len());
            let count = joinable(state, sizes);
            self.transmit(socket, state, *address, None, rest[..count].iter().map(|(_, d)| &d[..]));
            rest = &rest[count..];
        }
        datagrams.clear();
    }

    fn transmit<'d>(
        &mut self,
        socket: &UdpSocket,
        state: &UdpSocketState,
        to: SocketAddr,
        from: Option<IpAddr>,
        datagrams: impl Iterator<Item = &'d [u8]>,
    ) {
        self.joined.clear();
        let (mut segment, mut count) = (0, 0u64);
        for datagram in datagrams {
            segment = segment.max(datagram.len());
            self.joined.extend_from_slice(datagram);
            count += 1;
        }
        let is_v6 = socket.local_addr().is_ok_and(|local| local.is_ipv6());
        let map = |ip: IpAddr| match ip {
            IpAddr::V4(v4) if is_v6 => IpAddr::V6(v4.to_ipv6_mapped()),
            other => other,
        };
        let destination = SocketAddr::new(map(to.ip()), to.port());
        let src_ip = from.map(map);
        let send = |contents: &[u8], segment_size: Option<usize>| {
            let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip };
            socket.try_io(Interest::WRITABLE, || state.try_send(socket.into(), &transmit))
        };
        let Err(error) = send(&self.joined, (count > 1).then_some(segment)) else { return };
        if count > 1 && error.kind() != std::io::ErrorKind::WouldBlock {
            // The network card can't segment: one by one then.
            let failed = self.joined.chunks(segment).filter(|datagram| send(datagram, None).is_err()).count();
            self.dropped += failed as u64;
        } else {
            tracing::trace!(%error, to = %destination, "datagrams not sent");
            self.dropped += count;
        }
    }
}

/// How many datagrams of these sizes can be one send: all of one size but the last, which may be smaller.
fn joinable(state: &UdpSocketState, mut sizes: impl Iterator<Item = usize>) -> usize {
    let Some(segment) = sizes.next() else { return 0 };
    let (mut count, mut total) = (1, segment);
    for size in sizes {
        total += size;
        if size > segment || total > MAX_SEND || count >= state.max_gso_segments() {
            break;
        }
        count += 1;
        if size < segment {
            break;
        }
    }
    count
}
