//! `/health`, `/ready` and `/metrics`. Ready means that a conference can be held: the cluster-manager answers, and there are
//! conference-agents, access-nodes and mixer-nodes that take tasks.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use kaigi_proto::v1::{Purpose, Worker};
use kaigi_telemetry::Health;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::backend::Backend;

/// How long an answer is given again without asking the cluster-manager.
const CACHED: Duration = Duration::from_millis(200);
/// Longest wait for the cluster-manager.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether a conference can be held.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    backend: Backend,
    health: Health,
    last: Arc<Mutex<Option<Answer>>>,
    /// Cancelled when this portal is to end.
    draining: CancellationToken,
}

/// When the cluster-manager was asked, and what is missing, if anything.
type Answer = (Instant, Result<(), String>);

impl Readiness {
    pub(crate) fn new(backend: Backend, health: Health, draining: CancellationToken) -> Self {
        Self { backend, health, last: Arc::default(), draining }
    }

    /// What is missing, if anything.
    ///
    /// # Errors
    /// The text says what.
    async fn check(&self) -> Result<(), String> {
        if self.draining.is_cancelled() {
            self.health.set_ready(false);
            return Err("this portal is to end".to_owned());
        }
        // Held while the cluster-manager is asked, so that many askers make one question.
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = &*last
            && at.elapsed() < CACHED
        {
            return answer.clone();
        }
        let answer = match self.backend.workers(PATIENCE).await {
            Ok(workers) => missing(&workers).map_or(Ok(()), |what| Err(format!("no {what} is ready"))),
            Err(error) => Err(error.to_string()),
        };
        self.health.set_ready(answer.is_ok());
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

/// The first kind of worker that a conference needs and that is not there.
fn missing(workers: &[Worker]) -> Option<&'static str> {
    [
        (Purpose::Conference, "conference-agent"),
        (Purpose::Access, "access-node"),
        (Purpose::Mixer, "mixer-node"),
    ]
    .into_iter()
    .find(|(purpose, _)| !workers.iter().any(|w| w.purpose() == *purpose && !w.draining))
    .map(|(_, name)| name)
}

/// The three endpoints.
pub(crate) fn health_routes(readiness: Readiness) -> Router {
    Router::new()
        .route("/health", get(async || "ok\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(async |State(readiness): State<Readiness>| readiness.health.render_metrics()))
        .with_state(readiness)
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    match readiness.check().await {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {missing}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conference_needs_one_of_each() {
        let worker = |purpose: Purpose| Worker { purpose: purpose.into(), ..Worker::default() };
        let mut workers = vec![worker(Purpose::Portal), worker(Purpose::Conference), worker(Purpose::Access)];
        assert_eq!(missing(&workers), Some("mixer-node"));
        workers.push(worker(Purpose::Mixer));
        assert_eq!(missing(&workers), None);
        workers[1].draining = true;
        assert_eq!(missing(&workers), Some("conference-agent"));
    }
}
