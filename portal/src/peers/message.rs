//! What peers and the server say to each other: JSON objects with a `type`, one to a text frame.

use serde_json::{Map, Value, json};

/// Longest message, in bytes. An offer with two m-lines has about 8 kB.
pub(super) const MAX_MESSAGE: usize = 64 << 10;
/// Longest name of a room or peer, in characters.
const MAX_NAME: usize = 64;

/// Whether a text can name a room or a peer: letters, digits, `.`, `_`, `~`, `-` and `@`.
pub(super) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-@".contains(&b))
}

/// A message for another peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) to: String,
    /// As the other gets it.
    pub(super) text: String,
}

impl Outgoing {
    /// Reads what a client sent. Its members reach the other as they are, but for those that say from whom and to whom.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(text: &str, from: &str) -> Result<Self, PeerError> {
        if text.len() > MAX_MESSAGE {
            return Err(PeerError::TooLarge);
        }
        let mut message: Map<String, Value> = serde_json::from_str(text).map_err(|_| PeerError::Malformed)?;
        match message.get("type").and_then(Value::as_str) {
            Some("offer" | "answer" | "ice_candidate") => {}
            Some(_) => return Err(PeerError::UnknownType),
            None => return Err(PeerError::Malformed),
        }
        let to = match message.remove("target_peer_id") {
            Some(Value::String(to)) => to,
            _ => return Err(PeerError::NoTarget),
        };
        message.insert("from_peer_id".to_owned(), from.into());
        Ok(Self { to, text: Value::Object(message).to_string() })
    }
}

/// Who is there already.
pub(super) fn existing_peers(peers: &[String]) -> String {
    json!({"type": "existing_peers", "peers": peers}).to_string()
}

pub(super) fn peer_joined(peer: &str) -> String {
    json!({"type": "peer_joined", "peer_id": peer}).to_string()
}

pub(super) fn peer_left(peer: &str) -> String {
    json!({"type": "peer_left", "peer_id": peer}).to_string()
}

/// Why something is not done. The text is what the client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PeerError {
    #[error("The message is no JSON object with a type")]
    Malformed,
    #[error("Messages are of type offer, answer or ice_candidate")]
    UnknownType,
    #[error("target_peer_id is missing")]
    NoTarget,
    #[error("Nobody of that name is in the room")]
    UnknownPeer,
    #[error("The message is longer than 65536 bytes")]
    TooLarge,
    #[error("Too many messages")]
    TooFast,
    #[error("Names have 1 to 64 letters, digits, or characters of . _ ~ - @")]
    InvalidName,
    #[error("The name is taken")]
    NameTaken,
    #[error("The room is full, or there are too many rooms")]
    Full,
    #[error("A token for this room and name is needed")]
    Unauthorized,
    #[error("Signaling is away at the moment")]
    Unavailable,
}

impl PeerError {
    /// The word for it, which programs go by.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::UnknownType => "unknown_type",
            Self::NoTarget => "no_target",
            Self::UnknownPeer => "unknown_peer",
            Self::TooLarge => "too_large",
            Self::TooFast => "too_fast",
            Self::InvalidName => "invalid_name",
            Self::NameTaken => "name_taken",
            Self::Full => "full",
            Self::Unauthorized => "unauthorized",
            Self::Unavailable => "unavailable",
        }
    }

    /// The close code (RFC 6455 §7.4) of those after which the socket is closed where they end it.
    pub(super) fn close_code(self) -> u16 {
        match self {
            Self::TooFast | Self::InvalidName => 1008,
            Self::TooLarge => 1009,
            Self::Full | Self::Unavailable => 1013,
            Self::Unauthorized => 4401,
            Self::NameTaken => 4409,
            Self::Malformed | Self::UnknownType | Self::NoTarget | Self::UnknownPeer => 1008,
        }
    }

    /// As the client is told; `to`: whom it was to reach.
    pub(super) fn text(self, to: Option<&str>) -> String {
        let mut error = json!({"type": "error", "code": self.code(), "message": self.to_string()});
        if let Some(to) = to {
            error["target_peer_id"] = to.into();
        }
        error.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reaches_the_other_with_its_sender() {
        let sent = r#"{"type":"ice_candidate","target_peer_id":"b","from_peer_id":"c","candidate":{"candidate":"x"}}"#;
        let Outgoing { to, text } = Outgoing::read(sent, "a").unwrap();
        assert_eq!(to, "b");
        let got: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            got,
            json!({"type": "ice_candidate", "from_peer_id": "a", "candidate": {"candidate": "x"}})
        );
    }

    #[test]
    fn anything_else_is_refused() {
        let long = format!(r#"{{"type":"offer","target_peer_id":"b","sdp":"{}"}}"#, "x".repeat(MAX_MESSAGE));
        for (text, error) in [
            ("", PeerError::Malformed),
            ("[]", PeerError::Malformed),
            ("{}", PeerError::Malformed),
            (r#"{"type":7}"#, PeerError::Malformed),
            (&"[".repeat(10_000), PeerError::Malformed),
            (r#"{"type":"peer_left","peer_id":"b"}"#, PeerError::UnknownType),
            (r#"{"type":"offer"}"#, PeerError::NoTarget),
            (r#"{"type":"offer","target_peer_id":["b"]}"#, PeerError::NoTarget),
            (&long, PeerError::TooLarge),
        ] {
            assert_eq!(Outgoing::read(text, "a"), Err(error), "{}", &text[..text.len().min(60)]);
        }
    }

    #[test]
    fn names_are_plain() {
        assert!(is_name("a") && is_name("Aki.2~x_y-z@home") && is_name(&"a".repeat(64)));
        for bad in ["", "a b", "a/b", "会", "<b>", "a\"", &"a".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
