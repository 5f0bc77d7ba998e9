//! Canny's edge detector on one plane (J. Canny, "A Computational Approach to Edge Detection", 1986), with the choices
//! that OpenCV's `Canny(image, low, high)` makes: 3×3 Sobel gradients with replicated borders, |dx| + |dy| as magnitude,
//! no blurring beforehand, directions quantised to four.

/// tan(22.5°) in units of 1/32768.
const TAN_22_5: i32 = 13_573;

/// What is known of a pixel.
const NONE: u8 = 0;
/// Above the low threshold and a local maximum: an edge if it hangs together with a strong one.
const WEAK: u8 = 1;
/// An edge.
const EDGE: u8 = 2;

/// Finds edges; keeps its memory from picture to picture.
#[derive(Debug, Default)]
pub struct Canny {
    width: usize,
    height: usize,
    dx: Vec<i16>,
    dy: Vec<i16>,
    /// Bordered by zeros, so that pixels at the rim have neighbours.
    magnitude: Vec<u16>,
    /// Bordered by [`NONE`].
    state: Vec<u8>,
    strong: Vec<usize>,
    /// Per column: 1-2-1 sum and difference of the three rows around.
    smooth: Vec<i16>,
    difference: Vec<i16>,
}

impl Canny {
    /// Finds the edges of a plane of `width` × `height` pixels whose rows are `stride` apart. `low` and `high` are
    /// compared with the gradient's magnitude (0..=2040). Afterwards [`row`](Self::row) tells the result. A plane that
    /// is shorter than it says has no edges.
    pub fn detect(&mut self, plane: &[u8], stride: usize, width: usize, height: usize, low: u16, high: u16) {
        self.resize(width, height);
        let needed = stride.saturating_mul(height.saturating_sub(1)).saturating_add(width);
        if width == 0 || height == 0 || stride < width || plane.len() < needed {
            self.state.fill(NONE);
            return;
        }
        for y in 0..height {
            let row = |y: usize| &plane[y * stride..y * stride + width];
            self.gradients(row(y.saturating_sub(1)), row(y), row((y + 1).min(height - 1)), y);
        }
        self.thin(low, high.max(low));
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
        self.dx = vec![0; width * height];
        self.dy = vec![0; width * height];
        self.magnitude = vec![0; bordered];
        self.state = vec![NONE; bordered];
        self.smooth = vec![0; width + 2];
        self.difference = vec![0; width + 2];
    }

    /// Gradients and their magnitude along one row. Written as plain loops over slices, which the compiler vectorises.
    fn gradients(&mut self, above: &[u8], here: &[u8], below: &[u8], y: usize) {
        let width = self.width;
        for (x, ((a, h), b)) in above.iter().zip(here).zip(below).enumerate() {
            self.smooth[x + 1] = i16::from(*a) + 2 * i16::from(*h) + i16::from(*b);
            self.difference[x + 1] = i16::from(*b) - i16::from(*a);
        }
        for line in [&mut self.smooth, &mut self.difference] {
            line[0] = line[1];
            line[width + 1] = line[width];
        }
        let dx = &mut self.dx[y * width..(y + 1) * width];
        let dy = &mut self.dy[y * width..(y + 1) * width];
        let start = (y + 1) * (width + 2) + 1;
        let magnitude = &mut self.magnitude[start..start + width];
        let (left, right) = (&self.smooth[..width], &self.smooth[2..]);
        for ((dx, left), right) in dx.iter_mut().zip(left).zip(right) {
            *dx = right - left;
        }
        let (left, middle, right) = (&self.difference[..width], &self.difference[1..], &self.difference[2..]);
        for (((dy, left), middle), right) in dy.iter_mut().zip(left).zip(middle).zip(right) {
            *dy = left + 2 * middle + right;
        }
        for ((magnitude, dx), dy) in magnitude.iter_mut().zip(dx.iter()).zip(dy.iter()) {
            *magnitude = dx.unsigned_abs() + dy.unsigned_abs();
        }
    }

    /// Keeps pixels that are a maximum across the edge, and collects those that are strong.
    fn thin(&mut self, low: u16, high: u16) {
        let stride = self.width + 2;
        self.strong.clear();
        for y in 0..self.height {
            for x in 0..self.width {
                let at = (y + 1) * stride + x + 1;
                let magnitude = self.magnitude[at];
                self.state[at] = NONE;
                if magnitude <= low {
                    continue;
                }
                let (dx, dy) =
                    (i32::from(self.dx[y * self.width + x]), i32::from(self.dy[y * self.width + x]));
                if !is_maximum(&self.magnitude, at, stride, dx, dy) {
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

/// Whether the magnitude at `at` is not less than its neighbours' along the gradient; of two equal ones, the first wins
/// on straight edges, so that lines are one pixel thin.
fn is_maximum(magnitude: &[u16], at: usize, stride: usize, dx: i32, dy: i32) -> bool {
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

    fn edges(width: usize, height: usize, pixel: impl Fn(usize, usize) -> u8) -> Vec<Vec<bool>> {
        let stride = width + 5;
        let mut plane = vec![77; stride * height];
        for y in 0..height {
            for x in 0..width {
                plane[y * stride + x] = pixel(x, y);
            }
        }
        let mut canny = Canny::default();
        canny.detect(&plane, stride, width, height, 100, 200);
        (0..height).map(|y| canny.row(y).collect()).collect()
    }
    fn count(edges: &[Vec<bool>]) -> usize {
        edges.iter().flatten().filter(|edge| **edge).count()
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
        let places = |line: &mut dyn Iterator<Item = bool>| -> Vec<usize> {
            line.enumerate().filter(|(_, edge)| *edge).map(|(place, _)| place).collect()
        };
        for row in &found[12..24] {
            assert_eq!(places(&mut row.iter().copied()), [9, 29]);
        }
        for x in 14..26 {
            assert_eq!(places(&mut found.iter().map(|row| row[x])), [7, 27]);
        }
        assert!((72..=84).contains(&count(&found)), "{}", count(&found));
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
    }

    #[test]
    fn a_plane_that_is_too_short_has_no_edges() {
        let mut canny = Canny::default();
        canny.detect(&[0; 10], 8, 8, 8, 100, 200);
        assert_eq!(canny.row(3).filter(|edge| *edge).count(), 0);
        canny.detect(&[], 0, 0, 0, 100, 200);
        assert_eq!(canny.row(0).count(), 0);
    }

    #[test]
    fn memory_of_an_earlier_picture_leaves_no_trace() {
        let mut canny = Canny::default();
        let step: Vec<u8> = (0..64).map(|i| if i % 8 < 4 { 0 } else { 255 }).collect();
        canny.detect(&step, 8, 8, 8, 100, 200);
        assert!(canny.row(4).any(|edge| edge));
        canny.detect(&[9; 64], 8, 8, 8, 100, 200);
        assert!((0..8).all(|y| canny.row(y).all(|edge| !edge)));
    }
}
