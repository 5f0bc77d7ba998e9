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

use crate::description::{TranscoderKey, ViewKey};

/// Events that wait for an agent beyond those that it is told first. Views change a few times a second at most.
const MAX_WAITING: usize = 256;
/// How long an agent's views outlive its stream. Taking over a room takes a few seconds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What events are about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A view.
    View(ViewKey),
    /// A transcoder.
    Transcoder(TranscoderKey),
}

impl From<ViewKey> for Subject {
    fn from(key: ViewKey) -> Self {
        Self::View(key)
    }
}

impl From<TranscoderKey> for Subject {
    fn from(key: TranscoderKey) -> Self {
        Self::Transcoder(key)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct EventHub(Mutex<Hub>);

#[derive(Debug, Default)]
struct Hub {
    agents: HashMap<String, Agent>,
    works: HashMap<Subject, Work>,
}

#[derive(Debug)]
enum Agent {
    Listening(mpsc::Sender<v1::MixerEvent>),
    Away(Instant),
}

#[derive(Debug)]
struct Work {
    agent: String,
    active: Option<StreamId>,
    /// By stream and kind of track; a transcoder has but one source, which needs no name.
    failing: BTreeMap<(Option<StreamId>, v1::MediaKind), String>,
}

impl EventHub {
    /// A view or transcoder is (now) an agent's.
    pub fn set(&self, key: &Subject, agent: &str, now: Instant) {
        let mut hub = self.0.lock();
        hub.agents.entry(agent.to_owned()).or_insert(Agent::Away(now));
        let work = hub.works.entry(key.clone()).or_insert_with(|| Work {
            agent: agent.to_owned(),
            active: None,
            failing: BTreeMap::new(),
        });
        if work.agent != agent {
            agent.clone_into(&mut work.agent);
            // Its stream may be open already.
            let summary = work.summary(key);
            for event in summary.into_iter().filter_map(|message| message.event) {
                hub.tell(key, event, now);
            }
        }
    }

    /// It is no more.
    pub fn remove(&self, key: &Subject) {
        self.0.lock().works.remove(key);
    }

    /// An agent wants to be told; an older stream of its ends.
    pub fn open(&self, agent: &str) -> mpsc::Receiver<v1::MixerEvent> {
        let mut hub = self.0.lock();
        let own = hub.works.iter().filter(|(_, work)| work.agent == agent);
        let first: Vec<v1::MixerEvent> = own.flat_map(|(key, work)| work.summary(key)).collect();
        let (tell, told) = mpsc::channel(first.len() + MAX_WAITING);
        for event in first {
            // There is room for all of them.
            drop(tell.try_send(event));
        }
        hub.agents.insert(agent.to_owned(), Agent::Listening(tell));
        told
    }

    /// The loudest input of a view has changed.
    pub fn active(&self, key: &Subject, stream: StreamId, now: Instant) {
        let mut hub = self.0.lock();
        if let Some(work) = hub.works.get_mut(key) {
            let event = Event::ActiveInput(stream.to_string());
            work.active = Some(stream);
            hub.tell(key, event, now);
        }
    }

    /// An input fails: of a view that of `stream`, of a transcoder its source.
    pub fn failed(
        &self,
        key: &Subject,
        stream: Option<&StreamId>,
        kind: v1::MediaKind,
        reason: &str,
        now: Instant,
    ) {
        let mut hub = self.0.lock();
        if let Some(work) = hub.works.get_mut(key) {
            let told = failure(key, stream, reason);
            work.failing.insert((stream.cloned(), kind), reason.to_owned());
            hub.tell(key, told, now);
        }
    }

    /// An input works again, or is no more.
    pub fn recovered(&self, key: &Subject, stream: Option<&StreamId>, kind: v1::MediaKind) {
        let mut hub = self.0.lock();
        let Some(work) = hub.works.get_mut(key) else { return };
        let failed = work.failing.remove(&(stream.cloned(), kind)).is_some();
        if let Subject::Transcoder(_) = key
            && failed
            && work.failing.is_empty()
        {
            hub.tell(key, failure(key, stream, ""), Instant::now());
        }
    }

    /// Forgets the failures of inputs that a view has no more.
    pub fn retain_inputs(&self, key: &Subject, keep: impl Fn(&StreamId) -> bool) {
        if let Some(work) = self.0.lock().works.get_mut(key) {
            work.failing.retain(|(stream, _), _| stream.as_ref().is_none_or(&keep));
        }
    }

    /// What belongs to agents that have been away for too long.
    pub fn abandoned(&self, now: Instant) -> Vec<Subject> {
        let mut hub = self.0.lock();
        let Hub { agents, works } = &mut *hub;
        agents.retain(|name, agent| {
            if let Agent::Listening(tell) = agent
                && tell.is_closed()
            {
                *agent = Agent::Away(now);
            }
            matches!(agent, Agent::Listening(_)) || works.values().any(|work| work.agent == *name)
        });
        let away = |name: &str| match agents.get(name) {
            Some(Agent::Away(since)) => now.saturating_duration_since(*since) >= PATIENCE,
            Some(Agent::Listening(_)) => false,
            None => true,
        };
        works.iter().filter(|(_, work)| away(&work.agent)).map(|(key, _)| key.clone()).collect()
    }
}

impl Hub {
    fn tell(&mut self, key: &Subject, event: Event, now: Instant) {
        let Some(work) = self.works.get(key) else { return };
        let Some(agent) = self.agents.get_mut(&work.agent) else { return };
        if let Agent::Listening(tell) = agent
            && tell.try_send(message(key, event)).is_err()
        {
            tracing::warn!(agent = work.agent, "agent does not take its events, its stream ends");
            *agent = Agent::Away(now);
        }
    }
}

impl Work {
    fn summary(&self, key: &Subject) -> Vec<v1::MixerEvent> {
        let active = self.active.iter().map(|stream| Event::ActiveInput(stream.to_string()));
        let failing = self.failing.iter().map(|((stream, _), reason)| failure(key, stream.as_ref(), reason));
        active.chain(failing).map(|event| message(key, event)).collect()
    }
}

fn failure(key: &Subject, stream: Option<&StreamId>, reason: &str) -> Event {
    let reason = reason.to_owned();
    match key {
        Subject::View(_) => {
            let stream_id = stream.map(StreamId::to_string).unwrap_or_default();
            Event::InputFailed(v1::InputFailed { stream_id, reason })
        }
        Subject::Transcoder(key) => {
            Event::TranscoderFailed(v1::TranscoderFailed { id: key.id.clone(), reason })
        }
    }
}

fn message(key: &Subject, event: Event) -> v1::MixerEvent {
    let (room, label) = match key {
        Subject::View(key) => (&key.room, key.label.clone()),
        Subject::Transcoder(key) => (&key.room, String::new()),
    };
    v1::MixerEvent { room_id: room.to_string(), label, event: Some(event) }
}

#[cfg(test)]
mod tests {
    use kaigi_proto::ids::RoomId;

    use super::*;

    fn key(room: &str) -> Subject {
        ViewKey { room: RoomId::new(room).unwrap(), label: "common".into() }.into()
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
        hub.set(&key("r1"), "a", now);
        hub.set(&key("r2"), "b", now);
        hub.active(&key("r1"), stream("s1"), now);
        hub.failed(&key("r2"), Some(&stream("s2")), v1::MediaKind::Video, "gone", now);
        hub.active(&key("r3"), stream("s3"), now);
        assert_eq!(texts(&mut a), ["r1: s1 speaks"]);
        assert_eq!(texts(&mut b), ["r2: s2 fails"]);
    }

    #[test]
    fn a_new_stream_begins_with_what_holds_and_ends_the_old_one() {
        let (hub, now) = (EventHub::default(), Instant::now());
        hub.set(&key("r1"), "a", now);
        hub.active(&key("r1"), stream("s1"), now);
        hub.failed(&key("r1"), Some(&stream("s2")), v1::MediaKind::Video, "gone", now);
        hub.failed(&key("r1"), Some(&stream("s3")), v1::MediaKind::Video, "gone", now);
        hub.recovered(&key("r1"), Some(&stream("s3")), v1::MediaKind::Video);
        let mut old = hub.open("a");
        assert_eq!(texts(&mut old), ["r1: s1 speaks", "r1: s2 fails"]);
        let mut new = hub.open("a");
        assert_eq!(texts(&mut new).len(), 2);
        assert_eq!(old.try_recv().unwrap_err(), mpsc::error::TryRecvError::Disconnected);
    }

    #[test]
    fn an_agent_that_does_not_listen_loses_its_stream_and_nothing_else() {
        let (hub, now) = (EventHub::default(), Instant::now());
        hub.set(&key("r1"), "a", now);
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
        hub.set(&key("r1"), "a", now);
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
        hub.set(&key("r1"), "a", now);
        assert!(hub.abandoned(now).is_empty());
        assert_eq!(hub.abandoned(now + PATIENCE), [key("r1")]);
        hub.remove(&key("r1"));
        assert!(hub.abandoned(now + PATIENCE).is_empty());
    }

    #[test]
    fn transcoders_are_told_by_their_ids() {
        let (hub, now) = (EventHub::default(), Instant::now());
        let key = Subject::from(TranscoderKey { room: RoomId::new("r1").unwrap(), id: "t1".into() });
        hub.set(&key, "a", now);
        let mut told = hub.open("a");
        hub.failed(&key, None, v1::MediaKind::Video, "gone", now);
        assert_eq!(texts(&mut told), ["r1: t1 fails"]);
        assert_eq!(texts(&mut hub.open("a")), ["r1: t1 fails"]);
        hub.recovered(&key, None, v1::MediaKind::Video);
        assert!(texts(&mut hub.open("a")).is_empty());
    }

    #[test]
    fn a_view_may_change_hands() {
        let (hub, now) = (EventHub::default(), Instant::now());
        hub.set(&key("r1"), "a", now);
        hub.active(&key("r1"), stream("s0"), now);
        let mut heir = hub.open("b");
        hub.set(&key("r1"), "b", now);
        assert_eq!(texts(&mut heir), ["r1: s0 speaks"], "how it is");
        hub.set(&key("r1"), "b", now);
        hub.active(&key("r1"), stream("s1"), now);
        assert_eq!(texts(&mut heir), ["r1: s1 speaks"]);
        assert!(hub.abandoned(now + PATIENCE * 2).is_empty());
    }
}
