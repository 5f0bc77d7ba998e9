//! A live broadcast by RTMP: H.264 as it comes, sound encoded to AAC without a gap. A connection that breaks is made anew, with pauses that
//! grow; the server sees each as a stream of its own that begins with a key frame at zero.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;

use crate::{
    frame::{Codec, Format},
    lanes::{KeyFrames, Kind, LaneFrame},
};

/// First and longest pause before a connection is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// A connection that has carried media for this long was a success.
const SETTLED: Duration = Duration::from_secs(10);
/// What waits for a server beyond this costs it the connection.
const MAX_BEHIND: Duration = Duration::from_secs(5);
/// Without sound for this long, silence is sent.
const SILENT_AFTER: Duration = Duration::from_millis(200);
/// Length of a frame of Opus, as all browsers and the mixer-node send it.
const OPUS_FRAME: Duration = Duration::from_millis(20);
/// A frame of Opus that is silent: CELT, 20 ms, stereo, without content.
const OPUS_SILENCE: &[u8] = &[0xfc, 0xff, 0xfe];
/// Those who come to watch wait no longer than this for a picture.
const KEY_FRAME_INTERVAL: Duration = Duration::from_secs(2);
/// bit/s
const AAC_BITRATE: i32 = 128_000;

/// How a broadcast is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Media are not there yet, or the server has not answered.
    Starting,
    /// The server takes it.
    Active,
    /// Interrupted, and tried again.
    Trouble(String),
}

/// Why a pipeline could not be made.
#[derive(Debug, thiserror::Error)]
enum PipelineError {
    #[error(transparent)]
    Glib(#[from] gst::glib::BoolError),
    #[error(transparent)]
    State(#[from] gst::StateChangeError),
    #[error("{0:?} can't be broadcast")]
    Codec(Codec),
}

/// See the module. Never waits for the server.
pub struct Broadcast {
    origin: Instant,
    url: String,
    expected: Vec<Kind>,
    key_frames: KeyFrames,
    formats: [Option<Format>; 2],
    connection: Option<Connection>,
    pause: Duration,
    retry_at: Instant,
    condition: Condition,
}

struct Connection {
    pipeline: gst::Pipeline,
    video: Option<AppSrc>,
    audio: Option<AppSrc>,
    /// Time of the first frame.
    begun: Duration,
    since: Instant,
    last_key_frame: Instant,
    /// Up to where there is sound.
    audio_end: Duration,
    news: mpsc::Receiver<News>,
}

enum News {
    Failed(String),
    /// The server has taken the first bytes of media.
    Flows,
}

impl Broadcast {
    /// Begins with the first frames.
    #[must_use]
    pub fn new(origin: Instant, url: String, expected: Vec<Kind>, key_frames: KeyFrames) -> Self {
        Self {
            origin,
            url,
            expected,
            key_frames,
            formats: [None, None],
            connection: None,
            pause: RETRY.0,
            retry_at: origin,
            condition: Condition::Starting,
        }
    }

    /// How it is now.
    #[must_use]
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Takes a frame.
    pub fn write(&mut self, lane: LaneFrame, now: Instant) {
        let place = &mut self.formats[lane.kind as usize];
        if lane.format.is_some() && *place != lane.format {
            let was_other = place.is_some();
            place.clone_from(&lane.format);
            if was_other && self.connection.is_some() {
                self.disconnect();
                self.retry_at = now;
            }
        }
        if self.connection.is_none() {
            self.begin_with(&lane, now);
        }
        let Some(connection) = &mut self.connection else { return };
        match lane.kind {
            Kind::Video => connection.picture(&lane, now),
            Kind::Audio => connection.sound(lane.frame.time, &lane.frame.data, self.formats[0].as_ref()),
        }
    }

    /// Looks after the connection; called some fifty times a second.
    pub fn tick(&mut self, now: Instant) {
        let Some(connection) = &mut self.connection else {
            let waits_for_pictures = self.expected.contains(&Kind::Video);
            if waits_for_pictures && now >= self.retry_at && self.formats[1].is_some() {
                self.key_frames.request();
            }
            return;
        };
        match connection.news.try_recv() {
            Ok(News::Failed(reason)) => return self.failed(reason, now),
            Ok(News::Flows) => {
                tracing::info!("broadcast flows");
                self.condition = Condition::Active;
            }
            Err(_) => {}
        }
        if connection.is_behind() {
            return self.failed("the server does not take what is sent".into(), now);
        }
        if now.saturating_duration_since(connection.since) >= SETTLED && self.condition == Condition::Active {
            self.pause = RETRY.0;
        }
        if connection.video.is_some()
            && now.saturating_duration_since(connection.last_key_frame) >= KEY_FRAME_INTERVAL
        {
            self.key_frames.request();
        }
        let time = now.saturating_duration_since(self.origin);
        connection.fill_silence(time.saturating_sub(SILENT_AFTER), self.formats[0].as_ref());
    }

    /// Connects if it is time for that and the frame is one to begin with.
    fn begin_with(&mut self, lane: &LaneFrame, now: Instant) {
        let begins = match self.expected.contains(&Kind::Video) {
            true => lane.kind == Kind::Video && lane.frame.key,
            false => true,
        };
        if !begins || now < self.retry_at {
            return;
        }
        match Connection::open(&self.url, &self.expected, &self.formats, lane.frame.time, now) {
            Ok(connection) => self.connection = Some(connection),
            Err(error) => self.failed(error.to_string(), now),
        }
    }

    fn failed(&mut self, reason: String, now: Instant) {
        tracing::warn!(reason, pause_ms = self.pause.as_millis() as u64, "broadcast interrupted");
        metrics::counter!("kaigi_streaming_broadcast_interruptions_total").increment(1);
        self.disconnect();
        self.retry_at = now + self.pause;
        self.pause = (self.pause * 2).min(RETRY.1);
        self.condition = Condition::Trouble(reason);
    }

    fn disconnect(&mut self) {
        self.connection = None;
    }
}

impl Connection {
    fn open(
        url: &str,
        expected: &[Kind],
        formats: &[Option<Format>; 2],
        begun: Duration,
        now: Instant,
    ) -> Result<Self, PipelineError> {
        let pipeline = gst::Pipeline::new();
        let mux = gst::ElementFactory::make("flvmux")
            .property("streamable", true)
            .property("latency", gst::ClockTime::from_mseconds(300).nseconds())
            .build()?;
        let sink = gst::ElementFactory::make("rtmp2sink")
            .property("location", url)
            .property("async-connect", true)
            .property("sync", false)
            .build()?;
        pipeline.add_many([&mux, &sink])?;
        mux.link(&sink)?;
        let video = match &formats[1] {
            Some(format) if expected.contains(&Kind::Video) => Some(video_branch(&pipeline, &mux, format)?),
            _ => None,
        };
        let audio = match expected.contains(&Kind::Audio) {
            true => Some(audio_branch(&pipeline, &mux, formats[0].as_ref())?),
            false => None,
        };
        let (tell, news) = mpsc::channel();
        watch(&pipeline, &sink, tell);
        let connection =
            Self { pipeline, video, audio, begun, since: now, last_key_frame: now, audio_end: begun, news };
        connection.pipeline.set_state(gst::State::Playing)?;
        Ok(connection)
    }

    fn picture(&mut self, lane: &LaneFrame, now: Instant) {
        if lane.frame.key {
            self.last_key_frame = now;
        }
        if let (Some(source), Some(time)) = (&self.video, lane.frame.time.checked_sub(self.begun)) {
            push(source, time, lane.frame.key, lane.frame.data.clone());
        }
    }

    fn sound(&mut self, time: Duration, data: &Bytes, format: Option<&Format>) {
        self.fill_silence(time.saturating_sub(OPUS_FRAME * 2), format);
        let (Some(source), Some(at)) = (&self.audio, time.checked_sub(self.begun)) else { return };
        if time < self.audio_end.saturating_sub(OPUS_FRAME) {
            // Silence is there already.
            return;
        }
        push(source, at, true, data.clone());
        self.audio_end = time + OPUS_FRAME;
    }

    /// There is to be sound at least up to `until`.
    fn fill_silence(&mut self, until: Duration, format: Option<&Format>) {
        let Some(source) = &self.audio else { return };
        let silence = match format.map(|format| format.codec) {
            Some(Codec::Pcmu) => Bytes::from_static(&[0xff; 160]),
            Some(Codec::Pcma) => Bytes::from_static(&[0xd5; 160]),
            _ => Bytes::from_static(OPUS_SILENCE),
        };
        while self.audio_end < until {
            push(source, self.audio_end.saturating_sub(self.begun), true, silence.clone());
            self.audio_end += OPUS_FRAME;
        }
    }

    fn is_behind(&self) -> bool {
        let level = |source: &AppSrc| Duration::from_nanos(source.current_level_time().nseconds());
        self.video.iter().chain(&self.audio).any(|source| level(source) > MAX_BEHIND)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let pipeline = self.pipeline.clone();
        if let Some(bus) = pipeline.bus() {
            bus.unset_sync_handler();
        }
        // A sink that waits for a silent server takes its time.
        let stop = move || {
            if let Err(error) = pipeline.set_state(gst::State::Null) {
                tracing::warn!(%error, "pipeline does not stop");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("broadcast-end".into()).spawn(stop) {
            tracing::warn!(%error, "pipeline is not stopped");
        }
    }
}

fn push(source: &AppSrc, time: Duration, key: bool, data: Bytes) {
    let mut buffer = gst::Buffer::from_slice(data);
    if let Some(buffer) = buffer.get_mut() {
        let time = gst::ClockTime::from_nseconds(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - 1));
        buffer.set_pts(time);
        buffer.set_dts(time);
        if !key {
            buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
    }
    // An error means that the pipeline is stopping, which its bus tells.
    let _flow = source.push_buffer(buffer);
}

fn source(caps: &gst::Caps) -> AppSrc {
    AppSrc::builder().caps(caps).format(gst::Format::Time).is_live(true).max_bytes(64 << 20).build()
}

fn video_branch(
    pipeline: &gst::Pipeline,
    mux: &gst::Element,
    format: &Format,
) -> Result<AppSrc, PipelineError> {
    if format.codec != Codec::H264 {
        return Err(PipelineError::Codec(format.codec));
    }
    let caps = gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .field("codec_data", gst::Buffer::from_slice(format.config.clone()))
        .field("width", format.size.0 as i32)
        .field("height", format.size.1 as i32)
        .build();
    let source = source(&caps);
    let queue = gst::ElementFactory::make("queue").build()?;
    pipeline.add_many([source.upcast_ref(), &queue])?;
    gst::Element::link_many([source.upcast_ref(), &queue])?;
    queue.link_pads(None, mux, Some("video"))?;
    Ok(source)
}

fn audio_branch(
    pipeline: &gst::Pipeline,
    mux: &gst::Element,
    format: Option<&Format>,
) -> Result<AppSrc, PipelineError> {
    let (caps, decoder) = match format.map_or(Codec::Opus, |format| format.codec) {
        Codec::Opus => {
            let caps = gst::Caps::builder("audio/x-opus")
                .field("channel-mapping-family", 0)
                .field("channels", 2)
                .field("rate", 48_000)
                .build();
            (caps, "opusdec")
        }
        Codec::Pcmu => (telephone("audio/x-mulaw"), "mulawdec"),
        Codec::Pcma => (telephone("audio/x-alaw"), "alawdec"),
        other => return Err(PipelineError::Codec(other)),
    };
    let source = source(&caps);
    let encoder =
        ["avenc_aac", "voaacenc"].into_iter().find(|name| gst::ElementFactory::find(name).is_some());
    let make = |name: &str| gst::ElementFactory::make(name).build();
    let encoder =
        gst::ElementFactory::make(encoder.unwrap_or("avenc_aac")).property("bitrate", AAC_BITRATE).build()?;
    let raw = gst::Caps::builder("audio/x-raw").field("rate", 48_000).field("channels", 2).build();
    let filter = gst::ElementFactory::make("capsfilter").property("caps", raw).build()?;
    let chain = [
        source.clone().upcast(),
        make(decoder)?,
        make("audioconvert")?,
        make("audioresample")?,
        filter,
        encoder,
        make("aacparse")?,
        make("queue")?,
    ];
    pipeline.add_many(&chain)?;
    gst::Element::link_many(&chain)?;
    chain[chain.len() - 1].link_pads(None, mux, Some("audio"))?;
    Ok(source)
}

fn telephone(name: &str) -> gst::Caps {
    gst::Caps::builder(name).field("rate", 8_000).field("channels", 1).build()
}

/// Tells of errors, and once of the first media that the server has taken.
fn watch(pipeline: &gst::Pipeline, sink: &gst::Element, tell: mpsc::Sender<News>) {
    let tell = Arc::new(parking_lot::Mutex::new(tell));
    if let Some(bus) = pipeline.bus() {
        let tell = Arc::clone(&tell);
        bus.set_sync_handler(move |_, message| {
            match message.view() {
                gst::MessageView::Error(error) => {
                    drop(tell.lock().send(News::Failed(error.error().to_string())));
                }
                gst::MessageView::Eos(_) => drop(tell.lock().send(News::Failed("ended".into()))),
                _ => {}
            }
            gst::BusSyncReply::Drop
        });
    }
    // The sink takes nothing before the server has accepted the stream.
    if let Some(pad) = sink.static_pad("sink") {
        let passed = std::sync::atomic::AtomicUsize::new(0);
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            // The first few are headers, which the sink keeps until it is connected.
            if passed.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 20 {
                drop(tell.lock().send(News::Flows));
                return gst::PadProbeReturn::Remove;
            }
            gst::PadProbeReturn::Ok
        });
    }
}
