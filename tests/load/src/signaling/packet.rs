//! Packets of Engine.IO 4 with those of Socket.IO 5 in them, as text.

use serde_json::Value;

/// The one event that clients wait for. Others, such as that somebody has joined, of which a room of thousands makes millions, are not read.
const PROGRESS: &str = "progress";

/// What the server says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Packet {
    /// The transport is open.
    Open,
    /// It has to be answered.
    Ping,
    /// The namespace is joined.
    Connected,
    /// An event that clients wait for, [`PROGRESS`], and its arguments.
    Event(String, Vec<Value>),
    /// The answer to a request.
    Ack(u64, Vec<Value>),
    /// It is over.
    Closed,
    /// Anything else.
    Other,
}

impl Packet {
    pub(super) fn parse(text: &str) -> Self {
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some('0'), _) => Self::Open,
            (Some('1'), _) | (Some('4'), Some('1' | '4')) => Self::Closed,
            (Some('2'), _) => Self::Ping,
            (Some('4'), Some('0')) => Self::Connected,
            (Some('4'), Some(kind @ ('2' | '3'))) => message(kind, &text[2..]).unwrap_or(Self::Other),
            _ => Self::Other,
        }
    }
}

fn message(kind: char, text: &str) -> Option<Packet> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let name = text[digits..].strip_prefix("[\"").and_then(|rest| rest.strip_prefix(PROGRESS));
    if kind == '2' && !name.is_some_and(|rest| rest.starts_with('"')) {
        return None;
    }
    let mut arguments: Vec<Value> = serde_json::from_str(&text[digits..]).ok()?;
    if kind == '3' {
        return Some(Packet::Ack(text[..digits].parse().ok()?, arguments));
    }
    let name = arguments.first()?.as_str()?.to_owned();
    arguments.remove(0);
    Some(Packet::Event(name, arguments))
}

/// A request that is to be answered.
pub(super) fn request(id: u64, name: &str, data: &Value) -> String {
    format!("42{id}{}", Value::from(vec![Value::from(name), data.clone()]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn packets_are_read() {
        assert_eq!(Packet::parse("0{\"sid\":\"x\"}"), Packet::Open);
        assert_eq!(Packet::parse("2"), Packet::Ping);
        assert_eq!(Packet::parse("40{\"sid\":\"x\"}"), Packet::Connected);
        assert_eq!(
            Packet::parse("4312[\"ok\",{\"id\":1}]"),
            Packet::Ack(12, vec![json!("ok"), json!({"id": 1})])
        );
        assert_eq!(Packet::parse("42[\"progress\",7]"), Packet::Event("progress".into(), vec![json!(7)]));
        for text in ["", "4", "42", "43[", "42[1]", "42[\"progress", "42[\"drop\"]", "4é", "9"] {
            assert_eq!(Packet::parse(text), Packet::Other, "{text}");
        }
        for text in ["1", "41", "44{}"] {
            assert_eq!(Packet::parse(text), Packet::Closed);
        }
    }

    #[test]
    fn requests_have_a_number() {
        assert_eq!(request(7, "login", &json!({"a": 1})), "427[\"login\",{\"a\":1}]");
    }
}
