//! Where sessions take place: rooms of a service that nobody has, one for each session that there may be at a time, made when it is first needed.

use kaigi_proto::ids::RoomId;
use kaigi_room_config::RoomConfig;
use tonic::Code;

use super::sessions::Slot;
use crate::{
    backend::{Backend, CallError},
    clock::UnixMillis,
    token::TokenRecord,
};

/// What owns the rooms: a service that nobody has, as its id is none that is ever given.
const SERVICE: &str = "echo";

/// The room of a slot. Portals share them, as sessions see nothing of each other.
pub(super) fn room_of(Slot(slot): Slot) -> RoomId {
    // "echo", in the form that all rooms' ids have.
    RoomId::new(format!("6563686f{slot:016x}")).expect("hex characters are allowed")
}

fn config(room: &RoomId, slot: Slot) -> RoomConfig {
    let mut config = RoomConfig::new(room.as_str(), &format!("echo {}", slot.0), SERVICE);
    // Nothing is mixed; what is sent can be had back in the same format, filtered or not.
    config.views.clear();
    config.media_in.video.clone_from(&config.media_out.video.format);
    config
}

/// Sees to it that the room is there.
pub(super) async fn ensure(backend: &Backend, slot: Slot) -> Result<RoomId, CallError> {
    let room = room_of(slot);
    if backend.room(&room).await?.is_none() {
        match backend.create_room(&config(&room, slot)).await {
            // Another portal was faster.
            Ok(()) | Err(CallError::Refused { code: Code::AlreadyExists, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(room)
}

/// Who comes there.
pub(super) fn guest(room: &RoomId) -> TokenRecord {
    TokenRecord {
        user: "echo".into(),
        role: "presenter".to_owned(),
        room: room.to_string(),
        service: SERVICE.to_owned(),
        isp: String::new(),
        region: String::new(),
        created_ms: UnixMillis::now().0,
    }
}
