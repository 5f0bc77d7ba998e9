//! One attachment of a picture: packets in, decoded pictures out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::{BoxFuture, FutureExt};
use kaigi_intake::{Arrival, Consumer, IntakeError, Lateness, Throttle, Wants};
use kaigi_media::rtp::RtpHeader;
use kaigi_proto::v1;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{captured::CaptureTime, no_decoder};
use crate::video::{DecoderSignal, Fresh, VideoCodec, VideoDecoder};

/// Without a first picture for this long, a key frame is asked for, again and again.
const NO_FIRST_PICTURE: Duration = Duration::from_secs(1);
/// The same for later ones. A still screen that is shared has a picture a second, and a decoder that misses something asks for itself.
const NO_PICTURE: Duration = Duration::from_secs(4);
/// Of RTP timestamps of pictures, in Hz.
const CLOCK_RATE: u32 = 90_000;
/// Longest wait for a decoder to start, which takes some milliseconds.
const START: Duration = Duration::from_secs(2);

/// Takes decoded pictures; called from a decoder's thread, must not block.
pub(super) type PictureSink = Arc<dyn Fn(Fresh<'_>, Instant) + Send + Sync>;

/// Decodes one track.
pub(super) struct Decoding {
    pictures: PictureSink,
    urgent: Arc<Notify>,
    /// Once there is one.
    decoder: Mutex<Option<VideoDecoder>>,
    progress: Arc<Mutex<Progress>>,
    lateness: Mutex<Lateness>,
    captured: Arc<CaptureTime>,
}

/// How the decoding of an attachment goes.
#[derive(Debug, Default)]
struct Progress {
    since: Option<Instant>,
    last: Option<Instant>,
    nudges: Option<Throttle>,
    key_frame_wanted: bool,
    failed: Option<String>,
}

impl Decoding {
    /// `urgent` is raised when something is to be asked of the producer; `captured` is told when that was captured which comes.
    pub(super) fn new(pictures: PictureSink, urgent: Arc<Notify>, captured: Arc<CaptureTime>) -> Self {
        let lateness = Mutex::new(Lateness::new(CLOCK_RATE));
        Self { pictures, urgent, decoder: Mutex::default(), progress: Arc::default(), lateness, captured }
    }
}

impl Consumer for Decoding {
    fn attached(&self, reply: v1::AttachReply) -> BoxFuture<'_, Result<(), IntakeError>> {
        let start = async move {
            let name = reply.format.map(|format| format.codec).unwrap_or_default();
            let codec = VideoCodec::from_name(&name).ok_or_else(|| no_decoder(&name))?;
            let payload_type = u8::try_from(reply.payload_type)
                .ok()
                .filter(|payload_type| *payload_type < 128)
                .ok_or(IntakeError::Answer("a payload type"))?;
            *self.progress.lock() = Progress {
                since: Some(Instant::now()),
                nudges: Some(Throttle::new(NO_FIRST_PICTURE)),
                key_frame_wanted: true,
                ..Progress::default()
            };
            let (progress, urgent) = (Arc::clone(&self.progress), Arc::clone(&self.urgent));
            let signal = move |signal| {
                match signal {
                    DecoderSignal::KeyFrameWanted => progress.lock().key_frame_wanted = true,
                    DecoderSignal::Failed(reason) => progress.lock().failed = Some(reason),
                }
                urgent.notify_one();
            };
            let (progress, pictures) = (Arc::clone(&self.progress), Arc::clone(&self.pictures));
            let taken = move |frame: Fresh<'_>| {
                let now = Instant::now();
                progress.lock().last = Some(now);
                pictures(frame, now);
            };
            let start = move || VideoDecoder::start(codec, payload_type, taken, signal);
            let starting = tokio::time::timeout(START, tokio::task::spawn_blocking(start)).await;
            let started = starting.map_err(|_| IntakeError::Consumer("the decoder does not start".into()))?;
            let started = started.map_err(|_| IntakeError::Panic)?;
            let decoder = started.map_err(|error| IntakeError::Consumer(error.to_string()))?;
            *self.decoder.lock() = Some(decoder);
            Ok(())
        };
        start.boxed()
    }

    fn take(&self, arrival: Arrival, now: Instant) {
        let packet = match arrival {
            Arrival::Packet(packet) => packet,
            Arrival::SenderReport { ntp, rtp } => return self.lateness.lock().report(ntp, rtp),
        };
        if let Ok(header) = RtpHeader::parse(&packet)
            && let Some(captured) = self.lateness.lock().packet(header.timestamp, now)
        {
            self.captured.set(now, captured);
        }
        if let Some(decoder) = &*self.decoder.lock() {
            decoder.push(packet, now);
        }
    }

    fn wants(&self, now: Instant) -> Result<Wants, IntakeError> {
        let ailment = self.decoder.lock().as_ref().and_then(|decoder| decoder.tick(now));
        if let Some(ailment) = ailment {
            metrics::counter!("kaigi_mixer_rebuilt_total", "what" => "decoder").increment(1);
            return Err(IntakeError::Consumer(format!("not decodable: {ailment}")));
        }
        let mut progress = self.progress.lock();
        if let Some(reason) = progress.failed.take() {
            metrics::counter!("kaigi_mixer_rebuilt_total", "what" => "decoder").increment(1);
            return Err(IntakeError::Consumer(format!("not decodable: {reason}")));
        }
        let mut key_frame = std::mem::take(&mut progress.key_frame_wanted);
        let lacking = progress.since.is_some_and(|since| lacks_pictures(progress.last, since, now));
        if let Some(nudges) = &mut progress.nudges {
            if lacking {
                nudges.request();
            }
            key_frame |= nudges.poll(now);
        }
        Ok(Wants { key_frame, packets: Vec::new() })
    }

    fn detached(&self) {
        self.decoder.lock().take();
    }
}

/// Whether a stream attached at `since`, whose last picture was decoded at `last`, has been without one for too long.
fn lacks_pictures(last: Option<Instant>, since: Instant, now: Instant) -> bool {
    match last {
        Some(last) => now.saturating_duration_since(last) > NO_PICTURE,
        None => now.saturating_duration_since(since) > NO_FIRST_PICTURE,
    }
}
