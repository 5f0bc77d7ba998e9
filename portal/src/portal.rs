//! The process: its ports, its place in the cluster, its end.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use anyhow::Context;
use axum::Router;
use axum_server::{
    Handle,
    accept::NoDelayAcceptor,
    tls_rustls::{RustlsAcceptor, RustlsConfig},
};
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto::Builder,
};
use kaigi_proto::v1::{Purpose, Resource, Worker};
use kaigi_telemetry::Health;
use kaigi_worker::{Capacity, Channels, Registration, Shutdown, Tasks, new_worker_id, process_cpu_load};
use tokio_util::sync::CancellationToken;

use crate::{
    args::Args,
    backend::Backend,
    echo::EchoDoor,
    health::{Readiness, health_routes},
    ice_servers::IceServers,
    owt_peers::OwtPeers,
    peers::{PeerRoomsMode, Peers},
    proxied::ProxiedAcceptor,
    public_host::PublicHost,
    rest::Management,
    signaling::{Limits, Reconnection, Signaling},
    tls,
    web::{self, Console, OtherClients, SampleDoor},
    whip::Doors,
};

/// Longest wait for a client to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// What a client takes that is in a room, in cores, on the average of its time there.
const CORES_OF_A_CLIENT: f64 = 0.0005;
/// Longest wait for those who can come back to be sent away, beside what the connections themselves wait for.
const HAND_OVER: Duration = Duration::from_secs(3);
/// How often it is looked whether they are.
const LOOK: Duration = Duration::from_millis(20);
/// At the end, clients get so long to be dropped from their rooms.
const GOODBYE: Duration = Duration::from_millis(1200);
/// And requests so long to be answered after that.
const LAST_ANSWERS: Duration = Duration::from_millis(300);

/// A portal that listens but does not serve yet.
#[derive(Debug)]
pub struct Portal {
    args: Args,
    health: Health,
    http: TcpListener,
    management: TcpListener,
    health_port: TcpListener,
    proxied: Option<TcpListener>,
    owt_peers: Option<TcpListener>,
    echo: Option<TcpListener>,
    tls: Option<RustlsConfig>,
}

impl Portal {
    /// Opens the ports and gets the certificate.
    ///
    /// # Errors
    /// If a port can't be listened on or the certificate is not to be had.
    pub async fn bind(args: Args, health: Health) -> anyhow::Result<Self> {
        // Another part of this process may have done it before; it would be the same one.
        let _: Result<_, _> = rustls::crypto::ring::default_provider().install_default();
        let listen = |address: SocketAddr| -> anyhow::Result<TcpListener> {
            let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        if args.owt_peer_port.is_some() && args.peer_rooms == PeerRoomsMode::Off {
            anyhow::bail!("--owt-peer-port needs --peer-rooms open, or token");
        }
        if args.echo_port.is_some() && args.echo_sessions == 0 {
            anyhow::bail!("--echo-port needs --echo-sessions");
        }
        let echo = args.echo_port.map(|port| listen(SocketAddr::new(args.bind, port))).transpose()?;
        let owt_peers =
            args.owt_peer_port.map(|port| listen(SocketAddr::new(args.bind, port))).transpose()?;
        let proxied = args.proxy_listen.map(listen).transpose()?;
        Ok(Self {
            proxied,
            owt_peers,
            echo,
            http: listen(SocketAddr::new(args.bind, args.http_port))?,
            management: listen(SocketAddr::new(args.bind, args.management_port))?,
            health_port: listen(args.worker.health_listen)?,
            tls: tls::config(&args).await?,
            args,
            health,
        })
    }

    /// Where clients connect.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn http_addr(&self) -> std::io::Result<SocketAddr> {
        self.http.local_addr()
    }

    /// Where the management API is.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn management_addr(&self) -> std::io::Result<SocketAddr> {
        self.management.local_addr()
    }

    /// Where health is told without TLS.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn health_addr(&self) -> std::io::Result<SocketAddr> {
        self.health_port.local_addr()
    }

    /// Where clients of OWT's peer-to-peer mode connect, if they are served.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn owt_peers_addr(&self) -> std::io::Result<Option<SocketAddr>> {
        self.owt_peers.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Where media are given back on a port of their own, if they are.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn echo_addr(&self) -> std::io::Result<Option<SocketAddr>> {
        self.echo.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Where a proxy passes clients on, if one does.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn proxied_addr(&self) -> std::io::Result<Option<SocketAddr>> {
        self.proxied.as_ref().map(TcpListener::local_addr).transpose()
    }

    /// Serves until it is to end, and leaves the cluster. If it drains, those who could not come back are waited for, and who can is sent to
    /// come back elsewhere; then, and if it is stopped at once, everybody is dropped.
    ///
    /// # Errors
    /// If the cluster's address is no address, or a listener breaks.
    pub async fn run(self, shutdown: impl Into<Shutdown>) -> anyhow::Result<()> {
        let shutdown: Shutdown = shutdown.into();
        let (http_addr, management_addr, health_addr) =
            (self.http_addr()?, self.management_addr()?, self.health_addr()?);
        let (owt_peers_addr, echo_addr, proxied_addr) =
            (self.owt_peers_addr()?, self.echo_addr()?, self.proxied_addr()?);
        let Self { args, health, http, management, health_port, proxied, owt_peers, echo, tls } = self;
        let trust = args.worker.trust.read()?;
        trust.report();
        let channels = Channels::new(trust);
        let cluster = channels.to_cluster(&args.worker.cluster)?;
        let backend = Backend::new(channels, cluster);
        let public_port = args.proxy_port.unwrap_or(http_addr.port());
        let is_secure = tls.is_some() || args.proxy_port.is_some();
        let host = PublicHost::new(args.public_host.as_deref(), args.bind, public_port, is_secure);
        let worker_id = new_worker_id(Purpose::Portal);

        let reconnection = Reconnection {
            window: Duration::from_secs(args.reconnection_timeout),
            ticket_life: Duration::from_secs(args.reconnection_ticket_lifetime),
        };
        let limits = Limits {
            message_bytes: args.max_message_bytes,
            waiting_packets: args.max_waiting_packets,
            connections: args.max_connections,
            login: Duration::from_secs(args.login_timeout),
            ping_interval: Duration::from_secs(args.ping_interval),
            ping_timeout: Duration::from_secs(args.ping_timeout),
            acknowledge_interval: Duration::from_millis(args.acknowledge_interval_ms),
        };
        let stopping = CancellationToken::new();
        let lifetime = Duration::from_secs(args.turn_lifetime);
        let told = [&args.ice_servers[..], &args.own_ice_servers].concat();
        let ice_servers = IceServers::new(&told, args.turn_secret.clone(), lifetime)?;
        let signaling = Signaling::new(
            backend.clone(),
            worker_id.to_string(),
            reconnection,
            limits,
            ice_servers,
            stopping.clone(),
        );
        let ending = signaling.ending.clone();
        let readiness = Readiness::new(backend.clone(), health, ending.draining.clone());
        let web_root = args.web_root.clone().or_else(web::find_web_root);
        let sample = args.sample.then(|| SampleDoor::new(backend.clone(), host.clone()));
        let console =
            Console::new(tls.is_some(), management_addr.port(), args.console_api.clone(), args.sample);
        let whip = Doors::new(signaling.clone());
        let peers = Peers::new(signaling.clone(), args.peer_rooms, args.cors.clone().into());
        let door = (args.echo_sessions > 0).then(|| EchoDoor::new(signaling.clone(), args.echo_sessions));
        let clients = web::router(
            &signaling,
            OtherClients { whip, peers, echo: door.clone() },
            readiness.clone(),
            sample,
            web_root.as_deref(),
            &console,
            &args.cors,
        );
        let mauth_window = Duration::from_secs(args.mauth_window);
        let management_api =
            Management::new(backend.clone(), host.clone(), mauth_window, stopping.clone()).router();

        let handle = Handle::new();
        let mut servers = tokio::task::JoinSet::new();
        if let Some(listener) = proxied {
            servers.spawn(serve_proxied(listener, clients.clone(), handle.clone()));
        }
        servers.spawn(serve(http, tls.clone(), clients, handle.clone()));
        servers.spawn(serve(management, tls.clone(), management_api, handle.clone()));
        if let Some(listener) = owt_peers {
            let peers = OwtPeers::new(signaling.clone(), args.peer_rooms, args.cors.clone().into());
            servers.spawn(serve(listener, tls.clone(), peers.router(), handle.clone()));
        }
        if let Some((listener, door)) = echo.zip(door) {
            let router = door.own_port(web_root.as_deref(), &args.cors);
            servers.spawn(serve(listener, tls.clone(), router, handle.clone()));
        }
        servers.spawn(serve(health_port, None, health_routes(readiness), handle.clone()));
        tracing::info!(%http_addr, %management_addr, %health_addr, ?owt_peers_addr, ?echo_addr, ?proxied_addr, tls = tls.is_some(), ?web_root, sample = args.sample, "portal listens");

        let most = args.max_connections as f64;
        let capacity = Capacity::of_cores(CORES_OF_A_CLIENT).with(Resource::Connections, most, 1.0);
        let leaving = CancellationToken::new();
        tokio::spawn(process_cpu_load(capacity.clone(), leaving.clone()));
        let counted = signaling.clone();
        let count = move || counted.open_connections();
        tokio::spawn(capacity.clone().follow(Resource::Connections, leaving.clone(), count));
        tokio::spawn(backend.rooms.clone().forget_the_dead(leaving.clone()));
        let published = backend.event_publisher(worker_id.clone());
        let all_done = CancellationToken::new();
        let published = tokio::spawn(published.run(all_done.clone()));
        let registration = Registration {
            cluster: backend.cluster(),
            worker: Worker {
                public_address: host.default_name(),
                secure: host.is_secure(),
                ..args.worker.describe(&worker_id, Purpose::Portal, String::new())
            },
            capacity,
            tasks: Tasks::default(),
            shutdown: shutdown.clone(),
        };
        let registration = tokio::spawn(registration.run(leaving.clone(), || {}));

        let broken = tokio::select! {
            () = async {
                shutdown.begun().await;
                ending.draining.cancel();
                shutdown.drained(args.worker.drain_limit(), || ending.staying.is_empty()).await;
            } => None,
            ended = servers.join_next() => ended,
        };

        leaving.cancel();
        if shutdown.is_draining() {
            ending.handing_over.cancel();
            let handed_over = async {
                while !signaling.connections.is_empty() {
                    tokio::time::sleep(LOOK).await;
                }
            };
            let _: Result<_, _> = tokio::time::timeout(HAND_OVER, handed_over).await;
        }
        stopping.cancel();
        signaling.connections.close();
        let _: Result<_, _> = tokio::time::timeout(GOODBYE, signaling.connections.wait()).await;
        handle.graceful_shutdown(Some(LAST_ANSWERS));
        let _: Result<_, _> = tokio::time::timeout(LAST_ANSWERS, registration).await;
        all_done.cancel();
        // Ends by itself, in time.
        let _: Result<_, _> = published.await;
        match broken {
            Some(result) => result?.context("a port is no longer served"),
            None => {
                while servers.join_next().await.is_some() {}
                Ok(())
            }
        }
    }
}

async fn serve(
    listener: TcpListener,
    tls: Option<RustlsConfig>,
    router: Router,
    handle: Handle<SocketAddr>,
) -> std::io::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = axum_server::from_tcp(listener)?.acceptor(NoDelayAcceptor::new()).handle(handle);
    match tls {
        Some(tls) => {
            let mut server = server.map(|tcp| RustlsAcceptor::new(tls).acceptor(tcp));
            limit_waiting(server.http_builder());
            server.serve(service).await
        }
        None => {
            let mut server = server;
            limit_waiting(server.http_builder());
            server.serve(service).await
        }
    }
}

async fn serve_proxied(
    listener: TcpListener,
    router: Router,
    handle: Handle<SocketAddr>,
) -> std::io::Result<()> {
    let mut server = axum_server::from_tcp(listener)?.acceptor(ProxiedAcceptor).handle(handle);
    limit_waiting(server.http_builder());
    server.serve(router.into_make_service()).await
}

fn limit_waiting(http: &mut Builder<TokioExecutor>) {
    http.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    http.http2().timer(TokioTimer::new());
}
