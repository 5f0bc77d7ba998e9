//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use kaigi_outbound::Reach;
use kaigi_telemetry::LogArgs;
use kaigi_worker::TrustArgs;

use crate::{
    events::EventSettings,
    group::Timing,
    registry::{RegistryConfig, StrategyOption},
    store::RedisUrl,
};

/// Decides who is alive and who serves what, and keeps the durable state.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "kaigi-cluster-manager", version)]
pub struct Args {
    /// Address for calls from the other processes; port 0 takes a free one
    #[arg(long, env = "KAIGI_LISTEN", default_value = "127.0.0.1:10080")]
    pub listen: SocketAddr,
    /// Address for /health, /ready and /metrics; port 0 takes a free one
    #[arg(long, env = "KAIGI_HEALTH_LISTEN", default_value = "127.0.0.1:0")]
    pub health_listen: SocketAddr,
    /// Directory for the store (kaigi.redb, unless there is --redis) and the first credentials (credentials.json); made if missing
    #[arg(long, env = "KAIGI_DATA_DIR", default_value = "./data")]
    pub data_dir: PathBuf,
    /// Keeps the durable state in Redis instead of a file: redis://[user:password@]host[:port][/database] (rediss:// for TLS),
    /// redis-sentinel://host[:port][,host…]/master-name, redis-cluster://host[:port][,host…]
    #[arg(long, env = "KAIGI_REDIS", value_name = "URL", hide_env_values = true)]
    pub redis: Option<RedisUrl>,
    /// What all keys in Redis begin with; several Kaigis can share a server under different ones
    #[arg(long, env = "KAIGI_REDIS_PREFIX", value_name = "TEXT", default_value = "kaigi", value_parser = redis_prefix)]
    pub redis_prefix: String,
    /// File with the key that credentials (of services, webhooks, secrets) are sealed with before they are stored: 32 bytes in base64.
    /// All cluster-managers on one Redis need the same one [default: seal.key in the data directory, made at the first start]
    #[arg(long, env = "KAIGI_SEAL_KEY_FILE", value_name = "FILE", conflicts_with = "seal_key")]
    pub seal_key_file: Option<PathBuf>,
    /// That key itself; better given by the environment than by a flag, which other users of the machine see
    #[arg(long, env = "KAIGI_SEAL_KEY", value_name = "BASE64", hide_env_values = true)]
    pub seal_key: Option<String>,
    #[command(flatten)]
    /// How the processes of the cluster know each other.
    pub trust: TrustArgs,
    /// Milliseconds after which a worker that is not heard counts as dead. Workers send six heartbeats in this time; shorter
    /// notices a hung process earlier and takes a busy machine for a dead one more easily (a process that ends is noticed at once)
    #[arg(long, env = "KAIGI_LEASE_MS", default_value_t = 3000, value_parser = clap::value_parser!(u64).range(300..=60_000))]
    pub lease_ms: u64,
    /// IP address or host name under which the other processes reach this one; default: that of --listen, unless it is all addresses.
    /// Where several cluster-managers share a Redis, the others notice the death of this one there at once
    #[arg(long, env = "KAIGI_INTERNAL_HOST", value_name = "HOST")]
    pub internal_host: Option<String>,
    /// Milliseconds after which another cluster-manager on the same Redis leads when the one that led is not heard of (if its process is
    /// dead and its machine is not, it is noticed at once). Shorter takes a busy machine for a dead one more easily
    #[arg(long, env = "KAIGI_LEADER_LEASE_MS", value_name = "MS", default_value_t = 1500, value_parser = clap::value_parser!(u64).range(1000..=60_000))]
    pub leader_lease_ms: u64,
    /// Who gets a new task: last-used, least-used, most-used, round-robin or randomly-pick; for one purpose alone:
    /// mixer=most-used (portal, conference, access, mixer, streaming). Separated by commas; default: least-used
    #[arg(long, env = "KAIGI_STRATEGY", value_delimiter = ',')]
    pub strategy: Vec<StrategyOption>,
    /// Events that are kept for those who come back and ask what they missed; each costs a kilobyte or so
    #[arg(long, env = "KAIGI_EVENTS_KEPT", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    pub events_kept: u32,
    /// Events that may wait for one webhook; with more, the oldest are lost
    #[arg(long, env = "KAIGI_WEBHOOK_QUEUE", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(16..=100_000))]
    pub webhook_queue: u32,
    /// Where webhooks may be sent: any, or public, which leaves out the own network and machine
    #[arg(long, env = "KAIGI_WEBHOOK_TARGETS", default_value_t = Reach::Any)]
    pub webhook_targets: Reach,
    /// Logs
    #[command(flatten)]
    pub log: LogArgs,
}

/// No braces, which mean something to a Redis cluster, and not long, as it stands in every key.
fn redis_prefix(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if text.is_empty() || text.len() > 64 || !text.chars().all(allowed) {
        return Err("1 to 64 letters, digits, - _ . :".to_owned());
    }
    Ok(text.to_owned())
}

impl Args {
    /// What is kept of events, and where webhooks may go.
    #[must_use]
    pub fn events(&self) -> EventSettings {
        EventSettings {
            kept: self.events_kept as usize,
            webhook_queue: self.webhook_queue as usize,
            targets: self.webhook_targets,
        }
    }

    /// The times of the group.
    #[must_use]
    pub fn timing(&self) -> Timing {
        Timing::new(Duration::from_millis(self.leader_lease_ms))
            .expect("the command line allows a second at least")
    }

    /// Where the other processes call this one, which listens there; empty = not known.
    #[must_use]
    pub fn endpoint(&self, scheme: &str, listening: SocketAddr) -> String {
        match &self.internal_host {
            Some(host) if host.contains(':') => format!("{scheme}://[{host}]:{}", listening.port()),
            Some(host) => format!("{scheme}://{host}:{}", listening.port()),
            None if listening.ip().is_unspecified() => String::new(),
            None => format!("{scheme}://{listening}"),
        }
    }

    /// What the registry goes by.
    #[must_use]
    pub fn registry(&self) -> RegistryConfig {
        RegistryConfig {
            lease: Duration::from_millis(self.lease_ms),
            strategies: self.strategy.iter().copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::registry::{Purpose, Strategy};

    #[test]
    fn redis_is_checked_before_anything_starts() {
        let parse = |args: &[&str]| Args::try_parse_from([&["x"], args].concat());
        assert!(parse(&[]).unwrap().redis.is_none());
        let args = parse(&["--redis", "redis://db/1", "--redis-prefix", "k-2"]).unwrap();
        assert_eq!(args.redis.unwrap().to_string(), "db:6379");
        assert!(parse(&["--redis", "db:6379"]).is_err());
        assert!(parse(&["--redis-prefix", "{k}"]).is_err());
    }

    #[test]
    fn what_is_kept_of_events_has_bounds() {
        let parse = |args: &[&str]| Args::try_parse_from([&["x"], args].concat());
        let args =
            parse(&["--events-kept", "16", "--webhook-queue", "20", "--webhook-targets", "public"]).unwrap();
        let settings = EventSettings { kept: 16, webhook_queue: 20, targets: Reach::Public };
        assert_eq!(args.events(), settings);
        assert_eq!(parse(&[]).unwrap().events(), EventSettings::default());
        for bad in [["--events-kept", "15"], ["--webhook-queue", "0"], ["--webhook-targets", "mine"]] {
            assert!(parse(&bad).is_err());
        }
    }

    #[test]
    fn the_others_are_told_an_address_that_they_can_call() {
        let parse = |args: &[&str]| Args::try_parse_from([&["x"], args].concat()).unwrap();
        let (one, all) = ("192.0.2.1:80".parse().unwrap(), "0.0.0.0:80".parse().unwrap());
        assert_eq!(parse(&[]).endpoint("http", one), "http://192.0.2.1:80");
        assert_eq!(parse(&[]).endpoint("https", all), "");
        assert_eq!(parse(&["--internal-host", "cm-1"]).endpoint("https", all), "https://cm-1:80");
        assert_eq!(
            parse(&["--internal-host", "2001:db8::1"]).endpoint("https", all),
            "https://[2001:db8::1]:80"
        );
        assert_eq!(parse(&["--leader-lease-ms", "2000"]).timing().lease(), Duration::from_secs(2));
        assert!(Args::try_parse_from(["x", "--leader-lease-ms", "999"]).is_err());
    }

    #[test]
    fn the_seal_key_comes_from_one_place() {
        let parse = |args: &[&str]| Args::try_parse_from([&["x"], args].concat());
        assert!(parse(&["--seal-key", "a2V5"]).is_ok() && parse(&["--seal-key-file", "key"]).is_ok());
        assert!(parse(&["--seal-key", "a2V5", "--seal-key-file", "key"]).is_err());
    }

    #[test]
    fn strategies_come_from_the_command_line() {
        let args =
            Args::try_parse_from(["x", "--strategy", "round-robin,mixer=most-used", "--lease-ms", "500"])
                .unwrap();
        let config = args.registry();
        assert_eq!(config.strategies.of(Purpose::Access), Strategy::RoundRobin);
        assert_eq!(config.strategies.of(Purpose::Mixer), Strategy::MostUsed);
        assert_eq!(config.lease, Duration::from_millis(500));
        assert!(Args::try_parse_from(["x", "--strategy", "best"]).is_err());
        assert!(Args::try_parse_from(["x", "--lease-ms", "0"]).is_err());
    }
}
