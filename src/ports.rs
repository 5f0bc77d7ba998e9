//! Ports: whether those for clients are free, and free ones for the processes among themselves.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use crate::settings::Settings;

/// Where internal ports are looked for: above the well-known services, below the range (32768 and up on Linux) from which the
/// system takes ports for outgoing connections, so that a process that restarts finds its port still free.
const INTERNAL: std::ops::Range<u16> = 20_000..32_000;

/// A port for clients can't be had.
#[derive(Debug, thiserror::Error)]
#[error("{kind} port {port} on {address} ({flag}): {reason}")]
pub struct PortTaken {
    /// TCP or UDP.
    pub kind: &'static str,
    /// The port.
    pub port: u16,
    /// Of which address.
    pub address: IpAddr,
    /// By which flag it can be changed.
    pub flag: &'static str,
    /// What the system says.
    pub reason: std::io::Error,
}

/// No internal ports are free.
#[derive(Debug, thiserror::Error)]
#[error("no {0} free TCP ports on 127.0.0.1 between {first} and {last}", first = INTERNAL.start, last = INTERNAL.end - 1)]
pub struct NoFreePorts(usize);

/// Those of the ports for clients that can't be listened on.
#[must_use]
pub fn taken(settings: &Settings) -> Vec<PortTaken> {
    let mut taken = Vec::new();
    let mut try_one = |kind, (flag, door): (_, SocketAddr), bound: std::io::Result<()>| {
        if let Err(reason) = bound {
            taken.push(PortTaken { kind, port: door.port(), address: door.ip(), flag, reason });
        }
    };
    for (flag, door) in settings.doors() {
        try_one("TCP", (flag, door), TcpListener::bind(door).map(drop));
    }
    for (flag, door) in settings.datagram_doors() {
        try_one("UDP", (flag, door), UdpSocket::bind(door).map(drop));
    }
    taken
}

/// That many free TCP ports on 127.0.0.1, none of them among `reserved`.
///
/// # Errors
/// If there are not as many.
pub fn free(count: usize, reserved: &[u16]) -> Result<Vec<SocketAddr>, NoFreePorts> {
    let start = rand::random_range(INTERNAL);
    let candidates = (start..INTERNAL.end).chain(INTERNAL.start..start);
    let mut held = Vec::with_capacity(count);
    for port in candidates.filter(|port| !reserved.contains(port)) {
        if held.len() == count {
            break;
        }
        held.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|listener| (listener, port)));
    }
    if held.len() < count {
        return Err(NoFreePorts(count));
    }
    Ok(held.into_iter().map(|(_, port)| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::options::Options;

    #[test]
    fn free_ports_are_distinct_and_can_be_listened_on() {
        let ports = free(20, &[]).unwrap();
        assert_eq!(ports.iter().collect::<HashSet<_>>().len(), 20);
        let held: Vec<_> = ports.iter().map(|port| TcpListener::bind(port).unwrap()).collect();
        let reserved: Vec<u16> = ports.iter().map(SocketAddr::port).collect();
        assert!(free(20, &reserved).unwrap().iter().all(|port| !ports.contains(port)));
        drop(held);
    }

    #[test]
    fn taken_ports_are_named_with_their_flag() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let others = free(2, &[port]).unwrap();
        let options = Options {
            bind: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            http_port: Some(others[0].port()),
            management_port: Some(port),
            media_port: Some(others[1].port()),
            media_workers: Some(1),
            bin_dir: Some("/".into()),
            ..Options::default()
        };
        let taken = taken(&Settings::new(options, None).unwrap());
        assert_eq!(taken.len(), 1, "{taken:?}");
        assert!(
            taken[0].to_string().starts_with(&format!("TCP port {port} on 127.0.0.1 (--management-port)"))
        );
    }

    #[test]
    fn the_media_port_of_each_worker_has_to_be_free() {
        let (media, third) = loop {
            let media = free(1, &[]).unwrap()[0].port();
            if let Ok(held) = UdpSocket::bind((Ipv4Addr::LOCALHOST, media + 2)) {
                break (media, held);
            }
        };
        let options = Options {
            bind: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            http_port: Some(1),
            management_port: Some(2),
            media_port: Some(media),
            media_workers: Some(3),
            bin_dir: Some("/".into()),
            ..Options::default()
        };
        let taken = taken(&Settings::new(options, None).unwrap());
        let udp = |port: u16| taken.iter().any(|taken| taken.kind == "UDP" && taken.port == port);
        assert!(udp(media + 2), "{taken:?}");
        drop(third);
    }
}
