//! Streams from elsewhere become tracks: files and playlists are pulled, encoders push, and what comes over the media link is looked at.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    net::{Ipv4Addr, UdpSocket},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use gstreamer as gst;
use gstreamer::prelude::*;
use kaigi_intake::{LinkContext, Receiver};
use kaigi_media::{
    link::{FromProducer, LinkConsumer, LinkKeys},
    rtp::RtpHeader,
};
use kaigi_outbound::Reach;
use kaigi_proto::{auth::ClusterSecret, v1};
use kaigi_streaming_node::{
    door::{Door, Doors, Ports},
    ingest::Place,
    node::Node,
    target::Policy,
};
use kaigi_supply::Outputs;
use kaigi_worker::Channels;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

/// A pipeline starts, and a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(40);

struct World {
    node: Node,
    events: mpsc::Receiver<v1::OutputEvent>,
    folder: tempfile::TempDir,
}

fn world(reach: Reach) -> World {
    world_with(reach, Doors::default())
}

fn world_with(reach: Reach, doors: Doors) -> World {
    gst::init().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let local = Ipv4Addr::LOCALHOST.into();
    let receiver = Arc::new(Receiver::bind(local).unwrap());
    let link = LinkContext { receiver, channels: Channels::new(ClusterSecret::default()) };
    let policy = Policy {
        recordings: folder.path().to_owned(),
        reach,
        allowed_hosts: Vec::new(),
        slate: None,
        ingest_hosts: Vec::new(),
        ingest_files: Some(folder.path().canonicalize().unwrap()),
    };
    let place = Place {
        outputs: Arc::new(Outputs::bind(local).unwrap()),
        worker_id: "streaming-1".into(),
        endpoint: "http://127.0.0.1:1".into(),
    };
    let node = Node::new(link, policy, "host".into(), place, None, doors);
    let events = node.events().open("agent");
    World { node, events, folder }
}

fn formats(names: &[&str]) -> Vec<v1::MediaFormat> {
    names.iter().map(|name| v1::MediaFormat { codec: (*name).into(), ..Default::default() }).collect()
}

fn description(url: &str) -> v1::InputDescription {
    v1::InputDescription {
        agent_id: "agent".into(),
        room_id: "room".into(),
        id: "1".into(),
        epoch: 1,
        revision: 1,
        url: url.into(),
        audio_formats: formats(&["opus", "pcmu"]),
        video_formats: formats(&["vp8", "h264"]),
        ..Default::default()
    }
}

impl World {
    fn pull(&self, description: &v1::InputDescription) {
        let source = self.node.check_input(description).unwrap();
        self.node.set_input(description, source, Instant::now()).unwrap();
    }

    /// The next event that is no mere beginning.
    async fn event(&mut self) -> v1::OutputEvent {
        loop {
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap();
            if event.state() != v1::OutputState::Starting {
                return event;
            }
        }
    }

    /// Codec and profile of each of the tracks that it tells when it flows.
    async fn flows(&mut self) -> Vec<(String, String)> {
        let event = self.event().await;
        assert_eq!((event.state(), event.reason.as_str()), (v1::OutputState::Active, ""));
        let formats = event.tracks.into_iter().map(|track| track.source.unwrap().format.unwrap());
        formats.map(|format| (format.codec, format.profile)).collect()
    }

    /// Attaches a track.
    fn attach(&self, what: &str) -> Taker {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let keys = LinkKeys::random();
        let (id, address) = (format!("in-room-1-{what}"), socket.local_addr().unwrap());
        let request = keys.attach_request(what, &id, address, 7);
        self.node.place().outputs.attach(&request, Instant::now()).unwrap();
        Taker { socket, end: LinkConsumer::new(&keys, 7).unwrap() }
    }
}

struct Taker {
    socket: UdpSocket,
    end: LinkConsumer,
}

impl Taker {
    /// Sequence numbers and timestamps of the next packets, and whether the payload is a parameter set of H.264.
    fn packets(&mut self, count: usize) -> Vec<(u16, u32, bool)> {
        let mut datagram = [0; 2048];
        let mut packets = Vec::new();
        while packets.len() < count {
            let length = self.socket.recv(&mut datagram).unwrap();
            if let FromProducer::Rtp(packet) = self.end.unprotect(&datagram[..length]).unwrap() {
                let header = RtpHeader::parse(&packet).unwrap();
                // Alone (7), or first of an aggregate (24).
                let payload = header.payload(&packet);
                let kind = match payload[0] & 0x1f {
                    24 => payload.get(3).copied().unwrap_or_default() & 0x1f,
                    kind => kind,
                };
                packets.push((header.sequence, header.timestamp, kind == 7));
            }
        }
        packets
    }
}

/// What a mobile phone or OBS gives, or a browser, in a file.
fn make(folder: &Path, name: &str, seconds: u64, video: &str, audio: &str, mux: &str) {
    gst::init().unwrap();
    let place = folder.join(name);
    let launch = format!(
        "videotestsrc num-buffers={} pattern=ball ! video/x-raw,format=I420,width=320,height=240,framerate=25/1 ! {video} ! queue ! mux.
         audiotestsrc num-buffers={} samplesperbuffer=960 ! audio/x-raw,rate=48000,channels=2 ! {audio} ! queue ! mux.
         {mux} name=mux ! filesink location={}",
        seconds * 25,
        seconds * 50,
        place.display()
    );
    let pipeline = gst::parse::launch(&launch).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let end = bus.timed_pop_filtered(
        gst::ClockTime::from_seconds(60),
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    assert!(matches!(end.unwrap().view(), gst::MessageView::Eos(_)));
    pipeline.set_state(gst::State::Null).unwrap();
}

const PLAIN: &str =
    "x264enc bframes=0 key-int-max=25 speed-preset=superfast ! video/x-h264,profile=main ! h264parse";
const REORDERED: &str =
    "x264enc bframes=3 b-adapt=false key-int-max=50 ! video/x-h264,profile=high ! h264parse";

#[tokio::test(flavor = "multi_thread")]
async fn what_browsers_take_passes_and_a_file_begins_anew() {
    let mut world = world(Reach::Public);
    make(world.folder.path(), "a.mkv", 2, PLAIN, "opusenc", "matroskamux");
    world.pull(&description("file:///a.mkv"));
    assert_eq!(world.flows().await, [("opus".into(), String::new()), ("h264".into(), "M".into())]);
    let (mut video, mut audio) = (world.attach("video"), world.attach("audio"));
    let packets = tokio::task::spawn_blocking(move || (video.packets(150), audio.packets(180)));
    let (video, audio) = packets.await.unwrap();
    assert!(
        video.iter().filter(|(.., parameters)| *parameters).count() >= 3,
        "no parameter sets before key frames"
    );
    for packets in [&video, &audio] {
        for pair in packets.windows(2) {
            let step = pair[1].1.wrapping_sub(pair[0].1);
            assert_eq!(pair[1].0, pair[0].0.wrapping_add(1), "a gap in the numbers");
            assert!(step < 48_000 * 2, "time goes back, or jumps by {step}");
        }
    }
    // 3.6 s of sound, over the end of the file at least once.
    let steps = audio.windows(2).filter(|pair| pair[1].1.wrapping_sub(pair[0].1) == 960).count();
    assert!(steps > 150, "{steps}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_they_do_not_take_is_transcoded() {
    let mut world = world(Reach::Public);
    make(world.folder.path(), "a.mp4", 4, REORDERED, "avenc_aac ! aacparse", "mp4mux");
    world.pull(&description("file:///a.mp4"));
    assert_eq!(world.flows().await, [("opus".into(), String::new()), ("h264".into(), "CB".into())]);
    let mut video = world.attach("video");
    // Who attaches asks for a key frame, and has it.
    let packets = tokio::task::spawn_blocking(move || video.packets(60)).await.unwrap();
    assert!(packets.iter().any(|(.., parameters)| *parameters));
    assert!(packets.windows(2).all(|pair| pair[1].1.wrapping_sub(pair[0].1) < 90_000), "not in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_kind_is_told_if_it_is_needed_and_left_out_if_not() {
    let mut world = world(Reach::Public);
    make(world.folder.path(), "a.mkv", 2, PLAIN, "opusenc", "matroskamux");
    let sound = v1::InputDescription { video: v1::InputWish::None.into(), ..description("file:///a.mkv") };
    world.pull(&sound);
    assert_eq!(world.flows().await, [("opus".into(), String::new())]);
    let request = v1::RemoveInputRequest { room_id: "room".into(), id: "1".into(), epoch: 1 };
    world.node.remove_input(&request).unwrap();
    // Shorter than a live source's other streams are waited for.
    let both = description("file:///a.mkv");
    world.pull(&v1::InputDescription { id: "1".into(), ..both });
    assert_eq!(world.flows().await.len(), 2);
    world.node.remove_input(&request).unwrap();
    std::fs::write(world.folder.path().join("b.txt"), "no media at all, but quite some text ".repeat(500))
        .unwrap();
    world.pull(&description("file:///b.txt"));
    let event = world.event().await;
    assert_eq!(event.state(), v1::OutputState::Failed, "{}", event.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn by_http_files_and_playlists_are_pulled() {
    let mut world = world(Reach::Any);
    let folder = world.folder.path().to_owned();
    // The index is at the end, which has to be looked for.
    make(&folder, "a.mp4", 4, PLAIN, "avenc_aac ! aacparse", "mp4mux");
    make(&folder, "0.ts", 3, PLAIN, "avenc_aac ! aacparse", "mpegtsmux");
    let playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n0.ts\n#EXT-X-ENDLIST\n";
    std::fs::write(folder.join("a.m3u8"), playlist).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let files = axum::Router::new().fallback_service(tower_http::services::ServeDir::new(folder));
    tokio::spawn(async move { axum::serve(listener, files).await });
    for name in ["a.mp4", "a.m3u8"] {
        world.pull(&description(&format!("http://user:secret@127.0.0.1:{port}/{name}?token=hidden")));
        assert_eq!(
            world.flows().await,
            [("opus".into(), String::new()), ("h264".into(), "M".into())],
            "{name}"
        );
        let request = v1::RemoveInputRequest { room_id: "room".into(), id: "1".into(), epoch: 1 };
        world.node.remove_input(&request).unwrap();
    }
    world.pull(&description(&format!("http://user:secret@127.0.0.1:{port}/none.mp4?token=hidden")));
    let event = world.event().await;
    assert_eq!(event.state(), v1::OutputState::Failed);
    assert!(event.reason.contains("404") && !event.reason.contains("hidden"), "{}", event.reason);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_takes_over_has_the_tracks_at_once_and_goes_on_trying() {
    let mut world = world(Reach::Public);
    let track = |kind: v1::MediaKind, codec: &str| v1::InputTrack {
        source: Some(v1::TrackSource {
            track_id: "told before".into(),
            kind: kind.into(),
            format: Some(v1::MediaFormat { codec: codec.into(), ..Default::default() }),
            ..Default::default()
        }),
        resolution: None,
    };
    let tracks = vec![track(v1::MediaKind::Audio, "pcmu"), track(v1::MediaKind::Video, "vp8")];
    let file = world.folder.path().join("late.mkv");
    std::fs::write(&file, "not yet").unwrap();
    world.pull(&v1::InputDescription { tracks, ..description("file:///late.mkv") });
    let event = world.event().await;
    assert_eq!((event.state(), event.tracks.len()), (v1::OutputState::Trouble, 2));
    make(world.folder.path(), "late.mkv.part", 3, PLAIN, "opusenc", "matroskamux");
    std::fs::rename(world.folder.path().join("late.mkv.part"), &file).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let event = world.event().await;
        if event.state() == v1::OutputState::Active {
            let codecs: Vec<_> =
                event.tracks.into_iter().map(|track| track.source.unwrap().format.unwrap().codec).collect();
            assert_eq!(codecs, ["pcmu", "vp8"], "it is not what it was");
            break;
        }
        assert!(Instant::now() < deadline, "{}", event.reason);
    }
}

/// A live encoder that waits for callers by SRT.
fn srt_server(port: u16) -> gst::Element {
    let launch = format!(
        "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=240,framerate=25/1
           ! x264enc tune=zerolatency key-int-max=25 speed-preset=superfast ! video/x-h264,profile=main ! h264parse ! queue ! mux.
         audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! avenc_aac ! aacparse ! queue ! mux.
         mpegtsmux name=mux alignment=7 ! srtsink uri=srt://127.0.0.1:{port}?mode=listener wait-for-connection=false"
    );
    let server = gst::parse::launch(&launch).unwrap();
    server.set_state(gst::State::Playing).unwrap();
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_source_by_srt_is_tried_again_when_it_was_away() {
    let mut world = world(Reach::Any);
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let server = srt_server(port);
    world.pull(&description(&format!("srt://127.0.0.1:{port}?latency=80")));
    assert_eq!(world.flows().await, [("opus".into(), String::new()), ("h264".into(), "M".into())]);
    let mut video = world.attach("video");
    server.set_state(gst::State::Null).unwrap();
    assert_eq!(world.event().await.state(), v1::OutputState::Trouble);
    let server = srt_server(port);
    while world.event().await.state() != v1::OutputState::Active {}
    let packets = tokio::task::spawn_blocking(move || video.packets(100)).await.unwrap();
    assert!(packets.windows(2).all(|pair| pair[1].0 == pair[0].0.wrapping_add(1)), "a gap in the numbers");
    server.set_state(gst::State::Null).unwrap();
}

const KEY: &str = "a-key-of-32-letters-or-some-more";

/// A node that encoders can push to, and where.
async fn open_door() -> (World, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("rtmp://{}/live", listener.local_addr().unwrap());
    let door = Door::new(url.clone());
    tokio::spawn(Arc::clone(&door).run(listener, CancellationToken::new()));
    (world_with(Reach::Public, Doors { rtmp: Some(door), srt: None }), url)
}

fn awaited() -> v1::InputDescription {
    v1::InputDescription { listen_key: KEY.into(), ..description("") }
}

/// An encoder that pushes, with the picture encoded so.
fn encoder(url: &str, video: &str) -> gst::Element {
    let launch = format!(
        "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=240,framerate=25/1 ! {video} ! queue ! mux.
         audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! avenc_aac ! aacparse ! queue ! mux.
         flvmux name=mux streamable=true ! rtmp2sink location={url}"
    );
    let encoder = gst::parse::launch(&launch).unwrap();
    encoder.set_state(gst::State::Playing).unwrap();
    encoder
}

/// Whether the encoder is told that it may not.
fn is_refused(encoder: &gst::Element) -> bool {
    let bus = encoder.bus().unwrap();
    let error = bus.timed_pop_filtered(gst::ClockTime::from_seconds(30), &[gst::MessageType::Error]);
    encoder.set_state(gst::State::Null).unwrap();
    error.is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_encoder_pushes_with_the_key_flows_also_when_it_comes_back() {
    let (mut world, url) = open_door().await;
    let source = world.node.check_input(&awaited()).unwrap();
    let reply = world.node.set_input(&awaited(), source, Instant::now()).unwrap();
    assert_eq!(reply.listen_url, url);
    let wrong = encoder(&format!("{url}/a-key-of-32-letters-or-none-more"), PLAIN);
    assert!(tokio::task::spawn_blocking(move || is_refused(&wrong)).await.unwrap());

    let first = encoder(&format!("{url}/{KEY}"), PLAIN);
    assert_eq!(world.flows().await, [("opus".into(), String::new()), ("h264".into(), "M".into())]);
    let mut video = world.attach("video");
    let second = encoder(&format!("{url}/{KEY}"), PLAIN);
    assert!(tokio::task::spawn_blocking(move || is_refused(&second)).await.unwrap(), "two at once");
    first.set_state(gst::State::Null).unwrap();
    assert_eq!(world.event().await.state(), v1::OutputState::Trouble);

    let again = encoder(&format!("{url}/{KEY}"), PLAIN);
    while world.event().await.state() != v1::OutputState::Active {}
    let packets = tokio::task::spawn_blocking(move || video.packets(150)).await.unwrap();
    assert!(packets.windows(2).all(|pair| pair[1].0 == pair[0].0.wrapping_add(1)), "a gap in the numbers");
    let request = v1::RemoveInputRequest { room_id: "room".into(), id: "1".into(), epoch: 1 };
    world.node.remove_input(&request).unwrap();
    assert!(
        tokio::task::spawn_blocking(move || is_refused(&again)).await.unwrap(),
        "it is pushed on though nobody takes it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pushed_pictures_that_browsers_can_not_play_are_transcoded_without_another_connection() {
    let (mut world, url) = open_door().await;
    world.pull(&awaited());
    let pushed = encoder(&format!("{url}/{KEY}"), REORDERED);
    let formats = world.flows().await;
    assert_eq!(formats[0].0, "opus");
    let mut video = world.attach("video");
    let packets = tokio::task::spawn_blocking(move || video.packets(60)).await.unwrap();
    assert!(packets.windows(2).all(|pair| pair[1].1.wrapping_sub(pair[0].1) < 90_000), "not in order");
    pushed.set_state(gst::State::Null).unwrap();
}

/// An encoder that calls by SRT.
fn caller(url: &str, passphrase: &str) -> gst::Element {
    let launch = format!(
        "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=240,framerate=25/1
           ! x264enc tune=zerolatency key-int-max=25 speed-preset=superfast ! video/x-h264,profile=main ! h264parse ! queue ! mux.
         audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! avenc_aac ! aacparse ! queue ! mux.
         mpegtsmux name=mux alignment=7 ! srtsink uri={url} passphrase={passphrase} pbkeylen=16 auto-reconnect=false"
    );
    let caller = gst::parse::launch(&launch).unwrap();
    caller.set_state(gst::State::Playing).unwrap();
    caller
}

#[tokio::test(flavor = "multi_thread")]
async fn by_srt_the_key_is_the_passphrase_of_a_port_of_its_own() {
    let port = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port();
    let srt = Some(Ports::new("127.0.0.1".into(), port..=port));
    let mut world = world_with(Reach::Public, Doors { rtmp: None, srt });
    let awaited = v1::InputDescription { listen_protocol: "srt".into(), ..awaited() };
    let source = world.node.check_input(&awaited).unwrap();
    let reply = world.node.set_input(&awaited, source, Instant::now()).unwrap();
    assert_eq!(reply.listen_url, format!("srt://127.0.0.1:{port}"));
    let other = v1::InputDescription { id: "2".into(), ..awaited.clone() };
    let source = world.node.check_input(&other).unwrap();
    let full = world.node.set_input(&other, source, Instant::now()).unwrap_err();
    assert!(full.to_string().contains("no port is free"), "{full}");

    let wrong = caller(&reply.listen_url, "another-passphrase");
    assert!(tokio::task::spawn_blocking(move || is_refused(&wrong)).await.unwrap());
    for _ in 0..2 {
        let pushed = caller(&reply.listen_url, KEY);
        loop {
            let event = world.event().await;
            if event.state() == v1::OutputState::Active {
                assert_eq!(event.tracks.len(), 2);
                break;
            }
        }
        pushed.set_state(gst::State::Null).unwrap();
        assert_eq!(world.event().await.state(), v1::OutputState::Trouble);
    }
}

/// What an encoder sends that shows a key: both its halves of the handshake, and `publish` (RTMP 5.2, 5.3.1, 7.2.2.6).
fn publishing(key: &str) -> Vec<u8> {
    let text = |text: &str| [&[2, 0, text.len() as u8], text.as_bytes()].concat();
    let command = [text("publish"), vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 5], text(key)].concat();
    let header = [3, 0, 0, 0, 0, 0, command.len() as u8, 20, 1, 0, 0, 0];
    [&[3][..], &[0; 2 * 1536], &header, &command].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_door_lets_nobody_in_and_who_is_inside_stays() {
    let (mut world, url) = open_door().await;
    let address = url.trim_start_matches("rtmp://").trim_end_matches("/live").to_owned();
    world.pull(&awaited());
    let inside = encoder(&format!("{url}/{KEY}"), PLAIN);
    assert_eq!(world.flows().await.len(), 2);
    let mut video = world.attach("video");
    // Has come before (it is spoken to), and shows its key after.
    let mut early = TcpStream::connect(&address).await.unwrap();
    let publishing = publishing(KEY);
    let (greeting, rest) = publishing.split_at(1 + 1536);
    early.write_all(greeting).await.unwrap();
    early.read_u8().await.unwrap();
    world.node.close_doors();
    let closed = async { while TcpStream::connect(&address).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, closed).await.unwrap();
    let _successor = TcpListener::bind(&address).await.expect("the port is free for the next process");
    early.write_all(rest).await.unwrap();
    let mut answer = Vec::new();
    let told = tokio::time::timeout(PATIENCE, early.read_to_end(&mut answer)).await.unwrap();
    let said = String::from_utf8_lossy(&answer);
    assert!(said.contains("this server is about to end"), "{told:?}: {said}");
    tokio::task::spawn_blocking(move || video.packets(60)).await.unwrap();
    inside.set_state(gst::State::Null).unwrap();
    assert_eq!(world.event().await.state(), v1::OutputState::Trouble);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_port_lets_nobody_in_and_who_is_inside_stays() {
    for is_inside in [true, false] {
        let port = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap().local_addr().unwrap().port();
        let srt = Some(Ports::new("127.0.0.1".into(), port..=port));
        let mut world = world_with(Reach::Public, Doors { rtmp: None, srt });
        world.pull(&v1::InputDescription { listen_protocol: "srt".into(), ..awaited() });
        let url = format!("srt://127.0.0.1:{port}");
        if is_inside {
            let inside = caller(&url, KEY);
            while world.event().await.state() != v1::OutputState::Active {}
            let mut video = world.attach("video");
            world.node.close_doors();
            tokio::task::spawn_blocking(move || video.packets(60)).await.unwrap();
            inside.set_state(gst::State::Null).unwrap();
        } else {
            world.node.close_doors();
        }
        assert_eq!(world.event().await.state(), v1::OutputState::Trouble);
        let late = caller(&url, KEY);
        assert!(tokio::task::spawn_blocking(move || is_refused(&late)).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_door_nothing_is_waited_for() {
    let world = world(Reach::Public);
    for (protocol, option) in [("rtmp", "--rtmp-listen"), ("srt", "--srt-ports"), ("rist", "rist")] {
        let description = v1::InputDescription { listen_protocol: protocol.into(), ..awaited() };
        let refused = world.node.check_input(&description).unwrap_err();
        assert!(refused.to_string().contains(option), "{refused}");
    }
}
