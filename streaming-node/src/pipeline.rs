//! Pipelines in general: how they end.

use gstreamer as gst;
use gstreamer::prelude::*;

/// Stops a pipeline in a thread of its own: an element that waits for a silent server takes its time.
pub(crate) fn stop(pipeline: &gst::Pipeline) {
    let pipeline = pipeline.clone();
    if let Some(bus) = pipeline.bus() {
        bus.unset_sync_handler();
    }
    let stop = move || {
        if let Err(error) = pipeline.set_state(gst::State::Null) {
            tracing::warn!(%error, "pipeline does not stop");
        }
    };
    if let Err(error) = std::thread::Builder::new().name("pipeline-end".into()).spawn(stop) {
        tracing::warn!(%error, "pipeline is not stopped");
    }
}
