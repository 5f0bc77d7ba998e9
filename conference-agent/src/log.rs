//! What the participants of a room are told, in the order in which it happened: numbered once for all of them, and kept for as long as
//! one of them may have to be told again, by this agent or by the one that takes the room over.
//!
//! Without clock and channels: the time is an argument.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::ParticipantId,
    v1::{self, join_event::Event},
};
use prost::Message;

use crate::room::Changes;

/// How long what nobody keeps is kept all the same, for portals that lose this agent: what is older they have.
const YOUNG: Duration = Duration::from_secs(10);
/// Most bytes, and most events. With more the oldest go, and who has not got them can't come back.
const MAX_BYTES: usize = 32 << 20;
const MAX_EVENTS: usize = 65_536;
/// What the names of parts of a snapshot begin with.
const GROUP: &str = "event/";

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    One(ParticipantId),
    /// Who is in the room then.
    All {
        except: Option<ParticipantId>,
    },
}

impl Told {
    pub(crate) fn is_for(&self, participant: &ParticipantId) -> bool {
        match self {
            Self::One(one) => one == participant,
            Self::All { except } => except.as_ref() != Some(participant),
        }
    }
}

/// An event. Whoever holds it may have to be told it again.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) to: Told,
    /// With its number.
    pub(crate) event: v1::JoinEvent,
    /// Bytes of the event.
    pub(crate) size: usize,
    at: Instant,
}

impl Entry {
    pub(crate) fn seq(&self) -> u64 {
        self.event.seq
    }
}

/// See the module's description.
#[derive(Debug, Default)]
pub(crate) struct Log {
    latest: u64,
    /// Everything up to this number may be gone although somebody kept it.
    lost: u64,
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// How many of the last ones are not written down.
    fresh: usize,
    /// Numbers of those that are written down and gone.
    gone: Vec<u64>,
}

impl Log {
    /// The events of a snapshot; what happens from now on is numbered after `latest`.
    pub(crate) fn restored(parts: &BTreeMap<String, Vec<u8>>, latest: u64, lost: u64, now: Instant) -> Self {
        let mut log = Self { latest, lost, ..Self::default() };
        let parts = parts.range(GROUP.to_owned()..).take_while(|(name, _)| name.starts_with(GROUP));
        for (_, value) in parts {
            let Some(entry) = read(value, now) else { continue };
            log.latest = log.latest.max(entry.seq());
            log.bytes += entry.size;
            log.entries.push_back(Arc::new(entry));
        }
        log.fresh = log.entries.len();
        log
    }

    /// The number of the last event.
    pub(crate) fn latest(&self) -> u64 {
        self.latest
    }

    /// See the field.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// An event happens.
    pub(crate) fn append(&mut self, to: Told, event: Event, now: Instant) -> Arc<Entry> {
        self.latest += 1;
        let event = v1::JoinEvent { seq: self.latest, event: Some(event) };
        let size = event.encoded_len();
        let entry = Arc::new(Entry { to, event, size, at: now });
        self.entries.push_back(entry.clone());
        self.bytes += size;
        self.fresh += 1;
        while self.bytes > MAX_BYTES || self.entries.len() > MAX_EVENTS {
            self.lost = self.entries.front().map_or(self.lost, |entry| entry.seq());
            self.forget(0);
        }
        entry
    }

    /// What a participant was told after an event.
    pub(crate) fn after(&self, seq: u64, participant: &ParticipantId) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter().filter(move |entry| entry.seq() > seq && entry.to.is_for(participant))
    }

    /// Forgets what nobody may have to be told again.
    pub(crate) fn trim(&mut self, now: Instant) {
        let mut place = 0;
        while place < self.entries.len() {
            let entry = &self.entries[place];
            if entry.at + YOUNG > now {
                break;
            }
            if Arc::strong_count(entry) > 1 {
                place += 1;
            } else {
                self.forget(place);
            }
        }
    }

    fn forget(&mut self, place: usize) {
        let is_fresh = place + self.fresh >= self.entries.len();
        let Some(entry) = self.entries.remove(place) else { return };
        self.bytes -= entry.size;
        if is_fresh {
            self.fresh -= 1;
        } else {
            self.gone.push(entry.seq());
        }
    }

    /// What is other than when this was last asked.
    pub(crate) fn changes(&mut self, changes: &mut Changes) {
        let fresh = self.entries.iter().skip(self.entries.len() - self.fresh);
        changes.parts.extend(fresh.map(|entry| (name(entry.seq()), written(entry))));
        changes.removed.extend(self.gone.drain(..).map(name));
        self.fresh = 0;
    }

    /// Nothing counts as written down any more.
    pub(crate) fn forget_written(&mut self) {
        self.gone.clear();
        self.fresh = self.entries.len();
    }
}

/// In the order of the numbers.
fn name(seq: u64) -> String {
    format!("{GROUP}{seq:020}")
}

fn written(entry: &Entry) -> Vec<u8> {
    let (to, except) = match &entry.to {
        Told::One(one) => (one.to_string(), String::new()),
        Told::All { except } => (String::new(), except.as_ref().map(ToString::to_string).unwrap_or_default()),
    };
    v1::KeptEvent { to, except, event: Some(entry.event.clone()) }.encode_to_vec()
}

/// `None` if it is no event.
fn read(value: &[u8], now: Instant) -> Option<Entry> {
    let v1::KeptEvent { to, except, event } = v1::KeptEvent::decode(value).ok()?;
    let participant = |id: String| ParticipantId::new(id).ok();
    let to =
        if to.is_empty() { Told::All { except: participant(except) } } else { Told::One(participant(to)?) };
    let event = event?;
    Some(Entry { to, size: event.encoded_len(), event, at: now })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> ParticipantId {
        ParticipantId::new("ann").unwrap()
    }

    fn text(length: usize) -> Event {
        Event::Text(v1::TextEvent { from: "a".into(), to_all: true, message: "x".repeat(length) })
    }

    fn everybody() -> Told {
        Told::All { except: None }
    }

    fn written(log: &mut Log) -> BTreeMap<String, Vec<u8>> {
        let mut changes = Changes::default();
        log.forget_written();
        log.changes(&mut changes);
        changes.parts.into_iter().collect()
    }

    fn seqs(log: &Log, after: u64) -> Vec<u64> {
        log.after(after, &ann()).map(|entry| entry.seq()).collect()
    }

    #[test]
    fn what_is_written_down_is_read_with_its_numbers_and_for_whom_it_is() {
        let (mut log, now) = (Log::default(), Instant::now());
        log.append(Told::One(ann()), text(1), now);
        log.append(Told::All { except: Some(ann()) }, text(2), now);
        log.append(everybody(), text(3), now);
        let read = Log::restored(&written(&mut log), 0, 0, now);
        assert_eq!((seqs(&read, 0), read.latest()), (vec![1, 3], 3));
        assert_eq!(seqs(&read, 1), [3]);
        assert_eq!(Log::restored(&BTreeMap::new(), 7, 0, now).append(everybody(), text(1), now).seq(), 8);
    }

    #[test]
    fn what_somebody_keeps_and_what_is_young_is_not_forgotten() {
        let (mut log, start) = (Log::default(), Instant::now());
        let kept = log.append(everybody(), text(1), start);
        log.append(everybody(), text(1), start);
        log.append(everybody(), text(1), start + YOUNG / 2);
        log.trim(start + YOUNG);
        assert_eq!(seqs(&log, 0), [1, 3]);
        drop(kept);
        log.trim(start + YOUNG * 2);
        assert_eq!(seqs(&log, 0), [0; 0]);
    }

    #[test]
    fn only_what_is_new_is_written_and_only_what_was_written_is_removed() {
        let (mut log, start) = (Log::default(), Instant::now());
        let changed = |log: &mut Log| {
            let mut changes = Changes::default();
            log.changes(&mut changes);
            (changes.parts.len(), changes.removed.len())
        };
        log.append(everybody(), text(1), start);
        assert_eq!(changed(&mut log), (1, 0));
        log.append(everybody(), text(1), start);
        assert_eq!(changed(&mut log), (1, 0));
        log.append(everybody(), text(1), start);
        log.trim(start + YOUNG);
        assert_eq!(changed(&mut log), (0, 2), "the third never was");
    }

    #[test]
    fn however_much_is_told_little_is_kept_and_that_is_known() {
        let (mut log, now) = (Log::default(), Instant::now());
        let kept: Vec<_> = (0..100).map(|_| log.append(everybody(), text(1 << 20), now)).collect();
        assert!(log.bytes <= MAX_BYTES);
        assert_eq!(log.lost() + log.entries.len() as u64, kept.len() as u64);
    }
}
