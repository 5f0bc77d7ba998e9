//! The thread that writes: group commit, and reopening after the disk failed.

use std::{
    sync::{Arc, PoisonError, RwLock},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use redb::{Database, DatabaseError, Durability};
use tokio::sync::{mpsc, oneshot};

use super::{
    OpenError,
    tables::{WriteError, Writing},
};
use crate::store::StoreError;

/// Writes that may wait for the thread; beyond it callers wait for a place (backpressure reaches the gRPC client).
const QUEUE: usize = 1024;
/// Most writes in one transaction: bounds how long the first one waits for the others.
const BATCH: usize = 256;
/// What can wait is on disk after this time, provided that something is written then.
const AT_LEISURE: Duration = Duration::from_secs(1);
/// Longest wait for running reads to end before a failed database can be closed and opened again.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Opens the database; asked again after it failed.
pub(super) type Opener = Box<dyn FnMut() -> Result<Database, DatabaseError> + Send>;
/// Tells a caller how its write ended, once the transaction has.
type Acknowledge = Box<dyn FnOnce(Result<(), &str>) + Send>;
/// One caller's write.
type Job = Box<dyn FnOnce(&mut Writing<'_>) -> Result<Acknowledge, redb::Error> + Send>;
/// Empty between a failure and the reopening.
type Current = Arc<RwLock<Option<Arc<Database>>>>;

/// Handle of the thread. Dropping it finishes what is queued and closes the file.
pub(super) struct Writer {
    current: Current,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(mut opener: Opener) -> Result<Self, OpenError> {
        let database = open(&mut opener).map_err(|e| match e {
            redb::Error::DatabaseAlreadyOpen => OpenError::InUse,
            other => OpenError::Broken(other.to_string()),
        })?;
        let current: Current = Arc::new(RwLock::new(Some(Arc::new(database))));
        let (jobs, queue) = mpsc::channel(QUEUE);
        let theirs = current.clone();
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || work(&theirs, &mut opener, queue))
            .map_err(|e| OpenError::Broken(e.to_string()))?;
        Ok(Self { current, jobs: Some(jobs), thread: Some(thread) })
    }

    /// The database, for reading.
    pub(super) fn database(&self) -> Result<Arc<Database>, StoreError> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone().ok_or_else(|| StoreError::Failed("the file is being opened again".into()))
    }

    /// Runs `write` in the next transaction; ready when that is on disk.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Writing<'_>) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Failed("nothing was written".into());
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |tables| {
            let outcome = match write(tables) {
                Ok(value) => Ok(value),
                Err(WriteError::Refused(refusal)) => Err(refusal),
                Err(WriteError::Failed(error)) => return Err(error),
            };
            Ok(Box::new(move |committed: Result<(), &str>| {
                // The caller may have given up waiting; then nobody needs the answer.
                let _ = reply.send(match committed {
                    Ok(()) => outcome,
                    Err(text) => Err(StoreError::Failed(text.to_owned())),
                });
            }))
        });
        self.jobs.as_ref().ok_or_else(gone)?.send(job).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn open(opener: &mut Opener) -> Result<Database, redb::Error> {
    let database = opener()?;
    let transaction = database.begin_write()?;
    Writing::create_tables(&transaction)?;
    transaction.commit()?;
    Ok(database)
}

fn work(current: &Current, opener: &mut Opener, mut queue: mpsc::Receiver<Job>) {
    let mut on_disk = Instant::now();
    while let Some(first) = queue.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(job) = queue.try_recv()
        {
            batch.push(job);
        }
        if current.read().unwrap_or_else(PoisonError::into_inner).is_none() {
            reopen(current, opener);
        }
        let database = current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(database) = database else { continue };
        metrics::histogram!("kaigi_store_batch_writes").record(batch.len() as f64);
        let began = Instant::now();
        let mut acknowledges = Vec::with_capacity(batch.len());
        let outcome = commit(&database, batch, &mut acknowledges, &mut on_disk);
        metrics::histogram!("kaigi_store_commit_seconds").record(began.elapsed());
        match outcome {
            Ok(()) => acknowledges.into_iter().for_each(|acknowledge| acknowledge(Ok(()))),
            Err(error) => {
                tracing::error!(%error, "the store failed to write");
                metrics::counter!("kaigi_store_failures_total").increment(1);
                let text = error.to_string();
                acknowledges.into_iter().for_each(|acknowledge| acknowledge(Err(&text)));
                close(current, database);
            }
        }
    }
}

/// One transaction for the whole batch. Those whose acknowledgement is missing afterwards learn it by their dropped channel.
fn commit(
    database: &Database,
    batch: Vec<Job>,
    acknowledges: &mut Vec<Acknowledge>,
    on_disk: &mut Instant,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    let mut writing = Writing::open(&transaction)?;
    for job in batch {
        acknowledges.push(job(&mut writing)?);
    }
    let (changed, urgent) = (writing.changed(), writing.is_urgent());
    drop(writing);
    if changed {
        if urgent || on_disk.elapsed() >= AT_LEISURE {
            *on_disk = Instant::now();
        } else {
            transaction
                .set_durability(Durability::None)
                .map_err(|e| redb::Error::from(redb::StorageError::Corrupted(e.to_string())))?;
        }
        transaction.commit()?
    } else {
        transaction.abort()?
    }
    Ok(())
}

/// redb refuses all further work after a failed read or write until the file is opened anew.
fn close(current: &Current, mut database: Arc<Database>) {
    *current.write().unwrap_or_else(PoisonError::into_inner) = None;
    let deadline = Instant::now() + CLOSE_TIMEOUT;
    while let Err(shared) = Arc::try_unwrap(database) {
        if Instant::now() > deadline {
            tracing::error!("a read of the failed store does not end");
            return;
        }
        database = shared;
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn reopen(current: &Current, opener: &mut Opener) {
    match open(opener) {
        Ok(database) => {
            tracing::info!("the store works again");
            *current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(database));
        }
        Err(error) => tracing::error!(%error, "the store can't be opened again"),
    }
}
