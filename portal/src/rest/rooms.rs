//! Rooms: create, list, update, delete.

use std::ops::ControlFlow;

use axum::response::{IntoResponse, Response};
use kaigi_proto::ids::RoomId;
use kaigi_room_config::{RoomConfig, RoomConfigError};
use serde_json::{Map, Value};

use super::{Grants, Management, error::RestError, json_response, owns};
use crate::{backend::Service, clock::UnixMillis};

/// `POST rooms`
pub(super) async fn create(api: &Management, service: &Service, body: &Value) -> Result<Response, RestError> {
    let name = body.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| RestError::BadRequest("Invalid request body".to_owned()))?;
    let options = match body.get("options") {
        None | Some(Value::Null | Value::Bool(false)) => Map::new(),
        Some(Value::Object(options)) => options.clone(),
        Some(_) => return Err(RestError::BadRequest("Invalid room option".to_owned())),
    };
    let id = api.ids.next(UnixMillis::now());
    let room = RoomConfig::from_options(&id, name, &service.id, &options).map_err(|error| match error {
        RoomConfigError::Invalid(_) => RestError::Other(error.to_string()),
        RoomConfigError::ViewConflict => RestError::Other(format!("Error {error}")),
    })?;
    api.backend.create_room(&room).await?;
    tracing::info!(room = id, name, "room created");
    Ok(json_response(room.to_rest(true)))
}

/// `GET rooms`
pub(super) async fn list(
    api: &Management,
    service: &Service,
    grants: &Grants,
    query: &str,
) -> Result<Response, RestError> {
    let Page { mut skip, take } = Page::parse(query);
    let mut shown: Vec<Value> = Vec::new();
    let show = |room: RoomConfig| {
        if !owns(service, &room) || !grants.covers(&room.id) {
            return ControlFlow::Continue(());
        }
        if skip > 0 {
            skip -= 1;
            return ControlFlow::Continue(());
        }
        shown.push(room.to_rest(true));
        if shown.len() < take { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    api.backend.visit_rooms(show).await?;
    Ok(json_response(shown.into()))
}

/// `PUT rooms/:room`
pub(super) async fn update(api: &Management, id: &RoomId, body: &Value) -> Result<Response, RestError> {
    let Value::Object(attributes) = body else {
        return Err(RestError::BadRequest("Invalid request body".to_owned()));
    };
    let change =
        |room: RoomConfig| room.updated(attributes).map_err(|error| RestError::BadRequest(error.to_string()));
    let room = api.backend.update_room(id, change).await?.ok_or(RestError::RoomNotFound)?;
    tracing::info!(room = room.id, "room updated");
    Ok(json_response(room.to_rest(true)))
}

/// `DELETE rooms/:room`
pub(super) async fn delete(api: &Management, id: &RoomId) -> Result<Response, RestError> {
    if !api.backend.delete_room(id).await? {
        return Err(RestError::RoomNotFound);
    }
    tracing::info!(room = %id, "room deleted");
    // The document is gone either way; a room that can't be told ends by itself when it is empty.
    if let Err(error) = api.backend.destroy_room(id).await {
        tracing::warn!(room = %id, %error, "the live room was not ended");
    }
    Ok("Room deleted".into_response())
}

/// Which part of a list is wanted. Values that are no numbers, or zero, don't count; `page` counts only beside `per_page`.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    skip: usize,
    take: usize,
}

impl Page {
    fn parse(query: &str) -> Self {
        let number = |name: &str| {
            let value = form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name)?.1;
            value.parse::<usize>().ok().filter(|&n| n > 0)
        };
        match number("per_page") {
            Some(take) => Self { skip: (number("page").unwrap_or(1) - 1).saturating_mul(take), take },
            None => Self { skip: 0, take: usize::MAX },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_count_from_one() {
        let all = Page { skip: 0, take: usize::MAX };
        assert_eq!(Page::parse("page=2&per_page=10"), Page { skip: 10, take: 10 });
        assert_eq!(Page::parse("per_page=10"), Page { skip: 0, take: 10 });
        assert_eq!(Page::parse("page=3"), all);
        assert_eq!(Page::parse("page=x&per_page=0"), all);
        assert_eq!(Page::parse("page=18446744073709551615&per_page=10").skip, usize::MAX);
        assert_eq!(Page::parse(""), all);
    }
}
