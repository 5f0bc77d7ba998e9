//! Credentials of peers: that a server of the service's, which knows its key, has let this peer in, and until when.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// How far ahead of ours the clock may be of whoever made a credential.
const SKEW: u64 = 60;
/// Shortest and longest life, in seconds.
const LIFE: std::ops::RangeInclusive<u64> = 600..=90_000;

/// A credential as the API has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Credential {
    /// When it was made, Unix time in seconds.
    pub(crate) timestamp: u64,
    /// How long it is good from then on, in seconds.
    pub(crate) ttl: u64,
    /// HMAC-SHA256 of `timestamp:ttl:peer_id` by the service's key, in base64.
    #[serde(rename = "authToken")]
    pub(crate) auth_token: String,
}

/// Why a credential does not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CredentialError {
    #[error("ttl must be 600 to 90000")]
    Life,
    #[error("the credential is not signed with the service's key, for this peer")]
    Signature,
    #[error("the credential is of the future")]
    Future,
    #[error("the credential has expired")]
    Expired,
}

impl Credential {
    /// Checks it at `now` (Unix time in seconds). Gives for how long it is still good.
    pub(crate) fn check(&self, key: &str, peer: &str, now: u64) -> Result<Duration, CredentialError> {
        if !LIFE.contains(&self.ttl) {
            return Err(CredentialError::Life);
        }
        let signed = format!("{}:{}:{peer}", self.timestamp, self.ttl);
        let token = STANDARD.decode(&self.auth_token).map_err(|_| CredentialError::Signature)?;
        let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).map_err(|_| CredentialError::Signature)?;
        mac.chain_update(signed).verify_slice(&token).map_err(|_| CredentialError::Signature)?;
        if self.timestamp > now.saturating_add(SKEW) {
            return Err(CredentialError::Future);
        }
        match self.timestamp.saturating_add(self.ttl).checked_sub(now) {
            Some(left) if left > 0 => Ok(Duration::from_secs(left)),
            Some(_) | None => Err(CredentialError::Expired),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_582_789_414;

    fn signed(timestamp: u64, ttl: u64, key: &str, peer: &str) -> Credential {
        let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        let mac = mac.chain_update(format!("{timestamp}:{ttl}:{peer}"));
        Credential { timestamp, ttl, auth_token: STANDARD.encode(mac.finalize().into_bytes()) }
    }

    #[test]
    fn a_signed_credential_lets_its_peer_in_until_it_expires() {
        let credential = signed(NOW, 3600, "key", "camera");
        assert_eq!(credential.check("key", "camera", NOW + 600), Ok(Duration::from_secs(3000)));
        assert_eq!(credential.check("key", "camera", NOW + 3600), Err(CredentialError::Expired));
        assert_eq!(credential.check("key", "door", NOW), Err(CredentialError::Signature));
        assert_eq!(credential.check("other", "camera", NOW), Err(CredentialError::Signature));
        assert_eq!(credential.check("key", "camera", NOW - 61), Err(CredentialError::Future));
        assert_eq!(signed(NOW, 599, "key", "a").check("key", "a", NOW), Err(CredentialError::Life));
        let broken = Credential { auth_token: "%".to_owned(), ..credential };
        assert_eq!(broken.check("key", "camera", NOW), Err(CredentialError::Signature));
    }
}
