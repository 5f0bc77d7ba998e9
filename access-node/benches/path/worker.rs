//! Workers of the access-node, with everything that browsers get.

use std::{
    net::UdpSocket,
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_access_node::{
    candidates,
    events::EventHub,
    node::{Limits, Node, NodeConfig, request},
    sdp::Offer,
    transport::Certificate,
    worker::{self, DataConsumers, Placement, Siblings, Sockets, WorkerHandle, WorkerParts},
};
use kaigi_proto::{
    auth::ClusterSecret,
    ids::{TransportId, WorkerId},
    v1::{self, access_event::Event},
};
use kaigi_worker::{Channels, LoadGauge};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::{
    Forwarder,
    peers::{Publisher, Subscribers},
    reports::Reporter,
    support::{Client, Way, world::format, world::source},
};

/// CPU time that the calling thread has used.
pub(crate) fn thread_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(micros as u64)
}

type Job = Box<dyn FnOnce(&mut Node, Instant) + Send>;

pub(crate) struct Workers {
    runtime: Runtime,
    handles: Vec<WorkerHandle>,
    publisher: Publisher,
    reporters: Vec<Reporter>,
    stop: CancellationToken,
}

impl Forwarder for Workers {
    fn name(&self) -> &'static str {
        match self.handles.len() {
            1 => "access-node's worker",
            _ => "two workers, half of them on each",
        }
    }

    fn publisher(&mut self) -> &mut Publisher {
        &mut self.publisher
    }

    fn reporters(&mut self) -> &mut Vec<Reporter> {
        &mut self.reporters
    }

    fn used(&mut self) -> Duration {
        let used = |handle: &WorkerHandle| self.runtime.block_on(handle.call(|_, _| thread_time())).unwrap();
        self.handles.iter().map(used).sum()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
        for handle in &self.handles {
            self.runtime.block_on(handle.ended());
        }
    }
}

/// Starts so many workers, the first with the publisher, and has the subscribers in turn on all.
pub(crate) fn start(subscribers: &Subscribers, count: u16) -> Workers {
    let runtime = Runtime::new().unwrap();
    let stop = CancellationToken::new();
    let certificate = Certificate::generate().unwrap();
    let start = |(number, siblings): (usize, Siblings)| {
        let sockets = Sockets::bind("127.0.0.1:0".parse().unwrap(), "127.0.0.1".parse().unwrap()).unwrap();
        let media = sockets.media_address();
        let parts = parts(number, siblings, sockets, &certificate, &stop);
        (worker::start(parts, runtime.handle().clone()).unwrap(), media)
    };
    let (handles, medias): (Vec<_>, Vec<_>) = Siblings::of(count).into_iter().enumerate().map(start).unzip();
    let (handle, media) = (&handles[0], medias[0]);

    let mut client = Client::new();
    let mid = client.add("video", Way::Send);
    let request = v1::OpenPublicationRequest {
        agent_id: "agent".into(),
        room_id: "room".into(),
        epoch: 1,
        participant_id: "publisher".into(),
        transport_id: "publisher".into(),
        session_id: "publication".into(),
        tracks: vec![v1::PublicationTrack {
            track_id: "track".into(),
            kind: v1::MediaKind::Video.into(),
            mid,
            accepted_formats: vec![format("vp8")],
        }],
        ..Default::default()
    };
    let (opened, tracks) = request::publication(request).unwrap();
    let call = |handle: &WorkerHandle, job: Job| runtime.block_on(handle.call(job)).unwrap();
    call(handle, Box::new(move |node, now| node.open_publication(now, &opened, tracks).unwrap()));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    connect(&runtime, handle, "publisher", &mut client, &socket, media);
    let publisher = Publisher {
        socket,
        srtp: client.srtp.take().unwrap(),
        to: media,
        ssrc: client.lines[0].ssrc,
        sequence: 0,
        frame: 0,
    };
    let mut reporters = Vec::new();
    for (number, socket) in subscribers.sockets().iter().enumerate() {
        let (handle, media) = (&handles[number % handles.len()], medias[number % handles.len()]);
        let mut client = Client::new();
        let mid = client.add("video", Way::Receive);
        let id = format!("subscriber-{number}");
        let request = v1::OpenSubscriptionRequest {
            agent_id: "agent".into(),
            room_id: "room".into(),
            epoch: 1,
            participant_id: id.clone(),
            transport_id: id.clone(),
            session_id: id.clone(),
            tracks: vec![v1::SubscriptionTrack {
                kind: v1::MediaKind::Video.into(),
                mid,
                source: Some(source("track", "vp8")),
                ..Default::default()
            }],
            ..Default::default()
        };
        let (opened, tracks) = request::subscription(request).unwrap();
        call(handle, Box::new(move |node, now| node.open_subscription(now, &opened, tracks).unwrap()));
        connect(&runtime, handle, &id, &mut client, socket, media);
        reporters.push(Reporter::new(client.srtp.take().unwrap(), media, client.answer.ssrcs[0][0]));
    }
    Workers { runtime, handles, publisher, reporters, stop }
}

fn parts(
    number: usize,
    siblings: Siblings,
    sockets: Sockets,
    certificate: &Certificate,
    stop: &CancellationToken,
) -> WorkerParts {
    let media = sockets.media_address();
    WorkerParts {
        number,
        placement: Placement::new(vec![LoadGauge::default()], 1),
        siblings,
        config: NodeConfig {
            worker: WorkerId::new("access-1").unwrap(),
            certificate: certificate.clone(),
            candidates: candidates(&[media.ip()], media.port()),
            link_address: sockets.link_address(),
            limits: Limits::default(),
        },
        sockets,
        events: EventHub::default(),
        data: DataConsumers::default(),
        channels: Channels::new(ClusterSecret::new("secret")),
        load: LoadGauge::default(),
        sent: Arc::default(),
        stop: stop.clone(),
    }
}

/// Negotiates, checks connectivity and shakes hands.
fn connect(
    runtime: &Runtime,
    worker: &WorkerHandle,
    transport: &str,
    client: &mut Client,
    socket: &UdpSocket,
    to: std::net::SocketAddr,
) {
    let offer = Offer::parse(&client.offer()).unwrap();
    let id = TransportId::new(transport).unwrap();
    let answer = runtime.block_on(worker.call(move |node, now| {
        node.offer(now, &id, &offer).unwrap();
        let events = &mut node.output().events;
        let answer = events.drain(..).find_map(|(_, event)| match event.event {
            Some(Event::Answer(answer)) => Some(answer),
            _ => None,
        });
        answer.expect("an offer is answered")
    }));
    client.take_answer(&answer.unwrap());
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.send_to(&client.check(), to).unwrap();
    let mut buffer = [0; 2048];
    while !client.is_connected() {
        let length = socket.recv(&mut buffer).unwrap();
        client.receive(Instant::now(), &buffer[..length]);
        for reply in client.outgoing.drain(..) {
            socket.send_to(&reply, to).unwrap();
        }
    }
}
