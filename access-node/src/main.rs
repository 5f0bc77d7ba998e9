//! The `kaigi-access-node` process.

use clap::Parser;
use kaigi_access_node::{Args, run};
use kaigi_telemetry::{Health, init_logs};

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    init_logs(&args.log);
    let health = Health::install()?;
    run(args, health, kaigi_worker::Shutdown::on_signal()).await
}
