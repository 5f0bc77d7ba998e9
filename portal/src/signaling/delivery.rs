//! What is known of a client having got what it was told. A notification is handed to a socket and nothing comes back, so it counts as
//! delivered when the socket shows a sign of life after it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{PING_INTERVAL, PING_TIMEOUT};

/// A sign of life says nothing of notifications younger than this: they may be on their way still. About a slow round trip.
const CROSSING: Duration = Duration::from_millis(250);
/// A socket that is still open has answered a ping sent after all notifications older than this.
const PROVEN: Duration = PING_INTERVAL.saturating_add(PING_TIMEOUT);
/// Notifications so close to each other are known of together: at most some ninety times are kept.
const TOGETHER: Duration = Duration::from_millis(500);

/// The state of one client's notifications.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    handed: VecDeque<Handed>,
    delivered: u64,
    acknowledged: Option<u64>,
}

#[derive(Debug)]
struct Handed {
    first: Instant,
    last: Instant,
    /// Of the last.
    seq: u64,
}

impl Delivery {
    /// A notification was handed to the socket.
    pub(super) fn handed(&mut self, seq: u64, now: Instant) {
        if seq == 0 {
            return;
        }
        self.settle(now, PROVEN);
        match self.handed.back_mut() {
            Some(batch) if now < batch.first + TOGETHER => (batch.last, batch.seq) = (now, seq),
            _ => self.handed.push_back(Handed { first: now, last: now, seq }),
        }
    }

    /// The client has sent something.
    pub(super) fn sign_of_life(&mut self, now: Instant) {
        self.settle(now, CROSSING);
    }

    /// The last notification that is known to be delivered, with the socket open at `now`; 0 = none.
    pub(super) fn delivered(&mut self, now: Instant) -> u64 {
        self.settle(now, PROVEN);
        self.delivered
    }

    /// What the room is to be told, if it is news.
    pub(super) fn news(&mut self, now: Instant) -> Option<u64> {
        let delivered = self.delivered(now);
        (self.acknowledged.replace(delivered) != Some(delivered)).then_some(delivered)
    }

    fn settle(&mut self, now: Instant, age: Duration) {
        while self.handed.front().is_some_and(|batch| batch.last + age <= now) {
            self.delivered = self.handed.pop_front().map_or(self.delivered, |batch| batch.seq);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_life_delivers_what_was_handed_before() {
        let (mut delivery, start) = (Delivery::default(), Instant::now());
        delivery.handed(1, start);
        delivery.handed(2, start + Duration::from_secs(1));
        assert_eq!(delivery.delivered(start + Duration::from_secs(1)), 0);
        delivery.sign_of_life(start + Duration::from_millis(1100));
        assert_eq!(
            delivery.delivered(start + Duration::from_millis(1100)),
            1,
            "the second may be on its way"
        );
        delivery.sign_of_life(start + Duration::from_millis(1250));
        assert_eq!(delivery.delivered(start + Duration::from_millis(1250)), 2);
    }

    #[test]
    fn an_open_socket_has_got_what_is_older_than_the_longest_silence() {
        let (mut delivery, start) = (Delivery::default(), Instant::now());
        delivery.handed(1, start);
        assert_eq!(delivery.delivered(start + PROVEN - Duration::from_millis(1)), 0);
        assert_eq!(delivery.delivered(start + PROVEN), 1);
    }

    #[test]
    fn only_news_is_acknowledged() {
        let (mut delivery, start) = (Delivery::default(), Instant::now());
        assert_eq!(delivery.news(start), Some(0), "the client has its place");
        assert_eq!(delivery.news(start), None);
        delivery.handed(0, start);
        delivery.handed(5, start);
        delivery.sign_of_life(start + CROSSING);
        assert_eq!(delivery.news(start + CROSSING), Some(5));
        assert_eq!(delivery.news(start + CROSSING), None);
    }

    #[test]
    fn little_is_kept_however_much_is_told() {
        let (mut delivery, start) = (Delivery::default(), Instant::now());
        for i in 1..100_000_u64 {
            delivery.handed(i, start + Duration::from_millis(i));
        }
        assert!(delivery.handed.len() <= 91, "{}", delivery.handed.len());
        assert!(delivery.delivered >= 100_000 - 46_000);
    }
}
