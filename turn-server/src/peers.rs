//! Which peers may be reached through the server. Whoever has credentials sends from this machine, so that without a bound the server would be a way
//! into the network that it stands in.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    ops::RangeInclusive,
    str::FromStr,
};

use kaigi_outbound::Reach;

/// What a rule says of this machine's own addresses.
const LOCAL: &str = "local";

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    /// Leading bits that count.
    bits: u8,
}

impl Network {
    fn includes(self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                (own.to_bits() ^ other.to_bits()) & mask == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                (own.to_bits() ^ other.to_bits()) & mask == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Peers that are named: a network or an address with its ports, or ports of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRule {
    /// `None`: this machine's addresses.
    network: Option<Network>,
    ports: RangeInclusive<u16>,
}

/// Why a text names no peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPeerRule {
    /// No address, network or `local`.
    #[error(
        "an address, a network (10.0.0.0/8, [fd00::]/8) or \"local\" is expected, perhaps with :PORT or :FIRST-LAST"
    )]
    Network,
    /// More bits than an address has.
    #[error("an IPv4 address has 32 bits, an IPv6 address 128")]
    Bits,
    /// Not a port, or a range that ends before it begins.
    #[error("ports are PORT or FIRST-LAST, from 1 to 65535")]
    Ports,
}

impl FromStr for PeerRule {
    type Err = InvalidPeerRule;

    fn from_str(text: &str) -> Result<Self, InvalidPeerRule> {
        let text = text.trim();
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self { network: Some(alone(address)), ports: 0..=u16::MAX });
        }
        // An IPv6 address with anything behind it stands in brackets.
        let (host, rest) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or(InvalidPeerRule::Network)?,
            None => text.split_at(text.find(['/', ':']).unwrap_or(text.len())),
        };
        let (bits, ports) = rest.split_once(':').map_or((rest, None), |(bits, ports)| (bits, Some(ports)));
        let ports = ports.map_or(Ok(0..=u16::MAX), read_ports)?;
        if host == LOCAL && bits.is_empty() {
            return Ok(Self { network: None, ports });
        }
        let mut network = alone(host.parse().map_err(|_| InvalidPeerRule::Network)?);
        if !bits.is_empty() {
            let bits = bits.strip_prefix('/').and_then(|bits| bits.parse().ok());
            network.bits = bits.filter(|bits| *bits <= network.bits).ok_or(InvalidPeerRule::Bits)?;
        }
        Ok(Self { network: Some(network), ports })
    }
}

fn alone(address: IpAddr) -> Network {
    let address = address.to_canonical();
    Network { address, bits: if address.is_ipv4() { 32 } else { 128 } }
}

fn read_ports(text: &str) -> Result<RangeInclusive<u16>, InvalidPeerRule> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if (1..=last).contains(&first) => Ok(first..=last),
        _ => Err(InvalidPeerRule::Ports),
    }
}

/// Who may be a peer: whoever is allowed by name; else nobody who is denied by name, none of this machine's addresses, and nobody beyond the public
/// internet (private, shared, loopback, link-local, multicast, reserved addresses).
#[derive(Clone, Debug)]
pub struct Peers {
    allowed: Vec<PeerRule>,
    denied: Vec<PeerRule>,
    own: Vec<IpAddr>,
}

impl Peers {
    /// `own` are this machine's addresses.
    #[must_use]
    pub fn new(allowed: Vec<PeerRule>, denied: Vec<PeerRule>, own: Vec<IpAddr>) -> Self {
        Self { allowed, denied, own: own.iter().map(IpAddr::to_canonical).collect() }
    }

    /// Whether datagrams may go there, and come from there.
    #[must_use]
    pub fn allow(&self, peer: SocketAddr) -> bool {
        let address = peer.ip().to_canonical();
        let named = |rule: &PeerRule| self.is_of(rule, address) && rule.ports.contains(&peer.port());
        self.allowed.iter().any(named) || (self.is_open(address) && !self.denied.iter().any(named))
    }

    /// Whether that holds for any port of the address. Permissions are for addresses (RFC 8656 §9).
    #[must_use]
    pub fn allow_some_of(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let whole = |rule: &PeerRule| self.is_of(rule, address) && rule.ports == (0..=u16::MAX);
        self.allowed.iter().any(|rule| self.is_of(rule, address))
            || (self.is_open(address) && !self.denied.iter().any(whole))
    }

    fn is_open(&self, address: IpAddr) -> bool {
        Reach::Public.includes(address) && !self.own.contains(&address)
    }

    fn is_of(&self, rule: &PeerRule, address: IpAddr) -> bool {
        match rule.network {
            Some(network) => network.includes(address),
            None => address.is_loopback() || self.own.contains(&address),
        }
    }
}

/// Peers of this machine that clients know by another address: behind NAT that of the router, from which nothing may come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NearPeer {
    /// As clients know it.
    pub announced: IpAddr,
    /// Where it is.
    pub local: IpAddr,
}

impl FromStr for NearPeer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (announced, local) = text.split_once('=').ok_or("ANNOUNCED=LOCAL is expected")?;
        let (Ok(announced), Ok(local)) = (announced.trim().parse(), local.trim().parse()) else {
            return Err("both sides of = are IP addresses");
        };
        match (announced, local) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => Ok(Self { announced, local }),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                Err("both sides of = are of the same version")
            }
        }
    }
}

/// This machine's addresses.
#[must_use]
pub fn own_addresses() -> Vec<IpAddr> {
    let mut own: Vec<IpAddr> =
        if_addrs::get_if_addrs().unwrap_or_default().iter().map(if_addrs::Interface::ip).collect();
    own.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(allowed: &[&str], denied: &[&str], own: &[&str]) -> Peers {
        let rules = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Peers::new(rules(allowed), rules(denied), own.iter().map(|ip| ip.parse().unwrap()).collect())
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn without_a_rule_only_the_public_internet_is_reached() {
        let peers = peers(&[], &[], &["8.8.4.4"]);
        assert!(peers.allow(at("8.8.8.8:5")) && peers.allow(at("[2606:4700::1]:5")));
        for denied in [
            "127.0.0.1:5",
            "10.0.0.1:5",
            "172.20.0.1:5",
            "192.168.1.1:5",
            "169.254.169.254:80",
            "100.64.0.1:5",
            "224.0.0.1:5",
            "255.255.255.255:5",
            "0.0.0.0:5",
            "[::1]:5",
            "[::]:5",
            "[fe80::1]:5",
            "[fd00::1]:5",
            "[ff02::1]:5",
            "[::ffff:127.0.0.1]:5",
            "[64:ff9b::7f00:1]:5",
            // Its own address, though a public one.
            "8.8.4.4:3000",
        ] {
            assert!(!peers.allow(at(denied)), "{denied}");
            assert!(!peers.allow_some_of(at(denied).ip()), "{denied}");
        }
    }

    #[test]
    fn ports_of_this_machine_are_allowed_alone() {
        let peers = peers(&["local:10000-10003"], &[], &["192.168.1.2"]);
        assert!(
            peers.allow(at("192.168.1.2:10000"))
                && peers.allow(at("127.0.0.1:10003"))
                && peers.allow(at("[::1]:10001"))
        );
        assert!(!peers.allow(at("192.168.1.2:3000")) && !peers.allow(at("127.0.0.1:9999")));
        assert!(peers.allow_some_of("192.168.1.2".parse().unwrap()));
        assert!(!peers.allow_some_of("192.168.1.3".parse().unwrap()));
    }

    #[test]
    fn who_is_named_is_allowed_or_denied_and_allowed_counts_first() {
        let peers =
            peers(&["10.1.0.0/16:5000", "[fd00::]/8"], &["10.0.0.0/8", "8.8.0.0/16", "9.9.9.9:53"], &[]);
        assert!(peers.allow(at("10.1.2.3:5000")) && peers.allow(at("[fd12::1]:1")));
        assert!(!peers.allow(at("10.1.2.3:5001")) && !peers.allow(at("8.8.1.1:5")));
        assert!(!peers.allow(at("9.9.9.9:53")) && peers.allow(at("9.9.9.9:54")));
        assert!(
            peers.allow_some_of("9.9.9.9".parse().unwrap())
                && !peers.allow_some_of("8.8.1.1".parse().unwrap())
        );
    }

    #[test]
    fn rules_are_read_or_refused() {
        use InvalidPeerRule::{Bits, Network, Ports};
        for (text, why) in [
            ("", Network),
            ("example.org", Network),
            ("[::1", Network),
            ("local/8", Network),
            ("10.0.0.0/33", Bits),
            ("10.0.0.0/x", Bits),
            ("[::]/129", Bits),
            ("10.0.0.1:0", Ports),
            ("10.0.0.1:9-8", Ports),
            ("10.0.0.1:70000", Ports),
        ] {
            assert_eq!(text.parse::<PeerRule>(), Err(why), "{text}");
        }
        assert!("0.0.0.0/0".parse::<PeerRule>().is_ok() && "::1".parse::<PeerRule>().is_ok());
        assert_eq!(
            "203.0.113.7=127.0.0.1".parse::<NearPeer>().unwrap(),
            NearPeer { announced: "203.0.113.7".parse().unwrap(), local: "127.0.0.1".parse().unwrap() }
        );
        for wrong in ["203.0.113.7", "a=b", "203.0.113.7=::1"] {
            assert!(wrong.parse::<NearPeer>().is_err(), "{wrong}");
        }
    }
}
