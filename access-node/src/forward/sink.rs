//! Where a track goes: a subscriber's stream, or another node.

use std::time::{Duration, Instant};

use kaigi_media::{
    dependency_descriptor::Descriptor,
    rtp::{RtpHeader, write_header},
};
use kaigi_proto::v1;

use super::{
    Outlet,
    accept::{audio_level, descriptor_of},
    again::Again,
    continuity::Continuity,
    picture::{Picture, inspect},
    picture_id::{PictureIds, Shift, locate},
    repair::Maker,
    selection::Selection,
    source::Source,
    stats::Sent,
};
use crate::{
    arena::Arena,
    ids::Ssrc,
    keys::{AttachmentKey, SourceKey, SourceTag, TransportKey},
    pacing::Class,
    sdp::{Extensions, Kind},
};

/// Retransmissions that a subscriber may ask for in [`BUDGET_WINDOW`]: about its whole video at 5 Mbit/s. Bounds what a
/// malicious one can make the node send.
const RETRANSMISSIONS: u32 = 500;
/// See [`RETRANSMISSIONS`].
const BUDGET_WINDOW: Duration = Duration::from_secs(1);

/// The longest that a client may keep a picture, in units of 10 ms: what browsers take where they are told nothing.
const MAX_PLAYOUT_DELAY: u32 = 1_000;

/// One destination of a track.
#[derive(Debug)]
pub struct Sink {
    /// What it gets; changes with the source.
    pub(super) source: Option<SourceKey>,
    /// What it gets from there on where this one can be joined: at a key frame.
    pub(super) next: Option<SourceKey>,
    /// Audio or video.
    pub kind: Kind,
    /// Whether it is to flow (pause).
    pub(super) active: bool,
    /// Whether what it gets is held back for want of bandwidth, until it goes over to another source or is let go.
    pub(super) held: bool,
    /// While it flows: what keeps more from being sent, as far as whoever chooses its source knows.
    pub(super) limit: v1::Limit,
    /// Whether there is a connection that it can flow on.
    pub(super) open: bool,
    pub(super) to: Destination,
}

impl Sink {
    pub(super) fn flows(&self) -> bool {
        self.active && self.open
    }

    /// How many get what goes to it.
    pub(super) fn takers(&self) -> u32 {
        match self.to {
            Destination::Client(_) => 1,
            Destination::Link { takers, .. } => takers,
        }
    }

    /// What it gets now.
    #[must_use]
    pub fn source(&self) -> Option<SourceKey> {
        self.source
    }

    /// Whether anything may go to it: it is neither paused nor held back, and there is a connection.
    #[must_use]
    pub fn is_flowing(&self) -> bool {
        self.flows() && !self.held
    }

    /// Whether what it gets is held back for want of bandwidth.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Whether it is paused.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.active
    }
}

#[derive(Debug)]
pub(super) enum Destination {
    Client(Box<ClientStream>),
    /// Others, so many of whose clients get it.
    Link {
        to: AttachmentKey,
        takers: u32,
    },
}

/// How a stream to a client is written, as negotiated.
#[derive(Clone, Debug)]
pub struct StreamParameters {
    /// The client.
    pub transport: TransportKey,
    /// Hz of the timestamps.
    pub clock_rate: u32,
    /// The stream's source.
    pub ssrc: Ssrc,
    /// Payload type.
    pub payload_type: u8,
    /// Source and payload type of retransmissions.
    pub rtx: Option<(Ssrc, u8)>,
    /// Whether lost packets are sent again.
    pub nack: bool,
    /// Payload type of packets with redundancy (RFC 2198), if the client takes such.
    pub red: Option<u8>,
    /// Source and payload type of repair packets (FlexFEC), if the client takes such.
    pub repair: Option<(Ssrc, u8)>,
    /// Header extensions.
    pub extensions: Extensions,
}

/// A stream to a client.
#[derive(Debug)]
pub(super) struct ClientStream {
    pub(super) parameters: StreamParameters,
    pub(super) continuity: Continuity,
    /// Video: packets are held back until a key frame begins.
    pub(super) awaits_key_frame: bool,
    pub(super) selection: Selection,
    pub(super) packets: u32,
    pub(super) octets: u32,
    /// How many packets before it a packet carries.
    pub(super) depth: usize,
    /// How long the client is to keep pictures before it shows them, in units of 10 ms, if it was ever told.
    pub(super) playout_delay: Option<u16>,
    /// Present if the client takes repair packets.
    pub(super) maker: Option<Box<Maker>>,
    pub(super) sent: Sent,
    pub(super) again: Again,
    rtx_sequence: u16,
    budget: (Option<Instant>, u32),
}

/// A packet as it is written; where its transport-wide number is to be filled in.
pub(super) struct Written {
    pub(super) transport_cc_at: Option<usize>,
    pub(super) payload_at: usize,
}

/// What differs between packets of a stream.
pub(super) struct Numbers<'p> {
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) audio_level: Option<u8>,
    /// Numbers of the picture in the source's payload, and what is to be added to them.
    pub(super) picture: (PictureIds, Shift),
    /// The spatial layer that the packet is the last of.
    pub(super) ends: Option<u8>,
    /// What its dependency descriptor says.
    pub(super) frame: Option<Frame<'p>>,
}

/// A dependency descriptor as it came.
pub(super) struct Frame<'p> {
    pub(super) descriptor: Descriptor,
    pub(super) bytes: &'p [u8],
    /// The decode targets that the receiver is to know of, of so many.
    pub(super) active: Option<(u32, usize)>,
}

impl Frame<'_> {
    /// The longest that it can become, in bytes: targets have 32 bits at most.
    fn longest(&self) -> usize {
        self.bytes.len() + if self.active.is_some() { 5 } else { 0 }
    }
}

impl Numbers<'_> {
    /// Whether the packet is the last of its picture: also if more was left out behind it.
    fn marker(&self, header: &RtpHeader) -> bool {
        let (_, shift) = &self.picture;
        header.marker || (self.ends.is_some() && self.ends == shift.top)
    }
}

impl ClientStream {
    pub(super) fn new(mut parameters: StreamParameters, kind: Kind, random: u64) -> Self {
        // Without a stream of their own, packets are sent again under the number that they had, and AES-GCM must never protect two
        // different ones under one number (RFC 7714 §8.1): nothing in them may be new, as a transport-wide number is, and redundancy may be.
        if parameters.nack && parameters.rtx.is_none() {
            (parameters.extensions.transport_cc, parameters.red) = (None, None);
            (parameters.extensions.dependency, parameters.extensions.playout_delay) = (None, None);
        }
        let continuity = Continuity::new(parameters.clock_rate, random as u16, (random >> 16) as u32);
        let maker =
            parameters.repair.map(|repair| Box::new(Maker::new(repair, (random >> 32) as u16 & 0x7fff)));
        Self {
            parameters,
            continuity,
            awaits_key_frame: kind == Kind::Video,
            selection: Selection::default(),
            packets: 0,
            octets: 0,
            depth: 0,
            playout_delay: None,
            maker,
            sent: Sent::new(kind),
            again: Again::default(),
            rtx_sequence: (random >> 48) as u16 & 0x7fff,
            budget: (None, 0),
        }
    }

    /// Whether its packets may be padded: one that is sent again under its own number must be the same packet, and padding is no part of what
    /// retransmissions carry (RFC 4588 §4).
    pub(super) fn may_pad(&self) -> bool {
        !self.parameters.nack || self.parameters.rtx.is_some()
    }

    /// Writes a packet under the stream's own header.
    pub(super) fn write(
        &self,
        out: &mut Vec<u8>,
        header: &RtpHeader,
        packet: &[u8],
        numbers: &Numbers<'_>,
    ) -> Written {
        let p = &self.parameters;
        out.clear();
        let marker = numbers.marker(header);
        write_header(out, marker, p.payload_type, numbers.sequence, numbers.timestamp, p.ssrc.0);
        let written = self.write_extensions(out, Some(numbers));
        write_payload(out, header.payload(packet), numbers);
        written
    }

    /// Writes a packet anew for a subscriber who missed it: as a retransmission (RFC 4588 §4) if that was agreed on, else as it was.
    pub(super) fn write_again(
        &mut self,
        out: &mut Vec<u8>,
        header: &RtpHeader,
        packet: &[u8],
        numbers: &Numbers<'_>,
    ) -> Written {
        let Some((ssrc, payload_type)) = self.parameters.rtx else {
            return self.write(out, header, packet, numbers);
        };
        out.clear();
        let marker = numbers.marker(header);
        write_header(out, marker, payload_type, self.rtx_sequence, numbers.timestamp, ssrc.0);
        self.rtx_sequence = self.rtx_sequence.wrapping_add(1);
        let written = self.write_extensions(out, Some(numbers));
        out.extend_from_slice(&numbers.sequence.to_be_bytes());
        write_payload(out, header.payload(packet), numbers);
        written
    }

    /// Sends a packet again that is still there; whether it is.
    pub(super) fn send_again(
        &mut self,
        now: Instant,
        sequence: u16,
        sources: &Arena<Source, SourceTag>,
        scratch: &mut Vec<u8>,
        class: Class,
        out: &mut impl Outlet,
    ) -> bool {
        let Some(origin) = self.continuity.trace(sequence) else { return false };
        let source = sources.get(origin.of.source).filter(|source| source.restarts == origin.of.restarts);
        let Some(source) = source else { return false };
        let Some(packet) = source.cache.get(origin.sequence_in) else { return false };
        let (Ok(header), Some(supply)) = (RtpHeader::parse(packet), &source.supply) else { return false };
        let (codec, payload) = (supply.format.codec, header.payload(packet));
        let mut picture = match source.kind {
            Kind::Audio => Picture::default(),
            Kind::Video => inspect(codec, payload),
        };
        let descriptor = descriptor_of(source, &header, packet);
        let read = descriptor.and_then(|bytes| source.descriptions.read(bytes));
        if let Some(read) = &read {
            picture.is_described_by(&read.descriptor, None);
        } else if descriptor.is_some() && source.descriptions.structure().is_some() {
            return false;
        }
        let frame = read.zip(descriptor).map(|(read, bytes)| {
            let descriptor = read.descriptor;
            Frame { descriptor, bytes, active: None }
        });
        let ids = locate(codec, payload).with_frame(read.map(|read| read.descriptor.number));
        let numbers = Numbers {
            sequence,
            timestamp: header.timestamp.wrapping_add(origin.timestamp_offset),
            audio_level: audio_level(source, &header, packet),
            picture: (ids, origin.shift),
            ends: picture.ended(),
            frame,
        };
        let written = self.write_again(scratch, &header, packet, &numbers);
        self.sent.retransmitted += 1;
        self.sent.tally.again(now, scratch.len());
        out.client_rtp(now, self.parameters.transport, scratch, written.transport_cc_at, class);
        true
    }

    /// Number and timestamp of a packet of padding among the retransmissions.
    pub(super) fn next_padding(&mut self) -> (u16, u32) {
        let sequence = self.rtx_sequence;
        self.rtx_sequence = sequence.wrapping_add(1);
        (sequence, self.continuity.last_timestamp())
    }

    /// Takes one retransmission from what the subscriber may ask for.
    pub(super) fn may_retransmit(&mut self, now: Instant) -> bool {
        let (since, used) = &mut self.budget;
        if since.is_none_or(|since| now >= since + BUDGET_WINDOW) {
            (*since, *used) = (Some(now), 0);
        }
        *used += 1;
        *used <= RETRANSMISSIONS
    }

    /// The extension block of a packet (`None` = one of padding): in the one-byte form (RFC 8285 §4.2), or in the two-byte form (§4.3) if a
    /// dependency descriptor is too long for that.
    pub(super) fn write_extensions(&self, out: &mut Vec<u8>, numbers: Option<&Numbers<'_>>) -> Written {
        let extensions = &self.parameters.extensions;
        let audio_level = extensions.audio_level.zip(numbers.and_then(|numbers| numbers.audio_level));
        let frame =
            extensions.dependency.zip(numbers.and_then(|numbers| Some((numbers, numbers.frame.as_ref()?))));
        let frame = frame.filter(|(_, (_, frame))| frame.longest() <= usize::from(u8::MAX));
        let playout_delay = extensions.playout_delay.zip(self.playout_delay.filter(|_| numbers.is_some()));
        let payload_at = out.len();
        let Some(first) = out.first_mut() else { return Written { transport_cc_at: None, payload_at } };
        let is_empty = audio_level.is_none() && playout_delay.is_none() && frame.is_none();
        if is_empty && extensions.transport_cc.is_none() {
            return Written { transport_cc_at: None, payload_at };
        }
        *first |= 0x10;
        let wide = frame.as_ref().is_some_and(|(_, (_, frame))| frame.longest() > 16);
        out.extend_from_slice(if wide { &[0x10, 0, 0, 0] } else { &[0xbe, 0xde, 0, 0] });
        let begin = out.len();
        let head = |out: &mut Vec<u8>, id: u8, length: usize| match (wide, u8::try_from(length)) {
            (true, Ok(length)) => out.extend_from_slice(&[id, length]),
            (false, Ok(length)) => out.push(id << 4 | length.saturating_sub(1)),
            (_, Err(_)) => {}
        };
        if let Some((id, level)) = audio_level {
            head(out, id, 1);
            out.push(level);
        }
        if let Some((id, least)) = playout_delay {
            head(out, id, 3);
            let [_, limits @ ..] = (u32::from(least) << 12 | MAX_PLAYOUT_DELAY).to_be_bytes();
            out.extend_from_slice(&limits);
        }
        let transport_cc_at = extensions.transport_cc.map(|id| {
            head(out, id, 2);
            out.extend_from_slice(&[0, 0]);
            out.len() - 2
        });
        if let Some((id, (numbers, Frame { descriptor, bytes, active }))) = frame {
            let at = out.len();
            head(out, id, 1);
            let (_, shift) = numbers.picture;
            let data = out.len();
            descriptor.write(out, bytes, shift.frame(descriptor.number), *active);
            let length = out.len() - data;
            match out.get_mut(at..data) {
                Some([_, place]) => *place = length as u8,
                Some([both]) => *both = id << 4 | (length as u8).saturating_sub(1),
                _ => {}
            }
        }
        out.resize(begin + (out.len() - begin).next_multiple_of(4), 0);
        out[begin - 1] = u8::try_from((out.len() - begin) / 4).unwrap_or(0);
        Written { transport_cc_at, payload_at: out.len() }
    }
}

fn write_payload(out: &mut Vec<u8>, payload: &[u8], numbers: &Numbers<'_>) {
    let begin = out.len();
    out.extend_from_slice(payload);
    let (ids, shift) = &numbers.picture;
    ids.write(*shift, &mut out[begin..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(nack: bool, rtx: Option<(Ssrc, u8)>) -> ClientStream {
        let parameters = StreamParameters {
            transport: Arena::default().insert(()),
            clock_rate: 90_000,
            ssrc: Ssrc(1),
            payload_type: 96,
            rtx,
            nack,
            red: None,
            repair: None,
            extensions: Extensions { transport_cc: Some(5), audio_level: Some(1), ..Extensions::default() },
        };
        ClientStream::new(parameters, Kind::Video, 7)
    }

    #[test]
    fn a_packet_that_is_sent_again_under_its_own_number_is_the_same_packet() {
        let mut packet = Vec::new();
        write_header(&mut packet, true, 100, 9, 3000, 77);
        packet.extend_from_slice(&[0x10, 1, 2, 3]);
        let header = RtpHeader::parse(&packet).unwrap();
        let ids = super::super::picture_id::locate(crate::sdp::Codec::Vp8, header.payload(&packet));
        let numbers = Numbers {
            sequence: 4,
            timestamp: 5,
            audio_level: Some(3),
            picture: (ids, Shift::default()),
            ends: None,
            frame: None,
        };
        let mut plain = stream(true, None);
        let (mut first, mut again) = (Vec::new(), Vec::new());
        let places = [
            plain.write(&mut first, &header, &packet, &numbers).transport_cc_at,
            plain.write_again(&mut again, &header, &packet, &numbers).transport_cc_at,
        ];
        assert_eq!(first, again);
        assert_eq!(places, [None, None], "a new transport-wide number is written into it");
        let mut with_rtx = stream(true, Some((Ssrc(2), 97)));
        assert!(with_rtx.write_again(&mut again, &header, &packet, &numbers).transport_cc_at.is_some());
        assert!(stream(false, None).write(&mut first, &header, &packet, &numbers).transport_cc_at.is_some());
    }
}
