//! MAuth: how a service proves itself (OWT's REST API, "Authentication").
//!
//! The signature covers a timestamp and a nonce, so that a request can be told from its repetition.

use std::{collections::HashMap, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use kaigi_proto::ids::ServiceId;
use sha2::{Digest, Sha256};

use super::{
    Management,
    error::RestError,
    identity::{Grants, Identity},
};
use crate::{clock::UnixMillis, seal};

/// Longest header looked at, in bytes.
const MAX_HEADER: usize = 4096;

/// Finds out who calls.
///
/// # Errors
/// [`RestError::Unauthorized`] if the header is of no service or wrongly signed, [`RestError::Replayed`] if it is not of now or was
/// seen before, at whichever portal.
pub(super) async fn authenticate(api: &Management, header: &str) -> Result<Identity, RestError> {
    let credentials = Credentials::parse(header).ok_or(RestError::Unauthorized)?;
    let service = api.backend.service(&credentials.service).await?.ok_or(RestError::Unauthorized)?;
    if !credentials.verify(&service.key) {
        return Err(RestError::Unauthorized);
    }
    // Only what is signed by its owner gets a place in the store.
    if !api.mauth_window.is_zero() {
        if !credentials.is_of(UnixMillis::now(), api.mauth_window) {
            return Err(RestError::Replayed);
        }
        let kept = u64::try_from(2 * api.mauth_window.as_millis()).unwrap_or(u64::MAX);
        if !api.backend.use_once(credentials.nonce(), kept).await? {
            return Err(RestError::Replayed);
        }
    }
    Ok(Identity {
        service,
        grants: Grants::all(),
        username: credentials.decoded_username(),
        role: credentials.role,
        expires: None,
    })
}

/// The header's content.
#[derive(Debug, PartialEq, Eq)]
struct Credentials {
    service: ServiceId,
    timestamp: String,
    cnonce: String,
    /// As it stands in the header: base64.
    username: Option<String>,
    role: Option<String>,
    signature: String,
}

impl Credentials {
    /// Reads a header. Fields may come in any order, with or without quotes and blanks; of the scheme's and the fields' names the
    /// first six letters are not looked at, as in OWT.
    fn parse(header: &str) -> Option<Self> {
        if header.len() > MAX_HEADER {
            return None;
        }
        let mut fields: HashMap<&str, String> = HashMap::new();
        for field in header.split(',') {
            let (name, value) = field.trim().split_once('=')?;
            if let Some(name) = name.trim().get(6..) {
                fields.insert(name.trim(), value.trim().trim_matches('"').to_owned());
            }
        }
        if fields.remove("signature_method")? != "HMAC_SHA256" {
            return None;
        }
        Some(Self {
            service: ServiceId::new(fields.remove("serviceid")?).ok()?,
            timestamp: fields.remove("timestamp")?,
            cnonce: fields.remove("cnonce")?,
            username: fields.remove("username").filter(|u| !u.is_empty()),
            role: fields.remove("role").filter(|r| !r.is_empty()),
            signature: fields.remove("signature")?,
        })
    }

    fn verify(&self, key: &str) -> bool {
        let mut parts = vec![self.timestamp.as_str(), &self.cnonce];
        if let (Some(username), Some(role)) = (&self.username, &self.role) {
            parts.extend([username.as_str(), role]);
        }
        seal::verify(key.as_bytes(), &parts, &self.signature)
    }

    /// Whether it was made less than `window` before or after `now`.
    fn is_of(&self, now: UnixMillis, window: Duration) -> bool {
        let made = self.timestamp.parse::<u64>();
        made.is_ok_and(|made| u128::from(made.abs_diff(now.0)) <= window.as_millis())
    }

    /// Names the request among all of all services.
    fn nonce(&self) -> String {
        let mut hash = Sha256::new();
        for part in [self.service.as_str(), &self.timestamp, &self.cnonce] {
            hash.update(part);
            hash.update([0]);
        }
        format!("mauth-{}", hex::encode(hash.finalize()))
    }

    fn decoded_username(&self) -> Option<String> {
        // Only what was signed counts.
        let (Some(username), Some(_)) = (&self.username, &self.role) else { return None };
        String::from_utf8(STANDARD.decode(username).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "c2VjcmV0+/==";

    fn header(separator: &str, quote: &str, user: Option<(&str, &str)>) -> String {
        let mut parts = vec!["1700000000000", "0011aabb"];
        let mut fields = vec![
            "MAuth realm=http://marte3.dit.upm.es".to_owned(),
            format!("mauth_signature_method={quote}HMAC_SHA256{quote}"),
            format!("mauth_serviceid={quote}5188b9af6e53c84ffd600413{quote}"),
            format!("mauth_cnonce={quote}0011aabb{quote}"),
            format!("mauth_timestamp={quote}1700000000000{quote}"),
        ];
        if let Some((username, role)) = user {
            parts.extend([username, role]);
            fields.push(format!("mauth_username={username}"));
            fields.push(format!("mauth_role={role}"));
        }
        fields.push(format!("mauth_signature={quote}{}{quote}", seal::sign(KEY.as_bytes(), &parts)));
        fields.join(separator)
    }

    #[test]
    fn headers_of_known_clients_are_read() {
        for (separator, quote) in [(",", ""), (", ", ""), (",\t", "\""), (",", "\"")] {
            let credentials = Credentials::parse(&header(separator, quote, None)).unwrap();
            assert_eq!(credentials.service.as_str(), "5188b9af6e53c84ffd600413");
            assert!(credentials.verify(KEY), "{separator:?} {quote:?}");
            assert!(!credentials.verify("other"));
        }
    }

    #[test]
    fn user_and_role_are_signed_too() {
        let mut credentials = Credentials::parse(&header(",", "", Some(("QWtp", "presenter")))).unwrap();
        assert!(credentials.verify(KEY));
        assert_eq!(credentials.decoded_username().as_deref(), Some("Aki"));
        credentials.role = Some("admin".into());
        assert!(!credentials.verify(KEY));
    }

    #[test]
    fn a_user_added_without_a_role_is_not_believed() {
        let credentials =
            Credentials::parse(&format!("{},mauth_username=QWtp", header(",", "", None))).unwrap();
        assert!(credentials.verify(KEY));
        assert_eq!(credentials.decoded_username(), None);
    }

    #[test]
    fn a_request_is_of_its_time() {
        let credentials = Credentials::parse(&header(",", "", None)).unwrap();
        let is_of = |now| credentials.is_of(UnixMillis(now), Duration::from_secs(300));
        assert!(is_of(1_700_000_000_000) && is_of(1_700_000_300_000) && is_of(1_699_999_700_000));
        assert!(!is_of(1_700_000_300_001) && !is_of(1_699_999_699_999));
        let endless = header(",", "", None).replace("1700000000000", "1e99");
        assert!(!Credentials::parse(&endless).unwrap().is_of(UnixMillis(u64::MAX), Duration::MAX));
    }

    #[test]
    fn anything_else_is_no_header() {
        let good = header(",", "", None);
        assert_eq!(Credentials::parse(""), None);
        assert_eq!(Credentials::parse("Basic QWxhZGRpbjpvcGVuc2VzYW1l"), None);
        assert_eq!(Credentials::parse(&good.replace("HMAC_SHA256", "HMAC_SHA1")), None);
        assert_eq!(Credentials::parse(&good.replace("mauth_cnonce", "mauth_nonce")), None);
        assert_eq!(Credentials::parse(&good.replace("5188", "../")), None);
        assert_eq!(Credentials::parse(&"é=,".repeat(5)), None);
        assert_eq!(Credentials::parse(&"mauth_a=b,".repeat(1000)), None);
    }
}
