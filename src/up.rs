//! `kaigi up`: all processes, started in order, kept running, stopped in order.

use std::{path::PathBuf, time::Duration};

use futures::future::join_all;
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    child::keep_running,
    data_dir::{DataDir, DataDirError},
    output::Output,
    plan::{Spec, plan},
    ports::{self, NoFreePorts, PortTaken},
    process::Process,
    readiness::wait_until_ready,
    settings::Settings,
    turn::SecretError,
};

/// How long after the portal the others may become ready before it is said without them.
const OTHERS_TIMEOUT: Duration = Duration::from_secs(5);
/// Who stops with whom, in this order: first nobody comes in any more, then rooms and media end, and what all need ends last.
const STOP_ORDER: [&[Process]; 3] = [
    &[Process::Portal, Process::RtpGateway],
    &[
        Process::ConferenceAgent,
        Process::AccessNode,
        Process::MixerNode,
        Process::StreamingNode,
        Process::TurnServer,
    ],
    &[Process::ClusterManager],
];

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Programs are missing.
    #[error("{dir} has no {}; build them (make build), or name their directory by --bin-dir", .programs.join(", "))]
    ProgramsMissing {
        /// Where they were looked for.
        dir: PathBuf,
        /// Which.
        programs: Vec<String>,
    },
    /// Ports for clients are taken.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    PortsTaken(Vec<PortTaken>),
    /// The secret of its TURN server.
    #[error(transparent)]
    TurnSecret(#[from] SecretError),
    /// Internal ports are.
    #[error(transparent)]
    NoFreePorts(#[from] NoFreePorts),
}

/// Runs until `signals` yields: the first one stops all processes in order, a second one kills them. A `signals` that ends counts as one.
///
/// # Errors
/// If it could not start; see [`UpError`].
pub async fn up(
    settings: &Settings,
    output: &Output,
    signals: &mut mpsc::Receiver<()>,
) -> Result<(), UpError> {
    let began = Instant::now();
    let missing: Vec<String> = Process::ALL
        .into_iter()
        .filter(|process| settings.count(*process) > 0 && !settings.program(*process).is_file())
        .map(Process::program)
        .collect();
    if !missing.is_empty() {
        return Err(UpError::ProgramsMissing { dir: settings.bin_dir.clone(), programs: missing });
    }
    let _data_dir = DataDir::take(&settings.data_dir)?;
    let taken = ports::taken(settings);
    if !taken.is_empty() {
        return Err(UpError::PortsTaken(taken));
    }
    let secret = settings.turn_secret()?;
    let specs = plan(settings, secret.as_ref())?;

    let mut processes = Processes::new(output.clone());
    let start = async {
        start(&specs, &mut processes).await;
        announce(settings, output, &specs, began).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = start => {}
        _ = signals.recv() => {}
    }
    output.say("stopping");
    processes.stop(signals).await;
    output.say("stopped");
    Ok(())
}

async fn start(specs: &[Spec], processes: &mut Processes) {
    let is_first = |spec: &&Spec| spec.replica.process == Process::ClusterManager;
    for spec in specs.iter().filter(is_first) {
        processes.start(spec);
    }
    for spec in specs.iter().filter(is_first) {
        wait_until_ready(spec.health).await;
    }
    for spec in specs.iter().filter(|spec| !is_first(spec)) {
        processes.start(spec);
    }
}

/// Tells once, when it is so, that Kaigi can be used.
async fn announce(settings: &Settings, output: &Output, specs: &[Spec], began: Instant) {
    for spec in specs.iter().filter(|spec| spec.replica.process == Process::Portal) {
        wait_until_ready(spec.health).await;
    }
    let others = join_all(specs.iter().map(async |spec| {
        timeout(OTHERS_TIMEOUT, wait_until_ready(spec.health)).await.map_err(|_| spec.replica.name())
    }));
    for name in others.await.into_iter().filter_map(Result::err) {
        output.say(format!("{name} is not ready yet; see its lines above"));
    }
    output.say(format!("all processes started within {:.1} s", began.elapsed().as_secs_f64()));
    for spec in specs {
        output.say(format!("{} tells how it is at http://{}/metrics", spec.replica.name(), spec.health));
    }
    let data_dir = settings.data_dir.display();
    output.result(format!(
        "Kaigi is ready: {} (management API at {}, credentials in {}; show them: kaigi service show --data-dir {data_dir})",
        settings.url(),
        settings.management_url(),
        settings.data_dir.join(crate::service::CREDENTIALS_FILE).display(),
    ));
}

struct Processes {
    output: Output,
    running: Vec<(Process, CancellationToken, JoinHandle<()>)>,
    kill: CancellationToken,
}

impl Processes {
    fn new(output: Output) -> Self {
        Self { output, running: Vec::new(), kill: CancellationToken::new() }
    }

    fn start(&mut self, spec: &Spec) {
        let stop = CancellationToken::new();
        let keep = keep_running(spec.clone(), self.output.clone(), stop.clone(), self.kill.clone());
        self.running.push((spec.replica.process, stop, tokio::spawn(keep)));
    }

    async fn stop(mut self, signals: &mut mpsc::Receiver<()>) {
        for group in STOP_ORDER {
            let (now, later) = self.running.into_iter().partition(|(process, _, _)| group.contains(process));
            self.running = later;
            let now: Vec<_> = now;
            now.iter().for_each(|(_, stop, _)| stop.cancel());
            let ended = join_all(now.into_iter().map(|(_, _, task)| task));
            tokio::pin!(ended);
            tokio::select! {
                _ = &mut ended => continue,
                Some(()) = signals.recv() => self.kill.cancel(),
            }
            ended.await;
        }
    }
}
