//! The strength of edges as a grey picture.

use crate::{
    Aperture, Gradients, Norm, Plane, Thresholds,
    luma::{BLACK, WHITE},
};

/// Shows gradients; keeps its memory from picture to picture.
#[derive(Debug, Default)]
pub struct Sobel(Gradients);

impl Sobel {
    /// Takes the gradients of a plane. Afterwards [`paint`](Self::paint) shows them.
    pub fn detect(&mut self, plane: Plane<'_>, aperture: Aperture) {
        self.0.take(plane, aperture);
    }

    /// Writes row `y`: black up to the low threshold, white from the high one on, grey in proportion between them.
    pub fn paint(&self, y: usize, aperture: Aperture, norm: Norm, thresholds: Thresholds, row: &mut [u8]) {
        let (low, high) = (thresholds.low.min(thresholds.high), thresholds.low.max(thresholds.high));
        let span = u64::from(high - low).max(1);
        for (pixel, (dx, dy)) in row.iter_mut().zip(self.0.row(y)) {
            let magnitude = match norm {
                Norm::L1 => u32::from(dx.unsigned_abs()) + u32::from(dy.unsigned_abs()),
                Norm::L2 => {
                    let (dx, dy) = (i32::from(dx), i32::from(dy));
                    ((dx * dx + dy * dy) as u32).isqrt()
                }
            };
            let above = u64::from((magnitude * aperture.divisor()).saturating_sub(low)).min(span);
            *pixel = BLACK + (above * u64::from(WHITE - BLACK) / span) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn painted(aperture: Aperture, norm: Norm, thresholds: Thresholds) -> Vec<u8> {
        // Steps of 10, 100 and 20 between flat parts of eight columns.
        let rows: Vec<u8> = (0..32 * 9).map(|i| [50, 60, 160, 180][i % 32 / 8]).collect();
        let mut sobel = Sobel::default();
        sobel.detect(Plane::new(&rows, 32, 32, 9).unwrap(), aperture);
        let mut row = vec![0; 32];
        sobel.paint(4, aperture, norm, thresholds, &mut row);
        row
    }

    #[test]
    fn grey_is_in_proportion_between_the_thresholds() {
        let row = painted(Aperture::Three, Norm::L1, Thresholds { low: 0, high: 400 });
        assert_eq!([row[4], row[7], row[15], row[23]], [16, 16 + 21, 235, 16 + 43]);
        let row = painted(Aperture::Three, Norm::L1, Thresholds { low: 40, high: 80 });
        assert_eq!([row[7], row[15], row[23]], [16, 235, 235]);
    }

    #[test]
    fn thresholds_are_of_the_unscaled_sums_with_every_aperture() {
        // A step of a column: the binomial's sum times half of the derivative's weights.
        for (aperture, largest) in [(Aperture::Five, 16 * 3 * 100), (Aperture::Seven, 64 * 10 * 100)] {
            let row = painted(aperture, Norm::L2, Thresholds { low: largest - 1, high: largest });
            assert_eq!(row.iter().filter(|pixel| **pixel == 235).count(), 2, "{aperture:?}");
        }
    }
}
