//! Which packets were received already (RFC 3711 §3.3.2).

/// Packets that may arrive out of order before they count as replayed: about a second of 10 Mbit/s video.
pub const REPLAY_WINDOW: usize = 1024;
const WORDS: usize = REPLAY_WINDOW / 64;

/// The last packets of one source.
#[derive(Clone, Debug, Default)]
pub(super) struct ReplayWindow {
    highest: Option<u64>,
    seen: [u64; WORDS],
}

impl ReplayWindow {
    /// The highest index received.
    pub(super) fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Whether a packet was received, or is too old to tell.
    pub(super) fn has(&self, index: u64) -> bool {
        let Some(highest) = self.highest else { return false };
        let (word, bit) = place(index);
        index <= highest && (highest - index >= REPLAY_WINDOW as u64 || self.seen[word] & bit != 0)
    }

    /// A genuine packet was received.
    pub(super) fn add(&mut self, index: u64) {
        let before = self.highest.unwrap_or(index);
        if index > before {
            if index - before >= REPLAY_WINDOW as u64 {
                self.seen = [0; WORDS];
            }
            let first = (before + 1).max(index.saturating_sub(REPLAY_WINDOW as u64 - 1));
            for skipped in first..index {
                let (word, bit) = place(skipped);
                self.seen[word] &= !bit;
            }
        }
        self.highest = Some(before.max(index));
        let (word, bit) = place(index);
        self.seen[word] |= bit;
    }
}

fn place(index: u64) -> (usize, u64) {
    let at = index as usize % REPLAY_WINDOW;
    (at / 64, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_packet_passes_once_and_old_ones_not_at_all() {
        let (mut window, mut passed) = (ReplayWindow::default(), BTreeSet::new());
        let (mut index, mut step) = (70_000u64, 1u64);
        for _ in 0..20_000 {
            step = step.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            index = match step >> 60 {
                0 => index + 900,
                1 => index + 5000,
                2..=6 => index.saturating_sub(step >> 54 & 0x3ff),
                _ => index + 1,
            };
            let old = window.highest().is_some_and(|highest| index + REPLAY_WINDOW as u64 <= highest);
            assert_eq!(window.has(index), old || passed.contains(&index), "{index}");
            if !window.has(index) {
                window.add(index);
                passed.insert(index);
            }
        }
    }
}
