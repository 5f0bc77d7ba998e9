//! The RTP header (RFC 3550 §5.1, extensions RFC 8285), read in place.

/// Bytes of a header without CSRCs and extensions.
pub const FIXED_HEADER: usize = 12;

/// Why bytes are no RTP packet.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum RtpError {
    /// Shorter than its header, extensions or padding say.
    #[error("RTP packet too short")]
    TooShort,
    /// Not version 2.
    #[error("RTP version is not 2")]
    BadVersion,
}

/// An RTP packet's header and where its parts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    /// Last packet of a frame, or first of a talk spurt.
    pub marker: bool,
    /// 0..127.
    pub payload_type: u8,
    /// Wraps.
    pub sequence: u16,
    /// In units of the codec's clock rate; wraps.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Where the payload begins.
    pub payload_start: usize,
    /// Where the payload ends, before padding.
    pub payload_end: usize,
    /// Profile and place of the header extension block, if there is one.
    extension: Option<(u16, usize, usize)>,
}

impl RtpHeader {
    /// Reads a packet's header.
    ///
    /// # Errors
    /// If the bytes are no RTP packet.
    pub fn parse(packet: &[u8]) -> Result<Self, RtpError> {
        Self::parse_inner(packet, true)
    }

    /// Reads the header of a packet whose payload, and so its padding, is still encrypted.
    ///
    /// # Errors
    /// If the bytes are no RTP packet.
    pub fn parse_encrypted(packet: &[u8]) -> Result<Self, RtpError> {
        Self::parse_inner(packet, false)
    }

    fn parse_inner(packet: &[u8], strip_padding: bool) -> Result<Self, RtpError> {
        if packet.len() < FIXED_HEADER {
            return Err(RtpError::TooShort);
        }
        if packet[0] >> 6 != 2 {
            return Err(RtpError::BadVersion);
        }
        let mut payload_start = FIXED_HEADER + usize::from(packet[0] & 0x0f) * 4;
        let mut extension = None;
        if packet[0] & 0x10 != 0 {
            let head = packet.get(payload_start..payload_start + 4).ok_or(RtpError::TooShort)?;
            let profile = u16::from_be_bytes([head[0], head[1]]);
            let length = usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
            extension = Some((profile, payload_start + 4, payload_start + 4 + length));
            payload_start += 4 + length;
        }
        let mut payload_end = packet.len();
        if strip_padding && packet[0] & 0x20 != 0 && payload_end > payload_start {
            payload_end =
                payload_end.checked_sub(usize::from(packet[payload_end - 1])).ok_or(RtpError::TooShort)?;
        }
        if payload_start > payload_end {
            return Err(RtpError::TooShort);
        }
        let word =
            |at: usize| u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
        Ok(Self {
            marker: packet[1] & 0x80 != 0,
            payload_type: packet[1] & 0x7f,
            sequence: u16::from_be_bytes([packet[2], packet[3]]),
            timestamp: word(4),
            ssrc: word(8),
            payload_start,
            payload_end,
            extension,
        })
    }

    /// The payload without padding.
    #[must_use]
    pub fn payload<'p>(&self, packet: &'p [u8]) -> &'p [u8] {
        packet.get(self.payload_start..self.payload_end).unwrap_or_default()
    }

    /// The header extensions as (id, data), one-byte and two-byte form; stops at the first that is malformed.
    pub fn extensions<'p>(&self, packet: &'p [u8]) -> impl Iterator<Item = (u8, &'p [u8])> + use<'p> {
        let (profile, mut rest) = match self.extension {
            Some((profile, start, end)) => (profile, packet.get(start..end).unwrap_or_default()),
            None => (0, &packet[..0]),
        };
        std::iter::from_fn(move || {
            while let [0, tail @ ..] = rest {
                rest = tail;
            }
            let (id, length, tail) = match (profile, rest) {
                (0xbede, [head, tail @ ..]) if head >> 4 != 15 => {
                    (head >> 4, usize::from(head & 0x0f) + 1, tail)
                }
                (0x1000..=0x100f, [id, length, tail @ ..]) => (*id, usize::from(*length), tail),
                _ => return None,
            };
            let data = tail.get(..length)?;
            rest = &tail[length..];
            Some((id, data))
        })
    }

    /// The data of the extension with that id.
    #[must_use]
    pub fn extension<'p>(&self, packet: &'p [u8], id: u8) -> Option<&'p [u8]> {
        self.extensions(packet).find(|(found, _)| *found == id).map(|(_, data)| data)
    }
}

/// Whether a datagram that is RTP or RTCP is RTCP (RFC 5761 §4).
#[must_use]
pub fn is_rtcp(packet: &[u8]) -> bool {
    packet.len() >= 2 && (192..=223).contains(&packet[1])
}

/// Appends a header without CSRCs and extensions.
pub fn write_header(
    out: &mut impl bytes::BufMut,
    marker: bool,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
) {
    out.put_u8(0x80);
    out.put_u8(u8::from(marker) << 7 | payload_type & 0x7f);
    out.put_u16(sequence);
    out.put_u32(timestamp);
    out.put_u32(ssrc);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let mut packet = Vec::new();
        write_header(&mut packet, true, 96, 65535, 0xfeed_beef, 7);
        packet.extend_from_slice(b"hello");
        let header = RtpHeader::parse(&packet).unwrap();
        assert!(header.marker);
        assert_eq!(
            (header.payload_type, header.sequence, header.timestamp, header.ssrc),
            (96, 65535, 0xfeed_beef, 7)
        );
        assert_eq!(header.payload(&packet), b"hello");
        assert_eq!(header.extensions(&packet).count(), 0);
    }

    #[test]
    fn finds_extensions_and_strips_padding() {
        let one_byte = [0xbe, 0xde, 0, 2, 0x10, 0x85, 0, 0x41, 1, 2, 0, 0];
        let mut packet = Vec::new();
        write_header(&mut packet, false, 111, 1, 2, 3);
        packet[0] |= 0x30;
        packet.extend_from_slice(&one_byte);
        packet.extend_from_slice(&[9, 9, 0, 0, 3]);
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(header.extension(&packet, 1), Some(&[0x85][..]));
        assert_eq!(header.extension(&packet, 4), Some(&[1, 2][..]));
        assert_eq!(header.extension(&packet, 2), None);
        assert_eq!(header.payload(&packet), [9, 9]);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut state = 1u32;
        for length in 0..64 {
            for _ in 0..500 {
                let packet: Vec<u8> = (0..length)
                    .map(|i| {
                        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        if i == 0 { 0x80 | (state >> 24) as u8 & 0x3f } else { (state >> 24) as u8 }
                    })
                    .collect();
                if let Ok(header) = RtpHeader::parse(&packet) {
                    let _ = header.payload(&packet);
                    let _ = header.extensions(&packet).count();
                }
            }
        }
    }
}
