//! Puts the newest frame of each input into its region of the picture.

use std::sync::Arc;

use super::{Canvas, Colour, Fit, Frame, FrameSlot, Rect, Size, scale::Scaler};

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
}

/// A place in the picture.
#[derive(Clone, Debug)]
pub struct Region {
    /// Its pixels.
    pub rect: Rect,
    /// Whose frames it shows; none = background.
    pub source: Option<Arc<FrameSlot>>,
}

/// A frame as it was last scaled for its region, kept until there is a new one.
struct Tile {
    number: u64,
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
    scaler: Scaler,
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
        Self { scene, canvas, tiles, scaler: Scaler::default(), stale: true, number: 0 }
    }

    /// Replaces the scene; takes effect with the next [`compose`](Self::compose).
    pub fn set_scene(&mut self, scene: Scene) {
        self.tiles = scene.regions.iter().map(|_| None).collect();
        if scene.size != self.scene.size {
            self.canvas = Canvas::new(scene.size, scene.background);
        }
        self.scene = scene;
        self.stale = true;
    }

    /// The picture as it is now.
    pub fn compose(&mut self) -> &Canvas {
        let mut changed = std::mem::take(&mut self.stale);
        if changed {
            self.canvas.fill(Rect { x: 0, y: 0, size: self.scene.size }, self.scene.background);
        }
        for (region, tile) in self.scene.regions.iter().zip(&mut self.tiles) {
            changed |= refresh(tile, region, self.scene.crop, &mut self.scaler);
        }
        if changed {
            for (region, tile) in self.scene.regions.iter().zip(&self.tiles) {
                draw(&mut self.canvas, region, tile.as_ref(), self.scene.background);
            }
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
fn refresh(tile: &mut Option<Tile>, region: &Region, crop: bool, scaler: &mut Scaler) -> bool {
    let Some(newest) = region.source.as_ref().and_then(|slot| slot.newest()) else {
        return tile.take().is_some();
    };
    if tile.as_ref().is_some_and(|tile| tile.number == newest.number) {
        return false;
    }
    let Some(picture) = newest.frame.picture() else {
        return false;
    };
    let fit = if crop { Fit::crop } else { Fit::letterbox };
    let Some(fit) = fit(picture.size(), region.rect) else {
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
    *tile = Some(Tile { number: newest.number, fit, scaled, frame: newest.frame });
    true
}

fn draw(canvas: &mut Canvas, region: &Region, tile: Option<&Tile>, background: Colour) {
    let covered = tile.is_some_and(|tile| tile.fit.target == region.rect);
    if !covered {
        canvas.fill(region.rect, background);
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
    use std::time::Instant;

    use super::*;

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
        Region { rect, source: Some(Arc::clone(source)) }
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
        Scene { size: size(320, 180), background: BLACK, crop, regions }
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
        composer.set_scene(scene(true, whole));
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
            let second = Region { rect: rect(160, 0, 160, 90), source: second };
            scene(false, vec![region(rect(0, 0, 160, 90), &slot), second])
        };
        let mut composer = Composer::new(both(Some(Arc::clone(&slot))));
        assert_eq!(at(composer.compose(), 240, 45), RED);
        composer.set_scene(both(Some(empty)));
        assert_eq!(at(composer.compose(), 240, 45), BLACK);
        composer.set_scene(both(None));
        let picture = composer.compose();
        assert_eq!((at(picture, 80, 45), at(picture, 240, 45)), (RED, BLACK));
    }

    #[test]
    fn the_picture_may_change_its_size() {
        let slot = showing(RED, size(320, 180));
        let mut composer = Composer::new(scene(false, vec![region(rect(0, 0, 320, 180), &slot)]));
        composer.compose();
        composer.set_scene(Scene {
            size: size(64, 36),
            background: BLUE,
            crop: false,
            regions: vec![region(rect(0, 0, 32, 36), &slot)],
        });
        let picture = composer.compose();
        assert_eq!(picture.size(), size(64, 36));
        assert_eq!((at(picture, 16, 18), at(picture, 48, 18)), (RED, BLUE));
    }
}
