//! The task that runs one room: takes what comes for it, does what it says. Nothing in it waits for anybody.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{ParticipantId, RoomId, WorkerId},
    v1::{self, join_event::Event},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    audience::EventSender,
    callers::{CallDone, CallQueue, NotQueued},
    directory::News,
    room::{
        CallError, CallId, CallRequest, Callee, Command, Input, Join, Note, Output, Refusal, Reply,
        RequestId, Room,
    },
    shared::Shared,
};

/// Most requests that wait for a room; senders wait beyond it.
pub(crate) const MAX_MAIL: usize = 256;
/// Most results of calls that wait for a room; callers wait beyond it.
const MAX_RESULTS: usize = 256;
/// Longest wait, at the end of a room, for nodes to hear of it.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where a reply goes.
pub(crate) type ReplyTo = oneshot::Sender<Result<Reply, Refusal>>;

/// What callers send a room.
#[derive(Debug)]
pub(crate) enum Mail {
    Join {
        join: Join,
        events: EventSender,
        reply: ReplyTo,
    },
    Request {
        command: Command,
        reply: ReplyTo,
    },
    /// The stream of one of the participant's joins was dropped.
    Gone {
        participant: ParticipantId,
        join: u64,
    },
}

/// What comes in.
pub(crate) struct Inbox {
    pub(crate) mail: mpsc::Receiver<Mail>,
    /// For watchers of participants.
    pub(crate) mailbox: mpsc::WeakSender<Mail>,
    pub(crate) news: mpsc::Receiver<(WorkerId, News)>,
    pub(crate) overrun: CancellationToken,
}

/// One room's task.
pub(crate) struct Actor {
    id: RoomId,
    room: Room,
    shared: Arc<Shared>,
    inbox: Inbox,
    results: mpsc::Receiver<CallDone>,
    results_to: mpsc::Sender<CallDone>,
    next_request: u64,
    replies: HashMap<RequestId, Waiting>,
    /// By participant: its event queue, and which of its joins it is of.
    audience: HashMap<ParticipantId, (EventSender, u64)>,
    /// Whose queue was full.
    slow: Vec<ParticipantId>,
    queues: HashMap<Option<WorkerId>, CallQueue>,
    /// Replies that came to nobody: sessions that their requesters will never know.
    abandoned: Vec<(ParticipantId, Reply)>,
    counted: (usize, usize, usize),
    ended: bool,
}

struct Waiting {
    reply: ReplyTo,
    /// The queue of a participant who joins.
    joins: Option<(ParticipantId, EventSender)>,
    /// Who asked for a session.
    for_session_of: Option<ParticipantId>,
}

impl Actor {
    pub(crate) fn new(id: RoomId, room: Room, shared: Arc<Shared>, inbox: Inbox) -> Self {
        let (results_to, results) = mpsc::channel(MAX_RESULTS);
        Self {
            id,
            room,
            shared,
            inbox,
            results,
            results_to,
            next_request: 0,
            replies: HashMap::new(),
            audience: HashMap::new(),
            slow: Vec::new(),
            queues: HashMap::new(),
            abandoned: Vec::new(),
            counted: (0, 0, 0),
            ended: false,
        }
    }

    /// Runs the room until it ends, and until those concerned were told.
    pub(crate) async fn run(mut self) {
        self.drain();
        while !self.ended {
            self.step().await;
            self.drain();
        }
        self.count((0, 0, 0));
        let farewell = async {
            for (_, queue) in self.queues.drain() {
                queue.finish().await;
            }
        };
        // Results are not waited for any more, but callers must not wait for their reader either.
        self.results.close();
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            tracing::warn!(room = %self.id, "some nodes were not told that the room is over");
        }
    }

    async fn step(&mut self) {
        let deadline = self.room.next_deadline().map(tokio::time::Instant::from_std);
        let timeout = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            Some((call, result)) = self.results.recv() => self.put(Input::CallDone { call, result }),
            Some((worker, news)) = self.inbox.news.recv() => self.hear(worker, news),
            Some(mail) = self.inbox.mail.recv() => self.take(mail),
            () = timeout => self.guarded(|room| room.handle_timeout(Instant::now())),
            () = self.inbox.overrun.cancelled() => {
                tracing::error!(room = %self.id, "room is overrun by events of nodes, ending it");
                self.guarded(|room| room.destroy(Some("Room failed")));
            }
        }
    }

    fn hear(&mut self, worker: WorkerId, news: News) {
        let input = match news {
            News::Access(event) => Input::Access { node: worker, event },
            News::Mixer(event) => Input::Mixer { node: worker, event },
            News::Resumed => Input::NodeResumed(worker),
            News::MixersChanged => Input::MixersChanged,
            News::Lost => {
                if let Some(queue) = self.queues.remove(&Some(worker.clone())) {
                    queue.abandon();
                }
                Input::NodeLost(worker)
            }
        };
        self.put(input);
    }

    fn take(&mut self, mail: Mail) {
        let request = RequestId(self.next_request);
        self.next_request += 1;
        match mail {
            Mail::Join { join, events, reply } => {
                let joins = Some((join.participant.clone(), events));
                self.replies.insert(request, Waiting { reply, joins, for_session_of: None });
                self.put(Input::Request { request, command: Command::Join(join) });
            }
            Mail::Request { command, reply } => {
                let for_session_of = match &command {
                    Command::Publish(publish) => Some(publish.participant.clone()),
                    Command::Subscribe(subscribe) => Some(subscribe.participant.clone()),
                    _ => None,
                };
                self.replies.insert(request, Waiting { reply, joins: None, for_session_of });
                self.put(Input::Request { request, command });
            }
            Mail::Gone { participant, join } => {
                if self.audience.get(&participant).is_some_and(|(_, of)| *of == join) {
                    self.put(Input::Gone(participant));
                }
            }
        }
    }

    fn put(&mut self, input: Input) {
        self.guarded(|room| room.handle(input, Instant::now()));
    }

    /// Runs the room's own code so that its panic ends this room alone.
    fn guarded(&mut self, work: impl FnOnce(&mut Room)) {
        if self.ended {
            return;
        }
        let room = &mut self.room;
        if catch_unwind(AssertUnwindSafe(|| work(room))).is_ok() {
            return;
        }
        tracing::error!(room = %self.id, "room panicked, ending it");
        metrics::counter!("kaigi_conference_room_panics_total").increment(1);
        let room = &mut self.room;
        if catch_unwind(AssertUnwindSafe(|| room.destroy(Some("Room failed")))).is_err() {
            for (events, _) in self.audience.values() {
                // Whoever does not drain its queue sees the end of its stream.
                let _: Result<_, _> =
                    events.send(Event::Dropped(v1::Dropped { reason: "Room failed".into() }));
            }
            self.ended = true;
        }
    }

    /// Does what the room says, and what follows from that.
    fn drain(&mut self) {
        loop {
            while let Some(output) = self.room.poll_output() {
                self.perform(output);
            }
            if let Some(participant) = self.slow.pop() {
                tracing::warn!(room = %self.id, %participant, "participant does not drain its events, dropped");
                metrics::counter!("kaigi_conference_slow_participants_total").increment(1);
                self.put(Input::Gone(participant));
            } else if let Some((participant, reply)) = self.abandoned.pop() {
                if let Reply::Session { session, .. } = reply {
                    self.put(Input::Abandoned { participant, session });
                }
            } else {
                break;
            }
        }
        if !self.ended {
            self.count(self.room.counts());
        }
    }

    fn perform(&mut self, output: Output) {
        match output {
            Output::Reply { request, result } => self.reply(request, result),
            Output::Notify { to, event } => self.notify(&to, event),
            Output::Broadcast { except, event } => {
                for (participant, (events, _)) in &self.audience {
                    if except.as_ref() != Some(participant) && events.send(event.clone()).is_err() {
                        self.slow.push(participant.clone());
                    }
                }
            }
            Output::Close { participant } => drop(self.audience.remove(&participant)),
            Output::Call { call, callee, request } => self.call(call, callee, request),
            Output::Log(note) => self.log(&note),
            Output::Ended => self.ended = true,
        }
    }

    fn reply(&mut self, request: RequestId, result: Result<Reply, Refusal>) {
        let Some(waiting) = self.replies.remove(&request) else { return };
        if let (Ok(Reply::Joined(joined)), Some((participant, events))) = (&result, waiting.joins) {
            self.watch(&participant, &events, request.0);
            self.audience.insert(participant.clone(), (events, request.0));
            self.notify(&participant, Event::Joined((**joined).clone()));
        }
        if let Err(Ok(reply)) = waiting.reply.send(result)
            && let Some(participant) = waiting.for_session_of
        {
            self.abandoned.push((participant, reply));
        }
    }

    fn notify(&mut self, to: &ParticipantId, event: Event) {
        if let Some((events, _)) = self.audience.get(to)
            && events.send(event).is_err()
        {
            self.slow.push(to.clone());
        }
    }

    /// Tells the room when the participant's stream is dropped.
    fn watch(&self, participant: &ParticipantId, events: &EventSender, join: u64) {
        let (gone, mailbox, participant) = (events.gone(), self.inbox.mailbox.clone(), participant.clone());
        tokio::spawn(async move {
            gone.cancelled().await;
            if let Some(mailbox) = mailbox.upgrade() {
                // An error means that the room is over.
                let _: Result<_, _> = mailbox.send(Mail::Gone { participant, join }).await;
            }
        });
    }

    fn call(&mut self, call: CallId, callee: Callee, request: CallRequest) {
        let worker = match &callee {
            Callee::Cluster => None,
            Callee::Access(node) | Callee::Mixer(node) => Some(node.worker.clone()),
        };
        let start = || CallQueue::start(self.shared.clone(), callee, self.results_to.clone());
        let queue = self.queues.entry(worker.clone()).or_insert_with(start);
        match (queue.push(call, request), worker) {
            (Ok(()), _) => {}
            (Err(NotQueued::Stuck), Some(worker)) => {
                tracing::error!(room = %self.id, %worker, "node is too slow for the room, given up");
                if let Some(queue) = self.queues.remove(&Some(worker.clone())) {
                    queue.abandon();
                }
                self.put(Input::NodeLost(worker));
            }
            (Err(NotQueued::Busy | NotQueued::Stuck), _) => {
                let result = Err(CallError::Unavailable("too many calls wait".into()));
                self.put(Input::CallDone { call, result });
            }
        }
    }

    fn log(&self, note: &Note) {
        let room = &self.id;
        match note {
            Note::InputFailed { view, stream, reason } => {
                tracing::warn!(%room, view, stream, reason, "input of a view failed");
            }
            Note::MixerFailed { view, reason } => tracing::warn!(%room, view, reason, "mixer failed"),
            Note::UnreadableTemplates { view, count } => {
                tracing::warn!(%room, view, count, "custom layout templates left out: unreadable");
            }
            Note::SourceNotChanged { subscription, reason } => {
                tracing::warn!(%room, subscription, reason, "subscription not moved to its new source, trying again");
            }
            Note::SessionFailed { participant, session, reason } => {
                tracing::info!(%room, participant, stream = session, reason, "publication ended");
            }
        }
    }

    fn count(&mut self, now: (usize, usize, usize)) {
        let change = |name: &'static str, now: usize, before: usize| {
            if now != before {
                metrics::gauge!(name).increment(now as f64 - before as f64);
            }
        };
        change("kaigi_conference_participants", now.0, self.counted.0);
        change("kaigi_conference_publications", now.1, self.counted.1);
        change("kaigi_conference_subscriptions", now.2, self.counted.2);
        self.counted = now;
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use kaigi_proto::auth::ClusterSecret;
    use kaigi_room_config::RoomConfig;
    use kaigi_worker::{Channels, Tasks};

    use super::*;
    use crate::{audience::event_queue, room::Settings};

    const ROOM: &str = "000000000000000000000001";

    /// A room whose calls reach nobody.
    fn actor() -> Actor {
        let (id, agent) = (RoomId::new(ROOM).unwrap(), WorkerId::new("agent").unwrap());
        let channels = Channels::new(ClusterSecret::default());
        let manager = channels.to("http://127.0.0.1:1").unwrap();
        let shared = Shared::new(agent.clone(), channels, manager, Tasks::default(), Duration::from_secs(30));
        let settings = Settings { agent, epoch: 1, idle: Duration::from_secs(30), seed: [0; 32] };
        let config = RoomConfig::new(ROOM, "room", "service");
        let room = Room::new(id.clone(), config, settings, Instant::now()).unwrap();
        let (mailbox, mail) = mpsc::channel(1);
        let (_, news) = mpsc::channel(1);
        let inbox = Inbox { mail, mailbox: mailbox.downgrade(), news, overrun: CancellationToken::new() };
        Actor::new(id, room, Arc::new(shared), inbox)
    }

    fn join(actor: &mut Actor, name: &str) -> crate::audience::EventStream {
        let (events, stream) = event_queue();
        let (reply, _) = oneshot::channel();
        let join = Join {
            participant: ParticipantId::new(name).unwrap(),
            user: "null".into(),
            role: "presenter".into(),
            isp: String::new(),
            region: String::new(),
        };
        actor.take(Mail::Join { join, events, reply });
        actor.drain();
        stream
    }

    #[tokio::test]
    async fn a_panic_ends_the_room_by_dropping_its_participants() {
        let mut actor = actor();
        let events = join(&mut actor, "ann");
        actor.guarded(|_| panic!("a fault of the room"));
        actor.drain();
        assert!(actor.ended);
        let events: Vec<_> = events.map(|event| event.unwrap().event.unwrap()).collect().await;
        assert!(matches!(events.as_slice(), [Event::Joined(_), Event::Dropped(_)]), "{events:?}");
    }

    #[tokio::test]
    async fn a_session_whose_requester_went_away_is_ended() {
        let mut actor = actor();
        let _events = join(&mut actor, "ann");
        let (reply, gone) = oneshot::channel();
        drop(gone);
        let participant = ParticipantId::new("ann").unwrap();
        let waiting = Waiting { reply, joins: None, for_session_of: Some(participant.clone()) };
        let request = RequestId(99);
        actor.replies.insert(request, waiting);
        let track =
            crate::room::PublishTrack { kind: crate::room::Kind::Audio, mid: "0".into(), source: None };
        let publish =
            crate::room::Publish { participant, tracks: vec![track], attributes: None, transport: None };
        actor.room.handle(Input::Request { request, command: Command::Publish(publish) }, Instant::now());
        assert_eq!(actor.room.counts().1, 1);
        let node = crate::room::Node {
            worker: WorkerId::new("access").unwrap(),
            endpoint: "http://127.0.0.1:1".into(),
        };
        // The room's calls so far: the mixer's place, the participant's place, the publication.
        for (call, reply) in
            [(CallId(1), crate::room::CallReply::Scheduled(node)), (CallId(2), crate::room::CallReply::Done)]
        {
            actor.put(Input::CallDone { call, result: Ok(reply) });
        }
        actor.drain();
        assert_eq!(actor.room.counts().1, 0);
    }
}
