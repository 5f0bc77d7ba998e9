//! One request to an endpoint.

use std::time::{Duration, SystemTime};

use kaigi_outbound::{
    Reach,
    http::{self, ClientError},
};
use kaigi_proto::events;
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};

use super::{super::event::UnixMillis, deliveries::Attempt, hook::Outcome, sign::signatures};

/// Longest wait for a connection, of [`TIMEOUT`].
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time for a request and its answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Connections are kept so long for the next event.
const IDLE: Duration = Duration::from_secs(30);
/// Most bytes of an answer that are read, so that the connection can be used again; nothing is done with them.
const MAX_ANSWER: usize = 64 << 10;

/// Sends attempts; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    client: Client,
    targets: Reach,
}

impl Sender {
    /// Sends to those alone.
    ///
    /// # Errors
    /// If the client can't be made.
    pub(crate) fn new(targets: Reach) -> Result<Self, ClientError> {
        let client = http::client(targets, |builder| {
            builder
                .connect_timeout(CONNECT_TIMEOUT)
                .timeout(TIMEOUT)
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(8)
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
        http::check(&url, self.targets)?;
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
        request.send().await.map_err(http::reason)
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

#[cfg(test)]
mod tests;
