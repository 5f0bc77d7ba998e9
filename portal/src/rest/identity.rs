//! Who calls the management API, and what for.

use axum::http::{HeaderMap, Method, header};
use serde::Deserialize;

use super::{
    Management, bearer,
    error::RestError,
    mauth,
    route::{RoomRoute, Route},
};
use crate::backend::Service;

/// Who calls.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) service: Service,
    pub(super) grants: Grants,
    /// For whom a token is to be made, if the header says it.
    pub(super) username: Option<String>,
    pub(super) role: Option<String>,
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

    /// Whether a request is granted.
    ///
    /// # Errors
    /// [`RestError::RoomNotFound`] for rooms that are not covered, [`RestError::Forbidden`] for what is not granted otherwise.
    pub(super) fn check(&self, method: &Method, route: &Route) -> Result<(), RestError> {
        let is_token = matches!(route, Route::Room { route: RoomRoute::CreateToken, .. });
        if (self.tokens_only && !is_token) || (self.read_only && method != Method::GET) {
            return Err(RestError::Forbidden);
        }
        match route {
            Route::Room { id, .. } if !self.covers(id.as_str()) => Err(RestError::RoomNotFound),
            // Lists are shortened.
            Route::Room { .. } | Route::ListRooms => Ok(()),
            _ if self.rooms.is_some() => Err(RestError::Forbidden),
            _ => Ok(()),
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
            bearer::authenticate(api, token.trim()).await
        }
        _ => mauth::authenticate(api, header).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rest::route::{parse, segments};

    fn check(grants: &str, method: &str, path: &str) -> Result<(), u16> {
        let grants: Grants = serde_json::from_str(grants).unwrap();
        let method = method.parse().unwrap();
        let route = parse(&method, &segments(path)).unwrap().unwrap();
        grants.check(&method, &route).map_err(|error| error.code())
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
        assert!(
            serde_json::from_str::<Grants>(r#"{"readonly": true}"#).is_err(),
            "a misspelt limit is no limit"
        );
    }
}
