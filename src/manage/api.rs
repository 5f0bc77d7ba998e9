//! A client of the management API.

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;
use ureq::{
    Agent,
    http::{Method, Request, Response},
    tls::{Certificate, PemItem, RootCerts, TlsConfig},
};

use super::ManageError;

/// Longest time for an answer.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Largest answer, in bytes.
const MAX_ANSWER: u64 = 64 << 20;
/// Longest silence of a stream of events, which says at least every 15 s that it is still there.
const SILENCE: Duration = Duration::from_secs(45);
/// Rooms asked for at a time.
const PAGE: usize = 100;

/// Which API, and in whose name.
#[derive(Clone)]
pub struct Target {
    /// Base URL.
    pub url: String,
    /// Certificates trusted beside the system's (PEM).
    pub ca: Option<PathBuf>,
    /// Service id.
    pub id: String,
    /// Service key.
    pub key: String,
}

/// Why the API did not answer as wanted.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Not reached, or no HTTP.
    #[error("{url} can't be reached: {reason}. Is Kaigi running, and is --url its management API?")]
    Unreachable {
        /// The API.
        url: String,
        /// What happened.
        reason: String,
    },
    /// It said no.
    #[error("{message} ({status})")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The API's text.
        message: String,
    },
    /// It said something else than the API does.
    #[error("{url} does not answer like Kaigi's management API: {reason}")]
    Strange {
        /// The API.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The certificates can't be used.
    #[error("{path}: {reason}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// See the module's description.
pub struct Api {
    agent: Agent,
    target: Target,
}

/// A path whose segments may be anything.
pub(crate) fn path(segments: &[&str]) -> String {
    let encoded: Vec<String> = segments
        .iter()
        .map(|segment| {
            percent_encoding::utf8_percent_encode(segment, percent_encoding::NON_ALPHANUMERIC).to_string()
        })
        .collect();
    // The version's dot is all that would not have needed it.
    encoded.join("/").replace("%2E", ".").replace("%2D", "-").replace("%5F", "_")
}

/// Those of the parameters that are given, as a URL's query with its question mark.
pub(super) fn query(parameters: &[(&str, Option<&str>)]) -> String {
    let given: Vec<String> = parameters
        .iter()
        .filter_map(|(name, value)| value.map(|value| format!("{name}={}", path(&[value]))))
        .collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

/// A JSON file; "-" is standard input.
pub(super) fn document(path: &Path) -> Result<Value, ManageError> {
    let wrong = |reason: String| ManageError::File { path: path.display().to_string(), reason };
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map_err(|e| wrong(e.to_string()))?;
    } else {
        text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    }
    serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))
}

impl Api {
    /// Prepares; nothing is sent yet.
    ///
    /// # Errors
    /// [`ApiError::Ca`] if the certificates can't be read.
    pub fn new(target: Target) -> Result<Self, ApiError> {
        let mut config = Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false);
        if let Some(path) = &target.ca {
            let wrong = |reason: String| ApiError::Ca { path: path.clone(), reason };
            let pem = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
            let mut certificates: Vec<Certificate<'static>> = Vec::new();
            for item in ureq::tls::parse_pem(&pem) {
                if let PemItem::Certificate(certificate) = item.map_err(|e| wrong(e.to_string()))? {
                    certificates.push(certificate);
                }
            }
            if certificates.is_empty() {
                return Err(wrong("no certificate in it".to_owned()));
            }
            let roots = RootCerts::Specific(certificates.into());
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        Ok(Self { agent: config.build().into(), target })
    }

    /// `GET`.
    ///
    /// # Errors
    /// See [`ApiError`], as of all of these.
    pub fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.call(Method::GET, path, None)
    }

    /// `POST` with a JSON body. An answer that is plain text is given as a JSON string.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.call(Method::POST, path, Some(body))
    }

    /// `PUT` with a JSON body.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn put(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.call(Method::PUT, path, Some(body))
    }

    /// `PATCH` with a JSON body.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn patch(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.call(Method::PATCH, path, Some(body))
    }

    /// `DELETE`.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn delete(&self, path: &str) -> Result<(), ApiError> {
        self.call(Method::DELETE, path, None).map(drop)
    }

    /// All pages of a list.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn pages(&self, path: &str) -> Result<Value, ApiError> {
        let mut all = Vec::new();
        for page in 1.. {
            let Value::Array(items) = self.get(&format!("{path}?page={page}&per_page={PAGE}"))? else {
                return Err(self.strange("no list".to_owned()));
            };
            let is_last = items.len() < PAGE;
            all.extend(items);
            if is_last {
                break;
            }
        }
        Ok(Value::Array(all))
    }

    /// The service in whose name it asks.
    pub fn service(&self) -> &str {
        &self.target.id
    }

    /// `GET` of what does not end: its bytes, as they come. Reading fails when nothing came for 45 s.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn stream(&self, path: &str) -> Result<impl Read + use<>, ApiError> {
        let request = self.request(Method::GET, path, None)?;
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(None)
            .timeout_recv_response(Some(TIMEOUT))
            .timeout_per_read(Some(SILENCE))
            .build();
        let answer = self.agent.run(request).map_err(|e| self.unreachable(e.to_string()))?;
        if !answer.status().is_success() {
            self.read(answer)?;
            return Err(self.strange("no stream of events".to_owned()));
        }
        Ok(answer.into_body().into_reader())
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Request<String>, ApiError> {
        Request::builder()
            .method(method)
            .uri(format!("{}/{path}", self.target.url.trim_end_matches('/')))
            .header("Authorization", authorization(&self.target.id, &self.target.key))
            .header("Content-Type", "application/json")
            .body(body.map(Value::to_string).unwrap_or_default())
            .map_err(|e| self.unreachable(e.to_string()))
    }

    fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ApiError> {
        let request = self.request(method, path, body)?;
        // Bodies of methods that usually have none are sent by none of these calls but as empty ones.
        let answer = self.agent.configure_request(request).allow_non_standard_methods(true).build();
        let answer = self.agent.run(answer).map_err(|e| self.unreachable(e.to_string()))?;
        self.read(answer)
    }

    fn read(&self, mut answer: Response<ureq::Body>) -> Result<Value, ApiError> {
        let status = answer.status();
        let text = answer.body_mut().with_config().limit(MAX_ANSWER).read_to_string();
        let text = text.map_err(|e| self.strange(e.to_string()))?;
        let value = serde_json::from_str::<Value>(&text).unwrap_or(Value::String(text));
        if status.is_success() {
            return Ok(value);
        }
        let message = match value.pointer("/error/message").and_then(Value::as_str) {
            // OWT's text for it, made for browsers.
            Some(_) if status.as_u16() == 401 => "the service id or key is wrong".to_owned(),
            Some(message) => message.to_owned(),
            None => return Err(self.strange(format!("status {status}"))),
        };
        Err(ApiError::Refused { status: status.as_u16(), message })
    }

    fn unreachable(&self, reason: String) -> ApiError {
        ApiError::Unreachable { url: self.target.url.clone(), reason }
    }

    fn strange(&self, reason: String) -> ApiError {
        ApiError::Strange { url: self.target.url.clone(), reason }
    }
}

/// MAuth (OWT's REST API, "Authentication") with the time and a random nonce.
fn authorization(id: &str, key: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let nonce = hex::encode(rand::random::<[u8; 12]>());
    format!(
        "MAuth realm=kaigi,mauth_signature_method=HMAC_SHA256,mauth_serviceid={id},mauth_cnonce={nonce},mauth_timestamp={now},\
         mauth_signature={}",
        signature(key, &format!("{now},{nonce}"))
    )
}

fn signature(key: &str, signed: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(signed.as_bytes());
    STANDARD.encode(hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_base64_of_hexadecimal_text() {
        // Computed with openssl dgst -sha256 -hmac key, then base64 of its hexadecimal output.
        assert_eq!(
            signature("key", "The quick brown fox jumps over the lazy dog"),
            "ZjdiYzgzZjQzMDUzODQyNGIxMzI5OGU2YWE2ZmIxNDNlZjRkNTlhMTQ5NDYxNzU5OTc0NzlkYmMyZDFhM2NkOA=="
        );
    }

    #[test]
    fn ids_can_not_leave_their_segment() {
        assert_eq!(path(&["v1.1", "rooms", "a/../b?c", "streams"]), "v1.1/rooms/a%2F..%2Fb%3Fc/streams");
        assert_eq!(query(&[("a", Some("x&b=y")), ("c", None), ("d", Some("1,2"))]), "?a=x%26b%3Dy&d=1%2C2");
        assert_eq!(query(&[("a", None)]), "");
    }
}
