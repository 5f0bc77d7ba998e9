//! gRPC channels to other processes: lazily connected, shared, carrying the cluster secret.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use kaigi_proto::auth::Present;
use tonic::{
    service::interceptor::InterceptedService,
    transport::{Channel as Plain, Endpoint},
};

use crate::{
    Trust,
    group::{FIND, Group, Place},
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

/// What all channels of a process have in common.
#[derive(Clone, Debug)]
pub(crate) struct Maker {
    trust: Trust,
}

impl Maker {
    /// How `endpoint` ("http://host:port") is connected to.
    fn endpoint(&self, endpoint: &str) -> Result<Endpoint, ChannelError> {
        let refused = || ChannelError { endpoint: endpoint.to_owned() };
        let (_, address) = endpoint.split_once("://").ok_or_else(refused)?;
        let made = Endpoint::from_shared(format!("{}://{address}", self.trust.scheme()))
            .and_then(|endpoint| self.trust.connect(endpoint))
            .map_err(|_| refused())?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        Ok(made)
    }

    /// The channel that presents the secret.
    pub(crate) fn present(&self, plain: Plain) -> Channel {
        InterceptedService::new(plain, Present(self.trust.secret()))
    }

    pub(crate) fn place(&self, endpoint: &str) -> Result<Place, ChannelError> {
        let wrong = || ChannelError { endpoint: endpoint.to_owned() };
        let made = self.endpoint(endpoint)?;
        let host = made.uri().host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = made.uri().port_u16().ok_or_else(wrong)?;
        Ok(Place { endpoint: made, host, port })
    }
}

/// One channel per endpoint, shared by all who ask; cheap to clone.
#[derive(Clone, Debug)]
pub struct Channels {
    pub(crate) maker: Maker,
    open: Arc<Mutex<HashMap<String, Channel>>>,
}

impl Channels {
    /// No channels yet; each will present what `trust` has.
    #[must_use]
    pub fn new(trust: impl Into<Trust>) -> Self {
        Self { maker: Maker { trust: trust.into() }, open: Arc::default() }
    }

    /// The channel to `endpoint` ("http://host:port" or "https://host:port"). Connects at the first call on it and reconnects by itself.
    /// Whether it is encrypted is the cluster's affair and not the endpoint's: with certificates all of them are.
    ///
    /// # Errors
    /// If `endpoint` is no URI.
    pub fn to(&self, endpoint: &str) -> Result<Channel, ChannelError> {
        self.shared(endpoint, || Ok(self.maker.endpoint(endpoint)?.connect_lazy()))
    }

    /// The channel to the cluster-manager that leads, of those at `endpoints`: one or several, separated by commas, whose names may
    /// stand for several addresses. Calls wait for some seconds while others are there and nobody leads.
    ///
    /// # Errors
    /// If one of them is no endpoint with host and port.
    pub fn to_cluster(&self, endpoints: &str) -> Result<Channel, ChannelError> {
        self.shared(&format!("cluster {endpoints}"), || {
            let places = endpoints.split(',').map(|endpoint| self.maker.place(endpoint.trim()));
            let places: Vec<Place> = places.collect::<Result<_, _>>()?;
            let first = places.first().ok_or_else(|| ChannelError { endpoint: endpoints.to_owned() })?;
            let endpoint = first.endpoint.clone().connect_timeout(FIND + CONNECT_TIMEOUT);
            let group = Arc::new(Group::new(places, self.maker.clone()));
            Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |_| group.clone().connect())))
        })
    }

    fn shared(
        &self,
        name: &str,
        make: impl FnOnce() -> Result<Plain, ChannelError>,
    ) -> Result<Channel, ChannelError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = open.get(name) {
            return Ok(channel.clone());
        }
        let channel = self.maker.present(make()?);
        open.insert(name.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Forgets the channel of a worker that is gone.
    pub fn forget(&self, endpoint: &str) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(endpoint);
    }
}
