//! `kaigi service | room | token | participant | stream | subscription | webhook | node | drain | events`: a running Kaigi by its management API.

mod api;
mod drain;
mod events;
mod given;
mod node;
mod participant;
mod report;
mod room;
mod service;
mod show;
mod sse;
mod stream;
mod subscription;
mod webhook;

pub(crate) use api::path;
pub use api::{Api, ApiError, Target};
pub use drain::DrainCommand;
pub use events::EventsCommand;
pub use given::Given;
pub use node::NodeCommand;
pub use participant::ParticipantCommand;
pub use room::{RoomCommand, TokenCommand};
pub use service::{ServiceChange, ServiceCommand};
pub use stream::{MuteKind, StreamCommand};
pub use subscription::SubscriptionCommand;
pub use webhook::WebhookCommand;

use std::io::Write;

use show::Shown;

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
    /// No process of the cluster.
    #[error("there is no node {0}; kaigi node list shows all")]
    NoSuchNode(String),
    /// More than one.
    #[error("{0} may be each of {1}")]
    SeveralNodes(String, String),
    /// A process that has not ended in time.
    #[error("{0} is still draining")]
    StillDraining(String),
    /// Nobody takes what is to be printed.
    #[error("the output can't be written: {0}")]
    Output(std::io::Error),
}

impl ManageError {
    /// What the program's status says of it to scripts: 3 = not reached, 4 = no such thing, 5 = not allowed, 6 = something else was
    /// changed meanwhile, 1 = everything else. (2 is clap's: the command line is wrong.)
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Api(ApiError::Unreachable { .. }) => 3,
            Self::Api(ApiError::Refused { status: 404, .. }) | Self::NoSuchNode(_) => 4,
            Self::Api(ApiError::Refused { status: 401 | 403, .. }) => 5,
            Self::Api(ApiError::Refused { status: 409 | 412, .. }) => 6,
            _ => 1,
        }
    }
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
    /// About subscriptions.
    Subscription(SubscriptionCommand),
    /// About webhooks.
    Webhook(WebhookCommand),
    /// About nodes.
    Node(NodeCommand),
    /// A process that is to end.
    Drain(DrainCommand),
    /// What happens.
    Events(EventsCommand),
}

/// Runs the command and prints what is to be printed: JSON if asked for, else for people.
///
/// # Errors
/// See [`ManageError`].
pub fn run(task: Task, given: &Given, out: &mut dyn Write) -> Result<(), ManageError> {
    let api = || -> Result<Api, ManageError> { Ok(Api::new(given.target()?)?) };
    let shown = match task {
        Task::Service(ServiceCommand::Show) => Shown::Credentials(given.first_service()?),
        Task::Service(ServiceCommand::Online(command)) => service::run(&api()?, command)?,
        Task::Room(command) => room::run(&api()?, command)?,
        Task::Token(command) => room::token(&api()?, command)?,
        Task::Participant(command) => participant::run(&api()?, command)?,
        Task::Stream(command) => stream::run(&api()?, command)?,
        Task::Subscription(command) => subscription::run(&api()?, command)?,
        Task::Webhook(command) => webhook::run(&api()?, command)?,
        Task::Node(command) => node::run(&api()?, command)?,
        Task::Drain(command) => return drain::run(&api()?, &command, given.json, out),
        Task::Events(command) => return events::run(&api()?, &command, given.json, out),
    };
    writeln!(out, "{}", shown.text(given.json)).map_err(ManageError::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_can_tell_refusals_apart() {
        let refused =
            |status| ManageError::Api(ApiError::Refused { status, message: String::new() }).exit_code();
        assert_eq!([500, 400, 404, 401, 403, 412, 409].map(refused), [1, 1, 4, 5, 5, 6, 6]);
        let away = ApiError::Unreachable { url: String::new(), reason: String::new() };
        assert_eq!(ManageError::Api(away).exit_code(), 3);
        assert_eq!(ManageError::Permission(String::new()).exit_code(), 1);
    }
}
