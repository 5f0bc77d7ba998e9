//! Mixed streams (MCU): the pictures and sounds of a room's participants, put together to one.
//!
//! The conference-agent describes a [view] or a [transcoder] whole ([`description`], [`rendition`]); the [`node`] makes it so. Inputs are pulled over the media
//! [`link`], decoded, composed ([`video`]) and mixed ([`audio`]), each view in threads of its own that work by a [`plan`]; outputs are
//! pulled by whoever consumes them. [`events`] tell the agent what happens.

mod args;
pub mod audio;
pub mod description;
pub mod events;
pub mod external;
pub mod inputs;
pub mod link;
pub mod node;
pub mod plan;
pub mod plugins;
pub mod rendition;
pub mod service;
pub mod transcoder;
pub mod video;
pub mod view;
pub mod watchdog;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_proto::v1::{
    self, cluster_client::ClusterClient, layer_link_server::LayerLinkServer,
    media_link_server::MediaLinkServer, mixer_node_server::MixerNodeServer,
};
use kaigi_telemetry::{Health, HealthServer};
use kaigi_worker::{
    Capacity, ChannelError, Channels, Registration, Shutdown, Tasks, TlsError, Trust, new_worker_id,
    process_cpu_load,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{service::interceptor::InterceptedService, transport::server::TcpIncoming};

pub use args::Args;
use events::EventHub;
use external::Algorithms;
use link::{LinkContext, LinkService, Outputs, Receiver, VideoSources};
use node::Node;
use service::Service;
use video::Pictures;
use view::MixerContext;

/// What a room of nine takes of whose mix somebody takes one picture, in cores.
const CORES_OF_A_ROOM: f64 = 0.4;
/// Between looks at agents that are away.
const TICK: Duration = Duration::from_secs(1);
/// Between looks at the threads that compose and mix.
const WATCH: Duration = Duration::from_millis(200);
/// Time for calls under way when the process ends.
const GRACE: Duration = Duration::from_secs(1);

/// Why the process ended early.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// GStreamer does not start, or does not take this node's elements.
    #[error("GStreamer: {0}")]
    GStreamer(String),
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
    /// The configured pictures can't be read.
    #[error(transparent)]
    Pictures(#[from] video::PicturesError),
    /// The configured algorithms can't be used.
    #[error(transparent)]
    Algorithms(#[from] external::AlgorithmsError),
    /// There are to be certificates, and there are none.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The cluster-manager's endpoint is none.
    #[error(transparent)]
    Cluster(#[from] ChannelError),
    /// While serving.
    #[error(transparent)]
    Serve(#[from] tonic::transport::Error),
}

/// Starts GStreamer and adds this node's own elements to it.
///
/// # Errors
/// If GStreamer does not start.
pub fn init_gstreamer() -> Result<(), RunError> {
    gstreamer::init().map_err(|error| RunError::GStreamer(error.to_string()))?;
    gstkaigi::register().map_err(|error| RunError::GStreamer(error.to_string()))
}

/// The whole process, until it is to end. If it drains, agents make what it makes elsewhere first. Ready when it is registered.
///
/// # Errors
/// See [`RunError`].
pub async fn run(args: Args, health: Health, shutdown: impl Into<Shutdown>) -> Result<(), RunError> {
    let shutdown: Shutdown = shutdown.into();
    let stop = shutdown.stop().clone();
    init_gstreamer()?;
    let missing: Vec<_> = plugins::missing().iter().map(|missing| missing.element).collect();
    if !missing.is_empty() {
        return Err(RunError::Plugins(missing.join(", ")));
    }
    drop(tokio::task::spawn_blocking(plugins::load));
    let not_listening = |address: SocketAddr| move |reason: String| RunError::Listen { address, reason };
    let health_address = args.worker.health_listen;
    let health_server = HealthServer::bind(health_address, health.clone())
        .await
        .map_err(|error| not_listening(health_address)(error.to_string()))?;
    let listener = TcpListener::bind(args.worker.listen)
        .await
        .map_err(|error| not_listening(args.worker.listen)(error.to_string()))?;
    let listening =
        listener.local_addr().map_err(|error| not_listening(args.worker.listen)(error.to_string()))?;

    let worker_id = new_worker_id(v1::Purpose::Mixer);
    let trust = args.worker.trust.read()?;
    trust.report();
    let endpoint = args.worker.endpoint(listening, &trust);
    let channels = Channels::new(trust.clone());
    let node = bind_node(&args, worker_id.as_str(), &endpoint, &channels)?;
    let capacity = Capacity::of_cores(CORES_OF_A_ROOM).with(v1::Resource::Encoders, args.encoders(), 1.0);
    let registration = Registration {
        cluster: ClusterClient::new(channels.to_cluster(&args.worker.cluster)?),
        worker: v1::Worker {
            algorithms: node.context().algorithms.names().map(str::to_owned).collect(),
            ..args.worker.describe(&worker_id, v1::Purpose::Mixer, endpoint)
        },
        capacity: capacity.clone(),
        tasks: Tasks::default(),
        shutdown: shutdown.clone(),
    };
    tracing::info!(worker = %worker_id, %listening, link = %args.link_address, "mixer-node runs");

    tokio::spawn(health_server.run());
    tokio::spawn(process_cpu_load(capacity.clone(), stop.clone()));
    tokio::spawn(capacity.follow(v1::Resource::Encoders, stop.clone(), video::encoders));
    let ready = health.clone();
    let registered = tokio::spawn(registration.run(stop.clone(), move || ready.set_ready(true)));
    let (draining, limit) = (Arc::clone(&node), args.worker.drain_limit());
    tokio::spawn(async move {
        shutdown.begun().await;
        health.set_ready(false);
        shutdown.drained(limit, || draining.is_idle()).await;
    });
    serve(node, listener, &trust, stop).await?;
    let _left = tokio::time::timeout(GRACE, registered).await;
    Ok(())
}

fn bind_node(
    args: &Args,
    worker_id: &str,
    endpoint: &str,
    channels: &Channels,
) -> Result<Arc<Node>, RunError> {
    let address = args.link_address;
    let no_link = |source| RunError::Link { address, source };
    let receiver = Arc::new(Receiver::bind(address).map_err(no_link)?);
    let pictures = args.pictures.as_deref().map(Pictures::read).transpose()?.unwrap_or_default();
    let algorithms = args.algorithms.as_deref().map(Algorithms::read).transpose()?.unwrap_or_default();
    Ok(Arc::new(Node::new(Arc::new(MixerContext {
        link: LinkContext { receiver, channels: channels.clone() },
        sources: VideoSources::default(),
        outputs: Arc::new(Outputs::bind(address).map_err(no_link)?),
        events: EventHub::default(),
        pictures,
        algorithms,
        worker_id: worker_id.to_owned(),
        endpoint: endpoint.to_owned(),
    }))))
}

/// Serves a node until `stop`.
async fn serve(
    node: Arc<Node>,
    listener: TcpListener,
    trust: &Trust,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let context = Arc::clone(node.context());
    let (receiver, outputs) = (Arc::clone(&context.link.receiver), Arc::clone(&context.outputs));
    tokio::spawn({
        let stop = stop.clone();
        async move { receiver.run(stop).await }
    });
    tokio::spawn({
        let stop = stop.clone();
        async move {
            if let Err(error) = outputs.run(stop).await {
                tracing::error!(%error, "no feedback from consumers can be received");
            }
        }
    });
    tokio::spawn({
        let (node, stop) = (Arc::clone(&node), stop.clone());
        async move {
            let (mut tick, mut watch) = (tokio::time::interval(TICK), tokio::time::interval(WATCH));
            while !stop.is_cancelled() {
                tokio::select! {
                    _ = tick.tick() => node.tick(Instant::now()),
                    _ = watch.tick() => node.watch(Instant::now()),
                }
            }
        }
    });
    let link = LinkService(Arc::clone(&context.outputs));
    let (service, door) = (Service(node), trust.require());
    let asked = stop.clone();
    let serving = trust
        .server()?
        .tcp_nodelay(true)
        .add_service(InterceptedService::new(LayerLinkServer::new(service.clone()), door.clone()))
        .add_service(InterceptedService::new(MixerNodeServer::new(service), door.clone()))
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
