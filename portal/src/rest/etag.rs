//! Entity tags of stored documents (RFC 9110 §8.8.3) and `If-Match` (§13.1.1): a change may be tied to what the caller has seen.

use axum::{
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::error::RestError;

/// Bytes of the hash that make a tag.
const LENGTH: usize = 16;
/// Longest list of tags looked at, in bytes.
const MAX_LIST: usize = 4096;

/// A strong entity tag, with its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ETag(String);

impl ETag {
    /// The tag of a document: the same for the same content, at whichever portal.
    pub(super) fn of(document: &Value) -> Self {
        // Members are in the order of their names.
        let hash = Sha256::digest(document.to_string());
        Self(format!("\"{}\"", hex::encode(&hash[..LENGTH])))
    }

    /// The answer with the tag.
    pub(super) fn on(&self, mut response: Response) -> Response {
        if let Ok(value) = HeaderValue::from_str(&self.0) {
            response.headers_mut().insert(header::ETAG, value);
        }
        response
    }
}

/// What a document must be, for a change to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// Whatever it is.
    Any,
    /// One of these.
    OneOf(Vec<String>),
}

impl IfMatch {
    /// Reads the header. Weak tags never match (RFC 9110 §13.1.1).
    ///
    /// # Errors
    /// If it is none.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, RestError> {
        let refused = || RestError::BadRequest("Invalid If-Match".to_owned());
        let mut tags = Vec::new();
        for value in headers.get_all(header::IF_MATCH) {
            let value = value.to_str().ok().filter(|text| text.len() <= MAX_LIST).ok_or_else(refused)?;
            if value.trim() == "*" {
                return Ok(Self::Any);
            }
            tags.extend(list(value).ok_or_else(refused)?);
        }
        Ok(if headers.contains_key(header::IF_MATCH) { Self::OneOf(tags) } else { Self::Any })
    }

    /// Whether a document with that tag may be changed.
    ///
    /// # Errors
    /// [`RestError::PreconditionFailed`] if not.
    pub(super) fn check(&self, tag: &ETag) -> Result<(), RestError> {
        match self {
            Self::Any => Ok(()),
            Self::OneOf(tags) if tags.contains(&tag.0) => Ok(()),
            Self::OneOf(_) => Err(RestError::PreconditionFailed),
        }
    }
}

/// Reads a list of tags, which may have commas in them (RFC 9110 §8.8.3).
fn list(mut text: &str) -> Option<Vec<String>> {
    let mut tags = Vec::new();
    loop {
        text = text.trim_start();
        let opaque = text.strip_prefix("W/").unwrap_or(text);
        let length = opaque.strip_prefix('"')?.find('"')? + 2;
        let (tag, rest) = text.split_at(text.len() - opaque.len() + length);
        tags.push(tag.to_owned());
        match rest.trim_start() {
            "" => return Some(tags),
            rest => text = rest.strip_prefix(',')?,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_tag_follows_the_content() {
        let tag = |text: &str| ETag::of(&serde_json::from_str(text).unwrap());
        assert_eq!(tag(r#"{"a": 1, "b": 2}"#), tag(r#"{"b": 2, "a": 1}"#));
        assert_ne!(tag(r#"{"a": 1}"#), tag(r#"{"a": 2}"#));
    }

    #[test]
    fn a_change_is_tied_to_one_of_the_tags() {
        let (tag, other) = (ETag::of(&json!(1)), ETag::of(&json!(2)));
        let list = format!("\"a, b\" ,{}, W/\"\",{}", other.0, tag.0);
        for good in [headers(&[]), headers(&["*"]), headers(&[&list]), headers(&[&other.0, &tag.0])] {
            assert!(IfMatch::of(&good).unwrap().check(&tag).is_ok(), "{good:?}");
        }
        for bad in [headers(&[&other.0]), headers(&[&format!("W/{}", tag.0)])] {
            assert!(IfMatch::of(&bad).unwrap().check(&tag).is_err(), "{bad:?}");
        }
        for none in ["", "abc", "\"", "\"a\" \"b\"", "\"a\",", "\"a", "a\"b\"", &"\"a\",".repeat(2000)] {
            assert!(IfMatch::of(&headers(&[none])).is_err(), "{none}");
        }
    }
}
