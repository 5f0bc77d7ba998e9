//! What can be set, by the same names as flags, environment variables and members of the configuration file.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use clap::{ArgAction, Args, ValueEnum};
use serde::Deserialize;

use crate::process::Process;

/// What was given; absent = not given there. In the file the names are those of the flags without the dashes in front.
#[derive(Args, Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Options {
    /// Directory for all that lasts: the store, the first credentials, the self-signed certificate [default: ./data]
    #[arg(long, env = "KAIGI_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Redis that keeps the durable state, instead of a file in the data directory: redis://host:port, redis-sentinel://… or
    /// redis-cluster://… (kaigi-cluster-manager --help says more)
    #[arg(long, env = "KAIGI_REDIS", value_name = "URL", hide_env_values = true)]
    pub redis: Option<String>,
    /// File with the key that stored credentials are sealed with (32 bytes in base64) [default: seal.key in the data directory, made
    /// at the first start]
    #[arg(long, env = "KAIGI_SEAL_KEY_FILE", value_name = "FILE")]
    pub seal_key_file: Option<PathBuf>,
    /// That key itself; better given by the environment than by a flag, which other users of the machine see
    #[arg(long, env = "KAIGI_SEAL_KEY", value_name = "BASE64", hide_env_values = true)]
    pub seal_key: Option<String>,
    /// IP address that clients connect to, for signaling, management and media [default: 0.0.0.0, all]
    #[arg(long, env = "KAIGI_BIND", value_name = "IP")]
    pub bind: Option<IpAddr>,
    /// TCP port for signaling and web pages [default: 8080]
    #[arg(long, env = "KAIGI_HTTP_PORT", value_name = "PORT")]
    pub http_port: Option<u16>,
    /// TCP port for the management API [default: 3000]
    #[arg(long, env = "KAIGI_MANAGEMENT_PORT", value_name = "PORT")]
    pub management_port: Option<u16>,
    /// UDP and TCP port for media, the first of as many as --media-workers [default: 10000]
    #[arg(long, env = "KAIGI_MEDIA_PORT", value_name = "PORT")]
    pub media_port: Option<u16>,
    /// Threads that forward media, each with a media port: --media-port and those after it [default: one for each core, up to 16]
    #[arg(long, env = "KAIGI_MEDIA_WORKERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub media_workers: Option<u16>,
    /// IP addresses under which clients reach the media port, separated by commas (behind NAT: the public one)
    /// [default: those of --bind]
    #[arg(long, env = "KAIGI_ANNOUNCE", value_name = "IP", value_delimiter = ',')]
    pub announce: Option<Vec<IpAddr>>,
    /// Host name or address under which clients reach the portal; tokens name it [default: what the one who asks for a token used]
    #[arg(long, env = "KAIGI_PUBLIC_HOST", value_name = "HOST")]
    pub public_host: Option<String>,
    /// Encryption of the HTTP and management ports [default: off]
    #[arg(long, env = "KAIGI_TLS", value_enum)]
    pub tls: Option<TlsMode>,
    /// Certificate chain (PEM) for --tls files, and for --turns-port
    #[arg(long, env = "KAIGI_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) for --tls files, and for --turns-port
    #[arg(long, env = "KAIGI_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// UDP and TCP port of a TURN and STUN server of its own, usually 3478, for clients whose networks let nothing else through
    /// [default: there is none]
    #[arg(long, env = "KAIGI_TURN_PORT", value_name = "PORT")]
    pub turn_port: Option<u16>,
    /// TCP port of that server for TURN over TLS, usually 5349 or 443, with the certificate of --tls, or --tls-cert and --tls-key
    /// [default: none]
    #[arg(long, env = "KAIGI_TURNS_PORT", value_name = "PORT")]
    pub turns_port: Option<u16>,
    /// Whether --turns-port is for HTTPS, too: pages and signaling go by it to the portals, so that one port is enough [default: false]
    #[arg(long, env = "KAIGI_SHARE_TURNS_PORT", value_name = "BOOL", action = ArgAction::Set)]
    pub share_turns_port: Option<bool>,
    /// Host name or address under which clients reach that server [default: the first of --announce, --public-host, --bind, or
    /// the address from which this machine reaches others]
    #[arg(long, env = "KAIGI_TURN_HOST", value_name = "HOST")]
    pub turn_host: Option<String>,
    /// Secret by which credentials for TURN servers are made, its own and others [default: turn.secret in the data directory, made at
    /// the first start with --turn-port]
    #[arg(long, env = "KAIGI_TURN_SECRET", value_name = "TEXT", hide_env_values = true)]
    pub turn_secret: Option<String>,
    /// Directory of the built web pages [default: web/dist here, or beside the programs]
    #[arg(long, env = "KAIGI_WEB_ROOT", value_name = "DIR")]
    pub web_root: Option<PathBuf>,
    /// Whether the sample application may give everybody a token [default: true]
    #[arg(long, env = "KAIGI_SAMPLE", value_name = "BOOL", action = ArgAction::Set)]
    pub sample: Option<bool>,
    /// Folder of recordings [default: recordings in the data directory]
    #[arg(long, env = "KAIGI_RECORDINGS", value_name = "DIR")]
    pub recordings: Option<PathBuf>,
    /// What the processes log: a level, or `module=level` separated by commas [default: info]
    #[arg(long, env = "KAIGI_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How the processes' log lines look [default: text]
    #[arg(long, env = "KAIGI_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
    /// Directory of the programs [default: where this one is]
    #[arg(long, env = "KAIGI_BIN_DIR", value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Processes of each kind that run, so that any of them may end: what --cluster-managers, --portals and so on don't say
    /// otherwise; without --redis one cluster-manager [default: 1]
    #[arg(long, env = "KAIGI_REPLICAS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub replicas: Option<u16>,
    /// Cluster-managers that run: one leads, the others are ready to; several need --redis [default: --replicas]
    #[arg(long, env = "KAIGI_CLUSTER_MANAGERS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub cluster_managers: Option<u16>,
    /// Conference-agents that run [default: --replicas]
    #[arg(long, env = "KAIGI_CONFERENCE_AGENTS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub conference_agents: Option<u16>,
    /// Access-nodes that run: each has media ports of its own [default: --replicas]
    #[arg(long, env = "KAIGI_ACCESS_NODES", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub access_nodes: Option<u16>,
    /// Mixer-nodes that run [default: --replicas]
    #[arg(long, env = "KAIGI_MIXER_NODES", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub mixer_nodes: Option<u16>,
    /// Streaming-nodes that run [default: --replicas]
    #[arg(long, env = "KAIGI_STREAMING_NODES", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub streaming_nodes: Option<u16>,
    /// Portals that run: with --http-port and --management-port and those after them [default: --replicas]
    #[arg(long, env = "KAIGI_PORTALS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub portals: Option<u16>,
    /// Whether the first of each kind is on 127.0.0.1 with all its ports, the second on 127.0.0.2 and so on, as if each number were a
    /// machine: to try out on one what the death of one of several does [default: false]
    #[arg(long, env = "KAIGI_APART", value_name = "BOOL", action = ArgAction::Set)]
    pub apart: Option<bool>,
    /// Port on this machine's loopback of the RTP gateway's REST API; without it no gateway runs
    #[arg(long, env = "KAIGI_GATEWAY_PORT", value_name = "PORT")]
    pub gateway_port: Option<u16>,

    /// File only: what is passed on to the cluster-manager.
    #[arg(skip)]
    pub cluster_manager: ProcessOptions,
    /// File only: what is passed on to the conference-agent.
    #[arg(skip)]
    pub conference_agent: ProcessOptions,
    /// File only: what is passed on to the access-node.
    #[arg(skip)]
    pub access_node: ProcessOptions,
    /// File only: what is passed on to the mixer-node.
    #[arg(skip)]
    pub mixer_node: ProcessOptions,
    /// File only: what is passed on to the streaming-node.
    #[arg(skip)]
    pub streaming_node: ProcessOptions,
    /// File only: what is passed on to the turn-server.
    #[arg(skip)]
    pub turn_server: ProcessOptions,
    /// File only: what is passed on to the portal.
    #[arg(skip)]
    pub portal: ProcessOptions,
    /// File only: what is passed on to the RTP gateway.
    #[arg(skip)]
    pub rtp_gateway: ProcessOptions,
}

/// What one process gets beside what all get.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProcessOptions {
    /// Instead of the general log filter.
    pub log: Option<String>,
    /// Arguments after those that the launcher gives.
    pub args: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
}

/// Encryption of the ports for clients.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Plain HTTP.
    #[default]
    Off,
    /// A certificate made at the first start.
    SelfSigned,
    /// --tls-cert and --tls-key.
    Files,
}

impl TlsMode {
    /// As it is written in options.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::SelfSigned => "self-signed",
            Self::Files => "files",
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// As it is written in options.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// Why a configuration file is refused.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It can't be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// It is not TOML, or has an unknown name or a wrong value.
    #[error("{path}: {source}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
}

impl Options {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| FileError::Read { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|e| FileError::Parse { path: path.to_owned(), source: Box::new(e) })
    }

    /// What is given here, and for the rest what is given by `other`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            data_dir: self.data_dir.or(other.data_dir),
            redis: self.redis.or(other.redis),
            seal_key_file: self.seal_key_file.or(other.seal_key_file),
            seal_key: self.seal_key.or(other.seal_key),
            bind: self.bind.or(other.bind),
            http_port: self.http_port.or(other.http_port),
            management_port: self.management_port.or(other.management_port),
            media_port: self.media_port.or(other.media_port),
            media_workers: self.media_workers.or(other.media_workers),
            announce: self.announce.or(other.announce),
            public_host: self.public_host.or(other.public_host),
            tls: self.tls.or(other.tls),
            tls_cert: self.tls_cert.or(other.tls_cert),
            tls_key: self.tls_key.or(other.tls_key),
            turn_port: self.turn_port.or(other.turn_port),
            turns_port: self.turns_port.or(other.turns_port),
            share_turns_port: self.share_turns_port.or(other.share_turns_port),
            turn_host: self.turn_host.or(other.turn_host),
            turn_secret: self.turn_secret.or(other.turn_secret),
            web_root: self.web_root.or(other.web_root),
            sample: self.sample.or(other.sample),
            recordings: self.recordings.or(other.recordings),
            log: self.log.or(other.log),
            log_format: self.log_format.or(other.log_format),
            bin_dir: self.bin_dir.or(other.bin_dir),
            replicas: self.replicas.or(other.replicas),
            cluster_managers: self.cluster_managers.or(other.cluster_managers),
            conference_agents: self.conference_agents.or(other.conference_agents),
            access_nodes: self.access_nodes.or(other.access_nodes),
            mixer_nodes: self.mixer_nodes.or(other.mixer_nodes),
            streaming_nodes: self.streaming_nodes.or(other.streaming_nodes),
            portals: self.portals.or(other.portals),
            apart: self.apart.or(other.apart),
            gateway_port: self.gateway_port.or(other.gateway_port),
            cluster_manager: self.cluster_manager.or(other.cluster_manager),
            conference_agent: self.conference_agent.or(other.conference_agent),
            access_node: self.access_node.or(other.access_node),
            mixer_node: self.mixer_node.or(other.mixer_node),
            streaming_node: self.streaming_node.or(other.streaming_node),
            turn_server: self.turn_server.or(other.turn_server),
            portal: self.portal.or(other.portal),
            rtp_gateway: self.rtp_gateway.or(other.rtp_gateway),
        }
    }

    /// How many were asked for of one process.
    #[must_use]
    pub fn count(&self, process: Process) -> Option<u16> {
        match process {
            Process::ClusterManager => self.cluster_managers,
            Process::ConferenceAgent => self.conference_agents,
            Process::AccessNode => self.access_nodes,
            Process::MixerNode => self.mixer_nodes,
            Process::StreamingNode => self.streaming_nodes,
            Process::TurnServer => Some(u16::from(self.turn_port.is_some())),
            Process::Portal => self.portals,
            Process::RtpGateway => Some(u16::from(self.gateway_port.is_some())),
        }
    }

    /// What was given for one process.
    #[must_use]
    pub fn of(&self, process: Process) -> &ProcessOptions {
        match process {
            Process::ClusterManager => &self.cluster_manager,
            Process::ConferenceAgent => &self.conference_agent,
            Process::AccessNode => &self.access_node,
            Process::MixerNode => &self.mixer_node,
            Process::StreamingNode => &self.streaming_node,
            Process::TurnServer => &self.turn_server,
            Process::Portal => &self.portal,
            Process::RtpGateway => &self.rtp_gateway,
        }
    }
}

impl ProcessOptions {
    fn or(self, other: Self) -> Self {
        Self {
            log: self.log.or(other.log),
            args: if self.args.is_empty() { other.args } else { self.args },
            env: other.env.into_iter().chain(self.env).collect(),
        }
    }
}
