//! A cluster made of memory: cluster-manager, store and conference-agent behind one real gRPC port.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use futures::Stream as Flow;
use kaigi_proto::{
    auth::{ClusterSecret, Require},
    v1::{
        cluster_server::{Cluster as ClusterService, ClusterServer},
        conference_server::{Conference, ConferenceServer},
        data_link_server::DataLinkServer,
        events_server::EventsServer,
        peer_rooms_server::PeerRoomsServer,
        store_server::{Store, StoreServer},
        *,
    },
};
use kaigi_room_config::RoomConfig;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status,
    service::interceptor::InterceptedService,
    transport::{Server, server::TcpIncoming},
};

mod conference;
mod manager;

/// The secret of this cluster.
pub(crate) const SECRET: &str = "s3cret";
/// Service and room that are there from the start.
pub(crate) const SERVICE: &str = "5188b9af6e53c84ffd600413";
pub(crate) const KEY: &str = "a2V5";
pub(crate) const OTHER_SERVICE: &str = "5188b9af6e53c84ffd600414";
pub(crate) const ROOM: &str = "655b9af6e53c84ffd6004150";

type Events = mpsc::Sender<Result<JoinEvent, Status>>;
type BoxFlow<T> = Pin<Box<dyn Flow<Item = Result<T, Status>> + Send>>;

/// What the cluster knows and was asked.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) documents: BTreeMap<(i32, String), Vec<u8>>,
    pub(crate) workers: Vec<Worker>,
    /// Whether the room is placed at the agent.
    pub(crate) live: bool,
    pub(crate) members: BTreeMap<String, (Participant, Events)>,
    /// What each member was told, with the number of the last that it is known to have.
    pub(crate) told: BTreeMap<String, (Vec<JoinEvent>, u64)>,
    /// Names of calls to the room with what they carried.
    pub(crate) calls: Vec<(String, Value)>,
    /// What the next calls of that name are refused with.
    pub(crate) refusals: BTreeMap<&'static str, Status>,
    /// What was subscribed.
    pub(crate) subscribed: Vec<SubscribeRequest>,
    /// The documents that were put, one after the other.
    pub(crate) history: Vec<Vec<u8>>,
    /// How many writes came too late for what they expected.
    pub(crate) aborted: u32,
    /// Collections in which somebody else is always faster.
    pub(crate) restless: Vec<i32>,
    /// How many pages of documents were asked for.
    pub(crate) pages: u32,
    /// Recordings and broadcasts.
    pub(crate) egresses: Vec<Egress>,
    pub(crate) analytics: Vec<kaigi_proto::v1::Analytics>,
    /// Streams that are pulled.
    pub(crate) ingests: Vec<Ingest>,
    /// What is counted in the room.
    pub(crate) stats: RoomStatsReply,
    /// The hub of peers.
    pub(crate) peers: super::peers::Hub,
    /// The data channels of who publishes with data.
    pub(crate) channels: super::echo::Channels,
    /// The hub of events.
    pub(crate) hub: super::events::Hub,
    /// Events told within the next `publish`, before its answer.
    pub(crate) told_early: Vec<join_event::Event>,
}

/// The cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    state: Arc<Mutex<State>>,
    endpoint: String,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let cluster = Self { state: Arc::default(), endpoint };
        for (id, is_super) in [(SERVICE, false), (OTHER_SERVICE, true)] {
            let service = json!({"id": id, "name": "s", "key": KEY, "super": is_super});
            cluster.put(Collection::Services, id, &service);
        }
        cluster.put_room();
        cluster.state().workers = [Purpose::Conference, Purpose::Access, Purpose::Mixer]
            .map(|p| Worker {
                worker_id: format!("{p:?}"),
                purpose: p.into(),
                endpoint: cluster.endpoint(),
                ..Worker::default()
            })
            .to_vec();
        let guard = || Require(ClusterSecret::new(SECRET));
        let server = Server::builder()
            .add_service(InterceptedService::new(ClusterServer::new(cluster.clone()), guard()))
            .add_service(InterceptedService::new(StoreServer::new(cluster.clone()), guard()))
            .add_service(InterceptedService::new(EventsServer::new(cluster.clone()), guard()))
            .add_service(InterceptedService::new(DataLinkServer::new(cluster.clone()), guard()))
            .add_service(InterceptedService::new(PeerRoomsServer::new(cluster.clone()), guard()))
            .add_service(InterceptedService::new(ConferenceServer::new(cluster.clone()), guard()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))));
        cluster
    }

    pub(crate) fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn put(&self, collection: Collection, key: &str, value: &Value) {
        self.state().documents.insert((collection.into(), key.to_owned()), value.to_string().into_bytes());
    }

    /// A stored document.
    pub(crate) fn document(&self, collection: Collection, key: &str) -> Option<Value> {
        let state = self.state();
        let bytes = state.documents.get(&(collection.into(), key.to_owned()))?;
        Some(serde_json::from_slice(bytes).unwrap())
    }

    /// The room that is there from the start, as it is then.
    pub(crate) fn put_room(&self) {
        let room = serde_json::to_value(RoomConfig::new(ROOM, "default", SERVICE)).unwrap();
        self.put(Collection::Rooms, ROOM, &room);
    }

    /// Tells all members something.
    pub(crate) async fn tell(&self, event: join_event::Event) {
        let members: Vec<String> = self.state().members.keys().cloned().collect();
        for member in members {
            self.tell_one(&member, event.clone()).await;
        }
    }

    /// Tells one member something, now or when it is back.
    pub(crate) async fn tell_one(&self, member: &str, event: join_event::Event) {
        let (event, events) = {
            let mut state = self.state();
            let told = &mut state.told.get_mut(member).unwrap().0;
            let event = JoinEvent { seq: told.len() as u64 + 1, event: Some(event) };
            told.push(event.clone());
            (event, state.members[member].1.clone())
        };
        let _: Result<_, _> = events.send(Ok(event)).await;
    }

    /// A message of the room to everybody.
    pub(crate) async fn say(&self, message: &str) {
        let text = TextEvent { from: "room".into(), to_all: true, message: message.into() };
        self.tell(join_event::Event::Text(text)).await;
    }

    /// The agent dies: all streams of events break.
    pub(crate) fn kill_agent(&self) {
        let mut state = self.state();
        state.live = false;
        state.members.clear();
    }

    /// What the calls of that name carried.
    pub(crate) fn calls(&self, name: &str) -> Vec<Value> {
        self.state().calls.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect()
    }

    fn asked(&self, name: &'static str, what: Value) -> Result<(), Status> {
        let mut state = self.state();
        state.calls.push((name.to_owned(), what));
        state.refusals.get(name).cloned().map_or(Ok(()), Err)
    }

    fn agent(&self) -> Option<Worker> {
        self.state().workers.iter().find(|w| w.purpose() == Purpose::Conference).cloned()
    }
}

/// The mixed stream of the room.
pub(crate) fn mixed() -> Stream {
    let track = |kind: MediaKind, codec: &str| Track {
        kind: kind.into(),
        format: Some(MediaFormat { codec: codec.into(), ..MediaFormat::default() }),
        active: true,
        ..Track::default()
    };
    Stream {
        id: format!("{ROOM}-common"),
        r#type: StreamType::Mixed.into(),
        tracks: vec![track(MediaKind::Audio, "opus"), track(MediaKind::Video, "vp8")],
        label: "common".into(),
        layout: Some(Layout::default()),
        filter: "none".into(),
        ..Stream::default()
    }
}
