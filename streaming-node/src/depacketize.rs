//! From RTP payloads to frames: VP8 (RFC 7741), VP9 (RFC 9628), H.264 (RFC 6184), and codecs of sound, of which each packet is a frame.

use bytes::{BufMut, Bytes, BytesMut};
use kaigi_media::{bits::Bits, h264_sps, rtp::RtpHeader};

use crate::frame::{Codec, Format, Unit};

/// Largest frame taken, in bytes.
const MAX_FRAME: usize = 4 << 20;

/// Puts frames together. A frame of which something is missing is dropped, and all that follow up to the next key frame.
#[derive(Debug)]
pub struct Depacketizer {
    codec: Codec,
    /// Packets of the frame under way.
    timestamp: Option<u32>,
    data: BytesMut,
    broken: bool,
    /// Packets are missing right before the next one.
    after_loss: bool,
    /// Nothing can be decoded until a key frame comes.
    waits: bool,
    /// H.264: the parameter sets seen last, and whether the frame under way has an IDR slice.
    parameters: (Option<Bytes>, Option<Bytes>),
    fragment: Option<BytesMut>,
    idr: bool,
}

impl Depacketizer {
    /// For one stream of a codec.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            timestamp: None,
            data: BytesMut::new(),
            broken: false,
            after_loss: false,
            waits: codec.is_video(),
            parameters: (None, None),
            fragment: None,
            idr: false,
        }
    }

    /// Whether a key frame has to come before anything else does.
    #[must_use]
    pub fn waits_for_key_frame(&self) -> bool {
        self.waits
    }

    /// Packets were lost before the next one.
    pub fn lost(&mut self) {
        if self.codec.is_video() {
            self.broken = true;
            self.after_loss = true;
            self.waits = true;
        }
    }

    /// Takes the next packet; gives the frame that it completes.
    pub fn push(&mut self, header: &RtpHeader, packet: &[u8]) -> Option<Unit> {
        let payload = header.payload(packet);
        if payload.is_empty() {
            return None;
        }
        if !self.codec.is_video() {
            let data = Bytes::copy_from_slice(payload);
            return Some(Unit { timestamp: header.timestamp, key: true, data, format: None });
        }
        if self.timestamp != Some(header.timestamp) {
            // One without an end is not finished: its last packet is among those lost.
            self.begin(header.timestamp);
        }
        self.after_loss = false;
        if self.data.len() + payload.len() > MAX_FRAME {
            self.broken = true;
        }
        if !self.broken && self.append(payload).is_none() {
            self.broken = true;
        }
        if !header.marker {
            return None;
        }
        let unit = if self.broken { None } else { self.finish(header.timestamp) };
        self.timestamp = None;
        if unit.is_none() && self.broken {
            self.waits = true;
        }
        unit
    }

    fn begin(&mut self, timestamp: u32) {
        if self.timestamp.is_some() {
            self.waits = true;
        }
        self.timestamp = Some(timestamp);
        self.data = BytesMut::new();
        self.fragment = None;
        // A frame of H.264 does not tell whether its beginning is among what was lost.
        self.broken = self.after_loss && self.codec == Codec::H264;
        self.idr = false;
    }

    fn append(&mut self, payload: &[u8]) -> Option<()> {
        match self.codec {
            Codec::Vp8 => {
                let (rest, starts) = vp8(payload)?;
                // What begins in the middle has lost its beginning.
                if self.data.is_empty() && !starts {
                    return None;
                }
                self.data.put_slice(rest);
                Some(())
            }
            Codec::Vp9 => {
                let (rest, starts) = vp9(payload)?;
                if self.data.is_empty() && !starts {
                    return None;
                }
                self.data.put_slice(rest);
                Some(())
            }
            Codec::H264 => self.h264(payload),
            Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::Aac => None,
        }
    }

    fn finish(&mut self, timestamp: u32) -> Option<Unit> {
        let data = std::mem::take(&mut self.data).freeze();
        if data.is_empty() {
            return None;
        }
        let (key, format) = match self.codec {
            Codec::Vp8 => vp8_key_frame(&data),
            Codec::Vp9 => vp9_key_frame(&data),
            Codec::H264 => self.h264_key_frame(),
            Codec::Opus | Codec::Pcmu | Codec::Pcma | Codec::Aac => return None,
        };
        if key && format.is_none() {
            // Of no use without what it takes to decode it.
            self.waits = true;
            return None;
        }
        if self.waits && !key {
            return None;
        }
        self.waits = false;
        Some(Unit { timestamp, key, data, format })
    }

    fn h264(&mut self, payload: &[u8]) -> Option<()> {
        match payload[0] & 0x1f {
            1..=23 => self.nal_unit(payload),
            // STAP-A
            24 => {
                let mut rest = &payload[1..];
                while let [high, low, tail @ ..] = rest {
                    let length = usize::from(u16::from_be_bytes([*high, *low]));
                    self.nal_unit(tail.get(..length).filter(|unit| !unit.is_empty())?)?;
                    rest = &tail[length..];
                }
                Some(())
            }
            // FU-A
            28 => {
                let (indicator, header, rest) = (payload[0], *payload.get(1)?, payload.get(2..)?);
                if header & 0x80 != 0 {
                    let mut unit = BytesMut::with_capacity(payload.len() * 8);
                    unit.put_u8(indicator & 0xe0 | header & 0x1f);
                    self.fragment = Some(unit);
                }
                let unit = self.fragment.as_mut()?;
                unit.put_slice(rest);
                if unit.len() > MAX_FRAME {
                    return None;
                }
                if header & 0x40 != 0 {
                    let unit = self.fragment.take()?;
                    self.nal_unit(&unit)?;
                }
                Some(())
            }
            _ => None,
        }
    }

    fn nal_unit(&mut self, unit: &[u8]) -> Option<()> {
        match unit[0] & 0x1f {
            7 => self.parameters.0 = Some(Bytes::copy_from_slice(unit)),
            8 => self.parameters.1 = Some(Bytes::copy_from_slice(unit)),
            // Delimiters and filler say nothing in a container.
            9 | 12 => {}
            kind => {
                self.idr |= kind == 5;
                self.data.put_u32(u32::try_from(unit.len()).ok()?);
                self.data.put_slice(unit);
            }
        }
        Some(())
    }

    fn h264_key_frame(&self) -> (bool, Option<Format>) {
        let (Some(sps), Some(pps)) = &self.parameters else { return (self.idr, None) };
        if !self.idr {
            return (false, None);
        }
        let config = avc_configuration(sps, pps);
        let size = h264_sps::size(&sps[1..]);
        (true, config.zip(size).map(|(config, size)| Format { codec: Codec::H264, size, config }))
    }
}

/// AVCDecoderConfigurationRecord of one sequence and one picture parameter set.
fn avc_configuration(sps: &[u8], pps: &[u8]) -> Option<Bytes> {
    let [_, profile, compatibility, level, ..] = *sps else { return None };
    let mut record = BytesMut::with_capacity(16 + sps.len() + pps.len());
    record.put_slice(&[1, profile, compatibility, level, 0xff, 0xe1]);
    record.put_u16(u16::try_from(sps.len()).ok()?);
    record.put_slice(sps);
    record.put_u8(1);
    record.put_u16(u16::try_from(pps.len()).ok()?);
    record.put_slice(pps);
    if matches!(profile, 100 | 110 | 122 | 144) {
        // 4:2:0 at 8 bits is all that browsers and this project's encoders make.
        record.put_slice(&[0xfd, 0xf8, 0xf8, 0]);
    }
    Some(record.freeze())
}

/// The payload after its descriptor, and whether a frame begins there (RFC 7741 §4.2).
fn vp8(payload: &[u8]) -> Option<(&[u8], bool)> {
    let (first, mut rest) = payload.split_first()?;
    if first & 0x80 != 0 {
        let (extension, tail) = rest.split_first()?;
        rest = tail;
        if extension & 0x80 != 0 {
            let (id, tail) = rest.split_first()?;
            rest = if id & 0x80 != 0 { tail.get(1..)? } else { tail };
        }
        if extension & 0x40 != 0 {
            rest = rest.get(1..)?;
        }
        if extension & 0x30 != 0 {
            rest = rest.get(1..)?;
        }
    }
    Some((rest, first & 0x10 != 0 && first & 0x07 == 0))
}

/// RFC 6386 §9.1
fn vp8_key_frame(frame: &[u8]) -> (bool, Option<Format>) {
    match frame {
        [tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1, ..] if tag & 1 == 0 => {
            let side = |low: u8, high: u8| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
            let size = (side(*w0, *w1), side(*h0, *h1));
            (true, Some(Format { codec: Codec::Vp8, size, config: Bytes::new() }))
        }
        [tag, ..] => (tag & 1 == 0, None),
        [] => (false, None),
    }
}

/// The payload after its descriptor, and whether a picture begins there (RFC 9628 §4.2).
fn vp9(payload: &[u8]) -> Option<(&[u8], bool)> {
    let (first, mut rest) = payload.split_first()?;
    let bit = |mask: u8| first & mask != 0;
    let (flexible, mut starts) = (bit(0x10), bit(0x08));
    if bit(0x80) {
        let (id, tail) = rest.split_first()?;
        rest = if id & 0x80 != 0 { tail.get(1..)? } else { tail };
    }
    if bit(0x20) {
        let (layer, tail) = rest.split_first()?;
        starts &= layer >> 1 & 0x07 == 0;
        rest = if flexible { tail } else { tail.get(1..)? };
    }
    if flexible && bit(0x40) {
        for _ in 0..3 {
            let (difference, tail) = rest.split_first()?;
            rest = tail;
            if difference & 1 == 0 {
                break;
            }
        }
    }
    if bit(0x02) {
        let (head, tail) = rest.split_first()?;
        rest = tail;
        if head & 0x10 != 0 {
            rest = rest.get((usize::from(head >> 5) + 1) * 4..)?;
        }
        if head & 0x08 != 0 {
            let (groups, mut tail) = rest.split_first()?;
            for _ in 0..*groups {
                let (group, after) = tail.split_first()?;
                tail = after.get(usize::from(group >> 2 & 3)..)?;
            }
            rest = tail;
        }
    }
    Some((rest, starts))
}

/// VP9 bitstream specification §6.2, §7.2, profile 0.
fn vp9_key_frame(frame: &[u8]) -> (bool, Option<Format>) {
    let mut bits = Bits::new(frame);
    let parsed = (|| {
        if bits.fixed(2)? != 2 {
            return None;
        }
        let profile = bits.fixed(1)? | bits.fixed(1)? << 1;
        if profile == 3 {
            bits.fixed(1)?;
        }
        let existing = bits.fixed(1)? == 1;
        let inter = bits.fixed(1)? == 1;
        if existing || inter {
            return Some((false, None));
        }
        bits.fixed(2)?;
        if bits.fixed(24)? != 0x49_83_42 {
            return Some((true, None));
        }
        if profile >= 2 {
            bits.fixed(1)?;
        }
        if bits.fixed(3)? == 7 {
            return Some((true, None));
        }
        bits.fixed(1)?;
        if profile & 1 == 1 {
            bits.fixed(3)?;
        }
        let (width, height) = (bits.fixed(16)? + 1, bits.fixed(16)? + 1);
        Some((true, Some(Format { codec: Codec::Vp9, size: (width, height), config: Bytes::new() })))
    })();
    parsed.unwrap_or((false, None))
}

#[cfg(test)]
mod tests {
    use kaigi_media::rtp::write_header;

    use super::*;

    fn push(to: &mut Depacketizer, timestamp: u32, marker: bool, payload: &[u8]) -> Option<Unit> {
        let mut packet = Vec::new();
        write_header(&mut packet, marker, 96, 0, timestamp, 1);
        packet.extend_from_slice(payload);
        to.push(&RtpHeader::parse(&packet).unwrap(), &packet)
    }
    const VP8_KEY: [u8; 12] = [0x10, 0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00, 7];

    #[test]
    fn vp8_frames_begin_with_a_key_frame_and_tell_their_size() {
        let mut vp8 = Depacketizer::new(Codec::Vp8);
        assert_eq!(push(&mut vp8, 0, true, &[0x10, 0x11, 1, 2]), None, "no key frame");
        assert_eq!(push(&mut vp8, 1, false, &VP8_KEY), None);
        let unit = push(&mut vp8, 1, true, &[0x00, 9]).unwrap();
        assert!(unit.key);
        assert_eq!(unit.format.unwrap().size, (320, 240));
        assert_eq!(unit.data.last(), Some(&9));
        let next = push(&mut vp8, 2, true, &[0x90, 0xf0, 0x80, 1, 2, 3, 0x11, 5]).unwrap();
        assert!(!next.key && next.format.is_none());
        assert_eq!(next.data[..], [0x11, 5]);
    }

    #[test]
    fn after_a_loss_nothing_comes_until_a_key_frame() {
        let mut vp8 = Depacketizer::new(Codec::Vp8);
        assert!(push(&mut vp8, 1, true, &VP8_KEY).is_some());
        assert!(push(&mut vp8, 2, true, &[0x10, 0x11, 1]).is_some());
        assert_eq!(push(&mut vp8, 3, false, &[0x10, 0x11, 1]), None);
        vp8.lost();
        assert!(vp8.waits_for_key_frame());
        assert_eq!(push(&mut vp8, 3, true, &[0x00, 1]), None);
        assert_eq!(push(&mut vp8, 4, true, &[0x10, 0x11, 1]), None);
        assert!(push(&mut vp8, 5, true, &VP8_KEY).is_some());
        assert!(!vp8.waits_for_key_frame());
        // The end of a frame is missing, without anybody saying so.
        assert_eq!(push(&mut vp8, 6, false, &[0x10, 0x11, 1]), None);
        assert_eq!(push(&mut vp8, 7, true, &[0x10, 0x11, 1]), None);
        assert!(vp8.waits_for_key_frame());
    }

    const SPS: [u8; 13] = [0x67, 0x42, 0xc0, 0x1e, 0xda, 0x02, 0x80, 0xf6, 0x80, 0x6d, 0x0a, 0x13, 0x50];
    const PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];

    #[test]
    fn h264_units_come_with_lengths_and_the_parameter_sets_apart() {
        let mut h264 = Depacketizer::new(Codec::H264);
        let mut stap = vec![24, 0, 13];
        stap.extend_from_slice(&SPS);
        stap.extend_from_slice(&[0, 4]);
        stap.extend_from_slice(&PPS);
        assert_eq!(push(&mut h264, 1, false, &stap), None);
        assert_eq!(push(&mut h264, 1, false, &[0x7c, 0x85, 1, 2]), None);
        assert_eq!(push(&mut h264, 1, false, &[0x7c, 0x05, 3]), None);
        let unit = push(&mut h264, 1, true, &[0x7c, 0x45, 4]).unwrap();
        assert_eq!(unit.data[..], [0, 0, 0, 5, 0x65, 1, 2, 3, 4]);
        let format = unit.format.unwrap();
        assert_eq!(format.size, (640, 480));
        assert_eq!(format.config[..8], [1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 13]);
        let next = push(&mut h264, 2, true, &[0x41, 8]).unwrap();
        assert!(!next.key);
        assert_eq!(next.data[..], [0, 0, 0, 2, 0x41, 8]);
    }

    #[test]
    fn an_idr_without_parameter_sets_is_not_decodable() {
        let mut h264 = Depacketizer::new(Codec::H264);
        assert_eq!(push(&mut h264, 1, true, &[0x65, 1]), None);
        assert!(h264.waits_for_key_frame());
    }

    #[test]
    fn vp9_key_frames_tell_their_size() {
        let mut vp9 = Depacketizer::new(Codec::Vp9);
        // Frame marker 2, profile 0, key frame, sync code, color space 1, range 0, 640 - 1, 480 - 1.
        let frame = [0x82, 0x49, 0x83, 0x42, 0x20, 0x27, 0xf0, 0x1d, 0xf0];
        let mut payload = vec![0x8c, 5];
        payload.extend_from_slice(&frame);
        let unit = push(&mut vp9, 1, true, &payload).unwrap();
        assert_eq!(unit.format.unwrap().size, (640, 480));
        let inter = push(&mut vp9, 2, true, &[0xcc, 6, 0x86, 1, 2]).unwrap();
        assert!(!inter.key);
    }

    #[test]
    fn rubbish_makes_no_frames_and_no_harm() {
        for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Opus] {
            let mut any = Depacketizer::new(codec);
            for seed in 0..20_000u32 {
                let bytes: Vec<u8> = (0..seed % 40)
                    .map(|i| (seed.wrapping_mul(2_654_435_761).rotate_left(i) >> 7) as u8)
                    .collect();
                push(&mut any, seed / 3, seed % 3 == 0, &bytes);
            }
            assert!(any.data.len() < MAX_FRAME);
        }
    }
}
