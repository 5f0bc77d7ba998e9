//! The `kaigi-turn-server` process.

use clap::Parser;
use kaigi_telemetry::{Health, init_logs};
use kaigi_turn_server::{Args, run};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    init_logs(&args.log);
    let health = Health::install()?;
    run(args, health, kaigi_worker::Shutdown::on_signal()).await?;
    Ok(())
}
