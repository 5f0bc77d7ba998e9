//! `kaigi service show`: the credentials of the service made at the first start.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Where the cluster-manager writes them, in the data directory.
pub const CREDENTIALS_FILE: &str = "credentials.json";

/// What a REST client needs.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Credentials {
    /// Of the service.
    pub id: String,
    /// What its requests are signed with (MAuth).
    pub key: String,
    /// Its first room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
}

/// Why they can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// There is no file.
    #[error(
        "{path} does not exist: it is written at the first `kaigi up`. Was Kaigi started with another --data-dir?"
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It can't be read.
    #[error("{path} can't be read: {source}. It belongs to the user who started Kaigi")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// It is damaged.
    #[error("{path} is damaged: {source}. Remove it and start Kaigi again to have it written anew")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        source: serde_json::Error,
    },
}

impl Credentials {
    /// Reads them from the data directory; Kaigi may run or not.
    ///
    /// # Errors
    /// See [`CredentialsError`].
    pub fn read(data_dir: &Path) -> Result<Self, CredentialsError> {
        let path = data_dir.join(CREDENTIALS_FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(CredentialsError::Missing { path });
            }
            Err(source) => return Err(CredentialsError::Unreadable { path, source }),
        };
        serde_json::from_slice(&text).map_err(|source| CredentialsError::Damaged { path, source })
    }

    /// One JSON object.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut members = vec![("id", &self.id), ("key", &self.key)];
        members.extend(self.room.as_ref().map(|room| ("room", room)));
        let members: serde_json::Map<_, _> =
            members.into_iter().map(|(n, v)| (n.into(), v.as_str().into())).collect();
        serde_json::Value::Object(members).to_string()
    }
}

/// For people.
impl fmt::Display for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service id   {}\nservice key  {}", self.id, self.key)?;
        match &self.room {
            Some(room) => write!(f, "\nfirst room   {room}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_says_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let error = Credentials::read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("credentials.json does not exist") && error.contains("--data-dir"), "{error}");
        std::fs::write(dir.path().join(CREDENTIALS_FILE), r#"{"id": "i", "key": "k=", "room": "r"}"#)
            .unwrap();
        let shown = Credentials::read(dir.path()).unwrap();
        assert_eq!(shown.to_json(), r#"{"id":"i","key":"k=","room":"r"}"#);
        assert_eq!(shown.to_string(), "service id   i\nservice key  k=\nfirst room   r");
        std::fs::write(dir.path().join(CREDENTIALS_FILE), "{").unwrap();
        assert!(matches!(Credentials::read(dir.path()), Err(CredentialsError::Damaged { .. })));
    }
}
