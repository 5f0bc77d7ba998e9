//! Refusals, which are the same for all operations.

use serde_json::{Map, Value, json};

/// Each status that is refused with: its name in the document, and when.
const REFUSALS: [(u16, &str, &str); 9] = [
    (400, "BadRequest", "The request contradicts the API, or its body is malformed"),
    (401, "Unauthorized", "Not signed, of an unknown service, wrongly signed, repeated, not of now"),
    (403, "Forbidden", "Not for this service, or not granted by its token"),
    (404, "NotFound", "There is no such thing, or it is another service's"),
    (409, "Conflict", "Others change the same document all the time; nothing was done"),
    (
        412,
        "PreconditionFailed",
        "The document is not, or not any more, one that `If-Match` names; nothing was done",
    ),
    (413, "TooLarge", "The body is larger than 100 kB"),
    (429, "TooMany", "As much as there may be is there already, or asked for"),
    (500, "Failed", "The room or the cluster refused or failed; the text says why"),
];

/// A refusal, by its name.
pub(super) fn refusal(status: u16) -> Value {
    let known = REFUSALS.iter().find(|(known, ..)| *known == status);
    let name = known.map_or("Failed", |(_, name, _)| name);
    json!({ "$ref": format!("#/components/responses/{name}") })
}

/// All refusals by their names.
pub(super) fn components() -> Value {
    let schema = json!({ "$ref": "#/components/schemas/Error" });
    let described =
        |why: &str| json!({ "description": why, "content": { "application/json": { "schema": schema } } });
    let named = REFUSALS.iter().map(|(_, name, why)| ((*name).to_owned(), described(why)));
    named.collect::<Map<_, _>>().into()
}
