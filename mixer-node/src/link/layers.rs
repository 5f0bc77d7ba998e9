//! Which layer of a picture is taken: the smallest that need not be enlarged anywhere. The one before stays until the other has a picture.

use std::time::{Duration, Instant};

use crate::video::Size;

/// How long a layer that is not taken yet may take until its first picture: to be switched on by its publisher, and a key frame.
const TRIAL: Duration = Duration::from_secs(3);
/// A layer that did not flow is left alone for so long; each time twice as long.
const REST: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// A layer that flowed for so long is none that does not.
const SETTLED: Duration = Duration::from_secs(30);
/// Before a smaller layer is taken: a layout that changes back and forth would cost a key frame each time.
const DWELL: Duration = Duration::from_secs(2);
/// A layer whose pictures stay away for so many of their intervals has stopped, if that is within the bounds.
const MISSED: u32 = 10;
const STALL: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(3));

/// What is made of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// As large as there is one.
    Largest,
    /// Shown in a place of that size.
    Fill {
        /// Of the place.
        size: Size,
        /// Whether the whole place is filled; else the picture is fitted into it.
        crop: bool,
    },
    /// The same, and nothing else is made of it: it may be brought to that size at once.
    Show {
        /// Of the place.
        size: Size,
        /// Whether the whole place is filled; else the picture is fitted into it.
        crop: bool,
    },
}

impl Wish {
    /// Whether a picture need not be enlarged for it.
    fn is_met_by(self, picture: Size) -> bool {
        match self {
            Self::Largest => false,
            Self::Fill { size, crop } | Self::Show { size, crop } => {
                let (wide, high) = (picture.width >= size.width, picture.height >= size.height);
                if crop { wide && high } else { wide || high }
            }
        }
    }
}

/// The layers of one picture. Layers have their index.
#[derive(Debug)]
pub struct Layers {
    layers: Vec<Layer>,
    wishes: Vec<Wish>,
    current: Option<Current>,
    trial: Option<Trial>,
}

#[derive(Debug, Default)]
struct Layer {
    /// As the room has it.
    told: Option<Size>,
    /// As told or seen, whichever is newer.
    size: Option<Size>,
    resting: Option<Instant>,
    /// Of the last rest.
    rested: Duration,
}

/// The layer whose pictures are shown.
#[derive(Debug)]
struct Current {
    layer: usize,
    since: Instant,
    last: Instant,
    /// Between pictures; none before the second.
    interval: Option<Duration>,
}

/// A layer whose first picture is waited for.
#[derive(Clone, Copy, Debug)]
struct Trial {
    layer: usize,
    since: Instant,
}

impl Layers {
    /// So many layers; nothing is wanted yet.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let layers = (0..count).map(|_| Layer::default()).collect();
        Self { layers, wishes: Vec::new(), current: None, trial: None }
    }

    /// The sizes of all, as far as known.
    pub fn tell(&mut self, sizes: impl IntoIterator<Item = Option<Size>>) {
        for (layer, told) in self.layers.iter_mut().zip(sizes) {
            if layer.told != told {
                (layer.told, layer.size) = (told, told.or(layer.size));
            }
        }
    }

    /// What is made of the picture by all who show it; nothing: nobody does.
    pub fn set_wishes(&mut self, wishes: Vec<Wish>) {
        self.wishes = wishes;
    }

    /// Whether anybody shows the picture.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !self.wishes.is_empty()
    }

    /// Size and shape (`crop`) of the only place that the picture is for, if it is only shown.
    #[must_use]
    pub fn place(&self) -> Option<(Size, bool)> {
        match self.wishes.split_first() {
            Some((first @ Wish::Show { size, crop }, others)) if others.iter().all(|wish| wish == first) => {
                Some((*size, *crop))
            }
            _ => None,
        }
    }

    /// The layers to be attached: that which is shown, and that which is to be.
    pub fn attached(&self) -> impl Iterator<Item = usize> + use<> {
        let current = self.current.as_ref().map(|current| current.layer);
        current.into_iter().chain(self.trial.map(|trial| trial.layer))
    }

    /// A picture of a layer was decoded. Whether it is shown.
    pub fn picture(&mut self, index: usize, size: Size, now: Instant) -> bool {
        let Some(layer) = self.layers.get_mut(index) else { return false };
        (layer.size, layer.resting) = (Some(size), None);
        if self.trial.is_some_and(|trial| trial.layer == index) {
            self.trial = None;
            self.current = Some(Current { layer: index, since: now, last: now, interval: None });
            return true;
        }
        let Some(current) = self.current.as_mut().filter(|current| current.layer == index) else {
            return false;
        };
        let interval = now.saturating_duration_since(std::mem::replace(&mut current.last, now)).min(STALL.1);
        current.interval = Some(current.interval.map_or(interval, |mean| (mean * 7 + interval) / 8));
        if now.saturating_duration_since(current.since) > SETTLED {
            layer.rested = Duration::ZERO;
        }
        true
    }

    /// A layer can't be had.
    pub fn failed(&mut self, layer: usize, now: Instant) {
        if self.layers.len() > 1 {
            self.rest(layer, now);
            if self.trial.is_some_and(|trial| trial.layer == layer) {
                self.trial = None;
            }
        }
    }

    /// Decides anew.
    pub fn tick(&mut self, now: Instant) {
        if self.wishes.is_empty() {
            (self.current, self.trial) = (None, None);
            return;
        }
        if self.layers.len() > 1 {
            self.leave_what_is_silent(now);
        }
        let Some(target) = self.target(now) else { return };
        match (&self.current, self.trial) {
            (Some(current), _) if current.layer == target => self.trial = None,
            (_, Some(trial)) if trial.layer == target => {}
            (Some(current), _) if self.may_wait(current, target, now) => self.trial = None,
            _ => self.trial = Some(Trial { layer: target, since: now }),
        }
    }

    fn leave_what_is_silent(&mut self, now: Instant) {
        if let Some(trial) = self.trial.filter(|trial| now >= trial.since + TRIAL) {
            self.rest(trial.layer, now);
            self.trial = None;
        }
        if let Some(current) = self.current.as_ref().filter(|current| current.has_stopped(now)) {
            self.rest(current.layer, now);
        }
    }

    fn rest(&mut self, index: usize, now: Instant) {
        if let Some(layer) = self.layers.get_mut(index).filter(|layer| layer.is_usable(now)) {
            layer.rested = (layer.rested * 2).clamp(REST.0, REST.1);
            layer.resting = Some(now + layer.rested);
        }
    }

    /// The smallest that suffices; else one that may, for all that is known; else the largest.
    fn target(&self, now: Instant) -> Option<usize> {
        let usable = || self.layers.iter().enumerate().filter(|(_, layer)| layer.is_usable(now));
        let area = |size: Size| u64::from(size.width) * u64::from(size.height);
        let sized = || usable().filter_map(|(index, layer)| Some((index, layer.size?)));
        let suffices = |size: Size| self.wishes.iter().all(|wish| wish.is_met_by(size));
        let smallest = sized().filter(|(_, size)| suffices(*size)).min_by_key(|(_, size)| area(*size));
        let unknown = || usable().find(|(_, layer)| layer.size.is_none()).map(|(index, _)| index);
        let largest = || sized().max_by_key(|(_, size)| area(*size)).map(|(index, _)| index);
        let found = smallest.map(|(index, _)| index).or_else(unknown).or_else(largest);
        // All are silent: that which was shown may come back, else the one that has rested longest.
        let shown = || self.current.as_ref().map(|current| current.layer);
        let first = || (0..self.layers.len()).min_by_key(|index| self.layers[*index].resting);
        found.or_else(shown).or_else(|| self.trial.map(|trial| trial.layer)).or_else(first)
    }

    /// Whether the layer that is shown is too good rather than not good enough, and not for long.
    fn may_wait(&self, current: &Current, target: usize, now: Instant) -> bool {
        let (shown, other) = (&self.layers[current.layer], &self.layers[target]);
        let suffices = |size: Size| self.wishes.iter().all(|wish| wish.is_met_by(size));
        shown.is_usable(now)
            && shown.size.is_some_and(suffices)
            && other.size.is_some()
            && now < current.since + DWELL
    }
}

impl Layer {
    fn is_usable(&self, now: Instant) -> bool {
        self.resting.is_none_or(|until| now >= until)
    }
}

impl Current {
    fn has_stopped(&self, now: Instant) -> bool {
        let patience = self.interval.map_or(STALL.1, |interval| (interval * MISSED).clamp(STALL.0, STALL.1));
        now.saturating_duration_since(self.last) >= patience
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_a_place_when_it_is_only_shown_and_in_one_size() {
        let show = |width, crop| Wish::Show { size: size(width, 180), crop };
        let place = |wishes: &[Wish]| {
            let mut layers = Layers::new(1);
            layers.set_wishes(wishes.to_vec());
            layers.place()
        };
        assert_eq!(place(&[]), None);
        assert_eq!(place(&[show(320, true)]), Some((size(320, 180), true)));
        assert_eq!(place(&[show(320, false), show(320, false)]), Some((size(320, 180), false)));
        for other in [
            show(320, true),
            show(160, false),
            Wish::Largest,
            Wish::Fill { size: size(320, 180), crop: false },
        ] {
            assert_eq!(place(&[show(320, false), other]), None, "{other:?}");
            assert_eq!(place(&[other, show(320, false)]), None, "{other:?}");
        }
    }

    const Q: usize = 0;
    const H: usize = 1;
    const F: usize = 2;
    const SIZES: [Size; 3] = [size(320, 180), size(640, 360), size(1280, 720)];
    const STEP: Duration = Duration::from_millis(33);

    const fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }
    fn fill(width: u32, height: u32) -> Vec<Wish> {
        vec![Wish::Fill { size: size(width, height), crop: false }]
    }

    /// Layers on virtual time; those of `flowing` have a picture at each step if they are attached.
    struct Stage {
        layers: Layers,
        flowing: Vec<usize>,
        now: Instant,
        /// Which layers' pictures were shown, without repetition, "-" for steps without one.
        shown: String,
        most_attached: usize,
    }

    impl Stage {
        fn new(known: bool) -> Self {
            let mut layers = Layers::new(3);
            layers.tell(SIZES.map(|size| known.then_some(size)));
            let flowing = vec![Q, H, F];
            Self { layers, flowing, now: Instant::now(), shown: String::new(), most_attached: 0 }
        }

        fn run(&mut self, time: Duration) -> String {
            self.shown.clear();
            let end = self.now + time;
            while self.now < end {
                self.layers.tick(self.now);
                let attached: Vec<_> = self.layers.attached().collect();
                self.most_attached = self.most_attached.max(attached.len());
                let mut any = false;
                for layer in attached {
                    let flows = self.flowing.contains(&layer);
                    if flows && self.layers.picture(layer, SIZES[layer], self.now) {
                        any = true;
                        self.note(["q", "h", "f"][layer]);
                    }
                }
                if !any {
                    self.note("-");
                }
                self.now += STEP;
            }
            self.shown.clone()
        }

        fn note(&mut self, what: &str) {
            if !self.shown.ends_with(what) {
                self.shown.push_str(what);
            }
        }

        fn wish(&mut self, wishes: Vec<Wish>) {
            self.layers.set_wishes(wishes);
        }
    }

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn the_smallest_that_fills_the_place_is_taken() {
        for (wish, taken) in [
            (fill(320, 180), "q"),
            (fill(426, 240), "h"),
            (fill(640, 360), "h"),
            (fill(642, 362), "f"),
            (fill(1920, 1080), "f"),
            // A picture that is fitted in touches two sides only.
            (fill(320, 720), "q"),
            (vec![Wish::Fill { size: size(320, 200), crop: true }], "h"),
            (vec![Wish::Largest], "f"),
            ([fill(320, 180), fill(640, 360)].concat(), "h"),
        ] {
            let mut stage = Stage::new(true);
            stage.wish(wish.clone());
            assert_eq!(stage.run(SOON), taken, "{wish:?}");
        }
    }

    #[test]
    fn what_nobody_shows_is_not_attached() {
        let mut stage = Stage::new(true);
        assert_eq!((stage.run(SOON).as_str(), stage.most_attached), ("-", 0));
        stage.wish(fill(320, 180));
        stage.run(SOON);
        stage.wish(vec![]);
        assert_eq!((stage.run(SOON).as_str(), stage.layers.attached().count()), ("-", 0));
    }

    #[test]
    fn another_place_is_filled_without_a_blink() {
        let mut stage = Stage::new(true);
        stage.wish(fill(320, 180));
        stage.run(SOON);
        stage.wish(fill(1280, 720));
        assert_eq!(stage.run(SOON), "qf", "a larger one at once");
        stage.wish(fill(320, 180));
        assert_eq!(stage.run(SOON), "fq", "and a smaller one when it has been there for a while");
        assert_eq!(stage.most_attached, 2);
        assert_eq!(stage.layers.attached().collect::<Vec<_>>(), [Q]);
    }

    #[test]
    fn the_layer_before_is_shown_until_the_other_one_has_a_picture() {
        let mut stage = Stage::new(true);
        stage.wish(fill(320, 180));
        stage.run(SOON);
        stage.flowing = vec![Q];
        stage.wish(fill(1280, 720));
        assert_eq!(stage.run(Duration::from_secs(2)), "q");
        assert_eq!(stage.layers.attached().collect::<Vec<_>>(), [Q, F]);
        stage.flowing = vec![Q, F];
        assert_eq!(stage.run(SOON), "qf");
    }

    #[test]
    fn a_layer_that_stops_is_left_for_the_best_other_and_tried_again_later() {
        let mut stage = Stage::new(true);
        stage.wish(fill(1280, 720));
        stage.run(SOON);
        stage.flowing = vec![Q, H];
        assert_eq!(stage.run(Duration::from_secs(1)), "-h");
        assert_eq!(stage.run(Duration::from_secs(60)), "h", "while the larger one is tried");
        stage.flowing = vec![Q, H, F];
        assert_eq!(stage.run(Duration::from_secs(61)), "hf");
    }

    #[test]
    fn a_layer_that_stops_again_and_again_is_tried_more_and_more_rarely() {
        let mut stage = Stage::new(true);
        stage.wish(fill(1280, 720));
        let mut changes = 0;
        for _ in 0..100 {
            for flowing in [vec![Q, H, F], vec![Q, H]] {
                stage.flowing = flowing;
                changes += stage.run(Duration::from_secs(3)).matches('f').count();
            }
        }
        assert!((5..20).contains(&changes), "{changes} times in ten minutes");
    }

    #[test]
    fn when_all_are_silent_the_last_is_waited_for() {
        let mut stage = Stage::new(true);
        stage.wish(fill(640, 360));
        stage.run(SOON);
        stage.flowing = vec![];
        assert_eq!(stage.run(Duration::from_secs(120)), "-");
        stage.flowing = vec![H];
        let shown = stage.run(SOON);
        assert!(shown.ends_with('h'), "{shown}");
    }

    #[test]
    fn layers_of_unknown_size_are_looked_at() {
        let mut stage = Stage::new(false);
        stage.wish(fill(640, 360));
        let shown = stage.run(SOON * 2);
        assert!(shown.ends_with('h') && !shown.contains('-'), "{shown}");
        stage.wish(fill(320, 180));
        assert_eq!(stage.run(SOON), "hq");
    }

    #[test]
    fn the_size_seen_counts_until_another_is_told() {
        let mut layers = Layers::new(2);
        let now = Instant::now();
        let told = [Some(SIZES[Q]), Some(SIZES[H])];
        layers.tell(told);
        layers.set_wishes(fill(320, 180));
        layers.tick(now);
        assert!(layers.picture(0, size(160, 90), now));
        layers.tell(told);
        layers.tick(now);
        assert_eq!(layers.attached().collect::<Vec<_>>(), [0, 1], "it has become too small");
        assert!(layers.picture(1, SIZES[H], now));
        layers.tell([Some(size(320, 240)), Some(SIZES[H])]);
        layers.tick(now + DWELL);
        assert_eq!(layers.attached().collect::<Vec<_>>(), [1, 0]);
    }

    #[test]
    fn a_single_layer_is_never_given_up() {
        let mut layers = Layers::new(1);
        let now = Instant::now();
        layers.set_wishes(vec![Wish::Largest]);
        for second in 0..100 {
            layers.failed(0, now);
            layers.tick(now + Duration::from_secs(second));
            assert_eq!(layers.attached().collect::<Vec<_>>(), [0]);
        }
    }

    #[test]
    fn a_still_screen_has_not_stopped() {
        let mut layers = Layers::new(2);
        let now = Instant::now();
        layers.tell([Some(SIZES[Q]), Some(SIZES[H])]);
        layers.set_wishes(fill(320, 180));
        for second in 0..20 {
            let now = now + Duration::from_secs(second);
            layers.tick(now);
            assert_eq!(layers.attached().collect::<Vec<_>>(), [0]);
            layers.picture(0, SIZES[Q], now);
            layers.tick(now + Duration::from_millis(990));
        }
    }
}
