//! Login tokens.

use axum::{
    http::{HeaderMap, Method},
    response::IntoResponse,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::{
    call::RoomCall,
    error::RestError,
    operation::{Answered, Needs, Operation, Reply, room},
};
use crate::{
    backend::{Backend, CallError},
    clock::UnixMillis,
    ident::new_token_id,
    public_host::PublicHost,
    token::{LoginToken, TokenRecord},
};

/// Longest user value, in bytes of JSON: everybody in the room is sent it.
const MAX_USER: usize = 4096;

/// What can be asked of tokens.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        room(Method::POST, "/tokens", "createToken", create)
            .doc("tokens", "Make a login token")
            .more("It lets one client in once, within three minutes. `mauth_username` and `mauth_role` of the request's signature go before the body's.")
            .takes::<TokenRequest>()
            .replies(Reply::Text("The token"))
            .needs(Needs::Tokens),
    ]
}

/// For whom a token is.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "what is taken is described by it, and read with OWT's own errors")]
struct TokenRequest {
    #[schemars(schema_with = "user_schema")]
    user: Value,
    /// One of the room's.
    #[schemars(length(min = 1))]
    role: String,
    preference: Option<Preference>,
}

/// Where the client is; the words `isp` and `region` stand for "not known", and so does what is no text of up to 128 bytes.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "what is taken is described by it")]
struct Preference {
    isp: Option<Value>,
    region: Option<Value>,
}

fn user_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "Any value that is not empty, up to 4,096 bytes of JSON; everybody in the room is told it",
        "not": { "enum": [null, false, 0, ""] },
    })
}

async fn create(call: RoomCall) -> Answered {
    let refused = || RestError::BadRequest("Name or role not valid".to_owned());
    let (room, body) = (&call.room, &call.body);
    let user = call
        .username
        .clone()
        .map(Value::from)
        .or_else(|| body.get("user").cloned())
        .filter(is_name)
        .ok_or_else(refused)?;
    let given = body.get("role").and_then(Value::as_str).map(str::to_owned);
    let role = call.role.clone().or(given).ok_or_else(refused)?;
    if room.role(&role).is_none() {
        return Err(refused());
    }
    let record = TokenRecord {
        user,
        role,
        room: room.id.clone(),
        service: call.service.id.clone(),
        isp: preference(body, "isp"),
        region: preference(body, "region"),
        created_ms: UnixMillis::now().0,
    };
    Ok(issue(&call.api.backend, &call.api.host, &call.headers, &record).await?.into_response())
}

/// Stores the record and gives the token's text. `headers` are of the request that asks for it.
pub(crate) async fn issue(
    backend: &Backend,
    host: &PublicHost,
    headers: &HeaderMap,
    record: &TokenRecord,
) -> Result<String, CallError> {
    let key = backend.secret("token-key").await?;
    let id = new_token_id();
    backend.put_token(&id, record).await?;
    Ok(LoginToken::issue(&key, &id, &host.named_to(headers), host.is_secure()).encode())
}

/// Whether a user's value is fit: not empty in JavaScript's sense, and not too long.
pub(crate) fn is_name(user: &Value) -> bool {
    let given = match user {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::Bool(true) | Value::Array(_) | Value::Object(_) => true,
    };
    given && user.to_string().len() <= MAX_USER
}

/// Where the client is. OWT's samples send the words `isp` and `region` for "not known".
fn preference(body: &Value, name: &str) -> String {
    match body["preference"][name].as_str() {
        Some(value) if value != name && value.len() <= 128 => value.to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn users_are_any_json_that_is_not_empty() {
        for good in [json!("Aki"), json!({"name": 1}), json!(7), json!(["a"])] {
            assert!(is_name(&good), "{good}");
        }
        for bad in [Value::Null, json!(""), json!(false), json!(0), json!("x".repeat(5000))] {
            assert!(!is_name(&bad));
        }
    }

    #[test]
    fn the_samples_placeholders_are_no_preference() {
        let body = json!({"preference": {"isp": "isp", "region": "tokyo"}});
        assert_eq!(
            (preference(&body, "isp"), preference(&body, "region")),
            (String::new(), "tokyo".to_owned())
        );
        assert_eq!(preference(&json!([]), "isp"), "");
    }
}
