//! What any [`Store`] must do. `store_suite!(make)` turns each function here into a test of the store that the future
//! `make` yields (with what has to live as long).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_proto::ids::{RoomId, WorkerId};

use super::{
    Collection, Epoch, Key, Page, PutMode, Query, SecretName, SnapshotChange, SnapshotPart, Store, StoreError,
};

macro_rules! store_suite {
    ($make:expr) => {
        $crate::store::suite::store_suite! { @ $make,
            documents_are_kept_per_collection,
            a_create_does_not_replace,
            a_swap_needs_what_it_expects,
            an_expired_document_is_not_what_is_expected,
            of_many_swappers_each_counts,
            lists_are_ordered_and_paged,
            pages_keep_to_their_prefix,
            pages_keep_to_their_bytes,
            thousands_are_read_page_by_page,
            what_expires_is_gone,
            an_expired_document_may_be_created_anew,
            a_put_without_ttl_lifts_the_old_one,
            of_many_takers_one_gets_it,
            of_many_creators_one_wins,
            a_secret_is_made_once,
            epochs_rise_over_all_rooms,
            a_lease_is_taken_only_as_seen,
            of_many_agents_one_gets_the_lease,
            only_the_holder_releases,
            a_snapshot_is_changed_part_by_part,
            a_snapshot_is_written_under_the_newest_epoch_alone,
            a_change_of_another_version_is_refused,
            a_snapshot_goes_with_its_lease,
        }
    };
    (@ $make:expr, $($name:ident,)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let (store, _keep) = $make.await;
            $crate::store::suite::$name(std::sync::Arc::new(store)).await;
        })+
    };
}
pub(crate) use store_suite;

/// Long enough for a slow machine; reached only if a test fails.
const DEADLINE: Duration = Duration::from_secs(20);
const HOUR: Option<Duration> = Some(Duration::from_secs(3600));

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn room(text: &str) -> RoomId {
    RoomId::new(text).unwrap()
}

fn worker(text: &str) -> WorkerId {
    WorkerId::new(text).unwrap()
}

async fn put(store: &dyn Store, collection: Collection, name: &str, value: &str) {
    store.put(collection, &key(name), value.into(), None, PutMode::Replace).await.unwrap();
}

async fn keys(store: &dyn Store, collection: Collection, after: Option<&str>, limit: usize) -> Vec<String> {
    let after = after.map(key);
    let listed = store.list(collection, after.as_ref(), limit).await.unwrap();
    listed.into_iter().map(|d| d.key.as_str().to_owned()).collect()
}

async fn until_gone(store: &dyn Store, collection: Collection, name: &str) {
    let deadline = Instant::now() + DEADLINE;
    while store.get(collection, &key(name)).await.unwrap().is_some() {
        assert!(Instant::now() < deadline, "{name} does not expire");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn documents_are_kept_per_collection(store: Arc<dyn Store>) {
    put(&*store, Collection::Rooms, "a", "room").await;
    put(&*store, Collection::Services, "a", "service").await;
    put(&*store, Collection::Rooms, "a", "room 2").await;
    assert_eq!(store.get(Collection::Rooms, &key("a")).await.unwrap().unwrap(), b"room 2");
    assert_eq!(store.get(Collection::Services, &key("a")).await.unwrap().unwrap(), b"service");
    assert!(store.delete(Collection::Rooms, &key("a")).await.unwrap());
    assert!(!store.delete(Collection::Rooms, &key("a")).await.unwrap());
    assert_eq!(store.get(Collection::Rooms, &key("a")).await.unwrap(), None);
    assert!(store.get(Collection::Services, &key("a")).await.unwrap().is_some());
    put(&*store, Collection::Snapshots, "empty", "").await;
    assert_eq!(store.get(Collection::Snapshots, &key("empty")).await.unwrap().unwrap(), b"");
}

pub(crate) async fn a_create_does_not_replace(store: Arc<dyn Store>) {
    let create = async |value: &str| {
        store.put(Collection::Nonces, &key("n"), value.into(), HOUR, PutMode::Create).await
    };
    create("1").await.unwrap();
    assert!(matches!(create("2").await, Err(StoreError::AlreadyExists)));
    assert_eq!(store.get(Collection::Nonces, &key("n")).await.unwrap().unwrap(), b"1");
    store.delete(Collection::Nonces, &key("n")).await.unwrap();
    create("3").await.unwrap();
}

pub(crate) async fn lists_are_ordered_and_paged(store: Arc<dyn Store>) {
    for name in ["b", "é", "a", "ab", "B"] {
        put(&*store, Collection::Rooms, name, name).await;
    }
    put(&*store, Collection::Services, "0", "").await;
    put(&*store, Collection::Tokens, "0", "").await;
    assert_eq!(keys(&*store, Collection::Rooms, None, 100).await, ["B", "a", "ab", "b", "é"]);
    assert_eq!(keys(&*store, Collection::Rooms, None, 2).await, ["B", "a"]);
    assert_eq!(keys(&*store, Collection::Rooms, Some("a"), 2).await, ["ab", "b"]);
    assert_eq!(keys(&*store, Collection::Rooms, Some("aa"), 1).await, ["ab"]);
    assert!(keys(&*store, Collection::Rooms, Some("é"), 1).await.is_empty());
    assert!(keys(&*store, Collection::Nonces, None, 100).await.is_empty());
}

pub(crate) async fn a_swap_needs_what_it_expects(store: Arc<dyn Store>) {
    let swap = async |expected: &str, value: &str| {
        let mode = PutMode::Swap(expected.into());
        store.put(Collection::Rooms, &key("r"), value.into(), None, mode).await
    };
    assert!(matches!(swap("", "1").await, Err(StoreError::Changed)), "there is none");
    assert_eq!(store.get(Collection::Rooms, &key("r")).await.unwrap(), None);
    put(&*store, Collection::Rooms, "r", "1").await;
    for other in ["", "2", "10", "1 "] {
        assert!(matches!(swap(other, "x").await, Err(StoreError::Changed)), "{other:?}");
    }
    swap("1", "2").await.unwrap();
    assert!(matches!(swap("1", "3").await, Err(StoreError::Changed)));
    assert_eq!(store.get(Collection::Rooms, &key("r")).await.unwrap().unwrap(), b"2");
    store.delete(Collection::Rooms, &key("r")).await.unwrap();
    assert!(matches!(swap("2", "3").await, Err(StoreError::Changed)), "deleted meanwhile");

    // Any bytes, also those that end texts elsewhere.
    let (old, new): (Vec<u8>, Vec<u8>) = ((0..=255).collect(), (0..=255).rev().collect());
    store.put(Collection::Rooms, &key("r"), old.clone(), None, PutMode::Replace).await.unwrap();
    store.put(Collection::Rooms, &key("r"), new.clone(), None, PutMode::Swap(old)).await.unwrap();
    assert_eq!(store.get(Collection::Rooms, &key("r")).await.unwrap(), Some(new));
}

pub(crate) async fn an_expired_document_is_not_what_is_expected(store: Arc<dyn Store>) {
    let ttl = Some(Duration::from_millis(30));
    store.put(Collection::Tokens, &key("t"), b"1".into(), ttl, PutMode::Replace).await.unwrap();
    until_gone(&*store, Collection::Tokens, "t").await;
    let swap = PutMode::Swap(b"1".into());
    let swapped = store.put(Collection::Tokens, &key("t"), b"2".into(), HOUR, swap).await;
    assert!(matches!(swapped, Err(StoreError::Changed)));
    assert_eq!(store.get(Collection::Tokens, &key("t")).await.unwrap(), None);
}

pub(crate) async fn of_many_swappers_each_counts(store: Arc<dyn Store>) {
    const SWAPPERS: u32 = 24;
    const EACH: u32 = 5;
    for collection in [Collection::Rooms, Collection::Services] {
        put(&*store, collection, "counter", "0").await;
        let swappers: Vec<_> = (0..SWAPPERS)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    for _ in 0..EACH {
                        while !increment(&*store, collection).await {}
                    }
                })
            })
            .collect();
        for swapper in swappers {
            swapper.await.unwrap();
        }
        let counted = store.get(collection, &key("counter")).await.unwrap().unwrap();
        assert_eq!(String::from_utf8(counted).unwrap(), (SWAPPERS * EACH).to_string());
    }
}

/// Whether nobody was faster.
async fn increment(store: &dyn Store, collection: Collection) -> bool {
    let seen = store.get(collection, &key("counter")).await.unwrap().unwrap();
    let next = std::str::from_utf8(&seen).unwrap().parse::<u32>().unwrap() + 1;
    match store.put(collection, &key("counter"), next.to_string().into(), None, PutMode::Swap(seen)).await {
        Ok(()) => true,
        Err(StoreError::Changed) => false,
        Err(error) => panic!("{error}"),
    }
}

pub(crate) async fn pages_keep_to_their_prefix(store: Arc<dyn Store>) {
    for name in ["a", "a:", "a:1", "a:2", "a:é", "a;", "b:1"] {
        put(&*store, Collection::Webhooks, name, name).await;
    }
    let of = async |prefix: &str, after: Option<&str>, limit| {
        let query = Query { prefix: prefix.into(), after: after.map(key), limit, ..Query::default() };
        let page = store.page(Collection::Webhooks, &query).await.unwrap();
        (names(&page), page.next.is_some())
    };
    let all = |names: &[&str]| (names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(), false);
    assert_eq!(of("a:", None, 9).await, all(&["a:", "a:1", "a:2", "a:é"]));
    assert_eq!(of("a:", Some("a:1"), 9).await, all(&["a:2", "a:é"]));
    assert_eq!(of("a:", Some("a:1"), 1).await, (vec!["a:2".to_owned()], true));
    assert_eq!(of("a:", Some("a:2"), 1).await, all(&["a:é"]));
    assert_eq!(of("a:", Some("0"), 1).await, (vec!["a:".to_owned()], true), "before the prefix");
    assert_eq!(of("a:", Some("b"), 9).await, all(&[]), "behind the prefix");
    assert_eq!(of("c", None, 9).await, all(&[]));
}

pub(crate) async fn pages_keep_to_their_bytes(store: Arc<dyn Store>) {
    let large = "x".repeat(600 << 10);
    for i in 0..8 {
        put(&*store, Collection::Rooms, &format!("large-{i}"), &large).await;
    }
    put(&*store, Collection::Rooms, "larger", &"y".repeat(3 << 20)).await;
    put(&*store, Collection::Rooms, "small", "z").await;
    let pages = pages(&*store, Collection::Rooms, Query::default()).await;
    let sizes: Vec<usize> = pages.iter().map(Vec::len).collect();
    assert_eq!(sizes, [3, 3, 2, 1, 1], "what is larger than a page is one alone");
    assert_eq!(pages.concat().last().unwrap(), "small");
}

pub(crate) async fn thousands_are_read_page_by_page(store: Arc<dyn Store>) {
    const ALL: usize = 2_500;
    let writers: Vec<_> = (0..50)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for i in (writer..ALL).step_by(50) {
                    put(&*store, Collection::Services, &format!("{i:05}"), &i.to_string()).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let pages = pages(&*store, Collection::Services, Query { limit: 999, ..Query::default() }).await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [999, 999, 502]);
    let expected: Vec<String> = (0..ALL).map(|i| format!("{i:05}")).collect();
    assert_eq!(pages.concat(), expected);
    assert_eq!(store.list(Collection::Services, None, ALL - 1).await.unwrap().len(), ALL - 1);
}

/// The keys of all pages.
async fn pages(store: &dyn Store, collection: Collection, mut query: Query) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    loop {
        let page = store.page(collection, &query).await.unwrap();
        pages.push(names(&page));
        query.after = page.next;
        if query.after.is_none() {
            return pages;
        }
    }
}

fn names(page: &Page) -> Vec<String> {
    page.documents.iter().map(|document| document.key.as_str().to_owned()).collect()
}

pub(crate) async fn what_expires_is_gone(store: Arc<dyn Store>) {
    let ttl = Some(Duration::from_millis(30));
    store.put(Collection::Tokens, &key("short"), b"1".into(), ttl, PutMode::Replace).await.unwrap();
    store.put(Collection::Tokens, &key("long"), b"2".into(), HOUR, PutMode::Replace).await.unwrap();
    until_gone(&*store, Collection::Tokens, "short").await;
    assert_eq!(keys(&*store, Collection::Tokens, None, 100).await, ["long"]);
    assert_eq!(store.take(Collection::Tokens, &key("short")).await.unwrap(), None);
    store.sweep().await.unwrap();
    assert_eq!(store.take(Collection::Tokens, &key("long")).await.unwrap().unwrap(), b"2");
    assert_eq!(store.sweep().await.unwrap(), 0);
}

pub(crate) async fn an_expired_document_may_be_created_anew(store: Arc<dyn Store>) {
    let ttl = Some(Duration::from_millis(30));
    store.put(Collection::Nonces, &key("n"), b"1".into(), ttl, PutMode::Create).await.unwrap();
    until_gone(&*store, Collection::Nonces, "n").await;
    store.put(Collection::Nonces, &key("n"), b"2".into(), HOUR, PutMode::Create).await.unwrap();
    store.sweep().await.unwrap();
    assert_eq!(store.get(Collection::Nonces, &key("n")).await.unwrap().unwrap(), b"2");
}

pub(crate) async fn a_put_without_ttl_lifts_the_old_one(store: Arc<dyn Store>) {
    let ttl = Some(Duration::from_millis(30));
    for name in ["kept", "witness"] {
        store.put(Collection::Tokens, &key(name), b"1".into(), ttl, PutMode::Replace).await.unwrap();
    }
    put(&*store, Collection::Tokens, "kept", "2").await;
    until_gone(&*store, Collection::Tokens, "witness").await;
    store.sweep().await.unwrap();
    assert_eq!(store.get(Collection::Tokens, &key("kept")).await.unwrap().unwrap(), b"2");
}

pub(crate) async fn of_many_takers_one_gets_it(store: Arc<dyn Store>) {
    put(&*store, Collection::Tokens, "t", "once").await;
    let takers: Vec<_> = (0..32)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.take(Collection::Tokens, &key("t")).await.unwrap() })
        })
        .collect();
    let mut got = Vec::new();
    for taker in takers {
        got.extend(taker.await.unwrap());
    }
    assert_eq!(got, [b"once"]);
}

pub(crate) async fn of_many_creators_one_wins(store: Arc<dyn Store>) {
    let creators: Vec<_> = (0..32u8)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(async move {
                store
                    .put(Collection::Nonces, &key("n"), vec![i], HOUR, PutMode::Create)
                    .await
                    .is_ok()
                    .then_some(i)
            })
        })
        .collect();
    let mut winners = Vec::new();
    for creator in creators {
        winners.extend(creator.await.unwrap());
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(store.get(Collection::Nonces, &key("n")).await.unwrap().unwrap(), winners);
}

pub(crate) async fn a_secret_is_made_once(store: Arc<dyn Store>) {
    let name = SecretName::new("token-key").unwrap();
    let askers: Vec<_> = (0..16)
        .map(|_| {
            let (store, name) = (store.clone(), name.clone());
            tokio::spawn(async move { store.secret(&name).await.unwrap().into_bytes() })
        })
        .collect();
    let first = store.secret(&name).await.unwrap().into_bytes();
    assert_eq!(first.len(), 64);
    for asker in askers {
        assert_eq!(asker.await.unwrap(), first);
    }
    let other = store.secret(&SecretName::new("ticket-key").unwrap()).await.unwrap().into_bytes();
    assert_ne!(other, first);
}

pub(crate) async fn epochs_rise_over_all_rooms(store: Arc<dyn Store>) {
    let mut last = store.lease_room(&room("r"), None, &worker("w")).await.unwrap();
    for i in 0..5 {
        let other = store.lease_room(&room(&format!("other-{i}")), None, &worker("w")).await.unwrap();
        let seen = store.room_lease(&room("r")).await.unwrap();
        let again = store.lease_room(&room("r"), seen.as_ref(), &worker("w")).await.unwrap();
        assert!(last < other && other < again);
        last = again;
    }
    assert!(store.release_room(&room("r"), &worker("w")).await.unwrap());
    assert!(store.lease_room(&room("r"), None, &worker("x")).await.unwrap() > last);
}

pub(crate) async fn a_lease_is_taken_only_as_seen(store: Arc<dyn Store>) {
    let r = room("r");
    assert_eq!(store.room_lease(&r).await.unwrap(), None);
    let epoch = store.lease_room(&r, None, &worker("a")).await.unwrap();
    let of_a = store.room_lease(&r).await.unwrap().unwrap();
    assert_eq!((of_a.holder.as_str(), of_a.epoch), ("a", epoch));
    assert!(matches!(store.lease_room(&r, None, &worker("b")).await, Err(StoreError::LeaseChanged)));
    store.lease_room(&r, Some(&of_a), &worker("b")).await.unwrap();
    assert!(matches!(store.lease_room(&r, Some(&of_a), &worker("c")).await, Err(StoreError::LeaseChanged)));
    assert_eq!(store.room_lease(&r).await.unwrap().unwrap().holder.as_str(), "b");
}

pub(crate) async fn of_many_agents_one_gets_the_lease(store: Arc<dyn Store>) {
    let agents: Vec<_> = (0..32)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(async move {
                store.lease_room(&room("r"), None, &worker(&format!("w{i}"))).await.is_ok()
            })
        })
        .collect();
    let mut winners = 0;
    for agent in agents {
        winners += u32::from(agent.await.unwrap());
    }
    assert_eq!(winners, 1);
}

pub(crate) async fn only_the_holder_releases(store: Arc<dyn Store>) {
    let r = room("r");
    store.lease_room(&r, None, &worker("a")).await.unwrap();
    assert!(!store.release_room(&r, &worker("b")).await.unwrap());
    assert!(store.room_lease(&r).await.unwrap().is_some());
    assert!(store.release_room(&r, &worker("a")).await.unwrap());
    assert!(!store.release_room(&r, &worker("a")).await.unwrap());
    assert_eq!(store.room_lease(&r).await.unwrap(), None);
}

fn change(version: u64, parts: &[(&str, &str)], removed: &[&str]) -> SnapshotChange {
    let part = |(key, value): &(&str, &str)| SnapshotPart {
        key: Key::new(key).unwrap(),
        value: value.as_bytes().to_vec(),
    };
    let removed = removed.iter().map(|key| Key::new(key).unwrap());
    SnapshotChange {
        version,
        whole: version == 1,
        parts: parts.iter().map(part).collect(),
        removed: removed.collect(),
    }
}

async fn kept(store: &Arc<dyn Store>, of: &str) -> String {
    let parts = store.read_snapshot(&room(of)).await.unwrap();
    let shown =
        |part: SnapshotPart| format!("{}={}", part.key.as_str(), String::from_utf8(part.value).unwrap());
    let mut parts: Vec<String> = parts.into_iter().map(shown).collect();
    parts.sort();
    parts.join(" ")
}

async fn leased(store: &Arc<dyn Store>, of: &str, by: &str) -> Epoch {
    let seen = store.room_lease(&room(of)).await.unwrap();
    store.lease_room(&room(of), seen.as_ref(), &worker(by)).await.unwrap()
}

pub(crate) async fn a_snapshot_is_changed_part_by_part(store: Arc<dyn Store>) {
    assert_eq!(kept(&store, "r").await, "");
    let (epoch, other) = (leased(&store, "r", "a").await, leased(&store, "r2", "a").await);
    store.write_snapshot(&room("r"), epoch, change(1, &[("p/1", "x"), ("p/2", "y")], &[])).await.unwrap();
    store.write_snapshot(&room("r2"), other, change(1, &[("p/1", "other")], &[])).await.unwrap();
    store.write_snapshot(&room("r"), epoch, change(2, &[("p/2", "z"), ("q", "é")], &["p/1"])).await.unwrap();
    assert_eq!(kept(&store, "r").await, "p/2=z q=é");
    assert_eq!(kept(&store, "r2").await, "p/1=other");
    store.write_snapshot(&room("r"), epoch, change(1, &[("p/3", "anew")], &[])).await.unwrap();
    assert_eq!(kept(&store, "r").await, "p/3=anew", "a whole one");
    assert_eq!(store.kept_rooms().await.unwrap().len(), 2);
}

pub(crate) async fn a_snapshot_is_written_under_the_newest_epoch_alone(store: Arc<dyn Store>) {
    let nobodys = store.write_snapshot(&room("r"), Epoch(1), change(1, &[("p", "x")], &[])).await;
    assert!(matches!(nobodys, Err(StoreError::Fenced)), "{nobodys:?}");
    let older = leased(&store, "r", "a").await;
    store.write_snapshot(&room("r"), older, change(1, &[("p", "x")], &[])).await.unwrap();
    let newer = leased(&store, "r", "b").await;
    assert_eq!(kept(&store, "r").await, "p=x", "the successor reads it");
    for late in [change(2, &[("p", "late")], &[]), change(1, &[("p", "late")], &[])] {
        assert!(matches!(store.write_snapshot(&room("r"), older, late).await, Err(StoreError::Fenced)));
    }
    store.write_snapshot(&room("r"), newer, change(2, &[("p", "y")], &[])).await.unwrap();
    assert_eq!(kept(&store, "r").await, "p=y");
}

pub(crate) async fn a_change_of_another_version_is_refused(store: Arc<dyn Store>) {
    let epoch = leased(&store, "r", "a").await;
    let refused = |done| matches!(done, Err(StoreError::OtherVersion));
    assert!(refused(store.write_snapshot(&room("r"), epoch, change(2, &[("p", "x")], &[])).await));
    store.write_snapshot(&room("r"), epoch, change(1, &[("p", "x")], &[])).await.unwrap();
    assert!(refused(store.write_snapshot(&room("r"), epoch, change(3, &[("p", "y")], &[])).await));
    assert_eq!(kept(&store, "r").await, "p=x");
}

pub(crate) async fn a_snapshot_goes_with_its_lease(store: Arc<dyn Store>) {
    let epoch = leased(&store, "r", "a").await;
    store.write_snapshot(&room("r"), epoch, change(1, &[("p", "x")], &[])).await.unwrap();
    let lease = store.room_lease(&room("r")).await.unwrap().unwrap();
    assert_eq!(store.kept_rooms().await.unwrap(), [(room("r"), lease)]);
    assert!(!store.release_room(&room("r"), &worker("b")).await.unwrap());
    assert_eq!(kept(&store, "r").await, "p=x");
    assert!(store.release_room(&room("r"), &worker("a")).await.unwrap());
    assert_eq!(kept(&store, "r").await, "");
    assert!(store.kept_rooms().await.unwrap().is_empty());
    assert!(matches!(
        store.write_snapshot(&room("r"), epoch, change(2, &[("p", "late")], &[])).await,
        Err(StoreError::Fenced)
    ));
}
