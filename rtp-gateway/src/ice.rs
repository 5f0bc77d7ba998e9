//! STUN and TURN servers for calls between peers, as the command line names them.

use std::str::FromStr;

use kaigi_room_client::{TurnAccess, TurnSecret};
use percent_encoding::percent_decode_str;
use webrtc::peer_connection::RTCIceServer;

/// Seconds for which credentials are good that are made here. They are looked at when a leg begins; one that lasts longer goes on.
const LIFETIME: u64 = 86_400;

/// A server (RFC 7064, RFC 7065); a TURN server with user and credential, or without where they are made by a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceServer {
    url: String,
    access: Option<TurnAccess>,
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
    /// No credential, or one where there is none.
    #[error("turn: may be followed by USER:CREDENTIAL@, and stun: not")]
    Access,
    /// Legs reach servers by UDP alone.
    #[error("the only transport is udp")]
    Transport,
}

/// There is a TURN server that nobody could use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} has neither USER:CREDENTIAL@ before its host nor a secret that credentials are made by (--turn-secret)"
)]
pub(crate) struct NoAccess(String);

impl FromStr for IceServer {
    type Err = InvalidIceServer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once(':').ok_or(InvalidIceServer::Scheme)?;
        let (access, host) = match rest.rsplit_once('@') {
            Some((access, host)) => (Some(access), host),
            None => (None, rest),
        };
        let (host, query) = host.split_once('?').map_or((host, None), |(host, query)| (host, Some(query)));
        if host.is_empty() {
            return Err(InvalidIceServer::Host);
        }
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let access = match (scheme, access) {
            ("stun" | "turn", None) => None,
            ("turn", Some(access)) => {
                let (user, credential) = access.split_once(':').ok_or(InvalidIceServer::Access)?;
                Some(TurnAccess { username: decode(user), credential: decode(credential) })
            }
            ("stun", Some(_)) => return Err(InvalidIceServer::Access),
            _ => return Err(InvalidIceServer::Scheme),
        };
        if query.is_some_and(|query| scheme == "stun" || query != "transport=udp") {
            return Err(InvalidIceServer::Transport);
        }
        Ok(Self { url: format!("{scheme}:{host}"), access })
    }
}

impl IceServer {
    fn is_turn(&self) -> bool {
        self.url.starts_with("turn:")
    }
}

/// All that there are.
#[derive(Clone, Debug)]
pub(crate) struct IceServers {
    servers: Vec<IceServer>,
    secret: Option<TurnSecret>,
}

impl IceServers {
    pub(crate) fn new(servers: Vec<IceServer>, secret: Option<TurnSecret>) -> Result<Self, NoAccess> {
        let closed = |server: &&IceServer| server.is_turn() && server.access.is_none() && secret.is_none();
        match servers.iter().find(closed) {
            Some(server) => Err(NoAccess(server.url.clone())),
            None => Ok(Self { servers, secret }),
        }
    }

    /// As a leg uses them that begins `now`, Unix time in seconds; without `turn` no TURN servers.
    pub(crate) fn for_leg(&self, turn: bool, now: u64) -> Vec<RTCIceServer> {
        let made = self.secret.as_ref().map(|secret| secret.access(now + LIFETIME));
        let used = self.servers.iter().filter(|server| turn || !server.is_turn());
        used.map(|server| {
            let access = server.access.clone().or_else(|| made.clone().filter(|_| server.is_turn()));
            let urls = vec![server.url.clone()];
            match access {
                Some(TurnAccess { username, credential }) => RTCIceServer { urls, username, credential },
                None => RTCIceServer { urls, ..RTCIceServer::default() },
            }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<IceServer, InvalidIceServer> {
        text.parse()
    }

    #[test]
    fn a_turn_server_has_a_user_and_is_used_by_those_who_want_it() {
        let all = vec![read("stun:stun.example:3478").unwrap(), read("turn:a%3Ab:c@turn.example").unwrap()];
        assert!(!format!("{all:?}").contains("\"c\""));
        let all = IceServers::new(all, None).unwrap();
        let used = all.for_leg(true, 0);
        assert_eq!((used[1].urls[0].as_str(), used[1].username.as_str()), ("turn:turn.example", "a:b"));
        assert_eq!(all.for_leg(false, 0).len(), 1);
        for (text, error) in [
            ("stun", InvalidIceServer::Scheme),
            ("http://x", InvalidIceServer::Scheme),
            ("turns:a:b@turn.example", InvalidIceServer::Scheme),
            ("stun:", InvalidIceServer::Host),
            ("turn:?transport=udp", InvalidIceServer::Host),
            ("turn:a@host", InvalidIceServer::Access),
            ("stun:a:b@host", InvalidIceServer::Access),
            ("turn:a:b@host?transport=tcp", InvalidIceServer::Transport),
        ] {
            assert_eq!(read(text), Err(error), "{text}");
        }
    }

    #[test]
    fn each_leg_has_a_credential_of_its_own_where_there_is_a_secret() {
        let all = || vec![read("turn:turn.example:3478?transport=udp").unwrap()];
        assert_eq!(IceServers::new(all(), None).unwrap_err(), NoAccess("turn:turn.example:3478".to_owned()));
        let secret: TurnSecret = "shared".parse().unwrap();
        let all = IceServers::new(all(), Some(secret)).unwrap();
        let users = [all.for_leg(true, 1000), all.for_leg(true, 1000)].map(|used| used[0].username.clone());
        assert!(users.iter().all(|user| user.starts_with("87400:")), "{users:?}");
        assert_ne!(users[0], users[1]);
    }
}
