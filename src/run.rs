//! `kaigi run`: one process of a Kaigi that is spread over containers or machines, with what it needs of the place where it runs.

use std::{
    ffi::OsString,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Args;
use tokio::{net::lookup_host, time::sleep};

use crate::process::Process;

/// How long the cluster-manager's name may be unknown: containers that start together learn each other's names late.
const NAME_DEADLINE: Duration = Duration::from_secs(30);
/// Between two tries.
const NAME_PAUSE: Duration = Duration::from_millis(500);

/// Where an RTP gateway has its ports for devices.
const GATEWAY_ADDRESS: &str = "KAIGI_GATEWAY_RTP_ADDRESS";

/// What is run, and what of its settings depends on the place. All other settings are the process's own.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// Which
    #[arg(value_enum)]
    pub process: Process,
    /// gRPC endpoint of the cluster-manager, or of each of several, separated by commas
    #[arg(long, env = "KAIGI_CLUSTER", value_name = "URL", default_value = "http://127.0.0.1:10080")]
    pub cluster: String,
    /// Address for calls from the other processes
    #[arg(long, env = "KAIGI_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:10080")]
    pub listen: SocketAddr,
    /// Address for /health, /ready and /metrics
    #[arg(long, env = "KAIGI_HEALTH_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:9090")]
    pub health_listen: SocketAddr,
    /// IP address or host name under which the other processes reach this one [default: the address from which the cluster-manager is
    /// reached]
    #[arg(long, env = "KAIGI_INTERNAL_HOST", value_name = "HOST")]
    pub internal_host: Option<String>,
    /// IP address for media between nodes [default: likewise]
    #[arg(long, env = "KAIGI_LINK_ADDRESS", value_name = "IP")]
    pub link_address: Option<IpAddr>,
    /// File with the secret that the processes share, instead of KAIGI_CLUSTER_SECRET
    #[arg(long, env = "KAIGI_CLUSTER_SECRET_FILE", value_name = "FILE")]
    pub cluster_secret_file: Option<PathBuf>,
    /// File with the URL of Redis, instead of KAIGI_REDIS; read for the cluster-manager alone
    #[arg(long, env = "KAIGI_REDIS_FILE", value_name = "FILE")]
    pub redis_file: Option<PathBuf>,
    /// File with the secret that the portals share with TURN servers, instead of KAIGI_TURN_SECRET; read for the portal, the turn-server and the
    /// rtp-gateway alone
    #[arg(long, env = "KAIGI_TURN_SECRET_FILE", value_name = "FILE")]
    pub turn_secret_file: Option<PathBuf>,
    /// File with the IP addresses that clients are told, instead of KAIGI_ANNOUNCE: each machine's own; read for the access-node and the
    /// turn-server alone
    #[arg(long, env = "KAIGI_ANNOUNCE_FILE", value_name = "FILE")]
    pub announce_file: Option<PathBuf>,
    /// Directory of the programs [default: where this one is]
    #[arg(long, env = "KAIGI_BIN_DIR", value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Further arguments for the process
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub args: Vec<OsString>,
}

/// Why a process can't be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The place of the programs is not known.
    #[error("the directory of this program is not known; set --bin-dir")]
    NoBinDir,
    /// A file with a value can't be read.
    #[error("{path} can't be read: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A file with a value is empty.
    #[error("{0} is empty")]
    Empty(PathBuf),
    /// The same value is given twice.
    #[error("{0} and {0}_FILE are both given: one of them is the value")]
    Twice(&'static str),
    /// The cluster-manager's endpoint names no host.
    #[error("{0} names no host and port: http://host:port is expected")]
    Endpoint(String),
    /// The cluster-manager's host has no address, or none that can be reached from here.
    #[error(
        "the address from which {authority} is reached is not known: {source}; give --internal-host and --link-address"
    )]
    NoWay {
        /// Host and port.
        authority: String,
        /// What happened last.
        source: io::Error,
    },
}

/// A program to be executed in place of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Its file.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Set in its environment.
    pub env: Vec<(&'static str, OsString)>,
}

impl Run {
    /// Looks for what is not given. `variable` is this program's environment, `program_dir` where it is.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn prepare(
        self,
        variable: impl Fn(&str) -> Option<OsString>,
        program_dir: Option<&Path>,
    ) -> Result<Execution, RunError> {
        let bin_dir = self.bin_dir.or_else(|| program_dir.map(Path::to_owned)).ok_or(RunError::NoBinDir)?;
        let mut env: Vec<(&'static str, OsString)> = vec![
            ("KAIGI_LISTEN", self.listen.to_string().into()),
            ("KAIGI_HEALTH_LISTEN", self.health_listen.to_string().into()),
        ];
        let is = |process| self.process == process;
        let files = [
            ("KAIGI_CLUSTER_SECRET", self.cluster_secret_file, true),
            ("KAIGI_REDIS", self.redis_file, is(Process::ClusterManager)),
            (
                "KAIGI_TURN_SECRET",
                self.turn_secret_file,
                is(Process::Portal) || is(Process::TurnServer) || is(Process::RtpGateway),
            ),
            ("KAIGI_ANNOUNCE", self.announce_file, is(Process::AccessNode) || is(Process::TurnServer)),
        ];
        for (name, file, wanted) in files {
            let Some(file) = file.filter(|_| wanted) else { continue };
            if variable(name).is_some_and(|value| !value.is_empty()) {
                return Err(RunError::Twice(name));
            }
            env.push((name, value(&file)?.into()));
        }
        // The TURN server knows none of the others.
        if !is(Process::ClusterManager) && !is(Process::TurnServer) {
            let (host, link) = match (self.internal_host, self.link_address) {
                (Some(host), Some(link)) => (host, link),
                (host, link) => {
                    let own = own_address(&self.cluster).await?;
                    (host.unwrap_or_else(|| own.to_string()), link.unwrap_or(own))
                }
            };
            // Devices reach it where the other processes do, unless it is said where.
            if self.process == Process::RtpGateway && variable(GATEWAY_ADDRESS).is_none() {
                env.push((GATEWAY_ADDRESS, link.to_string().into()));
            }
            env.push(("KAIGI_CLUSTER", self.cluster.into()));
            env.push(("KAIGI_INTERNAL_HOST", host.into()));
            env.push(("KAIGI_LINK_ADDRESS", link.to_string().into()));
        }
        Ok(Execution { program: bin_dir.join(self.process.program()), args: self.args, env })
    }
}

/// The text of a file without the space around it.
fn value(path: &Path) -> Result<String, RunError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| RunError::File { path: path.to_owned(), source })?;
    match text.trim() {
        "" => Err(RunError::Empty(path.to_owned())),
        text => Ok(text.to_owned()),
    }
}

/// This machine's address on the way to the cluster-manager, waiting a while for its name to be known.
async fn own_address(cluster: &str) -> Result<IpAddr, RunError> {
    let refused = |endpoint: &str| RunError::Endpoint(endpoint.to_owned());
    let authorities =
        cluster.split(',').map(str::trim).map(|each| authority(each).ok_or_else(|| refused(each)));
    let authorities: Vec<&str> = authorities.collect::<Result<_, _>>()?;
    let began = Instant::now();
    loop {
        for authority in &authorities {
            let source = match own_address_towards(authority).await {
                Ok(own) => return Ok(own),
                Err(source) => source,
            };
            if began.elapsed() > NAME_DEADLINE {
                return Err(RunError::NoWay { authority: (*authority).to_owned(), source });
            }
        }
        sleep(NAME_PAUSE).await;
    }
}

/// Host and port of a URL.
fn authority(url: &str) -> Option<&str> {
    let (_scheme, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    let (host, port) = authority.rsplit_once(':')?;
    (!host.is_empty() && port.parse::<u16>().is_ok()).then_some(authority)
}

/// Connecting a UDP socket sends nothing; the system picks the address that packets on that way would have.
async fn own_address_towards(authority: &str) -> io::Result<IpAddr> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in lookup_host(authority).await? {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let own = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect(address)?;
            socket.local_addr()
        });
        match own {
            Ok(own) => return Ok(own.ip()),
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    async fn prepared(args: &[&str]) -> Result<Execution, RunError> {
        let line = Line::parse_from([&["run"], args].concat());
        line.run.prepare(|_| None, Some(Path::new("/programs"))).await
    }

    fn variable(execution: &Execution, name: &str) -> Option<String> {
        let (_, value) = execution.env.iter().find(|(n, _)| *n == name)?;
        Some(value.to_string_lossy().into_owned())
    }

    #[tokio::test]
    async fn a_worker_tells_the_others_the_address_from_which_it_reaches_the_cluster_manager() {
        let mixer = prepared(&["mixer-node", "--cluster", "http://127.0.0.1:10080/"]).await.unwrap();
        assert_eq!(mixer.program, Path::new("/programs/kaigi-mixer-node"));
        assert_eq!(variable(&mixer, "KAIGI_INTERNAL_HOST").as_deref(), Some("127.0.0.1"));
        assert_eq!(variable(&mixer, "KAIGI_LINK_ADDRESS").as_deref(), Some("127.0.0.1"));
        assert_eq!(variable(&mixer, "KAIGI_CLUSTER").as_deref(), Some("http://127.0.0.1:10080/"));
        assert_eq!(variable(&mixer, "KAIGI_LISTEN").as_deref(), Some("0.0.0.0:10080"));
        assert_eq!(variable(&mixer, "KAIGI_HEALTH_LISTEN").as_deref(), Some("0.0.0.0:9090"));

        assert_eq!(variable(&mixer, GATEWAY_ADDRESS), None);
        let gateway = ["rtp-gateway", "--link-address", "192.0.2.1"];
        let address = prepared(&gateway).await.unwrap();
        assert_eq!(variable(&address, GATEWAY_ADDRESS).as_deref(), Some("192.0.2.1"));
        let set = |name: &str| (name == GATEWAY_ADDRESS).then(|| "127.0.0.1".into());
        let line = Line::parse_from([&["run"], &gateway[..]].concat());
        let own = line.run.prepare(set, Some(Path::new("/programs"))).await.unwrap();
        assert_eq!(variable(&own, GATEWAY_ADDRESS), None);

        let given = ["--internal-host", "mixer.example", "--link-address", "192.0.2.1"];
        let unknown = ["mixer-node", "--cluster", "http://nowhere.invalid:1", "--", "--max-load", "0.5"];
        let mixer = prepared(&[&unknown[..3], &given, &unknown[3..]].concat()).await.unwrap();
        assert_eq!(variable(&mixer, "KAIGI_INTERNAL_HOST").as_deref(), Some("mixer.example"));
        assert_eq!(variable(&mixer, "KAIGI_LINK_ADDRESS").as_deref(), Some("192.0.2.1"));
        assert_eq!(mixer.args, ["--max-load", "0.5"]);
    }

    #[tokio::test]
    async fn an_endpoint_without_host_or_port_is_refused_at_once() {
        for wrong in [
            "cluster:10080",
            "http://cluster",
            "http://:10080",
            "http://cluster:http",
            "http://127.0.0.1:1,x",
        ] {
            let error = prepared(&["portal", "--cluster", wrong]).await.unwrap_err();
            assert!(matches!(error, RunError::Endpoint(_)), "{wrong}: {error}");
        }
        let several =
            prepared(&["portal", "--cluster", "http://127.0.0.1:1,http://127.0.0.2:1"]).await.unwrap();
        assert_eq!(variable(&several, "KAIGI_INTERNAL_HOST").as_deref(), Some("127.0.0.1"));
    }

    #[tokio::test]
    async fn secrets_come_from_files_and_reach_those_alone_who_need_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (secret, redis) = (file("secret", "shared\n"), file("redis", "redis://:hidden@db\n"));
        let announce = file("announce", "203.0.113.7,2001:db8::7\n");
        let turn = file("turn", "north\n");
        let files = ["--cluster-secret-file", &secret, "--redis-file", &redis, "--announce-file", &announce];
        let files = [&files[..], &["--turn-secret-file", &turn]].concat();
        let of = async |process: &str| prepared(&[&[process], &files[..]].concat()).await.unwrap();
        let (manager, access, portal) =
            (of("cluster-manager").await, of("access-node").await, of("portal").await);
        for each in [&manager, &access, &portal] {
            assert_eq!(variable(each, "KAIGI_CLUSTER_SECRET").as_deref(), Some("shared"));
            assert!(!each.args.iter().any(|arg| arg.to_string_lossy().contains("shared")));
        }
        assert_eq!(variable(&manager, "KAIGI_REDIS").as_deref(), Some("redis://:hidden@db"));
        assert_eq!(variable(&access, "KAIGI_ANNOUNCE").as_deref(), Some("203.0.113.7,2001:db8::7"));
        assert_eq!((variable(&portal, "KAIGI_REDIS"), variable(&portal, "KAIGI_ANNOUNCE")), (None, None));
        assert_eq!(variable(&manager, "KAIGI_INTERNAL_HOST"), None);
        let relay = of("turn-server").await;
        assert_eq!(variable(&relay, "KAIGI_ANNOUNCE"), variable(&access, "KAIGI_ANNOUNCE"));
        for (each, turn) in
            [(&relay, Some("north")), (&portal, Some("north")), (&access, None), (&manager, None)]
        {
            assert_eq!(variable(each, "KAIGI_TURN_SECRET").as_deref(), turn);
        }

        let empty = file("empty", " \n");
        let error = prepared(&["portal", "--cluster-secret-file", &empty]).await.unwrap_err();
        assert!(matches!(error, RunError::Empty(_)), "{error}");
        let error = prepared(&["portal", "--cluster-secret-file", "/nowhere"]).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere"), "{error}");
        let line = Line::parse_from(["run", "portal", "--cluster-secret-file", &secret]);
        let set = |name: &str| (name == "KAIGI_CLUSTER_SECRET").then(|| "another".into());
        let error = line.run.prepare(set, Some(Path::new("/programs"))).await.unwrap_err();
        assert!(matches!(error, RunError::Twice("KAIGI_CLUSTER_SECRET")), "{error}");
    }
}
