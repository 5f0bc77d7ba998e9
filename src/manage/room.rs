//! `kaigi room` and `kaigi token`.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::{
    ManageError,
    api::{self, Api},
    show::{Shown, Table},
};

/// About rooms.
#[derive(Clone, Debug, Subcommand)]
pub enum RoomCommand {
    /// All rooms of the service; of a super service all rooms
    List,
    /// A room with all its attributes
    Show {
        /// Id
        room: String,
    },
    /// Make a room
    Create {
        /// Name
        name: String,
        /// JSON file with attributes other than the defaults (- = standard input)
        #[arg(long, value_name = "FILE")]
        options: Option<PathBuf>,
    },
    /// Replace attributes of a room
    Update {
        /// Id
        room: String,
        /// JSON file with the attributes to replace (- = standard input)
        attributes: PathBuf,
        /// Merge into the attributes instead, member by member (JSON Merge Patch); null brings a default back
        #[arg(long)]
        merge: bool,
    },
    /// Delete a room; whoever is in it is dropped
    Delete {
        /// Id
        room: String,
    },
}

/// About tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token, which lets one client in once within three minutes
    Create {
        /// Id of the room
        room: String,
        /// Who it is for
        #[arg(long)]
        user: String,
        /// Role in the room
        #[arg(long, default_value = "presenter")]
        role: String,
        /// Internet provider of the client, if nodes are to be chosen by it
        #[arg(long)]
        isp: Option<String>,
        /// Region of the client, if nodes are to be chosen by it
        #[arg(long)]
        region: Option<String>,
    },
}

const ROOMS: Table = Table(&[("ID", "/_id"), ("NAME", "/name")]);

pub(super) fn run(api: &Api, command: RoomCommand) -> Result<Shown, ManageError> {
    let one = |id: &str| api::path(&["v1", "rooms", id]);
    Ok(match command {
        RoomCommand::List => Shown::rows(api.pages("v1/rooms")?, ROOMS),
        RoomCommand::Show { room } => Shown::Document(api.get(&one(&room))?),
        RoomCommand::Create { name, options } => {
            let mut body = json!({ "name": name });
            if let Some(path) = options {
                body["options"] = api::document(&path)?;
            }
            Shown::rows(api.post("v1/rooms", &body)?, ROOMS)
        }
        RoomCommand::Update { room, attributes, merge } => {
            let attributes = api::document(&attributes)?;
            let change = if merge { Api::patch } else { Api::put };
            Shown::Document(change(api, &one(&room), &attributes)?)
        }
        RoomCommand::Delete { room } => {
            api.delete(&one(&room))?;
            Shown::Nothing
        }
    })
}

pub(super) fn token(api: &Api, command: TokenCommand) -> Result<Shown, ManageError> {
    let TokenCommand::Create { room, user, role, isp, region } = command;
    let mut body = json!({ "user": user, "role": role });
    if isp.is_some() || region.is_some() {
        body["preference"] = json!({ "isp": isp, "region": region });
    }
    let token = api.post(&api::path(&["v1", "rooms", &room, "tokens"]), &body)?;
    Ok(Shown::Text("token", token.as_str().unwrap_or_default().to_owned()))
}
