//! Services: the tenants of the management API. A super service makes and removes them; each may look at itself and change its key.
//!
//! A key is told once, when it is made.

use axum::response::{IntoResponse, Response};
use base64::{Engine, engine::general_purpose::STANDARD};
use kaigi_proto::ids::ServiceId;
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
    api.backend.put_service(&service, true).await?;
    tracing::info!(service = service.id, name = service.name, "service created");
    Ok(json_response(with_key(&service, &[])))
}

/// `GET services`
pub(super) async fn list(api: &Management, caller: &Service) -> Result<Response, RestError> {
    only_super(caller)?;
    let (services, rooms) = (api.backend.services().await?, api.backend.rooms().await?);
    let shown = services.iter().map(|service| {
        let own = rooms.iter().filter(|room| room.service == service.id);
        shape(service, &own.map(|room| room.id.as_str()).collect::<Vec<_>>())
    });
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
    let mut service = visible(api, caller, id).await?;
    if body.get("name").is_some() {
        service.name = name(body)?;
    }
    if body.get("publicKey").is_some() {
        service.public_key = public_key(body)?;
    }
    api.backend.put_service(&service, false).await?;
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
    let mut service = visible(api, caller, id).await?;
    service.key = chosen_or_new_key(body)?;
    api.backend.put_service(&service, false).await?;
    tracing::info!(service = %id, "the service has another key");
    Ok(json_response(with_key(&service, &rooms_of(api, &service).await?)))
}

fn only_super(caller: &Service) -> Result<(), RestError> {
    if caller.is_super { Ok(()) } else { Err(RestError::Forbidden) }
}

/// The service, if the caller may see it.
async fn visible(api: &Management, caller: &Service, id: &ServiceId) -> Result<Service, RestError> {
    if !caller.is_super && caller.id != id.as_str() {
        return Err(RestError::Forbidden);
    }
    api.backend.service(id).await?.ok_or(RestError::ServiceNotFound)
}

async fn rooms_of(api: &Management, service: &Service) -> Result<Vec<String>, RestError> {
    let rooms = api.backend.rooms().await?;
    Ok(rooms.into_iter().filter(|room| room.service == service.id).map(|room| room.id).collect())
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
