//! Changes of streams: mix, unmix, pause, play, filter, region, layout; several in a row stop at the first that fails.

use std::{collections::VecDeque, time::Instant};

use kaigi_proto::{
    ids::{ParticipantId, StreamId},
    v1::{self, stream_event::Change},
};

use super::{
    Room,
    calls::{Pending, node_refusal},
    decisions::{By, Why},
    input::{CallError, RequestId, StreamOperation},
    media::{Kind, Kinds},
    output::Reply,
    refusal::Refusal,
    sessions::SessionKey,
    state::{Carrier, Phase},
};

/// Changes of one stream that are left to do.
#[derive(Debug)]
pub(super) struct Script {
    stream: StreamId,
    by: By,
    left: VecDeque<Step>,
    /// Whether the stream is the reply.
    describe: bool,
}

#[derive(Debug)]
enum Step {
    Operation(StreamOperation),
    Activate { kind: Kind, active: bool, repeat: bool },
}

impl Room {
    /// A client's change: of its own stream, or of any if its role is admin.
    pub(super) fn control_stream(
        &mut self,
        request: RequestId,
        participant: &ParticipantId,
        stream: StreamId,
        operations: Vec<StreamOperation>,
    ) -> Result<Option<Reply>, Refusal> {
        self.may_control(participant, &stream)?;
        let owner = self.state.publications.get(&stream).map(|publication| &publication.owner);
        let by = owner.map_or(By::Administrator, |owner| Self::by(Some(participant), owner));
        self.start_script(request, stream, by, operations);
        Ok(None)
    }

    /// Whether a participant may control a stream: it is its own, or anybody's to an admin.
    pub(super) fn may_control(&self, participant: &ParticipantId, stream: &StreamId) -> Result<(), Refusal> {
        let is_admin = self.participant(participant)?.is_admin();
        if self.state.views.iter().any(|view| view.stream == *stream) {
            return Err(Refusal::StreamIsMixed);
        }
        self.refuse_selecting(stream)?;
        let publication = self.state.publications.get(stream).ok_or(Refusal::UnknownStream)?;
        if publication.owner != *participant && !is_admin { Err(Refusal::Unauthorized) } else { Ok(()) }
    }

    /// The management's change.
    pub(super) fn update_stream(
        &mut self,
        request: RequestId,
        stream: StreamId,
        operations: Vec<StreamOperation>,
    ) -> Result<Option<Reply>, Refusal> {
        self.refuse_selecting(&stream)?;
        let mixed = self.state.views.iter().any(|view| view.stream == stream);
        if !mixed && !self.state.publications.contains_key(&stream) {
            return Err(Refusal::UnknownStream);
        }
        self.start_script(request, stream, By::Management, operations);
        Ok(None)
    }

    fn start_script(
        &mut self,
        request: RequestId,
        stream: StreamId,
        by: By,
        operations: Vec<StreamOperation>,
    ) {
        let left = operations.into_iter().map(Step::Operation).collect();
        let describe = by == By::Management;
        self.scripts.insert(request, Script { stream, by, left, describe });
        self.run_script(request);
    }

    /// Does what is left until a node has to be waited for.
    fn run_script(&mut self, request: RequestId) {
        while let Some(script) = self.scripts.get_mut(&request) {
            let stream = script.stream.clone();
            let result = match script.left.pop_front() {
                None => return self.finish_script(request),
                Some(Step::Activate { kind, active, repeat }) => {
                    self.activate_stream(request, &stream, kind, active, repeat)
                }
                Some(Step::Operation(operation)) => self.run_operation(request, &stream, operation),
            };
            match result {
                Ok(Progress::Done) => {}
                Ok(Progress::Waits) => return,
                Err(refusal) => {
                    self.scripts.remove(&request);
                    return self.refuse(request, refusal);
                }
            }
        }
    }

    fn finish_script(&mut self, request: RequestId) {
        let Some(script) = self.scripts.remove(&request) else { return };
        let result = match (script.describe, self.describe_stream(&script.stream)) {
            (false, _) => Ok(Reply::Done),
            (true, Some(stream)) => Ok(Reply::Stream(Box::new(stream))),
            (true, None) => Err(Refusal::StreamNotReady),
        };
        self.reply(request, result);
    }

    fn run_operation(
        &mut self,
        request: RequestId,
        stream: &StreamId,
        operation: StreamOperation,
    ) -> Result<Progress, Refusal> {
        match operation {
            StreamOperation::Mix(view) => self.mix(stream, &view).map(|()| Progress::Done),
            StreamOperation::Unmix(view) => self.unmix(stream, &view).map(|()| Progress::Done),
            StreamOperation::Filter(filter) => self.set_filter(stream, filter).map(|()| Progress::Done),
            StreamOperation::SetRegion { view, region } => {
                self.set_region(stream, &view, &region).map(|()| Progress::Done)
            }
            StreamOperation::Layout(layout) => self.set_layout(stream, layout).map(|()| Progress::Done),
            StreamOperation::Assignment(assignment) => {
                self.assign_region(stream, &assignment).map(|()| Progress::Done)
            }
            StreamOperation::Status { kinds, active, repeat } => {
                let steps = self.status_steps(stream, kinds, active, repeat)?;
                if let Some(script) = self.scripts.get_mut(&request) {
                    steps.into_iter().rev().for_each(|step| script.left.push_front(step));
                }
                Ok(Progress::Done)
            }
        }
    }

    /// One step for each of the wanted kinds that the stream has; it must have one.
    fn status_steps(
        &self,
        stream: &StreamId,
        kinds: Kinds,
        active: bool,
        repeat: bool,
    ) -> Result<Vec<Step>, Refusal> {
        if self.state.views.iter().any(|view| view.stream == *stream) {
            return Err(Refusal::StreamIsMixed);
        }
        let publication = self.state.publications.get(stream).ok_or(Refusal::UnknownStream)?;
        if publication.phase != Phase::Established {
            return Err(Refusal::StreamNotReady);
        }
        let wanted = |kind: &Kind| kinds.has(*kind) && publication.first_track(*kind).is_some();
        let steps: Vec<Step> = Kind::ALL
            .into_iter()
            .filter(wanted)
            .map(|kind| Step::Activate { kind, active, repeat })
            .collect();
        if steps.is_empty() {
            return Err(Refusal::NoTrackToMute);
        }
        let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(wanted).collect();
        self.may_flow(&SessionKey::Publication(stream.clone()), &kinds, active)?;
        Ok(steps)
    }

    fn activate_stream(
        &mut self,
        script: RequestId,
        stream: &StreamId,
        kind: Kind,
        active: bool,
        repeat: bool,
    ) -> Result<Progress, Refusal> {
        let session = SessionKey::Publication(stream.clone());
        self.may_flow(&session, &[kind], active)?;
        let publication = self.state.publications.get_mut(stream).ok_or(Refusal::UnknownStream)?;
        // What is paused stays paused when it is permitted again.
        publication.withheld.set(kind, false);
        let is_so = publication.tracks.iter().filter(|t| t.kind == kind).all(|track| track.active == active);
        if is_so {
            if repeat {
                self.tell_status(stream, kind, active);
            }
            return Ok(Progress::Done);
        }
        if let Carrier::Ingest(_) | Carrier::Analysis { .. } = publication.carrier {
            // Its description says it to the node.
            publication.set_active(kind, active);
            self.views_changed = true;
            self.tell_status(stream, kind, active);
            let why = if active { Why::SourceResumed } else { Why::SourcePaused };
            let by = self.scripts.get(&script).map_or(By::Management, |script| script.by);
            self.decided_for_takers(stream, kind, &why(by));
            return Ok(Progress::Done);
        }
        let pending = Pending::StreamActive { script, stream: stream.clone(), kind, active };
        self.ask_flow(&session, kind, active, pending)?;
        Ok(Progress::Waits)
    }

    pub(super) fn stream_activated(
        &mut self,
        script: RequestId,
        stream: &StreamId,
        kind: Kind,
        active: bool,
        result: Result<(), CallError>,
        now: Instant,
    ) {
        let session = SessionKey::Publication(stream.clone());
        self.flow_answered(&session, kind, &result, now);
        let permitted = self.may_flow(&session, &[kind], active);
        let refusal = match (self.state.publications.get_mut(stream), result.map(|()| permitted)) {
            (None, _) => Some(Refusal::UnknownStream),
            (Some(publication), Err(error)) => match publication.transport() {
                Some(transport) => Some(node_refusal(error, transport)),
                None => Some(Refusal::NodeLost),
            },
            (Some(_), Ok(Err(refusal))) => Some(refusal),
            (Some(publication), Ok(Ok(()))) => {
                publication.set_active(kind, active);
                publication.withheld.set(kind, false);
                self.views_changed = true;
                self.tell_status(stream, kind, active);
                if let Some(by) = self.scripts.get(&script).map(|script| script.by) {
                    let why = if active { Why::SourceResumed(by) } else { Why::SourcePaused(by) };
                    self.decided_for_takers(stream, kind, &why);
                }
                None
            }
        };
        self.settle_flow(&session, kind);
        match refusal {
            None => self.run_script(script),
            Some(refusal) => {
                if self.scripts.remove(&script).is_some() {
                    self.refuse(script, refusal);
                }
            }
        }
    }

    /// Whether nothing is to be played that the session's owner may not have.
    pub(super) fn may_flow(&self, session: &SessionKey, kinds: &[Kind], active: bool) -> Result<(), Refusal> {
        let forbidden = active && kinds.iter().any(|kind| !self.is_permitted(session, *kind));
        if forbidden { Err(Refusal::Unauthorized) } else { Ok(()) }
    }

    pub(super) fn tell_status(&mut self, stream: &StreamId, kind: Kind, active: bool) {
        self.tell_stream(stream, Change::Status(v1::TrackStatus { kind: kind.to_wire(), active }));
    }
}

/// How far a step is.
enum Progress {
    Done,
    Waits,
}
