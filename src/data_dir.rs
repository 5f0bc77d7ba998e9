//! The data directory, held by one running Kaigi at a time.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// File in the data directory that a running launcher holds a lock on and writes its process id into.
pub(crate) const LOCK_FILE: &str = "kaigi.lock";

/// Why the data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It can't be made or written.
    #[error("data directory {path}: {source}")]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// Another one runs there.
    #[error(
        "Kaigi is already running on {path} (process {pid}); stop it first, or choose another --data-dir and other ports"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Of the other launcher.
        pid: String,
    },
}

/// Holds the directory until dropped, or until the process ends in whatever way.
#[derive(Debug)]
pub struct DataDir {
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is missing, and takes it.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn take(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |source| DataDirError::Unusable { path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path.join(LOCK_FILE)).map_err(unusable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Only for the message; an unreadable id does not matter.
                let _ = file.read_to_string(&mut pid);
                return Err(DataDirError::InUse { path: path.to_owned(), pid: pid.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(unusable)?;
        Ok(Self { _lock: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let held = DataDir::take(&path).unwrap();
        let second = DataDir::take(&path).unwrap_err().to_string();
        assert!(
            second.contains("already running") && second.contains(&std::process::id().to_string()),
            "{second}"
        );
        drop(held);
        DataDir::take(&path).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        assert!(matches!(DataDir::take(&path), Err(DataDirError::Unusable { .. })));
    }
}
