//! What moves the bytes: one task that owns the server; sockets are read by others, who tell it by a bounded queue.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use rtc_stun::crypto::RTCCryptoProvider;
use tokio::{
    net::UdpSocket,
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

use crate::{
    Args,
    core::{
        AllocationId, Bitrate, Config, ConnectionId, Family, Flow, Limits, MAX_MESSAGE, Now, Output, Refusal,
        Server, UnixSeconds,
    },
    listeners::Listeners,
    peers::{Peers, own_addresses},
    relays::Relays,
    streams::{self, Connections, Encryption},
    web::Web,
};

/// What may wait for the server; more datagrams are lost, streams wait.
const EVENTS: usize = 4096;
/// Taken at a time.
const BATCH: usize = 64;
/// Between two looks at what is over; also how often metrics are renewed.
const TICK: Duration = Duration::from_secs(1);
/// One byte more than the longest that is taken, so that what is longer shows.
pub(crate) const MAX_DATAGRAM: usize = MAX_MESSAGE + 1;

/// What happens at the sockets.
pub(crate) enum Event {
    /// A client's datagram, at one of the listeners.
    Datagram(usize, SocketAddr, Vec<u8>),
    /// A client's connection; it is told its name.
    Opened { client: SocketAddr, messages: mpsc::Sender<Vec<u8>>, name: oneshot::Sender<ConnectionId> },
    /// A message by a connection.
    Message(ConnectionId, Vec<u8>),
    /// A connection is closed.
    Closed(ConnectionId),
    /// A datagram of a peer.
    Peer(AllocationId, SocketAddr, Vec<u8>),
}

/// The server with its sockets.
pub struct Shell {
    server: Server,
    datagrams: Vec<Arc<UdpSocket>>,
    connections: Connections,
    web: Option<Arc<Web>>,
    relays: Relays,
    events: mpsc::Receiver<Event>,
    allocations: Arc<AtomicUsize>,
    /// End with the server.
    tasks: JoinSet<()>,
}

impl Shell {
    /// Begins to read the listeners; nothing is answered before [`Self::run`].
    #[must_use]
    pub fn new(args: &Args, listeners: Listeners, crypto: Arc<dyn RTCCryptoProvider>) -> Self {
        let (sender, events) = mpsc::channel(EVENTS);
        let relayed = args.relayed();
        let server = Server::new(config(args, relayed.iter().map(|ip| Family::of(*ip)).collect()), crypto);
        let datagrams: Vec<Arc<UdpSocket>> = listeners.datagrams.into_iter().map(Arc::new).collect();
        let mut tasks = JoinSet::new();
        for (index, socket) in datagrams.iter().enumerate() {
            tasks.spawn(read(index, Arc::clone(socket), sender.clone()));
        }
        let places = Arc::new(Semaphore::new(args.max_connections.into()));
        let certificate = listeners.certificate.map(Arc::new);
        let web = (!args.https_to.is_empty())
            .then(|| Arc::new(Web::new(args.https_to.clone(), args.max_connections.into())));
        let encryption = certificate.map(|certificate| Encryption { certificate, web: web.clone() });
        let plain = listeners.streams.into_iter().map(|listener| (listener, None));
        let encrypted = listeners.encrypted.into_iter().map(|listener| (listener, encryption.clone()));
        for (listener, encryption) in plain.chain(encrypted) {
            tasks.spawn(streams::accept(listener, encryption, Arc::clone(&places), sender.clone()));
        }
        Self {
            server,
            datagrams,
            connections: Connections::default(),
            web,
            relays: Relays::new(args.bind, relayed, args.relay_ports.0.clone(), sender),
            events,
            allocations: Arc::default(),
            tasks,
        }
    }

    /// How many there are, kept up to date.
    #[must_use]
    pub fn allocations(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.allocations)
    }

    /// Serves until it is stopped.
    pub async fn run(mut self, shutdown: kaigi_worker::Shutdown) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        let stop = shutdown.stop().clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = shutdown.draining(), if !self.server.is_draining() => self.server.drain(),
                _ = self.events.recv_many(&mut batch, BATCH) => {
                    let now = now();
                    batch.drain(..).for_each(|event| self.take(event, now));
                }
                _ = tick.tick() => self.tick(now()),
            }
            self.put_out(now());
            self.allocations.store(self.server.allocations(), Ordering::Relaxed);
        }
        self.tasks.shutdown().await;
    }

    fn take(&mut self, event: Event, now: Now) {
        match event {
            Event::Datagram(listener, client, bytes) => {
                self.server.handle_client(Flow::Datagrams { listener, client }, &bytes, now);
            }
            Event::Opened { client, messages, name } => {
                let id = self.connections.add(client, messages);
                if name.send(id).is_err() {
                    self.connections.remove(id);
                }
            }
            Event::Message(id, bytes) => {
                if let Some(flow) = self.connections.heard(id) {
                    self.server.handle_client(flow, &bytes, now);
                }
            }
            Event::Closed(id) => {
                if let Some(flow) = self.connections.remove(id) {
                    self.server.handle_closed(flow);
                }
            }
            Event::Peer(id, from, bytes) => self.server.handle_peer(id, from, &bytes, now),
        }
        // Each event's answers before the next one: what waits is bounded.
        self.put_out(now);
    }

    fn tick(&mut self, now: Now) {
        if self.server.next_timeout().is_some_and(|due| due <= now.instant) {
            self.server.handle_timeout(now);
        }
        self.connections.close_idle(|flow| self.server.has_allocation(flow));
        self.measure();
    }

    fn put_out(&mut self, now: Now) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::ToClient(Flow::Datagrams { listener, client }, message) => {
                    if let Some(socket) = self.datagrams.get(listener) {
                        // At once or not at all, as a network does.
                        let _ = socket.try_send_to(&message, client);
                    }
                }
                Output::ToClient(Flow::Stream { connection, .. }, message) => {
                    self.connections.send(connection, message);
                }
                Output::ToPeer(id, peer, payload) => self.relays.send(id, peer, &payload),
                Output::Open(id, family) => {
                    let opened = self.relays.open(id, family);
                    if let Err(error) = &opened {
                        tracing::warn!(%error, "there is no port for an allocation");
                    }
                    self.server.opened(id, opened.ok(), now);
                }
                Output::Close(id) => self.relays.close(id),
            }
        }
    }

    fn measure(&self) {
        let counters = self.server.counters();
        metrics::gauge!("kaigi_turn_allocations").set(self.server.allocations() as f64);
        metrics::gauge!("kaigi_turn_connections").set(self.connections.len() as f64);
        if let Some(web) = &self.web {
            metrics::gauge!("kaigi_turn_https_connections").set(web.open() as f64);
        }
        metrics::counter!("kaigi_turn_allocations_total").absolute(counters.allocations);
        metrics::counter!("kaigi_turn_bytes_total", "to" => "peers").absolute(counters.bytes_to_peers);
        metrics::counter!("kaigi_turn_bytes_total", "to" => "clients").absolute(counters.bytes_from_peers);
        metrics::counter!("kaigi_turn_malformed_total").absolute(counters.malformed);
        metrics::counter!("kaigi_turn_dropped_total", "why" => "rate").absolute(counters.over_rate);
        metrics::counter!("kaigi_turn_dropped_total", "why" => "permission").absolute(counters.not_permitted);
        for code in Refusal::CODES {
            let count = counters.refused.get(&code).copied().unwrap_or_default();
            metrics::counter!("kaigi_turn_refusals_total", "code" => code.to_string()).absolute(count);
        }
    }
}

fn config(args: &Args, families: Vec<Family>) -> Config {
    Config {
        realm: args.realm.clone(),
        secret: args.secret.clone(),
        nonce_key: rand::random(),
        peers: Peers::new(args.allow_peers.clone(), args.deny_peers.clone(), own_addresses()),
        near: args.near_peers.clone(),
        families,
        limits: Limits {
            allocations: args.max_allocations.into(),
            allocations_per_user: args.max_allocations_per_user.into(),
            rate: Bitrate(args.max_kbps.saturating_mul(1000)),
            lifetime: Duration::from_secs(args.max_lifetime),
        },
    }
}

fn now() -> Now {
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Now { instant: Instant::now(), unix: UnixSeconds(unix.as_secs()) }
}

async fn read(index: usize, socket: Arc<UdpSocket>, events: mpsc::Sender<Event>) {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        match socket.recv_from(&mut buffer).await {
            // Full: the server has more to do than it can, and datagrams get lost.
            Ok((length, from)) => {
                drop(events.try_send(Event::Datagram(index, from, buffer[..length].into())))
            }
            // Of something that was sent before; not of this socket.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}
