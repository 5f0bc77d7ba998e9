//! A thread and its peers.

use std::{
    collections::HashMap,
    io::ErrorKind,
    sync::mpsc::{Receiver, TryRecvError},
    time::{Duration, Instant},
};

use kaigi_access_node::timers::Timers;
use mio::{Events, Poll};

use super::{
    Job, PeerKey,
    slot::{Buffers, Slot},
};
use crate::{
    meter::{Received, Sent},
    peer::Shared,
};

/// Time from one look at all sockets to the next, at least. When a packet came the kernel has noted; to be woken for each, or only to have
/// the kernel note which sockets have something, would take time from the server that shares the machine, whose sending does that, as no
/// receiver's over a network does.
const LOOK: Duration = Duration::from_millis(1);
/// The same for each socket: to look at one takes a third of a microsecond if there is nothing.
const LOOK_AT_ONE: Duration = Duration::from_micros(8);
/// The same at most.
const LONGEST_LOOK: Duration = Duration::from_millis(8);
/// Times are kept to that: what is due within it is done together.
const TURN: Duration = Duration::from_micros(200);
/// By how much the server goes before the clients, in steps of niceness: over a network they take no processor time from it.
const NICENESS: i32 = 10;
/// Longest sleep.
const SLEEP: Duration = Duration::from_millis(100);

/// The peers of a thread.
pub struct World {
    slots: HashMap<usize, Slot>,
    next: usize,
    timers: Timers<usize>,
    /// What they share.
    pub shared: Shared,
    /// Counts of those who have left.
    pub departed: (Sent, Received),
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("slots", &self.slots.len()).finish_non_exhaustive()
    }
}

impl World {
    /// How many peers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Takes a peer.
    pub fn add(&mut self, slot: Slot) -> PeerKey {
        let key = self.next;
        self.next += 1;
        self.slots.insert(key, slot);
        PeerKey(key)
    }

    /// Does something with a peer; `None` if it is gone.
    pub fn with<T>(&mut self, key: PeerKey, job: impl FnOnce(&mut Slot, &mut Shared) -> T) -> Option<T> {
        let slot = self.slots.get_mut(&key.0)?;
        let done = job(slot, &mut self.shared);
        slot.flush(&mut self.shared);
        self.timers.set(key.0, slot.next_timeout());
        Some(done)
    }

    /// A peer leaves, with a farewell to the server or without a word.
    pub fn remove(&mut self, key: PeerKey, says_farewell: bool) -> Option<Slot> {
        if says_farewell {
            self.with(key, |slot, shared| slot.peer.close(Instant::now(), &mut shared.outbox));
        }
        let slot = self.slots.remove(&key.0)?;
        slot.peer.senders().iter().for_each(|sender| self.departed.0.add(&sender.counts));
        slot.peer.receivers().iter().for_each(|(_, receiver)| self.departed.1.add(&receiver.counts));
        Some(slot)
    }

    /// All peers.
    pub fn slots(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.values_mut()
    }

    fn read(&mut self, buffers: &mut Buffers) {
        for (key, slot) in &mut self.slots {
            if slot.read(&mut self.shared, buffers) {
                self.timers.set(*key, slot.next_timeout());
            }
        }
    }

    /// Time from this look at the sockets to the next.
    fn look(&self) -> Duration {
        let all = LOOK_AT_ONE * u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        all.clamp(LOOK, LONGEST_LOOK)
    }

    fn handle_timeouts(&mut self) {
        let now = Instant::now();
        while let Some(key) = self.timers.pop_due(now) {
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.handle_timeout(now, &mut self.shared);
                // Never twice in one turn.
                let next = slot.next_timeout().map(|next| next.max(now + TURN));
                self.timers.set(key, next);
            }
        }
    }
}

/// Runs until nobody can give it jobs any more.
pub(super) fn run(mut poll: Poll, jobs: &Receiver<Job>) {
    // Of this thread. Where that is not allowed, all are equal.
    let _ = rustix::process::setpriority_process(None, NICENESS);
    let mut world = World {
        slots: HashMap::new(),
        next: 0,
        timers: Timers::default(),
        shared: Shared::default(),
        departed: Default::default(),
    };
    let mut events = Events::with_capacity(1);
    let mut buffers = Buffers::default();
    let mut look = Instant::now();
    loop {
        let patience = if world.is_empty() {
            SLEEP
        } else {
            let now = Instant::now();
            let due = world.timers.earliest().map_or(look, |due| due.max(now + TURN).min(look));
            std::thread::sleep(due.saturating_duration_since(now));
            world.handle_timeouts();
            Duration::ZERO
        };
        if Instant::now() < look {
            continue;
        }
        look = Instant::now() + world.look();
        match poll.poll(&mut events, Some(patience)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return,
            _ => {}
        }
        world.read(&mut buffers);
        loop {
            match jobs.try_recv() {
                Ok(job) => job(&mut world),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return,
            }
        }
    }
}
