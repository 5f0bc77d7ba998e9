//! The `kaigi-portal` process.

use clap::Parser;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = kaigi_portal::Args::parse();
    kaigi_telemetry::init_logs(&args.logs);
    kaigi_portal::run(args).await
}
