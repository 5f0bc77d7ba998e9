//! The command line.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    ops::RangeInclusive,
    path::PathBuf,
    str::FromStr,
};

use clap::Parser;
use kaigi_telemetry::LogArgs;

use crate::{
    core::Secret,
    peers::{NearPeer, PeerRule},
    web::Upstream,
};

/// Relays clients' media whose networks let nothing else through: TURN and STUN by UDP, TCP and TLS
#[derive(Clone, Debug, Parser)]
#[command(name = "kaigi-turn-server", version)]
pub struct Args {
    /// How it logs.
    #[command(flatten)]
    pub log: LogArgs,
    /// IP address that clients connect to; :: is all of both versions
    #[arg(long, env = "KAIGI_BIND", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub bind: IpAddr,
    /// Port for clients, UDP and TCP; 0 takes a free one
    #[arg(long, env = "KAIGI_TURN_PORT", default_value_t = 3478)]
    pub port: u16,
    /// Port for clients by TLS, usually 5349 or 443; 0 takes a free one [default: none]
    #[arg(long, env = "KAIGI_TURNS_PORT", requires = "tls_cert", requires = "tls_key")]
    pub tls_port: Option<u16>,
    /// Certificate chain (PEM) for --tls-port, read anew when it changes
    #[arg(long, env = "KAIGI_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) for --tls-port
    #[arg(long, env = "KAIGI_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// Portals (their --proxy-listen), separated by commas, to whom HTTPS is passed on that comes to --tls-port, each behind a header of the
    /// PROXY protocol [default: only TURN is served there]
    #[arg(
        long,
        env = "KAIGI_TURN_HTTPS_TO",
        value_delimiter = ',',
        value_name = "HOST:PORT",
        requires = "tls_port"
    )]
    pub https_to: Vec<Upstream>,
    /// IP addresses that relayed addresses have, separated by commas, the first of each version (behind NAT: the public one)
    /// [default: that of --bind, or that from which this machine reaches others]
    #[arg(long, env = "KAIGI_ANNOUNCE", value_delimiter = ',')]
    pub announce: Vec<IpAddr>,
    /// UDP ports of relayed addresses
    #[arg(long, env = "KAIGI_TURN_RELAY_PORTS", value_name = "FIRST-LAST", default_value = "61000-65535")]
    pub relay_ports: Ports,
    /// Secret by which credentials are made, shared with the portals
    #[arg(long, env = "KAIGI_TURN_SECRET", hide_env_values = true)]
    pub secret: Secret,
    /// What the server calls itself towards clients
    #[arg(long, env = "KAIGI_TURN_REALM", default_value = "kaigi", value_parser = realm)]
    pub realm: String,
    /// Peers that may be reached beside the public internet, separated by commas: 10.1.0.0/16, 10.1.2.3:5000-5999, local:10000-10003
    /// (ports of this machine's addresses)
    #[arg(long, env = "KAIGI_TURN_ALLOW_PEERS", value_delimiter = ',', value_name = "PEERS")]
    pub allow_peers: Vec<PeerRule>,
    /// Peers that may not be reached, likewise, unless they are allowed by name; 0.0.0.0/0 and [::]/0 are all
    #[arg(long, env = "KAIGI_TURN_DENY_PEERS", value_delimiter = ',', value_name = "PEERS")]
    pub deny_peers: Vec<PeerRule>,
    /// Peers that are nearer than clients know, separated by commas: datagrams to the first address go to the second one
    #[arg(long, env = "KAIGI_TURN_NEAR_PEERS", value_delimiter = ',', value_name = "ANNOUNCED=LOCAL")]
    pub near_peers: Vec<NearPeer>,
    /// Allocations at a time; each has a port
    #[arg(long, env = "KAIGI_TURN_MAX_ALLOCATIONS", default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_allocations: u16,
    /// Of these, of one user; a browser makes one for each of its networks and each URL of the server
    #[arg(long, env = "KAIGI_TURN_MAX_ALLOCATIONS_PER_USER", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_allocations_per_user: u16,
    /// Kilobits a second of one allocation in each direction; what is more is dropped
    #[arg(long, env = "KAIGI_TURN_MAX_KBPS", default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(64..=10_000_000))]
    pub max_kbps: u64,
    /// Seconds after which an allocation ends that is not refreshed, at most
    #[arg(long, env = "KAIGI_TURN_MAX_LIFETIME", default_value_t = 3600, value_parser = clap::value_parser!(u64).range(60..=86_400))]
    pub max_lifetime: u64,
    /// Connections by TCP and TLS at a time
    #[arg(long, env = "KAIGI_TURN_MAX_CONNECTIONS", default_value_t = 2000, value_parser = clap::value_parser!(u16).range(1..))]
    pub max_connections: u16,
    /// Seconds for which it waits, once it is to end (SIGTERM), for allocations to end; new ones are refused
    #[arg(long, env = "KAIGI_DRAIN_TIMEOUT", default_value_t = 30)]
    pub drain_timeout: u64,
    /// Address for /health, /ready and /metrics; port 0 takes a free one
    #[arg(long, env = "KAIGI_HEALTH_LISTEN", default_value = "127.0.0.1:0")]
    pub health_listen: SocketAddr,
}

/// A range of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(pub RangeInclusive<u16>);

impl FromStr for Ports {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ports =
            text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        match ports {
            Some((first, last)) if (1..=last).contains(&first) => Ok(Self(first..=last)),
            _ => Err("FIRST-LAST is expected, from 1 to 65535"),
        }
    }
}

/// What fits into the attribute (RFC 8489 §14.9).
fn realm(text: &str) -> Result<String, &'static str> {
    let good =
        (1..=127).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'"');
    if good { Ok(text.to_owned()) } else { Err("1 to 127 printable ASCII characters without quotes") }
}

impl Args {
    /// The addresses that relayed addresses have, one of a version at most.
    #[must_use]
    pub fn relayed(&self) -> Vec<IpAddr> {
        let first = |is: fn(&&IpAddr) -> bool| self.announce.iter().find(is).copied();
        let announced: Vec<IpAddr> =
            [first(|ip| ip.is_ipv4()), first(|ip| ip.is_ipv6())].into_iter().flatten().collect();
        match announced.is_empty() {
            false => announced,
            true if !self.bind.is_unspecified() => vec![self.bind],
            true => outgoing(self.bind),
        }
    }
}

/// This machine's addresses on the way to others, of the versions that are listened on; loopback on a machine without a network.
fn outgoing(bind: IpAddr) -> Vec<IpAddr> {
    let towards = |bind: &str, other: &str| {
        // Nothing is sent.
        let socket = UdpSocket::bind(bind).ok()?;
        socket.connect(other).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let v4 = towards("0.0.0.0:0", "192.0.2.1:9").unwrap_or(Ipv4Addr::LOCALHOST.into());
    let v6 = towards("[::]:0", "[2001:db8::1]:9").filter(|_| bind.is_ipv6());
    [Some(v4), v6].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from([&["kaigi-turn-server", "--secret", "s"], args].concat())
    }

    #[test]
    fn relayed_addresses_are_those_that_are_announced() {
        let relayed =
            |args: &[&str]| parse(args).unwrap().relayed().iter().map(IpAddr::to_string).collect::<Vec<_>>();
        assert_eq!(
            relayed(&["--announce", "203.0.113.7,203.0.113.8,2001:db8::7"]),
            ["203.0.113.7", "2001:db8::7"]
        );
        assert_eq!(relayed(&["--bind", "127.0.0.1"]), ["127.0.0.1"]);
        assert_eq!(relayed(&["--bind", "0.0.0.0"]).len(), 1);
        assert!(!relayed(&["--bind", "::"]).is_empty());
    }

    #[test]
    fn what_can_not_be_is_refused() {
        for wrong in [
            &["--relay-ports", "9-8"][..],
            &["--relay-ports", "0-8"],
            &["--relay-ports", "1"],
            &["--tls-port", "443"],
            &["--realm", ""],
            &["--realm", "a\"b"],
            &["--max-kbps", "1"],
            &["--max-allocations", "0"],
            &["--allow-peers", "everybody"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        let encrypted = ["--tls-port", "443", "--tls-cert", "c", "--tls-key", "k"];
        assert!(parse(&encrypted).is_ok());
        assert!(parse(&["--https-to", "portal:8090"]).is_err(), "without a port for TLS");
        let shared = |to| parse(&[&encrypted[..], &["--https-to", to]].concat());
        assert_eq!(shared("portal:8090,[::1]:8090").unwrap().https_to.len(), 2);
        for wrong in ["", "portal", "portal:0", ":8090", "http://portal:8090", "a b:1"] {
            assert!(shared(wrong).is_err(), "{wrong:?}");
        }
        assert!(Args::try_parse_from(["kaigi-turn-server"]).is_err(), "without a secret");
    }
}
