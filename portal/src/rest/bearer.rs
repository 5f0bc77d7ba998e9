//! JSON Web Tokens (RFC 7519) as `Authorization: Bearer` (RFC 6750): signed by the service with its key (HS256) or with the private key
//! whose public one it has left here (EdDSA, RFC 8037).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header, errors::ErrorKind};
use kaigi_proto::ids::ServiceId;
use serde::Deserialize;

use super::{
    error::RestError,
    identity::{Grants, Identity},
};
use crate::{backend::Backend, clock::UnixMillis};

/// Longest token looked at, in bytes.
const MAX_TOKEN: usize = 16 << 10;
/// Seconds by which clocks may differ.
const LEEWAY: u64 = 30;

/// Who says to have signed it; not to be believed yet.
#[derive(Deserialize)]
struct Issuer {
    iss: String,
}

/// What is looked at of the claims; `exp` and `nbf` are checked by the library.
#[derive(Deserialize)]
struct Claims {
    /// Seconds since 1970, perhaps with a fraction.
    exp: f64,
    #[serde(default)]
    grants: Grants,
}

fn refused(why: impl ToString) -> RestError {
    RestError::BadToken(why.to_string())
}

/// Finds out who calls.
///
/// # Errors
/// [`RestError::BadToken`] if the token is none, of no service, wrongly signed, without `exp`, or not of now.
pub(super) async fn authenticate(backend: &Backend, token: &str) -> Result<Identity, RestError> {
    let issuer = issuer(token).ok_or_else(|| refused("not a JSON Web Token of a service"))?;
    // The same words for an unknown service and a wrong signature: who has no key learns nothing.
    let service = backend.service(&issuer).await?.ok_or_else(|| refused("wrong signature"))?;
    let claims = verified(token, &service.key, service.public_key.as_deref())?;
    let expires = Some(UnixMillis(((claims.exp + LEEWAY as f64) * 1000.0) as u64));
    Ok(Identity { service, grants: claims.grants, username: None, role: None, expires })
}

fn issuer(token: &str) -> Option<ServiceId> {
    if token.len() > MAX_TOKEN {
        return None;
    }
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    ServiceId::new(serde_json::from_slice::<Issuer>(&claims).ok()?.iss).ok()
}

fn verified(token: &str, key: &str, public_key: Option<&str>) -> Result<Claims, RestError> {
    let algorithm = decode_header(token).map_err(refused)?.alg;
    let key = match (algorithm, public_key) {
        (Algorithm::HS256, _) => DecodingKey::from_secret(key.as_bytes()),
        (Algorithm::EdDSA, Some(pem)) => DecodingKey::from_ed_pem(pem.as_bytes()).map_err(refused)?,
        _ => return Err(refused("the algorithm is HS256, or EdDSA for a service with a public key")),
    };
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    // For whom a token is, is said by its grants.
    validation.validate_aud = false;
    let token = decode::<Claims>(token, &key, &validation).map_err(|error| match error.kind() {
        ErrorKind::InvalidSignature => refused("wrong signature"),
        ErrorKind::ExpiredSignature => refused("expired"),
        ErrorKind::ImmatureSignature => refused("not good yet"),
        _ => refused(error),
    })?;
    Ok(token.claims)
}

/// Whether a text is an Ed25519 public key in PEM.
pub(super) fn is_public_key(pem: &str) -> bool {
    DecodingKey::from_ed_pem(pem.as_bytes()).is_ok()
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;
    use crate::clock::UnixMillis;

    /// Made with `openssl genpkey -algorithm ed25519`, for this test alone.
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEICLnaAb01eXsgdR0gGWwwQOUFLqZJTUMDfyGL4ark54Y\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAaTJqUbFsXBnnR+Q0GJ8s5qH5bFIHua2VwLo73ptP08c=\n-----END PUBLIC KEY-----\n";

    fn now() -> i64 {
        i64::try_from(UnixMillis::now().0 / 1000).unwrap()
    }

    fn signed(claims: &Value) -> String {
        encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(b"key")).unwrap()
    }

    fn refusal(token: &str) -> String {
        verified(token, "key", None).err().unwrap().to_string()
    }

    #[test]
    fn a_service_signs_with_its_key() {
        let token = signed(&json!({"iss": "s", "exp": now() + 60, "grants": {"rooms": ["a"]}}));
        assert_eq!(issuer(&token).unwrap().as_str(), "s");
        assert!(verified(&token, "key", None).unwrap().grants.covers("a"));
        assert!(verified(&token, "other", None).is_err());
    }

    #[test]
    fn or_with_its_private_key() {
        let key = EncodingKey::from_ed_pem(PRIVATE.as_bytes()).unwrap();
        let token =
            encode(&Header::new(Algorithm::EdDSA), &json!({"iss": "s", "exp": now() + 60}), &key).unwrap();
        assert!(is_public_key(PUBLIC) && !is_public_key(PRIVATE) && !is_public_key("key"));
        assert_eq!(verified(&token, "key", Some(PUBLIC)).unwrap().grants, Grants::all());
        assert!(verified(&token, "key", None).is_err());
        // The public key is public: it does not serve as a secret.
        let forged = encode(
            &Header::new(Algorithm::HS256),
            &json!({"iss": "s", "exp": now() + 60}),
            &EncodingKey::from_secret(PUBLIC.as_bytes()),
        );
        assert!(verified(&forged.unwrap(), "key", Some(PUBLIC)).is_err());
    }

    #[test]
    fn tokens_are_good_for_their_time() {
        assert!(refusal(&signed(&json!({"iss": "s", "exp": now() - 60}))).contains("expired"));
        assert!(
            refusal(&signed(&json!({"iss": "s", "exp": now() + 600, "nbf": now() + 300})))
                .contains("not good yet")
        );
        assert!(refusal(&signed(&json!({"iss": "s"}))).contains("exp"), "one that never ends is none");
    }

    #[test]
    fn anything_else_is_refused() {
        let unsigned = format!(
            "{}.{}.",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
            URL_SAFE_NO_PAD.encode(r#"{"iss":"s"}"#)
        );
        assert!(verified(&unsigned, "key", None).is_err());
        assert!(
            refusal(&signed(&json!({"iss": "s", "exp": now() + 60, "grants": {"room": "a"}})))
                .contains("unknown field")
        );
        for text in ["", "a.b.c", "....", &"x".repeat(MAX_TOKEN + 1), &signed(&json!({"exp": 1}))] {
            assert!(issuer(text).is_none());
        }
    }
}
