//! Which worker has what. A room is one worker's as long as a transport of it is there, so that its packets never go from one worker to
//! another; a new room goes to the worker with the fewest transports. Looked at for calls only, never for packets.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kaigi_proto::ids::{RoomId, TransportId};

/// The places of all rooms and transports of the process.
#[derive(Clone, Debug)]
pub struct Placement(Arc<Mutex<Places>>);

#[derive(Debug)]
struct Places {
    rooms: HashMap<RoomId, Room>,
    transports: HashMap<TransportId, RoomId>,
    /// Transports of each worker, those that are being opened among them.
    users: Vec<usize>,
}

#[derive(Debug)]
struct Room {
    worker: usize,
    users: usize,
}

/// The opening of a transport: its room stays where it is until this is dropped.
#[derive(Debug)]
pub(super) struct Opening {
    placement: Placement,
    room: RoomId,
    pub(super) worker: usize,
    kept: bool,
}

impl Placement {
    /// Nothing is anywhere yet.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let users = vec![0; workers.max(1)];
        Self(Arc::new(Mutex::new(Places { rooms: HashMap::new(), transports: HashMap::new(), users })))
    }

    /// A transport of a room is being opened, or something on it.
    pub(super) fn open(&self, room: &RoomId, transport: &TransportId) -> Opening {
        let places = &mut *self.lock();
        // One that is there already may be of another room, which its worker finds out.
        let room = places.transports.get(transport).unwrap_or(room).clone();
        let fewest =
            (0..).zip(&places.users).min_by_key(|(_, users)| **users).map_or(0, |(worker, _)| worker);
        let entry = places.rooms.entry(room.clone()).or_insert(Room { worker: fewest, users: 0 });
        entry.users += 1;
        places.users[entry.worker] += 1;
        Opening { placement: self.clone(), room, worker: entry.worker, kept: false }
    }

    /// Whose a transport is.
    pub(super) fn of(&self, transport: &TransportId) -> Option<usize> {
        let places = self.lock();
        places.rooms.get(places.transports.get(transport)?).map(|room| room.worker)
    }

    /// A transport has ended.
    pub(super) fn ended(&self, transport: &TransportId) {
        let places = &mut *self.lock();
        if let Some(room) = places.transports.remove(transport) {
            places.leave(&room);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn leave(&mut self, id: &RoomId) {
        let Some(room) = self.rooms.get_mut(id) else { return };
        room.users -= 1;
        self.users[room.worker] -= 1;
        if room.users == 0 {
            self.rooms.remove(id);
        }
    }
}

impl Opening {
    /// The transport is there now. To be said on its worker's thread, so that it is not said after its end.
    pub(super) fn done(mut self, transport: &TransportId) {
        let places = &mut *self.placement.lock();
        if !places.transports.contains_key(transport) {
            places.transports.insert(transport.clone(), self.room.clone());
            self.kept = true;
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.kept {
            self.placement.lock().leave(&self.room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomId {
        RoomId::new(name).unwrap()
    }

    fn transport(name: &str) -> TransportId {
        TransportId::new(name).unwrap()
    }

    fn open(placement: &Placement, of: &str, name: &str) -> usize {
        let opening = placement.open(&room(of), &transport(name));
        let worker = opening.worker;
        opening.done(&transport(name));
        worker
    }

    #[test]
    fn a_room_stays_with_its_worker_and_new_ones_go_where_least_is() {
        let placement = Placement::new(2);
        assert_eq!(open(&placement, "a", "a1"), 0);
        assert_eq!(open(&placement, "a", "a2"), 0);
        assert_eq!(open(&placement, "b", "b1"), 1);
        assert_eq!(open(&placement, "c", "c1"), 1);
        assert_eq!(open(&placement, "b", "b2"), 1);
        assert_eq!(open(&placement, "d", "d1"), 0);
        assert_eq!(placement.of(&transport("b2")), Some(1));
        assert_eq!(placement.of(&transport("x")), None);
    }

    #[test]
    fn opening_something_more_on_a_transport_counts_it_once() {
        let placement = Placement::new(2);
        for _ in 0..3 {
            assert_eq!(open(&placement, "a", "a1"), 0);
        }
        // Of another room, says somebody: its worker is to refuse that.
        assert_eq!(placement.open(&room("b"), &transport("a1")).worker, 0);
        placement.ended(&transport("a1"));
        placement.ended(&transport("a1"));
        let places = placement.lock();
        assert!(places.rooms.is_empty() && places.transports.is_empty());
        assert_eq!(places.users, [0, 0]);
    }

    #[test]
    fn a_room_that_two_enter_at_once_has_one_worker_and_none_if_both_fail() {
        let placement = Placement::new(3);
        let first = placement.open(&room("a"), &transport("a1"));
        let second = placement.open(&room("a"), &transport("a2"));
        let other = placement.open(&room("b"), &transport("b1"));
        assert_eq!((first.worker, second.worker, other.worker), (0, 0, 1));
        drop((first, second, other));
        let places = placement.lock();
        assert!(places.rooms.is_empty());
        assert_eq!(places.users, [0, 0, 0]);
    }
}
