//! One output's pictures: raw pictures in, RTP packets out.
//!
//! `appsrc ! encoder ! payloader ! appsink`, all in one thread.

use std::{
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use gstreamer as gst;
use gstreamer::prelude::*;
use gstreamer_app::{AppLeakyType, AppSink, AppSinkCallbacks, AppSrc};
use gstreamer_video::UpstreamForceKeyUnitEvent;

use super::{
    DecoderSignal, H264Profile, PipelineError, Size, VideoCodec, VideoEncoding,
    decode::watch_errors,
    sheet::i420,
    vitals::{self, Lease, Vitals},
};
use crate::watchdog::{Ailment, CodecWatch};

/// Bytes of an RTP packet on the link, before protection. Leaves room for SRTP, UDP and a tunnel in 1,500.
const MTU: u32 = 1200;
/// Pictures that wait for the encoder. When it can't keep up, the older one is dropped.
const MAX_WAITING: u64 = 2;

static ENCODERS: AtomicUsize = AtomicUsize::new(0);

type TakePacket = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Where an output goes; called from the encoder's thread, must not block.
pub struct PacketSink {
    /// Takes an RTP packet.
    pub packet: TakePacket,
    /// A key frame was made, whose packets follow.
    pub key_frame: Box<dyn Fn() + Send + Sync>,
}

/// What is fixed for an encoder's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderSettings {
    /// The codec.
    pub encoding: VideoEncoding,
    /// Of the pictures; even.
    pub size: Size,
    /// Pictures a second; none = whatever comes.
    pub framerate: Option<u32>,
}

/// Where an output's packets stand, so that a new encoder goes on where the old one stopped.
#[derive(Clone, Copy, Debug)]
pub struct Continuity {
    /// Of the next packet.
    pub sequence: u16,
    /// RTP timestamp that stands for presentation time zero.
    pub timestamp_offset: u32,
}

/// Encodes until dropped. Dropping does not wait for the pipeline's thread, but no packet comes any more.
#[derive(Debug)]
pub struct VideoEncoder {
    pipeline: gst::Pipeline,
    source: AppSrc,
    encoder: gst::Element,
    codec: VideoCodec,
    vitals: Vitals,
    watch: CodecWatch,
    lease: Lease,
}

impl VideoEncoder {
    /// libvpx's `cpu-used`: of −6 the picture is 0.1 dB better and costs a sixth more, of −14 it is half a decibel worse (`cargo bench
    /// --bench quality`).
    pub const VP8_SPEED: i32 = -12;

    /// libvpx's `static-threshold`: blocks of 16×16 pixels whose squared differences from what is shown already sum up to less are left as they
    /// are. 800 is 1.8 of 255 for each pixel. It saves a quarter; of nine people who talk 0.1 dB is lost, of sixteen 0.5 dB (`docs/PERFORMANCE.md`).
    pub const STATIC: i32 = 800;
    /// Of so many pictures one is encoded without: what a pointer has left of itself in a still screen is seen for two seconds at most.
    const THOROUGH: u32 = 60;

    /// The encoder alone, as outputs have it.
    ///
    /// # Errors
    /// If it is missing.
    pub fn element(settings: &EncoderSettings) -> Result<gst::Element, PipelineError> {
        encoder(settings)
    }

    /// Builds and starts the pipeline: takes some milliseconds. `failed` is called from its thread when it breaks.
    ///
    /// # Errors
    /// If an element is missing or the pipeline does not start.
    pub fn start(
        settings: &EncoderSettings,
        bitrate_kbps: u32,
        from: Continuity,
        packets: PacketSink,
        failed: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<Self, PipelineError> {
        vitals::check_room()?;
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
        let lease = Lease::default();
        let wanted = lease.clone();
        let sink = packet_sink(move |bytes| wanted.use_it(|| packet(bytes)));
        tell_key_frames(&encoder, key_frame);
        if codec == VideoCodec::Vp8 {
            be_thorough(&encoder);
        }
        let vitals = Vitals::default();
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
        let this = Self { pipeline, source, encoder, codec, vitals, watch: CodecWatch::default(), lease };
        this.set_bitrate(bitrate_kbps);
        count(ENCODERS.fetch_add(1, Ordering::Relaxed) + 1);
        this.pipeline.set_state(gst::State::Playing)?;
        Ok(this)
    }

    /// Encodes a picture, later and elsewhere. `at` is its time since the output's time zero. Never blocks.
    pub fn push(&self, picture: &gst::BufferRef, at: Duration) {
        // The memory is shared, only the time is this output's own.
        let mut buffer = picture.copy();
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(gst::ClockTime::try_from(at).ok());
        }
        // An error means that the pipeline is stopping, which its failure tells.
        let _flow = self.source.push_buffer(buffer);
    }

    /// What is wrong with the encoder, if it does not encode; asked some times a second. One that ails is neither to be given pictures nor
    /// told anything any more: its locks may be held for ever.
    pub fn ails(&mut self, now: Instant) -> Option<Ailment> {
        self.watch.look(self.vitals.count(self.source.current_level_bytes() > 0), now)
    }

    /// Makes the next picture a key frame.
    pub fn force_key_frame(&self) {
        self.encoder.send_event(UpstreamForceKeyUnitEvent::builder().all_headers(true).build());
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
        self.lease.end();
        vitals::end(&self.pipeline);
        count(ENCODERS.fetch_sub(1, Ordering::Relaxed) - 1);
    }
}

/// Encoders that run in this process.
#[must_use]
pub fn encoders() -> usize {
    ENCODERS.load(Ordering::Relaxed)
}

fn count(encoders: usize) {
    metrics::gauge!("kaigi_mixer_encoders").set(encoders as f64);
}

/// A real-time encoder with one thread: two threads on two cores cost three times the CPU.
fn encoder(settings: &EncoderSettings) -> Result<gst::Element, PipelineError> {
    let element = gst::ElementFactory::make(settings.encoding.codec().encoder());
    let element = match settings.encoding {
        VideoEncoding::Vp8 | VideoEncoding::Vp9 => element
            .property("deadline", 1i64)
            .property(
                "cpu-used",
                if settings.encoding == VideoEncoding::Vp8 { VideoEncoder::VP8_SPEED } else { 8 },
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
            .property("max-intra-bitrate", 600i32),
        VideoEncoding::H264(profile) => element
            .property("cabac", matches!(profile, H264Profile::Main | H264Profile::High))
            .property("dct8x8", profile == H264Profile::High)
            .property_from_str("tune", "zerolatency")
            .property_from_str("speed-preset", "ultrafast")
            .property("threads", 1u32)
            .property("key-int-max", 1u32 << 20)
            .property("byte-stream", true),
    };
    Ok(element.build()?)
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

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, time::Instant};

    use kaigi_media::rtp::RtpHeader;

    use super::{
        super::{Canvas, Colour, Frame, Fresh, Rect, Sheets, VideoDecoder},
        *,
    };

    const SIZE: Size = Size { width: 64, height: 64 };

    /// The luma in the middle of each of so many pictures, in which a dot that is a little brighter appears.
    fn seen(pictures: u64, dot_from: u64) -> Vec<u8> {
        crate::init_gstreamer().unwrap();
        let ((send, sent), (show, shown)) = (channel(), channel());
        let packets = PacketSink {
            packet: Box::new(move |packet: &[u8]| drop(send.send(packet.to_vec()))),
            key_frame: Box::new(|| {}),
        };
        let settings = EncoderSettings { encoding: VideoEncoding::Vp8, size: SIZE, framerate: Some(30) };
        let from = Continuity { sequence: 0, timestamp_offset: 0 };
        let encoder =
            VideoEncoder::start(&settings, 500, from, packets, |reason| panic!("{reason}")).unwrap();
        let look = move |fresh: Fresh<'_>| {
            let _sent = show.send(fresh.picture().unwrap().planes[0].row(33, 33, 1)[0]);
        };
        let decoder = VideoDecoder::start(VideoCodec::Vp8, 96, look, |_| {}).unwrap();
        let (mut sheets, patience) = (Sheets::new(Colour([16, 128, 128])), Duration::from_secs(60));
        let picture = |number| {
            let mut canvas = Canvas::new(SIZE, Colour([100, 128, 128]));
            if number >= dot_from {
                let dot = Rect { x: 32, y: 32, size: Size { width: 2, height: 2 } };
                canvas.fill(dot, Colour([112, 128, 128]));
            }
            let sheet = sheets.get(&canvas.picture().unwrap(), number, SIZE).unwrap();
            encoder.push(&sheet, Duration::from_millis(33) * number as u32);
            loop {
                let packet: Vec<u8> = sent.recv_timeout(patience).unwrap();
                let is_last = RtpHeader::parse(&packet).unwrap().marker;
                decoder.push(packet, Instant::now());
                if is_last {
                    return shown.recv_timeout(patience).unwrap();
                }
            }
        };
        (0..pictures).map(picture).collect()
    }

    #[test]
    fn what_hardly_changes_is_left_as_it_is_but_not_for_long() {
        let (dot_from, thorough) = (70, u64::from(VideoEncoder::THOROUGH));
        let seen = seen(3 * thorough, dot_from);
        let (at_first, later) = (seen[dot_from as usize + 20], seen[(2 * thorough) as usize + 20]);
        assert!(at_first.abs_diff(seen[dot_from as usize - 1]) <= 1, "it is not left: {seen:?}");
        assert!(later >= at_first + 3, "{seen:?}");
    }
}
