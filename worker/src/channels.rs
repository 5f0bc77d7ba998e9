//! gRPC channels to other processes: lazily connected, shared, carrying the cluster secret.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kaigi_proto::auth::{ClusterSecret, Present};
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Channel as Plain, Endpoint},
};

/// A channel that presents the cluster secret with each call; what the generated clients take.
pub type Channel = InterceptedService<Plain, Present>;

/// Longest wait for a connection. On one machine it is microseconds, between machines milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A dead peer is noticed after this interval plus [`KEEP_ALIVE_TIMEOUT`].
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// See [`KEEP_ALIVE_INTERVAL`].
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
#[error("{endpoint} is no gRPC endpoint")]
pub struct ChannelError {
    /// What was given.
    endpoint: String,
}

impl From<ChannelError> for tonic::Status {
    fn from(error: ChannelError) -> Self {
        tonic::Status::internal(error.to_string())
    }
}

/// One channel per endpoint, shared by all who ask; cheap to clone.
#[derive(Clone, Debug)]
pub struct Channels {
    secret: ClusterSecret,
    open: Arc<Mutex<HashMap<String, Channel>>>,
}

impl Channels {
    /// No channels yet; each will present `secret`.
    #[must_use]
    pub fn new(secret: ClusterSecret) -> Self {
        Self { secret, open: Arc::default() }
    }

    /// The channel to `endpoint` ("http://host:port"). Connects at the first call on it and reconnects by itself.
    ///
    /// # Errors
    /// If `endpoint` is no URI.
    pub fn to(&self, endpoint: &str) -> Result<Channel, ChannelError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = open.get(endpoint) {
            return Ok(channel.clone());
        }
        let plain = Endpoint::from_shared(endpoint.to_owned())
            .map_err(|_| ChannelError { endpoint: endpoint.to_owned() })?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .connect_lazy();
        let channel = InterceptedService::new(plain, Present(self.secret.clone()));
        open.insert(endpoint.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Forgets the channel of a worker that is gone.
    pub fn forget(&self, endpoint: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(endpoint);
    }
}
