//! What the scripts do in Redis.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use kaigi_proto::ids::WorkerId;

use super::{LEASE, Room, Streams, people::Person};
use crate::{
    group::{Claim, Leader, MemberId, Term},
    registry::Worker,
};

/// A write that Redis did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Away,
    Deposed,
    Fenced,
    Changed,
}

/// What is written down of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) people: BTreeSet<Person>,
    pub(super) streams: Streams,
}

/// See the module.
#[derive(Default)]
pub(super) struct Redis {
    pub(super) is_down: bool,
    leads: Option<(Leader, Instant)>,
    pub(super) last: Term,
    fence: Term,
    epoch: u64,
    pub(super) leases: BTreeMap<Room, (WorkerId, u64)>,
    pub(super) kept: BTreeMap<Room, Kept>,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
}

impl Redis {
    fn holds(&mut self, now: Instant) -> Option<Leader> {
        self.leads = self.leads.take().filter(|(_, until)| *until > now);
        self.leads.as_ref().map(|(leader, _)| leader.clone())
    }

    pub(super) fn claim(&mut self, now: Instant, member: &MemberId, claim: &Claim) -> Leader {
        if let Some(other) = self.holds(now)
            && claim.over.as_ref() != Some(&other)
            && other.member != *member
        {
            return other;
        }
        self.last = Term(self.last.max(claim.known).0 + 1);
        self.fence = self.last;
        let leader = Leader { term: self.last, member: member.clone(), endpoint: String::new() };
        self.leads = Some((leader.clone(), now + LEASE));
        leader
    }

    pub(super) fn renew(&mut self, now: Instant, itself: Leader) -> Option<Leader> {
        match self.holds(now) {
            Some(other) if other != itself => Some(other),
            None if self.last > itself.term => None,
            Some(_) | None => {
                self.leads = Some((itself.clone(), now + LEASE));
                Some(itself)
            }
        }
    }

    /// What every script does that writes.
    pub(super) fn write(&mut self, term: Term) -> Result<&mut Self, Refused> {
        if self.is_down {
            return Err(Refused::Away);
        }
        if self.fence > term {
            return Err(Refused::Deposed);
        }
        assert_eq!(term, self.last, "nobody writes but the last who was given the lease");
        Ok(self)
    }

    pub(super) fn lease(
        &mut self,
        term: Term,
        room: Room,
        seen: Option<&(WorkerId, u64)>,
        to: &WorkerId,
    ) -> Result<u64, Refused> {
        let redis = self.write(term)?;
        if redis.leases.get(room) != seen {
            return Err(Refused::Changed);
        }
        redis.epoch += 1;
        redis.leases.insert(room, (to.clone(), redis.epoch));
        Ok(redis.epoch)
    }

    pub(super) fn keep(&mut self, term: Term, room: Room, epoch: u64, kept: Kept) -> Result<(), Refused> {
        let redis = self.write(term)?;
        if redis.leases.get(room).is_none_or(|(_, held)| *held != epoch) {
            return Err(Refused::Fenced);
        }
        redis.kept.insert(room, kept);
        Ok(())
    }

    pub(super) fn release(&mut self, term: Term, room: Room, epoch: u64) -> Result<(), Refused> {
        let redis = self.write(term)?;
        if redis.leases.get(room).is_some_and(|(_, held)| *held == epoch) {
            redis.leases.remove(room);
            redis.kept.remove(room);
        }
        Ok(())
    }
}
