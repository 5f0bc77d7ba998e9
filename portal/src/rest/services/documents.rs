//! What is said of services: by callers and to them.

use base64::{Engine, engine::general_purpose::STANDARD};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use crate::rest::{bearer, error::RestError};

/// Longest name, in characters.
const MAX_NAME: usize = 256;
/// Shortest and longest key that a caller may choose, in characters: as hard to guess as a password at least.
const MIN_KEY: usize = 12;
const MAX_KEY: usize = 1024;
/// Longest public key, in characters of PEM; an Ed25519 key has about a hundred.
const MAX_PUBLIC_KEY: usize = 1024;
/// How such a key looks: its algorithm and its length are the same for all (RFC 8410).
const PEM: &str = "^-----BEGIN PUBLIC KEY-----\\r?\\nMCowBQYDK2VwAyEA[0-9A-Za-z+/]{43}=\\r?\\n-----END PUBLIC KEY-----\\s*$";
/// Bytes of chance in a key that is made here.
const KEY_BYTES: usize = 64;

/// A service to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewService {
    /// Need not be unique.
    #[schemars(length(min = 1, max = MAX_NAME))]
    name: String,
    /// Chosen by the caller; without it one is made.
    #[schemars(length(min = MIN_KEY, max = MAX_KEY))]
    key: Option<String>,
    /// PEM of an Ed25519 public key, for JSON Web Tokens signed with EdDSA.
    #[schemars(length(max = MAX_PUBLIC_KEY), regex(pattern = PEM))]
    public_key: Option<String>,
}

impl NewService {
    pub(super) fn name(&self) -> Result<String, RestError> {
        name(&self.name)
    }

    pub(super) fn key(&self) -> Result<String, RestError> {
        chosen_or_new(self.key.as_deref())
    }

    pub(super) fn public_key(&self) -> Result<Option<String>, RestError> {
        self.public_key.as_deref().map(public_key).transpose()
    }
}

/// What of a service is to be another. What else is in it is ignored.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceChange {
    #[schemars(length(min = 1, max = MAX_NAME))]
    name: Option<String>,
    /// PEM of an Ed25519 public key, or `null` for none.
    #[serde(default, deserialize_with = "given")]
    #[schemars(length(max = MAX_PUBLIC_KEY), regex(pattern = PEM))]
    public_key: Option<Option<String>>,
}

/// `null` is given; what is absent is not.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl ServiceChange {
    pub(super) fn name(&self) -> Result<Option<String>, RestError> {
        self.name.as_deref().map(name).transpose()
    }

    /// `None` = it stays.
    pub(super) fn public_key(&self) -> Result<Option<Option<String>>, RestError> {
        self.public_key.as_ref().map(|key| key.as_deref().map(public_key).transpose()).transpose()
    }
}

/// A key to be had from now on.
#[derive(Deserialize, JsonSchema)]
pub(super) struct NewKey {
    /// Chosen by the caller; without it one is made.
    #[schemars(length(min = MIN_KEY, max = MAX_KEY))]
    key: Option<String>,
}

impl NewKey {
    pub(super) fn key(&self) -> Result<String, RestError> {
        chosen_or_new(self.key.as_deref())
    }
}

/// A service, without its key.
#[derive(JsonSchema)]
#[schemars(rename = "Service", rename_all = "camelCase")]
#[expect(dead_code, reason = "what is shown is described by it")]
pub(super) struct ServiceDocument {
    #[schemars(rename = "_id")]
    _id: String,
    id: String,
    name: String,
    /// Whether it sees the rooms of all services, and the services.
    #[schemars(rename = "super")]
    is_super: bool,
    #[schemars(schema_with = "pem_or_null")]
    public_key: String,
    /// Ids.
    rooms: Vec<String>,
}

fn pem_or_null(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "description": "PEM" })
}

/// A service with its key, which is told this once.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "what is shown is described by it")]
pub(super) struct ServiceWithKey {
    #[schemars(flatten)]
    service: ServiceDocument,
    key: String,
}

fn name(name: &str) -> Result<String, RestError> {
    let fits = (1..=MAX_NAME).contains(&name.chars().count());
    fits.then(|| name.to_owned()).ok_or_else(|| RestError::BadRequest("Invalid service name".to_owned()))
}

fn public_key(pem: &str) -> Result<String, RestError> {
    if pem.len() <= MAX_PUBLIC_KEY && bearer::is_public_key(pem) {
        return Ok(pem.to_owned());
    }
    Err(RestError::BadRequest("Invalid public key: PEM of an Ed25519 key is needed".to_owned()))
}

fn chosen_or_new(key: Option<&str>) -> Result<String, RestError> {
    match key {
        None => Ok(STANDARD.encode(rand::random::<[u8; KEY_BYTES]>())),
        Some(key) if (MIN_KEY..=MAX_KEY).contains(&key.chars().count()) => Ok(key.to_owned()),
        Some(_) => Err(RestError::BadRequest("Invalid service key".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_that_is_null_is_taken_away_and_an_absent_one_stays() {
        let change = |text: &str| serde_json::from_str::<ServiceChange>(text).unwrap().public_key().unwrap();
        assert_eq!(change("{}"), None);
        assert_eq!(change(r#"{"publicKey": null}"#), Some(None));
        assert!(
            serde_json::from_str::<ServiceChange>(r#"{"publicKey": "x"}"#).unwrap().public_key().is_err()
        );
    }

    #[test]
    fn keys_and_names_have_a_length() {
        let new = |text: &str| serde_json::from_str::<NewService>(text).unwrap();
        assert!(new(r#"{"name": ""}"#).name().is_err());
        assert!(new(r#"{"name": "a", "key": "short"}"#).key().is_err());
        assert_eq!(new(r#"{"name": "a", "key": "long enough!"}"#).key().unwrap(), "long enough!");
        assert!(new(r#"{"name": "a"}"#).key().unwrap().len() > 80);
    }
}
