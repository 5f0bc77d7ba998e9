//! Events on their way to the agents.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kaigi_proto::{ids::WorkerId, v1::AccessEvent};
use tokio::sync::mpsc;
use tonic::Status;

/// Events that may wait for one agent. One that falls behind so far has its stream ended, so that it knows that it missed some.
const QUEUE: usize = 4096;
/// An agent that has no stream for so long is gone, and no other has taken over its rooms.
pub const ABSENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
enum Agent {
    Listening(mpsc::Sender<Result<AccessEvent, Status>>),
    AbsentSince(Instant),
}

/// The event streams of all agents.
#[derive(Clone, Debug, Default)]
pub struct EventHub {
    agents: Arc<Mutex<HashMap<WorkerId, Agent>>>,
}

impl EventHub {
    /// An agent's stream; ends the older one.
    #[must_use]
    pub fn subscribe(&self, agent: WorkerId) -> mpsc::Receiver<Result<AccessEvent, Status>> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let replaced = self.lock().insert(agent, Agent::Listening(sender));
        if let Some(Agent::Listening(older)) = replaced {
            // If the queue is full the older stream simply ends.
            let _ = older.try_send(Err(Status::aborted("the stream was opened again")));
        }
        receiver
    }

    /// Counts an agent's absence from now on, if it has no stream.
    pub fn expect(&self, now: Instant, agent: &WorkerId) {
        self.lock().entry(agent.clone()).or_insert(Agent::AbsentSince(now));
    }

    /// Sends an event; never waits. For an agent without a stream it is dropped.
    pub fn send(&self, now: Instant, agent: &WorkerId, event: AccessEvent) {
        let mut agents = self.lock();
        let Some(Agent::Listening(sender)) = agents.get(agent) else { return };
        if let Err(error) = sender.try_send(Ok(event)) {
            if matches!(error, mpsc::error::TrySendError::Full(_)) {
                tracing::warn!(worker = %agent, "agent is too slow, its event stream ends");
            }
            agents.insert(agent.clone(), Agent::AbsentSince(now));
        }
    }

    /// The agents that are gone for good by now; they are forgotten.
    #[must_use]
    pub fn take_absent(&self, now: Instant) -> Vec<WorkerId> {
        let mut agents = self.lock();
        for agent in agents.values_mut() {
            if matches!(agent, Agent::Listening(sender) if sender.is_closed()) {
                *agent = Agent::AbsentSince(now);
            }
        }
        let gone = |agent: &Agent| matches!(agent, Agent::AbsentSince(since) if now >= *since + ABSENCE);
        let absent: Vec<_> =
            agents.iter().filter(|(_, agent)| gone(agent)).map(|(id, _)| id.clone()).collect();
        agents.retain(|_, agent| !gone(agent));
        absent
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkerId, Agent>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> WorkerId {
        WorkerId::new("conference-1").unwrap()
    }

    #[test]
    fn a_second_stream_ends_the_first() {
        let (hub, now) = (EventHub::default(), Instant::now());
        let mut first = hub.subscribe(agent());
        let mut second = hub.subscribe(agent());
        hub.send(now, &agent(), AccessEvent::default());
        assert_eq!(first.try_recv().unwrap().unwrap_err().code(), tonic::Code::Aborted);
        assert!(first.try_recv().is_err());
        assert!(second.try_recv().unwrap().is_ok());
    }

    #[test]
    fn an_agent_is_given_up_after_half_a_minute_without_a_stream() {
        let (hub, now) = (EventHub::default(), Instant::now());
        hub.expect(now, &agent());
        assert!(hub.take_absent(now + ABSENCE / 2).is_empty());
        let stream = hub.subscribe(agent());
        hub.expect(now, &agent());
        assert!(hub.take_absent(now + ABSENCE * 2).is_empty());
        drop(stream);
        let later = now + ABSENCE * 3;
        assert!(hub.take_absent(later).is_empty(), "absence counts from when it is seen");
        assert_eq!(hub.take_absent(later + ABSENCE), [agent()]);
        assert!(hub.take_absent(later + ABSENCE * 2).is_empty());
    }

    #[test]
    fn a_slow_agent_loses_its_stream_and_not_the_nodes_memory() {
        let (hub, now) = (EventHub::default(), Instant::now());
        let mut stream = hub.subscribe(agent());
        for _ in 0..QUEUE * 2 {
            hub.send(now, &agent(), AccessEvent::default());
        }
        let mut received = 0;
        while stream.try_recv().is_ok() {
            received += 1;
        }
        assert_eq!(received, QUEUE);
        assert!(stream.is_closed());
    }
}
