//! Puts the newest frame of each input into its region of the picture.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    Badge, Canvas, Colour, Decoration, Fit, Frame, FrameSlot, Rect, Size, decoration::Decorator,
    fault::Faults, glide::Glide, scale::Scaler,
};

/// What a view's picture shows.
#[derive(Clone, Debug)]
pub struct Scene {
    /// Of the whole picture.
    pub size: Size,
    /// Where nothing else is.
    pub background: Colour,
    /// true: frames fill their regions and are cut; false: they are fitted in.
    pub crop: bool,
    /// In drawing order.
    pub regions: Vec<Region>,
    /// What is drawn besides.
    pub decoration: Decoration,
}

/// A place in the picture.
#[derive(Clone, Debug)]
pub struct Region {
    /// Its pixels.
    pub rect: Rect,
    /// Whose frames it shows; none = background.
    pub source: Option<Arc<FrameSlot>>,
    /// Whose it is.
    pub badge: Option<Badge>,
}

/// A frame as it was last scaled for its region, kept until there is a new one.
struct Tile {
    number: u64,
    /// The region, when it was scaled.
    place: Rect,
    fit: Fit,
    /// Absent: the frame has the size already and is copied from where it is.
    scaled: Option<Canvas>,
    frame: Arc<dyn Frame>,
}

/// Draws a scene again and again; one per view.
pub struct Composer {
    scene: Scene,
    canvas: Canvas,
    tiles: Vec<Option<Tile>>,
    glide: Glide,
    decorator: Decorator,
    scaler: Scaler,
    /// Inputs whose frames can't be drawn.
    faults: Faults,
    /// Which regions' inputs had failed when they were drawn.
    failed: Vec<bool>,
    /// Whether the picture has to be drawn although no frame changed.
    stale: bool,
    /// Of the picture as it was last drawn.
    number: u64,
}

impl Composer {
    /// Nothing drawn yet.
    #[must_use]
    pub fn new(scene: Scene) -> Self {
        let canvas = Canvas::new(scene.size, scene.background);
        let tiles = scene.regions.iter().map(|_| None).collect();
        Self {
            glide: Glide::still(&scene.regions),
            failed: vec![false; scene.regions.len()],
            scene,
            canvas,
            tiles,
            decorator: Decorator::default(),
            scaler: Scaler::default(),
            faults: Faults::default(),
            stale: true,
            number: 0,
        }
    }

    /// Replaces the scene; takes effect with the next [`compose`](Self::compose).
    pub fn set_scene(&mut self, scene: Scene, now: Instant) {
        let duration =
            if scene.size == self.scene.size { scene.decoration.animation } else { Duration::ZERO };
        self.glide.begin(&self.scene.regions, &scene.regions, duration, now);
        self.tiles = scene.regions.iter().map(|_| None).collect();
        self.failed = vec![false; scene.regions.len()];
        if scene.size != self.scene.size {
            self.canvas = Canvas::new(scene.size, scene.background);
        }
        self.scene = scene;
        self.stale = true;
    }

    /// Goes on with what changes by itself: inputs that glide to their places, the clock, who speaks. `wall` is the time of day.
    pub fn advance(&mut self, now: Instant, wall: SystemTime) {
        self.faults.advance(now);
        self.stale |= self.glide.step(&self.scene.regions, now);
        self.stale |= self.decorator.refresh(&self.scene.decoration, self.scene.size, wall);
    }

    /// The picture as it is now.
    pub fn compose(&mut self) -> &Canvas {
        let mut changed = std::mem::take(&mut self.stale);
        if changed {
            self.canvas.fill(Rect { x: 0, y: 0, size: self.scene.size }, self.scene.background);
        }
        let regions = || self.scene.regions.iter().zip(self.glide.places());
        let parts = self.tiles.iter_mut().zip(&mut self.failed);
        for ((region, place), (tile, failed)) in regions().zip(parts) {
            let crop = self.scene.crop;
            let drawn = self
                .faults
                .guard(region.source.as_ref(), || refresh(tile, region, *place, crop, &mut self.scaler));
            // What failed half way is not shown.
            changed |= drawn.unwrap_or_else(|| tile.take().is_some());
            let fails = region.source.as_ref().is_some_and(|source| source.has_failed());
            changed |= std::mem::replace(failed, fails) != fails;
        }
        if changed {
            for (((region, place), tile), failed) in regions().zip(&self.tiles).zip(&self.failed) {
                draw(&mut self.canvas, *place, tile.as_ref(), self.scene.background);
                if let Some(badge) = &region.badge {
                    // One whose first picture is yet to come has a source, too.
                    let has_picture = region.source.is_some() && !failed;
                    let decoration = &self.scene.decoration;
                    self.decorator.region(&mut self.canvas, decoration, badge, *place, has_picture);
                }
            }
            self.decorator.over(&mut self.canvas, &self.scene.decoration);
            self.number += 1;
        }
        &self.canvas
    }

    /// The picture as it was last composed.
    #[must_use]
    pub fn canvas(&self) -> &Canvas {
        &self.canvas
    }

    /// Tells the composed pictures apart: grows when one differs from that before.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }
}

/// Brings the tile up to date with the region's source. Whether anything changed.
fn refresh(tile: &mut Option<Tile>, region: &Region, place: Rect, crop: bool, scaler: &mut Scaler) -> bool {
    let Some(newest) = region.source.as_ref().and_then(|slot| slot.newest()) else {
        return tile.take().is_some();
    };
    if tile.as_ref().is_some_and(|tile| (tile.number, tile.place) == (newest.number, place)) {
        return false;
    }
    let Some(picture) = newest.frame.picture() else {
        return false;
    };
    let fit = if crop { Fit::crop } else { Fit::letterbox };
    let Some(fit) = fit(picture.size(), place) else {
        return false;
    };
    let scaled = if fit.source.size == fit.target.size {
        None
    } else {
        let reuse = tile.take().and_then(|old| old.scaled).filter(|old| old.size() == fit.target.size);
        let mut canvas = reuse.unwrap_or_else(|| Canvas::new(fit.target.size, Colour([16, 128, 128])));
        if scaler.scale(&picture, fit.source, &mut canvas).is_none() {
            return false;
        }
        Some(canvas)
    };
    *tile = Some(Tile { number: newest.number, place, fit, scaled, frame: newest.frame });
    true
}

fn draw(canvas: &mut Canvas, place: Rect, tile: Option<&Tile>, background: Colour) {
    let covered = tile.is_some_and(|tile| tile.fit.target == place);
    if !covered {
        canvas.fill(place, background);
    }
    let Some(tile) = tile else { return };
    let Rect { x, y, size } = tile.fit.target;
    match &tile.scaled {
        Some(scaled) => {
            if let Some(picture) = scaled.picture() {
                canvas.blit(&picture, Rect { x: 0, y: 0, size }, x, y);
            }
        }
        None => {
            if let Some(picture) = tile.frame.picture() {
                canvas.blit(&picture, tile.fit.source, x, y);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kaigi_proto::ids::StreamId;

    use super::{super::Picture, *};

    const BLACK: Colour = Colour([16, 128, 128]);
    const RED: Colour = Colour([81, 90, 240]);
    const GREEN: Colour = Colour([145, 54, 34]);
    const BLUE: Colour = Colour([41, 240, 110]);

    fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }
    fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
        Rect { x, y, size: size(width, height) }
    }
    fn showing(colour: Colour, frame: Size) -> Arc<FrameSlot> {
        let slot = Arc::new(FrameSlot::default());
        slot.put(Arc::new(Canvas::new(frame, colour)), Instant::now());
        slot
    }
    fn region(rect: Rect, source: &Arc<FrameSlot>) -> Region {
        Region { rect, source: Some(Arc::clone(source)), badge: None }
    }
    fn at(canvas: &Canvas, x: u32, y: u32) -> Colour {
        let planes = canvas.picture().unwrap().planes;
        Colour([
            planes[0].row(x, y, 1)[0],
            planes[1].row(x / 2, y / 2, 1)[0],
            planes[2].row(x / 2, y / 2, 1)[0],
        ])
    }
    fn scene(crop: bool, regions: Vec<Region>) -> Scene {
        Scene { size: size(320, 180), background: BLACK, crop, regions, decoration: Decoration::default() }
    }

    /// A frame that can't be looked at.
    struct Rotten;
    impl Frame for Rotten {
        fn picture(&self) -> Option<Picture<'_>> {
            panic!("rotten");
        }
    }

    #[test]
    fn a_frame_that_cannot_be_drawn_costs_no_other_and_is_shown_as_none() {
        let (rotten, green) = (showing(RED, size(160, 90)), showing(GREEN, size(160, 90)));
        let places = [rect(0, 0, 160, 90), rect(160, 0, 160, 90)];
        let regions = vec![region(places[0], &rotten), region(places[1], &green)];
        let mut composer = Composer::new(scene(false, regions));
        assert_eq!(at(composer.compose(), 80, 45), RED);
        let now = Instant::now();
        for _ in 0..3 {
            composer.advance(now, SystemTime::now());
            rotten.put(Arc::new(Rotten), Instant::now());
            let picture = composer.compose();
            assert_eq!((at(picture, 80, 45), at(picture, 240, 45)), (BLACK, GREEN));
            assert!(rotten.has_failed());
        }
        let before = composer.number();
        composer.compose();
        assert_eq!(composer.number(), before, "there is nothing new to be drawn");
        rotten.put(Arc::new(Canvas::new(size(160, 90), BLUE)), Instant::now());
        composer.advance(now + Duration::from_secs(60), SystemTime::now());
        assert_eq!(at(composer.compose(), 80, 45), BLUE, "after a while its next is looked at");
    }

    #[test]
    fn an_input_that_fails_is_drawn_as_one_without_a_picture() {
        let slot = showing(RED, size(160, 90));
        let badge =
            Badge { stream: StreamId::new("s").unwrap(), name: "Ann".into(), avatar: true, still: None };
        let shown = Region { badge: Some(badge), ..region(rect(0, 0, 160, 90), &slot) };
        let mut composer = Composer::new(scene(false, vec![shown]));
        assert_eq!(at(composer.compose(), 80, 45), RED);
        slot.clear();
        assert_eq!(at(composer.compose(), 80, 45), BLACK, "its first picture is yet to come");
        slot.fail();
        let avatar = composer.compose().picture().unwrap().planes[0].row(0, 45, 160).to_vec();
        assert!(avatar.iter().any(|luma| *luma != 16), "an avatar");
        slot.put(Arc::new(Canvas::new(size(160, 90), BLUE)), Instant::now());
        assert_eq!(at(composer.compose(), 80, 45), BLUE);
    }

    #[test]
    fn colours_land_in_their_regions() {
        let slots =
            [showing(RED, size(640, 360)), showing(GREEN, size(160, 90)), showing(BLUE, size(333, 187))];
        let places = [rect(0, 0, 160, 90), rect(160, 0, 160, 90), rect(0, 90, 160, 90)];
        let regions = places.iter().zip(&slots).map(|(place, slot)| region(*place, slot)).collect();
        let mut composer = Composer::new(scene(false, regions));
        let picture = composer.compose();
        for ((place, colour), name) in places.iter().zip([RED, GREEN, BLUE]).zip(["red", "green", "blue"]) {
            for (x, y) in [(place.x, place.y), (place.x + 80, place.y + 45), (place.x + 159, place.y + 89)] {
                assert_eq!(at(picture, x, y), colour, "{name} at {x},{y}");
            }
        }
        assert_eq!(at(picture, 240, 135), BLACK);
    }

    #[test]
    fn fitting_leaves_bars_and_cropping_does_not() {
        let square = showing(RED, size(100, 100));
        let whole = vec![region(rect(0, 0, 320, 180), &square)];
        let mut composer = Composer::new(scene(false, whole.clone()));
        let picture = composer.compose();
        assert_eq!((at(picture, 10, 90), at(picture, 160, 90), at(picture, 310, 90)), (BLACK, RED, BLACK));
        composer.set_scene(scene(true, whole), Instant::now());
        let picture = composer.compose();
        assert_eq!((at(picture, 0, 0), at(picture, 319, 179)), (RED, RED));
    }

    #[test]
    fn a_new_frame_replaces_the_old_one_whatever_its_size() {
        let slot = showing(RED, size(640, 360));
        let mut composer = Composer::new(scene(false, vec![region(rect(0, 0, 320, 180), &slot)]));
        assert_eq!(at(composer.compose(), 0, 0), RED);
        slot.put(Arc::new(Canvas::new(size(100, 180), BLUE)), Instant::now());
        let picture = composer.compose();
        assert_eq!((at(picture, 0, 0), at(picture, 160, 90)), (BLACK, BLUE));
        slot.put(Arc::new(Canvas::new(size(320, 180), GREEN)), Instant::now());
        assert_eq!(at(composer.compose(), 0, 0), GREEN);
    }

    #[test]
    fn later_regions_lie_over_earlier_ones() {
        let (below, above) = (showing(RED, size(320, 180)), showing(BLUE, size(64, 36)));
        let regions = vec![region(rect(0, 0, 320, 180), &below), region(rect(128, 72, 64, 36), &above)];
        let mut composer = Composer::new(scene(false, regions));
        composer.compose();
        below.put(Arc::new(Canvas::new(size(320, 180), GREEN)), Instant::now());
        let picture = composer.compose();
        assert_eq!((at(picture, 0, 0), at(picture, 160, 90)), (GREEN, BLUE));
    }

    #[test]
    fn regions_without_frames_show_the_background() {
        let empty = Arc::new(FrameSlot::default());
        let slot = showing(RED, size(320, 180));
        let both = |second: Option<Arc<FrameSlot>>| {
            let second = Region { rect: rect(160, 0, 160, 90), source: second, badge: None };
            scene(false, vec![region(rect(0, 0, 160, 90), &slot), second])
        };
        let mut composer = Composer::new(both(Some(Arc::clone(&slot))));
        assert_eq!(at(composer.compose(), 240, 45), RED);
        composer.set_scene(both(Some(empty)), Instant::now());
        assert_eq!(at(composer.compose(), 240, 45), BLACK);
        composer.set_scene(both(None), Instant::now());
        let picture = composer.compose();
        assert_eq!((at(picture, 80, 45), at(picture, 240, 45)), (RED, BLACK));
    }

    #[test]
    fn the_picture_may_change_its_size() {
        let slot = showing(RED, size(320, 180));
        let mut composer = Composer::new(scene(false, vec![region(rect(0, 0, 320, 180), &slot)]));
        composer.compose();
        composer.set_scene(
            Scene {
                size: size(64, 36),
                background: BLUE,
                crop: false,
                regions: vec![region(rect(0, 0, 32, 36), &slot)],
                decoration: Decoration::default(),
            },
            Instant::now(),
        );
        let picture = composer.compose();
        assert_eq!(picture.size(), size(64, 36));
        assert_eq!((at(picture, 16, 18), at(picture, 48, 18)), (RED, BLUE));
    }

    fn badge(stream: &str) -> Badge {
        let stream = kaigi_proto::ids::StreamId::new(stream).unwrap();
        Badge { stream, name: "Ann".into(), avatar: true, still: None }
    }

    #[test]
    fn inputs_glide_where_the_layout_changes_smoothly() {
        let slot = showing(RED, size(160, 90));
        let at_place = |place| {
            let decoration = Decoration { animation: Duration::from_millis(400), ..Decoration::default() };
            let regions = vec![Region { badge: Some(badge("a")), ..region(place, &slot) }];
            Scene { decoration, ..scene(false, regions) }
        };
        let (now, wall) = (Instant::now(), SystemTime::now());
        let mut composer = Composer::new(at_place(rect(0, 0, 160, 90)));
        assert_eq!(at(composer.compose(), 0, 0), RED);
        composer.set_scene(at_place(rect(160, 90, 160, 90)), now);
        let mut seen = vec![];
        for ms in [0, 200, 400] {
            composer.advance(now + Duration::from_millis(ms), wall);
            let picture = composer.compose();
            seen.push([(0, 0), (80, 45), (160, 90), (319, 179)].map(|(x, y)| at(picture, x, y) == RED));
        }
        assert_eq!(
            seen,
            [[true, true, false, false], [false, true, true, false], [false, false, true, true]]
        );
    }

    #[test]
    fn an_avatar_is_shown_in_place_of_a_source_and_not_of_a_late_picture() {
        let mut muted = Region { rect: rect(0, 0, 320, 180), source: None, badge: Some(badge("a")) };
        let mut composer = Composer::new(scene(false, vec![muted.clone()]));
        let letters = |picture: &Canvas| {
            let luma = picture.picture().unwrap().planes[0];
            (0..180).any(|y| luma.row(0, y, 320).iter().any(|value| *value > 200))
        };
        assert!(letters(composer.compose()));
        muted.source = Some(Arc::default());
        composer.set_scene(scene(false, vec![muted]), Instant::now());
        assert!(!letters(composer.compose()));
    }
}
