//! Reconnection tickets (client-portal protocol of OWT, "Reconnection"). Clients read `notAfter` only; the rest is for portals, any
//! of which finds the participant's place by its ticket.

use base64::{Engine, engine::general_purpose::STANDARD};
use kaigi_proto::ids::{ParticipantId, RoomId};
use serde::{Deserialize, Serialize};

use crate::{clock::UnixMillis, protocol::Version, seal};

/// By so much the clocks of two portals may differ, in milliseconds.
const CLOCK_SKEW_MS: u64 = 10_000;
/// Longest ticket, in bytes of its base64.
const MAX_LENGTH: usize = 4096;

/// Whom a ticket is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) participant: ParticipantId,
    pub(crate) room: RoomId,
    pub(crate) version: Version,
}

/// A ticket as it is inside of its base64.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ticket {
    pub(crate) participant_id: String,
    /// Random: a ticket is good once.
    pub(crate) ticket_id: String,
    /// Milliseconds since 1970.
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
    room_id: String,
    protocol: String,
    /// Of everything before.
    pub(crate) signature: String,
}

/// Why a ticket is not good. OWT's wording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TicketError {
    /// Or used before.
    #[error("Ticket is expired")]
    Expired,
    /// Or no ticket at all.
    #[error("Invalid reconnection ticket signature")]
    Signature,
}

impl Ticket {
    /// A ticket for `holder`, good from `now` for `life_ms`, signed with `key`.
    pub(crate) fn issue(key: &str, holder: &Holder, now: UnixMillis, life_ms: u64) -> Self {
        let mut ticket = Self {
            participant_id: holder.participant.to_string(),
            ticket_id: format!("{:032x}", rand::random::<u128>()),
            not_before: now.0,
            not_after: now.0 + life_ms,
            room_id: holder.room.to_string(),
            protocol: holder.version.name().to_owned(),
            signature: String::new(),
        };
        ticket.signature = ticket.signed(|parts| seal::sign(key.as_bytes(), parts));
        ticket
    }

    /// The text for the client.
    pub(crate) fn encode(&self) -> String {
        STANDARD.encode(serde_json::to_vec(self).expect("strings and numbers are always JSON"))
    }

    /// Reads a client's text.
    ///
    /// # Errors
    /// If it is no ticket.
    pub(crate) fn parse(text: &str) -> Result<Self, TicketError> {
        let bytes = Some(text).filter(|t| t.len() <= MAX_LENGTH).and_then(|t| STANDARD.decode(t).ok());
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or(TicketError::Signature)
    }

    /// Whom the ticket is for, if it is good at `now`.
    ///
    /// # Errors
    /// As the first check fails, in OWT's order.
    pub(crate) fn verify(&self, key: &str, now: UnixMillis) -> Result<Holder, TicketError> {
        if self.not_before > now.0.saturating_add(CLOCK_SKEW_MS) || self.not_after < now.0 {
            return Err(TicketError::Expired);
        }
        if !self.signed(|parts| seal::verify(key.as_bytes(), parts, &self.signature)) {
            return Err(TicketError::Signature);
        }
        let holder = || {
            Some(Holder {
                participant: ParticipantId::new(&self.participant_id).ok()?,
                room: RoomId::new(&self.room_id).ok()?,
                version: Version::named(&self.protocol)?,
            })
        };
        holder().ok_or(TicketError::Signature)
    }

    /// What the first use is remembered by.
    pub(crate) fn first_use(&self) -> String {
        format!("ticket-{}", self.ticket_id)
    }

    /// What the second use is remembered by: the answer to the first may have been lost.
    pub(crate) fn second_use(&self) -> String {
        format!("ticket-{}-again", self.ticket_id)
    }

    fn signed<T>(&self, with: impl FnOnce(&[&str]) -> T) -> T {
        let (from, to) = (self.not_before.to_string(), self.not_after.to_string());
        with(&[&self.participant_id, &from, &to, &self.ticket_id, &self.room_id, &self.protocol])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

    fn holder() -> Holder {
        Holder {
            participant: ParticipantId::new("Abc_-1").unwrap(),
            room: RoomId::new("655b9af6e53c84ffd6004150").unwrap(),
            version: Version::V1_2,
        }
    }

    #[test]
    fn a_ticket_is_base64_of_json_that_clients_can_read() {
        let text = Ticket::issue("key", &holder(), NOW, 600_000).encode();
        let json: Value = serde_json::from_slice(&STANDARD.decode(text).unwrap()).unwrap();
        assert_eq!(json["participantId"], "Abc_-1");
        assert_eq!(json["notBefore"], 1_700_000_000_000_u64);
        assert_eq!(json["notAfter"], 1_700_000_600_000_u64);
    }

    #[test]
    fn a_ticket_names_its_holder_for_its_life() {
        let ticket = Ticket::parse(&Ticket::issue("key", &holder(), NOW, 600_000).encode()).unwrap();
        assert_eq!(ticket.verify("key", NOW), Ok(holder()));
        assert_eq!(ticket.verify("key", UnixMillis(NOW.0 + 600_000)), Ok(holder()));
        assert_eq!(ticket.verify("key", UnixMillis(NOW.0 + 600_001)), Err(TicketError::Expired));
        assert_eq!(ticket.verify("key", UnixMillis(NOW.0 - 5000)), Ok(holder()), "of a clock that is behind");
        assert_eq!(ticket.verify("key", UnixMillis(NOW.0 - 60_000)), Err(TicketError::Expired));
    }

    #[test]
    fn nothing_in_it_can_be_altered() {
        let good = Ticket::issue("key", &holder(), NOW, 600_000);
        assert_eq!(good.verify("other", NOW), Err(TicketError::Signature));
        let alter: [fn(&mut Ticket); 6] = [
            |t| t.participant_id = "Other".into(),
            |t| t.ticket_id = "0".into(),
            |t| t.not_before -= 1,
            |t| t.not_after += 1,
            |t| t.room_id = "655b9af6e53c84ffd6004151".into(),
            |t| t.protocol = "1.0".into(),
        ];
        for alter in alter {
            let mut ticket = good.clone();
            alter(&mut ticket);
            assert_eq!(ticket.verify("key", NOW), Err(TicketError::Signature), "{ticket:?}");
        }
    }

    #[test]
    fn what_is_no_ticket_is_refused() {
        for text in ["", "?", "e30=", &"A".repeat(5000)] {
            assert_eq!(Ticket::parse(text), Err(TicketError::Signature), "{text}");
        }
    }
}
