//! The newest frame of an input, handed from the thread that decodes it to those that compose.

use std::{sync::Arc, time::Instant};

use parking_lot::{Condvar, Mutex};

use super::Frame;

/// A frame and what tells it from the one before.
#[derive(Clone)]
pub struct Stamped {
    /// Grows by one with each frame of the slot.
    pub number: u64,
    /// When it was decoded.
    pub at: Instant,
    /// The picture.
    pub frame: Arc<dyn Frame>,
    /// Whether it is as it was decoded, and not already as it is shown somewhere.
    pub whole: bool,
}

/// Holds one frame; a newer one replaces it. Both sides hold the lock only to exchange a pointer.
#[derive(Default)]
pub struct FrameSlot {
    held: Mutex<Held>,
    put: Condvar,
}

#[derive(Default)]
struct Held {
    /// Of the newest frame there ever was.
    number: u64,
    newest: Option<Stamped>,
    failed: bool,
}

impl FrameSlot {
    /// Replaces the frame.
    pub fn put(&self, frame: Arc<dyn Frame>, now: Instant) {
        self.set(frame, true, now);
    }

    /// Replaces the frame by one that is already as it is shown.
    pub fn put_fitted(&self, frame: Arc<dyn Frame>, now: Instant) {
        self.set(frame, false, now);
    }

    fn set(&self, frame: Arc<dyn Frame>, whole: bool, now: Instant) {
        let mut held = self.held.lock();
        held.number += 1;
        held.failed = false;
        let number = held.number;
        let _old = held.newest.replace(Stamped { number, at: now, frame, whole });
        self.put.notify_all();
    }

    /// Has the same picture as it was decoded, if there is one now.
    pub fn replace(&self, frame: Arc<dyn Frame>) {
        let mut held = self.held.lock();
        let number = held.number + 1;
        if let Some(newest) = &mut held.newest {
            (newest.number, newest.frame, newest.whole) = (number, frame, true);
            held.number = number;
            self.put.notify_all();
        }
    }

    /// Lets go of the frame.
    pub fn clear(&self) {
        self.held.lock().newest = None;
    }

    /// Lets go of the frame, and there is none to be expected: the input has failed, until the next frame comes.
    pub fn fail(&self) {
        let mut held = self.held.lock();
        (held.newest, held.failed) = (None, true);
    }

    /// Whether no frame is to be expected.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.held.lock().failed
    }

    /// Waits until there was a frame after number `seen` (0 = none), or until `deadline`. The newest frame, be it that one or
    /// another.
    #[must_use]
    pub fn wait(&self, seen: u64, deadline: Instant) -> Option<Stamped> {
        let mut held = self.held.lock();
        self.put.wait_while_until(&mut held, |held| held.number == seen, deadline);
        held.newest.clone()
    }

    /// The newest frame, if there is one.
    #[must_use]
    pub fn newest(&self) -> Option<Stamped> {
        self.held.lock().newest.clone()
    }

    /// When the newest frame was decoded.
    #[must_use]
    pub fn last_at(&self) -> Option<Instant> {
        self.held.lock().newest.as_ref().map(|stamped| stamped.at)
    }
}

impl std::fmt::Debug for FrameSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FrameSlot").field(&self.newest().map(|stamped| stamped.number)).finish()
    }
}
