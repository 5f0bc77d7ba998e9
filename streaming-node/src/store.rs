//! Where recordings go when they are complete: an object store (S3 and what speaks like it, or a folder elsewhere).
//!
//! What waits is written down as empty files in a folder beside the recordings, so that nothing is forgotten when the process dies: a file is
//! noted before its first byte is written, and its note removed when it is stored. What was open when a process died is stored by the next one.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use object_store::{ObjectStore, ObjectStoreExt, buffered::BufWriter, path::Path as Key};
use parking_lot::Mutex;
use tokio::{io::AsyncWriteExt, sync::Notify};
use tokio_util::sync::CancellationToken;
use url::Url;

/// Folder of the notes, in that of the recordings.
const NOTES: &str = ".to-store";
/// Between looks at what waits.
const TICK: Duration = Duration::from_secs(5);
/// First and longest pause after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL is none of a store, or its settings are not complete.
    #[error("no store of recordings: {0}")]
    Store(#[from] object_store::Error),
    /// The folder of notes can't be made.
    #[error("no folder {}: {source}", folder.display())]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

/// Why a file is not stored, yet.
#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error("{0}")]
    Store(#[from] object_store::Error),
    #[error("{0}")]
    File(#[from] io::Error),
}

/// What is to be stored.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// Names of files that are being written.
    open: Mutex<BTreeSet<String>>,
    news: Notify,
}

impl Outbox {
    /// For recordings in `folder`.
    ///
    /// # Errors
    /// If there can be no notes.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let notes = folder.join(NOTES);
        std::fs::create_dir_all(&notes).map_err(|source| StoreError::Folder { folder: notes, source })?;
        let (open, news) = (Mutex::default(), Notify::new());
        Ok(Self(Arc::new(Shared { folder: folder.to_owned(), open, news })))
    }

    /// A file is about to be written.
    ///
    /// # Errors
    /// If that can't be noted.
    pub fn begin(&self, file: &Path) -> io::Result<()> {
        let Some(name) = name_of(file) else { return Ok(()) };
        self.0.open.lock().insert(name.clone());
        self.note(&name)
    }

    /// It is complete.
    pub fn complete(&self, file: &Path) {
        if let Some(name) = name_of(file) {
            self.0.open.lock().remove(&name);
        }
        self.0.news.notify_one();
    }

    /// A manifest has changed.
    ///
    /// # Errors
    /// If that can't be noted.
    pub fn changed(&self, file: &Path) -> io::Result<()> {
        let Some(name) = name_of(file) else { return Ok(()) };
        self.note(&name)
    }

    fn note(&self, name: &str) -> io::Result<()> {
        std::fs::write(self.0.folder.join(NOTES).join(name), b"")
    }

    /// Names of what waits and is not being written.
    fn waiting(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.0.folder.join(NOTES))? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        let open = self.0.open.lock();
        names.retain(|name| !open.contains(name));
        // Manifests come last: what they list is there then.
        names.sort_by_key(|name| (name.ends_with(".json"), name.clone()));
        Ok(names)
    }
}

/// Stores what waits, for as long as the process runs.
#[derive(Debug)]
pub struct Uploader {
    outbox: Outbox,
    store: Arc<dyn ObjectStore>,
    prefix: Key,
    /// Whether files go when they are stored.
    moves: bool,
}

impl Uploader {
    /// To what the URL names: `s3://bucket/prefix`, with `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION` and `AWS_ENDPOINT` of the
    /// environment, or `file:///folder`.
    ///
    /// # Errors
    /// If it names none.
    pub fn new(outbox: Outbox, url: &Url, moves: bool) -> Result<Self, StoreError> {
        kaigi_outbound::http::prepare_tls();
        let settings = std::env::vars().map(|(name, value)| (name.to_ascii_lowercase(), value));
        let settings = settings.filter(|(name, _)| name.starts_with("aws_"));
        let (store, prefix) = object_store::parse_url_opts(url, settings)?;
        Ok(Self { outbox, store: store.into(), prefix, moves })
    }

    /// Until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = RETRY.0;
        while !stop.is_cancelled() {
            let wait = match self.pass().await {
                Ok(()) => {
                    pause = RETRY.0;
                    TICK
                }
                Err((name, error)) => {
                    tracing::warn!(name, %error, "recording not stored, tried again");
                    metrics::counter!("kaigi_streaming_uploads_failed_total").increment(1);
                    let wait = pause;
                    pause = (pause * 2).min(RETRY.1);
                    wait
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = self.outbox.0.news.notified() => {}
            }
        }
    }

    /// Stores all that waits; ends at the first failure.
    async fn pass(&self) -> Result<(), (String, UploadError)> {
        let waiting = self.outbox.waiting().map_err(|error| (NOTES.to_owned(), error.into()))?;
        metrics::gauge!("kaigi_streaming_uploads_waiting").set(waiting.len() as f64);
        for name in waiting {
            self.store(&name).await.map_err(|error| (name, error))?;
        }
        Ok(())
    }

    async fn store(&self, name: &str) -> Result<(), UploadError> {
        let folder = &self.outbox.0.folder;
        let (file, note) = (folder.join(name), folder.join(NOTES).join(name));
        let noted = tokio::fs::metadata(&note).await?.modified()?;
        let mut reader = match tokio::fs::File::open(&file).await {
            Ok(reader) => reader,
            // It never came to be, or somebody has taken it away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(tokio::fs::remove_file(&note).await?);
            }
            Err(error) => return Err(error.into()),
        };
        let key = self.prefix.clone().join(name);
        let length = reader.metadata().await?.len();
        if length == 0 {
            self.store.put(&key, Vec::new().into()).await?;
        } else {
            let mut writer = BufWriter::new(Arc::clone(&self.store), key.clone());
            if let Err(error) = tokio::io::copy(&mut reader, &mut writer).await {
                let _aborted = writer.abort().await;
                return Err(error.into());
            }
            writer.shutdown().await?;
        }
        // What was noted again meanwhile is stored again.
        if tokio::fs::metadata(&note).await?.modified()? == noted {
            tokio::fs::remove_file(&note).await?;
            if self.moves && !name.ends_with(".json") {
                tokio::fs::remove_file(&file).await?;
            }
        }
        tracing::info!(name, %key, length, "recording stored");
        metrics::counter!("kaigi_streaming_uploads_total").increment(1);
        Ok(())
    }
}

fn name_of(file: &Path) -> Option<String> {
    Some(file.file_name()?.to_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        recordings: tempfile::TempDir,
        stored: tempfile::TempDir,
        outbox: Outbox,
    }

    fn world() -> World {
        let recordings = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(recordings.path()).unwrap();
        World { recordings, stored: tempfile::tempdir().unwrap(), outbox }
    }

    impl World {
        fn uploader(&self, moves: bool) -> Uploader {
            let url = Url::from_directory_path(self.stored.path()).unwrap().join("a/b").unwrap();
            Uploader::new(self.outbox.clone(), &url, moves).unwrap()
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let file = self.recordings.path().join(name);
            std::fs::write(&file, text).unwrap();
            file
        }

        fn stored(&self, name: &str) -> Option<String> {
            std::fs::read_to_string(self.stored.path().join("a/b").join(name)).ok()
        }
    }

    #[tokio::test]
    async fn what_is_complete_is_stored_and_noted_no_more() {
        let world = world();
        let (file, uploader) = (world.write("1.mkv", "half"), world.uploader(false));
        world.outbox.begin(&file).unwrap();
        uploader.pass().await.unwrap();
        assert_eq!(world.stored("1.mkv"), None, "stored before it was complete");
        world.write("1.mkv", "whole");
        world.outbox.complete(&file);
        world.outbox.changed(&world.write("1.json", "{}")).unwrap();
        uploader.pass().await.unwrap();
        assert_eq!(world.stored("1.mkv").as_deref(), Some("whole"));
        assert_eq!(world.stored("1.json").as_deref(), Some("{}"));
        assert!(file.exists() && world.outbox.waiting().unwrap().is_empty());
    }

    #[tokio::test]
    async fn files_go_if_they_are_to_and_manifests_stay() {
        let world = world();
        let (file, manifest) = (world.write("1.mkv", "whole"), world.write("1.json", "{}"));
        world.outbox.begin(&file).unwrap();
        world.outbox.complete(&file);
        world.outbox.changed(&manifest).unwrap();
        world.uploader(true).pass().await.unwrap();
        assert!(!file.exists() && manifest.exists());
        assert!(world.stored("1.mkv").is_some());
    }

    #[tokio::test]
    async fn what_was_open_when_a_process_died_is_stored_by_the_next() {
        let world = world();
        world.outbox.begin(&world.write("1.mkv", "up to here")).unwrap();
        let next = World { outbox: Outbox::open(world.recordings.path()).unwrap(), ..world };
        next.uploader(false).pass().await.unwrap();
        assert_eq!(next.stored("1.mkv").as_deref(), Some("up to here"));
    }

    #[tokio::test]
    async fn a_store_that_fails_is_tried_again_and_loses_nothing() {
        let world = world();
        let file = world.write("1.mkv", "whole");
        world.outbox.begin(&file).unwrap();
        world.outbox.complete(&file);
        // Where its folder should be is a file.
        std::fs::write(world.stored.path().join("a"), "in the way").unwrap();
        let uploader = world.uploader(true);
        assert!(uploader.pass().await.is_err());
        assert!(file.exists());
        std::fs::remove_file(world.stored.path().join("a")).unwrap();
        uploader.pass().await.unwrap();
        assert_eq!(world.stored("1.mkv").as_deref(), Some("whole"));
    }

    #[test]
    fn urls_of_no_store_are_refused() {
        let world = world();
        let bucket = Url::parse("s3://meetings/kaigi/2026").unwrap();
        let uploader = Uploader::new(world.outbox.clone(), &bucket, false).unwrap();
        assert_eq!(uploader.prefix, Key::from("kaigi/2026"));
        for url in ["ftp://a/b", "s3:bucket"] {
            let url = Url::parse(url).unwrap();
            assert!(
                matches!(Uploader::new(world.outbox.clone(), &url, false), Err(StoreError::Store(_))),
                "{url}"
            );
        }
    }
}
