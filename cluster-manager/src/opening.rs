//! Opens the store that the command line names, under its seal key.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Args, RunError, STORE_FILE,
    store::{
        EmbeddedStore, KeyFileError, NoKey, OpenError, RedisStore, SealKey, Sealed, SealedStore, Store,
        StoreError, is_sealed, make_key_file, read_key_file, scrubbed,
    },
};

/// Name of the seal key's file in the data directory.
pub const SEAL_KEY_FILE: &str = "seal.key";

/// Why there is no key for what is sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealKeyError {
    /// What was given is none.
    #[error("--seal-key: {0}")]
    Given(#[from] NoKey),
    /// The file.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The file that was named is not there.
    #[error(
        "{path}: there is no such file. Make it (openssl rand -base64 32), or leave --seal-key-file out to have one made in the data directory"
    )]
    NotThere {
        /// The file.
        path: PathBuf,
    },
    /// The key's file is gone, or this is another machine than the one where the store was first used.
    #[error(
        "the store's credentials are sealed, and the key is not in {path}: bring it back, or give it by --seal-key-file"
    )]
    Lost {
        /// The file that was made once.
        path: PathBuf,
    },
    /// The store does not say whether it was sealed before.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The store of the command line, with what is in it sealed; and, if several can share it, Redis below it.
pub(crate) async fn open_store(args: &Args) -> Result<(Arc<dyn Store>, Option<Arc<RedisStore>>), RunError> {
    if let Some(url) = &args.redis {
        let store = RedisStore::open(url, &args.redis_prefix)
            .await
            .map_err(|source| RunError::Redis { url: url.to_string(), source })?;
        let store = Arc::new(store);
        tracing::info!(redis = %url, prefix = args.redis_prefix, "the durable state is in Redis");
        let (below, sealed_store, sealed) = seal(args, store.clone()).await?;
        if sealed.has_remains {
            tracing::warn!(
                "credentials were readable in Redis and are sealed now; its append-only file and dumps keep the old ones until they are written anew (BGREWRITEAOF, BGSAVE)"
            );
            scrubbed(&*below).await.map_err(SealKeyError::from)?;
        }
        return Ok((sealed_store, Some(store)));
    }
    let path = args.data_dir.join(STORE_FILE);
    let (below, store, sealed) = seal(args, embedded(&path).await?).await?;
    if !sealed.has_remains {
        return Ok((store, None));
    }
    drop((below, store));
    blocking(&path, EmbeddedStore::rewrite).await?;
    let (below, store, _) = seal(args, embedded(&path).await?).await?;
    scrubbed(&*below).await.map_err(SealKeyError::from)?;
    Ok((store, None))
}

async fn embedded(path: &Path) -> Result<Arc<dyn Store>, RunError> {
    Ok(Arc::new(blocking(path, EmbeddedStore::open).await?))
}

async fn blocking<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce(&Path) -> Result<T, OpenError> + Send + 'static,
) -> Result<T, RunError> {
    let theirs = path.to_owned();
    let done = tokio::task::spawn_blocking(move || work(&theirs)).await;
    done.unwrap_or_else(|e| Err(OpenError::Broken(e.to_string())))
        .map_err(|source| RunError::Store { path: path.to_owned(), source })
}

/// The store below, the sealed one on it, and what there was to do.
async fn seal(
    args: &Args,
    below: Arc<dyn Store>,
) -> Result<(Arc<dyn Store>, Arc<dyn Store>, Sealed), RunError> {
    let (key, from) = seal_key(args, &*below).await?;
    let opened = SealedStore::open(below.clone(), &key).await;
    let (store, sealed) = opened.map_err(|source| RunError::Seal { key: from, source })?;
    if sealed.sealed > 0 {
        tracing::info!(count = sealed.sealed, "credentials that were stored readable are sealed");
    }
    Ok((below, Arc::new(store), sealed))
}

/// The key, and where it comes from, for messages. It is made only if nothing can have been sealed before.
async fn seal_key(args: &Args, below: &dyn Store) -> Result<(SealKey, String), SealKeyError> {
    if let Some(text) = &args.seal_key {
        return Ok((text.parse()?, "--seal-key".to_owned()));
    }
    if let Some(path) = &args.seal_key_file {
        let key = read_key_file(path)?.ok_or_else(|| SealKeyError::NotThere { path: path.clone() })?;
        return Ok((key, path.display().to_string()));
    }
    let path = args.data_dir.join(SEAL_KEY_FILE);
    let key = match read_key_file(&path)? {
        Some(key) => key,
        None if is_sealed(below).await? => return Err(SealKeyError::Lost { path }),
        None => make_key_file(&path)?,
    };
    Ok((key, path.display().to_string()))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use kaigi_proto::ids::{RoomId, WorkerId};

    use super::*;
    use crate::store::{Collection, Key, PutMode, SecretName};

    /// What is to be seen nowhere.
    const CREDENTIAL: &str = "correct horse battery staple";

    fn args(dir: &Path, more: &[&str]) -> Args {
        Args::try_parse_from([&["x", "--data-dir", dir.to_str().unwrap()], more].concat()).unwrap()
    }

    async fn opened(args: &Args) -> Arc<dyn Store> {
        open_store(args).await.unwrap().0
    }

    async fn refused(args: &Args) -> String {
        match open_store(args).await {
            Ok(_) => panic!("opened"),
            Err(error) => error.to_string(),
        }
    }

    async fn put(store: &dyn Store, value: &str) {
        let key = Key::new("s").unwrap();
        store.put(Collection::Services, &key, value.into(), None, PutMode::Replace).await.unwrap();
    }

    async fn read(store: &dyn Store) -> String {
        let value = store.get(Collection::Services, &Key::new("s").unwrap()).await.unwrap();
        String::from_utf8(value.unwrap()).unwrap()
    }

    fn shows(dir: &Path, text: &str) -> bool {
        let bytes = std::fs::read(dir.join(STORE_FILE)).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }

    #[tokio::test]
    async fn the_first_start_makes_a_key_and_later_ones_need_it() {
        let dir = tempfile::tempdir().unwrap();
        let args_ = args(dir.path(), &[]);
        put(&*opened(&args_).await, CREDENTIAL).await;
        assert_eq!(read(&*opened(&args_).await).await, CREDENTIAL);

        let (file, moved) = (dir.path().join(SEAL_KEY_FILE), dir.path().join("moved.key"));
        std::fs::rename(&file, &moved).unwrap();
        let lost = refused(&args_).await;
        assert!(lost.contains("seal.key") && lost.contains("--seal-key-file"), "{lost}");
        assert!(!file.exists(), "no other key takes its place");
        let by_file = args(dir.path(), &["--seal-key-file", moved.to_str().unwrap()]);
        assert_eq!(read(&*opened(&by_file).await).await, CREDENTIAL);
        let text = std::fs::read_to_string(&moved).unwrap();
        let by_text = args(dir.path(), &["--seal-key", text.trim()]);
        assert_eq!(read(&*opened(&by_text).await).await, CREDENTIAL);

        let other = SealKey::random().to_base64();
        let wrong = refused(&args(dir.path(), &["--seal-key", &other])).await;
        assert!(wrong.contains("another key") && wrong.contains("--seal-key"), "{wrong}");
        assert!(!wrong.contains(&other), "{wrong}");
        let none = refused(&args(dir.path(), &["--seal-key-file", "/nonexistent/key"])).await;
        assert!(none.contains("/nonexistent/key"), "{none}");
        let short = refused(&args(dir.path(), &["--seal-key", "c2hvcnQ="])).await;
        assert!(short.contains("32 bytes") && !short.contains("c2hvcnQ="), "{short}");
        assert_eq!(read(&*opened(&by_file).await).await, CREDENTIAL, "nothing was harmed");
    }

    #[tokio::test]
    async fn a_file_of_an_older_version_shows_nothing_after_the_first_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STORE_FILE);
        let older = EmbeddedStore::open(&path).unwrap();
        put(&older, CREDENTIAL).await;
        let secret = older.secret(&SecretName::new("token-key").unwrap()).await.unwrap();
        let (room, worker) = (RoomId::new("r").unwrap(), WorkerId::new("w").unwrap());
        let epoch = older.lease_room(&room, None, &worker).await.unwrap();
        let ttl = Some(std::time::Duration::from_secs(3600));
        let token = Key::new("t").unwrap();
        older.put(Collection::Tokens, &token, b"1".into(), ttl, PutMode::Create).await.unwrap();
        drop(older);
        assert!(shows(dir.path(), CREDENTIAL));

        let store = opened(&args(dir.path(), &[])).await;
        assert_eq!(read(&*store).await, CREDENTIAL);
        assert_eq!(store.secret(&SecretName::new("token-key").unwrap()).await.unwrap(), secret);
        assert_eq!(store.room_lease(&room).await.unwrap().unwrap().epoch, epoch);
        assert!(store.lease_room(&RoomId::new("s").unwrap(), None, &worker).await.unwrap() > epoch);
        assert_eq!(store.take(Collection::Tokens, &token).await.unwrap().unwrap(), b"1");
        drop(store);
        assert!(!shows(dir.path(), CREDENTIAL));
        assert!(!path.with_extension("redb.new").exists());
    }

    #[tokio::test]
    async fn a_start_that_was_interrupted_is_taken_up_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STORE_FILE);
        let older: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&path).unwrap());
        put(&*older, CREDENTIAL).await;
        let key = make_key_file(&dir.path().join(SEAL_KEY_FILE)).unwrap();
        // As far as sealing, not as far as writing the file anew, of which a part is there.
        drop(SealedStore::open(older, &key).await.unwrap());
        assert!(shows(dir.path(), CREDENTIAL), "what was written over is still there");
        std::fs::write(path.with_extension("redb.new"), [0x42; 10_000]).unwrap();

        let store = opened(&args(dir.path(), &[])).await;
        assert_eq!(read(&*store).await, CREDENTIAL);
        drop(store);
        assert!(!shows(dir.path(), CREDENTIAL));
    }
}
