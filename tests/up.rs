//! `kaigi up` with small scripts in place of the programs.
#![allow(clippy::unwrap_used, reason = "a failing test says where")]

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use kaigi::{options::Options, output::Output, ports, process::Process, settings::Settings, up::UpError};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
    task::JoinHandle,
};

/// Reached only if a test fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// Tells its start and its end in files, and says something on both outputs. Its health is answered by the test.
/// A shell can't take back that it was started with SIGINT ignored, as those in the background are.
const PROGRAM: &str = r#"#!/usr/bin/env -S --default-signal=INT sh
cd "$(dirname "$0")"
name=$(basename "$0")
trap 'echo "$name" >> ended; exit 0' INT
while [ $# -gt 0 ]; do
    case "$1" in --health-listen) echo "$2" > "$name.health.new"; mv "$name.health.new" "$name.health";; esac
    shift
done
echo "$KAIGI_CLUSTER_SECRET" > "$name.secret"
echo "said by $name"
echo "complained by $name" >&2
echo "$$" >> "$name.pids"
echo "$name" >> started
while :; do sleep 0.02; done
"#;

/// Memory that is written like a file.
#[derive(Clone, Debug, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Write::write(&mut *self.0.lock().unwrap(), bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What runs unless more is wanted.
fn running() -> impl Iterator<Item = Process> {
    Process::ALL.into_iter().filter(|process| *process != Process::TurnServer)
}

/// A launcher with its directories.
struct Kaigi {
    dir: TempDir,
    settings: Settings,
    log: Captured,
    result: Captured,
    signals: mpsc::Sender<()>,
    task: JoinHandle<Result<(), UpError>>,
}

impl Kaigi {
    /// Starts it with `program` for one of them and [`PROGRAM`] for the others.
    fn start(special: Option<(Process, &str)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for process in running() {
            let text = special.filter(|(which, _)| *which == process).map_or(PROGRAM, |(_, text)| text);
            write_program(&dir.path().join(process.program()), text);
        }
        let settings = settings(dir.path());
        let (log, result) = (Captured::default(), Captured::default());
        let (signals, mut receiver) = mpsc::channel(2);
        let output = Output::start(log.clone(), false, result.clone()).unwrap();
        let task = tokio::spawn({
            let settings = settings.clone();
            async move {
                let ended = kaigi::up::up(&settings, &output, &mut receiver).await;
                output.flush();
                ended
            }
        });
        Self { dir, settings, log, result, signals, task }
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Answers for a process that it is ready, from when it was started.
    fn answer_for(&self, process: Process) -> JoinHandle<()> {
        let path = self.dir.path().join(format!("{}.health", process.program()));
        tokio::spawn(async move {
            let address = until("the process starts", || fs::read_to_string(&path).ok()).await;
            let listener = TcpListener::bind(address.trim()).await.unwrap();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 512];
                let read = stream.read(&mut request).await.unwrap();
                let ready = request[..read].starts_with(b"GET /ready ");
                let status = if ready { "200 OK" } else { "404 Not Found" };
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 6\r\n\r\nready\n");
                // The launcher reads no further than the status.
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        })
    }

    async fn until_ready(&self) -> Vec<JoinHandle<()>> {
        let answering = running().map(|process| self.answer_for(process)).collect();
        until("it is ready", || self.result.text().contains("Kaigi is ready").then_some(())).await;
        answering
    }

    async fn end(self) -> (TempDir, Settings, String) {
        self.signals.send(()).await.unwrap();
        tokio::time::timeout(DEADLINE, self.task).await.unwrap().unwrap().unwrap();
        (self.dir, self.settings, self.log.text())
    }
}

fn write_program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn settings(dir: &Path) -> Settings {
    let free: Vec<u16> = ports::free(4, &[]).unwrap().iter().map(std::net::SocketAddr::port).collect();
    let options = Options {
        data_dir: Some(dir.join("data")),
        bin_dir: Some(dir.to_owned()),
        bind: Some("127.0.0.1".parse().unwrap()),
        http_port: Some(free[0]),
        management_port: Some(free[1]),
        media_port: Some(free[2]),
        media_workers: Some(1),
        gateway_port: Some(free[3]),
        ..Options::default()
    };
    Settings::new(options, None).unwrap()
}

async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_running(pid: &str) -> bool {
    Path::new("/proc").join(pid.trim()).exists()
}

#[tokio::test]
async fn it_starts_in_order_tells_when_it_is_ready_and_stops_in_order() {
    let kaigi = Kaigi::start(None);
    until("the first one starts", || (!kaigi.file("started").is_empty()).then_some(())).await;
    assert_eq!(kaigi.file("started"), "kaigi-cluster-manager\n");
    let _answering = kaigi.until_ready().await;
    assert_eq!(kaigi.file("started").lines().count(), running().count());
    let result = kaigi.result.text();
    assert_eq!(result.lines().count(), 1, "{result}");
    assert!(result.contains(&format!("http://localhost:{}/", kaigi.settings.http_port)), "{result}");
    assert!(result.contains("kaigi service show --data-dir"), "{result}");
    assert_eq!(kaigi.file("kaigi-portal.secret").trim().len(), 64);
    assert_eq!(kaigi.file("kaigi-portal.secret"), kaigi.file("kaigi-cluster-manager.secret"));

    let pids: Vec<String> = running().map(|p| kaigi.file(&format!("{}.pids", p.program()))).collect();
    let (dir, _, log) = kaigi.end().await;
    assert!(log.contains("portal           | said by kaigi-portal\n"), "{log}");
    assert!(log.contains("access-node      | complained by kaigi-access-node\n"), "{log}");
    let ended = fs::read_to_string(dir.path().join("ended")).unwrap();
    let ended: Vec<&str> = ended.lines().collect();
    assert_eq!((ended.len(), ended[ended.len() - 1]), (running().count(), "kaigi-cluster-manager"));
    // They let people in, and end together.
    assert!(["kaigi-portal", "kaigi-rtp-gateway"].contains(&ended[0]), "{ended:?}");
    assert!(pids.iter().all(|pid| !is_running(pid)));
}

#[tokio::test]
async fn a_process_that_is_killed_comes_back_at_the_same_address() {
    let kaigi = Kaigi::start(None);
    let _answering = kaigi.until_ready().await;
    let health = kaigi.file("kaigi-cluster-manager.health");
    let pid = kaigi.file("kaigi-cluster-manager.pids").trim().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    until("it runs again", || (kaigi.file("kaigi-cluster-manager.pids").lines().count() == 2).then_some(()))
        .await;
    assert_eq!(kaigi.file("kaigi-cluster-manager.health"), health);
    assert_eq!(kaigi.file("started").lines().count(), running().count() + 1);
    let (_dir, _, log) = kaigi.end().await;
    assert!(
        log.contains("cluster-manager has ended (signal: 9 (SIGKILL)); starting it again in 100 ms"),
        "{log}"
    );
}

#[tokio::test]
async fn a_process_that_can_not_start_is_tried_again_and_does_not_keep_kaigi_from_stopping() {
    let kaigi = Kaigi::start(Some((Process::MixerNode, "#!/bin/sh\necho no plugins >&2\nexit 3\n")));
    let _answering: Vec<_> =
        running().filter(|p| *p != Process::MixerNode).map(|p| kaigi.answer_for(p)).collect();
    until("it is tried three times", || kaigi.log.text().contains("in 400 ms").then_some(())).await;
    let (_dir, _, log) = kaigi.end().await;
    assert!(log.contains("mixer-node       | no plugins\n"), "{log}");
    assert!(log.contains("mixer-node has ended (exit status: 3); starting it again in 100 ms"), "{log}");
}

#[tokio::test]
async fn a_second_signal_kills_what_does_not_end() {
    let stubborn = PROGRAM.replace("trap 'echo \"$name\" >> ended; exit 0' INT", "trap 'echo stubborn' INT");
    let kaigi = Kaigi::start(Some((Process::Portal, &stubborn)));
    let _answering = kaigi.until_ready().await;
    let pid = kaigi.file("kaigi-portal.pids");
    kaigi.signals.send(()).await.unwrap();
    until("it was asked", || kaigi.log.text().contains("| stubborn").then_some(())).await;
    let (_dir, _, log) = kaigi.end().await;
    assert!(log.contains("portal is killed"), "{log}");
    assert!(!is_running(&pid));
}

#[tokio::test]
async fn a_stop_before_it_is_ready_is_heard() {
    let kaigi = Kaigi::start(None);
    until("the first one starts", || (!kaigi.file("started").is_empty()).then_some(())).await;
    let (dir, _, _) = kaigi.end().await;
    assert_eq!(fs::read_to_string(dir.path().join("started")).unwrap(), "kaigi-cluster-manager\n");
}

#[tokio::test]
async fn what_keeps_it_from_starting_is_told_and_nothing_is_started() {
    async fn refusal(settings: &Settings) -> String {
        let output = Output::start(std::io::sink(), false, std::io::sink()).unwrap();
        let (_signals, mut receiver) = mpsc::channel(1);
        kaigi::up::up(settings, &output, &mut receiver).await.unwrap_err().to_string()
    }
    let kaigi = Kaigi::start(None);
    until("the first one starts", || (!kaigi.file("started").is_empty()).then_some(())).await;
    let again = refusal(&kaigi.settings).await;
    assert!(again.contains("already running") && again.contains("--data-dir"), "{again}");
    let (dir, settings, _) = kaigi.end().await;

    let held = TcpListener::bind(("127.0.0.1", settings.management_port)).await.unwrap();
    let taken = refusal(&settings).await;
    assert!(
        taken.contains(&settings.management_port.to_string()) && taken.contains("--management-port"),
        "{taken}"
    );
    drop(held);

    fs::remove_file(dir.path().join("kaigi-portal")).unwrap();
    let missing = refusal(&settings).await;
    assert!(missing.contains("has no kaigi-portal;"), "{missing}");
    assert_eq!(fs::read_to_string(dir.path().join("started")).unwrap(), "kaigi-cluster-manager\n");
}

/// The real program this time, killed without a chance to stop anybody: the processes see the end of their standard input.
#[tokio::test]
async fn processes_see_the_end_of_a_launcher_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    // `read` returns at the end of standard input.
    let program = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\necho $$ >> pids\nread line\necho \"$KAIGI_EXIT_WITH_STDIN\" >> orphaned\n";
    for process in Process::ALL {
        write_program(&dir.path().join(process.program()), program);
    }
    let settings = settings(dir.path());
    let flag = |name: &str, value: &dyn std::fmt::Display| [format!("--{name}"), value.to_string()];
    let mut launcher = std::process::Command::new(env!("CARGO_BIN_EXE_kaigi"))
        .arg("up")
        .args(flag("data-dir", &settings.data_dir.display()))
        .args(flag("bin-dir", &dir.path().display()))
        .args(flag("bind", &settings.bind))
        .args(flag("http-port", &settings.http_port))
        .args(flag("management-port", &settings.management_port))
        .args(flag("media-port", &settings.media_port))
        .args(flag("media-workers", &settings.media_workers))
        .spawn()
        .unwrap();
    // The shell makes a file before it writes it.
    let written = |text: &String| text.ends_with('\n');
    let read = |name: &str| fs::read_to_string(PathBuf::from(dir.path()).join(name)).ok().filter(written);
    until("a process runs", || read("pids")).await;
    launcher.kill().unwrap();
    launcher.wait().unwrap();
    assert_eq!(until("it sees the end", || read("orphaned")).await, "1\n");
}
