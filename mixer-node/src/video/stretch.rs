//! Bilinear scaling of a plane, four rows at a time: of the two passes the one along the rows can't be vectorised, but four bytes in a word
//! are interpolated at once. Meant for anything but reductions to less than a half, for which two pixels are too few.

use super::{Plane, Rect, Size};

/// Rows at a time.
const ROWS: usize = 4;
/// Weights are of so many parts; their products with two bytes fit in 16 bits.
const PARTS: u32 = 128;
/// Two bytes of a word, with room above each.
const LANES: u32 = 0x00ff_00ff;
/// Half of the last place, in both.
const HALF: u32 = (PARTS / 2) * 0x0001_0001;
const SHIFT: u32 = PARTS.trailing_zeros();
/// Tables kept at most; a view has a few different sizes.
const MAX_AXES: usize = 32;

/// Where each pixel of a scaled line comes from: the first of two pixels, and the weight of the second.
struct Axis {
    from: u32,
    to: u32,
    taps: Vec<(u32, u32)>,
}

impl Axis {
    /// `from` is at least two.
    fn new(from: u32, to: u32) -> Self {
        let step = f64::from(from) / f64::from(to);
        let tap = |pixel: u32| {
            let at = ((f64::from(pixel) + 0.5) * step - 0.5).clamp(0.0, f64::from(from - 1));
            let first = (at as u32).min(from - 2);
            (first, ((at - f64::from(first)) * f64::from(PARTS)).round() as u32)
        };
        Self { from, to, taps: (0..to).map(tap).collect() }
    }
}

/// Scales planes; keeps what it takes for the sizes that it has met.
#[derive(Default)]
pub(super) struct Stretch {
    axes: Vec<Axis>,
    blended: Vec<u8>,
}

impl Stretch {
    /// Whether it is meant for that.
    pub(super) fn suits(source: Size, target: Size) -> bool {
        let suits = |from: u32, to: u32| from >= 2 && to > 0 && from <= 2 * to;
        suits(source.width, target.width) && suits(source.height, target.height)
    }

    /// Scales a part of `plane`, for which this [`suits`](Self::suits), to `size`, into rows of `stride` bytes. `None` if the part is not
    /// within the plane.
    pub(super) fn scale(
        &mut self,
        plane: &Plane<'_>,
        part: Rect,
        target: &mut [u8],
        stride: usize,
        size: Size,
    ) -> Option<()> {
        if self.axes.len() + 2 > MAX_AXES {
            self.axes.clear();
        }
        let (x, y) = (self.axis(part.size.width, size.width), self.axis(part.size.height, size.height));
        let (x, y) = (self.axes.get(x)?, self.axes.get(y)?);
        let width = part.size.width as usize;
        self.blended.resize(width * ROWS, 0);
        for (taps, rows) in y.taps.chunks(ROWS).zip(target.chunks_mut(stride * ROWS)) {
            for ((first, weight), out) in taps.iter().zip(self.blended.chunks_exact_mut(width)) {
                let row = |offset: u32| plane.row(part.x, part.y + first + offset, part.size.width);
                blend(row(0), row(1), *weight, out)?;
            }
            let mut lines = self.blended.chunks_exact(width);
            let mut line = || lines.next();
            let lines = [line()?, line()?, line()?, line()?];
            let mut places = rows.chunks_mut(stride).map(|row| row.get_mut(..size.width as usize));
            let mut place = || places.next().flatten();
            match (place(), place(), place(), place()) {
                (Some(a), Some(b), Some(c), Some(d)) if taps.len() == ROWS => {
                    across(lines, &x.taps, [a, b, c, d]);
                }
                (a, b, c, _) => {
                    for (line, row) in lines.into_iter().zip([a, b, c].into_iter().flatten()).take(taps.len())
                    {
                        for ((first, weight), out) in x.taps.iter().zip(row) {
                            let pair = line.get(*first as usize..)?.first_chunk::<2>()?;
                            *out = between(pair[0], pair[1], *weight);
                        }
                    }
                }
            }
        }
        Some(())
    }

    /// The index of the table for these lengths.
    fn axis(&mut self, from: u32, to: u32) -> usize {
        if let Some(known) = self.axes.iter().position(|axis| (axis.from, axis.to) == (from, to)) {
            return known;
        }
        self.axes.push(Axis::new(from, to));
        self.axes.len() - 1
    }
}

fn between(a: u8, b: u8, weight: u32) -> u8 {
    ((u32::from(a) * (PARTS - weight) + u32::from(b) * weight + PARTS / 2) >> SHIFT) as u8
}

/// A row between two. Compilers vectorise this.
fn blend(a: &[u8], b: &[u8], weight: u32, out: &mut [u8]) -> Option<()> {
    if a.len() != out.len() || b.len() != out.len() {
        return None;
    }
    let (near, far) = ((PARTS - weight) as u16, weight as u16);
    for ((a, b), out) in a.iter().zip(b).zip(out) {
        *out = ((u16::from(*a) * near + u16::from(*b) * far + (PARTS / 2) as u16) >> SHIFT) as u8;
    }
    Some(())
}

/// Interpolates along four rows at once.
fn across(lines: [&[u8]; ROWS], taps: &[(u32, u32)], out: [&mut [u8]; ROWS]) {
    let [l0, l1, l2, l3] = lines;
    let [o0, o1, o2, o3] = out;
    let outs = o0.iter_mut().zip(o1).zip(o2).zip(o3);
    for ((first, weight), (((o0, o1), o2), o3)) in taps.iter().zip(outs) {
        let first = *first as usize;
        let pairs = (pair(l0, first), pair(l1, first), pair(l2, first), pair(l3, first));
        let (Some(p0), Some(p1), Some(p2), Some(p3)) = pairs else { return };
        let a = u32::from_le_bytes([p0[0], p1[0], p2[0], p3[0]]);
        let b = u32::from_le_bytes([p0[1], p1[1], p2[1], p3[1]]);
        let mix = |a: u32, b: u32| {
            (((a & LANES) * (PARTS - weight) + (b & LANES) * weight + HALF) >> SHIFT) & LANES
        };
        let mixed = (mix(a, b) | mix(a >> 8, b >> 8) << 8).to_le_bytes();
        [*o0, *o1, *o2, *o3] = mixed;
    }
}

fn pair(line: &[u8], at: usize) -> Option<&[u8; 2]> {
    line.get(at..at + 2)?.first_chunk()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scaled(pixels: &[u8], from: (u32, u32), part: Rect, to: (u32, u32)) -> Vec<u8> {
        let plane = Plane::new(pixels, from.0 as usize, Size { width: from.0, height: from.1 }).unwrap();
        let stride = to.0 as usize + 3;
        let mut target = vec![7; stride * to.1 as usize];
        let size = Size { width: to.0, height: to.1 };
        assert!(Stretch::suits(part.size, size));
        Stretch::default().scale(&plane, part, &mut target, stride, size).unwrap();
        assert!(target.chunks(stride).all(|row| row[to.0 as usize..] == [7; 3]), "beyond its rows");
        target.chunks(stride).flat_map(|row| row[..to.0 as usize].to_vec()).collect()
    }
    fn whole(width: u32, height: u32) -> Rect {
        Rect { x: 0, y: 0, size: Size { width, height } }
    }

    #[test]
    fn it_is_bilinear() {
        let (width, height) = (64u32, 37u32);
        let pixels: Vec<u8> =
            (0..width * height).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let at = |x: f64, y: f64| {
            let (x, y) = (x.clamp(0.0, f64::from(width - 1)), y.clamp(0.0, f64::from(height - 1)));
            let (left, top) = ((x as u32).min(width - 2), (y as u32).min(height - 2));
            let (fx, fy) = (x - f64::from(left), y - f64::from(top));
            let p = |dx, dy| f64::from(pixels[((top + dy) * width + left + dx) as usize]);
            (p(0, 0) * (1.0 - fx) + p(1, 0) * fx) * (1.0 - fy) + (p(0, 1) * (1.0 - fx) + p(1, 1) * fx) * fy
        };
        for (to_width, to_height) in [(43, 25), (64, 37), (32, 19), (100, 50), (63, 36), (65, 38), (33, 21)] {
            let out = scaled(&pixels, (width, height), whole(width, height), (to_width, to_height));
            for (i, value) in out.iter().enumerate() {
                let (x, y) = (i as u32 % to_width, i as u32 / to_width);
                let source =
                    |i: u32, from: u32, to: u32| (f64::from(i) + 0.5) * f64::from(from) / f64::from(to) - 0.5;
                let wanted = at(source(x, width, to_width), source(y, height, to_height));
                let off = (f64::from(*value) - wanted).abs();
                assert!(off <= 3.0, "{to_width}×{to_height} at {x},{y}: {value}, not {wanted}");
            }
        }
    }

    #[test]
    fn of_a_part_nothing_around_it_shines_in() {
        let mut pixels = vec![255; 40 * 30];
        for y in 10..20 {
            pixels[y * 40 + 8..y * 40 + 28].fill(50);
        }
        let part = Rect { x: 8, y: 10, size: Size { width: 20, height: 10 } };
        for to in [(20, 10), (14, 7), (31, 17), (10, 5)] {
            assert!(scaled(&pixels, (40, 30), part, to).iter().all(|value| *value == 50), "{to:?}");
        }
    }

    #[test]
    fn many_sizes_are_forgotten_again() {
        let pixels = [9; 64 * 64];
        let size = |width, height| Size { width, height };
        let plane = Plane::new(&pixels, 64, size(64, 64)).unwrap();
        let (mut stretch, mut target) = (Stretch::default(), vec![0; 64 * 64]);
        for side in 32..64 {
            let size = size(side, 95 - side);
            stretch.scale(&plane, whole(64, 64), &mut target, 64, size).unwrap();
            assert!(stretch.axes.len() <= MAX_AXES);
        }
    }

    #[test]
    fn a_part_outside_of_the_plane_is_refused() {
        let pixels = [9; 16 * 16];
        let size = Size { width: 16, height: 16 };
        let plane = Plane::new(&pixels, 16, size).unwrap();
        let part = Rect { x: 8, y: 8, size };
        assert_eq!(Stretch::default().scale(&plane, part, &mut [0; 256], 16, size), None);
    }
}
