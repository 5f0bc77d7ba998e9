//! The command line of the management commands.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{ManageError, Target};
use crate::{options::Options, service::Credentials, settings::default_data_dir};

/// Where the API is, who asks, and how the answer is printed.
#[derive(Args, Clone, Debug)]
pub struct Given {
    /// Management API of the Kaigi to talk to
    #[arg(
        global = true,
        long,
        env = "KAIGI_MANAGEMENT_URL",
        value_name = "URL",
        default_value = "http://localhost:3000"
    )]
    pub url: String,
    /// Certificates to trust for https, beside those of the system (PEM); with `--tls self-signed` the portal's own
    #[arg(global = true, long, env = "KAIGI_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Id of the service in whose name to ask [default: the first service, from the data directory]
    #[arg(global = true, long, env = "KAIGI_SERVICE_ID", value_name = "ID", requires = "service_key")]
    pub service_id: Option<String>,
    /// Key of that service
    #[arg(
        global = true,
        long,
        env = "KAIGI_SERVICE_KEY",
        value_name = "KEY",
        hide_env_values = true,
        requires = "service_id"
    )]
    pub service_key: Option<String>,
    /// Configuration file that names the data directory
    #[arg(global = true, long, env = "KAIGI_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory that Kaigi keeps its data in [default: ./data]
    #[arg(global = true, long, env = "KAIGI_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// JSON, for programs
    #[arg(global = true, long)]
    pub json: bool,
}

impl Given {
    /// The service made at the first start, as the data directory tells of it.
    pub(super) fn first_service(&self) -> Result<Credentials, ManageError> {
        let named = match (&self.data_dir, &self.config) {
            (Some(dir), _) => Some(dir.clone()),
            (None, Some(file)) => Options::read(file)?.data_dir,
            (None, None) => None,
        };
        Ok(Credentials::read(&named.unwrap_or_else(default_data_dir))?)
    }

    pub(super) fn target(&self) -> Result<Target, ManageError> {
        let (id, key) = match (&self.service_id, &self.service_key) {
            (Some(id), Some(key)) => (id.clone(), key.clone()),
            _ => {
                let first = self.first_service()?;
                (first.id, first.key)
            }
        };
        Ok(Target { url: self.url.clone(), ca: self.ca.clone(), id, key })
    }
}

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
    Allow {
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
        /// As of allow
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

/// About streams.
#[derive(Clone, Debug, Subcommand)]
pub enum StreamCommand {
    /// The streams of a room
    List {
        /// Id of the room
        room: String,
    },
    /// One stream
    Show {
        /// Id of the room
        room: String,
        /// Id
        stream: String,
    },
    /// Add a stream to a mix
    Mix {
        /// Id of the room
        room: String,
        /// Id
        stream: String,
        /// Label of the view
        #[arg(default_value = "common")]
        view: String,
    },
    /// Take a stream out of a mix
    Unmix {
        /// Id of the room
        room: String,
        /// Id
        stream: String,
        /// Label of the view
        #[arg(default_value = "common")]
        view: String,
    },
    /// Mute a stream for everybody
    Mute {
        /// Id of the room
        room: String,
        /// Id
        stream: String,
        /// Sound, picture or both
        #[arg(default_value = "av")]
        kind: MuteKind,
    },
    /// End a stream's muting
    Unmute {
        /// Id of the room
        room: String,
        /// Id
        stream: String,
        /// Sound, picture or both
        #[arg(default_value = "av")]
        kind: MuteKind,
    },
    /// End a stream
    Delete {
        /// Id of the room
        room: String,
        /// Id
        stream: String,
    },
}

/// What of a stream is muted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MuteKind {
    /// Sound
    Audio,
    /// Picture
    Video,
    /// Both
    Av,
}

impl MuteKind {
    /// The JSON Patch that gives the kind's tracks this status.
    pub(super) fn status(self, status: &str) -> Value {
        let step =
            |kind: &str| json!({ "op": "replace", "path": format!("/media/{kind}/status"), "value": status });
        match self {
            Self::Audio => json!([step("audio")]),
            Self::Video => json!([step("video")]),
            Self::Av => json!([step("audio"), step("video")]),
        }
    }
}
