//! Probing: what is sent says nothing of a way that carries more. When more is wanted, padding is sent beside it for a moment so that
//! both together come to what is asked about, and how they arrive tells whether the way carries that.

use std::time::{Duration, Instant};

/// How long a probe lasts. Longer is more exact where packets are held up by the way, by busy machines and by browsers, all of them good
/// for tens of milliseconds; and it is a longer queue where the way does not carry it.
const TIME: Duration = Duration::from_millis(100);
/// Fewer bytes say nothing: a probe of little goes on until there are so many.
const LEAST_BYTES: u64 = 1_500;
/// How often padding is sent during one.
const TICK: Duration = Duration::from_millis(5);
/// What is sent for a while after a probe meets the queue that it made. It is no sign of congestion.
const AFTERMATH: Duration = Duration::from_millis(150);
/// Longest wait for the client's report.
const PATIENCE: Duration = Duration::from_secs(2);
/// Until the next one, if the way carried what was asked about: it may carry still more.
const NEXT: Duration = Duration::from_millis(200);
/// After one that the way did not carry: such a probe makes a queue of half its time. What the way carries more later is found that late.
const PAUSE: Duration = Duration::from_secs(2);
/// If nothing is known, that is asked about first, in bit/s.
const FIRST: u64 = 1_000_000;
/// The most that is asked about, as a multiple of what is known: the way has a queue of twice the probe's time then if that was all.
const MOST: u64 = 3;
/// Least share of the packets that must arrive.
const ARRIVED: f64 = 0.75;
/// Least share of the packets that must be reported on; whole reports get lost.
const KNOWN: f64 = 0.6;
/// If they arrive slower than this share of the rate at which they were sent, the way was full, and that share of what arrived is sure
/// to be carried.
const FULL: (f64, f64) = (0.9, 0.95);
/// If that many times what was known arrives, it was worth it, and there may be still more.
const WORTH: f64 = 1.15;
/// Packets that arrive that much faster than they were sent were held up on the way: they say nothing.
const COMPRESSED: f64 = 2.0;

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Idle,
    Sending(Cluster),
    /// Sent; the reports are waited for.
    Awaiting(Cluster),
}

/// Packets that make up a probe.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    /// bit/s
    target: u64,
    /// What was known to be carried, in bit/s.
    known: u64,
    began: Instant,
    ended: Instant,
    bytes: u64,
    /// The first's transport-wide number, and how many there are.
    first: u16,
    count: u16,
    seen: Seen,
}

/// What is known of a cluster's packets. Times in µs.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    received: u16,
    lost: u16,
    bytes: u64,
    /// When the first and the last were sent, and the last's size.
    sent: Option<(i64, i64, u16)>,
    /// When the first and the last arrived, and the first's size.
    arrived: Option<(i64, i64, u16)>,
}

/// What a probe has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carried {
    /// bit/s
    pub(super) rate: u64,
    /// Whether all packets arrived.
    pub(super) whole: bool,
    /// Whether more was sent: that is all that the way carries.
    pub(super) full: bool,
}

/// Decides when to probe, and reads what came of it.
#[derive(Debug, Default)]
pub(super) struct Prober {
    state: State,
    not_before: Option<Instant>,
    /// The last one was more than the way carries.
    is_full: bool,
    /// Until when the queue of the last one may stand.
    aftermath: Option<Instant>,
}

impl Prober {
    /// More is wanted: `next` for the next step, and `all` in the end, while `estimate` is known to be carried, in bit/s.
    pub(super) fn want(&mut self, now: Instant, next: u64, all: u64, estimate: Option<u64>) {
        if let State::Awaiting(cluster) = &self.state
            && now >= cluster.ended + PATIENCE
        {
            self.failed(now);
        }
        let idle = matches!(self.state, State::Idle) && self.not_before.is_none_or(|at| now >= at);
        if !idle || estimate.is_some_and(|estimate| estimate >= all) {
            return;
        }
        // Where the way is probably full a smaller step makes a shorter queue. What is asked for may take several.
        let step = |estimate: u64| match self.is_full {
            false => next.clamp(2 * estimate, MOST * estimate),
            true => estimate + estimate / 2,
        };
        let target = estimate.map_or(FIRST.max(next), |estimate| step(estimate.min(1 << 40))).min(all);
        if target == 0 {
            return;
        }
        let time = TIME.max(Duration::from_secs_f64(LEAST_BYTES as f64 * 8.0 / target as f64));
        self.state = State::Sending(Cluster {
            target,
            known: estimate.unwrap_or(0),
            began: now,
            ended: now + time,
            bytes: 0,
            first: 0,
            count: 0,
            seen: Seen::default(),
        });
    }

    /// Nothing more is wanted: what was begun is broken off.
    pub(super) fn stop(&mut self) {
        if let State::Sending(_) = self.state {
            self.state = State::Idle;
        }
    }

    /// How many bytes of padding are to be sent now.
    pub(super) fn due(&mut self, now: Instant) -> usize {
        let State::Sending(cluster) = &self.state else { return 0 };
        if now >= cluster.ended {
            self.aftermath = Some(now + AFTERMATH);
            self.state = State::Awaiting(Cluster { ended: now, ..*cluster });
            return 0;
        }
        let elapsed = now.saturating_duration_since(cluster.began) + TICK;
        let due = (cluster.target as f64 * elapsed.as_secs_f64() / 8.0) as u64;
        usize::try_from(due.saturating_sub(cluster.bytes)).unwrap_or(0)
    }

    /// What is being asked about, in bit/s.
    pub(super) fn target(&self) -> Option<u64> {
        let State::Sending(cluster) = &self.state else { return None };
        Some(cluster.target)
    }

    /// When [`Self::due`] is to be asked again.
    pub(super) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let State::Sending(cluster) = &self.state else { return None };
        Some((now + TICK).min(cluster.ended))
    }

    /// A packet goes out. Whether it, or the queue that it meets, is a probe's: its delay and its loss say nothing else.
    pub(super) fn sent(&mut self, now: Instant, sequence: u16, bytes: usize) -> bool {
        if let State::Sending(cluster) = &mut self.state {
            if cluster.count == 0 {
                cluster.first = sequence;
            }
            cluster.count = cluster.count.saturating_add(1);
            cluster.bytes += bytes as u64;
            return true;
        }
        self.aftermath.is_some_and(|until| now < until)
    }

    /// The client says when a packet arrived, or (`None`) that it has not.
    pub(super) fn reported(
        &mut self,
        now: Instant,
        sequence: u16,
        bytes: u16,
        sent: i64,
        arrival: Option<i64>,
    ) -> Option<Carried> {
        let (State::Sending(cluster) | State::Awaiting(cluster)) = &mut self.state else { return None };
        let place = sequence.wrapping_sub(cluster.first);
        // A report on what came after tells that those on the rest are lost.
        let is_after = (cluster.count..1 << 15).contains(&place);
        if place < cluster.count {
            cluster.seen.add(bytes, sent, arrival);
        }
        let known = cluster.seen.received + cluster.seen.lost;
        let complete =
            known >= cluster.count || (is_after && f64::from(known) >= KNOWN * f64::from(cluster.count));
        let State::Awaiting(cluster) = self.state else { return None };
        if !complete {
            return None;
        }
        let carried = cluster.seen.carried(cluster.target);
        let rate = carried.map_or(0.0, |carried| carried.rate as f64);
        let reached = rate >= FULL.0 * cluster.target as f64;
        if reached || (cluster.known > 0 && rate >= WORTH * cluster.known as f64) {
            self.end(now + NEXT, !reached);
        } else {
            self.failed(now);
        }
        carried
    }

    fn failed(&mut self, now: Instant) {
        self.end(now + PAUSE, true);
    }

    fn end(&mut self, not_before: Instant, is_full: bool) {
        (self.state, self.not_before, self.is_full) = (State::Idle, Some(not_before), is_full);
    }
}

impl Seen {
    fn add(&mut self, bytes: u16, sent: i64, arrival: Option<i64>) {
        let Some(arrival) = arrival else {
            self.lost += 1;
            return;
        };
        self.received += 1;
        self.bytes += u64::from(bytes);
        self.sent = Some(match self.sent {
            Some((first, last, size)) if sent < last => (first.min(sent), last, size),
            Some((first, _, _)) => (first, sent, bytes),
            None => (sent, sent, bytes),
        });
        self.arrived = Some(match self.arrived {
            Some((first, last, _)) if arrival < first => (arrival, last, bytes),
            Some((first, last, size)) => (first, last.max(arrival), size),
            None => (arrival, arrival, bytes),
        });
    }

    /// What the way carries; `None` if it can't be told.
    fn carried(&self, target: u64) -> Option<Carried> {
        let all = f64::from(self.received) + f64::from(self.lost);
        if f64::from(self.received) < ARRIVED * all {
            return None;
        }
        let rate = |bytes: u64, (first, last): (i64, i64)| {
            (last > first).then(|| bytes as f64 * 8e6 / (last - first) as f64)
        };
        let (first_sent, last_sent, last_size) = self.sent?;
        let (first_arrived, last_arrived, first_size) = self.arrived?;
        let sent = rate(self.bytes - u64::from(last_size), (first_sent, last_sent))?;
        let arrived = rate(self.bytes - u64::from(first_size), (first_arrived, last_arrived))?;
        if arrived > COMPRESSED * sent {
            return None;
        }
        let full = arrived < FULL.0 * sent;
        let carried = if full { FULL.1 * arrived } else { sent.min(arrived) };
        Some(Carried { rate: (carried as u64).min(target), whole: self.lost == 0, full })
    }
}
