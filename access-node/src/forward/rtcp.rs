//! RTCP from clients, read in place: a compound packet (RFC 3550 §6.1) is walked without being copied, and what is not of
//! interest is stepped over.

use super::report::Reference;

/// One packet of a compound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rtcp<'p> {
    /// Which NTP time an RTP timestamp of a source stands for.
    SenderReport {
        /// The source.
        ssrc: u32,
        /// NTP time, 64 bits.
        ntp: u64,
        /// RTP timestamp.
        rtp: u32,
        /// Its report blocks, if it has any: see [`super::report_blocks`].
        blocks: &'p [u8],
    },
    /// What a receiver says of the streams that it is sent.
    ReceiverReport {
        /// See [`super::report_blocks`].
        blocks: &'p [u8],
    },
    /// Which receiver reference time report a sender got last (RFC 3611 §4.5).
    LastReference {
        /// Whose report.
        ssrc: u32,
        /// Which, and when.
        reference: Reference,
    },
    /// Packets that a receiver misses (RFC 4585 §6.2.1).
    Nack {
        /// Source of the packets.
        ssrc: u32,
        /// Pairs of packet id and mask.
        pairs: &'p [u8],
    },
    /// A receiver can't decode until the next key frame: PLI (RFC 4585 §6.3.1) or FIR (RFC 5104 §4.3.1).
    KeyFrameRequest {
        /// The source.
        ssrc: u32,
        /// It was a FIR.
        intra: bool,
    },
    /// Transport-wide feedback.
    TransportCc {
        /// What follows the SSRCs.
        feedback: &'p [u8],
    },
    /// What a receiver can take in all (draft-alvestrand-rmcat-remb-03 §2.2).
    CanTake {
        /// bit/s
        bitrate: u64,
    },
    /// Anything else.
    Other,
}

/// Walks a compound packet. Ends at the first piece that is malformed.
pub fn walk(compound: &[u8]) -> impl Iterator<Item = Rtcp<'_>> {
    let mut rest = compound;
    std::iter::from_fn(move || {
        let [first, kind, l0, l1, ..] = rest else { return None };
        let length = (usize::from(u16::from_be_bytes([*l0, *l1])) + 1) * 4;
        let packet = rest.get(..length).filter(|_| first >> 6 == 2)?;
        rest = &rest[length..];
        Some(read(first & 0x1f, *kind, packet))
    })
}

fn read(count: u8, kind: u8, packet: &[u8]) -> Rtcp<'_> {
    let word = |at: usize| packet.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    let found = match (kind, count) {
        (200, _) => (|| {
            let ntp = u64::from(word(8)?) << 32 | u64::from(word(12)?);
            let blocks = blocks(packet, 28, count)?;
            Some(Rtcp::SenderReport { ssrc: word(4)?, ntp, rtp: word(16)?, blocks })
        })(),
        (201, _) => blocks(packet, 8, count).map(|blocks| Rtcp::ReceiverReport { blocks }),
        (205, 1) => word(8).map(|ssrc| Rtcp::Nack { ssrc, pairs: &packet[12..] }),
        (205, 15) => packet.get(12..).map(|feedback| Rtcp::TransportCc { feedback }),
        (206, 1) => word(8).map(|ssrc| Rtcp::KeyFrameRequest { ssrc, intra: false }),
        // FIR names its sources in entries; browsers send one.
        (206, 15) => can_take(packet),
        (206, 4) => word(12).map(|ssrc| Rtcp::KeyFrameRequest { ssrc, intra: true }),
        (207, _) => last_reference(packet),
        _ => None,
    };
    found.unwrap_or(Rtcp::Other)
}

/// The exponent and mantissa of a REMB.
fn can_take(packet: &[u8]) -> Option<Rtcp<'_>> {
    let [b'R', b'E', b'M', b'B', _, high, mid, low] = packet.get(12..20)? else { return None };
    let mantissa = u64::from(u32::from_be_bytes([0, high & 3, *mid, *low]));
    // What no link carries is cut off.
    Some(Rtcp::CanTake { bitrate: (mantissa << u32::from(high >> 2).min(40)).min(1 << 40) })
}

/// The report blocks that begin at `at`; `None` if there are fewer than the header says.
fn blocks(packet: &[u8], at: usize, count: u8) -> Option<&[u8]> {
    packet.get(at..at + usize::from(count) * 24)
}

/// The first DLRR block of an extended report.
fn last_reference(packet: &[u8]) -> Option<Rtcp<'_>> {
    let mut rest = packet.get(8..)?;
    loop {
        let [kind, _, l0, l1, tail @ ..] = rest else { return None };
        let length = usize::from(u16::from_be_bytes([*l0, *l1])) * 4;
        let block = tail.get(..length)?;
        if *kind == 5 {
            let word =
                |at: usize| block.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
            let reference = Reference { report: word(4)?, delay: word(8)? };
            return Some(Rtcp::LastReference { ssrc: word(0)?, reference });
        }
        rest = &tail[length..];
    }
}

/// The sequence numbers that the pairs of a NACK name.
pub fn nacked(pairs: &[u8]) -> impl Iterator<Item = u16> + Clone + '_ {
    pairs.chunks_exact(4).flat_map(|pair| {
        let first = u16::from_be_bytes([pair[0], pair[1]]);
        let mask = u16::from_be_bytes([pair[2], pair[3]]);
        let following = (0..16).filter(move |bit| mask & 1 << bit != 0);
        std::iter::once(first).chain(following.map(move |bit| first.wrapping_add(bit + 1)))
    })
}

#[cfg(test)]
mod tests {
    use rtc_rtcp::{
        extended_report::{DLRRReport, DLRRReportBlock, ExtendedReport, ReceiverReferenceTimeReportBlock},
        packet::{Packet, marshal},
        payload_feedbacks::{
            full_intra_request::{FirEntry, FullIntraRequest},
            picture_loss_indication::PictureLossIndication,
        },
        receiver_report::ReceiverReport,
        reception_report::ReceptionReport,
        sender_report::SenderReport,
        transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
    };

    use super::*;
    use crate::forward::report_blocks;

    fn compound() -> Vec<u8> {
        let packets: Vec<Box<dyn Packet>> = vec![
            Box::new(SenderReport { ssrc: 1, ntp_time: 0x1_0000_0002, rtp_time: 3, ..Default::default() }),
            Box::new(ReceiverReport {
                reports: vec![ReceptionReport { ssrc: 8, jitter: 3, ..Default::default() }],
                ..Default::default()
            }),
            Box::new(PictureLossIndication { sender_ssrc: 9, media_ssrc: 4 }),
            Box::new(FullIntraRequest {
                sender_ssrc: 9,
                media_ssrc: 0,
                fir: vec![FirEntry { ssrc: 5, sequence_number: 0 }],
            }),
            Box::new(TransportLayerNack {
                sender_ssrc: 9,
                media_ssrc: 6,
                nacks: nack_pairs_from_sequence_numbers(&[65_535, 0, 15, 40]),
            }),
            Box::new(ExtendedReport {
                sender_ssrc: 9,
                reports: vec![
                    Box::new(ReceiverReferenceTimeReportBlock { ntp_timestamp: 1 }),
                    Box::new(DLRRReportBlock { reports: vec![DLRRReport { ssrc: 7, last_rr: 5, dlrr: 6 }] }),
                ],
            }),
        ];
        marshal(&packets).unwrap().to_vec()
    }

    #[test]
    fn a_compound_is_walked() {
        let bytes = compound();
        let packets: Vec<_> = walk(&bytes).collect();
        let [report, Rtcp::ReceiverReport { blocks }, pli, fir, Rtcp::Nack { ssrc: 6, pairs }, last] =
            packets[..]
        else {
            panic!("{packets:?}")
        };
        assert_eq!(report, Rtcp::SenderReport { ssrc: 1, ntp: 0x1_0000_0002, rtp: 3, blocks: &[] });
        assert_eq!(
            report_blocks(blocks).map(|block| (block.ssrc, block.jitter)).collect::<Vec<_>>(),
            [(8, 3)]
        );
        let request = |ssrc, intra| Rtcp::KeyFrameRequest { ssrc, intra };
        assert_eq!((pli, fir), (request(4, false), request(5, true)));
        let reference = Reference { report: 5, delay: 6 };
        assert_eq!(last, Rtcp::LastReference { ssrc: 7, reference });
        assert_eq!(nacked(pairs).collect::<Vec<_>>(), [65_535, 0, 15, 40]);
    }

    #[test]
    fn what_a_receiver_can_take_is_read() {
        let remb = |rate: [u8; 3]| {
            [&[0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0][..], b"REMB\x01", &rate, &[0, 0, 0, 9]].concat()
        };
        fn read(bytes: &[u8]) -> Vec<Rtcp<'_>> {
            walk(bytes).collect()
        }
        assert_eq!(read(&remb([3 << 2 | 1, 0, 1])), [Rtcp::CanTake { bitrate: 0x1_0001 << 3 }]);
        assert_eq!(read(&remb([0xff; 3])), [Rtcp::CanTake { bitrate: 1 << 40 }]);
        let mut other = remb([1; 3]);
        other[12] = b'X';
        assert_eq!(read(&other), [Rtcp::Other]);
    }

    #[test]
    fn broken_compounds_end_early() {
        let bytes = compound();
        for length in 0..bytes.len() {
            assert!(walk(&bytes[..length]).count() <= 6);
        }
        for at in 0..bytes.len() {
            for value in [0, 0x80, 0xff] {
                let mut broken = bytes.clone();
                broken[at] = value;
                for packet in walk(&broken) {
                    if let Rtcp::Nack { pairs, .. } = packet {
                        assert!(nacked(pairs).count() <= broken.len() * 5);
                    }
                }
            }
        }
    }
}
