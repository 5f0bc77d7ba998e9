//! A view's pictures: composed pictures in, RTP packets out.
//!
//! `appsrc ! kaigiedgedetect ! encoder ! payloader ! appsink`, all in one thread. The filter is always there and passes pictures
//! untouched when it is off, so that switching it does not interrupt the stream.

use std::{sync::Arc, time::Duration};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppLeakyType, AppSink, AppSinkCallbacks, AppSrc};
use gstreamer_video::{UpstreamForceKeyUnitEvent, VideoFormat, VideoInfo};

use super::{
    Canvas, DecoderSignal, EdgeDetect, PipelineError, Size, VideoCodec,
    decode::{stop, watch_errors},
};

/// Bytes of an RTP packet on the link, before protection. Leaves room for SRTP, UDP and a tunnel in 1,500.
const MTU: u32 = 1200;
/// Composed pictures that wait for the encoder. When it can't keep up, the older one is dropped.
const MAX_WAITING: u64 = 2;

/// Where an output's RTP packets go; called from the encoder's thread, must not block.
pub type PacketSink = Arc<dyn Fn(&[u8]) + Send + Sync>;

/// How pictures are encoded. Everything but the bitrate and the filter is fixed for an encoder's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderSettings {
    /// The codec.
    pub codec: VideoCodec,
    /// Of the pictures; even.
    pub size: Size,
    /// Pictures a second.
    pub framerate: u32,
    /// Most pictures from one key frame to the next; none = only on request.
    pub key_frame_distance: Option<u32>,
}

/// Where an output's packets stand, so that a new encoder goes on where the old one stopped.
#[derive(Clone, Copy, Debug)]
pub struct Continuity {
    /// Of the next packet.
    pub sequence: u16,
    /// RTP timestamp that stands for presentation time zero.
    pub timestamp_offset: u32,
}

/// Encodes until dropped. Dropping waits for the pipeline's thread, for some milliseconds.
#[derive(Debug)]
pub struct VideoEncoder {
    pipeline: gst::Pipeline,
    source: AppSrc,
    filter: gst::Element,
    encoder: gst::Element,
    codec: VideoCodec,
}

impl VideoEncoder {
    /// Builds and starts the pipeline: takes some milliseconds. `failed` is called from its thread when it breaks.
    ///
    /// # Errors
    /// If an element is missing or the pipeline does not start.
    pub fn start(
        settings: &EncoderSettings,
        bitrate_kbps: u32,
        edges: bool,
        from: Continuity,
        packets: PacketSink,
        failed: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<Self, PipelineError> {
        let rate = i32::try_from(settings.framerate).unwrap_or(i32::MAX);
        let info = VideoInfo::builder(VideoFormat::I420, settings.size.width, settings.size.height)
            .fps(gst::Fraction::new(rate, 1))
            .build()?;
        let source = AppSrc::builder()
            .caps(&info.to_caps()?)
            .format(gst::Format::Time)
            .is_live(true)
            .max_buffers(MAX_WAITING)
            .max_bytes(0)
            .max_time(gst::ClockTime::ZERO)
            .leaky_type(AppLeakyType::Downstream)
            .build();
        let filter = gst::ElementFactory::make(EdgeDetect::NAME).property("enabled", edges).build()?;
        let encoder = encoder(settings)?;
        let payloader = gst::ElementFactory::make(settings.codec.payloader())
            .property("mtu", MTU)
            .property("pt", u32::from(settings.codec.payload_type()))
            .property("seqnum-offset", i32::from(from.sequence))
            .property("timestamp-offset", from.timestamp_offset);
        let payloader = match settings.codec {
            VideoCodec::Vp8 | VideoCodec::Vp9 => payloader.property_from_str("picture-id-mode", "15-bit"),
            VideoCodec::H264 => payloader
                .property_from_str("aggregate-mode", "zero-latency")
                .property("config-interval", -1i32),
        };
        let sink = packet_sink(packets);

        let pipeline = gst::Pipeline::new();
        let mut chain = vec![source.upcast_ref::<gst::Element>().clone(), filter.clone(), encoder.clone()];
        if settings.codec == VideoCodec::H264 {
            // What browsers decode without negotiation of anything higher (RFC 6184 §8.1, RFC 7742 §6.2).
            let caps = gst::Caps::builder("video/x-h264").field("profile", "constrained-baseline").build();
            chain.push(gst::ElementFactory::make("capsfilter").property("caps", caps).build()?);
        }
        chain.extend([payloader.build()?, sink.upcast()]);
        pipeline.add_many(&chain)?;
        gst::Element::link_many(&chain)?;
        watch_errors(&pipeline, move |signal| match signal {
            DecoderSignal::Failed(reason) => failed(reason),
            DecoderSignal::KeyFrameWanted => {}
        });
        let this = Self { pipeline, source, filter, encoder, codec: settings.codec };
        this.set_bitrate(bitrate_kbps);
        this.pipeline.set_state(gst::State::Playing)?;
        Ok(this)
    }

    /// Encodes a picture, later and elsewhere. `at` is its time since the output's time zero. Never blocks.
    pub fn push(&self, picture: &Canvas, at: Duration) {
        let mut buffer = gst::Buffer::from_slice(picture.bytes().to_vec());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::try_from(at).ok());
        }
        let _flow = self.source.push_buffer(buffer);
    }

    /// Makes the next picture a key frame.
    pub fn force_key_frame(&self) {
        self.encoder.send_event(UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
    }

    /// Shows edges, or the picture as composed.
    pub fn set_edges(&self, edges: bool) {
        self.filter.set_property("enabled", edges);
    }

    /// Changes the target while encoding.
    pub fn set_bitrate(&self, kbps: u32) {
        match self.codec {
            VideoCodec::Vp8 | VideoCodec::Vp9 => {
                let bits = i32::try_from(kbps.saturating_mul(1000)).unwrap_or(i32::MAX);
                self.encoder.set_property("target-bitrate", bits);
            }
            VideoCodec::H264 => self.encoder.set_property("bitrate", kbps),
        }
    }
}

impl Drop for VideoEncoder {
    fn drop(&mut self) {
        stop(&self.pipeline);
    }
}

/// A real-time encoder with one thread: two threads on two cores cost three times the CPU.
fn encoder(settings: &EncoderSettings) -> Result<gst::Element, PipelineError> {
    let name = settings.codec.encoder();
    let distance = |unlimited| {
        settings.key_frame_distance.and_then(|distance| i32::try_from(distance).ok()).unwrap_or(unlimited)
    };
    let element = gst::ElementFactory::make(name);
    let element = match settings.codec {
        VideoCodec::Vp8 | VideoCodec::Vp9 => element
            .property("deadline", 1i64)
            .property("cpu-used", if settings.codec == VideoCodec::Vp8 { -6i32 } else { 8 })
            .property("threads", 1i32)
            .property("lag-in-frames", 0i32)
            .property("keyframe-max-dist", distance(i32::MAX))
            .property_from_str("end-usage", "cbr")
            // The decoder's buffer in milliseconds: a key frame may take the time of some frames, not of seconds.
            .property("buffer-size", 1000i32)
            .property("buffer-initial-size", 500i32)
            .property("buffer-optimal-size", 600i32)
            .property("undershoot", 95i32)
            .property("overshoot", 15i32)
            .property("min-quantizer", 2i32)
            .property("max-quantizer", 56i32)
            .property("static-threshold", 1i32)
            .property("max-intra-bitrate", 600i32),
        VideoCodec::H264 => element
            .property_from_str("tune", "zerolatency")
            .property_from_str("speed-preset", "ultrafast")
            .property("threads", 1u32)
            .property("key-int-max", u32::try_from(distance(1 << 20)).unwrap_or_default())
            .property("byte-stream", true),
    };
    Ok(element.build()?)
}

fn packet_sink(packets: PacketSink) -> AppSink {
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
