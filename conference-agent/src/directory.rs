//! Where the running rooms take news of nodes.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use kaigi_proto::ids::{RoomId, TrackId, WorkerId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::room::{AccessEvent, EgressEvent, Loudness, MixerEvent};

/// Most events of nodes that wait for a room. A room handles one in microseconds, so that one which lets so many pile up is stuck.
pub(crate) const MAX_NEWS: usize = 4096;

/// What a room is told of a node.
#[derive(Debug)]
pub(crate) enum News {
    Access(AccessEvent),
    /// How loud publications are.
    Speakers(Vec<(TrackId, Loudness)>),
    Mixer(MixerEvent),
    Streaming(EgressEvent),
    Lost,
    Resumed,
    /// The node is to end.
    Draining,
    /// A mixer came or went.
    MixersChanged,
}

/// A running room's letter box for news.
#[derive(Clone, Debug)]
pub(crate) struct NewsDoor {
    pub(crate) news: mpsc::Sender<(WorkerId, News)>,
    /// Ends the room: it missed news and would be wrong for ever.
    pub(crate) overrun: CancellationToken,
}

/// The running rooms.
#[derive(Debug, Default)]
pub(crate) struct Directory(Mutex<Doors>);

#[derive(Debug, Default)]
struct Doors {
    rooms: HashMap<RoomId, NewsDoor>,
    /// Nodes that are to end, of which rooms that begin later are told, too.
    draining: BTreeSet<WorkerId>,
}

impl Directory {
    pub(crate) fn insert(&self, room: RoomId, door: NewsDoor) {
        let mut doors = self.doors();
        for worker in &doors.draining {
            door.put(worker, News::Draining);
        }
        doors.rooms.insert(room, door);
    }

    pub(crate) fn remove(&self, room: &RoomId) {
        self.doors().rooms.remove(room);
    }

    /// Tells one room; a room that does not run is not told. Never waits: a room whose letter box is full is ended.
    pub(crate) fn tell(&self, room: &RoomId, worker: &WorkerId, news: News) {
        if let Some(door) = self.doors().rooms.get(room) {
            door.put(worker, news);
        }
    }

    /// Tells all rooms.
    pub(crate) fn tell_all(&self, worker: &WorkerId, news: impl Fn() -> News) {
        for door in self.doors().rooms.values() {
            door.put(worker, news());
        }
    }

    /// A node is to end: all rooms are told, once each.
    pub(crate) fn drains(&self, worker: &WorkerId) {
        if self.doors().draining.insert(worker.clone()) {
            self.tell_all(worker, || News::Draining);
        }
    }

    /// A worker has left the cluster.
    pub(crate) fn left(&self, worker: &WorkerId) {
        self.doors().draining.remove(worker);
    }

    fn doors(&self) -> MutexGuard<'_, Doors> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NewsDoor {
    fn put(&self, worker: &WorkerId, news: News) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.news.try_send((worker.clone(), news)) {
            self.overrun.cancel();
        }
    }
}
