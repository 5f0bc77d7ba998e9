//! A Janus that is started for a comparison, with a configuration of its own.

use std::{
    net::TcpListener,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::LaunchError;

/// Time to start, and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running Janus. Killed when this is dropped without [`LaunchedJanus::stop`].
#[derive(Debug)]
pub struct LaunchedJanus {
    child: Child,
    directory: TempDir,
    port: u16,
}

/// Only the videoroom and the WebSocket API, over the loopback, with what the comparison needs: ICE-lite as Kaigi, and sessions without
/// keep-alives.
fn configure(directory: &Path, port: u16) -> std::io::Result<()> {
    let general = "general: {\n  session_timeout = 0\n  debug_level = 2\n}\n\
        nat: {\n  ice_lite = true\n  ice_enforce_list = \"127.0.0.1,lo\"\n}\n\
        plugins: {\n  disable = \"libjanus_audiobridge.so,libjanus_duktape.so,libjanus_echotest.so,libjanus_lua.so,libjanus_nosip.so,\
        libjanus_recordplay.so,libjanus_sip.so,libjanus_streaming.so,libjanus_textroom.so,libjanus_videocall.so,libjanus_voicemail.so\"\n}\n\
        transports: {\n  disable = \"libjanus_http.so,libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,libjanus_rabbitmq.so\"\n}\n";
    let websockets =
        format!("general: {{\n  ws = true\n  ws_port = {port}\n  ws_ip = \"127.0.0.1\"\n  wss = false\n}}\n");
    std::fs::write(directory.join("janus.jcfg"), general)?;
    std::fs::write(directory.join("janus.transport.websockets.jcfg"), websockets)?;
    std::fs::write(directory.join("janus.plugin.videoroom.jcfg"), "general: {\n}\n")
}

impl LaunchedJanus {
    /// Starts Debian's `janus` on a free port, and waits until it can be asked.
    ///
    /// # Errors
    /// See [`LaunchError`].
    pub async fn start() -> Result<Self, LaunchError> {
        let directory = tempfile::Builder::new().prefix("kaigi-bench-janus-").tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        configure(directory.path(), port)?;
        let log = std::fs::File::create(directory.path().join("log"))?;
        let child = Command::new("janus")
            .arg("-F")
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let mut launched = Self { child, directory, port };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let ended = launched.child.try_wait()?.is_some();
            if ended || Instant::now() > deadline {
                let log = std::fs::read_to_string(launched.directory.path().join("log")).unwrap_or_default();
                launched.stop().await;
                return Err(LaunchError::NotReady(log));
            }
            sleep(Duration::from_millis(50)).await;
        }
        Ok(launched)
    }

    /// "host:port" of its WebSocket API.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Ends it.
    pub async fn stop(mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended by itself in this moment.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if timeout(PATIENCE, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}
