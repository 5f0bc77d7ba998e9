//! What peers send each other through the hub: the messages of peer-to-peer rooms (offer, answer, ice_candidate), with members of our own by
//! which two gateways tell several connections apart. Pages know nothing of those, and have one connection with each peer.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use webrtc::peer_connection::RTCIceCandidateInit;

/// Longest text in a member.
const MAX_TEXT: usize = 256;

/// A message, without the sender's name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Signal {
    Offer {
        sdp: String,
        metadata: Map<String, Value>,
    },
    Answer {
        sdp: String,
    },
    Candidate(Option<RTCIceCandidateInit>),
    /// The connection is over.
    Leave,
}

/// A message as it is sent; `connection` is a name that whoever offered has given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wire {
    pub(crate) connection: Option<String>,
    pub(crate) signal: Signal,
}

#[derive(Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Raw {
    Offer {
        sdp: String,
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        metadata: Map<String, Value>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection_id: Option<String>,
        from_peer_id: String,
    },
    Answer {
        sdp: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection_id: Option<String>,
        from_peer_id: String,
    },
    IceCandidate {
        candidate: Option<RTCIceCandidateInit>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection_id: Option<String>,
        from_peer_id: String,
    },
    Leave {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection_id: Option<String>,
        from_peer_id: String,
    },
}

impl Wire {
    /// Reads what another peer sent; `None` if it is nothing that is known here.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (connection, signal) = match serde_json::from_str(text).ok()? {
            Raw::Offer { sdp, metadata, connection_id, .. } => {
                (connection_id, Signal::Offer { sdp, metadata })
            }
            Raw::Answer { sdp, connection_id, .. } => (connection_id, Signal::Answer { sdp }),
            Raw::IceCandidate { candidate, connection_id, .. } => {
                (connection_id, Signal::Candidate(candidate.filter(|one| !one.candidate.is_empty())))
            }
            Raw::Leave { connection_id, .. } => (connection_id, Signal::Leave),
        };
        let connection = connection.filter(|name| name.len() <= MAX_TEXT);
        Some(Self { connection, signal })
    }

    /// As the other peer gets it.
    pub(crate) fn text(self, from: &str) -> String {
        let (connection_id, from_peer_id) = (self.connection, from.to_owned());
        let raw = match self.signal {
            Signal::Offer { sdp, metadata } => Raw::Offer { sdp, metadata, connection_id, from_peer_id },
            Signal::Answer { sdp } => Raw::Answer { sdp, connection_id, from_peer_id },
            Signal::Candidate(candidate) => Raw::IceCandidate { candidate, connection_id, from_peer_id },
            Signal::Leave => Raw::Leave { connection_id, from_peer_id },
        };
        serde_json::to_string(&raw).expect("texts and maps of values can be written")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pages_messages_are_read() {
        let read = |text: &str| Wire::read(text).map(|wire| wire.signal);
        let offer = read(r#"{"type":"offer","sdp":"v=0","from_peer_id":"ben"}"#);
        assert_eq!(offer, Some(Signal::Offer { sdp: "v=0".to_owned(), metadata: Map::new() }));
        let candidate = r#"{"type":"ice_candidate","from_peer_id":"ben","candidate":{"candidate":"candidate:1 1 udp 1 127.0.0.1 9 typ host","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"abcd"}}"#;
        assert!(matches!(read(candidate), Some(Signal::Candidate(Some(_)))));
        let end = r#"{"type":"ice_candidate","from_peer_id":"ben","candidate":null}"#;
        assert_eq!(read(end), Some(Signal::Candidate(None)));
        for other in
            ["", "[]", r#"{"type":"peer_left","peer_id":"a"}"#, r#"{"type":"offer","from_peer_id":"a"}"#]
        {
            assert_eq!(read(other), None, "{other}");
        }
    }

    #[test]
    fn a_gateways_messages_come_back_as_they_were() {
        let metadata = Map::from_iter([("room".to_owned(), "kitchen".into())]);
        for signal in [
            Signal::Offer { sdp: "v=0".to_owned(), metadata },
            Signal::Answer { sdp: "v=0".to_owned() },
            Signal::Candidate(None),
            Signal::Leave,
        ] {
            let wire = Wire { connection: Some("mc-1".to_owned()), signal };
            let text = wire.clone().text("camera");
            assert!(text.contains(r#""from_peer_id":"camera""#), "{text}");
            assert_eq!(Wire::read(&text), Some(wire));
        }
    }
}
