//! Peers on threads: each thread has many, each peer a socket of its own, so that the server can tell them apart as it does browsers.

mod impair;
mod slot;
mod thread;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
};

use mio::{Poll, Waker};
use tokio::sync::oneshot;

pub use self::{
    impair::Impairment,
    slot::{MAX_EVENTS, PeerKey, Slot, SlotError},
    thread::World,
};

/// Jobs that wait for a thread; whoever has another one waits.
const MAX_JOBS: usize = 4096;
/// That a thread has something to do.
const WAKER: mio::Token = mio::Token(usize::MAX);

type Job = Box<dyn FnOnce(&mut World) + Send>;

/// Why a thread does not do something.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// It can't be started.
    #[error("no thread for peers: {0}")]
    Start(#[from] std::io::Error),
    /// It has ended.
    #[error("a thread of peers has ended")]
    Ended,
}

struct Thread {
    jobs: SyncSender<Job>,
    waker: Waker,
    handle: Mutex<Option<JoinHandle<()>>>,
}

/// All threads.
#[derive(Clone)]
pub struct Driver {
    threads: Arc<Vec<Thread>>,
    next: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("threads", &self.threads.len()).finish_non_exhaustive()
    }
}

impl Driver {
    /// Starts threads.
    ///
    /// # Errors
    /// If the system has none left.
    pub fn start(threads: usize) -> Result<Self, DriverError> {
        let start = |number: usize| -> Result<Thread, DriverError> {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), WAKER)?;
            let (jobs, received) = sync_channel(MAX_JOBS);
            let handle = std::thread::Builder::new()
                .name(format!("peers-{number}"))
                .spawn(move || thread::run(poll, &received))?;
            Ok(Thread { jobs, waker, handle: Mutex::new(Some(handle)) })
        };
        let threads: Result<Vec<_>, _> = (0..threads.max(1)).map(start).collect();
        Ok(Self { threads: Arc::new(threads?), next: Arc::default() })
    }

    /// The thread that is to have the next peer.
    #[must_use]
    pub fn thread_for_next(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed) % self.threads.len()
    }

    /// Does something on a thread.
    ///
    /// # Errors
    /// If it has ended.
    pub async fn call<T: Send + 'static>(
        &self,
        thread: usize,
        job: impl FnOnce(&mut World) -> T + Send + 'static,
    ) -> Result<T, DriverError> {
        let (reply, replied) = oneshot::channel();
        let job: Job = Box::new(move |world| {
            // Nobody waits any more: nothing to do.
            let _ = reply.send(job(world));
        });
        let thread = &self.threads[thread];
        thread.jobs.send(job).map_err(|_| DriverError::Ended)?;
        thread.waker.wake()?;
        replied.await.map_err(|_| DriverError::Ended)
    }

    /// Does the same on all threads.
    ///
    /// # Errors
    /// If one has ended.
    pub async fn all<T: Send + 'static>(
        &self,
        job: impl Fn(&mut World) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, DriverError> {
        let mut all = Vec::new();
        for thread in 0..self.threads.len() {
            all.push(self.call(thread, job.clone()).await?);
        }
        Ok(all)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // A thread ends when nobody can give it jobs any more.
        let (closed, _) = sync_channel(1);
        self.jobs = closed;
        let _ = self.waker.wake();
        if let Some(handle) = self.handle.lock().ok().and_then(|mut handle| handle.take()) {
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_are_done_and_threads_end() {
        let driver = Driver::start(2).unwrap();
        assert_eq!(driver.all(|world| world.len()).await.unwrap(), [0, 0]);
        assert_ne!(driver.thread_for_next(), driver.thread_for_next());
        drop(driver);
    }
}
