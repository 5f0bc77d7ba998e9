//! Looking into video payloads: is it the beginning of a key frame, and how large is the picture.

use kaigi_media::dependency_descriptor::{Descriptor, LayerId, MAX_SPATIAL, Structure};

use super::size::Size;
use crate::sdp::Codec;

/// What a payload shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    /// A decoder can begin with this packet.
    pub key_frame: bool,
    /// Given with key frames, where the codec makes it easy to read.
    pub size: Option<Size>,
    /// The temporal layer (VP8's TID), and whether a decoder of the layers below can go on to this one here (Y).
    pub temporal: u8,
    /// See [`Self::temporal`].
    pub sync: bool,
    /// VP9's U: from the next picture on a decoder can go on to higher temporal layers.
    pub up: bool,
    /// The spatial layer (VP9's SID).
    pub spatial: u8,
    /// It is the last packet of its layer of the picture, where the payload tells.
    pub ends: bool,
    /// The size of each spatial layer, the smallest first, given with key frames of VP9 that has several.
    pub sizes: [Option<Size>; MAX_SPATIAL],
}

/// Looks into an RTP payload.
#[must_use]
pub(super) fn inspect(codec: Codec, payload: &[u8]) -> Picture {
    match codec {
        Codec::Vp8 => vp8(payload),
        Codec::Vp9 => vp9(payload),
        Codec::H264 => h264(payload),
        Codec::H265 => Picture { key_frame: h265_key_frame(payload), ..Picture::default() },
        // The first packet of a coded video sequence (AV1 RTP §4.4, N bit).
        Codec::Av1 => {
            Picture { key_frame: payload.first().is_some_and(|b| b & 0x08 != 0), ..Picture::default() }
        }
        Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::Isac | Codec::Ilbc => {
            Picture { key_frame: true, ..Picture::default() }
        }
    }
    .or_nothing(payload)
}

impl Picture {
    /// The layer that it is of.
    pub(super) fn layer(&self) -> LayerId {
        LayerId { spatial: self.spatial, temporal: self.temporal }
    }

    /// The spatial layer that the packet is the last of, where that is told.
    pub(super) fn ended(&self) -> Option<u8> {
        self.ends.then_some(self.spatial)
    }

    /// What a dependency descriptor says goes before what the payload says, of which nothing may be readable; the sizes are told by the
    /// structure.
    pub(super) fn is_described_by(&mut self, descriptor: &Descriptor, structure: Option<&Structure>) {
        self.key_frame = descriptor.is_key_frame();
        self.ends = descriptor.ends;
        LayerId { spatial: self.spatial, temporal: self.temporal } = descriptor.layer;
        let sizes = structure.filter(|_| descriptor.has_structure()).map_or(&[][..], Structure::sizes);
        for (place, size) in self.sizes.iter_mut().zip(sizes) {
            *place = Some(*size);
        }
        self.size = sizes.last().copied().or(self.size);
    }

    fn or_nothing(self, payload: &[u8]) -> Self {
        let sound =
            |size: Option<Size>| size.filter(|(w, h)| (1..=16_384).contains(w) && (1..=16_384).contains(h));
        let (size, sizes) = (sound(self.size), self.sizes.map(sound));
        Self { key_frame: self.key_frame && !payload.is_empty(), size, sizes, ..self }
    }
}

/// RFC 7741 §4.2, §4.3; RFC 6386 §9.1.
fn vp8(payload: &[u8]) -> Picture {
    let Some((frame, starts, temporal)) = vp8_descriptor(payload) else { return Picture::default() };
    let key_frame = starts && frame.first().is_some_and(|b| b & 1 == 0);
    let size = match frame {
        [_, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] if key_frame => {
            let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
            Some((side(*w0, *w1), side(*h0, *h1)))
        }
        _ => None,
    };
    Picture { key_frame, size, temporal: temporal >> 6, sync: temporal & 0x20 != 0, ..Picture::default() }
}

/// The payload after its descriptor, whether a frame's first partition begins there, and the byte with TID and Y, 0 if there is none.
fn vp8_descriptor(payload: &[u8]) -> Option<(&[u8], bool, u8)> {
    let mut temporal = 0;
    let (first, mut rest) = payload.split_first()?;
    if first & 0x80 != 0 {
        let (extension, tail) = rest.split_first()?;
        rest = tail;
        if extension & 0x80 != 0 {
            let (picture_id, tail) = rest.split_first()?;
            rest = if picture_id & 0x80 != 0 { tail.get(1..)? } else { tail };
        }
        if extension & 0x40 != 0 {
            rest = rest.get(1..)?;
        }
        if extension & 0x30 != 0 {
            let (byte, tail) = rest.split_first()?;
            rest = tail;
            // TID and Y stand there if T says so.
            temporal = if extension & 0x20 != 0 { *byte } else { 0 };
        }
    }
    Some((rest, first & 0x10 != 0 && first & 0x07 == 0, temporal))
}

/// RFC 9628 §4.2.
fn vp9(payload: &[u8]) -> Picture {
    vp9_descriptor(payload).unwrap_or_default()
}

fn vp9_descriptor(payload: &[u8]) -> Option<Picture> {
    let (first, mut rest) = payload.split_first()?;
    let bit = |mask: u8| first & mask != 0;
    let (has_id, predicted, layers, flexible, begins, ends, structure) =
        (bit(0x80), bit(0x40), bit(0x20), bit(0x10), bit(0x08), bit(0x04), bit(0x02));
    let (mut temporal, mut up, mut spatial) = (0, false, 0);
    if has_id {
        let (id, tail) = rest.split_first()?;
        rest = if id & 0x80 != 0 { tail.get(1..)? } else { tail };
    }
    if layers {
        let (layer, tail) = rest.split_first()?;
        (temporal, up, spatial) = (layer >> 5, layer & 0x10 != 0, layer >> 1 & 0x07);
        rest = if flexible { tail } else { tail.get(1..)? };
    }
    if flexible && predicted {
        for _ in 0..3 {
            let (difference, tail) = rest.split_first()?;
            rest = tail;
            if difference & 1 == 0 {
                break;
            }
        }
    }
    let (mut size, mut sizes) = (None, [None; MAX_SPATIAL]);
    if structure {
        let (head, tail) = rest.split_first()?;
        if head & 0x10 != 0 {
            let told = tail.get(..(usize::from(head >> 5) + 1) * 4)?.chunks_exact(4);
            for (place, told) in sizes.iter_mut().zip(told.clone()) {
                *place = Some(vp9_size(told));
            }
            size = told.last().map(vp9_size);
        }
    }
    let key_frame = begins && !predicted && spatial == 0;
    Some(Picture { key_frame, size, temporal, up, spatial, ends, sizes, ..Picture::default() })
}

fn vp9_size(told: &[u8]) -> Size {
    let side = |at: usize| u32::from(u16::from_be_bytes([told[at], told[at + 1]]));
    (side(0), side(2))
}

/// RFC 6184 §5.2.
fn h264(payload: &[u8]) -> Picture {
    let Some((first, rest)) = payload.split_first() else { return Picture::default() };
    match first & 0x1f {
        24 => {
            let mut picture = Picture::default();
            let mut rest = rest;
            while let [high, low, tail @ ..] = rest {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let Some(unit) = tail.get(..length) else { break };
                let seen = h264_unit(unit);
                picture.key_frame |= seen.key_frame;
                picture.size = picture.size.or(seen.size);
                rest = &tail[length..];
            }
            picture
        }
        // A fragment: only the first names what it is of.
        28 => Picture {
            key_frame: rest.first().is_some_and(|fu| fu & 0x80 != 0 && fu & 0x1f == 5),
            ..Picture::default()
        },
        _ => h264_unit(payload),
    }
}

fn h264_unit(unit: &[u8]) -> Picture {
    match unit.first().map(|b| b & 0x1f) {
        Some(5) => Picture { key_frame: true, ..Picture::default() },
        Some(7) => {
            Picture { key_frame: true, size: kaigi_media::h264_sps::size(&unit[1..]), ..Picture::default() }
        }
        _ => Picture::default(),
    }
}

/// RFC 7798 §4.4: random access pictures and parameter sets.
fn h265_key_frame(payload: &[u8]) -> bool {
    let begins = |kind: u8| (16..=21).contains(&kind) || (32..=34).contains(&kind);
    match payload {
        [first, _, rest @ ..] => match first >> 1 & 0x3f {
            48 => rest.get(2).is_some_and(|unit| begins(unit >> 1 & 0x3f)),
            49 => rest.first().is_some_and(|fu| fu & 0x80 != 0 && begins(fu & 0x3f)),
            kind => begins(kind),
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(key_frame: bool, size: Option<Size>) -> Picture {
        Picture { key_frame, size, ..Picture::default() }
    }

    #[test]
    fn vp8_pictures_tell_their_temporal_layer() {
        let seen = |descriptor: &[u8]| {
            let picture = inspect(Codec::Vp8, &[descriptor, &[1, 2, 3]].concat());
            (picture.temporal, picture.sync)
        };
        assert_eq!(seen(&[0x90, 0xe0, 0x80, 1, 7, 0xa0]), (2, true));
        assert_eq!(seen(&[0x90, 0x20, 0x40]), (1, false));
        assert_eq!(seen(&[0x90, 0x10, 0xff]), (0, false), "only KEYIDX stands there");
        assert_eq!(seen(&[0x10]), (0, false));
    }

    #[test]
    fn vp8_key_frames_tell_their_size() {
        let frame = [0x50, 0x00, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0xe0, 0x01, 0xff];
        for descriptor in [&[0x10][..], &[0x90, 0x80, 0x11], &[0x90, 0xf0, 0x91, 0x22, 5, 0x06]] {
            let payload = [descriptor, &frame].concat();
            assert_eq!(inspect(Codec::Vp8, &payload), of(true, Some((640, 480))));
        }
        let mut delta = [&[0x10][..], &frame].concat();
        delta[1] |= 1;
        assert!(!inspect(Codec::Vp8, &delta).key_frame);
        let continuation = [&[0x00][..], &frame].concat();
        assert!(!inspect(Codec::Vp8, &continuation).key_frame);
    }

    #[test]
    fn vp9_key_frames_tell_the_size_of_the_largest_layer() {
        let structure = [0x38, 0x01, 0x40, 0x00, 0xb4, 0x02, 0x80, 0x01, 0x68, 0x01];
        let payload = [&[0x8a, 0x92, 0x34][..], &structure, &[1, 2, 3]].concat();
        let seen = inspect(Codec::Vp9, &payload);
        assert_eq!((seen.key_frame, seen.size), (true, Some((640, 360))));
        assert_eq!(seen.sizes, [Some((320, 180)), Some((640, 360)), None, None]);
        assert!(!inspect(Codec::Vp9, &[0xc8, 0x92, 0x34, 1, 2]).key_frame);
    }

    #[test]
    fn vp9_pictures_tell_their_layers() {
        // Flexible, temporal layer 1 with a switching point, spatial layer 2, the last packet.
        let seen = inspect(Codec::Vp9, &[0xf4, 0x92, 0x34, 0x34, 0x02, 9]);
        assert_eq!(
            (seen.temporal, seen.up, seen.spatial, seen.ends, seen.key_frame),
            (1, true, 2, true, false)
        );
    }

    #[test]
    fn h264_key_frames_in_each_packetization() {
        // 640×480 constrained baseline
        let sps = [0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xf6, 0x80, 0x6d, 0x0a, 0x13, 0x50];
        assert_eq!(inspect(Codec::H264, &sps), of(true, Some((640, 480))));
        let stap = [&[24, 0, sps.len() as u8][..], &sps, &[0, 2, 0x68, 1]].concat();
        assert_eq!(inspect(Codec::H264, &stap), of(true, Some((640, 480))));
        assert!(inspect(Codec::H264, &[0x7c, 0x85, 1]).key_frame);
        assert!(!inspect(Codec::H264, &[0x7c, 0x05, 1]).key_frame);
        assert!(!inspect(Codec::H264, &[0x41, 0x9a]).key_frame);
    }

    #[test]
    fn no_payload_is_too_strange() {
        let mut state = 7u32;
        for _ in 0..20_000 {
            let payload: Vec<u8> = (0..state % 24)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            state = state.wrapping_add(1);
            for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::H265, Codec::Av1, Codec::Opus] {
                let _ = inspect(codec, &payload);
            }
        }
    }
}
