//! Planes turned and mirrored.

use crate::{Flip, Plane};

/// Fractions of a pixel are counted in 1/65536.
const ONE: i64 = 1 << 16;

/// Clockwise, after mirroring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Degrees, 0..=359.
    pub angle: u32,
    /// What is mirrored before it is turned.
    pub flip: Flip,
}

impl Rotation {
    /// Whether width and height change places: the picture lies on its side. Other angles leave the size as it is and cut what stands over.
    #[must_use]
    pub fn swaps_sides(self) -> bool {
        matches!(self.angle, 90 | 270)
    }

    /// Whether every picture stays as it is.
    #[must_use]
    pub fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Turns a plane whose pixels are `N` bytes (`from.width() / N` pixels in a row) into `to`, rows `stride` bytes apart, of the size that
    /// [`swaps_sides`](Self::swaps_sides) tells. Where there is nothing, it is `background`. A target that is too short stays as it is.
    pub fn turn<const N: usize>(self, from: Plane<'_>, to: &mut [u8], stride: usize, background: [u8; N]) {
        let (width, height) = (from.width() / N, from.height());
        let (across, down) = if self.swaps_sides() { (height, width) } else { (width, height) };
        if across == 0 || stride < across * N || to.len() < stride * (down - 1) + across * N {
            return;
        }
        let rows = to.chunks_mut(stride).take(down).enumerate();
        let (right, bottom) = (width - 1, height - 1);
        // Where a pixel of the upright, mirrored picture is in the given one.
        let place = |x: usize, y: usize| match self.flip {
            Flip::None => (x, y),
            Flip::Horizontal => (right - x, y),
            Flip::Vertical => (x, bottom - y),
        };
        let pixel = |x: usize, y: usize| -> [u8; N] {
            let (x, y) = place(x, y);
            from.row(y)[x * N..].first_chunk().copied().unwrap_or(background)
        };
        for (y, row) in rows {
            let pixels = row.as_chunks_mut::<N>().0.iter_mut().take(across).enumerate();
            match self.angle % 360 {
                0 => pixels.for_each(|(x, out)| *out = pixel(x, y)),
                90 => pixels.for_each(|(x, out)| *out = pixel(y, bottom - x)),
                180 => pixels.for_each(|(x, out)| *out = pixel(right - x, bottom - y)),
                270 => pixels.for_each(|(x, out)| *out = pixel(right - y, x)),
                angle => {
                    let (sin, cos) = sin_cos(angle);
                    // Twice the distance from the middle, so that it is whole.
                    let dy = 2 * y as i64 - bottom as i64;
                    for (x, out) in pixels {
                        let dx = 2 * x as i64 - right as i64;
                        let fx = (dx * cos + dy * sin + right as i64 * ONE) / 2;
                        let fy = (dy * cos - dx * sin + bottom as i64 * ONE) / 2;
                        *out = between(&pixel, (width, height), (fx, fy), background);
                    }
                }
            }
        }
    }
}

/// In 1/65536.
fn sin_cos(degrees: u32) -> (i64, i64) {
    let (sin, cos) = f64::from(degrees).to_radians().sin_cos();
    ((sin * ONE as f64).round() as i64, (cos * ONE as f64).round() as i64)
}

/// The mean of the four pixels around a place, weighted by how near they are.
fn between<const N: usize>(
    pixel: &impl Fn(usize, usize) -> [u8; N],
    (width, height): (usize, usize),
    (fx, fy): (i64, i64),
    background: [u8; N],
) -> [u8; N] {
    let (left, top) = (fx.div_euclid(ONE), fy.div_euclid(ONE));
    let (wx, wy) = (fx.rem_euclid(ONE) >> 8, fy.rem_euclid(ONE) >> 8);
    let at = |x: i64, y: i64| match (usize::try_from(x), usize::try_from(y)) {
        (Ok(x), Ok(y)) if x < width && y < height => pixel(x, y),
        _ => background,
    };
    let around = [at(left, top), at(left + 1, top), at(left, top + 1), at(left + 1, top + 1)];
    let weights = [(256 - wx) * (256 - wy), wx * (256 - wy), (256 - wx) * wy, wx * wy];
    std::array::from_fn(|i| {
        let sum: i64 = around.iter().zip(weights).map(|(pixel, weight)| i64::from(pixel[i]) * weight).sum();
        ((sum + (1 << 15)) >> 16) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turned(angle: u32, flip: Flip) -> Vec<u8> {
        let rotation = Rotation { angle, flip };
        let picture = [1, 2, 3, 0, 4, 5, 6, 0];
        let plane = Plane::new(&picture, 4, 3, 2).unwrap();
        let mut to = vec![9; 6];
        rotation.turn(plane, &mut to, if rotation.swaps_sides() { 2 } else { 3 }, [0]);
        to
    }

    #[test]
    fn quarters_are_turned_clockwise() {
        assert_eq!(turned(0, Flip::None), [1, 2, 3, 4, 5, 6]);
        assert_eq!(turned(90, Flip::None), [4, 1, 5, 2, 6, 3]);
        assert_eq!(turned(180, Flip::None), [6, 5, 4, 3, 2, 1]);
        assert_eq!(turned(270, Flip::None), [3, 6, 2, 5, 1, 4]);
    }

    #[test]
    fn mirrored_first_and_turned_then() {
        assert_eq!(turned(0, Flip::Horizontal), [3, 2, 1, 6, 5, 4]);
        assert_eq!(turned(0, Flip::Vertical), [4, 5, 6, 1, 2, 3]);
        assert_eq!(turned(180, Flip::Vertical), turned(0, Flip::Horizontal));
        assert_eq!(turned(90, Flip::Horizontal), [6, 3, 5, 2, 4, 1]);
    }

    #[test]
    fn pixels_of_two_bytes_stay_together() {
        let picture = [1, 10, 2, 20, 3, 30, 4, 40];
        let mut to = [0; 8];
        let rotation = Rotation { angle: 90, flip: Flip::None };
        rotation.turn(Plane::new(&picture, 4, 4, 2).unwrap(), &mut to, 4, [0, 0]);
        assert_eq!(to, [3, 30, 1, 10, 4, 40, 2, 20]);
    }

    #[test]
    fn any_angle_turns_about_the_middle_and_leaves_the_corners_empty() {
        let mut picture = vec![50; 41 * 41];
        picture[20 * 41 + 20] = 250;
        picture[20 * 41 + 40] = 200;
        let plane = Plane::new(&picture, 41, 41, 41).unwrap();
        let turn = |angle| {
            let mut to = vec![0; 41 * 41];
            Rotation { angle, flip: Flip::None }.turn(plane, &mut to, 41, [16]);
            to
        };
        for angle in [30, 45, 123, 300] {
            let to = turn(angle);
            assert_eq!(to[20 * 41 + 20], 250, "{angle}");
            assert_eq!(turn(angle), to, "the same again");
        }
        let to = turn(45);
        assert_eq!([to[0], to[40], to[40 * 41], to[41 * 41 - 1]], [16; 4]);
        // What was at the right is at the lower right.
        let (brightest, _) = to
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != 20 * 41 + 20)
            .max_by_key(|(_, value)| **value)
            .unwrap();
        assert!((brightest % 41).abs_diff(34) <= 1 && (brightest / 41).abs_diff(34) <= 1, "{brightest}");
    }

    #[test]
    fn a_target_that_is_too_short_stays_as_it_is() {
        let picture = [1, 2, 3, 4];
        let mut to = [7; 3];
        Rotation::default().turn(Plane::new(&picture, 2, 2, 2).unwrap(), &mut to, 2, [0]);
        assert_eq!(to, [7; 3]);
    }
}
