//! Where clients reach this portal: what tokens name.

use std::net::{IpAddr, Ipv4Addr};

use axum::http::{HeaderMap, header, uri::Authority};

/// Where clients reach this portal.
#[derive(Clone, Debug)]
pub(crate) struct PublicHost {
    /// Set by the operator, with or without a port.
    configured: Option<String>,
    /// If nothing else is known.
    fallback: IpAddr,
    port: u16,
    secure: bool,
}

impl PublicHost {
    /// `bind` and `port` are where the portal listens for clients.
    pub(crate) fn new(configured: Option<&str>, bind: IpAddr, port: u16, secure: bool) -> Self {
        let fallback = if bind.is_unspecified() { machine_address() } else { bind };
        Self { configured: configured.map(str::to_owned).filter(|c| !c.is_empty()), fallback, port, secure }
    }

    /// Whether clients use TLS.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    /// `host:port` without a request to go by.
    pub(crate) fn default_name(&self) -> String {
        match &self.configured {
            Some(host) => self.with_port(host),
            None => self.with_port(&self.fallback.to_string()),
        }
    }

    /// `host:port` for the one who sent a request with these headers: who reached the portal under one name, will again.
    pub(crate) fn named_to(&self, headers: &HeaderMap) -> String {
        if self.configured.is_some() {
            return self.default_name();
        }
        let host =
            headers.get(header::HOST).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<Authority>().ok());
        match host {
            Some(authority) if !authority.host().is_empty() && !authority.as_str().contains('@') => {
                format!("{}:{}", authority.host(), self.port)
            }
            _ => self.default_name(),
        }
    }

    fn with_port(&self, host: &str) -> String {
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{}", self.port),
            Ok(IpAddr::V4(address)) => format!("{address}:{}", self.port),
            Err(_) if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => {
                host.to_owned()
            }
            Err(_) => format!("{host}:{}", self.port),
        }
    }
}

/// This machine's addresses: those of its network interfaces, loopback last.
pub(crate) fn machine_addresses() -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> =
        if_addrs::get_if_addrs().unwrap_or_default().into_iter().map(|i| i.ip()).collect();
    addresses.sort_by_key(|a| (a.is_loopback(), a.is_ipv6()));
    addresses
}

fn machine_address() -> IpAddr {
    machine_addresses().first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn headers(host: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::HOST, host.parse().unwrap())])
    }

    #[test]
    fn the_name_that_was_used_is_given_back_with_the_signaling_port() {
        let host = PublicHost::new(None, LOOPBACK, 8080, false);
        assert_eq!(host.named_to(&headers("kaigi.example:3000")), "kaigi.example:8080");
        assert_eq!(host.named_to(&headers("192.168.1.5")), "192.168.1.5:8080");
        assert_eq!(host.named_to(&headers("[::1]:3000")), "[::1]:8080");
    }

    #[test]
    fn without_a_usable_name_the_address_is_given() {
        let host = PublicHost::new(None, LOOPBACK, 8080, false);
        assert_eq!(host.named_to(&HeaderMap::new()), "127.0.0.1:8080");
        assert_eq!(host.named_to(&headers("user@host")), "127.0.0.1:8080");
        assert_eq!(host.named_to(&headers("a b")), "127.0.0.1:8080");
    }

    #[test]
    fn what_the_operator_says_counts_most() {
        let named =
            |configured| PublicHost::new(Some(configured), LOOPBACK, 8080, true).named_to(&headers("other"));
        assert_eq!(named("kaigi.example"), "kaigi.example:8080");
        assert_eq!(named("kaigi.example:443"), "kaigi.example:443");
        assert_eq!(named("2001:db8::1"), "[2001:db8::1]:8080");
    }
}
