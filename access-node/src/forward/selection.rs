//! Which layers of its source a stream gets.

use kaigi_media::dependency_descriptor::LayerId;

use super::{
    picture::Picture,
    steps::Steps,
    targets::{Described, Targets},
};

/// All layers that there are or will be.
pub const ALL_LAYERS: LayerId = LayerId { spatial: u8::MAX, temporal: u8::MAX };

/// What is wanted of a source's layers, and what is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selection {
    wanted: LayerId,
    steps: Steps,
    targets: Targets,
    /// The layers whose last packet ends the picture; `None` as long as that is none but the source's own last one.
    top: Option<u8>,
    /// The decode targets that the receiver was told of.
    told: u32,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Selected {
    pub(super) taken: bool,
    /// A larger picture is wanted, which begins at a key frame.
    pub(super) waits: bool,
}

impl Default for Selection {
    fn default() -> Self {
        let (steps, targets) = (Steps::default(), Targets::default());
        Self { wanted: ALL_LAYERS, steps, targets, top: None, told: 0 }
    }
}

impl Selection {
    /// Whether more of the picture's size is wanted than before.
    pub(super) fn limit(&mut self, most: LayerId) -> bool {
        let before = std::mem::replace(&mut self.wanted, most);
        most.spatial > before.spatial
    }

    /// The next packet is of a key frame, and has nothing to do with what was sent before.
    pub(super) fn restart(&mut self) {
        *self = Self { wanted: self.wanted, ..Self::default() };
    }

    /// Whether a packet is sent; packets in their order.
    pub(super) fn select(
        &mut self,
        timestamp: u32,
        picture: &Picture,
        described: Option<&Described<'_>>,
    ) -> Selected {
        let wanted = self.wanted;
        let (taken, waits, spatial) = match described {
            Some(frame) => {
                let taken = self.targets.takes(wanted, timestamp, frame);
                let layer = self.targets.layer();
                (taken, self.targets.waits(wanted, frame), layer.map_or(0, |layer| layer.spatial))
            }
            None => {
                let taken = self.steps.takes(wanted, timestamp, picture);
                (taken, self.steps.waits(wanted), self.steps.layer().spatial)
            }
        };
        self.top = (spatial < u8::MAX).then_some(spatial);
        Selected { taken, waits }
    }

    /// The spatial layer whose end is the end of the picture.
    pub(super) fn top(&self) -> Option<u8> {
        self.top
    }

    /// The decode targets that the receiver is to be told of with this frame, if they are others than it knows: of so many.
    pub(super) fn news(&mut self, frame: &Described<'_>) -> Option<(u32, usize)> {
        let expected = self.targets.expected(frame.structure) & frame.active;
        let known = std::mem::replace(&mut self.told, expected);
        let is_news = if frame.descriptor.has_structure() {
            frame.descriptor.active != Some(expected)
        } else {
            known != expected || frame.descriptor.active.is_some()
        };
        (is_news && expected != 0).then(|| (expected, frame.structure.targets().len()))
    }
}
