//! The command line.

use std::{net::IpAddr, path::PathBuf};

use clap::Parser;
use kaigi_telemetry::LogArgs;
use kaigi_worker::WorkerArgs;

/// Of 1280×720 a core bears five or six; smaller ones take less.
const ENCODERS_PER_CORE: f64 = 8.0;

/// Mixes streams (MCU)
#[derive(Clone, Debug, Parser)]
#[command(name = "kaigi-mixer-node", version)]
pub struct Args {
    /// How it logs.
    #[command(flatten)]
    pub log: LogArgs,
    /// Where the cluster is.
    #[command(flatten)]
    pub worker: WorkerArgs,
    /// IP address for media between nodes, reachable from all of them
    #[arg(long, env = "KAIGI_LINK_ADDRESS", default_value = "127.0.0.1")]
    pub link_address: IpAddr,
    /// Directory of PNG and JPEG pictures that views may show as avatars and logos, read at the start
    #[arg(long, env = "KAIGI_PICTURES", value_name = "DIR")]
    pub pictures: Option<PathBuf>,
    /// TOML file of GStreamer pipelines that streams may be analysed by, read at the start
    #[arg(long, env = "KAIGI_ALGORITHMS", value_name = "FILE")]
    pub algorithms: Option<PathBuf>,
    /// Encoders of pictures that are to run here at most, each for one size and codec of a view; near that number (--max-load of it) this node gets no more
    /// rooms; default: 8 a core
    #[arg(long, env = "KAIGI_MAX_ENCODERS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_encoders: Option<u32>,
    /// Check that all needed GStreamer elements are installed, then end: with status 0, or with 1 and a line for each missing one
    #[arg(long)]
    pub check_plugins: bool,
}

impl Args {
    /// How many encoders are to run here at most.
    #[must_use]
    pub fn encoders(&self) -> f64 {
        self.max_encoders.map_or(ENCODERS_PER_CORE * kaigi_worker::cores(), f64::from)
    }
}
