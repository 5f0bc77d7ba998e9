//! What a publisher publishes: a recording, and when each piece of it was sent last.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::recording::{Place, Recording};

/// One published picture or sound, known to its publisher and to those who receive it.
#[derive(Debug)]
pub struct Track {
    recording: Arc<Recording>,
    epoch: Instant,
    /// In nanoseconds after `epoch`, of each chunk of the recording; 0: never.
    sent: Vec<AtomicU64>,
}

impl Track {
    /// Nothing of it was sent yet.
    #[must_use]
    pub fn new(recording: Arc<Recording>, epoch: Instant) -> Self {
        let sent = (0..recording.chunks()).map(|_| AtomicU64::new(0)).collect();
        Self { recording, epoch, sent }
    }

    /// Of what it is.
    #[must_use]
    pub fn recording(&self) -> &Recording {
        &self.recording
    }

    /// How long after the beginning of all something is.
    pub(crate) fn since_epoch(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }

    /// A chunk is sent.
    pub(crate) fn sent(&self, now: Instant, place: Place) {
        let nanos = self.since_epoch(now).as_nanos().max(1);
        let at = &self.sent[self.recording.number(place)];
        at.store(u64::try_from(nanos).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long a chunk that arrives was on its way; `None` if it was never sent.
    pub(crate) fn age(&self, arrival: Instant, place: Place) -> Option<Duration> {
        let nanos = self.sent[self.recording.number(place)].load(Ordering::Relaxed);
        (nanos > 0).then(|| arrival.saturating_duration_since(self.epoch + Duration::from_nanos(nanos)))
    }
}
