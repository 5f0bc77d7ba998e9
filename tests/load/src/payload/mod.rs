//! How frames are cut into packets, and what stands before each piece.

pub(crate) mod h264;
pub(crate) mod vp8;

use crate::recording::Codec;

/// Most bytes of a frame in one packet. With headers, extensions and protection that is about the 1,200 bytes that browsers send.
pub(crate) const MAX_CHUNK: usize = 1150;

/// What each packet of a frame carries.
pub(crate) fn cut(codec: Codec, frame: &[u8]) -> Vec<Box<[u8]>> {
    match codec {
        Codec::H264 => h264::packets(frame),
        Codec::Vp8 => about_equal(frame.len(), MAX_CHUNK).map(|(from, to)| frame[from..to].into()).collect(),
        Codec::Opus => vec![frame.into()],
    }
}

/// Whether a packet begins a frame, and if it does, whether that is a key frame: of sound each is. Of H.264 it is not looked at.
pub(crate) fn begins_frame(codec: Codec, payload: &[u8]) -> Option<bool> {
    match codec {
        Codec::Vp8 => {
            let (descriptor, length) = vp8::Descriptor::read(payload)?;
            // The first bit of a frame tells that it follows another (RFC 6386 §9.1).
            descriptor.start.then(|| payload.get(length).is_some_and(|byte| byte & 1 == 0))
        }
        Codec::Opus => Some(true),
        Codec::H264 => None,
    }
}

/// Cuts into as few parts as can be, of about one size; the last are a byte longer if it does not come out even, as in browsers.
pub(crate) fn about_equal(length: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let parts = length.div_ceil(most).max(1);
    let (size, longer) = (length / parts, length % parts);
    let mut from = 0;
    (0..parts).map(move |part| {
        let to = from + size + usize::from(part >= parts - longer);
        let range = (from, to);
        from = to;
        range
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_about_equal_and_the_last_ones_longer() {
        let sizes = |length| about_equal(length, 1000).map(|(from, to)| to - from).collect::<Vec<_>>();
        assert_eq!(sizes(0), [0]);
        assert_eq!(sizes(1000), [1000]);
        assert_eq!(sizes(2005), [668, 668, 669]);
        assert_eq!(sizes(5000), [1000; 5]);
        let joined: Vec<_> = about_equal(2005, 1000).collect();
        assert_eq!(joined, [(0, 668), (668, 1336), (1336, 2005)]);
    }
}
