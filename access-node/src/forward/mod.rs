//! The forwarding core: tracks that come in ([`Source`]), streams that go out ([`Sink`]), and what keeps them healthy. Without I/O: packets
//! leave through an [`Outlet`].

mod accept;
mod again;
mod cache;
mod choices;
mod clock;
mod connect;
mod continuity;
mod cut;
mod deliver;
mod descriptions;
mod frames;
mod meter;
mod nack;
mod padding;
mod picture;
mod picture_id;
mod reception;
mod red;
mod repair;
mod report;
mod rtcp;
mod selection;
mod sequence;
mod sink;
mod size;
mod sound;
mod source;
mod stats;
mod steps;
mod targets;
mod transport_cc;
mod voice;

pub use again::Repair;
pub use choices::Why;
pub use clock::NtpClock;
pub use connect::Chosen;
pub use kaigi_media::dependency_descriptor::{LayerId, MAX_SPATIAL};
pub use meter::{Rates, TEMPORAL_LAYERS};
pub use red::{MAX_DEPTH, RedTypes};
pub use report::{Reference, ReportBlock, SentReports, report_blocks};
pub use rtcp::{Rtcp, nacked, walk};
pub use selection::ALL_LAYERS;
pub use sink::{Sink, StreamParameters};
pub use size::Size;
pub use source::{Origin, Source, SpatialLayer, Supply};
pub use transport_cc::TransportCcReceiver;
pub use voice::{Heard, INTERVAL as VOICE_INTERVAL, Loudness};

use std::{collections::HashMap, time::Instant};

use kaigi_proto::{ids::TrackId, v1};
use rtc_rtcp::sender_report::SenderReport;

use self::{
    clock::fixed_point,
    continuity::Numbering,
    frames::Frames,
    sink::{ClientStream, Destination},
    source::ClockReading,
    voice::Voices,
};
use crate::{
    arena::Arena,
    keys::{AttachmentKey, SinkKey, SinkTag, SourceKey, SourceTag, TransportKey},
    pacing::Class,
    sdp::Kind,
    timers::Timers,
};

/// Most retransmissions that one NACK packet is answered with.
const MAX_NACKED: usize = 256;

/// Where the core's output goes.
pub trait Outlet {
    /// An RTP packet to a client; a transport-wide sequence number belongs at `transport_cc_at`, if that is given.
    fn client_rtp(
        &mut self,
        now: Instant,
        to: TransportKey,
        packet: &mut [u8],
        transport_cc_at: Option<usize>,
        class: Class,
    );
    /// An RTP packet, as it was received, to another node.
    fn link_rtp(&mut self, to: AttachmentKey, packet: &[u8]);
    /// The NTP time of an RTP timestamp, to another node.
    fn link_report(&mut self, to: AttachmentKey, ntp: u64, rtp: u32);
    /// A key frame is wanted from whoever produces.
    fn request_key_frame(&mut self, from: Origin, ssrc: u32);
    /// Packets are wanted again, ascending, from whoever produces.
    fn request_packets(&mut self, from: Origin, ssrc: u32, missing: &[u16]);
    /// The size of a published picture is known or has changed, or that of the layers that it is made of: the smallest first, none if it has
    /// one only. `temporal` is how many temporal layers it has, 0 if that is not told.
    fn picture_size(&mut self, from: Origin, track: &TrackId, size: Size, layers: &[Size], temporal: u8);
}

/// All sources and sinks of a worker.
#[derive(Debug, Default)]
pub struct Forwarder {
    sources: Arena<Source, SourceTag>,
    by_track: HashMap<TrackId, SourceKey>,
    sinks: Arena<Sink, SinkTag>,
    timers: Timers<SourceKey>,
    scratch: Vec<u8>,
    /// Packets that are made of others.
    made: Vec<u8>,
    /// Sound that has other numbers than it came with.
    renumbered: Vec<u8>,
    /// Sources that a sink has left for another.
    left: Vec<SourceKey>,
    voices: Voices,
    frames: Frames,
}

impl Forwarder {
    /// The source of a track; made if there is none.
    pub fn source_of(&mut self, track: &TrackId, kind: Kind) -> SourceKey {
        if let Some(key) = self.by_track.get(track) {
            return *key;
        }
        let key = self.sources.insert(Source::new(track.clone(), kind));
        self.by_track.insert(track.clone(), key);
        key
    }

    /// The source of a track, if there is one.
    #[must_use]
    pub fn find(&self, track: &TrackId) -> Option<SourceKey> {
        self.by_track.get(track).copied()
    }

    /// A source.
    #[must_use]
    pub fn source(&self, key: SourceKey) -> Option<&Source> {
        self.sources.get(key)
    }

    /// A source.
    pub fn source_mut(&mut self, key: SourceKey) -> Option<&mut Source> {
        self.sources.get_mut(key)
    }

    /// A sink.
    #[must_use]
    pub fn sink(&self, key: SinkKey) -> Option<&Sink> {
        self.sinks.get(key)
    }

    /// Whether somebody asks for a source, or is to be sent it.
    #[must_use]
    pub fn is_used(&self, now: Instant, key: SourceKey) -> bool {
        let Some(source) = self.sources.get(key) else { return false };
        let takes = |sink: &SinkKey| self.sinks.get(*sink).is_some_and(Sink::is_active);
        source.asked_until.is_some_and(|until| now < until) || source.sinks.iter().any(takes)
    }

    /// How many sources and sinks there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.sources.len(), self.sinks.len())
    }

    /// The source is produced from now on, or by somebody else.
    pub fn supply(&mut self, now: Instant, key: SourceKey, supply: Supply, out: &mut impl Outlet) {
        let Some(source) = self.sources.get_mut(key) else { return };
        source.restart();
        source.supply = Some(supply);
        if !source.sinks.is_empty() {
            source.awaited = true;
            self.want_key_frame(now, key, out);
            self.chose_for_all(now, key, Why::SourceStarted);
        }
    }

    /// Nobody produces the source any more.
    pub fn end_supply(&mut self, key: SourceKey) {
        if let Some(source) = self.sources.get_mut(key) {
            source.restart();
            source.supply = None;
            source.active = true;
        }
    }

    /// A publication is going to produce the source: it is kept until that ends.
    pub fn claim(&mut self, key: SourceKey) {
        if let Some(source) = self.sources.get_mut(key) {
            source.claimed = true;
        }
    }

    /// The publication that claimed the source has ended.
    pub fn release_claim(&mut self, key: SourceKey) {
        if let Some(source) = self.sources.get_mut(key) {
            source.claimed = false;
        }
        self.end_supply(key);
        self.forget_if_unused(key);
    }

    /// Forgets a source that nobody produces and nobody gets. Returns whether it is gone.
    pub fn forget_if_unused(&mut self, key: SourceKey) -> bool {
        let unused = |source: &Source| source.supply.is_none() && source.sinks.is_empty() && !source.claimed;
        if !self.sources.get(key).is_some_and(unused) {
            return false;
        }
        if let Some(source) = self.sources.remove(key) {
            self.by_track.remove(&source.track);
        }
        true
    }

    /// A stream to a client, with no source yet. `open` says whether the client is connected; `random` decides where its numbers start.
    pub fn add_client_sink(
        &mut self,
        kind: Kind,
        parameters: StreamParameters,
        open: bool,
        random: u64,
    ) -> SinkKey {
        let stream = Box::new(ClientStream::new(parameters, kind, random));
        self.sinks.insert(Sink {
            source: None,
            next: None,
            kind,
            active: true,
            held: false,
            limit: v1::Limit::None,
            open,
            to: Destination::Client(stream),
        })
    }

    /// A flow to another node, with no source yet.
    pub fn add_link_sink(&mut self, kind: Kind, to: AttachmentKey) -> SinkKey {
        self.sinks.insert(Sink {
            source: None,
            next: None,
            kind,
            active: true,
            held: false,
            limit: v1::Limit::None,
            open: true,
            to: Destination::Link { to, takers: 1 },
        })
    }

    /// Stops or restarts the flow of a source to everybody.
    pub fn set_source_active(&mut self, now: Instant, key: SourceKey, active: bool, out: &mut impl Outlet) {
        let Some(source) = self.sources.get_mut(key) else { return };
        if std::mem::replace(&mut source.active, active) == active {
            return;
        }
        for key in &source.sinks {
            if let Some(Sink { to: Destination::Client(stream), kind, .. }) = self.sinks.get_mut(*key) {
                stream.continuity.interrupt();
                stream.awaits_key_frame = *kind == Kind::Video;
            }
        }
        if active {
            source.awaited = !source.sinks.is_empty();
            self.want_key_frame(now, key, out);
            self.chose_for_all(now, key, Why::SourceResumed);
        } else {
            let waits = |sink: &&SinkKey| self.sinks.get(**sink).is_some_and(|s| s.next == Some(key));
            for sink in source.sinks.iter().filter(waits).copied().collect::<Vec<_>>() {
                self.finish_switch(sink);
            }
            self.chose_for_all(now, key, Why::SourcePaused);
        }
    }

    /// Stops or restarts the flow to one sink.
    pub fn set_sink_active(&mut self, now: Instant, key: SinkKey, active: bool, out: &mut impl Outlet) {
        let Some(sink) = self.sinks.get_mut(key) else { return };
        if std::mem::replace(&mut sink.active, active) != active {
            self.finish_switch(key);
            self.begin_anew(now, key, out);
            self.chose(now, key, if active { Why::Resumed } else { Why::Paused });
        }
    }

    /// The client of a sink is connected now.
    pub fn open_sink(&mut self, now: Instant, key: SinkKey, out: &mut impl Outlet) {
        let Some(sink) = self.sinks.get_mut(key) else { return };
        if !std::mem::replace(&mut sink.open, true) {
            self.begin_anew(now, key, out);
        }
    }

    /// What goes to a sink from now on follows directly on what went to it last, and begins with a key frame.
    fn begin_anew(&mut self, now: Instant, key: SinkKey, out: &mut impl Outlet) {
        let Some(sink) = self.sinks.get_mut(key) else { return };
        let (kind, flows) = (sink.kind, sink.flows());
        if let Destination::Client(stream) = &mut sink.to {
            stream.continuity.interrupt();
            stream.awaits_key_frame = kind == Kind::Video;
        }
        if let Some(source_key) = sink.source.filter(|_| flows) {
            if let Some(source) = self.sources.get_mut(source_key) {
                source.awaited = true;
            }
            self.want_key_frame(now, source_key, out);
        }
    }

    /// A subscriber or node can't go on without a key frame.
    pub fn key_frame_request(&mut self, now: Instant, key: SinkKey, out: &mut impl Outlet) {
        if let Some(source) = self.sinks.get(key).and_then(|sink| sink.source) {
            self.want_key_frame(now, source, out);
        }
    }

    /// A subscriber misses packets: sends those again that are still there. Returns how many.
    pub fn retransmit(
        &mut self,
        now: Instant,
        key: SinkKey,
        missing: impl Iterator<Item = u16> + Clone,
        repair: Repair,
        out: &mut impl Outlet,
    ) -> usize {
        let Some(sink) = self.sinks.get_mut(key).filter(|sink| sink.flows()) else { return 0 };
        let current = sink.source;
        let mut sent = 0;
        match &mut sink.to {
            Destination::Link { to, .. } => {
                let Some(source) = current.and_then(|key| self.sources.get(key)) else { return 0 };
                let Some(highest) = source.last_number() else { return 0 };
                for sequence in missing.take(MAX_NACKED) {
                    let Some(packet) = source.cache.get(sequence::nearest(highest, sequence)) else {
                        continue;
                    };
                    out.link_rtp(*to, packet);
                    sent += 1;
                }
            }
            Destination::Client(stream) => {
                let class = match sink.kind {
                    Kind::Audio => Class::Sound,
                    Kind::Video => Class::Again,
                };
                let twice = repair.twice && stream.parameters.rtx.is_some();
                // The second ones after all first ones: losses come together.
                for round in 0..=u8::from(twice) {
                    for sequence in missing.clone().take(MAX_NACKED) {
                        let first = round == 0;
                        stream.sent.nacks += u64::from(first && repair.asked);
                        if !stream.parameters.nack || !stream.may_retransmit(now) {
                            return sent;
                        }
                        let is_due = if first {
                            stream.again.is_due(now, sequence, repair)
                        } else {
                            stream.again.was_just_sent(now, sequence)
                        };
                        if is_due
                            && stream.send_again(now, sequence, &self.sources, &mut self.scratch, class, out)
                        {
                            sent += 1;
                        }
                    }
                }
            }
        }
        sent
    }

    /// Whoever produces the source says which NTP time an RTP timestamp stands for.
    pub fn sender_report(&mut self, now: Instant, key: SourceKey, ntp: u64, rtp: u32, out: &mut impl Outlet) {
        let Some(source) = self.sources.get_mut(key) else { return };
        if let Some(reception) = &mut source.reception {
            reception.sender_report(now, ntp);
        }
        source.reported = Some(ClockReading { ntp, rtp, at: now });
        for sink in &source.sinks {
            if let Some(Sink { to: Destination::Link { to, .. }, .. }) = self.sinks.get(*sink) {
                out.link_report(*to, ntp, rtp);
            }
        }
    }

    /// Tells another node once more which NTP time an RTP timestamp stands for, as far as that is known.
    pub fn repeat_report(&self, key: SinkKey, out: &mut impl Outlet) {
        let Some(Sink { to: Destination::Link { to, .. }, source: Some(source), .. }) = self.sinks.get(key)
        else {
            return;
        };
        if let Some(reading) = self.sources.get(*source).and_then(|source| source.reported) {
            out.link_report(*to, reading.ntp, reading.rtp);
        }
    }

    /// The sender report for a client's stream; `None` as long as there is nothing to report. The NTP time is that of whoever
    /// publishes, so that sound and picture of one publisher stay together.
    #[must_use]
    pub fn report_on(&self, now: Instant, clock: &NtpClock, key: SinkKey) -> Option<SenderReport> {
        let sink = self.sinks.get(key)?;
        let Destination::Client(stream) = &sink.to else { return None };
        let source_key = sink.source?;
        let source = self.sources.get(source_key)?;
        let supply = source.supply.as_ref()?;
        let of = Numbering { source: source_key, restarts: source.restarts };
        let offset = stream.continuity.timestamp_offset(of)?;
        let reading = match (source.reported, supply.origin) {
            (Some(reading), _) => reading,
            // A node that says nothing makes its tracks in real time: the arrival will do.
            (None, Origin::Flow(_)) => {
                let (rtp, at) = source.newest?;
                ClockReading { ntp: clock.ntp(at), rtp, at }
            }
            (None, Origin::Publisher(_) | Origin::Worker(_)) => return None,
        };
        let elapsed = now.saturating_duration_since(reading.at);
        let ticks = elapsed.as_micros() * u128::from(stream.parameters.clock_rate) / 1_000_000;
        Some(SenderReport {
            ssrc: stream.parameters.ssrc.0,
            ntp_time: reading.ntp.wrapping_add(fixed_point(elapsed)),
            rtp_time: reading.rtp.wrapping_add(ticks as u32).wrapping_add(offset),
            packet_count: stream.packets,
            octet_count: stream.octets,
            ..SenderReport::default()
        })
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn next_timeout(&mut self) -> Option<Instant> {
        [self.timers.earliest(), self.frames.next_timeout()].into_iter().flatten().min()
    }

    /// Asks for what is missing. Frames that have waited long enough leave with the next [`Self::deliver`].
    pub fn handle_timeout(&mut self, now: Instant, out: &mut impl Outlet) {
        while let Some(key) = self.timers.pop_due(now) {
            let Some(source) = self.sources.get_mut(key) else { continue };
            let Some(supply) = &source.supply else { continue };
            let (origin, ssrc) = (supply.origin, supply.ssrc.unwrap_or_default());
            let missing = source.nack.take_due(now);
            if !missing.is_empty() {
                source.received.nacks += missing.len() as u64;
                out.request_packets(origin, ssrc, &missing);
            }
            if source.key_frame_due(now) {
                out.request_key_frame(origin, ssrc);
            }
            self.timers.set(key, source.next_timeout());
        }
    }

    fn want_key_frame(&mut self, now: Instant, key: SourceKey, out: &mut impl Outlet) {
        let Some(source) = self.sources.get_mut(key) else { return };
        if source.want_key_frame(now)
            && let Some(supply) = &source.supply
        {
            out.request_key_frame(supply.origin, supply.ssrc.unwrap_or_default());
        }
        self.timers.set(key, source.next_timeout());
    }
}
