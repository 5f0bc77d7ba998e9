//! Server-sent events (WHATWG HTML, section 9.2): what happens in a service's rooms, as it happens. Kaigi's own.

mod feed;
mod places;

use axum::{
    body::Body,
    http::{HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use kaigi_proto::{events::EventFilter, ids::RoomId};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::{
    call::Call,
    error::RestError,
    operation::{Answered, Needs, Operation, Place, Reply, Versions, service},
    owned_room,
};
use feed::{Feed, Wanted};
use places::Places;

/// What goes on before an event: it is where a client that lost its connection goes on.
const LAST_EVENT_ID: &str = "last-event-id";
/// Pieces that wait for a client that reads slowly, beside what its connection and the hub hold.
const MAX_WAITING: usize = 16;

/// What can be asked of events.
pub(super) fn operations() -> Vec<Operation> {
    let text = || json!({ "type": "string" });
    vec![
        service(Method::GET, "/events", "watchEvents", watch)
            .doc("events", "Watch what happens, as server-sent events")
            .more(
                "Each event has its number as `id`, its type as `event` and as `data` the same JSON as the body of a webhook's message. \
                 A comment comes every 15 s. `gap` says that some events after the one to go on after are not kept any more. A super \
                 service hears of all services. A service has 32 such streams at most at a portal.",
            )
            .versions(Versions::V1)
            .needs(Needs::Filtered)
            .parameter(Place::Query, "room", "Only events of this room", text())
            .parameter(
                Place::Query,
                "types",
                "Only these types or families of them (`participant.*`), separated by commas",
                text(),
            )
            .parameter(
                Place::Query,
                "after",
                "First what is kept after the event of this number",
                json!({ "type": "string", "pattern": "^[0-9]{1,19}$" }),
            )
            .parameter(
                Place::Header,
                "Last-Event-ID",
                "The same, as browsers say it",
                json!({ "type": "string", "pattern": "^[0-9]{1,19}$" }),
            )
            .replies(Reply::EventStream("Events"))
            .can(400)
            .can(429),
    ]
}

/// What all streams of events of this portal share.
#[derive(Clone, Debug)]
pub(super) struct Feeds {
    places: Places,
    stopping: CancellationToken,
}

impl Feeds {
    /// All end with `stopping`.
    pub(super) fn new(stopping: CancellationToken) -> Self {
        Self { places: Places::default(), stopping }
    }
}

async fn watch(call: Call) -> Answered {
    let wanted = wanted(&call).await?;
    let after = after(&call)?;
    let feeds = &call.api.feeds;
    let place = feeds.places.take(&call.service.id);
    let place = place.ok_or(RestError::TooMany("There are as many streams of events as there may be"))?;
    let (out, pieces) = mpsc::channel(MAX_WAITING);
    let feed = Feed::start(call.api.backend.clone(), call.service, wanted, call.expires, after).await?;
    tokio::spawn(feed.run(out, feeds.stopping.clone(), place));
    Ok(stream(Body::from_stream(ReceiverStream::new(pieces))))
}

fn stream(body: Body) -> Response {
    let mut response = body.into_response();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx holds answers back otherwise.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn wanted(call: &Call) -> Result<Wanted, RestError> {
    let room = match call.query("room") {
        None => None,
        Some(room) => {
            let id = RoomId::new(&room).map_err(|_| RestError::RoomNotFound)?;
            if !call.grants.covers(id.as_str()) {
                return Err(RestError::RoomNotFound);
            }
            owned_room(&call.api.backend, &call.service, &id).await?;
            Some(id)
        }
    };
    let types = call.query("types").unwrap_or_default();
    let types = types.split(',').map(str::trim).filter(|name| !name.is_empty());
    let types = EventFilter::new(types).map_err(|error| RestError::BadRequest(error.to_string()))?;
    Ok(Wanted { room, types, grants: call.grants.clone() })
}

/// After which event it is to go on; `None` = with the next one.
fn after(call: &Call) -> Result<Option<u64>, RestError> {
    let refused = || RestError::BadRequest("Invalid event id".to_owned());
    let header = call.headers.get(LAST_EVENT_ID).map(|value| value.to_str().map(str::to_owned));
    let text = match header {
        Some(header) => Some(header.map_err(|_| refused())?).filter(|text| !text.is_empty()),
        None => None,
    };
    match text.or_else(|| call.query("after")) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| refused()),
    }
}
