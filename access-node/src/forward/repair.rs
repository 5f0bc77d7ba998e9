//! Repair packets (FlexFEC): what is lost of a publisher's pictures is made of them, and a subscriber whose way loses gets them.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use kaigi_media::{
    flexfec::{Parity, Repair, SPAN},
    rtp::{RtpHeader, write_header},
};

use super::{
    Forwarder, Outlet,
    accept::Arrived,
    sequence::nearest,
    sink::{ClientStream, Destination, Sink, Written},
    source::Source,
};
use crate::{
    ids::Ssrc,
    keys::{SinkKey, SourceKey},
};

/// Most repair packets of a source that wait for packets: what came before them comes within some of them or not at all. 24 kB.
const MOST: usize = 16;
/// Packets after its first one by which a repair packet is of no use any more: retransmissions have made good what it could have.
const AGE: u64 = 256;
/// Most that a client is told to wait, in units of 10 ms.
const MOST_PLAYOUT_DELAY: u16 = 100;

/// Repair packets of a source that more than one packet is missing of.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    slots: Vec<Slot>,
    next: usize,
}

#[derive(Debug)]
struct Slot {
    /// Extended number of the packet from which the places count; none = free.
    first: Option<u64>,
    repair: Repair,
    payload: Vec<u8>,
}

impl Repairs {
    fn store(&mut self, first: u64, repair: Repair, payload: &[u8]) {
        if self.slots.len() < MOST {
            self.slots.push(Slot { first: Some(first), repair, payload: payload.to_vec() });
            return;
        }
        let slot = &mut self.slots[self.next];
        self.next = (self.next + 1) % MOST;
        (slot.first, slot.repair) = (Some(first), repair);
        slot.payload.clear();
        slot.payload.extend_from_slice(payload);
    }

    pub(super) fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.first = None;
        }
    }
}

/// What a repair packet is good for.
enum Use {
    /// That packet can be made.
    Makes(u64),
    /// Not yet for anything.
    Waits,
    /// For nothing.
    None,
}

impl Source {
    /// What a repair packet is good for whose places count from that packet.
    fn use_of(&self, first: u64, repair: &Repair) -> Use {
        let Some(reception) = &self.reception else { return Use::None };
        if reception.highest().is_some_and(|highest| highest > first + AGE) {
            return Use::None;
        }
        let sequences = || repair.places().map(|place| first + place);
        let mut missing = sequences().filter(|sequence| reception.lacks(*sequence));
        match (missing.next(), missing.next()) {
            (None, _) => Use::None,
            (Some(_), Some(_)) => Use::Waits,
            (Some(lost), None) => {
                let is_there = |sequence| sequence == lost || self.cache.get_as_sent(sequence).is_some();
                if sequences().all(is_there) { Use::Makes(lost) } else { Use::None }
            }
        }
    }

    /// Makes a missing packet of a repair packet and those that are there. Returns whether any can be made.
    fn make(&mut self, made: &mut Vec<u8>) -> bool {
        let Some(mut repairs) = self.repairs.take() else { return false };
        let mut is_made = false;
        for slot in &mut repairs.slots {
            let Some(first) = slot.first else { continue };
            let lost = match self.use_of(first, &slot.repair) {
                Use::Waits => continue,
                Use::Makes(lost) => Some(lost),
                Use::None => None,
            };
            slot.first = None;
            let Some(lost) = lost else { continue };
            slot.repair.begin(&slot.payload, made);
            for sequence in slot.repair.places().map(|place| first + place).filter(|other| *other != lost) {
                if let Some(packet) = self.cache.get_as_sent(sequence) {
                    Repair::take(made, packet, self.numbers_in(packet));
                }
            }
            is_made = slot.repair.finish(made, lost as u16).is_ok();
            if is_made {
                break;
            }
        }
        self.repairs = Some(repairs);
        is_made
    }

    /// Where a packet has its transport-wide number.
    fn numbers_in(&self, packet: &[u8]) -> Option<Range<usize>> {
        let id = self.supply.as_ref()?.extensions.transport_cc?;
        let numbers = RtpHeader::parse(packet).ok()?.extension(packet, id)?;
        let start = (numbers.as_ptr() as usize).checked_sub(packet.as_ptr() as usize)?;
        Some(start..start + numbers.len())
    }
}

impl Forwarder {
    /// A repair packet of a source came in. Returns whether it was well-formed.
    pub fn receive_repair(
        &mut self,
        now: Instant,
        key: SourceKey,
        payload: &[u8],
        out: &mut impl Outlet,
    ) -> bool {
        let Ok(repair) = Repair::parse(payload) else { return false };
        let Some(source) = self.sources.get_mut(key) else { return true };
        let is_its = source.supply.as_ref().is_some_and(|supply| supply.ssrc == Some(repair.ssrc));
        let highest = source.reception.as_ref().and_then(|reception| reception.highest());
        let Some(highest) = highest.filter(|_| is_its) else { return true };
        let first = nearest(highest, repair.first);
        if !matches!(source.use_of(first, &repair), Use::None) {
            source.repairs.get_or_insert_default().store(first, repair, payload);
            self.repair(now, key, out);
        }
        true
    }

    /// Makes what can be made of a source's repair packets.
    pub(super) fn repair(&mut self, now: Instant, key: SourceKey, out: &mut impl Outlet) {
        let mut made = std::mem::take(&mut self.made);
        // Each time a repair packet is used up.
        while self.sources.get_mut(key).is_some_and(|source| source.make(&mut made)) {
            if let Ok(header) = RtpHeader::parse(&made) {
                self.accept(now, key, &made, &header, Arrived::Recovered, out);
            }
        }
        self.made = made;
    }

    /// After how many packets each a client's stream has a repair packet from now on, if the client takes such; 0 = none.
    pub fn set_repairs(&mut self, key: SinkKey, every: usize) {
        if let Some(Sink { to: Destination::Client(stream), .. }) = self.sinks.get_mut(key)
            && let Some(maker) = &mut stream.maker
        {
            maker.every = every.min(SPAN.into());
            if every == 0 {
                maker.parity.clear();
            }
        }
    }

    /// How long a client is to keep pictures of a stream before it shows them from now on, at least, if it can be told.
    pub fn set_playout_delay(&mut self, key: SinkKey, least: Duration) {
        if let Some(Sink { to: Destination::Client(stream), .. }) = self.sinks.get_mut(key)
            && (stream.playout_delay.is_some() || !least.is_zero())
        {
            let units = u16::try_from(least.as_millis() / 10).unwrap_or(MOST_PLAYOUT_DELAY);
            stream.playout_delay = Some(units.min(MOST_PLAYOUT_DELAY));
        }
    }

    /// The same as it is now; `None` if the client takes no such packets.
    #[must_use]
    pub fn repairs(&self, key: SinkKey) -> Option<usize> {
        let Destination::Client(stream) = &self.sinks.get(key)?.to else { return None };
        stream.maker.as_ref().map(|maker| maker.every)
    }
}

/// Makes the repair packets of a stream to a client.
#[derive(Debug)]
pub(super) struct Maker {
    ssrc: Ssrc,
    payload_type: u8,
    /// A repair packet after so many packets; 0 = none.
    every: usize,
    sequence: u16,
    timestamp: u32,
    parity: Parity,
}

impl Maker {
    pub(super) fn new((ssrc, payload_type): (Ssrc, u8), sequence: u16) -> Self {
        Self { ssrc, payload_type, every: 0, sequence, timestamp: 0, parity: Parity::default() }
    }
}

impl ClientStream {
    /// A packet of the stream is written, and has no transport-wide number yet.
    pub(super) fn protect(&mut self, packet: &[u8], timestamp: u32) {
        let Some(maker) = self.maker.as_mut().filter(|maker| maker.every > 0) else { return };
        maker.timestamp = timestamp;
        // One that is late is not protected; one that is far ahead begins anew.
        if !maker.parity.add(packet) && maker.parity.is_behind(packet) {
            maker.parity.clear();
            maker.parity.add(packet);
        }
    }

    /// Writes a repair packet if it is time for one, which after the last packet of a frame it is a bit earlier.
    pub(super) fn write_repair(&mut self, out: &mut Vec<u8>, is_last: bool) -> Option<Written> {
        let maker = self.maker.as_mut().filter(|maker| maker.every > 0)?;
        let enough = if is_last { maker.every - maker.every / 4 } else { maker.every };
        if maker.parity.count() < enough {
            return None;
        }
        let mut maker = self.maker.take()?;
        out.clear();
        write_header(out, false, maker.payload_type, maker.sequence, maker.timestamp, maker.ssrc.0);
        maker.sequence = maker.sequence.wrapping_add(1);
        let written = self.write_extensions(out, None);
        maker.parity.write(out);
        maker.parity.clear();
        self.maker = Some(maker);
        Some(written)
    }
}
