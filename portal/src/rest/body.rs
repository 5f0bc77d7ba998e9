//! Request bodies: JSON or a form; anything else counts as `{}`, as in OWT.

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, header},
};
use serde_json::{Map, Value};

use super::error::RestError;

/// Largest body, in bytes.
const MAX_BODY: usize = 100 * 1024;

/// Reads the body by its content type.
pub(super) async fn read(headers: &HeaderMap, body: Body) -> Result<Value, RestError> {
    let bytes = to_bytes(body, MAX_BODY).await.map_err(|_| RestError::BodyTooLarge)?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        _ if bytes.is_empty() => Ok(Value::Object(Map::new())),
        "application/json" | "application/merge-patch+json" | "application/json-patch+json" => {
            match serde_json::from_slice(&bytes) {
                Ok(value @ (Value::Object(_) | Value::Array(_))) => Ok(value),
                Ok(_) | Err(_) => Err(RestError::MalformedJson),
            }
        }
        "application/x-www-form-urlencoded" => Ok(form(&bytes)),
        _ => Ok(Value::Object(Map::new())),
    }
}

/// A form as an object; `a[b]=c` makes an object in it.
fn form(bytes: &[u8]) -> Value {
    let mut object = Map::new();
    for (key, value) in form_urlencoded::parse(bytes) {
        let mut names = key.split('[').map(|name| name.trim_end_matches(']').to_owned());
        let first = names.next().unwrap_or_default();
        match names.next() {
            None => {
                object.insert(first, value.into());
            }
            Some(second) => {
                let inner = object.entry(first).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(inner) = inner {
                    inner.insert(second, value.into());
                }
            }
        }
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forms_nest_once() {
        assert_eq!(
            form(b"user=Aki+S&role=presenter&preference[isp]=a&preference[region]=%62"),
            json!({"user": "Aki S", "role": "presenter", "preference": {"isp": "a", "region": "b"}})
        );
        assert_eq!(form(b"a=1&a[b]=2&[=3&=4"), json!({"a": "1", "": "4"}));
    }
}
