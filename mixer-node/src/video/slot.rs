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
}

/// Holds one frame; a newer one replaces it. Both sides hold the lock only to exchange a pointer.
#[derive(Default)]
pub struct FrameSlot {
    newest: Mutex<Option<Stamped>>,
    put: Condvar,
}

impl FrameSlot {
    /// Replaces the frame.
    pub fn put(&self, frame: Arc<dyn Frame>, now: Instant) {
        let mut slot = self.newest.lock();
        let number = slot.as_ref().map_or(1, |stamped| stamped.number + 1);
        let _old = slot.replace(Stamped { number, at: now, frame });
        self.put.notify_all();
    }

    /// Waits until there is a frame other than number `seen` (0 = none), or until `deadline`. The newest frame, be it that one or
    /// another.
    #[must_use]
    pub fn wait(&self, seen: u64, deadline: Instant) -> Option<Stamped> {
        let mut slot = self.newest.lock();
        let unchanged =
            |slot: &mut Option<Stamped>| slot.as_ref().map_or(0, |stamped| stamped.number) == seen;
        self.put.wait_while_until(&mut slot, unchanged, deadline);
        slot.clone()
    }

    /// The newest frame, if there ever was one.
    #[must_use]
    pub fn newest(&self) -> Option<Stamped> {
        self.newest.lock().clone()
    }

    /// When the newest frame was decoded.
    #[must_use]
    pub fn last_at(&self) -> Option<Instant> {
        self.newest.lock().as_ref().map(|stamped| stamped.at)
    }
}

impl std::fmt::Debug for FrameSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FrameSlot").field(&self.newest().map(|stamped| stamped.number)).finish()
    }
}
