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

/// An access-node's answer, if it is a whole offer. Its credentials follow the client's; payload 126 is no format that the room takes.
fn answer_to(offer: &str) -> String {
    let Some(ufrag) = offer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")) else {
        return format!("answer to {offer}");
    };
    let server: String = ufrag.chars().rev().collect();
    let mut answer = String::from("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n");
    for section in offer.split("\r\nm=").skip(1) {
        let mid = section.lines().find(|line| line.starts_with("a=mid:")).unwrap();
        let line = section.lines().next().unwrap();
        let direction = if line.ends_with(" 126") { "inactive" } else { "sendrecv" };
        answer.push_str(&format!(
            "m={line}\r\na=candidate:1 1 udp 1 192.0.2.1 10000 typ host\r\na=end-of-candidates\r\n\
             a=ice-ufrag:{server}\r\na=ice-pwd:{}\r\n{mid}\r\na={direction}\r\n",
            "p".repeat(22)
        ));
    }
    answer
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

#[tonic::async_trait]
impl ClusterService for Cluster {
    type WatchStream = BoxFlow<ClusterEvent>;

    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<RegisterReply>, Status> {
        let worker = request.into_inner().worker.unwrap();
        self.state().workers.push(worker);
        Ok(Response::new(RegisterReply { lease_ms: 3000 }))
    }
    async fn heartbeat(&self, _: Request<HeartbeatRequest>) -> Result<Response<HeartbeatReply>, Status> {
        Ok(Response::new(HeartbeatReply::default()))
    }
    async fn can_fit(&self, request: Request<CanFitRequest>) -> Result<Response<CanFitReply>, Status> {
        let CanFitRequest { purpose, isp, region } = request.into_inner();
        self.asked("can_fit", json!([isp, region]))?;
        let there = self.state().workers.iter().filter(|worker| worker.purpose == purpose).count();
        Ok(Response::new(CanFitReply { workers: there.try_into().unwrap() }))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        let id = request.into_inner().worker_id;
        let mut state = self.state();
        let worker = state.workers.iter_mut().find(|worker| worker.worker_id == id);
        worker.ok_or_else(|| Status::not_found("this worker is not registered"))?.draining = true;
        Ok(Response::new(DrainReply {}))
    }
    async fn leave(&self, request: Request<LeaveRequest>) -> Result<Response<LeaveReply>, Status> {
        let id = request.into_inner().worker_id;
        self.state().workers.retain(|w| w.worker_id != id);
        Ok(Response::new(LeaveReply {}))
    }
    async fn schedule(&self, _: Request<ScheduleRequest>) -> Result<Response<ScheduleReply>, Status> {
        self.asked("schedule", Value::Null)?;
        let worker = self.agent().ok_or_else(|| Status::unavailable("No conference agent is alive"))?;
        Ok(Response::new(ScheduleReply { worker: Some(worker) }))
    }
    async fn lookup(&self, _: Request<LookupRequest>) -> Result<Response<LookupReply>, Status> {
        let worker = if self.state().live { self.agent() } else { None };
        Ok(Response::new(LookupReply { worker }))
    }
    async fn release(&self, _: Request<ReleaseRequest>) -> Result<Response<ReleaseReply>, Status> {
        Ok(Response::new(ReleaseReply {}))
    }
    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersReply>, Status> {
        Ok(Response::new(ListWorkersReply { workers: self.state().workers.clone() }))
    }
    async fn watch(&self, _: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(Box::pin(futures::stream::pending())))
    }
}

#[tonic::async_trait]
impl Store for Cluster {
    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutReply>, Status> {
        let PutRequest { collection, key, value, create_only, expected, .. } = request.into_inner();
        {
            let mut state = self.state();
            let kept = state.documents.get(&(collection, key.clone()));
            if create_only && kept.is_some() {
                return Err(Status::already_exists("exists"));
            }
            if expected.is_some() && kept != expected.as_ref() {
                state.aborted += 1;
                return Err(Status::aborted("changed"));
            }
            if state.restless.contains(&collection) {
                return Err(Status::aborted("somebody is always faster"));
            }
            state.history.push(value.clone());
            state.documents.insert((collection, key), value);
        }
        Ok(Response::new(PutReply {}))
    }
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        let GetRequest { collection, key } = request.into_inner();
        Ok(Response::new(GetReply { value: self.state().documents.get(&(collection, key)).cloned() }))
    }
    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListReply>, Status> {
        let ListRequest { collection: wanted, after, prefix, limit } = request.into_inner();
        let mut state = self.state();
        state.pages += 1;
        let limit = if limit == 0 { 1_000 } else { limit as usize };
        let of_it = state.documents.iter().filter(|((collection, key), _)| {
            *collection == wanted && *key > after && key.starts_with(&prefix)
        });
        let mut entries: Vec<_> = of_it
            .map(|((_, key), value)| list_reply::Entry { key: key.clone(), value: value.clone() })
            .collect();
        let mut bytes = 0;
        let fits = entries.iter().take(limit).take_while(|entry| {
            let is_first = bytes == 0;
            bytes += entry.value.len();
            is_first || bytes <= 2 << 20
        });
        let count = fits.count();
        let more = entries.len() > count;
        entries.truncate(count);
        Ok(Response::new(ListReply { entries, more }))
    }
    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteReply>, Status> {
        let DeleteRequest { collection, key } = request.into_inner();
        Ok(Response::new(DeleteReply {
            existed: self.state().documents.remove(&(collection, key)).is_some(),
        }))
    }
    async fn take(&self, request: Request<TakeRequest>) -> Result<Response<TakeReply>, Status> {
        let TakeRequest { collection, key } = request.into_inner();
        Ok(Response::new(TakeReply { value: self.state().documents.remove(&(collection, key)) }))
    }
    async fn secret(&self, request: Request<SecretRequest>) -> Result<Response<SecretReply>, Status> {
        Ok(Response::new(SecretReply { value: request.into_inner().name.into_bytes() }))
    }
    async fn acquire_room(
        &self,
        _: Request<AcquireRoomRequest>,
    ) -> Result<Response<AcquireRoomReply>, Status> {
        Err(Status::unimplemented("not asked by portals"))
    }
    async fn release_room(
        &self,
        _: Request<ReleaseRoomRequest>,
    ) -> Result<Response<ReleaseRoomReply>, Status> {
        Err(Status::unimplemented("not asked by portals"))
    }
    async fn write_snapshot(
        &self,
        _: Request<WriteSnapshotRequest>,
    ) -> Result<Response<WriteSnapshotReply>, Status> {
        Err(Status::unimplemented("not asked by portals"))
    }
    type ReadSnapshotStream = BoxFlow<SnapshotPage>;
    async fn read_snapshot(
        &self,
        _: Request<ReadSnapshotRequest>,
    ) -> Result<Response<Self::ReadSnapshotStream>, Status> {
        Err(Status::unimplemented("not asked by portals"))
    }
    async fn list_orphans(
        &self,
        _: Request<ListOrphansRequest>,
    ) -> Result<Response<ListOrphansReply>, Status> {
        Err(Status::unimplemented("not asked by portals"))
    }
}

#[tonic::async_trait]
impl Conference for Cluster {
    type JoinStream = BoxFlow<JoinEvent>;
    type ResumeStream = BoxFlow<JoinEvent>;

    async fn room_stats(
        &self,
        request: Request<RoomStatsRequest>,
    ) -> Result<Response<RoomStatsReply>, Status> {
        let RoomStatsRequest { stream_id, subscription_id, .. } = request.into_inner();
        self.asked("room_stats", json!({"stream": stream_id, "subscription": subscription_id}))?;
        let mut stats = self.state().stats.clone();
        let all = stream_id.is_empty() && subscription_id.is_empty();
        stats.streams.retain(|s| all || s.stream_id == stream_id);
        stats.subscriptions.retain(|s| all || s.subscription_id == subscription_id);
        Ok(Response::new(stats))
    }

    async fn start_analytics(
        &self,
        request: Request<kaigi_proto::v1::StartAnalyticsRequest>,
    ) -> Result<Response<kaigi_proto::v1::Analytics>, Status> {
        let kaigi_proto::v1::StartAnalyticsRequest { algorithm, parameters, media, .. } =
            request.into_inner();
        let media = media.ok_or_else(|| Status::invalid_argument("no media"))?;
        self.asked("start_analytics", json!([algorithm, parameters, media.from]))?;
        let mut state = self.state();
        let analytics = kaigi_proto::v1::Analytics {
            id: format!("{}", state.analytics.len() + 1),
            stream_id: format!("{algorithm}{}", media.from),
            algorithm,
            parameters,
            track: Some(EgressTrack {
                kind: media.kind,
                from: media.from,
                format: media.format,
                active: true,
                ..EgressTrack::default()
            }),
            state: kaigi_proto::v1::OutputState::Active.into(),
            reason: String::new(),
        };
        state.analytics.push(analytics.clone());
        Ok(Response::new(analytics))
    }

    async fn stop_analytics(
        &self,
        request: Request<kaigi_proto::v1::AnalyticsRequest>,
    ) -> Result<Response<kaigi_proto::v1::StopAnalyticsReply>, Status> {
        let id = request.into_inner().analytics_id;
        let mut state = self.state();
        let before = state.analytics.len();
        state.analytics.retain(|analytics| analytics.id != id);
        if state.analytics.len() == before {
            return Err(Status::not_found("Analytics do NOT exist"));
        }
        Ok(Response::new(kaigi_proto::v1::StopAnalyticsReply {}))
    }

    async fn list_analytics(
        &self,
        _: Request<RoomRequest>,
    ) -> Result<Response<kaigi_proto::v1::ListAnalyticsReply>, Status> {
        Ok(Response::new(kaigi_proto::v1::ListAnalyticsReply { analytics: self.state().analytics.clone() }))
    }

    async fn start_egress(&self, request: Request<StartEgressRequest>) -> Result<Response<Egress>, Status> {
        use kaigi_proto::v1::{egress, start_egress_request::Target};
        let StartEgressRequest { media, target, each, .. } = request.into_inner();
        self.asked("start_egress", json!(media.iter().map(|m| &m.from).collect::<Vec<_>>()))?;
        let tracks = media.into_iter().map(|media| EgressTrack {
            kind: media.kind,
            from: media.from,
            format: media.format,
            parameters: media.parameters,
            bitrate_multiplier: media.bitrate_multiplier,
            active: true,
        });
        let mut state = self.state();
        let egress = Egress {
            id: format!("e{}", state.egresses.len() + 1),
            tracks: tracks.collect(),
            target: target.map(|target| match target {
                Target::Recording(recording) => egress::Target::Recording(recording),
                Target::Broadcast(broadcast) => egress::Target::Broadcast(broadcast),
            }),
            each,
            ..Egress::default()
        };
        state.egresses.push(egress.clone());
        Ok(Response::new(egress))
    }
    async fn update_egress(&self, request: Request<UpdateEgressRequest>) -> Result<Response<Egress>, Status> {
        let UpdateEgressRequest { egress_id, video_active, .. } = request.into_inner();
        self.asked("update_egress", json!({"id": egress_id, "video": video_active}))?;
        let found = self.state().egresses.iter().find(|egress| egress.id == egress_id).cloned();
        found.map(Response::new).ok_or(Status::not_found("Egress does NOT exist"))
    }
    async fn stop_egress(
        &self,
        request: Request<EgressRequest>,
    ) -> Result<Response<StopEgressReply>, Status> {
        let EgressRequest { egress_id, .. } = request.into_inner();
        self.asked("stop_egress", json!(egress_id))?;
        self.state().egresses.retain(|egress| egress.id != egress_id);
        Ok(Response::new(StopEgressReply {}))
    }
    async fn start_ingest(&self, request: Request<StartIngestRequest>) -> Result<Response<Stream>, Status> {
        let request = request.into_inner();
        self.asked(
            "start_ingest",
            json!({"url": request.url, "udp": request.udp, "attributes": request.attributes}),
        )?;
        let id = (self.state().ingests.len() + 1).to_string();
        self.state().ingests.push(Ingest {
            id: id.clone(),
            url: kaigi_proto::redact::url(&request.url),
            udp: request.udp,
            audio: request.audio,
            video: request.video,
            state: OutputState::Trouble.into(),
            reason: "gone".into(),
            ..Ingest::default()
        });
        Ok(Response::new(Stream {
            id,
            r#type: StreamType::Forward.into(),
            info_type: "streaming".into(),
            owner: "admin".into(),
            attributes: request.attributes,
            ..Stream::default()
        }))
    }
    async fn listen_ingest(&self, request: Request<StartIngestRequest>) -> Result<Response<Ingest>, Status> {
        let request = request.into_inner();
        self.asked("listen_ingest", json!({"url": request.url, "key": request.listen_key}))?;
        let id = (self.state().ingests.len() + 1).to_string();
        let ingest = Ingest {
            id,
            url: "rtmp://live.example/live".into(),
            listens: true,
            listen_protocol: request.listen_protocol,
            audio: request.audio,
            video: request.video,
            state: OutputState::Starting.into(),
            ..Ingest::default()
        };
        self.state().ingests.push(ingest.clone());
        Ok(Response::new(ingest))
    }
    async fn list_ingests(&self, _: Request<RoomRequest>) -> Result<Response<ListIngestsReply>, Status> {
        Ok(Response::new(ListIngestsReply { ingests: self.state().ingests.clone() }))
    }
    async fn list_egresses(&self, _: Request<RoomRequest>) -> Result<Response<ListEgressesReply>, Status> {
        Ok(Response::new(ListEgressesReply { egresses: self.state().egresses.clone() }))
    }

    async fn resume(&self, request: Request<ResumeRequest>) -> Result<Response<Self::ResumeStream>, Status> {
        let ResumeRequest { participant_id: id, after_seq, .. } = request.into_inner();
        self.asked("resume", json!({"participant": id, "after": after_seq}))?;
        let (events, flow) = mpsc::channel(256);
        let (older, missed) = {
            let mut state = self.state();
            let member =
                state.members.get_mut(&id).ok_or_else(|| Status::not_found("Participant has not joined"))?;
            let older = std::mem::replace(&mut member.1, events.clone());
            let (told, acknowledged) = state.told.get_mut(&id).unwrap();
            *acknowledged = after_seq.max(*acknowledged);
            (older, told.iter().filter(|e| e.seq > *acknowledged).cloned().collect::<Vec<_>>())
        };
        let dropped = join_event::Event::Dropped(Dropped { reason: "Taken over".into() });
        let _: Result<_, _> = older.send(Ok(JoinEvent { seq: 0, event: Some(dropped) })).await;
        for event in missed {
            events.send(Ok(event)).await.unwrap();
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(flow))))
    }
    async fn acknowledge(
        &self,
        request: Request<AcknowledgeRequest>,
    ) -> Result<Response<AcknowledgeReply>, Status> {
        let AcknowledgeRequest { participant_id, seq, .. } = request.into_inner();
        self.asked("acknowledge", json!({"participant": participant_id, "seq": seq}))?;
        if let Some((_, acknowledged)) = self.state().told.get_mut(&participant_id) {
            *acknowledged = seq.max(*acknowledged);
        }
        Ok(Response::new(AcknowledgeReply {}))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<Self::JoinStream>, Status> {
        let request = request.into_inner();
        self.asked("join", json!({"room": request.room_id, "role": request.role, "user": request.user, "window": request.resume_window_ms}))?;
        let flags = KindFlags { audio: true, video: true };
        let permission = Some(Permission { publish: Some(flags), subscribe: Some(flags) });
        let me = Participant {
            id: request.participant_id.clone(),
            user: request.user,
            role: request.role,
            permission,
        };
        let (events, flow) = mpsc::channel(256);
        let participants = {
            let mut state = self.state();
            state.live = true;
            state.told.insert(request.participant_id.clone(), (Vec::new(), 0));
            state.members.insert(request.participant_id.clone(), (me, events.clone()));
            state.members.values().map(|(p, _)| p.clone()).collect()
        };
        let joined = Joined {
            permission,
            views: vec!["common".into()],
            participants,
            streams: vec![mixed()],
            epoch: 1,
        };
        events.send(Ok(JoinEvent { seq: 0, event: Some(join_event::Event::Joined(joined)) })).await.unwrap();
        // A notification right behind: it must not overtake the answer to the login.
        let early = TextEvent { from: "room".into(), to_all: true, message: "early".into() };
        self.tell_one(&request.participant_id, join_event::Event::Text(early)).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(flow))))
    }
    async fn leave(&self, request: Request<LeaveRoomRequest>) -> Result<Response<LeaveRoomReply>, Status> {
        let id = request.into_inner().participant_id;
        self.asked("leave", json!(id))?;
        self.state().members.remove(&id);
        Ok(Response::new(LeaveRoomReply {}))
    }
    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<SessionReply>, Status> {
        let request = request.into_inner();
        let attributes: Value = serde_json::from_str(&request.attributes).unwrap_or_default();
        let mut asked = json!({"tracks": request.tracks.len(), "attributes": attributes});
        if request.data {
            asked["data"] = true.into();
        }
        if request.any_label {
            asked["anyLabel"] = true.into();
        }
        self.asked("publish", asked)?;
        let early = std::mem::take(&mut self.state().told_early);
        let told_something = !early.is_empty();
        for event in early {
            self.tell(event).await;
        }
        if told_something {
            // Long enough for the events to be there before the answer.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        let session_id = "0a".repeat(16);
        let transport_id =
            if request.transport_id.is_empty() { session_id.clone() } else { request.transport_id };
        let data = request.data.then(|| DataSource {
            stream_id: session_id.clone(),
            worker_id: "access".into(),
            endpoint: self.endpoint(),
        });
        Ok(Response::new(SessionReply { session_id, transport_id, data }))
    }
    async fn subscribe(&self, request: Request<SubscribeRequest>) -> Result<Response<SessionReply>, Status> {
        let request = request.into_inner();
        let from: Vec<_> = request.tracks.iter().map(|track| track.from.clone()).collect();
        self.asked(
            "subscribe",
            json!({"from": from, "data": request.data_from, "transport": request.transport_id}),
        )?;
        self.state().subscribed.push(request.clone());
        let session_id = "0b".repeat(16);
        let transport_id = Some(request.transport_id).filter(|id| !id.is_empty());
        let transport_id = transport_id.unwrap_or_else(|| session_id.clone());
        Ok(Response::new(SessionReply { session_id, transport_id, data: None }))
    }
    async fn unpublish(
        &self,
        request: Request<EndSessionRequest>,
    ) -> Result<Response<EndSessionReply>, Status> {
        self.asked("unpublish", json!(request.into_inner().session_id))?;
        Ok(Response::new(EndSessionReply {}))
    }
    async fn unsubscribe(
        &self,
        request: Request<EndSessionRequest>,
    ) -> Result<Response<EndSessionReply>, Status> {
        self.asked("unsubscribe", json!(request.into_inner().session_id))?;
        Ok(Response::new(EndSessionReply {}))
    }
    async fn control_stream(
        &self,
        request: Request<ControlRequest>,
    ) -> Result<Response<ControlReply>, Status> {
        let operation = request.into_inner().operation.unwrap();
        self.asked("control_stream", json!(format!("{operation:?}")))?;
        let region = match operation {
            control_request::Operation::GetRegion(_) => "2".to_owned(),
            _ => String::new(),
        };
        Ok(Response::new(ControlReply { region, estimated_bitrate: 0 }))
    }
    async fn control_subscription(
        &self,
        request: Request<ControlRequest>,
    ) -> Result<Response<ControlReply>, Status> {
        let operation = request.into_inner().operation.unwrap();
        self.asked("control_subscription", json!(format!("{operation:?}")))?;
        Ok(Response::new(ControlReply { region: String::new(), estimated_bitrate: 1_250_000 }))
    }
    async fn signal(&self, request: Request<SignalRequest>) -> Result<Response<SignalReply>, Status> {
        let SignalRequest { participant_id, transport_id, signal, .. } = request.into_inner();
        let signal = signal.unwrap();
        self.asked("signal", json!(format!("{signal:?}")))?;
        if let signal_request::Signal::Offer(sdp) = signal {
            let told = [
                progress::Progress::Answer(answer_to(&sdp)),
                progress::Progress::TransportReady(TransportReady {}),
                progress::Progress::SessionReady(transport_id.clone()),
            ];
            for what in told {
                let event = Progress { transport_id: transport_id.clone(), progress: Some(what) };
                self.tell_one(&participant_id, join_event::Event::Progress(event)).await;
            }
        }
        Ok(Response::new(SignalReply {}))
    }
    async fn text(&self, request: Request<TextRequest>) -> Result<Response<TextReply>, Status> {
        let TextRequest { participant_id, to, message, .. } = request.into_inner();
        self.asked("text", json!({"to": to, "message": message}))?;
        if to != "all" && !self.state().members.contains_key(&to) {
            return Err(Status::not_found(format!("Target participant does NOT exist: {to}")));
        }
        let event = TextEvent { from: participant_id, to_all: to == "all", message };
        self.tell(join_event::Event::Text(event)).await;
        Ok(Response::new(TextReply {}))
    }

    async fn list_participants(
        &self,
        _: Request<RoomRequest>,
    ) -> Result<Response<ListParticipantsReply>, Status> {
        let participants = self.state().members.values().map(|(p, _)| p.clone()).collect();
        Ok(Response::new(ListParticipantsReply { participants }))
    }
    async fn drop_participant(
        &self,
        request: Request<ParticipantRequest>,
    ) -> Result<Response<DropParticipantReply>, Status> {
        let id = request.into_inner().participant_id;
        let member = self.state().members.remove(&id);
        let (_, events) = member.ok_or_else(|| Status::not_found("Participant does NOT exist"))?;
        let dropped = join_event::Event::Dropped(Dropped { reason: "Dropped by management".into() });
        events.send(Ok(JoinEvent { seq: 0, event: Some(dropped) })).await.unwrap();
        Ok(Response::new(DropParticipantReply {}))
    }
    async fn update_participant(
        &self,
        request: Request<UpdateParticipantRequest>,
    ) -> Result<Response<Participant>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        let member = state.members.get_mut(&request.participant_id);
        let (participant, _) = member.ok_or_else(|| Status::not_found("Participant has not joined"))?;
        let mut permission = participant.permission.unwrap_or_default();
        let publish = permission.publish.get_or_insert_default();
        publish.audio = request.publish_audio.unwrap_or(publish.audio);
        participant.permission = Some(permission);
        Ok(Response::new(participant.clone()))
    }
    async fn list_streams(&self, _: Request<RoomRequest>) -> Result<Response<ListStreamsReply>, Status> {
        Ok(Response::new(ListStreamsReply { streams: vec![mixed()] }))
    }
    async fn update_stream(&self, request: Request<UpdateStreamRequest>) -> Result<Response<Stream>, Status> {
        let request = request.into_inner();
        self.asked("update_stream", json!(format!("{:?}", request.operations)))?;
        if request.stream_id == mixed().id {
            Ok(Response::new(mixed()))
        } else {
            Err(Status::not_found("Stream does NOT exist"))
        }
    }
    async fn delete_stream(
        &self,
        request: Request<StreamRequest>,
    ) -> Result<Response<DeleteStreamReply>, Status> {
        self.asked("delete_stream", json!(request.into_inner().stream_id))?;
        Ok(Response::new(DeleteStreamReply {}))
    }
    async fn take_over(&self, _: Request<RoomRequest>) -> Result<Response<TakeOverReply>, Status> {
        Err(Status::unimplemented("not asked by portals"))
    }
    async fn destroy_room(
        &self,
        request: Request<RoomRequest>,
    ) -> Result<Response<DestroyRoomReply>, Status> {
        self.asked("destroy_room", json!(request.into_inner().room_id))?;
        Ok(Response::new(DestroyRoomReply {}))
    }
}
