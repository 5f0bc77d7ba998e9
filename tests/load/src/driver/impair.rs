//! A bad way to a peer: what is lost and delayed on it, by chance that is the same each time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Datagrams that are on their way at a time; more are lost, as in a router.
const MAX_WAITING: usize = 4096;

/// Loss and delay of one direction.
#[derive(Debug)]
pub struct Impairment {
    /// Of 65,536.
    loss: u32,
    delay: Duration,
    state: u64,
    waiting: VecDeque<(Instant, Instant, Vec<u8>)>,
}

impl Impairment {
    /// `loss` is a share of 1.
    #[must_use]
    pub fn new(loss: f64, delay: Duration, seed: u64) -> Self {
        let loss = (loss.clamp(0.0, 1.0) * 65_536.0) as u32;
        // Never zero, which would stay zero.
        Self {
            loss,
            delay,
            state: seed.wrapping_mul(2).wrapping_add(0x9e37_79b9_7f4a_7c15) | 1,
            waiting: VecDeque::new(),
        }
    }

    /// A datagram enters. Returns whether it comes out at once; otherwise it is lost or comes out later.
    pub fn enter(&mut self, now: Instant, at: Instant, datagram: &[u8]) -> bool {
        if self.random() < self.loss {
            return false;
        }
        if self.delay.is_zero() {
            return true;
        }
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back((now + self.delay, at + self.delay, datagram.to_vec()));
        }
        false
    }

    /// When the next one comes out.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.waiting.front().map(|(due, ..)| *due)
    }

    /// The next that has come out, and when it did.
    pub fn leave(&mut self, now: Instant) -> Option<(Instant, Vec<u8>)> {
        self.waiting.pop_front_if(|(due, ..)| *due <= now).map(|(_, at, datagram)| (at, datagram))
    }

    /// Xorshift (Marsaglia 2003): 16 bits.
    fn random(&mut self) -> u32 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 48) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_are_lost_and_always_the_same() {
        let now = Instant::now();
        let run = |seed| {
            let mut way = Impairment::new(0.1, Duration::ZERO, seed);
            (0..10_000).map(|_| way.enter(now, now, &[])).collect::<Vec<_>>()
        };
        let came = run(1).iter().filter(|came| **came).count();
        assert!((8_800..9_200).contains(&came), "{came}");
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn delayed_ones_come_in_order_after_their_time() {
        let (start, delay) = (Instant::now(), Duration::from_millis(50));
        let mut way = Impairment::new(0.0, delay, 1);
        assert!(!way.enter(start, start, &[1]));
        assert!(!way.enter(start, start, &[2]));
        assert_eq!(way.next_timeout(), Some(start + delay));
        assert_eq!(way.leave(start), None);
        assert_eq!(way.leave(start + delay), Some((start + delay, vec![1])));
        assert_eq!(way.leave(start + delay), Some((start + delay, vec![2])));
        assert_eq!(way.leave(start + delay), None);
    }
}
