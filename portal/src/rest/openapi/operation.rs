//! One operation in the document: its parameters, body and answers.

use axum::http::Method;
use kaigi_proto::shape::ApiVersion;
use serde_json::{Map, Value, json};

use super::{operation_id, responses::refusal, schemas::Schemas};
use crate::rest::{
    operation::{Operation, Place, Reply},
    table::Table,
};

/// What identifiers are made of; see [`kaigi_proto::ids`].
const ID_PATTERN: &str = "^[0-9A-Za-z_.:~-]{1,128}$";

/// A path with its parameters, without operations.
pub(super) fn path_item(path: &str) -> Value {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let parameters: Vec<Value> = names.map(path_parameter).collect();
    if parameters.is_empty() { json!({}) } else { json!({ "parameters": parameters }) }
}

fn path_parameter(name: &str) -> Value {
    json!({
        "name": name, "in": "path", "required": true, "description": format!("Id of the {name}"),
        "schema": { "type": "string", "pattern": ID_PATTERN },
    })
}

/// An operation.
pub(super) fn describe(
    operation: &Operation,
    version: ApiVersion,
    table: &Table,
    schemas: &mut Schemas,
) -> Value {
    let mut described = json!({
        "operationId": operation_id(operation, version),
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": responses(operation, version, table, schemas),
    });
    if !operation.description.is_empty() {
        described["description"] = operation.description.into();
    }
    let parameters = parameters(operation);
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some(body) = &operation.body {
        let schema = schemas.input(body.schema);
        let mut content = json!({ "application/json": { "schema": schema } });
        if let Some(other) = body.also {
            content[other] = json!({ "schema": schema });
        }
        described["requestBody"] = json!({ "required": body.required, "content": content });
    }
    described
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let mut parameters: Vec<Value> = Vec::new();
    for parameter in &operation.parameters {
        let place = match parameter.place {
            Place::Query => "query",
            Place::Header => "header",
        };
        parameters.push(json!({
            "name": parameter.name, "in": place, "required": parameter.required,
            "description": parameter.description, "schema": parameter.schema,
        }));
    }
    if is_conditional(operation) {
        parameters.push(json!({
            "name": "If-Match", "in": "header", "required": false,
            "description": "Entity tags (`ETag`) of what may be changed, or `*`; with any other nothing is done and the answer is 412",
            "schema": { "type": "string", "pattern": r#"^(\*|(W/)?"[!#-~]*"( *, *(W/)?"[!#-~]*")*)$"# },
        }));
    }
    parameters
}

/// Whether it changes a document with a tag.
fn is_conditional(operation: &Operation) -> bool {
    operation.tagged && operation.method != Method::GET && operation.makes.is_none()
}

fn responses(operation: &Operation, version: ApiVersion, table: &Table, schemas: &mut Schemas) -> Value {
    let mut responses = Map::new();
    if let Some(mut success) = success(operation, version, schemas) {
        if let Some(parameter) = operation.makes {
            success["links"] = links(parameter, version, table);
        }
        responses.insert("200".into(), success);
    }
    let mut statuses = vec![400, 401, 403, 413, 500];
    if operation.is_of_room() || operation.path.contains('{') {
        statuses.push(404);
    }
    if is_conditional(operation) {
        statuses.extend([409, 412]);
    }
    statuses.extend(&operation.also);
    for status in statuses {
        responses.insert(status.to_string(), refusal(status));
    }
    responses.into()
}

/// What can be done with what was made: the operations that need its id alone.
fn links(parameter: &str, version: ApiVersion, table: &Table) -> Value {
    let mut links = Map::new();
    for operation in &table.operations {
        let of_version = operation.paths().into_iter().find(|(known, _)| *known == version);
        let Some((_, path)) = of_version else { continue };
        let names: Vec<&str> =
            path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
        if names == [parameter] {
            let link = json!({
                "operationId": operation_id(operation, version),
                "parameters": { parameter: "$response.body#/id" },
            });
            links.insert(operation.id.to_owned(), link);
        }
    }
    links.into()
}

fn success(operation: &Operation, version: ApiVersion, schemas: &mut Schemas) -> Option<Value> {
    let text = json!({ "schema": { "type": "string" } });
    let mut success = match operation.reply {
        Reply::Json(older, newer) => {
            let schema = match version {
                ApiVersion::V1 => older,
                ApiVersion::V1_1 => newer.unwrap_or(older),
            };
            let schema = schemas.output(schema);
            json!({ "description": "Done", "content": { "application/json": { "schema": schema } } })
        }
        Reply::Text(which) => json!({ "description": which, "content": { "text/plain": text } }),
        Reply::EventStream(which) => {
            json!({ "description": which, "content": { "text/event-stream": text } })
        }
        Reply::Nothing => json!({ "description": "Done; the answer is empty" }),
        Reply::Never => return None,
    };
    let is_of_document = matches!(operation.reply, Reply::Json(..));
    if operation.tagged && is_of_document {
        success["headers"] = json!({ "ETag": {
            "description": "Names this state of the document, for `If-Match`",
            "required": true,
            "schema": { "type": "string" },
        }});
    }
    Some(success)
}
