//! Inputs: tracks of other nodes, decoded (video) or handed to the mixer (audio).

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use futures::future::{self, BoxFuture, FutureExt};
use kaigi_intake::{Arrival, Consumer, Failure, IntakeError, LinkContext, Throttle, Track, Wants};
use kaigi_proto::v1;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    audio::{AudioCodec, AudioFeed},
    video::{DecoderSignal, FrameSlot, VideoCodec, VideoDecoder},
};

/// Without a first frame for this long, a key frame is asked for, again and again.
const NO_FIRST_FRAME: Duration = Duration::from_secs(1);
/// The same for later frames. A still screen that is shared has a frame a second, and a decoder that misses something asks for itself.
const NO_FRAME: Duration = Duration::from_secs(4);
/// A video input; ends when the last holder drops it.
#[derive(Debug)]
pub struct VideoSource {
    slot: Arc<FrameSlot>,
    track: Track,
}

impl VideoSource {
    /// Where its frames are.
    #[must_use]
    pub fn slot(&self) -> &Arc<FrameSlot> {
        &self.slot
    }

    /// Why it fails, if it does.
    #[must_use]
    pub fn failure(&self) -> Failure {
        self.track.failure()
    }

    fn start(context: &LinkContext, track: &v1::TrackSource) -> Self {
        let (slot, urgent) = (Arc::new(FrameSlot::default()), Arc::new(Notify::new()));
        let input = Arc::new(VideoInput {
            slot: Arc::clone(&slot),
            urgent: Arc::clone(&urgent),
            decoder: Mutex::default(),
            state: Arc::default(),
        });
        Self { slot, track: Track::start(context, track, input, urgent) }
    }
}

/// An audio input; ends when dropped.
#[derive(Debug)]
pub struct AudioSource {
    feed: Arc<AudioFeed>,
    track: Track,
}

impl AudioSource {
    /// Begins to attach the track.
    #[must_use]
    pub fn start(context: &LinkContext, track: &v1::TrackSource) -> Self {
        let feed = Arc::new(AudioFeed::default());
        let input = Arc::new(AudioInput(Arc::clone(&feed)));
        Self { feed, track: Track::start(context, track, input, Arc::default()) }
    }

    /// Where its packets are.
    #[must_use]
    pub fn feed(&self) -> &Arc<AudioFeed> {
        &self.feed
    }

    /// Why it fails, if it does.
    #[must_use]
    pub fn failure(&self) -> Failure {
        self.track.failure()
    }
}

/// The video inputs of the node: each is attached and decoded once however many views show it.
#[derive(Debug, Default)]
pub struct VideoSources(Mutex<HashMap<SourceKey, Weak<VideoSource>>>);

/// Track, worker and endpoint.
type SourceKey = (String, String, String);

impl VideoSources {
    /// The input for a track; begins to attach it if nobody has it yet.
    pub fn get(&self, context: &LinkContext, track: &v1::TrackSource) -> Arc<VideoSource> {
        let key = (track.track_id.clone(), track.worker_id.clone(), track.endpoint.clone());
        let mut sources = self.0.lock();
        sources.retain(|_, source| source.strong_count() > 0);
        if let Some(source) = sources.get(&key).and_then(Weak::upgrade) {
            return source;
        }
        let source = Arc::new(VideoSource::start(context, track));
        sources.insert(key, Arc::downgrade(&source));
        source
    }
}

/// Hands packets of sound to a mixer.
struct AudioInput(Arc<AudioFeed>);

impl Consumer for AudioInput {
    fn attached(&self, reply: v1::AttachReply) -> BoxFuture<'_, Result<(), IntakeError>> {
        let name = reply.format.map(|format| format.codec).unwrap_or_default();
        let codec = AudioCodec::from_name(&name).ok_or_else(|| no_decoder(&name));
        future::ready(codec.map(|codec| self.0.attach(codec))).boxed()
    }

    fn take(&self, arrival: Arrival, now: Instant) {
        if let Arrival::Packet(packet) = arrival {
            self.0.push(packet, now);
        }
    }

    fn wants(&self, _: Instant) -> Result<Wants, IntakeError> {
        Ok(Wants::default())
    }
}

/// Decodes pictures into a slot.
struct VideoInput {
    slot: Arc<FrameSlot>,
    urgent: Arc<Notify>,
    /// Once there is one.
    decoder: Mutex<Option<VideoDecoder>>,
    state: Arc<Mutex<Decoding>>,
}

/// How the decoding of an attachment goes.
#[derive(Debug, Default)]
struct Decoding {
    since: Option<Instant>,
    nudges: Option<Throttle>,
    key_frame_wanted: bool,
    failed: Option<String>,
}

impl Consumer for VideoInput {
    fn attached(&self, reply: v1::AttachReply) -> BoxFuture<'_, Result<(), IntakeError>> {
        let start = async move {
            let name = reply.format.map(|format| format.codec).unwrap_or_default();
            let codec = VideoCodec::from_name(&name).ok_or_else(|| no_decoder(&name))?;
            let payload_type = u8::try_from(reply.payload_type)
                .ok()
                .filter(|payload_type| *payload_type < 128)
                .ok_or(IntakeError::Answer("a payload type"))?;
            *self.state.lock() = Decoding {
                since: Some(Instant::now()),
                nudges: Some(Throttle::new(NO_FIRST_FRAME)),
                key_frame_wanted: true,
                failed: None,
            };
            let (slot, state, urgent) =
                (Arc::clone(&self.slot), Arc::clone(&self.state), Arc::clone(&self.urgent));
            let signal = move |signal| {
                match signal {
                    DecoderSignal::KeyFrameWanted => state.lock().key_frame_wanted = true,
                    DecoderSignal::Failed(reason) => state.lock().failed = Some(reason),
                }
                urgent.notify_one();
            };
            let start = move || VideoDecoder::start(codec, payload_type, slot, signal);
            let started = tokio::task::spawn_blocking(start).await.map_err(|_| IntakeError::Panic)?;
            let decoder = started.map_err(|error| IntakeError::Consumer(error.to_string()))?;
            *self.decoder.lock() = Some(decoder);
            Ok(())
        };
        start.boxed()
    }

    fn take(&self, arrival: Arrival, _: Instant) {
        if let (Arrival::Packet(packet), Some(decoder)) = (arrival, &*self.decoder.lock()) {
            decoder.push(packet);
        }
    }

    fn wants(&self, now: Instant) -> Result<Wants, IntakeError> {
        let mut state = self.state.lock();
        if let Some(reason) = state.failed.take() {
            return Err(IntakeError::Consumer(format!("not decodable: {reason}")));
        }
        let mut key_frame = std::mem::take(&mut state.key_frame_wanted);
        let lacking = state.since.is_some_and(|since| lacks_frames(self.slot.last_at(), since, now));
        if let Some(nudges) = &mut state.nudges {
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

fn no_decoder(codec: &str) -> IntakeError {
    IntakeError::Consumer(format!("codec {codec} can't be mixed"))
}

/// Whether a stream attached at `since`, whose last frame was decoded at `last`, has been without one for too long.
fn lacks_frames(last: Option<Instant>, since: Instant, now: Instant) -> bool {
    match last.filter(|last| *last > since) {
        Some(last) => now.saturating_duration_since(last) > NO_FRAME,
        None => now.saturating_duration_since(since) > NO_FIRST_FRAME,
    }
}
