//! A packet of a source, to all sinks that get it.

use kaigi_proto::v1;

use super::{
    Outlet, Source,
    accept::{Arrived, Incoming, Seen},
    continuity::Numbering,
    padding::pad,
    picture_id::{PictureIds, Shift, locate},
    sink::{ClientStream, Destination, Frame, Numbers, Sink},
    targets::Described,
};
use crate::{
    arena::Arena,
    keys::{SinkKey, SinkTag, SourceKey},
    pacing::Class,
    sdp::Kind,
};

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    /// Somebody can't go on without a key frame.
    pub(super) is_awaited: bool,
    /// Sinks that went over to the source, and what each had before.
    pub(super) switched: Vec<(SinkKey, SourceKey)>,
}

/// The same for all sinks.
struct Outgoing<'p> {
    incoming: &'p Incoming<'p>,
    seen: &'p Seen<'p>,
    described: Option<Described<'p>>,
    of: Numbering,
    ids: PictureIds,
    audio_level: Option<u8>,
    class: Class,
    /// Bytes that make it as long as others of its picture.
    padding: usize,
}

impl Source {
    /// Sends a packet to all who get the source, or go over to it.
    pub(super) fn deliver(
        &mut self,
        key: SourceKey,
        incoming: &Incoming<'_>,
        seen: &Seen<'_>,
        audio_level: Option<u8>,
        (sinks, scratch): (&mut Arena<Sink, SinkTag>, &mut Vec<u8>),
        out: &mut impl Outlet,
    ) -> Delivered {
        let Incoming { packet, header, is_newest, arrived, .. } = *incoming;
        let mut delivered = Delivered::default();
        let Some(codec) = self.supply.as_ref().map(|supply| supply.format.codec) else { return delivered };
        let payload = header.payload(packet);
        let (class, padding) = match (self.kind, arrived) {
            (Kind::Audio, _) => (Class::Sound, 0),
            (Kind::Video, Arrived::Once { .. }) if is_newest => {
                (Class::Picture, self.cut.padding(header.timestamp, header.marker, payload.len()))
            }
            (Kind::Video, _) => (Class::Picture, 0),
        };
        let number = seen.read.map(|read| read.descriptor.number);
        let outgoing = Outgoing {
            incoming,
            seen,
            described: seen.read.and_then(|read| self.descriptions.described(read)),
            of: Numbering { source: key, restarts: self.restarts },
            ids: locate(codec, payload).with_frame(number),
            audio_level,
            class,
            padding,
        };
        for sink_key in &self.sinks {
            let Some(sink) = sinks.get_mut(*sink_key).filter(|sink| sink.flows()) else { continue };
            let stream = match &mut sink.to {
                Destination::Link { to, .. } => {
                    out.link_rtp(*to, packet);
                    continue;
                }
                Destination::Client(stream) => stream,
            };
            if sink.source != Some(key) {
                if !(seen.picture.key_frame && is_newest) {
                    delivered.is_awaited = true;
                    continue;
                }
                sink.next = None;
                sink.held = false;
                delivered.switched.extend(sink.source.replace(key).map(|before| (*sink_key, before)));
            } else if sink.held {
                continue;
            }
            delivered.is_awaited |= outgoing.send(self, stream, sink.limit, scratch, out);
        }
        delivered
    }
}

impl Outgoing<'_> {
    /// Sends it to a client, if it belongs to what the client gets. Whether the client can't go on without a key frame.
    fn send(
        &self,
        source: &Source,
        stream: &mut ClientStream,
        limit: v1::Limit,
        scratch: &mut Vec<u8>,
        out: &mut impl Outlet,
    ) -> bool {
        let Incoming { now, header, sequence, is_newest, .. } = *self.incoming;
        let picture = &self.seen.picture;
        if stream.continuity.is_interrupted(self.of) {
            stream.awaits_key_frame = source.kind == Kind::Video;
            if !is_newest {
                return false;
            }
        }
        if stream.awaits_key_frame {
            if !picture.key_frame {
                return true;
            }
            stream.awaits_key_frame = false;
            stream.selection.restart();
            stream.sent.joined(now, source, limit);
        }
        if self.seen.is_unreadable {
            return false;
        }
        let selected = stream.selection.select(header.timestamp, picture, self.described.as_ref());
        if selected.taken {
            let top = stream.selection.top();
            let numbers = stream.continuity.advance(now, self.of, sequence, header.timestamp, &self.ids, top);
            if let Some((sequence, timestamp, shift)) = numbers {
                self.write(source, stream, (sequence, timestamp, shift), scratch, out);
            }
        } else if is_newest {
            stream.continuity.leave_out(self.of, sequence, &self.ids);
        }
        selected.waits
    }

    /// Writes it under those numbers, and what repairs it.
    fn write(
        &self,
        source: &Source,
        stream: &mut ClientStream,
        (sequence, timestamp, shift): (u16, u32, Shift),
        scratch: &mut Vec<u8>,
        out: &mut impl Outlet,
    ) {
        let Incoming { now, packet, header, .. } = *self.incoming;
        let frame = self.described.as_ref().zip(self.seen.descriptor).map(|(described, bytes)| Frame {
            descriptor: described.descriptor,
            bytes,
            active: stream.selection.news(described),
        });
        let numbers = Numbers {
            sequence,
            timestamp,
            audio_level: self.audio_level,
            picture: (self.ids, shift),
            ends: self.seen.picture.ended(),
            frame,
        };
        let red = stream.write_red(scratch, (header, packet), &numbers, self.of, &source.cache);
        stream.sent.redundant += u64::from(red.is_some());
        let written = red.unwrap_or_else(|| stream.write(scratch, header, packet, &numbers));
        stream.packets = stream.packets.wrapping_add(1);
        stream.octets =
            stream.octets.wrapping_add(u32::try_from(scratch.len() - written.payload_at).unwrap_or(0));
        stream.sent.tally.packet(now, scratch.len(), timestamp, self.seen.picture.key_frame);
        if stream.may_pad() {
            pad(scratch, self.padding);
        }
        stream.protect(scratch, timestamp);
        let to = stream.parameters.transport;
        out.client_rtp(now, to, scratch, written.transport_cc_at, self.class);
        if let Some(written) = stream.write_repair(scratch, header.marker) {
            stream.sent.redundant += 1;
            stream.sent.tally.again(now, scratch.len());
            out.client_rtp(now, to, scratch, written.transport_cc_at, self.class);
        }
    }
}
