//! The estimator before a bottleneck, on virtual time.

use std::collections::VecDeque;

use super::*;
use crate::forward::TransportCcReceiver;

const PACKET: usize = 1200;

/// A link with a queue that drops at its end, a delay both ways, and a client that reports what arrives every 100 ms.
struct Link {
    now: Instant,
    /// bit/s
    capacity: f64,
    /// When the last packet in the queue will have been sent.
    free_at: Instant,
    /// Longest wait in the queue.
    queue: Duration,
    delay: Duration,
    /// Share of packets that are lost for no reason.
    loss: f64,
    arriving: VecDeque<(Instant, u16)>,
    reports: VecDeque<(Instant, Vec<u8>)>,
    client: TransportCcReceiver,
    estimator: BandwidthEstimator,
    sequence: u16,
    state: u32,
}

impl Link {
    fn new(capacity: f64) -> Self {
        let now = Instant::now();
        Self {
            now,
            capacity,
            free_at: now,
            queue: Duration::from_millis(300),
            delay: Duration::from_millis(25),
            loss: 0.0,
            arriving: VecDeque::new(),
            reports: VecDeque::new(),
            client: TransportCcReceiver::new(now - Duration::from_secs(3600)),
            estimator: BandwidthEstimator::new(now),
            sequence: 65_000,
            state: 1,
        }
    }

    fn send(&mut self) {
        self.estimator.sent(self.now, self.sequence, PACKET);
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let lost = f64::from(self.state >> 16) / 65_536.0 < self.loss;
        let begins = self.free_at.max(self.now);
        if !lost && begins - self.now < self.queue {
            self.free_at = begins + Duration::from_secs_f64(8.0 * PACKET as f64 / self.capacity);
            self.arriving.push_back((self.free_at + self.delay, self.sequence));
        }
        self.sequence = self.sequence.wrapping_add(1);
    }

    /// Lets a millisecond pass.
    fn tick(&mut self) {
        self.now += Duration::from_millis(1);
        while let Some((at, sequence)) = self.arriving.front().copied().filter(|(at, _)| *at <= self.now) {
            self.client.receive(at, sequence);
            self.arriving.pop_front();
        }
        if self.client.next_timeout().is_some_and(|at| at <= self.now) {
            while let Some(report) = self.client.feedback(1, 2) {
                self.reports.push_back((self.now + self.delay, report));
            }
        }
        while let Some((_, report)) = self.reports.front().filter(|(at, _)| *at <= self.now) {
            self.estimator.feedback(self.now, &report[12..], |_| {});
            self.reports.pop_front();
        }
    }

    /// Sends frames, 30 a second, at the rate that `wanted` says, for so many seconds; the means of the estimates of the last ten.
    fn run(&mut self, seconds: u64, wanted: impl Fn(Option<u64>) -> f64) -> f64 {
        let (mut credit, mut sum, mut count) = (0.0, 0.0, 0.0);
        for ms in 0..1000 * seconds {
            self.tick();
            let estimate = self.estimator.estimate(self.now);
            if ms % 33 == 0 {
                credit += wanted(estimate) * 0.033 / 8.0;
                while credit >= PACKET as f64 {
                    credit -= PACKET as f64;
                    self.send();
                }
            }
            if ms >= 1000 * seconds.saturating_sub(10) {
                sum += estimate.unwrap_or_default() as f64;
                count += 1.0;
            }
        }
        sum / count
    }
}

/// A sender that keeps to the estimate.
fn obedient(estimate: Option<u64>) -> f64 {
    estimate.map_or(300_000.0, |estimate| (estimate as f64).min(5e6))
}

/// That share of the capacity is what the estimate must come to: never much more, and not less than what a decrease leaves.
fn lands(estimate: f64, capacity: f64) -> bool {
    (0.7 * capacity..1.05 * capacity).contains(&estimate)
}

#[test]
fn the_estimate_follows_the_capacity_down_and_up() {
    let mut link = Link::new(3e6);
    for (capacity, seconds) in [(3e6, 60), (800e3, 30), (2e6, 60)] {
        link.capacity = capacity;
        let estimate = link.run(seconds, obedient);
        assert!(lands(estimate, capacity), "{estimate} of {capacity}");
    }
}

#[test]
fn a_drop_of_the_capacity_is_noticed_within_two_seconds() {
    let mut link = Link::new(3e6);
    link.run(60, obedient);
    link.capacity = 800e3;
    link.run(2, obedient);
    let estimate = link.estimator.estimate(link.now).unwrap();
    assert!(estimate < 900_000, "{estimate}");
}

#[test]
fn a_stream_that_is_too_large_and_does_not_give_way_is_told_what_arrives() {
    for (capacity, queue_ms) in [(800e3, 100), (800e3, 300), (800e3, 2_000), (1.5e6, 50)] {
        let mut link = Link::new(capacity);
        link.queue = Duration::from_millis(queue_ms);
        let estimate = link.run(40, |_| 2e6);
        assert!(lands(estimate, capacity), "{estimate} of {capacity}, queue of {queue_ms} ms");
    }
}

#[test]
fn what_is_hardly_used_is_known_a_little_further() {
    let mut link = Link::new(10e6);
    let estimate = link.run(30, |_| 500e3);
    assert!((500e3..850e3).contains(&estimate), "{estimate}");
}

#[test]
fn a_few_losses_do_not_matter_and_many_do() {
    let mut link = Link::new(10e6);
    link.loss = 0.01;
    let few = link.run(30, |_| 1e6);
    assert!(few > 1e6, "{few}");
    link.loss = 0.3;
    let many = link.run(20, |_| 1e6);
    assert!(many < 0.75e6, "{many}");
}

#[test]
fn there_is_no_estimate_without_feedback() {
    let mut link = Link::new(3e6);
    assert_eq!(link.estimator.estimate(link.now), None);
    for _ in 0..1000 {
        link.now += Duration::from_millis(1);
        link.send();
    }
    assert_eq!(link.estimator.estimate(link.now), None, "nobody has said anything");
    link.run(5, obedient);
    assert!(link.estimator.estimate(link.now).is_some());
    assert_eq!(link.estimator.estimate(link.now + STALE), None, "what was true then need not be now");
}

#[test]
fn feedback_on_what_was_never_sent_changes_nothing() {
    let mut link = Link::new(3e6);
    link.run(10, obedient);
    let before = link.estimator.estimate(link.now);
    let mut receiver = TransportCcReceiver::new(link.now);
    for sequence in 0..300 {
        receiver.receive(link.now, link.sequence.wrapping_add(1000 + sequence));
    }
    let report = receiver.feedback(1, 2).unwrap();
    for length in 12..report.len() {
        link.estimator.feedback(link.now, &report[12..length], |_| {});
    }
    assert_eq!(link.estimator.estimate(link.now), before);
    let mut state = 9u32;
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..24)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        link.estimator.feedback(link.now, &bytes, |_| {});
    }
    assert!(link.estimator.estimate(link.now).is_none_or(|rate| rate < 1 << 40));
}

#[test]
fn the_clients_clock_may_wrap_and_leap() {
    let mut estimator = BandwidthEstimator::new(Instant::now());
    let unwrapped = [0xff_fff0, 0x10, 0xff_fffe, 0x20].map(|reference| estimator.unwrap_reference(reference));
    assert_eq!(unwrapped, [0xff_fff0, 0x100_0010, 0xff_fffe, 0x100_0020]);
    assert_eq!(estimator.unwrap_reference(0x5000), 0x5000, "it was set");

    let mut link = Link::new(3e6);
    link.run(10, obedient);
    link.client = TransportCcReceiver::new(link.now - Duration::from_secs(60));
    link.run(1, |_| 500e3);
    let estimate = link.estimator.estimate(link.now).unwrap();
    assert!((300_000..900_000).contains(&estimate), "it begins anew: {estimate}");
}
