//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{
    bench::Bench,
    certificates::Certificates,
    chaos::Trial,
    manage::{
        DrainCommand, EventsCommand, Given, NodeCommand, ParticipantCommand, RoomCommand, ServiceCommand,
        StreamCommand, SubscriptionCommand, Task, TokenCommand, WebhookCommand,
    },
    options::{FileError, Options},
    run::Run,
};

/// A conference server: runs, inspects and checks a whole Kaigi on one machine.
#[derive(Debug, Parser)]
#[command(name = "kaigi", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start Kaigi: all its processes, watched and restarted, with one log; ends with Ctrl-C
    Up(Configured),
    /// Run one process of a Kaigi that is spread over containers or machines
    Run(Run),
    /// A running Kaigi, by its management API.
    #[command(flatten)]
    Manage(Manage),
    /// Look for what would keep Kaigi from running on this machine
    Doctor(Configured),
    /// Make the certificates by which the processes of a cluster know each other (mutual TLS)
    Certificates(Certificates),
    /// Measure: clients without browsers that publish recorded media and check all that they are sent
    Bench(Bench),
    /// Kill processes under a conference of clients without browsers, and tell what they notice of it
    Chaos(Trial),
    /// Print what completes commands and options in a shell: `source <(kaigi completions bash)`
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// A command of the management API.
#[derive(Args, Debug)]
pub struct Managed<C: Subcommand> {
    /// Which.
    #[command(subcommand)]
    pub command: C,
    /// Where and by whom.
    #[command(flatten)]
    pub given: Given,
}

/// What of a running Kaigi.
#[derive(Debug, Subcommand)]
pub enum Manage {
    /// Services (tenants) of the management API
    Service(Managed<ServiceCommand>),
    /// Rooms of a running Kaigi
    Room(Managed<RoomCommand>),
    /// Tokens, by which clients join
    Token(Managed<TokenCommand>),
    /// Who is in a room, and what they may do
    Participant(Managed<ParticipantCommand>),
    /// Streams of a room
    Stream(Managed<StreamCommand>),
    /// Subscriptions of a room: who is sent what, and why that
    Subscription(Managed<SubscriptionCommand>),
    /// Where a service is told of events
    Webhook(Managed<WebhookCommand>),
    /// The processes of the cluster that do the work
    Node(Managed<NodeCommand>),
    /// Have a process hand over what it has, and end: before its machine is switched off, or it is upgraded
    Drain(Drain),
    /// Show what happens as it happens: rooms, participants, streams, subscriptions
    Events(Events),
}

/// A process that is to end, and where.
#[derive(Args, Debug)]
pub struct Drain {
    /// Which.
    #[command(flatten)]
    pub command: DrainCommand,
    /// Where and by whom.
    #[command(flatten)]
    pub given: Given,
}

/// Events, and where.
#[derive(Args, Debug)]
pub struct Events {
    /// Which.
    #[command(flatten)]
    pub command: EventsCommand,
    /// Where and by whom.
    #[command(flatten)]
    pub given: Given,
}

impl Manage {
    /// The task, and in whose name it is to be done.
    #[must_use]
    pub fn task(self) -> (Task, Given) {
        match self {
            Self::Service(of) => (Task::Service(of.command), of.given),
            Self::Room(of) => (Task::Room(of.command), of.given),
            Self::Token(of) => (Task::Token(of.command), of.given),
            Self::Participant(of) => (Task::Participant(of.command), of.given),
            Self::Stream(of) => (Task::Stream(of.command), of.given),
            Self::Subscription(of) => (Task::Subscription(of.command), of.given),
            Self::Webhook(of) => (Task::Webhook(of.command), of.given),
            Self::Node(of) => (Task::Node(of.command), of.given),
            Self::Drain(of) => (Task::Drain(of.command), of.given),
            Self::Events(of) => (Task::Events(of.command), of.given),
        }
    }
}

/// Options and the file that they may come from.
#[derive(Args, Clone, Debug, Default)]
pub struct Configured {
    /// Configuration file (TOML); flags and environment variables win over it
    #[arg(long, env = "KAIGI_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The rest.
    #[command(flatten)]
    pub options: Options,
}

impl Configured {
    /// Flags before environment before file.
    ///
    /// # Errors
    /// If there is a file and it can't be used.
    pub fn merged(self) -> Result<Options, FileError> {
        match &self.config {
            Some(path) => Ok(self.options.or(Options::read(path)?)),
            None => Ok(self.options),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
