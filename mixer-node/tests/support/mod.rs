//! A mixer-node, someone who publishes to it, and someone who watches and listens.

#![allow(dead_code, reason = "each file of tests uses a part")]

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use gstreamer as gst;
use gstreamer::prelude::*;
use kaigi_media::rtp::{RtpHeader, write_header};
use kaigi_mixer_node::{
    Args, init_gstreamer,
    link::{
        AudioSource, Captured, LayeredTrack, LinkContext, MediaClock, OutputTrack, Outputs, Receiver,
        Showing, TrackDescription, VideoSources, Wish,
    },
    run,
};
use kaigi_proto::{
    auth::ClusterSecret,
    ids::{AttachmentId, TrackId},
    v1::{
        self,
        media_link_server::{MediaLink, MediaLinkServer},
        mixer_node_client::MixerNodeClient,
    },
};
use kaigi_telemetry::Health;
use kaigi_worker::{Channel, Channels};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

pub(crate) mod faults;
pub(crate) mod tap;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// The machine that runs the tests may be busy.
const DEADLINE: Duration = Duration::from_secs(40);

/// Waits for a condition.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A whole mixer-node in this process; ends when dropped.
pub(crate) struct MixerNode {
    pub(crate) endpoint: String,
    pub(crate) control: MixerNodeClient<Channel>,
    _stop: DropGuard,
}

impl MixerNode {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With these arguments besides.
    pub(crate) async fn start_with(further: &[String]) -> Self {
        init_gstreamer().unwrap();
        let free = std::net::TcpListener::bind((LOCAL, 0)).unwrap().local_addr().unwrap();
        let usual = [
            "kaigi-mixer-node".to_owned(),
            format!("--listen={free}"),
            "--cluster=http://127.0.0.1:9".to_owned(),
            "--cluster-secret=secret".to_owned(),
        ];
        let args = usual.iter().chain(further);
        let args = <Args as clap::Parser>::try_parse_from(args).unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(run(args, Health::detached(), stop.clone()));
        let deadline = Instant::now() + DEADLINE;
        while tokio::net::TcpStream::connect(free).await.is_err() {
            assert!(Instant::now() < deadline, "the node does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let endpoint = format!("http://{free}");
        let control = MixerNodeClient::new(channels().to(&endpoint).unwrap());
        Self { endpoint, control, _stop: stop.drop_guard() }
    }
}

pub(crate) fn channels() -> Channels {
    Channels::new(ClusterSecret::new("secret"))
}

/// A node that produces tracks: solid colours in VP8 and tones in Opus.
pub(crate) struct Publisher {
    endpoint: String,
    outputs: Arc<Outputs>,
    _stop: DropGuard,
}

struct LinkService(Arc<Outputs>);

#[tonic::async_trait]
impl MediaLink for LinkService {
    async fn attach(&self, request: Request<v1::AttachRequest>) -> Result<Response<v1::AttachReply>, Status> {
        Ok(Response::new(self.0.attach(request.get_ref(), Instant::now())?))
    }
    async fn detach(&self, request: Request<v1::DetachRequest>) -> Result<Response<v1::DetachReply>, Status> {
        self.0.detach(&AttachmentId::new(request.into_inner().attachment_id).unwrap());
        Ok(Response::new(v1::DetachReply {}))
    }
}

impl Publisher {
    pub(crate) async fn start() -> Self {
        init_gstreamer().unwrap();
        let outputs = Arc::new(Outputs::bind(LOCAL).unwrap());
        let listener = tokio::net::TcpListener::bind((LOCAL, 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn({
            let (outputs, stop) = (Arc::clone(&outputs), stop.clone());
            async move { outputs.run(stop).await }
        });
        let service = MediaLinkServer::new(LinkService(Arc::clone(&outputs)));
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { endpoint, outputs, _stop: stop.drop_guard() }
    }

    /// A track that nobody feeds yet.
    pub(crate) fn track(
        &self,
        id: &str,
        kind: v1::MediaKind,
        codec: &str,
        rate: u32,
    ) -> (Arc<OutputTrack>, v1::TrackSource) {
        let format = v1::MediaFormat { codec: codec.into(), ..Default::default() };
        let track = self.outputs.add(TrackDescription {
            id: TrackId::new(id).unwrap(),
            kind,
            format: format.clone(),
            payload_type: 100,
            clock: MediaClock::new(Instant::now(), rate),
            audience: Arc::default(),
        });
        (track, self.source(id, kind, Some(format)))
    }

    /// A track that this publisher may or may not have.
    pub(crate) fn source(
        &self,
        id: &str,
        kind: v1::MediaKind,
        format: Option<v1::MediaFormat>,
    ) -> v1::TrackSource {
        v1::TrackSource {
            track_id: id.into(),
            worker_id: "publisher".into(),
            endpoint: self.endpoint.clone(),
            kind: kind.into(),
            format,
        }
    }

    /// Publishes a picture of one colour (0xRRGGBB) with key frames on request only, and a tone.
    pub(crate) fn publish(&self, name: &str, rgb: u32, hz: f32) -> Published {
        let colour = format!("pattern=solid-color foreground-color={}", 0xff00_0000 | rgb);
        self.publish_pattern(name, &colour, (320, 180, 15), hz)
    }

    /// The same in VP9.
    pub(crate) fn publish_vp9(&self, name: &str, rgb: u32, hz: f32) -> Published {
        let colour = format!("pattern=solid-color foreground-color={}", 0xff00_0000 | rgb);
        self.publish_as("vp9", name, &colour, (320, 180, 15), hz)
    }

    /// Publishes what `videotestsrc` shows with these settings, in that width, height and rate, and a tone.
    pub(crate) fn publish_pattern(
        &self,
        name: &str,
        pattern: &str,
        shape: (u32, u32, u32),
        hz: f32,
    ) -> Published {
        self.publish_as("vp8", name, pattern, shape, hz)
    }

    fn publish_as(
        &self,
        codec: &str,
        name: &str,
        pattern: &str,
        (width, height, rate): (u32, u32, u32),
        hz: f32,
    ) -> Published {
        let raw = format!(
            "videotestsrc is-live=true {pattern} ! video/x-raw,format=I420,width={width},height={height},framerate={rate}/1"
        );
        let stop = Arc::new(AtomicBool::new(false));
        let (video_track, video) = self.track(&format!("{name}-video"), v1::MediaKind::Video, codec, 90_000);
        let (audio_track, audio) = self.track(&format!("{name}-audio"), v1::MediaKind::Audio, "opus", 48_000);
        let ending = Arc::clone(&stop);
        let switch = Switch { ending, paused: Arc::default() };
        std::thread::spawn(move || show(&raw, &video_track, &switch));
        let ending = Arc::clone(&stop);
        std::thread::spawn(move || hum(hz, &audio_track, &ending));
        Published { name: name.into(), video, audio, stop }
    }

    /// Sends pictures of one colour on a track, until dropped.
    pub(crate) fn feed(&self, track: &Arc<OutputTrack>, rgb: u32) -> impl Drop + use<> {
        struct Feeding(Arc<AtomicBool>);
        impl Drop for Feeding {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let raw = format!(
            "videotestsrc is-live=true pattern=solid-color foreground-color={} \
             ! video/x-raw,format=I420,width=320,height=180,framerate=15/1",
            0xff00_0000 | rgb
        );
        let (track, ending) = (Arc::clone(track), Arc::<AtomicBool>::default());
        let feeding = Feeding(Arc::clone(&ending));
        std::thread::spawn(move || show(&raw, &track, &Switch { ending, paused: Arc::default() }));
        feeding
    }

    /// Publishes one picture in several sizes, each in a colour of its own.
    pub(crate) fn publish_layers(&self, name: &str, layers: &[(&str, u32, (u32, u32))]) -> Layered {
        let layers = layers.iter().map(|(rid, rgb, (width, height))| {
            let colour = format!("pattern=solid-color foreground-color={}", 0xff00_0000 | rgb);
            let raw = format!(
                "videotestsrc is-live=true {colour} ! video/x-raw,format=I420,width={width},height={height},framerate=15/1"
            );
            let (track, source) = self.track(&format!("{name}:{rid}"), v1::MediaKind::Video, "vp8", 90_000);
            let (ending, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
            std::thread::spawn({
                let (track, ending, stop) = (Arc::clone(&track), Arc::clone(&ending), Arc::clone(&stop));
                move || show(&raw, &track, &Switch { ending, paused: stop })
            });
            let resolution = Some(v1::Resolution { width: *width, height: *height });
            let described = v1::VideoLayer { source: Some(source), resolution };
            (described, track, Switch { ending, paused: stop })
        });
        Layered { name: name.into(), layers: layers.collect() }
    }

    /// The publisher's reports name times by a clock of his own, of which it is so late now, in seconds since 1900.
    pub(crate) fn tell_time(&self, published: &Published, captured: Captured) {
        for track in [&published.video, &published.audio] {
            let id = TrackId::new(&track.track_id).unwrap();
            self.outputs.track(&id).unwrap().set_captured(Some(captured));
        }
    }

    /// Ends all flows without a word, as a node that starts anew does; its tracks are published again afterwards.
    pub(crate) fn forget(&self, published: Published) {
        let Published { video, audio, .. } = &published;
        for track in [video, audio] {
            let id = TrackId::new(&track.track_id).unwrap();
            self.outputs.remove(&self.outputs.track(&id).unwrap());
        }
    }
}

/// A published stream; ends when dropped.
pub(crate) struct Published {
    pub(crate) name: String,
    pub(crate) video: v1::TrackSource,
    pub(crate) audio: v1::TrackSource,
    stop: Arc<AtomicBool>,
}

impl Published {
    /// As an input of a view; the owner's name is the stream's with a `p` before.
    pub(crate) fn input(&self) -> v1::ViewInput {
        v1::ViewInput {
            stream_id: self.name.clone(),
            owner: format!("p{}", self.name),
            audio: Some(self.audio.clone()),
            video: Some(self.video.clone()),
            audio_muted: false,
            video_muted: false,
            ..Default::default()
        }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A stream whose picture has layers; ends when dropped.
pub(crate) struct Layered {
    name: String,
    layers: Vec<(v1::VideoLayer, Arc<OutputTrack>, Switch)>,
}

impl Layered {
    /// As an input of a view.
    pub(crate) fn input(&self) -> v1::ViewInput {
        v1::ViewInput {
            stream_id: self.name.clone(),
            owner: format!("p{}", self.name),
            video: self.layers[0].0.source.clone(),
            video_layers: self.described(),
            ..Default::default()
        }
    }

    pub(crate) fn described(&self) -> Vec<v1::VideoLayer> {
        self.layers.iter().map(|(described, ..)| described.clone()).collect()
    }

    /// Which layers are attached by somebody.
    pub(crate) fn attached(&self) -> Vec<bool> {
        self.layers.iter().map(|(_, track, _)| track.has_listeners()).collect()
    }

    /// Ends the flow of a layer, or begins it again.
    pub(crate) fn pause(&self, layer: usize, paused: bool) {
        self.layers[layer].2.paused.store(paused, Ordering::Relaxed);
    }
}

impl Drop for Layered {
    fn drop(&mut self) {
        for (_, _, switch) in &self.layers {
            switch.ending.store(true, Ordering::Relaxed);
        }
    }
}

/// What a publishing thread is told.
struct Switch {
    ending: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
}

fn show(raw: &str, track: &Arc<OutputTrack>, switch: &Switch) {
    let codec = &track.description().format.codec;
    let launch = format!(
        "{raw} ! {codec}enc name=encoder deadline=1 cpu-used=8 threads=1 target-bitrate=2000000 keyframe-max-dist=100000 \
         ! rtp{codec}pay mtu=1200 ! appsink name=sink sync=false"
    );
    let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
    let encoder = pipeline.by_name("encoder").unwrap();
    let sink = pipeline.by_name("sink").unwrap().downcast::<gstreamer_app::AppSink>().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    // Timestamps by the track's clock, as its sender reports are.
    let mut picture = (0, 0);
    while !switch.ending.load(Ordering::Relaxed) {
        let paused = switch.paused.load(Ordering::Relaxed);
        if !paused && track.take_key_frame_request() {
            encoder
                .send_event(gstreamer_video::UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
        }
        if let Some(sample) = sink.try_pull_sample(gst::ClockTime::from_mseconds(100))
            && !paused
        {
            let mut packet = sample.buffer().unwrap().map_readable().unwrap().to_vec();
            let own = RtpHeader::parse(&packet).unwrap().timestamp;
            if own != picture.0 || picture.1 == 0 {
                picture = (own, track.description().clock.timestamp_at(Instant::now()));
            }
            packet[4..8].copy_from_slice(&picture.1.to_be_bytes());
            track.send(&packet, Instant::now());
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
}

fn hum(hz: f32, track: &Arc<OutputTrack>, stop: &AtomicBool) {
    let mut encoder = opus::Encoder::new(48_000, opus::Channels::Mono, opus::Application::Voip).unwrap();
    let start = Instant::now();
    for number in 0u32.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let sample = |i: u32| {
            let time = f64::from(number * 960 + i) / 48_000.0;
            (std::f64::consts::TAU * f64::from(hz) * time).sin() as f32 * 0.2
        };
        let frame: Vec<f32> = (0..960).map(sample).collect();
        let mut packet = Vec::new();
        write_header(&mut packet, number == 0, 100, number as u16, number.wrapping_mul(960), 0);
        packet.extend(encoder.encode_vec_float(&frame, 1000).unwrap());
        track.send(&packet, Instant::now());
        let due = start + Duration::from_millis(20) * (number + 1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// A node that consumes tracks.
pub(crate) struct Consumer {
    context: LinkContext,
    videos: VideoSources,
    _stop: DropGuard,
}

impl Consumer {
    pub(crate) fn start() -> Self {
        let receiver = Arc::new(Receiver::bind(LOCAL).unwrap());
        let stop = CancellationToken::new();
        tokio::spawn({
            let (receiver, stop) = (Arc::clone(&receiver), stop.clone());
            async move { receiver.run(stop).await }
        });
        let context = LinkContext { receiver, channels: channels() };
        Self { context, videos: VideoSources::default(), _stop: stop.drop_guard() }
    }

    pub(crate) fn watch(&self, track: &v1::TrackSource) -> Screen {
        let showing = self.videos.get(&self.context, &LayeredTrack::single(track.clone()));
        showing.want(vec![Wish::Largest]);
        Screen(showing)
    }

    pub(crate) fn listen(&self, track: &v1::TrackSource) -> Ear {
        let decoder = opus::Decoder::new(48_000, opus::Channels::Stereo).unwrap();
        let source = AudioSource::start(&self.context, track);
        Ear { source, decoder, heard: VecDeque::new(), last: None, lost: 0 }
    }
}

/// Shows what a video track shows.
pub(crate) struct Screen(Showing);

/// Y, U, V.
pub(crate) type Pixel = [u8; 3];

impl Screen {
    /// Width and height of the newest picture.
    pub(crate) fn size(&self) -> Option<(u32, u32)> {
        let newest = self.0.slot().newest()?;
        let size = newest.frame.picture()?.size();
        Some((size.width, size.height))
    }

    /// Number of the newest picture; grows without end as long as the track flows.
    pub(crate) fn number(&self) -> u64 {
        self.0.slot().newest().map_or(0, |stamped| stamped.number)
    }

    /// Pixels of the newest picture.
    pub(crate) fn pixels<const N: usize>(&self, at: [(u32, u32); N]) -> Option<[Pixel; N]> {
        let newest = self.0.slot().newest()?;
        let picture = newest.frame.picture()?;
        Some(at.map(|(x, y)| {
            let [luma, u, v] = picture.planes;
            [luma.row(x, y, 1)[0], u.row(x / 2, y / 2, 1)[0], v.row(x / 2, y / 2, 1)[0]]
        }))
    }

    /// A row of the newest picture's luma.
    pub(crate) fn luma(&self, y: u32) -> Option<Vec<u8>> {
        let newest = self.0.slot().newest()?;
        let picture = newest.frame.picture()?;
        Some(picture.planes[0].row(0, y, picture.size().width).to_vec())
    }

    /// Whether the newest picture shows these colours (0xRRGGBB) there.
    pub(crate) fn shows<const N: usize>(&self, at: [(u32, u32); N], colours: [u32; N]) -> bool {
        let near = |pixel: &Pixel, rgb: u32| {
            let wanted = kaigi_mixer_node::video::Colour::from_rgb(rgb).0;
            pixel.iter().zip(wanted).all(|(value, wanted)| value.abs_diff(wanted) < 16)
        };
        self.pixels(at).is_some_and(|pixels| pixels.iter().zip(colours).all(|(pixel, rgb)| near(pixel, rgb)))
    }
}

/// Hears what an audio track plays.
pub(crate) struct Ear {
    source: AudioSource,
    decoder: opus::Decoder,
    heard: VecDeque<f32>,
    last: Option<RtpHeader>,
    pub(crate) lost: u32,
}

impl Ear {
    /// Samples of the left channel that are listened to at a time: 400 ms.
    const SPAN: usize = 19_200;

    /// Which of the frequencies are heard in the last 400 ms; none if so much has not been heard yet.
    pub(crate) fn hears<const N: usize>(&mut self, frequencies: [f32; N]) -> Option<[bool; N]> {
        let mut packets = VecDeque::new();
        self.source.feed().drain(&mut packets);
        for (_, packet) in packets {
            let header = RtpHeader::parse(&packet).unwrap();
            if let Some(last) = self.last.replace(header) {
                self.lost += u32::from(header.sequence != last.sequence.wrapping_add(1));
                assert_eq!(header.timestamp.wrapping_sub(last.timestamp) % 960, 0);
            }
            let mut frame = [0.0; 1920];
            self.decoder.decode_float(header.payload(&packet), &mut frame, false).unwrap();
            self.heard.extend(frame.iter().step_by(2));
        }
        let surplus = self.heard.len().saturating_sub(Self::SPAN);
        self.heard.drain(..surplus);
        let samples: Vec<f64> = self.heard.iter().map(|value| f64::from(*value)).collect();
        (samples.len() == Self::SPAN).then(|| frequencies.map(|hz| amplitude(&samples, hz.into()) > 0.05))
    }
}

/// Goertzel's algorithm with a Hann window.
fn amplitude(samples: &[f64], hz: f64) -> f64 {
    let step = std::f64::consts::TAU / samples.len() as f64;
    let turn = 2.0 * (std::f64::consts::TAU * hz / 48_000.0).cos();
    let (mut a, mut b) = (0.0, 0.0);
    for (i, sample) in samples.iter().enumerate() {
        (a, b) = (sample * (0.5 - 0.5 * (step * i as f64).cos()) + turn * a - b, a);
    }
    4.0 * (a * a + b * b - turn * a * b).max(0.0).sqrt() / samples.len() as f64
}

/// A view of 320×180 at 15 frames a second with the inputs in a grid of `side` × `side`.
pub(crate) fn view(revision: u64, inputs: Vec<v1::ViewInput>, side: u32) -> v1::ViewDescription {
    let region = |i: u32| v1::LayoutRegion {
        stream_id: inputs.get(i as usize).map(|input| input.stream_id.clone()).unwrap_or_default(),
        region_id: (i + 1).to_string(),
        left: format!("{}/{side}", i % side),
        top: format!("{}/{side}", i / side),
        width: format!("1/{side}"),
        height: format!("1/{side}"),
    };
    v1::ViewDescription {
        agent_id: "agent-1".into(),
        room_id: "room1".into(),
        label: "common".into(),
        epoch: 1,
        revision,
        video: Some(v1::ViewVideo {
            format: Some(v1::MediaFormat { codec: "vp8".into(), ..Default::default() }),
            resolution: Some(v1::Resolution { width: 320, height: 180 }),
            framerate: 15,
            bitrate: 800,
            key_frame_interval: 100,
            background_rgb: 0x202020,
            crop: false,
            layout: Some(v1::Layout { regions: (0..side * side).map(region).collect() }),
            filter: "none".into(),
            motion_factor: 1.0,
            ..Default::default()
        }),
        audio_format: Some(v1::MediaFormat { codec: "opus".into(), ..Default::default() }),
        voice_activity: true,
        inputs,
        minus_participants: vec![],
        video_outputs: vec![],
        audio_outputs: vec![],
        video_layers: vec![],
    }
}
