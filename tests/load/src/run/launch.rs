//! A Kaigi that is started for a run, in a directory that is removed afterwards.

use std::{
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Time to start, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why it does not run.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Files, ports or the program.
    #[error("Kaigi can't be started: {0}")]
    Io(#[from] std::io::Error),
    /// It has ended or took too long.
    #[error("Kaigi did not become ready; its log ends with:\n{0}")]
    NotReady(String),
}

/// A running Kaigi. Killed when this is dropped without [`Launched::stop`].
#[derive(Debug)]
pub struct Launched {
    child: Child,
    directory: TempDir,
    management: u16,
}

fn free_ports() -> std::io::Result<[u16; 3]> {
    // All are held until all are known.
    let tcp = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
    loop {
        let media = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        // Media go by UDP and TCP on the same number.
        if TcpListener::bind(("127.0.0.1", media)).is_ok() {
            return Ok([tcp[0].local_addr()?.port(), tcp[1].local_addr()?.port(), media]);
        }
    }
}

impl Launched {
    /// Starts `program up` on free ports with further arguments, and waits until it is ready.
    ///
    /// # Errors
    /// See [`LaunchError`].
    pub async fn start(program: &Path, arguments: &[String]) -> Result<Self, LaunchError> {
        let directory = tempfile::Builder::new().prefix("kaigi-bench-").tempdir()?;
        let [http, management, media] = free_ports()?;
        let log = std::fs::File::create(directory.path().join("log"))?;
        let mut child = Command::new(program)
            .arg("up")
            .arg("--data-dir")
            .arg(directory.path())
            .args(["--bind", "127.0.0.1", "--http-port", &http.to_string()])
            .args(["--management-port", &management.to_string(), "--media-port", &media.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C is this program's to hear.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take();
        let launched = Self { child, directory, management };
        let ready = async {
            let mut lines = BufReader::new(stdout?).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if line.starts_with("Kaigi is ready") {
                    return Some(());
                }
            }
            None
        };
        match timeout(PATIENCE, ready).await {
            Ok(Some(())) => Ok(launched),
            Ok(None) | Err(_) => {
                let log = std::fs::read_to_string(launched.log()).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let last = lines[lines.len().saturating_sub(10)..].join("\n");
                launched.stop().await;
                Err(LaunchError::NotReady(last))
            }
        }
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Of the launcher.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Of the management API.
    #[must_use]
    pub fn management_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.management)
    }

    /// Where its credentials are.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    /// Ends it as a user would; lines of its log that tell of a panic.
    pub async fn stop(mut self) -> Vec<String> {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended by itself in this moment.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if timeout(PATIENCE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().filter(|line| line.contains("panicked at")).map(str::to_owned).collect()
    }
}
