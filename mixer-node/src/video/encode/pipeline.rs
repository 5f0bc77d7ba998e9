//! `appsrc ! encoder ! payloader ! appsink`, all in one thread.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppLeakyType, AppSink, AppSinkCallbacks, AppSrc};
use gstreamer_video::UpstreamForceKeyUnitEvent;

use super::{
    super::{
        DecoderSignal, H264Profile, PipelineError, VideoCodec, VideoEncoding,
        decode::watch_errors,
        sheet::i420,
        vitals::{self, Lease, Vitals},
    },
    Content, Continuity, EncoderSettings, PacketSink, VideoEncoder,
};

/// Bytes of an RTP packet on the link, before protection. Leaves room for SRTP, UDP and a tunnel in 1,500.
const MTU: u32 = 1200;
/// Pictures that wait for the encoder. When it can't keep up, the older one is dropped.
const MAX_WAITING: u64 = 2;

/// See the module; ends when dropped, which does not wait for it.
#[derive(Debug)]
pub(super) struct Pipeline {
    pipeline: gst::Pipeline,
    source: AppSrc,
    encoder: gst::Element,
    codec: VideoCodec,
}

impl Pipeline {
    pub(super) fn start(
        settings: &EncoderSettings,
        bitrate_kbps: u32,
        from: Continuity,
        packets: PacketSink,
        failed: impl Fn(String) + Send + Sync + 'static,
        vitals: &Vitals,
        lease: &Lease,
    ) -> Result<Self, PipelineError> {
        let codec = settings.encoding.codec();
        let source = AppSrc::builder()
            .caps(&i420(settings.size, settings.framerate)?.to_caps()?)
            .format(gst::Format::Time)
            .is_live(true)
            .max_buffers(MAX_WAITING)
            .max_bytes(0)
            .max_time(gst::ClockTime::ZERO)
            .leaky_type(AppLeakyType::Downstream)
            .build();
        let encoder = encoder(settings)?;
        let payloader = gst::ElementFactory::make(codec.payloader())
            .property("mtu", MTU)
            .property("pt", u32::from(codec.payload_type()))
            .property("seqnum-offset", i32::from(from.sequence))
            .property("timestamp-offset", from.timestamp_offset);
        let payloader = match codec {
            VideoCodec::Vp8 | VideoCodec::Vp9 => payloader.property_from_str("picture-id-mode", "15-bit"),
            VideoCodec::H264 => payloader
                .property_from_str("aggregate-mode", "zero-latency")
                .property("config-interval", -1i32),
        };
        let PacketSink { packet, key_frame } = packets;
        let wanted = lease.clone();
        let sink = packet_sink(move |bytes| wanted.use_it(|| packet(bytes)));
        tell_key_frames(&encoder, key_frame);
        if codec == VideoCodec::Vp8 {
            be_thorough(&encoder);
        }
        vitals.watch(&encoder)?;

        let pipeline = gst::Pipeline::new();
        let mut chain = vec![source.upcast_ref::<gst::Element>().clone(), encoder.clone()];
        if let VideoEncoding::H264(profile) = settings.encoding {
            let caps = gst::Caps::builder("video/x-h264").field("profile", profile.caps_name()).build();
            chain.push(gst::ElementFactory::make("capsfilter").property("caps", caps).build()?);
        }
        chain.extend([payloader.build()?, sink.upcast()]);
        pipeline.add_many(&chain)?;
        gst::Element::link_many(&chain)?;
        watch_errors(&pipeline, move |signal| match signal {
            DecoderSignal::Failed(reason) => failed(reason),
            DecoderSignal::KeyFrameWanted => {}
        });
        let this = Self { pipeline, source, encoder, codec };
        this.set_bitrate(bitrate_kbps);
        this.pipeline.set_state(gst::State::Playing)?;
        Ok(this)
    }

    pub(super) fn push(&self, picture: &gst::BufferRef, at: Duration) {
        // The memory is shared, only the time is this output's own.
        let mut buffer = picture.copy();
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::try_from(at).ok());
        }
        // An error means that the pipeline is stopping, which its failure tells.
        let _flow = self.source.push_buffer(buffer);
    }

    /// Whether a picture waits for the encoder.
    pub(super) fn is_waiting(&self) -> bool {
        self.source.current_level_bytes() > 0
    }

    pub(super) fn force_key_frame(&self) {
        self.encoder.send_event(UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
    }

    pub(super) fn set_bitrate(&self, kbps: u32) {
        match self.codec {
            VideoCodec::Vp8 | VideoCodec::Vp9 => {
                let bits = i32::try_from(kbps.saturating_mul(1000)).unwrap_or(i32::MAX);
                self.encoder.set_property("target-bitrate", bits);
            }
            VideoCodec::H264 => self.encoder.set_property("bitrate", kbps),
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        vitals::end(&self.pipeline);
    }
}

/// A real-time encoder with one thread: two threads on two cores cost three times the CPU.
pub(super) fn encoder(settings: &EncoderSettings) -> Result<gst::Element, PipelineError> {
    let element = gst::ElementFactory::make(settings.encoding.codec().encoder());
    let element = match settings.encoding {
        VideoEncoding::Vp8 | VideoEncoding::Vp9 => element
            .property("deadline", 1i64)
            .property(
                "cpu-used",
                if settings.encoding == VideoEncoding::Vp8 {
                    VideoEncoder::VP8_SPEED
                } else {
                    VideoEncoder::VP9_SPEED
                },
            )
            .property("threads", 1i32)
            .property("lag-in-frames", 0i32)
            // RTP's. In units of the frame rate, pictures that are not spaced evenly would be given the same time.
            .property("timebase", gst::Fraction::new(1, 90_000))
            .property("keyframe-max-dist", i32::MAX)
            .property_from_str("end-usage", "cbr")
            // The decoder's buffer in milliseconds: a key frame may take the time of some frames, not of seconds.
            .property("buffer-size", 1000i32)
            .property("buffer-initial-size", 500i32)
            .property("buffer-optimal-size", 600i32)
            .property("undershoot", 95i32)
            .property("overshoot", 15i32)
            .property("min-quantizer", 2i32)
            .property("max-quantizer", 56i32)
            .property(
                "static-threshold",
                if settings.encoding == VideoEncoding::Vp8 { VideoEncoder::STATIC } else { 1 },
            )
            .property("max-intra-bitrate", VideoEncoder::MAX_INTRA_BITRATE as i32),
        VideoEncoding::H264(profile) => element
            .property("cabac", matches!(profile, H264Profile::Main | H264Profile::High))
            .property("dct8x8", profile == H264Profile::High)
            .property_from_str("tune", "zerolatency")
            .property_from_str("speed-preset", x264_preset(settings.content))
            .property("threads", 1u32)
            .property("key-int-max", 1u32 << 20)
            .property("byte-stream", true),
    };
    Ok(element.build()?)
}

/// Text gains by blocks of 4×4 and by deblocking, for a third more of the time; what a camera sees does not.
fn x264_preset(content: Content) -> &'static str {
    match content {
        Content::Camera => "ultrafast",
        Content::Screen => "superfast",
    }
}

/// From the thread that encodes, whose locks nobody else is to wait for.
fn be_thorough(encoder: &gst::Element) {
    let Some(pad) = encoder.static_pad("sink") else { return };
    let (encoder, pictures) = (encoder.downgrade(), AtomicU32::new(0));
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        let threshold = match pictures.fetch_add(1, Ordering::Relaxed) % VideoEncoder::THOROUGH {
            0 => 1,
            1 => VideoEncoder::STATIC,
            _ => return gst::PadProbeReturn::Ok,
        };
        if let Some(encoder) = encoder.upgrade() {
            encoder.set_property("static-threshold", threshold);
        }
        gst::PadProbeReturn::Ok
    });
}

/// Tells of each encoded picture that does not depend on others.
fn tell_key_frames(encoder: &gst::Element, key_frame: Box<dyn Fn() + Send + Sync>) {
    let Some(pad) = encoder.static_pad("src") else { return };
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if info.buffer().is_some_and(|picture| !picture.flags().contains(gst::BufferFlags::DELTA_UNIT)) {
            key_frame();
        }
        gst::PadProbeReturn::Ok
    });
}

fn packet_sink(packets: impl Fn(&[u8]) + Send + Sync + 'static) -> AppSink {
    let send = move |buffer: &gst::BufferRef| {
        if let Ok(packet) = buffer.map_readable() {
            packets(&packet);
        }
    };
    let new_sample = move |sink: &AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        // Payloaders hand over a frame's packets as a list.
        if let Some(list) = sample.buffer_list() {
            list.iter().for_each(&send);
        } else if let Some(buffer) = sample.buffer() {
            send(buffer);
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
