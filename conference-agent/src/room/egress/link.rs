//! The streaming-node of a room: where it is, and what it was told. One description of each output or input is under way at a time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{ParticipantId, WorkerId},
    v1,
};

use kaigi_proto::ids::StreamId;

use super::{Condition, Recorded, Room};
use crate::room::{
    calls::Pending,
    input::{CallError, EgressEvent, RequestId},
    media::Node,
    output::{CallRequest, Callee, Note, Output, Reply},
    refusal::Refusal,
};

/// First and longest pause between attempts to find a streaming-node.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// What is under way between a room and its streaming-node; rebuilt from the state when lost.
#[derive(Debug)]
pub(in crate::room) struct EgressLink {
    pub(in crate::room) parts: BTreeMap<String, Part>,
    scheduling: bool,
    pause: Duration,
    retry_at: Option<Instant>,
    /// Whose own mix nobody has.
    pub(in crate::room) nobody: ParticipantId,
    /// Collections that are ending, with those of their recordings that are not complete yet.
    pub(super) ending: BTreeMap<RequestId, BTreeSet<String>>,
}

/// What a streaming-node is to do.
#[derive(Clone, Debug)]
pub(in crate::room) enum Work {
    Output(Box<v1::OutputDescription>),
    Input(Box<v1::InputDescription>),
}

impl Work {
    fn revision(&self) -> u64 {
        match self {
            Self::Output(output) => output.revision,
            Self::Input(input) => input.revision,
        }
    }
}

#[derive(Debug, Default)]
pub(in crate::room) struct Part {
    /// `None` = the node is to end it.
    pub(in crate::room) wanted: Option<Work>,
    /// Whether it is an input.
    pub(in crate::room) input: bool,
    in_flight: bool,
    acked: u64,
    /// To be replied to when it has begun, or has ended.
    pub(in crate::room) request: Option<RequestId>,
}

impl Part {
    /// One that is replied to when it has begun.
    pub(in crate::room) fn beginning(request: RequestId) -> Self {
        Self { request: Some(request), ..Self::default() }
    }

    /// One that another agent has left.
    pub(in crate::room) fn left(input: bool) -> Self {
        Self { input, ..Self::default() }
    }

    /// The same of an input.
    pub(in crate::room) fn pulling(request: RequestId) -> Self {
        Self { input: true, ..Self::beginning(request) }
    }
}

impl Default for EgressLink {
    fn default() -> Self {
        Self {
            parts: BTreeMap::new(),
            scheduling: false,
            pause: RETRY.0,
            retry_at: None,
            nobody: ParticipantId::new("nobody").expect("letters are allowed"),
            ending: BTreeMap::new(),
        }
    }
}

impl EgressLink {
    pub(in crate::room) fn next_deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Requests that wait for a node.
    pub(in crate::room) fn take_requests(&mut self) -> Vec<RequestId> {
        let ending = std::mem::take(&mut self.ending).into_keys();
        self.parts.values_mut().filter_map(|part| part.request.take()).chain(ending).collect()
    }

    fn retry_later(&mut self, now: Instant) {
        self.retry_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(RETRY.1);
    }

    /// Whether the node has that output as it is to be, or it is not wanted any more.
    pub(in crate::room) fn is_told(&self, id: &str) -> bool {
        let wanted = self.parts.get(id).and_then(|part| Some((part.acked, part.wanted.as_ref()?)));
        wanted.is_none_or(|(acked, wanted)| wanted.revision() <= acked)
    }

    pub(in crate::room) fn forget_acks(&mut self) {
        for part in self.parts.values_mut() {
            (part.acked, part.in_flight) = (0, false);
        }
    }
}

impl Room {
    /// Tells the streaming-node of what it does not have as it is to be.
    pub(in crate::room) fn advance_egresses(&mut self) {
        self.refresh_collections();
        let ids: Vec<String> = self.state.egresses.keys().cloned().collect();
        for id in ids {
            self.refresh_egress(&id);
        }
        self.refresh_ingests();
        if self.egress.scheduling || self.egress.retry_at.is_some() || self.egress.parts.is_empty() {
            return;
        }
        let Some(node) = self.state.streaming.clone() else {
            self.egress.scheduling = true;
            let request = v1::ScheduleRequest {
                purpose: v1::Purpose::Streaming.into(),
                task: self.id.to_string(),
                ..v1::ScheduleRequest::default()
            };
            return self.call(Callee::Cluster, CallRequest::Schedule(request), Pending::PlaceStreaming);
        };
        let mut due = Vec::new();
        for (id, part) in self.egress.parts.iter_mut().filter(|(_, part)| !part.in_flight) {
            if part.wanted.as_ref().is_none_or(|wanted| wanted.revision() > part.acked) {
                part.in_flight = true;
                due.push((id.clone(), part.input, part.wanted.clone()));
            }
        }
        for (id, input, wanted) in due {
            let worker = node.worker.clone();
            let (request, pending) = match wanted {
                Some(Work::Output(output)) => {
                    let pending = Pending::SetEgress { egress: id, revision: output.revision, node: worker };
                    (CallRequest::SetOutput(output), pending)
                }
                Some(Work::Input(input)) => {
                    let pending = Pending::SetIngest { ingest: id, revision: input.revision, node: worker };
                    (CallRequest::SetInput(input), pending)
                }
                None => {
                    let request = self.removal(&id, input);
                    (request, Pending::RemoveEgress { egress: id, node: worker })
                }
            };
            self.call(Callee::Streaming(node.clone()), request, pending);
        }
    }

    pub(in crate::room) fn removal(&self, id: &str, input: bool) -> CallRequest {
        let (room_id, id, epoch) = (self.id.to_string(), id.to_owned(), self.settings.epoch);
        match input {
            true => CallRequest::RemoveInput(v1::RemoveInputRequest { room_id, id, epoch }),
            false => CallRequest::RemoveOutput(v1::RemoveOutputRequest { room_id, id, epoch }),
        }
    }

    pub(in crate::room) fn streaming_placed(&mut self, result: Result<Node, CallError>, now: Instant) {
        self.egress.scheduling = false;
        match result {
            Ok(node) => {
                self.state.streaming = Some(node);
                self.egress.pause = RETRY.0;
            }
            Err(error) => self.streaming_failed(&error, now),
        }
    }

    /// A node's reply to a description.
    pub(in crate::room) fn egress_set(
        &mut self,
        id: &str,
        revision: u64,
        node: &WorkerId,
        result: Result<Recorded, CallError>,
        now: Instant,
    ) {
        if self.state.streaming.as_ref().is_none_or(|known| known.worker != *node) {
            return;
        }
        let Some(part) = self.egress.parts.get_mut(id) else { return };
        part.in_flight = false;
        match result {
            Ok(recorded) => {
                part.acked = part.acked.max(revision);
                self.egress.pause = RETRY.0;
                if part.wanted.is_none() {
                    return;
                }
                let request = part.request.take();
                if let Some(egress) = self.state.egresses.get_mut(id) {
                    egress.recorded = recorded;
                }
                let described = self.member_recorded(id).or_else(|| self.describe_egress(id));
                if let (Some(request), Some(egress)) = (request, described) {
                    self.reply(request, Ok(Reply::Egress(Box::new(egress))));
                }
            }
            Err(CallError::Refused(reason)) => self.egress_refused(id, reason),
            Err(error @ (CallError::Unavailable(_) | CallError::Full(_) | CallError::NotFound(_))) => {
                self.streaming_failed(&error, now);
            }
        }
    }

    /// A node's reply to the description of an input, with where it is pushed to if it is: that it flows is told later.
    pub(in crate::room) fn ingest_set(
        &mut self,
        id: &str,
        revision: u64,
        node: &WorkerId,
        result: Result<String, CallError>,
        now: Instant,
    ) {
        if self.state.streaming.as_ref().is_none_or(|known| known.worker != *node) {
            return;
        }
        let Some(part) = self.egress.parts.get_mut(id) else { return };
        part.in_flight = false;
        match result {
            Ok(listen_url) => {
                part.acked = part.acked.max(revision);
                self.egress.pause = RETRY.0;
                if let Ok(stream) = StreamId::new(id) {
                    self.ingest_listens(&stream, listen_url);
                }
            }
            Err(CallError::Refused(reason)) => self.ingest_refused(id, reason),
            Err(error @ (CallError::Unavailable(_) | CallError::Full(_) | CallError::NotFound(_))) => {
                self.streaming_failed(&error, now);
            }
        }
    }

    /// The node will not pull it, as above.
    fn ingest_refused(&mut self, id: &str, reason: String) {
        let note = Note::EgressFailed { egress: id.to_owned(), reason: reason.clone() };
        self.output(Output::Log(note));
        let Some(part) = self.egress.parts.get_mut(id) else { return };
        part.acked = u64::MAX;
        let Ok(stream) = StreamId::new(id) else { return };
        if let Some(request) = part.request.take() {
            self.egress.parts.remove(id);
            self.state.ingests.remove(&stream);
            self.refuse(request, Refusal::NodeRefused(reason));
        } else if let Some(ingest) = self.state.ingests.get_mut(&stream) {
            ingest.condition = Condition::Failed(reason);
        }
    }

    /// The node will not make it: one that has not begun is refused, one that had begun elsewhere has failed.
    fn egress_refused(&mut self, id: &str, reason: String) {
        let note = Note::EgressFailed { egress: id.to_owned(), reason: reason.clone() };
        self.output(Output::Log(note));
        let Some(part) = self.egress.parts.get_mut(id) else { return };
        part.acked = u64::MAX;
        if let Some(request) = part.request.take() {
            self.egress.parts.remove(id);
            self.forget_collection_of(id);
            self.state.egresses.remove(id);
            self.views_changed = true;
            self.refuse(request, Refusal::NodeRefused(reason));
        } else if let Some(egress) = self.state.egresses.get_mut(id) {
            egress.condition = Condition::Failed(reason);
        }
    }

    pub(in crate::room) fn egress_removed(
        &mut self,
        id: &str,
        node: &WorkerId,
        result: Result<(), CallError>,
        now: Instant,
    ) {
        if self.state.streaming.as_ref().is_none_or(|known| known.worker != *node) {
            return;
        }
        let Some(part) = self.egress.parts.get_mut(id) else { return };
        part.in_flight = false;
        if let Err(error @ (CallError::Unavailable(_) | CallError::Full(_))) = &result {
            return self.streaming_failed(error, now);
        }
        self.forget_egress(id);
    }

    /// It has ended: whoever asked for that is told.
    fn forget_egress(&mut self, id: &str) {
        if let Some(request) = self.egress.parts.remove(id).and_then(|part| part.request) {
            self.reply(request, Ok(Reply::Done));
        }
        self.member_ended(id);
        if self.egress.parts.is_empty() && self.state.streaming.take().is_some() {
            self.release(v1::Purpose::Streaming, self.id.to_string());
        }
    }

    /// No node does what is wanted: those who wait to begin are refused, the others are tried again.
    fn streaming_failed(&mut self, error: &CallError, now: Instant) {
        let refusal = match error {
            CallError::Full(_) => Refusal::NoCapacity("streaming"),
            CallError::Unavailable(_) | CallError::NotFound(_) | CallError::Refused(_) => {
                Refusal::NoStreamingNode
            }
        };
        let note = Note::EgressFailed { egress: String::new(), reason: error.to_string() };
        self.output(Output::Log(note));
        self.state.streaming = None;
        self.egress.forget_acks();
        self.egress.retry_later(now);
        let waits = |(id, part): (&String, &Part)| part.request.is_some().then(|| id.clone());
        let waiting: Vec<String> = self.egress.parts.iter().filter_map(waits).collect();
        for id in waiting {
            let request = self.egress.parts.get_mut(&id).and_then(|part| part.request.take());
            let stream = StreamId::new(&id).ok().filter(|stream| self.state.ingests.contains_key(stream));
            let begins = match &stream {
                // A node that can be reached after all is to let go of it.
                Some(stream) => {
                    self.end_ingest(stream);
                    true
                }
                None => {
                    self.egress.parts.remove(&id);
                    self.forget_collection_of(&id);
                    self.state.egresses.remove(&id).is_some()
                }
            };
            self.views_changed = true;
            if let Some(request) = request {
                let result = if begins { Err(refusal.clone()) } else { Ok(Reply::Done) };
                self.reply(request, result);
            }
        }
        self.all_in_trouble(&error.to_string());
    }

    fn all_in_trouble(&mut self, reason: &str) {
        let egresses = self.state.egresses.values_mut().map(|egress| &mut egress.condition);
        let ingests = self.state.ingests.values_mut().map(|ingest| &mut ingest.condition);
        for condition in egresses.chain(ingests) {
            if !matches!(condition, Condition::Failed(_)) {
                *condition = Condition::Trouble(reason.to_owned());
            }
        }
    }

    pub(in crate::room) fn streaming_event(&mut self, node: &WorkerId, event: EgressEvent) {
        if self.state.streaming.as_ref().is_none_or(|known| known.worker != *node) {
            return;
        }
        if let Condition::Failed(reason) | Condition::Trouble(reason) = &event.condition {
            let note = Note::EgressFailed { egress: event.egress.clone(), reason: reason.clone() };
            self.output(Output::Log(note));
        }
        if let Some(egress) = self.state.egresses.get_mut(&event.egress) {
            egress.condition = event.condition;
        } else if let Ok(stream) = StreamId::new(&event.egress) {
            self.ingest_event(&stream, event.condition, event.tracks);
        }
    }

    /// The node is dead: what it made goes on at another, a recording in another file.
    pub(in crate::room) fn streaming_lost(&mut self, worker: &WorkerId) {
        if self.state.streaming.as_ref().is_none_or(|node| node.worker != *worker) {
            return;
        }
        if let Some(node) = self.state.streaming.take() {
            self.ingests_lost(&node);
            self.views_changed = true;
        }
        self.egress.forget_acks();
        self.all_in_trouble("Node lost");
        let gone = self.egress.parts.iter().filter(|(_, part)| part.wanted.is_none());
        for id in gone.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.forget_egress(&id);
        }
    }

    /// The node may have forgotten everything: it is told again.
    pub(in crate::room) fn streaming_resumed(&mut self, worker: &WorkerId) {
        if self.state.streaming.as_ref().is_some_and(|node| node.worker == *worker) {
            self.egress.forget_acks();
        }
    }

    pub(in crate::room) fn egress_timeout(&mut self, now: Instant) {
        if self.egress.retry_at.is_some_and(|at| at <= now) {
            self.egress.retry_at = None;
        }
    }

    /// Tells the node that the room is over.
    pub(in crate::room) fn leave_streaming(&mut self) {
        let parts = std::mem::take(&mut self.egress.parts);
        self.state.egresses.clear();
        self.state.collections.clear();
        self.state.ingests.clear();
        if let Some(node) = self.state.streaming.take() {
            for (id, part) in &parts {
                let request = self.removal(id, part.input);
                self.call(Callee::Streaming(node.clone()), request, Pending::Nothing);
            }
            self.release(v1::Purpose::Streaming, self.id.to_string());
        }
    }
}
