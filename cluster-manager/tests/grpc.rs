//! The services as other processes see them: over gRPC on a loopback port.
#![allow(clippy::unwrap_used, reason = "a failing test says where")]

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use kaigi_cluster_manager::{
    Args,
    registry::{RegistryConfig, Strategies},
    run, serve,
    store::EmbeddedStore,
};
use kaigi_proto::{
    auth::ClusterSecret,
    v1::{
        self, Collection, Purpose, cluster_client::ClusterClient, cluster_event, event_delivery::Delivery,
        events_client::EventsClient, store_client::StoreClient,
    },
};
use kaigi_telemetry::Health;
use kaigi_worker::{Channel, Channels, Registration, Tasks};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::Code;

/// Reached only if a test fails.
const DEADLINE: Duration = Duration::from_secs(20);
const LEASE: Duration = Duration::from_millis(600);
const SECRET: &str = "secret of the tests";

/// A cluster-manager within the test's process.
struct Manager {
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Manager {
    async fn start(dir: &Path, address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let store = Arc::new(EmbeddedStore::open(&dir.join("kaigi.redb")).unwrap());
        let stop = CancellationToken::new();
        let config = RegistryConfig { lease: LEASE, strategies: Strategies::default() };
        let serving = serve(listener, store, config, ClusterSecret::new(SECRET), stop.clone());
        let task = tokio::spawn(async move { serving.await.unwrap() });
        Self { address, stop, task }
    }

    async fn stop(self) -> String {
        self.stop.cancel();
        within(self.task).await.unwrap();
        self.address.to_string()
    }

    fn channel(&self) -> Channel {
        Channels::new(ClusterSecret::new(SECRET)).to(&format!("http://{}", self.address)).unwrap()
    }

    fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel())
    }

    fn events(&self) -> EventsClient<Channel> {
        EventsClient::new(self.channel())
    }

    fn store(&self) -> StoreClient<Channel> {
        StoreClient::new(self.channel())
    }

    /// A worker that registers and sends heartbeats, as the real ones do.
    fn worker(&self, purpose: Purpose, id: &str, tasks: &[&str]) -> LiveWorker {
        let reported = Tasks::default();
        tasks.iter().for_each(|task| reported.insert(task));
        let registration = Registration {
            cluster: self.cluster(),
            worker: worker(purpose, id),
            capacity: kaigi_worker::Capacity::default(),
            tasks: reported,
            shutdown: kaigi_worker::Shutdown::default(),
        };
        let stop = CancellationToken::new();
        LiveWorker { task: tokio::spawn(registration.run(stop.clone(), || {})), stop }
    }
}

struct LiveWorker {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl LiveWorker {
    fn die(self) {
        self.task.abort();
    }

    async fn leave(self) {
        self.stop.cancel();
        within(self.task).await.unwrap();
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("ends in time")
}

async fn until<T>(mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "the condition does not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn worker(purpose: Purpose, id: &str) -> v1::Worker {
    let endpoint = format!("http://{id}:1");
    v1::Worker { worker_id: id.into(), purpose: purpose.into(), endpoint, ..Default::default() }
}

async fn schedule(
    cluster: &mut ClusterClient<Channel>,
    purpose: Purpose,
    task: &str,
) -> Result<String, Code> {
    let ask = v1::ScheduleRequest { purpose: purpose.into(), task: task.into(), ..Default::default() };
    let reply = cluster.schedule(ask).await.map_err(|status| status.code())?;
    Ok(reply.into_inner().worker.unwrap().worker_id)
}

async fn acquire(store: &mut StoreClient<Channel>, room: &str, worker: &str) -> Result<u64, Code> {
    let ask = v1::AcquireRoomRequest { room_id: room.into(), worker_id: worker.into() };
    within(store.acquire_room(ask))
        .await
        .map(|reply| reply.into_inner().epoch)
        .map_err(|status| status.code())
}

async fn registered(cluster: &mut ClusterClient<Channel>, id: &str) {
    until(async || {
        let workers = cluster.list_workers(v1::ListWorkersRequest {}).await.unwrap().into_inner().workers;
        workers.iter().any(|worker| worker.worker_id == id).then_some(())
    })
    .await;
}

fn told(event: v1::ClusterEvent) -> (&'static str, String) {
    match event.event.unwrap() {
        cluster_event::Event::Joined(worker) => ("joined", worker.worker_id),
        cluster_event::Event::Left(worker) => ("left", worker.worker_id),
    }
}

#[tokio::test]
async fn without_the_secret_nothing_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path(), "127.0.0.1:0").await;
    let endpoint = format!("http://{}", manager.address);
    for wrong in ["", "secret of others"] {
        let channel = Channels::new(ClusterSecret::new(wrong)).to(&endpoint).unwrap();
        let refused =
            ClusterClient::new(channel.clone()).list_workers(v1::ListWorkersRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        let refused = StoreClient::new(channel).secret(v1::SecretRequest { name: "token-key".into() }).await;
        assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
    }
}

#[tokio::test]
async fn a_worker_lives_works_and_dies() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path(), "127.0.0.1:0").await;
    let mut cluster = manager.cluster();
    assert_eq!(schedule(&mut cluster, Purpose::Access, "p").await, Err(Code::Unavailable));
    let early = manager.worker(Purpose::Mixer, "mixer-1", &[]);
    registered(&mut cluster, "mixer-1").await;
    let mut watch = cluster.watch(v1::WatchRequest {}).await.unwrap().into_inner();
    let mut next = async || told(within(watch.message()).await.unwrap().unwrap());
    assert_eq!(next().await, ("joined", "mixer-1".into()));

    let access = manager.worker(Purpose::Access, "access-1", &[]);
    assert_eq!(next().await, ("joined", "access-1".into()));
    assert_eq!(schedule(&mut cluster, Purpose::Access, "p").await.unwrap(), "access-1");
    access.die();
    let died = Instant::now();
    assert_eq!(next().await, ("left", "access-1".into()));
    assert!(died.elapsed() < LEASE * 2, "noticed after {:?}", died.elapsed());
    assert_eq!(schedule(&mut cluster, Purpose::Access, "p").await, Err(Code::Unavailable));

    early.leave().await;
    assert_eq!(next().await, ("left", "mixer-1".into()));
    manager.stop().await;
    assert_eq!(within(watch.message()).await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn scheduling_errors_say_what_is_the_matter() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path(), "127.0.0.1:0").await;
    let mut cluster = manager.cluster();
    let full = v1::Worker { load: 0.9, isps: vec!["x".into()], ..worker(Purpose::Access, "a") };
    cluster.register(v1::RegisterRequest { worker: Some(full) }).await.unwrap();
    let ask = v1::ScheduleRequest {
        purpose: Purpose::Access.into(),
        task: "p".into(),
        isp: "y".into(),
        ..Default::default()
    };
    let refused = cluster.schedule(ask.clone()).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::ResourceExhausted, "No worker available, all in full load.")
    );
    let fits = v1::CanFitRequest { purpose: Purpose::Access.into(), isp: "x".into(), ..Default::default() };
    let refused = cluster.can_fit(fits.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let beat = v1::HeartbeatRequest { worker_id: "a".into(), load: 0.1, ..Default::default() };
    cluster.heartbeat(beat.clone()).await.unwrap();
    assert_eq!(cluster.can_fit(fits).await.unwrap().into_inner().workers, 1);
    let refused = cluster.schedule(ask).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::FailedPrecondition, "No worker matches the preference.")
    );

    let code = |status: tonic::Status| status.code();
    let nonsense = v1::HeartbeatRequest { load: f64::NAN, ..beat.clone() };
    assert_eq!(code(cluster.heartbeat(nonsense).await.unwrap_err()), Code::InvalidArgument);
    let stranger = v1::HeartbeatRequest { worker_id: "b".into(), ..beat };
    assert_eq!(code(cluster.heartbeat(stranger).await.unwrap_err()), Code::NotFound);
    assert_eq!(
        code(cluster.register(v1::RegisterRequest { worker: None }).await.unwrap_err()),
        Code::InvalidArgument
    );
    assert_eq!(
        code(cluster.schedule(v1::ScheduleRequest::default()).await.unwrap_err()),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn documents_keep_their_rules_over_the_wire() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path(), "127.0.0.1:0").await;
    let mut store = manager.store();
    let put = |key: &str, create_only| v1::PutRequest {
        collection: Collection::Tokens.into(),
        key: key.into(),
        value: b"v".into(),
        ttl_ms: 600_000,
        create_only,
        expected: None,
    };
    store.put(put("b", true)).await.unwrap();
    store.put(put("a", false)).await.unwrap();
    assert_eq!(store.put(put("b", true)).await.unwrap_err().code(), Code::AlreadyExists);
    let list = v1::ListRequest { collection: Collection::Tokens.into(), ..Default::default() };
    let entries = store.list(list).await.unwrap().into_inner().entries;
    assert_eq!(entries.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let take = v1::TakeRequest { collection: Collection::Tokens.into(), key: "a".into() };
    assert_eq!(store.take(take.clone()).await.unwrap().into_inner().value.as_deref(), Some(&b"v"[..]));
    assert_eq!(store.take(take).await.unwrap().into_inner().value, None);
    let delete = v1::DeleteRequest { collection: Collection::Tokens.into(), key: "b".into() };
    assert!(store.delete(delete.clone()).await.unwrap().into_inner().existed);
    assert!(!store.delete(delete).await.unwrap().into_inner().existed);

    let over = |expected: &[u8]| v1::PutRequest { expected: Some(expected.into()), ..put("c", false) };
    assert_eq!(store.put(over(b"v")).await.unwrap_err().code(), Code::Aborted, "there is none");
    store.put(put("c", true)).await.unwrap();
    store.put(v1::PutRequest { value: vec![1; 3 << 20], ..over(b"v") }).await.unwrap();
    assert_eq!(store.put(over(b"v")).await.unwrap_err().code(), Code::Aborted, "it has changed");
    let largest = v1::PutRequest { value: vec![2; 3 << 20], ..over(&vec![1; 3 << 20]) };
    store.put(largest).await.unwrap();

    for wrong in [
        v1::PutRequest { create_only: true, ..over(b"v") },
        v1::PutRequest { key: String::new(), ..put("", false) },
        put("line\nbreak", false),
        put(&"k".repeat(300), false),
        v1::PutRequest { collection: 0, ..put("k", false) },
        v1::PutRequest { collection: 6, ..put("k", false) },
        v1::PutRequest { value: vec![0; (3 << 20) + 1], ..put("k", false) },
    ] {
        assert_eq!(store.put(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let secret =
        store.secret(v1::SecretRequest { name: "token-key".into() }).await.unwrap().into_inner().value;
    assert_eq!(secret.len(), 64);
}

#[tokio::test]
async fn lists_come_in_pages_that_fit_into_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path(), "127.0.0.1:0").await;
    let store = manager.store();
    let put = async |key: String, value: Vec<u8>| {
        let collection = Collection::Webhooks.into();
        let put = v1::PutRequest { collection, key, value, ..Default::default() };
        store.clone().put(put).await.unwrap();
    };
    let puts = (0..1_200).map(|i| put(format!("s:{i:04}"), vec![b'x'; 10]));
    futures::future::join_all(puts).await;
    for i in 0..4 {
        put(format!("t:{i}"), vec![b'y'; 1 << 20]).await;
    }
    put("t:largest".into(), vec![b'z'; 3 << 20]).await;

    let pages = async |prefix: &str, limit| {
        let collection = Collection::Webhooks.into();
        let mut ask = v1::ListRequest { collection, prefix: prefix.into(), limit, ..Default::default() };
        let mut pages = Vec::new();
        loop {
            // With the limits that a gRPC client has by itself.
            let reply = store.clone().list(ask.clone()).await.unwrap().into_inner();
            ask.after = reply.entries.last().map(|entry| entry.key.clone()).unwrap_or_default();
            pages.push(reply.entries.len());
            if !reply.more {
                return pages;
            }
        }
    };
    assert_eq!(pages("s:", 0).await, [1_000, 200]);
    assert_eq!(pages("s:", 500).await, [500, 500, 200]);
    assert_eq!(pages("s:", u32::MAX).await, [1_200]);
    assert_eq!(pages("t:", 0).await, [1, 1, 1, 1, 1]);
    assert_eq!(pages("", 0).await, [1_000, 201, 1, 1, 1, 1]);
    assert_eq!(pages("u", 0).await, [0]);

    for wrong in [
        v1::ListRequest::default(),
        v1::ListRequest { collection: 7, after: "line\nbreak".into(), ..Default::default() },
        v1::ListRequest { collection: 7, prefix: "p".repeat(257), ..Default::default() },
    ] {
        assert_eq!(store.clone().list(wrong).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn the_list_of_workers_tells_their_tasks_and_since_when_they_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path(), "127.0.0.1:0").await;
    let mut cluster = manager.cluster();
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    // What it says of that itself does not count.
    let told = v1::Worker { tasks: 9, registered_ms: 9, ..worker(Purpose::Access, "access-1") };
    cluster.register(v1::RegisterRequest { worker: Some(told) }).await.unwrap();
    for task in ["p", "q"] {
        schedule(&mut cluster, Purpose::Access, task).await.unwrap();
    }
    let list = async || {
        let list = manager.cluster().list_workers(v1::ListWorkersRequest {}).await.unwrap();
        list.into_inner().workers.remove(0)
    };
    let first = list().await;
    assert_eq!(first.tasks, 2);
    assert!(first.registered_ms >= began, "{first:?}");
    let release = v1::ReleaseRequest { purpose: Purpose::Access.into(), task: "p".into() };
    cluster.release(release).await.unwrap();
    cluster
        .register(v1::RegisterRequest { worker: Some(worker(Purpose::Access, "access-1")) })
        .await
        .unwrap();
    let then = list().await;
    assert_eq!((then.tasks, then.registered_ms), (1, first.registered_ms));
}

#[tokio::test]
async fn a_room_has_one_living_holder_and_the_next_has_a_higher_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path(), "127.0.0.1:0").await;
    let (mut cluster, mut store) = (manager.cluster(), manager.store());
    assert_eq!(acquire(&mut store, "r", "agent-1").await, Err(Code::Unavailable));
    let first = manager.worker(Purpose::Conference, "agent-1", &[]);
    let second = manager.worker(Purpose::Conference, "agent-2", &[]);
    registered(&mut cluster, "agent-1").await;
    registered(&mut cluster, "agent-2").await;
    let epoch = acquire(&mut store, "r", "agent-1").await.unwrap();
    assert_eq!(acquire(&mut store, "r", "agent-2").await, Err(Code::FailedPrecondition));
    assert_eq!(schedule(&mut cluster, Purpose::Conference, "r").await.unwrap(), "agent-1");
    let again = acquire(&mut store, "r", "agent-1").await.unwrap();
    assert!(again > epoch);

    first.die();
    let taken = until(async || acquire(&mut store, "r", "agent-2").await.ok()).await;
    assert!(taken > again);
    assert_eq!(schedule(&mut cluster, Purpose::Conference, "r").await.unwrap(), "agent-2");
    second.leave().await;
}

#[tokio::test]
async fn a_restart_forgets_no_worker_and_no_room() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path(), "127.0.0.1:0").await;
    let (mut cluster, mut store) = (manager.cluster(), manager.store());
    let silent = manager.worker(Purpose::Conference, "agent-silent", &[]);
    let living = manager.worker(Purpose::Conference, "agent-living", &["room-told"]);
    let mixer = manager.worker(Purpose::Mixer, "mixer", &["task"]);
    for id in ["agent-silent", "agent-living", "mixer"] {
        registered(&mut cluster, id).await;
    }
    let epoch = acquire(&mut store, "room-leased", "agent-living").await.unwrap();
    acquire(&mut store, "room-orphan", "agent-silent").await.unwrap();
    let address = manager.stop().await;
    silent.die();

    let manager = Manager::start(dir.path(), &address).await;
    let (mut cluster, mut store) = (manager.cluster(), manager.store());
    let mut watch = cluster.watch(v1::WatchRequest {}).await.unwrap().into_inner();
    let mut alive = Vec::new();
    while alive.len() < 3 {
        let (what, id) = told(within(watch.message()).await.unwrap().unwrap());
        assert_eq!(what, "joined");
        alive.push(id);
    }
    alive.sort();
    assert_eq!(alive, ["agent-living", "agent-silent", "mixer"]);
    // Waits for the remembered holder's heartbeat, and places nothing elsewhere meanwhile.
    assert_eq!(schedule(&mut cluster, Purpose::Conference, "room-leased").await.unwrap(), "agent-living");
    // Waits until the remembered holder is given up, then grants.
    assert!(acquire(&mut store, "room-orphan", "agent-living").await.unwrap() > epoch);
    assert_eq!(told(within(watch.message()).await.unwrap().unwrap()), ("left", "agent-silent".into()));
    let lookup = v1::LookupRequest { purpose: Purpose::Mixer.into(), task: "task".into() };
    until(async || cluster.lookup(lookup.clone()).await.unwrap().into_inner().worker).await;
    living.leave().await;
    mixer.leave().await;
}

#[tokio::test]
async fn the_process_serves_what_it_says_and_stops() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("made/by/itself");
    let args = ["x", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()];
    let args = Args::try_parse_from(args).unwrap();
    let (health, stop) = (Health::detached(), CancellationToken::new());
    let process = tokio::spawn(run(args.clone(), health.clone(), stop.clone()));
    until(async || health.is_ready().then_some(())).await;
    assert!(data.join("credentials.json").exists());
    let second = run(args, Health::detached(), CancellationToken::new()).await.unwrap_err();
    assert!(second.to_string().contains("in use"), "{second}");
    stop.cancel();
    within(process).await.unwrap().unwrap();
    assert!(!health.is_ready());

    let credentials = std::fs::read(data.join("credentials.json")).unwrap();
    let credentials: serde_json::Value = serde_json::from_slice(&credentials).unwrap();
    let stored = std::fs::read(data.join("kaigi.redb")).unwrap();
    let shows = |text: &str| stored.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(shows(credentials["room"].as_str().unwrap()), "the file is looked into");
    assert!(!shows(credentials["key"].as_str().unwrap()), "credentials are sealed in it");
}

fn events(first_seq: u64, rooms: &[&str]) -> v1::PublishEventsRequest {
    let event = |room: &&str| v1::Event {
        service_id: "s".into(),
        room_id: (*room).into(),
        r#type: "room.started".into(),
        time_ms: 1,
        data: "{}".into(),
        ..v1::Event::default()
    };
    let events = rooms.iter().map(event).collect();
    v1::PublishEventsRequest { publisher: "agent-1".into(), first_seq, events }
}

#[tokio::test]
async fn events_are_published_once_and_watched_by_service_after_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path(), "127.0.0.1:0").await;
    let mut hub = manager.events();
    hub.publish(events(1, &["a", "b"])).await.unwrap();
    hub.publish(events(2, &["b", "c"])).await.unwrap();
    let watch = |service: &str, after| v1::WatchEventsRequest { service_id: service.into(), after };
    let mut all = hub.watch(watch("", 1)).await.unwrap().into_inner();
    let mut next = async || match within(all.message()).await.unwrap().unwrap().delivery.unwrap() {
        Delivery::Event(event) => (event.id, event.room_id),
        Delivery::Gap(_) => (0, "gap".into()),
    };
    assert_eq!(next().await.1, "gap", "what was before this process is not known");
    let (first, _) = next().await;
    assert_eq!([next().await.1, next().await.1], ["b", "c"]);

    let mut own = hub.watch(watch("s", first)).await.unwrap().into_inner();
    let mut others = hub.watch(watch("another", first)).await.unwrap().into_inner();
    for room in ["b", "c"] {
        let delivery = within(own.message()).await.unwrap().unwrap().delivery.unwrap();
        assert!(matches!(delivery, Delivery::Event(event) if event.room_id == room && event.id > first));
    }
    manager.stop().await;
    let end = within(others.message()).await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "and nothing before");
}

#[tokio::test]
async fn what_is_no_publication_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path(), "127.0.0.1:0").await;
    let mut hub = manager.events();
    let nobody = v1::PublishEventsRequest { publisher: String::new(), ..events(1, &["a"]) };
    for bad in [nobody, events(0, &["a"]), events(1, &[]), events(1, &["a"; 257])] {
        assert_eq!(hub.publish(bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let no_service = v1::WebhookStatusRequest { service_id: "a/b".into() };
    assert_eq!(hub.webhook_status(no_service).await.unwrap_err().code(), Code::InvalidArgument);
    // What is no event is left out; the others count.
    let mut watch = hub.watch(v1::WatchEventsRequest::default()).await.unwrap().into_inner();
    hub.publish(events(1, &["a b", "c"])).await.unwrap();
    let delivery = within(watch.message()).await.unwrap().unwrap().delivery.unwrap();
    assert!(matches!(delivery, Delivery::Event(event) if event.room_id == "c"));
    manager.stop().await;
}

#[tokio::test]
async fn a_room_that_is_handed_over_keeps_what_is_known_of_it_for_whoever_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path(), "127.0.0.1:0").await;
    let (mut cluster, mut store) = (manager.cluster(), manager.store());
    let a = manager.worker(Purpose::Conference, "a", &["r"]);
    until(async || acquire(&mut store, "r", "a").await.ok()).await;
    let write = |epoch, version| v1::WriteSnapshotRequest {
        room_id: "r".into(),
        epoch,
        version,
        whole: true,
        parts: vec![v1::SnapshotPart { key: "head".into(), value: b"all".to_vec() }],
        removed: Vec::new(),
    };
    store.write_snapshot(write(1, 1)).await.unwrap();
    let give_up = v1::ReleaseRoomRequest { room_id: "r".into(), worker_id: "a".into(), hand_over: true };
    store.release_room(give_up.clone()).await.unwrap();
    let late = store.write_snapshot(write(1, 2)).await.unwrap_err();
    assert_eq!(late.code(), Code::FailedPrecondition, "nothing more is said of it");
    store.release_room(give_up).await.unwrap();

    let orphans = store.list_orphans(v1::ListOrphansRequest {}).await.unwrap().into_inner();
    assert_eq!(orphans.room_ids, ["r"]);
    let drain = v1::DrainRequest { worker_id: "a".into() };
    cluster.drain(drain.clone()).await.unwrap();
    let b = manager.worker(Purpose::Conference, "b", &[]);
    until(async || (schedule(&mut cluster, Purpose::Conference, "r").await.ok()? == "b").then_some(())).await;
    assert!(acquire(&mut store, "r", "b").await.unwrap() > 1);
    let mut kept = store.read_snapshot(v1::ReadSnapshotRequest { room_id: "r".into() }).await.unwrap();
    assert_eq!(kept.get_mut().message().await.unwrap().unwrap().parts[0].value, b"all");
    b.leave().await;
    a.leave().await;
    assert_eq!(cluster.drain(drain).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_worker_that_is_to_drain_is_told_and_all_others_see_it() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path(), "127.0.0.1:0").await;
    let mut cluster = manager.cluster();
    let shutdown = kaigi_worker::Shutdown::default();
    let registration = Registration {
        cluster: manager.cluster(),
        worker: worker(Purpose::Mixer, "m"),
        capacity: kaigi_worker::Capacity::default(),
        tasks: Tasks::default(),
        shutdown: shutdown.clone(),
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(registration.run(stop.clone(), || {}));
    let drain = v1::DrainRequest { worker_id: "m".into() };
    until(async || cluster.drain(drain.clone()).await.ok()).await;
    within(shutdown.draining()).await;
    let is_draining = async || {
        let workers =
            manager.cluster().list_workers(v1::ListWorkersRequest {}).await.ok()?.into_inner().workers;
        workers.first()?.draining.then_some(())
    };
    until(is_draining).await;
    let refused = schedule(&mut cluster, Purpose::Mixer, "r").await;
    assert_eq!(refused, Err(Code::Unavailable));
    stop.cancel();
    within(running).await.unwrap();
}
