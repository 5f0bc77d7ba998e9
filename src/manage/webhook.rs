//! `kaigi webhook`: where a service is told of events.

use clap::{ArgAction, Subcommand};
use serde_json::{Map, Value, json};

use super::{
    ManageError,
    api::{self, Api},
    show::{Shown, Table},
};

/// About webhooks.
#[derive(Clone, Debug, Subcommand)]
pub enum WebhookCommand {
    /// All webhooks of the service
    List,
    /// One webhook, and how its deliveries go
    Show {
        /// Id
        webhook: String,
    },
    /// Have events sent to a URL; the secret that they are signed with is shown this once
    Create {
        /// Where to
        target: String,
        /// Which events, such as room.started or participant.*; may be given several times [default: all]
        #[arg(long = "event", value_name = "TYPE")]
        events: Vec<String>,
        /// The secret, if it is not to be made: whsec_ and base64
        #[arg(long, env = "KAIGI_WEBHOOK_SECRET", value_name = "SECRET", hide_env_values = true)]
        secret: Option<String>,
    },
    /// Change a webhook
    Update {
        /// Id
        webhook: String,
        /// Where to
        #[arg(long = "target", value_name = "URL")]
        target: Option<String>,
        /// Which events; may be given several times
        #[arg(long = "event", value_name = "TYPE", conflicts_with = "all_events")]
        events: Vec<String>,
        /// All events
        #[arg(long)]
        all_events: bool,
        /// Whether it is delivered to; false keeps it, unused
        #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
        active: Option<bool>,
    },
    /// Delete a webhook; what waits for it is lost
    Delete {
        /// Id
        webhook: String,
    },
    /// Give a webhook another secret, which is shown this once
    RotateSecret {
        /// Id
        webhook: String,
    },
    /// Send a `ping` event to a webhook
    Ping {
        /// Id
        webhook: String,
    },
}

const WEBHOOKS: Table =
    Table(&[("ID", "/id"), ("URL", "/url"), ("EVENTS", "/events"), ("ACTIVE", "/active")]);
const SECRET: Table = Table(&[("ID", "/id"), ("URL", "/url"), ("SECRET", "/secret")]);

pub(super) fn run(api: &Api, command: WebhookCommand) -> Result<Shown, ManageError> {
    let own = api.service();
    let all = api::path(&["services", own, "webhooks"]);
    let one = |id: &str| api::path(&["services", own, "webhooks", id]);
    Ok(match command {
        WebhookCommand::List => table(api.get(&all)?),
        WebhookCommand::Show { webhook } => Shown::Document(api.get(&one(&webhook))?),
        WebhookCommand::Create { target, events, secret } => {
            let mut body = json!({ "url": target });
            if !events.is_empty() {
                body["events"] = events.into();
            }
            if let Some(secret) = secret {
                body["secret"] = secret.into();
            }
            Shown::rows(api.post(&all, &body)?, SECRET)
        }
        WebhookCommand::Update { webhook, target, events, all_events, active } => {
            let body = changes(target, events, all_events, active);
            table(api.put(&one(&webhook), &body)?)
        }
        WebhookCommand::Delete { webhook } => {
            api.delete(&one(&webhook))?;
            Shown::Nothing
        }
        WebhookCommand::RotateSecret { webhook } => {
            Shown::rows(api.post(&format!("{}/secret", one(&webhook)), &json!({}))?, SECRET)
        }
        WebhookCommand::Ping { webhook } => {
            api.post(&format!("{}/ping", one(&webhook)), &json!({}))?;
            Shown::Nothing
        }
    })
}

/// An empty list of events stands for all.
fn table(answer: Value) -> Shown {
    let items = answer.as_array().map_or(std::slice::from_ref(&answer), Vec::as_slice);
    let rows = items.iter().map(|item| {
        let mut row = item.clone();
        if row["events"] == json!([]) {
            row["events"] = "all".into();
        }
        row
    });
    Shown::table(rows.collect(), WEBHOOKS, answer)
}

/// What is to be other; an empty list of events stands for all.
fn changes(target: Option<String>, events: Vec<String>, all_events: bool, active: Option<bool>) -> Value {
    let mut body = Map::new();
    if let Some(target) = target {
        body.insert("url".into(), target.into());
    }
    if all_events || !events.is_empty() {
        body.insert("events".into(), events.into());
    }
    if let Some(active) = active {
        body.insert("active".into(), active.into());
    }
    Value::Object(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_list_of_events_is_all_of_them() {
        let shown = table(json!([{ "id": "a", "url": "http://x/", "events": [], "active": true }]));
        assert_eq!(shown.text(false).lines().nth(1), Some("a   http://x/  all     true"));
    }

    #[test]
    fn only_what_is_given_is_changed() {
        assert_eq!(changes(None, vec![], false, None), json!({}));
        assert_eq!(changes(None, vec![], true, Some(false)), json!({ "events": [], "active": false }));
        assert_eq!(
            changes(Some("http://x/".into()), vec!["room.*".into()], false, None),
            json!({ "url": "http://x/", "events": ["room.*"] })
        );
    }
}
