//! One stream of events.

use std::{convert::Infallible, time::Duration};

use axum::body::Bytes;
use kaigi_proto::{
    events::{self, EventFilter},
    ids::{RoomId, ServiceId},
    v1::{Event, EventDelivery, event_delivery::Delivery},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use super::places::TakenPlace;
use crate::{
    backend::{Backend, CallError, Service},
    clock::UnixMillis,
    rest::identity::Grants,
};

/// How often something is sent, so that nobody on the way takes the connection for dead; and how often it is looked whether the service
/// is still the same.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A client that reads nothing for so long is cut off.
const STALLED: Duration = Duration::from_secs(60);
/// Pause before the hub is asked again.
const RETRY: Duration = Duration::from_millis(500);
/// What a stream begins with: how long a browser waits before it connects again, in milliseconds.
const HELLO: &str = "retry: 1000\n\n";
/// Some events may be missing. Without an id, so that a client goes on where it was.
const GAP: &str = "event: gap\ndata: {\"type\":\"gap\"}\n\n";

/// What of the service's events is wanted and granted.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) room: Option<RoomId>,
    pub(super) types: EventFilter,
    pub(super) grants: Grants,
}

impl Wanted {
    fn is(&self, event: &Event) -> bool {
        self.room.as_ref().is_none_or(|room| room.as_str() == event.room_id)
            && self.types.lets_through(&event.r#type)
            && self.grants.covers(&event.room_id)
    }
}

/// Where events come from.
#[derive(Debug)]
enum Source {
    Hub(Box<Streaming<EventDelivery>>),
    /// The hub is away; it is asked again then.
    Away(Instant),
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client has gone, or the portal goes.
    Over,
    /// The client does not read.
    TooSlow,
    /// The caller is not to be believed any more.
    Expired,
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Feed {
    backend: Backend,
    service: Service,
    wanted: Wanted,
    expires: Option<UnixMillis>,
    source: Source,
    /// The last event that came, wanted or not; 0 = none.
    last: u64,
    /// The last that the client knows of.
    told: u64,
    /// See [`STALLED`].
    stalled: Duration,
}

impl Feed {
    /// Begins to listen; after an event, if one is given.
    ///
    /// # Errors
    /// If the hub can't be reached.
    pub(super) async fn start(
        backend: Backend,
        service: Service,
        wanted: Wanted,
        expires: Option<UnixMillis>,
        after: Option<u64>,
    ) -> Result<Self, CallError> {
        // The hub's 0 stands for the next one; a client's for all.
        let after = after.map_or(0, |after| after.max(1));
        let source = Source::Hub(Box::new(backend.watch_events(scope(&service), after).await?));
        Ok(Self { backend, service, wanted, expires, source, last: after, told: after, stalled: STALLED })
    }

    /// Sends what comes until the client, the portal, or the caller's right to it is gone.
    pub(super) async fn run(
        mut self,
        out: mpsc::Sender<Result<Bytes, Infallible>>,
        stopping: CancellationToken,
        _place: TakenPlace,
    ) {
        let (service, expires) = (self.service.id.clone(), self.expires);
        let expired = async {
            match expires {
                Some(until) => {
                    let left = Duration::from_millis(until.0.saturating_sub(UnixMillis::now().0));
                    // Longer than a timer can run is for ever.
                    tokio::time::sleep(left.min(Duration::from_secs(365 * 24 * 3600))).await;
                }
                None => std::future::pending().await,
            }
        };
        let end = tokio::select! {
            end = self.send(&out) => end,
            () = expired => End::Expired,
            () = stopping.cancelled() => End::Over,
            () = out.closed() => End::Over,
        };
        if end != End::Over {
            tracing::info!(service, ?end, "a stream of events is ended");
        }
    }

    async fn send(&mut self, out: &mpsc::Sender<Result<Bytes, Infallible>>) -> End {
        let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut text = Some(HELLO.to_owned());
        loop {
            if let Some(text) = text.take() {
                match tokio::time::timeout(self.stalled, out.send(Ok(text.into()))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return End::Over,
                    Err(_) => return End::TooSlow,
                }
            }
            tokio::select! {
                delivery = next(&mut self.source) => match delivery {
                    Ok(Some(Delivery::Event(event))) => text = self.take(&event),
                    Ok(Some(Delivery::Gap(_))) => text = Some(GAP.to_owned()),
                    Ok(None) => text = self.listen_again().await,
                    Err(status) if status.code() == Code::ResourceExhausted => return End::TooSlow,
                    Err(status) => {
                        tracing::debug!(%status, "the hub of events is away");
                        self.source = Source::Away(Instant::now() + RETRY);
                    }
                },
                _ = heartbeat.tick() => {
                    if !self.is_valid().await {
                        return End::Expired;
                    }
                    text = Some(self.heartbeat());
                }
            }
        }
    }

    /// An event as it is sent, if it is wanted.
    fn take(&mut self, event: &Event) -> Option<String> {
        self.last = self.last.max(event.id);
        if !self.wanted.is(event) {
            return None;
        }
        self.told = self.last;
        Some(format!("id: {}\nevent: {}\ndata: {}\n\n", event.id, event.r#type, events::body(event)))
    }

    /// A comment, and the number of an event that was not for this client: it need not be asked for again.
    fn heartbeat(&mut self) -> String {
        if self.last == self.told {
            return ":\n\n".to_owned();
        }
        self.told = self.last;
        format!(":\nid: {}\n\n", self.last)
    }

    /// Goes on after the last event that came. Where that is not known, some may be missing.
    async fn listen_again(&mut self) -> Option<String> {
        match self.backend.watch_events(scope(&self.service), self.last).await {
            Ok(events) => {
                self.source = Source::Hub(Box::new(events));
                (self.last == 0).then(|| GAP.to_owned())
            }
            Err(error) => {
                tracing::debug!(%error, "the hub of events is still away");
                self.source = Source::Away(Instant::now() + RETRY);
                None
            }
        }
    }

    /// Whether the service still is, under the same key. A store that is away says nothing against it.
    async fn is_valid(&self) -> bool {
        let Ok(id) = ServiceId::new(&self.service.id) else { return false };
        match self.backend.service(&id).await {
            Ok(Some(now)) => now.key == self.service.key && now.public_key == self.service.public_key,
            Ok(None) => false,
            Err(_) => true,
        }
    }
}

/// Whose events are listened to; `None` = of all.
fn scope(service: &Service) -> Option<&str> {
    (!service.is_super).then_some(&service.id)
}

/// The next delivery; `None` = it is time to ask the hub again. Cancellation safe.
async fn next(source: &mut Source) -> Result<Option<Delivery>, Status> {
    match source {
        Source::Hub(events) => loop {
            let delivery = events.message().await?;
            let delivery = delivery.ok_or_else(|| Status::unavailable("the watch has ended"))?;
            if let Some(delivery) = delivery.delivery {
                return Ok(Some(delivery));
            }
        },
        Source::Away(until) => {
            tokio::time::sleep_until(*until).await;
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use kaigi_proto::auth::ClusterSecret;
    use kaigi_worker::Channels;

    use super::*;
    use crate::rest::events::places::Places;

    type Out = mpsc::Receiver<Result<Bytes, Infallible>>;

    /// A stream whose hub is away for good.
    fn feed(expires: Option<UnixMillis>) -> Feed {
        let channels = Channels::new(ClusterSecret::default());
        let nobody = channels.to("http://127.0.0.1:1").unwrap();
        let service = serde_json::json!({"id": "s", "key": "k"});
        Feed {
            backend: Backend::new(channels, nobody),
            service: serde_json::from_value(service).unwrap(),
            wanted: Wanted {
                room: None,
                types: EventFilter::new(["room.*"]).unwrap(),
                grants: serde_json::from_str(r#"{"rooms": ["a", "b"]}"#).unwrap(),
            },
            expires,
            source: Source::Away(Instant::now() + Duration::from_secs(1_000_000)),
            last: 0,
            told: 0,
            stalled: STALLED,
        }
    }

    fn event(id: u64, room: &str, kind: &str) -> Event {
        let (room_id, r#type) = (room.to_owned(), kind.to_owned());
        Event { id, service_id: "s".into(), room_id, r#type, time_ms: 1, data: "{}".into() }
    }

    async fn text(out: &mut Out) -> Option<String> {
        out.recv().await.map(|piece| String::from_utf8(piece.unwrap().to_vec()).unwrap())
    }

    #[tokio::test]
    async fn what_is_not_wanted_need_not_be_asked_for_again() {
        let mut feed = feed(None);
        let told = feed.take(&event(5, "a", "room.started")).unwrap();
        assert!(told.starts_with("id: 5\nevent: room.started\ndata: {") && told.ends_with("}\n\n"), "{told}");
        assert_eq!(feed.heartbeat(), ":\n\n");
        assert_eq!(feed.take(&event(6, "a", "stream.added")), None);
        assert_eq!(feed.take(&event(7, "not granted", "room.started")), None);
        assert_eq!(feed.heartbeat(), ":\nid: 7\n\n");
        assert_eq!(feed.heartbeat(), ":\n\n");
        feed.wanted.room = Some(RoomId::new("b").unwrap());
        assert_eq!(feed.take(&event(8, "a", "room.ended")), None);
        assert!(feed.take(&event(9, "b", "room.ended")).is_some());
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_cut_off() {
        let (out, _unread) = mpsc::channel(1);
        out.send(Ok(Bytes::new())).await.unwrap();
        let mut feed = Feed { stalled: Duration::from_millis(20), ..feed(None) };
        assert_eq!(feed.send(&out).await, End::TooSlow);
    }

    #[tokio::test]
    async fn one_that_is_not_believed_any_more_hears_no_more() {
        let (out, mut heard) = mpsc::channel(1);
        let place = Places::default().take("s").unwrap();
        let expires = UnixMillis(UnixMillis::now().0 + 50);
        tokio::spawn(feed(Some(expires)).run(out, CancellationToken::new(), place));
        assert_eq!(text(&mut heard).await.as_deref(), Some(HELLO));
        assert_eq!(text(&mut heard).await, None);
        assert!(UnixMillis::now() >= expires);
    }
}
