//! Reconnection tickets (client-portal protocol of OWT, "Reconnection"). Clients read `notAfter` only.

use base64::{Engine, engine::general_purpose::STANDARD};
use kaigi_proto::ids::ParticipantId;
use serde::{Deserialize, Serialize};

use crate::{clock::UnixMillis, seal};

/// How long a ticket is good. Clients ask for a new one a minute before.
const TICKET_LIFE_MS: u64 = 600_000;

/// A ticket as it is inside of its base64.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ticket {
    pub(crate) participant_id: String,
    /// Random; not signed, as in OWT.
    pub(crate) ticket_id: String,
    /// Milliseconds since 1970.
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
    pub(crate) signature: String,
}

impl Ticket {
    /// A ticket for `participant`, good from `now`, signed with `key`.
    pub(crate) fn issue(key: &str, participant: &ParticipantId, now: UnixMillis) -> Self {
        let (not_before, not_after) = (now.0, now.0 + TICKET_LIFE_MS);
        Self {
            participant_id: participant.to_string(),
            ticket_id: format!("{:016x}", rand::random::<u64>()),
            not_before,
            not_after,
            signature: seal::sign(
                key.as_bytes(),
                &[participant.as_str(), &not_before.to_string(), &not_after.to_string()],
            ),
        }
    }

    /// The text for the client.
    pub(crate) fn encode(&self) -> String {
        STANDARD.encode(serde_json::to_vec(self).expect("strings and numbers are always JSON"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_ticket_is_base64_of_json_that_clients_can_read() {
        let participant = ParticipantId::new("Abc_-1").unwrap();
        let text = Ticket::issue("key", &participant, UnixMillis(1_700_000_000_000)).encode();
        let json: Value = serde_json::from_slice(&STANDARD.decode(text).unwrap()).unwrap();
        assert_eq!(json["participantId"], "Abc_-1");
        assert_eq!(json["notAfter"], 1_700_000_600_000_u64);
        let signed = ["Abc_-1", "1700000000000", "1700000600000"];
        assert!(seal::verify(b"key", &signed, json["signature"].as_str().unwrap()));
    }
}
