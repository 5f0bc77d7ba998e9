//! STUN and TURN servers for calls between peers, as the command line names them.

use std::str::FromStr;

use percent_encoding::percent_decode_str;
use webrtc::peer_connection::RTCIceServer;

/// A server (RFC 7064, RFC 7065), a TURN server with user and credential.
#[derive(Clone, PartialEq, Eq)]
pub struct IceServer {
    url: String,
    access: Option<(String, String)>,
}

/// Without the credential.
impl std::fmt::Debug for IceServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("IceServer").field(&self.url).finish()
    }
}

/// Why a text names no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIceServer {
    /// Another scheme.
    #[error("a server begins with stun: or turn:")]
    Scheme,
    /// Nothing behind it.
    #[error("a host is missing")]
    Host,
    /// No user, no credential, or both where there are none.
    #[error("turn: is followed by USER:CREDENTIAL@, and stun: is not")]
    Access,
}

impl FromStr for IceServer {
    type Err = InvalidIceServer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once(':').ok_or(InvalidIceServer::Scheme)?;
        let (access, host) = match rest.rsplit_once('@') {
            Some((access, host)) => (Some(access), host),
            None => (None, rest),
        };
        if host.is_empty() {
            return Err(InvalidIceServer::Host);
        }
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let access = match (scheme, access) {
            ("stun", None) => None,
            ("turn", Some(access)) => {
                let (user, credential) = access.split_once(':').ok_or(InvalidIceServer::Access)?;
                Some((decode(user), decode(credential)))
            }
            ("stun" | "turn", _) => return Err(InvalidIceServer::Access),
            _ => return Err(InvalidIceServer::Scheme),
        };
        Ok(Self { url: format!("{scheme}:{host}"), access })
    }
}

/// Those that a peer uses; without `turn` no TURN servers.
pub(crate) fn servers(all: &[IceServer], turn: bool) -> Vec<RTCIceServer> {
    let used = all.iter().filter(|server| turn || server.access.is_none());
    used.map(|server| {
        let (username, credential) = server.access.clone().unwrap_or_default();
        RTCIceServer { urls: vec![server.url.clone()], username, credential }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_server_has_a_user_and_is_used_by_those_who_want_it() {
        let read = |text: &str| text.parse::<IceServer>();
        let all = [read("stun:stun.example:3478").unwrap(), read("turn:a%3Ab:c@turn.example").unwrap()];
        let used = servers(&all, true);
        assert_eq!((used[1].urls[0].as_str(), used[1].username.as_str()), ("turn:turn.example", "a:b"));
        assert_eq!(servers(&all, false).len(), 1);
        for (text, error) in [
            ("stun", InvalidIceServer::Scheme),
            ("http://x", InvalidIceServer::Scheme),
            ("stun:", InvalidIceServer::Host),
            ("turn:host", InvalidIceServer::Access),
            ("stun:a:b@host", InvalidIceServer::Access),
        ] {
            assert_eq!(read(text), Err(error), "{text}");
        }
        assert!(!format!("{all:?}").contains("a:b"));
    }
}
