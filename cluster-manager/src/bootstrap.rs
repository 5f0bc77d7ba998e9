//! The first start: a service to manage rooms with, a room to meet in, and a file that tells of both.

use std::{
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use kaigi_room_config::{RoomConfig, RoomConfigError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::store::{Collection, Document, Key, KeyError, PutMode, Query, SecretValue, Store, StoreError};

/// Name of the file in the data directory.
pub const CREDENTIALS_FILE: &str = "credentials.json";
/// Name of the service made at first start.
const SERVICE_NAME: &str = "kaigi";
/// Name of the room made at first start.
const ROOM_NAME: &str = "default";
/// Pause before it is looked again whether another cluster-manager has made them.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Why the first start did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file could not be written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// The first room is not valid: a mistake in this program.
    #[error("the first room: {0}")]
    Room(#[from] RoomConfigError),
    /// A document could not be written as JSON, or read.
    #[error("a document of the store: {0}")]
    Document(#[from] serde_json::Error),
    /// An id in the store is no key: a mistake in this program.
    #[error("an id of the store: {0}")]
    Key(#[from] KeyError),
}

/// A service (tenant) of the management API, as stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Service {
    id: String,
    name: String,
    /// What its requests are signed with (MAuth).
    key: String,
    /// May manage services.
    #[serde(rename = "super")]
    is_super: bool,
}

/// Makes the first service, the first room and the credentials file, as far as they are missing. The file is written last: while it
/// is missing, a start that was interrupted is taken up again. With services of others in the store and no file nothing is done.
///
/// # Errors
/// See [`BootstrapError`].
pub async fn bootstrap(store: &dyn Store, data_dir: &Path) -> Result<(), BootstrapError> {
    let path = data_dir.join(CREDENTIALS_FILE);
    let (services, unreadable) = services(store).await?;
    if !services.is_empty() && path.exists() {
        return renew(&services, &path);
    }
    if services.is_empty() && unreadable > 0 {
        // A new one beside them would hide that.
        tracing::error!(unreadable, "no service of the store can be read");
        return Ok(());
    }
    let service = if services.is_empty() {
        let service = Service {
            id: new_id(),
            name: SERVICE_NAME.to_owned(),
            key: STANDARD.encode(SecretValue::random().into_bytes()),
            is_super: true,
        };
        let document = serde_json::to_vec(&service)?;
        store.put(Collection::Services, &Key::new(&service.id)?, document, None, PutMode::Create).await?;
        service
    } else {
        let Some(first) = first_of(&services) else { return Ok(()) };
        first
    };
    let room = match room_of(store, &service).await? {
        Some(room) => room,
        None => make_room(store, &service).await?,
    };
    tell(&service, &room, &path)
}

/// Writes the credentials file, if it is missing, as soon as another cluster-manager on the same store has made the first service and room.
/// Once it is written, or can't be, there is nothing more to do.
pub(crate) async fn tell_when_made(store: &dyn Store, data_dir: &Path) {
    let path = data_dir.join(CREDENTIALS_FILE);
    while !path.exists() {
        match made_before(store).await {
            Ok(Some((service, room))) => {
                if let Err(error) = tell(&service, &room, &path) {
                    tracing::warn!(%error, "the first credentials are not written");
                    return;
                }
            }
            Ok(None) => tokio::time::sleep(LOOK_AGAIN).await,
            Err(error) => {
                tracing::debug!(%error, "the first credentials are not read");
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}

/// The first service and room, if they were made.
async fn made_before(store: &dyn Store) -> Result<Option<(Service, String)>, StoreError> {
    let (services, _) = services(store).await?;
    let Some(service) = first_of(&services) else { return Ok(None) };
    Ok(room_of(store, &service).await?.map(|room| (service, room)))
}

fn first_of(services: &[Document]) -> Option<Service> {
    services
        .iter()
        .filter_map(|document| serde_json::from_slice::<Service>(&document.value).ok())
        .find(|service| service.is_super && service.name == SERVICE_NAME)
}

fn tell(service: &Service, room: &str, path: &Path) -> Result<(), BootstrapError> {
    let credentials = json!({"id": service.id, "key": service.key, "room": room});
    write_private(path, format!("{credentials:#}\n").as_bytes())
        .map_err(|source| BootstrapError::File { path: path.to_owned(), source })?;
    tracing::info!(file = %path.display(), service = service.id, room, "first service and room are ready");
    Ok(())
}

/// Writes the key of the service that the file names into it, if it was changed since.
fn renew(services: &[Document], path: &Path) -> Result<(), BootstrapError> {
    let failed = |source| BootstrapError::File { path: path.to_owned(), source };
    let Ok(mut told) = serde_json::from_slice::<Value>(&std::fs::read(path).map_err(failed)?) else {
        // Somebody else's to mend: it is not written over.
        tracing::warn!(file = %path.display(), "the credentials file is damaged");
        return Ok(());
    };
    let named = services
        .iter()
        .filter_map(|document| serde_json::from_slice::<Service>(&document.value).ok())
        .find(|service| told["id"] == service.id && told["key"] != service.key);
    let Some(service) = named else { return Ok(()) };
    told["key"] = service.key.into();
    write_private(path, format!("{told:#}\n").as_bytes()).map_err(failed)?;
    tracing::info!(file = %path.display(), service = service.id, "the service's new key is written");
    Ok(())
}

/// All services, and how many beside them can't be read.
async fn services(store: &dyn Store) -> Result<(Vec<Document>, usize), StoreError> {
    let (mut services, mut unreadable) = (Vec::new(), 0);
    let mut query = Query::default();
    loop {
        let page = store.page(Collection::Services, &query).await?;
        services.extend(page.documents);
        unreadable += page.unreadable.len();
        query.after = page.next;
        if query.after.is_none() {
            return Ok((services, unreadable));
        }
    }
}

async fn room_of(store: &dyn Store, service: &Service) -> Result<Option<String>, StoreError> {
    let mut query = Query::default();
    loop {
        let page = store.page(Collection::Rooms, &query).await?;
        let rooms = page
            .documents
            .iter()
            .filter_map(|document| serde_json::from_slice::<RoomConfig>(&document.value).ok());
        let mut first = rooms.filter(|room| room.service == service.id && room.name == ROOM_NAME);
        if let Some(room) = first.next() {
            return Ok(Some(room.id));
        }
        query.after = page.next;
        if query.after.is_none() {
            return Ok(None);
        }
    }
}

async fn make_room(store: &dyn Store, service: &Service) -> Result<String, BootstrapError> {
    let options = json!({
        "autoMix": true,
        "views": [{"label": "common", "video": {
            "parameters": {"resolution": {"width": 1280, "height": 720}, "framerate": 24},
        }}],
    });
    let options = options.as_object().cloned().unwrap_or_default();
    let room = RoomConfig::from_options(&new_id(), ROOM_NAME, &service.id, &options)?;
    let document = serde_json::to_vec(&room)?;
    store.put(Collection::Rooms, &Key::new(&room.id)?, document, None, PutMode::Create).await?;
    Ok(room.id)
}

/// 24 hex characters, as OWT's database ids are: seconds since 1970, then chance, so that listing by id is listing by age.
fn new_id() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format!("{:08x}{}", seconds & 0xffff_ffff, hex::encode(rand::random::<[u8; 8]>()))
}

/// Readable by the owner alone, whole or not at all.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // Others may write it at the same time, if they share the directory.
    let unfinished = path.with_extension(format!("json.new-{:08x}", rand::random::<u32>()));
    let written = || {
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)
    };
    written().inspect_err(|_| {
        // What can't be written may not be there to be removed either.
        let _ = std::fs::remove_file(&unfinished);
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::Value;

    use super::*;
    use crate::store::EmbeddedStore;

    async fn start(dir: &Path) -> (Value, EmbeddedStore) {
        let store = EmbeddedStore::open(&dir.join("kaigi.redb")).unwrap();
        bootstrap(&store, dir).await.unwrap();
        let text = std::fs::read(dir.join(CREDENTIALS_FILE)).unwrap();
        (serde_json::from_slice(&text).unwrap(), store)
    }

    async fn documents(store: &EmbeddedStore, collection: Collection) -> Vec<Value> {
        let listed = store.list(collection, None, 1_000).await.unwrap();
        listed.iter().map(|d| serde_json::from_slice(&d.value).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_key_that_was_changed_is_told_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let (told, store) = start(dir.path()).await;
        let mut service = documents(&store, Collection::Services).await.remove(0);
        service["key"] = "another key".into();
        let key = Key::new(told["id"].as_str().unwrap()).unwrap();
        let changed = service.to_string().into_bytes();
        store.put(Collection::Services, &key, changed, None, PutMode::Replace).await.unwrap();
        drop(store);
        let (renewed, _store) = start(dir.path()).await;
        assert_eq!((&renewed["id"], &renewed["room"]), (&told["id"], &told["room"]));
        assert_eq!(renewed["key"], "another key");
    }

    #[tokio::test]
    async fn the_first_start_makes_one_service_one_room_and_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let (told, store) = start(dir.path()).await;
        let services = documents(&store, Collection::Services).await;
        assert_eq!(services.len(), 1);
        assert_eq!(
            (&services[0]["id"], &services[0]["key"], &services[0]["name"], &services[0]["super"]),
            (&told["id"], &told["key"], &json!("kaigi"), &json!(true))
        );
        assert_eq!(STANDARD.decode(told["key"].as_str().unwrap()).unwrap().len(), 64);
        let rooms = documents(&store, Collection::Rooms).await;
        assert_eq!(rooms.len(), 1);
        assert_eq!((&rooms[0]["_id"], &rooms[0]["service"]), (&told["room"], &told["id"]));
        assert_eq!(rooms[0]["autoMix"], true);
        let video = &rooms[0]["views"][0]["video"]["parameters"];
        assert_eq!((&video["resolution"]["width"], &video["framerate"]), (&json!(1280), &json!(24)));
        let mode = std::fs::metadata(dir.path().join(CREDENTIALS_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn later_starts_change_nothing_and_take_up_what_was_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let (told, store) = start(dir.path()).await;
        drop(store);
        let (again, store) = start(dir.path()).await;
        assert_eq!(again, told);
        // As if the first start had been killed after it made the service.
        std::fs::remove_file(dir.path().join(CREDENTIALS_FILE)).unwrap();
        store.delete(Collection::Rooms, &Key::new(told["room"].as_str().unwrap()).unwrap()).await.unwrap();
        drop(store);
        let (repaired, store) = start(dir.path()).await;
        assert_eq!((&repaired["id"], &repaired["key"]), (&told["id"], &told["key"]));
        assert_eq!(documents(&store, Collection::Services).await.len(), 1);
        assert_eq!(documents(&store, Collection::Rooms).await[0]["_id"], repaired["room"]);
    }
}
