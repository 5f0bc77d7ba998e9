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

/// The outputs of a part, as a mixer makes them.
fn outputs(
    mixer: &v1::Worker,
    of: &str,
    video: &[v1::VideoOutput],
    audio: &[v1::AudioOutput],
) -> Vec<v1::OutputSource> {
    let output = |id: &String, format: &Option<v1::MediaFormat>, kind: v1::MediaKind| v1::OutputSource {
        id: id.clone(),
        source: Some(v1::TrackSource {
            track_id: format!("{}-{of}-{id}", mixer.worker_id),
            worker_id: mixer.worker_id.clone(),
            endpoint: mixer.endpoint.clone(),
            kind: kind.into(),
            format: format.clone(),
        }),
    };
    let video = video.iter().map(|o| output(&o.id, &o.format, v1::MediaKind::Video));
    video.chain(audio.iter().map(|o| output(&o.id, &o.format, v1::MediaKind::Audio))).collect()
}

/// Shared by all servers.
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

#[tonic::async_trait]
impl v1::cluster_server::Cluster for Everything {
    type WatchStream = Events<v1::ClusterEvent>;

    async fn register(&self, request: Request<v1::RegisterRequest>) -> Answer<v1::RegisterReply> {
        self.know(|known| {
            known.registered = request.into_inner().worker;
            let worker = known.registered.clone().unwrap();
            known.agents.insert(worker.worker_id.clone(), worker);
        });
        Ok(Response::new(v1::RegisterReply { lease_ms: 300 }))
    }

    async fn heartbeat(&self, request: Request<v1::HeartbeatRequest>) -> Answer<v1::HeartbeatReply> {
        self.know(|known| known.tasks = request.into_inner().tasks);
        Ok(Response::new(v1::HeartbeatReply::default()))
    }

    async fn can_fit(&self, _: Request<v1::CanFitRequest>) -> Answer<v1::CanFitReply> {
        Err(Status::unimplemented("not asked"))
    }

    async fn drain(&self, _: Request<v1::DrainRequest>) -> Answer<v1::DrainReply> {
        Err(Status::unimplemented("not used"))
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Answer<v1::LeaveReply> {
        self.know(|known| {
            known.agents.remove(&request.get_ref().worker_id);
            known.registered = None;
        });
        Ok(Response::new(v1::LeaveReply {}))
    }

    async fn schedule(&self, request: Request<v1::ScheduleRequest>) -> Answer<v1::ScheduleReply> {
        let worker = self.know(|known| match request.into_inner().purpose() {
            v1::Purpose::Access => known.access_node.clone(),
            v1::Purpose::Mixer => known.mixer_node.clone(),
            v1::Purpose::Conference => known.agents.values().find(|agent| !agent.draining).cloned(),
            _ => None,
        });
        worker
            .map(|w| Response::new(v1::ScheduleReply { worker: Some(w) }))
            .ok_or(Status::unavailable("none"))
    }

    async fn lookup(&self, _: Request<v1::LookupRequest>) -> Answer<v1::LookupReply> {
        Ok(Response::new(v1::LookupReply { worker: None }))
    }

    async fn release(&self, request: Request<v1::ReleaseRequest>) -> Answer<v1::ReleaseReply> {
        let request = request.into_inner();
        self.know(|known| known.released.push(format!("{:?} {}", request.purpose(), request.task)));
        Ok(Response::new(v1::ReleaseReply {}))
    }

    async fn list_workers(&self, _: Request<v1::ListWorkersRequest>) -> Answer<v1::ListWorkersReply> {
        let workers = self.know(|known| known.agents.values().cloned().collect());
        Ok(Response::new(v1::ListWorkersReply { workers }))
    }

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Answer<Self::WatchStream> {
        let events = tokio_stream::wrappers::BroadcastStream::new(self.cluster_events.subscribe());
        let events = events.map(|event| event.map_err(|_| Status::internal("lagged")));
        Ok(Response::new(Box::pin(events)))
    }
}

#[tonic::async_trait]
impl v1::store_server::Store for Everything {
    async fn get(&self, request: Request<v1::GetRequest>) -> Answer<v1::GetReply> {
        let request = request.into_inner();
        let config = kaigi_room_config::RoomConfig::new(ROOM, "room", "service");
        let config = kaigi_room_config::RoomConfig { auto_mix: true, ..config };
        let known = request.collection() == v1::Collection::Rooms && request.key == ROOM;
        Ok(Response::new(v1::GetReply { value: known.then(|| serde_json::to_vec(&config).unwrap()) }))
    }

    async fn acquire_room(&self, request: Request<v1::AcquireRoomRequest>) -> Answer<v1::AcquireRoomReply> {
        let epoch = self.know(|known| {
            known.leases.push(request.into_inner().room_id);
            known.epoch += 1;
            known.epoch
        });
        Ok(Response::new(v1::AcquireRoomReply { epoch }))
    }

    async fn release_room(&self, request: Request<v1::ReleaseRoomRequest>) -> Answer<v1::ReleaseRoomReply> {
        self.know(|known| {
            if request.get_ref().hand_over {
                known.epoch += 1;
                known.handed_over.push(request.get_ref().worker_id.clone());
                return;
            }
            known.leases.retain(|room| *room != request.get_ref().room_id);
            known.snapshot.clear();
        });
        Ok(Response::new(v1::ReleaseRoomReply {}))
    }

    async fn write_snapshot(&self, r: Request<v1::WriteSnapshotRequest>) -> Answer<v1::WriteSnapshotReply> {
        let write = r.into_inner();
        self.know(|known| {
            if known.store_is_away {
                return Err(Status::unavailable("away"));
            }
            if write.epoch != known.epoch {
                return Err(Status::failed_precondition("fenced"));
            }
            if write.whole {
                known.snapshot.clear();
            } else if write.version != known.version + 1 {
                return Err(Status::aborted("another version"));
            }
            known.version = write.version;
            known.snapshot.extend(write.parts.into_iter().map(|part| (part.key, part.value)));
            write.removed.iter().for_each(|gone| drop(known.snapshot.remove(gone)));
            Ok(Response::new(v1::WriteSnapshotReply {}))
        })
    }

    type ReadSnapshotStream = Events<v1::SnapshotPage>;

    async fn read_snapshot(&self, _: Request<v1::ReadSnapshotRequest>) -> Answer<Self::ReadSnapshotStream> {
        let parts = self.know(|known| known.snapshot.clone()).into_iter();
        let parts = parts.map(|(key, value)| v1::SnapshotPart { key, value }).collect();
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(v1::SnapshotPage { parts })]))))
    }

    async fn list_orphans(&self, _: Request<v1::ListOrphansRequest>) -> Answer<v1::ListOrphansReply> {
        Ok(Response::new(v1::ListOrphansReply::default()))
    }

    async fn put(&self, _: Request<v1::PutRequest>) -> Answer<v1::PutReply> {
        Err(Status::unimplemented("not used"))
    }
    async fn list(&self, _: Request<v1::ListRequest>) -> Answer<v1::ListReply> {
        Err(Status::unimplemented("not used"))
    }
    async fn delete(&self, _: Request<v1::DeleteRequest>) -> Answer<v1::DeleteReply> {
        Err(Status::unimplemented("not used"))
    }
    async fn take(&self, _: Request<v1::TakeRequest>) -> Answer<v1::TakeReply> {
        Err(Status::unimplemented("not used"))
    }
    async fn secret(&self, _: Request<v1::SecretRequest>) -> Answer<v1::SecretReply> {
        Err(Status::unimplemented("not used"))
    }
}

#[tonic::async_trait]
impl v1::access_node_server::AccessNode for Everything {
    type EventsStream = Events<v1::AccessEvent>;

    /// All sessions on each transport, with one picture of 1,000 packets.
    async fn stats(&self, request: Request<v1::StatsRequest>) -> Answer<v1::StatsReply> {
        let ids = request.into_inner().transport_ids;
        let sessions = self.know(|known| {
            known.counted.push(ids.clone());
            known.sessions.clone()
        });
        let tracks = vec![v1::TrackStats {
            kind: v1::MediaKind::Video.into(),
            packets: 1000,
            limit: v1::Limit::None.into(),
            ..Default::default()
        }];
        let session = |id: &String| v1::SessionStats { session_id: id.clone(), tracks: tracks.clone() };
        let transport = |id: String| v1::TransportStats {
            transport_id: id,
            rtt_us: 30_000,
            estimated_bitrate: 2_000_000,
            sessions: sessions.iter().map(session).collect(),
        };
        Ok(Response::new(v1::StatsReply { transports: ids.into_iter().map(transport).collect() }))
    }

    async fn open_publication(&self, r: Request<v1::OpenPublicationRequest>) -> Answer<v1::OpenSessionReply> {
        self.know(|known| known.sessions.push(r.into_inner().session_id));
        Ok(Response::new(v1::OpenSessionReply {}))
    }

    async fn open_subscription(
        &self,
        r: Request<v1::OpenSubscriptionRequest>,
    ) -> Answer<v1::OpenSessionReply> {
        let request = r.into_inner();
        self.know(|known| {
            known.sessions.push(request.session_id.clone());
            known.opened.push(request);
        });
        Ok(Response::new(v1::OpenSessionReply {}))
    }

    async fn set_source(&self, request: Request<v1::SetSourceRequest>) -> Answer<v1::SetSourceReply> {
        self.know(|known| known.sources.push(request.into_inner()));
        Ok(Response::new(v1::SetSourceReply {}))
    }

    async fn select_audio(&self, _: Request<v1::SelectAudioRequest>) -> Answer<v1::SelectAudioReply> {
        Ok(Response::new(v1::SelectAudioReply {}))
    }

    async fn close_session(&self, r: Request<v1::CloseSessionRequest>) -> Answer<v1::CloseSessionReply> {
        self.know(|known| known.sessions.retain(|session| *session != r.get_ref().session_id));
        Ok(Response::new(v1::CloseSessionReply {}))
    }

    async fn close_transport(
        &self,
        r: Request<v1::CloseTransportRequest>,
    ) -> Answer<v1::CloseTransportReply> {
        self.know(|known| known.closed_transports.push(r.into_inner().transport_id));
        Ok(Response::new(v1::CloseTransportReply {}))
    }

    /// Answers each offer, connects, and establishes all sessions that are open.
    async fn signal_transport(&self, r: Request<v1::SignalTransportRequest>) -> Answer<v1::SignalReply> {
        let request = r.into_inner();
        self.know(|known| known.signals.push(request.clone()));
        let transport = request.transport_id;
        if let Some(v1::signal_transport_request::Signal::Offer(offer)) = request.signal {
            let everything = self.clone();
            tokio::spawn(async move {
                let answer = format!("answer to {offer}");
                everything.access_event(&transport, access_event::Event::Answer(answer)).await;
                let ready = access_event::Event::TransportReady(v1::TransportReady {});
                everything.access_event(&transport, ready).await;
                for session_id in everything.know(|known| known.sessions.clone()) {
                    if let Some(tracks) = everything.know(|known| known.negotiate(&session_id)) {
                        let established = v1::SessionEstablished { session_id, tracks };
                        let established = access_event::Event::SessionEstablished(established);
                        everything.access_event(&transport, established).await;
                        continue;
                    }
                    let track = |mid: &str, kind: v1::MediaKind, codec: &str, sample_rate, channels| {
                        v1::NegotiatedTrack {
                            mid: mid.into(),
                            kind: kind.into(),
                            track_id: format!("{transport}-{mid}"),
                            format: Some(v1::MediaFormat {
                                codec: codec.into(),
                                sample_rate,
                                channels,
                                ..Default::default()
                            }),
                        }
                    };
                    let tracks = vec![
                        track("0", v1::MediaKind::Audio, "opus", 48000, 2),
                        track("1", v1::MediaKind::Video, "vp8", 0, 0),
                    ];
                    let established = v1::SessionEstablished { session_id, tracks };
                    everything
                        .access_event(&transport, access_event::Event::SessionEstablished(established))
                        .await;
                }
            });
        }
        Ok(Response::new(v1::SignalReply {}))
    }

    async fn adopt_room(&self, r: Request<v1::AdoptRoomRequest>) -> Answer<v1::AdoptRoomReply> {
        let request = r.into_inner();
        self.know(|known| known.adopted.push((request.room_id, request.epoch)));
        Ok(Response::new(v1::AdoptRoomReply { transport_ids: request.transport_ids }))
    }

    async fn adopt_transports(
        &self,
        r: Request<v1::AdoptTransportsRequest>,
    ) -> Answer<v1::AdoptTransportsReply> {
        let sessions = r.into_inner().transports.into_iter().flat_map(|transport| transport.sessions);
        self.know(|known| known.adopted_sessions.extend(sessions));
        Ok(Response::new(v1::AdoptTransportsReply::default()))
    }

    async fn set_active(&self, _: Request<v1::SetActiveRequest>) -> Answer<v1::SetActiveReply> {
        Ok(Response::new(v1::SetActiveReply {}))
    }

    async fn estimate_bandwidth(
        &self,
        _: Request<v1::EstimateBandwidthRequest>,
    ) -> Answer<v1::EstimateBandwidthReply> {
        Ok(Response::new(v1::EstimateBandwidthReply { bitrate: 1_200_000 }))
    }

    async fn events(&self, _: Request<v1::AccessEventsRequest>) -> Answer<Self::EventsStream> {
        let (sender, events) = mpsc::channel(64);
        *self.access_events.lock().unwrap() = Some(sender);
        Ok(Response::new(Box::pin(ReceiverStream::new(events))))
    }
}

#[tonic::async_trait]
impl v1::mixer_node_server::MixerNode for Everything {
    type EventsStream = Events<v1::MixerEvent>;

    /// One taker of each track.
    async fn stats(&self, request: Request<v1::MixerStatsRequest>) -> Answer<v1::MixerStatsReply> {
        let ids = request.into_inner().track_ids;
        let hangs = self.know(|known| {
            known.counted.push(ids.clone());
            known.mixer_hangs
        });
        if hangs {
            std::future::pending::<()>().await;
        }
        let track = |id: String| v1::TrackStats { track_id: id, takers: 1, ..Default::default() };
        Ok(Response::new(v1::MixerStatsReply { tracks: ids.into_iter().map(track).collect() }))
    }

    async fn set_view(&self, request: Request<v1::ViewDescription>) -> Answer<v1::ViewReply> {
        let view = request.into_inner();
        let mixer = self.know(|known| known.mixer_node.clone()).ok_or(Status::unavailable("dead"))?;
        let source = |what: &str, kind: v1::MediaKind, codec: &str| v1::TrackSource {
            track_id: format!("{}-{what}", view.label),
            worker_id: mixer.worker_id.clone(),
            endpoint: mixer.endpoint.clone(),
            kind: kind.into(),
            format: Some(v1::MediaFormat { codec: codec.into(), ..Default::default() }),
        };
        let minus = view.minus_participants.iter().map(|name| v1::MinusAudio {
            participant_id: name.clone(),
            audio: Some(source(&format!("minus-{name}"), v1::MediaKind::Audio, "opus")),
        });
        let outputs = outputs(&mixer, &view.label, &view.video_outputs, &view.audio_outputs);
        let reply = v1::ViewReply {
            outputs,
            video: Some(source("video", v1::MediaKind::Video, "vp8")),
            audio: Some(source("audio", v1::MediaKind::Audio, "opus")),
            minus_audio: minus.collect(),
            ..Default::default()
        };
        self.know(|known| known.views.push(view));
        Ok(Response::new(reply))
    }

    async fn remove_view(&self, request: Request<v1::RemoveViewRequest>) -> Answer<v1::RemoveViewReply> {
        self.know(|known| known.removed_views.push(request.into_inner().label));
        Ok(Response::new(v1::RemoveViewReply {}))
    }

    async fn set_transcoder(
        &self,
        request: Request<v1::TranscoderDescription>,
    ) -> Answer<v1::TranscoderReply> {
        let transcoder = request.into_inner();
        let mixer = self.know(|known| known.mixer_node.clone()).ok_or(Status::unavailable("dead"))?;
        let (video, audio) = (&transcoder.video_outputs, &transcoder.audio_outputs);
        let outputs = outputs(&mixer, &transcoder.id, video, audio);
        self.know(|known| known.transcoders.push(transcoder));
        Ok(Response::new(v1::TranscoderReply { outputs, failures: Vec::new() }))
    }

    async fn remove_transcoder(
        &self,
        request: Request<v1::RemoveTranscoderRequest>,
    ) -> Answer<v1::RemoveTranscoderReply> {
        self.know(|known| known.removed_transcoders.push(request.into_inner().id));
        Ok(Response::new(v1::RemoveTranscoderReply {}))
    }

    async fn events(&self, _: Request<v1::MixerEventsRequest>) -> Answer<Self::EventsStream> {
        let (sender, events) = mpsc::channel(64);
        *self.mixer_events.lock().unwrap() = Some(sender);
        Ok(Response::new(Box::pin(ReceiverStream::new(events))))
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
