//! RTCP that a browser sends: reports, requests for packets and for key frames.

/// A report block (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) ssrc: u32,
    pub(super) fraction_lost: u8,
    /// 24 bits with a sign.
    pub(super) total_lost: i32,
    pub(super) highest: u32,
    pub(super) jitter: u32,
    /// The middle of the NTP time of the last sender report, and 1/65,536 s since it came.
    pub(super) last: u32,
    pub(super) delay: u32,
}

/// Most blocks of one report.
const MAX_BLOCKS: usize = 31;
/// Most pairs of packet id and mask in one request, so that it fits into a datagram.
const MAX_PAIRS: usize = 250;

fn header(out: &mut Vec<u8>, count: u8, kind: u8, words: usize) {
    out.extend_from_slice(&[0x80 | count, kind]);
    out.extend_from_slice(&(words as u16).to_be_bytes());
}

fn word(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// A sender report without blocks.
pub(super) fn sender_report(ssrc: u32, ntp: u64, rtp: u32, packets: u32, octets: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(28);
    header(&mut out, 0, 200, 6);
    for value in [ssrc, (ntp >> 32) as u32, ntp as u32, rtp, packets, octets] {
        word(&mut out, value);
    }
    out
}

/// Receiver reports, each of as many blocks as fit.
pub(super) fn receiver_reports(sender: u32, blocks: &[Block]) -> impl Iterator<Item = Vec<u8>> {
    blocks.chunks(MAX_BLOCKS).map(move |blocks| {
        let mut out = Vec::with_capacity(8 + 24 * blocks.len());
        header(&mut out, blocks.len() as u8, 201, 1 + 6 * blocks.len());
        word(&mut out, sender);
        for block in blocks {
            word(&mut out, block.ssrc);
            word(&mut out, u32::from(block.fraction_lost) << 24 | block.total_lost as u32 & 0x00ff_ffff);
            for value in [block.highest, block.jitter, block.last, block.delay] {
                word(&mut out, value);
            }
        }
        out
    })
}

/// Requests for packets (RFC 4585 §6.2.1), whose numbers ascend.
pub(super) fn nacks(sender: u32, media: u32, missing: &[u16]) -> Vec<Vec<u8>> {
    let mut pairs: Vec<(u16, u16)> = Vec::new();
    for number in missing {
        match pairs.last_mut() {
            Some((first, mask)) if (1..=16).contains(&number.wrapping_sub(*first)) => {
                *mask |= 1 << (number.wrapping_sub(*first) - 1);
            }
            _ => pairs.push((*number, 0)),
        }
    }
    let request = |pairs: &[(u16, u16)]| {
        let mut out = Vec::with_capacity(12 + 4 * pairs.len());
        header(&mut out, 1, 205, 2 + pairs.len());
        word(&mut out, sender);
        word(&mut out, media);
        pairs.iter().for_each(|(first, mask)| word(&mut out, u32::from(*first) << 16 | u32::from(*mask)));
        out
    };
    pairs.chunks(MAX_PAIRS).map(request).collect()
}

/// A request for a key frame (RFC 4585 §6.3.1).
pub(super) fn picture_loss(sender: u32, media: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(12);
    header(&mut out, 1, 206, 2);
    word(&mut out, sender);
    word(&mut out, media);
    out
}

#[cfg(test)]
mod tests {
    use kaigi_access_node::forward::{Rtcp, nacked, report_blocks, walk};

    use super::*;

    #[test]
    fn the_access_node_reads_what_is_written() {
        let missing: Vec<u16> = vec![65_534, 65_535, 0, 14, 15, 40, 41];
        let block =
            Block { ssrc: 7, fraction_lost: 3, total_lost: -2, highest: 9, jitter: 5, last: 6, delay: 8 };
        let mut compound = sender_report(1, 0x1_0000_0002, 3, 4, 5);
        compound.extend(nacks(9, 6, &missing).concat());
        compound.extend(picture_loss(9, 4));
        compound.extend(receiver_reports(9, &[block; 40]).flatten());
        let read: Vec<_> = walk(&compound).collect();
        assert_eq!(read[0], Rtcp::SenderReport { ssrc: 1, ntp: 0x1_0000_0002, rtp: 3, blocks: &[] });
        let Rtcp::Nack { ssrc: 6, pairs } = read[1] else { panic!("{read:?}") };
        assert_eq!(nacked(pairs).collect::<Vec<_>>(), missing);
        assert_eq!(read[2], Rtcp::KeyFrameRequest { ssrc: 4, intra: false });
        let blocks: Vec<_> = read[3..]
            .iter()
            .flat_map(|report| match report {
                Rtcp::ReceiverReport { blocks } => report_blocks(blocks).collect::<Vec<_>>(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(blocks.len(), 40);
        assert_eq!(
            (blocks[39].ssrc, blocks[39].fraction_lost, blocks[39].total_lost, blocks[39].jitter),
            (7, 3, -2, 5)
        );
    }
}
