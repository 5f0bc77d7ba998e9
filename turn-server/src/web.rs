//! HTTPS at the port for TLS: what is no TURN is passed on to a portal, so that one address and one port are enough. Nothing of it is read; whose
//! connection it is stands before it (version 2 of HAProxy's PROXY protocol).

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::{sleep, timeout},
};

/// For a connection to a portal.
const CONNECT: Duration = Duration::from_secs(3);
/// A write that takes longer ends the connection.
const WRITE: Duration = Duration::from_secs(30);
/// A connection by which nothing comes from either side for so long is closed. Portals and clients tell each other more often that they are there.
const IDLE: Duration = Duration::from_secs(660);
/// When one side has said all, the other may go on for so long.
const REST: Duration = Duration::from_secs(30);
/// Read at a time.
const CHUNK: usize = 16_384;
/// What one is told whom no portal takes.
const UNAVAILABLE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Protocols that clients may name as they begin TLS (RFC 7301): HTTP's, and those of TURN and STUN (RFC 7443).
pub(crate) const PROTOCOLS: [&[u8]; 4] = [b"h2", b"http/1.1", b"stun.turn", b"stun.nat-discovery"];

/// Where a portal takes connections that are passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream(Arc<str>);

/// A text names no portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("HOST:PORT is expected")]
pub struct InvalidUpstream;

impl FromStr for Upstream {
    type Err = InvalidUpstream;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = text.rsplit_once(':').ok_or(InvalidUpstream)?;
        let is_host =
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
        match port.parse::<u16>() {
            Ok(1..) if is_host => Ok(Self(text.into())),
            Ok(_) | Err(_) => Err(InvalidUpstream),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a client by TLS speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speech {
    Turn,
    Http,
    Neither,
}

impl Speech {
    /// By the protocol that was agreed on.
    pub(crate) fn named(protocol: &[u8]) -> Self {
        match protocol {
            b"h2" | b"http/1.1" => Self::Http,
            b"stun.turn" | b"stun.nat-discovery" => Self::Turn,
            _ => Self::Neither,
        }
    }

    /// By the first byte: a request by HTTP begins with the name of a method. TURN begins with a request of STUN, whose first two bits are 0; ChannelData,
    /// which would look like letters, comes later at the earliest.
    pub(crate) fn begun(first: u8) -> Self {
        match first {
            0..=0x1f => Self::Turn,
            b'A'..=b'Z' => Self::Http,
            _ => Self::Neither,
        }
    }
}

/// The portals, and how many connections to them there may be.
pub(crate) struct Web {
    upstreams: Vec<Upstream>,
    places: Arc<Semaphore>,
    most: usize,
    /// By which clients are divided among portals.
    hash: RandomState,
}

impl Web {
    pub(crate) fn new(upstreams: Vec<Upstream>, most: usize) -> Self {
        Self { upstreams, places: Arc::new(Semaphore::new(most)), most, hash: RandomState::new() }
    }

    /// How many connections there are.
    pub(crate) fn open(&self) -> usize {
        self.most.saturating_sub(self.places.available_permits())
    }

    /// Serves a client to the end, of whom `first` was read before. Both addresses are of his connection.
    pub(crate) async fn pass_on(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Send + Unpin,
        first: Vec<u8>,
        (client, here): (SocketAddr, SocketAddr),
    ) {
        let Ok(_place) = self.places.try_acquire() else {
            metrics::counter!("kaigi_turn_connections_refused_total").increment(1);
            return;
        };
        metrics::counter!("kaigi_turn_https_connections_total").increment(1);
        let Some(mut portal) = self.portal(client.ip()).await else {
            metrics::counter!("kaigi_turn_https_failures_total").increment(1);
            tracing::warn!("HTTPS can't be passed on: no portal takes connections");
            let _: Result<_, _> = timeout(CONNECT, refuse(&mut stream, &first)).await;
            return;
        };
        let begun = async {
            portal.write_all(&header(client, here)).await?;
            portal.write_all(&first).await
        };
        let ended = match timeout(WRITE, begun).await {
            Ok(Ok(())) => splice(stream, portal).await,
            Ok(Err(error)) => Err(error),
            Err(late) => Err(late.into()),
        };
        if let Err(error) = ended {
            tracing::debug!(%client, %error, "a connection by HTTPS is closed");
        }
    }

    /// A portal, for the same client always the same one of those that are there: what he asks by several connections belongs together.
    async fn portal(&self, client: IpAddr) -> Option<TcpStream> {
        let count = self.upstreams.len();
        let begin = usize::try_from(self.hash.hash_one(client) % count.max(1) as u64).unwrap_or_default();
        for upstream in self.upstreams.iter().cycle().skip(begin).take(count) {
            match timeout(CONNECT, TcpStream::connect(&*upstream.0)).await {
                Ok(Ok(portal)) => {
                    let _: Result<_, _> = portal.set_nodelay(true);
                    return Some(portal);
                }
                Ok(Err(error)) => tracing::debug!(%upstream, %error, "a portal takes no connection"),
                Err(_) => tracing::debug!(%upstream, "a portal does not answer"),
            }
        }
        None
    }
}

/// The header that says whose a connection is.
fn header(client: SocketAddr, here: SocketAddr) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    let (family, addresses) = match (client.ip().to_canonical(), here.ip().to_canonical()) {
        (IpAddr::V4(client), IpAddr::V4(here)) => (0x11, [client.octets(), here.octets()].concat()),
        (client, here) => {
            let v6 = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            (0x21, [v6(client), v6(here)].concat())
        }
    };
    header.extend([family, 0, addresses.len().try_into().unwrap_or(u8::MAX).saturating_add(4)]);
    header.extend(addresses);
    header.extend(client.port().to_be_bytes());
    header.extend(here.port().to_be_bytes());
    header
}

/// Whoever closes before he has heard what is said may have his answer lost.
async fn refuse(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), first: &[u8]) -> io::Result<()> {
    if first.is_empty() {
        let _ = stream.read(&mut [0; 1024]).await?;
    }
    stream.write_all(UNAVAILABLE).await?;
    stream.shutdown().await
}

/// When something came last, for both directions.
struct Heard {
    began: Instant,
    millis: AtomicU64,
}

impl Heard {
    fn now(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    /// Ends when nothing has come for too long.
    async fn silence(&self) {
        loop {
            let last = Duration::from_millis(self.millis.load(Ordering::Relaxed));
            match IDLE.checked_sub(self.began.elapsed().saturating_sub(last)) {
                Some(left) if !left.is_zero() => sleep(left).await,
                Some(_) | None => return,
            }
        }
    }
}

/// Passes on what both say, until both have said all, or one is too slow.
async fn splice(client: impl AsyncRead + AsyncWrite + Send + Unpin, mut portal: TcpStream) -> io::Result<()> {
    let heard = Heard { began: Instant::now(), millis: AtomicU64::new(0) };
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_portal, mut to_portal) = portal.split();
    let there = copy(&mut from_client, &mut to_portal, &heard);
    let back = copy(&mut from_portal, &mut to_client, &heard);
    tokio::pin!(there, back);
    tokio::select! {
        ended = &mut there => {
            ended?;
            timeout(REST, back).await?
        }
        ended = &mut back => {
            ended?;
            timeout(REST, there).await?
        }
        () = heard.silence() => Ok(()),
    }
}

async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    heard: &Heard,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let length = from.read(&mut buffer).await?;
        heard.now();
        let written = async {
            if length == 0 {
                return to.shutdown().await;
            }
            to.write_all(&buffer[..length]).await?;
            to.flush().await
        };
        timeout(WRITE, written).await??;
        if length == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_speaks_is_known_by_name_or_by_its_beginning() {
        let named: Vec<_> = PROTOCOLS.iter().map(|protocol| Speech::named(protocol)).collect();
        assert_eq!(named, [Speech::Http, Speech::Http, Speech::Turn, Speech::Turn]);
        assert_eq!(Speech::named(b"webrtc"), Speech::Neither);
        for (bytes, speech) in [
            (&b"GET / HTTP/1.1"[..], Speech::Http),
            (b"PRI * HTTP/2.0", Speech::Http),
            (b"OPTIONS *", Speech::Http),
            // A request for a binding, and one for an allocation (RFC 8489 §5).
            (&[0, 1, 0, 0], Speech::Turn),
            (&[0, 3, 0, 8], Speech::Turn),
            (&[0xff; 4], Speech::Neither),
            (b"get / HTTP/1.1", Speech::Neither),
        ] {
            assert_eq!(Speech::begun(bytes[0]), speech, "{bytes:?}");
        }
    }

    #[test]
    fn a_header_has_the_addresses_of_the_connection() {
        let head = b"\r\n\r\n\0\r\nQUIT\n\x21";
        let v4 = header("203.0.113.7:50000".parse().unwrap(), "192.0.2.1:443".parse().unwrap());
        let rest = [0x11, 0, 12, 203, 0, 113, 7, 192, 0, 2, 1, 0xc3, 0x50, 1, 0xbb];
        assert_eq!(v4, [&head[..], &rest].concat());
        let v6 = header("[2001:db8::7]:9".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap());
        assert_eq!((v6[13], v6[14], v6[15], v6.len()), (0x21, 0, 36, 16 + 36));
        let mapped =
            header("[::ffff:203.0.113.7]:50000".parse().unwrap(), "[::ffff:192.0.2.1]:443".parse().unwrap());
        assert_eq!(mapped, v4);
    }
}
