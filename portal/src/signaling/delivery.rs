//! What is known of a client having got what it was told. Receipts say it exactly, within a round trip. Of a client that gives none, a
//! notification counts as delivered when the socket shows a sign of life after it.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A sign of life says nothing of notifications younger than this: they may be on their way still. About a slow round trip.
const CROSSING: Duration = Duration::from_millis(250);
/// Notifications that are looked at one by one, at most; with more, the latest count as one. As many as a room keeps.
const MAX_HANDED: usize = 1024;

/// The state of one client's notifications.
#[derive(Debug)]
pub(super) struct Delivery {
    /// A socket that is still open has answered a ping sent after all notifications older than this; `None` if its pings say nothing
    /// of notifications.
    proven: Option<Duration>,
    /// Whether receipts are to be expected.
    receipts: bool,
    handed: VecDeque<Handed>,
    delivered: u64,
    acknowledged: Option<u64>,
}

#[derive(Debug)]
struct Handed {
    at: Instant,
    seq: u64,
    /// How many notifications the socket was handed by then.
    count: u64,
}

impl Delivery {
    /// Of a socket with or without `receipts`, which has answered a ping behind all that is older than `proven`, as long as it is open.
    pub(super) fn new(proven: Option<Duration>, receipts: bool) -> Self {
        Self { proven, receipts, handed: VecDeque::new(), delivered: 0, acknowledged: None }
    }

    /// A notification was handed to the socket, its `count`th. One without a number (0) need not be told again.
    pub(super) fn handed(&mut self, seq: u64, count: u64, now: Instant) {
        if seq == 0 {
            return;
        }
        self.settle_proven(now);
        let handed = Handed { at: now, seq, count };
        if self.handed.len() >= MAX_HANDED {
            self.handed.pop_back();
        }
        self.handed.push_back(handed);
    }

    /// So many of the socket's notifications have arrived.
    pub(super) fn receipt(&mut self, count: u64) {
        while self.handed.front().is_some_and(|first| first.count <= count) {
            self.receipts = true;
            self.deliver_first();
        }
    }

    /// Whether receipts tell what has arrived; else it is guessed.
    pub(super) fn is_receipted(&self) -> bool {
        self.receipts
    }

    /// The client has sent something.
    pub(super) fn sign_of_life(&mut self, now: Instant) {
        if !self.receipts {
            self.settle(now, CROSSING);
        }
    }

    /// The last notification that is known to be delivered, with the socket open at `now`; 0 = none.
    pub(super) fn delivered(&mut self, now: Instant) -> u64 {
        self.settle_proven(now);
        self.delivered
    }

    /// What the room is to be told, if it is news.
    pub(super) fn news(&mut self, now: Instant) -> Option<u64> {
        let delivered = self.delivered(now);
        (self.acknowledged.replace(delivered) != Some(delivered)).then_some(delivered)
    }

    fn settle_proven(&mut self, now: Instant) {
        if let Some(age) = self.proven {
            self.settle(now, age);
        }
    }

    fn settle(&mut self, now: Instant, age: Duration) {
        while self.handed.front().is_some_and(|first| first.at + age <= now) {
            // A receipt would have come by now.
            self.receipts = false;
            self.deliver_first();
        }
    }

    fn deliver_first(&mut self) {
        self.delivered = self.handed.pop_front().map_or(self.delivered, |first| first.seq);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROVEN: Duration = Duration::from_secs(45);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_receipt_delivers_exactly_what_it_counts() {
        let (mut delivery, start) = (Delivery::new(Some(PROVEN), true), Instant::now());
        for (seq, count) in [(10, 1), (11, 2), (0, 3), (12, 4)] {
            delivery.handed(seq, count, start);
        }
        delivery.receipt(0);
        assert_eq!(delivery.delivered(start), 0);
        delivery.receipt(1);
        assert_eq!(delivery.delivered(start), 10);
        delivery.receipt(3);
        assert_eq!(delivery.delivered(start), 11);
        delivery.receipt(1);
        assert_eq!(delivery.delivered(start), 11, "an old one says nothing new");
        delivery.receipt(4);
        assert_eq!(delivery.delivered(start), 12);
    }

    #[test]
    fn a_sign_of_life_says_nothing_where_receipts_do() {
        let (mut delivery, start) = (Delivery::new(Some(PROVEN), true), Instant::now());
        delivery.handed(1, 1, start);
        delivery.sign_of_life(start + ms(10_000));
        assert_eq!(delivery.delivered(start + ms(10_000)), 0);
    }

    #[test]
    fn a_client_that_never_gives_receipts_is_judged_by_its_signs_of_life() {
        let (mut delivery, start) = (Delivery::new(Some(PROVEN), true), Instant::now());
        delivery.handed(1, 1, start);
        assert_eq!(delivery.delivered(start + PROVEN), 1, "the socket is open still");
        let later = start + PROVEN;
        delivery.handed(2, 2, later);
        delivery.sign_of_life(later + CROSSING);
        assert_eq!(delivery.delivered(later + CROSSING), 2);
        delivery.handed(3, 3, later + CROSSING);
        delivery.receipt(3);
        delivery.handed(4, 4, later + CROSSING);
        delivery.sign_of_life(later + CROSSING * 2);
        assert_eq!(delivery.delivered(later + CROSSING * 2), 3, "it gives them after all");
    }

    #[test]
    fn an_open_socket_says_nothing_where_the_client_pings() {
        let (mut delivery, start) = (Delivery::new(None, true), Instant::now());
        delivery.handed(1, 1, start);
        assert_eq!(delivery.delivered(start + PROVEN * 10), 0);
        delivery.receipt(1);
        assert_eq!(delivery.delivered(start + PROVEN * 10), 1);
    }

    #[test]
    fn without_receipts_a_sign_of_life_delivers_what_was_handed_before() {
        let (mut delivery, start) = (Delivery::new(Some(PROVEN), false), Instant::now());
        delivery.handed(1, 1, start);
        delivery.handed(2, 2, start + ms(1000));
        assert_eq!(delivery.delivered(start + ms(1000)), 0);
        delivery.sign_of_life(start + ms(1100));
        assert_eq!(delivery.delivered(start + ms(1100)), 1, "the second may be on its way");
        delivery.sign_of_life(start + ms(1250));
        assert_eq!(delivery.delivered(start + ms(1250)), 2);
    }

    #[test]
    fn only_news_is_acknowledged() {
        let (mut delivery, start) = (Delivery::new(Some(PROVEN), true), Instant::now());
        assert_eq!(delivery.news(start), Some(0), "the client has its place");
        assert_eq!(delivery.news(start), None);
        delivery.handed(5, 1, start);
        delivery.receipt(1);
        assert_eq!(delivery.news(start), Some(5));
        assert_eq!(delivery.news(start), None);
    }

    #[test]
    fn little_is_kept_however_much_is_told() {
        let (mut delivery, start) = (Delivery::new(Some(PROVEN), true), Instant::now());
        for i in 1..10_000 {
            delivery.handed(i, i, start);
        }
        assert_eq!(delivery.handed.len(), MAX_HANDED);
        delivery.receipt(9_998);
        assert_eq!(delivery.delivered(start), MAX_HANDED as u64 - 1, "the latest count as one");
        delivery.receipt(9_999);
        assert_eq!(delivery.delivered(start), 9_999);
    }
}
