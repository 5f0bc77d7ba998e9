//! Which frames of a source a stream gets where the frames say themselves what they depend on (the dependency descriptor): those of one decode
//! target, the best that is wanted and that a decoder can go on with.

use kaigi_media::dependency_descriptor::{Descriptor, LayerId, Structure};

/// Frames that are remembered: two seconds of three spatial layers. A frame that refers to an older one is taken for one that can't be decoded.
const WINDOW: u16 = 128;

/// A frame as its source has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Described<'s> {
    pub(super) descriptor: Descriptor,
    /// The structure that it is described by.
    pub(super) structure: &'s Structure,
    /// The decode targets that the source sends.
    pub(super) active: u32,
}

/// What a stream has got, and what it can go on with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Targets {
    newest: Option<u16>,
    /// Frames that were decided on and that were sent: the lowest bit is the newest.
    decided: u128,
    sent: u128,
    /// Decode targets of which nothing is missing that later frames may refer to.
    whole: u32,
    /// The one that is sent, with its layers.
    current: Option<(u8, LayerId)>,
    /// The picture of which frames come: between them nothing changes, as the last of them says that it is.
    picture: u32,
}

impl Targets {
    /// The layers that are sent.
    pub(super) fn layer(&self) -> Option<LayerId> {
        self.current.map(|(_, layer)| layer)
    }

    /// The decode targets that the receiver is to expect: those that have no more than what is sent.
    pub(super) fn expected(&self, structure: &Structure) -> u32 {
        let Some(layer) = self.layer() else { return structure.all() };
        mask(structure, |target| is_within(target, layer)) & self.whole
    }

    /// Whether a picture of another size is wanted than what is sent, which can begin at a key frame only.
    pub(super) fn waits(&self, wanted: LayerId, frame: &Described<'_>) -> bool {
        let Some(layer) = self.layer() else { return true };
        best(frame.structure, frame.active, wanted).is_some_and(|(_, best)| best.spatial != layer.spatial)
    }

    /// Whether a packet of such a frame is sent.
    pub(super) fn takes(&mut self, wanted: LayerId, timestamp: u32, frame: &Described<'_>) -> bool {
        let Described { descriptor, structure, active } = frame;
        let Descriptor { indications, .. } = descriptor;
        let mut ahead = self.newest.map_or(1, |newest| descriptor.number.wrapping_sub(newest));
        if ahead == 0 || ahead >= 0x8000 {
            let back = ahead.wrapping_neg();
            if back < WINDOW {
                return self.takes_late(back, indications.present);
            }
            // Its source counts anew: nothing is known of what came before.
            self.current = None;
            if !descriptor.is_key_frame() {
                return false;
            }
            ahead = WINDOW;
        }
        let shift = |seen: u128| if ahead < WINDOW { seen << ahead } else { 0 };
        (self.decided, self.sent) = (shift(self.decided) | 1, shift(self.sent));
        if descriptor.has_structure() {
            // The targets are others now.
            self.whole = 0;
        }
        let is_first = self.newest.replace(descriptor.number).is_none();
        let reached = |back: u16| back < WINDOW && self.sent >> back & 1 != 0;
        let decodable = descriptor.references.iter().all(reached);
        let begun = if decodable { indications.switch } else { 0 };
        if is_first || timestamp != self.picture || descriptor.has_structure() {
            self.picture = timestamp;
            let can = (self.whole | begun) & structure.all();
            // If nothing of what is wanted can be gone on with, the least of what can, until there is a key frame.
            self.current = best(structure, can & active, wanted)
                .or_else(|| best(structure, can, wanted))
                .or_else(|| least(structure, can));
        }
        let Some((target, _)) = self.current else { return false };
        let taken = indications.present & 1 << target != 0;
        if taken {
            self.sent |= 1;
            self.whole |= begun;
        } else {
            self.whole &= !indications.required;
        }
        taken
    }

    /// The same of a frame that others were sent after; so many frames after it, less than [`WINDOW`].
    fn takes_late(&mut self, back: u16, present: u32) -> bool {
        let bit = 1u128 << back;
        if self.decided & bit == 0 {
            self.decided |= bit;
            if self.current.is_some_and(|(target, _)| present & 1 << target != 0) {
                self.sent |= bit;
            }
        }
        self.sent & bit != 0
    }
}

fn is_within(layer: LayerId, most: LayerId) -> bool {
    layer.spatial <= most.spatial && layer.temporal <= most.temporal
}

fn mask(structure: &Structure, of: impl Fn(LayerId) -> bool) -> u32 {
    let targets = structure.targets().iter().enumerate();
    targets.filter(|(_, layer)| of(**layer)).fold(0, |mask, (target, _)| mask | 1 << target)
}

fn among(structure: &Structure, can: u32) -> impl Iterator<Item = (u8, LayerId)> + '_ {
    let all = structure.targets().iter().copied().zip(0u8..);
    all.filter(move |(_, target)| can & 1 << target != 0).map(|(layer, target)| (target, layer))
}

/// The largest picture, and of it the most frames, that is no more than what is wanted.
fn best(structure: &Structure, can: u32, wanted: LayerId) -> Option<(u8, LayerId)> {
    among(structure, can).filter(|(_, layer)| is_within(*layer, wanted)).max_by_key(|(_, layer)| *layer)
}

fn least(structure: &Structure, can: u32) -> Option<(u8, LayerId)> {
    among(structure, can).min_by_key(|(_, layer)| *layer)
}

#[cfg(test)]
mod tests;
