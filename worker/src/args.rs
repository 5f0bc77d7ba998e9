//! The options that every worker process has.

use std::{net::SocketAddr, time::Duration};

use kaigi_proto::{ids::WorkerId, v1};

use crate::{Trust, TrustArgs};

/// Where the cluster is and where this worker listens inside it.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkerArgs {
    /// gRPC endpoint of the cluster-manager, or of each of several, separated by commas; a name that stands for several addresses
    /// does as well
    #[arg(long, env = "KAIGI_CLUSTER", default_value = "http://127.0.0.1:10080")]
    pub cluster: String,
    /// How the processes of the cluster know each other.
    #[command(flatten)]
    pub trust: TrustArgs,
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
    /// Seconds for which this worker, once it is to end (SIGTERM, `kaigi drain`), waits for what it can't hand over
    #[arg(long, env = "KAIGI_DRAIN_TIMEOUT", default_value_t = 30)]
    pub drain_timeout: u64,
    /// Internet providers that this worker serves, separated by commas; empty = all
    #[arg(long, env = "KAIGI_ISPS", value_delimiter = ',')]
    pub isps: Vec<String>,
    /// Regions that this worker serves, separated by commas; empty = all
    #[arg(long, env = "KAIGI_REGIONS", value_delimiter = ',')]
    pub regions: Vec<String>,
}

impl WorkerArgs {
    /// For how long this worker drains at most.
    #[must_use]
    pub fn drain_limit(&self) -> Duration {
        Duration::from_secs(self.drain_timeout)
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
    pub fn endpoint(&self, listening: SocketAddr, trust: &Trust) -> String {
        let scheme = trust.scheme();
        match &self.internal_host {
            Some(host) if host.contains(':') => format!("{scheme}://[{host}]:{}", listening.port()),
            Some(host) => format!("{scheme}://{host}:{}", listening.port()),
            None => format!("{scheme}://{listening}"),
        }
    }
}
