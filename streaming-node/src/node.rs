//! All outputs and inputs of this node.

use std::{
    collections::{HashMap, hash_map::Entry},
    time::Instant,
};

use kaigi_intake::LinkContext;
use kaigi_proto::v1;
use parking_lot::Mutex;

use crate::{
    collection::{Collections, WallClock},
    door::{Doors, Inlet},
    events::{EventHub, OutputKey},
    ingest::{Input, Place, Source, SourceError, Way},
    lanes::Kind,
    output::{Output, Recorder, StartError},
    store::Outbox,
    target::{Policy, Target, TargetError},
};

/// Outputs of one node at most. The cluster-manager places by load; this bounds what a mistake can take.
const MAX_OUTPUTS: usize = 500;
/// See [`MAX_OUTPUTS`]; of inputs.
const MAX_INPUTS: usize = 200;
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
    /// Nothing is wanted of an input.
    #[error("neither sound nor picture is wanted")]
    NothingWanted,
    /// See [`TargetError`].
    #[error(transparent)]
    Target(#[from] TargetError),
    /// See [`SourceError`].
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A newer description is in force.
    #[error("the description is older than the one in force")]
    Outdated,
    /// The node has as many as it takes.
    #[error("this node has as many outputs or inputs as it can bear")]
    Full,
    /// See [`StartError`].
    #[error(transparent)]
    Start(#[from] StartError),
}

impl From<SetError> for tonic::Status {
    fn from(error: SetError) -> Self {
        let text = error.to_string();
        match error {
            SetError::Id(_)
            | SetError::Nothing
            | SetError::NothingWanted
            | SetError::Target(_)
            | SetError::Source(_) => Self::invalid_argument(text),
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
    /// Where tracks of inputs are found.
    place: Place,
    /// Where encoders push to, if they may.
    doors: Doors,
    collections: Collections,
    /// Of recordings that are stored elsewhere.
    outbox: Option<Outbox>,
    clock: WallClock,
    outputs: Mutex<HashMap<OutputKey, Running>>,
    inputs: Mutex<HashMap<OutputKey, Pulled>>,
}

#[derive(Debug)]
struct Running {
    version: (u64, u64),
    output: Output,
}

#[derive(Debug)]
struct Pulled {
    version: (u64, u64),
    input: Input,
}

impl Node {
    /// Nothing yet.
    #[must_use]
    pub fn new(
        link: LinkContext,
        policy: Policy,
        host: String,
        place: Place,
        outbox: Option<Outbox>,
        doors: Doors,
    ) -> Self {
        let (outputs, inputs) = (Mutex::default(), Mutex::default());
        let (collections, clock) = (Collections::default(), WallClock::default());
        Self {
            link,
            policy,
            events: EventHub::default(),
            host,
            place,
            doors,
            collections,
            outbox,
            clock,
            outputs,
            inputs,
        }
    }

    /// Whether it makes nothing and pulls nothing.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.outputs.lock().is_empty() && self.inputs.lock().is_empty()
    }

    /// Outputs and inputs that there are.
    #[must_use]
    pub fn pipelines(&self) -> usize {
        self.outputs.lock().len() + self.inputs.lock().len()
    }

    /// Lets no more encoders in; those that push go on.
    pub fn close_doors(&self) {
        self.doors.close();
    }

    /// What recordings are to be stored elsewhere.
    #[must_use]
    pub fn outbox(&self) -> Option<&Outbox> {
        self.outbox.as_ref()
    }

    /// Where tracks of inputs are found.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What may be reached.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.policy
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
        check_ids([&description.room_id, &description.id])?;
        if let Some(v1::output_description::Target::Recording(v1::RecordingTarget {
            group: Some(group),
            ..
        })) = &description.target
        {
            check_ids([&group.id, &group.id])?;
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
        let recorder =
            Recorder { collections: &self.collections, clock: self.clock, outbox: self.outbox.as_ref() };
        let mut outputs = self.outputs.lock();
        let count = outputs.len();
        let start = |target: Target, kinds: Vec<Kind>| {
            let teller = self.events.set(&key, &description.agent_id, now);
            Output::start(target, kinds, teller, &recorder)
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
        let manifest = running.output.manifest().map(|file| file.display().to_string()).unwrap_or_default();
        let host = if file.is_empty() { String::new() } else { self.host.clone() };
        metrics::gauge!("kaigi_streaming_outputs").set(outputs.len() as f64);
        Ok(v1::OutputReply { host, file, manifest })
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

    /// Checks an input's description, which may block; its source is to be given to [`Self::set_input`] afterwards.
    ///
    /// # Errors
    /// See [`SetError`].
    pub fn check_input(&self, description: &v1::InputDescription) -> Result<Source, SetError> {
        check_ids([&description.room_id, &description.id])?;
        if [description.audio(), description.video()].iter().all(|wish| *wish == v1::InputWish::None) {
            return Err(SetError::NothingWanted);
        }
        let source = Source::check(&self.policy, description)?;
        let (rtmp, srt) = (self.doors.rtmp.is_some(), self.doors.srt.is_some());
        match source.way {
            Way::PushedRtmp if !rtmp => Err(SourceError::NoDoor("--rtmp-listen").into()),
            Way::PushedSrt if !srt => Err(SourceError::NoDoor("--srt-ports").into()),
            _ => Ok(source),
        }
    }

    /// By which a source comes, if it is pushed.
    fn inlet(&self, source: &Source) -> Result<Option<Inlet>, SourceError> {
        let inlet = match source.way {
            Way::PushedRtmp => self.doors.rtmp.as_ref().map(|door| Inlet::Rtmp(door.expect(&source.url))),
            Way::PushedSrt => {
                let ports = self.doors.srt.as_ref();
                Some(Inlet::Srt(ports.and_then(|ports| ports.take()).ok_or(SourceError::NoPort)?))
            }
            _ => None,
        };
        Ok(inlet)
    }

    /// Makes or changes an input. Gives what is to be pushed to, if it is. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`SetError`].
    pub fn set_input(
        &self,
        description: &v1::InputDescription,
        source: Source,
        now: Instant,
    ) -> Result<v1::InputReply, SetError> {
        let key = (description.room_id.clone(), description.id.clone());
        let version = (description.epoch, description.revision);
        let mut inputs = self.inputs.lock();
        match inputs.get(&key) {
            None if inputs.len() >= MAX_INPUTS => return Err(SetError::Full),
            Some(pulled) if version < pulled.version => return Err(SetError::Outdated),
            Some(_) | None => {}
        }
        let teller = self.events.set(&key, &description.agent_id, now);
        let listen_url = match inputs.get_mut(&key).filter(|pulled| pulled.input.is_for(&source, description))
        {
            Some(pulled) => {
                pulled.input.pause(description);
                pulled.version = version;
                pulled.input.listen_url().to_owned()
            }
            None => {
                let (policy, place) = (self.policy.clone(), self.place.clone());
                // Its tracks have the names of those that the new one will have.
                drop(inputs.remove(&key));
                let inlet = self.inlet(&source)?;
                let input = Input::start(source, description, policy, place, teller, inlet);
                let input = input.map_err(StartError::Thread)?;
                let listen_url = input.listen_url().to_owned();
                inputs.insert(key, Pulled { version, input });
                listen_url
            }
        };
        metrics::gauge!("kaigi_streaming_inputs").set(inputs.len() as f64);
        Ok(v1::InputReply { listen_url })
    }

    /// Ends an input; one that is not there is fine.
    ///
    /// # Errors
    /// [`SetError::Outdated`] if it belongs to a newer epoch.
    pub fn remove_input(&self, request: &v1::RemoveInputRequest) -> Result<(), SetError> {
        let key = (request.room_id.clone(), request.id.clone());
        if self.inputs.lock().get(&key).is_some_and(|pulled| request.epoch < pulled.version.0) {
            return Err(SetError::Outdated);
        }
        self.end_input(&key);
        Ok(())
    }

    fn end_input(&self, key: &OutputKey) {
        let pulled = self.inputs.lock().remove(key);
        if pulled.is_some() {
            self.events.remove(key);
            tracing::info!(room = key.0, input = key.1, "input removed");
        }
        metrics::gauge!("kaigi_streaming_inputs").set(self.inputs.lock().len() as f64);
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
            tracing::warn!(room = key.0, id = key.1, "output or input ended, its agent is away");
            self.end_input(&key);
            let running = self.outputs.lock().remove(&key);
            self.end(&key, running);
        }
    }

    /// Completes everything. May block.
    pub fn finish(&self) {
        drop(std::mem::take(&mut *self.inputs.lock()));
        let all: Vec<_> = self.outputs.lock().drain().collect();
        for (key, running) in all {
            self.end(&key, Some(running));
        }
    }
}

fn check_ids(ids: [&String; 2]) -> Result<(), SetError> {
    for id in ids {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if id.is_empty() || id.len() > MAX_ID || !id.chars().all(fits) {
            return Err(SetError::Id(id.clone()));
        }
    }
    Ok(())
}
