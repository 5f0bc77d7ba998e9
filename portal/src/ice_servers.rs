//! STUN and TURN servers that clients are told of.

use std::{str::FromStr, sync::Arc, time::Duration};

use axum::http::HeaderValue;
use kaigi_room_client::{TurnAccess, TurnSecret};
use percent_encoding::percent_decode_str;
use serde::Serialize;

use crate::clock::UnixMillis;

/// Longest server as text, in bytes.
const MAX_LENGTH: usize = 512;

/// A server as clients are told of it: `RTCIceServer` of the W3C's WebRTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IceServer {
    /// The URI (RFC 7064, RFC 7065).
    urls: String,
    #[serde(flatten)]
    access: Option<Access>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Access {
    username: String,
    credential: String,
}

impl From<TurnAccess> for Access {
    fn from(TurnAccess { username, credential }: TurnAccess) -> Self {
        Self { username, credential }
    }
}

/// Why a text names no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIceServer {
    /// Another scheme.
    #[error("a server begins with stun:, stuns:, turn: or turns:")]
    Scheme,
    /// Not a host with perhaps a port and, of TURN, a transport.
    #[error("what follows is a host, perhaps a port, and for TURN perhaps ?transport=udp or ?transport=tcp")]
    Address,
    /// What stands before the host is no user and credential, or belongs to STUN.
    #[error("turn: and turns: may be followed by user:credential@, in printable ASCII, and the others not")]
    Access,
}

/// There is a TURN server that nobody could use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} has neither user:credential@ before its host nor a secret that credentials are made by (--turn-secret)"
)]
pub(crate) struct NoAccess(String);

/// The servers that clients are told of, with credentials of their own where there is a secret. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct IceServers {
    servers: Arc<[IceServer]>,
    secret: Option<TurnSecret>,
    lifetime: Duration,
}

impl IceServers {
    /// Credentials made by `secret` are good for `lifetime`.
    pub(crate) fn new(
        servers: &[IceServer],
        secret: Option<TurnSecret>,
        lifetime: Duration,
    ) -> Result<Self, NoAccess> {
        match servers.iter().find(|server| server.needs_access() && secret.is_none()) {
            Some(server) => Err(NoAccess(server.urls.clone())),
            None => Ok(Self { servers: servers.into(), secret, lifetime }),
        }
    }

    /// As a client is told of them who asks now.
    pub(crate) fn for_client(&self, now: UnixMillis) -> Vec<IceServer> {
        let end = now.0 / 1000 + self.lifetime.as_secs();
        let access = self.secret.as_ref().map(|secret| Access::from(secret.access(end)));
        let with_access = |server: &IceServer| {
            let mut server = server.clone();
            if server.needs_access() {
                server.access = access.clone();
            }
            server
        };
        self.servers.iter().map(with_access).collect()
    }
}

impl FromStr for IceServer {
    type Err = InvalidIceServer;

    fn from_str(text: &str) -> Result<Self, InvalidIceServer> {
        let text = text.trim();
        let (scheme, rest) = text.split_once(':').ok_or(InvalidIceServer::Scheme)?;
        let is_turn = match scheme {
            "stun" | "stuns" => false,
            "turn" | "turns" => true,
            _ => return Err(InvalidIceServer::Scheme),
        };
        if text.len() > MAX_LENGTH {
            return Err(InvalidIceServer::Address);
        }
        let (access, address) = match rest.rsplit_once('@') {
            Some((access, address)) => (Some(access), address),
            None => (None, rest),
        };
        let (host, query) =
            address.split_once('?').map_or((address, None), |(host, query)| (host, Some(query)));
        let is_host =
            !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
        let is_query =
            query.is_none_or(|query| is_turn && matches!(query, "transport=udp" | "transport=tcp"));
        if !is_host || !is_query {
            return Err(InvalidIceServer::Address);
        }
        if access.is_some() && !is_turn {
            return Err(InvalidIceServer::Access);
        }
        let access = access.map(|access| read_access(access).ok_or(InvalidIceServer::Access)).transpose()?;
        Ok(Self { urls: format!("{scheme}:{address}"), access })
    }
}

fn read_access(text: &str) -> Option<Access> {
    let (username, credential) = text.split_once(':')?;
    let read = |part: &str| {
        let part = percent_decode_str(part).decode_utf8().ok()?.into_owned();
        (!part.is_empty() && part.bytes().all(|b| (b' '..=b'~').contains(&b))).then_some(part)
    };
    Some(Access { username: read(username)?, credential: read(credential)? })
}

impl IceServer {
    fn needs_access(&self) -> bool {
        self.access.is_none() && self.urls.starts_with("turn")
    }

    /// The value of a `Link` header (RFC 9725 §4.6).
    pub(crate) fn link(&self) -> Option<HeaderValue> {
        let mut text = format!("<{}>; rel=\"ice-server\"", self.urls);
        if let Some(Access { username, credential }) = &self.access {
            let (username, credential) = (quoted(username), quoted(credential));
            text.push_str(&format!(
                "; username={username}; credential={credential}; credential-type=\"password\""
            ));
        }
        HeaderValue::from_str(&text).ok()
    }
}

/// A quoted string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn servers_are_told_to_pages_and_in_headers() {
        let stun: IceServer = "stun:stun.example:3478".parse().unwrap();
        assert_eq!(serde_json::to_value(&stun).unwrap(), json!({"urls": "stun:stun.example:3478"}));
        assert_eq!(stun.link().unwrap(), "<stun:stun.example:3478>; rel=\"ice-server\"");
        let turn: IceServer = "turns:aki:p%40s%22s@turn.example:443?transport=tcp".parse().unwrap();
        assert_eq!(
            serde_json::to_value(&turn).unwrap(),
            json!({"urls": "turns:turn.example:443?transport=tcp", "username": "aki", "credential": "p@s\"s"})
        );
        assert_eq!(
            turn.link().unwrap(),
            "<turns:turn.example:443?transport=tcp>; rel=\"ice-server\"; username=\"aki\"; credential=\"p@s\\\"s\"; credential-type=\"password\""
        );
    }

    fn turn(texts: &[&str], secret: Option<&str>) -> Result<IceServers, NoAccess> {
        let servers: Vec<IceServer> = texts.iter().map(|text| text.parse().unwrap()).collect();
        IceServers::new(&servers, secret.map(|secret| secret.parse().unwrap()), Duration::from_secs(3600))
    }

    #[test]
    fn clients_get_credentials_that_end() {
        let servers = turn(&["stun:a", "turn:b", "turns:u:c@d"], Some("north")).unwrap();
        let told = servers.for_client(UnixMillis(1_700_000_000_999));
        assert_eq!(told[0].access, None);
        let access = told[1].access.clone().unwrap();
        assert!(access.username.starts_with("1700003600:"), "{access:?}");
        assert_eq!(told[2].access.clone().unwrap().username, "u");
        let again = servers.for_client(UnixMillis(1_700_000_000_999));
        assert_ne!(again[1].access.clone().unwrap().username, access.username);
    }

    #[test]
    fn a_server_that_nobody_could_use_is_told_at_the_start() {
        assert_eq!(turn(&["stun:a", "turn:b"], None).unwrap_err(), NoAccess("turn:b".into()));
        assert!(turn(&["stun:a", "turn:u:c@b"], None).is_ok());
    }

    #[test]
    fn anything_else_is_refused() {
        use InvalidIceServer::{Access, Address, Scheme};
        for (text, why) in [
            ("", Scheme),
            ("http:a", Scheme),
            ("stun:", Address),
            ("stun:a b", Address),
            ("stun:a>", Address),
            ("stun:a?transport=udp", Address),
            ("turn:u:c@a?transport=x", Address),
            ("turn:u@a", Access),
            ("turn:u:c%0a@a", Access),
            ("stun:u:c@a", Access),
        ] {
            assert_eq!(text.parse::<IceServer>(), Err(why), "{text}");
        }
    }
}
