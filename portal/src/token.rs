//! Login tokens: the text a client brings, and the record it stands for (client-portal protocol of OWT, "Login token").

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{clock::UnixMillis, seal};

/// How long a token admits a login.
pub(crate) const TOKEN_LIFE_MS: u64 = 3 * 60 * 1000;
/// How long the store keeps a token that nobody uses; longer than its life so that a late client is told `Expired`.
pub(crate) const TOKEN_KEPT_MS: u64 = 10 * 60 * 1000;
/// Longest token text looked at, in bytes. Real ones have about 300.
const MAX_TOKEN_LENGTH: usize = 8 * 1024;

/// Why a token admits nobody.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum TokenError {
    /// Not base64 of the JSON expected.
    #[error("Invalid token: {0}")]
    Malformed(String),
    /// Altered, or signed by another cluster.
    #[error("Invalid token signature")]
    Signature,
    /// Never issued, or used before.
    #[error("Token does not exist")]
    Unknown,
    /// Older than [`TOKEN_LIFE_MS`].
    #[error("Expired")]
    Expired,
}

/// What a client gets and brings back. It reads `host` and `secure`; the rest is ours.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LoginToken {
    /// Key of the [`TokenRecord`].
    pub(crate) token_id: String,
    /// `host:port` of the portal.
    pub(crate) host: String,
    /// Whether the portal speaks TLS.
    #[serde(default)]
    pub(crate) secure: bool,
    /// Where WebTransport is served, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) web_transport_url: Option<String>,
    pub(crate) signature: String,
}

impl LoginToken {
    /// A token for the record `token_id`, signed with `key`.
    pub(crate) fn issue(key: &str, token_id: &str, host: &str, secure: bool) -> Self {
        let mut token = Self {
            token_id: token_id.to_owned(),
            host: host.to_owned(),
            secure,
            web_transport_url: None,
            signature: String::new(),
        };
        token.signature = seal::sign(key.as_bytes(), &token.signed_parts());
        token
    }

    /// The text for the client.
    pub(crate) fn encode(&self) -> String {
        STANDARD.encode(serde_json::to_vec(self).expect("strings and a flag are always JSON"))
    }

    /// Reads what a client brought; proves nothing yet.
    pub(crate) fn parse(text: &str) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN_LENGTH {
            return Err(TokenError::Malformed("too long".to_owned()));
        }
        let json = STANDARD.decode(text.trim()).map_err(|e| TokenError::Malformed(e.to_string()))?;
        serde_json::from_slice(&json).map_err(|e| TokenError::Malformed(e.to_string()))
    }

    /// Whether it was issued with `key` and not altered since.
    pub(crate) fn verify(&self, key: &str) -> Result<(), TokenError> {
        if seal::verify(key.as_bytes(), &self.signed_parts(), &self.signature) {
            Ok(())
        } else {
            Err(TokenError::Signature)
        }
    }

    /// OWT signs the word `undefined` where there is no URL.
    fn signed_parts(&self) -> [&str; 3] {
        [&self.token_id, &self.host, self.web_transport_url.as_deref().unwrap_or("undefined")]
    }
}

/// What the store keeps for a token.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenRecord {
    /// Any JSON value.
    pub(crate) user: Value,
    pub(crate) role: String,
    pub(crate) room: String,
    pub(crate) service: String,
    /// Where the client is; empty = not known.
    #[serde(default)]
    pub(crate) isp: String,
    #[serde(default)]
    pub(crate) region: String,
    pub(crate) created_ms: u64,
}

impl TokenRecord {
    /// Whether it may still be used.
    pub(crate) fn check_age(&self, now: UnixMillis) -> Result<(), TokenError> {
        if now.0.saturating_sub(self.created_ms) > TOKEN_LIFE_MS { Err(TokenError::Expired) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_issued_is_accepted() {
        let text = LoginToken::issue("key", "0123", "example.org:8080", true).encode();
        let token = LoginToken::parse(&text).unwrap();
        assert_eq!(token.verify("key"), Ok(()));
        assert_eq!(token.host, "example.org:8080");
        let json: Value = serde_json::from_slice(&STANDARD.decode(text).unwrap()).unwrap();
        assert_eq!(json["secure"], true);
        assert!(json.get("webTransportUrl").is_none());
    }

    #[test]
    fn the_signature_covers_id_host_and_the_word_undefined() {
        let token = LoginToken::issue("key", "0123", "h:1", false);
        assert_eq!(token.signature, seal::sign(b"key", &["0123,h:1,undefined"]));
    }

    #[test]
    fn what_was_altered_is_refused() {
        let token = LoginToken::issue("key", "0123", "h:1", false);
        for altered in [
            LoginToken { token_id: "0124".into(), ..token.clone() },
            LoginToken { host: "evil:1".into(), ..token.clone() },
            LoginToken { web_transport_url: Some("https://x/".into()), ..token.clone() },
        ] {
            assert_eq!(altered.verify("key"), Err(TokenError::Signature));
        }
        assert_eq!(token.verify("other"), Err(TokenError::Signature));
    }

    #[test]
    fn what_is_no_token_says_why() {
        for bad in ["", "%%%", "bm90IGpzb24=", &STANDARD.encode(r#"{"tokenId":1}"#), &"A".repeat(10_000)] {
            assert!(matches!(LoginToken::parse(bad), Err(TokenError::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn a_record_lives_three_minutes() {
        let record: TokenRecord = serde_json::from_value(
            json!({"user": {"name": 1}, "role": "presenter", "room": "r", "service": "s", "createdMs": 1000}),
        )
        .unwrap();
        assert_eq!(record.check_age(UnixMillis(1000 + TOKEN_LIFE_MS)), Ok(()));
        assert_eq!(record.check_age(UnixMillis(1001 + TOKEN_LIFE_MS)), Err(TokenError::Expired));
        assert_eq!(record.check_age(UnixMillis(0)), Ok(()), "another machine's clock may be ahead");
    }
}
