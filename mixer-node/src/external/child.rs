//! A pipeline's process, as the node sees it.

use std::{
    io::{self, BufRead, BufReader, Read},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use rustix::process::{Pid, Signal, kill_process_group};

use super::{Algorithm, Algorithms, message::Message, worker::Setup};
use crate::video::{Canvas, Frame};

/// Lines of what a process says that are kept; it may say more, for nothing.
const MAX_LINES: usize = 50;
/// Bytes of such a line.
const MAX_LINE: u64 = 500;
/// Longest time for a piece of a picture to be taken, before who writes looks at the time again.
const PIECE: Duration = Duration::from_millis(100);
/// Settings of the node's own, its secrets among them, are nothing to a process of somebody else's making.
const OWN: &str = "KAIGI_";

/// Runs until dropped; it and what it has started are killed then.
pub(super) struct Process {
    child: Child,
    /// Pictures to the process go here.
    pub(super) socket: UnixStream,
    progress: Arc<Progress>,
}

/// How far the process is.
#[derive(Debug, Default)]
struct Progress {
    state: Mutex<State>,
    changed: Condvar,
}

/// What has come from the process.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// The pipeline plays.
    pub(super) ready: bool,
    /// Pictures taken.
    pub(super) taken: u64,
    /// Pictures given.
    pub(super) given: u64,
    /// No more comes; why, if that was told.
    pub(super) ended: Option<Option<String>>,
}

impl Process {
    /// Starts one. `take` is called with each picture that comes of it, and its time in nanoseconds, from a thread of its own.
    ///
    /// # Errors
    /// If the system gives no process, socket or thread.
    pub(super) fn start(
        program: &Path,
        algorithm: &Algorithm,
        take: impl Fn(Arc<dyn Frame>, u64) + Send + 'static,
    ) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(OWN)) {
            command.env_remove(name);
        }
        let child = command
            .arg(Algorithms::WORKER)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        // From here on it is killed if something fails.
        let mut process = Self { child, socket, progress: Arc::default() };
        if let Some(said) = process.child.stderr.take() {
            let name = algorithm.id.clone();
            thread("pipeline log", move || log(&name, said))?;
        }
        let (from, progress) = (process.socket.try_clone()?, Arc::clone(&process.progress));
        thread("pipeline", move || progress.follow(from, take))?;
        process.socket.set_write_timeout(Some(PIECE))?;
        let Algorithm { pipeline, memory_mib, .. } = algorithm;
        let setup = Setup { pipeline: pipeline.clone(), memory_mib: *memory_mib };
        Message::Setup(serde_json::to_vec(&setup)?).write(&mut process.socket)?;
        Ok(process)
    }

    /// How far it is.
    pub(super) fn state(&self) -> State {
        self.progress.state.lock().clone()
    }

    /// Waits until `is_so`, for `longest` at most.
    pub(super) fn wait(&self, longest: Duration, is_so: impl Fn(&State) -> bool) {
        let mut state = self.progress.state.lock();
        self.progress.changed.wait_while_for(
            &mut state,
            |state| !is_so(state) && state.ended.is_none(),
            longest,
        );
    }

    /// How it has ended, if it has.
    pub(super) fn status(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// Of the process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended already, and what it started not.
            let _gone = kill_process_group(group, Signal::KILL);
        }
        let _gone = self.child.kill();
        let _closed = self.socket.shutdown(std::net::Shutdown::Both);
        // A killed process ends as soon as the system lets it; nothing else waits for that.
        let _status = self.child.wait();
    }
}

impl Progress {
    fn follow(&self, mut from: UnixStream, take: impl Fn(Arc<dyn Frame>, u64)) {
        let mut reason = None;
        while let Ok(message) = Message::read(&mut from) {
            let mut state = self.state.lock();
            match message {
                Message::Ready => state.ready = true,
                Message::Taken => state.taken += 1,
                Message::Picture { size, at, data } => {
                    state.given += 1;
                    drop(state);
                    if let Some(canvas) = Canvas::from_bytes(size, data) {
                        take(Arc::new(canvas), at);
                    }
                }
                Message::Failed(text) => {
                    reason = Some(text);
                    break;
                }
                // Not its to say.
                Message::Setup(_) => break,
            }
            self.changed.notify_all();
        }
        self.state.lock().ended = Some(reason);
        self.changed.notify_all();
    }
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

/// Passes on what a process says, up to a bound; what is more is read and forgotten, so that it can't stand still for it.
fn log(algorithm: &str, said: impl Read) {
    let mut said = BufReader::new(said);
    for _ in 0..MAX_LINES {
        let mut line = Vec::new();
        match said.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(1..) => {
                let line = String::from_utf8_lossy(&line);
                tracing::info!(algorithm, said = line.trim_end(), "pipeline");
            }
            Ok(0) | Err(_) => return,
        }
    }
    let _all = io::copy(&mut said, &mut io::sink());
}
