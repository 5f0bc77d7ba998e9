//! The sessions of this portal: by their ids, and bounded in number.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{mpsc, oneshot};

use super::{chat::Saying, error::EchoError};

/// Messages of one session that wait to be sent.
const MAX_WAITING: usize = 64;

/// Which of the sessions that there may be at a time it is, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(pub(super) usize);

#[derive(Debug)]
struct State {
    free: Vec<Slot>,
    open: HashMap<String, mpsc::Sender<Saying>>,
}

/// See the module's description. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Sessions {
    state: Arc<Mutex<State>>,
    most: usize,
}

impl Sessions {
    pub(super) fn new(most: usize) -> Self {
        let state = State { free: (1..=most).rev().map(Slot).collect(), open: HashMap::new() };
        Self { state: Arc::new(Mutex::new(state)), most }
    }

    /// How many there are, and may be.
    pub(super) fn count(&self) -> (usize, usize) {
        (self.state().open.len(), self.most)
    }

    /// Makes a session known until the entry is dropped; gives it with what is to be said on its channels. `None` if there are too many.
    pub(super) fn enter(&self) -> Option<(Entry, mpsc::Receiver<Saying>)> {
        let mut state = self.state();
        let slot = state.free.pop()?;
        // Who knows it may speak on the session's channels.
        let id = hex::encode(rand::random::<[u8; 16]>());
        let (sayings, receiver) = mpsc::channel(MAX_WAITING);
        state.open.insert(id.clone(), sayings);
        drop(state);
        metrics::gauge!("kaigi_portal_media_sessions", "door" => "echo").increment(1.0);
        Some((Entry { sessions: self.clone(), id, slot }, receiver))
    }

    /// Has a text sent on the open channels of a session.
    pub(super) async fn say(&self, id: &str, text: String) -> Result<(), EchoError> {
        let sayings = self.state().open.get(id).cloned().ok_or(EchoError::NoSession)?;
        let (reply, said) = oneshot::channel();
        sayings.try_send(Saying { text, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => EchoError::TooFast,
            mpsc::error::TrySendError::Closed(_) => EchoError::NoSession,
        })?;
        said.await.map_err(|_| EchoError::NoSession)?
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's place among the others.
#[derive(Debug)]
pub(super) struct Entry {
    sessions: Sessions,
    id: String,
    slot: Slot,
}

impl Entry {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn slot(&self) -> Slot {
        self.slot
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut state = self.sessions.state();
        state.open.remove(&self.id);
        state.free.push(self.slot);
        drop(state);
        metrics::gauge!("kaigi_portal_media_sessions", "door" => "echo").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_than_allowed_and_places_are_used_again() {
        let sessions = Sessions::new(2);
        let (first, _) = sessions.enter().unwrap();
        let (second, _) = sessions.enter().unwrap();
        assert_eq!((first.slot(), second.slot(), sessions.count()), (Slot(1), Slot(2), (2, 2)));
        assert!(first.id() != second.id() && sessions.enter().is_none());
        drop(first);
        assert_eq!(sessions.enter().unwrap().0.slot(), Slot(1));
    }
}
