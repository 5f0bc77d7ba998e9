//! A reference model of a cluster on virtual time, in which real [elections](super::election) and real [registries](Registry) meet a model of
//! [Redis](redis), of agents with their rooms, of portals with the [people](people) in them, and of a node: whoever joins, publishes, leaves, dies, stands
//! still, is cut off or comes back in whatever order, a room has one owner in each epoch, nobody is out of a room without having been told why, and at
//! rest every stream has an owner and every lease somebody who holds it.

mod people;
mod redis;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kaigi_proto::{ids::WorkerId, v1};
use rand::{Rng, SeedableRng, rngs::StdRng};

use people::{Away, People, Person};
use redis::{Kept, Redis, Refused};

use super::{
    Claim, Leader, MemberId, Term, Timing,
    election::{Ask, Election, Heard},
};
use crate::registry::{Event, Liveness, Load, Registry, RegistryConfig, Strategies, TaskId, Worker};

const LEASE: Duration = Duration::from_millis(1500);
const WORKER_LEASE: Duration = Duration::from_secs(3);
const HEARTBEAT: Duration = Duration::from_millis(500);
/// The time between two looks at everything.
const TICK: Duration = Duration::from_millis(20);
const MEMBERS: usize = 3;
const AGENTS: usize = 3;
const ROOMS: [&str; 3] = ["red", "green", "blue"];
/// Until all is as it should be: those who are away are given up, and whoever waits for that has gone on.
const REST: Duration = Duration::from_secs(35);
/// Steps until a rest.
const STEPS: usize = 60;

type Room = &'static str;
type Stream = u64;
/// By whom each is.
type Streams = BTreeMap<Stream, Person>;

/// A lease that a member was about to write when it stood still.
struct Late {
    term: Term,
    room: Room,
    seen: Option<(WorkerId, u64)>,
    to: WorkerId,
}

struct Member {
    id: MemberId,
    election: Election,
    serves: Option<(Term, Registry)>,
    is_paused: bool,
    is_cut_off: bool,
    late: Vec<Late>,
}

#[derive(Clone, Default)]
struct Running {
    epoch: u64,
    /// With those whose portals are not heard of, and since when.
    people: BTreeMap<Person, Away>,
    streams: Streams,
    /// Who left, or was away for too long, since it was written down.
    leaving: BTreeSet<Person>,
    is_written: bool,
}

impl Running {
    fn taken_over(epoch: u64, kept: Kept) -> Self {
        let people = kept.people.into_iter().map(|person| (person, Away::default())).collect();
        Self { epoch, people, streams: kept.streams, ..Self::default() }
    }

    fn written(&self) -> Kept {
        Kept { people: self.people.keys().copied().collect(), streams: self.streams.clone() }
    }

    fn remove(&mut self, person: Person) {
        if self.people.remove(&person).is_some() {
            self.streams.retain(|_, of| *of != person);
            self.leaving.insert(person);
        }
    }
}

struct Agent {
    id: WorkerId,
    /// Which member it is connected to.
    manager: Option<usize>,
    beats: Instant,
    rooms: BTreeMap<Room, Running>,
    is_paused: bool,
}

struct Model {
    now: Instant,
    random: StdRng,
    redis: Redis,
    members: Vec<Option<Member>>,
    agents: Vec<Option<Agent>>,
    /// What the node has of each room, and under which epoch it was told last.
    node: BTreeMap<Room, (u64, Streams)>,
    /// Who was given each epoch of each room.
    owners: BTreeMap<(Room, u64), WorkerId>,
    people: People,
    terms: BTreeMap<Term, MemberId>,
    born: u64,
    /// Nothing happens by itself any more.
    is_calm: bool,
}

fn worker(id: &WorkerId) -> Worker {
    let purpose = v1::Purpose::Conference.into();
    Worker::try_from(v1::Worker { worker_id: id.to_string(), purpose, ..v1::Worker::default() }).unwrap()
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut model = Self {
            now: Instant::now(),
            random: StdRng::seed_from_u64(seed),
            redis: Redis::default(),
            members: (0..MEMBERS).map(|_| None).collect(),
            agents: (0..AGENTS).map(|_| None).collect(),
            node: BTreeMap::new(),
            owners: BTreeMap::new(),
            people: People::new(),
            terms: BTreeMap::new(),
            born: 0,
            is_calm: false,
        };
        model.heal();
        model
    }

    /// Whoever is dead is started again, and nothing stands in anybody's way.
    fn heal(&mut self) {
        self.redis.is_down = false;
        for index in 0..MEMBERS {
            self.born += 1;
            let (id, now) = (MemberId::new(&format!("member-{}", self.born)), self.now);
            let member = self.members[index].get_or_insert_with(|| Member {
                election: Election::new(Timing::new(LEASE).unwrap(), id.clone(), now),
                id,
                serves: None,
                is_paused: false,
                is_cut_off: false,
                late: Vec::new(),
            });
            (member.is_paused, member.is_cut_off) = (false, false);
        }
        for index in 0..AGENTS {
            self.born += 1;
            let (id, now) = (WorkerId::new(format!("agent-{}", self.born)).unwrap(), self.now);
            let agent = self.agents[index].get_or_insert_with(|| Agent {
                id,
                manager: None,
                beats: now,
                rooms: BTreeMap::new(),
                is_paused: false,
            });
            agent.is_paused = false;
        }
        self.people.heal();
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += TICK;
            (0..MEMBERS).for_each(|index| self.run_member(index));
            (0..AGENTS).for_each(|index| self.run_agent(index));
            self.run_people();
            self.check();
        }
    }

    fn run_member(&mut self, index: usize) {
        let (now, redis) = (self.now, &mut self.redis);
        let Some(member) = self.members[index].as_mut().filter(|member| !member.is_paused) else { return };
        // It wakes, and goes on where it was, before it looks at the clock.
        let late: Vec<Late> = member.late.drain(..).collect();
        let reaches = !redis.is_down && !member.is_cut_off;
        for Late { term, room, seen, to } in late.into_iter().filter(|_| reaches) {
            if let Ok(epoch) = redis.lease(term, room, seen.as_ref(), &to) {
                // Nobody waits for the answer any more; the agent asks again.
                assert!(self.owners.insert((room, epoch), to).is_none());
            }
        }
        if now >= member.election.deadline() {
            let heard = match member.election.ask() {
                _ if !reaches => Heard::Away,
                Ask::Claim(claim) => Heard::Leads(redis.claim(now, &member.id, &claim)),
                Ask::Renew(term) => {
                    let itself = Leader { term, member: member.id.clone(), endpoint: String::new() };
                    redis.renew(now, itself).map_or(Heard::Nobody, Heard::Leads)
                }
            };
            member.election.heard(now, now, heard);
        }
        let leads = member.election.leads().map(|(term, _)| term);
        if leads != member.serves.as_ref().map(|(term, _)| *term) {
            member.serves = leads.map(|term| {
                let config = RegistryConfig { lease: WORKER_LEASE, strategies: Strategies::default() };
                let mut registry = Registry::new(config, now, 1);
                registry.restore(now, redis.workers.values().cloned());
                (term, registry)
            });
            if let Some(term) = leads {
                let same = self.terms.entry(term).or_insert_with(|| member.id.clone());
                assert_eq!(*same, member.id, "a term is one member's");
            }
        }
        if let Some((term, registry)) = &mut member.serves {
            let events = registry.tick(now);
            let term = *term;
            record(redis, term, reaches, events);
        }
    }

    /// The member that the agent calls: the one it is connected to, until that is gone or another is known to lead.
    fn manager_of(&mut self, agent: usize) -> Option<usize> {
        let leads = |member: &Option<Member>| {
            let member = member.as_ref().filter(|member| !member.is_paused)?;
            let (term, until) = member.election.leads()?;
            (until > self.now).then_some(term)
        };
        let best = (0..MEMBERS).filter_map(|index| Some((leads(&self.members[index])?, index))).max();
        let connected = self.agents[agent].as_ref()?.manager;
        let is_noticed = self.random.random_bool(0.3);
        let chosen = match connected {
            Some(old) if leads(&self.members[old]).is_some() && !is_noticed => Some(old),
            Some(_) | None => best.map(|(_, index)| index),
        };
        self.agents[agent].as_mut()?.manager = chosen;
        chosen
    }

    fn run_agent(&mut self, index: usize) {
        let now = self.now;
        let is_due = |agent: &Agent| !agent.is_paused && now >= agent.beats;
        if !self.agents[index].as_ref().is_some_and(is_due) {
            return;
        }
        if let Some(agent) = &mut self.agents[index] {
            agent.beats = now + HEARTBEAT;
        }
        let Some(manager) = self.manager_of(index) else { return };
        // The node ends what it had with whoever owned a room before.
        let node = &self.node;
        let is_mine =
            |room: &Room, running: &Running| node.get(room).is_none_or(|(epoch, _)| *epoch <= running.epoch);
        for agent in self.agents[index].iter_mut() {
            agent.rooms.retain(|room, running| is_mine(room, running));
        }
        self.beat(index, manager);
        for room in ROOMS {
            self.look_after(index, manager, room);
        }
    }

    fn beat(&mut self, agent: usize, manager: usize) {
        let (Some(agent), Some(member)) = (&self.agents[agent], &mut self.members[manager]) else { return };
        let reaches = !member.is_cut_off;
        let Some((term, registry)) = &mut member.serves else { return };
        let tasks: Vec<TaskId> = agent.rooms.keys().map(|room| TaskId::new(room).unwrap()).collect();
        if registry.heartbeat(self.now, &agent.id, Load::new(0.1).unwrap(), &tasks).is_err() {
            let events = registry.register(self.now, worker(&agent.id)).unwrap();
            record(&mut self.redis, *term, reaches, events);
        }
    }

    /// An agent writes down, ends, or takes over a room.
    fn look_after(&mut self, agent: usize, manager: usize, room: Room) {
        let Some(running) = self.agents[agent].as_ref().and_then(|agent| agent.rooms.get(room)).cloned()
        else {
            let lease = self.redis.leases.get(room);
            // An orphan, or a room that somebody is in and no one has.
            if (self.people.want(room) || self.redis.kept.contains_key(room) || lease.is_some())
                && self.random.random_bool(0.5)
            {
                self.acquire(agent, manager, room);
            }
            return;
        };
        self.miss(agent, room);
        if self.people.want(room) || !running.people.is_empty() {
            if !running.is_written {
                let _is_mine = self.tell(agent, room);
            }
            return;
        }
        let ended = self.through(manager, |redis, term| redis.release(term, room, running.epoch));
        if ended.is_ok() {
            self.agents[agent].iter_mut().for_each(|agent| drop(agent.rooms.remove(room)));
            self.command(agent, room, running.epoch, Streams::new());
        }
    }

    /// A write by way of that member.
    fn through<T>(
        &mut self,
        manager: usize,
        write: impl FnOnce(&mut Redis, Term) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let member = self.members[manager].as_ref().filter(|member| !member.is_cut_off);
        let Some((term, _)) = member.and_then(|member| member.serves.as_ref()) else {
            return Err(Refused::Away);
        };
        write(&mut self.redis, *term)
    }

    /// As [`crate::store_service`] does it.
    fn acquire(&mut self, agent: usize, manager: usize, room: Room) {
        let Some(id) = self.agents[agent].as_ref().map(|agent| agent.id.clone()) else { return };
        let seen = self.redis.leases.get(room).cloned();
        let Some(member) = self.members[manager].as_mut().filter(|member| !member.is_cut_off) else { return };
        let Some((term, registry)) = &member.serves else { return };
        if registry.liveness(&id) == Liveness::Gone || self.redis.is_down {
            return;
        }
        if let Some((holder, _)) = seen.as_ref().filter(|(holder, _)| *holder != id)
            && registry.liveness(holder) != Liveness::Gone
        {
            return;
        }
        if !self.is_calm && self.random.random_bool(0.1) {
            // Stands still between reading and writing.
            member.late.push(Late { term: *term, room, seen, to: id });
            member.is_paused = true;
            return;
        }
        let Ok(epoch) = self.through(manager, |redis, term| redis.lease(term, room, seen.as_ref(), &id))
        else {
            return;
        };
        assert!(self.owners.insert((room, epoch), id).is_none(), "{room} has one owner in {epoch}");
        let running = Running::taken_over(epoch, self.redis.kept.get(room).cloned().unwrap_or_default());
        self.agents[agent].iter_mut().for_each(|agent| drop(agent.rooms.insert(room, running.clone())));
        let _is_mine = self.tell(agent, room);
    }

    /// Writes a room down, and then tells the node, and whoever waits for that, of it; also if Redis is away. Not if the room is another agent's.
    fn tell(&mut self, agent: usize, room: Room) -> Result<(), Refused> {
        let Some(running) = self.agents[agent].as_ref().and_then(|agent| agent.rooms.get(room)).cloned()
        else {
            return Err(Refused::Fenced);
        };
        let kept = match self.manager_of(agent) {
            Some(manager) => {
                self.through(manager, |redis, term| redis.keep(term, room, running.epoch, running.written()))
            }
            None => Err(Refused::Away),
        };
        let Some(owner) = &mut self.agents[agent] else { return Err(Refused::Fenced) };
        if kept == Err(Refused::Fenced) {
            owner.rooms.remove(room);
            return kept;
        }
        let mut after = Running { is_written: kept.is_ok(), ..running.clone() };
        if kept.is_ok() {
            self.people.written(&running.people, std::mem::take(&mut after.leaving));
        }
        owner.rooms.insert(room, after);
        self.command(agent, room, running.epoch, running.streams);
        Ok(())
    }

    /// The node does what it is told under the last epoch that it knows of.
    fn command(&mut self, agent: usize, room: Room, epoch: u64, streams: Streams) {
        let Some(agent) = &self.agents[agent] else { return };
        assert_eq!(self.owners.get(&(room, epoch)), Some(&agent.id), "only an owner commands");
        let known = self.node.entry(room).or_default();
        if epoch >= known.0 {
            *known = (epoch, streams);
        }
    }

    /// Something happens.
    fn step(&mut self) {
        let (member, agent) = (self.random.random_range(0..MEMBERS), self.random.random_range(0..AGENTS));
        match self.random.random_range(0..24) {
            0..=3 => self.join(),
            4 => self.leave(),
            5..=7 => self.publish(),
            8 => self.kill_portal(),
            9 => self.people.cut_off(&mut self.random),
            10 => self.members[member] = None,
            11 => self.agents[agent] = None,
            12 => self.members[member].iter_mut().for_each(|member| member.is_paused ^= true),
            13 => self.agents[agent].iter_mut().for_each(|agent| agent.is_paused ^= true),
            14 => self.members[member].iter_mut().for_each(|member| member.is_cut_off ^= true),
            15 => self.redis.is_down ^= true,
            16 => self.heal(),
            // The others see that its process is dead, as its address refuses them.
            17 => {
                let dead = self.members[member].take().and_then(|member| {
                    let (term, _) = member.election.leads()?;
                    Some(Leader { term, member: member.id, endpoint: String::new() })
                });
                for other in self.members.iter_mut().flatten() {
                    dead.iter().for_each(|dead| other.election.died(dead.clone(), self.now));
                }
            }
            _ => {}
        }
        let time = Duration::from_millis(self.random.random_range(0..2500));
        self.pass(time);
    }

    /// What is so at any time.
    fn check(&self) {
        for (room, (epoch, streams)) in &self.node {
            let owner = self.owners.get(&(*room, *epoch));
            assert!(streams.is_empty() || owner.is_some(), "{room} in {epoch} is nobody's");
        }
        for (room, running) in self.agents.iter().flatten().flat_map(|agent| &agent.rooms) {
            let is_there = |person: &Person| running.people.contains_key(person);
            assert!(running.streams.values().all(is_there), "{room}: a stream is of nobody who is there");
        }
    }

    /// What is so when all is well and a while has passed.
    fn rest(&mut self) {
        self.is_calm = true;
        self.heal();
        self.pass(REST);
        self.is_calm = false;
        let leading: Vec<_> = self.members.iter().flatten().filter_map(|m| m.election.leads()).collect();
        assert_eq!(leading.len(), 1, "one leads");
        assert_eq!(leading[0].0, self.redis.last);
        for room in ROOMS {
            let runs: Vec<_> =
                self.agents.iter().flatten().filter_map(|a| Some((&a.id, a.rooms.get(room)?))).collect();
            let lease = self.redis.leases.get(room);
            if self.people.want(room) {
                let [(agent, running)] = runs[..] else { panic!("{room} is run by {}", runs.len()) };
                assert_eq!(lease, Some(&(agent.clone(), running.epoch)), "{room}: who runs it holds it");
                assert_eq!(self.redis.kept.get(room), Some(&running.written()), "{room}: it is written down");
                self.people.check(room, &running.people);
                assert_eq!(
                    self.node.get(room),
                    Some(&(running.epoch, running.streams.clone())),
                    "{room}: every stream has an owner, and is where it should be"
                );
            } else {
                assert!(runs.is_empty(), "{room} is run for nobody");
                assert_eq!(lease, None, "{room}: no lease is left");
                assert!(!self.redis.kept.contains_key(room), "{room}: nothing is kept");
                assert!(
                    self.node.get(room).is_none_or(|(_, streams)| streams.is_empty()),
                    "{room} has streams"
                );
            }
        }
    }
}

/// What the journal writes.
fn record(redis: &mut Redis, term: Term, reaches: bool, events: Vec<Event>) {
    for event in events.into_iter().filter(|_| reaches) {
        let Ok(redis) = redis.write(term) else { return };
        match event {
            Event::Joined(worker) => drop(redis.workers.insert(worker.id.clone(), worker)),
            Event::Left(worker) => drop(redis.workers.remove(&worker.id)),
        }
    }
}

#[test]
fn whatever_happens_a_room_has_one_owner_and_nothing_and_nobody_is_lost_or_left_behind() {
    let mut told = 0;
    for seed in 0..60 {
        let mut model = Model::new(seed);
        for _ in 0..3 {
            (0..STEPS).for_each(|_| model.step());
            model.rest();
        }
        told += model.people.told;
    }
    assert!(told > 100, "only {told} were told that they are out: the model does not do enough to them");
}

#[test]
fn the_model_refuses_what_it_should() {
    let mut redis = Redis::default();
    let now = Instant::now();
    let first = redis.claim(now, &MemberId::new("a"), &Claim::default());
    assert_eq!(redis.claim(now, &MemberId::new("b"), &Claim::default()), first);
    let agent = WorkerId::new("agent").unwrap();
    let epoch = redis.lease(first.term, "red", None, &agent).unwrap();
    let second = redis.claim(now + LEASE, &MemberId::new("b"), &Claim::default());
    assert_eq!(redis.lease(first.term, "green", None, &agent), Err(Refused::Deposed));
    assert_eq!(redis.keep(second.term, "red", epoch + 1, Kept::default()), Err(Refused::Fenced));
    assert_eq!(redis.lease(second.term, "red", None, &agent), Err(Refused::Changed));
}
