//! Where the running rooms take news of nodes.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
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
pub(crate) struct Directory(Mutex<HashMap<RoomId, NewsDoor>>);

impl Directory {
    pub(crate) fn insert(&self, room: RoomId, door: NewsDoor) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(room, door);
    }

    pub(crate) fn remove(&self, room: &RoomId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(room);
    }

    /// Tells one room; a room that does not run is not told. Never waits: a room whose letter box is full is ended.
    pub(crate) fn tell(&self, room: &RoomId, worker: &WorkerId, news: News) {
        if let Some(door) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(room) {
            door.put(worker, news);
        }
    }

    /// Tells all rooms.
    pub(crate) fn tell_all(&self, worker: &WorkerId, news: impl Fn() -> News) {
        for door in self.0.lock().unwrap_or_else(PoisonError::into_inner).values() {
            door.put(worker, news());
        }
    }
}

impl NewsDoor {
    fn put(&self, worker: &WorkerId, news: News) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.news.try_send((worker.clone(), news)) {
            self.overrun.cancel();
        }
    }
}
