//! What is allocated, and how often it changes on ways that swing.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

/// Three layers as browsers send them.
fn rungs() -> Vec<Rung> {
    [(150_000, 240.0), (500_000, 480.0), (1_500_000, 960.0)]
        .map(|(bitrate, value)| Rung { bitrate, value })
        .into()
}

fn demand() -> Demand {
    Demand { rungs: rungs(), ..Demand::default() }
}

/// A transport with what it wants, on virtual time.
struct Transport {
    now: Instant,
    allocator: Allocator,
    reserved: u64,
    demands: Vec<Demand>,
    lacking: Option<(u64, u64)>,
    short_since: Option<Instant>,
    ups: usize,
    downs: usize,
}

impl Transport {
    fn new(demands: Vec<Demand>) -> Self {
        Self {
            now: Instant::now(),
            allocator: Allocator::default(),
            reserved: 40_000,
            demands,
            lacking: None,
            short_since: None,
            ups: 0,
            downs: 0,
        }
    }

    fn step(&mut self, estimate: u64) {
        self.now += Duration::from_millis(100);
        let allocation = self.allocator.allocate(self.now, Some(estimate), self.reserved, &self.demands);
        for (demand, rung) in self.demands.iter_mut().zip(&allocation.rungs) {
            self.ups += usize::from(*rung > demand.current);
            self.downs += usize::from(*rung < demand.current);
            (demand.current, demand.eager) = (*rung, false);
        }
        self.lacking = allocation.lacking;
        let need = need(&self.demands, allocation.rungs.iter().copied());
        if need == 0 || (need + self.reserved) as f64 <= estimate as f64 * TOLERANCE + 1.0 {
            self.short_since = None;
        } else {
            // More than there is is sent for a moment only, so that pictures need not be taken away.
            assert!(self.now < *self.short_since.get_or_insert(self.now) + GRACE);
            assert!((need + self.reserved) as f64 <= estimate as f64 * RUIN + 1.0);
        }
    }

    fn run(&mut self, seconds: u64, estimate: impl Fn(f64) -> u64) {
        for step in 0..10 * seconds {
            self.step(estimate(step as f64 / 10.0));
        }
    }

    fn sent(&self) -> Vec<Option<usize>> {
        self.demands.iter().map(|demand| demand.current).collect()
    }
}

#[test]
fn without_an_estimate_everything_wanted_is_sent() {
    let allocation = Allocator::default().allocate(Instant::now(), None, 0, &[demand(), Demand::default()]);
    assert_eq!(allocation, Allocation { rungs: vec![Some(2), None], lacking: None });
}

#[test]
fn each_has_a_small_picture_before_one_has_a_large_one() {
    let mut transport = Transport::new(vec![demand(), demand(), demand()]);
    transport.run(10, |_| 600_000);
    assert_eq!(transport.sent(), [Some(0); 3]);
    transport.run(10, |_| 1_400_000);
    assert_eq!(transport.sent(), [Some(1), Some(1), Some(0)]);
    transport.run(10, |_| 6_000_000);
    assert_eq!((transport.sent(), transport.lacking), (vec![Some(2); 3], None));
}

#[test]
fn what_is_asked_for_just_now_does_not_wait_for_what_is_there() {
    let mut transport = Transport::new(vec![demand()]);
    transport.run(10, |_| 300_000);
    assert_eq!(transport.sent(), [Some(0)]);
    transport.step(5_000_000);
    assert_eq!(transport.sent(), [Some(0)]);
    transport.demands.push(Demand { eager: true, ..demand() });
    transport.step(5_000_000);
    assert_eq!(transport.sent(), [Some(0), Some(2)]);
}

#[test]
fn a_higher_priority_comes_first() {
    let mut transport = Transport::new(vec![demand(), Demand { priority: 1, ..demand() }, demand()]);
    transport.run(10, |_| 1_200_000);
    assert_eq!(transport.sent(), [Some(0), Some(1), Some(0)]);
    transport.run(10, |_| 2_200_000);
    assert_eq!(transport.sent(), [Some(0), Some(2), Some(0)]);
    transport.run(2, |_| 200_000);
    assert_eq!(transport.sent(), [None, Some(0), None]);
}

#[test]
fn down_at_once_and_up_after_a_while() {
    let mut transport = Transport::new(vec![demand()]);
    transport.run(5, |_| 3_000_000);
    assert_eq!(transport.sent(), [Some(2)]);
    transport.step(700_000);
    assert_eq!(transport.sent(), [Some(1)]);
    transport.run(2, |_| 3_000_000);
    assert_eq!(transport.sent(), [Some(1)]);
    transport.run(1, |_| 3_000_000);
    assert_eq!(transport.sent(), [Some(2)]);
}

#[test]
fn pictures_stop_before_sound_is_harmed_and_come_back() {
    let mut transport = Transport::new(vec![demand()]);
    transport.run(5, |_| 3_000_000);
    transport.step(150_000);
    assert_eq!(transport.sent(), [Some(0)], "it may be for a moment only");
    transport.run(1, |_| 150_000);
    assert_eq!(transport.sent(), [None]);
    assert_eq!(transport.lacking, Some((218_500, 1_771_000)));
    transport.run(3, |_| 230_000);
    assert_eq!(transport.sent(), [Some(0)]);
}

#[test]
fn a_picture_is_not_taken_away_for_a_moments_fall_but_at_once_where_it_would_ruin_sound() {
    let mut transport = Transport::new(vec![demand()]);
    transport.run(5, |_| 400_000);
    for _ in 0..10 {
        (0..5).for_each(|_| transport.step(120_000));
        transport.run(1, |_| 250_000);
    }
    assert_eq!((transport.sent(), transport.downs), (vec![Some(0)], 0));
    transport.step(60_000);
    assert_eq!(transport.sent(), [None]);
}

#[test]
fn an_estimate_that_swings_a_little_changes_nothing() {
    let mut transport = Transport::new(vec![demand(), demand()]);
    transport.run(5, |_| 1_300_000);
    let before = transport.ups + transport.downs;
    transport.run(600, |at| (1_300_000.0 + 120_000.0 * at.sin()) as u64);
    assert_eq!(transport.ups + transport.downs, before);
}

/// The way of a saw-tooth: up slowly, down at once.
#[test]
fn what_layers_send_may_swing_while_a_larger_one_is_waited_for() {
    let mut transport = Transport::new(vec![demand()]);
    transport.run(5, |_| 3_000_000);
    transport.step(700_000);
    assert_eq!(transport.sent(), [Some(1)]);
    for step in 0..40 {
        transport.demands[0].rungs[2].bitrate = if step % 4 < 2 { 1_440_000 } else { 1_560_000 };
        // What a probe for 1,500,000 would find.
        transport.step(1_771_000);
    }
    assert_eq!(transport.sent(), [Some(2)]);
}

fn saw(period: f64) -> impl Fn(f64) -> u64 {
    move |at| (400_000.0 + 2_000_000.0 * (at % period) / period) as u64
}

#[test]
fn a_saw_tooth_does_not_make_the_picture_swing() {
    for (period, most) in [(5.0, 8), (10.0, 16), (20.0, 30)] {
        let mut transport = Transport::new(vec![demand()]);
        transport.run(600, saw(period));
        let switches = transport.ups + transport.downs;
        assert!(switches <= most, "{switches} in ten minutes of {period} s");
    }
}

#[test]
fn what_goes_up_slowly_is_followed() {
    let mut transport = Transport::new(vec![demand()]);
    transport.run(600, saw(300.0));
    assert!((4..=10).contains(&transport.ups), "{}", transport.ups);
    assert!(transport.downs <= 4, "{}", transport.downs);
}

#[test]
fn whatever_the_estimates_changes_are_rare_and_nothing_is_promised_twice() {
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(1..6);
        let demands = (0..count).map(|_| {
            let scale = rng.random_range(0.5..2.0);
            let layers = rng.random_range(1..=3);
            let scaled = |rung: Rung| Rung { bitrate: (rung.bitrate as f64 * scale) as u64, ..rung };
            let rungs = rungs().into_iter().map(scaled).take(layers).collect();
            Demand { rungs, priority: rng.random_range(0..2), ..Demand::default() }
        });
        let mut transport = Transport::new(demands.collect());
        // Estimates that leap, each for a time of its own.
        let longest = rng.random_range(1..100);
        let minutes = 10;
        let mut left = 0;
        let mut estimate = 0;
        for _ in 0..600 * minutes {
            if left == 0 {
                left = rng.random_range(1..=longest);
                estimate = rng.random_range(50_000..4_000_000);
            }
            left -= 1;
            transport.step(estimate);
        }
        let ups = transport.ups as f64 / f64::from(minutes) / count as f64;
        assert!(ups < 6.0, "{ups} a minute and picture, seed {seed}");
    }
}

#[test]
fn a_picture_of_one_size_pauses_after_others_have_become_small_and_not_at_once() {
    let single = Demand {
        rungs: vec![Rung { bitrate: 600_000, value: 1.0 }],
        current: Some(0),
        single: true,
        ..Demand::default()
    };
    let layered = Demand { current: Some(2), ..demand() };
    let mut transport = Transport::new(vec![layered, single]);
    transport.step(900_000);
    assert_eq!(transport.sent(), [Some(0), Some(0)]);
    let begin = transport.now;
    let shown = |transport: &mut Transport, estimate| {
        let allocation = transport.allocator.allocate(
            transport.now,
            Some(estimate),
            transport.reserved,
            &transport.demands,
        );
        allocation.rungs[1].is_some()
    };
    for (after, estimate, is_shown) in
        [(0, 600_000, true), (1_400, 600_000, true), (1_600, 600_000, false), (700, 300_000, false)]
    {
        transport.allocator.has_enough();
        transport.now = begin;
        assert!(shown(&mut transport, estimate));
        transport.now = begin + Duration::from_millis(after);
        assert_eq!(shown(&mut transport, estimate), is_shown, "{estimate} for {after} ms");
    }
}
