//! Who sits at this portal. A client that comes back while its older connection still looks open takes its place over; what the older one
//! has surely delivered is known here before the room knows.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use kaigi_proto::ids::ParticipantId;

/// The participants at this portal.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats(Arc<Mutex<HashMap<ParticipantId, Arc<AtomicU64>>>>);

impl Seats {
    /// Takes a seat; who sat there before has lost it.
    pub(super) fn take(&self, participant: ParticipantId) -> Seat {
        let delivered: Arc<AtomicU64> = Arc::default();
        let mut seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seats.insert(participant.clone(), delivered.clone());
        Seat { seats: self.clone(), participant, delivered }
    }

    /// The last notification that the participant has for sure; 0 = not known here.
    pub(super) fn delivered(&self, participant: &ParticipantId) -> u64 {
        let seats = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seats.get(participant).map_or(0, |delivered| delivered.load(Ordering::Acquire))
    }
}

/// One participant's connection.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    participant: ParticipantId,
    delivered: Arc<AtomicU64>,
}

impl Seat {
    /// The participant has everything up to this notification.
    pub(super) fn delivered(&self, seq: u64) {
        self.delivered.fetch_max(seq, Ordering::AcqRel);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.seats.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seats.get(&self.participant).is_some_and(|there| Arc::ptr_eq(there, &self.delivered)) {
            seats.remove(&self.participant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_connection_has_the_seat() {
        let (seats, aki) = (Seats::default(), ParticipantId::new("aki").unwrap());
        assert_eq!(seats.delivered(&aki), 0);
        let older = seats.take(aki.clone());
        older.delivered(7);
        older.delivered(5);
        assert_eq!(seats.delivered(&aki), 7);
        let newer = seats.take(aki.clone());
        newer.delivered(8);
        drop(older);
        assert_eq!(seats.delivered(&aki), 8);
        drop(newer);
        assert_eq!(seats.delivered(&aki), 0);
    }
}
