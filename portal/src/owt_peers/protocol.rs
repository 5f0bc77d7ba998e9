//! What OWT's peer-to-peer clients and their server say to each other (events of Socket.IO; OWT's `owt-server-p2p` and the sample
//! `sc.websocket.js` of its JavaScript SDK).

use serde_json::{Map, Value};

/// Longest message to another client, in bytes of JSON. What peers send each other has some 10 kB.
pub(super) const MAX_MESSAGE: usize = 96 << 10;
/// Longest name of a client, in bytes.
const MAX_UID: usize = 256;

/// Codes of OWT's `P2PError`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    ServerUnknown,
    ServerUnavailable,
    AuthUnknown,
    AuthFailed,
    TargetUnreachable,
    IllegalArgument,
}

impl Code {
    pub(super) fn number(self) -> u16 {
        match self {
            Self::ServerUnknown => 2100,
            Self::ServerUnavailable => 2101,
            Self::AuthUnknown => 2120,
            Self::AuthFailed => 2121,
            Self::TargetUnreachable => 2201,
            Self::IllegalArgument => 2402,
        }
    }

    /// How the answer to a message has it: OWT's server gives 2120 as a number and what comes of sending as a text, and its clients throw at
    /// numbers alone.
    pub(super) fn value(self) -> Value {
        match self {
            Self::AuthUnknown => self.number().into(),
            _ => self.number().to_string().into(),
        }
    }
}

/// Whether a text can be a client's name.
pub(super) fn is_uid(uid: &str) -> bool {
    (1..=MAX_UID).contains(&uid.len()) && !uid.chars().any(char::is_control)
}

/// A name for one who gives none, as OWT's server makes it.
pub(super) fn anonymous() -> String {
    format!("{}@anonymous", hex::encode(rand::random::<[u8; 16]>()))
}

/// A message for another client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) to: String,
    /// As the other gets it.
    pub(super) text: String,
}

impl Outgoing {
    /// Reads what a client sent. Its members reach the other as they are, but for those that say from whom and to whom.
    pub(super) fn read(data: Value, from: &str) -> Result<Self, Code> {
        let Value::Object(mut message) = data else { return Err(Code::IllegalArgument) };
        let Some(Value::String(to)) = message.remove("to") else { return Err(Code::TargetUnreachable) };
        message.insert("from".to_owned(), from.into());
        let text = Value::Object(message).to_string();
        if text.len() > MAX_MESSAGE { Err(Code::IllegalArgument) } else { Ok(Self { to, text }) }
    }
}

/// A message from another client, as the hub passed it on.
pub(super) fn incoming(text: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_reaches_the_other_with_its_sender() {
        let sent = json!({"to": "b", "from": "somebody", "data": "{\"type\":\"chat-signal\"}"});
        let Outgoing { to, text } = Outgoing::read(sent, "a").unwrap();
        assert_eq!(to, "b");
        let got = Value::Object(incoming(&text).unwrap());
        assert_eq!(got, json!({"from": "a", "data": "{\"type\":\"chat-signal\"}"}));
    }

    #[test]
    fn anything_else_has_owts_codes() {
        assert_eq!(Outgoing::read(json!("x"), "a"), Err(Code::IllegalArgument));
        assert_eq!(Outgoing::read(json!({"data": "x"}), "a"), Err(Code::TargetUnreachable));
        let long = json!({"to": "b", "data": "x".repeat(MAX_MESSAGE)});
        assert_eq!(Outgoing::read(long, "a"), Err(Code::IllegalArgument));
        assert_eq!(Code::TargetUnreachable.value(), json!("2201"));
        assert_eq!(Code::AuthUnknown.value(), json!(2120));
    }

    #[test]
    fn names_are_any_text_of_a_line() {
        assert!(is_uid("aki@example.com") && is_uid("愛子 2") && is_uid(&anonymous()));
        assert!(!is_uid("") && !is_uid("a\nb") && !is_uid(&"x".repeat(257)));
    }
}
