//! Writes down how a room is, for whoever takes it over: one write at a time, of what has changed since the last one.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::BoxFuture;
use kaigi_proto::{
    ids::RoomId,
    v1::{self, store_client::StoreClient},
};
use kaigi_worker::Channel;
use serde::{Deserialize, Serialize};
use tonic::{Code, Request, Status};

use crate::room::Changes;

/// Longest wait for the store; then it is taken to be away, and told everything when it is back.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long what the room says waits for being written down. A store that takes longer is away: what happens is then said all the same.
const PATIENCE: Duration = Duration::from_millis(400);
/// First and longest pause between attempts at a store that is away.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A room in which nothing happens is written down so often, so that it is known to live, and whether it is still this agent's.
const TOUCH: Duration = Duration::from_secs(5);
/// A room that nobody has written for so long is not taken over: its nodes have given it up, and its people have gone.
const STALE: Duration = Duration::from_secs(120);
/// Most bytes of one call. More is written in several, of which the last has the head: without it nothing is taken over.
const CALL_BYTES: usize = 2 << 20;
/// Of each part, beside its name and value.
const OVERHEAD: usize = 16;
/// The part that is written each time.
const HEAD: &str = "head";

/// What became of a write.
#[derive(Debug)]
pub(crate) enum Written {
    /// It is kept.
    Kept,
    /// The room is another agent's.
    Fenced,
    /// What is kept is not what was thought, or that is not known.
    Unknown(Status),
}

/// What is true of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// Of the last event.
    pub(crate) latest: u64,
    /// See `Log`.
    pub(crate) lost: u64,
    /// When it was written, Unix ms.
    written_ms: u64,
}

impl Head {
    pub(crate) fn new(latest: u64, lost: u64) -> Self {
        Self { latest, lost, written_ms: unix_ms() }
    }

    /// The head among the parts of a room that may be taken over.
    pub(crate) fn find(parts: &std::collections::BTreeMap<String, Vec<u8>>) -> Option<Self> {
        let head: Self = serde_json::from_slice(parts.get(HEAD)?).ok()?;
        let age = Duration::from_millis(unix_ms().saturating_sub(head.written_ms));
        (age < STALE).then_some(head)
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// See the module's description.
pub(crate) struct Keeper {
    store: StoreClient<Channel>,
    room: RoomId,
    epoch: u64,
    /// Of the last write.
    version: u64,
    /// Whether the next write has to be of everything.
    whole: bool,
    writing: Option<(Instant, BoxFuture<'static, Written>)>,
    away: bool,
    pause: Duration,
    retry_at: Option<Instant>,
    touch_at: Instant,
}

impl Keeper {
    pub(crate) fn new(store: StoreClient<Channel>, room: RoomId, epoch: u64, now: Instant) -> Self {
        Self {
            store,
            room,
            epoch,
            version: 0,
            whole: true,
            writing: None,
            away: false,
            pause: RETRY.0,
            retry_at: None,
            touch_at: now,
        }
    }

    /// Whether something may be written now.
    pub(crate) fn may_write(&self, now: Instant) -> bool {
        self.writing.is_none() && self.retry_at.is_none_or(|at| at <= now)
    }

    /// Whether the next write has to be of everything.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether something is to be written in any case.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.whole || self.touch_at <= now
    }

    /// Whether what is said need not wait: the store is away.
    pub(crate) fn is_away(&self) -> bool {
        self.away
    }

    /// Whether nothing is being written, and nothing is to be written again. What has changed since, the keeper does not know.
    pub(crate) fn is_settled(&self) -> bool {
        self.writing.is_none() && self.retry_at.is_none() && !self.whole
    }

    /// When there is something to do, unless something is written.
    pub(crate) fn next_deadline(&self) -> Instant {
        match (&self.writing, self.retry_at) {
            (Some((since, _)), _) if !self.away => *since + PATIENCE,
            (Some((since, _)), _) => *since + TIMEOUT * 2,
            (None, Some(at)) => at,
            (None, None) => self.touch_at,
        }
    }

    /// Gives up waiting for a store that does not answer in time.
    pub(crate) fn timeout(&mut self, now: Instant) {
        if self.writing.as_ref().is_some_and(|(since, _)| *since + PATIENCE <= now) {
            self.away = true;
        }
    }

    /// Writes; [`Self::written`] tells what came of it.
    pub(crate) fn write(&mut self, changes: Changes, head: Head, now: Instant) {
        let calls = self.calls(changes, head);
        let (mut store, bytes) = (self.store.clone(), calls.iter().map(size).sum::<usize>());
        metrics::counter!("kaigi_conference_snapshot_bytes_total").increment(bytes as u64);
        let writing = async move {
            for call in calls {
                let mut request = Request::new(call);
                request.set_timeout(TIMEOUT);
                let answer = tokio::time::timeout(TIMEOUT, store.write_snapshot(request)).await;
                match answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
                    Ok(_) => {}
                    Err(status) if status.code() == Code::FailedPrecondition => return Written::Fenced,
                    Err(status) => return Written::Unknown(status),
                }
            }
            Written::Kept
        };
        self.touch_at = now + TOUCH;
        self.retry_at = None;
        self.writing = Some((now, Box::pin(writing)));
    }

    fn calls(&mut self, changes: Changes, head: Head) -> Vec<v1::WriteSnapshotRequest> {
        let mut calls: Vec<v1::WriteSnapshotRequest> = Vec::new();
        let mut bytes = 0;
        let mut next = |calls: &mut Vec<v1::WriteSnapshotRequest>, whole| {
            self.version += 1;
            calls.push(v1::WriteSnapshotRequest {
                room_id: self.room.to_string(),
                epoch: self.epoch,
                version: self.version,
                whole,
                parts: Vec::new(),
                removed: Vec::new(),
            });
        };
        next(&mut calls, std::mem::take(&mut self.whole));
        let mut room_for = |calls: &mut Vec<v1::WriteSnapshotRequest>, size: usize| {
            bytes += size + OVERHEAD;
            if bytes > CALL_BYTES {
                next(calls, false);
                bytes = size + OVERHEAD;
            }
        };
        for (key, value) in changes.parts {
            room_for(&mut calls, key.len() + value.len());
            let part = v1::SnapshotPart { key, value };
            calls.last_mut().expect("there is one").parts.push(part);
        }
        for key in changes.removed {
            room_for(&mut calls, key.len());
            calls.last_mut().expect("there is one").removed.push(key);
        }
        let head = serde_json::to_vec(&head).expect("numbers are JSON");
        let head = v1::SnapshotPart { key: HEAD.to_owned(), value: head };
        calls.last_mut().expect("there is one").parts.push(head);
        calls
    }

    /// What came of the write; waits for ever if there is none. Cancellation safe.
    pub(crate) async fn written(&mut self) -> Written {
        let Some((_, writing)) = &mut self.writing else { return std::future::pending().await };
        let written = writing.await;
        self.writing = None;
        written
    }

    /// Takes notice of what came of a write.
    pub(crate) fn note(&mut self, written: &Written, now: Instant) {
        let outcome = match written {
            Written::Kept => {
                (self.away, self.pause) = (false, RETRY.0);
                "ok"
            }
            Written::Fenced => "fenced",
            Written::Unknown(status) => {
                tracing::debug!(room = %self.room, %status, "not written down, trying again");
                // One that keeps another version is there.
                self.away = status.code() != Code::Aborted;
                self.whole = true;
                self.retry_at = Some(now + self.pause);
                self.pause = (self.pause * 2).min(RETRY.1);
                "error"
            }
        };
        metrics::counter!("kaigi_conference_snapshot_writes_total", "outcome" => outcome).increment(1);
    }
}

fn size(call: &v1::WriteSnapshotRequest) -> usize {
    let parts = call.parts.iter().map(|part| part.key.len() + part.value.len());
    parts.chain(call.removed.iter().map(String::len)).sum()
}
