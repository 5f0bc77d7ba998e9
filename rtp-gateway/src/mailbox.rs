//! Events that wait to be fetched by long polls.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{sync::Notify, time::Instant};

/// Events that are kept for whoever fetches them; of more the oldest are lost.
const MAX_EVENTS: usize = 64;

/// Of one peer or connection. Each event is fetched once.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    events: Mutex<VecDeque<Value>>,
    news: Notify,
}

impl Mailbox {
    /// Adds an event.
    pub(crate) fn put(&self, event: Value) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() == MAX_EVENTS {
            events.pop_front();
            metrics::counter!("kaigi_gateway_events_lost_total").increment(1);
        }
        events.push_back(event);
        drop(events);
        self.news.notify_one();
    }

    /// The oldest event, waited for at most `limit`. Cancellation safe. Of several that wait each gets another one.
    pub(crate) async fn take(&self, limit: Duration) -> Option<Value> {
        let give_up = Instant::now() + limit;
        loop {
            {
                let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(event) = events.pop_front() {
                    if !events.is_empty() {
                        self.news.notify_one();
                    }
                    return Some(event);
                }
            }
            tokio::time::timeout_at(give_up, self.news.notified()).await.ok()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn events_come_in_order_and_are_waited_for() {
        let mailbox = Mailbox::default();
        assert_eq!(mailbox.take(LONG).await, None);
        let (taken, ()) = tokio::join!(mailbox.take(LONG), async {
            tokio::time::sleep(LONG / 2).await;
            mailbox.put(1.into());
        });
        assert_eq!(taken, Some(1.into()));
        mailbox.put(2.into());
        mailbox.put(3.into());
        let (one, other) = tokio::join!(mailbox.take(LONG), mailbox.take(LONG));
        assert_eq!((one, other), (Some(2.into()), Some(3.into())));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_fetch_loses_the_oldest() {
        let mailbox = Mailbox::default();
        for number in 0..=MAX_EVENTS {
            mailbox.put(number.into());
        }
        assert_eq!(mailbox.take(LONG).await, Some(1.into()));
    }
}
