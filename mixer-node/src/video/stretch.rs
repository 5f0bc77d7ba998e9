//! Bilinear scaling of a plane. Meant for anything but reductions to less than a half, for which two pixels are too few.
//!
//! Where the processor has AVX2 (`wide`) sixteen pixels are made at a time. Elsewhere eight rows are: of the two passes the one along the
//! rows can't be vectorised by itself, but eight bytes in a word are interpolated at once, if they are those of a column. Both make the
//! same pixels.

#[cfg(target_arch = "x86_64")]
mod wide;

use super::{Plane, Rect, Size};

/// Rows at a time, and columns that become rows at a time.
const ROWS: usize = 8;
/// Weights are of so many parts: they fit in seven bits, their products with two bytes in 15.
const PARTS: u32 = 64;
/// Four bytes of a word, with room above each.
const LANES: u64 = 0x00ff_00ff_00ff_00ff;
/// Half of the last place, in all.
const HALF: u64 = (PARTS as u64 / 2) * 0x0001_0001_0001_0001;
const SHIFT: u32 = PARTS.trailing_zeros();
/// Tables kept at most; a view has a few different sizes.
const MAX_AXES: usize = 32;

/// Where each pixel of a scaled line comes from: the first of two pixels, and the weight of the second.
struct Axis {
    from: u32,
    to: u32,
    taps: Vec<(u32, u32)>,
    #[cfg(target_arch = "x86_64")]
    wide: wide::Taps,
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
        let taps: Vec<_> = (0..to).map(tap).collect();
        Self {
            from,
            to,
            #[cfg(target_arch = "x86_64")]
            wide: wide::Taps::new(&taps),
            taps,
        }
    }
}

/// Scales planes; keeps what it takes for the sizes that it has met.
#[derive(Default)]
pub(super) struct Stretch {
    axes: Vec<Axis>,
    /// Eight rows between those of the source, of a multiple of eight pixels.
    blended: Vec<u8>,
    /// The same by columns, and scaled.
    columns: Vec<u64>,
    scaled: Vec<u64>,
    /// Whether nothing is made use of that only some processors have.
    #[cfg(target_arch = "x86_64")]
    portable: bool,
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
        #[cfg(target_arch = "x86_64")]
        if !self.portable && wide::is_available() {
            return wide::scale(plane, part, target, stride, (x, y), &mut self.blended);
        }
        let (width, wide) = (part.size.width as usize, (part.size.width as usize).next_multiple_of(ROWS));
        self.blended.resize(wide * ROWS, 0);
        self.columns.resize(wide, 0);
        self.scaled.resize(x.taps.len().next_multiple_of(ROWS), 0);
        for (taps, rows) in y.taps.chunks(ROWS).zip(target.chunks_mut(stride * ROWS)) {
            for ((first, weight), out) in taps.iter().zip(self.blended.chunks_exact_mut(wide)) {
                let row = |offset: u32| plane.row(part.x, part.y + first + offset, part.size.width);
                blend(row(0), row(1), *weight, out.get_mut(..width)?)?;
            }
            stand_up(&self.blended, wide, &mut self.columns)?;
            across(&self.columns, &x.taps, &mut self.scaled)?;
            let rows = rows.chunks_mut(stride).take(taps.len());
            lie_down(&self.scaled, size.width as usize, rows.collect());
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

/// A row between two. Compilers vectorise this.
#[inline(always)]
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

/// Makes rows of eight bytes columns, and columns rows: byte `i` of word `j` becomes byte `j` of word `i`.
#[inline(always)]
fn transpose(mut block: [u64; ROWS]) -> [u64; ROWS] {
    // By single bytes, pairs and fours. Written out, so that shifts and masks are constants.
    for first in [0, 2, 4, 6] {
        exchange::<1>(&mut block, first, LANES);
    }
    for first in [0, 1, 4, 5] {
        exchange::<2>(&mut block, first, 0x0000_ffff_0000_ffff);
    }
    for first in [0, 1, 2, 3] {
        exchange::<4>(&mut block, first, 0x0000_0000_ffff_ffff);
    }
    block
}

/// Exchanges the upper parts of a word and the lower ones of that `DISTANCE` behind it.
#[inline(always)]
fn exchange<const DISTANCE: usize>(block: &mut [u64; ROWS], first: usize, mask: u64) {
    let (second, shift) = (first + DISTANCE, 8 * DISTANCE);
    let exchanged = ((block[first] >> shift) ^ block[second]) & mask;
    block[second] ^= exchanged;
    block[first] ^= exchanged << shift;
}

/// Eight rows as columns.
fn stand_up(rows: &[u8], wide: usize, columns: &mut [u64]) -> Option<()> {
    for (block, columns) in columns.chunks_exact_mut(ROWS).enumerate() {
        let mut words = [0; ROWS];
        for (word, row) in words.iter_mut().zip(rows.chunks_exact(wide)) {
            *word = u64::from_le_bytes(*row.get(block * ROWS..)?.first_chunk()?);
        }
        columns.copy_from_slice(&transpose(words));
    }
    Some(())
}

/// Columns as rows, as many as there are.
fn lie_down(columns: &[u64], width: usize, mut rows: Vec<&mut [u8]>) {
    for (block, columns) in columns.chunks_exact(ROWS).enumerate() {
        let Some(words) = columns.first_chunk::<ROWS>() else { return };
        let at = block * ROWS;
        for (word, row) in transpose(*words).into_iter().zip(&mut rows) {
            if let Some(place) = row.get_mut(at..width.min(at + ROWS)) {
                place.copy_from_slice(&word.to_le_bytes()[..place.len()]);
            }
        }
    }
}

/// Interpolates between columns.
fn across(columns: &[u64], taps: &[(u32, u32)], scaled: &mut [u64]) -> Option<()> {
    for ((first, weight), out) in taps.iter().zip(scaled) {
        let [a, b] = *columns.get(*first as usize..)?.first_chunk::<2>()?;
        let (near, far) = (u64::from(PARTS - weight), u64::from(*weight));
        let mix = |a: u64, b: u64| (((a & LANES) * near + (b & LANES) * far + HALF) >> SHIFT) & LANES;
        *out = mix(a, b) | mix(a >> 8, b >> 8) << 8;
    }
    Some(())
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
    fn rows_become_columns() {
        let words: [u64; ROWS] =
            std::array::from_fn(|row| u64::from_le_bytes(std::array::from_fn(|i| (10 * row + i) as u8)));
        for (column, word) in transpose(words).into_iter().enumerate() {
            assert_eq!(word.to_le_bytes(), std::array::from_fn(|row| (10 * row + column) as u8));
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn what_only_some_processors_have_makes_the_same_pixels() {
        let pixels: Vec<u8> =
            (0..200u32 * 120).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let plane = Plane::new(&pixels, 200, Size { width: 200, height: 120 }).unwrap();
        for (width, height) in [(200, 120), (197, 117), (64, 48), (33, 2), (2, 2), (17, 16), (100, 60)] {
            let part = Rect { x: 3, y: 0, size: Size { width: width.min(197), height } };
            for (to_width, to_height) in [
                (width, height),
                (width * 2 / 3 + 1, height * 3 / 4 + 1),
                (part.size.width.div_ceil(2), height.div_ceil(2)),
                (width + 61, height + 7),
                (width * 3, height),
            ] {
                let size = Size { width: to_width, height: to_height };
                assert!(Stretch::suits(part.size, size), "{part:?} {size:?}");
                let made = |portable| {
                    let mut target = vec![7; (to_width * to_height) as usize];
                    let mut stretch = Stretch { portable, ..Stretch::default() };
                    stretch.scale(&plane, part, &mut target, to_width as usize, size).unwrap();
                    target
                };
                assert!(made(true) == made(false), "{part:?} {size:?}");
            }
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
