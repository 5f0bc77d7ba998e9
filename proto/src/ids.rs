//! Identifiers as types, so that a stream's id can't be passed where a room's is meant.

use std::fmt;

/// Why a text is no identifier.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum IdError {
    /// Nothing was given.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// More than [`MAX_ID_LENGTH`] bytes.
    #[error("{0} is longer than {MAX_ID_LENGTH} bytes")]
    TooLong(&'static str),
    /// A character outside of letters, digits and `-_.:~`.
    #[error("{0} has a character that is not allowed")]
    BadCharacter(&'static str),
}

/// Longest identifier accepted, in bytes.
pub const MAX_ID_LENGTH: usize = 128;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Takes a text for an identifier.
            ///
            /// # Errors
            /// If it is empty, too long or has a character that is not allowed.
            pub fn new(text: impl AsRef<str>) -> Result<Self, IdError> {
                let text = text.as_ref();
                if text.is_empty() {
                    return Err(IdError::Empty(stringify!($name)));
                }
                if text.len() > MAX_ID_LENGTH {
                    return Err(IdError::TooLong(stringify!($name)));
                }
                if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:~".contains(&b)) {
                    return Err(IdError::BadCharacter(stringify!($name)));
                }
                Ok(Self(text.into()))
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
        impl TryFrom<&str> for $name {
            type Error = IdError;
            fn try_from(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.to_string()
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

id!(
    /// A room; 24 lower-case hex characters.
    RoomId
);
id!(
    /// Somebody in a room; the id of the Socket.IO connection of the first login.
    ParticipantId
);
id!(
    /// A stream of a room: the session id of the publication (32 hex), or `<room id>-<view label>` for a mixed one.
    StreamId
);
id!(
    /// A subscription: the session id (32 hex).
    SubscriptionId
);
id!(
    /// A publication or subscription on a transport (32 hex).
    SessionId
);
id!(
    /// A PeerConnection; equal to the id of the first session on it.
    TransportId
);
id!(
    /// A track: `<transport id>-<mid>` for what a client publishes.
    TrackId
);
id!(
    /// A process of the cluster, new at each start.
    WorkerId
);
id!(
    /// A flow of one track over the media link.
    AttachmentId
);
id!(
    /// A service (tenant) of the management API; 24 hex characters.
    ServiceId
);
id!(
    /// A webhook of a service; 24 hex characters.
    WebhookId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_identifier() {
        assert_eq!(RoomId::new(""), Err(IdError::Empty("RoomId")));
        assert_eq!(RoomId::new("a/b"), Err(IdError::BadCharacter("RoomId")));
        assert_eq!(RoomId::new("a".repeat(129)), Err(IdError::TooLong("RoomId")));
        assert_eq!(TrackId::new("0f-1:q").unwrap().as_str(), "0f-1:q");
    }
}
