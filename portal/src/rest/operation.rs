//! One operation of the management API: its method and path, what it takes and gives, and the function that carries it out. Routing
//! and the OpenAPI document both come from this.

use std::pin::Pin;

use axum::{
    http::Method,
    response::{IntoResponse, Response},
};
use kaigi_proto::shape::ApiVersion;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{
    call::{Call, RoomCall},
    error::RestError,
};

/// What carrying out an operation gives.
pub(super) type Answered = Result<Response, RestError>;
type Running = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// Makes the schema of a type.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The function that carries an operation out, with what it needs done before.
pub(super) enum Handler {
    /// A service has proven itself.
    Service(Box<dyn Fn(Call) -> Running + Send + Sync>),
    /// And the room in the path is one that it may see.
    Room(Box<dyn Fn(RoomCall) -> Running + Send + Sync>),
}

/// Below which versions the path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Versions {
    /// None: the path is whole.
    None,
    /// `/v1` alone.
    V1,
    /// `/v1.1` alone.
    V1_1,
    /// `/v1` and `/v1.1`.
    Both,
}

/// What of a caller's [grants](super::identity::Grants) an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// All rooms, if it is not about one of them.
    Everything,
    /// The operation itself leaves out what is not granted.
    Filtered,
    /// The right to make login tokens.
    Tokens,
}

/// Where a parameter beside those of the path stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Query,
    Header,
}

/// A parameter beside those of the path.
#[derive(Clone, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) place: Place,
    pub(super) description: &'static str,
    pub(super) schema: serde_json::Value,
    pub(super) required: bool,
}

/// What a success holds.
#[derive(Clone, Copy)]
pub(super) enum Reply {
    /// JSON, by version where it differs.
    Json(SchemaOf, Option<SchemaOf>),
    /// Text, and which.
    Text(&'static str),
    /// Server-sent events.
    EventStream(&'static str),
    Nothing,
    /// There is no success.
    Never,
}

/// A body that is taken.
#[derive(Clone, Copy)]
pub(super) struct Body {
    pub(super) schema: SchemaOf,
    pub(super) required: bool,
    /// Other types than JSON and forms that mean the same JSON.
    pub(super) also: Option<&'static str>,
}

/// One operation.
pub(super) struct Operation {
    pub(super) method: Method,
    pub(super) versions: Versions,
    /// Below the version, for example `/rooms/{room}`.
    pub(super) path: &'static str,
    /// Unique, `lowerCamelCase`.
    pub(super) id: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<Body>,
    pub(super) reply: Reply,
    /// Whether the answer says the document's [entity tag](super::etag), and changes heed `If-Match`.
    pub(super) tagged: bool,
    /// Statuses beside those that every operation of its kind can have.
    pub(super) also: Vec<u16>,
    /// It makes a document with an `id`, which is this parameter of other operations.
    pub(super) makes: Option<&'static str>,
    pub(super) needs: Needs,
    pub(super) handler: Handler,
}

/// An operation that a service asks for.
pub(super) fn service<F>(
    method: Method,
    path: &'static str,
    id: &'static str,
    run: impl Fn(Call) -> F + Send + Sync + 'static,
) -> Operation
where
    F: Future<Output = Answered> + Send + 'static,
{
    Operation::new(method, path, id, Handler::Service(Box::new(move |call| Box::pin(run(call)))))
}

/// An operation on one room; `path` is below the room.
pub(super) fn room<F>(
    method: Method,
    path: &'static str,
    id: &'static str,
    run: impl Fn(RoomCall) -> F + Send + Sync + 'static,
) -> Operation
where
    F: Future<Output = Answered> + Send + 'static,
{
    let operation =
        Operation::new(method, path, id, Handler::Room(Box::new(move |call| Box::pin(run(call)))));
    Operation { versions: Versions::Both, ..operation }
}

impl Operation {
    fn new(method: Method, path: &'static str, id: &'static str, handler: Handler) -> Self {
        Self {
            method,
            versions: Versions::None,
            path,
            id,
            tag: "",
            summary: "",
            description: "",
            parameters: Vec::new(),
            body: None,
            reply: Reply::Nothing,
            tagged: false,
            also: Vec::new(),
            makes: None,
            needs: Needs::Everything,
            handler,
        }
    }

    pub(super) fn versions(self, versions: Versions) -> Self {
        Self { versions, ..self }
    }

    /// The document's section and one line.
    pub(super) fn doc(self, tag: &'static str, summary: &'static str) -> Self {
        Self { tag, summary, ..self }
    }

    /// More than a line, as Markdown.
    pub(super) fn more(self, description: &'static str) -> Self {
        Self { description, ..self }
    }

    pub(super) fn parameter(
        mut self,
        place: Place,
        name: &'static str,
        description: &'static str,
        schema: serde_json::Value,
    ) -> Self {
        self.parameters.push(Parameter { name, place, description, schema, required: false });
        self
    }

    /// A part of the query without which the request is refused.
    pub(super) fn asks(
        mut self,
        name: &'static str,
        description: &'static str,
        schema: serde_json::Value,
    ) -> Self {
        self.parameters.push(Parameter { name, place: Place::Query, description, schema, required: true });
        self
    }

    /// A body that has to be there.
    pub(super) fn takes<T: JsonSchema>(self) -> Self {
        let body = Body { schema: SchemaGenerator::subschema_for::<T>, required: true, also: None };
        Self { body: Some(body), ..self }
    }

    /// A body that may be left out.
    pub(super) fn may_take<T: JsonSchema>(self) -> Self {
        let body = Body { schema: SchemaGenerator::subschema_for::<T>, required: false, also: None };
        Self { body: Some(body), ..self }
    }

    /// The body may have this content type, too.
    pub(super) fn also_as(mut self, content_type: &'static str) -> Self {
        if let Some(body) = &mut self.body {
            body.also = Some(content_type);
        }
        self
    }

    /// The answer is JSON.
    pub(super) fn gives<T: JsonSchema>(self) -> Self {
        Self { reply: Reply::Json(SchemaGenerator::subschema_for::<T>, None), ..self }
    }

    /// The answer is JSON, in version 1 and in version 1.1 another one.
    pub(super) fn gives_either<V1: JsonSchema, V1_1: JsonSchema>(self) -> Self {
        let newer: SchemaOf = SchemaGenerator::subschema_for::<V1_1>;
        Self { reply: Reply::Json(SchemaGenerator::subschema_for::<V1>, Some(newer)), ..self }
    }

    pub(super) fn replies(self, reply: Reply) -> Self {
        Self { reply, ..self }
    }

    /// The answer has an entity tag; if the operation changes something, it heeds `If-Match`.
    pub(super) fn tagged(self) -> Self {
        Self { tagged: true, ..self }
    }

    /// A status beside those that every operation of its kind can have.
    pub(super) fn can(mut self, status: u16) -> Self {
        self.also.push(status);
        self
    }

    /// The answer has an `id`, which is this parameter of other operations.
    pub(super) fn makes(self, parameter: &'static str) -> Self {
        Self { makes: Some(parameter), ..self }
    }

    pub(super) fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }

    /// Whether it is about one room.
    pub(super) fn is_of_room(&self) -> bool {
        matches!(self.handler, Handler::Room(_))
    }

    /// Its whole paths with their versions.
    pub(super) fn paths(&self) -> Vec<(ApiVersion, String)> {
        let below = if self.is_of_room() { "/rooms/{room}" } else { "" };
        let path = |version, prefix: &str| (version, format!("{prefix}{below}{}", self.path));
        match self.versions {
            Versions::None => vec![path(ApiVersion::V1, "")],
            Versions::V1 => vec![path(ApiVersion::V1, "/v1")],
            Versions::V1_1 => vec![path(ApiVersion::V1_1, "/v1.1")],
            Versions::Both => vec![path(ApiVersion::V1, "/v1"), path(ApiVersion::V1_1, "/v1.1")],
        }
    }
}

/// JSON as an answer.
pub(super) fn json_response(value: impl serde::Serialize) -> Response {
    axum::Json(value).into_response()
}

/// Success without content; OWT answers 200 all the same.
pub(super) fn empty_response() -> Response {
    axum::http::StatusCode::OK.into_response()
}
