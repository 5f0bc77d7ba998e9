//! What becomes of one stream of a source: `queue ! (decode ! encode) ! payloader ! appsink`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppSink, AppSinkCallbacks};
use parking_lot::Mutex;

use super::{
    codec::{Choice, IngestCodec, own_codec},
    desk::Desk,
};
use crate::lanes::Kind;

/// Bytes of an RTP packet on the link, before protection. Leaves room for SRTP, UDP and a tunnel in 1,500.
const MTU: u32 = 1200;
/// Nanoseconds of a packet of telephone sound.
const TELEPHONE_PACKET: i64 = 20_000_000;
/// Pictures before which their order is not taken for known.
const PROBED: usize = 8;
/// Pictures further back than this begin anew, and are not out of order.
const REORDERING: gst::ClockTime = gst::ClockTime::from_seconds(1);
/// What containers round times by.
const ROUNDING: gst::ClockTime = gst::ClockTime::from_mseconds(2);
/// Between looks at whether the pipeline ends.
const NAP: Duration = Duration::from_millis(50);
/// What of pictures that are transcoded is made smaller.
const MAX_SIZE: (i32, i32) = (1920, 1080);
/// Frames per second of them, at most.
const MAX_RATE: i32 = 30;

/// What a pipeline tells.
#[derive(Debug)]
pub(super) enum News {
    /// It is broken.
    Failed(String),
    /// The source has ended.
    Ended,
    /// The source was looked into, and what it has is being told.
    Looked,
    /// There is one of that kind.
    Found(Kind),
    /// It flows.
    Flows(Kind),
    /// Pictures that pass can't: browsers could not decode them, or they come in another order than they are shown in.
    Unfit,
    /// The picture has another size.
    Resized,
}

/// Tells it to whoever runs the pipeline.
#[derive(Clone, Debug)]
pub(super) struct Tell(Arc<Mutex<mpsc::Sender<News>>>);

impl Tell {
    pub(super) fn new() -> (Self, mpsc::Receiver<News>) {
        let (tell, told) = mpsc::channel();
        (Self(Arc::new(Mutex::new(tell))), told)
    }

    pub(super) fn tell(&self, news: News) {
        // Whoever ran the pipeline is gone.
        drop(self.0.lock().send(news));
    }
}

/// What the branches of a pipeline share.
#[derive(Clone, Debug)]
pub(super) struct Hands {
    pub(super) desk: Arc<Desk>,
    pub(super) tell: Tell,
    /// Ends the waits of a pipeline that ends.
    pub(super) alive: Arc<AtomicBool>,
    /// Whether media wait here for their time.
    pub(super) waits: bool,
}

/// Puts a branch into the pipeline and gives its first element, and the encoder of pictures if there is one.
pub(super) fn build(
    pipeline: &gst::Pipeline,
    choice: &Choice,
    hands: &Hands,
) -> Result<(gst::Element, Option<gst::Element>), gst::glib::BoolError> {
    let (codec, kind) = (choice.codec, choice.codec.kind());
    let queue = make("queue")?;
    let mut head = vec![queue.clone()];
    let mut tail = Vec::new();
    let mut encoder = None;
    if choice.passes {
        if codec == IngestCodec::H264 {
            tail.extend([make("h264parse")?, h264_caps(None)?]);
        }
    } else {
        head.push(make("decodebin")?);
        let encodes = encoder_of(codec)?;
        tail.extend(match kind {
            Kind::Audio => vec![make("audioconvert")?, make("audioresample")?, raw_sound(codec)?],
            Kind::Video => vec![
                make("deinterlace")?,
                make("videoconvert")?,
                make("videoscale")?,
                rate_limit()?,
                raw_picture()?,
            ],
        });
        tail.push(encodes.clone());
        if codec == IngestCodec::H264 {
            tail.push(h264_caps(Some("constrained-baseline"))?);
        }
        if kind == Kind::Video {
            set_bitrate_by_size(&encodes);
            encoder = Some(encodes);
        }
    }
    let payloader = payloader(codec)?;
    if kind == Kind::Video {
        look_at_pictures(&payloader, choice, hands);
    }
    tail.extend([payloader, sink(codec, hands).upcast()]);
    pipeline.add_many(head.iter().chain(&tail))?;
    gst::Element::link_many(&tail)?;
    if let [queue, decoder] = &head[..] {
        queue.link(decoder)?;
        let next = tail[0].clone();
        decoder.connect_pad_added(move |_, pad| {
            if let Some(end) = next.static_pad("sink").filter(|end| !end.is_linked())
                && let Err(error) = pad.link(&end)
            {
                tracing::debug!(%error, "decoder not linked");
            }
        });
    } else {
        queue.link(&tail[0])?;
    }
    for element in tail.iter().rev().chain(head.iter().rev()) {
        element.sync_state_with_parent()?;
    }
    Ok((queue, encoder))
}

fn make(name: &str) -> Result<gst::Element, gst::glib::BoolError> {
    gst::ElementFactory::make(name).build()
}

fn filter(caps: gst::Caps) -> Result<gst::Element, gst::glib::BoolError> {
    gst::ElementFactory::make("capsfilter").property("caps", caps).build()
}

fn h264_caps(profile: Option<&str>) -> Result<gst::Element, gst::glib::BoolError> {
    let caps =
        gst::Caps::builder("video/x-h264").field("stream-format", "byte-stream").field("alignment", "au");
    filter(match profile {
        Some(profile) => caps.field("profile", profile).build(),
        None => caps.build(),
    })
}

fn raw_sound(codec: IngestCodec) -> Result<gst::Element, gst::glib::BoolError> {
    let (rate, channels) = match codec {
        IngestCodec::G722 => (16_000, 1),
        IngestCodec::Pcmu | IngestCodec::Pcma => (8_000, 1),
        _ => (48_000, 2),
    };
    filter(gst::Caps::builder("audio/x-raw").field("rate", rate).field("channels", channels).build())
}

fn raw_picture() -> Result<gst::Element, gst::glib::BoolError> {
    let (width, height) = MAX_SIZE;
    filter(
        gst::Caps::builder("video/x-raw")
            .field("format", "I420")
            .field("width", gst::IntRange::new(2, width))
            .field("height", gst::IntRange::new(2, height))
            .field("pixel-aspect-ratio", gst::Fraction::new(1, 1))
            .build(),
    )
}

fn rate_limit() -> Result<gst::Element, gst::glib::BoolError> {
    gst::ElementFactory::make("videorate").property("drop-only", true).property("max-rate", MAX_RATE).build()
}

/// Real-time encoders with one thread, which make key frames when asked to, and every ten seconds or so.
fn encoder_of(codec: IngestCodec) -> Result<gst::Element, gst::glib::BoolError> {
    let interval = MAX_RATE * 10;
    match codec {
        IngestCodec::Opus => make("opusenc"),
        IngestCodec::G722 => make("avenc_g722"),
        IngestCodec::Pcmu => make("mulawenc"),
        IngestCodec::Pcma => make("alawenc"),
        IngestCodec::H264 => gst::ElementFactory::make("x264enc")
            .property_from_str("tune", "zerolatency")
            .property_from_str("speed-preset", "ultrafast")
            .property("threads", 1u32)
            .property("key-int-max", interval.unsigned_abs())
            .property("byte-stream", true)
            .build(),
        IngestCodec::Vp8 | IngestCodec::Vp9 => {
            let (name, speed) = if codec == IngestCodec::Vp8 { ("vp8enc", -6) } else { ("vp9enc", 8) };
            gst::ElementFactory::make(name)
                .property("deadline", 1i64)
                .property("cpu-used", speed)
                .property("threads", 1i32)
                .property("lag-in-frames", 0i32)
                .property("keyframe-max-dist", interval)
                .property_from_str("end-usage", "cbr")
                .build()
        }
    }
}

/// 2 bits a pixel a second: 4 Mbit/s in Full HD.
fn set_bitrate_by_size(encoder: &gst::Element) {
    let (Some(pad), weak) = (encoder.static_pad("sink"), encoder.downgrade()) else { return };
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if let (Some(size), Some(encoder)) = (caps_event(info).as_deref().and_then(size), weak.upgrade()) {
            let kbps = (u64::from(size.0) * u64::from(size.1) * 2 / 1000).max(200);
            let kbps = u32::try_from(kbps).unwrap_or(u32::MAX);
            match encoder.has_property("target-bitrate") {
                true => {
                    encoder.set_property("target-bitrate", i32::try_from(kbps * 1000).unwrap_or(i32::MAX))
                }
                false => encoder.set_property("bitrate", kbps),
            }
        }
        gst::PadProbeReturn::Ok
    });
}

fn caps_event(info: &gst::PadProbeInfo<'_>) -> Option<gst::Caps> {
    match info.event()?.view() {
        gst::EventView::Caps(event) => Some(event.caps_owned()),
        _ => None,
    }
}

fn size(caps: &gst::CapsRef) -> Option<(u32, u32)> {
    let structure = caps.structure(0)?;
    let side = |name| structure.get::<i32>(name).ok().and_then(|side| u32::try_from(side).ok());
    Some((side("width")?, side("height")?))
}

fn payloader(codec: IngestCodec) -> Result<gst::Element, gst::glib::BoolError> {
    let name = match codec {
        IngestCodec::Opus => "rtpopuspay",
        IngestCodec::G722 => "rtpg722pay",
        IngestCodec::Pcmu => "rtppcmupay",
        IngestCodec::Pcma => "rtppcmapay",
        IngestCodec::H264 => "rtph264pay",
        IngestCodec::Vp8 => "rtpvp8pay",
        IngestCodec::Vp9 => "rtpvp9pay",
    };
    let payloader = gst::ElementFactory::make(name).property("mtu", MTU);
    match codec {
        IngestCodec::Opus => payloader,
        IngestCodec::G722 | IngestCodec::Pcmu | IngestCodec::Pcma => {
            payloader.property("min-ptime", TELEPHONE_PACKET).property("max-ptime", TELEPHONE_PACKET)
        }
        // Parameter sets before each key frame: nobody is told them otherwise.
        IngestCodec::H264 => {
            payloader.property_from_str("aggregate-mode", "zero-latency").property("config-interval", -1i32)
        }
        IngestCodec::Vp8 | IngestCodec::Vp9 => payloader.property_from_str("picture-id-mode", "15-bit"),
    }
    .build()
}

/// Counts key frames, tells sizes, and looks whether pictures that pass may.
fn look_at_pictures(payloader: &gst::Element, choice: &Choice, hands: &Hands) {
    let Some(pad) = payloader.static_pad("sink") else { return };
    let (hands, passes) = (hands.clone(), choice.passes && choice.codec == IngestCodec::H264);
    let (told, latest) = (AtomicBool::new(!passes), Mutex::new(None::<gst::ClockTime>));
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM | gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(caps) = caps_event(info) {
            if size(&caps).is_some_and(|size| hands.desk.set_size(size)) {
                hands.tell.tell(News::Resized);
            }
            match caps.structure(0).and_then(own_codec).filter(|_| passes) {
                Some((_, profile)) => hands.desk.set_profile(profile),
                None if passes && !told.swap(true, Ordering::Relaxed) => hands.tell.tell(News::Unfit),
                None => {}
            }
        }
        let Some(picture) = info.buffer() else { return gst::PadProbeReturn::Ok };
        if !picture.flags().contains(gst::BufferFlags::DELTA_UNIT) {
            hands.desk.count_key_frame();
        }
        let mut latest = latest.lock();
        let earlier = latest
            .zip(picture.pts())
            .is_some_and(|(latest, pts)| pts < latest && latest.saturating_sub(pts) < REORDERING);
        // Containers say it from the first picture on: it is decoded before it is shown.
        let waits = picture.dts().zip(picture.pts()).is_some_and(|(dts, pts)| pts > dts + ROUNDING);
        if (earlier || waits) && !told.swap(true, Ordering::Relaxed) {
            hands.tell.tell(News::Unfit);
        }
        *latest = picture.pts().or(*latest);
        gst::PadProbeReturn::Ok
    });
}

/// Sends packets when they are due.
fn sink(codec: IngestCodec, hands: &Hands) -> AppSink {
    let (kind, hands) = (codec.kind(), hands.clone());
    let enough = if kind == Kind::Video { PROBED } else { 1 };
    let (mut frames, mut last) = (0, None::<(Duration, Instant)>);
    let mut take = move |time: Duration, packet: &gst::BufferRef| {
        let due = match last {
            Some((before, due)) if before == time => due,
            _ => {
                let due = hands.desk.due(kind, time, Instant::now());
                if hands.waits && !wait_until(due, &hands.alive) {
                    return Err(gst::FlowError::Flushing);
                }
                frames += 1;
                if frames == enough {
                    hands.tell.tell(News::Flows(kind));
                }
                due
            }
        };
        last = Some((time, due));
        if let Ok(packet) = packet.map_readable() {
            hands.desk.send(kind, &packet, due);
        }
        Ok(gst::FlowSuccess::Ok)
    };
    let new_sample = move |sink: &AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let running = |buffer: &gst::BufferRef| {
            let pts = buffer.pts()?;
            let segment = sample.segment().and_then(|segment| segment.downcast_ref::<gst::ClockTime>());
            let time = segment.and_then(|segment| segment.to_running_time(pts)).unwrap_or(pts);
            Some(Duration::from_nanos(time.nseconds()))
        };
        // Payloaders hand over a frame's packets as a list.
        let list = sample.buffer_list();
        for packet in list.iter().flat_map(|list| list.iter()).chain(sample.buffer()) {
            if let Some(time) = running(packet) {
                take(time, packet)?;
            }
        }
        Ok(gst::FlowSuccess::Ok)
    };
    AppSink::builder()
        .sync(false)
        .async_(false)
        .buffer_list(true)
        .callbacks(AppSinkCallbacks::builder().new_sample(new_sample).build())
        .build()
}

/// False if the pipeline ends before.
fn wait_until(due: Instant, alive: &AtomicBool) -> bool {
    loop {
        if !alive.load(Ordering::Relaxed) {
            return false;
        }
        match due.saturating_duration_since(Instant::now()) {
            Duration::ZERO => return true,
            left => std::thread::sleep(left.min(NAP)),
        }
    }
}
