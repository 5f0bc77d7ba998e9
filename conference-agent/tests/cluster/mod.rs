//! A cluster around the agent under test, played by gRPC servers in this process.

#![allow(dead_code, reason = "each file of tests uses a part")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::Stream;
use kaigi_proto::v1::{self, access_event, conference_client::ConferenceClient, join_event::Event};
use kaigi_telemetry::Health;
use kaigi_worker::Shutdown;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::{
    StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status,
    transport::{Channel, Server},
};

mod access_node;
mod manager;
mod mixer_node;

pub(crate) const ROOM: &str = "00000000000000000000000a";
/// Longest wait for anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
/// Of a node's event stream, once somebody listens to it.
type Sender<T> = Arc<Mutex<Option<mpsc::Sender<Result<T, Status>>>>>;
type Answer<T> = Result<Response<T>, Status>;

/// What the servers know.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Of the agent under test.
    pub(crate) registered: Option<v1::Worker>,
    /// All agents, by their ids.
    pub(crate) agents: BTreeMap<String, v1::Worker>,
    pub(crate) access_node: Option<v1::Worker>,
    pub(crate) mixer_node: Option<v1::Worker>,
    pub(crate) epoch: u64,
    pub(crate) leases: Vec<String>,
    pub(crate) released: Vec<String>,
    /// Agents that have handed the room over.
    pub(crate) handed_over: Vec<String>,
    /// What is kept of the room.
    pub(crate) snapshot: BTreeMap<String, Vec<u8>>,
    pub(crate) version: u64,
    /// Whether the store takes no snapshots.
    pub(crate) store_is_away: bool,
    /// Room and epoch under which it was adopted.
    pub(crate) adopted: Vec<(String, u64)>,
    pub(crate) adopted_sessions: Vec<v1::AdoptedSession>,
    pub(crate) signals: Vec<v1::SignalTransportRequest>,
    /// Sessions open at the access node.
    pub(crate) sessions: Vec<String>,
    pub(crate) opened: Vec<v1::OpenSubscriptionRequest>,
    pub(crate) sources: Vec<v1::SetSourceRequest>,
    pub(crate) closed_transports: Vec<String>,
    pub(crate) views: Vec<v1::ViewDescription>,
    pub(crate) removed_views: Vec<String>,
    pub(crate) transcoders: Vec<v1::TranscoderDescription>,
    pub(crate) removed_transcoders: Vec<String>,
    /// Codecs that subscribers offer, in their order; empty = all.
    pub(crate) offered: Vec<&'static str>,
    pub(crate) tasks: Vec<String>,
    /// Transports and tracks whose counters were asked for, by call.
    pub(crate) counted: Vec<Vec<String>>,
    /// Whether the mixer does not answer such a call.
    pub(crate) mixer_hangs: bool,
}

impl Known {
    /// What a client receives of a subscription: the first format of each kind that it offers. `None` for a publication.
    fn negotiate(&self, session: &str) -> Option<Vec<v1::NegotiatedTrack>> {
        let opened = self.opened.iter().rev().find(|opened| opened.session_id == session)?;
        let negotiated = |track: &v1::SubscriptionTrack| {
            let offered =
                |f: &&v1::MediaFormat| self.offered.is_empty() || self.offered.contains(&f.codec.as_str());
            Some(v1::NegotiatedTrack {
                mid: track.mid.clone(),
                kind: track.kind,
                track_id: format!("{session}-{}", track.mid),
                format: Some(track.formats.iter().find(offered)?.clone()),
            })
        };
        Some(opened.tracks.iter().filter_map(negotiated).collect())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Everything {
    pub(crate) known: Arc<Mutex<Known>>,
    cluster_events: broadcast::Sender<v1::ClusterEvent>,
    /// The access node's event stream.
    access_events: Sender<v1::AccessEvent>,
    mixer_events: Sender<v1::MixerEvent>,
}

impl Everything {
    fn know<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.lock().unwrap())
    }

    /// Waits until the servers know something.
    pub(crate) async fn until(&self, what: &str, known: impl Fn(&Known) -> bool) {
        let wait = async {
            while !self.know(|k| known(k)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            panic!("waited in vain for: {what}; known: {:?}", self.known.lock().unwrap());
        }
    }

    pub(crate) async fn access_event(&self, transport: &str, event: access_event::Event) {
        let sender = self.access_events.lock().unwrap().clone().expect("nobody listens to the access node");
        let event = v1::AccessEvent {
            room_id: ROOM.into(),
            participant_id: String::new(),
            transport_id: transport.into(),
            event: Some(event),
            answer_number: 0,
        };
        sender.send(Ok(event)).await.unwrap();
    }

    /// The cluster loses a worker.
    pub(crate) fn lose(&self, worker: v1::Worker) {
        let left = v1::ClusterEvent { event: Some(v1::cluster_event::Event::Left(worker)) };
        self.cluster_events.send(left).unwrap();
    }
}

/// The agent under test and its cluster.
pub(crate) struct Cluster {
    pub(crate) everything: Everything,
    pub(crate) client: ConferenceClient<Channel>,
    pub(crate) stop: CancellationToken,
    pub(crate) shutdown: Shutdown,
    address: SocketAddr,
    agent: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Cluster {
    pub(crate) async fn start(room_idle: u64) -> Self {
        let everything = Everything {
            known: Arc::default(),
            cluster_events: broadcast::channel(16).0,
            access_events: Arc::default(),
            mixer_events: Arc::default(),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let server = Server::builder()
            .add_service(v1::cluster_server::ClusterServer::new(everything.clone()))
            .add_service(v1::store_server::StoreServer::new(everything.clone()))
            .add_service(v1::access_node_server::AccessNodeServer::new(everything.clone()))
            .add_service(v1::mixer_node_server::MixerNodeServer::new(everything.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        let worker = |id: &str| v1::Worker {
            worker_id: id.into(),
            endpoint: format!("http://{address}"),
            ..v1::Worker::default()
        };
        everything.know(|known| {
            known.access_node = Some(worker("access-1"));
            known.mixer_node = Some(worker("mixer-1"));
        });
        Self::with(everything, address, room_idle).await
    }

    /// Another agent in the same cluster.
    pub(crate) async fn another(&self, room_idle: u64) -> Self {
        self.everything.know(|known| known.registered = None);
        Self::with(self.everything.clone(), self.address, room_idle).await
    }

    /// Another agent at that cluster-manager.
    pub(crate) async fn with(everything: Everything, address: SocketAddr, room_idle: u64) -> Self {
        let args = <kaigi_conference_agent::Args as clap::Parser>::parse_from([
            "agent",
            "--cluster",
            &format!("http://{address}"),
            "--room-idle",
            &room_idle.to_string(),
            // Longer than any test waits.
            "--drain-timeout",
            "600",
        ]);
        let shutdown = Shutdown::default();
        let stop = shutdown.stop().clone();
        let agent = tokio::spawn(kaigi_conference_agent::run(args, Health::detached(), shutdown.clone()));
        everything.until("registration", |known| known.registered.is_some()).await;
        let endpoint = everything.know(|known| known.registered.clone().unwrap().endpoint);
        let client = ConferenceClient::connect(endpoint).await.unwrap();
        Self { everything, client, stop, shutdown, agent, address }
    }

    /// Where the cluster-manager is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn join(&mut self, name: &str, role: &str) -> Result<Listener, Status> {
        let request = v1::JoinRequest {
            room_id: ROOM.into(),
            participant_id: name.into(),
            user: format!("\"{name}\""),
            role: role.into(),
            ..v1::JoinRequest::default()
        };
        Ok(Listener(self.client.join(request).await?.into_inner()))
    }

    /// A portal that lost an agent comes to this one; what it had is up to `after_seq`.
    pub(crate) async fn reattach(&mut self, name: &str, after_seq: u64) -> Result<Listener, Status> {
        let request = v1::ResumeRequest {
            room_id: ROOM.into(),
            participant_id: name.into(),
            after_seq,
            same_portal: true,
            ..v1::ResumeRequest::default()
        };
        Ok(Listener(self.client.resume(request).await?.into_inner()))
    }

    /// The agent ends by itself once stopped.
    pub(crate) async fn ended(self) {
        self.stop.cancel();
        self.over().await;
    }

    /// The agent ends by itself.
    pub(crate) async fn over(self) {
        tokio::time::timeout(PATIENCE, self.agent).await.expect("the agent does not end").unwrap().unwrap();
    }
}

/// One participant's events.
#[derive(Debug)]
pub(crate) struct Listener(tonic::Streaming<v1::JoinEvent>);

impl Listener {
    /// The next event with its number; `None` at the end, be it clean or not.
    pub(crate) async fn numbered(&mut self) -> Option<v1::JoinEvent> {
        tokio::time::timeout(PATIENCE, self.0.message()).await.expect("no event").ok().flatten()
    }

    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        let next = tokio::time::timeout(PATIENCE, self.0.message()).await.expect("no event");
        next.expect("the stream broke").map(|event| event.event.unwrap())
    }

    /// Skips to the first event that `pick` takes.
    pub(crate) async fn find<T>(&mut self, pick: impl Fn(&Event) -> Option<T>) -> T {
        loop {
            let event = self.next().await.expect("the stream ended");
            if let Some(found) = pick(&event) {
                return found;
            }
        }
    }
}
