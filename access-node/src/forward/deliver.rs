//! Packets of a source, to all sinks that get it.

use std::time::Instant;

use kaigi_proto::v1;

use super::{
    Forwarder, Outlet, Source,
    accept::descriptor_of,
    continuity::Numbering,
    frames::{Batch, Held},
    padding::pad,
    picture_id::Shift,
    sink::{ClientStream, Destination, Frame, Numbers, Sink},
    targets::Described,
};
use crate::{
    arena::Arena,
    keys::{SinkKey, SinkTag, SourceKey},
    sdp::Kind,
};

/// What came of it.
#[derive(Debug, Default)]
struct Delivered {
    /// The packets with which somebody can't go on for want of a key frame: a bit for each.
    awaiting: u32,
    /// Sinks that went over to the source, and what each had before.
    switched: Vec<(SinkKey, SourceKey)>,
}

/// A packet on its way to one sink.
#[derive(Clone, Copy)]
struct Outgoing<'p> {
    now: Instant,
    held: &'p Held,
    packet: &'p [u8],
    of: Numbering,
}

impl Forwarder {
    /// Sends what has come in, but what still waits for the rest of its frame. `leave` is called after what was written for each sink, and may
    /// send it: before what is for the next ones is written, so that it is still in the processor's cache. If that took time it gives the time.
    pub fn deliver<O: Outlet>(
        &mut self,
        mut now: Instant,
        out: &mut O,
        mut leave: impl FnMut(&mut O) -> Option<Instant>,
    ) {
        while let Some(batch) = self.frames.take_due(now) {
            now = self.deliver_batch(now, batch, out, &mut leave);
        }
    }

    /// Sends all that has come in, as if nothing more of any frame were to come.
    pub fn deliver_all(&mut self, now: Instant, out: &mut impl Outlet) {
        while let Some(batch) = self.frames.take_any(None) {
            self.deliver_batch(now, batch, out, &mut |_| None);
        }
    }

    /// Sends all that has come in of a source.
    pub(super) fn deliver_all_of(&mut self, now: Instant, source: SourceKey, out: &mut impl Outlet) {
        while let Some(batch) = self.frames.take_any(Some(source)) {
            self.deliver_batch(now, batch, out, &mut |_| None);
        }
    }

    /// Whether something has come in that is to be sent, and all of it waits for the rest of its frame.
    #[must_use]
    pub fn only_waits(&self) -> bool {
        self.frames.all_wait()
    }

    /// Sends packets of a source; gives the time.
    fn deliver_batch<O: Outlet>(
        &mut self,
        now: Instant,
        batch: Batch,
        out: &mut O,
        leave: &mut impl FnMut(&mut O) -> Option<Instant>,
    ) -> Instant {
        let Self { sources, sinks, timers, scratch, left, frames, .. } = self;
        let (mut now, mut delivered) = (now, Delivered::default());
        let key = batch.source;
        let is_there = |source: &&mut Source| source.restarts == batch.restarts && source.active;
        if let Some(source) = sources.get_mut(key).filter(is_there) {
            for sink in &source.sinks {
                source.deliver(now, (&batch, *sink), (sinks, scratch), &mut delivered, out);
                now = leave(out).unwrap_or(now);
            }
            source.delivered(now, &batch, delivered.awaiting, out);
            timers.set(key, source.next_timeout());
        }
        frames.sent(batch);
        for (sink, before) in delivered.switched {
            if let Some(source) = sources.get_mut(before) {
                source.sinks.retain(|other| *other != sink);
            }
            left.push(before);
        }
        now
    }
}

impl Source {
    /// Sends packets to one who gets the source, or goes over to it.
    fn deliver(
        &self,
        now: Instant,
        (batch, sink_key): (&Batch, SinkKey),
        (sinks, scratch): (&mut Arena<Sink, SinkTag>, &mut Vec<u8>),
        delivered: &mut Delivered,
        out: &mut impl Outlet,
    ) {
        let Some(sink) = sinks.get_mut(sink_key).filter(|sink| sink.flows()) else { return };
        let of = Numbering { source: batch.source, restarts: batch.restarts };
        for (bit, held) in (0..).map(|at| 1 << at).zip(&batch.packets) {
            let Some(packet) = self.cache.get(held.sequence) else { continue };
            let stream = match &mut sink.to {
                Destination::Link { to, .. } => {
                    out.link_rtp(*to, packet);
                    continue;
                }
                Destination::Client(stream) => stream,
            };
            if sink.source != Some(batch.source) {
                if !(held.picture.key_frame && held.is_newest) {
                    delivered.awaiting |= bit;
                    continue;
                }
                sink.next = None;
                sink.held = false;
                let before = sink.source.replace(batch.source);
                delivered.switched.extend(before.map(|before| (sink_key, before)));
            } else if sink.held {
                continue;
            }
            let outgoing = Outgoing { now, held, packet, of };
            if outgoing.send(self, stream, sink.limit, scratch, out) {
                delivered.awaiting |= bit;
            }
        }
    }

    /// They were sent; with those of them somebody could not go on for want of a key frame.
    fn delivered(&mut self, now: Instant, batch: &Batch, awaiting: u32, out: &mut impl Outlet) {
        let Some((origin, ssrc)) = self.supply.as_ref().map(|supply| (supply.origin, supply.ssrc)) else {
            return;
        };
        for (at, held) in batch.packets.iter().enumerate() {
            self.awaited = awaiting & 1 << at != 0;
            if self.awaited && held.arrived.is_first() && self.key_frame_due(now) {
                out.request_key_frame(origin, ssrc.unwrap_or_default());
            }
        }
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
        let Held { sequence, header, is_newest, picture, ids, .. } = self.held;
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
            stream.sent.joined(self.now, source, limit);
        }
        if self.held.is_unreadable {
            return false;
        }
        let described = self.held.read.and_then(|read| source.descriptions.described(read));
        let selected = stream.selection.select(header.timestamp, picture, described.as_ref());
        if selected.taken {
            let top = stream.selection.top();
            let numbers = stream.continuity.advance(self.now, self.of, *sequence, header.timestamp, ids, top);
            if let Some(numbers) = numbers {
                self.write(source, stream, described.as_ref(), numbers, scratch, out);
            }
        } else if *is_newest {
            stream.continuity.leave_out(self.of, *sequence, ids);
        }
        selected.waits
    }

    /// Writes it under those numbers, and what repairs it.
    fn write(
        &self,
        source: &Source,
        stream: &mut ClientStream,
        described: Option<&Described<'_>>,
        (sequence, timestamp, shift): (u16, u32, Shift),
        scratch: &mut Vec<u8>,
        out: &mut impl Outlet,
    ) {
        let Self { now, held, packet, of } = *self;
        let Held { header, picture, class, .. } = held;
        let frame = described.and_then(|described| {
            let bytes = descriptor_of(source, header, packet)?;
            let active = stream.selection.news(described);
            Some(Frame { descriptor: described.descriptor, bytes, active })
        });
        let numbers = Numbers {
            sequence,
            timestamp,
            audio_level: held.audio_level,
            picture: (held.ids, shift),
            ends: picture.ended(),
            frame,
        };
        let red = stream.write_red(scratch, (header, packet), &numbers, of, &source.cache);
        stream.sent.redundant += u64::from(red.is_some());
        let written = red.unwrap_or_else(|| stream.write(scratch, header, packet, &numbers));
        stream.packets = stream.packets.wrapping_add(1);
        stream.octets =
            stream.octets.wrapping_add(u32::try_from(scratch.len() - written.payload_at).unwrap_or(0));
        stream.sent.tally.packet(now, scratch.len(), timestamp, picture.key_frame);
        if stream.may_pad() {
            pad(scratch, held.padding);
        }
        stream.protect(scratch, timestamp);
        let to = stream.parameters.transport;
        out.client_rtp(now, to, scratch, written.transport_cc_at, *class);
        if let Some(written) = stream.write_repair(scratch, header.marker) {
            stream.sent.redundant += 1;
            stream.sent.tally.again(now, scratch.len());
            out.client_rtp(now, to, scratch, written.transport_cc_at, *class);
        }
    }
}
