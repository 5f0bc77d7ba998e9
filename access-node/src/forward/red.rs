//! Sound that is sent twice (RFC 2198): what is lost of a publisher's is taken from the packets after it, and a subscriber whose way loses
//! gets packets with the data of those before them. In between sound is plain: other subscribers, nodes and recordings know nothing of it.

use std::time::Instant;

use kaigi_media::{
    red::{Block, MAX_LENGTH, MAX_OFFSET, RedPayload, write},
    rtp::{RtpHeader, write_header},
};

use super::{
    Arrived, Forwarder, Outlet,
    cache::PacketCache,
    continuity::Numbering,
    sequence::nearest,
    sink::{ClientStream, Destination, Numbers, Sink, Written},
    source::Source,
};
use crate::keys::{SinkKey, SourceKey};

/// Most packets before it that a packet carries. A second one costs as much again, and makes good two losses in a row.
pub const MAX_DEPTH: usize = 2;
/// Largest payload that is made, in bytes: it must fit into a datagram on every way.
const MAX_PAYLOAD: usize = 1_100;
/// Bytes of a block's header, and of the last one.
const HEADERS: (usize, usize) = (4, 1);

/// Payload types of a publisher's sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedTypes {
    /// Of packets with redundancy.
    pub red: u8,
    /// Of plain ones, and of the blocks in the others.
    pub plain: u8,
}

impl Source {
    /// Whether a packet is one with redundancy.
    #[must_use]
    pub fn is_red(&self, header: &RtpHeader) -> bool {
        let types = self.supply.as_ref().and_then(|supply| supply.red);
        types.is_some_and(|types| types.red == header.payload_type)
    }

    /// The extended sequence number of the packet that many before `header`'s and that much earlier, if it has not arrived and may be one
    /// of the source's by what is known of those around it.
    fn lacks(&self, header: &RtpHeader, back: u64, offset: u32) -> Option<u64> {
        self.supply.as_ref().filter(|supply| supply.ssrc == Some(header.ssrc))?;
        let reception = self.reception.as_ref()?;
        let sequence = nearest(reception.highest()?, header.sequence).checked_sub(back)?;
        if !reception.lacks(sequence) {
            return None;
        }
        let timestamp = header.timestamp.wrapping_sub(offset);
        let timestamp_of = |sequence: u64| {
            let packet = self.cache.get(sequence)?;
            RtpHeader::parse(packet).ok().map(|header| header.timestamp)
        };
        let is_after = |a: u32, b: u32| a.wrapping_sub(b) as i32 > 0;
        let newest = self.newest.filter(|_| reception.highest() < Some(sequence));
        let before = newest.map(|(timestamp, _)| timestamp).or_else(|| timestamp_of(sequence - 1));
        let after = if back == 1 { Some(header.timestamp) } else { timestamp_of(sequence + 1) };
        let fits = before.is_none_or(|before| is_after(timestamp, before))
            && after.is_none_or(|after| is_after(after, timestamp));
        fits.then_some(sequence)
    }
}

impl Forwarder {
    /// A packet with redundancy came in, of a source that sends such. The packets before it that are missing are taken from it first.
    /// It is made a plain packet in its place. Returns whether it was well-formed; if not, nothing has become of it.
    pub fn receive_red(
        &mut self,
        now: Instant,
        key: SourceKey,
        packet: &mut [u8],
        header: &RtpHeader,
        out: &mut impl Outlet,
    ) -> bool {
        let supply = self.sources.get(key).and_then(|source| source.supply.as_ref());
        let Some(types) = supply.and_then(|supply| supply.red) else { return false };
        let Ok(red) = RedPayload::parse(header.payload(packet)) else { return false };
        if red.payload_type != types.plain {
            return false;
        }
        let (bytes, primary) = (packet.len(), red.primary_start);
        if !red.is_empty() {
            self.recover(now, key, (packet, header), &red, out);
        }
        // Less is to be moved if the header goes to the data than the other way round.
        packet.copy_within(..header.payload_start, primary);
        let packet = &mut packet[primary..];
        packet[1] = packet[1] & 0x80 | types.plain;
        let Ok(header) = RtpHeader::parse(packet) else { return false };
        self.accept(now, key, packet, &header, Arrived::Once { bytes }, out);
        true
    }

    fn recover(
        &mut self,
        now: Instant,
        key: SourceKey,
        (packet, header): (&[u8], &RtpHeader),
        red: &RedPayload<'_>,
        out: &mut impl Outlet,
    ) {
        let mut made = std::mem::take(&mut self.made);
        for (block, back) in red.blocks().zip((1..=red.len() as u64).rev()) {
            if block.payload_type != red.payload_type || block.data.is_empty() {
                continue;
            }
            let Some(source) = self.sources.get(key) else { break };
            let Some(sequence) = source.lacks(header, back, block.offset) else { continue };
            // Its header extensions are not known. Those of this one are nearest: a level hardly changes.
            made.clear();
            made.extend_from_slice(&packet[..header.payload_start]);
            made[0] &= !0x20;
            made[1] = block.payload_type;
            made[2..4].copy_from_slice(&(sequence as u16).to_be_bytes());
            made[4..8].copy_from_slice(&header.timestamp.wrapping_sub(block.offset).to_be_bytes());
            made.extend_from_slice(block.data);
            if let Ok(header) = RtpHeader::parse(&made) {
                self.accept(now, key, &made, &header, Arrived::Recovered, out);
            }
        }
        self.made = made;
    }

    /// How many packets before it a packet to a client carries from now on, up to [`MAX_DEPTH`], if the client takes such.
    pub fn set_redundancy(&mut self, key: SinkKey, depth: usize) {
        if let Some(Sink { to: Destination::Client(stream), .. }) = self.sinks.get_mut(key) {
            stream.depth = depth.min(MAX_DEPTH);
        }
    }

    /// The same as it is now; `None` if the client takes no such packets.
    #[must_use]
    pub fn redundancy(&self, key: SinkKey) -> Option<usize> {
        let Destination::Client(stream) = &self.sinks.get(key)?.to else { return None };
        stream.parameters.red.map(|_| stream.depth)
    }
}

impl ClientStream {
    /// Writes a packet of sound with those before it, if it is to have any and they are there still.
    pub(super) fn write_red(
        &self,
        out: &mut Vec<u8>,
        (header, packet): (&RtpHeader, &[u8]),
        numbers: &Numbers<'_>,
        of: Numbering,
        cache: &PacketCache,
    ) -> Option<Written> {
        let red = self.parameters.red.filter(|_| self.depth > 0)?;
        let primary = header.payload(packet);
        let mut room = MAX_PAYLOAD.checked_sub(primary.len() + HEADERS.1)?;
        let mut blocks = [None; MAX_DEPTH];
        for (place, back) in (0..self.depth).rev().zip(1..) {
            let Some(block) = self.earlier(numbers, back, of, cache) else { continue };
            let Some(rest) = room.checked_sub(HEADERS.0 + block.data.len()) else { break };
            (room, blocks[place]) = (rest, Some(block));
        }
        let blocks = blocks.iter().flatten().copied();
        blocks.clone().next()?;
        let p = &self.parameters;
        out.clear();
        write_header(out, header.marker, red, numbers.sequence, numbers.timestamp, p.ssrc.0);
        let written = self.write_extensions(out, Some(numbers));
        write(out, p.payload_type, blocks, primary);
        Some(written)
    }

    /// The packet that was sent that many before, of the same source.
    fn earlier<'c>(
        &self,
        numbers: &Numbers<'_>,
        back: u16,
        of: Numbering,
        cache: &'c PacketCache,
    ) -> Option<Block<'c>> {
        let origin = self.continuity.trace(numbers.sequence.wrapping_sub(back))?;
        let packet = cache.get(origin.sequence_in).filter(|_| origin.of == of)?;
        let header = RtpHeader::parse(packet).ok()?;
        let timestamp = header.timestamp.wrapping_add(origin.timestamp_offset);
        let offset = numbers.timestamp.wrapping_sub(timestamp);
        let data = header.payload(packet);
        let fits = (1..MAX_OFFSET).contains(&offset) && (1..MAX_LENGTH).contains(&data.len());
        fits.then_some(Block { payload_type: self.parameters.payload_type, offset, data })
    }
}
