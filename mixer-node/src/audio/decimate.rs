//! From the mixer's sample rate to that of a narrower codec.

use super::CHANNELS;

/// Filter length in output samples: longer cuts more sharply and delays more (16 output samples; 2 ms at 8 kHz).
const SPAN: usize = 32;
/// Where the filter falls to half, in parts of the output's sample rate. At 0.5 what is above would come back as noise below.
const CUTOFF: f64 = 0.45;

/// Interleaved stereo in, mono of a `factor`th of the rate out.
pub(super) struct Decimator {
    factor: usize,
    taps: Vec<f32>,
    /// Mono samples that following outputs still need.
    history: Vec<f32>,
}

impl Decimator {
    pub(super) fn new(factor: usize) -> Self {
        let length = SPAN * factor;
        let middle = (length - 1) as f64 / 2.0;
        let tap = |i: usize| {
            let x = i as f64 - middle;
            let angle = std::f64::consts::TAU * CUTOFF * x / factor as f64;
            let sinc = if x == 0.0 { 1.0 } else { angle.sin() / angle };
            let window = 0.5 - 0.5 * (std::f64::consts::TAU * (i as f64 + 0.5) / length as f64).cos();
            sinc * window
        };
        let taps: Vec<f64> = (0..length).map(tap).collect();
        let sum: f64 = taps.iter().sum();
        let taps = taps.into_iter().map(|tap| (tap / sum) as f32).collect();
        Self { factor, taps, history: vec![0.0; length - 1] }
    }

    /// As many samples as there are whole `factor`s in the input.
    pub(super) fn take(&mut self, interleaved: &[f32]) -> Vec<i16> {
        self.history.extend(
            interleaved.chunks_exact(CHANNELS).map(|both| both.iter().sum::<f32>() / CHANNELS as f32),
        );
        let length = self.taps.len();
        let windows = self.history.windows(length).step_by(self.factor);
        let out: Vec<i16> = windows
            .map(|window| {
                let value: f32 = window.iter().zip(&self.taps).map(|(value, tap)| value * tap).sum();
                // Casts from float saturate.
                (value * 32767.0).round() as i16
            })
            .collect();
        self.history.drain(..out.len() * self.factor);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FRAME, testing::sine};
    use super::*;

    /// Root mean square of what is left of a tone of amplitude 1.
    fn left(factor: usize, hz: f32) -> f64 {
        let mut decimator = Decimator::new(factor);
        let out: Vec<i16> = (0..20).flat_map(|number| decimator.take(&sine(hz, 1.0, number))).collect();
        assert_eq!(out.len(), 20 * FRAME / factor);
        let settled = &out[100..];
        let power: f64 = settled.iter().map(|value| (f64::from(*value) / 32767.0).powi(2)).sum();
        (power / settled.len() as f64).sqrt()
    }

    #[test]
    fn what_the_rate_can_carry_passes_and_the_rest_does_not() {
        for (factor, passes, stops) in [
            (6, [100.0, 1000.0, 3000.0], [4600.0, 7000.0, 15_900.0]),
            (3, [100.0, 3000.0, 6000.0], [9200.0, 12_000.0, 15_900.0]),
        ] {
            for hz in passes {
                assert!((left(factor, hz) - 0.707).abs() < 0.05, "{hz}: {}", left(factor, hz));
            }
            for hz in stops {
                assert!(left(factor, hz) < 0.01, "{hz}: {}", left(factor, hz));
            }
        }
    }
}
