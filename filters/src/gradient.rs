//! Gradients of a plane by Sobel's operator, with the choices that OpenCV's `Sobel` makes: borders are replicated, kernels are the products
//! of a binomial and of its derivative, and those of aperture 7 are divided by 16 (rounded to the nearest, halves to even), as `Canny` does.

use crate::Plane;

/// Pixels that a gradient is made of, along each side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aperture {
    /// 3×3.
    #[default]
    Three,
    /// 5×5.
    Five,
    /// 7×7.
    Seven,
}

impl Aperture {
    /// `None` for what is no aperture.
    #[must_use]
    pub fn new(pixels: u32) -> Option<Self> {
        match pixels {
            3 => Some(Self::Three),
            5 => Some(Self::Five),
            7 => Some(Self::Seven),
            _ => None,
        }
    }

    /// Along a side.
    #[must_use]
    pub fn pixels(self) -> u32 {
        match self {
            Self::Three => 3,
            Self::Five => 5,
            Self::Seven => 7,
        }
    }

    /// What [`Gradients`] are divided by.
    #[must_use]
    pub fn divisor(self) -> u32 {
        match self {
            Self::Three | Self::Five => 1,
            Self::Seven => 16,
        }
    }
}

/// How a magnitude is made of two gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Norm {
    /// |dx| + |dy|
    #[default]
    L1,
    /// √(dx² + dy²)
    L2,
}

/// How gradients are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lines {
    /// All at once.
    Taken,
    /// When they are needed.
    OneByOne,
}

/// Gradients of one plane after the other.
#[derive(Debug, Default)]
pub struct Gradients {
    width: usize,
    height: usize,
    dx: Vec<i16>,
    dy: Vec<i16>,
    /// Of one row: its sum with those around, weighted by the binomial, and by the derivative; replicated at both ends.
    smooth: Vec<i32>,
    difference: Vec<i32>,
    /// The same for aperture 3, whose sums are small.
    small_smooth: Vec<i16>,
    small_difference: Vec<i16>,
}

impl Gradients {
    /// Takes the gradients of a plane.
    pub fn take(&mut self, plane: Plane<'_>, aperture: Aperture) {
        self.resize(plane.width, plane.height);
        match aperture {
            Aperture::Three => (0..self.height).for_each(|y| self.row_of_three(plane, y)),
            Aperture::Five => self.rows(plane, [1, 4, 6, 4, 1], [-1, -2, 0, 2, 1], |sum| sum),
            Aperture::Seven => {
                self.rows(plane, [1, 6, 15, 20, 15, 6, 1], [-1, -4, -5, 0, 5, 4, 1], sixteenth);
            }
        }
    }

    /// Takes the gradients of a plane, or begins to: whether [`line`](Self::line) takes them.
    pub(crate) fn begin(&mut self, plane: Plane<'_>, aperture: Aperture) -> Lines {
        if aperture == Aperture::Three {
            self.resize(plane.width, plane.height);
            Lines::OneByOne
        } else {
            self.take(plane, aperture);
            Lines::Taken
        }
    }

    /// Takes those of line `y`, with aperture 3.
    pub(crate) fn line(&mut self, plane: Plane<'_>, y: usize) {
        self.row_of_three(plane, y);
    }

    /// Those of row `y`, to the right and downwards.
    pub(crate) fn of_row(&self, y: usize) -> (&[i16], &[i16]) {
        let row = y * self.width..(y + 1) * self.width;
        (&self.dx[row.clone()], &self.dy[row])
    }

    /// To the right, row by row.
    #[must_use]
    pub fn dx(&self) -> &[i16] {
        &self.dx
    }

    /// Downwards, row by row.
    #[must_use]
    pub fn dy(&self) -> &[i16] {
        &self.dy
    }

    /// Both of row `y`.
    pub fn row(&self, y: usize) -> impl Iterator<Item = (i16, i16)> + '_ {
        let row = y * self.width..(y + 1) * self.width;
        self.dx[row.clone()].iter().copied().zip(self.dy[row].iter().copied())
    }

    fn resize(&mut self, width: usize, height: usize) {
        if (self.width, self.height) == (width, height) {
            return;
        }
        (self.width, self.height) = (width, height);
        self.dx = vec![0; width * height];
        self.dy = vec![0; width * height];
        self.smooth = vec![0; width + 6];
        self.difference = vec![0; width + 6];
        self.small_smooth = vec![0; width + 2];
        self.small_difference = vec![0; width + 2];
    }

    /// Written as plain loops over slices, which the compiler vectorises.
    fn row_of_three(&mut self, plane: Plane<'_>, y: usize) {
        let width = self.width;
        let row = |offset: isize| plane.clamped_row(y as isize + offset);
        let (smooth, difference) = (&mut self.small_smooth, &mut self.small_difference);
        let sums = smooth[1..=width].iter_mut().zip(&mut difference[1..=width]);
        for ((smooth, difference), ((above, here), below)) in sums.zip(row(-1).iter().zip(row(0)).zip(row(1)))
        {
            *smooth = i16::from(*above) + 2 * i16::from(*here) + i16::from(*below);
            *difference = i16::from(*below) - i16::from(*above);
        }
        for line in [&mut *smooth, &mut *difference] {
            line[0] = line[1];
            line[width + 1] = line[width];
        }
        let dx = &mut self.dx[y * width..(y + 1) * width];
        let dy = &mut self.dy[y * width..(y + 1) * width];
        for ((dx, left), right) in dx.iter_mut().zip(&smooth[..width]).zip(&smooth[2..]) {
            *dx = right - left;
        }
        let (left, middle, right) = (&difference[..width], &difference[1..], &difference[2..]);
        for (((dy, left), middle), right) in dy.iter_mut().zip(left).zip(middle).zip(right) {
            *dy = left + 2 * middle + right;
        }
    }

    fn rows<const N: usize>(
        &mut self,
        plane: Plane<'_>,
        binomial: [i32; N],
        derivative: [i32; N],
        scale: impl Fn(i32) -> i32 + Copy,
    ) {
        let (width, reach) = (self.width, N / 2);
        for y in 0..self.height {
            let smooth = &mut self.smooth[..width + 2 * reach];
            let difference = &mut self.difference[..width + 2 * reach];
            smooth.fill(0);
            difference.fill(0);
            for (k, (b, d)) in binomial.into_iter().zip(derivative).enumerate() {
                let row = plane.clamped_row(y as isize + k as isize - reach as isize);
                for (smooth, pixel) in smooth[reach..].iter_mut().zip(row) {
                    *smooth += b * i32::from(*pixel);
                }
                for (difference, pixel) in difference[reach..].iter_mut().zip(row) {
                    *difference += d * i32::from(*pixel);
                }
            }
            for line in [&mut *smooth, &mut *difference] {
                let (first, last) = (line[reach], line[reach + width - 1]);
                line[..reach].fill(first);
                line[reach + width..].fill(last);
            }
            let dx = &mut self.dx[y * width..(y + 1) * width];
            let dy = &mut self.dy[y * width..(y + 1) * width];
            for (dx, window) in dx.iter_mut().zip(smooth.windows(N)) {
                *dx = narrow(scale(weighted(window, derivative)));
            }
            for (dy, window) in dy.iter_mut().zip(difference.windows(N)) {
                *dy = narrow(scale(weighted(window, binomial)));
            }
        }
    }
}

fn weighted<const N: usize>(window: &[i32], weights: [i32; N]) -> i32 {
    window.iter().zip(weights).map(|(value, weight)| value * weight).sum()
}

/// The largest sums, 12,240 of aperture 5 and 10,200 of aperture 7, fit.
fn narrow(sum: i32) -> i16 {
    sum.clamp(i16::MIN.into(), i16::MAX.into()) as i16
}

/// Halves go to the even neighbour.
fn sixteenth(sum: i32) -> i32 {
    let odd = (sum >> 4) & 1;
    (sum + 7 + odd) >> 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(aperture: Aperture, width: usize, rows: &[u8]) -> Gradients {
        let mut gradients = Gradients::default();
        gradients.take(Plane::new(rows, width, width, rows.len() / width).unwrap(), aperture);
        gradients
    }

    #[test]
    fn a_ramp_has_the_slope_that_the_kernel_weighs() {
        // One more per column: the kernel's weights times its offsets.
        let ramp: Vec<u8> = (0..9 * 9).map(|i| (i % 9) as u8).collect();
        for (aperture, slope) in [(Aperture::Three, 8), (Aperture::Five, 128), (Aperture::Seven, 2048 / 16)] {
            let gradients = of(aperture, 9, &ramp);
            assert_eq!((gradients.dx()[4 * 9 + 4], gradients.dy()[4 * 9 + 4]), (slope, 0), "{aperture:?}");
        }
    }

    #[test]
    fn the_largest_step_fits() {
        let step: Vec<u8> = (0..12 * 12).map(|i| if i % 12 < 6 { 0 } else { 255 }).collect();
        for (aperture, largest) in
            [(Aperture::Three, 1020), (Aperture::Five, 12_240), (Aperture::Seven, 10_200)]
        {
            assert_eq!(of(aperture, 12, &step).dx().iter().max(), Some(&largest), "{aperture:?}");
        }
    }

    #[test]
    fn all_apertures_bear_planes_smaller_than_themselves() {
        for aperture in [Aperture::Three, Aperture::Five, Aperture::Seven] {
            assert_eq!(of(aperture, 1, &[7]).dx(), [0]);
            assert_eq!(of(aperture, 2, &[7, 7]).dy(), [0, 0]);
        }
    }

    #[test]
    fn sixteenths_are_rounded_to_the_nearest_and_halves_to_even() {
        let rounded = [-24, -9, -8, -7, 0, 7, 8, 9, 24, 40].map(sixteenth);
        assert_eq!(rounded, [-2, -1, 0, 0, 0, 0, 0, 1, 2, 2]);
    }
}
