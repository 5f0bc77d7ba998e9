//! Watches over a pipeline's process: gives it pictures, takes what comes of them, and makes a new one, later and later, when it fails.

use std::{
    io::{self, Write},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_intake::Failure;
use tokio::sync::watch;

use super::{Algorithm, child::Process, message::Message};
use crate::{
    link::Audience,
    plan::{Plan, Planned, Stop},
    video::{Canvas, Colour, Frame, FrameSlot, Rect, Stamped},
};

/// Pictures on the way through a process. Some algorithms need to see the next before they give one.
const WINDOW: u64 = 4;
/// Longest wait before plan, process and time are looked at again.
const WAIT: Duration = Duration::from_millis(50);
/// The same while nobody watches.
const NAP: Duration = Duration::from_millis(200);
/// A process is kept for so long for who may come back.
const REST: Duration = Duration::from_secs(10);
/// Longest time from the end of a process to its being told.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// First and longest pause before the next process.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// A process that has worked for so long has not failed at the start.
const WELL: Duration = Duration::from_secs(60);

/// What is analysed.
#[derive(Clone, Debug)]
pub struct PipelinePlan {
    /// Where pictures come from.
    pub source: Arc<FrameSlot>,
    /// Who watches what comes of them; without them there is no process. `None` = somebody always does.
    pub audience: Option<Arc<Audience>>,
}

impl PipelinePlan {
    fn rests(&self) -> bool {
        self.audience.as_ref().is_some_and(|audience| !audience.is_present())
    }
}

/// A configured algorithm at work, until dropped.
pub struct Pipeline {
    algorithm: Arc<Algorithm>,
    slot: Arc<FrameSlot>,
    failure: Failure,
    thread: Planned<PipelinePlan>,
}

impl Pipeline {
    /// Begins; `place` is what [`enter`](super::Algorithms::enter) gave.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(
        program: PathBuf,
        algorithm: Arc<Algorithm>,
        place: Arc<()>,
        plan: PipelinePlan,
    ) -> io::Result<Self> {
        let (report, failure) = watch::channel(None);
        let slot = Arc::<FrameSlot>::default();
        let worker = Supervisor {
            program,
            algorithm: Arc::clone(&algorithm),
            slot: Arc::clone(&slot),
            report,
            _place: place,
        };
        let name = format!("pipeline {}", algorithm.id);
        let thread = Planned::start(&name, plan, move |plan, stop| worker.work(plan, stop))?;
        Ok(Self { algorithm, slot, failure, thread })
    }

    /// Another source or audience from now on.
    pub fn set(&self, plan: PipelinePlan) {
        self.thread.set(plan);
    }

    /// Its name.
    #[must_use]
    pub fn algorithm(&self) -> &str {
        &self.algorithm.id
    }

    /// Where what comes of the pictures is; with the times of those that it was made of.
    #[must_use]
    pub fn slot(&self) -> &Arc<FrameSlot> {
        &self.slot
    }

    /// Why it fails, if it does.
    #[must_use]
    pub fn failure(&self) -> Failure {
        self.failure.clone()
    }
}

struct Supervisor {
    program: PathBuf,
    algorithm: Arc<Algorithm>,
    slot: Arc<FrameSlot>,
    report: watch::Sender<Option<Arc<str>>>,
    _place: Arc<()>,
}

/// Why a process is no more.
enum End {
    Asked,
    Unwatched,
    Failed(String),
}

impl Supervisor {
    fn work(&self, plan: &Plan<PipelinePlan>, stop: &Stop) {
        let mut version = 0;
        let Some(mut current) = plan.news(&mut version) else { return };
        let mut pause = BACKOFF.0;
        while !stop.is_asked() {
            if let Some(news) = plan.news(&mut version) {
                current = news;
            }
            if let Some(audience) = current.audience.as_ref().filter(|_| current.rests()) {
                audience.wait(NAP);
                continue;
            }
            let since = Instant::now();
            match self.attend(plan, &mut version, &mut current, stop) {
                End::Asked => return,
                End::Unwatched => pause = BACKOFF.0,
                End::Failed(reason) => {
                    tracing::warn!(algorithm = self.algorithm.id, reason, "pipeline failed");
                    metrics::counter!("kaigi_mixer_pipeline_failures_total").increment(1);
                    self.tell(Some(reason));
                    self.slot.clear();
                    if since.elapsed() >= WELL {
                        pause = BACKOFF.0;
                    }
                    let until = Instant::now() + pause;
                    pause = (pause * 2).min(BACKOFF.1);
                    while !stop.is_asked() && Instant::now() < until {
                        std::thread::sleep(WAIT);
                    }
                }
            }
        }
    }

    fn tell(&self, reason: Option<String>) {
        self.report.send_if_modified(|known| {
            let reason: Option<Arc<str>> = reason.map(Into::into);
            let changed = *known != reason;
            *known = reason;
            changed
        });
    }

    /// Has one process work, until it is over.
    fn attend(
        &self,
        plan: &Plan<PipelinePlan>,
        version: &mut u64,
        current: &mut Arc<PipelinePlan>,
        stop: &Stop,
    ) -> End {
        let zero = Instant::now();
        let slot = Arc::clone(&self.slot);
        let take = move |frame: Arc<dyn Frame>, at: u64| {
            // What has no time, or none that may be, is of now.
            let now = Instant::now();
            let at = zero.checked_add(Duration::from_nanos(at)).filter(|at| *at <= now);
            slot.put(frame, at.unwrap_or(now));
        };
        let mut process = match Process::start(&self.program, &self.algorithm, take) {
            Ok(process) => process,
            Err(error) => return End::Failed(format!("no process: {error}")),
        };
        tracing::info!(algorithm = self.algorithm.id, process = process.id(), "pipeline started");
        let mut work = Work::new(zero);
        loop {
            if stop.is_asked() {
                return End::Asked;
            }
            if let Some(news) = plan.news(version) {
                work.seen = 0;
                *current = news;
            }
            let now = Instant::now();
            if !current.rests() {
                work.watched = now;
            } else if now.saturating_duration_since(work.watched) >= REST {
                return End::Unwatched;
            }
            if let Some(reason) = work.failure(&mut process, &self.algorithm, now) {
                return End::Failed(reason);
            }
            let state = process.state();
            if state.given > 0 {
                self.tell(None);
            }
            if !state.ready {
                process.wait(WAIT, |state| state.ready);
                continue;
            }
            if work.sent >= state.taken + WINDOW {
                process.wait(WAIT, |now| now.taken > state.taken);
                continue;
            }
            if current.rests() {
                std::thread::sleep(WAIT);
                continue;
            }
            match current.source.wait(work.seen, now + WAIT) {
                None => self.slot.clear(),
                Some(newest) if newest.number == work.seen => {}
                Some(newest) => {
                    work.seen = newest.number;
                    if work.has_place(&newest, self.algorithm.max_framerate) {
                        match send(&mut process, &newest, zero, self.algorithm.stall, stop) {
                            Ok(()) => work.has_sent(),
                            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                                return End::Failed("it takes no pictures".to_owned());
                            }
                            Err(error) => {
                                // Its end is told by itself, in a moment.
                                process.wait(LAST_WORDS, |_| false);
                                if process.state().ended.is_none() {
                                    return End::Failed(format!("it takes no pictures: {error}"));
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// How one process gets on.
struct Work {
    started: Instant,
    watched: Instant,
    /// Number of the source's picture that was looked at last.
    seen: u64,
    /// Time of the picture that was sent last.
    sent_of: Option<Instant>,
    sent: u64,
    /// Pictures given, when that was last looked at.
    given: u64,
    /// When the first picture was sent after the last that was given.
    asked_since: Option<Instant>,
}

impl Work {
    fn new(now: Instant) -> Self {
        Self { started: now, watched: now, seen: 0, sent_of: None, sent: 0, given: 0, asked_since: None }
    }

    /// Whether a picture is late enough after the last that was sent.
    fn has_place(&mut self, picture: &Stamped, rate: Option<u32>) -> bool {
        // Pictures do not come quite evenly.
        let least = rate.map_or(Duration::ZERO, |rate| Duration::from_secs(1) * 9 / 10 / rate.max(1));
        let fits = self.sent_of.is_none_or(|last| picture.at.saturating_duration_since(last) >= least);
        if fits {
            self.sent_of = Some(picture.at);
        }
        fits
    }

    fn has_sent(&mut self) {
        self.sent += 1;
        self.asked_since.get_or_insert_with(Instant::now);
    }

    /// Why the process is to end, if it is: by itself, or because it stands still.
    fn failure(&mut self, process: &mut Process, algorithm: &Algorithm, now: Instant) -> Option<String> {
        let state = process.state();
        if let Some(reason) = state.ended {
            // Its status comes a moment after its socket closes.
            let deadline = now + LAST_WORDS;
            let mut status = process.status();
            while status.is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
                status = process.status();
            }
            let status = status.unwrap_or_else(|| "it closed its socket".to_owned());
            return Some(reason.unwrap_or(status));
        }
        if !state.ready {
            let late = now.saturating_duration_since(self.started) >= algorithm.start;
            return late.then(|| format!("it does not start within {} s", algorithm.start.as_secs()));
        }
        // Taking pictures alone is not enough.
        if state.given != self.given {
            (self.given, self.asked_since) = (state.given, None);
        }
        let stalls =
            self.asked_since.is_some_and(|since| now.saturating_duration_since(since) >= algorithm.stall);
        stalls.then(|| format!("it stands still for {} s", algorithm.stall.as_secs()))
    }
}

/// Writes a picture; gives up when the process takes nothing for as long as it may stand still.
fn send(
    process: &mut Process,
    picture: &Stamped,
    zero: Instant,
    patience: Duration,
    stop: &Stop,
) -> io::Result<()> {
    let Some(shown) = picture.frame.picture() else { return Ok(()) };
    let size = shown.size();
    let mut canvas = Canvas::new(size, Colour([16, 128, 128]));
    canvas.blit(&shown, Rect { x: 0, y: 0, size }, 0, 0);
    let at = u64::try_from(picture.at.saturating_duration_since(zero).as_nanos()).unwrap_or(u64::MAX);
    let message = Message::Picture { size, at, data: canvas.into_bytes() };
    let deadline = Instant::now() + patience;
    message.write(&mut Patient { socket: &process.socket, deadline, stop })
}

/// Writes to a socket piece by piece, until a deadline or until it is stopped.
struct Patient<'a> {
    socket: &'a std::os::unix::net::UnixStream,
    deadline: Instant,
    stop: &'a Stop,
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match (&mut &*self.socket).write(bytes) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    if Instant::now() >= self.deadline || self.stop.has_come() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
