//! Keeps the sum of many voices within what can be encoded, by turning it down smoothly rather than cutting it off.

use super::{CHANNELS, FRAME_VALUES};

/// Peaks above this are turned down, −0.9 dBFS. The rest up to 1.0 is for what is still too loud while turning down.
const CEILING: f32 = 0.9;
/// Values over which the gain falls: 1 ms. Shorter clicks, longer lets more through that has to be bent.
const ATTACK_VALUES: usize = 48 * CHANNELS;
/// Rise of the gain per frame of 20 ms: from half to full in half a second, slow enough not to pump.
const RELEASE: f32 = 0.02;

/// One output's limiter.
#[derive(Clone, Debug)]
pub struct Limiter {
    gain: f32,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { gain: 1.0 }
    }
}

impl Limiter {
    /// Limits a frame in place; afterwards no value is beyond ±1.
    pub fn apply(&mut self, frame: &mut [f32]) {
        let peak = frame.iter().fold(0.0f32, |peak, value| peak.max(value.abs()));
        let wanted = if peak > CEILING { CEILING / peak } else { 1.0 };
        if wanted >= 1.0 && self.gain >= 1.0 {
            return;
        }
        let from = self.gain;
        let (to, over) =
            if wanted < from { (wanted, ATTACK_VALUES) } else { (wanted.min(from + RELEASE), FRAME_VALUES) };
        for (index, value) in frame.iter_mut().enumerate() {
            let way = (index as f32 / over as f32).min(1.0);
            *value = bend(*value * (from + (to - from) * way));
        }
        self.gain = to;
    }
}

/// Leaves values up to the ceiling as they are and bends larger ones so that they stay below 1.
fn bend(value: f32) -> f32 {
    let over = value.abs() - CEILING;
    if over <= 0.0 {
        return value;
    }
    let room = 1.0 - CEILING;
    (CEILING + room * (over / room).tanh()).copysign(value)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    #[test]
    fn what_fits_is_not_touched() {
        let mut frame = sine(440.0, 0.85, 0);
        let before = frame.clone();
        Limiter::default().apply(&mut frame);
        assert_eq!(frame, before);
    }

    #[test]
    fn loud_sums_stay_within_bounds_and_keep_their_tone() {
        let mut limiter = Limiter::default();
        for number in 0..50 {
            let mut frame = sine(440.0, 4.0, number);
            limiter.apply(&mut frame);
            assert!(frame.iter().all(|value| value.abs() <= 1.0));
            if number > 0 {
                assert!(tone(&frame, 440.0) > 0.85, "{}", tone(&frame, 440.0));
                assert!(tone(&frame, 1320.0) < 0.02, "distorted");
            }
        }
    }

    #[test]
    fn the_gain_returns_slowly() {
        let mut limiter = Limiter::default();
        limiter.apply(&mut sine(440.0, 2.0, 0));
        let mut levels = Vec::new();
        for number in 1..60 {
            let mut frame = sine(440.0, 0.5, number);
            limiter.apply(&mut frame);
            levels.push(tone(&frame, 440.0));
        }
        assert!(levels[0] < 0.3 && levels[58] > 0.49, "{levels:?}");
        assert!(levels.windows(2).all(|pair| pair[1] - pair[0] < 0.02));
    }
}
