//! Those who hear events as they come.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use kaigi_proto::ids::ServiceId;
use tokio::sync::mpsc;

use super::{
    event::{Event, EventId},
    log::EventLog,
};

/// Events that a watcher may be behind before it is cut off.
const BUFFER: usize = 1024;
/// Most watchers: some hundred portals with all the connections that each may have.
const MAX_WATCHERS: usize = 10_000;

/// The limit on watchers is reached.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("there are {MAX_WATCHERS} watchers already")]
pub(crate) struct TooManyWatchers;

/// Why a watch has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The watcher did not read.
    TooSlow,
    /// The hub stops.
    Stopped,
}

/// One watcher's end.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Some events after the one that was asked for may be missing.
    pub(crate) gap: bool,
    missed: VecDeque<Arc<Event>>,
    news: mpsc::Receiver<Arc<Event>>,
    overrun: Arc<AtomicBool>,
}

impl Watch {
    /// The next event, or why there is none any more. Cancellation safe.
    pub(crate) async fn next(&mut self) -> Result<Arc<Event>, End> {
        if let Some(event) = self.missed.pop_front() {
            return Ok(event);
        }
        self.news
            .recv()
            .await
            .ok_or_else(|| if self.overrun.load(Ordering::Relaxed) { End::TooSlow } else { End::Stopped })
    }
}

struct Watcher {
    service: Option<ServiceId>,
    news: mpsc::Sender<Arc<Event>>,
    overrun: Arc<AtomicBool>,
}

/// All watchers, and what they may ask for again.
pub(crate) struct Watchers {
    log: EventLog,
    watchers: Vec<Watcher>,
    stopped: bool,
}

impl Watchers {
    pub(crate) fn new(log: EventLog) -> Self {
        Self { log, watchers: Vec::new(), stopped: false }
    }

    /// Begins a watch of one service's events or of all, after an event or with the next one.
    ///
    /// # Errors
    /// If there are too many.
    pub(crate) fn watch(
        &mut self,
        service: Option<ServiceId>,
        after: Option<EventId>,
    ) -> Result<Watch, TooManyWatchers> {
        self.watchers.retain(|watcher| !watcher.news.is_closed());
        if self.watchers.len() >= MAX_WATCHERS {
            return Err(TooManyWatchers);
        }
        let (sender, news) = mpsc::channel(BUFFER);
        let since = after.map(|after| self.log.since(after, service.as_ref()));
        let (missed, gap) = since.map_or_else(Default::default, |since| (since.events, since.gap));
        let overrun = Arc::new(AtomicBool::new(false));
        if !self.stopped {
            self.watchers.push(Watcher { service, news: sender, overrun: overrun.clone() });
        }
        metrics::gauge!("kaigi_events_watchers").set(self.watchers.len() as f64);
        Ok(Watch { gap, missed: missed.into(), news, overrun })
    }

    /// Tells an event. Never waits: a watcher whose buffer is full is cut off.
    pub(crate) fn tell(&mut self, event: &Arc<Event>) {
        self.watchers.retain(|watcher| {
            if watcher.service.as_ref().is_some_and(|service| service != event.service()) {
                return true;
            }
            match watcher.news.try_send(event.clone()) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Closed(_)) => false,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    watcher.overrun.store(true, Ordering::Relaxed);
                    metrics::counter!("kaigi_events_watchers_cut_off_total").increment(1);
                    false
                }
            }
        });
        self.log.push(event.clone());
    }

    /// Ends all watches, and each that is begun from now on.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.watchers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{super::event::tests::event, *};

    fn watchers() -> Watchers {
        Watchers::new(EventLog::new(100, EventId(0)))
    }

    #[tokio::test]
    async fn each_hears_its_service() {
        let mut watchers = watchers();
        let mut own = watchers.watch(Some(ServiceId::new("a").unwrap()), None).unwrap();
        let mut all = watchers.watch(None, None).unwrap();
        watchers.tell(&event(1, "b", "x"));
        watchers.tell(&event(2, "a", "x"));
        assert_eq!(own.next().await.unwrap().id(), EventId(2));
        assert_eq!(all.next().await.unwrap().id(), EventId(1));
    }

    #[tokio::test]
    async fn one_who_comes_back_misses_and_repeats_nothing() {
        let mut watchers = watchers();
        (1..=3).for_each(|id| watchers.tell(&event(id, "a", "x")));
        let mut back = watchers.watch(None, Some(EventId(1))).unwrap();
        watchers.tell(&event(4, "a", "x"));
        for id in 2..=4 {
            assert_eq!(back.next().await.unwrap().id(), EventId(id));
        }
        assert!(!back.gap);
    }

    #[tokio::test]
    async fn one_who_does_not_read_is_cut_off_after_what_fits() {
        let mut watchers = watchers();
        let mut slow = watchers.watch(None, None).unwrap();
        (0..=BUFFER as u64).for_each(|id| watchers.tell(&event(id, "a", "x")));
        let mut heard = 0;
        let end = loop {
            match slow.next().await {
                Ok(_) => heard += 1,
                Err(end) => break end,
            }
        };
        assert_eq!((heard, end), (BUFFER, End::TooSlow));
    }

    #[tokio::test]
    async fn stopping_ends_all() {
        let mut watchers = watchers();
        let mut before = watchers.watch(None, None).unwrap();
        watchers.stop();
        assert_eq!(before.next().await, Err(End::Stopped));
        assert_eq!(watchers.watch(None, None).unwrap().next().await, Err(End::Stopped));
    }
}
