//! A process that runs, and how clients reach it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use clap::Parser;
use kaigi_access_node::{
    Args, run,
    transport::{Deframer, frame},
};
use kaigi_proto::{
    auth::ClusterSecret,
    v1::{
        self,
        access_event::Event,
        access_node_client::AccessNodeClient,
        cluster_server::{Cluster, ClusterServer},
        signal_transport_request::Signal,
    },
};
use kaigi_telemetry::Health;
use kaigi_worker::{Channel, Channels, Shutdown};
use rtc_datachannel::message::message_channel_open::ChannelType;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::mpsc,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream, wrappers::TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::support::*;

pub(crate) const SECRET: &str = "s3cret";
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A cluster-manager that takes registrations and nothing else.
pub(crate) struct Registrar(mpsc::Sender<v1::Worker>);

pub(crate) fn not_here<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not here"))
}

#[tonic::async_trait]
impl Cluster for Registrar {
    type WatchStream = ReceiverStream<Result<v1::ClusterEvent, Status>>;
    async fn register(
        &self,
        request: Request<v1::RegisterRequest>,
    ) -> Result<Response<v1::RegisterReply>, Status> {
        let _ = self.0.send(request.into_inner().worker.unwrap()).await;
        Ok(Response::new(v1::RegisterReply { lease_ms: 1000 }))
    }
    async fn heartbeat(
        &self,
        _: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatReply>, Status> {
        Ok(Response::new(v1::HeartbeatReply::default()))
    }
    async fn can_fit(&self, _: Request<v1::CanFitRequest>) -> Result<Response<v1::CanFitReply>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn drain(&self, _: Request<v1::DrainRequest>) -> Result<Response<v1::DrainReply>, Status> {
        not_here()
    }
    async fn watch(&self, _: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        not_here()
    }
    async fn leave(&self, _: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveReply>, Status> {
        not_here()
    }
    async fn schedule(&self, _: Request<v1::ScheduleRequest>) -> Result<Response<v1::ScheduleReply>, Status> {
        not_here()
    }
    async fn lookup(&self, _: Request<v1::LookupRequest>) -> Result<Response<v1::LookupReply>, Status> {
        not_here()
    }
    async fn release(&self, _: Request<v1::ReleaseRequest>) -> Result<Response<v1::ReleaseReply>, Status> {
        not_here()
    }
    async fn list_workers(
        &self,
        _: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersReply>, Status> {
        not_here()
    }
}

pub(crate) struct Process {
    pub(crate) agent: AccessNodeClient<Channel>,
    pub(crate) worker: v1::Worker,
    pub(crate) events: Streaming<v1::AccessEvent>,
    pub(crate) stop: CancellationToken,
    pub(crate) shutdown: Shutdown,
    pub(crate) ended: tokio::task::JoinHandle<anyhow::Result<()>>,
    pub(crate) health: Health,
}

impl Process {
    pub(crate) async fn start() -> Self {
        Self::start_with(&["--bind=127.0.0.1"]).await
    }

    pub(crate) async fn start_with(options: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cluster = format!("http://{}", listener.local_addr().unwrap());
        let (sender, mut registered) = mpsc::channel(1);
        let server = Server::builder().add_service(ClusterServer::new(Registrar(sender)));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let (cluster, secret) = (format!("--cluster={cluster}"), format!("--cluster-secret={SECRET}"));
        let common = ["kaigi-access-node", "--media-port=0", "--workers=2", &cluster, &secret];
        let args = Args::parse_from([&common, options].concat());
        let (health, shutdown) = (Health::detached(), Shutdown::default());
        let stop = shutdown.stop().clone();
        let ended = tokio::spawn(run(args, health.clone(), shutdown.clone()));
        let worker = registered.recv().await.unwrap();
        let channels = Channels::new(ClusterSecret::new(SECRET));
        let mut agent = AccessNodeClient::new(channels.to(&worker.endpoint).unwrap());
        let events =
            agent.events(v1::AccessEventsRequest { agent_id: "agent".into() }).await.unwrap().into_inner();
        Self { agent, worker, events, stop, shutdown, ended, health }
    }

    pub(crate) async fn event<T>(&mut self, take: impl Fn(&str, Event) -> Option<T>) -> T {
        let found = async {
            loop {
                let event = self.events.next().await.expect("the stream goes on").unwrap();
                if let Some(found) = take(&event.transport_id, event.event.unwrap()) {
                    return found;
                }
            }
        };
        tokio::time::timeout(DEADLINE, found).await.expect("the event comes")
    }

    /// A client that publishes data alone, or gets those of a source, connected and with its channel open.
    pub(crate) async fn data_session(
        &mut self,
        id: &str,
        from: Option<v1::DataSource>,
    ) -> (Client, Wire, u16) {
        let mut client = Client::new();
        client.add("application", Way::Inactive);
        let (agent_id, room_id, participant_id) = ("agent".into(), "room".into(), format!("of-{id}"));
        let (transport_id, session_id) = (id.to_owned(), id.to_owned());
        if let Some(from) = from {
            let request = v1::OpenSubscriptionRequest {
                agent_id,
                room_id,
                epoch: 1,
                participant_id,
                transport_id,
                session_id,
                data: Some(from),
                ..Default::default()
            };
            self.agent.open_subscription(request).await.unwrap();
        } else {
            let request = v1::OpenPublicationRequest {
                agent_id,
                room_id,
                epoch: 1,
                participant_id,
                transport_id,
                session_id,
                data: true,
                ..Default::default()
            };
            self.agent.open_publication(request).await.unwrap();
        }
        self.negotiate(id, &mut client).await;
        let mut wire = Wire::open(&client.answer, "udp").await;
        wire.connect(&mut client).await;
        client.begin_data(Instant::now());
        wire.flush(&mut client).await;
        wire.until(&mut client, |client| !client.data.as_ref().unwrap().association.is_handshaking()).await;
        let data = client.data.as_mut().unwrap();
        let channel = data.open(Instant::now(), id, ChannelType::Reliable, 0);
        wire.flush(&mut client).await;
        wire.until(&mut client, |client| !client.data.as_ref().unwrap().acknowledged.is_empty()).await;
        let established = self.established(id).await;
        assert!(established.tracks.is_empty());
        (client, wire, channel)
    }

    pub(crate) async fn negotiate(&mut self, transport: &str, client: &mut Client) {
        let signal = Some(Signal::Offer(client.offer()));
        self.agent
            .signal_transport(v1::SignalTransportRequest {
                transport_id: transport.into(),
                signal,
                request_id: String::new(),
            })
            .await
            .unwrap();
        let answer = self
            .event(|of, event| match event {
                Event::Answer(answer) if of == transport => Some(answer),
                _ => None,
            })
            .await;
        client.take_answer(&answer);
    }

    pub(crate) async fn established(&mut self, session: &str) -> v1::SessionEstablished {
        self.event(|_, event| match event {
            Event::SessionEstablished(established) if established.session_id == session => Some(established),
            _ => None,
        })
        .await
    }
}

/// How a client reaches the node.
pub(crate) enum Wire {
    Udp(UdpSocket),
    Tcp(TcpStream, Deframer),
}

impl Wire {
    /// By the candidate of that protocol in the answer.
    pub(crate) async fn open(answer: &Answer, protocol: &str) -> Self {
        let candidate = answer.candidates.iter().find(|c| c.split(' ').nth(2) == Some(protocol)).unwrap();
        let words: Vec<_> = candidate.split(' ').collect();
        let address = SocketAddr::new(words[4].parse().unwrap(), words[5].parse().unwrap());
        if protocol == "udp" {
            let own = if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
            let socket = UdpSocket::bind(own).await.unwrap();
            socket.connect(address).await.unwrap();
            Self::Udp(socket)
        } else {
            Self::Tcp(TcpStream::connect(address).await.unwrap(), Deframer::default())
        }
    }

    pub(crate) async fn send(&mut self, datagram: &[u8]) {
        match self {
            Self::Udp(socket) => {
                socket.send(datagram).await.unwrap();
            }
            Self::Tcp(stream, _) => stream.write_all(&frame(datagram).unwrap()).await.unwrap(),
        }
    }

    pub(crate) async fn receive(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 2048];
        match self {
            Self::Udp(socket) => {
                let length = socket.recv(&mut buffer).await.unwrap();
                buffer.truncate(length);
                buffer
            }
            Self::Tcp(stream, deframer) => loop {
                if let Some(frame) = deframer.pop().unwrap() {
                    return frame;
                }
                let length = stream.read(&mut buffer).await.unwrap();
                assert_ne!(length, 0, "the connection was closed");
                deframer.push(&buffer[..length]);
            },
        }
    }

    /// Sends what the client's data channels have to say.
    pub(crate) async fn flush(&mut self, client: &mut Client) {
        client.flush_data(Instant::now());
        for datagram in std::mem::take(&mut client.outgoing) {
            self.send(&datagram).await;
        }
    }

    /// Carries datagrams until `done`.
    pub(crate) async fn until(&mut self, client: &mut Client, done: impl Fn(&mut Client) -> bool) {
        let exchange = async {
            while !done(client) {
                let datagram = self.receive().await;
                client.receive(Instant::now(), &datagram);
                for reply in std::mem::take(&mut client.outgoing) {
                    self.send(&reply).await;
                }
            }
        };
        tokio::time::timeout(DEADLINE, exchange).await.expect("it happens in time");
    }

    pub(crate) async fn connect(&mut self, client: &mut Client) {
        let check = client.check();
        self.send(&check).await;
        self.until(client, |client| client.is_connected()).await;
    }
}

pub(crate) fn format(codec: &str) -> Option<v1::MediaFormat> {
    Some(v1::MediaFormat { codec: codec.into(), ..Default::default() })
}

pub(crate) fn has_rtp(client: &mut Client) -> bool {
    client.received.iter().any(|received| matches!(received, Received::Rtp(..)))
}

/// Of video on the transport "t1".
pub(crate) fn publication(mid: String) -> v1::OpenPublicationRequest {
    v1::OpenPublicationRequest {
        agent_id: "agent".into(),
        room_id: "room".into(),
        epoch: 1,
        participant_id: "aiko".into(),
        transport_id: "t1".into(),
        session_id: "s1".into(),
        tracks: vec![v1::PublicationTrack {
            track_id: "t1-0".into(),
            kind: v1::MediaKind::Video.into(),
            mid,
            accepted_formats: format("vp8").into_iter().collect(),
        }],
        ..Default::default()
    }
}

impl Process {
    /// A client that publishes video by UDP, connected.
    pub(crate) async fn publisher(&mut self) -> (Client, Wire) {
        self.publish(publication("0".into())).await
    }

    pub(crate) async fn publish(&mut self, request: v1::OpenPublicationRequest) -> (Client, Wire) {
        let (transport, session) = (request.transport_id.clone(), request.session_id.clone());
        let mut client = Client::new();
        assert_eq!(client.add("video", Way::Send), request.tracks[0].mid);
        self.agent.open_publication(request).await.unwrap();
        self.negotiate(&transport, &mut client).await;
        let mut wire = Wire::open(&client.answer, "udp").await;
        wire.connect(&mut client).await;
        let established = self.established(&session).await;
        assert_eq!(established.tracks[0].format.as_ref().unwrap().codec, "vp8");
        (client, wire)
    }

    /// A client that gets the video, on the transport "t2", connected.
    pub(crate) async fn subscriber(&mut self, protocol: &str) -> (Client, Wire) {
        let mut client = Client::new();
        let mid = client.add("video", Way::Receive);
        let source = v1::TrackSource {
            track_id: "t1-0".into(),
            worker_id: self.worker.worker_id.clone(),
            endpoint: self.worker.endpoint.clone(),
            kind: v1::MediaKind::Video.into(),
            format: format("vp8"),
        };
        let kind = v1::MediaKind::Video.into();
        let track = v1::SubscriptionTrack { kind, mid, source: Some(source), ..Default::default() };
        let subscription = v1::OpenSubscriptionRequest {
            agent_id: "agent".into(),
            room_id: "room".into(),
            epoch: 1,
            participant_id: "botan".into(),
            transport_id: "t2".into(),
            session_id: "s2".into(),
            tracks: vec![track],
            ..Default::default()
        };
        self.agent.open_subscription(subscription).await.unwrap();
        self.negotiate("t2", &mut client).await;
        let mut wire = Wire::open(&client.answer, protocol).await;
        wire.connect(&mut client).await;
        self.established("s2").await;
        (client, wire)
    }
}
