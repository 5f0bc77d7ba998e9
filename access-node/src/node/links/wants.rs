//! The tracks that the other workers of the process want, whether or not they are published here.

use std::collections::HashMap;

use kaigi_proto::ids::TrackId;

use crate::{
    ids::WorkerNumber,
    keys::{AttachmentKey, FlowKey},
};

/// One that another worker wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) worker: WorkerNumber,
    /// What that worker calls it.
    pub(super) flow: FlowKey,
    /// How it gets it, as long as the track is published here.
    pub(super) attachment: Option<AttachmentKey>,
}

/// All of them: one of a track and worker at most, and of a worker as many as it has flows.
#[derive(Debug, Default)]
pub(super) struct Wants(HashMap<TrackId, Vec<Want>>);

impl Wants {
    /// Adds one; returns that of the same worker before it.
    pub(super) fn add(&mut self, track: &TrackId, worker: WorkerNumber, flow: FlowKey) -> Option<Want> {
        let new = Want { worker, flow, attachment: None };
        let wants = self.0.entry(track.clone()).or_default();
        if let Some(before) = wants.iter_mut().find(|want| want.worker == worker) {
            return Some(std::mem::replace(before, new));
        }
        wants.push(new);
        None
    }

    /// Takes one away, if it is for that flow.
    pub(super) fn remove(&mut self, track: &TrackId, worker: WorkerNumber, flow: FlowKey) -> Option<Want> {
        let wants = self.0.get_mut(track)?;
        let at = wants.iter().position(|want| (want.worker, want.flow) == (worker, flow))?;
        let removed = wants.swap_remove(at);
        if wants.is_empty() {
            self.0.remove(track);
        }
        Some(removed)
    }

    /// Those of a track.
    pub(super) fn of(&mut self, track: &TrackId) -> &mut [Want] {
        self.0.get_mut(track).map(Vec::as_mut_slice).unwrap_or_default()
    }
}
