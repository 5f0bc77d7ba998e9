//! A connection to whichever server has the data now.

use std::time::Duration;

use redis::{
    AsyncConnectionConfig, Client, ErrorKind, FromRedisValue, RedisError, RedisResult, ScriptInvocation,
    ServerErrorKind, TlsMode,
    aio::{ConnectionManager, ConnectionManagerConfig, MultiplexedConnection},
    cluster::ClusterClientBuilder,
    cluster_async::ClusterConnection,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use tokio::sync::Mutex;

use super::url::{Access, Place, RedisUrl};

/// Longest time for a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time for an answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest time for a call with all that it takes: finding the server, connecting, asking. Below the time after which callers of
/// the cluster-manager give up, so that they are told what failed.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Cheap to use from many tasks at once: calls are pipelined.
pub(super) enum Connection {
    Server(ConnectionManager),
    Sentinel(Box<Named>),
    Cluster(ClusterConnection),
}

/// The server that Sentinels name, as long as it answers.
pub(super) struct Named {
    sentinels: Mutex<SentinelClient>,
    current: parking_lot::Mutex<Option<MultiplexedConnection>>,
}

impl Connection {
    /// Connects for the first time.
    pub(super) async fn open(url: &RedisUrl) -> RedisResult<Self> {
        match tokio::time::timeout(CALL_TIMEOUT, Self::open_patiently(url)).await {
            Ok(opened) => opened,
            Err(_) => Err(too_late()),
        }
    }

    async fn open_patiently(url: &RedisUrl) -> RedisResult<Self> {
        match &url.0 {
            Place::Server(server) => {
                let config = ConnectionManagerConfig::new()
                    .set_connection_timeout(Some(CONNECT_TIMEOUT))
                    .set_response_timeout(Some(RESPONSE_TIMEOUT))
                    .set_number_of_retries(1);
                let client = Client::open(server.clone())?;
                Ok(Self::Server(ConnectionManager::new_with_config(client, config).await?))
            }
            Place::Sentinel { sentinels, master, access } => {
                let sentinels = sentinel_client(sentinels.clone(), master, access)?;
                let named =
                    Named { sentinels: Mutex::new(sentinels), current: parking_lot::Mutex::default() };
                named.connection().await?;
                Ok(Self::Sentinel(Box::new(named)))
            }
            Place::Cluster { nodes, access } => {
                let mut builder = ClusterClientBuilder::new(nodes.clone())
                    .connection_timeout(CONNECT_TIMEOUT)
                    .response_timeout(RESPONSE_TIMEOUT)
                    .retries(3);
                if access.tls {
                    builder = builder.tls(TlsMode::Secure);
                }
                if let Some(username) = &access.username {
                    builder = builder.username(username);
                }
                if let Some(password) = &access.password {
                    builder = builder.password(password);
                }
                Ok(Self::Cluster(builder.build()?.get_async_connection().await?))
            }
        }
    }

    /// Runs a script on the server that has its keys.
    pub(super) async fn run<T: FromRedisValue>(&self, script: ScriptInvocation<'_>) -> RedisResult<T> {
        match tokio::time::timeout(CALL_TIMEOUT, self.run_patiently(script)).await {
            Ok(answer) => answer,
            Err(_) => Err(too_late()),
        }
    }

    async fn run_patiently<T: FromRedisValue>(&self, script: ScriptInvocation<'_>) -> RedisResult<T> {
        match self {
            Self::Server(connection) => script.invoke_async(&mut connection.clone()).await,
            Self::Cluster(connection) => script.invoke_async(&mut connection.clone()).await,
            Self::Sentinel(named) => {
                let answer = script.invoke_async(&mut named.connection().await?).await;
                if let Err(error) = &answer {
                    named.doubt(error);
                }
                answer
            }
        }
    }
}

impl Named {
    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        if let Some(current) = self.current.lock().clone() {
            return Ok(current);
        }
        // One asks the Sentinels, the others wait for what it learns.
        let mut sentinels = self.sentinels.lock().await;
        if let Some(current) = self.current.lock().clone() {
            return Ok(current);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let connection = sentinels.get_async_connection_with_config(&config).await?;
        *self.current.lock() = Some(connection.clone());
        Ok(connection)
    }

    /// After some errors the Sentinels are asked anew: the server is gone, or it is not the master any more.
    fn doubt(&self, error: &RedisError) {
        let demoted = matches!(
            error.kind(),
            ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
        );
        if demoted || error.is_unrecoverable_error() || error.is_timeout() || error.is_io_error() {
            *self.current.lock() = None;
        }
    }
}

fn sentinel_client(
    sentinels: Vec<redis::ConnectionAddr>,
    master: &str,
    access: &Access,
) -> RedisResult<SentinelClient> {
    let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?
        .set_client_to_redis_db(access.database);
    if access.tls {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_sentinel_tls_mode(TlsMode::Secure);
    }
    if let Some(username) = &access.username {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = &access.password {
        builder = builder.set_client_to_redis_password(password);
    }
    builder.build()
}

fn too_late() -> RedisError {
    (ErrorKind::Io, "no answer in time").into()
}
