//! Where an output may go: file names that can't leave their folder, and servers that may be pushed to.

use std::{
    net::{IpAddr, ToSocketAddrs},
    path::{Path, PathBuf},
};

use kaigi_proto::v1::{self, output_description};

/// Longest URL, in bytes.
const MAX_URL: usize = 2048;

/// What may be reached.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Folder of recordings.
    pub recordings: PathBuf,
    /// Whether servers with private, loopback or link-local addresses may be pushed to.
    pub private_targets: bool,
    /// Host names that may be pushed to; empty = all.
    pub allowed_hosts: Vec<String>,
}

/// A target that may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Files that begin so.
    Recording(PathBuf),
    /// RTMP or RTMPS, with credentials.
    Rtmp(String),
}

/// Why a target is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    /// Neither a recording nor a broadcast.
    #[error("the output has no target")]
    None,
    /// Containers are mkv.
    #[error("container {0} can't be written")]
    Container(String),
    /// Protocols are rtmp.
    #[error("protocol {0} can't be pushed")]
    Protocol(String),
    /// No URL of the protocol.
    #[error("the URL is none of the protocol")]
    Url,
    /// By the node's settings.
    #[error("pushing to {0} is not allowed")]
    NotAllowed(String),
    /// No such host.
    #[error("host {0} is not known")]
    UnknownHost(String),
}

impl Policy {
    /// Checks a target. Resolves host names: may block.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn check(
        &self,
        id: &str,
        target: Option<&output_description::Target>,
    ) -> Result<Target, TargetError> {
        match target {
            None => Err(TargetError::None),
            Some(output_description::Target::Recording(v1::RecordingTarget { container })) => {
                match container.as_str() {
                    // The id is made of letters, digits, - and _ only.
                    "mkv" => Ok(Target::Recording(self.recordings.join(Path::new(id)))),
                    other => Err(TargetError::Container(other.to_owned())),
                }
            }
            Some(output_description::Target::Broadcast(v1::BroadcastTarget { protocol, url })) => {
                if protocol != "rtmp" {
                    return Err(TargetError::Protocol(protocol.clone()));
                }
                self.check_host(url)?;
                Ok(Target::Rtmp(url.clone()))
            }
        }
    }

    fn check_host(&self, url: &str) -> Result<(), TargetError> {
        let (host, port) = host_of(url).ok_or(TargetError::Url)?;
        if !self.allowed_hosts.is_empty() && !self.allowed_hosts.iter().any(|other| other == host) {
            return Err(TargetError::NotAllowed(host.to_owned()));
        }
        if self.private_targets {
            return Ok(());
        }
        let addresses =
            (host, port).to_socket_addrs().map_err(|_| TargetError::UnknownHost(host.to_owned()))?;
        for address in addresses {
            if is_private(address.ip()) {
                return Err(TargetError::NotAllowed(host.to_owned()));
            }
        }
        Ok(())
    }
}

/// Host and port of an RTMP URL with an application and a stream.
fn host_of(url: &str) -> Option<(&str, u16)> {
    let (rest, standard) = match url.split_once("://")? {
        ("rtmp", rest) => (rest, 1935),
        ("rtmps", rest) => (rest, 443),
        _ => return None,
    };
    if url.len() > MAX_URL || url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return None;
    }
    let (authority, path) = rest.split_once('/')?;
    if path.is_empty() {
        return None;
    }
    let host_and_port = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match host_and_port.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match host_and_port.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (host_and_port, None),
        },
    };
    let port = port.map_or(Some(standard), |port| port.parse().ok())?;
    (!host.is_empty()).then_some((host, port))
}

/// Addresses inside of somebody's network.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_unspecified()
                || v4.is_broadcast()
                || v4.is_multicast()
                || shared
        }
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_private(v4.into()),
            None => {
                v6.is_loopback()
                    || v6.is_unspecified()
                    || v6.is_multicast()
                    || v6.is_unique_local()
                    || v6.is_unicast_link_local()
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy { recordings: "/r".into(), private_targets: false, allowed_hosts: Vec::new() }
    }
    fn broadcast(url: &str) -> output_description::Target {
        output_description::Target::Broadcast(v1::BroadcastTarget {
            protocol: "rtmp".into(),
            url: url.into(),
        })
    }

    #[test]
    fn what_is_no_rtmp_url_is_refused() {
        for bad in [
            "",
            "rtmp://",
            "rtmp://h",
            "rtmp://h/",
            "http://h/a/b",
            "rtmp:///a/b",
            "rtmp://h:x/a",
            "rtmp://h/a b",
            "rtmp://[::1/a",
        ] {
            assert_eq!(policy().check("id", Some(&broadcast(bad))), Err(TargetError::Url), "{bad}");
        }
    }

    #[test]
    fn inner_networks_are_out_of_reach_unless_allowed() {
        for url in [
            "rtmp://127.0.0.1/a/b",
            "rtmp://10.1.2.3/a/b",
            "rtmp://[::1]:1935/a/b",
            "rtmp://169.254.169.254/a/b",
            "rtmp://[::ffff:192.168.0.1]/a/b",
            "rtmp://localhost/a/b",
            "rtmp://0.0.0.0/a/b",
            "rtmp://user:pw@100.64.1.1/a/b",
        ] {
            let refused = policy().check("id", Some(&broadcast(url)));
            assert!(matches!(refused, Err(TargetError::NotAllowed(_))), "{url}: {refused:?}");
            let open = Policy { private_targets: true, ..policy() };
            assert_eq!(open.check("id", Some(&broadcast(url))), Ok(Target::Rtmp(url.into())));
        }
        assert!(policy().check("id", Some(&broadcast("rtmp://8.8.8.8/a/b"))).is_ok());
    }

    #[test]
    fn a_list_of_hosts_leaves_out_all_others() {
        let policy = Policy { allowed_hosts: vec!["live.example".into()], private_targets: true, ..policy() };
        assert!(policy.check("id", Some(&broadcast("rtmp://live.example/a/b"))).is_ok());
        assert!(policy.check("id", Some(&broadcast("rtmp://live.example.evil/a/b"))).is_err());
    }
}
