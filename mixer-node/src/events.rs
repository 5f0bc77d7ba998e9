//! What agents are told: one bounded stream per agent.
//!
//! An agent that opens its stream is told first what holds at present (active inputs, failing inputs), so that nothing is lost when a
//! stream breaks or an agent is too slow, whose stream is then ended.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::StreamId,
    v1::{self, mixer_event::Event},
};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::description::ViewKey;

/// Events that wait for an agent beyond those that it is told first. Views change a few times a second at most.
const MAX_WAITING: usize = 256;
/// How long an agent's views outlive its stream. Taking over a room takes a few seconds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub struct EventHub(Mutex<Hub>);

#[derive(Debug, Default)]
struct Hub {
    agents: HashMap<String, Agent>,
    views: HashMap<ViewKey, View>,
}

#[derive(Debug)]
enum Agent {
    Listening(mpsc::Sender<v1::MixerEvent>),
    Away(Instant),
}

#[derive(Debug)]
struct View {
    agent: String,
    active: Option<StreamId>,
    /// By stream and kind of track.
    failing: BTreeMap<(StreamId, v1::MediaKind), String>,
}

impl EventHub {
    /// A view is (now) an agent's.
    pub fn set_view(&self, key: &ViewKey, agent: &str, now: Instant) {
        let mut hub = self.0.lock();
        hub.agents.entry(agent.to_owned()).or_insert(Agent::Away(now));
        let view = hub.views.entry(key.clone()).or_insert_with(|| View {
            agent: agent.to_owned(),
            active: None,
            failing: BTreeMap::new(),
        });
        if view.agent != agent {
            agent.clone_into(&mut view.agent);
        }
    }

    /// A view is no more.
    pub fn remove_view(&self, key: &ViewKey) {
        self.0.lock().views.remove(key);
    }

    /// An agent wants to be told; an older stream of its ends.
    pub fn open(&self, agent: &str) -> mpsc::Receiver<v1::MixerEvent> {
        let mut hub = self.0.lock();
        let own = hub.views.iter().filter(|(_, view)| view.agent == agent);
        let first: Vec<v1::MixerEvent> = own.flat_map(|(key, view)| view.summary(key)).collect();
        let (tell, told) = mpsc::channel(first.len() + MAX_WAITING);
        for event in first {
            // There is room for all of them.
            drop(tell.try_send(event));
        }
        hub.agents.insert(agent.to_owned(), Agent::Listening(tell));
        told
    }

    /// The loudest input of a view has changed.
    pub fn active(&self, key: &ViewKey, stream: StreamId, now: Instant) {
        let mut hub = self.0.lock();
        if let Some(view) = hub.views.get_mut(key) {
            let event = Event::ActiveInput(stream.to_string());
            view.active = Some(stream);
            hub.tell(key, event, now);
        }
    }

    /// An input of a view fails.
    pub fn failed(&self, key: &ViewKey, stream: &StreamId, kind: v1::MediaKind, reason: &str, now: Instant) {
        let mut hub = self.0.lock();
        if let Some(view) = hub.views.get_mut(key) {
            view.failing.insert((stream.clone(), kind), reason.to_owned());
            hub.tell(key, failure(stream, reason), now);
        }
    }

    /// An input of a view works again, or is no more.
    pub fn recovered(&self, key: &ViewKey, stream: &StreamId, kind: v1::MediaKind) {
        if let Some(view) = self.0.lock().views.get_mut(key) {
            view.failing.remove(&(stream.clone(), kind));
        }
    }

    /// Forgets the failures of inputs that a view has no more.
    pub fn retain_inputs(&self, key: &ViewKey, keep: impl Fn(&StreamId) -> bool) {
        if let Some(view) = self.0.lock().views.get_mut(key) {
            view.failing.retain(|(stream, _), _| keep(stream));
        }
    }

    /// Views whose agents have been away for too long.
    pub fn abandoned(&self, now: Instant) -> Vec<ViewKey> {
        let mut hub = self.0.lock();
        let Hub { agents, views } = &mut *hub;
        agents.retain(|name, agent| {
            if let Agent::Listening(tell) = agent
                && tell.is_closed()
            {
                *agent = Agent::Away(now);
            }
            matches!(agent, Agent::Listening(_)) || views.values().any(|view| view.agent == *name)
        });
        let away = |name: &str| match agents.get(name) {
            Some(Agent::Away(since)) => now.saturating_duration_since(*since) >= PATIENCE,
            Some(Agent::Listening(_)) => false,
            None => true,
        };
        views.iter().filter(|(_, view)| away(&view.agent)).map(|(key, _)| key.clone()).collect()
    }
}

impl Hub {
    fn tell(&mut self, key: &ViewKey, event: Event, now: Instant) {
        let Some(view) = self.views.get(key) else { return };
        let Some(agent) = self.agents.get_mut(&view.agent) else { return };
        if let Agent::Listening(tell) = agent
            && tell.try_send(message(key, event)).is_err()
        {
            tracing::warn!(agent = view.agent, "agent does not take its events, its stream ends");
            *agent = Agent::Away(now);
        }
    }
}

impl View {
    fn summary(&self, key: &ViewKey) -> Vec<v1::MixerEvent> {
        let active = self.active.iter().map(|stream| Event::ActiveInput(stream.to_string()));
        let failing = self.failing.iter().map(|((stream, _), reason)| failure(stream, reason));
        active.chain(failing).map(|event| message(key, event)).collect()
    }
}

fn failure(stream: &StreamId, reason: &str) -> Event {
    Event::InputFailed(v1::InputFailed { stream_id: stream.to_string(), reason: reason.to_owned() })
}

fn message(key: &ViewKey, event: Event) -> v1::MixerEvent {
    v1::MixerEvent { room_id: key.room.to_string(), label: key.label.clone(), event: Some(event) }
}

#[cfg(test)]
mod tests {
    use kaigi_proto::ids::RoomId;

    use super::*;

    fn key(room: &str) -> ViewKey {
        ViewKey { room: RoomId::new(room).unwrap(), label: "common".into() }
    }
    fn stream(name: &str) -> StreamId {
        StreamId::new(name).unwrap()
    }
    fn texts(told: &mut mpsc::Receiver<v1::MixerEvent>) -> Vec<String> {
        std::iter::from_fn(|| told.try_recv().ok())
            .map(|told| match told.event {
                Some(Event::ActiveInput(stream)) => format!("{}: {stream} speaks", told.room_id),
                Some(Event::InputFailed(failed)) => format!("{}: {} fails", told.room_id, failed.stream_id),
                Some(Event::TranscoderFailed(failed)) => format!("{}: {} fails", told.room_id, failed.id),
                None => "nothing".into(),
            })
            .collect()
    }

    #[test]
    fn each_agent_is_told_of_its_own_views() {
        let (hub, now) = (EventHub::default(), Instant::now());
        let (mut a, mut b) = (hub.open("a"), hub.open("b"));
        hub.set_view(&key("r1"), "a", now);
        hub.set_view(&key("r2"), "b", now);
        hub.active(&key("r1"), stream("s1"), now);
        hub.failed(&key("r2"), &stream("s2"), v1::MediaKind::Video, "gone", now);
        hub.active(&key("r3"), stream("s3"), now);
        assert_eq!(texts(&mut a), ["r1: s1 speaks"]);
        assert_eq!(texts(&mut b), ["r2: s2 fails"]);
    }

    #[test]
    fn a_new_stream_begins_with_what_holds_and_ends_the_old_one() {
        let (hub, now) = (EventHub::default(), Instant::now());
        hub.set_view(&key("r1"), "a", now);
        hub.active(&key("r1"), stream("s1"), now);
        hub.failed(&key("r1"), &stream("s2"), v1::MediaKind::Video, "gone", now);
        hub.failed(&key("r1"), &stream("s3"), v1::MediaKind::Video, "gone", now);
        hub.recovered(&key("r1"), &stream("s3"), v1::MediaKind::Video);
        let mut old = hub.open("a");
        assert_eq!(texts(&mut old), ["r1: s1 speaks", "r1: s2 fails"]);
        let mut new = hub.open("a");
        assert_eq!(texts(&mut new).len(), 2);
        assert_eq!(old.try_recv().unwrap_err(), mpsc::error::TryRecvError::Disconnected);
    }

    #[test]
    fn an_agent_that_does_not_listen_loses_its_stream_and_nothing_else() {
        let (hub, now) = (EventHub::default(), Instant::now());
        hub.set_view(&key("r1"), "a", now);
        let mut slow = hub.open("a");
        for number in 0..MAX_WAITING + 10 {
            hub.active(&key("r1"), stream(&format!("s{number}")), now);
        }
        assert_eq!(texts(&mut slow).len(), MAX_WAITING);
        assert!(slow.is_closed());
        assert_eq!(texts(&mut hub.open("a")), [format!("r1: s{} speaks", MAX_WAITING + 9)]);
    }

    #[test]
    fn views_outlive_their_agents_stream_for_a_while() {
        let (hub, now) = (EventHub::default(), Instant::now());
        hub.set_view(&key("r1"), "a", now);
        let told = hub.open("a");
        assert!(hub.abandoned(now + PATIENCE * 2).is_empty());
        drop(told);
        let left = now + PATIENCE * 2;
        assert!(hub.abandoned(left).is_empty());
        assert!(hub.abandoned(left + PATIENCE - Duration::from_millis(1)).is_empty());
        assert_eq!(hub.abandoned(left + PATIENCE), [key("r1")]);
    }

    #[test]
    fn an_agent_that_never_listens_loses_its_views_too() {
        let (hub, now) = (EventHub::default(), Instant::now());
        hub.set_view(&key("r1"), "a", now);
        assert!(hub.abandoned(now).is_empty());
        assert_eq!(hub.abandoned(now + PATIENCE), [key("r1")]);
        hub.remove_view(&key("r1"));
        assert!(hub.abandoned(now + PATIENCE).is_empty());
    }

    #[test]
    fn a_view_may_change_hands() {
        let (hub, now) = (EventHub::default(), Instant::now());
        hub.set_view(&key("r1"), "a", now);
        let mut heir = hub.open("b");
        hub.set_view(&key("r1"), "b", now);
        hub.active(&key("r1"), stream("s1"), now);
        assert_eq!(texts(&mut heir), ["r1: s1 speaks"]);
        assert!(hub.abandoned(now + PATIENCE * 2).is_empty());
    }
}
