//! The rooms of this process: started by the first who joins, found by all others.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::future::join_all;
use kaigi_proto::{
    ids::{ParticipantId, RoomId},
    v1,
};
use kaigi_room_config::RoomConfig;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{
    actor::{Actor, After, End, Inbox, MAX_MAIL, Mail, ReplyTo},
    audience::{EventStream, event_queue},
    directory::{MAX_NEWS, NewsDoor},
    keeper::{Head, Keeper},
    room::{Command, Counted, Join, Refusal, Reply, RequestKey, Room, Settings, Snapshot},
    shared::Shared,
    stats::Desk,
};

/// Longest wait for the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the reply to a join, the start of the room included.
const JOIN_TIMEOUT: Duration = Duration::from_secs(6);
/// Longest wait for the reply to another request: scheduling, opening, and a view that is being made.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);
/// The same of a request to pull a stream, whose source may be slow: a little more than a node waits for it.
const INGEST_TIMEOUT: Duration = Duration::from_secs(40);

/// The rooms of this process.
#[derive(Debug)]
pub(crate) struct Rooms {
    shared: Arc<Shared>,
    slots: Mutex<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    rooms: HashMap<RoomId, watch::Receiver<Start>>,
    /// No further rooms.
    closed: bool,
}

/// How far the start of a room is.
type Start = Option<Result<RoomHandle, Status>>;

/// A room that is about to run.
struct Loaded {
    room: Room,
    keeper: Keeper,
    /// What another agent has left of it.
    taken_over: Option<(BTreeMap<String, Vec<u8>>, Head)>,
}

/// A running room.
#[derive(Clone, Debug)]
struct RoomHandle {
    mailbox: mpsc::Sender<Mail>,
    /// When the room is over and may be started anew.
    ended: CancellationToken,
    /// Has it handed over.
    hand_over: CancellationToken,
    /// Asks its nodes for statistics.
    desk: Arc<Desk>,
}

impl Rooms {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, slots: Mutex::default() }
    }

    /// Joins a room, starting it if it does not run. The first event is `joined`.
    /// `window`: how long the participant would like to be away and come back.
    pub(crate) async fn join(
        self: &Arc<Self>,
        room: &RoomId,
        join: Join,
        window: Duration,
    ) -> Result<EventStream, Status> {
        let window = window.min(self.shared.limits.away);
        let attempts = async {
            loop {
                let handle = self.started(room).await?;
                let (events, stream) = event_queue(self.shared.limits.backlog);
                let (reply, replied) = oneshot::channel();
                let mail = Mail::Join { join: join.clone(), window, events, reply };
                if handle.mailbox.send(mail).await.is_ok()
                    && let Ok(result) = replied.await
                    && !matches!(result, Err(Refusal::RoomEnds))
                {
                    return result.map(|_| stream).map_err(Status::from);
                }
                handle.ended.cancelled().await;
            }
        };
        match tokio::time::timeout(JOIN_TIMEOUT, attempts).await {
            Ok(result) => result,
            Err(_) => Err(Status::unavailable("Joining room failed")),
        }
    }

    /// Takes a participant's place over; everything after an event comes first.
    pub(crate) async fn resume(
        self: &Arc<Self>,
        room: &RoomId,
        participant: ParticipantId,
        after: After,
    ) -> Result<EventStream, Status> {
        let (events, stream) = event_queue(self.shared.limits.backlog);
        self.ask(room, |reply| Mail::Resume { participant, after, events, reply }).await.map(|_| stream)
    }

    /// The participant has its events up to this one; `exact`: and its connection is gone without having brought more.
    pub(crate) async fn acknowledge(
        &self,
        room: &RoomId,
        participant: ParticipantId,
        seq: u64,
        exact: bool,
    ) -> Result<(), Status> {
        let not_found = || Status::not_found("Room not found");
        let handle = self.running(room).ok_or_else(not_found)?;
        handle.mailbox.send(Mail::Acknowledge { participant, seq, exact }).await.map_err(|_| not_found())
    }

    /// Makes a request to a room that runs, here or at an agent that is gone.
    pub(crate) async fn request(
        self: &Arc<Self>,
        room: &RoomId,
        key: Option<RequestKey>,
        command: Command,
    ) -> Result<Reply, Status> {
        self.ask(room, |reply| Mail::Request { key, command, reply }).await
    }

    /// Takes over the rooms whose agents are gone, as far as they are placed here.
    pub(crate) async fn take_over_orphans(self: &Arc<Self>) {
        let orphans = timely(self.shared.store.clone().list_orphans(v1::ListOrphansRequest {})).await;
        let orphans = match orphans {
            Ok(orphans) => orphans.into_inner().room_ids,
            Err(status) => return tracing::debug!(%status, "orphaned rooms are not known"),
        };
        for room in orphans {
            let placed = v1::ScheduleRequest {
                purpose: v1::Purpose::Conference.into(),
                task: room.clone(),
                ..v1::ScheduleRequest::default()
            };
            let placed = timely(self.shared.cluster.clone().schedule(placed)).await;
            let here = placed.is_ok_and(|placed| {
                let worker = placed.into_inner().worker.unwrap_or_default();
                worker.worker_id == self.shared.agent.as_str()
            });
            if let Some(room) = RoomId::new(room).ok().filter(|_| here) {
                let rooms = self.clone();
                tokio::spawn(async move { rooms.found(&room).await });
            }
        }
    }

    /// The room if it runs here, or did so at an agent that is gone; in that case it does from now on.
    async fn found(self: &Arc<Self>, room: &RoomId) -> Result<RoomHandle, Status> {
        let known = {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.rooms.contains_key(room)
        };
        if known || self.is_kept(room).await? {
            return match self.started(room).await {
                Err(status) if status.code() == Code::Unavailable => {
                    Err(Status::aborted("Room is elsewhere"))
                }
                found => found,
            };
        }
        Err(Status::not_found("Room not found"))
    }

    async fn is_kept(&self, room: &RoomId) -> Result<bool, Status> {
        Ok(!self.snapshot(room).await?.is_empty())
    }

    /// What is kept of a room.
    async fn snapshot(&self, room: &RoomId) -> Result<BTreeMap<String, Vec<u8>>, Status> {
        let request = v1::ReadSnapshotRequest { room_id: room.to_string() };
        let read = async {
            let mut pages = self.shared.store.clone().read_snapshot(request).await?.into_inner();
            let mut parts = BTreeMap::new();
            while let Some(page) = pages.message().await? {
                parts.extend(page.parts.into_iter().map(|part| (part.key, part.value)));
            }
            Ok(parts)
        };
        timely(read).await
    }

    /// What is counted of a running room.
    pub(crate) async fn stats(
        self: &Arc<Self>,
        room: &RoomId,
        of: Counted,
    ) -> Result<v1::RoomStatsReply, Status> {
        let desk = self.found(room).await?.desk;
        match of {
            Counted::All => {
                let (rooms, room, asking) = (Arc::clone(self), room.clone(), Arc::clone(&desk));
                desk.whole(async move { rooms.count(&room, of, &asking).await }).await
            }
            Counted::Stream(_) | Counted::Subscription(_) => self.count(room, of, &desk).await,
        }
    }

    async fn count(
        self: &Arc<Self>,
        room: &RoomId,
        of: Counted,
        desk: &Arc<Desk>,
    ) -> Result<v1::RoomStatsReply, Status> {
        let wall_ms = || {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        };
        match self.request(room, None, Command::Stats { of, wall_ms: wall_ms() }).await? {
            Reply::Stats(mut plan) => {
                let counted = Desk::ask(desk, std::mem::take(&mut plan.questions)).await;
                Ok(plan.complete(wall_ms(), &counted))
            }
            other => Err(Status::internal(format!("the room gave another kind of reply: {other:?}"))),
        }
    }

    /// Makes a request to a room, starting it if it does not run.
    pub(crate) async fn request_starting(
        self: &Arc<Self>,
        room: &RoomId,
        key: Option<RequestKey>,
        command: Command,
    ) -> Result<Reply, Status> {
        match tokio::time::timeout(JOIN_TIMEOUT, self.started(room)).await {
            Ok(started) => started.map(drop)?,
            Err(_) => return Err(Status::unavailable("Joining room failed")),
        }
        self.request(room, key, command).await
    }

    async fn ask(
        self: &Arc<Self>,
        room: &RoomId,
        mail: impl FnOnce(ReplyTo) -> Mail,
    ) -> Result<Reply, Status> {
        // The caller finds out where it is now, if it is anywhere.
        let gone = || Status::aborted("Room is elsewhere");
        let handle = self.found(room).await?;
        let (reply, replied) = oneshot::channel();
        let mail = mail(reply);
        let pulls = matches!(mail, Mail::Request { command: Command::StartIngest(_), .. });
        let timeout = if pulls { INGEST_TIMEOUT } else { REQUEST_TIMEOUT };
        let answer = async {
            handle.mailbox.send(mail).await.map_err(|_| gone())?;
            replied.await.map_err(|_| gone())?.map_err(Status::from)
        };
        match tokio::time::timeout(timeout, answer).await {
            Ok(result) => result,
            Err(_) => Err(Status::unavailable("No answer in time")),
        }
    }

    /// Takes a room that another agent has handed over.
    pub(crate) async fn take_over(self: &Arc<Self>, room: &RoomId) -> Result<(), Status> {
        self.found(room).await.map(drop)
    }

    /// Starts no more rooms.
    pub(crate) fn close_door(&self) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
    }

    /// Whether no room runs, nor is about to.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).rooms.is_empty()
    }

    /// Has all rooms handed over, and waits for it.
    pub(crate) async fn let_go(&self) {
        while let Some(mut start) = self.any() {
            // One that is about to run will.
            let started = start.wait_for(Option::is_some).await.ok().and_then(|start| start.clone());
            match started {
                Some(Ok(_)) => {
                    let handles = self.handles();
                    handles.iter().for_each(|handle| handle.hand_over.cancel());
                    join_all(handles.iter().map(|handle| handle.ended.cancelled())).await;
                }
                Some(Err(_)) | None => tokio::task::yield_now().await,
            }
        }
    }

    fn any(&self) -> Option<watch::Receiver<Start>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).rooms.values().next().cloned()
    }

    fn handles(&self) -> Vec<RoomHandle> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.rooms.values().filter_map(|start| start.borrow().clone()?.ok()).collect()
    }

    /// Ends all rooms and starts no more.
    pub(crate) async fn close(&self, reason: &str) {
        self.close_door();
        let handles = self.handles();
        for handle in &handles {
            let (reply, _) = oneshot::channel();
            let command = Command::Destroy { reason: reason.to_owned() };
            // A room that takes no mail is ending already.
            let _: Result<_, _> = handle.mailbox.send(Mail::Request { key: None, command, reply }).await;
        }
        for handle in &handles {
            handle.ended.cancelled().await;
        }
    }

    fn running(&self, room: &RoomId) -> Option<RoomHandle> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.rooms.get(room)?.borrow().clone()?.ok()
    }

    /// The room, started if need be; all who ask meanwhile wait for the same start.
    async fn started(self: &Arc<Self>, room: &RoomId) -> Result<RoomHandle, Status> {
        let mut start = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            if slots.closed && !slots.rooms.contains_key(room) {
                return Err(Status::unavailable("Joining room failed"));
            }
            let begin = || {
                let (done, start) = watch::channel(None);
                tokio::spawn(self.clone().start(room.clone(), done));
                start
            };
            slots.rooms.entry(room.clone()).or_insert_with(begin).clone()
        };
        let result =
            start.wait_for(Option::is_some).await.map_err(|_| Status::unavailable("Joining room failed"))?;
        result.clone().unwrap_or_else(|| Err(Status::unavailable("Joining room failed")))
    }

    /// Starts a room and runs it to its end.
    async fn start(self: Arc<Self>, id: RoomId, done: watch::Sender<Start>) {
        let Loaded { room, keeper, taken_over } = match self.load(&id).await {
            Ok(loaded) => loaded,
            Err(status) => {
                tracing::info!(room = %id, %status, "room not started");
                self.forget(&id);
                done.send_replace(Some(Err(status)));
                return;
            }
        };
        let (mailbox, mail) = mpsc::channel(MAX_MAIL);
        let (news_to, news) = mpsc::channel(MAX_NEWS);
        let overrun = CancellationToken::new();
        self.shared.directory.insert(id.clone(), NewsDoor { news: news_to, overrun: overrun.clone() });
        self.shared.tasks.insert(id.as_str());
        let hand_over = CancellationToken::new();
        let inbox = Inbox { mail, mailbox: mailbox.downgrade(), news, overrun, hand_over: hand_over.clone() };
        let mut actor = Actor::new(id.clone(), room, self.shared.clone(), inbox, Some(keeper));
        let was_running = taken_over.is_some();
        if let Some((parts, head)) = taken_over {
            actor.take_over(&parts, head);
        }
        let ended = CancellationToken::new();
        metrics::gauge!("kaigi_conference_rooms").increment(1);
        match was_running {
            true => tracing::info!(room = %id, "room taken over"),
            false => tracing::info!(room = %id, "room started"),
        }
        let desk = Arc::new(Desk::new(self.shared.channels.clone()));
        let running = tokio::spawn(actor.run(was_running));
        done.send_replace(Some(Ok(RoomHandle { mailbox, ended: ended.clone(), hand_over, desk })));
        let end = running.await.unwrap_or_else(|_| {
            tracing::error!(room = %id, "the room's task panicked");
            End::Over
        });
        if end == End::Over {
            tracing::info!(room = %id, "room ended");
        }
        metrics::gauge!("kaigi_conference_rooms").decrement(1);
        self.shared.directory.remove(&id);
        self.shared.tasks.remove(id.as_str());
        if end == End::Over {
            self.give_back(&id).await;
        }
        // Only now may the room start anew: the lease that is given back must not be a later one.
        self.forget(&id);
        ended.cancel();
    }

    /// Takes the room's lease and what is kept of it, or begins with its document.
    async fn load(&self, id: &RoomId) -> Result<Loaded, Status> {
        let failed = |status: Status| match status.code() {
            Code::NotFound => status,
            _ => Status::unavailable("Joining room failed"),
        };
        let mut store = self.shared.store.clone();
        let get = v1::GetRequest { collection: v1::Collection::Rooms.into(), key: id.to_string() };
        let document = timely(store.get(get)).await.map_err(failed)?.into_inner().value;
        let document = document.ok_or_else(|| Status::not_found("Room not found"))?;
        let config: RoomConfig = serde_json::from_slice(&document).map_err(|error| {
            tracing::error!(room = %id, %error, "the room's document can't be read");
            Status::unavailable("Joining room failed")
        })?;
        let acquire =
            v1::AcquireRoomRequest { room_id: id.to_string(), worker_id: self.shared.agent.to_string() };
        let epoch = timely(store.acquire_room(acquire)).await.map_err(failed)?.into_inner().epoch;
        let settings = Settings {
            agent: self.shared.agent.clone(),
            epoch,
            idle: self.shared.limits.idle,
            seed: rand::random(),
        };
        let now = Instant::now();
        let keeper = Keeper::new(self.shared.store.clone(), id.clone(), epoch, now);
        let parts = self.snapshot(id).await.map_err(failed)?;
        if let Some(head) = Head::find(&parts) {
            match Snapshot::read(&parts) {
                Ok(snapshot) => {
                    metrics::counter!("kaigi_conference_takeovers_total").increment(1);
                    let room = Room::restore(id.clone(), snapshot, settings, now);
                    return Ok(Loaded { room, keeper, taken_over: Some((parts, head)) });
                }
                Err(error) => {
                    tracing::error!(room = %id, %error, "the room is not taken over, it begins anew")
                }
            }
        }
        match Room::new(id.clone(), config, settings, now) {
            Ok(room) => Ok(Loaded { room, keeper, taken_over: None }),
            Err(error) => {
                tracing::error!(room = %id, %error, "the room can't be started");
                self.give_back(id).await;
                Err(Status::unavailable("Joining room failed"))
            }
        }
    }

    /// Gives back the lease and the placement of a room that is over.
    async fn give_back(&self, id: &RoomId) {
        let lease = v1::ReleaseRoomRequest {
            room_id: id.to_string(),
            worker_id: self.shared.agent.to_string(),
            hand_over: false,
        };
        if let Err(status) = timely(self.shared.store.clone().release_room(lease)).await {
            tracing::warn!(room = %id, %status, "the room's lease was not given back");
        }
        let placement = v1::ReleaseRequest { purpose: v1::Purpose::Conference.into(), task: id.to_string() };
        if let Err(status) = timely(self.shared.cluster.clone().release(placement)).await {
            tracing::warn!(room = %id, %status, "the room's placement was not given back");
        }
    }

    fn forget(&self, id: &RoomId) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).rooms.remove(id);
    }
}

async fn timely<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(STORE_TIMEOUT, call).await.map_err(|_| Status::unavailable("no answer in time"))?
}
