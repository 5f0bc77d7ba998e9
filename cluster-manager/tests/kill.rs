//! The whole process, and the Redis below it, killed in the midst of writing: nothing that was acknowledged is lost.
#![allow(clippy::unwrap_used, reason = "a failing test says where")]

mod support;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use kaigi_proto::v1::{Collection, GetRequest, PutRequest, store_client::StoreClient};
use kaigi_worker::Channel;
use tonic::Code;

use support::{DEADLINE, Manager, free_port, redis};

const ROUNDS: usize = 3;
const WRITERS: usize = 8;
/// Writes acknowledged in a round before the kill.
const WRITES: usize = 80;

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
