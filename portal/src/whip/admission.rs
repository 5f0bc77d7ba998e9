//! Who may begin a session: by a login token of the management API, which is good for one, or by a JSON Web Token of a service with the
//! grant `join`, which is good for as many as it lives.

use axum::http::{HeaderMap, header};
use kaigi_proto::ids::RoomId;

use super::error::WhipError;
use crate::{
    backend::Backend,
    clock::UnixMillis,
    rest, seal,
    token::{LoginToken, TokenError, TokenRecord},
};

/// Longest token looked at, in bytes.
const MAX_TOKEN: usize = 16 << 10;

/// A token that lets into a room.
#[derive(Debug)]
pub(super) struct Admission {
    pub(super) record: TokenRecord,
    /// Of a token that is good once.
    once: Option<String>,
    pub(super) proof: Proof,
}

impl Admission {
    /// Checks a request's token. It is not used up yet.
    ///
    /// # Errors
    /// Why it does not let in.
    pub(super) async fn check(
        backend: &Backend,
        headers: &HeaderMap,
        room: &RoomId,
    ) -> Result<Self, WhipError> {
        let token = bearer(headers)?;
        // Login tokens are base64 without a dot.
        let (record, once) = if token.contains('.') {
            (rest::join_grant(backend, token, room).await?, None)
        } else {
            let token = LoginToken::parse(token)?;
            token.verify(&backend.secret("token-key").await?)?;
            let record = backend.token(&token.token_id).await?.ok_or(TokenError::Unknown)?;
            (record, Some(token.token_id))
        };
        if record.room != room.as_str() {
            return Err(WhipError::OtherRoom);
        }
        if once.is_some() {
            record.check_age(UnixMillis::now())?;
        }
        Ok(Self { record, once, proof: Proof::of(token) })
    }

    /// Uses the token up, if it is good once.
    ///
    /// # Errors
    /// If somebody else was faster.
    pub(super) async fn use_up(&self, backend: &Backend) -> Result<(), WhipError> {
        if let Some(id) = &self.once {
            backend.take_token(id).await?.ok_or(TokenError::Unknown)?;
        }
        Ok(())
    }

    /// The session could not begin, for no fault of the client's: the token is good again, as long as it would have been.
    pub(super) async fn give_back(&self, backend: &Backend) {
        if let Some(id) = &self.once
            && let Err(error) = backend.put_token(id, &self.record).await
        {
            tracing::debug!(%error, "a token is not given back");
        }
    }
}

/// The token of a request (RFC 6750 §2.1).
fn bearer(headers: &HeaderMap) -> Result<&str, WhipError> {
    let header =
        headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).ok_or(WhipError::NoToken)?;
    let (scheme, token) = header.split_once(' ').ok_or(WhipError::NoToken)?;
    let token = token.trim();
    if !scheme.eq_ignore_ascii_case("Bearer") || token.is_empty() || token.len() > MAX_TOKEN {
        return Err(WhipError::NoToken);
    }
    Ok(token)
}

/// What a session remembers of the token that it was begun with: enough to know it again.
#[derive(Debug)]
pub(super) struct Proof {
    key: [u8; 32],
    signature: String,
}

impl Proof {
    fn of(token: &str) -> Self {
        let key = rand::random::<[u8; 32]>();
        Self { signature: seal::sign(&key, &[token]), key }
    }

    /// Whether a request has the same token; takes the same time wherever it differs.
    ///
    /// # Errors
    /// If it has none, or another one.
    pub(super) fn check(&self, headers: &HeaderMap) -> Result<(), WhipError> {
        let token = bearer(headers)?;
        if seal::verify(&self.key, &[token], &self.signature) { Ok(()) } else { Err(WhipError::OtherToken) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn a_session_knows_its_token_again() {
        let proof = Proof::of("abc");
        assert!(proof.check(&with("bearer  abc")).is_ok());
        assert!(matches!(proof.check(&with("Bearer abd")), Err(WhipError::OtherToken)));
        for none in ["Basic abc", "Bearer", "Bearer ", "abc"] {
            assert!(matches!(proof.check(&with(none)), Err(WhipError::NoToken)), "{none}");
        }
        assert!(matches!(proof.check(&HeaderMap::new()), Err(WhipError::NoToken)));
    }
}
