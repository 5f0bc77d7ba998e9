//! One input's pictures: RTP in, frames out.
//!
//! VP8, which browsers send, is decoded by libvpx itself where that can be loaded (`direct`). Otherwise it is
//! `appsrc ! depayloader ! [parser] ! decoder ! [videoconvert] ! appsink`, all in one thread, behind a buffer that puts packets in order:
//! GStreamer's own takes two threads more for each input, and costs as much as decoding a small picture. Packets are taken without ever
//! blocking; what a decoder can't keep up with is dropped at its door.

mod depacketizer;
mod direct;

use std::{sync::Arc, time::Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppLeakyType, AppSink, AppSinkCallbacks, AppSrc};
use gstreamer_video::{
    UpstreamForceKeyUnitEvent, VideoFrame, VideoFrameExt, VideoInfo, video_frame::Readable,
};

use kaigi_media::rtp::RtpHeader;
use parking_lot::Mutex;

use self::direct::Direct;
use super::{
    Canvas, Colour, Frame, Picture, PipelineError, Plane, Rect, Size, VideoCodec,
    libvpx::Vp8,
    picture::chroma,
    reorder::Reorder,
    vitals::{self, Lease, Vitals},
};
use crate::watchdog::{Ailment, CodecWatch};

/// Packets waiting for the pipeline; about half a second of 10 Mbit/s.
const MAX_QUEUE_BYTES: u64 = 1 << 20;
/// Largest frames taken, luma pixels.
const MAX_FRAME: Size = Size { width: 4096, height: 2304 };

/// What a decoder says, from threads of its own; must not block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecoderSignal {
    /// Nothing can be decoded until a key frame comes.
    KeyFrameWanted,
    /// The decoder is broken.
    Failed(String),
}

/// A picture that was decoded just now.
pub enum Fresh<'a> {
    /// It can be kept as it is.
    Kept(Arc<dyn Frame>),
    /// It is in the decoder's memory, which wants it back.
    Lent(Picture<'a>),
}

impl Fresh<'_> {
    /// The picture; none if the memory behind it is not laid out as it should be.
    #[must_use]
    pub fn picture(&self) -> Option<Picture<'_>> {
        match self {
            Self::Kept(frame) => frame.picture(),
            Self::Lent(picture) => Some(*picture),
        }
    }

    /// To be kept: what is lent is copied.
    #[must_use]
    pub fn keep(&self) -> Arc<dyn Frame> {
        match self {
            Self::Kept(frame) => Arc::clone(frame),
            Self::Lent(picture) => {
                let size = picture.size();
                let mut canvas = Canvas::new(size, Colour([16, 128, 128]));
                canvas.blit(picture, Rect { x: 0, y: 0, size }, 0, 0);
                Arc::new(canvas)
            }
        }
    }
}

/// Decodes one input until dropped. Dropping does not wait for the decoder's thread, which ends some milliseconds later; no picture is
/// given any more.
pub struct VideoDecoder {
    engine: Engine,
    vitals: Vitals,
    watch: Mutex<CodecWatch>,
    lease: Lease,
}

enum Engine {
    Direct(Direct),
    Pipeline(Pipeline),
}

struct Pipeline {
    pipeline: gst::Pipeline,
    source: AppSrc,
    order: Mutex<Reorder<gst::Buffer>>,
}

impl VideoDecoder {
    /// Builds and starts the decoder: takes some milliseconds.
    ///
    /// # Errors
    /// If an element is missing, the pipeline does not start, or the system gives no thread.
    pub fn start(
        codec: VideoCodec,
        payload_type: u8,
        frames: impl Fn(Fresh<'_>) + Send + Sync + 'static,
        signal: impl Fn(DecoderSignal) + Clone + Send + Sync + 'static,
    ) -> Result<Self, PipelineError> {
        vitals::check_room()?;
        let (vitals, lease) = (Vitals::default(), Lease::default());
        let counted = move |frame: Fresh<'_>| {
            metrics::counter!("kaigi_mixer_decoded_frames_total").increment(1);
            frames(frame);
        };
        let engine = match Some(codec).filter(|codec| *codec == VideoCodec::Vp8).and_then(|_| Vp8::new()) {
            Some(libvpx) => {
                let (vitals, lease, signal) = (vitals.clone(), lease.clone(), Box::new(signal));
                Engine::Direct(Direct::start(libvpx, vitals, lease, counted, signal)?)
            }
            None => Engine::Pipeline(Pipeline::start(codec, payload_type, &vitals, &lease, counted, signal)?),
        };
        Ok(Self { engine, vitals, watch: Mutex::default(), lease })
    }

    /// Takes an RTP packet of the payload type given at the start; what is none is ignored. Never blocks.
    pub fn push(&self, packet: impl AsRef<[u8]> + Send + 'static, now: Instant) {
        match &self.engine {
            Engine::Direct(direct) => direct.push(packet, now),
            Engine::Pipeline(pipeline) => pipeline.push(packet, now),
        }
    }

    /// Goes on without packets that have been waited for long enough; called some times a second. What is wrong with the decoder, if it
    /// does not decode.
    pub fn tick(&self, now: Instant) -> Option<Ailment> {
        let waiting = match &self.engine {
            Engine::Direct(direct) => {
                direct.tick(now);
                direct.is_waiting()
            }
            Engine::Pipeline(pipeline) => {
                pipeline.order.lock().poll(now, |packet| pipeline.decode(packet));
                pipeline.source.current_level_bytes() > 0
            }
        };
        self.watch.lock().look(self.vitals.count(waiting), now)
    }
}

impl std::fmt::Debug for VideoDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VideoDecoder").field("vitals", &self.vitals).finish_non_exhaustive()
    }
}

impl Pipeline {
    fn start(
        codec: VideoCodec,
        payload_type: u8,
        vitals: &Vitals,
        lease: &Lease,
        frames: impl Fn(Fresh<'_>) + Send + Sync + 'static,
        signal: impl Fn(DecoderSignal) + Clone + Send + Sync + 'static,
    ) -> Result<Self, PipelineError> {
        let source = AppSrc::builder()
            .caps(&codec.rtp_caps(payload_type))
            .format(gst::Format::Time)
            .is_live(true)
            .do_timestamp(true)
            .max_bytes(MAX_QUEUE_BYTES)
            .leaky_type(AppLeakyType::Downstream)
            .build();
        let depayloader = gst::ElementFactory::make(codec.depayloader())
            .property("request-keyframe", true)
            .property("wait-for-keyframe", true)
            .build()?;
        let decoder = decoder(codec)?;
        let wanted = lease.clone();
        let sink = frame_sink(move |frame| wanted.use_it(|| frames(Fresh::Kept(frame))));
        take_any_layout(&sink)?;

        let pipeline = gst::Pipeline::new();
        let mut chain = vec![source.upcast_ref::<gst::Element>().clone(), depayloader];
        if codec == VideoCodec::H264 {
            chain.push(gst::ElementFactory::make("h264parse").build()?);
        }
        chain.push(decoder.clone());
        // VP8 knows no other format than I420.
        if codec != VideoCodec::Vp8 {
            chain.push(gst::ElementFactory::make("videoconvert").build()?);
        }
        chain.push(sink.upcast());
        pipeline.add_many(&chain)?;
        gst::Element::link_many(&chain)?;

        watch_key_frames(&source, signal.clone())?;
        limit_size(&decoder, &signal)?;
        vitals.watch(&decoder)?;
        watch_errors(&pipeline, signal);
        let this = Self { pipeline, source, order: Mutex::default() };
        this.pipeline.set_state(gst::State::Playing)?;
        Ok(this)
    }

    fn push(&self, packet: impl AsRef<[u8]> + Send + 'static, now: Instant) {
        let Ok(header) = RtpHeader::parse(packet.as_ref()) else { return };
        let packet = gst::Buffer::from_slice(packet);
        self.order.lock().insert(header.sequence, packet, now, |packet| self.decode(packet));
    }

    fn decode(&self, packet: gst::Buffer) {
        // An error means that the pipeline is stopping, which its signal tells.
        let _flow = self.source.push_buffer(packet);
    }
}

impl Drop for VideoDecoder {
    fn drop(&mut self) {
        self.lease.end();
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        vitals::end(&self.pipeline);
    }
}

/// Reports a pipeline's errors and swallows all its messages, so that nothing gathers on its bus.
pub(super) fn watch_errors(pipeline: &gst::Pipeline, signal: impl Fn(DecoderSignal) + Send + Sync + 'static) {
    let Some(bus) = pipeline.bus() else { return };
    bus.set_sync_handler(move |_, message| {
        match message.view() {
            gst::MessageView::Error(error) => signal(DecoderSignal::Failed(error.error().to_string())),
            gst::MessageView::Warning(warning) => {
                tracing::debug!(warning = %warning.error(), "pipeline warns")
            }
            _ => {}
        }
        gst::BusSyncReply::Drop
    });
}

fn decoder(codec: VideoCodec) -> Result<gst::Element, PipelineError> {
    let names = codec.decoders();
    let available = names.iter().find(|name| gst::ElementFactory::find(name).is_some());
    let name = available.or(names.first()).copied().unwrap_or_default();
    // A key frame is asked for after what can't be decoded, too, and not only after a loss.
    let element = gst::ElementFactory::make(name).property("automatic-request-sync-points", true);
    let element = match name {
        "vp8dec" | "vp9dec" => element.property("threads", 1u32),
        "avdec_h264" => element.property("max-threads", 1i32),
        _ => element,
    };
    Ok(element.build()?)
}

/// Lets the decoder hand over its own memory, whatever its layout: without this it copies each picture into the usual one.
fn take_any_layout(sink: &AppSink) -> Result<(), PipelineError> {
    let pad = sink.static_pad("sink").ok_or(PipelineError::Pad("appsink", "sink"))?;
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
        let view = info.query_mut().map(gst::QueryRef::view_mut);
        let Some(gst::QueryViewMut::Allocation(query)) = view else { return gst::PadProbeReturn::Ok };
        query.add_allocation_meta::<gstreamer_video::VideoMeta>(None);
        gst::PadProbeReturn::Handled
    });
    Ok(())
}

fn frame_sink(frames: impl Fn(Arc<dyn Frame>) + Send + Sync + 'static) -> AppSink {
    let new_sample = move |sink: &AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        if let Some(frame) = Decoded::of(&sample) {
            frames(Arc::new(frame));
        }
        Ok(gst::FlowSuccess::Ok)
    };
    AppSink::builder()
        .caps(&gstreamer_video::VideoCapsBuilder::new().format(gstreamer_video::VideoFormat::I420).build())
        .sync(false)
        .max_buffers(1)
        .drop(true)
        .callbacks(AppSinkCallbacks::builder().new_sample(new_sample).build())
        .build()
}

/// Key unit requests travel upstream from whoever misses one and end at the source.
fn watch_key_frames(
    source: &AppSrc,
    signal: impl Fn(DecoderSignal) + Send + Sync + 'static,
) -> Result<(), PipelineError> {
    let pad = source.static_pad("src").ok_or(PipelineError::Pad("appsrc", "src"))?;
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        if info.event().is_some_and(|event| UpstreamForceKeyUnitEvent::parse(event).is_ok()) {
            signal(DecoderSignal::KeyFrameWanted);
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// Ends a pipeline whose frames are too large, before they are decoded if the stream's header tells their size. What
/// comes before a header, or after one that was refused, does not reach the decoder.
fn limit_size(
    decoder: &gst::Element,
    signal: &(impl Fn(DecoderSignal) + Clone + Send + Sync + 'static),
) -> Result<(), PipelineError> {
    let entrance = decoder.static_pad("sink").ok_or(PipelineError::Pad("decoder", "sink"))?;
    entrance.add_probe(gst::PadProbeType::BUFFER, |pad, _| match pad.has_current_caps() {
        true => gst::PadProbeReturn::Ok,
        false => gst::PadProbeReturn::Handled,
    });
    for name in ["sink", "src"] {
        let pad = decoder.static_pad(name).ok_or(PipelineError::Pad("decoder", name))?;
        let signal = signal.clone();
        pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
            let Some(gst::EventView::Caps(caps)) = info.event().map(|event| event.view()) else {
                return gst::PadProbeReturn::Ok;
            };
            let side = |field| {
                caps.caps().structure(0).and_then(|caps| caps.get::<i32>(field).ok()).unwrap_or_default()
            };
            let (width, height) = (side("width"), side("height"));
            if width <= MAX_FRAME.width as i32 && height <= MAX_FRAME.height as i32 {
                return gst::PadProbeReturn::Ok;
            }
            signal(DecoderSignal::Failed(format!("frames of {width}×{height} are too large")));
            gst::PadProbeReturn::Handled
        });
    }
    Ok(())
}

/// A frame in the decoder's own memory, given back to it when the last view lets it go.
pub(crate) struct Decoded(VideoFrame<Readable>);

impl Decoded {
    pub(crate) fn of(sample: &gst::Sample) -> Option<Self> {
        let info = VideoInfo::from_caps(sample.caps()?).ok()?;
        Self::laid_out(sample.buffer_owned()?, &info)
    }

    /// None if the buffer is not laid out like that.
    pub(crate) fn laid_out(buffer: gst::Buffer, layout: &VideoInfo) -> Option<Self> {
        VideoFrame::from_buffer_readable(buffer, layout).ok().map(Self)
    }
}

impl Frame for Decoded {
    fn picture(&self) -> Option<Picture<'_>> {
        let size = Size { width: self.0.width(), height: self.0.height() };
        let plane = |index: u8, size: Size| {
            let stride = usize::try_from(*self.0.plane_stride().get(usize::from(index))?).ok()?;
            Plane::new(self.0.plane_data(index.into()).ok()?, stride, size)
        };
        Some(Picture { planes: [plane(0, size)?, plane(1, chroma(size))?, plane(2, chroma(size))?] })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::mpsc,
        time::{Duration, Instant},
    };

    use kaigi_media::rtp::{RtpHeader, write_header};

    use super::{super::FrameSlot, *};

    const FRAMES: usize = 40;

    /// The RTP packets of some frames of a moving picture, one key frame at the start, a list per frame.
    fn stream(caps: &str, encoder: &str) -> Vec<Vec<Vec<u8>>> {
        gst::init().unwrap();
        let launch = format!(
            "videotestsrc num-buffers={FRAMES} pattern=ball ! video/x-raw,format=I420,{caps},framerate=30/1 \
             ! {encoder} ! appsink name=sink sync=false"
        );
        let pipeline = gst::parse::launch(&launch).unwrap().downcast::<gst::Pipeline>().unwrap();
        let sink = pipeline.by_name("sink").unwrap().downcast::<AppSink>().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let mut frames = vec![vec![]];
        while let Ok(sample) = sink.pull_sample() {
            let packet = sample.buffer().unwrap().map_readable().unwrap().to_vec();
            let last = RtpHeader::parse(&packet).unwrap().marker;
            frames.last_mut().unwrap().push(packet);
            if last {
                frames.push(vec![]);
            }
        }
        pipeline.set_state(gst::State::Null).unwrap();
        frames.pop();
        assert_eq!(frames.len(), FRAMES);
        frames
    }
    const VP8: &str = "vp8enc deadline=1 keyframe-max-dist=1000 ! rtpvp8pay mtu=300 picture-id-mode=15-bit";

    /// Feeds the frames, each once the one before it is decoded (or is not, for a while); the slot and what was signalled.
    fn decoded(codec: VideoCodec, frames: &[Vec<Vec<u8>>]) -> (Arc<FrameSlot>, Vec<DecoderSignal>) {
        let slot = Arc::new(FrameSlot::default());
        let (tx, rx) = mpsc::channel();
        let signal = move |signal| drop(tx.send(signal));
        let shown = Arc::clone(&slot);
        let show = move |frame: Fresh<'_>| shown.put(frame.keep(), Instant::now());
        let decoder = VideoDecoder::start(codec, 96, show, signal).unwrap();
        let number = || slot.newest().map_or(0, |stamped| stamped.number);
        for frame in frames {
            let before = number();
            for packet in frame {
                decoder.push(packet.clone(), Instant::now());
            }
            // The first frame waits until the pipeline runs.
            let patience = if before == 0 { Duration::from_secs(2) } else { Duration::from_millis(100) };
            let deadline = Instant::now() + patience;
            while number() == before && Instant::now() < deadline {
                decoder.tick(Instant::now());
                std::thread::yield_now();
            }
        }
        drop(decoder);
        (slot, rx.try_iter().collect())
    }

    #[test]
    fn all_codecs_are_decoded() {
        let small = "width=320,height=180";
        for (codec, encoder) in [
            (VideoCodec::Vp8, VP8),
            (VideoCodec::Vp9, "vp9enc deadline=1 cpu-used=8 keyframe-max-dist=1000 ! rtpvp9pay mtu=300"),
            (
                VideoCodec::H264,
                "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=1000 ! rtph264pay mtu=300 config-interval=-1",
            ),
        ] {
            let (slot, signals) = decoded(codec, &stream(small, encoder));
            let newest = slot.newest().unwrap();
            assert!(newest.number >= FRAMES as u64 - 2, "{codec:?}: {}", newest.number);
            assert_eq!(newest.frame.picture().unwrap().size(), Size { width: 320, height: 180 });
            assert!(!signals.iter().any(|signal| matches!(signal, DecoderSignal::Failed(_))), "{signals:?}");
        }
    }

    #[test]
    fn a_key_frame_is_wanted_after_a_loss() {
        let mut frames = stream("width=320,height=180", VP8);
        frames[20].pop();
        let (slot, signals) = decoded(VideoCodec::Vp8, &frames);
        let wanted = signals.iter().filter(|signal| **signal == DecoderSignal::KeyFrameWanted).count();
        // One is asked for at the start of any stream.
        assert!(wanted > 1, "{signals:?}");
        assert!(slot.newest().unwrap().number <= 20, "broken pictures are shown");
    }

    #[test]
    fn packets_of_nothing_but_padding_are_no_loss() {
        let mut frames = stream("width=320,height=180", VP8);
        let mut sequence = RtpHeader::parse(&frames[0][0]).unwrap().sequence;
        for frame in &mut frames {
            for packet in frame.iter_mut() {
                packet[2..4].copy_from_slice(&sequence.to_be_bytes());
                sequence = sequence.wrapping_add(1);
            }
            let header = RtpHeader::parse(&frame[0]).unwrap();
            let mut padding = Vec::new();
            write_header(&mut padding, false, 96, sequence, header.timestamp, header.ssrc);
            frame.push(padding);
            sequence = sequence.wrapping_add(1);
        }
        let (slot, signals) = decoded(VideoCodec::Vp8, &frames);
        // One is asked for at the start of any stream.
        assert_eq!(signals, [DecoderSignal::KeyFrameWanted]);
        assert!(slot.newest().unwrap().number >= FRAMES as u64 - 2);
    }

    #[test]
    fn frames_that_are_too_large_end_the_input() {
        let frames = stream("width=4112,height=64", VP8);
        let (slot, signals) = decoded(VideoCodec::Vp8, &frames[..1]);
        let failure = DecoderSignal::Failed("frames of 4112×64 are too large".into());
        assert!(signals.contains(&failure), "{signals:?}");
        assert!(slot.newest().is_none());
    }

    #[test]
    fn rubbish_ends_nothing_but_the_input() {
        gst::init().unwrap();
        for codec in [VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::H264] {
            let frames = (0..50u8).map(|i| {
                let mut packet = Vec::new();
                write_header(&mut packet, true, 96, i.into(), u32::from(i) * 3000, 7);
                packet.extend((0..i).map(|j| i.wrapping_mul(37) ^ j.wrapping_mul(91)));
                packet
            });
            let decoder = VideoDecoder::start(codec, 96, |_| {}, |_| {}).unwrap();
            for packet in frames {
                decoder.push(packet, Instant::now());
            }
            decoder.push(vec![1, 2, 3], Instant::now());
        }
    }
}
