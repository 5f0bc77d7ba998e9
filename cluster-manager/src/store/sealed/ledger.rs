//! What the store itself knows of its sealing: under which key (a check value that opens under no other), and whether readable remains
//! of older versions may still be on its disk.

use super::{
    cipher::{Cipher, Place, is_sealed as has_mark},
    holds_credentials,
};
use crate::store::{Collection, Key, PutMode, Query, SecretValue, Store, StoreError};

/// Key of the check value.
const CHECK: &str = "check";
/// What it says.
const CHECK_TEXT: &[u8] = b"kaigi";
/// Key of what is there while readable remains may be.
const REMAINS: &str = "remains";
/// Collections with documents that are sealed.
const COLLECTIONS: [Collection; 2] = [Collection::Services, Collection::Webhooks];

/// Why a store can't be used under a key.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It was sealed under another key. Nothing was changed.
    #[error("the store's credentials are sealed under another key")]
    WrongKey,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was found and done when a store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sealed {
    /// Documents and secrets that were readable and are sealed now.
    pub sealed: usize,
    /// Whether what was written over may still be on the store's disk. Stays so until [`scrubbed`] is told.
    pub has_remains: bool,
}

fn ledger_key(text: &str) -> Key {
    Key::new(text).expect("a literal that is a key")
}

/// Whether anything was ever sealed in that store.
pub(crate) async fn is_sealed(store: &dyn Store) -> Result<bool, StoreError> {
    Ok(store.get(Collection::Seal, &ledger_key(CHECK)).await?.is_some()
        || !sealed_texts(store).await?.is_empty())
}

/// The remains are gone.
pub(crate) async fn scrubbed(store: &dyn Store) -> Result<(), StoreError> {
    store.delete(Collection::Seal, &ledger_key(REMAINS)).await.map(drop)
}

/// Checks the key, and seals what is not sealed yet.
pub(super) async fn seal_all(store: &dyn Store, cipher: &Cipher) -> Result<Sealed, SealError> {
    check(store, cipher).await?;
    let mut done =
        Sealed { sealed: 0, has_remains: store.get(Collection::Seal, &ledger_key(REMAINS)).await?.is_some() };
    for collection in COLLECTIONS {
        debug_assert!(holds_credentials(collection));
        let mut query = Query::default();
        loop {
            let page = store.page(collection, &query).await?;
            for document in page.documents.into_iter().filter(|document| !has_mark(&document.value)) {
                found_readable(store, &mut done).await?;
                let sealed = cipher.seal(Place::Document(collection, &document.key), &document.value);
                let swap = PutMode::Swap(document.value);
                unless_changed(store.put(collection, &document.key, sealed, None, swap).await)?;
            }
            query.after = page.next;
            if query.after.is_none() {
                break;
            }
        }
    }
    for (name, value) in store.secrets().await?.into_iter().filter(|(_, value)| !has_mark(&value.0)) {
        found_readable(store, &mut done).await?;
        let sealed = SecretValue(cipher.seal(Place::Secret(&name), &value.0));
        unless_changed(store.swap_secret(&name, &value, sealed).await)?;
    }
    Ok(done)
}

/// Notes, before anything is written over, that there will be remains.
async fn found_readable(store: &dyn Store, done: &mut Sealed) -> Result<(), StoreError> {
    if !done.has_remains {
        store.put(Collection::Seal, &ledger_key(REMAINS), Vec::new(), None, PutMode::Replace).await?;
    }
    *done = Sealed { sealed: done.sealed + 1, has_remains: true };
    Ok(())
}

/// Another process that starts at the same time may have sealed it.
fn unless_changed(written: Result<(), StoreError>) -> Result<(), StoreError> {
    match written {
        Err(StoreError::Changed) => Ok(()),
        other => other,
    }
}

/// Whether the key is the store's; the first one becomes it.
async fn check(store: &dyn Store, cipher: &Cipher) -> Result<(), SealError> {
    let key = ledger_key(CHECK);
    let place = Place::Document(Collection::Seal, &key);
    let verify = |stored: Vec<u8>| {
        let is_right = has_mark(&stored) && cipher.open(place, stored).is_ok_and(|text| text == CHECK_TEXT);
        if is_right { Ok(()) } else { Err(SealError::WrongKey) }
    };
    if let Some(stored) = store.get(Collection::Seal, &key).await? {
        return verify(stored);
    }
    // Without a check value, what is sealed tells: one text that opens proves the key, others may be damaged.
    let sealed = sealed_texts(store).await?;
    let opens = |(place, text): &(Owner, Vec<u8>)| cipher.open(place.place(), text.clone()).is_ok();
    if !sealed.is_empty() && !sealed.iter().any(opens) {
        return Err(SealError::WrongKey);
    }
    let written =
        store.put(Collection::Seal, &key, cipher.seal(place, CHECK_TEXT), None, PutMode::Create).await;
    match written {
        Ok(()) => Ok(()),
        // Another process was faster; its key has to be the same.
        Err(StoreError::AlreadyExists) => {
            verify(store.get(Collection::Seal, &key).await?.ok_or(StoreError::Changed)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whose text it is.
enum Owner {
    Document(Collection, Key),
    Secret(crate::store::SecretName),
}

impl Owner {
    fn place(&self) -> Place<'_> {
        match self {
            Self::Document(collection, key) => Place::Document(*collection, key),
            Self::Secret(name) => Place::Secret(name),
        }
    }
}

/// Some of what is sealed: the secrets, and a page of each collection.
async fn sealed_texts(store: &dyn Store) -> Result<Vec<(Owner, Vec<u8>)>, StoreError> {
    let mut texts: Vec<_> =
        store.secrets().await?.into_iter().map(|(name, value)| (Owner::Secret(name), value.0)).collect();
    for collection in COLLECTIONS {
        let page = store.page(collection, &Query::default()).await?;
        texts.extend(page.documents.into_iter().map(|d| (Owner::Document(collection, d.key), d.value)));
    }
    texts.retain(|(_, text)| has_mark(text));
    Ok(texts)
}
