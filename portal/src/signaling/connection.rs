//! One client's connection: an actor that takes its requests one after the other and passes on what its room tells.
//!
//! What the client is told goes into the connection's bounded queue of packets without waiting. A client for which that queue is
//! full can't follow its conference any more and is put out.

use std::{
    net::SocketAddr,
    ops::ControlFlow,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::extract::ConnectInfo;
use kaigi_proto::v1::JoinEvent;
use serde_json::Value;
use socketioxide::{ProtocolVersion, SendError, SocketError, extract::SocketRef, socket::DisconnectReason};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::{sync::CancellationToken, task::task_tracker::TaskTrackerToken};
use tonic::Status;
use tracing::{Instrument, field::Empty};

use super::{
    Place, Signaling,
    delivery::Delivery,
    inbox::{Ack, Inbox, Incoming},
    login::{self, login},
    parting::{Parting, Step, Traffic},
    receipts::{Entry, Receipts},
    relogin::relogin,
    room::{Caller, Membership},
};
use crate::protocol::{
    Version,
    notification::{Notification, notification},
};

/// Events of the room that wait for the answer to a request; with more they are sent before it.
const MAX_HELD: usize = 512;
/// Pause between attempts to disconnect a client whose queue is full. The library closes it anyway when a ping finds no place.
const DISCONNECT_RETRY: Duration = Duration::from_millis(500);

/// Whether the connection goes on.
type Flow = ControlFlow<End>;

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The socket is closed.
    Closed,
    /// The client is told `drop` and disconnected.
    Drop,
    /// The client is disconnected without a word: a failed or missing login, or it does not read.
    Disconnect,
}

/// Which requests are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// All.
    Open,
    /// Those that wait already.
    Closing,
    /// None: the connection is being broken, and nobody would have the answers.
    Closed,
}

/// The actor.
pub(super) struct Connection {
    shared: Signaling,
    socket: SocketRef,
    requests: mpsc::Receiver<Incoming>,
    closed: CancellationToken,
    /// Whether the socket was closed because nothing came from the client any more.
    silent: Arc<AtomicBool>,
    /// The place in a room, once logged in.
    member: Option<Membership>,
    /// What the client's machine says to have got; `None` on a way that gives no receipts.
    receipts: Option<Arc<Receipts>>,
    /// Notifications that the socket was handed.
    handed: u64,
    /// When something was asked last.
    asked: Instant,
    /// Which requests are taken.
    door: Door,
    /// While it has a place that it could not come back to.
    stays: Option<TaskTrackerToken>,
    _session: Option<Entry>,
    _place: Place,
}

impl Connection {
    /// Starts the actor of a new socket.
    pub(super) fn open(shared: Signaling, socket: SocketRef, place: Place) {
        let (inbox, requests) = Inbox::new(shared.limits.message_bytes);
        socket.on_fallback(inbox);
        let closed = CancellationToken::new();
        let closing = closed.clone();
        let silent = Arc::new(AtomicBool::new(false));
        let silenced = silent.clone();
        socket.on_disconnect(async move |reason: DisconnectReason| {
            tracing::debug!(?reason, "socket closed");
            silenced.store(reason == DisconnectReason::HeartbeatTimeout, Ordering::Relaxed);
            closing.cancel();
        });
        // The socket's id stays out of the logs: who knows it can speak in the client's name.
        let peer = socket.req_parts().extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        let span = tracing::info_span!(
            "client",
            peer = peer.map(tracing::field::display),
            room = Empty,
            participant = Empty
        );
        let tracker = shared.connections.clone();
        let receipts = socket.req_parts().extensions.get::<Arc<Receipts>>().cloned();
        let session = receipts.clone().map(|receipts| shared.sessions.enter(socket.id.to_string(), receipts));
        let connection = Self {
            shared,
            socket,
            requests,
            closed,
            silent,
            member: None,
            receipts,
            handed: 0,
            asked: Instant::now(),
            door: Door::Open,
            stays: None,
            _session: session,
            _place: place,
        };
        tracker.spawn(connection.run().instrument(span));
    }

    async fn run(mut self) {
        let end = self.serve().await;
        tracing::debug!(?end, "connection ends");
        if end == End::Drop {
            self.socket.emit("drop", &[(); 0]).ok();
        }
        match end {
            End::Closed => self.part().await,
            End::Drop | End::Disconnect => self.leave().await,
        }
        match end {
            End::Closed => {}
            End::Drop | End::Disconnect => self.disconnect().await,
        }
    }

    /// The socket is gone: the client may come back, or has left.
    async fn part(&mut self) {
        self.take_receipts();
        let may_return = !self.shared.reconnection.window.is_zero();
        match self.member.take_if(|member| may_return && member.reconnectable) {
            Some(member) => {
                tracing::info!("away");
                member.part(!self.silent.load(Ordering::Relaxed)).await;
            }
            None => self.leave().await,
        }
    }

    async fn leave(&mut self) {
        self.stays = None;
        if let Some(member) = self.member.take() {
            tracing::info!("left");
            member.leave().await;
        }
    }

    async fn serve(&mut self) -> End {
        let mut idle = pin!(tokio::time::sleep_until(Instant::now() + self.shared.limits.login));
        let mut acknowledge = tokio::time::interval(self.shared.limits.acknowledge_interval);
        acknowledge.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let handing_over = self.shared.ending.handing_over.clone();
        let mut parting = None;
        loop {
            let look_again = parting.and_then(|parting| self.hand_over(parting));
            let takes = match self.door {
                Door::Open => true,
                Door::Closing => !self.requests.is_empty(),
                Door::Closed => false,
            };
            let flow = tokio::select! {
                biased;
                () = self.closed.cancelled() => return End::Closed,
                () = self.shared.stopping.cancelled() => return End::Drop,
                event = next_event(&mut self.member) => self.tell(event),
                request = self.requests.recv(), if takes => match request {
                    Some(request) => self.handle(request).await,
                    None => return End::Closed,
                },
                () = news(self.receipts.as_deref()), if self.member.is_some() => {
                    self.take_receipts();
                    Flow::Continue(())
                }
                _ = acknowledge.tick(), if self.member.is_some() => {
                    if let Some(member) = &mut self.member {
                        member.acknowledge();
                    }
                    Flow::Continue(())
                }
                () = &mut idle, if self.member.is_none() => return End::Disconnect,
                () = handing_over.cancelled(), if parting.is_none() => {
                    parting = Some(Parting::begun(Instant::now()));
                    Flow::Continue(())
                }
                () = at(look_again) => Flow::Continue(()),
            };
            if self.member.is_some() {
                idle.as_mut().reset(Instant::now() + self.shared.limits.login);
            }
            if let ControlFlow::Break(end) = flow {
                return end;
            }
        }
    }

    /// Breaks the connection when it is time; when to look again. Who could not come back stays to the end.
    fn hand_over(&mut self, parting: Parting) -> Option<Instant> {
        let receipts = self.receipts.as_ref().filter(|_| self.stays.is_none())?;
        let (waiting, asked) = (!self.requests.is_empty(), self.asked);
        let traffic = Traffic { waiting, asked, all_arrived: receipts.all_arrived() };
        match parting.step(Instant::now(), traffic) {
            Step::Wait(at) => Some(at),
            Step::Close(at) => {
                // What comes now is not done: the client learns of it with the connection's end.
                self.door = Door::Closing;
                self.requests.close();
                Some(at)
            }
            Step::Break => {
                receipts.cut();
                self.door = Door::Closed;
                None
            }
        }
    }

    async fn handle(&mut self, request: Incoming) -> Flow {
        let flow = self.answer(request).await;
        self.asked = Instant::now();
        flow
    }

    async fn answer(&mut self, request: Incoming) -> Flow {
        if let Some(member) = &mut self.member {
            member.delivery.sign_of_life(std::time::Instant::now());
            member.is_back(&self.shared);
        }
        let Some((event, data)) = request.parse() else {
            request.into_ack().error("Illegal request");
            return Flow::Continue(());
        };
        let ack = request.into_ack();
        match (event.as_str(), self.member.is_some()) {
            ("login", false) => self.login(data, ack).await,
            ("login" | "relogin", true) => {
                ack.error("Connection is in service");
                Flow::Continue(())
            }
            ("relogin", false) => self.relogin(data, ack).await,
            ("logout", true) => {
                // Who reads the answer is not in the room any more, for anybody.
                self.leave().await;
                ack.ok(None);
                Flow::Continue(())
            }
            ("refreshReconnectionTicket", true) => {
                self.refresh_ticket(ack).await;
                Flow::Continue(())
            }
            (_, true) => self.request(&event, data, ack).await,
            (_, false) => {
                ack.error("Illegal request");
                Flow::Continue(())
            }
        }
    }

    async fn login(&mut self, data: Value, ack: Ack) -> Flow {
        let outcome = tokio::select! {
            biased;
            () = self.closed.cancelled() => return Flow::Break(End::Closed),
            () = self.shared.stopping.cancelled() => return Flow::Break(End::Drop),
            outcome = login(&self.shared, &data, self.delivery()) => outcome,
        };
        match outcome {
            Ok((member, answer)) => {
                metrics::counter!("kaigi_portal_logins_total", "result" => "ok").increment(1);
                self.enter(member, "joined");
                ack.ok(Some(answer));
                Flow::Continue(())
            }
            Err(error) => {
                tracing::info!(%error, "login refused");
                metrics::counter!("kaigi_portal_logins_total", "result" => "refused").increment(1);
                ack.error(&error.to_string());
                Flow::Break(End::Disconnect)
            }
        }
    }

    /// Requests that come meanwhile wait in the inbox.
    async fn relogin(&mut self, data: Value, ack: Ack) -> Flow {
        let outcome = tokio::select! {
            biased;
            () = self.closed.cancelled() => return Flow::Break(End::Closed),
            () = self.shared.stopping.cancelled() => return Flow::Break(End::Drop),
            outcome = relogin(&self.shared, &data, self.delivery()) => outcome,
        };
        match outcome {
            Ok((member, ticket)) => {
                metrics::counter!("kaigi_portal_relogins_total", "result" => "ok").increment(1);
                self.enter(member, "came back");
                ack.ok(Some(ticket.into()));
                Flow::Continue(())
            }
            Err(error) => {
                tracing::info!(%error, "relogin refused");
                metrics::counter!("kaigi_portal_relogins_total", "result" => "refused").increment(1);
                ack.error(&error.to_string());
                Flow::Break(End::Disconnect)
            }
        }
    }

    fn enter(&mut self, mut member: Membership, how: &str) {
        let span = tracing::Span::current();
        span.record("room", member.place.room.as_str());
        span.record("participant", member.place.participant.as_str());
        tracing::info!(protocol = member.version.name(), "{how}");
        member.acknowledge();
        let may_return = member.reconnectable && !self.shared.reconnection.window.is_zero();
        self.stays = (!may_return).then(|| self.shared.ending.staying.token());
        self.member = Some(member);
    }

    async fn refresh_ticket(&mut self, ack: Ack) {
        let holder = self.member.as_ref().filter(|member| member.reconnectable).map(Membership::holder);
        match holder {
            Some(holder) => match login::new_ticket(&self.shared, &holder).await {
                Ok(ticket) => ack.ok(Some(ticket.into())),
                Err(error) => ack.error(&error.to_string()),
            },
            None => ack.error("Reconnection is not enabled."),
        }
    }

    /// A request to the room. The room's events go on meanwhile, or wait for the answer where it has to come first.
    async fn request(&mut self, event: &str, data: Value, ack: Ack) -> Flow {
        let Some(member) = &self.member else { return Flow::Continue(()) };
        let begun = Instant::now();
        let mut held = Caller::answers_first(event).then(Vec::new);
        let mut outcome = pin!(member.caller().perform(event, data));
        let outcome = loop {
            let told = tokio::select! {
                biased;
                () = self.closed.cancelled() => return Flow::Break(End::Closed),
                () = self.shared.stopping.cancelled() => return Flow::Break(End::Drop),
                outcome = &mut outcome => break outcome,
                told = next_event(&mut self.member) => told,
            };
            match &mut held {
                Some(waiting) if waiting.len() < MAX_HELD => {
                    let last = !matches!(told, Ok(Some(_)));
                    waiting.push(told);
                    if last {
                        break outcome.await;
                    }
                }
                _ => {
                    for event in held.take().unwrap_or_default() {
                        self.tell(event)?;
                    }
                    self.tell(told)?;
                }
            }
        };
        let result = if outcome.is_ok() { "ok" } else { "error" };
        metrics::histogram!("kaigi_portal_request_duration_seconds", "event" => known(event), "result" => result)
            .record(begun.elapsed().as_secs_f64());
        match outcome {
            Ok(data) => ack.ok(data),
            Err(refusal) => {
                tracing::debug!(event, %refusal, "request refused");
                ack.error(&refusal.to_string());
            }
        }
        for event in held.unwrap_or_default() {
            self.tell(event)?;
        }
        Flow::Continue(())
    }

    /// Passes on what the room told. The end of the room's events without a word means that the room's agent is gone.
    fn tell(&mut self, event: Result<Option<JoinEvent>, Status>) -> Flow {
        let (Some(member), Ok(Some(event))) = (&mut self.member, event) else {
            tracing::info!("the room is gone");
            self.member = None;
            return Flow::Break(End::Drop);
        };
        let seq = event.seq;
        match notification(member.version, event) {
            Notification::Emit(name, data) => match emit(&self.socket, member.version, name, &data, seq) {
                Ok(()) => {
                    self.handed += 1;
                    member.delivery.handed(seq, self.handed, std::time::Instant::now());
                    Flow::Continue(())
                }
                Err(SendError::Socket(SocketError::Closed)) => Flow::Break(End::Closed),
                Err(error) => {
                    tracing::info!(%error, "the client does not read");
                    Flow::Break(End::Disconnect)
                }
            },
            Notification::Dropped(reason) => {
                tracing::info!(reason, "dropped by the room");
                self.member = None;
                Flow::Break(End::Drop)
            }
            Notification::Silent => Flow::Continue(()),
        }
    }

    /// The beginning of what is known of the socket's notifications. Where the client pings (Engine.IO 3) and gives receipts, its pings
    /// don't count: they come by a way on which notifications do not go.
    fn delivery(&self) -> Delivery {
        let receipts = self.receipts.is_some();
        let proves = !receipts || self.socket.protocol() == ProtocolVersion::V4;
        Delivery::new(proves.then(|| self.shared.limits.longest_silence()), receipts)
    }

    fn take_receipts(&mut self) {
        if let (Some(member), Some(receipts)) = (&mut self.member, &self.receipts) {
            member.receipts(&self.shared, receipts);
        }
    }

    async fn disconnect(self) {
        while !self.closed.is_cancelled() && self.socket.clone().disconnect().is_err() {
            tokio::select! {
                () = self.closed.cancelled() => {}
                () = self.shared.stopping.cancelled() => return,
                () = tokio::time::sleep(DISCONNECT_RETRY) => {}
            }
        }
    }
}

/// Sends a notification, with its number where the client's SDK counts.
fn emit(
    socket: &SocketRef,
    version: Version,
    name: &'static str,
    data: &Value,
    seq: u64,
) -> Result<(), SendError> {
    if version.is_numbered() { socket.emit(name, &(data, seq)) } else { socket.emit(name, data) }
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits for a receipt; for ever, if there are none. Cancel-safe.
async fn news(receipts: Option<&Receipts>) {
    match receipts {
        Some(receipts) => receipts.news().await,
        None => std::future::pending().await,
    }
}

/// The next event of the room; never, if there is none. Cancel-safe.
async fn next_event(member: &mut Option<Membership>) -> Result<Option<JoinEvent>, Status> {
    match member {
        Some(member) => member.events.next().await,
        None => std::future::pending().await,
    }
}

/// The event's name as a metric's label; what clients invent has one label for all.
fn known(event: &str) -> &'static str {
    const EVENTS: [&str; 8] = [
        "publish",
        "unpublish",
        "subscribe",
        "unsubscribe",
        "stream-control",
        "subscription-control",
        "soac",
        "text",
    ];
    EVENTS.into_iter().find(|known| *known == event).unwrap_or("other")
}
