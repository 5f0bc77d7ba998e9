//! STUN and TURN servers that clients are told of.

use std::str::FromStr;

use axum::http::HeaderValue;
use percent_encoding::percent_decode_str;
use serde::Serialize;

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

/// Why a text names no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIceServer {
    /// Another scheme.
    #[error("a server begins with stun:, stuns:, turn: or turns:")]
    Scheme,
    /// Not a host with perhaps a port and, of TURN, a transport.
    #[error("what follows is a host, perhaps a port, and for TURN perhaps ?transport=udp or ?transport=tcp")]
    Address,
    /// TURN without user and credential, or STUN with them.
    #[error("turn: and turns: are followed by user:credential@, in printable ASCII, and the others are not")]
    Access,
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
        if access.is_some() != is_turn {
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
            ("turn:a", Access),
            ("turn:u@a", Access),
            ("turn:u:c%0a@a", Access),
            ("stun:u:c@a", Access),
        ] {
            assert_eq!(text.parse::<IceServer>(), Err(why), "{text}");
        }
    }
}
