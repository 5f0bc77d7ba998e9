//! `kaigi bench`: load on a Kaigi, which is started for it unless one is named.

use std::{io::Write, path::PathBuf, sync::Arc};

use anyhow::Context;
use clap::Args;
use kaigi_load::{
    driver::Driver,
    run::{Launched, LaunchedJanus, Report, Setup, family},
    scenario::{SHIPPED, Scenario},
    server::{Janus, Kaigi, Management, Server},
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    manage::{self, Api, path},
    service::Credentials,
};

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
    /// Management API of a running Kaigi; without it one is started for the run
    #[arg(long, value_name = "URL", requires = "service_id", requires = "service_key")]
    pub url: Option<String>,
    /// Service in whose name rooms are made on the running Kaigi
    #[arg(long, env = "KAIGI_SERVICE_ID", value_name = "ID", requires = "service_key")]
    pub service_id: Option<String>,
    /// Key of that service
    #[arg(
        long,
        env = "KAIGI_SERVICE_KEY",
        value_name = "KEY",
        hide_env_values = true,
        requires = "service_id"
    )]
    pub service_key: Option<String>,
    /// Process whose children's processor time and memory are measured: the launcher of the running Kaigi
    #[arg(long, value_name = "PID", requires = "url")]
    pub pid: Option<u32>,
    /// Threads for the clients
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    pub threads: usize,
    /// Where recordings are kept that are made at the first run [default: ~/.cache/kaigi-bench]
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// Arguments for `kaigi up`, if a Kaigi is started
    #[arg(last = true, value_name = "ARGUMENTS")]
    pub up: Vec<String>,
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
    let scenario = Scenario::load(&given.scenario)?;
    if given.server == Target::Janus {
        let janus = LaunchedJanus::start().await?;
        let measured = measure_janus(given, scenario, &janus, signals).await;
        janus.stop().await;
        return tell(given, &measured?, out);
    }
    let launched = match given.url {
        Some(_) => None,
        None => {
            let program = std::env::current_exe().context("this program can't be found")?;
            Some(Launched::start(&program, &given.up).await?)
        }
    };
    let measured = measure(given, scenario, launched.as_ref(), signals).await;
    let panics = match launched {
        Some(launched) => launched.stop().await,
        None => Vec::new(),
    };
    let report = measured?;
    anyhow::ensure!(panics.is_empty(), "the server panicked: {}", panics.join("; "));
    tell(given, &report, out)
}

fn tell(given: &Bench, report: &Report, out: &mut impl Write) -> anyhow::Result<bool> {
    if given.json {
        writeln!(out, "{}", serde_json::to_string_pretty(report)?)?;
    } else {
        write!(out, "{report}")?;
    }
    Ok(report.is_good())
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
        cache: given.cache.clone().unwrap_or_else(default_cache),
    };
    run(&setup, signals).await
}

async fn measure(
    given: &Bench,
    scenario: Scenario,
    launched: Option<&Launched>,
    signals: &mut mpsc::Receiver<()>,
) -> anyhow::Result<Report> {
    let (url, credentials, pid) = match (launched, &given.url, &given.service_id, &given.service_key) {
        (Some(launched), ..) => {
            let credentials = Credentials::read(launched.data_dir())?;
            (launched.management_url(), credentials, Some(launched.pid()))
        }
        (None, Some(url), Some(id), Some(key)) => {
            let credentials = Credentials { id: id.clone(), key: key.clone(), room: None };
            (url.clone(), credentials, given.pid)
        }
        (None, ..) => anyhow::bail!("a running Kaigi needs --url, --service-id and --service-key"),
    };
    let api = Api::new(manage::Target { url, ca: None, id: credentials.id, key: credentials.key })?;
    let driver = Driver::start(given.threads)?;
    let setup = Setup {
        scenario,
        server: Server::Kaigi(Kaigi::new(Arc::new(Rooms(api)), driver.clone())?),
        driver,
        processes: pid.map(family).unwrap_or_default(),
        forwarder: FORWARDER,
        cache: given.cache.clone().unwrap_or_else(default_cache),
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

fn default_cache() -> PathBuf {
    let home = std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from);
    std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from).join("kaigi-bench")
}

/// Rooms by the management API.
struct Rooms(Api);

impl Management for Rooms {
    fn create_room(&self, name: &str) -> Result<String, String> {
        let room = json!({"name": name, "options": {"views": []}});
        let made = self.0.post("v1/rooms", &room).map_err(|error| error.to_string())?;
        let id = made.get("_id").and_then(Value::as_str);
        id.map(str::to_owned).ok_or_else(|| "a new room has no id".to_owned())
    }

    fn delete_room(&self, room: &str) -> Result<(), String> {
        self.0.delete(&path(&["v1", "rooms", room])).map_err(|error| error.to_string())
    }

    fn token(&self, room: &str, user: &str) -> Result<String, String> {
        let asked =
            json!({"user": user, "role": "presenter", "preference": {"isp": "isp", "region": "region"}});
        let token = self.0.post(&path(&["v1", "rooms", room, "tokens"]), &asked);
        let token = token.map_err(|error| error.to_string())?;
        token.as_str().map(str::to_owned).ok_or_else(|| "a token is no text".to_owned())
    }
}
