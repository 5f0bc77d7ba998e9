//! Sound of other nodes, handed to the mixer.

use std::{sync::Arc, time::Instant};

use futures::future::{self, BoxFuture, FutureExt};
use kaigi_intake::{Arrival, Consumer, Failure, IntakeError, Lateness, LinkContext, Track, Wants};
use kaigi_media::rtp::RtpHeader;
use kaigi_proto::v1;
use parking_lot::Mutex;

use super::{captured::CaptureTime, no_decoder};
use crate::audio::{AudioCodec, AudioFeed};

/// An audio input; ends when dropped.
#[derive(Debug)]
pub struct AudioSource {
    feed: Arc<AudioFeed>,
    captured: Arc<CaptureTime>,
    track: Track,
}

impl AudioSource {
    /// Begins to attach the track.
    #[must_use]
    pub fn start(context: &LinkContext, track: &v1::TrackSource) -> Self {
        let feed = Arc::new(AudioFeed::default());
        let captured = Arc::new(CaptureTime::default());
        let input = Arc::new(AudioInput {
            feed: Arc::clone(&feed),
            captured: Arc::clone(&captured),
            lateness: Mutex::default(),
        });
        Self { feed, captured, track: Track::start(context, track, input, Arc::default()) }
    }

    /// Where its packets are.
    #[must_use]
    pub fn feed(&self) -> &Arc<AudioFeed> {
        &self.feed
    }

    /// When that was captured which comes of it.
    #[must_use]
    pub fn captured(&self) -> &Arc<CaptureTime> {
        &self.captured
    }

    /// Why it fails, if it does.
    #[must_use]
    pub fn failure(&self) -> Failure {
        self.track.failure()
    }
}

/// Hands packets of sound to a mixer.
struct AudioInput {
    feed: Arc<AudioFeed>,
    captured: Arc<CaptureTime>,
    /// Once it is attached.
    lateness: Mutex<Option<Lateness>>,
}

impl Consumer for AudioInput {
    fn attached(&self, reply: v1::AttachReply) -> BoxFuture<'_, Result<(), IntakeError>> {
        let name = reply.format.map(|format| format.codec).unwrap_or_default();
        let codec = AudioCodec::from_name(&name).ok_or_else(|| no_decoder(&name));
        let level_id = u8::try_from(reply.audio_level_id).ok().filter(|id| *id > 0);
        let attached = codec.map(|codec| {
            *self.lateness.lock() = Some(Lateness::new(codec.clock_rate()));
            self.feed.attach(codec, level_id);
        });
        future::ready(attached).boxed()
    }

    fn take(&self, arrival: Arrival, now: Instant) {
        let mut lateness = self.lateness.lock();
        match arrival {
            Arrival::SenderReport { ntp, rtp } => {
                lateness.iter_mut().for_each(|lateness| lateness.report(ntp, rtp));
            }
            Arrival::Packet(packet) => {
                if let (Some(lateness), Ok(header)) = (&mut *lateness, RtpHeader::parse(&packet))
                    && let Some(captured) = lateness.packet(header.timestamp, now)
                {
                    self.captured.set(now, captured);
                }
                drop(lateness);
                self.feed.push(packet, now);
            }
        }
    }

    fn wants(&self, _: Instant) -> Result<Wants, IntakeError> {
        Ok(Wants::default())
    }
}
