//! From what the delays and losses say to a rate.

use super::{
    gradient::Usage,
    losses::{Losses, Verdict},
    probe::Carried,
};

/// Buckets of the acknowledged rate, and their length in µs: half a second.
const BUCKETS: i64 = 10;
/// See [`BUCKETS`].
const BUCKET: i64 = 50_000;
/// A heap is so many times as much as comes in one bucket.
const HEAP: u64 = 3;
/// Share of the acknowledged rate that is taken when queues grow (draft-ietf-rmcat-gcc-02 §5.5).
const DECREASE: f64 = 0.85;
/// A decrease leaves at least this share: a stand-still of the way looks like a way that carries nothing. Where it does carry so little,
/// the next decrease follows within two round trips.
const FALL: f64 = 0.5;
/// Longest wait, in µs, for a decrease to show before the next. Where a queue stands for longer what arrives is what the way carries, and
/// more decreases lead to no less.
const SHOWS: i64 = 200_000;
/// Growth per second far from the way's limit.
const GROWTH: f64 = 1.08;
/// No more than this times what arrives can be known of the way, and a little, in bit/s, for those who send almost nothing.
const AHEAD: (f64, f64) = (1.5, 10_000.0);
/// Least growth per second near the limit, in bit/s.
const LEAST_GROWTH: f64 = 4_000.0;
/// Size of a packet in bits, by which the rate grows once per response time near the limit.
const PACKET: f64 = 8.0 * 1200.0;
/// After a decrease nothing is believed of what is found beyond it for that long, in µs.
const SETTLING: i64 = 1_000_000;
/// Smallest rate, in bit/s: about one voice.
const LEAST: f64 = 10_000.0;

/// The rate at which packets arrive.
#[derive(Debug, Default)]
pub(super) struct Acknowledged {
    /// Bits by bucket, in a ring.
    buckets: [u64; BUCKETS as usize + 1],
    first: Option<i64>,
    newest: i64,
    /// The last arrival in µs.
    last: i64,
}

impl Acknowledged {
    /// So many bytes arrived then, in µs.
    pub(super) fn add(&mut self, arrival: i64, bytes: u16) {
        let bucket = arrival.div_euclid(BUCKET);
        if self.first.is_none() {
            (self.first, self.newest) = (Some(bucket), bucket);
        }
        if bucket + BUCKETS < self.newest {
            return;
        }
        for passed in self.newest.max(bucket - BUCKETS - 1)..bucket {
            self.buckets[at(passed + 1)] = 0;
        }
        self.newest = self.newest.max(bucket);
        self.last = self.last.max(arrival);
        self.buckets[at(bucket)] += 8 * u64::from(bytes);
    }

    /// bit/s over the last half second that is over; `None` until there is one. What has come in a heap just now counts, too: after a
    /// stand-still it is what should have come meanwhile.
    pub(super) fn rate(&self) -> Option<f64> {
        self.first.filter(|first| self.newest - first > BUCKETS)?;
        let newest = self.buckets[at(self.newest)];
        let all: u64 = self.buckets.iter().sum();
        let over = (all - newest) as f64 * 1e6 / (BUCKETS * BUCKET) as f64;
        if newest * self.buckets.len() as u64 <= HEAP * all {
            return Some(over);
        }
        Some(all as f64 * 1e6 / (self.last - (self.newest - BUCKETS) * BUCKET).max(1) as f64)
    }
}

fn at(bucket: i64) -> usize {
    bucket.rem_euclid(BUCKETS + 1) as usize
}

/// The rates at which queues began to grow: the way's limit is about there.
#[derive(Clone, Copy, Debug)]
struct Limit {
    mean: f64,
    /// Variance over mean.
    spread: f64,
}

impl Limit {
    fn learn(known: Option<Self>, rate: f64) -> Self {
        let Some(Self { mean, spread }) = known else { return Self { mean: rate, spread: 400.0 } };
        let distance = rate - mean;
        let spread = 0.95 * spread + 0.05 * distance * distance / mean.max(1.0);
        Self { mean: mean + 0.05 * distance, spread: spread.clamp(400.0, 2_500.0) }
    }

    /// Three standard deviations.
    fn width(&self) -> f64 {
        3.0 * (self.spread * self.mean).sqrt()
    }
}

/// Additive increase, multiplicative decrease (§5.5), beside what the losses allow (§6).
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// By the delays, in bit/s.
    by_delay: Option<f64>,
    by_loss: Option<f64>,
    limit: Option<Limit>,
    held: bool,
    updated: i64,
    decreased: Option<i64>,
    fell: Option<i64>,
    losses: Losses,
}

impl Rate {
    /// bit/s, once something is known.
    pub(super) fn get(&self) -> Option<f64> {
        let by_delay = self.by_delay?;
        Some(self.by_loss.map_or(by_delay, |by_loss| by_loss.min(by_delay)))
    }

    /// bit/s by the delays alone.
    pub(super) fn by_delay(&self) -> Option<f64> {
        self.by_delay
    }

    /// When the way was found too narrow for what was sent the last time, in µs.
    pub(super) fn fell(&self) -> Option<i64> {
        self.fell
    }

    /// When queues grew the last time, in µs.
    pub(super) fn overused(&self) -> Option<i64> {
        self.decreased
    }

    /// So many packets were reported on, of which so many were lost; both may be corrections.
    pub(super) fn losses(&mut self, lost: u32, reported: u32, found: u32) {
        self.losses.report(lost, reported, found);
    }

    /// The share of packets that is lost, of late.
    pub(super) fn share_lost(&self) -> f64 {
        self.losses.share()
    }

    /// When queues were found to grow last.
    pub(super) fn queued(&self) -> Option<i64> {
        self.decreased
    }

    /// A report came, at `now` in µs, of packets that arrive at the rate `acknowledged` and are heard of after `response` µs.
    pub(super) fn update(&mut self, now: i64, usage: Usage, acknowledged: f64, response: i64) {
        let Some(rate) = self.by_delay else {
            (self.by_delay, self.updated) = (Some(acknowledged.max(LEAST)), now);
            self.losses.begin(now);
            return;
        };
        let elapsed = ((now - self.updated) as f64 / 1e6).clamp(0.0, 1.0);
        self.updated = now;
        let rate = match usage {
            // What was decreased takes a while to show.
            Usage::Over if self.decreased.is_some_and(|at| now - at < response.min(SHOWS) + 100_000) => rate,
            Usage::Over => {
                if self.limit.is_some_and(|limit| acknowledged < limit.mean - limit.width()) {
                    self.limit = None;
                }
                self.limit = Some(Limit::learn(self.limit, acknowledged));
                (self.decreased, self.held, self.fell) = (Some(now), true, Some(now));
                rate.min((DECREASE * acknowledged).max(FALL * rate))
            }
            // Queues are to drain before it is tried again.
            Usage::Under => {
                self.held = true;
                rate
            }
            Usage::Normal if std::mem::take(&mut self.held) => rate,
            Usage::Normal => self.increase(rate, acknowledged, elapsed, response),
        };
        self.by_delay = Some(rate.max(LEAST));
        self.weigh_losses(now, acknowledged);
    }

    /// A probe has shown that so much is carried, while packets arrive at the rate `acknowledged`.
    pub(super) fn carried(&mut self, now: i64, acknowledged: Option<f64>, carried: Carried) {
        let Carried { rate, whole, full } = carried;
        // While queues drain it says nothing.
        if self.decreased.is_some_and(|at| now - at < SETTLING) {
            return;
        }
        let rate = rate as f64;
        if self.by_delay.is_none() {
            self.updated = now;
            self.losses.begin(now);
        }
        let known = self.by_delay.unwrap_or(LEAST);
        // What was believed beyond what arrives was never seen.
        let most = if full { rate.max(acknowledged.unwrap_or_default()) } else { f64::INFINITY };
        self.by_delay = Some(known.min(most).max(rate));
        self.by_loss = self.by_loss.filter(|by_loss| !whole || *by_loss >= rate);
        if self.limit.is_some_and(|limit| rate > limit.mean + limit.width()) {
            self.limit = None;
        }
    }

    fn increase(&mut self, rate: f64, acknowledged: f64, elapsed: f64, response: i64) -> f64 {
        if self.limit.is_some_and(|limit| acknowledged > limit.mean + limit.width()) {
            self.limit = None;
        }
        let grown = if self.limit.is_some() {
            let per_second = PACKET.min(rate / 30.0) / ((response + 100_000) as f64 / 1e6);
            rate + per_second.max(LEAST_GROWTH) * elapsed
        } else {
            rate * GROWTH.powf(elapsed)
        };
        let most = AHEAD.0 * acknowledged + AHEAD.1;
        // What arrives is carried, and what was known does not end with its being used.
        grown.min(most).max(rate).max(acknowledged)
    }

    fn weigh_losses(&mut self, now: i64, acknowledged: f64) {
        match self.losses.weigh(now, acknowledged) {
            Verdict::Wait => {}
            Verdict::Own => self.by_loss = None,
            Verdict::Scale(by) if by < 1.0 => {
                self.fell = Some(now);
                let cut = self.get().map(|rate| rate * by);
                self.by_loss = cut.map(|cut| cut.max(DECREASE * acknowledged).max(LEAST));
            }
            Verdict::Scale(by) => {
                let grown = self.by_loss.map(|rate| rate * by);
                self.by_loss = grown.filter(|rate| self.by_delay.is_some_and(|by_delay| *rate < by_delay));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_acknowledged_rate_is_that_of_the_last_half_second() {
        let mut acknowledged = Acknowledged::default();
        for i in 0..60 {
            assert_eq!(acknowledged.rate().is_some(), i > 55, "{i}");
            acknowledged.add(1_000_000 + i * 10_000, 1250);
        }
        assert_eq!(acknowledged.rate(), Some(1e6));
        // A late one counts, a hole is no traffic, and what is too old is nothing.
        acknowledged.add(1_500_000, 1250);
        assert_eq!(acknowledged.rate(), Some(1.02e6));
        acknowledged.add(1_840_000, 1250);
        assert_eq!(acknowledged.rate(), Some(0.6e6 + 0.02e6));
        acknowledged.add(60_000_000, 1250);
        acknowledged.add(1_000_000, 1250);
        assert_eq!(acknowledged.rate(), Some(20_000.0));
    }

    #[test]
    fn a_stand_still_is_no_want_of_bandwidth() {
        let mut acknowledged = Acknowledged::default();
        (0..200).for_each(|i| acknowledged.add(i * 10_000, 1250));
        // 400 ms of it come at once.
        for i in 0..40 {
            acknowledged.add(2_400_000 + i * 100, 1250);
            if i > 20 {
                assert!(
                    acknowledged.rate().is_some_and(|rate| rate > 0.5e6),
                    "{i}: {:?}",
                    acknowledged.rate()
                );
            }
        }
        assert!(acknowledged.rate().is_some_and(|rate| (0.9e6..1.1e6).contains(&rate)));
    }

    #[test]
    fn losses_cut_the_rate_and_no_losses_give_it_back() {
        let mut rate = Rate::default();
        let mut now = 0;
        let mut run = |rate: &mut Rate, lost: u32, seconds: i64| {
            for _ in 0..10 * seconds {
                now += 100_000;
                rate.losses(lost, 50, 0);
                rate.update(now, Usage::Normal, 1e6 * f64::from(50 - lost) / 50.0, 50_000);
            }
            rate.get().unwrap()
        };
        assert!((1.4e6..1.6e6).contains(&run(&mut rate, 0, 10)), "at most half as much again as arrives");
        assert!((0.5e6..0.8e6).contains(&run(&mut rate, 15, 10)));
        let between = run(&mut rate, 2, 10);
        assert!((0.5e6..1.0e6).contains(&between), "{between}");
        assert!(run(&mut rate, 0, 20) > 1.4e6);
    }
}
