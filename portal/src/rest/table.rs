//! All operations, and which of them a request asks for.

use std::borrow::Cow;

use axum::http::Method;
use kaigi_proto::shape::ApiVersion;
use percent_encoding::percent_decode_str;

use super::{
    analytics, cascading, cluster, events, operation::Operation, participants, recordings, rooms, services,
    sipcalls, stats, stream_engine, streaming_ins, streaming_outs, streams, tokens, webhooks,
};

/// First parts of paths below a version that need a service's proof, whatever follows.
const GUARDED: [&str; 3] = ["rooms", "stream-engine", "events"];
/// The same of paths without a version.
const GUARDED_WHOLE: [&str; 2] = ["services", "cluster"];

/// All operations.
pub(super) fn operations() -> Vec<Operation> {
    [
        rooms::operations(),
        participants::operations(),
        streams::operations(),
        tokens::operations(),
        stats::operations(),
        streaming_ins::operations(),
        streaming_outs::operations(),
        recordings::operations(),
        analytics::operations(),
        sipcalls::operations(),
        cascading::operations(),
        stream_engine::operations(),
        services::operations(),
        webhooks::operations(),
        events::operations(),
        cluster::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The operations by their paths.
pub(super) struct Table {
    pub(super) operations: Vec<Operation>,
    /// Each path with its operation's place in the list.
    routes: Vec<(Pattern, usize)>,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("operations", &self.operations.len()).finish_non_exhaustive()
    }
}

/// What a request asks for.
pub(super) struct Found<'t> {
    pub(super) operation: &'t Operation,
    pub(super) version: ApiVersion,
    pub(super) parameters: Parameters,
}

/// What stands in the places of a path's parameters, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
    /// Empty if there is no such parameter, which is no identifier.
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }
}

/// Why nothing was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// No such path.
    Path,
    /// The path has other methods, these.
    Method(Vec<Method>),
}

struct Pattern {
    version: ApiVersion,
    parts: Vec<Part>,
}

enum Part {
    Literal(String),
    Parameter(&'static str),
}

impl Table {
    pub(super) fn new(operations: Vec<Operation>) -> Self {
        let mut routes = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            for (version, path) in operation.paths() {
                routes.push((Pattern { version, parts: parts(&path, operation.path) }, index));
            }
        }
        Self { operations, routes }
    }

    /// The operation of a request. `HEAD` is `GET` without the content.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn find(&self, method: &Method, segments: &[Cow<'_, str>]) -> Result<Found<'_>, Missing> {
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        let mut others = Vec::new();
        for (pattern, index) in &self.routes {
            let operation = &self.operations[*index];
            let Some(parameters) = pattern.matches(segments) else { continue };
            if operation.method == wanted {
                return Ok(Found { operation, version: pattern.version, parameters });
            }
            others.push(operation.method.clone());
            if operation.method == Method::GET {
                others.push(Method::HEAD);
            }
        }
        Err(if others.is_empty() { Missing::Path } else { Missing::Method(others) })
    }
}

impl Pattern {
    fn matches(&self, segments: &[Cow<'_, str>]) -> Option<Parameters> {
        if self.parts.len() != segments.len() {
            return None;
        }
        let mut parameters = Vec::new();
        for (part, segment) in self.parts.iter().zip(segments) {
            match part {
                Part::Literal(text) if text.eq_ignore_ascii_case(segment) => {}
                Part::Literal(_) => return None,
                Part::Parameter(name) => parameters.push((*name, segment.to_string())),
            }
        }
        Some(Parameters(parameters))
    }
}

/// The parts of a path; names of parameters live in `template`, but for the room's.
fn parts(path: &str, template: &'static str) -> Vec<Part> {
    let name = |part: &str| {
        let name = part.strip_prefix('{')?.strip_suffix('}')?;
        let known = template.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}'));
        Some(known.into_iter().find(|known| *known == name).unwrap_or("room"))
    };
    let parts = path.split('/').filter(|part| !part.is_empty());
    parts.map(|part| name(part).map_or_else(|| Part::Literal(part.to_owned()), Part::Parameter)).collect()
}

/// The parts of a path, decoded. Slashes too many, as some clients send them, don't count.
pub(super) fn segments(path: &str) -> Vec<Cow<'_, str>> {
    let parts = path.split('/').filter(|segment| !segment.is_empty());
    // What is no UTF-8 stays as it is and is no identifier, because of its '%'.
    parts.map(|part| percent_decode_str(part).decode_utf8().unwrap_or(Cow::Borrowed(part))).collect()
}

/// Whether a service has to prove itself for such paths.
pub(super) fn is_guarded(segments: &[Cow<'_, str>]) -> bool {
    let is_one_of =
        |names: &[&str], segment: &str| names.iter().any(|name| name.eq_ignore_ascii_case(segment));
    match segments {
        [version, second, ..] if is_one_of(&["v1", "v1.1"], version) => is_one_of(&GUARDED, second),
        [first, ..] => is_one_of(&GUARDED_WHOLE, first),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(method: &str, path: &str) -> Result<(&'static str, ApiVersion, Parameters), Missing> {
        let table = Table::new(operations());
        let found = table.find(&method.parse().unwrap(), &segments(path))?;
        Ok((found.operation.id, found.version, found.parameters))
    }

    fn of_room(method: &str, rest: &str) -> Option<&'static str> {
        find(method, &format!("/v1/rooms/0a{rest}")).ok().map(|(id, ..)| id)
    }

    #[test]
    fn slashes_and_letter_case_do_not_matter_but_ids_keep_theirs() {
        assert_eq!(find("GET", "/V1/Rooms/").unwrap().0, "listRooms");
        assert_eq!(of_room("GET", "//streams/"), Some("listStreams"));
        let (id, _, parameters) = find("PATCH", "/v1/ROOMS/0a/STREAMS/0A%2dCommon").unwrap();
        assert_eq!(
            (id, parameters.get("stream"), parameters.get("room")),
            ("updateStream", "0A-Common", "0a")
        );
    }

    #[test]
    fn both_versions_have_the_same_paths() {
        assert_eq!(find("GET", "/v1/rooms/0a/streams").unwrap().1, ApiVersion::V1);
        assert_eq!(find("GET", "/v1.1/rooms/0a/streams").unwrap().1, ApiVersion::V1_1);
        assert_eq!(find("GET", "/v2/rooms/0a/streams"), Err(Missing::Path));
    }

    #[test]
    fn a_path_with_other_methods_says_which() {
        let refused = |method, path| find(method, path).unwrap_err();
        assert_eq!(
            refused("PUT", "/v1/rooms"),
            Missing::Method(vec![Method::POST, Method::GET, Method::HEAD])
        );
        assert_eq!(refused("GET", "/v1/rooms/0a/tokens"), Missing::Method(vec![Method::POST]));
        assert_eq!(of_room("HEAD", "/streams"), Some("listStreams"));
    }

    #[test]
    fn other_paths_are_unknown() {
        for path in [
            "/",
            "/v1",
            "/v1/services",
            "/v1/rooms/0a/a/b/c",
            "/v1/rooms/0a/streams/1/2",
            "/v1/stream-engine/nodes",
        ] {
            assert_eq!(find("GET", path).unwrap_err(), Missing::Path, "{path}");
        }
    }

    #[test]
    fn what_needs_a_proof() {
        for path in [
            "/v1/rooms",
            "/V1.1/ROOMS/0a/streams/",
            "/services/x",
            "/v1.1/stream-engine/nodes",
            "/v1/rooms/0a/unknown",
            "/cluster/nodes",
        ] {
            assert!(is_guarded(&segments(path)), "{path}");
        }
        assert!(!is_guarded(&segments("/v1/other")));
        assert!(!is_guarded(&segments("/")));
    }

    #[test]
    fn every_operation_is_guarded_and_has_its_own_name_and_path() {
        let mut seen = std::collections::HashSet::new();
        for operation in operations() {
            assert!(seen.insert(operation.id.to_owned()), "{} is used twice", operation.id);
            for (_, path) in operation.paths() {
                assert!(is_guarded(&segments(&path)), "{path}");
                assert!(seen.insert(format!("{} {path}", operation.method)), "{path}");
            }
        }
    }
}
