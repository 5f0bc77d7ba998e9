//! Nodes that are to end are left while they still work: what they make is made at another node first, whoever takes it is pointed there, and
//! only then it ends at the old one. What can't be made twice at the same time goes over at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kaigi_proto::{
    ids::{ParticipantId, StreamId, WorkerId},
    v1::{self, progress::Progress},
};

use super::{
    Room,
    calls::Pending,
    egress::link::Work,
    input::CallError,
    media::Node,
    mixer::Part,
    output::{CallRequest, Callee},
    state::{Carrier, Placement},
};

/// How long what was left goes on after the new one is there: whoever takes it changes over at its next key frame.
const OVERLAP: Duration = Duration::from_secs(3);
/// Pause before another node is looked for again.
const RETRY: Duration = Duration::from_secs(1);
/// Participants for whom another access node is asked for at a time.
const AT_ONCE: usize = 8;

/// What is under way between nodes; nothing of it is written down. A successor is told of nodes that are to end.
#[derive(Debug, Default)]
pub(super) struct Moves {
    draining: BTreeSet<WorkerId>,
    /// Purposes of which another node is asked for.
    asking: BTreeSet<i32>,
    /// Participants for whom another access node is asked for.
    participants: BTreeSet<ParticipantId>,
    retry_at: Option<Instant>,
    left: Vec<Left>,
}

/// Something at a node that is to end.
#[derive(Debug)]
struct Left {
    node: Node,
    what: What,
    /// When it is ended there; `None` while its successor is not there.
    until: Option<Instant>,
}

#[derive(Debug)]
enum What {
    /// All that a mixer made of the room.
    Parts(Vec<Part>),
    /// A recording.
    Output(String),
    /// A stream that is pulled.
    Input(String),
}

impl Moves {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.left.iter().filter_map(|left| left.until).chain(self.retry_at).min()
    }

    pub(super) fn retry_now(&mut self) {
        self.retry_at = None;
    }

    fn is_draining(&self, node: Option<&Node>) -> bool {
        node.is_some_and(|node| self.draining.contains(&node.worker))
    }
}

impl Room {
    /// The node takes nothing new, and is to be left.
    pub(super) fn node_drains(&mut self, worker: &WorkerId) {
        self.moves.draining.insert(worker.clone());
    }

    pub(super) fn moving_node_lost(&mut self, worker: &WorkerId) {
        self.moves.draining.remove(worker);
        self.moves.left.retain(|left| left.node.worker != *worker);
    }

    pub(super) fn moves_timeout(&mut self, now: Instant) {
        if self.moves.retry_at.is_some_and(|at| at <= now) {
            self.moves.retry_at = None;
        }
    }

    /// Asks for other nodes in place of those that are to end, and ends there what runs elsewhere.
    pub(super) fn advance_moves(&mut self, now: Instant) {
        if !self.moves.draining.is_empty() && self.moves.retry_at.is_none() {
            if !self.mixer.parts.is_empty() {
                self.ask_for_another(v1::Purpose::Mixer, self.state.mixer.clone());
            }
            if !self.egress.parts.is_empty() {
                self.ask_for_another(v1::Purpose::Streaming, self.state.streaming.clone());
            }
            self.ask_for_access();
        }
        for mut left in std::mem::take(&mut self.moves.left) {
            if left.until.is_none() && self.is_elsewhere(&left) {
                left.until = Some(now + OVERLAP);
            }
            match left.until {
                Some(until) if until <= now => self.end_left(left),
                Some(_) | None => self.moves.left.push(left),
            }
        }
    }

    fn ask_for_another(&mut self, purpose: v1::Purpose, node: Option<Node>) {
        let Some(node) = node.filter(|node| self.moves.draining.contains(&node.worker)) else { return };
        if !self.moves.asking.insert(purpose.into()) {
            return;
        }
        let request = v1::ScheduleRequest {
            purpose: purpose.into(),
            task: self.id.to_string(),
            ..v1::ScheduleRequest::default()
        };
        let pending = Pending::MoveFrom { node: node.worker, purpose };
        self.call(Callee::Cluster, CallRequest::Schedule(request), pending);
    }

    /// Asks where participants may go whose access node is to end, for a few at a time: each that goes negotiates everything anew.
    fn ask_for_access(&mut self) {
        let is_to_go = |access: &Placement| match access {
            Placement::At(node) => self.moves.draining.contains(&node.worker),
            Placement::Nowhere | Placement::Scheduling => false,
        };
        let all = self.state.participants.iter();
        let going = all.filter(|(id, participant)| {
            is_to_go(&participant.access) && !self.moves.participants.contains(*id)
        });
        let free = AT_ONCE.saturating_sub(self.moves.participants.len());
        let going: Vec<ParticipantId> = going.map(|(id, _)| id.clone()).take(free).collect();
        for id in going {
            let Some(participant) = self.state.participants.get(&id) else { continue };
            let Placement::At(node) = &participant.access else { continue };
            let request = v1::ScheduleRequest {
                purpose: v1::Purpose::Access.into(),
                task: id.to_string(),
                isp: participant.isp.clone(),
                region: participant.region.clone(),
            };
            let node = node.worker.clone();
            let pending =
                Pending::MoveParticipant { node, participant: id.clone(), arrival: participant.arrival };
            self.moves.participants.insert(id);
            self.call(Callee::Cluster, CallRequest::Schedule(request), pending);
        }
    }

    /// What it does from now on it does at the other node. What is there stays; a client that can takes it along.
    pub(super) fn participant_moves(
        &mut self,
        from: &WorkerId,
        id: &ParticipantId,
        arrival: u64,
        result: Result<Node, CallError>,
        now: Instant,
    ) {
        self.moves.participants.remove(id);
        let Some(node) = result.ok().filter(|node| !self.moves.is_draining(Some(node))) else {
            self.moves.retry_at = Some(now + RETRY);
            return;
        };
        let is_there = |at: &Node| at.worker == *from;
        let Some(participant) = self.state.participants.get_mut(id).filter(|p| p.arrival == arrival) else {
            return;
        };
        if !matches!(&participant.access, Placement::At(at) if is_there(at)) {
            return;
        }
        participant.access = Placement::At(node);
        let theirs = self.state.transports.iter().filter(|(_, transport)| transport.owner == *id);
        let theirs = theirs.filter(|(_, transport)| transport.node.as_ref().is_some_and(is_there));
        for transport in theirs.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.progress(id, &transport, Progress::TransportMoving(v1::TransportMoving {}));
        }
    }

    /// The cluster has named another node, or none.
    pub(super) fn move_placed(
        &mut self,
        from: &WorkerId,
        purpose: v1::Purpose,
        result: Result<Node, CallError>,
        now: Instant,
    ) {
        self.moves.asking.remove(&i32::from(purpose));
        let is_other = |node: &Node| !self.moves.is_draining(Some(node));
        let Some(node) = result.ok().filter(is_other) else {
            self.moves.retry_at = Some(now + RETRY);
            return;
        };
        let is_there = |at: &Option<Node>| at.as_ref().is_some_and(|at| at.worker == *from);
        match purpose {
            v1::Purpose::Mixer if is_there(&self.state.mixer) => self.leave_mixer_for(node),
            v1::Purpose::Streaming if is_there(&self.state.streaming) => self.leave_streaming_for(node),
            // It was lost, or there is nothing any more that is to be moved.
            v1::Purpose::Mixer
            | v1::Purpose::Streaming
            | v1::Purpose::Access
            | v1::Purpose::Conference
            | v1::Purpose::Portal
            | v1::Purpose::Gateway
            | v1::Purpose::Unspecified => {}
        }
    }

    /// Views and transcoders are described to the new mixer; who takes them stays with the old ones until they are made.
    fn leave_mixer_for(&mut self, node: Node) {
        let Some(old) = self.state.mixer.replace(node) else { return };
        let parts = self.mixer.parts.keys().cloned().collect();
        self.mixer.forget_acks();
        self.moves.left.push(Left { node: old, what: What::Parts(parts), until: None });
    }

    /// Recordings begin another file, and streams are pulled twice for a while. A server takes one broadcast under a key, and an encoder
    /// pushes to one node: these end at the old node before they begin at the new one.
    fn leave_streaming_for(&mut self, node: Node) {
        let Some(old) = self.state.streaming.replace(node) else { return };
        self.egress.forget_acks();
        let wanted =
            |(id, part): (&String, &super::egress::link::Part)| Some((id.clone(), part.wanted.clone()?));
        let all: BTreeMap<String, Work> = self.egress.parts.iter().filter_map(wanted).collect();
        for (id, work) in all {
            let (what, at_once) = match work {
                Work::Output(output) => {
                    let broadcast =
                        matches!(output.target, Some(v1::output_description::Target::Broadcast(_)));
                    (What::Output(id), broadcast)
                }
                Work::Input(input) => (What::Input(id), !input.listen_key.is_empty()),
            };
            let left = Left { node: old.clone(), what, until: None };
            if at_once {
                self.end_left(left);
            } else {
                self.moves.left.push(left);
            }
        }
    }

    /// Whether what was left is made elsewhere by now, or not wanted any more.
    fn is_elsewhere(&self, left: &Left) -> bool {
        match &left.what {
            What::Parts(_) => self.mixer.is_told(),
            What::Output(id) => self.egress.is_told(id),
            What::Input(id) => {
                let publication = StreamId::new(id).ok().and_then(|id| self.state.publications.get(&id));
                publication.is_none_or(|publication| {
                    !matches!(&publication.carrier, Carrier::Ingest(Some(node)) if *node == left.node)
                })
            }
        }
    }

    fn end_left(&mut self, left: Left) {
        let requests: Vec<CallRequest> = match &left.what {
            What::Parts(parts) => parts.iter().map(|part| self.remove_request(part)).collect(),
            What::Output(id) => vec![self.removal(id, false)],
            What::Input(id) => vec![self.removal(id, true)],
        };
        let callee = match left.what {
            What::Parts(_) => Callee::Mixer(left.node),
            What::Output(_) | What::Input(_) => Callee::Streaming(left.node),
        };
        for request in requests {
            self.call(callee.clone(), request, Pending::Nothing);
        }
    }

    /// The room is over.
    pub(super) fn end_all_left(&mut self) {
        for left in std::mem::take(&mut self.moves.left) {
            self.end_left(left);
        }
    }
}
