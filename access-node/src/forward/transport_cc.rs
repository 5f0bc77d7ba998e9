//! Feedback to publishers on all their packets, from which they estimate their bandwidth
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::sequence::Unwrapper;

/// How often feedback goes out. Browsers send theirs every 50 to 250 ms; shorter reacts faster and costs more RTCP.
const INTERVAL: Duration = Duration::from_millis(100);
/// Most packets in one feedback, so that it fits into a datagram: 400 deltas and 58 chunks are at most 920 bytes.
const MAX_STATUSES: u64 = 400;
/// Most packets remembered until the next feedback.
const MAX_PENDING: usize = 4096;
/// Unit of the deltas.
const TICK_US: i64 = 250;
/// Unit of the reference time.
const REFERENCE_US: i64 = 64_000;

/// Arrivals of one transport's packets.
#[derive(Debug)]
pub struct TransportCcReceiver {
    epoch: Instant,
    unwrapper: Unwrapper,
    /// Extended numbers, ascending, and microseconds since `epoch`.
    pending: VecDeque<(u64, i64)>,
    next_base: Option<u64>,
    due: Option<Instant>,
    count: u8,
}

impl TransportCcReceiver {
    /// Nothing arrived yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            unwrapper: Unwrapper::default(),
            pending: VecDeque::new(),
            next_base: None,
            due: None,
            count: 0,
        }
    }

    /// A packet with that transport-wide number arrived.
    pub fn receive(&mut self, now: Instant, sequence: u16) {
        let sequence = self.unwrapper.unwrap(sequence);
        let late = self.next_base.is_some_and(|base| sequence < base);
        if late || self.pending.len() >= MAX_PENDING {
            return;
        }
        let at = i64::try_from(now.saturating_duration_since(self.epoch).as_micros()).unwrap_or(i64::MAX);
        // Most come in order.
        if self.pending.back().is_none_or(|(last, _)| *last < sequence) {
            self.pending.push_back((sequence, at));
        } else if let Err(place) = self.pending.binary_search_by_key(&sequence, |(number, _)| *number) {
            self.pending.insert(place, (sequence, at));
        }
        self.due.get_or_insert(now + INTERVAL);
    }

    /// When [`Self::feedback`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// The next feedback packet (plain RTCP) on what arrived; call until there is none.
    pub fn feedback(&mut self, sender_ssrc: u32, media_ssrc: u32) -> Option<Vec<u8>> {
        self.due = None;
        let &(first, first_at) = self.pending.front()?;
        // Of a hole larger than one feedback only the end is reported.
        let base = self.next_base.filter(|base| first - base < MAX_STATUSES).unwrap_or(first);
        let reference = first_at / REFERENCE_US;
        let mut clock = reference * REFERENCE_US;
        let mut symbols = Vec::new();
        let mut deltas = Vec::new();
        let mut next = base;
        while let Some(&(sequence, at)) = self.pending.front() {
            if sequence - base >= MAX_STATUSES {
                break;
            }
            let ticks = (at - clock + TICK_US / 2).div_euclid(TICK_US);
            let Ok(large) = i16::try_from(ticks) else { break };
            symbols.extend((next..sequence).map(|_| 0u16));
            match u8::try_from(ticks) {
                Ok(small) => {
                    symbols.push(1);
                    deltas.push(small);
                }
                Err(_) => {
                    symbols.push(2);
                    deltas.extend_from_slice(&large.to_be_bytes());
                }
            }
            clock += ticks * TICK_US;
            next = sequence + 1;
            self.pending.pop_front();
        }
        self.next_base = Some(next);
        let mut packet = vec![0x8f, 205, 0, 0];
        packet.extend_from_slice(&sender_ssrc.to_be_bytes());
        packet.extend_from_slice(&media_ssrc.to_be_bytes());
        packet.extend_from_slice(&(base as u16).to_be_bytes());
        packet.extend_from_slice(&u16::try_from(symbols.len()).unwrap_or(0).to_be_bytes());
        packet.extend_from_slice(&(reference as u32).to_be_bytes()[1..]);
        packet.push(self.count);
        self.count = self.count.wrapping_add(1);
        for seven in symbols.chunks(7) {
            let vector = seven.iter().enumerate().fold(0xc000, |v, (i, symbol)| v | symbol << (12 - 2 * i));
            packet.extend_from_slice(&u16::to_be_bytes(vector));
        }
        packet.extend_from_slice(&deltas);
        packet.resize(packet.len().next_multiple_of(4), 0);
        let words = u16::try_from(packet.len() / 4 - 1).unwrap_or(0);
        packet[2..4].copy_from_slice(&words.to_be_bytes());
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use rtc_rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
    };
    use rtc_shared::marshal::Unmarshal;

    use super::*;

    /// Arrival in µs by sequence number, read by someone else's parser.
    fn read(packet: &[u8]) -> Vec<(u16, Option<i64>)> {
        let parsed = TransportLayerCc::unmarshal(&mut &packet[..]).unwrap();
        let mut symbols = Vec::new();
        for chunk in &parsed.packet_chunks {
            match chunk {
                PacketStatusChunk::StatusVectorChunk(vector) => {
                    symbols.extend(vector.symbol_list.iter().copied())
                }
                PacketStatusChunk::RunLengthChunk(run) => {
                    symbols.extend(std::iter::repeat_n(run.packet_status_symbol, run.run_length.into()));
                }
            }
        }
        symbols.truncate(parsed.packet_status_count.into());
        let mut clock = i64::from(parsed.reference_time) * REFERENCE_US;
        let mut deltas = parsed.recv_deltas.iter();
        let base = parsed.base_sequence_number;
        (0..)
            .zip(symbols)
            .map(|(i, symbol)| {
                let at = (symbol != SymbolTypeTcc::PacketNotReceived).then(|| {
                    clock += deltas.next().unwrap().delta;
                    clock
                });
                (base.wrapping_add(i), at)
            })
            .collect()
    }

    #[test]
    fn feedback_tells_arrivals_and_losses() {
        let start = Instant::now();
        let mut receiver = TransportCcReceiver::new(start);
        let at = |ms: u64| start + Duration::from_millis(ms);
        for (sequence, ms) in [(65_534, 10), (65_535, 20), (1, 40), (0, 41), (4, 300)] {
            receiver.receive(at(ms), sequence);
        }
        assert_eq!(receiver.next_timeout(), Some(at(110)));
        let packet = receiver.feedback(1, 2).unwrap();
        assert_eq!(
            read(&packet),
            [
                (65_534, Some(10_000)),
                (65_535, Some(20_000)),
                (0, Some(41_000)),
                (1, Some(40_000)),
                (2, None),
                (3, None),
                (4, Some(300_000)),
            ]
        );
        assert!(receiver.feedback(1, 2).is_none());
        receiver.receive(at(400), 6);
        assert_eq!(read(&receiver.feedback(1, 2).unwrap()), [(5, None), (6, Some(400_000))]);
    }

    #[test]
    fn much_is_told_in_several_packets() {
        let start = Instant::now();
        let mut receiver = TransportCcReceiver::new(start);
        for i in 0..1000u16 {
            receiver.receive(start + Duration::from_millis(i.into()), i);
        }
        receiver.receive(start + Duration::from_secs(60), 30_000);
        let mut told = Vec::new();
        while let Some(packet) = receiver.feedback(1, 2) {
            assert!(packet.len() < 1200, "{}", packet.len());
            told.extend(read(&packet).into_iter().filter(|(_, at)| at.is_some()));
        }
        assert_eq!(told.len(), 1001);
        assert_eq!(told.last(), Some(&(30_000, Some(60_000_000))));
    }
}
