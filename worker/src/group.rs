//! The way to whichever cluster-manager leads.
//!
//! Several may run, of which one leads; all of them say who. Each connection is made to the leader of that moment, and is broken when
//! another one leads, so that whoever uses the channel connects again and finds him. Calls that come while nobody leads wait.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use hyper_util::rt::TokioIo;
use kaigi_proto::v1::{LeaderReply, LeaderRequest, group_client::GroupClient};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, lookup_host},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tonic::{Code, transport::Endpoint};

use crate::{Channel, channels::Maker};

/// Longest wait for one that is asked who leads; one that stands still does not answer at all.
const ASK: Duration = Duration::from_secs(1);
/// After one has said that it leads, the others get so long to name a later leader.
const SETTLE: Duration = Duration::from_millis(30);
/// Pause before all are asked again while nobody leads.
const AGAIN: Duration = Duration::from_millis(50);
/// Longest wait for a leader. One follows another within two seconds.
pub(crate) const FIND: Duration = Duration::from_secs(4);
/// Longest wait for a connection to the leader.
const CONNECT: Duration = Duration::from_secs(2);
/// How often it is asked whether another one leads now, on average: one that stood still, or can't reach the store, does not know it.
const WATCH: Duration = Duration::from_secs(1);

/// One place where cluster-managers are: a name may stand for several.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) endpoint: Endpoint,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Group {
    places: Vec<Place>,
    maker: Maker,
    /// Channels by which members are asked who leads.
    members: Mutex<HashMap<SocketAddr, GroupClient<Channel>>>,
}

/// A cluster-manager that leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leader {
    address: SocketAddr,
    term: u64,
}

/// What the members say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    /// Whether anybody says anything.
    anything: bool,
    /// The last term that anybody knows of.
    term: u64,
    /// Who leads in the last term in which anybody says that he leads.
    leader: Option<Leader>,
}

impl Said {
    fn take(&mut self, address: SocketAddr, reply: &LeaderReply) {
        self.anything = true;
        self.term = self.term.max(reply.term);
        if reply.leads && self.leader.is_none_or(|leader| leader.term < reply.term) {
            self.leader = Some(Leader { address, term: reply.term });
        }
    }

    /// The leader, unless somebody knows of a later one.
    fn leader(&self) -> Option<Leader> {
        self.leader.filter(|leader| leader.term >= self.term)
    }
}

impl Group {
    pub(crate) fn new(places: Vec<Place>, maker: Maker) -> Self {
        Self { places, maker, members: Mutex::default() }
    }

    /// A connection to the leader, when there is one.
    pub(crate) async fn connect(self: Arc<Self>) -> io::Result<TokioIo<Guarded>> {
        let give_up = Instant::now() + FIND;
        loop {
            let said = self.ask().await?;
            match said.leader() {
                Some(leader) => {
                    if let Ok(Ok(stream)) = timeout(CONNECT, TcpStream::connect(leader.address)).await {
                        return Ok(TokioIo::new(self.guarded(stream, leader)?));
                    }
                }
                None if !said.anything => {
                    return Err(io::Error::new(io::ErrorKind::NotConnected, "no cluster-manager is reached"));
                }
                None => {}
            }
            if Instant::now() > give_up {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no cluster-manager leads"));
            }
            sleep(AGAIN).await;
        }
    }

    fn guarded(self: Arc<Self>, stream: TcpStream, leader: Leader) -> io::Result<Guarded> {
        stream.set_nodelay(true)?;
        let over = CancellationToken::new();
        let guarded = Guarded {
            stream,
            over: Box::pin(over.clone().cancelled_owned()),
            _watched: over.clone().drop_guard(),
        };
        if !self.is_one() {
            tokio::spawn(self.watch(leader, over));
        }
        Ok(guarded)
    }

    /// Whether there can be no other member than the one.
    fn is_one(&self) -> bool {
        matches!(&self.places[..], [place] if place.host.parse::<IpAddr>().is_ok())
    }

    /// Breaks the connection to a leader when he leads no more.
    async fn watch(self: Arc<Self>, leader: Leader, over: CancellationToken) {
        loop {
            tokio::select! {
                () = sleep(WATCH.mul_f64(rand::random_range(0.8..1.2))) => {}
                () = over.cancelled() => return,
            }
            if let Ok(said) = self.ask().await
                && let Some(now) = said.leader()
                && now.address != leader.address
                && now.term > leader.term
            {
                tracing::info!(before = %leader.address, now = %now.address, "another cluster-manager leads");
                over.cancel();
                return;
            }
        }
    }

    /// Asks all members, until one leads and the others had time to say that another does.
    async fn ask(&self) -> io::Result<Said> {
        let addresses = self.addresses().await?;
        let mut answers: FuturesUnordered<_> =
            addresses.iter().map(|address| self.ask_one(*address)).collect();
        let (mut said, mut until) = (Said::default(), Instant::now() + ASK);
        while let Ok(Some((address, reply))) = tokio::time::timeout_at(until, answers.next()).await {
            if let Some(reply) = reply {
                said.take(address, &reply);
                if said.leader().is_some() {
                    until = until.min(Instant::now() + SETTLE);
                }
            }
        }
        Ok(said)
    }

    async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let mut found = Vec::new();
        let mut failed = None;
        for place in &self.places {
            match lookup_host((place.host.as_str(), place.port)).await {
                Ok(addresses) => found.extend(addresses),
                Err(error) => failed = Some(error),
            }
        }
        found.sort_unstable();
        found.dedup();
        match failed {
            Some(error) if found.is_empty() => Err(error),
            Some(_) | None => {
                let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
                members.retain(|address, _| found.contains(address));
                Ok(found)
            }
        }
    }

    async fn ask_one(&self, address: SocketAddr) -> (SocketAddr, Option<LeaderReply>) {
        let mut member = self.member(address);
        let mut request = tonic::Request::new(LeaderRequest {});
        request.set_timeout(ASK);
        let reply = match timeout(ASK, member.leader(request)).await {
            Ok(Ok(reply)) => Some(reply.into_inner()),
            // One that knows of no group is alone; one that refuses the secret tells so to whoever calls it.
            Ok(Err(status)) if matches!(status.code(), Code::Unimplemented | Code::Unauthenticated) => {
                Some(LeaderReply { leads: true, ..LeaderReply::default() })
            }
            Ok(Err(_)) | Err(_) => None,
        };
        (address, reply)
    }

    fn member(&self, address: SocketAddr) -> GroupClient<Channel> {
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        let made = members.entry(address).or_insert_with(|| {
            // Whose name stands in the calls does not matter: certificates name the cluster.
            let endpoint = self.places.first().map(|place| place.endpoint.clone());
            let connect = tower::service_fn(move |_| async move {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            });
            let endpoint = endpoint.expect("a group has a place at least");
            GroupClient::new(self.maker.present(endpoint.connect_with_connector_lazy(connect)))
        });
        made.clone()
    }
}

/// A connection that breaks when it is over.
#[derive(Debug)]
pub(crate) struct Guarded {
    stream: TcpStream,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Ends who watches.
    _watched: DropGuard,
}

impl Guarded {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.over.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionReset.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
