//! When the connection of a client is broken so that it comes back elsewhere: best when nothing is on its way in either direction. Of one that
//! always asks something, between two of its requests; and where there is no such moment, when those that were taken are answered.

use std::time::Duration;

use tokio::time::Instant;

/// A client is quiet when it has asked nothing for so long.
const QUIET: Duration = Duration::from_millis(100);
/// Longest wait for that; from then on it goes when it has just been answered.
const BUSY: Duration = Duration::from_millis(1500);
/// Longest wait for that, too; from then on no request is taken any more.
const CLOSING: Duration = Duration::from_millis(2000);
/// Longest wait for the client to have the last answers.
const END: Duration = Duration::from_millis(2700);

/// A connection that is to be broken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parting {
    since: Instant,
}

/// What there is of the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traffic {
    /// Whether requests wait.
    pub(super) waiting: bool,
    /// When something was asked last.
    pub(super) asked: Instant,
    /// Whether the client has got everything that was sent.
    pub(super) all_arrived: bool,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Look again at that time, or when something happens before.
    Wait(Instant),
    /// The same, and take no request that comes from now on.
    Close(Instant),
    /// Break it.
    Break,
}

impl Parting {
    pub(super) fn begun(since: Instant) -> Self {
        Self { since }
    }

    pub(super) fn step(self, now: Instant, traffic: Traffic) -> Step {
        let settled = !traffic.waiting && traffic.all_arrived;
        let (busy, closing, end) = (self.since + BUSY, self.since + CLOSING, self.since + END);
        let quiet_at = traffic.asked + QUIET;
        // Who asks again and again has just been answered, so that nothing new is on its way yet.
        let is_between = traffic.asked >= busy || now >= closing;
        if now >= end || (settled && (quiet_at <= now || is_between)) {
            return Step::Break;
        }
        match [busy, closing].into_iter().find(|stage| now < *stage) {
            Some(stage) if quiet_at > now => Step::Wait(quiet_at.min(stage)),
            Some(stage) => Step::Wait(stage),
            None => Step::Close(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
    fn traffic(waiting: bool, asked: Instant, all_arrived: bool) -> Traffic {
        Traffic { waiting, asked, all_arrived }
    }

    #[tokio::test]
    async fn who_is_quiet_goes_at_once_and_who_was_not_when_he_is() {
        let start = Instant::now() + ms(1000);
        let parting = Parting::begun(start);
        assert_eq!(parting.step(start, traffic(false, start - ms(500), true)), Step::Break);
        assert_eq!(parting.step(start, traffic(false, start - ms(30), true)), Step::Wait(start + ms(70)));
        assert_eq!(parting.step(start + ms(70), traffic(false, start - ms(30), true)), Step::Break);
        let unread = traffic(false, start - ms(500), false);
        assert_eq!(parting.step(start, unread), Step::Wait(start + BUSY), "an answer is on its way");
    }

    #[tokio::test]
    async fn who_always_asks_goes_between_two_requests() {
        let start = Instant::now();
        let parting = Parting::begun(start);
        let busy = start + BUSY;
        let before = traffic(false, busy - ms(20), true);
        assert_eq!(parting.step(busy - ms(1), before), Step::Wait(busy));
        assert_eq!(parting.step(busy, before), Step::Wait(busy + ms(80)), "he may be about to ask again");
        let unread = traffic(false, busy + ms(30), false);
        assert_eq!(
            parting.step(busy + ms(30), unread),
            Step::Wait(busy + ms(130)),
            "he has to have his answer"
        );
        assert_eq!(parting.step(busy + ms(31), traffic(false, busy + ms(30), true)), Step::Break);
    }

    #[tokio::test]
    async fn who_asks_without_a_pause_is_answered_what_was_taken_and_no_more() {
        let start = Instant::now();
        let parting = Parting::begun(start);
        let now = start + CLOSING;
        assert_eq!(parting.step(now, traffic(true, now, false)), Step::Close(start + END));
        assert_eq!(parting.step(now + ms(3), traffic(false, now, true)), Step::Break);
        assert_eq!(parting.step(start + END, traffic(true, now, false)), Step::Break, "who does not read");
    }
}
