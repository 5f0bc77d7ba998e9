//! The suite for any store, and what is sealing's own: what the disk shows, other keys, damage, documents of older versions.

use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::store::{EmbeddedStore, suite::store_suite};

/// What is to be seen nowhere.
const CREDENTIAL: &str = "correct horse battery staple";

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn name(text: &str) -> SecretName {
    SecretName::new(text).unwrap()
}

fn file(dir: &Path) -> Arc<dyn Store> {
    Arc::new(EmbeddedStore::open(&dir.join("kaigi.redb")).unwrap())
}

/// A store that is sealed, and the one below it.
struct Stores {
    below: Arc<dyn Store>,
    sealed: SealedStore,
    key: SealKey,
    dir: TempDir,
}

impl Stores {
    async fn new() -> Self {
        let (dir, key) = (tempfile::tempdir().unwrap(), SealKey::random());
        let below = file(dir.path());
        let (sealed, _) = SealedStore::open(below.clone(), &key).await.unwrap();
        Self { below, sealed, key, dir }
    }

    /// The bytes of the file, which is closed for that.
    fn close(self) -> (Vec<u8>, SealKey, TempDir) {
        let Self { below, sealed, key, dir } = self;
        drop((below, sealed));
        (std::fs::read(dir.path().join("kaigi.redb")).unwrap(), key, dir)
    }
}

async fn fresh() -> (SealedStore, TempDir) {
    let Stores { sealed, dir, .. } = Stores::new().await;
    (sealed, dir)
}

store_suite!(fresh());

fn shows(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

async fn put(store: &dyn Store, collection: Collection, name: &str, value: &str) {
    store.put(collection, &key(name), value.into(), None, PutMode::Replace).await.unwrap();
}

#[tokio::test]
async fn the_file_shows_no_credential() {
    let stores = Stores::new().await;
    let store = &stores.sealed;
    put(store, Collection::Services, "s", CREDENTIAL).await;
    put(store, Collection::Webhooks, "s:w", CREDENTIAL).await;
    put(store, Collection::Rooms, "r", "rooms are not sealed").await;
    for i in 0..20 {
        let (value, seen) = (format!("{CREDENTIAL} {}", i + 1), format!("{CREDENTIAL} {i}"));
        let mode = if i == 0 { PutMode::Swap(CREDENTIAL.into()) } else { PutMode::Swap(seen.into()) };
        store.put(Collection::Services, &key("s"), value.into(), None, mode).await.unwrap();
    }
    let secret = store.secret(&name("token-key")).await.unwrap();
    let swapped = SecretValue(CREDENTIAL.into());
    store.swap_secret(&name("token-key"), &secret, swapped.clone()).await.unwrap();
    assert_eq!(store.secret(&name("token-key")).await.unwrap(), swapped);
    assert!(matches!(
        store.swap_secret(&name("token-key"), &secret, secret.clone()).await,
        Err(StoreError::Changed)
    ));
    assert_eq!(store.secrets().await.unwrap(), [(name("token-key"), swapped)]);

    let (bytes, ..) = stores.close();
    assert!(shows(&bytes, b"rooms are not sealed"), "the file is looked into");
    assert!(!shows(&bytes, CREDENTIAL.as_bytes()) && !shows(&bytes, &secret.into_bytes()));
}

#[tokio::test]
async fn another_seal_keyis_refused_and_changes_nothing() {
    let stores = Stores::new().await;
    put(&stores.sealed, Collection::Services, "s", CREDENTIAL).await;
    let (before, right, dir) = stores.close();
    let below = file(dir.path());
    let refused = SealedStore::open(below.clone(), &SealKey::random()).await;
    assert!(matches!(refused, Err(SealError::WrongKey)));

    // Nor if what says so is taken away, or is readable: what is sealed says it as well.
    for check in [None, Some("kaigi")] {
        below.delete(Collection::Seal, &key("check")).await.unwrap();
        if let Some(text) = check {
            put(&*below, Collection::Seal, "check", text).await;
        }
        let refused = SealedStore::open(below.clone(), &SealKey::random()).await;
        assert!(matches!(refused, Err(SealError::WrongKey)), "{check:?}");
    }
    below.delete(Collection::Seal, &key("check")).await.unwrap();
    let (store, done) = SealedStore::open(below, &right).await.unwrap();
    assert_eq!(done, Sealed::default());
    assert_eq!(store.get(Collection::Services, &key("s")).await.unwrap().unwrap(), CREDENTIAL.as_bytes());
    drop(store);
    assert!(!shows(&before, CREDENTIAL.as_bytes()));
}

#[tokio::test]
async fn a_document_that_was_changed_or_moved_is_an_error_of_its_own() {
    let Stores { below, sealed: store, .. } = Stores::new().await;
    for name in ["a", "b", "c"] {
        put(&store, Collection::Services, name, CREDENTIAL).await;
    }
    let raw = async |name: &str| below.get(Collection::Services, &key(name)).await.unwrap().unwrap();
    let put_raw = async |collection, name: &str, value| {
        below.put(collection, &key(name), value, None, PutMode::Replace).await.unwrap();
    };
    let mut changed = raw("a").await;
    *changed.last_mut().unwrap() ^= 1;
    put_raw(Collection::Services, "a", changed.clone()).await;
    put_raw(Collection::Services, "d", raw("b").await).await;
    put_raw(Collection::Webhooks, "b", raw("b").await).await;

    for (collection, name) in
        [(Collection::Services, "a"), (Collection::Services, "d"), (Collection::Webhooks, "b")]
    {
        assert!(matches!(store.get(collection, &key(name)).await, Err(StoreError::Unreadable)), "{name}");
        let swap = PutMode::Swap(CREDENTIAL.into());
        let swapped = store.put(collection, &key(name), b"x".into(), None, swap).await;
        assert!(matches!(swapped, Err(StoreError::Unreadable)), "{name}");
        assert!(matches!(store.take(collection, &key(name)).await, Err(StoreError::Unreadable)), "{name}");
    }
    let page = store.page(Collection::Services, &Query::default()).await.unwrap();
    let readable: Vec<&str> = page.documents.iter().map(|document| document.key.as_str()).collect();
    assert_eq!((readable, page.unreadable), (vec!["b", "c"], vec![key("a"), key("d")]));
    assert_eq!(store.list(Collection::Services, None, 9).await.unwrap().len(), 2);
    assert_eq!(raw("a").await, changed, "what does not open is left for who looks into it");

    // It can be written over and deleted.
    put(&store, Collection::Services, "a", "new").await;
    assert_eq!(store.get(Collection::Services, &key("a")).await.unwrap().unwrap(), b"new");
    assert!(store.delete(Collection::Services, &key("d")).await.unwrap());

    store.secret(&name("token-key")).await.unwrap();
    let (_, kept) = below.secrets().await.unwrap().remove(0);
    below.secret_or(&name("other"), kept).await.unwrap();
    assert!(matches!(store.secret(&name("other")).await, Err(StoreError::Unreadable)));
    assert!(store.secret(&name("token-key")).await.is_ok());
}

#[tokio::test]
async fn what_older_versions_wrote_is_read_and_sealed() {
    let (dir, seal_key) = (tempfile::tempdir().unwrap(), SealKey::random());
    let below = file(dir.path());
    for i in 0..3 {
        put(&*below, Collection::Webhooks, &format!("s:{i}"), CREDENTIAL).await;
    }
    put(&*below, Collection::Services, "s", CREDENTIAL).await;
    let secret = below.secret(&name("token-key")).await.unwrap();
    let (store, done) = SealedStore::open(below.clone(), &seal_key).await.unwrap();
    assert_eq!(done, Sealed { sealed: 5, has_remains: true });
    assert_eq!(store.get(Collection::Services, &key("s")).await.unwrap().unwrap(), CREDENTIAL.as_bytes());
    assert_eq!(store.secret(&name("token-key")).await.unwrap(), secret);
    assert_ne!(below.get(Collection::Services, &key("s")).await.unwrap().unwrap(), CREDENTIAL.as_bytes());

    // By an older version that runs beside this one.
    put(&*below, Collection::Services, "t", CREDENTIAL).await;
    assert_eq!(store.get(Collection::Services, &key("t")).await.unwrap().unwrap(), CREDENTIAL.as_bytes());
    let swap = PutMode::Swap(CREDENTIAL.into());
    store.put(Collection::Services, &key("t"), b"new".into(), None, swap).await.unwrap();
    assert_ne!(below.get(Collection::Services, &key("t")).await.unwrap().unwrap(), b"new");

    let (_, again) = SealedStore::open(below.clone(), &seal_key).await.unwrap();
    assert_eq!(again, Sealed { sealed: 0, has_remains: true }, "until somebody says that they are gone");
    scrubbed(&*below).await.unwrap();
    let (_, again) = SealedStore::open(below, &seal_key).await.unwrap();
    assert_eq!(again, Sealed::default());
}

#[tokio::test]
async fn of_two_first_starts_with_different_keys_one_is_refused() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let below = file(dir.path());
        let start = || {
            let below = below.clone();
            tokio::spawn(async move { SealedStore::open(below, &SealKey::random()).await.is_ok() })
        };
        let (one, other) = (start(), start());
        assert_eq!(u8::from(one.await.unwrap()) + u8::from(other.await.unwrap()), 1);
    }
}
