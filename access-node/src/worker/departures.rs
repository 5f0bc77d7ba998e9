//! Many datagrams a system call: sent by `sendmmsg`, those of one size to one receiver as one message that the kernel cuts as late as
//! it can (GSO). The kernel's send is the largest cost of forwarding; packets of one frame to one receiver that leave together cost half.

use std::{
    io::{ErrorKind, IoSlice},
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
};

use tokio::io::Interest;

use super::{
    sendmmsg::{self, MAX_MESSAGES, Message},
    sockets::Udp,
};
use crate::{
    node::{Datagrams, LinkDatagrams},
    transport::ConnectionId,
};

/// Most bytes of one message: what fits into the length of an IP datagram (RFC 791 §3.1), less headers.
const MAX_SEND: usize = 65_000;
/// Datagrams of one system call.
const MAX_PIECES: usize = 512;

/// Where a datagram goes, and from where.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Way {
    to: SocketAddr,
    from: Option<IpAddr>,
}

/// Sends, with buffers that are used again.
#[derive(Default)]
pub(super) struct Departures {
    /// Transport and place of each datagram.
    order: Vec<u64>,
    messages: Vec<Message>,
    sent: u64,
    dropped: u64,
}

impl Departures {
    /// Messages that the kernel took.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Datagrams that the kernel did not take.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Sends datagrams, those of one transport together and in order; frames go to `tcp`.
    pub(super) fn send(
        &mut self,
        udp: &Udp,
        datagrams: &mut Datagrams,
        mut tcp: impl FnMut(ConnectionId, &[u8]),
    ) {
        let mut order = std::mem::take(&mut self.order);
        order.clear();
        for (place, datagram) in datagrams.iter().enumerate() {
            match datagram.path.peer.tcp {
                Some(connection) => tcp(connection, datagram.bytes),
                None => order.push(u64::from(datagram.transport.index()) << 32 | place as u64),
            }
        }
        order.sort_unstable();
        self.send_all(udp, order.len(), |at| {
            let datagram = datagrams.get(order[at] as u32 as usize)?;
            let way = Way { to: datagram.path.peer.address, from: datagram.path.local };
            Some((way, datagram.bytes))
        });
        self.order = order;
        datagrams.clear();
    }

    /// Sends datagrams in order.
    pub(super) fn send_plain(&mut self, udp: &Udp, datagrams: &mut LinkDatagrams) {
        self.send_all(udp, datagrams.len(), |at| {
            let (to, bytes) = datagrams.get(at)?;
            Some((Way { to, from: None }, bytes))
        });
        datagrams.clear();
    }

    /// Sends `count` datagrams, as many together as can be.
    fn send_all<'d>(&mut self, udp: &Udp, count: usize, get: impl Fn(usize) -> Option<(Way, &'d [u8])>) {
        let mut next = 0;
        while next < count {
            let mut pieces = [IoSlice::new(&[]); MAX_PIECES];
            let mut used = 0;
            self.messages.clear();
            while next < count && used < MAX_PIECES && self.messages.len() < MAX_MESSAGES {
                let Some((way, first)) = get(next) else { break };
                let run = (next..count).map_while(&get).take_while(|(other, _)| *other == way);
                let joined =
                    joinable(udp.max_segments.min(MAX_PIECES - used), run.map(|(_, bytes)| bytes.len()));
                for at in next..next + joined {
                    pieces[used] = IoSlice::new(get(at).map_or(&[], |(_, bytes)| bytes));
                    used += 1;
                }
                next += joined;
                self.messages.push(Message {
                    to: udp.address(way.to).into(),
                    from: way.from.map(|ip| udp.ip(ip)),
                    segment: u16::try_from(first.len()).ok().filter(|_| joined > 1),
                    pieces: joined,
                });
            }
            self.transmit(udp, &pieces[..used]);
            if used == 0 {
                return;
            }
        }
    }

    fn transmit(&mut self, udp: &Udp, pieces: &[IoSlice<'_>]) {
        let (mut messages, mut pieces) = (&self.messages[..], pieces);
        let send = |messages: &[Message], pieces: &[IoSlice<'_>]| {
            udp.socket.try_io(Interest::WRITABLE, || sendmmsg::send(udp.socket.as_fd(), messages, pieces))
        };
        while let [first, others @ ..] = messages {
            match send(messages, pieces) {
                Ok(sent) => {
                    self.sent += sent as u64;
                    let (gone, left) = messages.split_at(sent);
                    pieces = &pieces[gone.iter().map(|message| message.pieces).sum()..];
                    messages = left;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    tracing::trace!("datagrams not sent, the socket is full");
                    self.dropped += pieces.len() as u64;
                    return;
                }
                Err(error) => {
                    tracing::trace!(%error, to = ?first.to, "datagrams not sent");
                    let (own, rest) = pieces.split_at(first.pieces);
                    if first.segment.is_some() {
                        // Nobody on that way can cut it, or the path is too narrow: one by one then.
                        for piece in own {
                            let alone =
                                Message { to: first.to.clone(), from: first.from, segment: None, pieces: 1 };
                            match send(&[alone], std::slice::from_ref(piece)) {
                                Ok(_) => self.sent += 1,
                                Err(_) => self.dropped += 1,
                            }
                        }
                    } else {
                        self.dropped += own.len() as u64;
                    }
                    (messages, pieces) = (others, rest);
                }
            }
        }
    }
}

/// How many datagrams of these sizes can be one message: all of one size but the last, which may be smaller. Empty ones can't: they would
/// not be seen in it.
fn joinable(max_segments: usize, mut sizes: impl Iterator<Item = usize>) -> usize {
    let Some(segment) = sizes.next() else { return 0 };
    let (mut count, mut total) = (1, segment);
    for size in sizes {
        total += size;
        if size == 0 || size > segment || total > MAX_SEND || count >= max_segments {
            break;
        }
        count += 1;
        if size < segment {
            break;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket as StdUdpSocket, time::Duration};

    use super::*;
    use crate::{
        arena::Key,
        keys::TransportKey,
        transport::{Path, Peer},
    };

    struct Receiver(StdUdpSocket);

    impl Receiver {
        fn new(ip: &str) -> Self {
            let socket = StdUdpSocket::bind((ip, 0)).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            Self(socket)
        }

        fn path(&self) -> Path {
            Path { peer: Peer { address: self.0.local_addr().unwrap(), tcp: None }, local: None }
        }

        fn take(&self, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
            let mut buffer = vec![0; 65_536];
            let one = |_| {
                let (length, from) = self.0.recv_from(&mut buffer).expect("a datagram comes");
                (from, buffer[..length].to_vec())
            };
            (0..count).map(one).collect()
        }
    }

    async fn sender(ip: &str) -> Udp {
        let socket = StdUdpSocket::bind((ip, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let udp = Udp::open(socket).unwrap();
        udp.socket.writable().await.unwrap();
        udp
    }

    fn transport(index: u32) -> TransportKey {
        Key::for_tests(index)
    }

    fn no_tcp(_: ConnectionId, _: &[u8]) {
        panic!("nothing goes by TCP");
    }

    #[tokio::test]
    async fn datagrams_of_each_transport_arrive_whole_and_in_order_in_few_messages() {
        let udp = sender("127.0.0.1").await;
        let receivers: Vec<_> = (0..100).map(|_| Receiver::new("127.0.0.1")).collect();
        let mut datagrams = Datagrams::default();
        for size in [1200, 1200, 1200, 300, 1200, 0, 7] {
            for (index, receiver) in (0..).zip(&receivers) {
                datagrams.push(receiver.path(), transport(index), &vec![index as u8; size]);
            }
        }
        let mut departures = Departures::default();
        departures.send(&udp, &mut datagrams, no_tcp);
        for (index, receiver) in receivers.iter().enumerate() {
            let sizes: Vec<_> = receiver.take(7).iter().map(|(_, bytes)| bytes.len()).collect();
            assert_eq!(sizes, [1200, 1200, 1200, 300, 1200, 0, 7], "{index}");
        }
        assert!(datagrams.is_empty());
        assert_eq!(departures.dropped(), 0);
        if udp.max_segments > 1 {
            assert_eq!(departures.sent(), 400);
        }
    }

    #[tokio::test]
    async fn nothing_is_allocated_once_the_buffers_have_grown() {
        let udp = sender("127.0.0.1").await;
        let receivers: Vec<_> = (0..20).map(|_| Receiver::new("127.0.0.1")).collect();
        let (mut datagrams, mut departures) = (Datagrams::default(), Departures::default());
        let mut send = || {
            for (index, receiver) in (0..).zip(&receivers).cycle().take(100) {
                datagrams.push(receiver.path(), transport(index), &[1; 1000]);
            }
            departures.send(&udp, &mut datagrams, no_tcp);
        };
        send();
        assert_eq!(allocation_counter::measure(send).count_total, 0);
        assert_eq!(departures.dropped(), 0);
    }

    #[tokio::test]
    async fn what_the_kernel_refuses_to_cut_is_sent_one_by_one() {
        let mut udp = sender("127.0.0.1").await;
        udp.max_segments = 1000;
        let (receiver, other) = (Receiver::new("127.0.0.1"), Receiver::new("127.0.0.1"));
        let mut datagrams = Datagrams::default();
        for number in 0..200 {
            datagrams.push(receiver.path(), transport(0), &[number; 10]);
        }
        datagrams.push(other.path(), transport(1), b"other");
        let mut departures = Departures::default();
        departures.send(&udp, &mut datagrams, no_tcp);
        let numbers: Vec<_> = receiver.take(200).iter().map(|(_, bytes)| bytes[0]).collect();
        assert_eq!(numbers, (0..200).collect::<Vec<_>>());
        assert_eq!(other.take(1)[0].1, b"other");
        assert_eq!(departures.dropped(), 0);
    }

    #[tokio::test]
    async fn one_who_cannot_be_reached_costs_only_his_own_datagrams() {
        let udp = sender("127.0.0.1").await;
        let receiver = Receiver::new("127.0.0.1");
        let nowhere = "[::1]:9".parse().unwrap();
        let mut datagrams = Datagrams::default();
        for _ in 0..2 {
            let path = Path { peer: Peer { address: nowhere, tcp: None }, local: None };
            datagrams.push(path, transport(0), b"lost");
            datagrams.push(receiver.path(), transport(1), b"came");
        }
        let mut departures = Departures::default();
        departures.send(&udp, &mut datagrams, no_tcp);
        assert_eq!(receiver.take(2).iter().filter(|(_, bytes)| bytes == b"came").count(), 2);
        assert_eq!(departures.dropped(), 2);
    }

    #[tokio::test]
    async fn datagrams_leave_from_the_address_that_the_peer_sends_to() {
        for (bound, peer, own) in
            [("0.0.0.0", "127.0.0.1", "127.0.0.2"), ("::", "127.0.0.1", "127.0.0.2"), ("::", "::1", "::1")]
        {
            let (udp, receiver) = (sender(bound).await, Receiver::new(peer));
            let mut datagrams = Datagrams::default();
            for size in [20, 20, 3] {
                let path = Path { local: Some(own.parse().unwrap()), ..receiver.path() };
                datagrams.push(path, transport(0), &vec![1; size]);
            }
            let mut departures = Departures::default();
            departures.send(&udp, &mut datagrams, no_tcp);
            for (from, _) in receiver.take(3) {
                assert_eq!(from.ip(), own.parse::<IpAddr>().unwrap());
            }
            assert_eq!(departures.dropped(), 0);
        }
    }

    #[test]
    fn only_datagrams_of_one_size_and_a_smaller_last_one_are_joined() {
        let joined = |sizes: &[usize]| joinable(64, sizes.iter().copied());
        assert_eq!(joined(&[]), 0);
        assert_eq!(joined(&[1200, 1200, 300, 300]), 3);
        assert_eq!(joined(&[300, 1200]), 1);
        assert_eq!((joined(&[0, 0]), joined(&[5, 0])), (1, 1));
        assert_eq!(joined(&[1200; 100]), 54, "no more than an IP datagram holds");
        assert_eq!(joined(&[10; 100]), 64);
        assert_eq!(joinable(1, [10; 3].into_iter()), 1);
    }
}
