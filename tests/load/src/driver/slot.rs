//! A peer with its socket and the way to it.

use std::{
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant, SystemTime},
};

use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use tokio::sync::mpsc;

use super::Impairment;
use crate::peer::{Event, Peer, Shared};

/// Bytes of the kernel's receive buffer, as far as it allows: a frame's packets to thousands of peers wait there while one is looked at.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Largest datagram.
pub(super) const DATAGRAM: usize = 2048;
/// Events that wait to be heard; further ones are of m-lines that nobody waits for.
pub const MAX_EVENTS: usize = 512;

/// Which peer of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerKey(pub(super) usize);

/// Why there is no peer.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The socket.
    #[error("no socket for a peer: {0}")]
    Socket(#[from] io::Error),
}

/// See the module's description.
#[derive(Debug)]
pub struct Slot {
    /// The peer.
    pub peer: Peer,
    pub(super) socket: UdpSocket,
    state: UdpSocketState,
    /// Only what comes is impaired.
    pub(super) way: Option<Impairment>,
    events: mpsc::Sender<Event>,
    connected: bool,
}

/// Buffers for what a system call receives.
pub(super) struct Buffers {
    bytes: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
}

impl Default for Buffers {
    fn default() -> Self {
        Self { bytes: vec![0; DATAGRAM * BATCH_SIZE], metas: [RecvMeta::default(); BATCH_SIZE] }
    }
}

impl Slot {
    /// A socket for a peer, bound to a free port.
    ///
    /// # Errors
    /// If the system has none left.
    pub fn new(peer: Peer, way: Option<Impairment>, events: mpsc::Sender<Event>) -> Result<Self, SlotError> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // Each packet comes alone, as it would over a network: packets that stay joined on their way over the loopback would make the
        // server's sending cheaper than it is.
        let _ = setsockopt(&socket, sockopt::UdpGroSegment, &false);
        // As far as the system allows.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
        socket.set_nonblocking(true)?;
        Ok(Self { peer, socket, state, way, events, connected: false })
    }

    /// Reads what has come; whether anything has.
    pub(super) fn read(&mut self, shared: &mut Shared, buffers: &mut Buffers) -> bool {
        let mut has_come = false;
        loop {
            let mut slices = buffers.bytes.chunks_exact_mut(DATAGRAM).map(IoSliceMut::new);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| slices.next().unwrap_or_else(|| IoSliceMut::new(&mut [])));
            let received = self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut buffers.metas);
            let Ok(count) = received else { return has_come };
            has_come = true;
            let (now, wall) = (Instant::now(), SystemTime::now());
            let wall = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            for (meta, slice) in buffers.metas[..count].iter().zip(&slices) {
                // When the kernel had it; it may have waited for this thread since.
                let waited = meta.timestamp.and_then(|at| wall.checked_sub(at)).unwrap_or(Duration::ZERO);
                let arrival = now.checked_sub(waited).unwrap_or(now);
                for datagram in slice[..meta.len].chunks(meta.stride.max(1)) {
                    let comes = self.way.as_mut().is_none_or(|way| way.enter(now, arrival, datagram));
                    if comes {
                        self.peer.receive(now, arrival, datagram, shared);
                    }
                }
            }
            self.flush(shared);
            if count < BATCH_SIZE {
                return true;
            }
        }
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, shared: &mut Shared) {
        while let Some((at, datagram)) = self.way.as_mut().and_then(|way| way.leave(now)) {
            self.peer.receive(now, at, &datagram, shared);
        }
        self.peer.handle_timeout(now, shared);
        self.flush(shared);
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        let way = self.way.as_ref().and_then(Impairment::next_timeout);
        [way, self.peer.next_timeout()].into_iter().flatten().min()
    }

    /// Sends what the peer wrote, and tells what it has to tell.
    pub(super) fn flush(&mut self, shared: &mut Shared) {
        if let Some(remote) = self.peer.remote() {
            self.connect(remote);
            for datagram in shared.outbox.iter() {
                // A datagram that the system does not take is lost, as on a network.
                let _ = self.socket.send(datagram);
            }
        }
        shared.outbox.clear();
        while let Some(event) = self.peer.poll_event() {
            // Full: nobody waits for so many.
            let _ = self.events.try_send(event);
        }
    }

    fn connect(&mut self, remote: SocketAddr) {
        if !self.connected {
            self.connected = self.socket.connect(remote).is_ok();
        }
    }
}
