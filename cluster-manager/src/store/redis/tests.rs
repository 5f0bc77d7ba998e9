//! The suite for any store against real servers, and what is Redis's own: a server that is away, a Sentinel, a cluster.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::*;
use crate::group::{Answer, Claim, Leader, Lease, MemberId, Term};
use crate::store::{SealError, SealKey, SealedStore, suite::store_suite};

/// Reached only if a server does not start.
const DEADLINE: Duration = Duration::from_secs(20);

/// A redis-server or Sentinel of one test.
struct Server {
    process: Child,
    port: u16,
    dir: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A port that nobody has now, with one 10,000 above it, which a cluster's node needs too.
fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if port < 55_000 && TcpListener::bind(("127.0.0.1", port + 10_000)).is_ok() {
            return port;
        }
    }
}

fn spawn(dir: &Path, port: u16, args: &[&str]) -> Child {
    Command::new("redis-server")
        .args(args)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"])
        .arg("--dir")
        .arg(dir)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is needed (scripts/setup.sh --test brings it)")
}

impl Server {
    async fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let server = Self { process: spawn(dir.path(), port, args), port, dir };
        server.answers().await;
        server
    }

    /// As before, with what is on its disk.
    async fn restart(&mut self, args: &[&str]) {
        self.process = spawn(self.dir.path(), self.port, args);
        self.answers().await;
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    async fn answers(&self) {
        let client = redis::Client::open(("127.0.0.1", self.port)).unwrap();
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Ok(mut connection) = client.get_multiplexed_async_connection().await
                && redis::cmd("PING").query_async::<String>(&mut connection).await.is_ok()
            {
                return;
            }
            assert!(Instant::now() < deadline, "redis-server does not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn ask(&self, command: &str) -> String {
        let client = redis::Client::open(("127.0.0.1", self.port)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut words = command.split(' ');
        let mut call = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            call.arg(word);
        });
        let answer: redis::Value = call.query_async(&mut connection).await.unwrap();
        format!("{answer:?}")
    }

    async fn store(&self) -> RedisStore {
        let url = format!("redis://127.0.0.1:{}", self.port).parse().unwrap();
        RedisStore::open(&url, "kaigi").await.unwrap()
    }
}

/// Not written to disk: fast.
const IN_MEMORY: [&str; 4] = ["--save", "", "--appendonly", "no"];
const DURABLE: [&str; 6] = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"];

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

mod one_server {
    use super::*;

    async fn fresh() -> (RedisStore, Server) {
        let server = Server::start(&IN_MEMORY).await;
        (server.store().await, server)
    }

    store_suite!(fresh());
}

mod a_cluster {
    use super::*;

    /// One node that has all slots: keys of a script in different slots are refused all the same.
    async fn fresh() -> (RedisStore, Server) {
        let server = Server::start(&[&IN_MEMORY[..], &["--cluster-enabled", "yes"]].concat()).await;
        server.ask("CLUSTER ADDSLOTSRANGE 0 16383").await;
        let ok = async || server.ask("CLUSTER INFO").await.contains("cluster_state:ok").then_some(());
        until("the cluster is not ready", ok).await;
        let url = format!("redis-cluster://127.0.0.1:{}", server.port).parse().unwrap();
        (RedisStore::open(&url, "kaigi").await.unwrap(), server)
    }

    store_suite!(fresh());
}

mod a_sealed_server {
    use super::*;

    async fn fresh() -> (SealedStore, Server) {
        let server = Server::start(&IN_MEMORY).await;
        let (store, _) = SealedStore::open(Arc::new(server.store().await), &SealKey::random()).await.unwrap();
        (store, server)
    }

    store_suite!(fresh());
}

/// Everything that the server has, whatever it is called, as one text of bytes.
async fn all_of(server: &Server) -> Vec<u8> {
    let client = redis::Client::open(("127.0.0.1", server.port)).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    let mut all = Vec::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE").arg(&key).query_async(&mut connection).await.unwrap();
        let mut read = match kind.as_str() {
            "hash" => redis::cmd("HGETALL"),
            "zset" => redis::cmd("ZRANGE"),
            "string" => redis::cmd("GET"),
            other => panic!("a key of type {other}"),
        };
        read.arg(&key);
        if kind == "zset" {
            read.arg(0).arg(-1);
        }
        match read.query_async::<redis::Value>(&mut connection).await.unwrap() {
            redis::Value::Array(values) => values.iter().for_each(|value| {
                let redis::Value::BulkString(bytes) = value else { panic!("{value:?}") };
                all.extend_from_slice(bytes);
            }),
            redis::Value::BulkString(bytes) => all.extend(bytes),
            other => panic!("{other:?}"),
        }
        all.extend(key);
    }
    all
}

#[tokio::test]
async fn neither_redis_nor_its_files_show_a_credential() {
    const CREDENTIAL: &[u8] = b"correct horse battery staple";
    let shows = |bytes: &[u8], text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    let server = Server::start(&DURABLE).await;
    let below = Arc::new(server.store().await);
    let (store, done) = SealedStore::open(below.clone(), &SealKey::random()).await.unwrap();
    assert!(!done.has_remains);
    for (collection, name) in [(Collection::Services, "s"), (Collection::Webhooks, "s:w")] {
        store.put(collection, &key(name), CREDENTIAL.into(), None, PutMode::Create).await.unwrap();
        let swap = PutMode::Swap(CREDENTIAL.into());
        let more = [CREDENTIAL, b" 2"].concat();
        store.put(collection, &key(name), more.clone(), None, swap).await.unwrap();
        assert_eq!(store.get(collection, &key(name)).await.unwrap(), Some(more));
    }
    store
        .put(Collection::Rooms, &key("r"), b"rooms are not sealed".into(), None, PutMode::Create)
        .await
        .unwrap();
    let secret = store.secret(&SecretName::new("token-key").unwrap()).await.unwrap();
    let all = all_of(&server).await;
    assert!(shows(&all, b"rooms are not sealed"));
    assert!(!shows(&all, CREDENTIAL) && !shows(&all, secret.as_bytes()));

    let mut files = vec![server.dir.path().to_owned()];
    let mut written = Vec::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            written.extend(std::fs::read(path).unwrap());
        }
    }
    assert!(shows(&written, b"rooms are not sealed"));
    assert!(!shows(&written, CREDENTIAL) && !shows(&written, secret.as_bytes()));
    let refused = SealedStore::open(below, &SealKey::random()).await;
    assert!(matches!(refused, Err(SealError::WrongKey)));
}

#[tokio::test]
async fn several_share_a_server_by_prefix() {
    let server = Server::start(&IN_MEMORY).await;
    let one = server.store().await;
    let url = format!("redis://127.0.0.1:{}", server.port).parse().unwrap();
    let other = RedisStore::open(&url, "other").await.unwrap();
    one.put(Collection::Rooms, &key("r"), b"1".into(), None, PutMode::Replace).await.unwrap();
    assert_eq!(other.get(Collection::Rooms, &key("r")).await.unwrap(), None);
    assert_ne!(
        one.secret(&SecretName::new("s").unwrap()).await.unwrap(),
        other.secret(&SecretName::new("s").unwrap()).await.unwrap()
    );
}

#[tokio::test]
async fn a_server_that_is_away_is_a_temporary_failure() {
    let mut server = Server::start(&DURABLE).await;
    let store = server.store().await;
    store.put(Collection::Rooms, &key("r"), b"1".into(), None, PutMode::Replace).await.unwrap();
    server.kill();
    let away = store.get(Collection::Rooms, &key("r")).await;
    assert!(matches!(away, Err(StoreError::Failed(_))), "{away:?}");
    server.restart(&DURABLE).await;
    let back = async || store.get(Collection::Rooms, &key("r")).await.ok();
    assert_eq!(
        until("the store does not come back", back).await.unwrap(),
        b"1",
        "what was acknowledged lasts"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let mut server = Server::start(&DURABLE).await;
    let acknowledged = Arc::new(parking_lot::Mutex::new(Vec::new()));
    for round in 0..4 {
        let store = Arc::new(server.store().await);
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (store, acknowledged) = (store.clone(), acknowledged.clone());
                tokio::spawn(async move {
                    for i in 0.. {
                        let text = format!("{round}-{writer}-{i}");
                        let value = text.repeat(20).into();
                        // Killed, sooner or later.
                        match store.put(Collection::Rooms, &key(&text), value, None, PutMode::Create).await {
                            Ok(()) => acknowledged.lock().push(text),
                            Err(error) => return assert!(matches!(error, StoreError::Failed(_)), "{error}"),
                        }
                    }
                })
            })
            .collect();
        let enough = async || (acknowledged.lock().len() >= 150 * (round + 1)).then_some(());
        until("writing is too slow", enough).await;
        server.kill();
        for writer in writers {
            writer.await.unwrap();
        }
        server.restart(&DURABLE).await;
        let store = server.store().await;
        let told = acknowledged.lock().clone();
        for text in told {
            let found = store.get(Collection::Rooms, &key(&text)).await.unwrap();
            assert_eq!(found, Some(text.repeat(20).into_bytes()), "{text} was acknowledged");
            // Found by its key, and listed: the script was carried out as a whole.
            let query = Query { prefix: text.clone(), limit: 1, ..Query::default() };
            let page = store.page(Collection::Rooms, &query).await.unwrap();
            assert_eq!(page.documents[0].key.as_str(), text);
        }
    }
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let url = format!("redis://127.0.0.1:{}", free_port()).parse().unwrap();
    assert!(matches!(RedisStore::open(&url, "kaigi").await, Err(StoreError::Failed(_))));
}

#[tokio::test]
async fn sentinels_name_the_server_and_its_successor() {
    let mut first = Server::start(&IN_MEMORY).await;
    let first_port = first.port.to_string();
    let second = Server::start(&[&IN_MEMORY[..], &["--replicaof", "127.0.0.1", &first_port]].concat()).await;
    let synced = async || second.ask("ROLE").await.contains("connected").then_some(());
    until("the replica does not follow", synced).await;

    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("sentinel.conf");
    let lines = format!(
        "sentinel monitor main 127.0.0.1 {first_port} 1\nsentinel down-after-milliseconds main 300\n\
         sentinel failover-timeout main 3000\n"
    );
    std::fs::write(&config, lines).unwrap();
    let port = free_port();
    let process = spawn(dir.path(), port, &[config.to_str().unwrap(), "--sentinel"]);
    let sentinel = Server { process, port, dir };
    sentinel.answers().await;
    let second_port = second.port.to_string();
    let known = async || sentinel.ask("SENTINEL REPLICAS main").await.contains(&second_port).then_some(());
    until("the Sentinel does not know the replica", known).await;

    let url: RedisUrl = format!("redis-sentinel://127.0.0.1:{port}/main").parse().unwrap();
    let store = RedisStore::open(&url, "kaigi").await.unwrap();
    store.put(Collection::Rooms, &key("r"), b"1".into(), None, PutMode::Replace).await.unwrap();
    let copied = async || second.ask("DBSIZE").await.contains('2').then_some(());
    until("the replica does not have it", copied).await;

    first.kill();
    let written =
        async || store.put(Collection::Rooms, &key("r"), b"2".into(), None, PutMode::Replace).await.ok();
    until("nobody takes over", written).await;
    assert!(second.ask("ROLE").await.contains("master"));
    assert_eq!(store.get(Collection::Rooms, &key("r")).await.unwrap().unwrap(), b"2");
}

/// Takes the lease as a process of its own would.
async fn leader(server: &Server, over: Option<Leader>) -> (Arc<RedisStore>, RedisLease, Leader) {
    let store = Arc::new(server.store().await);
    let (member, lasts) = (MemberId::random(), Duration::from_secs(60));
    let lease = RedisLease::new(store.clone(), member.clone(), String::new(), lasts);
    match lease.claim(&Claim { known: Term::default(), over }).await {
        Answer::Leads(leader) if leader.member == member => (store, lease, leader),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_at_a_time_leads_and_each_in_a_higher_term() {
    let server = Server::start(&IN_MEMORY).await;
    let (_, first, led) = leader(&server, None).await;
    let (store, lasts) = (Arc::new(server.store().await), Duration::from_secs(60));
    let second = RedisLease::new(store, MemberId::random(), "http://manager:1".into(), lasts);
    let mut claim = Claim { known: Term(7), over: None };
    assert!(matches!(second.claim(&claim).await, Answer::Leads(other) if other == led));
    assert!(matches!(first.renew(led.term).await, Answer::Leads(itself) if itself == led));

    first.resign(led.term).await;
    let Answer::Leads(next) = second.claim(&claim).await else { panic!("nobody leads") };
    assert_eq!((next.term, next.endpoint.as_str()), (Term(8), "http://manager:1"), "above all that is known");
    assert!(matches!(first.renew(led.term).await, Answer::Leads(other) if other == next));
    first.resign(led.term).await;
    assert!(
        matches!(second.renew(next.term).await, Answer::Leads(itself) if itself == next),
        "not another's"
    );

    claim.over = Some(led);
    assert!(matches!(first.claim(&claim).await, Answer::Leads(other) if other == next), "another one died");
    claim.over = Some(next.clone());
    assert!(matches!(first.claim(&claim).await, Answer::Leads(again) if again.term > next.term));
}

#[tokio::test]
async fn a_server_that_lost_who_leads_is_told_by_the_leader() {
    let server = Server::start(&IN_MEMORY).await;
    let (_, first, led) = leader(&server, None).await;
    server.ask("FLUSHALL").await;
    assert!(matches!(first.renew(led.term).await, Answer::Leads(itself) if itself == led));
    server.ask("DEL {kaigi:leader}:lease").await;
    let (_, _, next) = leader(&server, None).await;
    assert!(next.term > led.term);
    server.ask("DEL {kaigi:leader}:lease").await;
    assert!(matches!(first.renew(led.term).await, Answer::Nobody), "somebody led since");
}

#[tokio::test]
async fn whoever_led_before_writes_nothing() {
    let server = Server::start(&IN_MEMORY).await;
    let (old, lease, led) = leader(&server, None).await;
    let (room, worker) = (RoomId::new("r").unwrap(), WorkerId::new("w").unwrap());
    let secret = SecretName::new("s").unwrap();
    old.put(Collection::Rooms, &key("r"), b"1".into(), None, PutMode::Replace).await.unwrap();
    let value = old.secret(&secret).await.unwrap();
    let epoch = old.lease_room(&room, None, &worker).await.unwrap();
    let seen = old.room_lease(&room).await.unwrap();
    let change = SnapshotChange { version: 1, whole: true, parts: vec![], removed: vec![] };
    old.write_snapshot(&room, epoch, change.clone()).await.unwrap();

    let (new, ..) = leader(&server, Some(led)).await;
    let before = all_of(&server).await;
    let mut refused = vec![
        old.put(Collection::Rooms, &key("r"), b"2".into(), None, PutMode::Replace).await,
        old.put(Collection::Tokens, &key("t"), b"2".into(), None, PutMode::Create).await,
        old.delete(Collection::Rooms, &key("r")).await.map(drop),
        old.take(Collection::Rooms, &key("r")).await.map(drop),
        old.secret(&SecretName::new("other").unwrap()).await.map(drop),
        old.swap_secret(&secret, &value, SecretValue::random()).await,
        old.lease_room(&room, seen.as_ref(), &worker).await.map(drop),
        old.release_room(&room, &worker).await.map(drop),
        old.write_snapshot(&room, epoch, change).await,
        old.sweep().await.map(drop),
    ];
    for (i, refused) in refused.drain(..).enumerate() {
        assert!(matches!(refused, Err(StoreError::Deposed)), "{i}: {refused:?}");
    }
    assert_eq!(all_of(&server).await, before);
    tokio::time::timeout(DEADLINE, lease.doubted()).await.expect("and is told so");

    assert_eq!(old.get(Collection::Rooms, &key("r")).await.unwrap().unwrap(), b"1", "it may read");
    new.put(Collection::Rooms, &key("r"), b"2".into(), None, PutMode::Replace).await.unwrap();
    assert_eq!(new.secret(&secret).await.unwrap(), value);
    assert!(new.lease_room(&room, seen.as_ref(), &worker).await.unwrap() > epoch);

    // Also if the server has lost the fences: the first write raises them.
    server.ask("FLUSHALL").await;
    new.put(Collection::Rooms, &key("r"), b"3".into(), None, PutMode::Replace).await.unwrap();
    let refused = old.delete(Collection::Rooms, &key("r")).await;
    assert!(matches!(refused, Err(StoreError::Deposed)), "{refused:?}");
}
