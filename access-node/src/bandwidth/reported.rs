//! What is known of the way to a client that does not report on each packet: what it says that it can take
//! (draft-alvestrand-rmcat-remb-03), and the losses in its receiver reports (draft-ietf-rmcat-gcc-02 §6).

use super::rate::Acknowledged;

/// Losses above the first share cut the rate, below the second they let it grow.
const LOSSES: (f64, f64) = (0.1, 0.02);
/// A cut leaves at least this share.
const LEAST_SHARE: f64 = 0.5;
/// Least time between two looks at the losses, in µs: one report comes a second, of several streams.
const INTERVAL: i64 = 500_000;
/// Growth per second while nothing is lost.
const GROWTH: f64 = 1.08;
/// What a client says is the limit of the way if it is less than so many times what is sent; otherwise it only follows that.
const LIMIT: f64 = 1.3;
/// No more than so many times what is sent is believed: enough to try the next layer. There is no probing: what a probe shows is not told.
const REACH: f64 = 4.0;
/// Smallest rate, in bit/s.
const LEAST: f64 = 10_000.0;

/// The estimate for one client. Takes no memory worth mentioning until something is sent that is not numbered.
#[derive(Debug, Default)]
pub(super) struct Reported {
    sent: Acknowledged,
    rate: Option<f64>,
    grown: Option<i64>,
    looked: Option<i64>,
    lost: Option<f64>,
    pub(super) heard: Option<i64>,
    pub(super) fell: Option<i64>,
}

impl Reported {
    /// So many bytes go out, at `now` in µs.
    pub(super) fn sent(&mut self, now: i64, bytes: usize) {
        self.sent.add(now, u16::try_from(bytes).unwrap_or(u16::MAX));
    }

    /// bit/s, once something is known.
    pub(super) fn get(&self) -> Option<f64> {
        self.rate
    }

    /// The client can take so much, in bit/s.
    pub(super) fn can_take(&mut self, now: i64, most: f64) {
        let Some(sent) = self.sent.rate() else { return };
        self.heard = Some(now);
        let most = most.max(LEAST);
        if most < LIMIT * sent {
            if most < sent {
                self.fell = Some(now);
            }
            self.rate = Some(most);
        } else {
            self.grow(now, sent);
            self.rate = Some(self.rate.unwrap_or(most).max(most));
        }
    }

    /// Of a stream, that share was lost since the last report.
    pub(super) fn lost(&mut self, now: i64, share: f64) {
        let Some(sent) = self.sent.rate() else { return };
        self.heard = Some(now);
        let worst = self.lost.map_or(share, |worst| worst.max(share));
        self.lost = Some(worst);
        if self.looked.is_some_and(|at| now - at < INTERVAL) {
            return;
        }
        (self.looked, self.lost) = (Some(now), None);
        let (high, low) = LOSSES;
        if worst > high {
            let known = self.rate.map_or(sent, |rate| rate.min(LIMIT * sent));
            self.rate = Some((known * (1.0 - worst / 2.0).max(LEAST_SHARE)).max(LEAST));
            (self.fell, self.grown) = (Some(now), Some(now));
        } else if worst < low {
            self.grow(now, sent);
        }
    }

    fn grow(&mut self, now: i64, sent: f64) {
        let elapsed = self.grown.map_or(0.0, |at| ((now - at) as f64 / 1e6).clamp(0.0, 2.0));
        self.grown = Some(now);
        self.rate =
            self.rate.map(|rate| (rate * GROWTH.powf(elapsed)).min(REACH * sent + LEAST).max(rate.min(sent)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that is sent so much, and reports once a second.
    struct Client {
        now: i64,
        reported: Reported,
    }

    impl Client {
        fn new() -> Self {
            Self { now: 0, reported: Reported::default() }
        }

        fn run(&mut self, seconds: usize, rate: f64, report: impl Fn(&mut Reported, i64)) -> Option<f64> {
            for _ in 0..seconds {
                for _ in 0..100 {
                    self.now += 10_000;
                    self.reported.sent(self.now, (rate / 800.0) as usize);
                }
                report(&mut self.reported, self.now);
            }
            self.reported.get()
        }
    }

    #[test]
    fn nothing_is_known_before_anything_is_lost() {
        let mut client = Client::new();
        assert_eq!(client.run(30, 1e6, |reported, now| reported.lost(now, 0.0)), None);
    }

    #[test]
    fn losses_cut_what_is_sent_and_their_end_lets_it_grow() {
        let mut client = Client::new();
        let cut = client.run(5, 1e6, |reported, now| reported.lost(now, 0.3)).unwrap();
        assert!((0.3e6..0.6e6).contains(&cut), "{cut}");
        assert!(client.reported.fell.is_some());
        let held = client.run(20, 0.4e6, |reported, now| reported.lost(now, 0.05)).unwrap();
        assert_eq!(held, cut);
        let grown = client.run(20, 0.4e6, |reported, now| reported.lost(now, 0.0)).unwrap();
        assert!((3.0 * cut..1.7e6).contains(&grown), "{grown}");
    }

    #[test]
    fn what_the_client_can_take_is_the_limit_if_it_is_about_what_is_sent() {
        let mut client = Client::new();
        let taken = client.run(3, 1e6, |reported, now| reported.can_take(now, 0.6e6));
        assert_eq!(taken, Some(0.6e6));
        assert!(client.reported.fell.is_some());
        // What clients say follows what they are sent, up to half as much again.
        let more = client.run(30, 0.2e6, |reported, now| reported.can_take(now, 0.3e6)).unwrap();
        assert!((0.6e6..0.85e6).contains(&more), "{more}");
        assert_eq!(client.run(1, 0.7e6, |reported, now| reported.can_take(now, 0.5e6)), Some(0.5e6));
    }
}
