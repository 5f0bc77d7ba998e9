//! Pictures of other nodes, each attached and decoded once for all views and transcoders of this node, in the layer that suits them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use kaigi_intake::{Failure, LinkContext, Track};
use kaigi_proto::v1;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::MissedTickBehavior,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    decoding::{Decoding, PictureSink},
    layers::{Layers, Wish},
};
use crate::video::{Frame, FrameSlot, Size};

/// Between looks at the clock.
const TICK: Duration = Duration::from_millis(100);

/// A picture, as one track or several layers.
#[derive(Clone, Debug, PartialEq)]
pub struct LayeredTrack {
    layers: Vec<(v1::TrackSource, Option<Size>)>,
}

impl LayeredTrack {
    /// One track.
    #[must_use]
    pub fn single(track: v1::TrackSource) -> Self {
        Self { layers: vec![(track, None)] }
    }

    /// Layers with their sizes as far as known; `None` if there are none.
    #[must_use]
    pub fn new(layers: Vec<(v1::TrackSource, Option<Size>)>) -> Option<Self> {
        (!layers.is_empty()).then_some(Self { layers })
    }

    /// Whether both are the same tracks, whatever is known of their sizes.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.tracks().eq(other.tracks())
    }

    fn tracks(&self) -> impl Iterator<Item = &v1::TrackSource> {
        self.layers.iter().map(|(track, _)| track)
    }

    fn sizes(&self) -> impl Iterator<Item = Option<Size>> {
        self.layers.iter().map(|(_, size)| *size)
    }

    fn key(&self) -> SourceKey {
        let key = |track: &v1::TrackSource| {
            (track.track_id.clone(), track.worker_id.clone(), track.endpoint.clone())
        };
        self.tracks().map(key).collect()
    }
}

/// The video inputs of the node.
#[derive(Debug, Default)]
pub struct VideoSources(Mutex<HashMap<SourceKey, Weak<VideoSource>>>);

/// Track, worker and endpoint of each layer.
type SourceKey = Vec<(String, String, String)>;

impl VideoSources {
    /// A share in the input of that picture, which is attached as soon as somebody [wants](Showing::want) something of it. Must be called
    /// within a tokio runtime.
    pub fn get(&self, context: &LinkContext, track: &LayeredTrack) -> Showing {
        let mut sources = self.0.lock();
        sources.retain(|_, source| source.strong_count() > 0);
        let key = track.key();
        let present = sources.get(&key).and_then(Weak::upgrade);
        let source = present.unwrap_or_else(|| {
            let source = Arc::new(VideoSource::start(context, track));
            sources.insert(key, Arc::downgrade(&source));
            source
        });
        Showing::new(source)
    }
}

/// One picture; ends when the last share in it is dropped.
#[derive(Debug)]
struct VideoSource {
    stage: Arc<Stage>,
    failure: Failure,
    _driver: AbortOnDropHandle<()>,
}

impl VideoSource {
    fn start(context: &LinkContext, track: &LayeredTrack) -> Self {
        let mut layers = Layers::new(track.layers.len());
        layers.tell(track.sizes());
        let stage = Arc::new(Stage {
            slot: Arc::default(),
            choice: Mutex::new(Choice { layers, wishes: BTreeMap::new(), shares: 0 }),
            changed: Notify::new(),
        });
        let (report, failure) = watch::channel(None);
        let driver = Driver {
            context: context.clone(),
            tracks: track.tracks().cloned().collect(),
            stage: Arc::clone(&stage),
            attached: BTreeMap::new(),
            report,
        };
        Self { stage, failure, _driver: AbortOnDropHandle::new(tokio::spawn(driver.run())) }
    }
}

/// Where decoded pictures of all layers come together.
#[derive(Debug)]
struct Stage {
    slot: Arc<FrameSlot>,
    choice: Mutex<Choice>,
    /// The choice may be another now.
    changed: Notify,
}

#[derive(Debug)]
struct Choice {
    layers: Layers,
    /// By share.
    wishes: BTreeMap<u64, Vec<Wish>>,
    /// How many there ever were.
    shares: u64,
}

impl Stage {
    fn take(&self, layer: usize, frame: Arc<dyn Frame>, now: Instant) {
        let Some(size) = frame.picture().map(|picture| picture.size()) else { return };
        let mut choice = self.choice.lock();
        let before = choice.layers.attached().count();
        let shown = choice.layers.picture(layer, size, now);
        let switched = before != choice.layers.attached().count();
        if shown {
            // Within the lock, so that no older layer's picture comes after a newer one's.
            self.slot.put(frame, now);
        }
        drop(choice);
        if switched {
            self.changed.notify_one();
        }
    }

    fn set_wishes(&self, share: u64, wishes: Vec<Wish>) {
        let mut choice = self.choice.lock();
        match wishes.is_empty() {
            true => drop(choice.wishes.remove(&share)),
            false => drop(choice.wishes.insert(share, wishes)),
        }
        let all = choice.wishes.values().flatten().copied().collect();
        choice.layers.set_wishes(all);
        drop(choice);
        self.changed.notify_one();
    }
}

/// Somebody's share in an input; what is wanted of it counts until this is dropped.
#[derive(Debug)]
pub struct Showing {
    source: Arc<VideoSource>,
    share: u64,
}

impl Showing {
    fn new(source: Arc<VideoSource>) -> Self {
        let share = {
            let mut choice = source.stage.choice.lock();
            choice.shares += 1;
            choice.shares
        };
        Self { source, share }
    }

    /// What is made of the picture from now on; nothing: it is not needed.
    pub fn want(&self, wishes: Vec<Wish>) {
        self.source.stage.set_wishes(self.share, wishes);
    }

    /// Newer sizes of its layers.
    pub fn tell(&self, track: &LayeredTrack) {
        self.source.stage.choice.lock().layers.tell(track.sizes());
        self.source.stage.changed.notify_one();
    }

    /// Where its pictures are.
    #[must_use]
    pub fn slot(&self) -> &Arc<FrameSlot> {
        &self.source.stage.slot
    }

    /// Why it fails, if it does.
    #[must_use]
    pub fn failure(&self) -> Failure {
        self.source.failure.clone()
    }
}

impl Drop for Showing {
    fn drop(&mut self) {
        self.source.stage.set_wishes(self.share, Vec::new());
    }
}

/// The task that attaches the layers which are to be.
struct Driver {
    context: LinkContext,
    tracks: Vec<v1::TrackSource>,
    stage: Arc<Stage>,
    attached: BTreeMap<usize, Track>,
    report: watch::Sender<Option<Arc<str>>>,
}

impl Driver {
    async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stage = Arc::clone(&self.stage);
        loop {
            tokio::select! {
                () = stage.changed.notified() => {}
                _ = tick.tick() => {}
            }
            self.follow(Instant::now());
        }
    }

    fn follow(&mut self, now: Instant) {
        let failures = self.failures();
        let (wanted, shows) = {
            let mut choice = self.stage.choice.lock();
            for layer in failures.keys() {
                choice.layers.failed(*layer, now);
            }
            choice.layers.tick(now);
            (choice.layers.attached().collect::<Vec<_>>(), choice.layers.shows())
        };
        let all_fail = failures.len() == self.attached.len();
        let reason = failures.into_values().next().filter(|_| all_fail);
        // As long as one layer after the other is tried in vain, it is the same failure.
        if reason.is_some() || shows || self.tracks.len() == 1 {
            self.report.send_if_modified(|known| {
                let changed = *known != reason;
                *known = reason;
                changed
            });
        }
        self.attached.retain(|layer, _| wanted.contains(layer));
        for layer in wanted {
            if let Some(source) = self.tracks.get(layer)
                && !self.attached.contains_key(&layer)
            {
                let stage = Arc::clone(&self.stage);
                let pictures: PictureSink = Arc::new(move |frame, now| stage.take(layer, frame, now));
                let urgent = Arc::new(Notify::new());
                let decoding = Arc::new(Decoding::new(pictures, Arc::clone(&urgent)));
                self.attached.insert(layer, Track::start(&self.context, source, decoding, urgent));
            }
        }
    }

    fn failures(&self) -> BTreeMap<usize, Arc<str>> {
        let failing = |(layer, track): (&usize, &Track)| {
            let reason = track.failure().borrow().clone();
            reason.map(|reason| (*layer, reason))
        };
        self.attached.iter().filter_map(failing).collect()
    }
}
