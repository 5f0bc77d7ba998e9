//! People in rooms, by portals: who asks to join, is told that he is in, comes back when his portal dies, leaves or just goes away; and what he is told
//! when the room has him no more.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kaigi_proto::ids::WorkerId;
use rand::{Rng, rngs::StdRng};

use super::{HEARTBEAT, Model, ROOMS, Room};

const PORTALS: usize = 2;
/// Most people at a time.
const MOST: usize = 12;
/// After which a room gives up those whose portals it does not hear of.
const GIVEN_UP: Duration = Duration::from_secs(15);

pub(super) type Person = u64;
/// Since when a room has not heard of somebody's portal.
pub(super) type Away = Option<Instant>;

#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Has asked to join, and was not answered.
    Asking,
    /// Was told that he is in.
    In,
}

#[derive(Debug)]
struct Client {
    room: Room,
    place: Place,
    /// None while he has lost his portal and is about to come back.
    portal: Option<usize>,
    /// The agent that his portal listens to.
    agent: Option<WorkerId>,
}

#[derive(Debug, Default)]
struct Portal {
    is_dead: bool,
    /// From the agents.
    is_cut_off: bool,
}

/// All people, and what is known of them.
#[derive(Debug)]
pub(super) struct People {
    clients: BTreeMap<Person, Client>,
    portals: [Portal; PORTALS],
    beats: Option<Instant>,
    born: Person,
    /// Who was ever written down, and who was written down as having left.
    known: BTreeSet<Person>,
    left: BTreeSet<Person>,
    /// Who was told that he is out.
    pub(super) told: usize,
}

impl People {
    pub(super) fn new() -> Self {
        Self {
            clients: BTreeMap::new(),
            portals: Default::default(),
            beats: None,
            born: 0,
            known: BTreeSet::new(),
            left: BTreeSet::new(),
            told: 0,
        }
    }

    /// Whether anybody is in that room, or wants to be.
    pub(super) fn want(&self, room: Room) -> bool {
        self.clients.values().any(|client| client.room == room)
    }

    pub(super) fn heal(&mut self) {
        self.portals = Default::default();
    }

    pub(super) fn cut_off(&mut self, random: &mut StdRng) {
        self.portals[random.random_range(0..PORTALS)].is_cut_off ^= true;
    }

    /// A room was written down.
    pub(super) fn written(&mut self, people: &BTreeMap<Person, Away>, leaving: BTreeSet<Person>) {
        self.known.extend(people.keys());
        self.left.extend(leaving);
    }

    fn reaches_agents(&self, client: &Client) -> bool {
        client.portal.is_some_and(|portal| !self.portals[portal].is_dead && !self.portals[portal].is_cut_off)
    }

    fn is_heard_by(&self, person: Person, agent: &WorkerId) -> bool {
        let client = self.clients.get(&person);
        client.is_some_and(|client| client.agent.as_ref() == Some(agent) && self.reaches_agents(client))
    }

    fn any(&self, random: &mut StdRng) -> Option<Person> {
        let all: Vec<Person> = self.clients.keys().copied().collect();
        (!all.is_empty()).then(|| all[random.random_range(0..all.len())])
    }

    /// The room has him no more, and tells him why: it has given him up, or has never written him down, for Redis was away when he came.
    fn tell_out(&mut self, person: Person, is_given_up: bool) {
        let has_reason = is_given_up || self.left.contains(&person) || !self.known.contains(&person);
        assert!(has_reason, "{person} is lost without a reason");
        self.clients.remove(&person);
        self.told += 1;
    }

    /// What is so at rest.
    pub(super) fn check(&self, room: Room, people: &BTreeMap<Person, Away>) {
        let of_room = self.clients.iter().filter(|(_, client)| client.room == room);
        for (person, client) in of_room {
            assert_eq!(client.place, Place::In, "{room}: {person} is answered");
            assert!(people.contains_key(person), "{room}: {person} is out, and was not told");
        }
        for person in people.keys() {
            assert!(self.clients.contains_key(person), "{room}: {person} is not there any more");
        }
    }
}

impl Model {
    pub(super) fn join(&mut self) {
        if self.people.clients.len() >= MOST {
            return;
        }
        self.people.born += 1;
        let room = ROOMS[self.random.random_range(0..ROOMS.len())];
        let portal = Some(self.random.random_range(0..PORTALS));
        let client = Client { room, place: Place::Asking, portal, agent: None };
        self.people.clients.insert(self.people.born, client);
    }

    /// Somebody says that he leaves, or says nothing.
    pub(super) fn leave(&mut self) {
        let Some(person) = self.people.any(&mut self.random) else { return };
        let agent = self.heard_by(person);
        let Some(client) = self.people.clients.remove(&person) else { return };
        if let Some(agent) = agent.filter(|_| self.random.random_bool(0.5)) {
            self.change(agent, client.room, |running| running.remove(person));
            let _is_mine = self.tell(agent, client.room);
        }
    }

    pub(super) fn publish(&mut self) {
        let Some(person) = self.people.any(&mut self.random) else { return };
        let Some((agent, room)) = self.heard_by(person).zip(self.people.clients.get(&person).map(|c| c.room))
        else {
            return;
        };
        self.born += 1;
        let stream = self.born;
        self.change(agent, room, |running| {
            if running.people.contains_key(&person) {
                running.streams.insert(stream, person);
            }
        });
        let _is_mine = self.tell(agent, room);
    }

    /// Some of its clients come back by another, some do not.
    pub(super) fn kill_portal(&mut self) {
        let dead = self.random.random_range(0..PORTALS);
        self.people.portals[dead].is_dead = true;
        let random = &mut self.random;
        self.people.clients.retain(|_, client| {
            if client.portal == Some(dead) {
                (client.portal, client.agent) = (None, None);
                // One who was not answered asks again as somebody new.
                return client.place == Place::In && random.random_bool(0.7);
            }
            true
        });
    }

    /// What portals do: they find the rooms' agents, ask what is to be asked, and tell their clients.
    pub(super) fn run_people(&mut self) {
        if self.people.beats.is_some_and(|at| self.now < at) {
            return;
        }
        self.people.beats = Some(self.now + HEARTBEAT);
        let all: Vec<Person> = self.people.clients.keys().copied().collect();
        for person in all {
            self.run_client(person);
        }
    }

    fn run_client(&mut self, person: Person) {
        let heard = self.heard_by(person);
        let Some(client) = self.people.clients.get_mut(&person) else { return };
        if client.portal.is_none() && self.random.random_bool(0.2) {
            client.portal = self.people.portals.iter().position(|portal| !portal.is_dead);
        }
        let Some(client) =
            self.people.clients.get(&person).filter(|client| self.people.reaches_agents(client))
        else {
            return;
        };
        let (room, is_in) = (client.room, client.place == Place::In);
        let Some(agent) = heard.or_else(|| self.owner_of(room)) else { return };
        let id = self.agents[agent].as_ref().map(|agent| agent.id.clone());
        if !is_in {
            self.change(agent, room, |running| {
                running.people.insert(person, None);
            });
            if self.tell(agent, room).is_err() {
                return;
            }
        } else {
            let Some(running) = self.runs(agent, room) else { return };
            let (is_there, is_given_up) =
                (running.people.contains_key(&person), running.leaving.contains(&person));
            if !is_there {
                return self.people.tell_out(person, is_given_up);
            }
        }
        if let Some(client) = self.people.clients.get_mut(&person) {
            (client.place, client.agent) = (Place::In, id);
        }
    }

    /// An agent notices whose portals it does not hear, and gives them up in time.
    pub(super) fn miss(&mut self, agent: usize, room: Room) {
        let (now, people) = (self.now, &self.people);
        let Some(owner) = &mut self.agents[agent] else { return };
        let Some(running) = owner.rooms.get_mut(room) else { return };
        for (person, away) in &mut running.people {
            *away = match people.is_heard_by(*person, &owner.id) {
                true => None,
                false => Some(away.unwrap_or(now)),
            };
        }
        let is_over = |away: &Away| away.is_some_and(|since| now >= since + GIVEN_UP);
        let given_up: Vec<Person> =
            running.people.iter().filter(|(_, away)| is_over(away)).map(|(person, _)| *person).collect();
        if !given_up.is_empty() {
            given_up.into_iter().for_each(|person| running.remove(person));
            let _is_mine = self.tell(agent, room);
        }
    }

    fn runs(&self, agent: usize, room: Room) -> Option<&super::Running> {
        self.agents[agent].as_ref().filter(|agent| !agent.is_paused)?.rooms.get(room)
    }

    fn change(&mut self, agent: usize, room: Room, change: impl FnOnce(&mut super::Running)) {
        if let Some(running) = self.agents[agent].as_mut().and_then(|agent| agent.rooms.get_mut(room)) {
            change(running);
        }
    }

    /// The agent that somebody's portal listens to, if it still has the room.
    fn heard_by(&self, person: Person) -> Option<usize> {
        let client = self.people.clients.get(&person)?;
        let is_it = |agent: &Option<super::Agent>| {
            agent.as_ref().is_some_and(|a| Some(&a.id) == client.agent.as_ref())
        };
        let agent = self.agents.iter().position(is_it)?;
        self.runs(agent, client.room).and(Some(agent)).filter(|_| self.people.reaches_agents(client))
    }

    /// The agent that has the room's lease, and runs it.
    fn owner_of(&self, room: Room) -> Option<usize> {
        let (holder, epoch) = self.redis.leases.get(room)?;
        let is_it = |agent: &Option<super::Agent>| agent.as_ref().is_some_and(|agent| agent.id == *holder);
        let agent = self.agents.iter().position(is_it)?;
        self.runs(agent, room).filter(|running| running.epoch == *epoch).and(Some(agent))
    }
}
