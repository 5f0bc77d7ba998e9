//! Rooms: create, list, get, update whole and in part, delete.

use std::ops::ControlFlow;

use axum::{http::Method, response::IntoResponse};
use kaigi_proto::events::EventType;
use kaigi_room_config::{RoomAttributes, RoomConfig, RoomConfigError, RoomDocument};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::{
    call::{Call, RoomCall},
    error::RestError,
    etag::{ETag, IfMatch},
    merge_patch::{self, RoomPatch},
    operation::{Answered, Needs, Operation, Place, Reply, Versions, json_response, room, service},
    owns,
};
use crate::clock::UnixMillis;

const TAG: &str = "rooms";

/// What can be asked of rooms as documents.
pub(super) fn operations() -> Vec<Operation> {
    let number = || json!({ "type": ["integer", "string"] });
    vec![
        service(Method::POST, "/rooms", "createRoom", create)
            .versions(Versions::Both)
            .doc(TAG, "Create a room")
            .takes::<NewRoom>()
            .gives::<RoomDocument>()
            .makes("room")
            .tagged(),
        service(Method::GET, "/rooms", "listRooms", list)
            .versions(Versions::Both)
            .doc(TAG, "List rooms, oldest first")
            .parameter(Place::Query, "page", "Which page, from 1; counts only beside `per_page`", number())
            .parameter(Place::Query, "per_page", "Rooms of a page; what is no number above 0 does not count", number())
            .gives::<Vec<RoomDocument>>()
            .needs(Needs::Filtered),
        room(Method::GET, "", "getRoom", get)
            .doc(TAG, "Get a room")
            .gives::<RoomDocument>()
            .tagged(),
        room(Method::PUT, "", "updateRoom", update)
            .doc(TAG, "Replace attributes of a room")
            .more("What is given replaces the whole attribute of that name; the others stay. Identifiers in it are ignored. A room that runs goes on with what it was started with.")
            .takes::<RoomAttributes>()
            .gives::<RoomDocument>()
            .tagged(),
        room(Method::PATCH, "", "patchRoom", patch)
            .doc(TAG, "Change a room in part")
            .more("An object is a JSON Merge Patch (RFC 7396): `null` brings the default back. A list is a JSON Patch (RFC 6902), as OWT's REST client sends it.")
            .takes::<RoomPatch>()
            .also_as("application/merge-patch+json")
            .gives::<RoomDocument>()
            .tagged(),
        room(Method::DELETE, "", "deleteRoom", delete)
            .doc(TAG, "Delete a room; whoever is in it is dropped")
            .replies(Reply::Text("`Room deleted`"))
            .tagged(),
    ]
}

/// What a room is made of.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "what is taken is described by it, and read with OWT's own errors")]
struct NewRoom {
    /// Need not be unique.
    #[schemars(length(min = 1))]
    name: String,
    #[schemars(default, schema_with = "options_schema")]
    options: Option<Value>,
}

fn options_schema(generator: &mut SchemaGenerator) -> Schema {
    let attributes = generator.subschema_for::<RoomAttributes>();
    json_schema!({
        "description": "What is not given has OWT's defaults",
        "anyOf": [attributes, { "type": "null" }, { "const": false }],
    })
}

async fn create(call: Call) -> Answered {
    let name = call.body.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| RestError::BadRequest("Invalid request body".to_owned()))?;
    let options = match call.body.get("options") {
        None | Some(Value::Null | Value::Bool(false)) => Map::new(),
        Some(Value::Object(options)) => options.clone(),
        Some(_) => return Err(RestError::BadRequest("Invalid room option".to_owned())),
    };
    let id = call.api.ids.next(UnixMillis::now());
    let room =
        RoomConfig::from_options(&id, name, &call.service.id, &options).map_err(|error| match error {
            RoomConfigError::Invalid(_) => RestError::Other(error.to_string()),
            RoomConfigError::ViewConflict => RestError::Other(format!("Error {error}")),
        })?;
    call.api.backend.create_room(&room).await?;
    call.api.backend.tell(EventType::RoomCreated, &room);
    tracing::info!(room = id, name, "room created");
    Ok(tag(&room).on(json_response(room.to_rest(true))))
}

async fn list(call: Call) -> Answered {
    let Page { mut skip, take } = Page::of(call.query("page"), call.query("per_page"));
    let mut shown: Vec<Value> = Vec::new();
    let show = |room: RoomConfig| {
        if !owns(&call.service, &room) || !call.grants.covers(&room.id) {
            return ControlFlow::Continue(());
        }
        if skip > 0 {
            skip -= 1;
            return ControlFlow::Continue(());
        }
        shown.push(room.to_rest(true));
        if shown.len() < take { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    call.api.backend.visit_rooms(show).await?;
    Ok(json_response(shown))
}

async fn get(call: RoomCall) -> Answered {
    Ok(tag(&call.room).on(json_response(call.room.to_rest(false))))
}

async fn update(call: RoomCall) -> Answered {
    let Value::Object(attributes) = &call.body else {
        return Err(RestError::BadRequest("Invalid request body".to_owned()));
    };
    change(&call, |room| room.updated(attributes).map_err(refused)).await
}

async fn patch(call: RoomCall) -> Answered {
    change(&call, |room| merge_patch::patched(room, &call.body)).await
}

/// Stores the room as `changed` makes it, of what it is when it is written.
async fn change(call: &RoomCall, changed: impl Fn(&RoomConfig) -> Result<RoomConfig, RestError>) -> Answered {
    let if_match = IfMatch::of(&call.headers)?;
    let change = |room: RoomConfig| {
        if_match.check(&tag(&room))?;
        changed(&room)
    };
    let room = call.api.backend.update_room(&call.id, change).await?.ok_or(RestError::RoomNotFound)?;
    call.api.backend.tell(EventType::RoomUpdated, &room);
    tracing::info!(room = room.id, "room updated");
    Ok(tag(&room).on(json_response(room.to_rest(true))))
}

async fn delete(call: RoomCall) -> Answered {
    IfMatch::of(&call.headers)?.check(&tag(&call.room))?;
    let id = &call.id;
    if !call.api.backend.delete_room(id).await? {
        return Err(RestError::RoomNotFound);
    }
    call.api.backend.tell(EventType::RoomDeleted, &call.room);
    tracing::info!(room = %id, "room deleted");
    // The document is gone either way; a room that can't be told ends by itself when it is empty.
    if let Err(error) = call.api.backend.destroy_room(id).await {
        tracing::warn!(room = %id, %error, "the live room was not ended");
    }
    Ok("Room deleted".into_response())
}

fn refused(error: RoomConfigError) -> RestError {
    RestError::BadRequest(error.to_string())
}

fn tag(room: &RoomConfig) -> ETag {
    ETag::of(&room.to_rest(false))
}

/// Which part of a list is wanted. Values that are no numbers, or zero, don't count; `page` counts only beside `per_page`.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    skip: usize,
    take: usize,
}

impl Page {
    fn of(page: Option<String>, per_page: Option<String>) -> Self {
        let number = |text: Option<String>| text?.parse::<usize>().ok().filter(|&n| n > 0);
        match number(per_page) {
            Some(take) => Self { skip: (number(page).unwrap_or(1) - 1).saturating_mul(take), take },
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
        let page = |page: &str, per_page: &str| {
            let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Page::of(given(page), given(per_page))
        };
        assert_eq!(page("2", "10"), Page { skip: 10, take: 10 });
        assert_eq!(page("", "10"), Page { skip: 0, take: 10 });
        assert_eq!(page("3", ""), all);
        assert_eq!(page("x", "0"), all);
        assert_eq!(page("18446744073709551615", "10").skip, usize::MAX);
        assert_eq!(page("", ""), all);
    }
}
