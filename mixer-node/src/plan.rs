//! What a thread is to do: replaced whole by whoever decides, looked at by the thread at each of its ticks.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

/// Pause after a defect ended a thread's work, before it begins anew.
const AFTER_PANIC: Duration = Duration::from_millis(500);

/// A plan and its version. The lock is held only to exchange a pointer.
#[derive(Debug)]
pub struct Plan<T>(Mutex<(u64, Arc<T>)>);

impl<T> Plan<T> {
    /// The first version.
    #[must_use]
    pub fn new(plan: T) -> Self {
        Self(Mutex::new((1, Arc::new(plan))))
    }

    /// Replaces it.
    pub fn set(&self, plan: T) {
        let plan = Arc::new(plan);
        let mut current = self.0.lock();
        *current = (current.0 + 1, plan);
    }

    /// The plan, if its version is not `seen`; then `seen` is brought up to date.
    pub fn news(&self, seen: &mut u64) -> Option<Arc<T>> {
        let current = self.0.lock();
        if current.0 == *seen {
            return None;
        }
        *seen = current.0;
        Some(Arc::clone(&current.1))
    }
}

/// A thread that works by a plan until this is dropped.
#[derive(Debug)]
pub struct Planned<T> {
    plan: Arc<Plan<T>>,
    stop: Arc<AtomicBool>,
}

/// Tells a thread when to end.
#[derive(Clone, Debug)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether to end.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<T: Send + Sync + 'static> Planned<T> {
    /// Starts the thread. If `work` panics, it is called again after a pause; it ends by returning.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        name: &str,
        plan: T,
        mut work: impl FnMut(&Plan<T>, &Stop) + Send + 'static,
    ) -> std::io::Result<Self> {
        let this = Self { plan: Arc::new(Plan::new(plan)), stop: Arc::default() };
        let (plan, stop) = (Arc::clone(&this.plan), Stop(Arc::clone(&this.stop)));
        let thread = name.to_owned();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            while !stop.is_asked() {
                if std::panic::catch_unwind(AssertUnwindSafe(|| work(&plan, &stop))).is_ok() {
                    return;
                }
                tracing::error!(thread, "work ended by a defect, beginning anew");
                std::thread::sleep(AFTER_PANIC);
            }
        })?;
        Ok(this)
    }

    /// Replaces the plan; the thread sees it at its next tick.
    pub fn set(&self, plan: T) {
        self.plan.set(plan);
    }
}

impl<T> Drop for Planned<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// The machine that runs the tests may be busy.
    const DEADLINE: Duration = Duration::from_secs(60);

    #[test]
    fn each_version_is_news_once() {
        let (plan, mut seen) = (Plan::new("a"), 0);
        assert_eq!(plan.news(&mut seen).as_deref(), Some(&"a"));
        assert_eq!(plan.news(&mut seen), None);
        plan.set("b");
        assert_eq!(plan.news(&mut seen).as_deref(), Some(&"b"));
    }

    #[test]
    fn a_panic_does_not_end_the_thread_and_dropping_does() {
        let (tx, rx) = mpsc::channel();
        let mut calls = 0;
        let thread = Planned::start("test", (), move |_, stop| {
            calls += 1;
            tx.send(calls).unwrap();
            assert!(calls > 1, "the first time it fails");
            while !stop.is_asked() {
                std::thread::yield_now();
            }
        })
        .unwrap();
        assert_eq!(rx.recv_timeout(DEADLINE), Ok(1));
        assert_eq!(rx.recv_timeout(DEADLINE), Ok(2));
        drop(thread);
        assert_eq!(rx.recv_timeout(DEADLINE), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
