//! Turns at a document: those of this portal who want to change the same one do so one after the other, in the order in which they
//! came. What is left to compare and swap in the store is other portals.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kaigi_proto::v1::Collection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

type Place = (Collection, String);

/// Who waits for which document. Has an entry for each document that somebody changes or waits for at the moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<Place, Arc<Semaphore>>>>);

/// Others wait until this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    permit: Option<OwnedSemaphorePermit>,
    queue: Arc<Semaphore>,
    place: Place,
    turns: Turns,
}

impl Turns {
    /// Waits for its turn; `None` if it does not come within `limit`. May be dropped at any time.
    pub(super) async fn take(&self, collection: Collection, key: &str, limit: Duration) -> Option<Turn> {
        let place = (collection, key.to_owned());
        let queue = {
            let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            queues.entry(place.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
        };
        // Made before it waits, so that it cleans up if it waits in vain.
        let mut turn = Turn { permit: None, queue, place, turns: self.clone() };
        let permit = tokio::time::timeout(limit, turn.queue.clone().acquire_owned()).await;
        turn.permit = Some(permit.ok()?.ok()?);
        Some(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.permit = None;
        let mut queues = self.turns.0.lock().unwrap_or_else(PoisonError::into_inner);
        // One is the table's, one is this one's, each other is somebody's who waits or has the turn.
        if Arc::strong_count(&self.queue) == 2 {
            queues.remove(&self.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn turns_come_in_order_and_leave_nothing_behind() {
        let turns = Turns::default();
        let first = turns.take(Collection::Rooms, "r", LONG).await.unwrap();
        let other = turns.take(Collection::Rooms, "s", LONG).await.unwrap();
        assert!(turns.take(Collection::Rooms, "r", Duration::from_millis(1)).await.is_none(), "in vain");
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting = (0..3).map(|i| {
            let (turns, order) = (turns.clone(), order.clone());
            async move {
                let turn = turns.take(Collection::Rooms, "r", LONG).await;
                order.lock().unwrap().push(i);
                drop(turn);
            }
        });
        let waiting = futures::future::join_all(waiting);
        let free = async {
            tokio::task::yield_now().await;
            drop(first);
        };
        tokio::join!(waiting, free);
        assert_eq!(*order.lock().unwrap(), [0, 1, 2]);
        drop(other);
        assert!(turns.0.lock().unwrap().is_empty());
    }
}
