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
    captured::CaptureTime,
    decoding::{Decoding, PictureSink},
    layers::{Layers, Wish},
};
use crate::video::{Fitting, Frame, FrameSlot, Fresh, Size};

/// Between looks at the clock.
const TICK: Duration = Duration::from_millis(100);
/// A picture is shown again that was hidden for less than this, until there is a newer one.
const STALE: Duration = Duration::from_secs(3);
/// How long a picture that fails is waited for: until then the last one is shown, and from then on none.
const GIVE_UP: Duration = Duration::from_secs(4);

/// Between pictures: where it is more, as of a screen that is shared, each is kept as it was decoded for the case that it is shown in
/// another size.
const SLOW: Duration = Duration::from_millis(70);

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
            captured: Arc::default(),
            choice: Mutex::new(Choice { layers, wishes: BTreeMap::new(), shares: 0, last: None }),
            changed: Notify::new(),
        });
        let (report, failure) = watch::channel(None);
        let driver = Driver {
            context: context.clone(),
            tracks: track.tracks().cloned().collect(),
            stage: Arc::clone(&stage),
            attached: BTreeMap::new(),
            idle: None,
            failing: None,
            rests: false,
            report,
        };
        Self { stage, failure, _driver: AbortOnDropHandle::new(tokio::spawn(driver.run())) }
    }
}

/// Where decoded pictures of all layers come together.
#[derive(Debug)]
struct Stage {
    slot: Arc<FrameSlot>,
    /// Of whichever layer comes: they are of one capture.
    captured: Arc<CaptureTime>,
    choice: Mutex<Choice>,
    /// The choice may be another now.
    changed: Notify,
}

struct Choice {
    layers: Layers,
    /// By share.
    wishes: BTreeMap<u64, (Vec<Wish>, Option<watch::Receiver<bool>>)>,
    /// How many there ever were.
    shares: u64,
    /// The picture that is shown, as it was decoded, if it was kept.
    last: Option<Arc<dyn Frame>>,
}

impl std::fmt::Debug for Choice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Choice")
            .field("layers", &self.layers)
            .field("wishes", &self.wishes)
            .finish_non_exhaustive()
    }
}

impl Stage {
    fn take(&self, layer: usize, frame: &Fresh<'_>, fitting: &Mutex<Fitting>, now: Instant) {
        let Some(picture) = frame.picture() else { return };
        let (size, place) = (picture.size(), self.choice.lock().layers.place());
        let fitted = place.and_then(|(place, crop)| fitting.lock().fit(&picture, place, crop));
        let whole = match (&fitted, frame) {
            (None, _) => Some(fitting.lock().keep(frame)),
            (Some(_), Fresh::Kept(frame)) => Some(Arc::clone(frame)),
            // Its next one may be long in coming.
            (Some(_), Fresh::Lent(_)) => {
                let slow = self.slot.last_at().is_none_or(|at| now.saturating_duration_since(at) >= SLOW);
                slow.then(|| frame.keep())
            }
        };
        let mut choice = self.choice.lock();
        let before = choice.layers.attached().count();
        let shown = choice.layers.picture(layer, size, now);
        let switched = before != choice.layers.attached().count();
        if shown {
            // Within the lock, so that no older layer's picture comes after a newer one's.
            match (fitted, &whole) {
                (Some(fitted), _) => self.slot.put_fitted(fitted, now),
                (None, Some(whole)) => self.slot.put(Arc::clone(whole), now),
                (None, None) => {}
            }
            choice.last = whole;
        }
        drop(choice);
        if switched {
            self.changed.notify_one();
        }
    }

    fn set_wishes(&self, share: u64, wishes: Vec<Wish>, attended: Option<watch::Receiver<bool>>) {
        let mut choice = self.choice.lock();
        match wishes.is_empty() {
            true => drop(choice.wishes.remove(&share)),
            false => drop(choice.wishes.insert(share, (wishes, attended))),
        }
        choice.refresh(&self.slot);
        drop(choice);
        self.changed.notify_one();
    }
}

impl Choice {
    /// Looks at what is wanted by those whose own audience is there.
    fn refresh(&mut self, slot: &FrameSlot) {
        let before = self.layers.place();
        let shares = self.wishes.values();
        let attended = shares.filter(|(_, attended)| attended.as_ref().is_none_or(|there| *there.borrow()));
        self.layers.set_wishes(attended.flat_map(|(wishes, _)| wishes).copied().collect());
        // What was fitted into another place is shown as it was decoded, until there is a newer picture.
        if self.layers.place() != before
            && let Some(last) = &self.last
        {
            slot.replace(Arc::clone(last));
        }
    }
}

/// Somebody's share in an input; what is wanted of it counts until this is dropped.
#[derive(Debug)]
pub struct Showing {
    source: Arc<VideoSource>,
    share: u64,
    attended: Option<(watch::Receiver<bool>, AbortOnDropHandle<()>)>,
}

impl Showing {
    fn new(source: Arc<VideoSource>) -> Self {
        let share = {
            let mut choice = source.stage.choice.lock();
            choice.shares += 1;
            choice.shares
        };
        Self { source, share, attended: None }
    }

    /// What is wanted counts only while somebody takes what is made of it.
    #[must_use]
    pub fn while_attended(mut self, attended: watch::Receiver<bool>) -> Self {
        let (stage, mut changes) = (Arc::clone(&self.source.stage), attended.clone());
        let watching = async move {
            while changes.changed().await.is_ok() {
                stage.changed.notify_one();
            }
        };
        self.attended = Some((attended, AbortOnDropHandle::new(tokio::spawn(watching))));
        self
    }

    /// What is made of the picture from now on; nothing: it is not needed.
    pub fn want(&self, wishes: Vec<Wish>) {
        let attended = self.attended.as_ref().map(|(attended, _)| attended.clone());
        self.source.stage.set_wishes(self.share, wishes, attended);
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

    /// When that was captured which comes of it.
    #[must_use]
    pub fn captured(&self) -> &Arc<CaptureTime> {
        &self.source.stage.captured
    }

    /// Why it fails, if it does.
    #[must_use]
    pub fn failure(&self) -> Failure {
        self.source.failure.clone()
    }
}

impl Drop for Showing {
    fn drop(&mut self) {
        self.source.stage.set_wishes(self.share, Vec::new(), None);
    }
}

/// Counted as long as it is.
#[derive(Debug)]
struct GivenUp;

impl GivenUp {
    fn new() -> Self {
        metrics::gauge!("kaigi_mixer_failing_inputs").increment(1.0);
        Self
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        metrics::gauge!("kaigi_mixer_failing_inputs").decrement(1.0);
    }
}

/// A picture that can't be had or decoded.
#[derive(Debug)]
struct Failing {
    since: Instant,
    given_up: Option<GivenUp>,
}

/// The task that attaches the layers which are to be.
struct Driver {
    context: LinkContext,
    tracks: Vec<v1::TrackSource>,
    stage: Arc<Stage>,
    attached: BTreeMap<usize, Track>,
    /// Since when nothing is attached, until the last picture is forgotten.
    idle: Option<Instant>,
    /// Since when there is none that was to be.
    failing: Option<Failing>,
    /// Whether there is nothing to do until something changes.
    rests: bool,
    report: watch::Sender<Option<Arc<str>>>,
}

impl Driver {
    async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stage = Arc::clone(&self.stage);
        loop {
            // What nobody wants costs nothing, not even a look at the clock.
            tokio::select! {
                () = stage.changed.notified() => {}
                _ = tick.tick(), if !self.rests => {}
            }
            self.follow(Instant::now());
        }
    }

    /// Forgets the last picture some time after the last was decoded: whoever looks then sees no old one until there is a new one.
    fn age(&mut self, wanted: bool, had: bool, now: Instant) {
        if wanted {
            self.idle = None;
        } else if had {
            self.idle = Some(now);
        } else if self.idle.is_some_and(|since| now.saturating_duration_since(since) >= STALE) {
            self.stage.choice.lock().last = None;
            self.stage.slot.clear();
            self.idle = None;
        }
    }

    /// Shows that there is no picture when it has failed for some time.
    fn judge(&mut self, fails: bool, wanted: bool, now: Instant) {
        let came = self.stage.slot.last_at();
        self.failing =
            self.failing.take().filter(|failing| wanted && came.is_none_or(|at| at <= failing.since));
        if fails && self.failing.is_none() {
            self.failing = Some(Failing { since: now, given_up: None });
        }
        if let Some(failing) = &mut self.failing
            && failing.given_up.is_none()
            && now.saturating_duration_since(failing.since) >= GIVE_UP
        {
            failing.given_up = Some(GivenUp::new());
            self.stage.choice.lock().last = None;
            self.stage.slot.fail();
        }
    }

    fn follow(&mut self, now: Instant) {
        let failures = self.failures();
        let (wanted, is_wanted) = {
            let mut choice = self.stage.choice.lock();
            for layer in failures.keys() {
                choice.layers.failed(*layer, now);
            }
            choice.refresh(&self.stage.slot);
            choice.layers.tick(now);
            (choice.layers.attached().collect::<Vec<_>>(), choice.layers.is_wanted())
        };
        self.judge(!failures.is_empty(), is_wanted, now);
        let all_fail = failures.len() == self.attached.len();
        let reason = failures.into_values().next().filter(|_| all_fail);
        // As long as one layer after the other is tried in vain, it is the same failure.
        if reason.is_some() || self.failing.is_none() || self.tracks.len() == 1 {
            self.report.send_if_modified(|known| {
                let changed = *known != reason;
                *known = reason;
                changed
            });
        }
        self.age(!wanted.is_empty(), !self.attached.is_empty(), now);
        self.rests = !is_wanted && self.idle.is_none();
        self.attached.retain(|layer, _| wanted.contains(layer));
        for layer in wanted {
            if let Some(source) = self.tracks.get(layer)
                && !self.attached.contains_key(&layer)
            {
                let stage = Arc::clone(&self.stage);
                let fitting = Mutex::default();
                let pictures: PictureSink =
                    Arc::new(move |frame, now| stage.take(layer, &frame, &fitting, now));
                let urgent = Arc::new(Notify::new());
                let captured = Arc::clone(&self.stage.captured);
                let decoding = Arc::new(Decoding::new(pictures, Arc::clone(&urgent), captured));
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
