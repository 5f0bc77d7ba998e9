//! A packet of a source, from its arrival to what is known of it.

use std::time::Instant;

use kaigi_media::rtp::RtpHeader;

use super::{
    Forwarder, Outlet, Source,
    descriptions::Read,
    frames::Held,
    picture::{Picture, inspect},
    picture_id::locate,
    reception::{Arrival, Reception},
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

impl Arrived {
    /// Whether it was received for the first time.
    pub(super) fn is_first(self) -> bool {
        matches!(self, Self::Once { .. })
    }
}

impl Forwarder {
    /// A packet of a source came in: plain RTP with the source's own header, also if it was a retransmission. [`Self::deliver`] sends it.
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
        let Self { sources, timers, voices, renumbered, frames, .. } = self;
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
        if source.sinks.is_empty() {
            source.awaited = false;
            return;
        }
        let held = source.hold(&incoming, &seen, audio_level);
        let waits = source.kind == Kind::Video && !header.marker && arrived.is_first();
        if frames.add(now, key, source.restarts, held, waits) {
            self.deliver_all_of(now, key, out);
        }
    }
}

/// A packet that came in.
#[derive(Clone, Copy, Debug)]
struct Incoming<'p> {
    now: Instant,
    packet: &'p [u8],
    header: &'p RtpHeader,
    sequence: u64,
    is_newest: bool,
    arrived: Arrived,
}

/// What a packet shows.
#[derive(Clone, Copy, Debug)]
struct Seen {
    picture: Picture,
    /// What was read of its dependency descriptor.
    read: Option<Read>,
    /// See [`Held::is_unreadable`].
    is_unreadable: bool,
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

    fn inspect(&mut self, incoming: &Incoming<'_>) -> Seen {
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
        Seen { picture, read, is_unreadable }
    }

    /// What has to be known of a packet to send it.
    fn hold(&mut self, incoming: &Incoming<'_>, seen: &Seen, audio_level: Option<u8>) -> Held {
        let Incoming { packet, header, sequence, is_newest, arrived, .. } = *incoming;
        let Seen { picture, read, is_unreadable } = *seen;
        let payload = header.payload(packet);
        let (class, padding) = match self.kind {
            Kind::Audio => (Class::Sound, 0),
            Kind::Video if is_newest && arrived.is_first() => {
                (Class::Picture, self.cut.padding(header.timestamp, header.marker, payload.len()))
            }
            Kind::Video => (Class::Picture, 0),
        };
        let number = read.map(|read| read.descriptor.number);
        let ids = self.supply.as_ref().map(|supply| locate(supply.format.codec, payload).with_frame(number));
        let ids = ids.unwrap_or_default();
        let header = *header;
        Held {
            sequence,
            header,
            is_newest,
            arrived,
            picture,
            read,
            is_unreadable,
            ids,
            audio_level,
            class,
            padding,
        }
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
