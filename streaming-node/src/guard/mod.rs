//! Holds what GStreamer's elements connect to by TCP to the node's settings. Where they connect is not theirs to know for sure: a name may have another address
//! when it is looked up again (DNS rebinding), and an RTSP server may send who pulls from it elsewhere (RFC 2326 §10.11, §11.3). So they connect
//! nowhere by themselves: GIO, which opens their connections, is told to open all of them through a proxy on this machine's loopback.
//! That is here: it looks names up, and connects to addresses that it has looked at. Names stay as they are for servers and their certificates.
//!
//! GIO has one answer for a whole process, and so there is one guard.

mod resolver;
mod rule;
mod socks;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use socket2::SockRef;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{OnceCell, Semaphore},
    time::timeout,
};

pub(crate) use rule::Pass;
use rule::Rule;
use socks::{Destination, Reply, SocksError};

use crate::target::Policy;

/// Connections at a time, more than [outputs and inputs](crate::node) need.
const MAX_CONNECTIONS: usize = 2048;
/// Longest wait for who connects to say where to.
const GREETING: Duration = Duration::from_secs(5);
/// Longest wait for one address of a server.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no guard.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// No socket on the loopback.
    #[error("no socket: {0}")]
    Socket(#[from] io::Error),
    /// GIO asks somebody else.
    #[error("connections go by another proxy: GIO_USE_PROXY_RESOLVER may be set")]
    Taken,
}

/// Why nothing is connected to.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Socks(#[from] SocksError),
    #[error("it is too slow")]
    Slow,
    #[error("{0} may not be connected to")]
    NotAllowed(Destination),
    #[error("{0} is not known")]
    Unknown(Destination),
    #[error("{0} can't be connected to")]
    Unreachable(Destination),
}

type LookUp = fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;

/// Pause after a connection could not be accepted.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// A server that has acknowledged nothing of what was sent for so long is taken for gone (TCP_USER_TIMEOUT, RFC 5482). Until then TCP repeats what was
/// lost, and a broadcast goes on when the network does: servers that have noticed nothing refuse a second connection with the same key.
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Guard {
    rule: Rule,
    look_up: LookUp,
    password: String,
}

static GUARD: OnceCell<Arc<Guard>> = OnceCell::const_new();

/// Holds all connections from now on to a policy, if it allows less than everything. Only the first one counts. Must be called within a tokio runtime.
///
/// # Errors
/// See [`GuardError`].
pub async fn install(policy: &Policy) -> Result<(), GuardError> {
    if !policy.allows_everything() {
        GUARD.get_or_try_init(|| start(policy)).await?;
    }
    Ok(())
}

async fn start(policy: &Policy) -> Result<Arc<Guard>, GuardError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let guard = Arc::new(Guard::new(Rule::new(policy), |name, port| {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, port)).await?.collect()) })
    }));
    let proxy = format!("socks5://{}:{}@{}", socks::USER, guard.password, listener.local_addr()?);
    if !resolver::install(&proxy) {
        return Err(GuardError::Taken);
    }
    tokio::spawn(Arc::clone(&guard).run(listener));
    Ok(guard)
}

/// Whether there is one.
pub(crate) fn is_on() -> bool {
    GUARD.get().is_some()
}

/// Lets connections through to a server that the settings for broadcasts allow, for as long as this is kept.
pub(crate) fn pass(url: &str) -> Option<Pass> {
    GUARD.get()?.rule.pass(url)
}

impl Guard {
    fn new(rule: Rule, look_up: LookUp) -> Self {
        Self { rule, look_up, password: format!("{:032x}", rand::random::<u128>()) }
    }

    async fn run(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                // For want of files: others may give theirs back.
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            };
            let guard = Arc::clone(&self);
            tokio::spawn(async move {
                if let Err(refusal) = guard.serve(stream).await {
                    metrics::counter!("kaigi_streaming_connections_refused_total").increment(1);
                    tracing::warn!(%refusal, "a connection is refused");
                }
                drop(place);
            });
        }
    }

    /// Connects somebody, and passes on what is sent until one of the two ends it.
    async fn serve(&self, mut stream: TcpStream) -> Result<(), Refusal> {
        let greeting = timeout(GREETING, socks::greet(&mut stream, &self.password));
        let destination = greeting.await.map_err(|_| Refusal::Slow)??;
        let mut server = match self.connect(destination).await {
            Ok(server) => server,
            Err(refusal) => {
                let reply =
                    if let Refusal::NotAllowed(_) = refusal { Reply::NotAllowed } else { Reply::Unreachable };
                socks::reply(&mut stream, reply).await?;
                return Err(refusal);
            }
        };
        socks::reply(&mut stream, Reply::Connected).await?;
        for stream in [&stream, &server] {
            // What is sent late costs latency, not correctness.
            let _no_delay = stream.set_nodelay(true);
        }
        // A network that is lost says nothing.
        let _fails_in_time = SockRef::from(&server).set_tcp_user_timeout(Some(UNACKNOWLEDGED));
        // Its end is told to both, who know what it means.
        let _end = copy_bidirectional(&mut stream, &mut server).await;
        Ok(())
    }

    /// To an address that may be connected to.
    async fn connect(&self, destination: Destination) -> Result<TcpStream, Refusal> {
        if !self.rule.allows_host(&destination) {
            return Err(Refusal::NotAllowed(destination));
        }
        let found = match &destination {
            Destination::Address(address) => vec![*address],
            Destination::Name(name, port) => match (self.look_up)(name.clone(), *port).await {
                Ok(found) if !found.is_empty() => found,
                _ => return Err(Refusal::Unknown(destination)),
            },
        };
        let mut allowed =
            found.into_iter().filter(|address| self.rule.allows_address(address.ip())).peekable();
        if allowed.peek().is_none() {
            return Err(Refusal::NotAllowed(destination));
        }
        for address in allowed {
            if let Ok(Ok(stream)) = timeout(CONNECT, TcpStream::connect(address)).await {
                return Ok(stream);
            }
        }
        Err(Refusal::Unreachable(destination))
    }
}

#[cfg(test)]
mod tests;
