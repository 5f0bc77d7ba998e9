//! Pictures as if they were drawn: few tones, strong colours, dark outlines.

use crate::{
    Aperture, Gradients, Plane,
    luma::{BLACK, GREY, WHITE},
};

/// Draws one picture after the other; keeps its memory.
#[derive(Debug, Default)]
pub struct Cartoonist {
    width: usize,
    height: usize,
    /// The luma, less noisy: the mean of 3×3 pixels.
    calm: Vec<u8>,
    sums: Vec<u16>,
    gradients: Gradients,
}

impl Cartoonist {
    /// Looks at a picture's luma. Afterwards [`draw`](Self::draw) shows it.
    pub fn look(&mut self, plane: Plane<'_>) {
        self.calm_down(plane);
        if let Some(calm) = Plane::new(&self.calm, self.width, self.width, self.height) {
            self.gradients.take(calm, Aperture::Three);
        }
    }

    /// Writes row `y` of the luma in `levels` tones (at least two), black where the gradient's magnitude is above `outline`.
    pub fn draw(&self, y: usize, levels: u32, outline: u32, row: &mut [u8]) {
        let tones = tones(levels);
        let calm = &self.calm[y * self.width..][..self.width];
        for ((pixel, calm), (dx, dy)) in row.iter_mut().zip(calm).zip(self.gradients.row(y)) {
            let magnitude = u32::from(dx.unsigned_abs()) + u32::from(dy.unsigned_abs());
            *pixel = if magnitude > outline { BLACK } else { tones[usize::from(*calm)] };
        }
    }

    fn calm_down(&mut self, plane: Plane<'_>) {
        let (width, height) = (plane.width(), plane.height());
        if (self.width, self.height) != (width, height) {
            (self.width, self.height) = (width, height);
            self.calm = vec![0; width * height];
            self.sums = vec![0; width + 2];
        }
        for (y, calm) in self.calm.chunks_mut(width).enumerate() {
            let row = |offset: isize| plane.clamped_row(y as isize + offset);
            let rows = row(-1).iter().zip(row(0)).zip(row(1));
            for (sum, ((above, here), below)) in self.sums[1..=width].iter_mut().zip(rows) {
                *sum = u16::from(*above) + u16::from(*here) + u16::from(*below);
            }
            self.sums[0] = self.sums[1];
            self.sums[width + 1] = self.sums[width];
            for (calm, window) in calm.iter_mut().zip(self.sums.windows(3)) {
                *calm = ((window.iter().sum::<u16>() + 4) / 9) as u8;
            }
        }
    }
}

/// For each luma the tone in its place: equal steps from black to white.
fn tones(levels: u32) -> [u8; 256] {
    let steps = levels.max(2) - 1;
    let range = u32::from(WHITE - BLACK);
    std::array::from_fn(|luma| {
        let above = (luma as u32).saturating_sub(BLACK.into()).min(range);
        let step = (above * steps + range / 2) / range;
        BLACK + ((step * range + steps / 2) / steps) as u8
    })
}

/// Colours of a chroma plane in their place, `percent` as strong.
pub fn saturate(percent: u32, row: &mut [u8]) {
    for value in row {
        let away = (i32::from(*value) - i32::from(GREY)) * percent as i32;
        // Rounded to the nearest, away from grey.
        let away = (away + 50 * away.signum()) / 100;
        *value = (i32::from(GREY) + away).clamp(16, 240) as u8;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn there_are_as_many_tones_as_asked_for_and_no_others() {
        let ramp: Vec<u8> = (0..256 * 4).map(|i| (i % 256) as u8).collect();
        let mut cartoonist = Cartoonist::default();
        cartoonist.look(Plane::new(&ramp, 256, 256, 4).unwrap());
        for levels in [2, 3, 6, 32] {
            let mut row = [0; 256];
            cartoonist.draw(1, levels, u32::MAX, &mut row);
            let found: BTreeSet<u8> = row.into_iter().collect();
            assert_eq!(found.len(), levels as usize);
            assert_eq!((found.first(), found.last()), (Some(&16), Some(&235)));
            assert!(row.is_sorted());
        }
    }

    #[test]
    fn outlines_are_black_and_only_where_there_are_edges() {
        let step: Vec<u8> = (0..20 * 5).map(|i| if i % 20 < 10 { 100 } else { 200 }).collect();
        let mut cartoonist = Cartoonist::default();
        cartoonist.look(Plane::new(&step, 20, 20, 5).unwrap());
        let mut row = [0; 20];
        cartoonist.draw(2, 8, 200, &mut row);
        let black: Vec<usize> = (0..20).filter(|x| row[*x] == 16).collect();
        assert_eq!(black, [9, 10]);
        cartoonist.draw(2, 8, 2040, &mut row);
        assert!(!row.contains(&16));
    }

    #[test]
    fn noise_within_a_tone_is_gone() {
        let noisy: Vec<u8> = (0..16 * 16).map(|i| 110 + (i * 7 % 5) as u8).collect();
        let mut cartoonist = Cartoonist::default();
        cartoonist.look(Plane::new(&noisy, 16, 16, 16).unwrap());
        let mut row = [0; 16];
        cartoonist.draw(8, 6, 100, &mut row);
        assert!(row.iter().all(|pixel| *pixel == row[0]), "{row:?}");
    }

    #[test]
    fn colours_grow_stronger_within_what_there_is() {
        let mut row = [128, 138, 118, 230, 20];
        saturate(150, &mut row);
        assert_eq!(row, [128, 143, 113, 240, 16]);
        saturate(0, &mut row);
        assert_eq!(row, [128; 5]);
    }
}
