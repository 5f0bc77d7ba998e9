//! Inputs whose frames can't be drawn because of a defect in this program: each is left out for a while, and the others are drawn.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::FrameSlot;

/// For how long one is left out; each time twice as long.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Faults {
    now: Option<Instant>,
    faults: Vec<Fault>,
}

#[derive(Debug)]
struct Fault {
    input: Weak<FrameSlot>,
    /// Of the last that was.
    pause: Duration,
    /// None: not before the clock is known.
    until: Option<Instant>,
}

impl Faults {
    /// Goes on in time.
    pub(super) fn advance(&mut self, now: Instant) {
        self.now = Some(now);
        for fault in &mut self.faults {
            fault.until.get_or_insert(now + fault.pause);
        }
        self.faults.retain(|fault| fault.input.strong_count() > 0);
    }

    /// Does something with an input's frame. None if that is left out, or was a defect, whereupon the input has failed.
    pub(super) fn guard<T>(&mut self, input: Option<&Arc<FrameSlot>>, work: impl FnOnce() -> T) -> Option<T> {
        let Some(input) = input else { return Some(work()) };
        let now = self.now;
        let known =
            self.faults.iter_mut().find(|fault| std::ptr::eq(fault.input.as_ptr(), Arc::as_ptr(input)));
        if let Some(fault) = &known
            && fault.until.zip(now).is_none_or(|(until, now)| now < until)
        {
            input.fail();
            return None;
        }
        if let Ok(done) = std::panic::catch_unwind(AssertUnwindSafe(work)) {
            return Some(done);
        }
        tracing::error!("an input's frame can't be drawn, it is left out for a while");
        input.fail();
        let next = |pause: Duration| (pause * 2).clamp(PAUSE.0, PAUSE.1);
        match known {
            Some(fault) => (fault.pause, fault.until) = (next(fault.pause), None),
            None => self.faults.push(Fault { input: Arc::downgrade(input), pause: PAUSE.0, until: None }),
        }
        None
    }
}
