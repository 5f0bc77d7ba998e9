//! What a thread is to do: replaced whole by whoever decides, looked at by the thread at each of its ticks. A thread that stands still is
//! left to itself, and another one does its work.

use std::{
    io,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::watchdog::Watchdog;

/// Pause after a defect ended a thread's work, before it begins anew.
const AFTER_PANIC: Duration = Duration::from_millis(500);
/// How long a thread may take for a tick. The usual one is some milliseconds, and waiting is done in pieces of 200 ms at most.
const STANDSTILL: Duration = Duration::from_millis(1000);
/// Threads that were left to themselves and have not come back; with more of them nothing is tried any more until one does.
const MAX_LOST: usize = 4;

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

/// Tells a thread when to end.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<Asked>);

#[derive(Debug, Default)]
struct Asked {
    stop: AtomicBool,
    /// How often the thread looked.
    looks: AtomicU64,
}

impl Stop {
    /// Whether to end. Asked by the thread at each tick, which shows that it is alive.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.looks.fetch_add(1, Ordering::Relaxed);
        self.has_come()
    }

    /// The same, for whoever works for the thread.
    #[must_use]
    pub fn has_come(&self) -> bool {
        self.0.stop.load(Ordering::Relaxed)
    }

    fn ask(&self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

type Work<T> = dyn Fn(&Plan<T>, &Stop) + Send + Sync;

/// A thread that works by a plan until this is dropped.
pub struct Planned<T> {
    name: String,
    plan: Arc<Plan<T>>,
    work: Arc<Work<T>>,
    duty: Mutex<Duty>,
}

/// Who works.
#[derive(Debug)]
struct Duty {
    stop: Stop,
    watchdog: Watchdog,
    /// Those who did before and have not ended.
    lost: Vec<Weak<Asked>>,
}

impl<T: Send + Sync + 'static> Planned<T> {
    /// Starts the thread. If `work` panics, it is called again after a pause; it ends by returning. What is made for it must end with its
    /// [`Stop`], for another thread may have taken its place.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        name: &str,
        plan: T,
        work: impl Fn(&Plan<T>, &Stop) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let duty = Duty { stop: Stop::default(), watchdog: Watchdog::new(STANDSTILL), lost: Vec::new() };
        let this = Self {
            name: name.to_owned(),
            plan: Arc::new(Plan::new(plan)),
            work: Arc::new(work),
            duty: Mutex::new(duty),
        };
        let stop = this.duty.lock().stop.clone();
        this.spawn(stop)?;
        Ok(this)
    }

    /// Replaces the plan; the thread sees it at its next tick.
    pub fn set(&self, plan: T) {
        self.plan.set(plan);
    }

    /// Looks after the thread; called some times a second. If it stands still, another one begins by the plan as it is, which is true then.
    pub fn watch(&self, now: Instant) -> bool {
        let mut duty = self.duty.lock();
        let looks = duty.stop.0.looks.load(Ordering::Relaxed);
        if !duty.watchdog.look(true, looks, now) {
            return false;
        }
        duty.lost.retain(|lost| lost.strong_count() > 0);
        if duty.lost.len() >= MAX_LOST {
            tracing::error!(
                thread = self.name,
                "stands still, as those before it do; waiting for one of them"
            );
            return false;
        }
        let next = Stop::default();
        duty.stop.ask();
        if let Err(error) = self.spawn(next.clone()) {
            tracing::error!(thread = self.name, %error, "stands still, and there is no other thread");
            duty.stop.0.stop.store(false, Ordering::Relaxed);
            return false;
        }
        tracing::error!(thread = self.name, "stands still, another one takes its place");
        metrics::counter!("kaigi_mixer_rebuilt_total", "what" => "view").increment(1);
        let old = std::mem::replace(&mut duty.stop, next);
        duty.lost.push(Arc::downgrade(&old.0));
        true
    }

    fn spawn(&self, stop: Stop) -> io::Result<()> {
        let (plan, work, thread) = (Arc::clone(&self.plan), Arc::clone(&self.work), self.name.clone());
        let run = move || {
            while !stop.is_asked() {
                if std::panic::catch_unwind(AssertUnwindSafe(|| work(&plan, &stop))).is_ok() {
                    return;
                }
                tracing::error!(thread, "work ended by a defect, beginning anew");
                metrics::counter!("kaigi_mixer_rebuilt_total", "what" => "view").increment(1);
                std::thread::sleep(AFTER_PANIC);
            }
        };
        std::thread::Builder::new().name(self.name.clone()).spawn(run).map(drop)
    }
}

impl<T> Drop for Planned<T> {
    fn drop(&mut self) {
        self.duty.lock().stop.ask();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::AtomicUsize,
        mpsc::{self, RecvTimeoutError},
    };

    use super::*;

    /// The machine that runs the tests may be busy.
    const DEADLINE: Duration = Duration::from_secs(60);
    const STEP: Duration = Duration::from_millis(200);

    fn until_asked(stop: &Stop) {
        while !stop.is_asked() {
            std::thread::yield_now();
        }
    }

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
        let calls = AtomicUsize::new(0);
        let thread = Planned::start("test", (), move |_, stop| {
            let call = calls.fetch_add(1, Ordering::Relaxed) + 1;
            tx.send(call).unwrap();
            assert!(call > 1, "the first time it fails");
            until_asked(stop);
        })
        .unwrap();
        assert_eq!(rx.recv_timeout(DEADLINE), Ok(1));
        assert_eq!(rx.recv_timeout(DEADLINE), Ok(2));
        drop(thread);
        assert_eq!(rx.recv_timeout(DEADLINE), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn a_thread_that_stands_still_is_replaced_by_one_with_the_newest_plan() {
        let ((tx, rx), (release, hung)) = (mpsc::channel(), mpsc::channel::<()>());
        let hung = Mutex::new(Some(hung));
        let thread = Planned::start("test", 1, move |plan: &Plan<i32>, stop| {
            tx.send((*plan.news(&mut 0).unwrap(), stop.clone())).unwrap();
            let hangs = hung.lock().take();
            if let Some(hung) = hangs {
                let _released = hung.recv();
            }
            until_asked(stop);
        })
        .unwrap();
        let (first, old) = rx.recv_timeout(DEADLINE).unwrap();
        assert_eq!(first, 1);
        thread.set(2);
        let start = Instant::now();
        let replaced = (0..20).find(|step| thread.watch(start + STEP * *step));
        assert!(replaced.is_some_and(|step| STEP * step < Duration::from_secs(2)), "{replaced:?}");
        assert!(old.has_come());
        let (second, new) = rx.recv_timeout(DEADLINE).unwrap();
        assert_eq!((second, new.has_come()), (2, false));
        release.send(()).unwrap();
        drop((old, new, thread));
        assert!(rx.recv_timeout(DEADLINE).is_err(), "both have ended");
    }

    #[test]
    fn threads_that_never_come_back_are_not_made_without_end() {
        let ((release, hung), (tx, rx)) = (mpsc::channel::<()>(), mpsc::channel());
        let hung = Mutex::new(hung);
        let work = move |_: &Plan<()>, _: &Stop| {
            tx.send(()).unwrap();
            let _released = hung.lock().recv();
        };
        let thread = Planned::start("test", (), work).unwrap();
        rx.recv_timeout(DEADLINE).unwrap();
        let (start, mut made) = (Instant::now(), 0);
        for step in 0..1000 {
            if thread.watch(start + STEP * step) {
                made += 1;
                rx.recv_timeout(DEADLINE).unwrap();
            }
        }
        assert_eq!(made, MAX_LOST);
        drop(release);
    }
}
