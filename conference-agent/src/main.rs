//! The `kaigi-conference-agent` process.

use clap::Parser;
use kaigi_conference_agent::{Args, run};
use kaigi_telemetry::{Health, init_logs};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    init_logs(&args.log);
    let health = Health::install()?;
    let stop = CancellationToken::new();
    tokio::spawn({
        let stop = stop.clone();
        async move {
            kaigi_worker::shutdown_signal().await;
            stop.cancel();
        }
    });
    run(args, health, stop).await
}
