//! What the store is asked for and by which names.

use std::fmt;

use kaigi_proto::{ids::WorkerId, v1};

/// Longest key in bytes; keys are ids and nonces, none of which is near it.
const MAX_KEY_LENGTH: usize = 256;

/// Why a text is no key.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum KeyError {
    /// Nothing was given.
    #[error("the key is empty")]
    Empty,
    /// More than 256 bytes.
    #[error("the key is longer than {MAX_KEY_LENGTH} bytes")]
    TooLong,
    /// A control character.
    #[error("the key has a control character")]
    BadCharacter,
}

fn checked(text: &str) -> Result<Box<str>, KeyError> {
    if text.is_empty() {
        Err(KeyError::Empty)
    } else if text.len() > MAX_KEY_LENGTH {
        Err(KeyError::TooLong)
    } else if text.chars().any(char::is_control) {
        Err(KeyError::BadCharacter)
    } else {
        Ok(text.into())
    }
}

/// Names a document within its collection: 1 to 256 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(Box<str>);

impl Key {
    /// Takes a text for a key.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn new(text: &str) -> Result<Self, KeyError> {
        checked(text).map(Self)
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Names a secret; the same rules as for a [`Key`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretName(Box<str>);

impl SecretName {
    /// Takes a text for a name.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn new(text: &str) -> Result<Self, KeyError> {
        checked(text).map(Self)
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A secret's 64 bytes; not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(pub(crate) Vec<u8>);

impl SecretValue {
    /// Bytes in a secret: the output of the longest HMAC in use (SHA-512), beyond which RFC 2104, section 3, sees no gain.
    pub const LENGTH: usize = 64;

    /// A new random one.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random::<[u8; Self::LENGTH]>().to_vec())
    }

    /// The bytes, on loan.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// A kind of document. The numbers are part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Collection {
    /// Services (tenants) of the management API.
    Services = 1,
    /// Room documents.
    Rooms = 2,
    /// Tokens given out and not yet used.
    Tokens = 3,
    /// Nonces seen.
    Nonces = 4,
    /// State of live rooms.
    Snapshots = 5,
    /// Workers of the cluster; the cluster-manager's own, not reachable by gRPC.
    Workers = 6,
    /// Where services want to be told what happens in their rooms.
    Webhooks = 7,
    /// Events that wait for webhooks, and how far those are; the cluster-manager's own, not reachable by gRPC.
    Events = 8,
    /// How the store is sealed; the cluster-manager's own, not reachable by gRPC.
    Seal = 9,
}

impl Collection {
    /// The number under which it is stored.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The wire's collection, unless it is unspecified or unknown.
    #[must_use]
    pub fn from_wire(number: i32) -> Option<Self> {
        match v1::Collection::try_from(number).ok()? {
            v1::Collection::Unspecified => None,
            v1::Collection::Services => Some(Self::Services),
            v1::Collection::Rooms => Some(Self::Rooms),
            v1::Collection::Tokens => Some(Self::Tokens),
            v1::Collection::Nonces => Some(Self::Nonces),
            v1::Collection::Snapshots => Some(Self::Snapshots),
            v1::Collection::Webhooks => Some(Self::Webhooks),
        }
    }
}

/// Which documents of a collection are wanted, and how many at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Only keys greater than this one.
    pub after: Option<Key>,
    /// Only keys that begin so.
    pub prefix: String,
    /// Most documents of a page.
    pub limit: usize,
    /// Most bytes of a page, as [`Document::cost`] counts; a document that is larger alone is a page of its own.
    pub max_bytes: usize,
}

impl Query {
    /// Bytes in a page if nothing else is said: some hundred rooms, and less than half of what a gRPC message may have by default
    /// (4 MiB).
    pub const MAX_BYTES: usize = 2 << 20;
    /// Documents in a page if nothing else is said.
    pub const LIMIT: usize = 1_000;
}

impl Default for Query {
    fn default() -> Self {
        Self { after: None, prefix: String::new(), limit: Self::LIMIT, max_bytes: Self::MAX_BYTES }
    }
}

/// Some of a collection's documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order of their keys.
    pub documents: Vec<Document>,
    /// Documents among those that are there and can't be read.
    pub unreadable: Vec<Key>,
    /// After which key it goes on; none = this is the last page.
    pub next: Option<Key>,
}

/// A stored document with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its name in the collection.
    pub key: Key,
    /// Its bytes, never looked into.
    pub value: Vec<u8>,
}

impl Document {
    /// What each document adds to a message beside its key and value: field tags and lengths of protobuf, rounded up.
    pub(crate) const OVERHEAD: usize = 16;

    /// Bytes that a document of a key and value of these lengths takes in a page.
    pub(crate) fn cost(key: usize, value: usize) -> usize {
        key + value + Self::OVERHEAD
    }
}

/// Generation of a room's ownership. Rises with every lease of any room; nodes refuse commands of a lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// Who holds a room, and since which epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomLease {
    /// The agent.
    pub holder: WorkerId,
    /// Under which it was leased.
    pub epoch: Epoch,
}

/// A part of what is kept of a live room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPart {
    /// Its name in the room.
    pub key: Key,
    /// Its bytes, never looked into.
    pub value: Vec<u8>,
}

/// A change of what is kept of a live room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotChange {
    /// Of what is kept afterwards.
    pub version: u64,
    /// Whatever was kept before is gone. Else it has to be of the version before.
    pub whole: bool,
    /// What is written.
    pub parts: Vec<SnapshotPart>,
    /// What is removed.
    pub removed: Vec<Key>,
}
