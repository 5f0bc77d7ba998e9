//! The command line.

use std::net::{IpAddr, Ipv4Addr};

use kaigi_telemetry::LogArgs;
use kaigi_worker::WorkerArgs;

/// What a core forwards to twenty subscribers; to many it forwards more.
const PACKETS_PER_WORKER: f64 = 200_000.0;
/// See [`default_workers`].
const MOST_BY_DEFAULT: u16 = 16;

/// Terminates clients' WebRTC connections and forwards their media
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "kaigi-access-node", version)]
pub struct Args {
    /// How it logs.
    #[command(flatten)]
    pub log: LogArgs,
    /// Where the cluster is.
    #[command(flatten)]
    pub worker: WorkerArgs,
    /// IP address on which clients' media is received
    #[arg(long, env = "KAIGI_BIND", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub bind: IpAddr,
    /// Port for clients' media, UDP and TCP; 0 takes a free one
    #[arg(long, env = "KAIGI_MEDIA_PORT", default_value_t = 10_000)]
    pub media_port: u16,
    /// Threads that forward media, each with a port of its own: --media-port and those after it; default: as many as there are cores, 16 at most
    #[arg(long, env = "KAIGI_MEDIA_WORKERS", default_value_t = default_workers(), hide_default_value = true, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub workers: u16,
    /// Transports of a room that are kept on one thread before the room goes on on another one, too
    #[arg(long, env = "KAIGI_ROOM_TRANSPORTS_PER_WORKER", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..))]
    pub room_transports_per_worker: u16,
    /// Packets a second that this node is to send at most; near that number (--max-load of it) it gets no more participants. What its network
    /// interface bears, if that is less than its cores do; default: 200000 for each of --workers
    #[arg(long, env = "KAIGI_MAX_PACKETS", value_name = "N", value_parser = clap::value_parser!(u32).range(1_000..))]
    pub max_packets: Option<u32>,
    /// IP addresses that clients are told, separated by commas; default: that of --bind, or those of all interfaces
    #[arg(long, env = "KAIGI_ANNOUNCE", value_delimiter = ',')]
    pub announce: Vec<IpAddr>,
    /// IP address for media between nodes, reachable from all of them
    #[arg(long, env = "KAIGI_LINK_ADDRESS", default_value = "127.0.0.1")]
    pub link_address: IpAddr,
}

/// Threads that forward media if no number is given: one for each core. Between each two of them is a ring, so that a machine with very many
/// cores is better used by several access-nodes.
#[must_use]
pub fn default_workers() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cores).unwrap_or(u16::MAX).min(MOST_BY_DEFAULT)
}

/// There are no ports left for all workers.
#[derive(Debug, thiserror::Error)]
#[error("--workers {workers} need as many ports from {first} on, and the last is 65535")]
pub struct TooFewPorts {
    workers: u16,
    first: u16,
}

impl Args {
    /// How many packets a second it is to send at most.
    #[must_use]
    pub fn packets(&self) -> f64 {
        self.max_packets.map_or(PACKETS_PER_WORKER * f64::from(self.workers), f64::from)
    }

    /// The media port of a worker; 0 for any.
    ///
    /// # Errors
    /// If there is no such port.
    pub fn port_of(&self, number: u16) -> Result<u16, TooFewPorts> {
        if self.media_port == 0 {
            return Ok(0);
        }
        let too_few = TooFewPorts { workers: self.workers, first: self.media_port };
        self.media_port.checked_add(number).ok_or(too_few)
    }

    /// The addresses to announce: those given, else the one listened on, else those of all interfaces, loopback last.
    ///
    /// # Errors
    /// If the interfaces can't be read.
    pub fn announced(&self) -> std::io::Result<Vec<IpAddr>> {
        if !self.announce.is_empty() {
            return Ok(self.announce.clone());
        }
        if !self.bind.is_unspecified() {
            return Ok(vec![self.bind]);
        }
        // A socket for all IPv6 addresses takes IPv4, too. Link-local ones need a zone, which candidates have not.
        let is_usable = |ip: &IpAddr| match ip {
            IpAddr::V4(_) => true,
            IpAddr::V6(v6) => self.bind.is_ipv6() && !v6.is_unicast_link_local(),
        };
        let mut addresses: Vec<IpAddr> =
            if_addrs::get_if_addrs()?.iter().map(if_addrs::Interface::ip).filter(is_usable).collect();
        addresses.sort_by_key(IpAddr::is_loopback);
        addresses.dedup();
        Ok(addresses)
    }
}

/// Values of the candidate attributes (RFC 8839 §5.1): UDP and passive TCP (RFC 6544) on each address, UDP first. The earlier an
/// address, the higher its priority.
#[must_use]
pub fn candidates(addresses: &[IpAddr], port: u16) -> Vec<String> {
    // RFC 8445 §5.1.2: type preference of host candidates 126, for TCP lower; local preference; component 1.
    let priority = |kind: u32, index: usize| {
        let local = 65_535u32.saturating_sub(u32::try_from(index).unwrap_or(u32::MAX));
        kind << 24 | local << 8 | 255
    };
    let udp = addresses
        .iter()
        .enumerate()
        .map(|(i, ip)| format!("{} 1 udp {} {ip} {port} typ host", i + 1, priority(126, i)));
    let tcp = addresses.iter().enumerate().map(|(i, ip)| {
        format!("{} 1 tcp {} {ip} {port} typ host tcptype passive", addresses.len() + i + 1, priority(90, i))
    });
    udp.chain(tcp).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn what_is_announced() {
        let announced = |args: &[&str]| {
            let args = [&["kaigi-access-node"], args].concat();
            Args::parse_from(args).announced().unwrap()
        };
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(announced(&["--announce", "192.0.2.1,2001:db8::1"]), [ip("192.0.2.1"), ip("2001:db8::1")]);
        assert_eq!(announced(&["--bind", "127.0.0.1"]), [ip("127.0.0.1")]);
        assert_eq!(announced(&[]).last(), Some(&ip("127.0.0.1")));
        assert!(announced(&[]).iter().all(IpAddr::is_ipv4));
        let all = announced(&["--bind", "::"]);
        assert!(all.contains(&ip("127.0.0.1")) && all.contains(&ip("::1")));
    }

    #[test]
    fn each_worker_has_a_port() {
        let ports = |port: &str| {
            let args = Args::parse_from(["kaigi-access-node", "--workers", "3", "--media-port", port]);
            [0, 1, 2].map(|number| args.port_of(number).ok())
        };
        assert_eq!(ports("10000"), [Some(10_000), Some(10_001), Some(10_002)]);
        assert_eq!(ports("65534"), [Some(65_534), Some(65_535), None]);
        assert_eq!(ports("0"), [Some(0); 3]);
        assert!(Args::try_parse_from(["kaigi-access-node", "--workers", "0"]).is_err());
    }

    #[test]
    fn candidates_are_of_falling_priority() {
        let candidates = candidates(&["192.0.2.1".parse().unwrap(), "127.0.0.1".parse().unwrap()], 10_000);
        assert_eq!(
            candidates,
            [
                "1 1 udp 2130706431 192.0.2.1 10000 typ host",
                "2 1 udp 2130706175 127.0.0.1 10000 typ host",
                "3 1 tcp 1526726655 192.0.2.1 10000 typ host tcptype passive",
                "4 1 tcp 1526726399 127.0.0.1 10000 typ host tcptype passive",
            ]
        );
    }
}
