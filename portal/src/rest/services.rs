//! Services: the tenants of the management API. A super service makes and removes them; each may look at itself and change its key.
//!
//! A key is told once, when it is made.

mod documents;

use std::{collections::HashMap, ops::ControlFlow};

use axum::{http::Method, response::IntoResponse};
use kaigi_proto::ids::ServiceId;
use kaigi_room_config::RoomConfig;
use serde_json::{Value, json};

use super::{
    call::Call,
    error::RestError,
    etag::{ETag, IfMatch},
    operation::{Answered, Operation, Reply, json_response, service},
};
use crate::{backend::Service, clock::UnixMillis};
use documents::{NewKey, NewService, ServiceChange, ServiceDocument, ServiceWithKey};

const TAG: &str = "services";

/// What can be asked of services.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        service(Method::POST, "/services", "createService", create)
            .doc(TAG, "Create a service")
            .more("By a super service. The answer tells its key, which is told this once.")
            .takes::<NewService>()
            .gives::<ServiceWithKey>()
            .makes("service")
            .tagged(),
        service(Method::GET, "/services", "listServices", list)
            .doc(TAG, "List services, oldest first")
            .more("By a super service.")
            .gives::<Vec<ServiceDocument>>(),
        service(Method::GET, "/services/{service}", "getService", get)
            .doc(TAG, "Get a service")
            .more("By a super service, or by itself.")
            .gives::<ServiceDocument>()
            .tagged(),
        service(Method::PUT, "/services/{service}", "updateService", update)
            .doc(TAG, "Change a service's name or public key")
            .more("By a super service, or by itself. Kaigi's own. The entity tag follows what can be changed here, not the list of rooms.")
            .takes::<ServiceChange>()
            .gives::<ServiceDocument>()
            .tagged(),
        service(Method::DELETE, "/services/{service}", "deleteService", delete)
            .doc(TAG, "Delete a service; its rooms stay")
            .more("By a super service; super services are not deleted.")
            .replies(Reply::Text("`Service deleted`"))
            .tagged(),
        service(Method::POST, "/services/{service}/key", "renewKey", renew_key)
            .doc(TAG, "Give a service another key; the old one is void at once")
            .more("By a super service, or by itself. Kaigi's own.")
            .may_take::<NewKey>()
            .gives::<ServiceWithKey>()
            .tagged(),
    ]
}

async fn create(call: Call) -> Answered {
    only_super(&call.service)?;
    let new: NewService = call.read(RestError::BadRequest)?;
    let id = call.api.ids.next(UnixMillis::now());
    let (name, key, public_key) = (new.name()?, new.key()?, new.public_key()?);
    let service = Service { id, name, key, public_key, is_super: false };
    call.api.backend.create_service(&service).await?;
    tracing::info!(service = service.id, name = service.name, "service created");
    Ok(tag(&service).on(json_response(with_key(&service, &[]))))
}

async fn list(call: Call) -> Answered {
    only_super(&call.service)?;
    let services = call.api.backend.services().await?;
    let mut rooms = HashMap::<String, Vec<String>>::new();
    let count = |room: RoomConfig| {
        rooms.entry(room.service).or_default().push(room.id);
        ControlFlow::Continue(())
    };
    call.api.backend.visit_rooms(count).await?;
    let shown =
        services.iter().map(|service| shape(service, rooms.get(&service.id).map_or(&[][..], Vec::as_slice)));
    Ok(json_response(shown.collect::<Value>()))
}

async fn get(call: Call) -> Answered {
    let service = visible(&call).await?;
    Ok(tag(&service).on(json_response(shape(&service, &rooms_of(&call, &service).await?))))
}

async fn update(call: Call) -> Answered {
    let change: ServiceChange = call.read(RestError::BadRequest)?;
    let service = changed(&call, |service| {
        if let Some(name) = change.name()? {
            service.name = name;
        }
        if let Some(key) = change.public_key()? {
            service.public_key = key;
        }
        Ok(())
    })
    .await?;
    tracing::info!(service = service.id, "service updated");
    Ok(tag(&service).on(json_response(shape(&service, &rooms_of(&call, &service).await?))))
}

async fn delete(call: Call) -> Answered {
    only_super(&call.service)?;
    let id: ServiceId = call.id("service")?;
    let service = call.api.backend.service(&id).await?.ok_or(RestError::ServiceNotFound)?;
    if service.is_super {
        return Err(RestError::Forbidden);
    }
    IfMatch::of(&call.headers)?.check(&tag(&service))?;
    if !call.api.backend.delete_service(&id).await? {
        return Err(RestError::ServiceNotFound);
    }
    // Nobody is told any more what happens in its rooms.
    for webhook in call.api.backend.webhooks(&id).await? {
        call.api.backend.delete_webhook(&id, &webhook.id).await?;
    }
    tracing::info!(service = %id, "service deleted");
    Ok("Service deleted".into_response())
}

async fn renew_key(call: Call) -> Answered {
    let new: NewKey = call.read(RestError::BadRequest)?;
    let key = new.key()?;
    let service = changed(&call, |service| {
        service.key.clone_from(&key);
        Ok(())
    })
    .await?;
    tracing::info!(service = service.id, "the service has another key");
    Ok(tag(&service).on(json_response(with_key(&service, &rooms_of(&call, &service).await?))))
}

/// Stores the service in the path as `change` makes it, of what it is when it is written.
async fn changed(
    call: &Call,
    change: impl Fn(&mut Service) -> Result<(), RestError>,
) -> Result<Service, RestError> {
    let if_match = IfMatch::of(&call.headers)?;
    let id = visible_id(call)?;
    let change = |mut service: Service| {
        if_match.check(&tag(&service))?;
        change(&mut service)?;
        Ok::<_, RestError>(service)
    };
    call.api.backend.update_service(&id, change).await?.ok_or(RestError::ServiceNotFound)
}

fn only_super(caller: &Service) -> Result<(), RestError> {
    if caller.is_super { Ok(()) } else { Err(RestError::Forbidden) }
}

/// The id in the path, if the caller may see the service.
pub(super) fn visible_id(call: &Call) -> Result<ServiceId, RestError> {
    let id: ServiceId = call.id("service")?;
    if call.service.is_super || call.service.id == id.as_str() { Ok(id) } else { Err(RestError::Forbidden) }
}

/// The service in the path, if the caller may see it.
pub(super) async fn visible(call: &Call) -> Result<Service, RestError> {
    let id = visible_id(call)?;
    call.api.backend.service(&id).await?.ok_or(RestError::ServiceNotFound)
}

async fn rooms_of(call: &Call, service: &Service) -> Result<Vec<String>, RestError> {
    let mut rooms = Vec::new();
    let keep = |room: RoomConfig| {
        if room.service == service.id {
            rooms.push(room.id);
        }
        ControlFlow::Continue(())
    };
    call.api.backend.visit_rooms(keep).await?;
    Ok(rooms)
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

/// Of what can be read and changed; of the key nothing shows.
fn tag(service: &Service) -> ETag {
    ETag::of(&json!([service.id, service.name, service.public_key]))
}
