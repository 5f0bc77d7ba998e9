//! Services: the tenants of the management API. A super service makes and removes them; each may look at itself and change its key.
//!
//! A key is told once, when it is made.

use std::{collections::HashMap, ops::ControlFlow};

use axum::response::{IntoResponse, Response};
use base64::{Engine, engine::general_purpose::STANDARD};
use kaigi_proto::ids::ServiceId;
use kaigi_room_config::RoomConfig;
use serde_json::{Value, json};

use super::{Management, bearer, error::RestError, json_response};
use crate::{backend::Service, clock::UnixMillis};

/// Longest name, in bytes.
const MAX_NAME: usize = 256;
/// Shortest and longest key that a caller may choose, in bytes: as hard to guess as a password at least.
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 12..=1024;
/// Longest public key, in bytes of PEM; an Ed25519 key has about a hundred.
const MAX_PUBLIC_KEY: usize = 1024;
/// Bytes of chance in a key that is made here.
const KEY_BYTES: usize = 64;

/// `POST services`
pub(super) async fn create(api: &Management, caller: &Service, body: &Value) -> Result<Response, RestError> {
    only_super(caller)?;
    let name = name(body)?;
    let id = api.ids.next(UnixMillis::now());
    let service =
        Service { id, name, key: chosen_or_new_key(body)?, public_key: public_key(body)?, is_super: false };
    api.backend.create_service(&service).await?;
    tracing::info!(service = service.id, name = service.name, "service created");
    Ok(json_response(with_key(&service, &[])))
}

/// `GET services`
pub(super) async fn list(api: &Management, caller: &Service) -> Result<Response, RestError> {
    only_super(caller)?;
    let services = api.backend.services().await?;
    let mut rooms = HashMap::<String, Vec<String>>::new();
    let count = |room: RoomConfig| {
        rooms.entry(room.service).or_default().push(room.id);
        ControlFlow::Continue(())
    };
    api.backend.visit_rooms(count).await?;
    let shown =
        services.iter().map(|service| shape(service, rooms.get(&service.id).map_or(&[][..], Vec::as_slice)));
    Ok(json_response(shown.collect()))
}

/// `GET services/:id`
pub(super) async fn get(api: &Management, caller: &Service, id: &ServiceId) -> Result<Response, RestError> {
    let service = visible(api, caller, id).await?;
    Ok(json_response(shape(&service, &rooms_of(api, &service).await?)))
}

/// `PUT services/:id`: another name or public key. Kaigi's own.
pub(super) async fn update(
    api: &Management,
    caller: &Service,
    id: &ServiceId,
    body: &Value,
) -> Result<Response, RestError> {
    may_see(caller, id)?;
    let change = |mut service: Service| {
        if body.get("name").is_some() {
            service.name = name(body)?;
        }
        if body.get("publicKey").is_some() {
            service.public_key = public_key(body)?;
        }
        Ok::<_, RestError>(service)
    };
    let service = api.backend.update_service(id, change).await?.ok_or(RestError::ServiceNotFound)?;
    tracing::info!(service = %id, "service updated");
    Ok(json_response(shape(&service, &rooms_of(api, &service).await?)))
}

/// `DELETE services/:id`; its rooms stay.
pub(super) async fn delete(
    api: &Management,
    caller: &Service,
    id: &ServiceId,
) -> Result<Response, RestError> {
    only_super(caller)?;
    let service = api.backend.service(id).await?.ok_or(RestError::ServiceNotFound)?;
    if service.is_super {
        return Err(RestError::Forbidden);
    }
    if !api.backend.delete_service(id).await? {
        return Err(RestError::ServiceNotFound);
    }
    tracing::info!(service = %id, "service deleted");
    Ok("Service deleted".into_response())
}

/// `POST services/:id/key`: another key from now on. Kaigi's own.
pub(super) async fn rotate_key(
    api: &Management,
    caller: &Service,
    id: &ServiceId,
    body: &Value,
) -> Result<Response, RestError> {
    may_see(caller, id)?;
    let key = chosen_or_new_key(body)?;
    let change = |service: Service| Ok::<_, RestError>(Service { key: key.clone(), ..service });
    let service = api.backend.update_service(id, change).await?.ok_or(RestError::ServiceNotFound)?;
    tracing::info!(service = %id, "the service has another key");
    Ok(json_response(with_key(&service, &rooms_of(api, &service).await?)))
}

fn only_super(caller: &Service) -> Result<(), RestError> {
    if caller.is_super { Ok(()) } else { Err(RestError::Forbidden) }
}

fn may_see(caller: &Service, id: &ServiceId) -> Result<(), RestError> {
    if caller.is_super || caller.id == id.as_str() { Ok(()) } else { Err(RestError::Forbidden) }
}

/// The service, if the caller may see it.
async fn visible(api: &Management, caller: &Service, id: &ServiceId) -> Result<Service, RestError> {
    may_see(caller, id)?;
    api.backend.service(id).await?.ok_or(RestError::ServiceNotFound)
}

async fn rooms_of(api: &Management, service: &Service) -> Result<Vec<String>, RestError> {
    let mut rooms = Vec::new();
    let keep = |room: RoomConfig| {
        if room.service == service.id {
            rooms.push(room.id);
        }
        ControlFlow::Continue(())
    };
    api.backend.visit_rooms(keep).await?;
    Ok(rooms)
}

fn name(body: &Value) -> Result<String, RestError> {
    let name = body.get("name").and_then(Value::as_str).filter(|n| !n.is_empty() && n.len() <= MAX_NAME);
    name.map(str::to_owned).ok_or_else(|| RestError::BadRequest("Invalid service name".to_owned()))
}

/// An Ed25519 public key in PEM, if one is given.
fn public_key(body: &Value) -> Result<Option<String>, RestError> {
    match body.get("publicKey") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(pem)) if pem.len() <= MAX_PUBLIC_KEY && bearer::is_public_key(pem) => {
            Ok(Some(pem.clone()))
        }
        Some(_) => {
            Err(RestError::BadRequest("Invalid public key: PEM of an Ed25519 key is needed".to_owned()))
        }
    }
}

fn chosen_or_new_key(body: &Value) -> Result<String, RestError> {
    match body.get("key") {
        None | Some(Value::Null) => Ok(STANDARD.encode(rand::random::<[u8; KEY_BYTES]>())),
        Some(Value::String(key)) if KEY_LENGTH.contains(&key.len()) => Ok(key.clone()),
        Some(_) => Err(RestError::BadRequest("Invalid service key".to_owned())),
    }
}

fn shape(service: &Service, rooms: &[impl AsRef<str>]) -> Value {
    let rooms: Vec<&str> = rooms.iter().map(AsRef::as_ref).collect();
    json!({ "_id": service.id, "id": service.id, "name": service.name, "super": service.is_super, "publicKey": service.public_key, "rooms": rooms })
}

fn with_key(service: &Service, rooms: &[String]) -> Value {
    let mut shown = shape(service, rooms);
    shown["key"] = service.key.clone().into();
    shown
}
