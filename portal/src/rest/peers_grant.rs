//! Entering rooms of peers with a JSON Web Token of a service (grant `peers`).

use serde::Deserialize;

use super::{bearer, error::RestError};
use crate::backend::Backend;

/// Which rooms of peers, and under which name. Absent = any.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PeersGrant {
    room: Option<String>,
    peer: Option<String>,
}

impl PeersGrant {
    /// Under which name its bearer is to be known, if it says so.
    pub(crate) fn peer(&self) -> Option<&str> {
        self.peer.as_deref()
    }

    /// Whether its bearer may be in that room, and be that peer.
    pub(crate) fn covers(&self, room: &str, peer: Option<&str>) -> bool {
        self.room.as_deref().is_none_or(|granted| granted == room)
            && (peer.is_none() || self.peer.is_none() || self.peer.as_deref() == peer)
    }
}

/// What a token lets its bearer do among peers.
///
/// # Errors
/// If it is not good, or has not the grant.
pub(crate) async fn peers_grant(backend: &Backend, token: &str) -> Result<PeersGrant, RestError> {
    bearer::authenticate(backend, token).await?.grants.peers.ok_or(RestError::Forbidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_names_a_room_a_peer_or_neither() {
        let grant = |text: &str| serde_json::from_str::<PeersGrant>(text).unwrap();
        assert!(grant("{}").covers("r", Some("a")));
        assert!(grant(r#"{"room": "r"}"#).covers("r", Some("a")));
        assert!(!grant(r#"{"room": "r"}"#).covers("s", None));
        assert!(grant(r#"{"peer": "a"}"#).covers("r", None));
        assert!(!grant(r#"{"room": "r", "peer": "a"}"#).covers("r", Some("b")));
        assert!(serde_json::from_str::<PeersGrant>(r#"{"rooms": []}"#).is_err());
    }
}
