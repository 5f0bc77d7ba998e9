//! The OpenAPI 3.1 document of the management API, made of the same list as its routes.

mod nulls;
mod operation;
mod page;
mod responses;
mod schemas;

use axum::{
    body::Bytes,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use kaigi_proto::shape::ApiVersion;
use serde_json::{Map, Value, json};

use super::{operation::Operation, table::Table};
use schemas::Schemas;

pub(super) use page::page;

/// Sections of the document, in the order in which they are shown.
const TAGS: [(&str, &str); 14] = [
    ("rooms", "What a room may do, and how; it runs while somebody is in it."),
    ("participants", "Who is in a room that runs."),
    ("streams", "What is published in a room that runs, and its mixes."),
    ("subscriptions", "Who gets what, in which form, and why in that form."),
    ("tokens", "What lets a client into a room."),
    ("streaming", "Streams from and to other servers."),
    ("recordings", "Streams kept in files."),
    ("analytics", "Streams looked at by programs."),
    ("sip", "Calls to and from telephones."),
    ("cascading", "Rooms of several clusters."),
    ("services", "The tenants of the API, and their keys."),
    ("events", "What happens in rooms, told as it happens."),
    ("cluster", "The processes of the cluster."),
    ("engine", "OWT's experimental stream engine, which is not here."),
];

/// Where the document is.
pub(super) const PLACE: &str = "/openapi.json";

const ABOUT: &str = "Rooms, participants, streams and tokens, for the servers of those who use Kaigi. OWT's REST API, and what is \
    Kaigi's own beside it. Success is always 200. Paths are the same in any letter case and with slashes too many. Bodies are JSON; \
    forms (`application/x-www-form-urlencoded`, `a[b]=c` for an object in an object) are taken, too. A body may have 100 kB.";

const MAUTH: &str = "OWT's signature of a request, one for each: `MAuth realm=<any>,mauth_signature_method=HMAC_SHA256,\
    mauth_serviceid=<service id>,mauth_cnonce=<random>,mauth_timestamp=<Unix ms>,mauth_signature=<signature>`, where signature = \
    base64(lower-case hex(HMAC-SHA256(key as text, \"<timestamp>,<cnonce>\"))). With `mauth_username` (base64) and `mauth_role` the \
    signed text is \"<timestamp>,<cnonce>,<username>,<role>\". It is good once, and within five minutes of the portal's clock.";

const BEARER: &str = "A JSON Web Token that the service makes: `iss` its id, `exp` required, signed with its key (HS256) or with the \
    private key of its `publicKey` (EdDSA). The claim `grants` narrows it: `{\"rooms\": [ids], \"readOnly\": bool, \"tokensOnly\": bool}`.";

/// The document.
pub(super) fn document(table: &Table) -> Value {
    let mut schemas = Schemas::new();
    let mut paths = Map::new();
    for operation in &table.operations {
        for (version, path) in operation.paths() {
            let described = operation::describe(operation, version, table, &mut schemas);
            let item = paths.entry(path.clone()).or_insert_with(|| operation::path_item(&path));
            item[operation.method.as_str().to_ascii_lowercase()] = described;
        }
    }
    paths.insert(PLACE.to_owned(), of_itself());
    let mut paths = Value::Object(paths);
    let schemas = schemas.into_components(&mut paths);
    let tags: Vec<Value> =
        TAGS.iter().map(|(name, about)| json!({ "name": name, "description": about })).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Kaigi management API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "security": [{ "MAuth": [] }, { "Bearer": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": responses::components(),
            "securitySchemes": {
                "MAuth": { "type": "apiKey", "in": "header", "name": "Authorization", "description": MAUTH },
                "Bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": BEARER },
            },
        },
    })
}

fn of_itself() -> Value {
    let content = json!({ "application/json": { "schema": { "type": "object" } } });
    json!({ "get": {
        "operationId": "getDocument",
        "tags": ["cluster"],
        "summary": "This document",
        "description": "To be read at `/docs/api/`.",
        "security": [],
        "responses": { "200": { "description": "The document", "content": content } },
    } })
}

/// The document as an answer.
pub(super) fn answer(document: &Bytes) -> Response {
    let mut response = document.clone().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The name of an operation in the document, where each path has its own.
fn operation_id(operation: &Operation, version: ApiVersion) -> String {
    match version {
        ApiVersion::V1 => operation.id.to_owned(),
        ApiVersion::V1_1 if operation.paths().len() == 1 => operation.id.to_owned(),
        ApiVersion::V1_1 => format!("{}V1_1", operation.id),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rest::table::{operations, segments};

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                    found.insert(reference.to_owned());
                }
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn what_is_documented_is_routed_and_what_is_routed_is_documented() {
        let table = Table::new(operations());
        let document = document(&table);
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap().iter().filter(|(path, _)| *path != PLACE) {
            for method in ["get", "post", "put", "patch", "delete"].iter().filter(|m| item.get(m).is_some()) {
                let example = path.replace(['{', '}'], "");
                let found = table.find(&method.to_uppercase().parse().unwrap(), &segments(&example));
                let found = found.unwrap_or_else(|_| panic!("{method} {path} is not routed"));
                assert_eq!(item[method]["operationId"], operation_id(found.operation, found.version));
                documented.insert((method.to_uppercase(), path.clone()));
            }
        }
        for operation in &table.operations {
            for (_, path) in operation.paths() {
                assert!(documented.remove(&(operation.method.to_string(), path.clone())), "{path}");
            }
        }
        assert!(documented.is_empty());
    }

    #[test]
    fn every_operation_is_described_in_a_section_that_is_there() {
        let document = document(&Table::new(operations()));
        let tags: BTreeSet<&str> = TAGS.iter().map(|(name, _)| *name).collect();
        let paths = document["paths"].as_object().unwrap().iter();
        for (_, item) in paths.filter(|(path, _)| *path != PLACE) {
            for (method, operation) in
                item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
            {
                assert!(tags.contains(operation["tags"][0].as_str().unwrap()), "{method} {operation}");
                assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {operation}");
                assert!(operation["responses"].get("401").is_some(), "{method} {operation}");
            }
        }
    }

    #[test]
    fn all_references_lead_somewhere() {
        let document = document(&Table::new(operations()));
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 10);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    }
}
