//! What services are told: webhooks as resources, events as a stream.

use std::pin::Pin;

use kaigi_proto::v1::{
    Collection, Event, EventDelivery, EventGap, PublishEventsReply, PublishEventsRequest, WatchEventsRequest,
    WebhookChangedReply, WebhookChangedRequest, WebhookStatus, WebhookStatusReply, WebhookStatusRequest,
    event_delivery::Delivery, events_server::Events,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    House, PATIENCE,
    cluster::{Cluster, KEY, OTHER_SERVICE, ROOM, SERVICE},
    eventually,
    http::mauth,
};

/// What the hub was asked, and those who watch.
#[derive(Default)]
pub(crate) struct Hub {
    published: Vec<Event>,
    watches: Vec<(WatchEventsRequest, mpsc::Sender<Result<EventDelivery, Status>>)>,
    changed: Vec<WebhookChangedRequest>,
    /// What the next watches are refused with.
    away: Option<Status>,
}

#[tonic::async_trait]
impl Events for Cluster {
    type WatchStream = Pin<Box<dyn futures::Stream<Item = Result<EventDelivery, Status>> + Send>>;

    async fn publish(
        &self,
        request: Request<PublishEventsRequest>,
    ) -> Result<Response<PublishEventsReply>, Status> {
        self.state().hub.published.extend(request.into_inner().events);
        Ok(Response::new(PublishEventsReply {}))
    }

    async fn watch(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut state = self.state();
        if let Some(status) = state.hub.away.clone() {
            return Err(status);
        }
        let (to, from) = mpsc::channel(16);
        state.hub.watches.push((request.into_inner(), to));
        Ok(Response::new(Box::pin(ReceiverStream::new(from))))
    }

    async fn webhook_status(
        &self,
        _: Request<WebhookStatusRequest>,
    ) -> Result<Response<WebhookStatusReply>, Status> {
        let status = |id: String| WebhookStatus { webhook_id: id, queued: 3, ..WebhookStatus::default() };
        let changed = self.state().hub.changed.first().map(|request| request.webhook_id.clone());
        Ok(Response::new(WebhookStatusReply { webhooks: changed.map(status).into_iter().collect() }))
    }

    async fn webhook_changed(
        &self,
        request: Request<WebhookChangedRequest>,
    ) -> Result<Response<WebhookChangedReply>, Status> {
        self.state().hub.changed.push(request.into_inner());
        Ok(Response::new(WebhookChangedReply {}))
    }
}

impl Cluster {
    /// Tells the last watch something.
    async fn deliver(&self, delivery: Result<EventDelivery, Status>) {
        let watch = self.state().hub.watches.last().unwrap().1.clone();
        watch.send(delivery).await.unwrap();
    }

    async fn happen(&self, id: u64, room: &str, kind: &str) {
        let event = Event {
            id,
            service_id: SERVICE.into(),
            room_id: room.into(),
            r#type: kind.into(),
            time_ms: 1,
            data: "{}".into(),
        };
        self.deliver(Ok(EventDelivery { delivery: Some(Delivery::Event(event)) })).await;
    }

    fn watches(&self) -> Vec<WatchEventsRequest> {
        self.state().hub.watches.iter().map(|(request, _)| request.clone()).collect()
    }
}

/// A client of a stream of events.
struct Stream {
    lines: BufReader<TcpStream>,
    head: String,
}

impl House {
    async fn events(&self, query: &str, headers: &str) -> Stream {
        let mut socket = TcpStream::connect(self.management).await.unwrap();
        let authorization = mauth(SERVICE, KEY);
        let request = format!(
            "GET /v1/events{query} HTTP/1.1\r\nhost: x\r\nauthorization: {authorization}\r\n{headers}\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut stream = Stream { lines: BufReader::new(socket), head: String::new() };
        loop {
            let line = stream.raw().await.expect("a head");
            if line.is_empty() {
                return stream;
            }
            stream.head.push_str(&line);
            stream.head.push('\n');
        }
    }
}

impl Stream {
    /// The next line as it comes, without its end; `None` at the end.
    async fn raw(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.lines.read_line(&mut line);
        let read = tokio::time::timeout(PATIENCE, read).await.expect("comes in time").unwrap_or(0);
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// The next line that is something of an event; lengths of chunks and empty lines are not.
    async fn line(&mut self) -> Option<String> {
        loop {
            let line = self.raw().await?;
            if line == "0" {
                return None;
            }
            if line.contains(':') {
                return Some(line);
            }
        }
    }

    /// The number and the type of the next event.
    async fn event(&mut self) -> (String, String) {
        let (id, kind, data) =
            (self.line().await.unwrap(), self.line().await.unwrap(), self.line().await.unwrap());
        let told: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(kind, format!("event: {}", told["type"].as_str().unwrap()));
        assert_eq!(id, format!("id: {}", told["id"].as_str().unwrap()));
        (told["id"].as_str().unwrap().to_owned(), told["type"].as_str().unwrap().to_owned())
    }
}

fn event(id: &str, kind: &str) -> (String, String) {
    (id.to_owned(), kind.to_owned())
}

#[tokio::test]
async fn management_is_told_of() {
    let house = House::new().await;
    let room = house.rest("POST", "/v1/rooms", json!({"name": "a"})).await.json()["id"].clone();
    let room = room.as_str().unwrap();
    house.rest("PUT", &format!("/v1/rooms/{room}"), json!({"name": "b"})).await;
    house.rest("DELETE", &format!("/v1/rooms/{room}"), Value::Null).await;
    house.rest("DELETE", &format!("/v1/rooms/{room}"), Value::Null).await;
    eventually("three events", || house.cluster.state().hub.published.len() == 3).await;
    let told: Vec<_> = house.cluster.state().hub.published.clone();
    assert_eq!(
        told.iter().map(|e| (e.r#type.as_str(), e.data.as_str())).collect::<Vec<_>>(),
        [
            ("room.created", &*json!({"room": {"id": room, "name": "a"}}).to_string()),
            ("room.updated", &*json!({"room": {"id": room, "name": "b"}}).to_string()),
            ("room.deleted", &*json!({"room": {"id": room, "name": "b"}}).to_string()),
        ]
    );
    assert!(told.iter().all(|e| e.service_id == SERVICE && e.room_id == room && e.time_ms > 0));
}

#[tokio::test]
async fn a_stream_tells_what_is_wanted() {
    let house = House::new().await;
    let mut stream = house.events(&format!("?room={ROOM}&types=room.*"), "").await;
    assert!(stream.head.starts_with("HTTP/1.1 200"), "{}", stream.head);
    assert!(stream.head.contains("transfer-encoding: chunked"), "{}", stream.head);
    assert_eq!(stream.line().await.unwrap(), "retry: 1000");
    let expected = WatchEventsRequest { service_id: SERVICE.into(), after: 0 };
    assert_eq!(house.cluster.watches(), [expected]);
    house.cluster.happen(11, ROOM, "room.started").await;
    house.cluster.happen(12, "another", "room.started").await;
    house.cluster.happen(13, ROOM, "stream.added").await;
    house.cluster.happen(14, ROOM, "room.ended").await;
    assert_eq!(stream.event().await, event("11", "room.started"));
    assert_eq!(stream.event().await, event("14", "room.ended"));
}

#[tokio::test]
async fn a_client_goes_on_where_it_was() {
    let house = House::new().await;
    for (query, header) in
        [("", "Last-Event-ID: 77\r\n"), ("?after=77", ""), ("?after=5", "last-event-id: 77\r\n")]
    {
        house.events(query, header).await;
        assert_eq!(house.cluster.watches().last().unwrap().after, 77);
    }
    house.events("?after=0", "").await;
    assert_eq!(house.cluster.watches().last().unwrap().after, 1, "all that is kept");
    let gap = EventDelivery { delivery: Some(Delivery::Gap(EventGap {})) };
    let mut stream = house.events("?after=77", "").await;
    house.cluster.deliver(Ok(gap)).await;
    for line in ["retry: 1000", "event: gap", "data: {\"type\":\"gap\"}"] {
        assert_eq!(stream.line().await.unwrap(), line);
    }
}

#[tokio::test]
async fn a_hub_that_comes_back_is_listened_to_again() {
    let house = House::new().await;
    let mut stream = house.events("", "").await;
    house.cluster.happen(11, ROOM, "room.started").await;
    house.cluster.happen(12, "", "room.created").await;
    stream.line().await.unwrap();
    stream.event().await;
    stream.event().await;
    house.cluster.state().hub.away = Some(Status::unavailable("away"));
    house.cluster.deliver(Err(Status::unavailable("the watch has ended"))).await;
    house.cluster.state().hub.away = None;
    eventually("another watch", || house.cluster.watches().len() == 2).await;
    assert_eq!(house.cluster.watches()[1].after, 12);
    house.cluster.happen(13, ROOM, "room.ended").await;
    assert_eq!(stream.event().await, event("13", "room.ended"));
}

#[tokio::test]
async fn a_stream_that_never_told_anything_has_a_gap_after_the_hub_was_away() {
    let house = House::new().await;
    let mut stream = house.events("", "").await;
    assert_eq!(stream.line().await.unwrap(), "retry: 1000");
    house.cluster.deliver(Err(Status::unavailable("the watch has ended"))).await;
    assert_eq!(stream.line().await.unwrap(), "event: gap");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off_as_the_hub_says() {
    let house = House::new().await;
    let mut stream = house.events("", "").await;
    stream.line().await.unwrap();
    house.cluster.deliver(Err(Status::resource_exhausted("the watcher does not read"))).await;
    assert_eq!(stream.line().await, None);
}

#[tokio::test]
async fn streams_end_with_the_portal() {
    let mut house = House::new().await;
    let mut stream = house.events("", "").await;
    stream.line().await.unwrap();
    house.stop.cancel();
    assert_eq!(stream.line().await, None);
    tokio::time::timeout(PATIENCE, &mut house.ended).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn without_a_hub_there_is_no_stream() {
    let house = House::new().await;
    house.cluster.state().hub.away = Some(Status::unavailable("away"));
    assert!(house.events("", "").await.head.starts_with("HTTP/1.1 500"));
}

#[tokio::test]
async fn webhooks_are_made_changed_and_deleted() {
    let house = House::new().await;
    let path = format!("/services/{SERVICE}/webhooks");
    let url = "https://example.com/hook";
    let made = house.rest("POST", &path, json!({"url": url, "events": ["room.*"]})).await.json();
    let id = made["id"].as_str().unwrap();
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!(
        (&made["url"], &made["events"], &made["active"]),
        (&url.into(), &json!(["room.*"]), &true.into())
    );
    let stored = house.cluster.document(Collection::Webhooks, &format!("{SERVICE}:{id}")).unwrap();
    assert_eq!((&stored["allServices"], &stored["secret"]), (&false.into(), &made["secret"]));
    assert_eq!(house.cluster.state().hub.changed[0].webhook_id, id);

    let one = format!("{path}/{id}");
    let shown = house.rest("GET", &one, Value::Null).await.json();
    assert_eq!((&shown["status"]["queued"], shown.get("secret")), (&3.into(), None));
    let changed = house.rest("PUT", &one, json!({"events": [], "active": false})).await.json();
    assert_eq!(
        (&changed["events"], &changed["active"], &changed["url"]),
        (&json!([]), &false.into(), &url.into())
    );
    assert_eq!(house.rest("POST", &format!("{one}/ping"), Value::Null).await.status, 400);
    let renewed = house.rest("POST", &format!("{one}/secret"), Value::Null).await.json();
    let stored = house.cluster.document(Collection::Webhooks, &format!("{SERVICE}:{id}")).unwrap();
    assert_eq!((&stored["secret"], &stored["retired"]["secret"]), (&renewed["secret"], &made["secret"]));

    assert_eq!(house.rest("DELETE", &one, Value::Null).await.status, 200);
    assert_eq!(house.rest("GET", &one, Value::Null).await.code(), (404, 1001));
    assert_eq!(house.cluster.state().hub.changed.len(), 4);
    let strange = format!("/services/{OTHER_SERVICE}/webhooks");
    assert_eq!(house.rest("GET", &strange, Value::Null).await.code(), (403, 1102));
}
