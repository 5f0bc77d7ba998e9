//! Which worker has what. A transport is one worker's for life. Those of a room are kept together, for what crosses between workers costs
//! a little, until the worker has enough of them or is busy: then the room goes on on another one, too. Looked at for calls only, never for
//! packets.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kaigi_proto::ids::{RoomId, TransportId, WorkerId};
use kaigi_worker::LoadGauge;

use crate::node::{NodeError, Opened};

/// Share of its core from which on a worker is left alone with what it has, as long as another has less to do.
const BUSY: f64 = 0.5;

/// The places of all rooms and transports of the process.
#[derive(Clone, Debug)]
pub struct Placement(Arc<Mutex<Places>>);

#[derive(Debug)]
struct Places {
    rooms: HashMap<RoomId, Room>,
    transports: HashMap<TransportId, Place>,
    workers: Vec<Worker>,
    /// Transports of a room that a worker has before the room goes on on another one.
    together: usize,
}

#[derive(Debug)]
struct Worker {
    load: LoadGauge,
    /// Transports, those that are being opened among them.
    users: usize,
}

#[derive(Debug)]
struct Room {
    agent: WorkerId,
    epoch: u64,
    /// Transports on each worker.
    users: Vec<usize>,
}

#[derive(Debug)]
struct Place {
    room: RoomId,
    worker: usize,
    /// Whether its worker has it. If not, it is being opened.
    is_there: bool,
    openings: usize,
}

/// The opening of a transport: its place stays what it is until this is dropped.
#[derive(Debug)]
pub(super) struct Opening {
    placement: Placement,
    transport: TransportId,
    pub(super) worker: usize,
    /// Workers with the room that don't know yet that a newer agent serves it.
    pub(super) unaware: Vec<usize>,
}

impl Placement {
    /// Nothing is anywhere yet. There are as many workers as loads; `together` transports of a room are kept on one of them.
    #[must_use]
    pub fn new(loads: Vec<LoadGauge>, together: usize) -> Self {
        let workers = loads.into_iter().map(|load| Worker { load, users: 0 }).collect();
        Self(Arc::new(Mutex::new(Places {
            rooms: HashMap::new(),
            transports: HashMap::new(),
            workers,
            together: together.max(1),
        })))
    }

    /// A transport of a room is being opened, or something on it.
    ///
    /// # Errors
    /// If a newer agent serves the room.
    pub(super) fn open(&self, opened: &Opened) -> Result<Opening, NodeError> {
        let places = &mut *self.lock();
        let mut unaware = Vec::new();
        if let Some(room) = places.rooms.get_mut(&opened.room) {
            if opened.epoch < room.epoch {
                return Err(NodeError::OldEpoch(room.epoch));
            }
            if opened.epoch > room.epoch {
                (room.agent, room.epoch) = (opened.agent.clone(), opened.epoch);
                unaware.extend((0..).zip(&room.users).filter(|(_, users)| **users > 0).map(|(at, _)| at));
            }
        }
        // One that is there already may be of another room, which its worker finds out.
        let worker = match places.transports.get_mut(&opened.transport) {
            Some(place) => {
                place.openings += 1;
                place.worker
            }
            None => places.enter(opened),
        };
        unaware.retain(|at| *at != worker);
        Ok(Opening { placement: self.clone(), transport: opened.transport.clone(), worker, unaware })
    }

    /// A room is that agent's from now on, if it is here.
    ///
    /// # Errors
    /// If a newer agent serves it.
    pub(super) fn adopt(&self, room: &RoomId, agent: &WorkerId, epoch: u64) -> Result<(), NodeError> {
        if let Some(room) = self.lock().rooms.get_mut(room) {
            if epoch < room.epoch {
                return Err(NodeError::OldEpoch(room.epoch));
            }
            (room.agent, room.epoch) = (agent.clone(), epoch);
        }
        Ok(())
    }

    /// Whose a transport is.
    pub(super) fn of(&self, transport: &TransportId) -> Option<usize> {
        self.lock().transports.get(transport).map(|place| place.worker)
    }

    /// A transport has ended.
    pub(super) fn ended(&self, transport: &TransportId) {
        let places = &mut *self.lock();
        if let Some(place) = places.transports.get_mut(transport) {
            place.is_there = false;
            places.leave_if_gone(transport);
        }
    }

    /// Whether there is no transport.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().transports.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Places {
    fn enter(&mut self, opened: &Opened) -> usize {
        let worker = self.choose(self.rooms.get(&opened.room));
        let count = self.workers.len();
        let room = self.rooms.entry(opened.room.clone()).or_insert_with(|| Room {
            agent: opened.agent.clone(),
            epoch: opened.epoch,
            users: vec![0; count],
        });
        room.users[worker] += 1;
        self.workers[worker].users += 1;
        let place = Place { room: opened.room.clone(), worker, is_there: false, openings: 1 };
        self.transports.insert(opened.transport.clone(), place);
        worker
    }

    /// The worker for one more transport of a room.
    fn choose(&self, room: Option<&Room>) -> usize {
        let of_room = |at: usize| room.map_or(0, |room| room.users[at]);
        let busy = |at: usize| self.workers[at].load.get() >= BUSY;
        // Loads are of the last second: of those that differ little the one with fewer transports has less to do, or will have.
        let work = |at: usize| ((self.workers[at].load.get() * 10.0) as u64, self.workers[at].users);
        let free = || (0..self.workers.len()).filter(|at| !busy(*at) && of_room(*at) < self.together);
        let with_room = free().filter(|at| of_room(*at) > 0).max_by_key(|at| (of_room(*at), Reverse(*at)));
        let other = || free().min_by_key(|at| work(*at));
        // Where all have enough of the room it is divided evenly, and where all are busy that does not count.
        let all_busy = (0..self.workers.len()).all(busy);
        let enough = |at: usize| if all_busy { (true, 0) } else { (busy(at), of_room(at)) };
        let any = || (0..self.workers.len()).min_by_key(|at| (enough(*at), work(*at)));
        with_room.or_else(other).or_else(any).unwrap_or(0)
    }

    fn leave_if_gone(&mut self, transport: &TransportId) {
        let is_gone = |place: &Place| !place.is_there && place.openings == 0;
        if !self.transports.get(transport).is_some_and(is_gone) {
            return;
        }
        let Some(place) = self.transports.remove(transport) else { return };
        self.workers[place.worker].users -= 1;
        let Some(room) = self.rooms.get_mut(&place.room) else { return };
        room.users[place.worker] -= 1;
        if room.users.iter().all(|users| *users == 0) {
            self.rooms.remove(&place.room);
        }
    }
}

impl Opening {
    /// The transport is there now. To be said on its worker's thread, so that it is not said after its end.
    pub(super) fn done(self) {
        if let Some(place) = self.placement.lock().transports.get_mut(&self.transport) {
            place.is_there = true;
        }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        let places = &mut *self.placement.lock();
        if let Some(place) = places.transports.get_mut(&self.transport) {
            place.openings -= 1;
            places.leave_if_gone(&self.transport);
        }
    }
}

#[cfg(test)]
mod tests {
    use kaigi_proto::ids::{ParticipantId, SessionId};

    use super::*;

    fn opened(room: &str, transport: &str, epoch: u64) -> Opened {
        Opened {
            agent: WorkerId::new(format!("conference-{epoch}")).unwrap(),
            room: RoomId::new(room).unwrap(),
            epoch,
            participant: ParticipantId::new(transport).unwrap(),
            transport: TransportId::new(transport).unwrap(),
            session: SessionId::new("s").unwrap(),
            data: None,
            selection: None,
        }
    }

    fn transport(name: &str) -> TransportId {
        TransportId::new(name).unwrap()
    }

    fn placement(workers: usize, together: usize) -> (Placement, Vec<LoadGauge>) {
        let loads: Vec<_> = (0..workers).map(|_| LoadGauge::default()).collect();
        (Placement::new(loads.clone(), together), loads)
    }

    fn open(placement: &Placement, room: &str, name: &str) -> usize {
        let opening = placement.open(&opened(room, name, 1)).unwrap();
        let worker = opening.worker;
        opening.done();
        worker
    }

    fn assert_empty(placement: &Placement) {
        let places = placement.lock();
        assert!(places.rooms.is_empty() && places.transports.is_empty());
        assert!(places.workers.iter().all(|worker| worker.users == 0));
    }

    #[test]
    fn a_room_stays_together_and_new_ones_go_where_least_is() {
        let (placement, _) = placement(2, 10);
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
    fn a_large_room_fills_one_worker_after_the_other_and_then_all_evenly() {
        let (placement, _) = placement(3, 2);
        let places: Vec<_> = (0..9).map(|n| open(&placement, "a", &format!("a{n}"))).collect();
        assert_eq!(places, [0, 0, 1, 1, 2, 2, 0, 1, 2]);
        // Where one leaves there is room again.
        placement.ended(&transport("a2"));
        placement.ended(&transport("a3"));
        assert_eq!(open(&placement, "a", "a10"), 1);
    }

    #[test]
    fn a_room_leaves_a_busy_worker_alone_unless_all_are_busier() {
        let (placement, loads) = placement(2, 100);
        assert_eq!(open(&placement, "a", "a1"), 0);
        loads[0].set(0.6);
        assert_eq!(open(&placement, "a", "a2"), 1);
        assert_eq!(open(&placement, "b", "b1"), 1);
        loads[1].set(0.9);
        assert_eq!(open(&placement, "a", "a3"), 0);
        loads[0].set(0.1);
        assert_eq!(open(&placement, "b", "b2"), 0);
    }

    #[test]
    fn opening_something_more_on_a_transport_counts_it_once_and_leaves_it_where_it_is() {
        let (placement, loads) = placement(2, 1);
        for load in [0.0, 0.9, 0.0] {
            loads[0].set(load);
            assert_eq!(open(&placement, "a", "a1"), 0);
        }
        // Of another room, says somebody: its worker is to refuse that.
        assert_eq!(placement.open(&opened("b", "a1", 1)).unwrap().worker, 0);
        placement.ended(&transport("a1"));
        placement.ended(&transport("a1"));
        assert_empty(&placement);
    }

    #[test]
    fn two_openings_of_a_transport_at_once_are_on_one_worker_and_nothing_stays_if_both_fail() {
        let (placement, _) = placement(3, 1);
        let first = placement.open(&opened("a", "a1", 1)).unwrap();
        let same = placement.open(&opened("a", "a1", 1)).unwrap();
        let second = placement.open(&opened("a", "a2", 1)).unwrap();
        let other = placement.open(&opened("b", "b1", 1)).unwrap();
        assert_eq!([first.worker, same.worker, second.worker, other.worker], [0, 0, 1, 2]);
        drop((first, second, other));
        assert_eq!(placement.of(&transport("a1")), Some(0));
        drop(same);
        assert_empty(&placement);
    }

    #[test]
    fn all_workers_of_a_room_learn_of_a_newer_agent_and_the_older_is_refused() {
        let (placement, _) = placement(3, 1);
        open(&placement, "a", "a1");
        open(&placement, "a", "a2");
        let opening = placement.open(&opened("a", "a2", 2)).unwrap();
        assert_eq!((opening.worker, &opening.unaware[..]), (1, &[0][..]));
        assert!(placement.open(&opened("a", "a2", 2)).unwrap().unaware.is_empty());
        assert!(matches!(placement.open(&opened("a", "a3", 1)), Err(NodeError::OldEpoch(2))));
    }
}
