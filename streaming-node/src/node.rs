//! All outputs of this node.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Instant,
};

use kaigi_intake::LinkContext;
use kaigi_proto::v1;
use parking_lot::Mutex;

use crate::{
    events::{EventHub, OutputKey},
    lanes::Kind,
    output::{Output, StartError},
    target::{Policy, Target, TargetError},
};

/// Outputs of one node at most. The cluster-manager places by load; this bounds what a mistake can take.
const MAX_OUTPUTS: usize = 500;
/// Longest id, in bytes.
const MAX_ID: usize = 128;

/// Why an output is not set.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// The room's or the output's id is none.
    #[error("{0:?} is no id")]
    Id(String),
    /// Neither sound nor picture.
    #[error("the output has neither sound nor picture")]
    Nothing,
    /// See [`TargetError`].
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A newer description is in force.
    #[error("the description is older than the one in force")]
    Outdated,
    /// The node has as many as it takes.
    #[error("this node has as many outputs as it can bear")]
    Full,
    /// See [`StartError`].
    #[error(transparent)]
    Start(#[from] StartError),
}

impl From<SetError> for tonic::Status {
    fn from(error: SetError) -> Self {
        let text = error.to_string();
        match error {
            SetError::Id(_) | SetError::Nothing | SetError::Target(_) => Self::invalid_argument(text),
            SetError::Outdated => Self::failed_precondition(text),
            SetError::Full | SetError::Start(_) => Self::resource_exhausted(text),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Node {
    link: LinkContext,
    policy: Policy,
    events: EventHub,
    /// Under which files are found.
    host: String,
    outputs: Mutex<HashMap<OutputKey, Running>>,
}

#[derive(Debug)]
struct Running {
    version: (u64, u64),
    output: Output,
}

impl Node {
    /// Nothing yet.
    #[must_use]
    pub fn new(link: LinkContext, policy: Policy, host: String) -> Self {
        Self { link, policy, events: EventHub::default(), host, outputs: Mutex::default() }
    }

    /// What agents are told.
    #[must_use]
    pub fn events(&self) -> &EventHub {
        &self.events
    }

    /// Where packets come in.
    #[must_use]
    pub fn link(&self) -> &LinkContext {
        &self.link
    }

    /// Checks a description, which may block; it is to be given to [`Self::set`] afterwards.
    ///
    /// # Errors
    /// See [`SetError`].
    pub fn check(&self, description: &v1::OutputDescription) -> Result<Target, SetError> {
        for id in [&description.room_id, &description.id] {
            let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if id.is_empty() || id.len() > MAX_ID || !id.chars().all(fits) {
                return Err(SetError::Id(id.clone()));
            }
        }
        if description.audio.is_none() && description.video.is_none() {
            return Err(SetError::Nothing);
        }
        Ok(self.policy.check(&description.id, description.target.as_ref())?)
    }

    /// Makes or changes an output. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`SetError`].
    pub fn set(
        &self,
        description: &v1::OutputDescription,
        target: Target,
        now: Instant,
    ) -> Result<v1::OutputReply, SetError> {
        let key = (description.room_id.clone(), description.id.clone());
        let version = (description.epoch, description.revision);
        let lanes = [(Kind::Audio, &description.audio), (Kind::Video, &description.video)];
        let kinds: Vec<Kind> =
            lanes.into_iter().filter(|(_, lane)| lane.is_some()).map(|(kind, _)| kind).collect();
        let mut outputs = self.outputs.lock();
        let count = outputs.len();
        let start = |target: Target, kinds: Vec<Kind>| {
            let teller = self.events.set(&key, &description.agent_id, now);
            Output::start(target, kinds, teller)
        };
        let running = match outputs.entry(key.clone()) {
            Entry::Vacant(_) if count >= MAX_OUTPUTS => return Err(SetError::Full),
            Entry::Vacant(place) => place.insert(Running { version, output: start(target, kinds)? }),
            Entry::Occupied(place) => {
                let running = place.into_mut();
                if version < running.version {
                    return Err(SetError::Outdated);
                }
                if !running.output.is_for(&target, &kinds) {
                    running.output = start(target, kinds)?;
                }
                let _teller = self.events.set(&key, &description.agent_id, now);
                running.version = version;
                running
            }
        };
        running.output.set_lanes(description, &self.link);
        let file = running.output.file().map(|file| file.display().to_string()).unwrap_or_default();
        let host = if file.is_empty() { String::new() } else { self.host.clone() };
        metrics::gauge!("kaigi_streaming_outputs").set(outputs.len() as f64);
        Ok(v1::OutputReply { host, file })
    }

    /// Ends an output and completes its files, which may block; one that is not there is fine.
    ///
    /// # Errors
    /// [`SetError::Outdated`] if it belongs to a newer epoch.
    pub fn remove(&self, request: &v1::RemoveOutputRequest) -> Result<(), SetError> {
        let key = (request.room_id.clone(), request.id.clone());
        let running = {
            let mut outputs = self.outputs.lock();
            if outputs.get(&key).is_some_and(|running| request.epoch < running.version.0) {
                return Err(SetError::Outdated);
            }
            outputs.remove(&key)
        };
        self.end(&key, running);
        Ok(())
    }

    fn end(&self, key: &OutputKey, running: Option<Running>) {
        self.events.remove(key);
        if let Some(running) = running {
            running.output.finish();
            tracing::info!(room = key.0, output = key.1, "output removed");
        }
        metrics::gauge!("kaigi_streaming_outputs").set(self.outputs.lock().len() as f64);
    }

    /// Ends what belongs to agents that have been away for too long; called about once a second, may block.
    pub fn tick(&self, now: Instant) {
        for key in self.events.abandoned(now) {
            tracing::warn!(room = key.0, output = key.1, "output ended, its agent is away");
            let running = self.outputs.lock().remove(&key);
            self.end(&key, running);
        }
    }

    /// Completes everything. May block.
    pub fn finish(&self) {
        let all: Vec<_> = self.outputs.lock().drain().collect();
        for (key, running) in all {
            self.end(&key, Some(running));
        }
    }
}
