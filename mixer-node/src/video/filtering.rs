//! The pictures of one slot, filtered into another by a thread of their own: a slow filter delays nothing but what it makes.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_filters::Filter;

use super::{Frame, FrameSlot, PictureFilter, Stamped};
use crate::{
    link::Audience,
    plan::{Plan, Planned, Stop},
};

/// Longest wait for the next picture before the plan is looked at again.
const WAIT: Duration = Duration::from_millis(50);
/// The same while nobody watches.
const NAP: Duration = Duration::from_millis(200);

/// What is filtered, and how.
#[derive(Clone, Debug)]
pub struct FilteringPlan {
    /// Where pictures come from.
    pub source: Arc<FrameSlot>,
    /// What is done to them.
    pub filter: Filter,
    /// Who watches what comes of them; nothing is filtered for nobody. `None` = somebody always does.
    pub audience: Option<Arc<Audience>>,
}

impl FilteringPlan {
    fn rests(&self) -> bool {
        self.audience.as_ref().is_some_and(|audience| !audience.is_present())
    }
}

/// Filters until dropped. A picture is filtered or left out: when the filter is slower than the source, the newest one is next.
pub struct Filtering {
    slot: Arc<FrameSlot>,
    thread: Planned<FilteringPlan>,
}

impl Filtering {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn start(name: &str, plan: FilteringPlan) -> io::Result<Self> {
        let slot = Arc::<FrameSlot>::default();
        let to = Arc::clone(&slot);
        let thread =
            Planned::start(&format!("filter {name}"), plan, move |plan, stop| work(&to, plan, stop))?;
        Ok(Self { slot, thread })
    }

    /// Another filter, source or audience from now on.
    pub fn set(&self, plan: FilteringPlan) {
        self.thread.set(plan);
    }

    /// Sees to it that the work goes on; called some times a second.
    pub fn watch(&self, now: Instant) {
        self.thread.watch(now);
    }

    /// Where the filtered pictures are; they have the times of those that they were made of.
    #[must_use]
    pub fn slot(&self) -> &Arc<FrameSlot> {
        &self.slot
    }
}

fn work(to: &FrameSlot, plan: &Plan<FilteringPlan>, stop: &Stop) {
    let mut version = 0;
    let Some(mut current) = plan.news(&mut version) else { return };
    let (mut filter, mut seen) = (None, 0);
    while !stop.is_asked() {
        if let Some(audience) = current.audience.as_ref().filter(|_| current.rests()) {
            audience.wait(NAP);
        }
        if let Some(news) = plan.news(&mut version) {
            // The same picture is to be seen through the new filter.
            (seen, current) = (0, news);
        }
        if current.rests() {
            continue;
        }
        match current.source.wait(seen, Instant::now() + WAIT) {
            None if current.source.has_failed() => to.fail(),
            None => to.clear(),
            Some(newest) if newest.number == seen => {}
            // The next one will be.
            Some(newest) if !newest.whole => seen = newest.number,
            Some(newest) => {
                seen = newest.number;
                // Another thread may have taken this one's place meanwhile.
                if let Some(frame) =
                    filtered(&mut filter, &current.filter, &newest).filter(|_| !stop.has_come())
                {
                    to.put(frame, newest.at);
                }
            }
        }
    }
}

/// `None` if the filter does not work, which is made anew for the next picture.
fn filtered(running: &mut Option<PictureFilter>, wanted: &Filter, from: &Stamped) -> Option<Arc<dyn Frame>> {
    let picture = from.frame.picture()?;
    let size = picture.size();
    if running.as_ref().is_none_or(|running| !running.is(wanted, size)) {
        let started = PictureFilter::start(wanted, size);
        *running = started.inspect_err(|error| tracing::warn!(%error, "no filter")).ok();
    }
    match running.as_ref()?.apply(&picture) {
        Some(frame) => Some(Arc::new(frame)),
        None => {
            *running = None;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::{Canvas, Colour, Size};

    /// The machine that runs the tests may be busy.
    const DEADLINE: Duration = Duration::from_secs(60);

    fn plan(source: &Arc<FrameSlot>, name: &str, parameters: &str) -> FilteringPlan {
        FilteringPlan {
            source: Arc::clone(source),
            filter: Filter::parse(name, parameters).unwrap(),
            audience: None,
        }
    }
    fn size(stamped: &Stamped) -> Size {
        stamped.frame.picture().unwrap().size()
    }

    #[test]
    fn pictures_keep_their_times_and_the_filter_may_change() {
        crate::init_gstreamer().unwrap();
        let source = Arc::<FrameSlot>::default();
        let filtering = Filtering::start("test", plan(&source, "rotate", r#"{"angle": 90}"#)).unwrap();
        let at = Instant::now();
        let wide = Size { width: 64, height: 32 };
        source.put(Arc::new(Canvas::new(wide, Colour([16, 128, 128]))), at);
        let first = filtering.slot().wait(0, Instant::now() + DEADLINE).unwrap();
        assert_eq!((size(&first), first.at), (Size { width: 32, height: 64 }, at));

        filtering.set(plan(&source, "cartoon", ""));
        let second = filtering.slot().wait(first.number, Instant::now() + DEADLINE).unwrap();
        assert_eq!(size(&second), wide, "the same picture again");
    }

    #[test]
    fn what_is_hidden_is_hidden_behind_the_filter_too() {
        crate::init_gstreamer().unwrap();
        let source = Arc::<FrameSlot>::default();
        let filtering = Filtering::start("test", plan(&source, "edgedetect", "")).unwrap();
        let canvas = Canvas::new(Size { width: 32, height: 32 }, Colour([16, 128, 128]));
        source.put(Arc::new(canvas), Instant::now());
        assert!(filtering.slot().wait(0, Instant::now() + DEADLINE).is_some());
        source.clear();
        let deadline = Instant::now() + DEADLINE;
        while filtering.slot().newest().is_some() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        assert!(filtering.slot().newest().is_none());
    }
}
