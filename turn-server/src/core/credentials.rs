//! Who may use the server: users whose names say until when, with credentials made by a secret ("REST API for access to TURN services",
//! draft-uberti-behave-turn-rest), and nonces that need no memory.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;

/// Seconds for which a nonce is good (RFC 8489 §9.2 leaves it to the server).
const NONCE_LIFETIME: u64 = 3600;
/// Bytes of a nonce's code.
const CODE: usize = 12;
/// Longest user name that is looked at (RFC 8489 §14.3).
const MAX_NAME: usize = 508;

/// Unix time in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnixSeconds(pub u64);

/// What credentials are made by; shared with those who hand them out.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl FromStr for Secret {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() { Err("an empty secret is none") } else { Ok(Self(text.into())) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// The credential that goes with a user's name.
    #[must_use]
    pub fn credential(&self, user: &User) -> String {
        let mac = Hmac::<Sha1>::new_from_slice(self.0.as_bytes()).map(|mac| mac.chain_update(&*user.0));
        mac.map(|mac| STANDARD.encode(mac.finalize().into_bytes())).unwrap_or_default()
    }
}

/// A user's name: when it ends, in Unix seconds, and after a colon whatever tells it from others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User(Arc<str>);

impl User {
    /// `None` if it is none that credentials are made for.
    #[must_use]
    pub fn new(name: &[u8]) -> Option<Self> {
        let name = str::from_utf8(name).ok().filter(|name| name.len() <= MAX_NAME)?;
        let user = Self(name.into());
        user.end().is_some().then_some(user)
    }

    /// As it is written.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Whether it is good at that time.
    #[must_use]
    pub fn is_good_at(&self, now: UnixSeconds) -> bool {
        self.end().is_some_and(|end| end > now)
    }

    fn end(&self) -> Option<UnixSeconds> {
        self.0.split(':').next()?.parse().ok().map(UnixSeconds)
    }
}

/// Nonces that tell by themselves when and for whom they were made, so that asking for many of them costs the server nothing.
#[derive(Debug)]
pub(super) struct Nonces {
    key: [u8; 32],
}

impl Nonces {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// One for that client.
    pub(super) fn make(&self, client: IpAddr, now: UnixSeconds) -> String {
        format!("{:010x}{}", now.0, self.code(client, now.0))
    }

    /// Whether it was made for that client, not too long ago.
    pub(super) fn accepts(&self, nonce: &[u8], client: IpAddr, now: UnixSeconds) -> bool {
        let Some((made, code)) = str::from_utf8(nonce).ok().and_then(|text| text.split_at_checked(10)) else {
            return false;
        };
        let Ok(made) = u64::from_str_radix(made, 16) else { return false };
        now.0.saturating_sub(made) < NONCE_LIFETIME && self.code(client, made) == code
    }

    fn code(&self, client: IpAddr, made: u64) -> String {
        let mac = Hmac::<Sha256>::new_from_slice(&self.key).map(|mac| {
            let mac = mac.chain_update(made.to_be_bytes());
            match client.to_canonical() {
                IpAddr::V4(v4) => mac.chain_update(v4.octets()),
                IpAddr::V6(v6) => mac.chain_update(v6.octets()),
            }
        });
        mac.map(|mac| hex::encode(&mac.finalize().into_bytes()[..CODE])).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_those_that_others_make() {
        // printf 1700003600:aki | openssl dgst -sha1 -hmac north -binary | base64
        let secret: Secret = "north".parse().unwrap();
        assert_eq!(secret.credential(&User::new(b"1700003600:aki").unwrap()), "Y4UAzhH2hGglhc7ZXKSwr8vyE0Y=");
        assert!("".parse::<Secret>().is_err());
        assert!(!format!("{secret:?}").contains("north"));
    }

    #[test]
    fn a_user_is_good_until_his_end() {
        let user = User::new(b"1700003600:aki").unwrap();
        assert!(user.is_good_at(UnixSeconds(1_700_003_599)) && !user.is_good_at(UnixSeconds(1_700_003_600)));
        assert!(User::new(b"1700003600").is_some());
        for wrong in [&b""[..], b"aki", b":1", b"-1:a", b"\xff", b"99999999999999999999999:a", &[b'1'; 600]] {
            assert_eq!(User::new(wrong), None);
        }
    }

    #[test]
    fn a_nonce_is_good_for_its_client_and_for_an_hour() {
        let (nonces, now) = (Nonces::new([1; 32]), UnixSeconds(1_700_000_000));
        let (aki, ben) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let nonce = nonces.make(aki, now);
        assert!(nonces.accepts(nonce.as_bytes(), aki, UnixSeconds(now.0 + 3599)));
        assert!(!nonces.accepts(nonce.as_bytes(), aki, UnixSeconds(now.0 + 3600)));
        assert!(!nonces.accepts(nonce.as_bytes(), ben, now));
        assert!(!Nonces::new([2; 32]).accepts(nonce.as_bytes(), aki, now));
        for wrong in [&b""[..], b"short", b"zzzzzzzzzzzz", "ää ää ää ää ää".as_bytes(), b"\xff\xfe"]
        {
            assert!(!nonces.accepts(wrong, aki, now));
        }
    }
}
