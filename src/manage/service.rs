//! `kaigi service`: tenants of the management API.

use clap::Subcommand;
use serde_json::json;

use super::{
    ManageError,
    api::{self, Api},
    show::{Shown, Table},
};

/// About services.
#[derive(Clone, Debug, Subcommand)]
pub enum ServiceCommand {
    /// Show the id and key of the service made at the first start; Kaigi may run or not
    Show,
    /// By the management API.
    #[command(flatten)]
    Online(ServiceChange),
}

/// About services, by the management API.
#[derive(Clone, Debug, Subcommand)]
pub enum ServiceChange {
    /// All services; for a super service, as the first one is
    List,
    /// Make a service; its key is shown this once
    Create {
        /// Name
        name: String,
    },
    /// Delete a service; its rooms stay
    Delete {
        /// Id
        service: String,
    },
    /// Give a service another key, which is shown this once; the old one is void at once
    RotateKey {
        /// Id
        service: String,
    },
}

const SERVICES: Table = Table(&[("ID", "/id"), ("NAME", "/name"), ("SUPER", "/super"), ("ROOMS", "/rooms")]);
const KEY: Table = Table(&[("ID", "/id"), ("NAME", "/name"), ("KEY", "/key")]);

pub(super) fn run(api: &Api, command: ServiceChange) -> Result<Shown, ManageError> {
    Ok(match command {
        ServiceChange::List => Shown::rows(api.get("services")?, SERVICES),
        ServiceChange::Create { name } => Shown::rows(api.post("services", &json!({ "name": name }))?, KEY),
        ServiceChange::Delete { service } => {
            api.delete(&api::path(&["services", &service]))?;
            Shown::Nothing
        }
        ServiceChange::RotateKey { service } => {
            let path = api::path(&["services", &service, "key"]);
            Shown::rows(api.post(&path, &json!({}))?, KEY)
        }
    })
}
