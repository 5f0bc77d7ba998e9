//! The sessions of this portal, by the id in their address.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::mpsc;

use super::{
    admission::Proof,
    session::{Command, MAX_COMMANDS},
};

/// By which protocol a session was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Whip,
    Whep,
}

impl Door {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Whip => "whip",
            Self::Whep => "whep",
        }
    }
}

/// How a session is reached.
#[derive(Debug)]
pub(super) struct Handle {
    door: Door,
    pub(super) proof: Proof,
    pub(super) commands: mpsc::Sender<Command>,
}

/// The sessions; there are no more than places for connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions(Arc<Mutex<HashMap<String, Arc<Handle>>>>);

impl Sessions {
    /// Makes a session known, until the entry is dropped.
    pub(super) fn enter(&self, door: Door, proof: Proof) -> (Entry, mpsc::Receiver<Command>) {
        let (commands, receiver) = mpsc::channel(MAX_COMMANDS);
        // Who knows an address still needs the token.
        let id = hex::encode(rand::random::<[u8; 16]>());
        let handle = Arc::new(Handle { door, proof, commands });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), handle);
        metrics::gauge!("kaigi_portal_media_sessions", "door" => door.name()).increment(1.0);
        (Entry { sessions: self.clone(), id, door }, receiver)
    }

    pub(super) fn find(&self, door: Door, id: &str) -> Option<Arc<Handle>> {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(id).filter(|handle| handle.door == door).cloned()
    }
}

/// A session's place among the others.
#[derive(Debug)]
pub(super) struct Entry {
    sessions: Sessions,
    id: String,
    door: Door,
}

impl Entry {
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.sessions.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        metrics::gauge!("kaigi_portal_media_sessions", "door" => self.door.name()).decrement(1.0);
    }
}
