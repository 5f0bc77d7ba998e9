//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::options::{FileError, Options};

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
    /// Services (tenants) of the management API
    #[command(subcommand)]
    Service(Service),
    /// Look for what would keep Kaigi from running on this machine
    Doctor(Configured),
}

/// About services.
#[derive(Debug, Subcommand)]
pub enum Service {
    /// Show the id and key of the service made at the first start
    Show(Show),
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

/// Which service, and how.
#[derive(Args, Debug)]
pub struct Show {
    /// One JSON object, for programs
    #[arg(long)]
    pub json: bool,
    /// Configuration file that names the data directory
    #[arg(long, env = "KAIGI_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory that Kaigi keeps its data in [default: ./data]
    #[arg(long, env = "KAIGI_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}
