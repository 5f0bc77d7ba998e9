//! Ogg (RFC 3533) with one Opus stream (RFC 7845): packets are put together from the segments of pages.

use super::Encoded;

/// Bytes of a page's header before its segment table.
const HEADER: usize = 27;
/// Packets before the first with sound: identification and comments (RFC 7845 §3).
const HEADERS: usize = 2;

/// Opus packets; `None` if it is no such file.
pub(super) fn read(file: &[u8]) -> Option<Vec<Encoded>> {
    let mut packets = Vec::new();
    let mut packet = Vec::new();
    let mut rest = file;
    while !rest.is_empty() {
        if rest.get(..4)? != b"OggS" {
            return None;
        }
        let table = rest.get(HEADER..HEADER + usize::from(*rest.get(HEADER - 1)?))?;
        let mut at = HEADER + table.len();
        for length in table {
            let length = usize::from(*length);
            packet.extend_from_slice(rest.get(at..at + length)?);
            at += length;
            // A segment of full length goes on in the next.
            if length < 255 {
                packets.push(std::mem::take(&mut packet));
            }
        }
        rest = &rest[at..];
    }
    if !packets.first()?.starts_with(b"OpusHead") {
        return None;
    }
    Some(packets.into_iter().skip(HEADERS).map(|bytes| Encoded { key: true, bytes }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(table: &[u8], data: &[u8]) -> Vec<u8> {
        let mut page = [&b"OggS"[..], &[0; 22]].concat();
        page.push(table.len() as u8);
        [&page, table, data].concat()
    }

    #[test]
    fn packets_span_segments_and_pages() {
        let file = [
            page(&[8], b"OpusHead"),
            page(&[4], b"Tags"),
            page(&[3, 255], &[7; 258]),
            page(&[1, 0], &[7; 1]),
        ]
        .concat();
        let lengths: Vec<_> = read(&file).unwrap().iter().map(|packet| packet.bytes.len()).collect();
        assert_eq!(lengths, [3, 256, 0]);
        assert_eq!(read(&file[..file.len() - 1]), None);
        assert_eq!(read(b"RIFF"), None);
    }
}
