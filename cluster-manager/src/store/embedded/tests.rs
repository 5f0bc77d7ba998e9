//! The suite for any store, and what is the embedded store's own: reopening, SIGKILL, a disk that fails.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{StorageBackend, backends::InMemoryBackend};
use tempfile::TempDir;

use super::*;
use crate::store::suite::store_suite;

fn fresh() -> (EmbeddedStore, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (EmbeddedStore::open(&dir.path().join("kaigi.redb")).unwrap(), dir)
}

store_suite!(std::future::ready(fresh()));

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn name(text: &str) -> SecretName {
    SecretName::new(text).unwrap()
}

#[tokio::test]
async fn all_is_there_after_reopening() {
    let (store, dir) = fresh();
    let (r, w) = (RoomId::new("r").unwrap(), WorkerId::new("w").unwrap());
    store.put(Collection::Rooms, &key("a"), b"1".into(), None, PutMode::Replace).await.unwrap();
    let secret = store.secret(&name("s")).await.unwrap();
    let epoch = store.lease_room(&r, None, &w).await.unwrap();
    drop(store);

    let store = EmbeddedStore::open(&dir.path().join("kaigi.redb")).unwrap();
    assert_eq!(store.get(Collection::Rooms, &key("a")).await.unwrap().unwrap(), b"1");
    assert_eq!(store.secret(&name("s")).await.unwrap(), secret);
    let lease = store.room_lease(&r).await.unwrap().unwrap();
    assert_eq!(lease, RoomLease { holder: w.clone(), epoch });
    assert!(store.release_room(&r, &w).await.unwrap());
    assert!(store.lease_room(&r, None, &w).await.unwrap() > epoch);
}

#[tokio::test]
async fn a_file_has_one_owner() {
    let (_store, dir) = fresh();
    let second = EmbeddedStore::open(&dir.path().join("kaigi.redb"));
    assert!(matches!(second, Err(OpenError::InUse)), "{second:?}");
}

#[tokio::test]
async fn a_file_of_something_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kaigi.redb");
    std::fs::write(&path, vec![0x42; 10_000]).unwrap();
    assert!(matches!(EmbeddedStore::open(&path), Err(OpenError::Broken(_))));
}

#[tokio::test]
async fn expiry_goes_by_the_clock_and_the_sweep_frees() {
    let now = Arc::new(Mutex::new(UNIX_EPOCH + Duration::from_secs(1_000_000)));
    let clock = now.clone();
    let store = EmbeddedStore::open_with(
        Box::new(|| redb::Database::builder().create_with_backend(InMemoryBackend::new())),
        Arc::new(move || *clock.lock().unwrap()),
    )
    .unwrap();
    for (i, ttl) in [10u64, 20, 30].into_iter().enumerate() {
        let ttl = Some(Duration::from_secs(ttl));
        store
            .put(Collection::Tokens, &key(&i.to_string()), b"x".into(), ttl, PutMode::Replace)
            .await
            .unwrap();
    }
    *now.lock().unwrap() += Duration::from_millis(19_999);
    assert_eq!(store.list(Collection::Tokens, None, 9).await.unwrap().len(), 2);
    *now.lock().unwrap() += Duration::from_millis(1);
    assert_eq!(store.list(Collection::Tokens, None, 9).await.unwrap().len(), 1);
    assert_eq!(store.sweep().await.unwrap(), 2);
    assert_eq!(store.sweep().await.unwrap(), 0);
    assert!(store.get(Collection::Tokens, &key("2")).await.unwrap().is_some());
}

/// Not a test by itself: the child of `nothing_acknowledged_is_lost_by_sigkill`. Writes for ever, printing each key after its
/// write was acknowledged.
#[test]
#[ignore = "run by another test as a process of its own"]
fn child_that_writes() {
    let path = std::env::var("KAIGI_TEST_STORE").expect("set by the parent");
    let round = std::env::var("KAIGI_TEST_ROUND").expect("set by the parent");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let store = Arc::new(EmbeddedStore::open(Path::new(&path)).unwrap());
    runtime.block_on(async {
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let (store, round) = (store.clone(), round.clone());
                tokio::spawn(async move {
                    for i in 0.. {
                        let text = format!("{round}-{writer}-{i}");
                        let value = text.repeat(20).into();
                        store
                            .put(Collection::Snapshots, &key(&text), value, None, PutMode::Create)
                            .await
                            .unwrap();
                        let mut out = std::io::stdout().lock();
                        writeln!(out, "written {text}").unwrap();
                        out.flush().unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kaigi.redb");
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::embedded::tests::child_that_writes", "--ignored", "--nocapture"])
            .env("KAIGI_TEST_STORE", &path)
            .env("KAIGI_TEST_ROUND", round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        // Killed in the midst of writing; what it still managed to say counts too.
        while let Some(Ok(line)) = lines.next() {
            if let Some((_, text)) = line.split_once("written ") {
                acknowledged.push(text.to_owned());
                seen += 1;
                if seen == 60 + round {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        let store = EmbeddedStore::open(&path).unwrap();
        for text in &acknowledged {
            let found = store.get(Collection::Snapshots, &key(text)).await.unwrap();
            assert_eq!(
                found,
                Some(text.repeat(20).into_bytes()),
                "{text} was acknowledged in or before round {round}"
            );
        }
    }
    assert!(acknowledged.len() >= 300);
}

/// A disk of memory that survives the closing of the database and fails to write while told to.
#[derive(Clone, Debug)]
struct Disk {
    bytes: Arc<InMemoryBackend>,
    fails: Arc<AtomicBool>,
}

impl Disk {
    fn check(&self) -> std::io::Result<()> {
        if self.fails.load(Ordering::SeqCst) { Err(std::io::Error::other("disk full")) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        self.bytes.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.bytes.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.check()?;
        self.bytes.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.check()?;
        self.bytes.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.check()?;
        self.bytes.write(offset, data)
    }
}

#[tokio::test]
async fn a_disk_that_failed_is_used_again_when_it_works() {
    let disk = Disk { bytes: Arc::new(InMemoryBackend::new()), fails: Arc::default() };
    let theirs = disk.clone();
    let store = EmbeddedStore::open_with(
        Box::new(move || redb::Database::builder().create_with_backend(theirs.clone())),
        Arc::new(SystemTime::now),
    )
    .unwrap();
    let put = async |text: &str| {
        store.put(Collection::Rooms, &key(text), b"x".into(), None, PutMode::Replace).await
    };
    put("before").await.unwrap();
    disk.fails.store(true, Ordering::SeqCst);
    assert!(matches!(put("during").await, Err(StoreError::Failed(_))));
    assert!(matches!(put("during").await, Err(StoreError::Failed(_))));
    disk.fails.store(false, Ordering::SeqCst);
    put("after").await.unwrap();
    let listed = store.list(Collection::Rooms, None, 9).await.unwrap();
    assert_eq!(listed.iter().map(|d| d.key.as_str()).collect::<Vec<_>>(), ["after", "before"]);
}
