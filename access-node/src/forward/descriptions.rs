//! What a source's frames say of themselves: its dependency descriptors, which are read by a structure that came with a key frame.

use kaigi_media::dependency_descriptor::{Descriptor, Structure};

use super::targets::Described;

/// The structures of one source.
#[derive(Debug, Default)]
pub(super) struct Descriptions {
    current: Option<Structure>,
    /// Packets that come late are of this one.
    before: Option<Structure>,
    active: u32,
}

/// A descriptor that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) descriptor: Descriptor,
    /// By the structure before.
    is_late: bool,
}

impl Descriptions {
    /// Takes the structure that a packet brings, if it brings one.
    pub(super) fn learn(&mut self, bytes: &[u8]) {
        if !Descriptor::brings_news(bytes) {
            return;
        }
        let Ok((descriptor, own)) = Descriptor::read(bytes, self.current.as_ref()) else { return };
        // What comes late is of the structure before.
        if own.is_some() && own == self.before {
            return;
        }
        self.active = descriptor.active.unwrap_or(self.active);
        if let Some(own) = own.filter(|own| self.current.as_ref() != Some(own)) {
            self.before = self.current.replace(own);
        }
    }

    /// What a packet says; `None` if that can't be read.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<Read> {
        let read = |structure: &Option<Structure>| {
            structure.as_ref().and_then(|structure| Descriptor::read(bytes, Some(structure)).ok())
        };
        let (descriptor, is_late) = match read(&self.current) {
            Some((descriptor, _)) => (descriptor, false),
            None => (read(&self.before)?.0, true),
        };
        Some(Read { descriptor, is_late })
    }

    /// The same with the structure that it was read by.
    pub(super) fn described(&self, read: Read) -> Option<Described<'_>> {
        let structure = if read.is_late { self.before.as_ref()? } else { self.current.as_ref()? };
        Some(Described { descriptor: read.descriptor, structure, active: self.active })
    }

    /// The structure that frames are described by now.
    pub(super) fn structure(&self) -> Option<&Structure> {
        self.current.as_ref()
    }
}
