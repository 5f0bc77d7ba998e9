//! The `kaigi-streaming-node` process.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use kaigi_streaming_node::{Args, plugins, run};
use kaigi_telemetry::{Health, init_logs};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if args.check_plugins {
        return check_plugins();
    }
    init_logs(&args.log);
    let health = Health::install()?;
    run(args, health, kaigi_worker::Shutdown::on_signal()).await?;
    Ok(ExitCode::SUCCESS)
}

fn check_plugins() -> anyhow::Result<ExitCode> {
    gstreamer::init()?;
    let missing = plugins::missing();
    for (element, package) in &missing {
        writeln!(std::io::stdout(), "{element} is missing: install {package}")?;
    }
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
