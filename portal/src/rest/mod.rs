//! The management API (OWT's REST API, versions 1 and 1.1).
//!
//! A request goes through the same steps whatever it asks for: its body becomes JSON, its header a service, its path an
//! [operation](operation::Operation), its room a document that this service owns. What is left is one function per operation. Each
//! module of a resource lists its operations with what they take and give; [routing](table) and the [OpenAPI document](openapi) come
//! from these lists.

mod analytics;
mod bearer;
mod body;
mod call;
mod cascading;
mod cluster;
mod egress;
mod error;
mod etag;
mod events;
mod identity;
mod join_grant;
mod mauth;
mod merge_patch;
mod openapi;
mod operation;
mod participants;
mod peers_grant;
mod recordings;
mod rooms;
mod server_side;
mod services;
mod shapes;
mod sipcalls;
mod stats;
mod stream_engine;
mod stream_patch;
mod streaming_ins;
mod streaming_outs;
mod streams;
mod table;
mod tokens;
mod webhooks;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{Request, State},
    http::{HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use kaigi_proto::ids::RoomId;
use kaigi_room_config::RoomConfig;
use tokio_util::sync::CancellationToken;

use crate::{
    backend::{Backend, Service},
    ident::DocumentIds,
    public_host::PublicHost,
};
use call::{Call, RoomCall};
use identity::Identity;
use operation::{Answered, Handler};
use table::{Found, Missing, Table};

pub(crate) use error::RestError;
pub(crate) use etag::IfMatch;
pub(crate) use join_grant::join_grant;
pub(crate) use peers_grant::{PeersGrant, peers_grant};
pub(crate) use tokens::{is_name, issue};

/// What all requests share.
#[derive(Clone, Debug)]
pub(crate) struct Management {
    pub(crate) backend: Backend,
    pub(crate) host: PublicHost,
    /// How wrong a client's clock may be; zero = it is not looked at.
    pub(crate) mauth_window: Duration,
    ids: Arc<DocumentIds>,
    table: Arc<Table>,
    /// The OpenAPI document.
    document: Bytes,
    feeds: events::Feeds,
}

impl Management {
    /// `stopping`: when answers that go on for ever end.
    pub(crate) fn new(
        backend: Backend,
        host: PublicHost,
        mauth_window: Duration,
        stopping: CancellationToken,
    ) -> Self {
        let table = Table::new(table::operations());
        let document = openapi::document(&table).to_string().into();
        let feeds = events::Feeds::new(stopping);
        Self { backend, host, mauth_window, ids: Arc::default(), table: Arc::new(table), document, feeds }
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
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "origin, authorization, content-type, if-match, last-event-id",
        ),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "etag"),
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
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    match answer_or_error(api, request).await {
        Ok(response) => response,
        Err(error) => {
            tracing::debug!(%method, path, %error, "refused");
            error.into_response()
        }
    }
}

async fn answer_or_error(api: &Management, request: Request) -> Answered {
    let (parts, body) = request.into_parts();
    if let Some(response) = open(api, parts.uri.path()) {
        let is_read = parts.method == Method::GET || parts.method == Method::HEAD;
        let others = || RestError::MethodNotAllowed(vec![Method::GET, Method::HEAD]);
        return if is_read { Ok(response) } else { Err(others()) };
    }
    // What is malformed is refused before anybody is asked who he is, as in OWT.
    let body = body::read(&parts.headers, body).await?;
    let segments = table::segments(parts.uri.path());
    if !table::is_guarded(&segments) {
        return Err(RestError::UnknownPath);
    }
    // Who is not let in does not learn which paths exist.
    let Identity { service, grants, username, role, expires } =
        identity::authenticate(api, &parts.headers).await?;
    let Found { operation, version, parameters } =
        api.table.find(&parts.method, &segments).map_err(|missing| match missing {
            Missing::Path => RestError::UnknownPath,
            Missing::Method(others) => RestError::MethodNotAllowed(others),
        })?;
    grants.check(operation, parameters.get("room"))?;
    let query = parts.uri.query().unwrap_or_default().to_owned();
    let headers = parts.headers;
    let call = Call {
        api: api.clone(),
        service,
        grants,
        username,
        role,
        expires,
        version,
        parameters,
        headers,
        query,
        body,
    };
    match &operation.handler {
        Handler::Service(run) => run(call).await,
        Handler::Room(run) => {
            let id = call.id::<RoomId>("room")?;
            let room = owned_room(&api.backend, &call.service, &id).await?;
            run(RoomCall { call, id, room }).await
        }
    }
}

/// What everybody may read: the document and its page.
fn open(api: &Management, path: &str) -> Option<Response> {
    if path.trim_matches('/').eq_ignore_ascii_case(openapi::PLACE.trim_matches('/')) {
        return Some(openapi::answer(&api.document));
    }
    openapi::page(path)
}

/// The room, if this service may see it.
async fn owned_room(backend: &Backend, service: &Service, id: &RoomId) -> Result<RoomConfig, RestError> {
    let room = backend.room(id).await?;
    room.filter(|room| owns(service, room)).ok_or(RestError::RoomNotFound)
}

fn owns(service: &Service, room: &RoomConfig) -> bool {
    service.is_super || room.service == service.id
}
