//! A packet of a source, from its arrival to what is known of it.

use std::time::Instant;

use kaigi_media::rtp::RtpHeader;

use super::{
    Forwarder, Outlet, Source,
    descriptions::Read,
    picture::{Picture, inspect},
    reception::{Arrival, Reception},
};
use crate::{keys::SourceKey, sdp::Kind};

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
        let origin = supply.origin;
        if supply.ssrc.replace(header.ssrc).is_some_and(|before| before != header.ssrc) {
            source.restart();
        }
        let Some((sequence, gap)) = source.arrival(now, packet, header, arrived) else { return };
        if source.supply.as_ref().is_some_and(|supply| supply.nack) {
            let hopeless = source.nack.arrived(now, sequence, gap);
            if gap > 0 {
                timers.set(key, source.next_timeout());
            }
            if hopeless && source.want_key_frame(now) {
                out.request_key_frame(origin, header.ssrc);
            }
        }
        let Some((number, is_newest)) = source.number(now, sequence, packet, header, arrived) else { return };
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
        let incoming = Incoming { now, packet, header: &header, sequence: number, is_newest, arrived };
        let seen = source.inspect(&incoming);
        source.learn_sizes(&seen.picture, |track, size, layers, temporal| {
            out.picture_size(origin, track, size, layers, temporal);
        });
        source.count(&incoming, &seen.picture);
        if !source.active {
            return;
        }
        let audio_level = audio_level(source, &header, packet);
        if let Some((voice, level)) = source.voice.as_mut().zip(audio_level)
            && voice.packet(now, level)
        {
            voices.begins(now, key);
        }
        let delivered = source.deliver(key, &incoming, &seen, audio_level, (sinks, scratch), out);
        source.awaited = delivered.is_awaited;
        if delivered.is_awaited && matches!(arrived, Arrived::Once { .. }) {
            if source.key_frame_due(now) {
                out.request_key_frame(origin, header.ssrc);
            }
            timers.set(key, source.next_timeout());
        }
        for (sink, before) in delivered.switched {
            if let Some(source) = sources.get_mut(before) {
                source.sinks.retain(|other| *other != sink);
            }
            left.push(before);
        }
    }
}

/// A packet that came in, as it is forwarded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming<'p> {
    pub(super) now: Instant,
    pub(super) packet: &'p [u8],
    pub(super) header: &'p RtpHeader,
    pub(super) sequence: u64,
    pub(super) is_newest: bool,
    pub(super) arrived: Arrived,
}

/// What a packet shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'p> {
    pub(super) picture: Picture,
    /// The dependency descriptor, and what was read of it.
    pub(super) descriptor: Option<&'p [u8]>,
    pub(super) read: Option<Read>,
    /// It can't be told whether a decoder would get on with it. If its structure comes yet, receivers ask for it again.
    pub(super) is_unreadable: bool,
}

impl Source {
    /// Takes note of a packet's arrival. Its extended number, and how many are missing before it; `None` if it has been there before.
    fn arrival(
        &mut self,
        now: Instant,
        packet: &[u8],
        header: &RtpHeader,
        arrived: Arrived,
    ) -> Option<(u64, u64)> {
        let clock_rate = self.supply.as_ref()?.format.clock_rate();
        let reception = self.reception.get_or_insert_with(|| Reception::new(now, clock_rate));
        let made_good = !matches!(arrived, Arrived::Once { .. });
        match reception.receive(now, header.sequence, header.timestamp, made_good) {
            Arrival::New { sequence, gap } => Some((sequence, gap)),
            Arrival::MadeGood if self.is_silence(packet, header) => None,
            Arrival::MadeGood => {
                self.received.packet(now, packet.len(), header.timestamp, false, arrived);
                None
            }
            Arrival::Stale => None,
        }
    }

    /// The number under which a packet is forwarded, and whether it is the newest; `None` if it is not forwarded.
    fn number(
        &mut self,
        now: Instant,
        sequence: u64,
        packet: &[u8],
        header: &RtpHeader,
        arrived: Arrived,
    ) -> Option<(u64, bool)> {
        if self.kind == Kind::Video {
            let highest = self.reception.as_ref().and_then(Reception::highest);
            return Some((sequence, highest == Some(sequence)));
        }
        let is_silence = self.is_silence(packet, header);
        let has_copies = self.supply.as_ref().is_some_and(|supply| supply.red.is_some());
        let last = self.sound.last();
        let number = self.sound.arrived(sequence, header.timestamp, is_silence, has_copies);
        if number.is_none() && !is_silence {
            self.received.packet(now, packet.len(), header.timestamp, false, arrived);
        }
        number.map(|number| (number, last < Some(number)))
    }

    /// Whether a packet of sound has none, but only padding at most.
    fn is_silence(&self, packet: &[u8], header: &RtpHeader) -> bool {
        self.kind == Kind::Audio && header.payload(packet).is_empty()
    }

    fn inspect<'p>(&mut self, incoming: &Incoming<'p>) -> Seen<'p> {
        let Incoming { packet, header, .. } = *incoming;
        let mut picture = match (self.kind, &self.supply) {
            (Kind::Video, Some(supply)) => inspect(supply.format.codec, header.payload(packet)),
            (Kind::Audio, _) | (_, None) => Picture { key_frame: true, ..Picture::default() },
        };
        let descriptor = descriptor_of(self, header, packet);
        if let Some(bytes) = descriptor {
            self.descriptions.learn(bytes);
        }
        let read = descriptor.and_then(|bytes| self.descriptions.read(bytes));
        let is_unreadable = descriptor.is_some() && read.is_none() && self.descriptions.structure().is_some();
        if let Some(read) = &read {
            picture.is_described_by(&read.descriptor, self.descriptions.structure());
        }
        Seen { picture, descriptor, read, is_unreadable }
    }

    /// Counts and keeps a packet.
    fn count(&mut self, incoming: &Incoming<'_>, picture: &Picture) {
        let Incoming { now, packet, header, sequence, is_newest, arrived } = *incoming;
        if picture.key_frame && is_newest {
            self.key_frame_came();
        }
        self.received.packet(now, packet.len(), header.timestamp, picture.key_frame, arrived);
        // A retransmission has other header extensions than what it is of.
        self.cache.store(sequence, packet, arrived != Arrived::Again);
        self.measure(now, packet.len(), header.timestamp, picture.layer());
        if is_newest {
            self.newest = Some((header.timestamp, now));
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
