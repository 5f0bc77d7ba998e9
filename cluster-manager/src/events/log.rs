//! The last events, for those who come back and ask what they have missed.

use std::{collections::VecDeque, sync::Arc};

use kaigi_proto::ids::ServiceId;

use super::event::{Event, EventId};

/// Most bytes that are kept, whatever the number of events.
const MAX_BYTES: usize = 64 << 20;

/// What was after an event.
#[derive(Debug, PartialEq)]
pub(crate) struct Since {
    pub(crate) events: Vec<Arc<Event>>,
    /// Whether there may have been others.
    pub(crate) gap: bool,
}

/// A ring of the last events of all services.
#[derive(Debug)]
pub(crate) struct EventLog {
    ring: VecDeque<Arc<Event>>,
    bytes: usize,
    capacity: usize,
    /// Nothing is known of events up to this one.
    floor: EventId,
}

impl EventLog {
    /// Keeps `capacity` events; those up to `floor` were another's.
    pub(crate) fn new(capacity: usize, floor: EventId) -> Self {
        Self { ring: VecDeque::new(), bytes: 0, capacity, floor }
    }

    /// Takes the next event.
    pub(crate) fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.size();
        self.ring.push_back(event);
        while (self.ring.len() > self.capacity || self.bytes > MAX_BYTES)
            && let Some(oldest) = self.ring.pop_front()
        {
            self.bytes -= oldest.size();
            self.floor = oldest.id();
        }
    }

    /// What came after an event, of one service or of all.
    pub(crate) fn since(&self, after: EventId, service: Option<&ServiceId>) -> Since {
        let from = self.ring.partition_point(|event| event.id() <= after);
        let wanted = |event: &&Arc<Event>| service.is_none_or(|service| event.service() == service);
        Since {
            events: self.ring.iter().skip(from).filter(wanted).cloned().collect(),
            gap: after < self.floor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::event::tests::event, *};

    fn ids(since: &Since) -> Vec<u64> {
        since.events.iter().map(|event| event.id().0).collect()
    }

    fn log(capacity: usize, events: &[(u64, &str)]) -> EventLog {
        let mut log = EventLog::new(capacity, EventId(10));
        events.iter().for_each(|(id, service)| log.push(event(*id, service, "room.started")));
        log
    }

    #[test]
    fn one_who_comes_back_gets_what_it_missed() {
        let log = log(10, &[(11, "a"), (14, "b"), (15, "a")]);
        assert_eq!(ids(&log.since(EventId(11), None)), [14, 15]);
        assert_eq!(ids(&log.since(EventId(10), Some(&ServiceId::new("a").unwrap()))), [11, 15]);
        assert_eq!(log.since(EventId(15), None), Since { events: Vec::new(), gap: false });
    }

    #[test]
    fn what_is_not_kept_is_a_gap() {
        let short = log(2, &[(11, "a"), (12, "a"), (13, "a")]);
        assert_eq!(ids(&short.since(EventId(5), None)), [12, 13]);
        assert!(short.since(EventId(10), None).gap);
        assert!(!short.since(EventId(11), None).gap);
        assert!(log(2, &[]).since(EventId(9), None).gap, "another hub's");
    }

    #[test]
    fn large_events_are_kept_within_bounds() {
        let mut log = EventLog::new(usize::MAX, EventId(0));
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(100_000));
        for id in 1..2_000 {
            let draft =
                super::super::event::Draft::try_from(super::super::event::tests::wire("s", "a", &large))
                    .unwrap();
            log.push(Event::new(EventId(id), draft).into());
        }
        assert!(log.ring.len() < 700 && log.bytes <= MAX_BYTES);
        assert!(log.since(EventId(1), None).gap);
    }
}
