//! The cluster secret: a bearer token that every internal call carries and every internal server asks for.

use std::sync::Arc;

use tonic::{Request, Status, metadata::MetadataValue, service::Interceptor};

/// The secret that the processes of one cluster share. An empty secret turns the check off (tests, trusted networks).
#[derive(Clone, Default)]
pub struct ClusterSecret(Arc<str>);

impl ClusterSecret {
    /// Takes the secret as text.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self(secret.trim().into())
    }
}

impl std::fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterSecret(…)")
    }
}

/// Adds the secret to outgoing calls.
#[derive(Clone, Debug)]
pub struct Present(pub ClusterSecret);

impl Interceptor for Present {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.0.is_empty() {
            let value = MetadataValue::try_from(format!("Bearer {}", self.0.0))
                .map_err(|_| Status::internal("the cluster secret is no header value"))?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

/// Refuses incoming calls without the secret, with UNAUTHENTICATED.
#[derive(Clone, Debug)]
pub struct Require(pub ClusterSecret);

impl Interceptor for Require {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let expected = &self.0.0;
        if expected.is_empty() {
            return Ok(request);
        }
        let given = request
            .metadata()
            .get("authorization")
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.strip_prefix("Bearer "))
            .unwrap_or_default();
        if constant_time_eq(given.as_bytes(), expected.as_bytes()) {
            Ok(request)
        } else {
            Err(Status::unauthenticated("cluster secret missing or wrong"))
        }
    }
}

fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_passes() {
        let carry = |text: &str| Present(ClusterSecret::new(text)).call(Request::new(())).unwrap();
        let mut door = Require(ClusterSecret::new("s3cret"));
        assert!(door.call(carry("s3cret")).is_ok());
        assert!(door.call(carry("s3cre")).is_err());
        assert!(door.call(Request::new(())).is_err());
    }
}
