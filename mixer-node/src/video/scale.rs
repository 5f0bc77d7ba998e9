//! Scaling of pictures.

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{CroppedImage, Image, ImageRef},
};

use super::{
    Canvas, Colour, Fit, Frame, Picture, Plane, Rect, Size,
    picture::{chroma, plane_rect},
    stretch::Stretch,
};

/// Scales pictures; keeps what it needs for the next.
#[derive(Default)]
pub(super) struct Scaler {
    stretch: Stretch,
    resizer: Resizer,
}

impl Scaler {
    /// Scales a part of `picture` to the whole of `target`. None if the planes are not as they should be.
    pub(super) fn scale(&mut self, picture: &Picture<'_>, source: Rect, target: &mut Canvas) -> Option<()> {
        for (index, plane) in picture.planes.iter().enumerate() {
            let part = plane_rect(source, index);
            let whole = if index == 0 { target.size() } else { chroma(target.size()) };
            if Stretch::suits(part.size, whole) {
                let (rows, stride) = target.plane_mut(index);
                self.stretch.scale(plane, part, rows, stride, whole)?;
            } else {
                self.reduce(plane, part, target, index, whole)?;
            }
        }
        Some(())
    }

    /// By much: each pixel is made of all that it stands for.
    fn reduce(
        &mut self,
        plane: &Plane<'_>,
        part: Rect,
        target: &mut Canvas,
        index: usize,
        whole: Size,
    ) -> Option<()> {
        let (stride, Size { width, height }) = (plane.stride(), plane.size());
        let padded = ImageRef::new(stride, height, plane.bytes()?, PixelType::U8).ok()?;
        // Without the rows' padding, which the filter would let shine in.
        let from = CroppedImage::new(&padded, 0, 0, width, height).ok()?;
        let mut scaled = Image::new(whole.width, whole.height, PixelType::U8);
        let crop = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(
            part.x.into(),
            part.y.into(),
            part.size.width.into(),
            part.size.height.into(),
        );
        self.resizer.resize(&from, &mut scaled, &crop).ok()?;
        for (y, row) in (0..whole.height).zip(scaled.buffer().chunks_exact(whole.width as usize)) {
            target.row_mut(index, 0, y, whole.width).copy_from_slice(row);
        }
        Some(())
    }
}

/// Whole pictures in another size, with bars where that has another shape.
pub struct Letterbox {
    canvas: Canvas,
    background: Colour,
    tile: Option<Canvas>,
    /// What the bars were last painted around.
    painted: Option<Rect>,
    scaler: Scaler,
}

impl Letterbox {
    /// Pictures of that size.
    #[must_use]
    pub fn new(size: Size, background: Colour) -> Self {
        let canvas = Canvas::new(size, background);
        Self { canvas, background, tile: None, painted: None, scaler: Scaler::default() }
    }

    /// The picture in this size; none if its planes are not as they should be.
    pub fn fit(&mut self, picture: &Picture<'_>) -> Option<&Canvas> {
        let whole = Rect { x: 0, y: 0, size: self.canvas.size() };
        let fit = Fit::letterbox(picture.size(), whole)?;
        if fit.target == whole {
            self.scaler.scale(picture, fit.source, &mut self.canvas)?;
        } else {
            if self.painted != Some(fit.target) {
                self.canvas.fill(whole, self.background);
            }
            let reuse = self.tile.take().filter(|tile| tile.size() == fit.target.size);
            let mut tile = reuse.unwrap_or_else(|| Canvas::new(fit.target.size, self.background));
            self.scaler.scale(picture, fit.source, &mut tile)?;
            let part = Rect { x: 0, y: 0, size: fit.target.size };
            self.canvas.blit(&tile.picture()?, part, fit.target.x, fit.target.y);
            self.tile = Some(tile);
        }
        self.painted = Some(fit.target);
        Some(&self.canvas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLACK: Colour = Colour([16, 128, 128]);
    const RED: Colour = Colour([81, 90, 240]);

    fn luma(canvas: &Canvas, x: u32, y: u32) -> u8 {
        canvas.picture().unwrap().planes[0].row(x, y, 1)[0]
    }

    #[test]
    fn pictures_of_the_same_shape_fill_the_new_size() {
        let picture = Canvas::new(Size { width: 1280, height: 720 }, RED);
        let mut letterbox = Letterbox::new(Size { width: 640, height: 360 }, BLACK);
        let small = letterbox.fit(&picture.picture().unwrap()).unwrap();
        assert_eq!(small.size(), Size { width: 640, height: 360 });
        for (x, y) in [(0, 0), (639, 0), (320, 180), (0, 359), (639, 359)] {
            assert_eq!(luma(small, x, y), 81, "at {x},{y}");
        }
    }

    #[test]
    fn bars_are_left_where_the_shapes_differ_and_follow_the_shape() {
        let (wide, narrow) = (
            Canvas::new(Size { width: 640, height: 320 }, RED),
            Canvas::new(Size { width: 320, height: 640 }, RED),
        );
        let mut letterbox = Letterbox::new(Size { width: 320, height: 320 }, BLACK);
        let canvas = letterbox.fit(&wide.picture().unwrap()).unwrap();
        assert_eq!(
            [(0, 0), (160, 0), (160, 160), (0, 160)].map(|(x, y)| luma(canvas, x, y)),
            [16, 16, 81, 81]
        );
        let canvas = letterbox.fit(&narrow.picture().unwrap()).unwrap();
        assert_eq!(
            [(0, 0), (160, 0), (160, 160), (0, 160)].map(|(x, y)| luma(canvas, x, y)),
            [16, 81, 81, 16]
        );
    }
}
