//! The key that documents are sealed under, and where it comes from.

use std::{
    fmt,
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use base64::{Engine, engine::general_purpose::STANDARD};

/// Largest file that is read for a key, in bytes.
const MAX_FILE: u64 = 1024;

/// 32 bytes, not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey(pub(super) [u8; Self::LENGTH]);

impl SealKey {
    /// Bytes of a key.
    pub const LENGTH: usize = 32;

    /// A new random one.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// As it stands in files and variables.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(self.0)
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(…)")
    }
}

/// A text is no key.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
#[error("a seal key is 32 bytes in base64 (openssl rand -base64 32 makes one)")]
pub struct NoKey;

impl FromStr for SealKey {
    type Err = NoKey;

    fn from_str(text: &str) -> Result<Self, NoKey> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| NoKey)?;
        bytes.try_into().map(Self).map_err(|_| NoKey)
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file can't be read, or not be made.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// It holds something else.
    #[error("{path}: {source}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: NoKey,
    },
}

/// Reads a key; `None` if there is no such file.
///
/// # Errors
/// See [`KeyFileError`].
pub(crate) fn read(path: &Path) -> Result<Option<SealKey>, KeyFileError> {
    let failed = |source| KeyFileError::File { path: path.to_owned(), source };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let not_a_key = |source| KeyFileError::Content { path: path.to_owned(), source };
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(not_a_key(NoKey));
    }
    if metadata.permissions().mode() & 0o004 != 0 {
        tracing::warn!(file = %path.display(), "everybody on this machine can read the seal key");
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| not_a_key(NoKey))?;
    text.parse().map(Some).map_err(not_a_key)
}

/// Makes a file with a new key, readable by its owner alone, whole or not at all; if another process was faster, its key is given.
///
/// # Errors
/// See [`KeyFileError`].
pub(crate) fn make(path: &Path) -> Result<SealKey, KeyFileError> {
    let failed = |source| KeyFileError::File { path: path.to_owned(), source };
    let key = SealKey::random();
    let unfinished = path.with_extension(format!("new-{}", hex::encode(rand::random::<[u8; 4]>())));
    let written = (|| {
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        writeln!(file, "{}", key.to_base64())?;
        file.sync_all()?;
        // Unlike a rename, this does not replace what is there.
        std::fs::hard_link(&unfinished, path)?;
        // What is sealed before the name is on disk would be lost with it.
        std::fs::File::open(
            path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")),
        )?
        .sync_all()
    })();
    // Its content lives on under the other name.
    let _ = std::fs::remove_file(&unfinished);
    match written {
        Ok(()) => {
            tracing::info!(file = %path.display(), "a key to seal credentials with is made; keep a copy of it elsewhere");
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            read(path)?.ok_or_else(|| failed(ErrorKind::NotFound.into()))
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        assert_eq!(read(&path).unwrap(), None);
        let key = make(&path).unwrap();
        assert_eq!(read(&path).unwrap(), Some(key.clone()));
        assert_eq!(make(&path).unwrap(), key, "what is there stays");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(!format!("{key:?}").contains(&key.to_base64()));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("seal.key");
        let short = STANDARD.encode([1; 31]);
        for wrong in ["", "text", &short, &"A".repeat(5000)] {
            std::fs::write(&path, wrong).unwrap();
            assert!(matches!(read(&path), Err(KeyFileError::Content { .. })), "{wrong}");
        }
        assert!(matches!(read(dir.path()), Err(KeyFileError::Content { .. })));
        assert!(matches!(make(Path::new("/nonexistent/seal.key")), Err(KeyFileError::File { .. })));
    }
}
