//! What the way to a client is estimated to carry, from the client's feedback on the packets it was sent
//! (draft-ietf-rmcat-gcc-02, at the sender): delays that grow or losses bring the estimate down to what arrives, and while there are
//! none it grows slowly, up to half as much again as what arrives. What lies beyond is found out by probes ([`BandwidthEstimator::want`]).
//! Of clients that do not report on each packet less is known, by what they say that they can take and by their receiver reports.
//!
//! ```text
//! sent ──► History ─┐         ┌─► Gradient ───► Usage ─┐
//!                   ├─► each ─┼─► Acknowledged ────────┼─► Rate ──► estimate
//! feedback ─────────┘  packet ├─► losses ──────────────┤
//!                             └─► Prober ──────────────┘
//! ```

mod feedback;
mod gradient;
mod history;
mod loss_share;
mod losses;
mod probe;
mod rate;
mod reported;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use self::{
    feedback::{Feedback, REFERENCE},
    gradient::{Gradient, Usage},
    history::{History, Status},
    loss_share::LossShare,
    probe::Prober,
    rate::{Acknowledged, Rate},
    reported::Reported,
};

/// A leap of the client's clock in units of the reference time, over a minute, after which what was is forgotten.
const LEAP: i64 = 1024;
/// After queues grew, what is lost for that long is lost by them, in µs: it ends when less is sent.
const FULL: i64 = 3_000_000;
/// Without any feedback for that long nothing is known of the way any more.
const STALE: Duration = Duration::from_secs(30);

/// Where more than this share is lost, more is sent than is carried, until less is sent and the losses stay: ways that lose so much by themselves
/// are rare, and pictures are no good there.
const HEAVY: f64 = 0.25;

/// If this share of what is sent arrives, more or less all of it does: it swings.
const ARRIVING: f64 = 0.95;

/// Losses that come later, in µs, after queues grew have nothing to do with that.
const UNRELATED: i64 = 1_000_000;

/// The estimator of one transport.
#[derive(Debug)]
pub struct BandwidthEstimator {
    epoch: Instant,
    history: History,
    /// The last reference time, unwrapped.
    reference: Option<i64>,
    gradient: Gradient,
    acknowledged: Acknowledged,
    rate: Rate,
    loss_share: LossShare,
    heard: Option<Instant>,
    prober: Prober,
    reported: Reported,
}

impl BandwidthEstimator {
    /// Nothing sent yet. Takes no memory worth mentioning until something is.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            history: History::default(),
            reference: None,
            gradient: Gradient::default(),
            acknowledged: Acknowledged::default(),
            rate: Rate::default(),
            loss_share: LossShare::default(),
            heard: None,
            prober: Prober::default(),
            reported: Reported::default(),
        }
    }

    /// A packet of so many bytes goes out with that transport-wide number.
    pub fn sent(&mut self, now: Instant, sequence: u16, bytes: usize) {
        let probe = self.prober.sent(now, sequence, bytes);
        let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
        self.history.sent(self.micros(now), sequence, bytes, probe);
    }

    /// A packet without a transport-wide number goes out.
    pub fn sent_unnumbered(&mut self, now: Instant, bytes: usize) {
        self.reported.sent(self.micros(now), bytes);
    }

    /// The client says that it can take so much, in bit/s. Of no account where it reports on each packet.
    pub fn can_take(&mut self, now: Instant, bitrate: u64) {
        self.reported.can_take(self.micros(now), bitrate as f64);
    }

    /// Since the last report on a stream that share of it was lost. Of no account where each packet is reported on.
    pub fn lost(&mut self, now: Instant, share: f64) {
        self.reported.lost(self.micros(now), share);
    }

    /// Feedback came: what follows the SSRCs of the RTCP packet. What is malformed or of unknown packets changes nothing. `lost_one` is told
    /// of each packet that has not arrived, once.
    pub fn feedback(&mut self, now: Instant, bytes: &[u8], mut lost_one: impl FnMut(u16)) {
        let Some(feedback) = Feedback::parse(bytes) else { return };
        let now_micros = self.micros(now);
        // Nothing is believed of feedback that knows none of the packets.
        let known = |(sequence, _): (u16, _)| {
            let packet = self.history.get(now_micros, sequence);
            packet.is_some_and(|packet| matches!(packet.status, Status::Sent | Status::Lost))
        };
        if !feedback.statuses().any(known) {
            return;
        }
        let reference = self.unwrap_reference(feedback.reference) * REFERENCE;
        let (mut lost, mut reported, mut found) = (0, 0, 0);
        let mut usage = None;
        let mut newest = None;
        for (sequence, arrival) in feedback.statuses() {
            let Some(packet) = self.history.get(now_micros, sequence) else { continue };
            let before = packet.status;
            let arrival = arrival.map(|arrival| reference + arrival);
            let counts = u32::from(!packet.probe);
            match (before, arrival) {
                (Status::Received, _) | (Status::Lost, None) => continue,
                (Status::Sent, None) => {
                    self.history.mark(sequence, Status::Lost);
                    lost_one(sequence);
                    (lost, reported) = (lost + counts, reported + counts);
                }
                (Status::Sent, Some(_)) => reported += counts,
                // It was late only.
                (Status::Lost, Some(_)) => found += counts,
            }
            if before == Status::Sent
                && packet.probe
                && let Some(carried) = self.prober.reported(now, sequence, packet.bytes, packet.sent, arrival)
            {
                self.rate.carried(now_micros, self.acknowledged.rate(), carried);
            }
            let Some(arrival) = arrival else { continue };
            self.history.mark(sequence, Status::Received);
            self.acknowledged.add(arrival, packet.bytes);
            newest = Some(packet.sent);
            if before == Status::Sent && !packet.probe {
                let said = self.gradient.packet(packet.sent, arrival);
                usage = if usage == Some(Usage::Over) { usage } else { Some(said) };
            }
        }
        self.rate.losses(lost, reported, found);
        if self.is_full(now) {
            self.loss_share = LossShare::default();
        } else {
            self.loss_share.add(now_micros, lost, reported, found);
        }
        let Some(newest) = newest else { return };
        self.heard = Some(now);
        if let (Some(usage), Some(acknowledged)) = (usage, self.acknowledged.rate()) {
            self.rate.update(now_micros, usage, acknowledged, now_micros - newest);
        }
    }

    /// More is to be sent than is known to be carried: `next` bit/s for the next step, `all` in the end. It is found out by padding,
    /// if [`Self::padding`] is asked for and sent.
    pub fn want(&mut self, now: Instant, next: u64, all: u64) {
        self.prober.want(now, next, all, self.estimate(now));
    }

    /// Nothing more is to be sent.
    pub fn want_no_more(&mut self) {
        self.prober.stop();
    }

    /// How many bytes of padding are to be sent now.
    pub fn padding(&mut self, now: Instant) -> usize {
        self.prober.due(now)
    }

    /// What is tried just now, in bit/s.
    #[must_use]
    pub fn probed(&self) -> Option<u64> {
        self.prober.target()
    }

    /// When padding is to be sent.
    #[must_use]
    pub fn next_padding(&self, now: Instant) -> Option<Instant> {
        self.prober.next_timeout(now)
    }

    /// bit/s; `None` if there was no feedback, too little, or none lately.
    #[must_use]
    pub fn estimate(&self, now: Instant) -> Option<u64> {
        let rate = match self.heard {
            Some(heard) => self.rate.get().filter(|_| now < heard + STALE),
            None => {
                let stale = i64::try_from(STALE.as_micros()).unwrap_or(i64::MAX);
                self.reported.heard.filter(|heard| self.micros(now) - heard < stale)?;
                self.reported.get()
            }
        };
        rate.map(|rate| rate as u64)
    }

    /// The share of packets that was lost lately, 0 to 1; `None` if too little was reported since the way was full.
    #[must_use]
    pub fn loss_share(&self, now: Instant) -> Option<f64> {
        self.loss_share.get(self.micros(now))
    }

    /// Whether queues grew so lately that what is lost found no room in them.
    #[must_use]
    pub fn is_full(&self, now: Instant) -> bool {
        self.rate.overused().is_some_and(|at| self.micros(now) - at < FULL)
    }

    /// Whether it is certain that so much, in bit/s, which is sent, is more than the way carries: queues grow and less arrives, or losses are
    /// heavy. Where as much arrives as is sent, delays come from elsewhere, such as busy machines. Nothing is certain of clients that do not
    /// report on each packet.
    #[must_use]
    pub fn is_too_narrow(&self, now: Instant, bitrate: u64) -> bool {
        if self.heard.is_none() {
            return false;
        }
        let is_less = |rate: Option<f64>, share: f64| rate.is_some_and(|rate| rate < share * bitrate as f64);
        let queues = || {
            let arrives_less = is_less(self.acknowledged.rate(), ARRIVING);
            self.is_full(now) && arrives_less && is_less(self.rate.by_delay(), 1.0)
        };
        let losses = || self.loss_share(now).is_some_and(|share| share > HEAVY);
        self.estimate(now).is_some_and(|estimate| estimate < bitrate) && (queues() || losses())
    }

    /// Whether the way was ever found too narrow for what was sent. Until then the estimate says how much was sent, and little more.
    #[must_use]
    pub fn has_fallen(&self) -> bool {
        self.fell().is_some()
    }

    /// Whether it was found too narrow in that time. If not, what is sent beyond the estimate is no sign of anything.
    #[must_use]
    pub fn fell_within(&self, now: Instant, time: Duration) -> bool {
        let since = self.fell().map(|at| self.micros(now) - at);
        since.is_some_and(|since| since < i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
    }

    /// Whether packets are lost of late, more than this share, on a way that is not full as far as is known.
    #[must_use]
    pub fn loses(&self, now: Instant, share: f64) -> bool {
        let queued = self.rate.queued().is_some_and(|at| self.micros(now) - at < UNRELATED);
        self.rate.share_lost() > share && !queued
    }

    fn fell(&self) -> Option<i64> {
        if self.heard.is_some() { self.rate.fell() } else { self.reported.fell }
    }

    fn micros(&self, at: Instant) -> i64 {
        i64::try_from(at.saturating_duration_since(self.epoch).as_micros()).unwrap_or(i64::MAX)
    }

    /// The 24-bit reference time wraps every twelve days.
    fn unwrap_reference(&mut self, reference: u32) -> i64 {
        let reference = i64::from(reference);
        let last = self.reference.unwrap_or(reference);
        let ahead = (reference - last).rem_euclid(1 << 24);
        let ahead = if ahead < 1 << 23 { ahead } else { ahead - (1 << 24) };
        let unwrapped = if ahead.abs() <= LEAP {
            last + ahead
        } else {
            (self.gradient, self.acknowledged, self.rate) = Default::default();
            reference
        };
        self.reference = Some(unwrapped);
        unwrapped
    }
}
