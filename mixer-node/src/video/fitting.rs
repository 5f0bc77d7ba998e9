//! Pictures brought to the size of the place that they are shown in as soon as they are decoded, in the thread that decoded them: they
//! are at hand there, and whoever composes them copies less.

use std::sync::Arc;

use super::{Canvas, Colour, Fit, Frame, Fresh, Picture, Rect, Size, scale::Scaler};

/// Canvases that are kept: one is drawn on, others are in a slot or in somebody's tile.
const MAX_KEPT: usize = 4;
/// Of new canvases, all of which is drawn over.
const BLACK: Colour = Colour([16, 128, 128]);

/// Fits one picture after the other.
#[derive(Default)]
pub struct Fitting {
    scaler: Scaler,
    /// Those which are not shown any more are drawn on again.
    kept: Vec<Arc<Canvas>>,
}

impl Fitting {
    /// The picture as it is shown in a place of that size, cut to fill it (`crop`) or as a whole; `None` if it has that size, or can't
    /// be brought to it.
    pub fn fit(&mut self, picture: &Picture<'_>, size: Size, crop: bool) -> Option<Arc<dyn Frame>> {
        let (fit, place) = (if crop { Fit::crop } else { Fit::letterbox }, Rect { x: 0, y: 0, size });
        let Fit { source, target } = fit(picture.size(), place)?;
        let whole = Rect { x: 0, y: 0, size: target.size };
        // What is fitted again is to stay as it is.
        let stays = || fit(target.size, place) == Some(Fit { source: whole, target });
        if source.size == target.size || !stays() {
            return None;
        }
        let mut canvas = self.canvas(target.size);
        self.scaler.scale(picture, source, Arc::get_mut(&mut canvas)?)?;
        Some(self.shared(canvas))
    }

    /// The picture as it is, to be kept.
    pub fn keep(&mut self, picture: &Fresh<'_>) -> Arc<dyn Frame> {
        let Fresh::Lent(lent) = picture else { return picture.keep() };
        let size = lent.size();
        let mut canvas = self.canvas(size);
        let Some(drawn) = Arc::get_mut(&mut canvas) else { return picture.keep() };
        drawn.blit(lent, Rect { x: 0, y: 0, size }, 0, 0);
        self.shared(canvas)
    }

    fn shared(&mut self, canvas: Arc<Canvas>) -> Arc<Canvas> {
        if self.kept.len() < MAX_KEPT {
            self.kept.push(Arc::clone(&canvas));
        }
        canvas
    }

    /// One of that size which nobody else has.
    fn canvas(&mut self, size: Size) -> Arc<Canvas> {
        self.kept.retain(|canvas| canvas.size() == size);
        let free = self.kept.iter_mut().position(|canvas| Arc::get_mut(canvas).is_some());
        free.map_or_else(|| Arc::new(Canvas::new(size, BLACK)), |free| self.kept.swap_remove(free))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }
    fn frame(width: u32, height: u32) -> Arc<dyn Frame> {
        Arc::new(Canvas::new(size(width, height), Colour([81, 90, 240])))
    }
    fn fit(fitting: &mut Fitting, frame: &Arc<dyn Frame>, place: Size, crop: bool) -> Arc<dyn Frame> {
        fitting.fit(&frame.picture().unwrap(), place, crop).unwrap_or_else(|| Arc::clone(frame))
    }
    fn fitted(frame: &Arc<dyn Frame>, place: Size, crop: bool) -> Size {
        fit(&mut Fitting::default(), frame, place, crop).picture().unwrap().size()
    }

    #[test]
    fn what_is_fitted_is_drawn_as_it_is() {
        for frame in [frame(640, 360), frame(640, 480), frame(360, 640), frame(1280, 720)] {
            let whole = frame.picture().unwrap().size();
            for place in [size(426, 240), size(320, 180), size(212, 360), size(638, 358)] {
                for crop in [false, true] {
                    let fit = if crop { Fit::crop } else { Fit::letterbox };
                    let rect = Rect { x: 0, y: 0, size: place };
                    let (before, after) = (fit(whole, rect).unwrap(), fitted(&frame, place, crop));
                    let again = fit(after, rect).unwrap();
                    assert_eq!(again.target, before.target, "{whole:?} in {place:?}");
                    if after != whole {
                        assert_eq!((after, again.source.size), (before.target.size, before.target.size));
                    }
                }
            }
        }
        assert_eq!(fitted(&frame(640, 360), size(426, 240), false), size(426, 240));
        assert_eq!(fitted(&frame(640, 480), size(426, 240), false), size(320, 240));
        assert_eq!(fitted(&frame(640, 480), size(426, 240), true), size(426, 240));
    }

    #[test]
    fn what_has_the_size_is_not_copied() {
        for crop in [false, true] {
            let frame = frame(320, 180);
            assert!(Fitting::default().fit(&frame.picture().unwrap(), size(320, 180), crop).is_none());
        }
    }

    #[test]
    fn canvases_are_used_again_once_nobody_has_them_and_never_before() {
        let (frame, mut fitting) = (frame(640, 360), Fitting::default());
        let at = |frame: &Arc<dyn Frame>| frame.picture().unwrap().planes[0].row(0, 0, 1).as_ptr();
        let mut next = || fit(&mut fitting, &frame, size(426, 240), false);
        let (first, second) = (next(), next());
        assert_ne!(at(&first), at(&second));
        let place = at(&first);
        drop(first);
        assert_eq!(at(&next()), place);
        let held: Vec<_> = (0..20).map(|_| next()).collect();
        assert!(held.iter().enumerate().all(|(i, one)| held[..i].iter().all(|other| at(one) != at(other))));
        assert!(fitting.kept.len() <= MAX_KEPT);
    }

    #[test]
    fn what_is_lent_is_copied() {
        let frame = frame(33, 19);
        let lent = Fresh::Lent(frame.picture().unwrap());
        for kept in [Fitting::default().keep(&lent), lent.keep()] {
            let picture = kept.picture().unwrap();
            assert_eq!(picture.size(), size(33, 19));
            let row = |index: usize, picture: &Picture<'_>| {
                let size = picture.planes[index].size();
                picture.planes[index].row(0, size.height - 1, size.width).to_vec()
            };
            for index in 0..3 {
                assert_eq!(row(index, &picture), row(index, &frame.picture().unwrap()));
            }
        }
    }
}
