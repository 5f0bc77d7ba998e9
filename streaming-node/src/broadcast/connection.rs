//! One connection to a server: the pipeline that muxes and sends, and the sound without gaps that goes into it.

use std::{
    sync::mpsc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::AppSrc;

use super::outlet::{Ends, Outlet};
use crate::{
    address::AddressError,
    frame::{Codec, Format},
    lanes::{Kind, LaneFrame},
    pipeline,
};

/// What waits for a server beyond this costs it the connection.
const MAX_BEHIND: Duration = Duration::from_secs(5);
/// Length of a frame of Opus, as all browsers and the mixer-node send it.
const OPUS_FRAME: Duration = Duration::from_millis(20);
/// A frame of Opus that is silent: CELT, 20 ms, stereo, without content.
const OPUS_SILENCE: &[u8] = &[0xfc, 0xff, 0xfe];
/// bit/s
const AAC_BITRATE: i32 = 128_000;

/// Why a pipeline could not be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum PipelineError {
    #[error(transparent)]
    Glib(#[from] gst::glib::BoolError),
    #[error(transparent)]
    State(#[from] gst::StateChangeError),
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("{0:?} can't be broadcast")]
    Codec(Codec),
}

pub(super) enum News {
    Failed(String),
    /// The server has taken the first media.
    Flows,
}

/// Whoever hears of it first tells the broadcast.
pub(super) type Tell = mpsc::Sender<News>;

pub(super) struct Connection {
    pipeline: gst::Pipeline,
    video: Option<AppSrc>,
    audio: Option<AppSrc>,
    /// Time of the first frame.
    begun: Duration,
    since: Instant,
    last_key_frame: Instant,
    /// Of the last picture, from the first frame on.
    video_end: Option<Duration>,
    /// Up to where there is sound.
    audio_end: Duration,
    news: mpsc::Receiver<News>,
}

impl Connection {
    pub(super) fn open(
        outlet: &Outlet,
        expected: &[Kind],
        formats: &[Option<Format>; 2],
        begun: Duration,
        now: Instant,
    ) -> Result<Self, PipelineError> {
        let pipeline = gst::Pipeline::new();
        let (tell, news) = mpsc::channel();
        watch(&pipeline, tell.clone());
        let ends = outlet.build(&pipeline, expected, tell)?;
        let video = match &formats[1] {
            Some(format) if expected.contains(&Kind::Video) => Some(video_branch(&pipeline, &ends, format)?),
            _ => None,
        };
        let audio = match expected.contains(&Kind::Audio) {
            true => Some(audio_branch(&pipeline, &ends, formats[0].as_ref())?),
            false => None,
        };
        let connection = Self {
            pipeline,
            video,
            audio,
            begun,
            since: now,
            last_key_frame: now,
            video_end: None,
            audio_end: begun,
            news,
        };
        connection.pipeline.set_state(gst::State::Playing)?;
        Ok(connection)
    }

    pub(super) fn news(&self) -> Option<News> {
        self.news.try_recv().ok()
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn wants_key_frame(&self, now: Instant, interval: Duration) -> bool {
        self.video.is_some() && now.saturating_duration_since(self.last_key_frame) >= interval
    }

    /// Goes on with another format, if the server need not be told of it: players find the size and the codec unchanged.
    pub(super) fn go_on_with(&self, kind: Kind, before: &Format, format: &Format) -> bool {
        match &self.video {
            Some(source)
                if kind == Kind::Video && (before.codec, before.size) == (format.codec, format.size) =>
            {
                source.set_caps(Some(&video_caps(format)));
                true
            }
            _ => false,
        }
    }

    /// Nothing more comes; what was muxed goes out.
    pub(super) fn end_of_stream(&self) {
        for source in self.video.iter().chain(&self.audio) {
            let _flow = source.end_of_stream();
        }
    }

    pub(super) fn picture(&mut self, lane: &LaneFrame, now: Instant) {
        if lane.frame.key {
            self.last_key_frame = now;
        }
        if let (Some(source), Some(time)) = (&self.video, lane.frame.time.checked_sub(self.begun)) {
            // Sources that take turns have times of their own.
            let time = self.video_end.map_or(time, |end| time.max(end + Duration::from_millis(1)));
            self.video_end = Some(time);
            push(source, time, lane.frame.key, lane.frame.data.clone());
        }
    }

    pub(super) fn sound(&mut self, time: Duration, data: &Bytes, format: Option<&Format>) {
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
    pub(super) fn fill_silence(&mut self, until: Duration, format: Option<&Format>) {
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

    pub(super) fn is_behind(&self) -> bool {
        let level = |source: &AppSrc| Duration::from_nanos(source.current_level_time().nseconds());
        self.video.iter().chain(&self.audio).any(|source| level(source) > MAX_BEHIND)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        pipeline::stop(&self.pipeline);
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

fn video_branch(pipeline: &gst::Pipeline, ends: &Ends, format: &Format) -> Result<AppSrc, PipelineError> {
    if format.codec != Codec::H264 {
        return Err(PipelineError::Codec(format.codec));
    }
    let source = source(&video_caps(format));
    // Where parameter sets go between the frames, it puts them there.
    let parser = gst::ElementFactory::make("h264parse").property("config-interval", -1).build()?;
    let queue = gst::ElementFactory::make("queue").build()?;
    pipeline.add_many([source.upcast_ref(), &parser, &queue])?;
    gst::Element::link_many([source.upcast_ref(), &parser, &queue])?;
    ends.link(Kind::Video, &queue)?;
    Ok(source)
}

fn video_caps(format: &Format) -> gst::Caps {
    gst::Caps::builder("video/x-h264")
        .field("stream-format", "avc")
        .field("alignment", "au")
        .field("codec_data", gst::Buffer::from_slice(format.config.clone()))
        .field("width", format.size.0 as i32)
        .field("height", format.size.1 as i32)
        .build()
}

fn audio_branch(
    pipeline: &gst::Pipeline,
    ends: &Ends,
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
    ends.link(Kind::Audio, &chain[chain.len() - 1])?;
    Ok(source)
}

fn telephone(name: &str) -> gst::Caps {
    gst::Caps::builder(name).field("rate", 8_000).field("channels", 1).build()
}

/// Tells of errors.
fn watch(pipeline: &gst::Pipeline, tell: Tell) {
    let tell = parking_lot::Mutex::new(tell);
    if let Some(bus) = pipeline.bus() {
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
}
