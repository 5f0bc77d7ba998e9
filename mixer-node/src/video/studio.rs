//! The thread that sees to one source's pictures: composes them (views) or takes them as they come (transcoders), brings them to the
//! sizes that are wanted, and hands them to the outputs' encoders.

use std::{
    collections::BTreeMap,
    io,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use kaigi_filters::Filter;
use kaigi_proto::ids::TrackId;

use super::{
    Colour, Composer, Frame, FrameSlot, PlannedPicture, Scene, Stamped, booth::Booth, filter::PictureFilter,
    sheet::Sheets,
};
use crate::{
    link::Audience,
    plan::{Plan, Planned, Stop},
};

/// When the thread is this late, it leaves out what it missed instead of catching up.
const TOO_LATE: Duration = Duration::from_millis(200);
/// Longest wait for a source's next picture before the plan and the wishes for key frames are looked at again.
const WAIT: Duration = Duration::from_millis(50);
/// The same while nobody watches.
const NAP: Duration = Duration::from_millis(200);
/// A source's last picture is shown again when it has been quiet for this long: late watchers and decoders that lost something get
/// to see it.
const HOLD: Duration = Duration::from_secs(1);
/// Pictures after which a size that nobody wanted is forgotten.
const FORGET: u64 = 300;
/// What is around transcoded pictures of another shape.
const BLACK: Colour = Colour([16, 128, 128]);

/// Where pictures come from.
#[derive(Clone, Debug)]
pub enum Programme {
    /// A view's: composed at a rate of its own.
    Composed {
        /// What the picture shows.
        scene: Scene,
        /// Pictures a second.
        framerate: u32,
        /// What is done to it.
        filter: Option<Filter>,
    },
    /// A track's: as they come.
    Passed(Arc<FrameSlot>),
}

/// What the thread does.
#[derive(Clone, Debug)]
pub struct StudioPlan {
    /// What is shown.
    pub programme: Programme,
    /// What is made of it; the tracks are all different.
    pub outputs: Vec<PlannedPicture>,
    /// Of these tracks.
    pub audience: Arc<Audience>,
}

/// Works until dropped.
pub struct Studio(Planned<StudioPlan>);

impl Studio {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn start(name: &str, plan: StudioPlan) -> io::Result<Self> {
        Planned::start(&format!("video {name}"), plan, work).map(Self)
    }

    /// Replaces the plan. Scene, filter and bitrates change without a break, and so does which outputs there are; another
    /// codec, size or rate makes a new encoder for the output concerned.
    pub fn set(&self, plan: StudioPlan) {
        self.0.set(plan);
    }

    /// Sees to it that the work goes on; called some times a second.
    pub fn watch(&self, now: Instant) {
        self.0.watch(now);
    }
}

fn work(plan: &Plan<StudioPlan>, stop: &Stop) {
    let mut seen = 0;
    let Some(mut current) = plan.news(&mut seen) else { return };
    let mut gallery = Gallery::new(&current, stop);
    let mut stage = Stage::of(&current.programme);
    while !stop.is_asked() {
        stage.wait(&current);
        if let Some(news) = plan.news(&mut seen) {
            gallery.follow(&news);
            stage.follow(&current.programme, &news.programme, &mut gallery);
            current = news;
        }
        stage.perform(&current.programme, &mut gallery);
    }
}

/// What it takes to go on with a programme.
enum Stage {
    Composed(Box<Composing>),
    Passed(Passing),
}

impl Stage {
    fn of(programme: &Programme) -> Self {
        let now = Instant::now();
        match programme {
            Programme::Composed { scene, .. } => Self::Composed(Box::new(Composing {
                composer: Composer::new(scene.clone()),
                filter: None,
                filtered: None,
                due: now,
            })),
            Programme::Passed(_) => {
                Self::Passed(Passing { last: None, looked_at: 0, seen: 0, shown_at: now })
            }
        }
    }

    fn follow(&mut self, old: &Programme, new: &Programme, gallery: &mut Gallery) {
        match (&mut *self, old, new) {
            (Self::Composed(composing), _, Programme::Composed { scene, .. }) => {
                composing.composer.set_scene(scene.clone(), Instant::now());
            }
            (Self::Passed(_), Programme::Passed(old), Programme::Passed(new)) if Arc::ptr_eq(old, new) => {}
            // The last picture is held until the new source has one.
            (Self::Passed(passing), _, Programme::Passed(_)) => {
                (passing.looked_at, passing.seen) = (0, 0);
                gallery.forget_pictures();
            }
            (Self::Composed(_), _, Programme::Passed(_))
            | (Self::Passed(_), _, Programme::Composed { .. }) => {
                gallery.forget_pictures();
                *self = Self::of(new);
            }
        }
    }

    /// Until there may be something to do.
    fn wait(&mut self, plan: &StudioPlan) {
        let rests = !plan.audience.is_present();
        if rests {
            plan.audience.wait(NAP);
        }
        match (self, &plan.programme) {
            // Whoever comes is shown something at once.
            (Self::Composed(composing), _) if rests => composing.due = composing.due.max(Instant::now()),
            (Self::Composed(composing), _) => {
                std::thread::sleep(composing.due.saturating_duration_since(Instant::now()));
            }
            (Self::Passed(passing), Programme::Passed(slot)) => passing.wait(slot),
            (Self::Passed(_), Programme::Composed { .. }) => {}
        }
    }

    fn perform(&mut self, programme: &Programme, gallery: &mut Gallery) {
        let now = Instant::now();
        match (self, programme) {
            (Self::Composed(composing), Programme::Composed { framerate, filter, .. }) => {
                composing.perform(*framerate, filter.as_ref(), gallery, now);
            }
            (Self::Passed(passing), _) => passing.perform(gallery, now),
            (Self::Composed(_), Programme::Passed(_)) => {}
        }
    }
}

struct Composing {
    composer: Composer,
    filter: Option<PictureFilter>,
    /// What the filter last made, and of which picture.
    filtered: Option<(u64, Box<dyn Frame>)>,
    due: Instant,
}

impl Composing {
    fn perform(&mut self, framerate: u32, filter: Option<&Filter>, gallery: &mut Gallery, now: Instant) {
        if now.saturating_duration_since(self.due) > TOO_LATE {
            metrics::counter!("kaigi_mixer_video_late_total").increment(1);
            self.due = now;
        }
        // Pictures that nobody sees are not made.
        if gallery.is_watched(now) {
            self.show(filter, gallery, now);
        }
        self.due += Duration::from_secs(1) / framerate.max(1);
    }

    fn show(&mut self, filter: Option<&Filter>, gallery: &mut Gallery, now: Instant) {
        self.composer.advance(now, SystemTime::now());
        self.composer.compose();
        metrics::counter!("kaigi_mixer_composed_frames_total").increment(1);
        let number = self.composer.number();
        let Some(wanted) = filter else {
            if self.filter.take().is_some() {
                gallery.start_anew();
            }
            self.filtered = None;
            gallery.show(self.composer.canvas(), number, self.due, now);
            return;
        };
        let size = self.composer.canvas().size();
        if self.filter.as_ref().is_none_or(|filter| !filter.is(wanted, size)) {
            let started = PictureFilter::start(wanted, size);
            self.filter = started.inspect_err(|error| tracing::warn!(%error, "no filter")).ok();
            self.filtered = None;
            gallery.start_anew();
        }
        if self.filtered.as_ref().is_none_or(|(made, _)| *made != number) {
            let picture = self.composer.canvas().picture();
            let made = picture.zip(self.filter.as_ref()).and_then(|(picture, filter)| filter.apply(&picture));
            self.filtered = made.map(|frame| (number, Box::new(frame) as Box<dyn Frame>));
        }
        match &self.filtered {
            Some((_, frame)) => gallery.show(&**frame, number, self.due, now),
            // A filter that does not work is made anew for the next picture.
            None => self.filter = None,
        }
    }
}

struct Passing {
    last: Option<Stamped>,
    /// Numbers of the source's pictures that were looked at and shown last.
    looked_at: u64,
    seen: u64,
    /// Time that the last picture shown was given.
    shown_at: Instant,
}

impl Passing {
    fn wait(&mut self, slot: &FrameSlot) {
        if let Some(newest) = slot.wait(self.looked_at, Instant::now() + WAIT) {
            self.looked_at = newest.number;
            // What is already as somebody else shows it is left out; the next one is as it was decoded.
            if newest.whole {
                self.last = Some(newest);
            }
        }
    }

    fn perform(&mut self, gallery: &mut Gallery, now: Instant) {
        let watched = gallery.is_watched(now);
        let Some(last) = &self.last else { return };
        let new = self.seen != last.number;
        self.seen = last.number;
        if !watched {
            return;
        }
        // A picture may come while an older one is shown again.
        let after = |at: Instant| at.max(self.shown_at + Duration::from_millis(1));
        let quiet = now.saturating_duration_since(self.shown_at);
        if new {
            let at = after(last.at);
            gallery.show(&*last.frame, last.number, at, now);
            self.shown_at = at;
        } else if quiet >= HOLD || (quiet >= WAIT * 2 && gallery.wants_key_frame(now)) {
            let at = after(now);
            gallery.show_again(&*last.frame, last.number, at, now);
            self.shown_at = at;
        }
    }
}

/// The outputs.
struct Gallery {
    booths: BTreeMap<TrackId, Booth>,
    background: Colour,
    sheets: Sheets,
    stop: Stop,
}

impl Gallery {
    fn new(plan: &StudioPlan, stop: &Stop) -> Self {
        let (booths, sheets) = (BTreeMap::new(), Sheets::new(BLACK));
        let mut gallery = Self { booths, background: BLACK, sheets, stop: stop.clone() };
        gallery.follow(plan);
        gallery
    }

    fn follow(&mut self, plan: &StudioPlan) {
        let background = match &plan.programme {
            Programme::Composed { scene, .. } => scene.background,
            Programme::Passed(_) => BLACK,
        };
        if background != self.background {
            self.background = background;
            self.forget_pictures();
        }
        let mut old = std::mem::take(&mut self.booths);
        for output in &plan.outputs {
            let present = old.remove(&output.track.description().id);
            let booth = match present.filter(|booth| Arc::ptr_eq(&booth.plan().track, &output.track)) {
                Some(mut booth) => {
                    booth.follow(output.clone());
                    booth
                }
                None => Booth::new(output.clone(), &self.stop),
            };
            self.booths.insert(output.track.description().id.clone(), booth);
        }
    }

    fn forget_pictures(&mut self) {
        self.sheets = Sheets::new(self.background);
    }

    fn is_watched(&mut self, now: Instant) -> bool {
        // All are asked, so that all that nobody watches may rest.
        self.booths.values_mut().filter_map(|booth| booth.is_watched(now).then_some(())).count() > 0
    }

    fn wants_key_frame(&mut self, now: Instant) -> bool {
        self.booths.values_mut().any(|booth| booth.is_watched(now) && booth.wants_key_frame(now))
    }

    /// The same picture looks different from now on.
    fn start_anew(&mut self) {
        self.forget_pictures();
        self.booths.values_mut().for_each(Booth::request_key_frame);
    }

    /// Gives a picture to all outputs that are watched and whose rate has a place for it.
    fn show(&mut self, frame: &dyn Frame, number: u64, at: Instant, now: Instant) {
        self.encode(frame, number, at, now, |booth| booth.takes(at));
    }

    /// Gives a picture to all outputs that are watched.
    fn show_again(&mut self, frame: &dyn Frame, number: u64, at: Instant, now: Instant) {
        self.encode(frame, number, at, now, |_| true);
    }

    fn encode(
        &mut self,
        frame: &dyn Frame,
        number: u64,
        at: Instant,
        now: Instant,
        takes: impl Fn(&mut Booth) -> bool,
    ) {
        let Some(picture) = frame.picture() else { return };
        for booth in self.booths.values_mut() {
            if !booth.is_watched(now) || !takes(booth) {
                continue;
            }
            let size = booth.size(picture.size());
            if let Some(sheet) = self.sheets.get(&picture, number, size) {
                booth.encode(&sheet, size, at, now);
            }
        }
        self.sheets.forget_before(number.saturating_sub(FORGET));
    }
}
