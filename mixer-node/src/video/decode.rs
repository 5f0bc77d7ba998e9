//! One input's pictures: RTP in, the newest frame in a [`FrameSlot`].
//!
//! `appsrc ! rtpjitterbuffer ! depayloader ! [parser] ! decoder ! videoconvert ! appsink`, each decoder with one thread. Packets
//! are taken without ever blocking; what the pipeline can't keep up with is dropped at its door.

use std::{sync::Arc, time::Instant};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppLeakyType, AppSink, AppSinkCallbacks, AppSrc};
use gstreamer_video::{UpstreamForceKeyUnitEvent, VideoFrame, VideoFrameExt, VideoInfo, video_frame::Readable};

use super::{Frame, FrameSlot, Picture, PipelineError, Plane, Size, VideoCodec, picture::chroma};

/// How long a missing packet is waited for (retransmissions included), in milliseconds. Packets that arrive in order
/// are not delayed.
const LATENCY_MS: u32 = 100;
/// Packets waiting for the pipeline; about half a second of 10 Mbit/s.
const MAX_QUEUE_BYTES: u64 = 1 << 20;
/// Largest frames taken, luma pixels.
const MAX_FRAME: Size = Size { width: 4096, height: 2304 };

/// What a decoder says, from threads of its own; must not block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecoderSignal {
    /// Nothing can be decoded until a key frame comes.
    KeyFrameWanted,
    /// The pipeline is broken.
    Failed(String),
}

/// Decodes one input until dropped. Dropping waits for the pipeline's threads, for some milliseconds.
#[derive(Debug)]
pub struct VideoDecoder {
    pipeline: gst::Pipeline,
    source: AppSrc,
}

impl VideoDecoder {
    /// Builds and starts the pipeline: takes some milliseconds.
    ///
    /// # Errors
    /// If an element is missing or the pipeline does not start.
    pub fn start(
        codec: VideoCodec,
        payload_type: u8,
        slot: Arc<FrameSlot>,
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
        let jitter = gst::ElementFactory::make("rtpjitterbuffer")
            .property("latency", LATENCY_MS)
            .property("do-lost", true)
            .build()?;
        let depayloader = gst::ElementFactory::make(codec.depayloader())
            .property("request-keyframe", true)
            .property("wait-for-keyframe", true)
            .build()?;
        let decoder = decoder(codec)?;
        let convert = gst::ElementFactory::make("videoconvert").build()?;
        let sink = frame_sink(slot);

        let pipeline = gst::Pipeline::new();
        let mut chain = vec![source.upcast_ref::<gst::Element>().clone(), jitter, depayloader];
        if codec == VideoCodec::H264 {
            chain.push(gst::ElementFactory::make("h264parse").build()?);
        }
        chain.extend([decoder.clone(), convert, sink.upcast()]);
        pipeline.add_many(&chain)?;
        gst::Element::link_many(&chain)?;

        watch_key_frames(&source, signal.clone())?;
        limit_size(&decoder, &signal)?;
        watch_errors(&pipeline, signal);
        let decoder = Self { pipeline, source };
        decoder.pipeline.set_state(gst::State::Playing)?;
        Ok(decoder)
    }

    /// Takes an RTP packet of the payload type given at the start. Never blocks.
    pub fn push(&self, packet: impl AsRef<[u8]> + Send + 'static) {
        // An error means that the pipeline is stopping, which its signal tells.
        let _flow = self.source.push_buffer(gst::Buffer::from_slice(packet));
    }
}

impl Drop for VideoDecoder {
    fn drop(&mut self) {
        stop(&self.pipeline);
    }
}

/// Stops a pipeline for good.
pub(super) fn stop(pipeline: &gst::Pipeline) {
    if let Some(bus) = pipeline.bus() {
        bus.unset_sync_handler();
    }
    if let Err(error) = pipeline.set_state(gst::State::Null) {
        tracing::warn!(%error, "pipeline does not stop");
    }
}

/// Reports a pipeline's errors and swallows all its messages, so that nothing gathers on its bus.
pub(super) fn watch_errors(pipeline: &gst::Pipeline, signal: impl Fn(DecoderSignal) + Send + Sync + 'static) {
    let Some(bus) = pipeline.bus() else { return };
    bus.set_sync_handler(move |_, message| {
        match message.view() {
            gst::MessageView::Error(error) => signal(DecoderSignal::Failed(error.error().to_string())),
            gst::MessageView::Warning(warning) => tracing::debug!(warning = %warning.error(), "pipeline warns"),
            _ => {}
        }
        gst::BusSyncReply::Drop
    });
}

fn decoder(codec: VideoCodec) -> Result<gst::Element, PipelineError> {
    let names = codec.decoders();
    let available = names.iter().find(|name| gst::ElementFactory::find(name).is_some());
    let name = available.or(names.first()).copied().unwrap_or_default();
    let mut element = gst::ElementFactory::make(name);
    element = match name {
        "vp8dec" | "vp9dec" => element.property("threads", 1u32),
        "avdec_h264" => element.property("max-threads", 1i32),
        _ => element,
    };
    Ok(element.build()?)
}

fn frame_sink(slot: Arc<FrameSlot>) -> AppSink {
    let new_sample = move |sink: &AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        if let Some(frame) = Decoded::of(&sample) {
            metrics::counter!("kaigi_mixer_decoded_frames_total").increment(1);
            slot.put(Arc::new(frame), Instant::now());
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

/// Ends a pipeline whose frames are too large, before they are decoded if the stream's header tells their size.
fn limit_size(
    decoder: &gst::Element,
    signal: &(impl Fn(DecoderSignal) + Clone + Send + Sync + 'static),
) -> Result<(), PipelineError> {
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
            gst::PadProbeReturn::Drop
        });
    }
    Ok(())
}

/// A frame in the decoder's own memory, given back to it when the last view lets it go.
struct Decoded(VideoFrame<Readable>);

impl Decoded {
    fn of(sample: &gst::Sample) -> Option<Self> {
        let info = VideoInfo::from_caps(sample.caps()?).ok()?;
        VideoFrame::from_buffer_readable(sample.buffer_owned()?, &info).ok().map(Self)
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
