//! What agents are told of their outputs and inputs: first how each is, then changes; one bounded stream per agent.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_proto::v1;
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Events that wait for an agent beyond those that it is told first.
const MAX_WAITING: usize = 256;
/// How long an agent's outputs outlive its stream. Taking over a room takes a few seconds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Room, and output or input.
pub type OutputKey = (String, String);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct EventHub(Arc<Mutex<Hub>>);

#[derive(Debug, Default)]
struct Hub {
    agents: HashMap<String, Agent>,
    outputs: BTreeMap<OutputKey, Known>,
}

#[derive(Debug)]
enum Agent {
    Listening(mpsc::Sender<v1::OutputEvent>),
    Away(Instant),
}

#[derive(Debug)]
struct Known {
    agent: String,
    state: v1::OutputState,
    reason: String,
    /// Of an input.
    tracks: Vec<v1::InputTrack>,
}

/// Tells of one output or input.
#[derive(Clone, Debug)]
pub struct OutputTeller {
    hub: EventHub,
    key: OutputKey,
}

impl OutputTeller {
    /// How it is now; what is known already is not told again.
    pub fn tell(&self, state: v1::OutputState, reason: &str) {
        self.update(state, reason, None);
    }

    /// The same of an input whose tracks are these.
    pub fn tell_tracks(&self, state: v1::OutputState, reason: &str, tracks: Vec<v1::InputTrack>) {
        self.update(state, reason, Some(tracks));
    }

    fn update(&self, state: v1::OutputState, reason: &str, tracks: Option<Vec<v1::InputTrack>>) {
        let mut hub = self.hub.0.lock();
        let Some(known) = hub.outputs.get_mut(&self.key) else { return };
        let tracks = tracks.filter(|tracks| known.tracks != *tracks);
        if known.state == state && known.reason == reason && tracks.is_none() {
            return;
        }
        known.state = state;
        reason.clone_into(&mut known.reason);
        if let Some(tracks) = tracks {
            known.tracks = tracks;
        }
        let (agent, event) = (known.agent.clone(), event(&self.key, known));
        if let Some(Agent::Listening(tell)) = hub.agents.get(&agent)
            && tell.try_send(event).is_err()
        {
            // It opens its stream again, and is told how everything is.
            hub.agents.insert(agent, Agent::Away(Instant::now()));
        }
    }
}

impl EventHub {
    /// An output or input is (now) an agent's.
    #[must_use]
    pub fn set(&self, key: &OutputKey, agent: &str, now: Instant) -> OutputTeller {
        let mut hub = self.0.lock();
        hub.agents.entry(agent.to_owned()).or_insert(Agent::Away(now));
        let known = hub.outputs.entry(key.clone()).or_insert_with(|| Known {
            agent: agent.to_owned(),
            state: v1::OutputState::Starting,
            reason: String::new(),
            tracks: Vec::new(),
        });
        if known.agent != agent {
            agent.clone_into(&mut known.agent);
            // Its stream may be open already.
            let now_so = event(key, known);
            if let Some(Agent::Listening(tell)) = hub.agents.get(agent)
                && tell.try_send(now_so).is_err()
            {
                hub.agents.insert(agent.to_owned(), Agent::Away(now));
            }
        }
        OutputTeller { hub: self.clone(), key: key.clone() }
    }

    /// It is no more.
    pub fn remove(&self, key: &OutputKey) {
        self.0.lock().outputs.remove(key);
    }

    /// An agent wants to be told; an older stream of its ends.
    #[must_use]
    pub fn open(&self, agent: &str) -> mpsc::Receiver<v1::OutputEvent> {
        let mut hub = self.0.lock();
        let own = hub.outputs.iter().filter(|(_, known)| known.agent == agent);
        let first: Vec<v1::OutputEvent> = own.map(|(key, known)| event(key, known)).collect();
        let (tell, told) = mpsc::channel(first.len() + MAX_WAITING);
        for event in first {
            // There is room for all of them.
            drop(tell.try_send(event));
        }
        hub.agents.insert(agent.to_owned(), Agent::Listening(tell));
        told
    }

    /// Outputs and inputs of agents that have been away for too long.
    #[must_use]
    pub fn abandoned(&self, now: Instant) -> Vec<OutputKey> {
        let mut hub = self.0.lock();
        let Hub { agents, outputs } = &mut *hub;
        agents.retain(|name, agent| {
            if let Agent::Listening(tell) = agent
                && tell.is_closed()
            {
                *agent = Agent::Away(now);
            }
            matches!(agent, Agent::Listening(_)) || outputs.values().any(|known| known.agent == *name)
        });
        let away = |name: &str| match agents.get(name) {
            Some(Agent::Away(since)) => now.saturating_duration_since(*since) >= PATIENCE,
            Some(Agent::Listening(_)) => false,
            None => true,
        };
        outputs.iter().filter(|(_, known)| away(&known.agent)).map(|(key, _)| key.clone()).collect()
    }
}

fn event((room, id): &OutputKey, known: &Known) -> v1::OutputEvent {
    v1::OutputEvent {
        room_id: room.clone(),
        id: id.clone(),
        state: known.state.into(),
        reason: known.reason.clone(),
        tracks: known.tracks.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_told_how_it_is_and_then_what_changes() {
        let hub = EventHub::default();
        let key = ("room".to_owned(), "id".to_owned());
        let teller = hub.set(&key, "agent", Instant::now());
        teller.tell(v1::OutputState::Active, "");
        let mut told = hub.open("agent");
        assert_eq!(told.try_recv().unwrap().state(), v1::OutputState::Active);
        teller.tell(v1::OutputState::Active, "");
        assert!(told.try_recv().is_err(), "told twice");
        teller.tell(v1::OutputState::Trouble, "gone");
        assert_eq!(told.try_recv().unwrap().reason, "gone");
        hub.remove(&key);
        teller.tell(v1::OutputState::Active, "");
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn an_agent_that_takes_over_is_told_how_it_is() {
        let hub = EventHub::default();
        let key = ("room".to_owned(), "id".to_owned());
        let teller = hub.set(&key, "agent", Instant::now());
        teller.tell(v1::OutputState::Active, "");
        let mut told = hub.open("heir");
        assert!(told.try_recv().is_err());
        let _teller = hub.set(&key, "heir", Instant::now());
        assert_eq!(told.try_recv().unwrap().state(), v1::OutputState::Active);
        let _teller = hub.set(&key, "heir", Instant::now());
        assert!(told.try_recv().is_err(), "told twice");
    }

    #[test]
    fn an_inputs_tracks_are_told_with_how_it_is() {
        let hub = EventHub::default();
        let key = ("room".to_owned(), "id".to_owned());
        let teller = hub.set(&key, "agent", Instant::now());
        let mut told = hub.open("agent");
        assert!(told.try_recv().unwrap().tracks.is_empty());
        let track = |width| v1::InputTrack {
            resolution: Some(v1::Resolution { width, height: 240 }),
            ..v1::InputTrack::default()
        };
        teller.tell_tracks(v1::OutputState::Active, "", vec![track(320)]);
        assert_eq!(told.try_recv().unwrap().tracks, [track(320)]);
        teller.tell_tracks(v1::OutputState::Active, "", vec![track(320)]);
        assert!(told.try_recv().is_err(), "told twice");
        teller.tell(v1::OutputState::Trouble, "gone");
        assert_eq!(told.try_recv().unwrap().tracks, [track(320)], "forgotten");
        teller.tell_tracks(v1::OutputState::Trouble, "gone", vec![track(640)]);
        assert_eq!(told.try_recv().unwrap().tracks, [track(640)]);
    }

    #[test]
    fn outputs_of_an_agent_that_stays_away_are_abandoned() {
        let (hub, now) = (EventHub::default(), Instant::now());
        let key = ("room".to_owned(), "id".to_owned());
        let _teller = hub.set(&key, "agent", now);
        assert!(hub.abandoned(now + PATIENCE / 2).is_empty());
        let told = hub.open("agent");
        assert!(hub.abandoned(now + PATIENCE * 2).is_empty());
        drop(told);
        assert!(hub.abandoned(now + PATIENCE * 2).is_empty());
        assert_eq!(hub.abandoned(now + PATIENCE * 3), [key]);
    }
}
