//! Names of servers are looked up before anything connects to them, so that who asks for it hears what is wrong. What connects by TCP
//! does so through the [guard](crate::guard). By SRT, which is not GIO's, it is given the address: if it looked the name up again it could be told another
//! address than the one that was found to be reachable (DNS rebinding).

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
};

use kaigi_outbound::{Reach, http};
use url::{Host, Url};

use crate::target::host_of_url;

/// Why nothing can be connected to.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum AddressError {
    #[error("the URL names no host")]
    Url,
    #[error("host {0} is not known")]
    Unknown(String),
    #[error("{}", http::NOT_PUBLIC)]
    NotPublic,
}

/// Whether the URL's host has addresses, and only such as may be reached. May block.
pub(crate) fn check(url: &str, reach: Reach) -> Result<(), AddressError> {
    pinned(url, reach, 0).map(drop)
}

/// The URL with an address in place of the host's name, if not all may be reached; with each `turn` the next one that the name has. May block.
pub(crate) fn pinned(url: &str, reach: Reach, turn: usize) -> Result<Cow<'_, str>, AddressError> {
    pinned_by(url, reach, turn, |name| Ok((name, 0).to_socket_addrs()?.collect()))
}

fn pinned_by(
    url: &str,
    reach: Reach,
    turn: usize,
    look_up: impl Fn(&str) -> std::io::Result<Vec<SocketAddr>>,
) -> Result<Cow<'_, str>, AddressError> {
    if reach == Reach::Any {
        return Ok(url.into());
    }
    let parsed = Url::parse(url).map_err(|_| AddressError::Url)?;
    let name = match host_of_url(&parsed).ok_or(AddressError::Url)? {
        Host::Domain(name) => name,
        Host::Ipv4(address) => return literal(url, address.into(), reach),
        Host::Ipv6(address) => return literal(url, address.into(), reach),
    };
    let unknown = || AddressError::Unknown(name.clone());
    let found = look_up(&name).map_err(|_| unknown())?;
    if !found.iter().all(|address| reach.includes(address.ip())) {
        return Err(AddressError::NotPublic);
    }
    let address = found.get(turn % found.len().max(1)).ok_or_else(unknown)?.ip();
    with_host(url, address).map(Cow::from).ok_or(AddressError::Url)
}

fn literal(url: &str, address: IpAddr, reach: Reach) -> Result<Cow<'_, str>, AddressError> {
    match reach.includes(address) {
        true => Ok(url.into()),
        false => Err(AddressError::NotPublic),
    }
}

/// The same URL with another host; the rest stays as it is, letter by letter.
fn with_host(url: &str, address: IpAddr) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (format!("{user}@"), host),
        None => (String::new(), authority),
    };
    let port = host.rsplit_once(':').map(|(_, port)| format!(":{port}")).unwrap_or_default();
    let address = SocketAddr::new(address, 0).to_string();
    let address = address.strip_suffix(":0")?;
    Some(format!("{scheme}://{user}{address}{port}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(found: &[&str], url: &str, turn: usize) -> Result<String, AddressError> {
        let found: Vec<SocketAddr> =
            found.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect();
        pinned_by(url, Reach::Public, turn, |_| Ok(found.clone())).map(Cow::into_owned)
    }

    #[test]
    fn the_address_that_was_looked_at_is_the_one_that_is_connected_to() {
        let found = ["8.8.8.8", "2606:4700::1111"];
        for (url, expected) in [
            (
                "rtmp://live.example/app/k%20y?a=b@c",
                ["rtmp://8.8.8.8/app/k%20y?a=b@c", "rtmp://[2606:4700::1111]/app/k%20y?a=b@c"],
            ),
            (
                "rtsp://u:p@live.example:8554/s",
                ["rtsp://u:p@8.8.8.8:8554/s", "rtsp://u:p@[2606:4700::1111]:8554/s"],
            ),
            (
                "srt://live.example:9?streamid=a",
                ["srt://8.8.8.8:9?streamid=a", "srt://[2606:4700::1111]:9?streamid=a"],
            ),
        ] {
            for turn in 0..4 {
                assert_eq!(with(&found, url, turn).as_deref(), Ok(expected[turn % 2]));
            }
        }
    }

    #[test]
    fn a_name_that_has_an_address_inside_is_refused_whatever_else_it_has() {
        assert_eq!(
            with(&["8.8.8.8", "127.0.0.1"], "rtmp://live.example/a/b", 0),
            Err(AddressError::NotPublic)
        );
        assert_eq!(
            with(&[], "rtmp://live.example/a/b", 0),
            Err(AddressError::Unknown("live.example".into()))
        );
        assert_eq!(with(&[], "rtmp://192.168.1.1/a/b", 0), Err(AddressError::NotPublic));
        assert_eq!(with(&[], "rtmp://8.8.8.8/a/b", 0).as_deref(), Ok("rtmp://8.8.8.8/a/b"));
    }

    #[test]
    fn where_all_may_be_reached_nothing_is_looked_up() {
        let url = "rtmp://live.example/a/b";
        let never = |_: &str| -> std::io::Result<Vec<SocketAddr>> { panic!("looked up") };
        assert_eq!(pinned_by(url, Reach::Any, 0, never).as_deref(), Ok(url));
    }
}
