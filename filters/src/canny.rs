//! Canny's edge detector on one plane (J. Canny, "A Computational Approach to Edge Detection", 1986), with the choices that OpenCV's `Canny`
//! makes: [its gradients](crate::gradient), no blurring beforehand, directions quantised to four.

mod line;

use crate::{Aperture, Gradients, Norm, Plane, gradient::Lines};

/// tan(22.5°) in units of 1/32768.
const TAN_22_5: i32 = 13_573;

/// What is known of a pixel.
const NONE: u8 = 0;
/// Above the low threshold and a local maximum: an edge if it hangs together with a strong one.
const WEAK: u8 = 1;
/// An edge.
const EDGE: u8 = 2;

/// What is compared with the gradient's magnitude. The largest magnitudes (L1) are 2,040 with aperture 3, 24,480 with 5 and 326,400 with 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Weak edges are above this; they count where they touch strong ones.
    pub low: u32,
    /// Strong edges are above this.
    pub high: u32,
}

impl Thresholds {
    /// In the units of [`Gradients`], the lower one first.
    fn scaled(self, aperture: Aperture, norm: Norm) -> (u32, u32) {
        let divisor = aperture.divisor();
        let scale = |threshold: u32| match norm {
            Norm::L1 => threshold / divisor,
            // OpenCV clamps likewise, before it squares.
            Norm::L2 => {
                let threshold = u64::from(threshold.min(i16::MAX as u32 * divisor));
                (threshold * threshold / u64::from(divisor * divisor)) as u32
            }
        };
        let (low, high) = (scale(self.low), scale(self.high));
        (low.min(high), low.max(high))
    }
}

/// Finds edges; keeps its memory from picture to picture.
#[derive(Debug, Default)]
pub struct Canny {
    width: usize,
    height: usize,
    gradients: Gradients,
    /// Bordered by zeros, so that pixels at the rim have neighbours.
    magnitude: Vec<i16>,
    /// The same, squared, if the norm is L2.
    squared: Vec<u32>,
    /// Bordered by [`NONE`].
    state: Vec<u8>,
    strong: Vec<usize>,
}

impl Canny {
    /// Finds the edges of a plane. Afterwards [`row`](Self::row) tells the result.
    pub fn detect(&mut self, plane: Plane<'_>, aperture: Aperture, norm: Norm, thresholds: Thresholds) {
        self.resize(plane.width(), plane.height());
        let (low, high) = thresholds.scaled(aperture, norm);
        match norm {
            Norm::L1 => {
                // No magnitude is above what does not fit.
                let fitting = |threshold: u32| i16::try_from(threshold).unwrap_or(i16::MAX);
                self.thin_sums(plane, aperture, (fitting(low), fitting(high)));
            }
            Norm::L2 => {
                self.gradients.take(plane, aperture);
                self.squares();
                let squared = std::mem::take(&mut self.squared);
                self.thin(&squared, low, high);
                self.squared = squared;
            }
        }
        self.trace();
    }

    /// Row `y` of the result: true where an edge is.
    pub fn row(&self, y: usize) -> impl Iterator<Item = bool> + '_ {
        let start = (y + 1) * (self.width + 2) + 1;
        self.state.get(start..start + self.width).unwrap_or_default().iter().map(|state| *state == EDGE)
    }

    fn resize(&mut self, width: usize, height: usize) {
        if (self.width, self.height) == (width, height) {
            return;
        }
        (self.width, self.height) = (width, height);
        let bordered = (width + 2) * (height + 2);
        self.magnitude = vec![0; bordered];
        self.squared = Vec::new();
        self.state = vec![NONE; bordered];
    }

    /// As [`thin`](Self::thin), by the sums of both gradients, line by line: what is needed of the lines before is at hand.
    fn thin_sums(&mut self, plane: Plane<'_>, aperture: Aperture, thresholds: (i16, i16)) {
        self.strong.clear();
        let lines = self.gradients.begin(plane, aperture);
        for y in 0..=self.height {
            if y < self.height {
                if lines == Lines::OneByOne {
                    self.gradients.line(plane, y);
                }
                self.sum(y);
            }
            if y > 0 {
                self.thin_line(y - 1, thresholds);
            }
        }
    }

    /// The magnitudes of line `y`.
    fn sum(&mut self, y: usize) {
        let (width, stride) = (self.width, self.width + 2);
        let (dx, dy) = self.gradients.of_row(y);
        let row = &mut self.magnitude[(y + 1) * stride + 1..][..width];
        for ((magnitude, dx), dy) in row.iter_mut().zip(dx).zip(dy) {
            *magnitude = dx.wrapping_abs() + dy.wrapping_abs();
        }
    }

    fn thin_line(&mut self, y: usize, thresholds: (i16, i16)) {
        let (width, stride) = (self.width, self.width + 2);
        let line = |y: usize| &self.magnitude[y * stride..][..stride];
        let lines = line::Lines { above: line(y), here: line(y + 1), below: line(y + 2) };
        let (dx, dy) = self.gradients.of_row(y);
        let begin = (y + 1) * stride + 1;
        let state = &mut self.state[begin..begin + width];
        line::thin(lines, dx, dy, thresholds, state);
        for (block, state) in state.chunks(16).enumerate() {
            if state.iter().fold(NONE, |most, state| most.max(*state)) == EDGE {
                let strong = state.iter().enumerate().filter(|(_, state)| **state == EDGE);
                self.strong.extend(strong.map(|(i, _)| begin + block * 16 + i));
            }
        }
    }

    fn squares(&mut self) {
        let Self { width, gradients, squared, state, .. } = self;
        squared.resize(state.len(), 0);
        let gradients = gradients.dx().chunks(*width).zip(gradients.dy().chunks(*width));
        for (row, (dx, dy)) in squared.chunks_mut(*width + 2).skip(1).zip(gradients) {
            for ((squared, dx), dy) in row[1..].iter_mut().zip(dx).zip(dy) {
                let (dx, dy) = (i32::from(*dx), i32::from(*dy));
                *squared = (dx * dx + dy * dy) as u32;
            }
        }
    }

    /// Keeps pixels that are a maximum across the edge, and collects those that are strong.
    fn thin<M: Copy + Ord>(&mut self, magnitudes: &[M], low: M, high: M) {
        let stride = self.width + 2;
        self.strong.clear();
        for y in 0..self.height {
            for x in 0..self.width {
                let at = (y + 1) * stride + x + 1;
                let magnitude = magnitudes[at];
                self.state[at] = NONE;
                if magnitude <= low {
                    continue;
                }
                let gradient = y * self.width + x;
                let (dx, dy) =
                    (i32::from(self.gradients.dx()[gradient]), i32::from(self.gradients.dy()[gradient]));
                if !is_maximum(magnitudes, at, stride, dx, dy) {
                    continue;
                }
                if magnitude > high {
                    self.state[at] = EDGE;
                    self.strong.push(at);
                } else {
                    self.state[at] = WEAK;
                }
            }
        }
    }

    /// Makes edges of all weak pixels that hang together with a strong one.
    fn trace(&mut self) {
        let stride = self.width + 2;
        while let Some(at) = self.strong.pop() {
            let (above, below) = (at - stride, at + stride);
            for near in [above - 1, above, above + 1, at - 1, at + 1, below - 1, below, below + 1] {
                if self.state[near] == WEAK {
                    self.state[near] = EDGE;
                    self.strong.push(near);
                }
            }
        }
    }
}

/// Whether the magnitude at `at` is not less than its neighbours' along the gradient; of two equal ones, the first wins on straight edges, so
/// that lines are one pixel thin.
fn is_maximum<M: Copy + Ord>(magnitude: &[M], at: usize, stride: usize, dx: i32, dy: i32) -> bool {
    let here = magnitude[at];
    let (x, y) = (dx.abs(), dy.abs() << 15);
    let flat = x * TAN_22_5;
    // tan(67.5°) = tan(22.5°) + 2
    let steep = flat + (x << 16);
    if y < flat {
        here > magnitude[at - 1] && here >= magnitude[at + 1]
    } else if y > steep {
        here > magnitude[at - stride] && here >= magnitude[at + stride]
    } else if (dx ^ dy) < 0 {
        here > magnitude[at - stride + 1] && here > magnitude[at + stride - 1]
    } else {
        here > magnitude[at - stride - 1] && here > magnitude[at + stride + 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Thresholds = Thresholds { low: 100, high: 200 };

    fn edges_by(
        (aperture, norm, thresholds): (Aperture, Norm, Thresholds),
        width: usize,
        height: usize,
        pixel: impl Fn(usize, usize) -> u8,
    ) -> Vec<Vec<bool>> {
        let stride = width + 5;
        let mut plane = vec![77; stride * height];
        for y in 0..height {
            for x in 0..width {
                plane[y * stride + x] = pixel(x, y);
            }
        }
        let mut canny = Canny::default();
        canny.detect(Plane::new(&plane, stride, width, height).unwrap(), aperture, norm, thresholds);
        (0..height).map(|y| canny.row(y).collect()).collect()
    }
    fn edges(width: usize, height: usize, pixel: impl Fn(usize, usize) -> u8) -> Vec<Vec<bool>> {
        edges_by((Aperture::Three, Norm::L1, USUAL), width, height, pixel)
    }
    fn count(edges: &[Vec<bool>]) -> usize {
        edges.iter().flatten().filter(|edge| **edge).count()
    }
    fn places(line: &mut dyn Iterator<Item = bool>) -> Vec<usize> {
        line.enumerate().filter(|(_, edge)| *edge).map(|(place, _)| place).collect()
    }

    #[test]
    fn a_flat_picture_has_no_edges() {
        assert_eq!(count(&edges(40, 30, |_, _| 128)), 0);
    }

    #[test]
    fn a_gentle_slope_has_no_edges() {
        assert_eq!(count(&edges(60, 20, |x, _| (x * 4) as u8)), 0);
    }

    #[test]
    fn a_square_gives_its_outline_one_pixel_thin() {
        let square = |x: usize, y: usize| if (10..30).contains(&x) && (8..28).contains(&y) { 255 } else { 0 };
        let found = edges(40, 40, square);
        for row in &found[12..24] {
            assert_eq!(places(&mut row.iter().copied()), [9, 29]);
        }
        for x in 14..26 {
            assert_eq!(places(&mut found.iter().map(|row| row[x])), [7, 27]);
        }
        assert!((72..=84).contains(&count(&found)), "{}", count(&found));
    }

    #[test]
    fn larger_apertures_and_the_other_norm_find_the_same_outline() {
        let square = |x: usize, y: usize| if (10..30).contains(&x) && (8..28).contains(&y) { 255 } else { 0 };
        for (aperture, high) in [(Aperture::Three, 900), (Aperture::Five, 12_000), (Aperture::Seven, 160_000)]
        {
            for norm in [Norm::L1, Norm::L2] {
                let found = edges_by((aperture, norm, Thresholds { low: high / 2, high }), 40, 40, square);
                assert_eq!(places(&mut found[18].iter().copied()), [9, 29], "{aperture:?} {norm:?}");
                let beyond = Thresholds { low: high * 3, high: high * 3 };
                assert_eq!(count(&edges_by((aperture, norm, beyond), 40, 40, square)), 0);
            }
        }
    }

    #[test]
    fn a_diagonal_is_found_and_thin() {
        let found = edges(40, 40, |x, y| if x > y { 255 } else { 0 });
        for row in &found[5..35] {
            let edges = row.iter().filter(|edge| **edge).count();
            assert!((1..=2).contains(&edges), "a row has {edges}");
        }
    }

    #[test]
    fn weak_edges_stay_only_with_strong_ones() {
        // A step of 40 gives a magnitude of 160: between the thresholds.
        let weak = |x: usize, _: usize| if x < 20 { 60 } else { 100 };
        assert_eq!(count(&edges(40, 40, weak)), 0);
        // The same step, growing to 60 (240) in the lower half.
        let mixed = |x: usize, y: usize| {
            if x < 20 {
                60
            } else if y < 20 {
                100
            } else {
                120
            }
        };
        let found = edges(40, 40, mixed);
        assert!((0..40).all(|y| found[y].iter().any(|edge| *edge)));
        let turned = Thresholds { low: USUAL.high, high: USUAL.low };
        assert_eq!(
            edges_by((Aperture::Three, Norm::L1, turned), 40, 40, mixed),
            found,
            "the lower one is the low one"
        );
    }

    #[test]
    fn memory_of_an_earlier_picture_leaves_no_trace() {
        let mut canny = Canny::default();
        let step: Vec<u8> = (0..64).map(|i| if i % 8 < 4 { 0 } else { 255 }).collect();
        let mut detect = |pixels: &[u8], norm| {
            canny.detect(Plane::new(pixels, 8, 8, 8).unwrap(), Aperture::Three, norm, USUAL);
            (0..8).flat_map(|y| canny.row(y).collect::<Vec<_>>()).filter(|edge| *edge).count()
        };
        assert!(detect(&step, Norm::L1) > 0);
        assert_eq!(detect(&[9; 64], Norm::L1), 0);
        assert!(detect(&step, Norm::L2) > 0);
        assert_eq!(detect(&[9; 64], Norm::L2), 0);
    }
}
