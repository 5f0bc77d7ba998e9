//! The hub with a store of its own and endpoints on loopback ports.

use std::{path::Path, sync::Arc, time::Duration};

use kaigi_proto::{
    events::{EventFilter, WebhookDocument, WebhookSecret},
    ids::{ServiceId, WebhookId, WorkerId},
    v1,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    EventSettings, Sender,
    event::{Draft, EventId, tests::wire},
    hub::{Hub, start},
    watchers::{End, Watch},
    webhook::tests::{Endpoint, Request},
};
use crate::store::{Collection, EmbeddedStore, Key, OpenError, PutMode, Store};

/// Reached only if a test fails.
const DEADLINE: Duration = Duration::from_secs(20);

pub(super) fn document(service: &str, id: &str, url: &str, events: &[&str]) -> WebhookDocument {
    WebhookDocument {
        id: WebhookId::new(id).unwrap(),
        service: ServiceId::new(service).unwrap(),
        all_services: false,
        url: url.to_owned(),
        events: EventFilter::new(events).unwrap(),
        secret: WebhookSecret::from_bytes([7; 32]).unwrap(),
        retired: None,
        active: true,
        deactivated: None,
        created: 0,
    }
}

/// A hub within the test's process.
struct Running {
    hub: Hub,
    store: Arc<EmbeddedStore>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(dir: &Path) -> Self {
        // What a killed hub had begun to write still holds the file.
        let opened = async {
            loop {
                match EmbeddedStore::open(&dir.join("kaigi.redb")) {
                    Ok(store) => return Arc::new(store),
                    Err(OpenError::InUse) => tokio::time::sleep(Duration::from_millis(5)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let store = within(opened).await;
        let (settings, stop) = (EventSettings::default(), CancellationToken::new());
        let sender = Sender::new(settings.targets).unwrap();
        let (hub, task) = start(store.clone(), settings, sender, stop.clone()).await.unwrap();
        Self { hub, store, stop, task }
    }

    /// A clean end.
    async fn stop(self) {
        self.stop.cancel();
        within(self.task).await.unwrap();
    }

    /// As if it had been killed.
    async fn kill(self) {
        self.task.abort();
        let _: Result<_, _> = self.task.await;
    }

    async fn publish(&self, publisher: &str, first_seq: u64, events: &[v1::Event]) {
        let drafts = events.iter().map(|event| Draft::try_from(event.clone()).ok()).collect();
        within(self.hub.publish(WorkerId::new(publisher).unwrap(), first_seq, drafts)).await.unwrap();
    }

    async fn put(&self, document: &WebhookDocument) {
        let key = Key::new(&WebhookDocument::key(&document.service, &document.id)).unwrap();
        let value = serde_json::to_vec(document).unwrap();
        self.store.put(Collection::Webhooks, &key, value, None, PutMode::Replace).await.unwrap();
        self.changed(document).await;
    }

    async fn delete(&self, document: &WebhookDocument) {
        let key = Key::new(&WebhookDocument::key(&document.service, &document.id)).unwrap();
        self.store.delete(Collection::Webhooks, &key).await.unwrap();
        self.changed(document).await;
    }

    async fn changed(&self, document: &WebhookDocument) {
        within(self.hub.changed((document.service.clone(), document.id.clone()))).await.unwrap().unwrap();
    }

    async fn status(&self, service: &str) -> Vec<v1::WebhookStatus> {
        within(self.hub.status(ServiceId::new(service).unwrap())).await.unwrap()
    }

    /// Waits until the status of a service's only webhook is so.
    async fn until(
        &self,
        service: &str,
        condition: impl Fn(&v1::WebhookStatus) -> bool,
    ) -> v1::WebhookStatus {
        within(async {
            loop {
                if let [status] = &self.status(service).await[..]
                    && condition(status)
                {
                    return status.clone();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    /// Documents of the hub's own.
    async fn kept(&self) -> usize {
        let all = self.store.list(Collection::Events, None, 1000).await.unwrap();
        all.iter().filter(|document| document.key.as_str().starts_with("events:")).count()
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("ends in time")
}

fn started(room: &str) -> v1::Event {
    v1::Event { room_id: room.into(), ..wire("s", "room.started", "{}") }
}

async fn next(watch: &mut Watch) -> Result<String, End> {
    within(watch.next()).await.map(|event| event.wire().room_id.clone())
}

/// The room that the next request tells of, which is answered with that status.
async fn told(requests: &mut mpsc::Receiver<Request>, status: u16) -> String {
    let request = within(requests.recv()).await.unwrap();
    let room = request.body()["room"].as_str().unwrap_or_default().to_owned();
    request.answer(status);
    room
}

#[tokio::test]
async fn watchers_hear_what_is_published_once() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Running::start(dir.path()).await;
    let mut watch = hub.hub.watch(None, None).unwrap();
    hub.publish("agent", 1, &[started("a"), started("b")]).await;
    hub.publish("agent", 1, &[started("a"), started("b"), started("c")]).await;
    for room in ["a", "b", "c"] {
        assert_eq!(next(&mut watch).await.unwrap(), room);
    }
    hub.stop().await;
    assert_eq!(next(&mut watch).await, Err(End::Stopped));
}

#[tokio::test]
async fn numbers_rise_over_restarts_and_the_gap_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Running::start(dir.path()).await;
    let mut watch = hub.hub.watch(None, None).unwrap();
    hub.publish("agent", 1, &[started("a")]).await;
    let before = within(watch.next()).await.unwrap().id();
    hub.kill().await;
    let hub = Running::start(dir.path()).await;
    let mut back = hub.hub.watch(None, Some(before)).unwrap();
    assert!(back.gap);
    hub.publish("agent", 2, &[started("b")]).await;
    assert!(within(back.next()).await.unwrap().id() > before);
    hub.stop().await;
}

#[tokio::test]
async fn a_webhook_is_told_what_it_asked_for_in_order_and_signed() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Running::start(dir.path()).await;
    let (endpoint, mut requests) = Endpoint::start().await;
    hub.put(&document("s", "w", &endpoint.url, &["room.*"])).await;
    let other = v1::Event { service_id: "other".into(), ..started("x") };
    hub.publish("agent", 1, &[started("a"), wire("s", "stream.added", "{}"), other, started("b")]).await;
    let first = within(requests.recv()).await.unwrap();
    assert_eq!(first.body()["type"], "room.started");
    assert_eq!(first.header("webhook-id"), first.body()["id"].as_str().unwrap());
    assert!(first.header("webhook-signature").starts_with("v1,"));
    assert_eq!(first.header("content-type"), "application/json");
    first.answer(204);
    assert_eq!(told(&mut requests, 200).await, "b");
    let status = hub.until("s", |status| status.delivered == 2).await;
    assert_eq!((status.queued, status.failures, status.lost), (0, 0, 0));
    assert!(status.last_success_ms > 0);
    hub.stop().await;
}

#[tokio::test]
async fn what_fails_is_tried_again_before_anything_else_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Running::start(dir.path()).await;
    let (endpoint, mut requests) = Endpoint::start().await;
    hub.put(&document("s", "w", &endpoint.url, &[])).await;
    hub.publish("agent", 1, &[started("a"), started("b")]).await;
    assert_eq!(told(&mut requests, 503).await, "a");
    let failed = hub.until("s", |status| status.failures == 1).await;
    assert_eq!((failed.last_error.as_str(), failed.queued), ("status 503", 2));
    assert!(failed.next_try_ms > 0);
    assert_eq!(told(&mut requests, 200).await, "a");
    assert_eq!(told(&mut requests, 200).await, "b");
    hub.until("s", |status| status.delivered == 2 && status.failures == 0 && status.last_error.is_empty())
        .await;
    hub.stop().await;
}

#[tokio::test]
async fn a_dead_endpoint_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Running::start(dir.path()).await;
    let (endpoint, mut requests) = Endpoint::start().await;
    // It accepts connections and never answers.
    let (silent, mut swallowed) = Endpoint::start().await;
    hub.put(&document("s", "a", &silent.url, &[])).await;
    hub.put(&document("s", "b", &endpoint.url, &[])).await;
    for seq in 1..=50 {
        hub.publish("agent", seq, &[started("a")]).await;
    }
    let _unanswered = within(swallowed.recv()).await.unwrap();
    for _ in 1..=50 {
        told(&mut requests, 200).await;
    }
    hub.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_left_alone_until_somebody_wants_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Running::start(dir.path()).await;
    let (endpoint, mut requests) = Endpoint::start().await;
    let webhook = document("s", "w", &endpoint.url, &[]);
    hub.put(&webhook).await;
    hub.publish("agent", 1, &[started("a"), started("b")]).await;
    assert_eq!(told(&mut requests, 410).await, "a");
    let status = hub.until("s", |status| status.lost == 2).await;
    assert_eq!((status.last_error.as_str(), status.queued), ("status 410", 0));
    let stored = within(async {
        loop {
            let value =
                hub.store.get(Collection::Webhooks, &Key::new("s:w").unwrap()).await.unwrap().unwrap();
            let stored: WebhookDocument = serde_json::from_slice(&value).unwrap();
            if !stored.active {
                return stored;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(stored.deactivated.as_deref(), Some("status 410"));
    hub.publish("agent", 3, &[started("c")]).await;
    hub.put(&webhook).await;
    hub.publish("agent", 4, &[started("d")]).await;
    assert_eq!(told(&mut requests, 200).await, "d");
    hub.stop().await;
}

#[tokio::test]
async fn events_outlive_a_hub_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Running::start(dir.path()).await;
    let (endpoint, mut requests) = Endpoint::start().await;
    hub.put(&document("s", "w", &endpoint.url, &[])).await;
    hub.publish("agent", 1, &[started("a"), started("b")]).await;
    assert_eq!(told(&mut requests, 500).await, "a");
    hub.kill().await;

    let hub = Running::start(dir.path()).await;
    // The publisher had no answer, for all it knows.
    hub.publish("agent", 1, &[started("a"), started("b"), started("c")]).await;
    for room in ["a", "b", "c"] {
        assert_eq!(told(&mut requests, 200).await, room);
    }
    hub.until("s", |status| status.delivered == 3).await;
    hub.stop().await;
}

#[tokio::test]
async fn what_was_delivered_is_not_told_again_after_a_restart_nor_kept() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Running::start(dir.path()).await;
    let (endpoint, mut requests) = Endpoint::start().await;
    hub.put(&document("s", "w", &endpoint.url, &[])).await;
    hub.publish("agent", 1, &[started("a")]).await;
    assert_eq!(told(&mut requests, 200).await, "a");
    hub.until("s", |status| status.delivered == 1).await;
    hub.stop().await;

    let hub = Running::start(dir.path()).await;
    assert_eq!(hub.status("s").await[0].delivered, 1, "counts go on");
    hub.publish("agent", 2, &[started("b")]).await;
    assert_eq!(told(&mut requests, 200).await, "b");
    hub.until("s", |status| status.delivered == 2).await;
    within(async {
        while hub.kept().await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    hub.stop().await;
}

#[tokio::test]
async fn events_that_nobody_waits_for_are_written_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Running::start(dir.path()).await;
    hub.put(&document("s", "w", "http://127.0.0.1:1/", &["stream.*"])).await;
    hub.publish("agent", 1, &[started("a")]).await;
    assert_eq!(hub.kept().await, 0);
    hub.stop().await;
}

#[tokio::test]
async fn a_super_services_webhook_hears_all_and_a_deleted_one_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Running::start(dir.path()).await;
    let (endpoint, mut requests) = Endpoint::start().await;
    let all = WebhookDocument { all_services: true, ..document("super", "w", &endpoint.url, &[]) };
    let own = document("s", "v", &endpoint.url, &[]);
    hub.put(&all).await;
    hub.put(&own).await;
    hub.delete(&own).await;
    hub.publish("agent", 1, &[started("a"), started("b")]).await;
    assert_eq!(told(&mut requests, 200).await, "a");
    assert_eq!(told(&mut requests, 200).await, "b");
    assert!(hub.status("s").await.is_empty());
    hub.stop().await;
}

#[tokio::test]
async fn a_ping_goes_to_one_webhook_and_to_no_watcher() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Running::start(dir.path()).await;
    let (endpoint, mut requests) = Endpoint::start().await;
    let mut watch = hub.hub.watch(None, Some(EventId(0))).unwrap();
    hub.put(&document("s", "w", &endpoint.url, &["stream.added"])).await;
    hub.put(&document("s", "v", "http://127.0.0.1:1/", &[])).await;
    let ping = v1::Event { room_id: String::new(), ..wire("s", "ping", r#"{"webhook":"w"}"#) };
    hub.publish("portal", 1, &[ping]).await;
    let request = within(requests.recv()).await.unwrap();
    assert_eq!((&request.body()["type"], &request.body()["data"]["webhook"]), (&"ping".into(), &"w".into()));
    request.answer(200);
    assert!(hub.status("s").await.iter().any(|status| status.webhook_id == "v" && status.queued == 0));
    hub.publish("portal", 2, &[started("a")]).await;
    assert_eq!(next(&mut watch).await.unwrap(), "a");
    hub.stop().await;
}
