//! Who calls the management API, and what for.

use axum::http::{HeaderMap, Method, header};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Management, bearer,
    error::RestError,
    mauth,
    operation::{Needs, Operation},
    peers_grant::PeersGrant,
};
use crate::{backend::Service, clock::UnixMillis};

/// Who calls.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) service: Service,
    pub(super) grants: Grants,
    /// For whom a token is to be made, if the header says it.
    pub(super) username: Option<String>,
    pub(super) role: Option<String>,
    /// Until when it is to be believed; `None` if that does not end by itself.
    pub(super) expires: Option<UnixMillis>,
}

/// What of the service's rights the caller has.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Grants {
    /// The rooms, by id; absent = all, and the right to make rooms and to look at and change services.
    rooms: Option<Vec<String>>,
    /// Only looking.
    read_only: bool,
    /// Only making login tokens.
    tokens_only: bool,
    /// Only coming into rooms by WHIP and WHEP.
    pub(super) join: Option<JoinGrant>,
    /// Only being a peer among peers.
    pub(super) peers: Option<PeersGrant>,
}

/// As whom the bearer of a token comes into rooms.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct JoinGrant {
    /// Any JSON value that is not empty.
    pub(super) user: Value,
    pub(super) role: String,
}

impl Grants {
    /// All that the service may do.
    pub(super) fn all() -> Self {
        Self::default()
    }

    /// Whether the room is among those.
    pub(super) fn covers(&self, room: &str) -> bool {
        self.rooms.as_ref().is_none_or(|rooms| rooms.iter().any(|id| id == room))
    }

    /// Whether an operation is granted; `room` is the one that it is about, if it is about one.
    ///
    /// # Errors
    /// [`RestError::RoomNotFound`] for rooms that are not covered, [`RestError::Forbidden`] for what is not granted otherwise.
    pub(super) fn check(&self, operation: &Operation, room: &str) -> Result<(), RestError> {
        let looks_only = operation.method == Method::GET;
        if self.join.is_some()
            || self.peers.is_some()
            || (self.tokens_only && operation.needs != Needs::Tokens)
            || (self.read_only && !looks_only)
        {
            return Err(RestError::Forbidden);
        }
        match operation.needs {
            _ if operation.is_of_room() && !self.covers(room) => Err(RestError::RoomNotFound),
            Needs::Everything if !operation.is_of_room() && self.rooms.is_some() => Err(RestError::Forbidden),
            Needs::Everything | Needs::Filtered | Needs::Tokens => Ok(()),
        }
    }
}

/// Finds out who calls: by MAuth, or by a JSON Web Token (`Bearer`).
///
/// # Errors
/// 401 of the one or the other kind.
pub(super) async fn authenticate(api: &Management, headers: &HeaderMap) -> Result<Identity, RestError> {
    let header = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let header = header.ok_or(RestError::Unauthorized)?;
    match header.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") => {
            bearer::authenticate(&api.backend, token.trim()).await
        }
        _ => mauth::authenticate(api, header).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::table::{Table, operations, segments};

    fn check(grants: &str, method: &str, path: &str) -> Result<(), u16> {
        let grants: Grants = serde_json::from_str(grants).unwrap();
        let table = Table::new(operations());
        let found =
            table.find(&method.parse().unwrap(), &segments(path)).unwrap_or_else(|_| panic!("{path}"));
        grants.check(found.operation, found.parameters.get("room")).map_err(|error| error.code())
    }

    #[test]
    fn without_grants_all_is_granted() {
        for (method, path) in [("POST", "/services"), ("POST", "/v1/rooms"), ("DELETE", "/v1/rooms/a")] {
            assert_eq!(check("{}", method, path), Ok(()));
        }
    }

    #[test]
    fn grants_for_rooms_are_for_nothing_else() {
        let grants = r#"{"rooms": ["a", "b"]}"#;
        assert_eq!(check(grants, "DELETE", "/v1/rooms/a"), Ok(()));
        assert_eq!(check(grants, "POST", "/v1/rooms/b/tokens"), Ok(()));
        assert_eq!(check(grants, "GET", "/v1/rooms"), Ok(()));
        assert_eq!(check(grants, "GET", "/v1/rooms/c"), Err(1003));
        assert_eq!(check(grants, "POST", "/v1/rooms"), Err(1102));
        assert_eq!(check(grants, "GET", "/services"), Err(1102));
    }

    #[test]
    fn rights_are_narrowed() {
        assert_eq!(check(r#"{"readOnly": true}"#, "GET", "/v1/rooms/a/streams"), Ok(()));
        assert_eq!(check(r#"{"readOnly": true}"#, "POST", "/v1/rooms/a/tokens"), Err(1102));
        assert_eq!(check(r#"{"tokensOnly": true}"#, "POST", "/v1/rooms/a/tokens"), Ok(()));
        assert_eq!(check(r#"{"tokensOnly": true}"#, "GET", "/v1/rooms"), Err(1102));
        let join = r#"{"join": {"user": "camera", "role": "presenter"}}"#;
        assert_eq!(check(join, "GET", "/v1/rooms"), Err(1102), "who may come in may not manage");
        assert_eq!(check(r#"{"peers": {}}"#, "GET", "/v1/rooms"), Err(1102));
        assert_eq!(check(join, "POST", "/v1/rooms/a/tokens"), Err(1102));
        assert!(
            serde_json::from_str::<Grants>(r#"{"readonly": true}"#).is_err(),
            "a misspelt limit is no limit"
        );
    }
}
