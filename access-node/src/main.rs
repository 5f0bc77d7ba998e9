//! The `kaigi-access-node` process.

use clap::Parser;
use kaigi_access_node::{Args, run};
use kaigi_telemetry::{Health, init_logs};
use tokio_util::sync::CancellationToken;

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    init_logs(&args.log);
    let health = Health::install()?;
    let stop = CancellationToken::new();
    tokio::spawn({
        let stop = stop.clone();
        async move {
            kaigi_worker::shutdown_signal().await;
            tracing::info!("stopping");
            stop.cancel();
        }
    });
    run(args, health, stop).await
}
