//! The whole process, and the Redis below it, killed in the midst of writing: nothing that was acknowledged is lost.
#![allow(clippy::unwrap_used, reason = "a failing test says where")]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kaigi_proto::{
    auth::ClusterSecret,
    v1::{Collection, GetRequest, PutRequest, store_client::StoreClient},
};
use kaigi_worker::{Channel, Channels};
use serde_json::Value;
use tonic::Code;

/// Reached only if a test fails.
const DEADLINE: Duration = Duration::from_secs(30);
const ROUNDS: usize = 3;
const WRITERS: usize = 8;
/// Writes acknowledged in a round before the kill.
const WRITES: usize = 80;
const SECRET: &str = "secret of the tests";

/// Killed when dropped.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A cluster-manager on a free port, when it serves.
struct Manager {
    process: Process,
    store: StoreClient<Channel>,
}

impl Manager {
    async fn start(dir: &Path, more: &[String]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_kaigi-cluster-manager"))
            .args(["--listen", "127.0.0.1:0", "--log", "info", "--log-format", "json", "--data-dir"])
            .arg(dir)
            .args(more)
            .env("KAIGI_CLUSTER_SECRET", SECRET)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (told, address) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut told = Some(told);
            // Read to the end, so that it can go on writing.
            for line in lines.map_while(Result::ok) {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if line["message"] == "cluster-manager serves"
                    && let Some(told) = told.take()
                {
                    told.send(line["address"].as_str().unwrap().to_owned()).unwrap();
                }
            }
        });
        let process = Process(child);
        let address = tokio::time::timeout(DEADLINE, address).await.unwrap().expect("it starts");
        let channel = Channels::new(ClusterSecret::new(SECRET)).to(&format!("http://{address}")).unwrap();
        Self { process, store: StoreClient::new(channel) }
    }

    async fn get(&self, key: &str) -> Option<Vec<u8>> {
        let ask = GetRequest { collection: Collection::Rooms.into(), key: key.to_owned() };
        self.store.clone().get(ask).await.unwrap().into_inner().value
    }
}

fn redis(dir: &Path, port: u16) -> Process {
    let redis = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--appendonly", "yes", "--appendfsync", "always", "--dir"])
        .arg(dir)
        .stdout(Stdio::null())
        .spawn();
    let mut redis = Process(redis.expect("redis-server is needed (scripts/setup.sh --test brings it)"));
    let deadline = Instant::now() + DEADLINE;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(redis.0.try_wait().unwrap().is_none(), "redis-server has ended");
        assert!(Instant::now() < deadline, "redis-server does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    redis
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// What the writers were told: documents that were created, and how far the counters are.
#[derive(Default)]
struct Acknowledged {
    created: Mutex<Vec<String>>,
    counters: Mutex<BTreeMap<String, u64>>,
    count: AtomicUsize,
}

fn document(name: &str) -> Vec<u8> {
    name.repeat(50).into_bytes()
}

/// Creates documents, and counts each in a document of its own by swapping it, until the other side is gone.
async fn write(mut store: StoreClient<Channel>, round: usize, writer: usize, told: Arc<Acknowledged>) {
    let counter = format!("counter-{round}-{writer}");
    for i in 0u64.. {
        let key = format!("room-{round}-{writer}-{i}");
        let create = PutRequest {
            collection: Collection::Rooms.into(),
            key: key.clone(),
            value: document(&key),
            create_only: true,
            ..PutRequest::default()
        };
        if store.put(create).await.is_err() {
            return;
        }
        told.created.lock().unwrap().push(key);
        let swap = PutRequest {
            collection: Collection::Rooms.into(),
            key: counter.clone(),
            value: (i + 1).to_string().into_bytes(),
            create_only: i == 0,
            expected: (i > 0).then(|| i.to_string().into_bytes()),
            ..PutRequest::default()
        };
        if let Err(status) = store.put(swap).await {
            assert_ne!(status.code(), Code::Aborted, "nobody else writes it");
            return;
        }
        told.counters.lock().unwrap().insert(counter.clone(), i + 1);
        told.count.fetch_add(1, Ordering::SeqCst);
    }
}

/// Writes from several sides until `kill` has killed what they write to.
async fn write_until_killed(
    manager: &Manager,
    round: usize,
    told: &Arc<Acknowledged>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let before = told.count.load(Ordering::SeqCst);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(manager.store.clone(), round, writer, told.clone())))
        .collect();
    let deadline = Instant::now() + DEADLINE;
    while told.count.load(Ordering::SeqCst) < before + WRITES {
        assert!(Instant::now() < deadline, "writing is too slow");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    writers
}

async fn ended(writers: Vec<tokio::task::JoinHandle<()>>) {
    for writer in writers {
        tokio::time::timeout(DEADLINE, writer).await.unwrap().unwrap();
    }
}

async fn all_is_there(manager: &Manager, told: &Acknowledged) {
    let created = told.created.lock().unwrap().clone();
    for key in &created {
        assert_eq!(manager.get(key).await, Some(document(key)), "{key} was acknowledged");
    }
    let counters = told.counters.lock().unwrap().clone();
    for (key, acknowledged) in counters {
        let kept = String::from_utf8(manager.get(&key).await.unwrap()).unwrap().parse::<u64>().unwrap();
        // The last one may have been carried out without an answer.
        assert!(
            kept == acknowledged || kept == acknowledged + 1,
            "{key}: {acknowledged} were told, {kept} kept"
        );
    }
    assert!(created.len() >= WRITES);
}

/// Kills and starts the process again on what it left.
async fn killed_again_and_again(dir: &Path, more: &[String]) -> (Manager, Arc<Acknowledged>) {
    let told = Arc::<Acknowledged>::default();
    let mut manager = Manager::start(dir, more).await;
    for round in 0..ROUNDS {
        let writers = write_until_killed(&manager, round, &told).await;
        manager.process.kill();
        ended(writers).await;
        manager = Manager::start(dir, more).await;
        all_is_there(&manager, &told).await;
    }
    (manager, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_process_with_its_file_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    killed_again_and_again(dir.path(), &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_process_or_its_redis_is_killed() {
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let port = free_port();
    let mut server = redis(data.path(), port);
    let more = ["--redis".to_owned(), format!("redis://127.0.0.1:{port}")];
    let (mut manager, told) = killed_again_and_again(dir.path(), &more).await;

    // Now Redis alone, then both.
    for round in ROUNDS..ROUNDS + 2 {
        let writers = write_until_killed(&manager, round, &told).await;
        server.kill();
        if round > ROUNDS {
            manager.process.kill();
        }
        ended(writers).await;
        server = redis(data.path(), port);
        if round > ROUNDS {
            manager = Manager::start(dir.path(), &more).await;
        }
        let deadline = Instant::now() + DEADLINE;
        let ask = GetRequest { collection: Collection::Rooms.into(), key: "any".to_owned() };
        while let Err(status) = manager.store.clone().get(ask.clone()).await {
            assert_eq!(status.code(), Code::Unavailable);
            assert!(Instant::now() < deadline, "Redis is not found again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        all_is_there(&manager, &told).await;
    }
}
