//! `kaigi chaos`: processes are killed under a conference, and what people in it notice is told.

use std::{io::Write, sync::Arc, time::Duration};

use anyhow::Context;
use clap::Args;
use kaigi_load::{
    chaos::{ALL, Blow, Chaos, Report, Step},
    driver::Driver,
    server::Kaigi,
};
use tokio::sync::mpsc;

use crate::place::{Found, Place, Views};

/// What is done, and where.
#[derive(Args, Clone, Debug)]
pub struct Trial {
    /// Steps of the plan: a kind of process (cluster-manager, conference-agent, mixer-node, streaming-node, portal, access-node), which is
    /// killed, or with ":term" asked to end, or with ":stop" halted for half of the step [default: each of them is killed once]
    #[arg(value_name = "STEP")]
    pub plan: Vec<Step>,
    /// How many receive; one more publishes
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=500))]
    pub listeners: u32,
    /// Seconds that each step is looked at
    #[arg(long, value_name = "SECONDS", default_value_t = 12, value_parser = clap::value_parser!(u64).range(3..=600))]
    pub window: u64,
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// Carries the plan out and writes what was noticed. Returns whether everything came back. The first of `signals` ends it.
///
/// # Errors
/// If it can't be carried out.
pub async fn chaos(
    given: &Trial,
    signals: &mut mpsc::Receiver<()>,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let found = given.place.find().await?;
    let ran = run(given, &found, signals).await;
    found.leave().await?;
    let report = ran?;
    if given.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(report.recovered())
}

async fn run(given: &Trial, found: &Found, signals: &mut mpsc::Receiver<()>) -> anyhow::Result<Report> {
    let launcher = found.launcher().context("--pid names the launcher whose processes are killed")?;
    let all = || ALL.map(|process| Step { process: process.to_owned(), blow: Blow::Kill }).to_vec();
    let chaos = Chaos {
        kaigi: Kaigi::new(Arc::new(found.rooms(Views::Default)?), Driver::start(1)?)?,
        launcher,
        plan: if given.plan.is_empty() { all() } else { given.plan.clone() },
        listeners: given.listeners as usize,
        window: Duration::from_secs(given.window),
        cache: given.place.cache(),
    };
    let report = tokio::select! {
        report = chaos.run(|what| eprintln!("{what}")) => report.map_err(anyhow::Error::from),
        _ = signals.recv() => Err(anyhow::anyhow!("given up")),
    };
    chaos.clean_up().await;
    report
}
