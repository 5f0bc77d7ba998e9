//! The `kaigi-mixer-node` process.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use kaigi_mixer_node::{Args, external, init_gstreamer, plugins, run};
use kaigi_telemetry::{Health, init_logs};

fn main() -> anyhow::Result<ExitCode> {
    // Not an option: it is for this program alone, which starts itself so.
    if std::env::args_os().nth(1).is_some_and(|first| first == external::Algorithms::WORKER) {
        return Ok(external::run());
    }
    serve(Args::parse())
}

#[tokio::main]
async fn serve(args: Args) -> anyhow::Result<ExitCode> {
    if args.check_plugins {
        return check_plugins();
    }
    init_logs(&args.log);
    let health = Health::install()?;
    run(args, health, kaigi_worker::Shutdown::on_signal()).await?;
    Ok(ExitCode::SUCCESS)
}

fn check_plugins() -> anyhow::Result<ExitCode> {
    init_gstreamer()?;
    let missing = plugins::missing();
    for missing in &missing {
        writeln!(std::io::stdout(), "{} is missing: install {}", missing.element, missing.package)?;
    }
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
