//! `kaigi subscription`: who is sent what, and why that.

use clap::Subcommand;

use super::{
    ManageError,
    api::{self, Api},
    report,
    show::Shown,
};

/// About subscriptions.
#[derive(Clone, Debug, Subcommand)]
pub enum SubscriptionCommand {
    /// The subscriptions of a room
    List {
        /// Id of the room
        room: String,
        /// Only those of this participant
        #[arg(long, value_name = "ID")]
        participant: Option<String>,
        /// Only those that take something of this stream
        #[arg(long, value_name = "ID")]
        stream: Option<String>,
    },
    /// What a subscription is sent, and why that: what was asked for, what limits it, what was decided of late
    #[command(visible_alias = "why")]
    Show {
        /// Id of the room
        room: String,
        /// Id
        subscription: String,
    },
}

pub(super) fn run(api: &Api, command: SubscriptionCommand) -> Result<Shown, ManageError> {
    Ok(match command {
        SubscriptionCommand::List { room, participant, stream } => {
            let path = api::path(&["v1.1", "rooms", &room, "subscriptions"]);
            let query = api::query(&[("participant", participant.as_deref()), ("stream", stream.as_deref())]);
            report::subscriptions(api.get(&(path + &query))?)
        }
        SubscriptionCommand::Show { room, subscription } => {
            let path = api::path(&["v1.1", "rooms", &room, "subscriptions", &subscription]);
            report::why(api.get(&path)?)
        }
    })
}
