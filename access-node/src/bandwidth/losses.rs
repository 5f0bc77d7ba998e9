//! What losses say of the way (draft-ietf-rmcat-gcc-02 §6). Those that are no fewer when less is sent are the way's own, as on a bad
//! radio link: sending still less helps nobody.

/// Losses above the first share cut the rate, below the second they let it grow (§6), each beyond the way's own.
const LIMITS: (f64, f64) = (0.1, 0.02);
/// By so many standard deviations must a share be too large: of a few packets many are lost by chance.
const SURE: f64 = 3.0;
/// Least time in µs and number of packets between two looks.
const INTERVAL: (i64, u32) = (500_000, 20);
/// Looks that are taken together: two seconds.
const LOOKS: usize = 4;
/// Most that is taken for the way's own.
const MOST_OWN: f64 = 0.3;
/// Least difference in the losses that two rates must make by the way's being full, for the two to tell whether it is.
const TELLING: f64 = 0.05;
/// And so many times what was sent is sent then, at most.
const LESS: f64 = 0.85;
/// Growth per look of a rate that losses have cut: where there are few, and where there are some.
const RECOVERY: (f64, f64) = (1.05, 1.01);

/// Of how many packets so many were lost.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    lost: u32,
    reported: u32,
}

impl Look {
    fn share(self) -> f64 {
        f64::from(self.lost) / f64::from(self.reported.max(1))
    }
}

/// When the rate was cut last.
#[derive(Clone, Copy, Debug)]
struct Cut {
    share: f64,
    /// What arrived, in bit/s: what the way carries, if it was full.
    arrived: f64,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is too early to say anything else.
    Wait,
    /// The rate is to be that many times what it was.
    Scale(f64),
    /// The losses have nothing to do with the rate.
    Own,
}

/// Watches the losses.
#[derive(Debug, Default)]
pub(super) struct Losses {
    current: Look,
    before: [Look; LOOKS],
    seen: i64,
    /// The way's own share.
    own: f64,
    cut: Option<Cut>,
}

impl Losses {
    /// Nothing before that time in µs counts.
    pub(super) fn begin(&mut self, now: i64) {
        self.seen = now;
    }

    /// So many packets were reported on, of which so many were lost; of those that were said to be lost before, so many were late only.
    pub(super) fn report(&mut self, lost: u32, reported: u32, found: u32) {
        self.current.lost = (self.current.lost + lost).saturating_sub(found);
        self.current.reported += reported;
    }

    /// The share of the last two seconds, as far as it is known.
    pub(super) fn share(&self) -> f64 {
        self.recent().share()
    }

    fn recent(&self) -> Look {
        self.before.iter().fold(self.current, |sum, look| Look {
            lost: sum.lost + look.lost,
            reported: sum.reported + look.reported,
        })
    }

    /// What to do about them, at `now` in µs, while so much arrives, in bit/s.
    pub(super) fn weigh(&mut self, now: i64, arrived: f64) -> Verdict {
        let (interval, packets) = INTERVAL;
        if now - self.seen < interval || self.current.reported < packets {
            return Verdict::Wait;
        }
        let recent = self.recent();
        self.seen = now;
        self.before.rotate_right(1);
        self.before[0] = std::mem::take(&mut self.current);
        let share = recent.share();
        if let Some(own) = self.own_share(share, arrived) {
            (self.own, self.cut) = (own, None);
            return Verdict::Own;
        }
        self.own = self.own.min(share);
        let most = LIMITS.0 + self.own;
        let swing = (most * (1.0 - most) / f64::from(recent.reported)).sqrt();
        if share > most + SURE * swing {
            self.cut = Some(Cut { share, arrived });
            // What comes now is of packets that were sent before the cut, partly.
            self.before = [Look::default(); LOOKS];
            Verdict::Scale(1.0 - (share - self.own) / 2.0)
        } else if share < LIMITS.1 + self.own {
            Verdict::Scale(RECOVERY.0)
        } else {
            Verdict::Scale(RECOVERY.1)
        }
    }

    /// The way's own share, if that is known by now: a full way would lose what is beyond what it carried, and less is sent since.
    fn own_share(&self, share: f64, arrived: f64) -> Option<f64> {
        let cut = self.cut.as_ref()?;
        let sent = |share: f64, arrived: f64| arrived / (1.0 - share).max(0.1);
        let full = (1.0 - cut.arrived / sent(share, arrived).max(1.0)).max(0.0);
        let less = sent(share, arrived) < LESS * sent(cut.share, cut.arrived);
        let tells = less && cut.share - full > TELLING;
        let own = (cut.share + full) / 2.0..1.15 * cut.share;
        (tells && own.contains(&share)).then_some(share.min(MOST_OWN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two looks a second of `packets` packets each, sent at `sent` bit/s by a way that carries `capacity` and loses `own` besides.
    struct Way {
        losses: Losses,
        now: i64,
        random: u32,
    }

    impl Way {
        fn new() -> Self {
            Self { losses: Losses::default(), now: 0, random: 1 }
        }

        fn look(&mut self, sent: f64, capacity: f64, own: f64) -> Verdict {
            self.now += 500_000;
            let reported = (sent / 2.0 / 9_600.0) as u32;
            let share = 1.0 - (1.0 - own) * (capacity / sent).min(1.0);
            let mut lose = || {
                self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f64::from(self.random >> 8) / f64::from(1 << 24) < share
            };
            let lost = (0..reported).filter(|_| lose()).count() as u32;
            self.losses.report(lost, reported, 0);
            self.losses.weigh(self.now, sent * (1.0 - share))
        }
    }

    fn cuts(verdict: Verdict) -> bool {
        matches!(verdict, Verdict::Scale(by) if by < 1.0)
    }

    #[test]
    fn a_tenth_that_is_lost_at_random_cuts_nothing() {
        let mut way = Way::new();
        let count = (0..600).filter(|_| cuts(way.look(1e6, 1e9, 0.1))).count();
        assert!(count <= 2, "{count} cuts in five minutes");
    }

    #[test]
    fn a_full_way_cuts_until_it_is_full_no_more() {
        let mut way = Way::new();
        let mut sent = 1e6;
        for _ in 0..60 {
            if let Verdict::Scale(by) = way.look(sent, 500e3, 0.0) {
                sent = (sent * by).min(2e6);
            }
        }
        assert!((450e3..650e3).contains(&sent), "{sent}");
        assert!(way.losses.own < 0.05);
    }

    #[test]
    fn losses_that_less_does_not_lessen_are_the_ways_own() {
        let mut way = Way::new();
        let mut sent = 1e6;
        let mut verdicts = Vec::new();
        for _ in 0..60 {
            let verdict = way.look(sent, 1e9, 0.25);
            match verdict {
                Verdict::Scale(by) => sent = (sent * by).min(1e6),
                Verdict::Own => sent = 1e6,
                Verdict::Wait => {}
            }
            verdicts.push(verdict);
        }
        assert!(verdicts.contains(&Verdict::Own), "{verdicts:?}");
        assert!(sent > 0.9e6, "{sent}: {verdicts:?}");
        // They end, and with them what was known of them.
        for _ in 0..20 {
            way.look(1e6, 1e9, 0.0);
        }
        assert!(way.losses.own < 0.01);
    }

    #[test]
    fn few_packets_say_nothing() {
        let mut losses = Losses::default();
        losses.report(5, 19, 0);
        assert_eq!(losses.weigh(600_000, 1e5), Verdict::Wait);
        losses.report(0, 1, 2);
        assert!(!cuts(losses.weigh(700_000, 1e5)), "3 of 20");
    }
}
