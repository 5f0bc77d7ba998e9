//! Several cluster-managers on one Redis: one leads, and whoever kills, pauses or cuts it off finds another, or the same one, with all that
//! was known.
#![allow(clippy::unwrap_used, reason = "a failing test says where")]

mod support;

use std::time::{Duration, Instant};

use kaigi_proto::{
    auth::ClusterSecret,
    v1::{
        self, Collection, LeaderReply, Purpose, cluster_client::ClusterClient, cluster_event::Event,
        group_client::GroupClient, store_client::StoreClient,
    },
};
use kaigi_worker::{Capacity, Channel, Channels, Registration, Shutdown, Tasks};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use support::{DEADLINE, Manager, Process, SECRET, free_port, redis};

/// Cluster-managers on one Redis, each with a data directory of its own.
struct Cluster {
    redis: Process,
    port: u16,
    managers: Vec<Manager>,
    dir: tempfile::TempDir,
}

impl Cluster {
    async fn start(count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let data = dir.path().join("redis");
        std::fs::create_dir(&data).unwrap();
        let redis = redis(&data, port);
        std::fs::write(dir.path().join("seal.key"), "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").unwrap();
        let mut cluster = Self { redis, port, managers: Vec::new(), dir };
        for _ in 0..count {
            cluster.add().await;
        }
        cluster
    }

    async fn add(&mut self) {
        let key = self.dir.path().join("seal.key").to_str().unwrap().to_owned();
        let redis = format!("redis://127.0.0.1:{}", self.port);
        let more = ["--redis".to_owned(), redis, "--seal-key-file".to_owned(), key];
        let data = self.dir.path().join(format!("manager-{}", self.managers.len()));
        self.managers.push(Manager::start(&data, &more).await);
    }

    fn restart_redis(&mut self) {
        self.redis = redis(&self.dir.path().join("redis"), self.port);
    }

    /// To whichever leads, as all processes reach it.
    fn channel(&self) -> Channel {
        let endpoints: Vec<&str> = self.managers.iter().map(|manager| manager.endpoint.as_str()).collect();
        Channels::new(ClusterSecret::new(SECRET)).to_cluster(&endpoints.join(",")).unwrap()
    }

    /// Which one leads, and in which term; nobody of `but`.
    async fn leader(&self, but: Option<usize>) -> (usize, u64) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let mut leading = Vec::new();
            for (index, manager) in self.managers.iter().enumerate().filter(|(index, _)| Some(*index) != but)
            {
                if let Ok(LeaderReply { leads: true, term, .. }) = said(manager).await {
                    leading.push((term, index));
                }
            }
            if let Some((term, index)) = leading.into_iter().max() {
                return (index, term);
            }
            assert!(Instant::now() < deadline, "nobody leads");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What one of them says.
async fn said(manager: &Manager) -> Result<LeaderReply, tonic::Status> {
    let channel = direct(manager);
    let mut request = tonic::Request::new(v1::LeaderRequest {});
    request.set_timeout(Duration::from_secs(1));
    Ok(GroupClient::new(channel).leader(request).await?.into_inner())
}

/// To that one, whether it leads or not.
fn direct(manager: &Manager) -> Channel {
    Channels::new(ClusterSecret::new(SECRET)).to(&manager.endpoint).unwrap()
}

fn signal(manager: &Manager, signal: Signal) {
    kill(Pid::from_raw(manager.process.0.id().try_into().unwrap()), signal).unwrap();
}

/// A worker with tasks, which registers and sends heartbeats as the real ones do.
fn worker(channel: Channel, purpose: Purpose, id: &str, tasks: &[&str]) -> CancellationToken {
    let reported = Tasks::default();
    tasks.iter().for_each(|task| reported.insert(task));
    let registration = Registration {
        cluster: ClusterClient::new(channel),
        worker: v1::Worker { worker_id: id.into(), purpose: purpose.into(), ..v1::Worker::default() },
        capacity: Capacity::default(),
        tasks: reported,
        shutdown: Shutdown::default(),
    };
    let stop = CancellationToken::new();
    tokio::spawn(registration.run(stop.clone(), || {}));
    stop
}

async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn workers(channel: &Channel) -> Option<Vec<v1::Worker>> {
    let listed = ClusterClient::new(channel.clone()).list_workers(v1::ListWorkersRequest {}).await;
    Some(listed.ok()?.into_inner().workers)
}

/// A call that is made in the moment of a death may still go by the connection that is broken; who makes it makes it again.
async fn put_after_all(channel: &Channel, key: &str) {
    let deadline = Instant::now() + DEADLINE;
    while let Err(status) = put(channel, key).await {
        assert!(std::error::Error::source(&status).is_some() && Instant::now() < deadline, "{status}");
    }
}

async fn put(channel: &Channel, key: &str) -> Result<(), tonic::Status> {
    let collection = Collection::Rooms.into();
    let put = v1::PutRequest { collection, key: key.into(), value: b"1".into(), ..Default::default() };
    StoreClient::new(channel.clone()).put(put).await.map(drop)
}

async fn has(channel: &Channel, key: &str) -> bool {
    let get = v1::GetRequest { collection: Collection::Rooms.into(), key: key.into() };
    StoreClient::new(channel.clone()).get(get).await.unwrap().into_inner().value.is_some()
}

async fn acquire(channel: &Channel, room: &str, worker: &str) -> Result<u64, Code> {
    let ask = v1::AcquireRoomRequest { room_id: room.into(), worker_id: worker.into() };
    let acquired = StoreClient::new(channel.clone()).acquire_room(ask).await;
    acquired.map(|reply| reply.into_inner().epoch).map_err(|status| status.code())
}

/// Two agents and an access-node, of which one agent has a room; its epoch.
async fn populated(channel: &Channel) -> u64 {
    worker(channel.clone(), Purpose::Conference, "agent-1", &["room"]);
    worker(channel.clone(), Purpose::Conference, "agent-2", &[]);
    worker(channel.clone(), Purpose::Access, "access-1", &[]);
    let three = async || workers(channel).await.filter(|workers| workers.len() == 3);
    until("the workers do not come", three).await;
    acquire(channel, "room", "agent-1").await.unwrap()
}

/// Nobody was lost, and the room is where it was.
async fn all_is_known(channel: &Channel, before: &[v1::Worker], epoch: u64) {
    let known = until("nobody leads", async || workers(channel).await).await;
    let ids = |workers: &[v1::Worker]| -> Vec<(String, u64)> {
        workers.iter().map(|worker| (worker.worker_id.clone(), worker.registered_ms)).collect()
    };
    assert_eq!(ids(&known), ids(before), "known since they registered first");
    assert_eq!(acquire(channel, "room", "agent-2").await, Err(Code::FailedPrecondition), "its holder lives");
    assert!(acquire(channel, "room", "agent-1").await.unwrap() > epoch, "epochs go on rising");
    let lookup = v1::LookupRequest { purpose: Purpose::Conference.into(), task: "room".into() };
    let found = ClusterClient::new(channel.clone()).lookup(lookup).await.unwrap().into_inner().worker;
    assert_eq!(found.unwrap().worker_id, "agent-1");
    let schedule =
        v1::ScheduleRequest { purpose: Purpose::Access.into(), task: "ann".into(), ..Default::default() };
    let placed = ClusterClient::new(channel.clone()).schedule(schedule).await.unwrap().into_inner();
    assert_eq!(placed.worker.unwrap().worker_id, "access-1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_leads_when_the_leader_is_killed_and_nobody_notices() {
    let mut cluster = Cluster::start(3).await;
    let channel = cluster.channel();
    let epoch = populated(&channel).await;
    let before = workers(&channel).await.unwrap();
    put(&channel, "before").await.unwrap();
    let (first, term) = cluster.leader(None).await;

    let killed = Instant::now();
    cluster.managers[first].process.kill();
    put_after_all(&channel, "meanwhile").await;
    println!("a call after the kill is answered after {:?}", killed.elapsed());
    let (second, next) = cluster.leader(Some(first)).await;
    assert!(next > term && second != first);
    all_is_known(&channel, &before, epoch).await;
    assert!(has(&channel, "before").await && has(&channel, "meanwhile").await);

    let killed = Instant::now();
    cluster.managers[second].process.kill();
    put_after_all(&channel, "again").await;
    println!("and after {:?}", killed.elapsed());
    all_is_known(&channel, &before, epoch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_told_to_stop_hands_over() {
    let mut cluster = Cluster::start(2).await;
    let channel = cluster.channel();
    let epoch = populated(&channel).await;
    let before = workers(&channel).await.unwrap();
    let (first, term) = cluster.leader(None).await;
    signal(&cluster.managers[first], Signal::SIGTERM);
    assert!(cluster.managers[first].process.0.wait().unwrap().success());
    put(&channel, "afterwards").await.unwrap();
    assert!(cluster.leader(Some(first)).await.1 > term);
    all_is_known(&channel, &before, epoch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stood_still_is_followed_and_does_nothing_when_it_wakes() {
    let cluster = Cluster::start(2).await;
    let channel = cluster.channel();
    let epoch = populated(&channel).await;
    let before = workers(&channel).await.unwrap();
    let (first, term) = cluster.leader(None).await;

    // A call that it has taken in when it stands still, and carries out when it wakes, or never.
    let old = direct(&cluster.managers[first]);
    assert!(!has(&old, "nothing").await, "connected");
    signal(&cluster.managers[first], Signal::SIGSTOP);
    let late: Vec<_> = (0..20)
        .map(|i| {
            let old = old.clone();
            tokio::spawn(async move { put(&old, &format!("late-{i}")).await })
        })
        .collect();
    let (second, next) = cluster.leader(Some(first)).await;
    assert!(next > term && second != first);
    let moved = async || put(&channel, "meanwhile").await.ok();
    until("nobody is moved to the new leader", moved).await;
    all_is_known(&channel, &before, epoch).await;

    signal(&cluster.managers[first], Signal::SIGCONT);
    let knows = async || said(&cluster.managers[first]).await.ok().filter(|reply| reply.term >= next);
    assert!(!until("the old one does not answer", knows).await.leads);
    for (i, late) in late.into_iter().enumerate() {
        assert!(late.await.unwrap().is_err(), "nobody is told that it was written");
        assert!(!has(&channel, &format!("late-{i}")).await);
    }
    assert_eq!(put(&direct(&cluster.managers[first]), "later").await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(cluster.leader(None).await, (second, next));
    all_is_known(&channel, &before, epoch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_goes_on_without_redis() {
    let mut cluster = Cluster::start(2).await;
    let channel = cluster.channel();
    let epoch = populated(&channel).await;
    let before = workers(&channel).await.unwrap();
    let mut watch =
        ClusterClient::new(channel.clone()).watch(v1::WatchRequest {}).await.unwrap().into_inner();
    for _ in &before {
        watch.message().await.unwrap();
    }
    let (first, term) = cluster.leader(None).await;
    cluster.redis.kill();
    // Longer than the leader's lease, and than the workers'.
    let away = Instant::now();
    while away.elapsed() < Duration::from_secs(4) {
        assert_eq!(workers(&channel).await.unwrap().len(), 3, "heartbeats are taken");
        let refused = put(&channel, "away").await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(cluster.leader(None).await, (first, term), "nobody else can lead");
    cluster.restart_redis();
    until("Redis is not found again", async || put(&channel, "back").await.ok()).await;
    all_is_known(&channel, &before, epoch).await;
    let mut leading = 0;
    for manager in &cluster.managers {
        leading += usize::from(said(manager).await.unwrap().leads);
    }
    assert_eq!(leading, 1);
    let lost = async || match watch.message().await {
        Ok(Some(v1::ClusterEvent { event: Some(Event::Left(worker)) })) => Some(worker),
        // Other changes, or the end of the watch if the other one leads now.
        Ok(_) | Err(_) => None,
    };
    let lost = tokio::time::timeout(Duration::from_millis(100), until("", lost)).await;
    assert!(lost.is_err(), "{lost:?} was said to be dead");
}
