//! All tracks that this node consumes, on one UDP socket, told apart by the SSRCs that this node chose.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use kaigi_media::{
    link::{FromProducer, LinkConsumer, LinkError, LinkKeys},
    rtp::is_rtcp,
};
use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::{Arrival, MAX_DATAGRAM, bind, track::Sharing};

/// Takes what comes of a track; must not block.
pub(crate) type Sink = Box<dyn Fn(Arrival, Instant) + Send + Sync>;

/// See the module.
pub struct Receiver {
    socket: UdpSocket,
    address: SocketAddr,
    born: Instant,
    routes: Mutex<HashMap<u32, Arc<Route>>>,
    /// The tracks that somebody takes.
    pub(crate) sharing: Sharing,
}

struct Route {
    link: Mutex<LinkConsumer>,
    sink: Sink,
    /// Milliseconds from the receiver's birth to the last packet.
    last_packet: AtomicU64,
}

/// One track's flow to this node; ends when dropped.
pub(crate) struct Flow {
    receiver: Arc<Receiver>,
    route: Arc<Route>,
    keys: LinkKeys,
    ssrc: u32,
}

impl Receiver {
    /// No flows yet; the socket is on a free port of `address`.
    ///
    /// # Errors
    /// If the address is not of this machine.
    pub fn bind(address: IpAddr) -> io::Result<Self> {
        let socket = UdpSocket::from_std(bind(address)?)?;
        let address = socket.local_addr()?;
        Ok(Self {
            socket,
            address,
            born: Instant::now(),
            routes: Mutex::default(),
            sharing: Sharing::default(),
        })
    }

    /// Where producers send to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gets ready for a flow with new keys and an SSRC of its own.
    ///
    /// # Errors
    /// If no SRTP context can be made.
    pub(crate) fn open(self: &Arc<Self>, sink: Sink) -> Result<Flow, LinkError> {
        let keys = LinkKeys::random();
        let mut routes = self.routes.lock();
        let ssrc = std::iter::repeat_with(rand::random::<u32>)
            .find(|ssrc| *ssrc > 1 && !routes.contains_key(ssrc))
            .unwrap_or_default();
        let route = Arc::new(Route {
            link: Mutex::new(LinkConsumer::new(&keys, ssrc)?),
            sink,
            last_packet: AtomicU64::new(self.age(Instant::now())),
        });
        routes.insert(ssrc, Arc::clone(&route));
        Ok(Flow { receiver: Arc::clone(self), route, keys, ssrc })
    }

    /// Receives until `stop` is cancelled.
    pub async fn run(&self, stop: CancellationToken) {
        let mut datagram = vec![0; MAX_DATAGRAM];
        loop {
            let received = tokio::select! {
                () = stop.cancelled() => return,
                received = self.socket.recv_from(&mut datagram) => received,
            };
            // Errors are ICMP answers to what was sent earlier.
            if let Ok((length, _)) = received {
                self.take(&datagram[..length], Instant::now());
            }
        }
    }

    fn take(&self, datagram: &[u8], now: Instant) {
        let at = if is_rtcp(datagram) { 4 } else { 8 };
        let Some(ssrc) = datagram.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()) else {
            return;
        };
        let Some(route) = self.routes.lock().get(&u32::from_be_bytes(ssrc)).cloned() else {
            return;
        };
        let plain = route.link.lock().unprotect(datagram);
        match plain {
            Ok(FromProducer::Rtp(packet)) => {
                route.last_packet.store(self.age(now), Ordering::Relaxed);
                (route.sink)(Arrival::Packet(packet), now);
            }
            Ok(FromProducer::SenderReport { ntp, rtp }) => {
                (route.sink)(Arrival::SenderReport { ntp, rtp }, now)
            }
            Ok(FromProducer::Other) => {}
            Err(error) => tracing::trace!(%error, "datagram refused"),
        }
    }

    fn age(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.born).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Flow {
    /// What to ask the producer for.
    pub(crate) fn attach_request(&self, attachment: &str, track: &str) -> kaigi_proto::v1::AttachRequest {
        self.keys.attach_request(attachment, track, self.receiver.address, self.ssrc)
    }

    /// How long no packet has come.
    pub(crate) fn silence(&self, now: Instant) -> Duration {
        let last = self.route.last_packet.load(Ordering::Relaxed);
        Duration::from_millis(self.receiver.age(now).saturating_sub(last))
    }

    /// Tells the producer that somebody is still here.
    pub(crate) fn report(&self, producer: SocketAddr) {
        let report = self.route.link.lock().report();
        self.transmit(report, producer);
    }

    /// Asks the producer for a key frame.
    pub(crate) fn request_key_frame(&self, producer: SocketAddr) {
        let request = self.route.link.lock().request_key_frame();
        self.transmit(request, producer);
        metrics::counter!("kaigi_intake_key_frame_requests_total").increment(1);
    }

    /// Asks the producer for packets again; `missing` ascending.
    pub(crate) fn request_packets(&self, producer: SocketAddr, missing: &[u16]) {
        let request = self.route.link.lock().nack(missing);
        self.transmit(request, producer);
        metrics::counter!("kaigi_intake_nacked_packets_total").increment(missing.len() as u64);
    }

    fn transmit(&self, datagram: Result<BytesMut, LinkError>, producer: SocketAddr) {
        match datagram {
            // What the kernel does not take is repeated by the next report.
            Ok(datagram) => drop(self.receiver.socket.try_send_to(&datagram, producer)),
            Err(error) => tracing::debug!(%error, "feedback not protected"),
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.receiver.routes.lock().remove(&self.ssrc);
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("address", &self.address).finish_non_exhaustive()
    }
}
