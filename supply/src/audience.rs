//! Whether anybody takes any of some tracks: what nobody takes need not be made, nor what it is made of.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Counts who takes a group of tracks.
#[derive(Debug)]
pub struct Audience {
    takers: watch::Sender<usize>,
    /// For threads: tasks watch the number.
    door: Mutex<()>,
    came: Condvar,
}

impl Default for Audience {
    fn default() -> Self {
        Self { takers: watch::Sender::new(0), door: Mutex::default(), came: Condvar::new() }
    }
}

impl Audience {
    /// Of one of the tracks there were `before` takers and are `now`.
    pub(crate) fn change(&self, before: usize, now: usize) {
        if before != now {
            self.takers.send_modify(|takers| *takers = takers.saturating_sub(before) + now);
            let _door = self.door.lock();
            self.came.notify_all();
        }
    }

    /// Whether there is anybody.
    #[must_use]
    pub fn is_present(&self) -> bool {
        *self.takers.borrow() > 0
    }

    /// Blocks until there is somebody, for `longest` at most.
    pub fn wait(&self, longest: Duration) {
        let mut door = self.door.lock();
        if !self.is_present() {
            self.came.wait_for(&mut door, longest);
        }
    }

    /// Whether somebody is there or was less than `rest` ago, as it changes. Must be called within a tokio runtime.
    #[must_use]
    pub fn attendance(&self, rest: Duration) -> Attendance {
        let mut takers = self.takers.subscribe();
        let (tell, told) = watch::channel(*takers.borrow() > 0);
        let follow = async move {
            loop {
                if takers.wait_for(|takers| *takers > 0).await.is_err() {
                    return;
                }
                tell.send_replace(true);
                if takers.wait_for(|takers| *takers == 0).await.is_err() {
                    return;
                }
                let back = takers.wait_for(|takers| *takers > 0);
                if tokio::time::timeout(rest, back).await.is_err() {
                    tell.send_replace(false);
                }
            }
        };
        Attendance { told, _follow: AbortOnDropHandle::new(tokio::spawn(follow)) }
    }
}

/// See [`Audience::attendance`]; ends when dropped, and then nobody is there.
#[derive(Debug)]
pub struct Attendance {
    told: watch::Receiver<bool>,
    _follow: AbortOnDropHandle<()>,
}

impl Attendance {
    /// For those who act on it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.told.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn it_is_told_when_the_first_comes_and_when_the_last_has_gone() {
        let audience = Audience::default();
        let attendance = audience.attendance(Duration::ZERO);
        let mut told = attendance.watch();
        assert!(!*told.borrow_and_update());
        audience.change(0, 2);
        told.changed().await.unwrap();
        assert!(*told.borrow_and_update() && audience.is_present());
        audience.change(2, 1);
        audience.change(0, 1);
        audience.change(1, 0);
        assert!(audience.is_present(), "one is left");
        audience.change(1, 0);
        told.changed().await.unwrap();
        assert!(!*told.borrow_and_update() && !audience.is_present());
    }

    #[tokio::test]
    async fn the_last_who_goes_is_waited_for() {
        let audience = Audience::default();
        let attendance = audience.attendance(Duration::from_secs(3600));
        let mut told = attendance.watch();
        audience.change(0, 1);
        told.changed().await.unwrap();
        told.mark_unchanged();
        for _ in 0..5 {
            audience.change(1, 0);
            tokio::task::yield_now().await;
            audience.change(0, 1);
            tokio::task::yield_now().await;
            assert!(*told.borrow());
        }
    }

    #[test]
    fn threads_wait_until_somebody_comes() {
        let audience = Arc::new(Audience::default());
        let comes = Arc::clone(&audience);
        let waiting = std::thread::spawn(move || {
            while !comes.is_present() {
                comes.wait(Duration::from_secs(60));
            }
        });
        audience.change(0, 1);
        waiting.join().unwrap();
    }
}
