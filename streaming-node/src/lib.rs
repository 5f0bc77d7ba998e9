//! Streams of rooms out of the conference: recordings and live broadcasts; and streams of other servers into it.
//!
//! The conference-agent describes an [`output`] whole; the [`node`] makes it so. Its sound and picture are pulled over the media link
//! ([`lanes`]), put in order ([`reorder`]), made frames ([`depacketize`]) at their times ([`timeline`]), and then written to files without
//! being encoded again ([`recording`], [`matroska`], [`mp4`]) or pushed to a server ([`broadcast`]), in a thread that nothing else waits for.
//!
//! What comes [in](ingest) is pulled by a pipeline of its own, or pushed through a [`door`] by [RTMP](rtmp) or SRT, and sent as tracks that others
//! attach over the media link.
//!
//! Broadcasts by HLS and DASH are stored at some server, which may be this node's own [`origin`].
//!
//! Where pipelines connect to is for others to say, within what the settings [allow](target::Policy); a [`guard`] holds them to it.

mod address;
mod args;
pub mod broadcast;
pub mod collection;
pub mod container;
pub mod depacketize;
pub mod door;
pub mod events;
pub mod frame;
pub mod guard;
pub mod ingest;
pub mod lanes;
pub mod matroska;
pub mod mp4;
pub mod node;
pub mod origin;
pub mod output;
mod pipeline;
pub mod plugins;
pub mod recording;
pub mod reorder;
pub mod rtmp;
pub mod service;
pub mod store;
pub mod target;
pub mod timeline;

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_intake::{LinkContext, Receiver};
use kaigi_outbound::Reach;
use kaigi_proto::v1::{
    self, cluster_client::ClusterClient, media_link_server::MediaLinkServer,
    streaming_node_server::StreamingNodeServer,
};
use kaigi_supply::{LinkService, Outputs};
use kaigi_telemetry::{Health, HealthServer};
use kaigi_worker::{
    Capacity, ChannelError, Channels, Registration, Shutdown, Tasks, TlsError, Trust, new_worker_id,
    process_cpu_load,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{service::interceptor::InterceptedService, transport::server::TcpIncoming};

pub use args::Args;
use door::{Door, Doors, Ports};
use guard::GuardError;
use ingest::Place;
use node::Node;
use origin::Origin;
use service::Service;
use store::{Outbox, StoreError, Uploader};
use target::Policy;

/// What a room takes whose mix is sent to a live server, in cores; one that is recorded takes a tenth.
const CORES_OF_A_ROOM: f64 = 0.03;
/// Between looks at agents that are away.
const TICK: Duration = Duration::from_secs(1);
/// Time for calls under way when the process ends.
const GRACE: Duration = Duration::from_secs(1);

/// Why the process ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// GStreamer does not start.
    #[error("GStreamer: {0}")]
    GStreamer(#[from] gstreamer::glib::Error),
    /// Elements are missing.
    #[error("GStreamer elements are missing: {0}; --check-plugins tells where they are")]
    Plugins(String),
    /// An address can't be listened on.
    #[error("can't listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// No socket for the media link.
    #[error("no media link on {address}: {source}")]
    Link {
        /// The address.
        address: IpAddr,
        /// What happened.
        source: std::io::Error,
    },
    /// The folder of recordings can't be made, or that of files is not there.
    #[error("no folder {}: {source}", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// See [`StoreError`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The slate can't be shown.
    #[error("slate {}: {reason}", file.display())]
    Slate {
        /// Its file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There are to be certificates, and there are none.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The cluster-manager's endpoint is none.
    #[error(transparent)]
    Cluster(#[from] ChannelError),
    /// See [`GuardError`].
    #[error("connections of broadcasts and streams in can't be held to the settings: {0}")]
    Guard(#[from] GuardError),
    /// While serving.
    #[error(transparent)]
    Serve(#[from] tonic::transport::Error),
}

/// The whole process, until it is to end. If it drains, agents have what it makes and pulls go on elsewhere first. Ready when it is registered.
///
/// # Errors
/// See [`RunError`].
pub async fn run(args: Args, health: Health, shutdown: impl Into<Shutdown>) -> Result<(), RunError> {
    let shutdown: Shutdown = shutdown.into();
    let stop = shutdown.stop().clone();
    gstreamer::init()?;
    let missing: Vec<_> = plugins::missing().into_iter().map(|(element, _)| element).collect();
    if !missing.is_empty() {
        return Err(RunError::Plugins(missing.join(", ")));
    }
    if let Some(file) = &args.slate {
        let wrong = |reason| RunError::Slate { file: file.clone(), reason };
        broadcast::slate::check(file).map_err(wrong)?;
    }
    let not_listening = |address: SocketAddr| move |reason: String| RunError::Listen { address, reason };
    let health_address = args.worker.health_listen;
    let health_server = HealthServer::bind(health_address, health.clone())
        .await
        .map_err(|error| not_listening(health_address)(error.to_string()))?;
    let listener = TcpListener::bind(args.worker.listen)
        .await
        .map_err(|error| not_listening(args.worker.listen)(error.to_string()))?;
    let door = match args.rtmp_listen {
        Some(address) => {
            let opened = open_door(&args, address).await;
            Some(opened.map_err(|error| not_listening(address)(error.to_string()))?)
        }
        None => None,
    };
    let origin = match (args.hls_listen, &args.hls_key) {
        (Some(address), Some(key)) => {
            let opened = TcpListener::bind(address).await;
            Some((
                Origin::new(key.clone()),
                opened.map_err(|error| not_listening(address)(error.to_string()))?,
            ))
        }
        _ => None,
    };
    let listening =
        listener.local_addr().map_err(|error| not_listening(args.worker.listen)(error.to_string()))?;

    let worker_id = new_worker_id(v1::Purpose::Streaming);
    let trust = args.worker.trust.read()?;
    trust.report();
    let channels = Channels::new(trust.clone());
    let endpoint = args.worker.endpoint(listening, &trust);
    let doors = Doors { rtmp: door.as_ref().map(|(door, _)| Arc::clone(door)), srt: srt_ports(&args) };
    let node = bind_node(&args, channels.clone(), listening, endpoint.clone(), worker_id.as_ref(), doors)?;
    guard::install(node.policy()).await?;
    let capacity = Capacity::of_cores(CORES_OF_A_ROOM).with(v1::Resource::Pipelines, args.pipelines(), 1.0);
    let registration = Registration {
        cluster: ClusterClient::new(channels.to_cluster(&args.worker.cluster)?),
        worker: args.worker.describe(&worker_id, v1::Purpose::Streaming, endpoint),
        capacity: capacity.clone(),
        tasks: Tasks::default(),
        shutdown: shutdown.clone(),
    };
    tracing::info!(worker = %worker_id, %listening, link = %args.link_address, "streaming-node runs");

    tokio::spawn(health_server.run());
    if let Some((origin, listener)) = origin {
        tokio::spawn(origin.run(listener, stop.clone()));
    }
    if let Some((door, listener)) = door {
        tokio::spawn(door.run(listener, stop.clone()));
    }
    tokio::spawn(process_cpu_load(capacity.clone(), stop.clone()));
    let counted = Arc::clone(&node);
    tokio::spawn(capacity.follow(v1::Resource::Pipelines, stop.clone(), move || counted.pipelines()));
    let ready = health.clone();
    let registered = tokio::spawn(registration.run(stop.clone(), move || ready.set_ready(true)));
    let (draining, limit) = (Arc::clone(&node), args.worker.drain_limit());
    tokio::spawn(async move {
        shutdown.begun().await;
        health.set_ready(false);
        draining.close_doors();
        shutdown.drained(limit, || draining.is_idle()).await;
    });
    serve(&node, listener, &args, &trust, stop).await?;
    let _left = tokio::time::timeout(GRACE, registered).await;
    // Recordings are completed, whatever else happens.
    let _finished = tokio::task::spawn_blocking(move || node.finish()).await;
    Ok(())
}

/// Where encoders push to.
async fn open_door(args: &Args, address: SocketAddr) -> std::io::Result<(Arc<Door>, TcpListener)> {
    let listener = TcpListener::bind(address).await?;
    let (listening, internal) = (listener.local_addr()?, args.worker.internal_host.as_deref());
    let url = match &args.rtmp_url {
        Some(url) => url.to_string(),
        None if listening.ip().is_unspecified() => {
            format!("rtmp://{}:{}/live", internal.unwrap_or("localhost"), listening.port())
        }
        None => format!("rtmp://{listening}/live"),
    };
    tracing::info!(%listening, url, "encoders can push by RTMP");
    Ok((Door::new(url), listener))
}

/// Those for what is pushed by SRT.
fn srt_ports(args: &Args) -> Option<Arc<Ports>> {
    let host = args.srt_host.as_ref().or(args.worker.internal_host.as_ref());
    let host = host.map_or("localhost", String::as_str).to_owned();
    args.srt_ports.clone().map(|ports| Ports::new(host, ports))
}

fn bind_node(
    args: &Args,
    channels: Channels,
    listening: SocketAddr,
    endpoint: String,
    worker_id: &str,
    doors: Doors,
) -> Result<Arc<Node>, RunError> {
    let address = args.link_address;
    let no_link = |source| RunError::Link { address, source };
    let receiver = Arc::new(Receiver::bind(address).map_err(no_link)?);
    let place = Place {
        outputs: Arc::new(Outputs::bind(address).map_err(no_link)?),
        worker_id: worker_id.to_owned(),
        endpoint,
    };
    let folder = args.recordings.clone();
    let no_folder = |source| RunError::Folder { folder: folder.clone(), source };
    std::fs::create_dir_all(&folder).map_err(no_folder)?;
    let recordings = folder.canonicalize().map_err(no_folder)?;
    let real = |folder: &PathBuf| {
        folder.canonicalize().map_err(|source| RunError::Folder { folder: folder.clone(), source })
    };
    let outbox = args.recordings_store.as_ref().map(|_| Outbox::open(&recordings)).transpose()?;
    let policy = Policy {
        recordings,
        reach: if args.private_targets { Reach::Any } else { Reach::Public },
        allowed_hosts: args.broadcast_hosts.clone(),
        slate: args.slate.clone(),
        ingest_hosts: args.ingest_hosts.clone(),
        ingest_files: args.ingest_files.as_ref().map(real).transpose()?,
    };
    let host = args.worker.internal_host.clone().unwrap_or_else(|| listening.ip().to_string());
    Ok(Arc::new(Node::new(LinkContext { receiver, channels }, policy, host, place, outbox, doors)))
}

/// Serves a node until `stop`.
async fn serve(
    node: &Arc<Node>,
    listener: TcpListener,
    args: &Args,
    trust: &Trust,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let receiver = Arc::clone(&node.link().receiver);
    tokio::spawn({
        let stop = stop.clone();
        async move { receiver.run(stop).await }
    });
    tokio::spawn({
        let (node, stop) = (Arc::clone(node), stop.clone());
        async move {
            let mut tick = tokio::time::interval(TICK);
            while !stop.is_cancelled() {
                tick.tick().await;
                let node = Arc::clone(&node);
                let _ticked = tokio::task::spawn_blocking(move || node.tick(Instant::now())).await;
            }
        }
    });
    if let (Some(url), Some(outbox)) = (&args.recordings_store, node.outbox()) {
        let uploader = Uploader::new(outbox.clone(), url, args.move_recordings)?;
        tokio::spawn(uploader.run(stop.clone()));
    }
    let outputs = Arc::clone(&node.place().outputs);
    let link = LinkService(Arc::clone(&outputs));
    tokio::spawn({
        let stop = stop.clone();
        async move {
            if let Err(error) = outputs.run(stop).await {
                tracing::error!(%error, "no feedback from consumers can be received");
            }
        }
    });
    let (service, door) = (Service(Arc::clone(node)), trust.require());
    let asked = stop.clone();
    let serving = trust
        .server()?
        .tcp_nodelay(true)
        .add_service(InterceptedService::new(StreamingNodeServer::new(service), door.clone()))
        .add_service(InterceptedService::new(MediaLinkServer::new(link), door))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), async move {
            asked.cancelled().await
        });
    tokio::select! {
        result = serving => Ok(result?),
        // Event streams never end by themselves.
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE / 2).await } => Ok(()),
    }
}
