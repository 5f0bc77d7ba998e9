//! `kaigi room | token | participant | stream`: a running Kaigi by its management API.

mod api;
mod command;
mod show;

pub use api::{Api, ApiError, Target};
pub use command::{
    Given, ParticipantCommand, RoomCommand, ServiceChange, ServiceCommand, StreamCommand, TokenCommand,
};

use serde_json::{Value, json};

use show::{Shown, Table};

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// The API refused, or is not there.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No credentials given, and none in the data directory.
    #[error("{0}; or give --service-id and --service-key")]
    Credentials(#[from] crate::service::CredentialsError),
    /// A configuration file that can't be used.
    #[error(transparent)]
    Config(#[from] crate::options::FileError),
    /// A file with a room's attributes.
    #[error("{path}: {reason}")]
    File {
        /// Which; "-" = standard input.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A permission that does not exist.
    #[error("{0:?} is no permission: publish or subscribe, or one kind of them such as publish.audio")]
    Permission(String),
}

/// A command with all that it needs, to be run once.
#[derive(Clone, Debug)]
pub enum Task {
    /// About services.
    Service(ServiceCommand),
    /// About rooms.
    Room(RoomCommand),
    /// About tokens.
    Token(TokenCommand),
    /// About participants.
    Participant(ParticipantCommand),
    /// About streams.
    Stream(StreamCommand),
}

/// Runs the command and gives what is to be printed: JSON if asked for, else for people.
///
/// # Errors
/// See [`ManageError`].
pub fn run(task: Task, given: &Given) -> Result<String, ManageError> {
    let api = || -> Result<Api, ManageError> { Ok(Api::new(given.target()?)?) };
    let shown = match task {
        Task::Service(ServiceCommand::Show) => Shown::Credentials(given.first_service()?),
        Task::Service(ServiceCommand::Online(command)) => service(&api()?, command)?,
        Task::Room(command) => room(&api()?, command)?,
        Task::Token(command) => token(&api()?, command)?,
        Task::Participant(command) => participant(&api()?, command)?,
        Task::Stream(command) => stream(&api()?, command)?,
    };
    Ok(shown.text(given.json))
}

fn service(api: &Api, command: ServiceChange) -> Result<Shown, ManageError> {
    Ok(match command {
        ServiceChange::List => Shown::list(api.get("services")?, Table::SERVICES),
        ServiceChange::Create { name } => {
            Shown::one(api.post("services", &json!({ "name": name }))?, Table::SERVICE_KEY)
        }
        ServiceChange::Delete { service } => {
            api.delete(&api::path(&["services", &service]))?;
            Shown::Nothing
        }
        ServiceChange::RotateKey { service } => {
            let path = api::path(&["services", &service, "key"]);
            Shown::one(api.post(&path, &json!({}))?, Table::SERVICE_KEY)
        }
    })
}

fn room(api: &Api, command: RoomCommand) -> Result<Shown, ManageError> {
    let one = |id: &str| api::path(&["v1", "rooms", id]);
    Ok(match command {
        RoomCommand::List => {
            let rooms = api.pages("v1/rooms")?;
            Shown::list(rooms, Table::ROOMS)
        }
        RoomCommand::Show { room } => Shown::Document(api.get(&one(&room))?),
        RoomCommand::Create { name, options } => {
            let options = options.map(|path| api::document(&path)).transpose()?;
            let mut body = json!({ "name": name });
            if let Some(options) = options {
                body["options"] = options;
            }
            Shown::one(api.post("v1/rooms", &body)?, Table::ROOMS)
        }
        RoomCommand::Update { room, attributes } => {
            Shown::Document(api.put(&one(&room), &api::document(&attributes)?)?)
        }
        RoomCommand::Delete { room } => {
            api.delete(&one(&room))?;
            Shown::Nothing
        }
    })
}

fn token(api: &Api, command: TokenCommand) -> Result<Shown, ManageError> {
    let TokenCommand::Create { room, user, role, isp, region } = command;
    let mut body = json!({ "user": user, "role": role });
    if isp.is_some() || region.is_some() {
        body["preference"] = json!({ "isp": isp, "region": region });
    }
    let token = api.post(&api::path(&["v1", "rooms", &room, "tokens"]), &body)?;
    Ok(Shown::Text("token", token.as_str().unwrap_or_default().to_owned()))
}

fn participant(api: &Api, command: ParticipantCommand) -> Result<Shown, ManageError> {
    let of = |room: &str| api::path(&["v1", "rooms", room, "participants"]);
    let one = |room: &str, id: &str| api::path(&["v1", "rooms", room, "participants", id]);
    let change = |room: &str, id: &str, what: &[String], value: bool| -> Result<Shown, ManageError> {
        let patch: Result<Vec<Value>, ManageError> =
            what.iter().map(|name| permission(name, value)).collect();
        Ok(Shown::one(api.patch(&one(room, id), &patch?.into())?, Table::PARTICIPANTS))
    };
    Ok(match command {
        ParticipantCommand::List { room } => Shown::list(api.get(&of(&room))?, Table::PARTICIPANTS),
        ParticipantCommand::Show { room, participant } => {
            Shown::Document(api.get(&one(&room, &participant))?)
        }
        ParticipantCommand::Allow { room, participant, what } => change(&room, &participant, &what, true)?,
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

fn stream(api: &Api, command: StreamCommand) -> Result<Shown, ManageError> {
    let one = |room: &str, id: &str| api::path(&["v1.1", "rooms", room, "streams", id]);
    let patch = |room: &str, id: &str, steps: Value| -> Result<Shown, ManageError> {
        Ok(Shown::one(api.patch(&one(room, id), &steps)?, Table::STREAMS))
    };
    let views = |op: &str, view: &str| json!([{ "op": op, "path": "/info/inViews", "value": view }]);
    Ok(match command {
        StreamCommand::List { room } => {
            Shown::list(api.get(&api::path(&["v1.1", "rooms", &room, "streams"]))?, Table::STREAMS)
        }
        StreamCommand::Show { room, stream } => Shown::Document(api.get(&one(&room, &stream))?),
        StreamCommand::Mix { room, stream, view } => patch(&room, &stream, views("add", &view))?,
        StreamCommand::Unmix { room, stream, view } => patch(&room, &stream, views("remove", &view))?,
        StreamCommand::Mute { room, stream, kind } => patch(&room, &stream, kind.status("inactive"))?,
        StreamCommand::Unmute { room, stream, kind } => patch(&room, &stream, kind.status("active"))?,
        StreamCommand::Delete { room, stream } => {
            api.delete(&one(&room, &stream))?;
            Shown::Nothing
        }
    })
}
