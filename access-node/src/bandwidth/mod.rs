//! What the way to a client is estimated to carry, from the client's feedback on the packets it was sent
//! (draft-ietf-rmcat-gcc-02, at the sender): delays that grow or losses bring the estimate down to what arrives, and while there are
//! none it grows slowly, up to half as much again as what arrives. So it tells little of a way that is hardly used.
//!
//! ```text
//! sent ──► History ─┐         ┌─► Gradient ───► Usage ─┐
//!                   ├─► each ─┼─► Acknowledged ────────┼─► Rate ──► estimate
//! feedback ─────────┘  packet └─► losses ──────────────┘
//! ```

mod feedback;
mod gradient;
mod rate;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use self::{
    feedback::{Feedback, MAX_STATUSES, REFERENCE},
    gradient::{Gradient, Usage},
    rate::{Acknowledged, Rate},
};

/// Packets that are remembered until they are reported on: four seconds of 5 Mbit/s. Takes 32 kB per client once the first is sent.
const HISTORY: usize = MAX_STATUSES as usize;
/// A leap of the client's clock in units of the reference time, over a minute, after which what was is forgotten.
const LEAP: i64 = 1024;
/// Without any feedback for that long nothing is known of the way any more.
const STALE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Status {
    #[default]
    Unknown,
    Sent,
    Lost,
    Received,
}

#[derive(Clone, Copy, Debug, Default)]
struct Packet {
    /// µs since the epoch.
    sent: i64,
    sequence: u16,
    bytes: u16,
    status: Status,
}

/// The estimator of one transport.
#[derive(Debug)]
pub struct BandwidthEstimator {
    epoch: Instant,
    history: Vec<Packet>,
    /// The last reference time, unwrapped.
    reference: Option<i64>,
    gradient: Gradient,
    acknowledged: Acknowledged,
    rate: Rate,
    heard: Option<Instant>,
}

impl BandwidthEstimator {
    /// Nothing sent yet. Takes no memory worth mentioning until something is.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            history: Vec::new(),
            reference: None,
            gradient: Gradient::default(),
            acknowledged: Acknowledged::default(),
            rate: Rate::default(),
            heard: None,
        }
    }

    /// A packet of so many bytes goes out with that transport-wide number.
    pub fn sent(&mut self, now: Instant, sequence: u16, bytes: usize) {
        if self.history.is_empty() {
            self.history = vec![Packet::default(); HISTORY];
        }
        let sent = self.micros(now);
        let bytes = u16::try_from(bytes).unwrap_or(u16::MAX);
        self.history[usize::from(sequence) % HISTORY] =
            Packet { sent, sequence, bytes, status: Status::Sent };
    }

    /// Feedback came: what follows the SSRCs of the RTCP packet. What is malformed or of unknown packets changes nothing.
    pub fn feedback(&mut self, now: Instant, bytes: &[u8]) {
        if self.history.is_empty() {
            return;
        }
        let Some(feedback) = Feedback::parse(bytes) else { return };
        // Nothing is believed of feedback that knows none of the packets.
        let known = |(sequence, _): (u16, _)| {
            let packet = &self.history[usize::from(sequence) % HISTORY];
            packet.sequence == sequence && matches!(packet.status, Status::Sent | Status::Lost)
        };
        if !feedback.statuses().any(known) {
            return;
        }
        let reference = self.unwrap_reference(feedback.reference) * REFERENCE;
        let now_micros = self.micros(now);
        let (mut lost, mut reported, mut found) = (0, 0, 0);
        let mut usage = None;
        let mut newest = None;
        for (sequence, arrival) in feedback.statuses() {
            let packet = &mut self.history[usize::from(sequence) % HISTORY];
            if packet.sequence != sequence {
                continue;
            }
            let before = packet.status;
            match (before, arrival) {
                (Status::Unknown | Status::Received, _) | (Status::Lost, None) => continue,
                (Status::Sent, None) => {
                    packet.status = Status::Lost;
                    (lost, reported) = (lost + 1, reported + 1);
                    continue;
                }
                (Status::Sent, Some(_)) => reported += 1,
                // It was late only.
                (Status::Lost, Some(_)) => found += 1,
            }
            packet.status = Status::Received;
            let arrival = reference + arrival.unwrap_or_default();
            self.acknowledged.add(arrival, packet.bytes);
            newest = Some(packet.sent);
            if before == Status::Sent {
                let said = self.gradient.packet(packet.sent, arrival);
                usage = if usage == Some(Usage::Over) { usage } else { Some(said) };
            }
        }
        self.rate.losses(lost, reported, found);
        let Some(newest) = newest else { return };
        self.heard = Some(now);
        if let (Some(usage), Some(acknowledged)) = (usage, self.acknowledged.rate()) {
            self.rate.update(now_micros, usage, acknowledged, now_micros - newest);
        }
    }

    /// bit/s; `None` if there was no feedback, too little, or none lately.
    #[must_use]
    pub fn estimate(&self, now: Instant) -> Option<u64> {
        self.heard.filter(|heard| now < *heard + STALE)?;
        self.rate.get().map(|rate| rate as u64)
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
