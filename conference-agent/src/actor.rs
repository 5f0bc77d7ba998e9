//! The task that runs one room: takes what comes for it, does what it says. Nothing in it waits for anybody.

mod gate;
mod mail;
mod notes;
mod seats;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{ParticipantId, RoomId, WorkerId},
    v1::{self, join_event::Event},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    audience::EventSender,
    callers::{CallDone, CallQueue, NotQueued},
    directory::News,
    events::RoomEvents,
    feed::{Feed, SavedFeed},
    keeper::Keeper,
    log::{Entry, Log, Told},
    room::{CallError, CallId, CallRequest, Callee, Input, Output, Refusal, Reply, RequestId, Room, Tracked},
    shared::Shared,
};

pub(crate) use mail::{After, Mail, ReplyTo};
use seats::{Listener, unnumbered};

/// Most requests that wait for a room; senders wait beyond it.
pub(crate) const MAX_MAIL: usize = 256;
/// Most results of calls that wait for a room; callers wait beyond it.
const MAX_RESULTS: usize = 256;
/// Group of the parts of a snapshot that are about the audience.
const FEEDS: &str = "feed";
/// Longest wait, at the end of a room, for nodes to hear of it.
const FAREWELL: Duration = Duration::from_secs(2);

/// How a room's task ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With the room.
    Over,
    /// The room is another agent's by now.
    Fenced,
    /// The room is whoever's takes it: all of it is written down.
    HandedOver,
}

/// What comes in.
pub(crate) struct Inbox {
    pub(crate) mail: mpsc::Receiver<Mail>,
    /// For watchers of participants.
    pub(crate) mailbox: mpsc::WeakSender<Mail>,
    pub(crate) news: mpsc::Receiver<(WorkerId, News)>,
    pub(crate) overrun: CancellationToken,
    /// The room is to be handed over.
    pub(crate) hand_over: CancellationToken,
}

/// One room's task.
pub(crate) struct Actor {
    id: RoomId,
    room: Room,
    events: RoomEvents,
    shared: Arc<Shared>,
    inbox: Inbox,
    results: mpsc::Receiver<CallDone>,
    results_to: mpsc::Sender<CallDone>,
    next_request: u64,
    replies: HashMap<RequestId, Waiting>,
    audience: HashMap<ParticipantId, Listener>,
    log: Log,
    /// What a successor has to know of the audience.
    feeds: Tracked<ParticipantId, SavedFeed>,
    /// What the room has said, in order. It is passed on when what it follows from is written down.
    said: VecDeque<Said>,
    /// How many of the first are passed on when what is being written is.
    covered: usize,
    /// `None`: nothing is written down.
    keeper: Option<Keeper>,
    fenced: bool,
    /// Whose queue was full, or for whom too much is kept.
    slow: Vec<ParticipantId>,
    queues: HashMap<Option<WorkerId>, CallQueue>,
    /// Replies that came to nobody: sessions that their requesters will never know.
    abandoned: Vec<(ParticipantId, Reply)>,
    counted: (usize, usize, usize),
    ended: bool,
}

/// What a room has said.
enum Said {
    Output(Box<Output>),
    Event(Arc<Entry>),
    /// One who joins is told this, and what happens after the event of that number.
    Joined {
        request: RequestId,
        reply: Box<Reply>,
        latest: u64,
    },
}

struct Waiting {
    reply: ReplyTo,
    /// The queue of a participant who joins, and how long it may be away.
    joins: Option<(ParticipantId, EventSender, Duration)>,
    /// Who asked for a session.
    for_session_of: Option<ParticipantId>,
}

impl Actor {
    /// `keeper`: where it is written down how the room is.
    pub(crate) fn new(
        id: RoomId,
        room: Room,
        shared: Arc<Shared>,
        inbox: Inbox,
        keeper: Option<Keeper>,
    ) -> Self {
        let (results_to, results) = mpsc::channel(MAX_RESULTS);
        Self {
            events: RoomEvents::new(shared.events.clone(), id.clone(), room.owner()),
            id,
            room,
            shared,
            inbox,
            results,
            results_to,
            next_request: 0,
            replies: HashMap::new(),
            audience: HashMap::new(),
            log: Log::default(),
            feeds: Tracked::default(),
            said: VecDeque::new(),
            covered: 0,
            keeper,
            fenced: false,
            slow: Vec::new(),
            queues: HashMap::new(),
            abandoned: Vec::new(),
            counted: (0, 0, 0),
            ended: false,
        }
    }

    /// Runs the room until it ends, and until those concerned were told.
    pub(crate) async fn run(mut self, taken_over: bool) -> End {
        if !taken_over {
            self.events.started();
        }
        self.drain();
        let mut handed_over = false;
        while !self.ended && !handed_over {
            self.step().await;
            self.drain();
            handed_over = self.inbox.hand_over.is_cancelled() && self.hand_over().await;
        }
        self.count((0, 0, 0));
        if handed_over && !self.ended {
            self.queues.drain().for_each(|(_, queue)| queue.abandon());
            return End::HandedOver;
        }
        if self.fenced {
            // Whoever waits for an answer asks again, where the room is now.
            self.queues.drain().for_each(|(_, queue)| queue.abandon());
            return End::Fenced;
        }
        self.events.ended();
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
        End::Over
    }

    async fn step(&mut self) {
        let returns = self.audience.values().filter_map(|listener| listener.feed.away_until());
        let keeper = self.keeper.as_ref().map(Keeper::next_deadline);
        let deadlines = returns.chain(self.room.next_deadline()).chain(keeper);
        let deadline = deadlines.min().map(tokio::time::Instant::from_std);
        let written = async {
            match &mut self.keeper {
                Some(keeper) => keeper.written().await,
                None => std::future::pending().await,
            }
        };
        let timeout = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        let is_to_leave = self.inbox.hand_over.is_cancelled();
        tokio::select! {
            written = written => self.note(&written),
            () = self.inbox.hand_over.cancelled(), if !is_to_leave => {}
            Some((call, result)) = self.results.recv() => self.put(Input::CallDone { call, result }),
            Some((worker, news)) = self.inbox.news.recv() => self.hear(worker, news),
            Some(mail) = self.inbox.mail.recv() => self.take(mail),
            () = timeout => self.timeout(Instant::now()),
            () = self.inbox.overrun.cancelled() => {
                tracing::error!(room = %self.id, "room is overrun by events of nodes, ending it");
                self.guarded(|room| room.destroy(Some("Room failed")));
            }
        }
    }

    fn timeout(&mut self, now: Instant) {
        let over = |listener: &Listener| listener.feed.away_until().is_some_and(|until| until <= now);
        if let Some(keeper) = &mut self.keeper {
            keeper.timeout(now);
        }
        let lost: Vec<ParticipantId> =
            self.audience.iter().filter(|(_, l)| over(l)).map(|(id, _)| id.clone()).collect();
        for participant in lost {
            tracing::info!(room = %self.id, %participant, "did not come back");
            metrics::counter!("kaigi_conference_participants_lost_total").increment(1);
            self.put(Input::Gone(participant));
        }
        self.guarded(|room| room.handle_timeout(now));
    }

    fn hear(&mut self, worker: WorkerId, news: News) {
        let input = match news {
            News::Access(event) => Input::Access { node: worker, event },
            News::Speakers(heard) => Input::Speakers { node: worker, heard },
            News::Mixer(event) => Input::Mixer { node: worker, event },
            News::Streaming(event) => Input::Streaming { node: worker, event },
            News::Resumed => Input::NodeResumed(worker),
            News::Draining => Input::NodeDrains(worker),
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
            let dropped = Event::Dropped(v1::Dropped { reason: "Room failed".into() });
            let entry = self.log.append(Told::All { except: None }, dropped, Instant::now());
            for listener in self.audience.values_mut() {
                // Whoever does not drain its queue sees the end of its stream.
                let _: Result<_, _> = listener.tell(&entry);
            }
            self.ended = true;
        }
    }

    /// Does what the room says, and what follows from that.
    fn drain(&mut self) {
        loop {
            while let Some(output) = self.room.poll_output() {
                self.say(output);
            }
            self.write_down();
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
            Output::Reply { request, result } => self.reply(request, result, 0),
            // Has a number by now.
            Output::Notify { .. } | Output::Broadcast { .. } => {}
            Output::Close { participant } => drop(self.audience.remove(&participant)),
            Output::Call { call, callee, request } => self.call(call, callee, request),
            Output::Log(note) => self.log(&note),
            Output::Happened(happening) => self.events.happened(&happening),
            Output::Ended => self.ended = true,
        }
    }

    /// `latest`: the last event before one who joins has joined.
    fn reply(&mut self, request: RequestId, result: Result<Reply, Refusal>, latest: u64) {
        let Some(waiting) = self.replies.remove(&request) else { return };
        if let (Ok(Reply::Joined(joined)), Some((participant, events, window))) = (&result, waiting.joins) {
            self.watch(&participant, &events, request.0);
            if events.send(unnumbered(Event::Joined((**joined).clone()))).is_err() {
                self.slow.push(participant.clone());
            }
            let listener = Listener {
                feed: Feed::new(window, self.shared.limits.backlog, latest),
                events: Some(events),
                stream: request.0,
            };
            self.audience.insert(participant, listener);
        }
        if let Err(Ok(reply)) = waiting.reply.send(result)
            && let Some(participant) = waiting.for_session_of
        {
            self.abandoned.push((participant, reply));
        }
    }

    fn call(&mut self, call: CallId, callee: Callee, request: CallRequest) {
        let worker = match &callee {
            Callee::Cluster => None,
            Callee::Access(node) | Callee::Mixer(node) | Callee::Streaming(node) => Some(node.worker.clone()),
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
