//! Who speaks: the loudest input, evaluated about once a second.

use std::collections::HashMap;

use kaigi_proto::ids::StreamId;

/// Ticks between evaluations: 1 s.
const WINDOW: u32 = 50;
/// Below this mean power nobody speaks: −50 dBFS, above the noise of a quiet room.
const FLOOR: f32 = 1e-5;
/// How much louder than the present speaker another must be to take over: 3 dB. Less makes it flicker between two.
const ADVANTAGE: f32 = 2.0;

/// Watches the inputs' power.
#[derive(Debug, Default)]
pub struct VoiceActivity {
    energy: HashMap<StreamId, f32>,
    ticks: u32,
    active: Option<StreamId>,
}

impl VoiceActivity {
    /// Adds an input's mean power during this tick.
    pub fn add(&mut self, stream: &StreamId, power: f32) {
        if let Some(sum) = self.energy.get_mut(stream) {
            *sum += power;
        } else {
            self.energy.insert(stream.clone(), power);
        }
    }

    /// Ends a tick. The loudest input, at the end of a window in which it changed; never when all are silent.
    pub fn tick(&mut self) -> Option<StreamId> {
        self.ticks += 1;
        if self.ticks < WINDOW {
            return None;
        }
        self.ticks = 0;
        let sums = std::mem::take(&mut self.energy);
        let (loudest, sum) = sums.iter().max_by(|a, b| a.1.total_cmp(b.1))?;
        let present = self.active.as_ref().and_then(|active| sums.get(active)).copied().unwrap_or_default();
        let floor = FLOOR * WINDOW as f32;
        if self.active.as_ref() == Some(loudest) || *sum < floor || *sum < present * ADVANTAGE {
            return None;
        }
        self.active = Some(loudest.clone());
        self.active.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a window in which the inputs have these powers reports.
    fn window(activity: &mut VoiceActivity, powers: &[(&str, f32)]) -> Option<String> {
        let mut reports = Vec::new();
        for _ in 0..WINDOW {
            for (name, power) in powers {
                activity.add(&StreamId::new(name).unwrap(), *power);
            }
            reports.extend(activity.tick());
        }
        assert!(reports.len() <= 1);
        reports.pop().map(|id| id.to_string())
    }

    #[test]
    fn the_loudest_is_reported_when_it_changes() {
        let mut activity = VoiceActivity::default();
        assert_eq!(window(&mut activity, &[("a", 0.01), ("b", 0.001)]), Some("a".into()));
        assert_eq!(window(&mut activity, &[("a", 0.01), ("b", 0.001)]), None);
        assert_eq!(window(&mut activity, &[("a", 0.001), ("b", 0.01)]), Some("b".into()));
    }

    #[test]
    fn silence_changes_nothing() {
        let mut activity = VoiceActivity::default();
        assert_eq!(window(&mut activity, &[("a", 1e-9)]), None);
        assert_eq!(window(&mut activity, &[("a", 0.01)]), Some("a".into()));
        assert_eq!(window(&mut activity, &[("a", 0.0), ("b", 1e-9)]), None);
        assert_eq!(window(&mut activity, &[("a", 0.01)]), None);
    }

    #[test]
    fn a_little_louder_is_not_enough() {
        let mut activity = VoiceActivity::default();
        window(&mut activity, &[("a", 0.01), ("b", 0.001)]);
        assert_eq!(window(&mut activity, &[("a", 0.01), ("b", 0.015)]), None);
        assert_eq!(window(&mut activity, &[("a", 0.01), ("b", 0.03)]), Some("b".into()));
    }

    #[test]
    fn who_has_left_does_not_hold_the_place() {
        let mut activity = VoiceActivity::default();
        window(&mut activity, &[("a", 0.5), ("b", 0.001)]);
        assert_eq!(window(&mut activity, &[("b", 0.001)]), Some("b".into()));
    }
}
