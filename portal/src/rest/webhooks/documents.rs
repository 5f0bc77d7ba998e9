//! What is said of webhooks: by callers and to them.

use kaigi_proto::{
    events::{EventFilter, EventType, WebhookDocument, WebhookSecret},
    v1::WebhookStatus,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::rest::error::RestError;

/// Longest URL, in bytes.
const MAX_URL: usize = 2048;
/// How a secret looks.
const SECRET: &str = "^whsec_[0-9A-Za-z+/]{32,88}={0,2}$";
/// Bytes of chance in a secret that is made here.
const SECRET_BYTES: usize = 32;

/// A webhook to be made.
#[derive(Deserialize, JsonSchema)]
pub(super) struct NewWebhook {
    /// Where to, `http` or `https`, without user and password.
    #[schemars(schema_with = "url_schema")]
    url: String,
    /// What it is to be told of; all if there is nothing here.
    #[serde(default)]
    #[schemars(schema_with = "filter_schema")]
    events: Option<Vec<String>>,
    /// Chosen by the caller: `whsec_` and the base64 of 24 to 64 bytes. Without it one is made.
    #[schemars(regex(pattern = SECRET))]
    secret: Option<String>,
}

impl NewWebhook {
    pub(super) fn url(&self) -> Result<String, RestError> {
        checked_url(&self.url)
    }

    pub(super) fn events(&self) -> Result<EventFilter, RestError> {
        filter(self.events.as_deref().unwrap_or_default())
    }

    pub(super) fn secret(&self) -> Result<WebhookSecret, RestError> {
        chosen_or_new(self.secret.as_ref())
    }
}

/// What of a webhook is to be another.
#[derive(Deserialize, JsonSchema)]
pub(super) struct WebhookChange {
    #[schemars(default, schema_with = "url_or_none_schema")]
    url: Option<String>,
    #[schemars(default, schema_with = "filter_schema")]
    events: Option<Vec<String>>,
    /// Whether it is told anything.
    pub(super) active: Option<bool>,
}

impl WebhookChange {
    pub(super) fn url(&self) -> Result<Option<String>, RestError> {
        self.url.as_deref().map(checked_url).transpose()
    }

    pub(super) fn events(&self) -> Result<Option<EventFilter>, RestError> {
        self.events.as_deref().map(filter).transpose()
    }
}

/// A secret to be had from now on.
#[derive(Deserialize, JsonSchema)]
pub(super) struct NewSecret {
    /// Chosen by the caller; without it one is made.
    #[schemars(regex(pattern = SECRET))]
    secret: Option<String>,
}

impl NewSecret {
    pub(super) fn secret(&self) -> Result<WebhookSecret, RestError> {
        chosen_or_new(self.secret.as_ref())
    }
}

/// A webhook, without its secret.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct Webhook {
    id: String,
    /// The service's id.
    service: String,
    url: String,
    /// Types and families (`participant.*`); empty = all.
    events: Vec<String>,
    /// Whether it is told anything.
    active: bool,
    /// Why it is not active, if its endpoint has ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    deactivated: Option<String>,
    /// Unix ms.
    created: u64,
}

impl Webhook {
    pub(super) fn of(webhook: &WebhookDocument) -> Self {
        Self {
            id: webhook.id.to_string(),
            service: webhook.service.to_string(),
            url: webhook.url.clone(),
            events: webhook.events.entries().to_vec(),
            active: webhook.active,
            deactivated: webhook.deactivated.clone(),
            created: webhook.created,
        }
    }
}

/// A webhook with its secret, which is told this once.
#[derive(Serialize, JsonSchema)]
pub(super) struct WebhookWithSecret {
    #[serde(flatten)]
    webhook: Webhook,
    secret: String,
}

impl WebhookWithSecret {
    pub(super) fn of(webhook: &WebhookDocument) -> Self {
        Self { webhook: Webhook::of(webhook), secret: webhook.secret.expose() }
    }
}

/// A webhook, and how its deliveries go.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct WebhookWithStatus {
    #[serde(flatten)]
    webhook: Webhook,
    status: DeliveryStatus,
}

/// How the deliveries of a webhook go.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DeliveryStatus {
    /// Events that wait.
    queued: u32,
    delivered: u64,
    /// Given up, or pushed out of a full queue.
    lost: u64,
    /// In a row.
    failures: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
    /// Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success: Option<u64>,
    /// Unix ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_try: Option<u64>,
}

impl WebhookWithStatus {
    pub(super) fn of(webhook: &WebhookDocument, status: WebhookStatus) -> Self {
        let time = |ms: u64| (ms > 0).then_some(ms);
        Self {
            webhook: Webhook::of(webhook),
            status: DeliveryStatus {
                queued: status.queued,
                delivered: status.delivered,
                lost: status.lost,
                failures: status.failures,
                last_error: Some(status.last_error).filter(|error| !error.is_empty()),
                last_success: time(status.last_success_ms),
                next_try: time(status.next_try_ms),
            },
        }
    }
}

/// The names of the types that one may ask for, and of their families.
pub(in crate::rest) fn filter_names() -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for kind in EventType::ALL {
        let family = kind.as_str().split('.').next().map(|family| format!("{family}.*")).unwrap_or_default();
        if !names.contains(&family) {
            names.push(family);
        }
        names.push(kind.as_str().to_owned());
    }
    names
}

fn filter_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": ["array", "null"],
        "items": { "enum": filter_names() },
        "maxItems": 32,
        "description": "Types, and families of them; empty = all",
    })
}

fn url_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "uri", "maxLength": MAX_URL })
}

fn url_or_none_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": ["string", "null"], "format": "uri", "maxLength": MAX_URL })
}

fn checked_url(text: &str) -> Result<String, RestError> {
    let refused = || RestError::BadRequest("Invalid webhook URL".to_owned());
    let url = url::Url::parse(text).map_err(|_| refused())?;
    let plain = matches!(url.scheme(), "http" | "https") && url.has_host();
    let private = !url.username().is_empty() || url.password().is_some();
    if text.len() > MAX_URL || !plain || private {
        return Err(refused());
    }
    Ok(url.into())
}

fn filter(entries: &[String]) -> Result<EventFilter, RestError> {
    EventFilter::new(entries).map_err(|error| RestError::BadRequest(error.to_string()))
}

fn chosen_or_new(secret: Option<&String>) -> Result<WebhookSecret, RestError> {
    let secret = match secret {
        None => WebhookSecret::from_bytes(rand::random::<[u8; SECRET_BYTES]>()),
        Some(secret) => WebhookSecret::try_from(secret.clone()),
    };
    secret.map_err(|error| RestError::BadRequest(error.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn new(body: serde_json::Value) -> NewWebhook {
        serde_json::from_value(body).unwrap()
    }

    #[test]
    fn only_http_without_credentials() {
        for good in ["https://example.com/hook?x=1", "http://127.0.0.1:9000", "https://[::1]/"] {
            assert!(new(json!({ "url": good })).url().is_ok(), "{good}");
        }
        let long = format!("https://example.com/{}", "x".repeat(MAX_URL));
        for bad in [
            "",
            "example.com",
            "/hook",
            "ftp://x/",
            "file:///etc/passwd",
            "http://",
            "https://a:b@x/",
            "https://a@x/",
            &long,
        ] {
            assert!(new(json!({ "url": bad })).url().is_err(), "{bad}");
        }
    }

    #[test]
    fn events_and_secrets_are_checked() {
        let url = "https://x/";
        assert_eq!(new(json!({ "url": url })).events().unwrap(), EventFilter::default());
        assert_eq!(new(json!({ "url": url, "events": null })).events().unwrap(), EventFilter::default());
        assert!(new(json!({ "url": url, "events": ["room.*", "stream.added"] })).events().is_ok());
        assert!(new(json!({ "url": url, "events": ["rooms.*"] })).events().is_err());
        assert!(new(json!({ "url": url, "secret": "secret" })).secret().is_err());
        let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        assert_eq!(new(json!({ "url": url, "secret": own })).secret().unwrap().expose(), own);
        let made = new(json!({ "url": url })).secret().unwrap();
        assert_ne!(made, new(json!({ "url": url })).secret().unwrap());
    }

    #[test]
    fn what_may_be_asked_for_is_a_filter() {
        assert!(EventFilter::new(filter_names()).is_ok());
        assert!(filter_names().contains(&"room.*".to_owned()));
    }
}
