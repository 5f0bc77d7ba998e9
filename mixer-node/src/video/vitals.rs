//! How a codec's pipeline fares, and its end: a codec that stands still can't be ended, only left behind.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use gstreamer as gst;
use gstreamer::prelude::*;
use parking_lot::Mutex;

use super::PipelineError;
use crate::watchdog::CodecCount;

/// Pipelines that are ending at once at most. Each has a thread or two, and its codec's memory.
const MAX_ENDING: usize = 64;

static ENDING: AtomicUsize = AtomicUsize::new(0);

/// Counts what a codec is given and what it makes.
#[derive(Clone, Debug, Default)]
pub(super) struct Vitals(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    given: AtomicU64,
    made: AtomicU64,
}

impl Vitals {
    /// Begins to count at the codec's two ends.
    pub(super) fn watch(&self, codec: &gst::Element) -> Result<(), PipelineError> {
        for (name, is_entrance) in [("sink", true), ("src", false)] {
            let pad = codec.static_pad(name).ok_or(PipelineError::Pad("codec", name))?;
            let counters = Arc::clone(&self.0);
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
                let counter = if is_entrance { &counters.given } else { &counters.made };
                counter.fetch_add(1, Ordering::Relaxed);
                gst::PadProbeReturn::Ok
            });
        }
        Ok(())
    }

    /// The codec is given something.
    pub(super) fn given(&self) {
        self.0.given.fetch_add(1, Ordering::Relaxed);
    }

    /// The codec has made something.
    pub(super) fn made(&self) {
        self.0.made.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted. `waiting`: whether there is something for the codec to take.
    pub(super) fn count(&self, waiting: bool) -> CodecCount {
        CodecCount {
            waiting,
            given: self.0.given.load(Ordering::Relaxed),
            made: self.0.made.load(Ordering::Relaxed),
        }
    }
}

/// Whether what a pipeline makes is still wanted: one that is left behind may make something yet, at any time.
#[derive(Clone, Debug)]
pub(super) struct Lease(Arc<Mutex<bool>>);

impl Default for Lease {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(true)))
    }
}

impl Lease {
    /// Does that, if it is wanted.
    pub(super) fn use_it(&self, work: impl FnOnce()) {
        let held = self.0.lock();
        if *held {
            work();
        }
    }

    /// From now on nothing is.
    pub(super) fn end(&self) {
        *self.0.lock() = false;
    }
}

/// Refuses to start another pipeline while so many do not end that something must be wrong with all of them.
pub(super) fn check_room() -> Result<(), PipelineError> {
    if ENDING.load(Ordering::Relaxed) < MAX_ENDING { Ok(()) } else { Err(PipelineError::Stuck) }
}

/// Counted as one that is ending, as long as it is.
#[derive(Debug)]
pub(super) struct Ending(());

impl Ending {
    pub(super) fn begin() -> Self {
        let now = ENDING.fetch_add(1, Ordering::Relaxed) + 1;
        metrics::gauge!("kaigi_mixer_pipelines_ending").set(now as f64);
        Self(())
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let left = ENDING.fetch_sub(1, Ordering::Relaxed) - 1;
        metrics::gauge!("kaigi_mixer_pipelines_ending").set(left as f64);
    }
}

/// Ends a pipeline, in a thread of its own: its codec may have a picture to finish, or never end.
pub(super) fn end(pipeline: &gst::Pipeline) {
    let (counted, ended) = (Ending::begin(), pipeline.clone());
    let ending = move || {
        let _counted = counted;
        stop(&ended);
    };
    if std::thread::Builder::new().name("pipeline-end".into()).spawn(ending).is_err() {
        stop(pipeline);
    }
}

/// Stops a pipeline for good; waits for it.
pub(super) fn stop(pipeline: &gst::Pipeline) {
    if let Some(bus) = pipeline.bus() {
        bus.unset_sync_handler();
    }
    if let Err(error) = pipeline.set_state(gst::State::Null) {
        tracing::warn!(%error, "pipeline does not stop");
    }
}
