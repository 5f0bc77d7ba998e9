//! Sound of other nodes, handed to the mixer.

use std::{sync::Arc, time::Instant};

use futures::future::{self, BoxFuture, FutureExt};
use kaigi_intake::{Arrival, Consumer, Failure, IntakeError, LinkContext, Track, Wants};
use kaigi_proto::v1;

use super::no_decoder;
use crate::audio::{AudioCodec, AudioFeed};

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

/// Hands packets of sound to a mixer.
struct AudioInput(Arc<AudioFeed>);

impl Consumer for AudioInput {
    fn attached(&self, reply: v1::AttachReply) -> BoxFuture<'_, Result<(), IntakeError>> {
        let name = reply.format.map(|format| format.codec).unwrap_or_default();
        let codec = AudioCodec::from_name(&name).ok_or_else(|| no_decoder(&name));
        let level_id = u8::try_from(reply.audio_level_id).ok().filter(|id| *id > 0);
        future::ready(codec.map(|codec| self.0.attach(codec, level_id))).boxed()
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
