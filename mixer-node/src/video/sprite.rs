//! Small pictures that are partly transparent, made once and drawn often.

use super::{Canvas, Colour, Rect, Size, lettering::Lettering, picture::chroma};

/// Parts of one that opacity is counted in.
const OPAQUE: f32 = 256.0;

/// What becomes of a pixel below: so many 256ths of it, and something.
#[derive(Clone, Debug)]
struct Layer {
    kept: Vec<u16>,
    added: Vec<u16>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Sprite {
    size: Size,
    planes: [Layer; 3],
}

impl Sprite {
    pub(super) fn size(&self) -> Size {
        self.size
    }

    /// Draws it with its left upper corner at (`x`, `y`), both even; what is beyond the canvas is cut.
    pub(super) fn draw(&self, canvas: &mut Canvas, x: u32, y: u32) {
        let whole = canvas.size();
        let seen = Size {
            width: self.size.width.min(whole.width.saturating_sub(x)),
            height: self.size.height.min(whole.height.saturating_sub(y)),
        };
        for (index, layer) in self.planes.iter().enumerate() {
            let part = |size: Size| if index == 0 { size } else { chroma(size) };
            let (x, y) = if index == 0 { (x, y) } else { (x / 2, y / 2) };
            let (own, seen) = (part(self.size), part(seen));
            let width = seen.width as usize;
            let rows = layer.kept.chunks(own.width as usize).zip(layer.added.chunks(own.width as usize));
            for ((kept, added), row) in rows.zip(0..seen.height) {
                let below = canvas.row_mut(index, x, y + row, seen.width);
                for ((pixel, kept), added) in below.iter_mut().zip(&kept[..width]).zip(&added[..width]) {
                    *pixel = ((u16::from(*pixel) * kept + added) >> 8) as u8;
                }
            }
        }
    }
}

/// A sprite in the making: colours over each other.
pub(super) struct Easel {
    size: Size,
    /// Opacity, 0..=1.
    opacity: Vec<f32>,
    /// Times opacity.
    colour: [Vec<f32>; 3],
}

impl Easel {
    /// All transparent; sides are made even.
    pub(super) fn new(size: Size) -> Self {
        let size = Size { width: size.width.next_multiple_of(2), height: size.height.next_multiple_of(2) };
        let pixels = vec![0.0; (size.width * size.height) as usize];
        Self { size, opacity: pixels.clone(), colour: [pixels.clone(), pixels.clone(), pixels] }
    }

    /// Paints pixels as opaquely as `opacity` says of their centres.
    pub(super) fn paint(mut self, colour: Colour, opacity: impl Fn(f32, f32) -> f32) -> Self {
        for y in 0..self.size.height {
            for x in 0..self.size.width {
                let over = opacity(x as f32 + 0.5, y as f32 + 0.5).clamp(0.0, 1.0);
                self.cover((y * self.size.width + x) as usize, colour, over);
            }
        }
        self
    }

    /// Writes letters with their left upper corner at (`x`, `y`).
    pub(super) fn write(mut self, letters: &Lettering, colour: Colour, x: u32, y: u32) -> Self {
        for (row, line) in letters.coverage.chunks(letters.width.max(1) as usize).enumerate() {
            for (column, over) in line.iter().enumerate() {
                let (x, y) = (x + column as u32, y + row as u32);
                if x < self.size.width && y < self.size.height {
                    self.cover((y * self.size.width + x) as usize, colour, *over);
                }
            }
        }
        self
    }

    /// Copies a picture (red, green, blue and opacity of each pixel) of that size into the left upper corner.
    pub(super) fn copy(mut self, rgba: &[u8], size: Size) -> Self {
        for (y, row) in (0..size.height.min(self.size.height)).zip(rgba.chunks_exact(size.width as usize * 4))
        {
            for (x, pixel) in (0..self.size.width).zip(row.chunks_exact(4)) {
                let rgb = u32::from_be_bytes([0, pixel[0], pixel[1], pixel[2]]);
                let over = f32::from(pixel[3]) / 255.0;
                self.cover((y * self.size.width + x) as usize, Colour::from_rgb(rgb), over);
            }
        }
        self
    }

    fn cover(&mut self, pixel: usize, colour: Colour, over: f32) {
        self.opacity[pixel] = self.opacity[pixel] * (1.0 - over) + over;
        for (plane, value) in self.colour.iter_mut().zip(colour.0) {
            plane[pixel] = plane[pixel] * (1.0 - over) + f32::from(value) * over;
        }
    }

    pub(super) fn finish(self) -> Sprite {
        let [y, u, v] = &self.colour;
        let planes = [
            layer(&self.opacity, y),
            layer(&self.halved(&self.opacity), &self.halved(u)),
            layer(&self.halved(&self.opacity), &self.halved(v)),
        ];
        Sprite { size: self.size, planes }
    }

    /// Means of four pixels each.
    fn halved(&self, plane: &[f32]) -> Vec<f32> {
        let (width, half) = (self.size.width as usize, chroma(self.size));
        let mean = |i: usize| {
            let at = i / half.width as usize * 2 * width + i % half.width as usize * 2;
            (plane[at] + plane[at + 1] + plane[at + width] + plane[at + width + 1]) / 4.0
        };
        (0..(half.width * half.height) as usize).map(mean).collect()
    }
}

fn layer(opacity: &[f32], colour: &[f32]) -> Layer {
    let kept = opacity.iter().map(|opacity| ((1.0 - opacity) * OPAQUE).round() as u16);
    // Rounded in the end, and never more than fits: 255 parts of 256 and what is kept of 255.
    let added = colour.iter().zip(opacity).map(|(colour, opacity)| {
        let most = 255.0 * OPAQUE - 255.0 * ((1.0 - opacity) * OPAQUE).round() + 255.0;
        (colour * OPAQUE + 127.0).min(most).max(0.0) as u16
    });
    Layer { kept: kept.collect(), added: added.collect() }
}

/// The lines around a rectangle, within it.
pub(super) fn frame(canvas: &mut Canvas, rect: Rect, thickness: u32, colour: Colour) {
    let Rect { x, y, size: Size { width, height } } = rect;
    let thick = thickness.min(width / 2).min(height / 2) & !1;
    let part = |x, y, width, height| Rect { x, y, size: Size { width, height } };
    canvas.fill(part(x, y, width, thick), colour);
    canvas.fill(part(x, y + height - thick, width, thick), colour);
    canvas.fill(part(x, y, thick, height), colour);
    canvas.fill(part(x + width - thick, y, thick, height), colour);
}

#[cfg(test)]
mod tests {
    use super::{super::Frame, *};

    const BELOW: Colour = Colour([100, 90, 160]);
    const RED: Colour = Colour([81, 90, 240]);

    fn at(canvas: &Canvas, x: u32, y: u32) -> [u8; 3] {
        let [luma, u, v] = canvas.picture().unwrap().planes;
        [luma.row(x, y, 1)[0], u.row(x / 2, y / 2, 1)[0], v.row(x / 2, y / 2, 1)[0]]
    }
    fn size(width: u32, height: u32) -> Size {
        Size { width, height }
    }

    #[test]
    fn what_is_opaque_replaces_and_what_is_transparent_leaves() {
        for colour in [RED, Colour([255; 3]), Colour([0; 3])] {
            for below in [BELOW, Colour([255; 3]), Colour([0; 3])] {
                let mut canvas = Canvas::new(size(32, 32), below);
                let right = |x: f32, _: f32| if x > 4.0 { 1.0 } else { 0.0 };
                Easel::new(size(8, 8)).paint(colour, right).finish().draw(&mut canvas, 8, 8);
                assert_eq!(
                    [at(&canvas, 9, 9), at(&canvas, 13, 9), at(&canvas, 17, 9)],
                    [below.0, colour.0, below.0]
                );
            }
        }
    }

    #[test]
    fn halves_are_between() {
        let mut canvas = Canvas::new(size(32, 32), BELOW);
        Easel::new(size(8, 8)).paint(RED, |_, _| 0.5).finish().draw(&mut canvas, 0, 0);
        let off = at(&canvas, 3, 3).iter().zip([90, 90, 200]).map(|(is, wanted)| is.abs_diff(wanted)).max();
        assert!(off.unwrap() <= 1, "{:?}", at(&canvas, 3, 3));
    }

    #[test]
    fn what_is_beyond_the_canvas_is_cut() {
        let mut canvas = Canvas::new(size(32, 32), BELOW);
        let sprite = Easel::new(size(17, 17)).paint(RED, |_, _| 1.0).finish();
        assert_eq!(sprite.size(), size(18, 18));
        for (x, y) in [(24, 24), (32, 0), (0, 40)] {
            sprite.draw(&mut canvas, x, y);
        }
        assert_eq!([at(&canvas, 31, 31), at(&canvas, 0, 0), at(&canvas, 31, 0)], [RED.0, BELOW.0, BELOW.0]);
    }

    #[test]
    fn frames_have_four_sides_and_an_empty_middle() {
        let mut canvas = Canvas::new(size(64, 64), BELOW);
        frame(&mut canvas, Rect { x: 16, y: 16, size: size(32, 24) }, 4, RED);
        for (x, y) in [(16, 16), (47, 16), (16, 39), (47, 39), (30, 19), (19, 30), (44, 30), (30, 36)] {
            assert_eq!(at(&canvas, x, y), RED.0, "{x},{y}");
        }
        for (x, y) in [(20, 20), (43, 35), (15, 20), (48, 20), (30, 40)] {
            assert_eq!(at(&canvas, x, y), BELOW.0, "{x},{y}");
        }
    }
}
