//! What may be connected to.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use kaigi_outbound::Reach;
use parking_lot::Mutex;
use url::Url;

use super::socks::Destination;
use crate::target::{Policy, host_of_url, is_listed};

/// Hosts and ports, with how many passes there are for each.
type Passes = Arc<Mutex<HashMap<String, usize>>>;

/// Who pulls may be sent elsewhere, so that what can be pulled from is allowed at any time. Who pushes is not, and so there is a pass
/// for each server that is pushed to.
#[derive(Debug)]
pub(super) struct Rule {
    reach: Reach,
    ingest_hosts: Vec<String>,
    passes: Passes,
}

/// See [`super::pass`].
#[derive(Debug)]
pub(crate) struct Pass {
    passes: Passes,
    place: String,
}

impl Rule {
    pub(super) fn new(policy: &Policy) -> Self {
        Self { reach: policy.reach, ingest_hosts: policy.ingest_hosts.clone(), passes: Passes::default() }
    }

    pub(super) fn allows_host(&self, destination: &Destination) -> bool {
        is_listed(&destination.host(), &self.ingest_hosts)
            || self.passes.lock().contains_key(&destination.to_string().to_ascii_lowercase())
    }

    pub(super) fn allows_address(&self, address: IpAddr) -> bool {
        self.reach.includes(address)
    }

    /// `None` if the URL names no host.
    pub(super) fn pass(&self, url: &str) -> Option<Pass> {
        let url = Url::parse(url).ok()?;
        let standard = match url.scheme() {
            "rtmp" => 1935,
            "rtmps" => 443,
            "rtsp" => 554,
            "rtsps" => 322,
            _ => return None,
        };
        let place = format!("{}:{}", host_of_url(&url)?, url.port().unwrap_or(standard)).to_ascii_lowercase();
        *self.passes.lock().entry(place.clone()).or_default() += 1;
        Some(Pass { passes: Arc::clone(&self.passes), place })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut passes = self.passes.lock();
        if let Some(count) = passes.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                passes.remove(&self.place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Destination {
        let (host, port) = text.rsplit_once(':').unwrap();
        Destination::Name(host.into(), port.parse().unwrap())
    }

    #[test]
    fn a_server_that_is_pushed_to_is_allowed_while_it_is() {
        let policy = Policy { ingest_hosts: vec!["camera.example".into()], ..Policy::closed("/r") };
        let rule = Rule::new(&policy);
        assert!(rule.allows_host(&name("Camera.example:8554")));
        assert!(!rule.allows_host(&name("live.example:1935")));
        let passes = [rule.pass("rtmp://u:p@Live.example/a/b"), rule.pass("rtmp://live.example/a/c")];
        assert!(rule.allows_host(&name("live.example:1935")));
        assert!(!rule.allows_host(&name("live.example:22")), "another port");
        let [first, second] = passes;
        drop(first);
        assert!(rule.allows_host(&name("live.example:1935")), "another broadcast goes there");
        drop(second);
        assert!(!rule.allows_host(&name("live.example:1935")));
    }

    #[test]
    fn addresses_of_version_6_are_written_as_in_urls() {
        let rule = Rule::new(&Policy { ingest_hosts: vec!["none.example".into()], ..Policy::closed("/r") });
        let _pass = rule.pass("rtsps://[2606:4700::1111]/a");
        let destination = Destination::Address("[2606:4700::1111]:322".parse().unwrap());
        assert!(rule.allows_host(&destination));
    }
}
