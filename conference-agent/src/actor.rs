//! The task that runs one room: takes what comes for it, does what it says. Nothing in it waits for anybody.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
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
    audience::{EventSender, NotDrained},
    callers::{CallDone, CallQueue, NotQueued},
    directory::News,
    events::RoomEvents,
    feed::{Feed, NotResumed, Overflow, SavedFeed},
    keeper::{Head, Keeper},
    log::{Entry, Log, Told},
    room::{
        CallError, CallId, CallRequest, Callee, Command, Input, Join, Note, Output, Refusal, Reply,
        RequestId, RequestKey, Room, Tracked,
    },
    shared::Shared,
};

/// Most requests that wait for a room; senders wait beyond it.
pub(crate) const MAX_MAIL: usize = 256;
/// Most results of calls that wait for a room; callers wait beyond it.
const MAX_RESULTS: usize = 256;
/// Numbers of events that are left out when a room is taken over: with a store that was away some may have been given and not written.
const SKIPPED: u64 = 10_000;
/// Group of the parts of a snapshot that are about the audience.
const FEEDS: &str = "feed";
/// Longest wait, at the end of a room, for nodes to hear of it.
const FAREWELL: Duration = Duration::from_secs(2);

/// Where a reply goes.
pub(crate) type ReplyTo = oneshot::Sender<Result<Reply, Refusal>>;

/// What callers send a room.
#[derive(Debug)]
pub(crate) enum Mail {
    Join {
        join: Join,
        /// How long the participant may be away; zero = not at all.
        window: Duration,
        events: EventSender,
        reply: ReplyTo,
    },
    Request {
        key: Option<RequestKey>,
        command: Command,
        reply: ReplyTo,
    },
    /// Takes a participant's place over on a new stream, which goes on after an event.
    Resume {
        participant: ParticipantId,
        after: After,
        events: EventSender,
        reply: ReplyTo,
    },
    /// The participant has its events up to this one; `exact`: and no more of its last stream.
    Acknowledge {
        participant: ParticipantId,
        seq: u64,
        exact: bool,
    },
    /// One of the participant's streams was dropped.
    Gone {
        participant: ParticipantId,
        stream: u64,
    },
}

/// After which event a stream is to go on, and who says so.
#[derive(Clone, Copy, Debug)]
pub(crate) enum After {
    /// A client that was away has everything up to it; `exact`: it says so itself.
    Client { seq: u64, exact: bool },
    /// A portal that lost the agent has had everything up to it.
    Portal { seq: u64 },
}

/// How a room's task ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With the room.
    Over,
    /// The room is another agent's by now.
    Fenced,
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

/// One whom the room tells things.
struct Listener {
    feed: Feed,
    /// Where the events go; `None` while the participant is away.
    events: Option<EventSender>,
    /// Which of the participant's streams that is.
    stream: u64,
}

impl Listener {
    /// Tells an event, now or when the participant is back.
    fn tell(&mut self, entry: &Arc<Entry>) -> Result<(), TooSlow> {
        match (self.feed.push(entry, Instant::now()), &self.events) {
            // Of a stream that is dropped, word comes by mail.
            (Ok(true), Some(events)) => match events.send(entry.event.clone()) {
                Err(NotDrained) if !events.gone().is_cancelled() => Err(TooSlow),
                Err(NotDrained) | Ok(()) => Ok(()),
            },
            (Ok(_), _) => Ok(()),
            (Err(Overflow), _) => Err(TooSlow),
        }
    }
}

/// Too much waits for a participant.
struct TooSlow;

/// An event outside of a participant's count.
fn unnumbered(event: Event) -> v1::JoinEvent {
    v1::JoinEvent { seq: 0, event: Some(event) }
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
        while !self.ended {
            self.step().await;
            self.drain();
        }
        self.count((0, 0, 0));
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

    /// Goes on with the audience of another agent.
    pub(crate) fn take_over(&mut self, parts: &BTreeMap<String, Vec<u8>>, head: Head) {
        let (now, backlog) = (Instant::now(), self.shared.limits.backlog);
        self.log = Log::restored(parts, head.latest + SKIPPED, head.lost, now);
        for participant in self.room.participants().cloned().collect::<Vec<_>>() {
            let saved = parts.get(&format!("{FEEDS}/{participant}"));
            let saved = saved.and_then(|saved| serde_json::from_slice(saved).ok());
            let mut saved: SavedFeed = saved.unwrap_or_else(|| Feed::new(Duration::ZERO, backlog, 0).saved());
            saved.forgotten = saved.forgotten.max(self.log.lost());
            let entries = self.log.after(saved.acknowledged, &participant);
            let feed = Feed::restored(&saved, entries, backlog, now);
            self.feeds.insert(participant.clone(), saved);
            self.audience.insert(participant, Listener { feed, events: None, stream: 0 });
        }
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
        tokio::select! {
            written = written => self.note(&written),
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
            Mail::Join { join, window: _, events, reply } if self.may_join_again(&join.participant) => {
                self.join_again(&join.participant, events, reply, request.0);
            }
            Mail::Join { join, window, events, reply } => {
                let joins = Some((join.participant.clone(), events, window));
                self.replies.insert(request, Waiting { reply, joins, for_session_of: None });
                self.put(Input::Request { request, key: None, command: Command::Join(join) });
            }
            Mail::Request { key, command, reply } => {
                let for_session_of = match &command {
                    Command::Publish(publish) => Some(publish.participant.clone()),
                    Command::Subscribe(subscribe) => Some(subscribe.participant.clone()),
                    _ => None,
                };
                self.replies.insert(request, Waiting { reply, joins: None, for_session_of });
                self.put(Input::Request { request, key, command });
            }
            Mail::Resume { participant, after, events, reply } => {
                let result = self.resume(&participant, after, events, request.0);
                if reply.send(result.map(|()| Reply::Done)).is_err() {
                    self.detach(participant, request.0);
                }
            }
            Mail::Acknowledge { participant, seq, exact } => {
                if let Some(listener) = self.audience.get_mut(&participant) {
                    listener.feed.acknowledge(seq, self.log.latest());
                    if exact {
                        listener.feed.nothing_else_arrived();
                    }
                    if let Some(saved) = self.feeds.get(&participant)
                        && !saved.confirmed
                    {
                        self.feeds.insert(participant, listener.feed.saved());
                    }
                }
            }
            Mail::Gone { participant, stream } => self.detach(participant, stream),
        }
    }

    /// Whether a participant joined just before the room was taken over, and its portal does not know.
    fn may_join_again(&self, participant: &ParticipantId) -> bool {
        self.audience.get(participant).is_some_and(|listener| listener.feed.may_join_again())
    }

    fn join_again(&mut self, participant: &ParticipantId, events: EventSender, reply: ReplyTo, stream: u64) {
        let Some(joined) = self.room.joined_again(participant) else {
            // An error means that nobody waits any more.
            let _: Result<_, _> = reply.send(Err(Refusal::NotJoined));
            return;
        };
        let snapshot = unnumbered(Event::Joined(joined.clone()));
        let fits = events.send(snapshot).is_ok();
        self.watch(participant, &events, stream);
        let now = Instant::now();
        if let Some(listener) = self.audience.get_mut(participant) {
            // What happened before is in what it is told now.
            listener.feed.reattach(self.log.latest(), now);
            listener.feed.acknowledge(self.log.latest(), self.log.latest());
            listener.stream = stream;
            listener.events = Some(events);
        }
        if !fits {
            self.slow.push(participant.clone());
        }
        // An error means that nobody waits any more, which is noticed by its stream.
        let _: Result<_, _> = reply.send(Ok(Reply::Joined(Box::new(joined))));
    }

    /// Gives a participant's place to a new stream: first what was missed after an event. An older stream that is still open ends.
    fn resume(
        &mut self,
        participant: &ParticipantId,
        after: After,
        events: EventSender,
        stream: u64,
    ) -> Result<(), Refusal> {
        let listener = self.audience.get_mut(participant).ok_or(Refusal::NotJoined)?;
        let (latest, now) = (self.log.latest(), Instant::now());
        let resumed = match after {
            After::Client { seq, exact } => listener.feed.resume(seq, exact, latest, now),
            After::Portal { seq } => listener.feed.reattach(seq, now).ok_or(NotResumed::NotAllowed),
        };
        let missed = match resumed {
            Ok(missed) => missed,
            Err(NotResumed::NotAllowed) => return Err(Refusal::NotResumable),
            Err(NotResumed::Forgotten) => {
                self.put(Input::Gone(participant.clone()));
                return Err(Refusal::NotJoined);
            }
        };
        tracing::info!(room = %self.id, %participant, missed = missed.len(), "came back");
        metrics::counter!("kaigi_conference_participants_resumed_total").increment(1);
        if let Some(older) = listener.events.take() {
            let taken_over = Event::Dropped(v1::Dropped { reason: "Taken over".into() });
            // One who does not drain its queue sees the end of its stream.
            let _: Result<_, _> = older.send(unnumbered(taken_over));
        }
        let fits = missed.into_iter().all(|event| events.send(event).is_ok());
        listener.stream = stream;
        self.watch(participant, &events, stream);
        if let Some(listener) = self.audience.get_mut(participant) {
            listener.events = Some(events);
        }
        if !fits {
            self.slow.push(participant.clone());
        }
        Ok(())
    }

    /// The stream of that number is broken: its participant is away, or has left.
    fn detach(&mut self, participant: ParticipantId, stream: u64) {
        let Some(listener) = self.audience.get_mut(&participant).filter(|l| l.stream == stream) else {
            return;
        };
        listener.events = None;
        if listener.feed.detach(Instant::now()) {
            tracing::info!(room = %self.id, %participant, "away");
        } else {
            self.put(Input::Gone(participant));
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

    fn tell(&mut self, entry: &Arc<Entry>) {
        match &entry.to {
            Told::One(to) => {
                if let Some(listener) = self.audience.get_mut(to)
                    && listener.tell(entry).is_err()
                {
                    self.slow.push(to.clone());
                }
            }
            Told::All { .. } => {
                for (participant, listener) in &mut self.audience {
                    if entry.to.is_for(participant) && listener.tell(entry).is_err() {
                        self.slow.push(participant.clone());
                    }
                }
            }
        }
    }

    /// Tells the room when the participant's stream is dropped.
    fn watch(&self, participant: &ParticipantId, events: &EventSender, stream: u64) {
        let (gone, mailbox, participant) = (events.gone(), self.inbox.mailbox.clone(), participant.clone());
        tokio::spawn(async move {
            gone.cancelled().await;
            if let Some(mailbox) = mailbox.upgrade() {
                // An error means that the room is over.
                let _: Result<_, _> = mailbox.send(Mail::Gone { participant, stream }).await;
            }
        });
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

    fn log(&self, note: &Note) {
        let room = &self.id;
        match note {
            Note::InputFailed { view, stream, reason } => {
                tracing::warn!(%room, view, stream, reason, "input of a view failed");
            }
            Note::MixerFailed { part, reason } => tracing::warn!(%room, part, reason, "mixer failed"),
            Note::TranscoderFailed { transcoder, reason } => {
                tracing::warn!(%room, transcoder, reason, "transcoder failed, goes on trying");
            }
            Note::AnalyticsEnded { analytics, reason } => {
                tracing::info!(%room, analytics, reason, "analytics ended");
            }
            Note::EgressFailed { egress, reason } => {
                tracing::warn!(%room, egress, reason, "recording or broadcast interrupted");
            }
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

mod gate;
#[cfg(test)]
mod tests;
