//! New identifiers.

use std::sync::Mutex;

use kaigi_proto::ids::ParticipantId;
use rand::{Rng, distr::Alphanumeric};

use crate::clock::UnixMillis;

/// Characters of a participant's id, as many as a Socket.IO socket id has.
const PARTICIPANT_ID_LENGTH: usize = 20;

/// A new participant's id.
///
/// It is not the Socket.IO session's id, though it looks like one: everybody in the room is told participants' ids, while whoever
/// knows a session's id can speak in that session's name by HTTP polling.
pub(crate) fn new_participant_id() -> ParticipantId {
    let id: String =
        rand::rng().sample_iter(Alphanumeric).take(PARTICIPANT_ID_LENGTH).map(char::from).collect();
    ParticipantId::new(id).expect("letters and digits are allowed")
}

/// A new token's id: 24 hex characters that can't be guessed.
pub(crate) fn new_token_id() -> String {
    hex::encode(rand::random::<[u8; 12]>())
}

/// Makes ids of 24 hex characters that rise with the time of creation, so that listing by id is listing by age: seconds (32 bits),
/// their fraction (16 bits), a counter for ids of the same moment (16 bits), and chance (32 bits) for what other portals make.
#[derive(Debug, Default)]
pub(crate) struct DocumentIds {
    last: Mutex<u64>,
}

impl DocumentIds {
    /// The next id.
    pub(crate) fn next(&self, now: UnixMillis) -> String {
        let fraction = (now.0 % 1000) * 65_536 / 1000;
        let moment = ((now.0 / 1000) << 32) | (fraction << 16);
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *last = moment.max(last.saturating_add(1));
        format!("{:016x}{:08x}", *last, rand::random::<u32>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_ids_rise() {
        let ids = DocumentIds::default();
        let times =
            [1_700_000_000_000, 1_700_000_000_000, 1_700_000_000_001, 1_699_999_999_000, 1_700_000_001_000];
        let made: Vec<_> = times.into_iter().map(|t| ids.next(UnixMillis(t))).collect();
        assert!(made.is_sorted(), "{made:?}");
        assert!(made.iter().all(|id| id.len() == 24 && id.bytes().all(|b| b.is_ascii_hexdigit())));
        assert_eq!(&made[0][..8], format!("{:08x}", 1_700_000_000));
    }

    #[test]
    fn participant_ids_have_no_character_that_ids_forbid() {
        assert_eq!(new_participant_id().as_str().len(), PARTICIPANT_ID_LENGTH);
        assert_ne!(new_participant_id(), new_participant_id());
    }
}
