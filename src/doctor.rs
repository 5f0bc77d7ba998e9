//! `kaigi doctor`: what would keep Kaigi from running here, and what to do about it.

use std::{
    fmt,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{process::Command, time::timeout};

use crate::{
    data_dir::{DataDir, DataDirError, LOCK_FILE},
    limits, ports,
    process::Process,
    settings::{SealKey, Settings, Tls},
};

/// Longest time for the mixer-node to look at its plugins; the very first look on a machine scans them all.
const PLUGINS_TIMEOUT: Duration = Duration::from_secs(60);
/// Enough open files for about a thousand clients in one process.
const OPEN_FILES: u64 = 4096;

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Good,
    /// Kaigi runs, with less than it could do; what to do.
    Poor(String),
    /// Kaigi does not run like this; what to do.
    Bad(String),
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub subject: &'static str,
    /// What was found.
    pub found: String,
    /// Whether that is well.
    pub outcome: Outcome,
}

impl Check {
    fn good(subject: &'static str, found: impl Into<String>) -> Self {
        Self { subject, found: found.into(), outcome: Outcome::Good }
    }

    fn poor(subject: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { subject, found: found.into(), outcome: Outcome::Poor(remedy.into()) }
    }

    fn bad(subject: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { subject, found: found.into(), outcome: Outcome::Bad(remedy.into()) }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, remedy) = match &self.outcome {
            Outcome::Good => ("ok  ", None),
            Outcome::Poor(remedy) => ("warn", Some(remedy)),
            Outcome::Bad(remedy) => ("FAIL", Some(remedy)),
        };
        write!(f, "{mark}  {}: {}", self.subject, self.found)?;
        remedy.into_iter().try_for_each(|remedy| write!(f, "; {remedy}"))
    }
}

/// Makes all checks.
pub async fn examine(settings: &Settings) -> Vec<Check> {
    let (data_dir, runs) = data_dir(settings);
    let mut checks = vec![programs(settings), data_dir];
    checks.extend(public_ports(settings, runs));
    checks.extend([plugins(settings).await, web_pages(settings), open_files()]);
    checks.extend(tls(settings));
    checks.extend(seal_key(settings));
    checks.extend(turn(settings));
    checks
}

/// Whether Kaigi runs here.
#[must_use]
pub fn is_sound(checks: &[Check]) -> bool {
    !checks.iter().any(|check| matches!(check.outcome, Outcome::Bad(_)))
}

fn programs(settings: &Settings) -> Check {
    let is_program = |path: &Path| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    let missing: Vec<String> = Process::ALL
        .into_iter()
        .filter(|process| settings.count(*process) > 0 && !is_program(&settings.program(*process)))
        .map(Process::program)
        .collect();
    let dir = settings.bin_dir.display();
    if missing.is_empty() {
        Check::good("programs", format!("all in {dir}"))
    } else {
        let found = format!("{dir} has no {}", missing.join(", "));
        Check::bad("programs", found, "build them: make build")
    }
}

/// Also tells whether a Kaigi runs on it at the moment.
fn data_dir(settings: &Settings) -> (Check, bool) {
    const SUBJECT: &str = "data directory";
    let path = &settings.data_dir;
    let existed = path.exists();
    let check = match DataDir::take(path) {
        Ok(_) if existed => Check::good(SUBJECT, format!("{} can be written", path.display())),
        Ok(taken) => {
            drop(taken);
            // Left as it was found, unless somebody has begun to use it.
            let _ = std::fs::remove_file(path.join(LOCK_FILE)).and_then(|()| std::fs::remove_dir(path));
            Check::good(SUBJECT, format!("{} can be made", path.display()))
        }
        Err(DataDirError::InUse { pid, .. }) => {
            let found = format!("in use by the Kaigi that runs on {} (process {pid})", path.display());
            return (Check::good(SUBJECT, found), true);
        }
        Err(error @ DataDirError::Unusable { .. }) => Check::bad(
            SUBJECT,
            error.to_string(),
            "make it writable for this user, or choose another: --data-dir",
        ),
    };
    (check, false)
}

fn public_ports(settings: &Settings, runs: bool) -> Vec<Check> {
    const SUBJECT: &str = "ports";
    if runs {
        return vec![Check::good(SUBJECT, "not looked at, since Kaigi is running")];
    }
    let taken = ports::taken(settings);
    if taken.is_empty() {
        let list = |ports: &mut dyn Iterator<Item = u16>| {
            ports.map(|port| port.to_string()).collect::<Vec<_>>().join(", ")
        };
        let tcp = list(&mut settings.ports().into_iter().map(|(_, port)| port));
        let udp = list(&mut settings.datagram_doors().map(|(_, door)| door.port()));
        let found = format!("TCP {tcp} and UDP {udp} are free on {}", settings.bind);
        return vec![Check::good(SUBJECT, found)];
    }
    let remedy = |flag| format!("choose another by {flag}, or stop who has it (ss -lptun tells)");
    taken.into_iter().map(|port| Check::bad(SUBJECT, port.to_string(), remedy(port.flag))).collect()
}

async fn plugins(settings: &Settings) -> Check {
    const SUBJECT: &str = "GStreamer plugins";
    const REMEDY: &str = "run scripts/setup.sh, or install the packages named";
    let mut command = Command::new(settings.program(Process::MixerNode));
    command.arg("--check-plugins").stdin(Stdio::null()).kill_on_drop(true);
    let output = match timeout(PLUGINS_TIMEOUT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            return Check::bad(
                SUBJECT,
                format!("kaigi-mixer-node can't be run: {error}"),
                "build it: make build",
            );
        }
        Err(_) => return Check::bad(SUBJECT, "kaigi-mixer-node does not answer", "try again"),
    };
    match output.status.code() {
        Some(0) => Check::good(SUBJECT, "all that the mixer-node needs are there"),
        Some(1) if !output.stdout.trim_ascii().is_empty() => {
            let text = String::from_utf8_lossy(&output.stdout);
            let missing: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            Check::bad(SUBJECT, format!("missing: {}", missing.join(", ")), REMEDY)
        }
        _ => Check::bad(SUBJECT, complaint(&output), REMEDY),
    }
}

/// The status of a program that failed, and the last thing that it said.
fn complaint(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    format!("kaigi-mixer-node failed ({}): {last}", output.status)
}

fn web_pages(settings: &Settings) -> Check {
    const SUBJECT: &str = "web pages";
    match &settings.web_root {
        Some(root) if root.join("index.html").is_file() => {
            Check::good(SUBJECT, format!("in {}", root.display()))
        }
        Some(root) => {
            let found = format!("{} has no index.html", root.display());
            Check::poor(SUBJECT, found, "build them (make web), or choose another directory: --web-root")
        }
        None => Check::poor(SUBJECT, "not built", "build them: make web"),
    }
}

fn open_files() -> Check {
    const SUBJECT: &str = "open files";
    match limits::raise_open_files() {
        Ok(limit) if limit >= OPEN_FILES => Check::good(SUBJECT, format!("{limit} per process")),
        Ok(limit) => {
            let found = format!("only {limit} per process");
            Check::poor(
                SUBJECT,
                found,
                format!("raise the hard limit to {OPEN_FILES} or more (ulimit -Hn, LimitNOFILE=)"),
            )
        }
        Err(error) => Check::poor(SUBJECT, format!("the limit is not known: {error}"), "look at ulimit -Hn"),
    }
}

fn seal_key(settings: &Settings) -> Option<Check> {
    const SUBJECT: &str = "seal key";
    let SealKey::File(path) = &settings.seal_key else { return None };
    Some(match std::fs::read(path) {
        Ok(_) => Check::good(SUBJECT, format!("{} can be read", path.display())),
        Err(error) => Check::bad(SUBJECT, format!("{}: {error}", path.display()), "see --seal-key-file"),
    })
}

/// Where clients look for the TURN server: an address that only this machine has is none for others.
fn turn(settings: &Settings) -> Option<Check> {
    const SUBJECT: &str = "TURN server";
    let turn = settings.turn.as_ref()?;
    let host = turn.host(settings);
    let found = format!("clients are told {}", turn.urls(settings).join(", "));
    let own: Option<std::net::IpAddr> = host.parse().ok();
    let near = own.is_some_and(|own| own.is_loopback()) || host == "localhost";
    Some(match near && !settings.bind.is_loopback() {
        true => Check::poor(
            SUBJECT,
            found,
            "no other machine finds it there: name it by --turn-host or --announce",
        ),
        false => Check::good(SUBJECT, found),
    })
}

fn tls(settings: &Settings) -> Vec<Check> {
    const SUBJECT: &str = "certificate";
    let turn = settings.turn.as_ref().and_then(|turn| turn.encrypted.as_ref());
    let (cert, key) = match (&settings.tls, turn) {
        (Tls::Files { cert, key }, _) => (cert, key),
        (Tls::Off, Some(turn)) => (&turn.cert, &turn.key),
        // Made at the first start.
        (Tls::SelfSigned, _) | (Tls::Off, None) => return Vec::new(),
    };
    let unreadable =
        |path: &Path| std::fs::read(path).err().map(|error| format!("{}: {error}", path.display()));
    let problems: Vec<String> = [cert, key].into_iter().filter_map(|path| unreadable(path)).collect();
    vec![if problems.is_empty() {
        Check::good(SUBJECT, "certificate and key can be read")
    } else {
        Check::bad(SUBJECT, problems.join(", "), "see --tls-cert and --tls-key")
    }]
}
