//! `kaigi participant`: who is in a room, and what they may do.

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    ManageError,
    api::{self, Api},
    show::{Shown, Table},
};

/// About participants.
#[derive(Clone, Debug, Subcommand)]
pub enum ParticipantCommand {
    /// Who is in a room
    List {
        /// Id of the room
        room: String,
    },
    /// One participant
    Show {
        /// Id of the room
        room: String,
        /// Id
        participant: String,
    },
    /// Give permissions
    #[command(visible_alias = "allow")]
    Permit {
        /// Id of the room
        room: String,
        /// Id
        participant: String,
        /// publish, subscribe, publish.audio, publish.video, subscribe.audio or subscribe.video
        #[arg(required = true)]
        what: Vec<String>,
    },
    /// Take permissions back
    Forbid {
        /// Id of the room
        room: String,
        /// Id
        participant: String,
        /// As of permit
        #[arg(required = true)]
        what: Vec<String>,
    },
    /// Put a participant out of the room
    Drop {
        /// Id of the room
        room: String,
        /// Id
        participant: String,
    },
}

const PARTICIPANTS: Table = Table(&[
    ("ID", "/id"),
    ("USER", "/user"),
    ("ROLE", "/role"),
    ("PUBLISH", "/permission/publish"),
    ("SUBSCRIBE", "/permission/subscribe"),
]);

pub(super) fn run(api: &Api, command: ParticipantCommand) -> Result<Shown, ManageError> {
    let one = |room: &str, id: &str| api::path(&["v1", "rooms", room, "participants", id]);
    let change = |room: &str, id: &str, what: &[String], value: bool| -> Result<Shown, ManageError> {
        let patch: Result<Vec<Value>, ManageError> =
            what.iter().map(|name| permission(name, value)).collect();
        Ok(Shown::rows(api.patch(&one(room, id), &patch?.into())?, PARTICIPANTS))
    };
    Ok(match command {
        ParticipantCommand::List { room } => {
            Shown::rows(api.get(&api::path(&["v1", "rooms", &room, "participants"]))?, PARTICIPANTS)
        }
        ParticipantCommand::Show { room, participant } => {
            Shown::Document(api.get(&one(&room, &participant))?)
        }
        ParticipantCommand::Permit { room, participant, what } => change(&room, &participant, &what, true)?,
        ParticipantCommand::Forbid { room, participant, what } => change(&room, &participant, &what, false)?,
        ParticipantCommand::Drop { room, participant } => {
            api.delete(&one(&room, &participant))?;
            Shown::Nothing
        }
    })
}

/// `publish.audio` as a step of a JSON Patch.
fn permission(name: &str, value: bool) -> Result<Value, ManageError> {
    let (operation, kind) = name.split_once('.').map_or((name, None), |(o, k)| (o, Some(k)));
    let known =
        matches!(operation, "publish" | "subscribe") && matches!(kind, None | Some("audio" | "video"));
    if !known {
        return Err(ManageError::Permission(name.to_owned()));
    }
    let path = format!("/permission/{}", name.replace('.', "/"));
    Ok(json!({ "op": "replace", "path": path, "value": value }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_named_as_they_are_shown() {
        let step = permission("publish.video", false).unwrap();
        assert_eq!(step, json!({ "op": "replace", "path": "/permission/publish/video", "value": false }));
        assert_eq!(permission("subscribe", true).unwrap()["path"], "/permission/subscribe");
        for wrong in ["", "dance", "publish.", "publish.data", "publish/audio", "publish.audio.video"] {
            assert!(permission(wrong, true).is_err(), "{wrong:?}");
        }
    }
}
