//! What an input sends, over all pipelines that it takes to keep it going.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{IdError, TrackId},
    v1,
};
use kaigi_supply::{MediaClock, Outputs, TrackDescription};
use parking_lot::Mutex;

use super::{
    codec::{Choice, IngestCodec},
    feed::Feed,
    pace::{Pace, Pacer},
};
use crate::lanes::Kind;

/// Where a node's tracks are found.
#[derive(Clone, Debug)]
pub struct Place {
    /// Lets others attach them.
    pub outputs: Arc<Outputs>,
    /// Id of this node.
    pub worker_id: String,
    /// Its gRPC endpoint.
    pub endpoint: String,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Desk {
    place: Place,
    /// What names of tracks begin with.
    name: String,
    origin: Instant,
    paused: [Arc<AtomicBool>; 2],
    pacer: Mutex<Pacer>,
    kinds: [Mutex<Option<Sent>>; 2],
    /// When the last packet came.
    last: Mutex<Instant>,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Sent {
    feed: Feed,
    profile: String,
    size: Option<(u32, u32)>,
}

impl Desk {
    pub(super) fn new(place: Place, name: String, pace: Pace, paused: [Arc<AtomicBool>; 2]) -> Self {
        Self {
            place,
            name,
            origin: Instant::now(),
            paused,
            pacer: Mutex::new(Pacer::new(pace)),
            kinds: Default::default(),
            last: Mutex::new(Instant::now()),
            closed: AtomicBool::new(false),
        }
    }

    /// Another pipeline begins.
    pub(super) fn restart(&self) {
        self.pacer.lock().restart();
        *self.last.lock() = Instant::now();
    }

    /// How long nothing has come.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.last.lock())
    }

    /// What there is of that kind, if it is there.
    pub(super) fn codec(&self, kind: Kind) -> Option<IngestCodec> {
        self.kinds[kind as usize].lock().as_ref().map(|sent| sent.feed.codec())
    }

    /// Makes the track of a kind, unless it is there.
    ///
    /// # Errors
    /// If the name makes no id.
    pub(super) fn open(&self, choice: &Choice) -> Result<(), IdError> {
        let (codec, kind) = (choice.codec, choice.codec.kind());
        let mut place = self.kinds[kind as usize].lock();
        if let Some(sent) = &mut *place {
            choice.profile.clone_into(&mut sent.profile);
            return Ok(());
        }
        if self.closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (what, wire) = match kind {
            Kind::Audio => ("audio", v1::MediaKind::Audio),
            Kind::Video => ("video", v1::MediaKind::Video),
        };
        let track = self.place.outputs.add(TrackDescription {
            id: TrackId::new(format!("{}-{what}", self.name))?,
            kind: wire,
            format: codec.format(choice.profile),
            payload_type: codec.payload_type(),
            clock: MediaClock::new(self.origin, codec.clock_rate()),
            audience: Arc::default(),
        });
        let feed = Feed::new(track, codec, Arc::clone(&self.paused[kind as usize]));
        *place = Some(Sent { feed, profile: choice.profile.to_owned(), size: None });
        Ok(())
    }

    /// When something is due.
    pub(super) fn due(&self, kind: Kind, time: Duration, now: Instant) -> Instant {
        self.pacer.lock().due(kind, time, now)
    }

    pub(super) fn send(&self, kind: Kind, packet: &[u8], due: Instant) {
        let now = Instant::now();
        *self.last.lock() = now;
        if let Some(sent) = &mut *self.kinds[kind as usize].lock() {
            sent.feed.send(packet, due, now);
        }
    }

    /// Pictures have that size from now on. Whether that is news.
    pub(super) fn set_size(&self, size: (u32, u32)) -> bool {
        match &mut *self.kinds[Kind::Video as usize].lock() {
            Some(sent) if sent.size != Some(size) => {
                sent.size = Some(size);
                sent.feed.track().set_size(size.0, size.1);
                true
            }
            _ => false,
        }
    }

    /// Of H.264.
    pub(super) fn set_profile(&self, profile: &str) {
        if let Some(sent) = &mut *self.kinds[Kind::Video as usize].lock() {
            profile.clone_into(&mut sent.profile);
        }
    }

    pub(super) fn count_key_frame(&self) {
        if let Some(sent) = &*self.kinds[Kind::Video as usize].lock() {
            sent.feed.track().count_key_frame();
        }
    }

    /// Whether somebody asked for a key frame.
    pub(super) fn take_key_frame_request(&self) -> bool {
        let video = self.kinds[Kind::Video as usize].lock();
        video.as_ref().is_some_and(|sent| sent.feed.track().take_key_frame_request())
    }

    /// Its tracks, as agents are told.
    pub(super) fn tracks(&self) -> Vec<v1::InputTrack> {
        let told = |sent: &Sent| {
            let description = sent.feed.track().description();
            v1::InputTrack {
                source: Some(v1::TrackSource {
                    track_id: description.id.to_string(),
                    worker_id: self.place.worker_id.clone(),
                    endpoint: self.place.endpoint.clone(),
                    kind: description.kind.into(),
                    format: Some(sent.feed.codec().format(&sent.profile)),
                }),
                resolution: sent.size.map(|(width, height)| v1::Resolution { width, height }),
            }
        };
        self.kinds.iter().filter_map(|kind| kind.lock().as_ref().map(told)).collect()
    }

    /// Ends its tracks, for good.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        for kind in &self.kinds {
            if let Some(sent) = kind.lock().take() {
                self.place.outputs.remove(sent.feed.track());
            }
        }
    }

    /// Which kinds are not to flow now.
    pub(super) fn pause(&self, kinds: [bool; 2]) {
        for (flag, paused) in self.paused.iter().zip(kinds) {
            flag.store(paused, Ordering::Relaxed);
        }
    }
}
