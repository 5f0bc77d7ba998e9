//! An encoder without a pipeline: a thread that is woken once for each picture.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use gstreamer as gst;
use gstreamer_video::VideoInfo;
use parking_lot::{Condvar, Mutex};

use super::{
    super::{
        Decoded, Frame, Picture, PipelineError, VideoEncoding,
        libvpx::{Encoded, Encoder, EncoderConfig, Failed},
        sheet::i420,
        vitals::{Ending, Lease, Vitals},
    },
    Continuity, EncoderSettings, PacketSink, VideoEncoder,
    packetizer::{CLOCK_RATE, Packetizer, ticks},
};

/// Pictures that wait for the encoder. When it can't keep up, the older one is dropped.
const MAX_WAITING: usize = 2;
/// Pictures a second, where nobody says how many.
const USUAL_RATE: u32 = 30;

/// What encodes pictures.
pub(super) trait Codec: Send + 'static {
    /// See [`Encoder::set_bitrate`].
    fn set_bitrate(&mut self, kbps: u32) -> Result<(), Failed>;
    /// See [`Encoder::encode`].
    fn encode(
        &mut self,
        picture: &Picture<'_>,
        time: i64,
        duration: u32,
        key_frame: bool,
    ) -> Result<Option<Encoded<'_>>, Failed>;
}

/// libvpx, told from time to time to leave nothing as it is.
pub(super) struct Libvpx {
    encoder: Encoder,
    number: u32,
}

/// None if libvpx does not encode that here.
pub(super) fn codec(settings: &EncoderSettings, kbps: u32) -> Option<Libvpx> {
    match settings.encoding {
        VideoEncoding::Vp8 => {}
        VideoEncoding::Vp9 | VideoEncoding::H264(_) => return None,
    }
    let EncoderSettings { size, content, .. } = *settings;
    let max_intra_bitrate = VideoEncoder::MAX_INTRA_BITRATE;
    let config = EncoderConfig { size, speed: VideoEncoder::VP8_SPEED, content, max_intra_bitrate };
    let mut encoder = Encoder::new(&config, kbps)?;
    encoder.set_static_threshold(1).ok()?;
    Some(Libvpx { encoder, number: 0 })
}

impl Codec for Libvpx {
    fn set_bitrate(&mut self, kbps: u32) -> Result<(), Failed> {
        self.encoder.set_bitrate(kbps)
    }

    fn encode(
        &mut self,
        picture: &Picture<'_>,
        time: i64,
        duration: u32,
        key_frame: bool,
    ) -> Result<Option<Encoded<'_>>, Failed> {
        match self.number % VideoEncoder::THOROUGH {
            0 => self.encoder.set_static_threshold(1)?,
            1 => self.encoder.set_static_threshold(VideoEncoder::STATIC)?,
            _ => {}
        }
        self.number = self.number.wrapping_add(1);
        self.encoder.encode(picture, time, duration, key_frame)
    }
}

/// Encodes until dropped, which does not wait for the thread.
#[derive(Debug)]
pub(super) struct Direct(Arc<Inbox>);

/// Pictures on their way to the thread.
#[derive(Debug, Default)]
struct Inbox {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    pictures: VecDeque<(gst::Buffer, Duration)>,
    /// The next picture is to be a key frame.
    key_frame: bool,
    /// kbit/s from now on.
    kbps: Option<u32>,
    /// Set once nothing is to be encoded any more.
    ended: Option<Ending>,
}

/// What the thread does next.
struct Task {
    picture: gst::Buffer,
    at: Duration,
    key_frame: bool,
    kbps: Option<u32>,
}

impl Direct {
    pub(super) fn start(
        codec: impl Codec,
        settings: &EncoderSettings,
        from: Continuity,
        packets: PacketSink,
        failed: impl Fn(String) + Send + Sync + 'static,
        vitals: Vitals,
        lease: Lease,
    ) -> Result<Self, PipelineError> {
        let payload_type = settings.encoding.codec().payload_type();
        let inbox = Arc::<Inbox>::default();
        let work = Worker {
            inbox: Arc::clone(&inbox),
            layout: i420(settings.size, None)?,
            packetizer: Packetizer::new(payload_type, from, rand::random()),
            duration: CLOCK_RATE / settings.framerate.unwrap_or(USUAL_RATE).max(1),
            packets,
            vitals,
            lease,
            codec,
        };
        let run = move || {
            let result = catch_unwind(AssertUnwindSafe(|| work.run()));
            match result {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed(error.to_string()),
                Err(_) => failed("it panicked".into()),
            }
        };
        let thread: io::Result<_> = std::thread::Builder::new().name("encoder".into()).spawn(run);
        thread?;
        Ok(Self(inbox))
    }

    pub(super) fn push(&self, picture: &gst::BufferRef, at: Duration) {
        // The memory is shared.
        let picture = picture.copy();
        let mut waiting = self.0.waiting.lock();
        if waiting.pictures.len() >= MAX_WAITING {
            waiting.pictures.pop_front();
        }
        waiting.pictures.push_back((picture, at));
        self.0.changed.notify_one();
    }

    /// Whether a picture waits to be encoded.
    pub(super) fn is_waiting(&self) -> bool {
        !self.0.waiting.lock().pictures.is_empty()
    }

    pub(super) fn force_key_frame(&self) {
        self.0.waiting.lock().key_frame = true;
    }

    pub(super) fn set_bitrate(&self, kbps: u32) {
        self.0.waiting.lock().kbps = Some(kbps);
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        *self.0.waiting.lock() = Waiting { ended: Some(Ending::begin()), ..Waiting::default() };
        self.0.changed.notify_all();
    }
}

impl Inbox {
    /// Waits for the next picture; none: it has ended.
    fn next(&self) -> Option<Task> {
        let mut waiting = self.waiting.lock();
        self.changed
            .wait_while(&mut waiting, |waiting| waiting.pictures.is_empty() && waiting.ended.is_none());
        if waiting.ended.is_some() {
            return None;
        }
        let (picture, at) = waiting.pictures.pop_front()?;
        let key_frame = std::mem::take(&mut waiting.key_frame);
        Some(Task { picture, at, key_frame, kbps: waiting.kbps.take() })
    }
}

struct Worker<C> {
    inbox: Arc<Inbox>,
    layout: VideoInfo,
    packetizer: Packetizer,
    /// From one picture to the next, by RTP's clock.
    duration: u32,
    packets: PacketSink,
    vitals: Vitals,
    lease: Lease,
    codec: C,
}

impl<C: Codec> Worker<C> {
    fn run(self) -> Result<(), Failed> {
        let Self { inbox, layout, mut packetizer, duration, packets, vitals, lease, mut codec } = self;
        let mut last = -1;
        while let Some(Task { picture, at, key_frame, kbps }) = inbox.next() {
            if let Some(kbps) = kbps {
                codec.set_bitrate(kbps)?;
            }
            let Some(shown) = Decoded::laid_out(picture, &layout) else { continue };
            let Some(picture) = shown.picture() else { continue };
            // The encoder takes none that is not after the last.
            let time = i64::try_from(ticks(at)).unwrap_or(i64::MAX).max(last + 1);
            last = time;
            vitals.given();
            let Some(encoded) = codec.encode(&picture, time, duration, key_frame)? else { continue };
            vitals.made();
            lease.use_it(|| {
                if encoded.is_key_frame {
                    (packets.key_frame)();
                }
                packetizer.cut(encoded.data, at, |packet| (packets.packet)(packet));
            });
        }
        Ok(())
    }
}
