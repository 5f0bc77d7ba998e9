//! The command line.

use std::{net::IpAddr, path::PathBuf};

use clap::Parser;
use kaigi_telemetry::LogArgs;
use kaigi_worker::WorkerArgs;

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
    /// Check that all needed GStreamer elements are installed, then end: with status 0, or with 1 and a line for each missing one
    #[arg(long)]
    pub check_plugins: bool,
}
