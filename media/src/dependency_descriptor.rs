//! The dependency descriptor (AV1 RTP payload specification, appendix A): what a frame depends on and which layers it is of, told in the RTP
//! header, whatever the codec and even if the payload is encrypted.
//!
//! A [`Structure`] names the templates that frames are described by; it comes with key frames. A [`Descriptor`] is what one packet says.

use crate::bits::{Bits, BitsWriter};

/// Most decode targets (five bits).
pub const MAX_TARGETS: usize = 32;
/// Most templates (six bits).
const MAX_TEMPLATES: usize = 64;
/// Most frames that one frame may refer to directly; encoders refer to three.
pub const MAX_REFERENCES: usize = 8;
/// Most spatial layers; the scalability modes have three.
pub const MAX_SPATIAL: usize = 4;
/// Bytes of the part that every descriptor has.
const MANDATORY: usize = 3;
/// Bits of the mandatory part and of the flags after it.
const FLAGS_END: usize = 29;

/// Why a descriptor can't be read.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum DescriptorError {
    /// It ends too early.
    #[error("dependency descriptor is too short")]
    TooShort,
    /// Its template is in no structure that is known.
    #[error("dependency descriptor has an unknown template")]
    UnknownTemplate,
    /// More templates, layers or references than are taken.
    #[error("dependency descriptor is too large")]
    TooLarge,
}

/// A spatial and a temporal layer, each with those below.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayerId {
    /// 0 is the smallest picture.
    pub spatial: u8,
    /// 0 is the lowest frame rate.
    pub temporal: u8,
}

/// How the decode targets need a frame, each a bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Indications {
    /// Those that the frame is part of.
    pub present: u32,
    /// Those that other frames of them may refer to it.
    pub required: u32,
    /// Those that can be begun with it, if it can be decoded itself.
    pub switch: u32,
}

/// The frames that a frame refers to, each by how many frames it is before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct References {
    differences: [u16; MAX_REFERENCES],
    count: u8,
}

impl References {
    /// How many frames before, of each.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.differences.iter().take(self.count.into()).copied()
    }

    /// Whether it can be decoded by itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn push(&mut self, difference: u32) -> Result<(), DescriptorError> {
        let place = self.differences.get_mut(usize::from(self.count)).ok_or(DescriptorError::TooLarge)?;
        *place = u16::try_from(difference).map_err(|_| DescriptorError::TooLarge)?;
        self.count += 1;
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Template {
    layer: LayerId,
    indications: Indications,
    references: References,
}

/// What frames are described by, until the next one comes. About 2 kB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Structure {
    offset: u8,
    chains: u32,
    templates: Vec<Template>,
    targets: Vec<LayerId>,
    sizes: Vec<(u32, u32)>,
}

impl Structure {
    /// The decode targets: the highest layers that each has.
    #[must_use]
    pub fn targets(&self) -> &[LayerId] {
        &self.targets
    }

    /// The targets as a mask of bits: all of them.
    #[must_use]
    pub fn all(&self) -> u32 {
        u32::try_from((1u64 << self.targets.len()) - 1).unwrap_or(u32::MAX)
    }

    /// Width and height of each spatial layer, if they are told.
    #[must_use]
    pub fn sizes(&self) -> &[(u32, u32)] {
        &self.sizes
    }

    /// How many spatial layers there are.
    #[must_use]
    pub fn spatial_layers(&self) -> u8 {
        self.templates.iter().map(|template| template.layer.spatial + 1).max().unwrap_or(1)
    }

    /// How many temporal layers there are.
    #[must_use]
    pub fn temporal_layers(&self) -> u8 {
        self.templates.iter().map(|template| template.layer.temporal + 1).max().unwrap_or(1)
    }

    /// Whether a picture of that spatial layer is made of those below too, at every frame and not only at key frames.
    #[must_use]
    pub fn needs_below(&self, spatial: u8) -> bool {
        let Some(target) = self.targets.iter().position(|target| target.spatial == spatial) else {
            return true;
        };
        let below = |template: &&Template| {
            template.layer.spatial == 0 && spatial > 0 && !template.references.is_empty()
        };
        self.templates.iter().filter(below).any(|template| template.indications.present & 1u32 << target != 0)
    }

    fn read(bits: &mut Bits<'_>) -> Result<Self, DescriptorError> {
        let offset = byte(bits, 6)?;
        let targets = take(bits, 5)? as usize + 1;
        let mut templates = Vec::new();
        let mut layer = LayerId::default();
        loop {
            if templates.len() == MAX_TEMPLATES || usize::from(layer.spatial) >= MAX_SPATIAL {
                return Err(DescriptorError::TooLarge);
            }
            templates.push(Template { layer, ..Template::default() });
            match take(bits, 2)? {
                0 => {}
                1 => layer.temporal += 1,
                2 => layer = LayerId { spatial: layer.spatial + 1, temporal: 0 },
                _ => break,
            }
        }
        for template in &mut templates {
            template.indications = indications(bits, targets)?;
        }
        for template in &mut templates {
            while take(bits, 1)? == 1 {
                template.references.push(take(bits, 4)? + 1)?;
            }
        }
        let chains = non_symmetric(bits, targets as u32 + 1)?;
        if chains > 0 {
            for _ in 0..targets {
                non_symmetric(bits, chains)?;
            }
            for _ in 0..templates.len() as u32 * chains {
                take(bits, 4)?;
            }
        }
        let highest = |target: usize| {
            let of = templates.iter().filter(|template| template.indications.present & 1u32 << target != 0);
            of.fold(LayerId::default(), |highest, Template { layer, .. }| LayerId {
                spatial: highest.spatial.max(layer.spatial),
                temporal: highest.temporal.max(layer.temporal),
            })
        };
        let targets = (0..targets).map(highest).collect();
        let mut sizes = Vec::new();
        if take(bits, 1)? == 1 {
            for _ in 0..=layer.spatial {
                sizes.push((take(bits, 16)? + 1, take(bits, 16)? + 1));
            }
        }
        Ok(Self { offset, chains, templates, targets, sizes })
    }

    fn template(&self, id: u8) -> Option<&Template> {
        self.templates.get(usize::from((id + 64 - self.offset) % 64))
    }
}

/// What one packet says of its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The packet is the first of its frame.
    pub begins: bool,
    /// The packet is the last of its frame.
    pub ends: bool,
    /// The frame; wraps.
    pub number: u16,
    /// Its layer.
    pub layer: LayerId,
    /// How the decode targets need it.
    pub indications: Indications,
    /// What it refers to.
    pub references: References,
    /// From here on only these decode targets are sent: the first is the lowest bit.
    pub active: Option<u32>,
    layout: Layout,
}

/// Where the parts of a descriptor are, in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    /// The five flags.
    flags: u8,
    structure_end: usize,
    rest: usize,
    end: usize,
}

const STRUCTURE: u8 = 0x10;
const ACTIVE: u8 = 0x08;

impl Descriptor {
    /// Reads a descriptor, by the structure that it brings itself, which is returned too, or else by the one that is `known`.
    ///
    /// # Errors
    /// See [`DescriptorError`].
    pub fn read(
        bytes: &[u8],
        known: Option<&Structure>,
    ) -> Result<(Self, Option<Structure>), DescriptorError> {
        let mut bits = Bits::new(bytes);
        let (begins, ends) = (take(&mut bits, 1)? == 1, take(&mut bits, 1)? == 1);
        let template = byte(&mut bits, 6)?;
        let number = take(&mut bits, 16)? as u16;
        let flags = if bytes.len() > MANDATORY { byte(&mut bits, 5)? } else { 0 };
        let own = if flags & STRUCTURE != 0 { Some(Structure::read(&mut bits)?) } else { None };
        let structure = own.as_ref().or(known).ok_or(DescriptorError::UnknownTemplate)?;
        let structure_end = bits.position();
        let targets = structure.targets.len();
        let active = if flags & ACTIVE != 0 { Some(take(&mut bits, targets)?) } else { None };
        let active = active.or(own.as_ref().map(Structure::all));
        let rest = bits.position();
        let mut frame = *structure.template(template).ok_or(DescriptorError::UnknownTemplate)?;
        if flags & 0x04 != 0 {
            frame.indications = indications(&mut bits, targets)?;
        }
        if flags & 0x02 != 0 {
            frame.references = References::default();
            loop {
                match take(&mut bits, 2)? {
                    0 => break,
                    size => frame.references.push(take(&mut bits, size as usize * 4)? + 1)?,
                }
            }
        }
        if flags & 0x01 != 0 {
            for _ in 0..structure.chains {
                take(&mut bits, 8)?;
            }
        }
        let descriptor = Self {
            begins,
            ends,
            number,
            layer: frame.layer,
            indications: frame.indications,
            references: frame.references,
            active,
            layout: Layout { flags, structure_end, rest, end: bits.position() },
        };
        Ok((descriptor, own))
    }

    /// Whether a decoder can begin with this packet.
    #[must_use]
    pub fn is_key_frame(&self) -> bool {
        self.begins && self.layer.spatial == 0 && self.references.is_empty() && self.has_structure()
    }

    /// Whether it brings a structure.
    #[must_use]
    pub fn has_structure(&self) -> bool {
        self.layout.flags & STRUCTURE != 0
    }

    /// Whether a descriptor tells of a structure or of active targets. It need not be a good one.
    #[must_use]
    pub fn brings_news(bytes: &[u8]) -> bool {
        bytes.get(MANDATORY).is_some_and(|flags| flags >> 3 & (STRUCTURE | ACTIVE) != 0)
    }

    /// Appends the descriptor that was read from `bytes` to whole bytes, with another frame number and, if given, with other `active` decode
    /// targets: which, and how many there are in all.
    pub fn write(&self, out: &mut Vec<u8>, bytes: &[u8], number: u16, active: Option<(u32, usize)>) {
        let Some(first) = bytes.first() else { return };
        let Some((mask, targets)) = active else {
            let begin = out.len();
            out.extend_from_slice(bytes);
            if let Some(place) = out.get_mut(begin + 1..begin + MANDATORY) {
                place.copy_from_slice(&number.to_be_bytes());
            }
            return;
        };
        let Layout { flags, structure_end, rest, end } = self.layout;
        let mut writer = BitsWriter::onto(std::mem::take(out));
        writer.fixed((*first).into(), 8);
        writer.fixed(number.into(), 16);
        writer.fixed((flags | ACTIVE).into(), 5);
        writer.copy(bytes, FLAGS_END.min(structure_end)..structure_end);
        writer.fixed(mask, targets);
        writer.copy(bytes, rest..end);
        *out = writer.finish().0;
    }
}

fn take(bits: &mut Bits<'_>, count: usize) -> Result<u32, DescriptorError> {
    bits.fixed(count).ok_or(DescriptorError::TooShort)
}

/// Eight bits at most.
fn byte(bits: &mut Bits<'_>, count: usize) -> Result<u8, DescriptorError> {
    take(bits, count).map(|value| value as u8)
}

/// Two bits for each target: not present, discardable, switch, required.
fn indications(bits: &mut Bits<'_>, targets: usize) -> Result<Indications, DescriptorError> {
    let mut found = Indications::default();
    for target in 0..targets {
        let bit = 1u32 << target;
        match take(bits, 2)? {
            0 => {}
            1 => found.present |= bit,
            2 => {
                found.present |= bit;
                found.required |= bit;
                found.switch |= bit;
            }
            _ => {
                found.present |= bit;
                found.required |= bit;
            }
        }
    }
    Ok(found)
}

/// ns(n) of the AV1 bitstream (§4.10.7).
fn non_symmetric(bits: &mut Bits<'_>, count: u32) -> Result<u32, DescriptorError> {
    let width = u32::BITS - count.leading_zeros();
    let short = (1 << width) - count;
    let value = take(bits, width as usize - 1)?;
    if value < short {
        return Ok(value);
    }
    Ok((value << 1) - short + take(bits, 1)?)
}

#[cfg(test)]
mod example;
#[cfg(test)]
mod tests;
