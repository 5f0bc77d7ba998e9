//! A packet of a source, from its arrival to the sinks that get it.

use std::time::Instant;

use kaigi_media::rtp::RtpHeader;

use super::{
    Forwarder, Outlet, Source,
    continuity::Numbering,
    padding::pad,
    picture::{Picture, inspect},
    picture_id::locate,
    reception::{Arrival, Reception},
    sink::{Destination, Frame, Numbers},
};
use crate::{keys::SourceKey, pacing::Class, sdp::Kind};

/// How a packet came to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// It was received for the first time, in so many bytes.
    Once {
        /// RTP, as it came.
        bytes: usize,
    },
    /// It was received as a retransmission.
    Again,
    /// It was made of others.
    Recovered,
}

impl Forwarder {
    /// A packet of a source came in: plain RTP with the source's own header, also if it was a retransmission.
    pub fn receive(
        &mut self,
        now: Instant,
        key: SourceKey,
        packet: &[u8],
        header: &RtpHeader,
        retransmitted: bool,
        out: &mut impl Outlet,
    ) {
        let arrived = if retransmitted { Arrived::Again } else { Arrived::Once { bytes: packet.len() } };
        self.accept(now, key, packet, header, arrived, out);
        if self.sources.get(key).is_some_and(|source| source.repairs.is_some()) {
            self.repair(now, key, out);
        }
    }

    /// A plain packet of a source is there.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        key: SourceKey,
        packet: &[u8],
        header: &RtpHeader,
        arrived: Arrived,
        out: &mut impl Outlet,
    ) {
        let Self { sources, sinks, timers, scratch, left, voices, renumbered, .. } = self;
        let Some(source) = sources.get_mut(key) else { return };
        let Some(supply) = &mut source.supply else { return };
        if supply.ssrc.replace(header.ssrc).is_some_and(|before| before != header.ssrc) {
            source.restart();
        }
        let Some(supply) = &source.supply else { return };
        let (origin, ssrc, format) = (supply.origin, header.ssrc, supply.format);
        let has_copies = supply.red.is_some();
        let reception = source.reception.get_or_insert_with(|| Reception::new(now, format.clock_rate()));
        let made_good = !matches!(arrived, Arrived::Once { .. });
        let arrival = reception.receive(now, header.sequence, header.timestamp, made_good);
        let is_silent = source.kind == Kind::Audio && header.payload(packet).is_empty();
        let (sequence, gap) = match arrival {
            Arrival::New { sequence, gap } => (sequence, gap),
            Arrival::MadeGood if is_silent => return,
            Arrival::MadeGood => {
                source.received.packet(now, packet.len(), header.timestamp, false, arrived);
                return;
            }
            Arrival::Stale => return,
        };
        let highest = reception.highest();
        if supply.nack {
            let hopeless = source.nack.arrived(now, sequence, gap);
            if gap > 0 {
                timers.set(key, source.next_timeout());
            }
            if hopeless && source.want_key_frame(now) {
                out.request_key_frame(origin, ssrc);
            }
        }
        let numbers = match source.kind {
            Kind::Audio => {
                let last = source.sound.last();
                let number = source.sound.arrived(sequence, header.timestamp, is_silent, has_copies);
                number.map(|number| (number, last < Some(number)))
            }
            Kind::Video => Some((sequence, highest == Some(sequence))),
        };
        let Some((number, is_newest)) = numbers else {
            if is_silent {
                return;
            }
            source.received.packet(now, packet.len(), header.timestamp, false, arrived);
            return;
        };
        let (packet, header) = if number == sequence {
            (packet, *header)
        } else {
            let mut header = *header;
            header.sequence = number as u16;
            renumbered.clear();
            renumbered.extend_from_slice(packet);
            renumbered[2..4].copy_from_slice(&(number as u16).to_be_bytes());
            (&renumbered[..], header)
        };
        let (sequence, header) = (number, &header);
        let payload = header.payload(packet);
        let mut picture = match source.kind {
            Kind::Audio => Picture { key_frame: true, ..Picture::default() },
            Kind::Video => inspect(format.codec, payload),
        };
        let descriptor = descriptor_of(source, header, packet);
        if let Some(bytes) = descriptor {
            source.descriptions.learn(bytes);
        }
        let read = descriptor.and_then(|bytes| source.descriptions.read(bytes));
        // It can't be told whether a decoder would get on with it. If its structure comes yet, receivers ask for it again.
        let is_unreadable =
            descriptor.is_some() && read.is_none() && source.descriptions.structure().is_some();
        if let Some(read) = &read {
            picture.is_described_by(&read.descriptor, source.descriptions.structure());
        }
        source.learn_sizes(&picture, |track, size, layers, temporal| {
            out.picture_size(origin, track, size, layers, temporal);
        });
        if picture.key_frame && is_newest {
            source.key_frame_came();
        }
        source.received.packet(now, packet.len(), header.timestamp, picture.key_frame, arrived);
        // A retransmission has other header extensions than what it is of.
        source.cache.store(sequence, packet, arrived != Arrived::Again);
        source.measure(now, packet.len(), header.timestamp, picture.layer());
        if is_newest {
            source.newest = Some((header.timestamp, now));
        }
        if !source.active {
            return;
        }
        let audio_level = audio_level(source, header, packet);
        if let Some((voice, level)) = source.voice.as_mut().zip(audio_level)
            && voice.packet(now, level)
        {
            voices.begins(now, key);
        }
        let of = Numbering { source: key, restarts: source.restarts };
        let ids = locate(format.codec, payload).with_frame(read.map(|read| read.descriptor.number));
        let described = read.and_then(|read| source.descriptions.described(read));
        let class = match source.kind {
            Kind::Audio => Class::Sound,
            Kind::Video => Class::Picture,
        };
        let padding = match (source.kind, arrived) {
            (Kind::Video, Arrived::Once { .. }) if is_newest => {
                source.cut.padding(header.timestamp, header.marker, payload.len())
            }
            _ => 0,
        };
        let mut awaited = false;
        let mut switched = Vec::new();
        for sink_key in &source.sinks {
            let Some(sink) = sinks.get_mut(*sink_key).filter(|sink| sink.flows()) else { continue };
            let stream = match &mut sink.to {
                Destination::Link { to, .. } => {
                    out.link_rtp(*to, packet);
                    continue;
                }
                Destination::Client(stream) => stream,
            };
            if sink.source != Some(key) {
                if !(picture.key_frame && is_newest) {
                    awaited = true;
                    continue;
                }
                sink.next = None;
                sink.held = false;
                switched.extend(sink.source.replace(key).map(|before| (*sink_key, before)));
            } else if sink.held {
                continue;
            }
            if stream.continuity.is_interrupted(of) {
                stream.awaits_key_frame = source.kind == Kind::Video;
                if !is_newest {
                    continue;
                }
            }
            if stream.awaits_key_frame {
                if !picture.key_frame {
                    awaited = true;
                    continue;
                }
                stream.awaits_key_frame = false;
                stream.selection.restart();
                stream.sent.joined(now, source, sink.limit);
            }
            if is_unreadable {
                continue;
            }
            let selected = stream.selection.select(header.timestamp, &picture, described.as_ref());
            awaited |= selected.waits;
            if !selected.taken {
                if is_newest {
                    stream.continuity.leave_out(of, sequence, &ids);
                }
                continue;
            }
            let top = stream.selection.top();
            let numbers = stream.continuity.advance(now, of, sequence, header.timestamp, &ids, top);
            let Some((sequence, timestamp, shift)) = numbers else { continue };
            let frame = described.as_ref().zip(descriptor).map(|(described, bytes)| Frame {
                descriptor: described.descriptor,
                bytes,
                active: stream.selection.news(described),
            });
            let numbers = Numbers {
                sequence,
                timestamp,
                audio_level,
                picture: (ids, shift),
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
                pad(scratch, padding);
            }
            stream.protect(scratch, timestamp);
            out.client_rtp(now, stream.parameters.transport, scratch, written.transport_cc_at, class);
            if let Some(written) = stream.write_repair(scratch, header.marker) {
                stream.sent.redundant += 1;
                stream.sent.tally.again(now, scratch.len());
                out.client_rtp(now, stream.parameters.transport, scratch, written.transport_cc_at, class);
            }
        }
        source.awaited = awaited;
        if awaited && !made_good {
            if source.key_frame_due(now) {
                out.request_key_frame(origin, ssrc);
            }
            timers.set(key, source.next_timeout());
        }
        for (sink, before) in switched {
            if let Some(source) = sources.get_mut(before) {
                source.sinks.retain(|other| *other != sink);
            }
            left.push(before);
        }
    }
}

pub(super) fn audio_level(source: &Source, header: &RtpHeader, packet: &[u8]) -> Option<u8> {
    let id = source.supply.as_ref()?.extensions.audio_level?;
    header.extension(packet, id)?.first().copied()
}

/// The dependency descriptor of a packet, if it has one.
pub(super) fn descriptor_of<'p>(source: &Source, header: &RtpHeader, packet: &'p [u8]) -> Option<&'p [u8]> {
    header.extension(packet, source.supply.as_ref()?.extensions.dependency?)
}

/// Whether there is nothing but padding in a packet (RFC 3550 §5.1).
pub(super) fn is_padding(header: &RtpHeader, packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first & 0x20 != 0) && header.payload(packet).is_empty()
}
