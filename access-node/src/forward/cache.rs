//! The last packets of a source, for those who missed one.

/// A ring of packets by extended sequence number. Buffers are reused.
#[derive(Debug)]
pub(super) struct PacketCache {
    slots: Vec<Slot>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Slot {
    sequence: Option<u64>,
    as_sent: bool,
    packet: Vec<u8>,
}

impl PacketCache {
    /// Room for `capacity` packets, taken as it is needed. A packet takes up to 1.5 kB.
    #[must_use]
    pub(super) fn new(capacity: usize) -> Self {
        Self { slots: Vec::new(), capacity }
    }

    /// Keeps a copy, in the place of the packet `capacity` before it. `as_sent`: to the bit as its sender sent it first.
    pub(super) fn store(&mut self, sequence: u64, packet: &[u8], as_sent: bool) {
        let at = (sequence % self.capacity as u64) as usize;
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, Slot::default);
        }
        let slot = &mut self.slots[at];
        (slot.sequence, slot.as_sent) = (Some(sequence), as_sent);
        slot.packet.clear();
        slot.packet.extend_from_slice(packet);
    }

    /// The packet, if it is still there.
    #[must_use]
    pub(super) fn get(&self, sequence: u64) -> Option<&[u8]> {
        let slot = self.slots.get((sequence % self.capacity as u64) as usize)?;
        (slot.sequence == Some(sequence)).then_some(&slot.packet[..])
    }

    /// The same, if it is as its sender sent it first.
    #[must_use]
    pub(super) fn get_as_sent(&self, sequence: u64) -> Option<&[u8]> {
        let slot = self.slots.get((sequence % self.capacity as u64) as usize)?;
        (slot.sequence == Some(sequence) && slot.as_sent).then_some(&slot.packet[..])
    }

    /// Forgets all packets.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_packets_are_there_and_no_others() {
        let mut cache = PacketCache::new(4);
        for sequence in 0..10u64 {
            cache.store(sequence, &[sequence as u8], sequence % 2 == 0);
        }
        let found: Vec<_> = (0..12).filter(|s| cache.get(*s) == Some(&[*s as u8][..])).collect();
        assert_eq!(found, [6, 7, 8, 9]);
        let as_sent: Vec<_> = (0..12).filter(|s| cache.get_as_sent(*s).is_some()).collect();
        assert_eq!(as_sent, [6, 8]);
    }
}
