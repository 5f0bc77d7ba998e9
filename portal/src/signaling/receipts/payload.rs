//! The packets in the answer to a poll, counted.

use super::{Count, count_packet};

/// Between two packets in version 4 of Engine.IO. Within them it is escaped, being a control character.
const SEPARATOR: u8 = 0x1e;

/// Counts the packets of a payload in that version of Engine.IO's protocol.
pub(super) fn count(version: u8, payload: &[u8]) -> Count {
    let counted = |sum: Count, packet: &[u8]| sum.plus(count_packet(packet));
    if version == 3 {
        Lengths(payload).fold(Count::default(), counted)
    } else {
        payload.split(|byte| *byte == SEPARATOR).fold(Count::default(), counted)
    }
}

/// Packets that follow their length, `12:`, in UTF-16 code units (version 3). Ends at what is no packet.
struct Lengths<'a>(&'a [u8]);

impl<'a> Iterator for Lengths<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let colon = self.0.iter().position(|byte| *byte == b':')?;
        let length: usize = std::str::from_utf8(&self.0[..colon]).ok()?.parse().ok()?;
        let rest = &self.0[colon + 1..];
        let (mut units, mut end) = (0, 0);
        while units < length {
            // A character of four bytes in UTF-8 is two units in UTF-16.
            let (bytes, more) = match rest.get(end)? {
                0x00..=0x7f => (1, 1),
                0x80..=0xdf => (2, 1),
                0xe0..=0xef => (3, 1),
                0xf0..=0xff => (4, 2),
            };
            (units, end) = (units + more, end + bytes);
        }
        let packet = rest.get(..end)?;
        self.0 = &rest[end..];
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_and_answers_are_counted() {
        let four = "42[\"text\",\"会議 🎉\"]\u{1e}2\u{1e}4390[\"ok\"]\u{1e}42[\"drop\"]\u{1e}41";
        assert_eq!(count(4, four.as_bytes()), Count { events: 2, answers: 1 });
        let packets = ["42[\"text\",\"会議 🎉 42[\"]", "3", "4390[\"ok\"]", "40", "42[\"drop\"]"];
        let three: String = packets.map(|p| format!("{}:{p}", p.encode_utf16().count())).concat();
        assert_eq!(count(3, three.as_bytes()), Count { events: 2, answers: 1 });
    }

    #[test]
    fn what_is_no_payload_counts_nothing() {
        for bad in ["", "x", "99:42[", ":42[]", "3:é", "18446744073709551616:42[", "1"] {
            assert_eq!(count(3, bad.as_bytes()), Count::default(), "{bad}");
        }
        assert_eq!(count(3, b"4:\xff\xff"), Count::default());
    }
}
