//! The Kaigi that clients without browsers are let loose on: one that is started for it, or one that runs.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use kaigi_load::{run::Launched, server::Management};
use serde_json::{Value, json};

use crate::{
    manage::{self, Api, path},
    service::Credentials,
};

/// Where, and with what.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// Management API of a running Kaigi; without it one is started for the run
    #[arg(long, value_name = "URL", requires = "service_id", requires = "service_key")]
    pub url: Option<String>,
    /// Service in whose name rooms are made on the running Kaigi
    #[arg(long, env = "KAIGI_SERVICE_ID", value_name = "ID", requires = "service_key")]
    pub service_id: Option<String>,
    /// Key of that service
    #[arg(
        long,
        env = "KAIGI_SERVICE_KEY",
        value_name = "KEY",
        hide_env_values = true,
        requires = "service_id"
    )]
    pub service_key: Option<String>,
    /// Launcher of the running Kaigi, on whose children's processor time, memory and lives it comes
    #[arg(long, value_name = "PID", requires = "url")]
    pub pid: Option<u32>,
    /// Where recordings are kept that are made at the first run [default: ~/.cache/kaigi-bench]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Arguments for `kaigi up`, if a Kaigi is started
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub up: Vec<String>,
}

/// A Kaigi that runs.
pub struct Found {
    launched: Option<Launched>,
    url: String,
    credentials: Credentials,
    pid: Option<u32>,
}

impl Place {
    /// Starts one, unless one is named.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn find(&self) -> anyhow::Result<Found> {
        match (&self.url, &self.service_id, &self.service_key) {
            (Some(url), Some(id), Some(key)) => {
                let credentials = Credentials { id: id.clone(), key: key.clone(), room: None };
                Ok(Found { launched: None, url: url.clone(), credentials, pid: self.pid })
            }
            (Some(_), ..) => anyhow::bail!("a running Kaigi needs --url, --service-id and --service-key"),
            (None, ..) => {
                let program = std::env::current_exe().context("this program can't be found")?;
                let launched = Launched::start(&program, &self.up).await?;
                let credentials = Credentials::read(launched.data_dir())?;
                let (url, pid) = (launched.management_url(), Some(launched.pid()));
                Ok(Found { launched: Some(launched), url, credentials, pid })
            }
        }
    }

    /// Where recordings are kept.
    #[must_use]
    pub fn cache(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| {
            let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
            std::env::var_os("XDG_CACHE_HOME")
                .map_or_else(|| home.join(".cache"), PathBuf::from)
                .join("kaigi-bench")
        })
    }
}

impl Found {
    /// Of the launcher, if it is known.
    #[must_use]
    pub fn launcher(&self) -> Option<u32> {
        self.pid
    }

    /// Rooms are made and removed there.
    ///
    /// # Errors
    /// If the address is none.
    pub fn rooms(&self, views: Views) -> anyhow::Result<Rooms> {
        let Credentials { id, key, .. } = &self.credentials;
        let target = manage::Target { url: self.url.clone(), ca: None, id: id.clone(), key: key.clone() };
        Ok(Rooms { api: Api::new(target)?, views })
    }

    /// Ends it if it was started for the run.
    ///
    /// # Errors
    /// If it has panicked.
    pub async fn leave(self) -> anyhow::Result<()> {
        let Some(launched) = self.launched else { return Ok(()) };
        let panics = launched.stop().await;
        anyhow::ensure!(panics.is_empty(), "the server panicked: {}", panics.join("; "));
        Ok(())
    }
}

/// Which mixes rooms have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Views {
    /// None.
    None,
    /// As rooms have them that say nothing of it: one, "common".
    Default,
}

/// Rooms by the management API.
pub struct Rooms {
    api: Api,
    views: Views,
}

impl Management for Rooms {
    fn create_room(&self, name: &str) -> Result<String, String> {
        let mut room = json!({"name": name});
        if self.views == Views::None {
            room["options"] = json!({"views": []});
        }
        let made = self.api.post("v1/rooms", &room).map_err(|error| error.to_string())?;
        let id = made.get("_id").and_then(Value::as_str);
        id.map(str::to_owned).ok_or_else(|| "a new room has no id".to_owned())
    }

    fn mix(&self, room: &str, stream: &str) -> Result<(), String> {
        let change = json!([{"op": "add", "path": "/info/inViews", "value": "common"}]);
        let changed = self.api.patch(&path(&["v1", "rooms", room, "streams", stream]), &change);
        changed.map(drop).map_err(|error| error.to_string())
    }

    fn delete_room(&self, room: &str) -> Result<(), String> {
        self.api.delete(&path(&["v1", "rooms", room])).map_err(|error| error.to_string())
    }

    fn token(&self, room: &str, user: &str) -> Result<String, String> {
        let asked =
            json!({"user": user, "role": "presenter", "preference": {"isp": "isp", "region": "region"}});
        let token = self.api.post(&path(&["v1", "rooms", room, "tokens"]), &asked);
        let token = token.map_err(|error| error.to_string())?;
        token.as_str().map(str::to_owned).ok_or_else(|| "a token is no text".to_owned())
    }
}
