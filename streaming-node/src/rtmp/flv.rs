//! Flash Video (Adobe's FLV specification, version 10.1): what RTMP carries, as a file of it would have it.

use bytes::{BufMut, Bytes, BytesMut};

/// What a file with sound and picture begins with.
pub const HEADER: [u8; 13] = [b'F', b'L', b'V', 1, 0b101, 0, 0, 0, 9, 0, 0, 0, 0];
/// Tags of pictures; the other kind is sound.
const PICTURE: u8 = 9;
/// Codecs whose decoders begin with a header.
const AVC: u8 = 7;
const AAC: u8 = 10;
/// Bytes of a tag beside its payload.
const FRAME: usize = 15;

/// Sound or picture with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// 8 for sound, 9 for picture.
    pub kind: u8,
    /// Milliseconds.
    pub timestamp: u32,
    /// As in the file.
    pub payload: Bytes,
}

impl Tag {
    /// Whether it is picture.
    #[must_use]
    pub fn is_picture(&self) -> bool {
        self.kind == PICTURE
    }

    /// Whether it is what a decoder of H.264 or AAC begins with, and no media.
    #[must_use]
    pub fn is_header(&self) -> bool {
        match self.payload[..] {
            [first, 0, ..] if self.is_picture() => first & 0x0f == AVC,
            [first, 0, ..] => first >> 4 == AAC,
            _ => false,
        }
    }

    /// Whether it is a picture that needs none before it.
    #[must_use]
    pub fn is_key_frame(&self) -> bool {
        self.is_picture()
            && !self.is_header()
            && self.payload.first().is_some_and(|first| first >> 4 & 7 == 1)
    }

    /// As a file has it, with the length after it. Payloads are below 16 MiB.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(FRAME + self.payload.len());
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        bytes.put_u8(self.kind);
        bytes.put_uint(u64::from(length), 3);
        bytes.put_uint(u64::from(self.timestamp & 0xff_ffff), 3);
        bytes.put_u8((self.timestamp >> 24) as u8);
        bytes.put_uint(0, 3);
        bytes.put(&self.payload[..]);
        bytes.put_u32(length.saturating_add(11));
        bytes.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_framed() {
        let tag = Tag { kind: 9, timestamp: 0x0102_0304, payload: Bytes::from_static(&[0x17, 0]) };
        assert_eq!(&tag.to_bytes()[..], [9, 0, 0, 2, 2, 3, 4, 1, 0, 0, 0, 0x17, 0, 0, 0, 0, 13]);
    }

    #[test]
    fn headers_and_key_frames_are_known() {
        let tag = |kind, payload: &'static [u8]| Tag { kind, timestamp: 0, payload: payload.into() };
        let known = |kind, payload| {
            let tag = tag(kind, payload);
            (tag.is_header(), tag.is_key_frame())
        };
        assert_eq!(known(9, &[0x17, 0, 0]), (true, false));
        assert_eq!(known(9, &[0x17, 1, 0]), (false, true));
        assert_eq!(known(9, &[0x27, 1, 0]), (false, false));
        assert_eq!(known(8, &[0xaf, 0, 0x12]), (true, false));
        assert_eq!(known(8, &[0xaf, 1, 0x12]), (false, false));
        assert_eq!(known(8, &[0x2f, 0]), (false, false), "MP3 has none");
        assert_eq!(known(9, &[]), (false, false));
    }
}
