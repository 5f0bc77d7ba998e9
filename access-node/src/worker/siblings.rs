//! The ways between the workers of a process: from each to each a ring of packets that one writes and the other reads, without a lock and
//! without an allocation, and a channel for what they say to each other. Who writes never waits: what finds no room is dropped, as by a
//! network. Who reads is woken once for all that came until it looks.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use rtrb::{Consumer, Producer, RingBuffer};
use tokio::sync::{
    Notify,
    mpsc::{self, error::TrySendError},
};

use crate::{
    ids::WorkerNumber,
    node::{Notice, Output, record_length},
};

/// Bytes of a ring: 40 ms of 200 Mbit/s, in which a worker that sends much comes round. Memory is taken when packets cross for the first time.
const RING: usize = 1 << 20;
/// What may be said to a worker that does not listen. There is little to say, so it has ended if that is reached.
const NOTICES: usize = 65_536;
/// Packets and notices that are taken from one worker before others, and clients, have their turn.
const AT_ONCE: usize = 128;

type Said = (WorkerNumber, Notice);

/// Wakes a worker.
#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    notify: Notify,
}

impl Bell {
    fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }

    /// Whether it was rung; it can be rung again then.
    fn take(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }
}

/// The ends of all ways that one worker has.
#[derive(Debug)]
pub struct Siblings {
    own: WorkerNumber,
    count: u16,
    pub(super) outward: Outward,
    pub(super) inward: Inward,
}

impl Siblings {
    /// The only worker of a process.
    #[must_use]
    pub fn alone() -> Self {
        let (_, notices) = mpsc::channel(1);
        Self::new(0, 1, Arc::default(), notices)
    }

    /// Those of so many workers, in the order of their numbers.
    #[must_use]
    pub fn of(count: u16) -> Vec<Self> {
        let channels = (0..count).map(|_| (Arc::new(Bell::default()), mpsc::channel(NOTICES)));
        let (mut senders, mut all) = (Vec::new(), Vec::new());
        for (number, (bell, (sender, notices))) in (0..).zip(channels) {
            senders.push((bell.clone(), sender));
            all.push(Self::new(number, count, bell, notices));
        }
        for from in 0..usize::from(count) {
            for (to, (bell, notices)) in senders.iter().enumerate().filter(|(to, _)| *to != from) {
                let (producer, consumer) = RingBuffer::new(RING);
                let (source, target) = (all[from].own, all[to].own);
                all[to].inward.ways.push(WayIn { from: source, ring: consumer });
                all[from].outward.ways.push(WayOut {
                    to: target,
                    ring: producer,
                    notices: notices.clone(),
                    bell: bell.clone(),
                    is_used: false,
                });
            }
        }
        all
    }

    fn new(number: u16, count: u16, bell: Arc<Bell>, notices: mpsc::Receiver<Said>) -> Self {
        let own = WorkerNumber(number);
        Self {
            own,
            count,
            outward: Outward { own, ways: Vec::new(), dropped: 0 },
            inward: Inward { bell, notices, ways: Vec::new(), joint: Vec::new() },
        }
    }

    /// The worker's number, and how many there are.
    pub(super) fn place(&self) -> (WorkerNumber, u16) {
        (self.own, self.count)
    }
}

/// A way to another worker.
#[derive(Debug)]
struct WayOut {
    to: WorkerNumber,
    ring: Producer<u8>,
    notices: mpsc::Sender<Said>,
    bell: Arc<Bell>,
    is_used: bool,
}

impl WayOut {
    /// Writes as many of the records as there is room for; returns how many there was none for.
    fn push(&mut self, records: &[u8]) -> u64 {
        let fitting = whole_records(records, self.ring.slots());
        let (fitting, mut rest) = records.split_at(fitting);
        // There was room, and nobody else writes.
        let _ = self.ring.push_entire_slice(fitting);
        let mut dropped = 0;
        while let Some(length) = record_length(rest) {
            rest = rest.get(length..).unwrap_or_default();
            dropped += 1;
        }
        dropped
    }
}

/// Bytes of the first records that fit into so many.
fn whole_records(records: &[u8], room: usize) -> usize {
    if records.len() <= room {
        return records.len();
    }
    let mut end = 0;
    while let Some(length) = records.get(end..).and_then(record_length).filter(|length| end + length <= room)
    {
        end += length;
    }
    end
}

/// The ways to all others.
#[derive(Debug)]
pub(super) struct Outward {
    own: WorkerNumber,
    ways: Vec<WayOut>,
    dropped: u64,
}

impl Outward {
    /// Packets that found no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Sends what the node has for other workers, and wakes those.
    pub(super) fn send(&mut self, output: &mut Output) {
        if output.notices.is_empty() && output.crossings.is_empty() {
            return;
        }
        let Self { own, ways, dropped } = self;
        for (to, notice) in output.notices.drain(..) {
            let Some(way) = ways.iter_mut().find(|way| way.to == to) else { continue };
            way.is_used = true;
            match way.notices.try_send((*own, notice)) {
                // It has ended, as this one will.
                Ok(()) | Err(TrySendError::Closed(_)) => {}
                Err(TrySendError::Full(_)) => {
                    tracing::error!(worker = %to, "another media worker does not listen");
                }
            }
        }
        for (to, records) in output.crossings.iter() {
            let Some(way) = ways.iter_mut().find(|way| way.to == to) else { continue };
            way.is_used = true;
            *dropped += way.push(records);
        }
        output.crossings.clear();
        for way in ways {
            if std::mem::take(&mut way.is_used) {
                way.bell.ring();
            }
        }
    }
}

/// A way from another worker.
#[derive(Debug)]
struct WayIn {
    from: WorkerNumber,
    ring: Consumer<u8>,
}

/// What comes from another worker.
pub(super) enum FromWorker<'r> {
    /// It says something.
    Notice(Notice),
    /// A packet, or what belongs to packets.
    Record(&'r [u8]),
}

/// The ways from all others.
#[derive(Debug)]
pub(super) struct Inward {
    bell: Arc<Bell>,
    notices: mpsc::Receiver<Said>,
    ways: Vec<WayIn>,
    /// Where a record that goes over the end of a ring is put together.
    joint: Vec<u8>,
}

impl Inward {
    /// Waits until something has come, or returns at once if it has.
    pub(super) async fn wait(&self) {
        self.bell.notify.notified().await;
    }

    /// Takes what has come, if something has. If there is more than a turn takes, the next turn is not waited for.
    pub(super) fn take(&mut self, mut handle: impl FnMut(WorkerNumber, FromWorker<'_>)) {
        if !self.bell.take() {
            return;
        }
        let mut has_more = true;
        for _ in 0..AT_ONCE {
            let Ok((from, notice)) = self.notices.try_recv() else {
                has_more = false;
                break;
            };
            handle(from, FromWorker::Notice(notice));
        }
        for way in &mut self.ways {
            has_more |= way.take(&mut self.joint, &mut handle);
        }
        if has_more {
            self.bell.ring();
        }
    }
}

impl WayIn {
    /// Takes a turn's records; whether there are more.
    fn take(&mut self, joint: &mut Vec<u8>, handle: &mut impl FnMut(WorkerNumber, FromWorker<'_>)) -> bool {
        let Ok(chunk) = self.ring.read_chunk(self.ring.slots()) else { return false };
        let (all, mut taken) = (chunk.len(), 0);
        for _ in 0..AT_ONCE {
            let length = slice(chunk.as_slices(), taken, 2, joint).and_then(record_length);
            let record = length.and_then(|length| slice(chunk.as_slices(), taken, length, joint));
            let Some(record) = record else { break };
            taken += record.len();
            handle(self.from, FromWorker::Record(record));
        }
        chunk.commit(taken);
        taken < all
    }
}

/// Some of two slices that follow on each other; put together if it is of both.
fn slice<'s>(
    (first, second): (&'s [u8], &'s [u8]),
    at: usize,
    length: usize,
    joint: &'s mut Vec<u8>,
) -> Option<&'s [u8]> {
    if let Some(after) = at.checked_sub(first.len()) {
        return second.get(after..after + length);
    }
    if let Some(whole) = first.get(at..at + length) {
        return Some(whole);
    }
    let head = first.get(at..)?;
    let tail = second.get(..length - head.len())?;
    joint.clear();
    joint.extend_from_slice(head);
    joint.extend_from_slice(tail);
    Some(joint)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::arena::Arena;

    /// A record as the node writes them: length, ten bytes, and so much of one number.
    fn record(length: u16, number: u8) -> Vec<u8> {
        let mut record = length.to_be_bytes().to_vec();
        record.extend_from_slice(&[0; 10]);
        record.resize(12 + usize::from(length), number);
        record
    }

    fn pair() -> (Siblings, Siblings) {
        let mut both = Siblings::of(2).into_iter();
        (both.next().unwrap(), both.next().unwrap())
    }

    fn push(from: &mut Siblings, records: &[u8]) -> u64 {
        let way = &mut from.outward.ways[0];
        let dropped = way.push(records);
        way.bell.ring();
        dropped
    }

    fn take(to: &mut Siblings) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        to.inward.take(|_, what| match what {
            FromWorker::Record(record) => taken.push(record.to_vec()),
            FromWorker::Notice(_) => panic!("nothing was said"),
        });
        taken
    }

    #[test]
    fn records_cross_whole_and_in_order_over_the_end_of_the_ring_too() {
        let (mut here, mut there) = pair();
        for round in 0..5000u16 {
            let sent: Vec<_> = (0..round % 4).map(|n| record(round * 7 % 1500, (round + n) as u8)).collect();
            assert_eq!(push(&mut here, &sent.concat()), 0);
            assert_eq!(take(&mut there), sent);
        }
        assert!(take(&mut here).is_empty());
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted_and_what_comes_after_it_is_whole() {
        let (mut here, mut there) = pair();
        let one = record(1188, 1);
        let fit = RING / one.len();
        let dropped: u64 = (0..fit + 10).map(|_| push(&mut here, &[&one[..], &one].concat())).sum();
        assert_eq!(dropped as usize, fit + 20);
        let mut taken = 0;
        loop {
            let turn = take(&mut there);
            if turn.is_empty() {
                break;
            }
            assert!(turn.len() <= AT_ONCE && turn.iter().all(|record| *record == one));
            taken += turn.len();
        }
        assert_eq!(taken, fit);
        assert_eq!(push(&mut here, &one), 0);
        assert_eq!(take(&mut there), [one]);
    }

    #[test]
    fn crossing_allocates_nothing() {
        let (mut here, mut there) = pair();
        let records = [record(1200, 1), record(90, 2)].concat();
        let mut cross = || {
            for _ in 0..3000 {
                push(&mut here, &records);
                let mut taken = 0;
                there.inward.take(|_, _| taken += 1);
                assert_eq!(taken, 2);
            }
        };
        cross();
        assert_eq!(allocation_counter::measure(cross).count_total, 0);
    }

    /// Counts what is logged as an error.
    #[derive(Default)]
    struct Errors(AtomicUsize);

    impl tracing::Subscriber for Errors {
        fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
            *metadata.level() == tracing::Level::ERROR
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    #[test]
    fn it_is_no_error_that_another_worker_has_ended_before() {
        let (mut here, there) = pair();
        let errors = Arc::new(Errors::default());
        let notice = || Notice::KeyFrameRequest { attachment: Arena::default().insert(()) };
        tracing::subscriber::with_default(errors.clone(), || {
            let mut output = Output::default();
            let mut say = |times| {
                for _ in 0..times {
                    output.notices.push((WorkerNumber(1), notice()));
                    here.outward.send(&mut output);
                }
            };
            say(NOTICES);
            assert_eq!(errors.0.load(Ordering::Relaxed), 0);
            say(1);
            assert_eq!(errors.0.load(Ordering::Relaxed), 1, "one that does not listen is");
            drop(there);
            say(1);
        });
        assert_eq!(errors.0.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn who_reads_is_woken_once_for_all_that_came() {
        let (mut here, mut there) = pair();
        for _ in 0..3 {
            push(&mut here, &record(1, 1));
        }
        there.inward.wait().await;
        assert_eq!(take(&mut there).len(), 3);
        let waits = tokio::time::timeout(std::time::Duration::from_millis(1), there.inward.wait()).await;
        assert!(waits.is_err(), "it was woken for nothing");
        // One who waits already.
        let ((), ()) = tokio::join!(there.inward.wait(), async {
            push(&mut here, &record(1, 1));
        });
        assert_eq!(take(&mut there).len(), 1);
    }
}
