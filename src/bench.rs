//! `kaigi bench`: load on a Kaigi, which is started for it unless one is named.

use std::{io::Write, sync::Arc};

use clap::Args;
use kaigi_load::{
    driver::Driver,
    run::{LaunchedJanus, Report, Setup, family},
    scenario::{SHIPPED, Scenario},
    server::{Janus, Kaigi, Server},
};
use tokio::sync::mpsc;

use crate::place::{Found, Place, Views};

/// The process that forwards.
const FORWARDER: &str = "kaigi-access-node";
/// The same of Janus.
const JANUS: &str = "janus";

/// Whom the load is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// Kaigi
    Kaigi,
    /// A videoroom of Debian's Janus, for comparison; one is started for the run
    Janus,
}

/// What is measured, and where.
#[derive(Args, Clone, Debug)]
pub struct Bench {
    /// Scenario: the name of one that comes along, or a TOML file
    #[arg(default_value = "smoke")]
    pub scenario: String,
    /// List the scenarios that come along
    #[arg(long)]
    pub list: bool,
    /// Whom the load is put on
    #[arg(long, value_enum, default_value_t = Target::Kaigi)]
    pub server: Target,
    /// Whom the same load is put on right afterwards, for the ratio of what a packet costs
    #[arg(long, value_enum, value_name = "SERVER")]
    pub beside: Option<Target>,
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// Threads for the clients
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub threads: usize,
    /// JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// Runs a scenario and writes what was measured. Returns whether everything that was to arrive did. The first of `signals` ends it.
///
/// # Errors
/// If it can't be carried out.
pub async fn bench(
    given: &Bench,
    signals: &mut mpsc::Receiver<()>,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    if given.list {
        for (name, _) in SHIPPED {
            writeln!(out, "{name:<16} {}", Scenario::load(name)?.description)?;
        }
        return Ok(true);
    }
    let mut reports = Vec::new();
    for target in [Some(given.server), given.beside].into_iter().flatten() {
        reports.push(bench_one(given, target, signals).await?);
    }
    tell(given, &reports, out)
}

async fn bench_one(
    given: &Bench,
    target: Target,
    signals: &mut mpsc::Receiver<()>,
) -> anyhow::Result<Report> {
    let scenario = Scenario::load(&given.scenario)?;
    if target == Target::Janus {
        let janus = LaunchedJanus::start().await?;
        let measured = measure_janus(given, scenario, &janus, signals).await;
        janus.stop().await;
        return measured;
    }
    let found = given.place.find().await?;
    let measured = measure(given, scenario, &found, signals).await;
    found.leave().await?;
    measured
}

/// Writes one report, or two and what their packets cost beside each other. Returns whether all is good of the first: others are there for
/// comparison.
fn tell(given: &Bench, reports: &[Report], out: &mut impl Write) -> anyhow::Result<bool> {
    match reports {
        [report] if given.json => writeln!(out, "{}", serde_json::to_string_pretty(report)?)?,
        _ if given.json => writeln!(out, "{}", serde_json::to_string_pretty(reports)?)?,
        _ => {
            for report in reports {
                write!(out, "{report}")?;
            }
        }
    }
    if let ([one, other], false) = (reports, given.json) {
        let ratio = other.forwarding_ns_per_packet / one.forwarding_ns_per_packet;
        writeln!(
            out,
            "CPU per received packet: {} takes {ratio:.1} times that of {}",
            other.server, one.server
        )?;
    }
    Ok(reports.first().is_some_and(Report::is_good))
}

async fn measure_janus(
    given: &Bench,
    scenario: Scenario,
    janus: &LaunchedJanus,
    signals: &mut mpsc::Receiver<()>,
) -> anyhow::Result<Report> {
    anyhow::ensure!(
        !scenario.meeting && scenario.churn.is_none(),
        "of Janus only scenarios without meetings and churn can be measured"
    );
    let driver = Driver::start(given.threads)?;
    let setup = Setup {
        scenario,
        server: Server::Janus(Janus::new(janus.host(), driver.clone())?),
        driver,
        processes: family(janus.pid()),
        forwarder: JANUS,
        cache: given.place.cache(),
    };
    run(&setup, signals).await
}

async fn measure(
    given: &Bench,
    scenario: Scenario,
    found: &Found,
    signals: &mut mpsc::Receiver<()>,
) -> anyhow::Result<Report> {
    let driver = Driver::start(given.threads)?;
    let setup = Setup {
        scenario,
        server: Server::Kaigi(Kaigi::new(Arc::new(found.rooms(Views::None)?), driver.clone())?),
        driver,
        processes: found.launcher().map(family).unwrap_or_default(),
        forwarder: FORWARDER,
        cache: given.place.cache(),
    };
    run(&setup, signals).await
}

async fn run(setup: &Setup, signals: &mut mpsc::Receiver<()>) -> anyhow::Result<Report> {
    let report = tokio::select! {
        report = setup.run(|what| eprintln!("{what}")) => report.map_err(anyhow::Error::from),
        _ = signals.recv() => Err(anyhow::anyhow!("given up")),
    };
    setup.clean_up().await;
    report
}
