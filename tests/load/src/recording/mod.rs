//! Recorded media: encoded frames, cut into what fits into packets. A packet that comes back is known by what is in it, so that its
//! integrity can be checked and its way be timed without anything being added to it.

mod annex_b;
mod ivf;
mod make;
mod ogg;

use std::collections::HashMap;

pub(crate) use annex_b::units;
pub use make::{Cache, LayerSpec, MakeError};

use crate::payload;

/// Of what a recording is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// RFC 7741.
    Vp8,
    /// RFC 6184, packetization mode 1.
    H264,
    /// RFC 7587.
    Opus,
}

impl Codec {
    /// Whether it is sound.
    #[must_use]
    pub fn is_audio(self) -> bool {
        matches!(self, Self::Opus)
    }
}

/// What one packet carries, without what is specific to the way (VP8's payload descriptor).
#[derive(Debug)]
pub struct Chunk {
    pub(crate) bytes: Box<[u8]>,
    check: u32,
}

/// An encoded picture, or 20 ms of sound.
#[derive(Debug)]
pub struct Frame {
    pub(crate) key: bool,
    pub(crate) chunks: Vec<Chunk>,
    /// The number of its first chunk within the recording.
    first: u32,
}

/// One size of a picture, or the sound.
#[derive(Debug)]
pub struct Layer {
    pub(crate) frames: Vec<Frame>,
}

impl Layer {
    /// The first key frame at or after a place, around the end.
    pub(crate) fn key_frame_from(&self, frame: u32) -> u32 {
        let count = self.frames.len() as u32;
        let at = (0..count).map(|ahead| (frame + ahead) % count).find(|at| self.frames[*at as usize].key);
        at.unwrap_or(0)
    }
}

/// Which chunk of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub(crate) layer: u8,
    pub(crate) chunk: u16,
    pub(crate) frame: u32,
}

/// Layers of one picture, or a sound, that are played in a loop.
#[derive(Debug)]
pub struct Recording {
    /// Of what.
    pub codec: Codec,
    /// Timestamp units from one frame to the next.
    pub ticks: u32,
    pub(crate) layers: Vec<Layer>,
    chunks: u32,
    by_check: HashMap<u32, Vec<Place>>,
}

impl Recording {
    /// From encoded frames of each layer.
    #[must_use]
    pub fn new(codec: Codec, ticks: u32, encoded: Vec<Vec<Encoded>>) -> Self {
        let mut recording = Self { codec, ticks, layers: Vec::new(), chunks: 0, by_check: HashMap::new() };
        for (layer, frames) in (0u8..).zip(encoded) {
            let frames = (0u32..).zip(frames).map(|(number, frame)| {
                let first = recording.chunks;
                let cut = payload::cut(codec, &frame.bytes);
                let chunks: Vec<Chunk> = (0u16..)
                    .zip(cut)
                    .map(|(chunk, bytes)| {
                        let check = crc32c::crc32c(&bytes);
                        let place = Place { layer, chunk, frame: number };
                        recording.by_check.entry(check).or_default().push(place);
                        Chunk { bytes, check }
                    })
                    .collect();
                recording.chunks += chunks.len() as u32;
                Frame { key: frame.key, chunks, first }
            });
            let frames = frames.collect();
            recording.layers.push(Layer { frames });
        }
        recording
    }

    /// How many chunks there are in all.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks as usize
    }

    pub(crate) fn frame(&self, place: Place) -> Option<&Frame> {
        self.layers.get(usize::from(place.layer))?.frames.get(place.frame as usize)
    }

    /// The number of a chunk within the recording.
    pub(crate) fn number(&self, place: Place) -> usize {
        self.frame(place).map_or(0, |frame| frame.first as usize + usize::from(place.chunk))
    }

    /// What follows a chunk as long as nothing else is asked for.
    pub(crate) fn following(&self, place: Place) -> Place {
        let Some(layer) = self.layers.get(usize::from(place.layer)) else { return place };
        let last = self.frame(place).is_none_or(|frame| usize::from(place.chunk) + 1 >= frame.chunks.len());
        match last {
            false => Place { chunk: place.chunk + 1, ..place },
            true => Place { chunk: 0, frame: (place.frame + 1) % layer.frames.len() as u32, ..place },
        }
    }

    /// Where something is in the recording: `None` if it is not, so was altered on its way. Of several equal chunks the one that is
    /// expected, or else the first.
    pub(crate) fn find(&self, bytes: &[u8], expected: Option<Place>) -> Option<Place> {
        let check = crc32c::crc32c(bytes);
        let is = |place: Place| {
            let chunk = self.frame(place)?.chunks.get(usize::from(place.chunk))?;
            (chunk.check == check && chunk.bytes.len() == bytes.len()).then_some(place)
        };
        expected.and_then(is).or_else(|| self.by_check.get(&check)?.iter().find_map(|place| is(*place)))
    }
}

/// A frame as it comes from an encoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// It depends on no other.
    pub key: bool,
    /// VP8's frame, H.264's access unit with start codes, or an Opus packet.
    pub bytes: Vec<u8>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Frames that are told apart by their first bytes; the first of every ten is a key frame of four packets.
    pub(crate) fn recording(codec: Codec, layers: u8) -> Recording {
        let frame = |layer: u8, number: u8| {
            let key = number.is_multiple_of(10);
            let length = if codec.is_audio() {
                60
            } else if key {
                4000
            } else {
                1500 + 300 * usize::from(layer)
            };
            let mut bytes: Vec<u8> =
                (0..length).map(|at| (at * 7 + at / 251) as u8 ^ number ^ layer << 6).collect();
            bytes[..3].copy_from_slice(&[u8::from(!key), layer, number]);
            if codec == Codec::H264 {
                // One unit, with nothing in it that looks like a start code.
                bytes.iter_mut().for_each(|byte| *byte |= 1);
                bytes.splice(0..0, [0, 0, 1, 0x41]);
            }
            Encoded { key: key || codec.is_audio(), bytes }
        };
        let layers = (0..layers).map(|layer| (0..30).map(|number| frame(layer, number)).collect()).collect();
        Recording::new(codec, if codec.is_audio() { 960 } else { 3000 }, layers)
    }

    #[test]
    fn chunks_are_found_by_what_is_in_them() {
        let recording = recording(Codec::Vp8, 3);
        let mut place = Place { layer: 1, chunk: 0, frame: 0 };
        let mut numbers = Vec::new();
        for _ in 0..200 {
            let bytes = recording.frame(place).unwrap().chunks[usize::from(place.chunk)].bytes.clone();
            assert_eq!(recording.find(&bytes, None), Some(place));
            numbers.push(recording.number(place));
            let mut altered = bytes.to_vec();
            altered[500] ^= 1;
            assert_eq!(recording.find(&altered, Some(place)), None);
            assert_eq!(recording.find(&bytes[1..], Some(place)), None);
            place = recording.following(place);
        }
        assert!(numbers.iter().all(|number| *number < recording.chunks()));
        let distinct: std::collections::HashSet<_> = numbers.iter().collect();
        assert_eq!(distinct.len(), 3 * 4 + 27 * 2);
    }

    #[test]
    fn the_next_key_frame_is_around_the_end_too() {
        let recording = recording(Codec::Vp8, 1);
        let from = |frame| recording.layers[0].key_frame_from(frame);
        assert_eq!([from(0), from(1), from(20), from(21)], [0, 10, 20, 0]);
    }
}
