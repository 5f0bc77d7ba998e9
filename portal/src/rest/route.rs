//! Paths of the management API.

use axum::http::Method;
use kaigi_proto::{
    ids::{ParticipantId, RoomId, ServiceId, StreamId},
    shape::ApiVersion,
};

use super::error::RestError;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    CreateService,
    ListServices,
    GetService(ServiceId),
    UpdateService(ServiceId),
    DeleteService(ServiceId),
    /// A new key for a service.
    RotateKey(ServiceId),
    CreateRoom,
    ListRooms,
    Room {
        id: RoomId,
        version: ApiVersion,
        route: RoomRoute,
    },
    /// In the API, but not served here.
    NotAvailable(&'static str),
    /// Not even in OWT.
    NotImplemented,
}

/// What a request asks of a room.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RoomRoute {
    Get,
    Update,
    Delete,
    List(Collection),
    GetParticipant(ParticipantId),
    UpdateParticipant(ParticipantId),
    DropParticipant(ParticipantId),
    GetStream(StreamId),
    UpdateStream(StreamId),
    DeleteStream(StreamId),
    CreateToken,
    /// A list of what is not served here: there is none of it.
    EmptyList,
    NotAvailable(&'static str),
}

/// What a room has lists of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Collection {
    Participants,
    Streams,
}

/// The parts of a path. Slashes too many, as some clients send them, don't count.
pub(super) fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|segment| !segment.is_empty()).collect()
}

/// Whether a service has to prove itself for such paths.
pub(super) fn is_guarded(segments: &[&str]) -> bool {
    match segments {
        [first, ..] if first.eq_ignore_ascii_case("services") => true,
        [version, second, ..] if api_version(version).is_some() => {
            second.eq_ignore_ascii_case("rooms") || second.eq_ignore_ascii_case("stream-engine")
        }
        _ => false,
    }
}

/// The route of a path; `None` if there is no such path.
///
/// # Errors
/// If an id in it is no id.
pub(super) fn parse(method: &Method, segments: &[&str]) -> Result<Option<Route>, RestError> {
    let lower: Vec<String> = segments.iter().map(|s| s.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let method = method.as_str();
    if let ["services", rest @ ..] = &lower[..] {
        return service_route(method, rest, segments.get(1).copied());
    }
    let Some(version) = segments.first().and_then(|version| api_version(version)) else { return Ok(None) };
    let route = match (method, &lower[1..]) {
        ("POST", ["rooms"]) => Route::CreateRoom,
        ("GET", ["rooms"]) => Route::ListRooms,
        ("PATCH", ["rooms", _]) => Route::NotImplemented,
        (_, ["rooms", _, rest @ ..]) => {
            let Some(route) = room_route(method, rest, segments.get(4).copied())? else { return Ok(None) };
            Route::Room { id: RoomId::new(segments[2]).map_err(|_| bad_id())?, version, route }
        }
        (_, ["stream-engine", ..]) if version == ApiVersion::V1_1 => Route::NotAvailable("stream-engine"),
        _ => return Ok(None),
    };
    Ok(Some(route))
}

/// `rest` is the path after `services`, in lower case; `id` its first part as it came.
fn service_route(method: &str, rest: &[&str], id: Option<&str>) -> Result<Option<Route>, RestError> {
    let service = || ServiceId::new(id.unwrap_or_default()).map_err(|_| RestError::ServiceNotFound);
    Ok(Some(match (method, rest) {
        ("POST", []) => Route::CreateService,
        ("GET", []) => Route::ListServices,
        ("GET", [_]) => Route::GetService(service()?),
        ("PUT", [_]) => Route::UpdateService(service()?),
        ("DELETE", [_]) => Route::DeleteService(service()?),
        ("POST", [_, "key"]) => Route::RotateKey(service()?),
        _ => return Ok(None),
    }))
}

/// `rest` is the path after the room's id, in lower case; `id` its second part as it came.
fn room_route(method: &str, rest: &[&str], id: Option<&str>) -> Result<Option<RoomRoute>, RestError> {
    let participant = || ParticipantId::new(id.unwrap_or_default()).map_err(|_| bad_id());
    let stream = || StreamId::new(id.unwrap_or_default()).map_err(|_| bad_id());
    Ok(Some(match (method, rest) {
        ("GET", []) => RoomRoute::Get,
        ("PUT", []) => RoomRoute::Update,
        ("DELETE", []) => RoomRoute::Delete,
        ("GET", ["participants"]) => RoomRoute::List(Collection::Participants),
        ("GET", ["participants", _]) => RoomRoute::GetParticipant(participant()?),
        ("DELETE", ["participants", _]) => RoomRoute::DropParticipant(participant()?),
        ("PATCH", ["participants", _]) => RoomRoute::UpdateParticipant(participant()?),
        ("GET", ["streams"]) => RoomRoute::List(Collection::Streams),
        ("GET", ["streams", _]) => RoomRoute::GetStream(stream()?),
        ("PATCH", ["streams", _]) => RoomRoute::UpdateStream(stream()?),
        ("DELETE", ["streams", _]) => RoomRoute::DeleteStream(stream()?),
        ("POST", ["tokens"]) => RoomRoute::CreateToken,
        ("GET", ["streaming-outs" | "recordings" | "sipcalls" | "analytics"]) => RoomRoute::EmptyList,
        ("POST", ["streaming-ins"]) | ("DELETE", ["streaming-ins", _]) => {
            RoomRoute::NotAvailable("streaming-ins")
        }
        ("POST", ["streaming-outs"]) | ("PATCH" | "DELETE", ["streaming-outs", _]) => {
            RoomRoute::NotAvailable("streaming-outs")
        }
        ("POST", ["recordings"]) | ("PATCH" | "DELETE", ["recordings", _]) => {
            RoomRoute::NotAvailable("recordings")
        }
        ("POST", ["sipcalls"]) | ("PATCH" | "DELETE", ["sipcalls", _]) => RoomRoute::NotAvailable("sipcalls"),
        ("POST", ["analytics"]) | ("DELETE", ["analytics", _]) => RoomRoute::NotAvailable("analytics"),
        ("POST", ["cascading"]) | ("GET", ["bridges"]) => RoomRoute::NotAvailable("cascading"),
        _ => return Ok(None),
    }))
}

fn api_version(segment: &str) -> Option<ApiVersion> {
    match segment {
        "v1" | "V1" => Some(ApiVersion::V1),
        "v1.1" | "V1.1" => Some(ApiVersion::V1_1),
        _ => None,
    }
}

fn bad_id() -> RestError {
    RestError::Operation("Operation failed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: &str, path: &str) -> Option<Route> {
        parse(&method.parse().unwrap(), &segments(path)).unwrap()
    }

    fn of_room(method: &str, rest: &str) -> Option<RoomRoute> {
        match route(method, &format!("/v1/rooms/0a{rest}")) {
            Some(Route::Room { route, .. }) => Some(route),
            _ => None,
        }
    }

    #[test]
    fn slashes_and_letter_case_do_not_matter_but_ids_keep_theirs() {
        assert_eq!(route("GET", "/V1/Rooms/"), Some(Route::ListRooms));
        assert_eq!(of_room("GET", "/streams/"), Some(RoomRoute::List(Collection::Streams)));
        let stream = StreamId::new("0A-Common").unwrap();
        assert_eq!(of_room("PATCH", "/STREAMS/0A-Common"), Some(RoomRoute::UpdateStream(stream)));
    }

    #[test]
    fn both_versions_have_the_same_paths() {
        let version = |path| match route("GET", path) {
            Some(Route::Room { version, .. }) => Some(version),
            _ => None,
        };
        assert_eq!(version("/v1/rooms/0a/streams"), Some(ApiVersion::V1));
        assert_eq!(version("/v1.1/rooms/0a/streams"), Some(ApiVersion::V1_1));
        assert_eq!(version("/v2/rooms/0a/streams"), None);
    }

    #[test]
    fn what_is_not_served_says_so() {
        assert_eq!(of_room("POST", "/recordings"), Some(RoomRoute::NotAvailable("recordings")));
        assert_eq!(of_room("GET", "/recordings"), Some(RoomRoute::EmptyList));
        assert_eq!(route("PATCH", "/v1/rooms/0a"), Some(Route::NotImplemented));
    }

    #[test]
    fn other_paths_are_unknown() {
        for (method, rest) in [
            ("GET", "/recordings/1"),
            ("GET", "/tokens"),
            ("PUT", "/streams/1"),
            ("GET", "/a/b/c"),
            ("GET", "/streaming-ins"),
        ] {
            assert_eq!(of_room(method, rest), None, "{method} {rest}");
        }
        assert_eq!(route("GET", "/"), None);
        assert_eq!(route("GET", "/v1"), None);
    }

    #[test]
    fn services_have_no_version() {
        let id = ServiceId::new("0A").unwrap();
        assert_eq!(route("GET", "/services/"), Some(Route::ListServices));
        assert_eq!(route("DELETE", "/Services/0A"), Some(Route::DeleteService(id.clone())));
        assert_eq!(route("POST", "/services/0A/key"), Some(Route::RotateKey(id)));
        assert_eq!(route("PATCH", "/services/0A"), None);
        assert_eq!(route("GET", "/v1/services"), None);
        assert!(parse(&Method::GET, &segments("/services/a%20b")).is_err());
    }

    #[test]
    fn ids_are_checked() {
        assert!(parse(&Method::GET, &segments("/v1/rooms/a%20b")).is_err());
        assert!(parse(&Method::GET, &segments("/v1/rooms/a/streams/b%2f")).is_err());
    }

    #[test]
    fn rooms_and_services_are_guarded() {
        for path in [
            "/v1/rooms",
            "/V1.1/ROOMS/0a/streams/",
            "/services/x",
            "/v1.1/stream-engine/nodes",
            "/v1/rooms/0a/unknown",
        ] {
            assert!(is_guarded(&segments(path)), "{path}");
        }
        assert!(!is_guarded(&segments("/v1/other")));
        assert!(!is_guarded(&segments("/")));
    }
}
