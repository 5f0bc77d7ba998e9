//! What is counted of tracks that come in and of streams that go out, and what it says of them.

use std::time::{Duration, Instant, SystemTime};

use kaigi_media::tally::Tally;
use kaigi_proto::v1;

use super::{
    Forwarder, Source,
    accept::Arrived,
    choices::{Choices, Why},
    reception::Reception,
    report::{ReportBlock, SentReports},
    sink::{ClientStream, Destination, Sink},
    size::Size,
};
use crate::{
    keys::{SinkKey, SourceKey},
    sdp::Kind,
};

/// A source is not called silent before it had that long to begin.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is counted of a source.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) tally: Tally,
    retransmitted: u64,
    recovered: u64,
    pub(super) nacks: u64,
    pub(super) plis: u64,
    /// Of the numberings before the current one.
    lost_before: u64,
    /// Most so far: packets that are merely late are found again, and counters don't fall.
    lost: u64,
}

impl Received {
    pub(super) fn new(kind: Kind) -> Self {
        let tally = Tally::new(kind.into());
        Self { tally, retransmitted: 0, recovered: 0, nacks: 0, plis: 0, lost_before: 0, lost: 0 }
    }

    /// A packet is there, of so many bytes.
    pub(super) fn packet(&mut self, now: Instant, bytes: usize, timestamp: u32, key: bool, arrived: Arrived) {
        match arrived {
            Arrived::Once { bytes } => self.tally.packet(now, bytes, timestamp, key),
            Arrived::Again => {
                self.retransmitted += 1;
                self.tally.packet(now, bytes, timestamp, key);
            }
            Arrived::Recovered => {
                self.recovered += 1;
                self.tally.recovered(now, timestamp, key);
            }
        }
    }

    /// The numbering begins anew.
    pub(super) fn restart(&mut self, reception: Option<&Reception>) {
        self.lost_before += reception.map_or(0, Reception::lost);
    }
}

/// What is counted of a stream to a client, and what the client says of it.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) tally: Tally,
    pub(super) retransmitted: u64,
    pub(super) redundant: u64,
    pub(super) nacks: u64,
    plis: u64,
    firs: u64,
    lost: u64,
    fraction_lost: f64,
    jitter: u32,
    pub(super) reports: SentReports,
    choices: Choices,
}

impl Sent {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            tally: Tally::new(kind.into()),
            retransmitted: 0,
            redundant: 0,
            nacks: 0,
            plis: 0,
            firs: 0,
            lost: 0,
            fraction_lost: 0.0,
            jitter: 0,
            reports: SentReports::default(),
            choices: Choices::default(),
        }
    }

    /// The key frame that was waited for goes out.
    pub(super) fn joined(&mut self, now: Instant, source: &Source, limit: v1::Limit) {
        self.choices.made(now, Some(&source.track), limit, Why::Joined, false);
    }
}

impl ClientStream {
    /// The client's report on it. The round trip, if it tells of one.
    fn reported(&mut self, now: Instant, block: &ReportBlock) -> Option<Duration> {
        let sent = &mut self.sent;
        sent.lost = sent.lost.max(u64::try_from(block.total_lost).unwrap_or(0));
        sent.fraction_lost = f64::from(block.fraction_lost) / 256.0;
        sent.jitter = micros(block.jitter, self.parameters.clock_rate);
        sent.reports.round_trip(now, block.reference)
    }
}

/// Timestamp units in microseconds.
fn micros(units: u32, clock_rate: u32) -> u32 {
    let micros = u64::from(units) * 1_000_000 / u64::from(clock_rate.max(1));
    u32::try_from(micros).unwrap_or(u32::MAX)
}

fn to_message(size: Option<Size>) -> Option<v1::Resolution> {
    size.map(|(width, height)| v1::Resolution { width, height })
}

/// What keeps more from being sent of a stream.
fn limit(now: Instant, sink: &Sink, source: Option<&Source>) -> v1::Limit {
    if !sink.active {
        return v1::Limit::Paused;
    }
    if sink.held {
        return sink.limit;
    }
    let there = |source: &&Source| source.supply.is_some() && source.active;
    let flows = |source: &Source| source.received.tally.is_flowing(now);
    if source.filter(there).is_some_and(flows) { sink.limit } else { v1::Limit::Source }
}

impl Forwarder {
    /// What is counted of a source.
    pub fn source_stats(&mut self, now: Instant, key: SourceKey) -> Option<v1::TrackStats> {
        let source = self.sources.get_mut(key)?;
        let reception = source.reception.as_ref();
        let received = &mut source.received;
        let lost = received.lost_before + reception.map_or(0, Reception::lost);
        received.lost = received.lost.max(lost);
        let received = &source.received;
        let counted = received.tally.to_message(now);
        let clock_rate = source.supply.as_ref().map_or(0, |supply| supply.format.clock_rate());
        Some(v1::TrackStats {
            track_id: source.track.to_string(),
            packets_lost: received.lost,
            fraction_lost: reception.map_or(0.0, Reception::fraction_lost),
            jitter_us: reception.map_or(0, |reception| micros(reception.jitter(), clock_rate)),
            retransmitted: received.retransmitted,
            recovered: received.recovered,
            nacks: received.nacks,
            plis: received.plis,
            resolution: to_message(source.size),
            flowing: counted.flowing && source.active && source.supply.is_some(),
            takers: source.sinks.iter().filter_map(|key| self.sinks.get(*key)).map(Sink::takers).sum(),
            ..counted
        })
    }

    /// What is counted of a stream to a client. `wall` is the time of day at `now`.
    pub fn sink_stats(&self, now: Instant, wall: SystemTime, key: SinkKey) -> Option<v1::TrackStats> {
        let sink = self.sinks.get(key)?;
        let Destination::Client(stream) = &sink.to else { return None };
        let source = sink.source.and_then(|key| self.sources.get(key));
        let is_sent = |source: &&Source| sink.is_flowing() && source.active && source.supply.is_some();
        let shown = source.filter(is_sent);
        let sent = &stream.sent;
        Some(v1::TrackStats {
            track_id: shown.map(|source| source.track.to_string()).unwrap_or_default(),
            packets_lost: sent.lost,
            fraction_lost: sent.fraction_lost,
            jitter_us: sent.jitter,
            retransmitted: sent.retransmitted,
            redundant: sent.redundant,
            nacks: sent.nacks,
            plis: sent.plis,
            firs: sent.firs,
            resolution: shown.and_then(|source| to_message(source.size_of(stream.selection.top()))),
            limit: limit(now, sink, source).into(),
            choices: sent.choices.to_messages(now, wall),
            ..sent.tally.to_message(now)
        })
    }

    /// How many get what goes to others by a sink.
    pub fn set_takers(&mut self, key: SinkKey, count: u32) {
        if let Some(Sink { to: Destination::Link { takers, .. }, .. }) = self.sinks.get_mut(key) {
            *takers = count;
        }
    }

    /// A client reports on a stream. The round trip, if it tells of one.
    pub fn receiver_report(&mut self, now: Instant, key: SinkKey, block: &ReportBlock) -> Option<Duration> {
        let Destination::Client(stream) = &mut self.sinks.get_mut(key)?.to else { return None };
        // Clients report on retransmissions, too, which have a source of their own.
        (stream.parameters.ssrc.0 == block.ssrc).then(|| stream.reported(now, block)).flatten()
    }

    /// The sender report with that NTP time goes out.
    pub fn sender_report_sent(&mut self, now: Instant, key: SinkKey, ntp: u64) {
        if let Some(Sink { to: Destination::Client(stream), .. }) = self.sinks.get_mut(key) {
            stream.sent.reports.sent(now, ntp);
        }
    }

    /// A client asks for a key frame, by FIR (`intra`) or PLI.
    pub fn count_key_frame_request(&mut self, key: SinkKey, intra: bool) {
        if let Some(Sink { to: Destination::Client(stream), .. }) = self.sinks.get_mut(key) {
            let count = if intra { &mut stream.sent.firs } else { &mut stream.sent.plis };
            *count += 1;
        }
    }

    /// Remembers that a stream's source has ended, has fallen silent or is heard again; to be called about once a second.
    pub fn watch_source(&mut self, now: Instant, key: SinkKey) {
        let Some(sink) = self.sinks.get(key).filter(|sink| sink.flows()) else { return };
        let Some(source) = sink.source.and_then(|key| self.sources.get(key)) else { return };
        let Destination::Client(stream) = &sink.to else { return };
        let Some((at, last)) = stream.sent.choices.last() else { return };
        let why = match &source.supply {
            None => Why::SourceEnded,
            Some(_) if source.received.tally.is_flowing(now) => Why::SourceHeard,
            Some(_) => Why::SourceSilent,
        };
        let is_gone = |why| matches!(why, Why::SourceEnded | Why::SourceSilent);
        let is_news = match why {
            Why::SourceHeard => is_gone(last),
            _ => last != why && now >= at + PATIENCE,
        };
        if source.active && is_news {
            self.chose(now, key, why);
        }
    }

    /// Remembers what goes to a client from now on.
    pub(super) fn chose(&mut self, now: Instant, key: SinkKey, why: Why) {
        let Some(sink) = self.sinks.get_mut(key) else { return };
        let source = sink.next.or(sink.source).and_then(|key| self.sources.get(key));
        let is_video = sink.kind == Kind::Video;
        let (stops, limit) = match why {
            Why::Paused => (true, v1::Limit::Paused),
            Why::SourcePaused | Why::SourceEnded | Why::SourceSilent => (true, v1::Limit::Source),
            Why::SourceSet
            | Why::Joined
            | Why::Resumed
            | Why::SourceResumed
            | Why::SourceStarted
            | Why::SourceHeard
            | Why::Asked
            | Why::LayerStopped
            | Why::LessCarried(_)
            | Why::MoreCarried(_) => (false, sink.limit),
        };
        if let Destination::Client(stream) = &mut sink.to {
            let track = source.filter(|_| !stops && !sink.held).map(|source| &source.track);
            let goes_on = matches!(why, Why::Joined | Why::SourceHeard);
            let waits = is_video && track.is_some() && !goes_on;
            stream.sent.choices.made(now, track, limit, why, waits);
        }
    }

    /// The same where the source stays and another of its layers is sent.
    pub(super) fn chose_layer(&mut self, now: Instant, key: SinkKey, why: Why) {
        let Some(Sink { source, limit, to: Destination::Client(stream), .. }) = self.sinks.get_mut(key)
        else {
            return;
        };
        let track = source.and_then(|key| self.sources.get(key)).map(|source| &source.track);
        stream.sent.choices.made(now, track, *limit, why, false);
    }

    /// The same for all who get a source.
    pub(super) fn chose_for_all(&mut self, now: Instant, key: SourceKey, why: Why) {
        let sinks = self.sources.get(key).map(|source| source.sinks.clone()).unwrap_or_default();
        for sink in sinks {
            if self.sinks.get(sink).is_some_and(|sink| sink.flows() && sink.source == Some(key)) {
                self.chose(now, sink, why);
            }
        }
    }
}
