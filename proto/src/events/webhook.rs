//! A webhook as it is stored, and the secret that its messages are signed with.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use super::EventFilter;
use crate::ids::{ServiceId, WebhookId};

/// What a secret begins with (Standard Webhooks, "Signature scheme").
const PREFIX: &str = "whsec_";
/// Bytes that a secret may have (Standard Webhooks: 192 to 512 bits).
const LENGTH: std::ops::RangeInclusive<usize> = 24..=64;

/// Why a text is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("A webhook's secret is whsec_ and the base64 of 24 to 64 bytes")]
pub struct SecretError;

/// A key to sign with. Its text is `whsec_` and base64, as Standard Webhooks has it; not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebhookSecret(Vec<u8>);

impl WebhookSecret {
    /// Takes bytes for a secret.
    ///
    /// # Errors
    /// If they are fewer than 24 or more than 64.
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Result<Self, SecretError> {
        let bytes = bytes.into();
        if LENGTH.contains(&bytes.len()) { Ok(Self(bytes)) } else { Err(SecretError) }
    }

    /// The bytes, which are the key of the HMAC.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, which is told once.
    #[must_use]
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }
}

impl TryFrom<String> for WebhookSecret {
    type Error = SecretError;

    fn try_from(text: String) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError)?;
        Self::from_bytes(STANDARD.decode(encoded).map_err(|_| SecretError)?)
    }
}

impl From<WebhookSecret> for String {
    fn from(secret: WebhookSecret) -> Self {
        secret.expose()
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// A secret that was replaced and signs beside the new one for a while, so that receivers can be changed over without a loss.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetiredSecret {
    /// The secret.
    pub secret: WebhookSecret,
    /// Until when it signs, Unix ms.
    pub until: u64,
}

/// A webhook as it is stored in `COLLECTION_WEBHOOKS`: written by the portals, read by the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookDocument {
    /// Its id.
    pub id: WebhookId,
    /// Whose it is.
    pub service: ServiceId,
    /// Whether it is told of the rooms of all services: a super service's.
    #[serde(default)]
    pub all_services: bool,
    /// Where the messages go, `http` or `https`.
    pub url: String,
    /// What it is told of.
    #[serde(default)]
    pub events: EventFilter,
    /// What messages are signed with.
    pub secret: WebhookSecret,
    /// Signs, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<RetiredSecret>,
    /// Whether it is told anything.
    pub active: bool,
    /// Why it is not active, if its own endpoint has ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deactivated: Option<String>,
    /// When it was made, Unix ms.
    pub created: u64,
}

impl WebhookDocument {
    /// The key that it is stored under.
    #[must_use]
    pub fn key(service: &ServiceId, id: &WebhookId) -> String {
        format!("{service}:{id}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_written_as_standard_webhooks_has_it() {
        let text = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let secret = WebhookSecret::try_from(text.to_owned()).unwrap();
        assert_eq!((secret.bytes().len(), secret.expose().as_str()), (24, text));
        assert_eq!(format!("{secret:?}"), "WebhookSecret(…)");
        for bad in ["", "whsec_", "whsec_!", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_MfKQ9r8G"] {
            assert_eq!(WebhookSecret::try_from(bad.to_owned()), Err(SecretError), "{bad}");
        }
        assert!(WebhookSecret::from_bytes([0; 65]).is_err());
    }

    #[test]
    fn a_document_comes_back_as_it_was_stored() {
        let webhook = WebhookDocument {
            id: WebhookId::new("w").unwrap(),
            service: ServiceId::new("s").unwrap(),
            all_services: false,
            url: "https://example.com/".into(),
            events: EventFilter::new(["room.*"]).unwrap(),
            secret: WebhookSecret::from_bytes([7; 32]).unwrap(),
            retired: None,
            active: true,
            deactivated: None,
            created: 5,
        };
        let stored = serde_json::to_string(&webhook).unwrap();
        assert_eq!(serde_json::from_str::<WebhookDocument>(&stored).unwrap(), webhook);
        assert_eq!(WebhookDocument::key(&webhook.service, &webhook.id), "s:w");
    }
}
