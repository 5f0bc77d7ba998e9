//! The options that every worker process has.

use std::net::SocketAddr;

use kaigi_proto::{auth::ClusterSecret, ids::WorkerId, v1};

/// Where the cluster is and where this worker listens inside it.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkerArgs {
    /// gRPC endpoint of the cluster-manager
    #[arg(long, env = "KAIGI_CLUSTER", default_value = "http://127.0.0.1:10080")]
    pub cluster: String,
    /// Secret that the processes of this cluster share; empty = no check
    #[arg(long, env = "KAIGI_CLUSTER_SECRET", default_value = "", hide_env_values = true)]
    pub cluster_secret: String,
    /// Address for calls from the other processes; port 0 takes a free one
    #[arg(long, env = "KAIGI_LISTEN", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Address for /health, /ready and /metrics; port 0 takes a free one
    #[arg(long, env = "KAIGI_HEALTH_LISTEN", default_value = "127.0.0.1:0")]
    pub health_listen: SocketAddr,
    /// IP address or host name under which the other processes reach this one; default: that of --listen
    #[arg(long, env = "KAIGI_INTERNAL_HOST")]
    pub internal_host: Option<String>,
    /// Above this load (0..1) no new tasks are given to this worker
    #[arg(long, env = "KAIGI_MAX_LOAD", default_value_t = 0.85)]
    pub max_load: f64,
    /// Internet providers that this worker serves, separated by commas; empty = all
    #[arg(long, env = "KAIGI_ISPS", value_delimiter = ',')]
    pub isps: Vec<String>,
    /// Regions that this worker serves, separated by commas; empty = all
    #[arg(long, env = "KAIGI_REGIONS", value_delimiter = ',')]
    pub regions: Vec<String>,
}

impl WorkerArgs {
    /// The secret, ready for use.
    #[must_use]
    pub fn secret(&self) -> ClusterSecret {
        ClusterSecret::new(&self.cluster_secret)
    }

    /// What is registered of this worker; `endpoint` is empty if others do not call it.
    #[must_use]
    pub fn describe(&self, id: &WorkerId, purpose: v1::Purpose, endpoint: String) -> v1::Worker {
        v1::Worker {
            worker_id: id.to_string(),
            purpose: purpose.into(),
            endpoint,
            max_load: self.max_load,
            isps: self.isps.clone(),
            regions: self.regions.clone(),
            ..v1::Worker::default()
        }
    }

    /// The endpoint to register, given where the server really listens.
    #[must_use]
    pub fn endpoint(&self, listening: SocketAddr) -> String {
        match &self.internal_host {
            Some(host) if host.contains(':') => format!("http://[{host}]:{}", listening.port()),
            Some(host) => format!("http://{host}:{}", listening.port()),
            None => format!("http://{listening}"),
        }
    }
}
