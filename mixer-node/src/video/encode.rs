//! One output's pictures: raw pictures in, RTP packets out.
//!
//! VP8 is encoded by libvpx itself where that can be loaded (`direct`), whose mode for screens GStreamer's element does not have. Everything else is
//! encoded by a pipeline (`pipeline`).

mod direct;
mod packetizer;
mod pipeline;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use gstreamer as gst;

use self::{direct::Direct, pipeline::Pipeline};
use super::{
    PipelineError, Size, VideoEncoding,
    vitals::{self, Lease, Vitals},
};
use crate::watchdog::{Ailment, CodecWatch};

static ENCODERS: AtomicUsize = AtomicUsize::new(0);

type TakePacket = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Where an output goes; called from the encoder's thread, must not block.
pub struct PacketSink {
    /// Takes an RTP packet.
    pub packet: TakePacket,
    /// A key frame was made, whose packets follow.
    pub key_frame: Box<dyn Fn() + Send + Sync>,
}

/// What pictures show, for which an encoder is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Content {
    /// What a camera sees, or a mix of several inputs.
    #[default]
    Camera,
    /// A screen or window that is shared: sharp edges, few colours, nothing that moves for most of the time.
    Screen,
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
    /// What they show.
    pub content: Content,
}

/// Where an output's packets stand, so that a new encoder goes on where the old one stopped.
#[derive(Clone, Copy, Debug)]
pub struct Continuity {
    /// Of the next packet.
    pub sequence: u16,
    /// RTP timestamp that stands for presentation time zero.
    pub timestamp_offset: u32,
}

/// Encodes until dropped. Dropping does not wait for the encoder's thread, but no packet comes any more.
#[derive(Debug)]
pub struct VideoEncoder {
    engine: Engine,
    vitals: Vitals,
    watch: CodecWatch,
    lease: Lease,
}

#[derive(Debug)]
enum Engine {
    Direct(Direct),
    Pipeline(Pipeline),
}

impl VideoEncoder {
    /// libvpx's `cpu-used` of VP8: of −6 the picture is 0.1 dB better and costs a sixth more, of −14 it is half a decibel worse (`cargo bench
    /// --bench quality`).
    pub const VP8_SPEED: i32 = -12;
    /// The same of VP9.
    pub const VP9_SPEED: i32 = 8;

    /// libvpx's `static-threshold`: blocks of 16×16 pixels whose squared differences from what is shown already sum up to less are left as they
    /// are. 800 is 1.8 of 255 for each pixel. It saves a quarter; of nine people who talk 0.1 dB is lost, of sixteen 0.5 dB (`docs/PERFORMANCE.md`).
    pub const STATIC: i32 = 800;
    /// Of so many pictures one is encoded without: what a pointer has left of itself in a still screen is seen for two seconds at most.
    const THOROUGH: u32 = 60;
    /// The bits that a key frame may have, in hundredths of a frame's.
    const MAX_INTRA_BITRATE: u32 = 600;

    /// GStreamer's encoder alone, as outputs have it where libvpx is not called itself.
    ///
    /// # Errors
    /// If it is missing.
    pub fn element(settings: &EncoderSettings) -> Result<gst::Element, PipelineError> {
        pipeline::encoder(settings)
    }

    /// Starts the encoder: takes some milliseconds. `failed` is called from its thread when it breaks.
    ///
    /// # Errors
    /// If an element is missing, the pipeline does not start, or the system gives no thread.
    pub fn start(
        settings: &EncoderSettings,
        bitrate_kbps: u32,
        from: Continuity,
        packets: PacketSink,
        failed: impl Fn(String) + Send + Sync + 'static,
    ) -> Result<Self, PipelineError> {
        vitals::check_room()?;
        let (vitals, lease) = (Vitals::default(), Lease::default());
        let engine = match direct::codec(settings, bitrate_kbps) {
            Some(codec) => {
                let (vitals, lease) = (vitals.clone(), lease.clone());
                Engine::Direct(Direct::start(codec, settings, from, packets, failed, vitals, lease)?)
            }
            None => Engine::Pipeline(Pipeline::start(
                settings,
                bitrate_kbps,
                from,
                packets,
                failed,
                &vitals,
                &lease,
            )?),
        };
        count(ENCODERS.fetch_add(1, Ordering::Relaxed) + 1);
        Ok(Self { engine, vitals, watch: CodecWatch::default(), lease })
    }

    /// Encodes a picture, later and elsewhere. `at` is its time since the output's time zero. Never blocks.
    pub fn push(&self, picture: &gst::BufferRef, at: Duration) {
        match &self.engine {
            Engine::Direct(direct) => direct.push(picture, at),
            Engine::Pipeline(pipeline) => pipeline.push(picture, at),
        }
    }

    /// What is wrong with the encoder, if it does not encode; asked some times a second. One that ails is neither to be given pictures nor
    /// told anything any more: its locks may be held for ever.
    pub fn ails(&mut self, now: Instant) -> Option<Ailment> {
        let waiting = match &self.engine {
            Engine::Direct(direct) => direct.is_waiting(),
            Engine::Pipeline(pipeline) => pipeline.is_waiting(),
        };
        self.watch.look(self.vitals.count(waiting), now)
    }

    /// Makes the next picture a key frame.
    pub fn force_key_frame(&self) {
        match &self.engine {
            Engine::Direct(direct) => direct.force_key_frame(),
            Engine::Pipeline(pipeline) => pipeline.force_key_frame(),
        }
    }

    /// Changes the target while encoding.
    pub fn set_bitrate(&self, kbps: u32) {
        match &self.engine {
            Engine::Direct(direct) => direct.set_bitrate(kbps),
            Engine::Pipeline(pipeline) => pipeline.set_bitrate(kbps),
        }
    }
}

impl Drop for VideoEncoder {
    fn drop(&mut self) {
        self.lease.end();
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

#[cfg(test)]
mod tests;
