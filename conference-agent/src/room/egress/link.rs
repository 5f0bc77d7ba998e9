//! The streaming-node of a room: where it is, and what it was told. One description of each output is under way at a time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{ParticipantId, WorkerId},
    v1,
};

use super::{Condition, Room};
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
    pub(super) parts: BTreeMap<String, Part>,
    scheduling: bool,
    pause: Duration,
    retry_at: Option<Instant>,
    /// Whose own mix nobody has.
    pub(super) nobody: ParticipantId,
}

#[derive(Debug, Default)]
pub(super) struct Part {
    /// `None` = the node is to end it.
    pub(super) wanted: Option<v1::OutputDescription>,
    in_flight: bool,
    acked: u64,
    /// To be replied to when it has begun, or has ended.
    pub(super) request: Option<RequestId>,
}

impl Part {
    /// One that is replied to when it has begun.
    pub(super) fn beginning(request: RequestId) -> Self {
        Self { request: Some(request), ..Self::default() }
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
        }
    }
}

impl EgressLink {
    pub(in crate::room) fn next_deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Requests that wait for a node.
    pub(in crate::room) fn take_requests(&mut self) -> Vec<RequestId> {
        self.parts.values_mut().filter_map(|part| part.request.take()).collect()
    }

    fn retry_later(&mut self, now: Instant) {
        self.retry_at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(RETRY.1);
    }

    fn forget_acks(&mut self) {
        for part in self.parts.values_mut() {
            (part.acked, part.in_flight) = (0, false);
        }
    }
}

impl Room {
    /// Tells the streaming-node of what it does not have as it is to be.
    pub(in crate::room) fn advance_egresses(&mut self) {
        let ids: Vec<String> = self.state.egresses.keys().cloned().collect();
        for id in ids {
            self.refresh_egress(&id);
        }
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
            if part.wanted.as_ref().is_none_or(|wanted| wanted.revision > part.acked) {
                part.in_flight = true;
                due.push((id.clone(), part.wanted.clone()));
            }
        }
        for (egress, wanted) in due {
            let worker = node.worker.clone();
            let (request, pending) = match wanted {
                Some(description) => {
                    let revision = description.revision;
                    let pending = Pending::SetEgress { egress, revision, node: worker };
                    (CallRequest::SetOutput(Box::new(description)), pending)
                }
                None => {
                    let request = self.remove_output(&egress);
                    (request, Pending::RemoveEgress { egress, node: worker })
                }
            };
            self.call(Callee::Streaming(node.clone()), request, pending);
        }
    }

    fn remove_output(&self, id: &str) -> CallRequest {
        let (room_id, epoch) = (self.id.to_string(), self.settings.epoch);
        CallRequest::RemoveOutput(v1::RemoveOutputRequest { room_id, id: id.to_owned(), epoch })
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

    /// A node's reply to a description: host and file of a recording.
    pub(in crate::room) fn egress_set(
        &mut self,
        id: &str,
        revision: u64,
        node: &WorkerId,
        result: Result<(String, String), CallError>,
        now: Instant,
    ) {
        if self.state.streaming.as_ref().is_none_or(|known| known.worker != *node) {
            return;
        }
        let Some(part) = self.egress.parts.get_mut(id) else { return };
        part.in_flight = false;
        match result {
            Ok((host, file)) => {
                part.acked = part.acked.max(revision);
                self.egress.pause = RETRY.0;
                if part.wanted.is_none() {
                    return;
                }
                let request = part.request.take();
                if let Some(egress) = self.state.egresses.get_mut(id) {
                    (egress.host, egress.file) = (host, file);
                }
                if let (Some(request), Some(egress)) = (request, self.describe_egress(id)) {
                    self.reply(request, Ok(Reply::Egress(Box::new(egress))));
                }
            }
            Err(CallError::Refused(reason)) => self.egress_refused(id, reason),
            Err(error @ (CallError::Unavailable(_) | CallError::NotFound(_))) => {
                self.streaming_failed(&error, now);
            }
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
        if let Err(error @ CallError::Unavailable(_)) = &result {
            return self.streaming_failed(error, now);
        }
        self.forget_egress(id);
    }

    /// It has ended: whoever asked for that is told.
    fn forget_egress(&mut self, id: &str) {
        if let Some(request) = self.egress.parts.remove(id).and_then(|part| part.request) {
            self.reply(request, Ok(Reply::Done));
        }
        if self.egress.parts.is_empty() && self.state.streaming.take().is_some() {
            self.release(v1::Purpose::Streaming, self.id.to_string());
        }
    }

    /// No node does what is wanted: those who wait to begin are refused, the others are tried again.
    fn streaming_failed(&mut self, error: &CallError, now: Instant) {
        let note = Note::EgressFailed { egress: String::new(), reason: error.to_string() };
        self.output(Output::Log(note));
        self.state.streaming = None;
        self.egress.forget_acks();
        self.egress.retry_later(now);
        let waits = |(id, part): (&String, &Part)| part.request.is_some().then(|| id.clone());
        let waiting: Vec<String> = self.egress.parts.iter().filter_map(waits).collect();
        for id in waiting {
            let Some(part) = self.egress.parts.remove(&id) else { continue };
            let begins = self.state.egresses.remove(&id).is_some();
            self.views_changed = true;
            if let Some(request) = part.request {
                let result = if begins { Err(Refusal::NoStreamingNode) } else { Ok(Reply::Done) };
                self.reply(request, result);
            }
        }
        let reason = error.to_string();
        for egress in self.state.egresses.values_mut() {
            if !matches!(egress.condition, Condition::Failed(_)) {
                egress.condition = Condition::Trouble(reason.clone());
            }
        }
    }

    pub(in crate::room) fn egress_event(&mut self, node: &WorkerId, event: EgressEvent) {
        if self.state.streaming.as_ref().is_none_or(|known| known.worker != *node) {
            return;
        }
        if let Condition::Failed(reason) | Condition::Trouble(reason) = &event.condition {
            let note = Note::EgressFailed { egress: event.egress.clone(), reason: reason.clone() };
            self.output(Output::Log(note));
        }
        if let Some(egress) = self.state.egresses.get_mut(&event.egress) {
            egress.condition = event.condition;
        }
    }

    /// The node is dead: what it made goes on at another, a recording in another file.
    pub(in crate::room) fn streaming_lost(&mut self, worker: &WorkerId) {
        if self.state.streaming.as_ref().is_none_or(|node| node.worker != *worker) {
            return;
        }
        self.state.streaming = None;
        self.egress.forget_acks();
        for egress in self.state.egresses.values_mut() {
            if !matches!(egress.condition, Condition::Failed(_)) {
                egress.condition = Condition::Trouble("Node lost".to_owned());
            }
        }
        let gone: Vec<String> = self.egress.parts.keys().cloned().collect();
        for id in gone.iter().filter(|id| !self.state.egresses.contains_key(*id)).collect::<Vec<_>>() {
            self.forget_egress(id);
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
        if let Some(node) = self.state.streaming.take() {
            for id in parts.keys() {
                let request = self.remove_output(id);
                self.call(Callee::Streaming(node.clone()), request, Pending::Nothing);
            }
            self.release(v1::Purpose::Streaming, self.id.to_string());
        }
    }
}
