//! Pacing: what leaves to a client at once is not much more than what its way carries at once, so that a key frame of several times the
//! usual size stands in a queue here, where sound passes it, and not in the way's.
//!
//! Nobody is paced whose way was never found too narrow, and of the others only what is more than a frame of the usual size: everything
//! else leaves as it comes.

mod fifo;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use self::fifo::Fifo;

/// Media leave at that many times the estimate. The more, the longer the queue that a large frame makes in the way: this share of its
/// size less one. The less, the later frames are whole where the estimate is behind what the way carries.
const FACTOR: f64 = 1.8;
/// What leaves in that time at the paced rate leaves at once: a frame and a half of a stream of 30 a second that fills the estimate.
const BURST: Duration = Duration::from_millis(25);
/// Once something waits, so much leaves together: fewer wake-ups and system calls.
const TICK: Duration = Duration::from_millis(5);
/// Nothing waits longer. A stream that is larger than what its way carries, and has no smaller layer, is delayed by that, and then leaves
/// as it comes.
const MAX_WAIT: Duration = Duration::from_millis(250);
/// Most that is owed for what left unasked, such as sound.
const MAX_DEBT: Duration = Duration::from_millis(100);
/// Most bytes that wait for one client: what comes in [`MAX_WAIT`] at 33 Mbit/s. More is lost.
const MAX_BYTES: usize = 1 << 20;

/// What a packet is, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Never waits.
    Sound,
    /// Video that was lost: goes before what comes after it.
    Again,
    /// Video.
    Picture,
    /// Nothing, of a probe: is made only where nothing waits.
    Padding,
}

/// Paces what leaves to one client.
#[derive(Debug, Default)]
pub struct Pacer {
    /// bit/s; `None` = everything leaves as it comes.
    rate: Option<f64>,
    /// bit/s that are tried just now.
    probe: Option<f64>,
    /// When as much as has left would have left at the rate.
    clear_at: Option<Instant>,
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    again: Fifo,
    pictures: Fifo,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.again.bytes() + self.pictures.bytes()
    }

    fn is_empty(&self) -> bool {
        self.again.is_empty() && self.pictures.is_empty()
    }

    fn oldest(&self) -> Option<Instant> {
        [self.again.oldest(), self.pictures.oldest()].into_iter().flatten().min()
    }
}

impl Pacer {
    /// The way carries about so much, in bit/s; `None` = nothing says that it is narrow. What waits then is due at once.
    pub fn carries(&mut self, estimate: Option<u64>) {
        self.rate = estimate.map(|estimate| (estimate.max(1) as f64) * FACTOR);
        if self.rate.is_none() {
            self.clear_at = None;
        }
    }

    /// More is tried for a moment, in bit/s: what waits may be what is tried.
    pub fn probes(&mut self, target: Option<u64>) {
        self.probe = target.map(|target| target as f64);
    }

    /// Whether anything waits.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.is_empty())
    }

    /// Whether a packet leaves now. If not it is kept, with the place of its transport-wide number, until [`Self::pop`] gives it; it is lost
    /// if too much waits.
    pub fn leaves(
        &mut self,
        now: Instant,
        class: Class,
        packet: &[u8],
        transport_cc_at: Option<usize>,
    ) -> bool {
        if self.rate.is_none() && self.waiting.is_none() {
            return true;
        }
        let goes = match (class, &self.waiting) {
            (Class::Sound | Class::Padding, _) => true,
            (Class::Again, Some(waiting)) if !waiting.again.is_empty() => false,
            (Class::Picture, Some(waiting)) if !waiting.is_empty() => false,
            (Class::Again | Class::Picture, _) => self.has_room(now),
        };
        if goes {
            self.left(now, packet.len());
            return true;
        }
        let waiting = self.waiting.get_or_insert_default();
        if waiting.bytes() + packet.len() <= MAX_BYTES {
            let queue = if class == Class::Again { &mut waiting.again } else { &mut waiting.pictures };
            queue.push(now, packet, transport_cc_at);
        }
        false
    }

    /// Takes the next packet that is due into an emptied buffer; gives the place of its transport-wide number.
    pub fn pop(&mut self, now: Instant, packet: &mut Vec<u8>) -> Option<Option<usize>> {
        let has_room = self.has_room(now);
        let waiting = self.waiting.as_deref_mut()?;
        let is_overdue = |queue: &Fifo| queue.oldest().is_some_and(|at| now >= at + MAX_WAIT);
        let queue = match (has_room, is_overdue(&waiting.again), is_overdue(&waiting.pictures)) {
            (true, _, true) | (false, false, true) if !is_overdue(&waiting.again) => &mut waiting.pictures,
            (false, false, false) => return None,
            _ if waiting.again.is_empty() => &mut waiting.pictures,
            _ => &mut waiting.again,
        };
        let place = queue.pop(packet)?;
        self.left(now, packet.len());
        if self.rate.is_none() && !self.is_waiting() {
            self.waiting = None;
        }
        Some(place)
    }

    /// When [`Self::pop`] has something again.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let oldest = self.waiting.as_ref()?.oldest()?;
        match (self.rate, self.clear_at) {
            (Some(_), Some(clear_at)) => Some((oldest + MAX_WAIT).min(clear_at - (BURST - TICK))),
            _ => Some(oldest),
        }
    }

    /// bit/s: fast enough that nothing waits too long.
    fn rate(&self) -> Option<f64> {
        let waiting = self.waiting.as_ref().map_or(0, |waiting| waiting.bytes());
        let needed = 8.0 * waiting as f64 / MAX_WAIT.as_secs_f64();
        Some(self.rate?.max(needed).max(self.probe.unwrap_or_default()))
    }

    fn has_room(&self, now: Instant) -> bool {
        self.rate.is_none() || self.clear_at.is_none_or(|at| at <= now + BURST)
    }

    fn left(&mut self, now: Instant, bytes: usize) {
        let Some(rate) = self.rate() else { return };
        let time = Duration::from_secs_f64(8.0 * bytes as f64 / rate);
        let clear_at = self.clear_at.map_or(now, |at| at.max(now)) + time;
        self.clear_at = Some(clear_at.min(now + MAX_DEBT));
    }
}
