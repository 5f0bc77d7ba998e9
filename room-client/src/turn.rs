//! Credentials for TURN servers that share a secret with the cluster.

use std::{str::FromStr, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha1::Sha1;

/// Who may use a TURN server.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnAccess {
    /// As who.
    pub username: String,
    /// The password.
    pub credential: String,
}

/// Without the credential.
impl std::fmt::Debug for TurnAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnAccess").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What all TURN servers without a user of their own make credentials by, as they do: coturn's `static-auth-secret`, the "REST API for
/// access to TURN services" (draft-uberti-behave-turn-rest).
#[derive(Clone, PartialEq, Eq)]
pub struct TurnSecret(Arc<str>);

impl FromStr for TurnSecret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() { Err("an empty secret is none") } else { Ok(Self(text.into())) }
    }
}

/// Without itself.
impl std::fmt::Debug for TurnSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TurnSecret(…)")
    }
}

impl TurnSecret {
    /// A user who is good until `end`, Unix time in seconds, and whom nobody else has.
    #[must_use]
    pub fn access(&self, end: u64) -> TurnAccess {
        let username = format!("{end}:{:016x}", rand::random::<u64>());
        let credential = self.credential(&username);
        TurnAccess { username, credential }
    }

    fn credential(&self, username: &str) -> String {
        let mac = Hmac::<Sha1>::new_from_slice(self.0.as_bytes()).map(|mac| mac.chain_update(username));
        mac.map(|mac| STANDARD.encode(mac.finalize().into_bytes())).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_made_as_turn_servers_make_them() {
        let secret: TurnSecret = "north".parse().unwrap();
        // printf 1700003600:aki | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(secret.credential("1700003600:aki"), "Y4UAzhH2hGglhc7ZXKSwr8vyE0Y=");
        let [one, other] = [secret.access(1_700_003_600), secret.access(1_700_003_600)];
        assert!(one.username.starts_with("1700003600:"));
        assert_ne!(one.username, other.username);
        assert_eq!(one.credential, secret.credential(&one.username));
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret: TurnSecret = "north".parse().unwrap();
        let shown = format!("{secret:?} {:?}", secret.access(1));
        assert!(!shown.contains("north") && !shown.contains(&secret.access(1).credential), "{shown}");
        assert!("".parse::<TurnSecret>().is_err());
    }
}
