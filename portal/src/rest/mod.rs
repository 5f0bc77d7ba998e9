//! The management API (OWT's REST API, versions 1 and 1.1).
//!
//! A request goes through the same steps whatever it asks for: its path becomes a [`Route`], its body JSON, its header a service,
//! its room a document that this service owns. What is left is one function per route.

mod bearer;
mod body;
mod error;
mod identity;
mod mauth;
mod participants;
mod rooms;
mod route;
mod services;
mod streams;
mod tokens;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use kaigi_proto::ids::RoomId;
use kaigi_room_config::RoomConfig;
use serde_json::json;

use crate::{
    backend::{Backend, Service},
    ident::DocumentIds,
    public_host::PublicHost,
};
use error::RestError;
use identity::{Grants, Identity};
use route::{Collection, RoomRoute, Route};

pub(crate) use tokens::{is_name, issue};

/// What all requests share.
#[derive(Clone, Debug)]
pub(crate) struct Management {
    pub(crate) backend: Backend,
    pub(crate) host: PublicHost,
    /// How wrong a client's clock may be; zero = it is not looked at.
    pub(crate) mauth_window: Duration,
    ids: Arc<DocumentIds>,
}

impl Management {
    pub(crate) fn new(backend: Backend, host: PublicHost, mauth_window: Duration) -> Self {
        Self { backend, host, mauth_window, ids: Arc::default() }
    }

    /// The routes of the management port.
    pub(crate) fn router(self) -> Router {
        Router::new().fallback(serve).with_state(self)
    }
}

async fn serve(State(api): State<Management>, request: Request) -> Response {
    let method = request.method().clone();
    let mut response =
        if method == Method::OPTIONS { "OK".into_response() } else { answer(&api, request).await };
    metrics::counter!("kaigi_portal_management_requests_total",
        "method" => known(&method), "status" => response.status().as_u16().to_string())
    .increment(1);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, GET, OPTIONS, DELETE, PATCH, PUT"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "origin, authorization, content-type"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A method as a metric's label; what clients invent has one label for all.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

async fn answer(api: &Management, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    match answer_or_error(api, &parts.method, &parts.uri, &parts.headers, body).await {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!(method = %parts.method, path = parts.uri.path(), %error, "refused");
            error.into_response()
        }
    }
}

async fn answer_or_error(
    api: &Management,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: axum::body::Body,
) -> Result<Response, RestError> {
    let body = body::read(headers, body).await?;
    let segments = route::segments(uri.path());
    let guarded = route::is_guarded(&segments);
    // Who is not let in does not learn which paths exist.
    let identity = if guarded { Some(identity::authenticate(api, headers).await?) } else { None };
    let (Some(Identity { service, grants, username, role }), Some(route)) =
        (identity, route::parse(method, &segments)?)
    else {
        return Err(RestError::UnknownPath);
    };
    grants.check(method, &route)?;
    match route {
        Route::CreateService => services::create(api, &service, &body).await,
        Route::ListServices => services::list(api, &service).await,
        Route::GetService(id) => services::get(api, &service, &id).await,
        Route::UpdateService(id) => services::update(api, &service, &id, &body).await,
        Route::DeleteService(id) => services::delete(api, &service, &id).await,
        Route::RotateKey(id) => services::rotate_key(api, &service, &id, &body).await,
        Route::CreateRoom => rooms::create(api, &service, &body).await,
        Route::ListRooms => rooms::list(api, &service, &grants, uri.query().unwrap_or_default()).await,
        Route::NotAvailable(what) => Err(RestError::NotAvailable(what)),
        Route::NotImplemented => Err(RestError::Other("Not implemented".to_owned())),
        Route::Room { id, version, route } => {
            let room = owned_room(api, &service, &id).await?;
            match route {
                RoomRoute::Get => Ok(json_response(room.to_rest(false))),
                RoomRoute::Update => rooms::update(api, &id, &body).await,
                RoomRoute::Delete => rooms::delete(api, &id).await,
                RoomRoute::List(Collection::Participants) => participants::list(api, &id).await,
                RoomRoute::List(Collection::Streams) => streams::list(api, version, &id).await,
                RoomRoute::GetParticipant(participant) => participants::get(api, &id, &participant).await,
                RoomRoute::DropParticipant(participant) => participants::drop(api, &id, &participant).await,
                RoomRoute::UpdateParticipant(participant) => {
                    participants::update(api, &id, &participant, &body).await
                }
                RoomRoute::GetStream(stream) => streams::get(api, version, &id, &stream).await,
                RoomRoute::UpdateStream(stream) => streams::update(api, version, &id, &stream, &body).await,
                RoomRoute::DeleteStream(stream) => streams::delete(api, &id, &stream).await,
                RoomRoute::CreateToken => {
                    tokens::create(api, headers, &room, &service, username, role, &body).await
                }
                RoomRoute::EmptyList => Ok(json_response(json!([]))),
                RoomRoute::NotAvailable(what) => Err(RestError::NotAvailable(what)),
            }
        }
    }
}

/// The room, if this service may see it.
async fn owned_room(api: &Management, service: &Service, id: &RoomId) -> Result<RoomConfig, RestError> {
    let room = api.backend.room(id).await?;
    room.filter(|room| owns(service, room)).ok_or(RestError::RoomNotFound)
}

fn owns(service: &Service, room: &RoomConfig) -> bool {
    service.is_super || room.service == service.id
}

fn json_response(value: serde_json::Value) -> Response {
    axum::Json(value).into_response()
}

/// Success without content; OWT answers 200 all the same.
fn empty_response() -> Response {
    StatusCode::OK.into_response()
}
