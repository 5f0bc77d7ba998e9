//! Sound that is sent twice (RFC 2198): what is lost of a publisher's is taken from the packets after it, and a subscriber whose way loses
//! gets packets with the data of those before them. In between sound is plain: other subscribers, nodes and recordings know nothing of it.

use std::time::Instant;

use kaigi_media::{
    red::{Block, MAX_LENGTH, MAX_OFFSET, RedPayload, write},
    rtp::{RtpHeader, write_header},
};

use super::{
    Forwarder, Outlet,
    accept::{Arrived, is_padding},
    cache::PacketCache,
    continuity::Numbering,
    reception::Reception,
    sequence::nearest,
    sink::{ClientStream, Destination, Numbers, Sink, Written},
    sound::Place,
    source::Source,
};
use crate::keys::{SinkKey, SourceKey};

/// Most packets before it that a packet carries. A second one costs as much again, and makes good two losses in a row.
pub const MAX_DEPTH: usize = 2;
/// Most blocks of a packet that are looked at, the nearest: browsers send one or two, nine at most.
const MAX_BLOCKS: usize = 10;
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
        let bytes = packet.len();
        if is_padding(header, packet) {
            // It has the type of the packet before it.
            packet[1] = packet[1] & 0x80 | types.plain;
            let mut header = *header;
            header.payload_type = types.plain;
            self.accept(now, key, packet, &header, Arrived::Once { bytes }, out);
            return true;
        }
        let Ok(red) = RedPayload::parse(header.payload(packet)) else { return false };
        if red.payload_type != types.plain {
            return false;
        }
        let primary = red.primary_start;
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
        let mut blocks = [None; MAX_BLOCKS];
        let kept = red.len().min(MAX_BLOCKS);
        for (place, block) in blocks.iter_mut().zip(red.blocks().skip(red.len() - kept)) {
            *place = Some((block, Place::Nowhere));
        }
        let blocks = &mut blocks[..kept];
        if !self.place(key, header, red.payload_type, blocks) {
            return;
        }
        let mut made = std::mem::take(&mut self.made);
        for (block, place) in blocks.iter().flatten() {
            let Place::Missing(sequence) = *place else { continue };
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

    /// Finds where the blocks of a packet belong, the earliest first; whether any is missing.
    fn place(
        &self,
        key: SourceKey,
        header: &RtpHeader,
        payload_type: u8,
        blocks: &mut [Option<(Block<'_>, Place)>],
    ) -> bool {
        let Some(source) = self.sources.get(key) else { return false };
        let is_its = source.supply.as_ref().is_some_and(|supply| supply.ssrc == Some(header.ssrc));
        let highest = source.reception.as_ref().and_then(Reception::highest).filter(|_| is_its);
        let Some(highest) = highest else { return false };
        let carrier = nearest(highest, header.sequence);
        let (mut before, mut follows) = (carrier, header.timestamp);
        let mut lacks = false;
        for (block, place) in blocks.iter_mut().rev().flatten() {
            let timestamp = header.timestamp.wrapping_sub(block.offset);
            let is_earlier = follows.wrapping_sub(timestamp) as i32 > 0;
            if block.payload_type != payload_type || block.data.is_empty() || !is_earlier {
                continue;
            }
            *place = source.sound.place(carrier, before, timestamp);
            if let Place::There(sequence) | Place::Missing(sequence) = *place {
                before = before.min(sequence);
            }
            follows = timestamp;
            lacks |= matches!(place, Place::Missing(_));
        }
        lacks
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
