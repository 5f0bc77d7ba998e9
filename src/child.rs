//! One process, kept running.

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::BufReader,
    process::{Child, ChildStdin, Command},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{backoff::Backoff, output, output::Output, plan::Spec};

/// Time for a clean end after SIGINT, which has a process end without handing anything over; they promise two seconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for the last lines of a process that has ended; a process that it left behind might hold its output open.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Starts the process, again whenever it ends, until `stop`; then ends it, at once if `kill` is cancelled too.
pub(crate) async fn keep_running(
    spec: Spec,
    output: Output,
    stop: CancellationToken,
    kill: CancellationToken,
) {
    let name = &*spec.replica.name();
    let mut backoff = Backoff::default();
    while !stop.is_cancelled() {
        let started = Instant::now();
        let what = match Running::start(&spec, &output) {
            Err(error) => format!("{name} can't be started: {}: {error}", spec.program.display()),
            Ok(mut running) => {
                let ended = tokio::select! {
                    ended = running.child.wait() => Some(ended),
                    () = stop.cancelled() => None,
                };
                let ended = match ended {
                    Some(ended) => ended,
                    None => running.end(&output, name, &kill).await,
                };
                running.last_lines().await;
                if stop.is_cancelled() {
                    return;
                }
                format!("{name} has ended ({})", describe(ended))
            }
        };
        let pause = backoff.pause_after(started.elapsed());
        output.say(format!("{what}; starting it again in {} ms", pause.as_millis()));
        tokio::select! {
            () = sleep(pause) => {}
            () = stop.cancelled() => {}
        }
    }
}

fn describe(ended: io::Result<ExitStatus>) -> String {
    ended.map_or_else(|error| error.to_string(), |status| status.to_string())
}

struct Running {
    child: Child,
    /// Closed when the launcher ends in whatever way, which ends the process too.
    _stdin: Option<ChildStdin>,
    lines: JoinSet<()>,
}

impl Running {
    fn start(spec: &Spec, output: &Output) -> io::Result<Self> {
        let mut command = Command::new(&spec.program);
        spec.without_env.iter().for_each(|name| {
            command.env_remove(name);
        });
        let mut child = command
            .args(&spec.args)
            .envs(spec.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that Ctrl-C in the terminal reaches the launcher alone and the order of ending is its.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take();
        let mut lines = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            lines.spawn(output::pump(output.clone(), spec.replica, BufReader::new(stdout)));
        }
        if let Some(stderr) = child.stderr.take() {
            lines.spawn(output::pump(output.clone(), spec.replica, BufReader::new(stderr)));
        }
        Ok(Self { child, _stdin: stdin, lines })
    }

    async fn end(&mut self, output: &Output, name: &str, kill: &CancellationToken) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGINT);
        let ended = tokio::select! {
            ended = timeout(STOP_TIMEOUT, self.child.wait()) => ended.ok(),
            () = kill.cancelled() => None,
        };
        if let Some(ended) = ended {
            return ended;
        }
        output.say(format!("{name} is killed"));
        self.signal(Signal::SIGKILL);
        self.child.kill().await?;
        self.child.wait().await
    }

    /// To the process and what it started.
    fn signal(&self, signal: Signal) {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // It may have ended by itself in this moment.
            let _ = killpg(Pid::from_raw(id), signal);
        }
    }

    async fn last_lines(&mut self) {
        let all = async { while self.lines.join_next().await.is_some() {} };
        if timeout(LAST_LINES, all).await.is_err() {
            self.lines.abort_all();
        }
    }
}
