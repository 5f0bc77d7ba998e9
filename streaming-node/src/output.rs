//! One output: its lanes, and the thread that records or pushes what they bring.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use kaigi_intake::LinkContext;
use kaigi_outbound::http::ClientError;
use kaigi_proto::{redact, v1};

use crate::{
    broadcast::{Broadcast, Condition},
    collection::{Collections, WallClock},
    events::OutputTeller,
    lanes::{Kind, LaneFrame, Lanes},
    recording::{Recording, RecordingError},
    store::Outbox,
    target::{Group, Target},
};

/// Frames that wait for the thread; several seconds of both kinds.
const MAX_WAITING: usize = 1024;
/// Between looks at the clock without frames.
const TICK: Duration = Duration::from_millis(20);
/// Between writes of what a recording keeps.
const FLUSH: Duration = Duration::from_millis(500);

/// Why an output does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No thread to be had.
    #[error("no thread: {0}")]
    Thread(#[from] std::io::Error),
    /// For the server.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// What recordings of a node share.
#[derive(Debug)]
pub struct Recorder<'n> {
    /// Those that belong together.
    pub collections: &'n Collections,
    /// On which their times are.
    pub clock: WallClock,
    /// Of those that are stored elsewhere.
    pub outbox: Option<&'n Outbox>,
}

/// An output that runs until dropped or finished.
#[derive(Debug)]
pub struct Output {
    target: Target,
    lanes: Lanes,
    kinds: Vec<Kind>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    file: Option<PathBuf>,
    manifest: Option<PathBuf>,
}

impl Output {
    /// Starts it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If no thread can be had, or no client for its server.
    pub fn start(
        target: Target,
        kinds: Vec<Kind>,
        teller: OutputTeller,
        recorder: &Recorder<'_>,
    ) -> Result<Self, StartError> {
        let origin = Instant::now();
        let (frames, incoming) = mpsc::sync_channel(MAX_WAITING);
        let lanes = Lanes::new(origin, frames);
        let stop = Arc::new(AtomicBool::new(false));
        let (mut file, mut manifest, stopped) = (None, None, Arc::clone(&stop));
        let builder = std::thread::Builder::new().name("output".into());
        let thread = match &target {
            Target::Recording { base, container, group } => {
                let begun = recorder.clock.unix_ms(origin);
                let recording = Recording::new(base.clone(), *container, kinds.clone(), begun);
                let recording = recording.stored(recorder.outbox.cloned());
                let recording = match group {
                    Some(Group { manifest, subject }) => {
                        recording.within(recorder.collections.open(manifest, begun), subject.clone())
                    }
                    None => recording,
                };
                (file, manifest) = (Some(recording.first_file()), Some(recording.manifest()));
                builder.spawn(move || record(recording, &incoming, &stopped, &teller))?
            }
            Target::Broadcast(server) => {
                let broadcast = Broadcast::new(origin, server, kinds.clone(), lanes.key_frames())?;
                tracing::info!(url = redact::url(&server.url), "broadcast begins");
                builder.spawn(move || push(broadcast, &incoming, &stopped, &teller))?
            }
        };
        Ok(Self { target, lanes, kinds, stop, thread: Some(thread), file, manifest })
    }

    /// Whether it goes where it is to go, with the kinds that it is to have.
    #[must_use]
    pub fn is_for(&self, target: &Target, kinds: &[Kind]) -> bool {
        self.target == *target && self.kinds == kinds
    }

    /// The file that a recording begins with.
    #[must_use]
    pub fn file(&self) -> Option<&PathBuf> {
        self.file.as_ref()
    }

    /// What lists a recording's files.
    #[must_use]
    pub fn manifest(&self) -> Option<&PathBuf> {
        self.manifest.as_ref()
    }

    /// Takes its lanes from where they are now.
    pub fn set_lanes(&mut self, description: &v1::OutputDescription, link: &LinkContext) {
        self.lanes.set(Kind::Audio, description.audio.as_ref(), link);
        self.lanes.set(Kind::Video, description.video.as_ref(), link);
    }

    /// Ends it; blocks until its files are complete.
    pub fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("an output's thread panicked");
        }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn record(
    mut recording: Recording,
    incoming: &Receiver<LaneFrame>,
    stop: &AtomicBool,
    teller: &OutputTeller,
) {
    let file = recording.first_file();
    tracing::info!(file = %file.display(), "recording begins");
    teller.tell(v1::OutputState::Starting, "");
    match record_all(&mut recording, incoming, stop, teller).and_then(|()| recording.finish()) {
        Ok(()) => tracing::info!(file = %file.display(), "recording complete"),
        Err(error) => {
            tracing::error!(file = %file.display(), %error, "recording ends");
            metrics::counter!("kaigi_streaming_recordings_failed_total").increment(1);
            teller.tell(v1::OutputState::Failed, &error.to_string());
        }
    }
}

fn record_all(
    recording: &mut Recording,
    incoming: &Receiver<LaneFrame>,
    stop: &AtomicBool,
    teller: &OutputTeller,
) -> Result<(), RecordingError> {
    let mut flushed = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        match incoming.recv_timeout(TICK) {
            Ok(frame) => {
                recording.write(frame)?;
                if recording.is_writing() {
                    teller.tell(v1::OutputState::Active, "");
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        let now = Instant::now();
        if now.saturating_duration_since(flushed) >= FLUSH {
            flushed = now;
            recording.flush()?;
        }
    }
    // What came before the end belongs to it.
    while let Ok(frame) = incoming.try_recv() {
        recording.write(frame)?;
    }
    Ok(())
}

fn push(mut broadcast: Broadcast, incoming: &Receiver<LaneFrame>, stop: &AtomicBool, teller: &OutputTeller) {
    while !stop.load(Ordering::Relaxed) {
        match incoming.recv_timeout(TICK) {
            Ok(frame) => broadcast.write(frame, Instant::now()),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        broadcast.tick(Instant::now());
        match broadcast.condition() {
            Condition::Starting => teller.tell(v1::OutputState::Starting, ""),
            Condition::Active => teller.tell(v1::OutputState::Active, ""),
            Condition::Trouble(reason) => teller.tell(v1::OutputState::Trouble, &reason),
        }
    }
    broadcast.finish();
}
