//! Transport-wide feedback of a client (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1), read in place.

/// Most packets that one feedback may speak of; browsers send feedback several times a second.
pub(super) const MAX_STATUSES: u16 = 2048;
/// Unit of arrival times, in µs.
const TICK: i64 = 250;
/// Unit of the reference time, in µs.
pub(super) const REFERENCE: i64 = 64_000;

/// One feedback packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feedback<'p> {
    base: u16,
    count: u16,
    /// 24 bits, in units of [`REFERENCE`].
    pub(super) reference: u32,
    chunks: &'p [u8],
    deltas: &'p [u8],
}

impl<'p> Feedback<'p> {
    /// Reads what follows the RTCP packet's SSRCs. `None` if it is malformed or speaks of too many packets.
    pub(super) fn parse(bytes: &'p [u8]) -> Option<Self> {
        let [b0, b1, c0, c1, r0, r1, r2, _, rest @ ..] = bytes else { return None };
        let count = u16::from_be_bytes([*c0, *c1]);
        if count > MAX_STATUSES {
            return None;
        }
        let mut covered = 0usize;
        let mut chunks = 0;
        while covered < usize::from(count) {
            let chunk = rest.get(chunks..chunks + 2)?;
            covered += length(u16::from_be_bytes([chunk[0], chunk[1]]));
            chunks += 2;
        }
        let (chunks, deltas) = rest.split_at(chunks);
        let reference = u32::from_be_bytes([0, *r0, *r1, *r2]);
        Some(Self { base: u16::from_be_bytes([*b0, *b1]), count, reference, chunks, deltas })
    }

    /// Each packet's number with its arrival in µs after the reference time, ascending; `None` if it has not arrived. Ends early if the
    /// arrival times do.
    pub(super) fn statuses(&self) -> impl Iterator<Item = (u16, Option<i64>)> + 'p {
        let base = self.base;
        let mut deltas = self.deltas;
        let mut clock = 0;
        let symbols = self.chunks.chunks_exact(2).flat_map(|chunk| {
            let chunk = u16::from_be_bytes([chunk[0], chunk[1]]);
            (0..length(chunk)).map(move |index| symbol(chunk, index))
        });
        symbols.take(self.count.into()).zip(0u16..).map_while(move |(symbol, index)| {
            let delta = match symbol {
                1 => {
                    let (delta, rest) = deltas.split_first()?;
                    deltas = rest;
                    i64::from(*delta)
                }
                2 => {
                    let (delta, rest) = deltas.split_first_chunk()?;
                    deltas = rest;
                    i64::from(i16::from_be_bytes(*delta))
                }
                _ => return Some((base.wrapping_add(index), None)),
            };
            clock += delta * TICK;
            Some((base.wrapping_add(index), Some(clock)))
        })
    }
}

/// How many packets a chunk speaks of.
fn length(chunk: u16) -> usize {
    match chunk >> 14 {
        0 | 1 => usize::from(chunk & 0x1fff),
        2 => 14,
        _ => 7,
    }
}

/// 0 = not received, 1 = with a small delta, 2 = with a large or negative one, 3 = reserved.
fn symbol(chunk: u16, index: usize) -> u16 {
    match chunk >> 14 {
        0 | 1 => chunk >> 13 & 3,
        2 => chunk >> (13 - index) & 1,
        _ => chunk >> (12 - 2 * index) & 3,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use rtc_rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk,
        SymbolSizeTypeTcc, SymbolTypeTcc, TransportLayerCc,
    };
    use rtc_shared::marshal::Marshal;

    use super::*;
    use crate::forward::TransportCcReceiver;

    #[test]
    fn each_kind_of_chunk_is_read() {
        let small = |delta| RecvDelta { type_tcc_packet: SymbolTypeTcc::PacketReceivedSmallDelta, delta };
        let large = |delta| RecvDelta { type_tcc_packet: SymbolTypeTcc::PacketReceivedLargeDelta, delta };
        let packet = TransportLayerCc {
            sender_ssrc: 1,
            media_ssrc: 2,
            base_sequence_number: 65_534,
            packet_status_count: 2 + 14 + 3,
            reference_time: 5,
            fb_pkt_count: 0,
            packet_chunks: vec![
                PacketStatusChunk::RunLengthChunk(RunLengthChunk {
                    type_tcc: StatusChunkTypeTcc::RunLengthChunk,
                    packet_status_symbol: SymbolTypeTcc::PacketReceivedSmallDelta,
                    run_length: 2,
                }),
                PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                    type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
                    symbol_size: SymbolSizeTypeTcc::OneBit,
                    symbol_list: (0..14)
                        .map(|i| match i {
                            3 => SymbolTypeTcc::PacketReceivedSmallDelta,
                            _ => SymbolTypeTcc::PacketNotReceived,
                        })
                        .collect(),
                }),
                PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                    type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
                    symbol_size: SymbolSizeTypeTcc::TwoBit,
                    symbol_list: vec![
                        SymbolTypeTcc::PacketReceivedLargeDelta,
                        SymbolTypeTcc::PacketNotReceived,
                        SymbolTypeTcc::PacketReceivedSmallDelta,
                        SymbolTypeTcc::PacketNotReceived,
                        SymbolTypeTcc::PacketNotReceived,
                        SymbolTypeTcc::PacketNotReceived,
                        SymbolTypeTcc::PacketNotReceived,
                    ],
                }),
            ],
            recv_deltas: vec![small(1000), small(250), small(500), large(-2000), small(250)],
        };
        let bytes = packet.marshal().unwrap();
        let feedback = Feedback::parse(&bytes[12..]).unwrap();
        assert_eq!(feedback.reference, 5);
        let statuses: Vec<_> = feedback.statuses().collect();
        assert_eq!(statuses.len(), 19);
        let arrived: Vec<_> = statuses.iter().filter_map(|(n, at)| Some((*n, (*at)?))).collect();
        assert_eq!(arrived, [(65_534, 1000), (65_535, 1250), (3, 1750), (14, -250), (16, 0)]);
    }

    #[test]
    fn what_this_node_tells_publishers_is_understood() {
        let start = Instant::now();
        let mut receiver = TransportCcReceiver::new(start);
        for (sequence, ms) in [(10, 100), (11, 105), (14, 400), (13, 399)] {
            receiver.receive(start + Duration::from_millis(ms), sequence);
        }
        let bytes = receiver.feedback(1, 2).unwrap();
        let feedback = Feedback::parse(&bytes[12..]).unwrap();
        let reference = i64::from(feedback.reference) * REFERENCE;
        let statuses: Vec<_> =
            feedback.statuses().map(|(n, at)| (n, at.map(|at| (reference + at) / 1000))).collect();
        assert_eq!(
            statuses,
            [(10, Some(100)), (11, Some(105)), (12, None), (13, Some(399)), (14, Some(400))]
        );
    }

    #[test]
    fn nothing_malformed_is_too_strange() {
        let mut state = 3u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..random() % 40).map(|_| random()).collect();
            let Some(feedback) = Feedback::parse(&bytes) else { continue };
            assert!(feedback.statuses().count() <= usize::from(MAX_STATUSES));
        }
        let endless = [0, 0, 0xff, 0xff, 0, 0, 0, 0, 0x1f, 0xff, 0x1f, 0xff];
        assert!(Feedback::parse(&endless).is_none());
        // A chunk of no packets does not hold anybody up.
        assert!(Feedback::parse(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]).is_none());
    }
}
