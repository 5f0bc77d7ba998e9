//! Is the way to the client filling up? Groups of packets that were sent together are compared by how much later than the one before
//! they arrive; the slope of the delay over the last groups tells whether queues grow (draft-ietf-rmcat-gcc-02 §5.2 to §5.4, with a
//! line fitted to the delays in place of the Kalman filter).

/// Packets sent within this time belong together, in µs.
const BURST: i64 = 5_000;
/// Groups that the line is fitted to. More are steadier and slower: at 200 groups a second 20 are a tenth of a second.
const WINDOW: usize = 20;
/// Share of the old value in the smoothed delay.
const SMOOTHING: f64 = 0.9;
/// The slope is weighed by this and by how many groups there were, up to [`MAX_WEIGHT`].
const GAIN: f64 = 4.0;
/// See [`GAIN`].
const MAX_WEIGHT: f64 = 60.0;
/// First, smallest and largest threshold for the weighed slope, in ms.
const THRESHOLD: (f64, f64, f64) = (12.5, 6.0, 600.0);
/// How fast the threshold follows the slope up and down, per ms; slower down than up, a competing flow would starve this one.
const FOLLOW: (f64, f64) = (0.0087, 0.039);
/// A slope that is further above the threshold is a leap and not followed, in ms.
const LEAP: f64 = 15.0;
/// How long the slope must be too large, in ms.
const PATIENCE: f64 = 10.0;
/// A pause in what is sent after which the old delays say nothing, in µs.
const PAUSE: i64 = 1_000_000;

/// What the delays say of the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Usage {
    /// Queues are as they were.
    #[default]
    Normal,
    /// Queues grow.
    Over,
    /// Queues drain.
    Under,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: i64,
    last_sent: i64,
    last_arrival: i64,
}

/// Watches the delays.
#[derive(Debug, Default)]
pub(super) struct Gradient {
    group: Option<Group>,
    before: Option<Group>,
    line: Line,
    detector: Detector,
}

impl Gradient {
    /// A packet was sent and arrived then, in µs of two clocks. In the order in which packets were sent.
    pub(super) fn packet(&mut self, sent: i64, arrival: i64) -> Usage {
        let Some(group) = &mut self.group else {
            self.group = Some(Group { first_sent: sent, last_sent: sent, last_arrival: arrival });
            return self.detector.usage;
        };
        if sent - group.last_sent > PAUSE {
            *self = Self::default();
            return self.packet(sent, arrival);
        }
        let waited = arrival - group.last_arrival;
        // What queued behind each other arrives together, whenever it was sent.
        let caught_up = (0..=BURST).contains(&waited) && waited < sent - group.last_sent;
        if sent - group.first_sent <= BURST || caught_up {
            group.last_sent = sent;
            group.last_arrival = group.last_arrival.max(arrival);
            return self.detector.usage;
        }
        let complete = *group;
        *group = Group { first_sent: sent, last_sent: sent, last_arrival: arrival };
        if let Some(before) = self.before.replace(complete) {
            let sent = (complete.last_sent - before.last_sent) as f64 / 1000.0;
            let arrived = (complete.last_arrival - before.last_arrival) as f64 / 1000.0;
            // Groups that overtook each other say nothing of queues.
            if arrived >= 0.0 {
                let slope = self.line.add(complete.last_arrival as f64 / 1000.0, arrived - sent);
                self.detector.update(slope, self.line.weight(), sent, arrived);
            }
        }
        self.detector.usage
    }
}

/// The line through the newest delays.
#[derive(Debug, Default)]
struct Line {
    /// Arrival and smoothed delay in ms, in a ring.
    points: [(f64, f64); WINDOW],
    added: usize,
    origin: f64,
    delay: f64,
    smoothed: f64,
}

impl Line {
    /// Adds a delay relative to the one before; returns the slope in ms per ms, once there are enough.
    fn add(&mut self, arrival: f64, delta: f64) -> f64 {
        if self.added == 0 {
            self.origin = arrival;
        }
        self.delay += delta;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.delay;
        self.points[self.added % WINDOW] = (arrival - self.origin, self.smoothed);
        self.added += 1;
        if self.added < WINDOW { 0.0 } else { self.slope() }
    }

    fn weight(&self) -> f64 {
        (self.added as f64).min(MAX_WEIGHT)
    }

    /// By least squares.
    fn slope(&self) -> f64 {
        let count = WINDOW as f64;
        let (sum_x, sum_y) = self.points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        let (mean_x, mean_y) = (sum_x / count, sum_y / count);
        let (above, below) = self.points.iter().fold((0.0, 0.0), |(above, below), (x, y)| {
            (above + (x - mean_x) * (y - mean_y), below + (x - mean_x) * (x - mean_x))
        });
        if below > 0.0 { above / below } else { 0.0 }
    }
}

/// Compares the slope with a threshold that follows it slowly, so that other flows' queues are not taken for one's own.
#[derive(Debug)]
struct Detector {
    threshold: f64,
    /// For how long and how often the slope was too large.
    over: Option<(f64, u32)>,
    last_slope: f64,
    usage: Usage,
}

impl Default for Detector {
    fn default() -> Self {
        Self { threshold: THRESHOLD.0, over: None, last_slope: 0.0, usage: Usage::Normal }
    }
}

impl Detector {
    /// `sent` and `arrived` are what passed between the last two groups, in ms.
    fn update(&mut self, slope: f64, weight: f64, sent: f64, arrived: f64) {
        let weighed = slope * weight * GAIN;
        if weighed > self.threshold {
            let (time, count) = self.over.unwrap_or((-sent / 2.0, 0));
            let (time, count) = (time + sent, count + 1);
            self.over = Some((time, count));
            if time > PATIENCE && count > 1 && slope >= self.last_slope {
                self.over = None;
                self.usage = Usage::Over;
            }
        } else {
            self.over = None;
            self.usage = if weighed < -self.threshold { Usage::Under } else { Usage::Normal };
        }
        self.last_slope = slope;
        let (up, down) = FOLLOW;
        let distance = weighed.abs() - self.threshold;
        if distance <= LEAP {
            let speed = if distance < 0.0 { down } else { up };
            self.threshold += speed * distance * arrived.min(100.0);
            self.threshold = self.threshold.clamp(THRESHOLD.1, THRESHOLD.2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said while groups go out every 10 ms and arrive by a line of this slope, after a steady second.
    fn usages(slope: f64) -> Vec<Usage> {
        let mut gradient = Gradient::default();
        (0..300i64)
            .map(|i| {
                let queued = (i - 100).max(0) as f64 * 10_000.0 * slope;
                gradient.packet(i * 10_000, 77_000_000 + i * 10_000 + 200_000 + queued as i64)
            })
            .collect()
    }

    #[test]
    fn queues_that_grow_are_seen_and_steady_ones_are_not() {
        assert!(usages(0.0).iter().all(|usage| *usage == Usage::Normal));
        let growing = usages(0.1);
        assert!(growing[..100].iter().all(|usage| *usage == Usage::Normal));
        let seen = growing.iter().position(|usage| *usage == Usage::Over).unwrap();
        assert!((101..140).contains(&seen), "after {} groups", seen - 100);
    }

    #[test]
    fn queues_that_drain_are_seen() {
        assert!(usages(-0.1).contains(&Usage::Under));
        assert!(!usages(-0.1).contains(&Usage::Over));
    }

    #[test]
    fn jitter_is_no_queue() {
        let mut gradient = Gradient::default();
        let mut state = 1u32;
        for i in 0..5_000i64 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let jitter = i64::from(state >> 16) % 4_000;
            assert_ne!(gradient.packet(i * 10_000, i * 10_000 + jitter), Usage::Over, "group {i}");
        }
    }

    #[test]
    fn a_pause_is_no_queue() {
        let mut gradient = Gradient::default();
        for i in 0..100i64 {
            gradient.packet(i * 10_000, i * 10_000);
        }
        for i in 0..100i64 {
            assert_eq!(gradient.packet(5_000_000 + i * 10_000, 5_900_000 + i * 10_000), Usage::Normal);
        }
    }
}
