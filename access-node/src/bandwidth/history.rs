//! What was sent, until it is reported on.

use super::feedback::MAX_STATUSES;

/// Packets that are remembered: four seconds of 5 Mbit/s. Takes 16 kB per client once the first is sent.
const HISTORY: usize = MAX_STATUSES as usize;
/// Bits of a packet's size; what is larger counts as that large.
const SIZE_BITS: u32 = 12;

/// What is known of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Sent,
    Lost,
    Received,
}

/// A packet that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    /// µs
    pub(super) sent: i64,
    pub(super) bytes: u16,
    /// Whether it is of a probe, or meets the queue that one made.
    pub(super) probe: bool,
    pub(super) status: Status,
}

/// A packet in eight bytes, so that a ring of many clients stays in the processor's cache.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// The lower bits of the time in µs, an hour and more.
    sent: u32,
    sequence: u16,
    /// From the lowest bit: [`SIZE_BITS`] of size, probe, two bits of status; all 0 = nothing was sent yet.
    packed: u16,
}

/// A ring of packets by transport-wide number.
#[derive(Debug, Default)]
pub(super) struct History(Vec<Entry>);

impl History {
    /// A packet goes out at that time in µs.
    pub(super) fn sent(&mut self, at: i64, sequence: u16, bytes: u16, probe: bool) {
        if self.0.is_empty() {
            self.0 = vec![Entry::default(); HISTORY];
        }
        let bytes = bytes.min((1 << SIZE_BITS) - 1);
        let packed = bytes | u16::from(probe) << SIZE_BITS | code(Status::Sent);
        self.0[usize::from(sequence) % HISTORY] = Entry { sent: at as u32, sequence, packed };
    }

    /// A packet, if it is remembered at that time.
    pub(super) fn get(&self, now: i64, sequence: u16) -> Option<Sent> {
        let entry = self.0.get(usize::from(sequence) % HISTORY).filter(|entry| entry.sequence == sequence)?;
        let status = match entry.packed >> (SIZE_BITS + 1) {
            1 => Status::Sent,
            2 => Status::Lost,
            3 => Status::Received,
            _ => return None,
        };
        Some(Sent {
            sent: now - i64::from((now as u32).wrapping_sub(entry.sent)),
            bytes: entry.packed & ((1 << SIZE_BITS) - 1),
            probe: entry.packed >> SIZE_BITS & 1 == 1,
            status,
        })
    }

    /// Something is known of a packet that is remembered.
    pub(super) fn mark(&mut self, sequence: u16, status: Status) {
        if let Some(entry) = self.0.get_mut(usize::from(sequence) % HISTORY) {
            entry.packed = entry.packed & ((1 << (SIZE_BITS + 1)) - 1) | code(status);
        }
    }
}

fn code(status: Status) -> u16 {
    let code: u16 = match status {
        Status::Sent => 1,
        Status::Lost => 2,
        Status::Received => 3,
    };
    code << (SIZE_BITS + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_remembered_until_another_takes_its_place() {
        let mut history = History::default();
        assert_eq!(history.get(0, 5), None);
        let late = i64::from(u32::MAX) * 3 - 10;
        history.sent(late, 5, 1200, true);
        history.sent(late + 5, 6, 9000, false);
        let sent = Sent { sent: late, bytes: 1200, probe: true, status: Status::Sent };
        assert_eq!(history.get(late + 100, 5), Some(sent));
        history.mark(5, Status::Received);
        assert_eq!(history.get(late + 100, 5), Some(Sent { status: Status::Received, ..sent }));
        assert_eq!(
            history.get(late + 100, 6).map(|packet| (packet.bytes, packet.probe)),
            Some((4095, false))
        );
        assert_eq!(history.get(late + 100, 7), None);
        history.sent(late + 200, 5 + MAX_STATUSES, 1, false);
        assert_eq!(history.get(late + 300, 5), None);
        assert_eq!(std::mem::size_of::<Entry>(), 8);
    }
}
