//! Those who send and those who receive.

use std::{
    io::IoSliceMut,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use kaigi_access_node::transport::Srtp;
use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};

use crate::{
    reports::Reporter,
    support::{VP8, packet},
};

/// Packets of a frame.
pub(crate) const PACKETS: u16 = 5;
/// Bytes of a protected packet.
pub(crate) const BYTES: usize = 1200;
/// Bytes that protection adds (RFC 7714).
const TAG: usize = 16;
/// Largest datagram.
const DATAGRAM: usize = 2048;
/// Bytes before the payload, as [`packet`] writes them.
const HEADER: usize = 24;

/// One who publishes video.
pub(crate) struct Publisher {
    pub(crate) socket: UdpSocket,
    pub(crate) srtp: Srtp,
    pub(crate) to: SocketAddr,
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    pub(crate) frame: u32,
}

impl Publisher {
    /// Sends the next frame, each packet by itself as browsers do; the first is a key frame. Returns how many packets.
    pub(crate) fn send_frame(&mut self) -> usize {
        for at in 0..PACKETS {
            // Payload descriptor (RFC 7741 §4.2), then for a key frame its header with start code and size (RFC 6386 §9.1).
            let mut payload = match (at, self.frame) {
                (0, 0) => vec![0x10, 0x10, 0, 0, 0x9d, 0x01, 0x2a, 64, 1, 240, 0],
                (0, _) => vec![0x10, 0x11],
                _ => vec![0x00, 0x11],
            };
            payload.resize(BYTES - HEADER - TAG, 0x55);
            let mut plain = packet(self.ssrc, VP8, self.sequence, 3000 * self.frame, self.sequence, &payload);
            if at + 1 < PACKETS {
                plain[1] &= 0x7f;
            }
            self.sequence = self.sequence.wrapping_add(1);
            let protected = self.srtp.protect_rtp(&plain).unwrap();
            self.socket.send_to(&protected, self.to).unwrap();
        }
        self.frame += 1;
        PACKETS.into()
    }
}

/// Those who receive: their sockets are emptied and what came is counted.
pub(crate) struct Subscribers {
    sockets: Arc<Vec<UdpSocket>>,
    received: Arc<AtomicUsize>,
    /// When the kernel had the last packet of each frame, since the Unix epoch, for each of them.
    frames: Arc<Mutex<Vec<Vec<Duration>>>>,
    /// Of the forwarder that is measured.
    reporters: Arc<Mutex<Vec<Reporter>>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Subscribers {
    pub(crate) fn new(count: usize) -> Self {
        let sockets = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        Self {
            sockets: Arc::new(sockets),
            received: Arc::default(),
            frames: Arc::new(Mutex::new(vec![Vec::new(); count])),
            reporters: Arc::default(),
            stop: Arc::default(),
            reader: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.sockets.len()
    }

    pub(crate) fn sockets(&self) -> &[UdpSocket] {
        &self.sockets
    }

    /// Packets of video so far.
    pub(crate) fn received(&self) -> usize {
        self.received.load(Ordering::Relaxed)
    }

    /// Arrivals of frames since the last time, for each of them.
    pub(crate) fn take_frames(&self) -> Vec<Vec<Duration>> {
        self.frames.lock().unwrap().iter_mut().map(std::mem::take).collect()
    }

    /// They report for others from now on; gives those for whom they did.
    pub(crate) fn report(&self, reporters: Vec<Reporter>) -> Vec<Reporter> {
        std::mem::replace(&mut *self.reporters.lock().unwrap(), reporters)
    }

    /// Begins to empty the sockets.
    pub(crate) fn read(&mut self) {
        let (sockets, received, stop) = (self.sockets.clone(), self.received.clone(), self.stop.clone());
        let (frames, reporters) = (self.frames.clone(), self.reporters.clone());
        let states: Vec<_> = sockets.iter().map(watched).collect();
        self.reader = Some(std::thread::spawn(move || {
            let mut buffers = vec![0; DATAGRAM * BATCH_SIZE];
            while !stop.load(Ordering::Relaxed) {
                let mut reporters = reporters.lock().unwrap();
                let now = Instant::now();
                for (at, (socket, state)) in sockets.iter().zip(&states).enumerate() {
                    let mut reporter = reporters.get_mut(at);
                    read(socket, state, &mut buffers, |bytes, arrival| {
                        if let Some(reporter) = &mut reporter {
                            reporter.received(now, bytes);
                        }
                        received.fetch_add(usize::from(bytes.len() >= BYTES / 2), Ordering::Relaxed);
                        if bytes.len() >= BYTES / 2 && bytes[1] & 0x80 != 0 {
                            frames.lock().unwrap()[at].push(arrival);
                        }
                    });
                    if let Some(reporter) = reporter {
                        reporter.report(now, socket);
                    }
                }
                drop(reporters);
                std::thread::sleep(Duration::from_millis(3));
            }
        }));
    }
}

/// With the kernel's times of arrival, and each packet alone, as over a network.
fn watched(socket: &UdpSocket) -> UdpSocketState {
    let state = UdpSocketState::new(UdpSockRef::from(socket)).unwrap();
    let _ = setsockopt(socket, sockopt::UdpGroSegment, &false);
    socket.set_nonblocking(true).unwrap();
    state
}

fn read(
    socket: &UdpSocket,
    state: &UdpSocketState,
    buffers: &mut [u8],
    mut take: impl FnMut(&[u8], Duration),
) {
    let mut metas = [RecvMeta::default(); BATCH_SIZE];
    loop {
        let mut slices = buffers.chunks_exact_mut(DATAGRAM).map(IoSliceMut::new);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| slices.next().unwrap());
        let Ok(count) = state.recv(UdpSockRef::from(socket), &mut slices, &mut metas) else { return };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        for (meta, slice) in metas[..count].iter().zip(&slices) {
            take(&slice[..meta.len], meta.timestamp.unwrap_or(now));
        }
        if count < BATCH_SIZE {
            return;
        }
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }
}
