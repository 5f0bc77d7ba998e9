//! What the one process that all others ask can do: picks and heartbeats by the number of workers, and durable writes by the number of those
//! who write at the same time. These are what a cluster grows up to.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kaigi_cluster_manager::{
    registry::{Load, Preference, Purpose, Registry, RegistryConfig, Strategies, TaskId, Worker},
    store::{Collection, EmbeddedStore, Key, PutMode, RedisStore, RedisUrl, Store},
};
use kaigi_proto::ids::WorkerId;

const WORKERS: [usize; 4] = [10, 100, 1_000, 10_000];
/// Tasks of a worker, as each heartbeat names them.
const TASKS: usize = 50;
const WRITERS: [usize; 3] = [1, 16, 256];

fn worker(number: usize) -> Worker {
    Worker {
        id: WorkerId::new(format!("access-{number}")).expect("letters and digits are allowed"),
        purpose: Purpose::Access,
        endpoint: format!("http://10.0.{}.{}:10080", number / 250, number % 250),
        load: Load::new(number as f64 % 10.0 / 20.0).expect("it is below 1"),
        max_load: Load::new(0.85).expect("it is below 1"),
        isps: Vec::new(),
        regions: vec!["eu".into()],
        public_address: String::new(),
        secure: false,
        draining: false,
        registered_ms: 0,
        algorithms: Vec::new(),
        resources: Vec::new(),
        task_share: Load::new(0.01).expect("it is below 1"),
    }
}

fn task(number: usize) -> TaskId {
    TaskId::new(&format!("participant-{number}")).expect("letters and digits are allowed")
}

/// So many workers, each with its tasks.
fn registry(workers: usize, now: Instant) -> Registry {
    let config = RegistryConfig { lease: Duration::from_secs(3), strategies: Strategies::default() };
    let mut registry = Registry::new(config, now, 1);
    for number in 0..workers {
        registry.register(now, worker(number)).expect("there is room");
        heartbeat(&mut registry, number, now);
    }
    registry
}

fn heartbeat(registry: &mut Registry, number: usize, now: Instant) {
    let tasks: Vec<TaskId> = (number * TASKS..(number + 1) * TASKS).map(task).collect();
    let Worker { id, load, .. } = worker(number);
    registry.heartbeat(now, &id, load, &tasks).expect("it is registered");
}

fn picks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pick a worker");
    for workers in WORKERS {
        let now = Instant::now();
        let mut registry = registry(workers, now);
        let mut next = usize::MAX / 2;
        group.bench_function(BenchmarkId::from_parameter(workers), |bencher| {
            bencher.iter(|| {
                next += 1;
                let task = task(next);
                let picked = registry.schedule(now, Purpose::Access, &task, &Preference::default());
                black_box(picked.expect("there is room"));
                registry.release(Purpose::Access, &task);
            });
        });
    }
}

fn heartbeats(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("heartbeat of a worker with 50 tasks");
    for workers in WORKERS {
        let now = Instant::now();
        let mut registry = registry(workers, now);
        let mut next = 0;
        group.bench_function(BenchmarkId::from_parameter(workers), |bencher| {
            bencher.iter(|| {
                next = (next + 1) % workers;
                heartbeat(&mut registry, next, now);
            });
        });
    }
}

/// Each write is on the disk before the next of the same writer.
fn writes(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().expect("there are threads");
    let folder = tempfile::tempdir().expect("there is a folder for such files");
    let file: Arc<dyn Store> =
        Arc::new(EmbeddedStore::open(&folder.path().join("bench.redb")).expect("it can be made"));
    let mut stores = vec![("file", file)];
    // Of a server of its own: it is written to.
    if let Ok(url) = std::env::var("KAIGI_BENCH_REDIS") {
        let url: RedisUrl = url.parse().expect("KAIGI_BENCH_REDIS is a URL");
        let redis = runtime.block_on(RedisStore::open(&url, "kaigi-bench:")).expect("the server is there");
        stores.push(("redis", Arc::new(redis)));
    }
    for (name, store) in stores {
        let mut group = criterion.benchmark_group(format!("durable writes, {name}"));
        for writers in WRITERS {
            group.throughput(Throughput::Elements(writers as u64));
            group.bench_function(BenchmarkId::from_parameter(writers), |bencher| {
                bencher.iter(|| {
                    runtime.block_on(async {
                        let writes = (0..writers).map(|writer| {
                            let store = Arc::clone(&store);
                            tokio::spawn(async move {
                                let key =
                                    Key::new(&format!("k{writer}")).expect("letters and digits are allowed");
                                let value = vec![b'v'; 200];
                                store.put(Collection::Rooms, &key, value, None, PutMode::Replace).await
                            })
                        });
                        for write in futures::future::join_all(writes).await {
                            write.expect("it does not panic").expect("it is written");
                        }
                    })
                });
            });
        }
    }
}

criterion_group!(benches, picks, heartbeats, writes);
criterion_main!(benches);
