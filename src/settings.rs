//! What counts, once flags, environment, file and defaults are put together and checked.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use crate::{
    options::{LogFormat, Options, ProcessOptions, TlsMode},
    process::{Process, Replica},
    turn::{Encrypted, Turn, TurnSecret},
};

/// Most processes of a kind on one machine.
const MAX_REPLICAS: u16 = 16;
/// Flags of the ports that are taken by UDP as well as by TCP.
const BY_UDP: [&str; 2] = ["--media-port", "--turn-port"];

/// A combination of settings that can't work.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SettingsError {
    /// A port is 0: clients have to know it.
    #[error("{0} must not be 0")]
    PortZero(&'static str),
    /// Two things on one port.
    #[error("{0} and {1} are both {2}")]
    SamePort(&'static str, &'static str, u16),
    /// The media ports go beyond the last port, or have no number.
    #[error(
        "--media-workers {0} (1 to 64) of each access-node need as many ports from --media-port {1} on, and the last is 65535"
    )]
    TooFewMediaPorts(u16, u16),
    /// There are no ports for so many portals.
    #[error("--portals {0} need as many ports from {1} on, and the last is 65535")]
    TooFewPorts(u16, &'static str),
    /// None or too many of a process.
    #[error("{0} must be 1 to {MAX_REPLICAS}")]
    Replicas(&'static str),
    /// Each number has an address of its own, and so has `--bind`.
    #[error("--apart gives each process an address of its own machine, so --bind can't be {0}")]
    ApartAndBound(IpAddr),
    /// Several cluster-managers on a file.
    #[error("several cluster-managers need --redis: a file has one")]
    ManagersWithoutRedis,
    /// `tls = files` without them.
    #[error("--tls files needs --tls-cert and --tls-key")]
    TlsFilesMissing,
    /// Certificate or key for another mode, in which they would go unused.
    #[error("--tls-cert and --tls-key are for --tls files only")]
    TlsFilesUnused,
    /// What belongs to a TURN server that does not run.
    #[error("{0} is for the TURN server of --turn-port")]
    NoTurnServer(&'static str),
    /// A port is to be shared that there is not.
    #[error("--share-turns-port is for the port of --turns-port")]
    NoTurnsPort,
    /// TURN over TLS without a certificate.
    #[error("--turns-port needs a certificate: --tls self-signed, or --tls-cert and --tls-key")]
    TurnsWithoutCertificate,
    /// A secret that is none.
    #[error("--turn-secret is empty")]
    EmptyTurnSecret,
    /// Two seal keys.
    #[error("--seal-key and --seal-key-file are both given: one of them is the key")]
    TwoSealKeys,
    /// The programs can't be looked for beside this one.
    #[error("the directory of this program is not known; set --bin-dir")]
    NoBinDir,
}

/// Encryption of the ports for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// None.
    Off,
    /// By a certificate that the portal makes.
    SelfSigned,
    /// By these files (PEM).
    Files {
        /// Certificate chain.
        cert: PathBuf,
        /// Private key.
        key: PathBuf,
    },
}

impl Tls {
    /// The mode's name in options.
    #[must_use]
    pub fn mode(&self) -> TlsMode {
        match self {
            Self::Off => TlsMode::Off,
            Self::SelfSigned => TlsMode::SelfSigned,
            Self::Files { .. } => TlsMode::Files,
        }
    }
}

/// Where the key is that stored credentials are sealed with.
#[derive(Clone, PartialEq, Eq)]
pub enum SealKey {
    /// In the data directory, made at the first start.
    InDataDir,
    /// In this file.
    File(PathBuf),
    /// Here, in base64.
    Given(String),
}

/// Without the key itself.
impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::InDataDir => f.write_str("InDataDir"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Given(_) => f.write_str("Given(…)"),
        }
    }
}

/// A Kaigi on one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For all that lasts.
    pub data_dir: PathBuf,
    /// Redis for the durable state; absent = a file.
    pub redis: Option<String>,
    /// What stored credentials are sealed with.
    pub seal_key: SealKey,
    /// Where clients connect; where processes are [apart](Self::apart), where they reach the first of each kind.
    pub bind: IpAddr,
    /// Whether each number of a kind has a loopback address of its own, as if it were a machine.
    pub apart: bool,
    /// Signaling and web pages (TCP), of the first portal.
    pub http_port: u16,
    /// Management API (TCP), of the first portal.
    pub management_port: u16,
    /// Media (UDP and TCP): the first port of the first access-node.
    pub media_port: u16,
    /// Threads that forward media, and so media ports, of each access-node.
    pub media_workers: u16,
    /// The RTP gateway's REST API (TCP, on the loopback), if there is a gateway.
    pub gateway_port: Option<u16>,
    /// Where clients reach the media port; empty = at `bind`.
    pub announce: Vec<IpAddr>,
    /// What tokens name, if not what their buyers used.
    pub public_host: Option<String>,
    /// Encryption of signaling and management.
    pub tls: Tls,
    /// A TURN server of its own.
    pub turn: Option<Turn>,
    /// What credentials for TURN servers are made by, if it is given.
    pub turn_secret: Option<TurnSecret>,
    /// The built web pages, if there are any.
    pub web_root: Option<PathBuf>,
    /// Folder of recordings.
    pub recordings: PathBuf,
    /// Whether the sample application gives tokens to everybody.
    pub sample: bool,
    /// Log filter.
    pub log: String,
    /// Look of log lines.
    pub log_format: LogFormat,
    /// Where the programs are.
    pub bin_dir: PathBuf,
    /// What single processes get.
    options: Options,
}

/// One media worker for each core, of all access-nodes together; a machine with very many cores is better used by several.
fn cores(access_nodes: u16) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cores).unwrap_or(u16::MAX).div_ceil(access_nodes.max(1)).min(16)
}

impl Settings {
    /// Fills in defaults and checks. `program_dir` is where the running program is, if that is known.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn new(options: Options, program_dir: Option<&Path>) -> Result<Self, SettingsError> {
        let given = options.clone();
        let bin_dir =
            given.bin_dir.or_else(|| program_dir.map(Path::to_owned)).ok_or(SettingsError::NoBinDir)?;
        let data_dir = given.data_dir.unwrap_or_else(default_data_dir);
        let apart = given.apart.unwrap_or(false);
        if let Some(bind) = given.bind.filter(|bind| apart && *bind != IpAddr::V4(Ipv4Addr::LOCALHOST)) {
            return Err(SettingsError::ApartAndBound(bind));
        }
        let everywhere = if apart { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
        let names_files = given.tls_cert.is_some() || given.tls_key.is_some();
        let files = given.tls_cert.zip(given.tls_key);
        let certificate = match given.tls.unwrap_or_default() {
            TlsMode::SelfSigned => Some((data_dir.join("portal-cert.pem"), data_dir.join("portal-key.pem"))),
            TlsMode::Off | TlsMode::Files => files.clone(),
        };
        let is_shared = given.share_turns_port.unwrap_or(false);
        if is_shared && given.turns_port.is_none() {
            return Err(SettingsError::NoTurnsPort);
        }
        let turn = match (given.turn_port, given.turns_port, given.turn_host.filter(|host| !host.is_empty()))
        {
            (Some(port), turns_port, host) => {
                let encrypted = turns_port.map(|port| match certificate {
                    Some((cert, key)) => Ok(Encrypted { port, cert, key, is_shared }),
                    None => Err(SettingsError::TurnsWithoutCertificate),
                });
                Some(Turn { port, encrypted: encrypted.transpose()?, host })
            }
            (None, Some(_), _) => return Err(SettingsError::NoTurnServer("--turns-port")),
            (None, None, Some(_)) => return Err(SettingsError::NoTurnServer("--turn-host")),
            (None, None, None) => None,
        };
        let is_for_turns = turn.as_ref().is_some_and(|turn| turn.encrypted.is_some());
        let settings = Self {
            redis: given.redis,
            seal_key: match (given.seal_key_file, given.seal_key) {
                (None, None) => SealKey::InDataDir,
                (Some(file), None) => SealKey::File(file),
                (None, Some(key)) => SealKey::Given(key),
                (Some(_), Some(_)) => return Err(SettingsError::TwoSealKeys),
            },
            bind: given.bind.unwrap_or(IpAddr::V4(everywhere)),
            apart,
            http_port: given.http_port.unwrap_or(8080),
            management_port: given.management_port.unwrap_or(3000),
            media_port: given.media_port.unwrap_or(10_000),
            media_workers: given.media_workers.unwrap_or_else(|| {
                cores(options.count(Process::AccessNode).or(options.replicas).unwrap_or(1))
            }),
            gateway_port: given.gateway_port,
            announce: given.announce.unwrap_or_default(),
            public_host: given.public_host.filter(|host| !host.is_empty()),
            tls: match (given.tls.unwrap_or_default(), files) {
                (TlsMode::Off, None) if !names_files => Tls::Off,
                (TlsMode::Off, Some(_)) if is_for_turns => Tls::Off,
                (TlsMode::SelfSigned, None) if !names_files => Tls::SelfSigned,
                (TlsMode::Files, Some((cert, key))) => Tls::Files { cert, key },
                (TlsMode::Files, _) => return Err(SettingsError::TlsFilesMissing),
                (TlsMode::Off | TlsMode::SelfSigned, _) => return Err(SettingsError::TlsFilesUnused),
            },
            turn,
            turn_secret: given.turn_secret.map(TurnSecret::given).transpose()?,
            recordings: given.recordings.unwrap_or_else(|| data_dir.join("recordings")),
            data_dir,
            web_root: given.web_root.or_else(|| find_web_root(&bin_dir)),
            sample: given.sample.unwrap_or(true),
            log: given.log.unwrap_or_else(|| "info".to_owned()),
            log_format: given.log_format.unwrap_or_default(),
            bin_dir,
            options,
        };
        settings.check_counts()?;
        settings.check_ports()?;
        Ok(settings)
    }

    fn check_counts(&self) -> Result<(), SettingsError> {
        if self.options.replicas.is_some_and(|count| !(1..=MAX_REPLICAS).contains(&count)) {
            return Err(SettingsError::Replicas("--replicas"));
        }
        for process in Process::ALL.into_iter().filter(|process| !process.is_optional()) {
            if !(1..=MAX_REPLICAS).contains(&self.count(process)) {
                return Err(SettingsError::Replicas(process.count_flag()));
            }
        }
        if self.redis.is_none() && self.count(Process::ClusterManager) > 1 {
            return Err(SettingsError::ManagersWithoutRedis);
        }
        Ok(())
    }

    /// How many of that process run.
    #[must_use]
    pub fn count(&self, process: Process) -> u16 {
        let general = match process {
            Process::ClusterManager if self.redis.is_none() => None,
            _ => self.options.replicas,
        };
        self.options.count(process).or(general).unwrap_or(1)
    }

    /// All processes that run, in the order in which they start.
    pub fn replicas(&self) -> impl Iterator<Item = Replica> {
        Process::ALL
            .into_iter()
            .flat_map(|process| (1..=self.count(process)).map(move |number| Replica { process, number }))
    }

    fn check_ports(&self) -> Result<(), SettingsError> {
        let workers = u32::from(self.media_workers) * u32::from(self.count(Process::AccessNode));
        let end = u32::from(self.media_port) + workers;
        if !(1..=64).contains(&self.media_workers) || end > 1 << 16 {
            return Err(SettingsError::TooFewMediaPorts(self.media_workers, self.media_port));
        }
        let portals = self.count(Process::Portal);
        for (flag, first) in [("--http-port", self.http_port), ("--management-port", self.management_port)] {
            if u32::from(first) + u32::from(portals) > 1 << 16 {
                return Err(SettingsError::TooFewPorts(portals, flag));
            }
        }
        let ports = self.ports();
        for (i, (flag, port)) in ports.iter().enumerate() {
            if *port == 0 {
                return Err(SettingsError::PortZero(flag));
            }
            if let Some((other, _)) = ports[..i].iter().find(|(_, other)| other == port) {
                return Err(SettingsError::SamePort(other, flag, *port));
            }
        }
        Ok(())
    }

    /// The ports for clients, by their flags.
    #[must_use]
    pub fn ports(&self) -> Vec<(&'static str, u16)> {
        self.doors().into_iter().map(|(flag, address)| (flag, address.port())).collect()
    }

    /// The ports for clients with the addresses on which they are, by their flags.
    #[must_use]
    pub fn doors(&self) -> Vec<(&'static str, SocketAddr)> {
        let of = |process| (1..=self.count(process)).map(move |number| Replica { process, number });
        let of_portals = |flag, first: u16| {
            of(Process::Portal)
                .map(move |portal| (flag, self.address(portal, first.saturating_add(portal.index()))))
        };
        let media = of(Process::AccessNode).flat_map(|node| {
            let first = self.media_port_of(node);
            (0..self.media_workers)
                .map(move |number| ("--media-port", self.address(node, first.saturating_add(number))))
        });
        // The gateway's API is for this machine.
        let gateway =
            self.gateway_port.map(|port| ("--gateway-port", SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
        let turn = self.turn.iter().flat_map(Turn::ports);
        let turn = turn.map(|(flag, port)| (flag, SocketAddr::from((self.bind, port))));
        of_portals("--http-port", self.http_port)
            .chain(of_portals("--management-port", self.management_port))
            .chain(media)
            .chain(gateway)
            .chain(turn)
            .collect()
    }

    /// Those of them that are taken by UDP as well.
    pub fn datagram_doors(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        self.doors().into_iter().filter(|(flag, _)| BY_UDP.contains(flag))
    }

    /// The ports for media, of all access-nodes.
    pub fn media_ports(&self) -> impl Iterator<Item = u16> {
        self.ports().into_iter().filter(|(flag, _)| *flag == "--media-port").map(|(_, port)| port)
    }

    fn address(&self, replica: Replica, port: u16) -> SocketAddr {
        SocketAddr::new(self.bind_of(replica), port)
    }

    /// Where clients connect to that process.
    #[must_use]
    pub fn bind_of(&self, replica: Replica) -> IpAddr {
        if self.apart { self.inside_of(replica) } else { self.bind }
    }

    /// Where other processes connect to that process.
    #[must_use]
    pub fn inside_of(&self, replica: Replica) -> IpAddr {
        // There are 16 at most.
        let machine = if self.apart { replica.number.try_into().unwrap_or(u8::MAX) } else { 1 };
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, machine))
    }

    /// The first port for media of an access-node.
    #[must_use]
    pub fn media_port_of(&self, node: Replica) -> u16 {
        self.media_port.saturating_add(self.media_workers.saturating_mul(node.index()))
    }

    /// What was given for one process.
    #[must_use]
    pub fn process(&self, process: Process) -> &ProcessOptions {
        self.options.of(process)
    }

    /// The program of one process.
    #[must_use]
    pub fn program(&self, process: Process) -> PathBuf {
        self.bin_dir.join(process.program())
    }

    /// Where a browser on this machine finds the web pages.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(self.http_port)
    }

    /// Where a program on this machine finds the management API.
    #[must_use]
    pub fn management_url(&self) -> String {
        self.url_of(self.management_port)
    }

    fn url_of(&self, port: u16) -> String {
        let scheme = if self.tls == Tls::Off { "http" } else { "https" };
        if self.bind.is_unspecified() || self.bind.is_loopback() {
            format!("{scheme}://localhost:{port}/")
        } else {
            format!("{scheme}://{}/", SocketAddr::new(self.bind, port))
        }
    }
}

/// `./data`.
#[must_use]
pub fn default_data_dir() -> PathBuf {
    PathBuf::from("./data")
}

/// Built web pages where they are in a checkout (seen from it, or from target/…) and in an installation.
fn find_web_root(bin_dir: &Path) -> Option<PathBuf> {
    let places = [
        PathBuf::from("web/dist"),
        bin_dir.join("../../web/dist"),
        bin_dir.join("../share/kaigi/web"),
        bin_dir.join("web"),
    ];
    places.into_iter().find(|place| place.join("index.html").is_file())
}
