//! One request to an endpoint.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use kaigi_proto::events;
use reqwest::{
    Client, Response, StatusCode, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
    redirect::Policy,
};

use super::{
    super::event::UnixMillis, deliveries::Attempt, hook::Outcome, sign::signatures, targets::WebhookTargets,
};

/// Longest wait for a connection, of [`TIMEOUT`].
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for a request and its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Connections are kept so long for the next event.
const IDLE: Duration = Duration::from_secs(30);
/// Most bytes of an answer that are read, so that the connection can be used again; nothing is done with them.
const MAX_ANSWER: usize = 64 << 10;
/// Longest reason that is told, in characters.
const MAX_REASON: usize = 200;

/// Why there is no HTTP client.
#[derive(Debug, thiserror::Error)]
#[error("no HTTP client for webhooks: {0}")]
pub(crate) struct ClientError(#[from] reqwest::Error);

/// Sends attempts; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    client: Client,
    targets: WebhookTargets,
}

impl Sender {
    /// Trusts the system's certificates (`SSL_CERT_FILE` and `SSL_CERT_DIR` count).
    ///
    /// # Errors
    /// If the client can't be made.
    pub(crate) fn new(targets: WebhookTargets) -> Result<Self, ClientError> {
        // Another part of this process may have done it before; it would be the same one.
        let _: Result<_, _> = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            Client::builder()
                .user_agent(concat!("Kaigi/", env!("CARGO_PKG_VERSION")))
                .redirect(Policy::none())
                .referer(false)
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(TIMEOUT)
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(8)
                .no_proxy()
                .dns_resolver(Arc::new(Resolver(targets)))
        };
        let client = builder().build().or_else(|error| {
            tracing::warn!(%error, "no root certificates: webhooks by https will fail");
            builder().tls_certs_only([]).build()
        })?;
        Ok(Self { client, targets })
    }

    /// Sends an event to an endpoint. Never takes longer than [`TIMEOUT`].
    pub(crate) async fn send(&self, attempt: &Attempt, time: UnixMillis) -> Outcome {
        match self.request(attempt, time).await {
            Ok(response) => outcome_of(response).await,
            Err(reason) => Outcome::Failed { reason, retry_after: None },
        }
    }

    async fn request(&self, attempt: &Attempt, time: UnixMillis) -> Result<Response, String> {
        let url = Url::parse(&attempt.document.url).map_err(|error| error.to_string())?;
        // A name is looked at when it is resolved.
        let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        if literal.is_some_and(|address| !self.targets.include(address)) {
            return Err(NOT_PUBLIC.to_owned());
        }
        let body = events::body(attempt.event.wire());
        let id = attempt.event.id().0.to_string();
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", (time.0 / 1000).to_string())
            .header("webhook-signature", signatures(&attempt.document, &id, time, &body))
            .body(body);
        request.send().await.map_err(reason)
    }
}

async fn outcome_of(mut response: Response) -> Outcome {
    let status = response.status();
    let retry_after = retry_after(response.headers(), SystemTime::now());
    let mut read = 0;
    while read < MAX_ANSWER
        && let Ok(Some(chunk)) = response.chunk().await
    {
        read += chunk.len();
    }
    if status.is_success() {
        Outcome::Delivered
    } else if status == StatusCode::GONE {
        Outcome::Gone
    } else {
        Outcome::Failed { reason: format!("status {}", status.as_u16()), retry_after }
    }
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(value).ok()?.duration_since(now).ok(),
    }
}

/// The innermost cause, without the URL, which may have a secret in it.
fn reason(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string().chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
}

/// What is said of an address that webhooks may not be sent to.
const NOT_PUBLIC: &str = "the address is not a public one";

/// The system's resolver; what webhooks may not be sent to is left out of its answers, so that the address that was looked at is the one that
/// is connected to.
#[derive(Debug)]
struct Resolver(WebhookTargets);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let targets = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| targets.include(address.ip())).collect();
            if allowed.is_empty() {
                Err(NOT_PUBLIC.into())
            } else {
                Ok(Box::new(allowed.into_iter()) as Addrs)
            }
        })
    }
}

#[cfg(test)]
mod tests;
