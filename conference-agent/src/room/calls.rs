//! Calls that wait for their reply.

use std::time::Instant;

use kaigi_proto::{
    ids::{ParticipantId, SessionId, StreamId, SubscriptionId, TransportId, WorkerId},
    v1,
};

use super::{
    Room,
    decisions::Flowing,
    egress::Recorded,
    input::{CallError, CallReply, RequestId},
    media::{Feed, Kind, Node},
    mixer::Part,
    output::{CallId, CallRequest, Callee, Output, Reply},
    refusal::Refusal,
    sessions::SessionKey,
};

/// What is done when a call is answered.
#[derive(Debug)]
pub(super) enum Pending {
    /// Nothing.
    Nothing,
    /// `arrival` tells the participant from a later one of the same id.
    PlaceParticipant {
        participant: ParticipantId,
        arrival: u64,
    },
    PlaceMixer,
    OpenPublication(StreamId),
    OpenSubscription(SubscriptionId),
    Signal {
        request: RequestId,
        transport: TransportId,
    },
    /// The step of a change of a stream.
    StreamActive {
        script: RequestId,
        stream: StreamId,
        kind: Kind,
        active: bool,
    },
    SubscriptionActive {
        request: RequestId,
        subscription: SubscriptionId,
        kinds: Vec<Kind>,
        flowing: Flowing,
    },
    TellFlow {
        session: SessionKey,
        kind: Kind,
    },
    SetSource {
        subscription: SubscriptionId,
        kind: Kind,
        feed: Feed,
    },
    /// At that access node.
    SelectAudio(WorkerId),
    /// At that access node, where these transports are taken to be.
    AdoptRoom {
        node: WorkerId,
        named: Vec<TransportId>,
    },
    AdoptTransports(WorkerId),
    SetPart {
        part: Part,
        revision: u64,
        mixer: WorkerId,
    },
    RemovePart {
        part: Part,
        mixer: WorkerId,
    },
    Bandwidth {
        request: RequestId,
        transport: TransportId,
    },
    PlaceStreaming,
    /// Another node for what that one makes.
    MoveFrom {
        node: WorkerId,
        purpose: v1::Purpose,
    },
    /// Another access node for a participant that is at that one.
    MoveParticipant {
        node: WorkerId,
        participant: ParticipantId,
        arrival: u64,
    },
    SetEgress {
        egress: String,
        revision: u64,
        node: WorkerId,
    },
    RemoveEgress {
        egress: String,
        node: WorkerId,
    },
    SetIngest {
        ingest: String,
        revision: u64,
        node: WorkerId,
    },
}

impl Pending {
    /// The request that is replied to by this call alone.
    pub(super) fn request(self) -> Option<RequestId> {
        match self {
            Self::Signal { request, .. }
            | Self::SubscriptionActive { request, .. }
            | Self::Bandwidth { request, .. } => Some(request),
            Self::Nothing
            | Self::PlaceParticipant { .. }
            | Self::PlaceMixer
            | Self::OpenPublication(_)
            | Self::OpenSubscription(_)
            | Self::StreamActive { .. }
            | Self::TellFlow { .. }
            | Self::SetSource { .. }
            | Self::SelectAudio(_)
            | Self::AdoptRoom { .. }
            | Self::AdoptTransports(_)
            | Self::SetPart { .. }
            | Self::RemovePart { .. }
            | Self::PlaceStreaming
            | Self::MoveFrom { .. }
            | Self::MoveParticipant { .. }
            | Self::SetEgress { .. }
            | Self::RemoveEgress { .. }
            | Self::SetIngest { .. } => None,
        }
    }
}

impl Room {
    pub(super) fn call(&mut self, callee: Callee, request: CallRequest, pending: Pending) {
        let call = CallId(self.next_call);
        self.next_call += 1;
        if !matches!(pending, Pending::Nothing) {
            self.calls.insert(call, (callee.clone(), pending));
        }
        self.output(Output::Call { call, callee, request });
    }

    /// Forgets a task's placement.
    pub(super) fn release(&mut self, purpose: v1::Purpose, task: String) {
        let request = v1::ReleaseRequest { purpose: purpose.into(), task };
        self.call(Callee::Cluster, CallRequest::Release(request), Pending::Nothing);
    }

    pub(super) fn close_session(&mut self, node: Node, transport: &TransportId, session: &str) {
        let request =
            v1::CloseSessionRequest { transport_id: transport.to_string(), session_id: session.to_owned() };
        self.call(Callee::Access(node), CallRequest::CloseSession(request), Pending::Nothing);
    }

    pub(super) fn close_transport(&mut self, node: Node, transport: &TransportId) {
        let request = v1::CloseTransportRequest { transport_id: transport.to_string() };
        self.call(Callee::Access(node), CallRequest::CloseTransport(request), Pending::Nothing);
    }

    pub(super) fn call_done(&mut self, call: CallId, result: Result<CallReply, CallError>, now: Instant) {
        if let Some((_, pending)) = self.calls.remove(&call) {
            self.answered(pending, result, now);
        }
    }

    /// Answers all calls to a node that will not answer them itself.
    pub(super) fn fail_calls_to(&mut self, worker: &WorkerId, now: Instant) {
        let to_it = |callee: &Callee| match callee {
            Callee::Cluster => false,
            Callee::Access(node) | Callee::Mixer(node) | Callee::Streaming(node) => node.worker == *worker,
        };
        let lost: Vec<CallId> =
            self.calls.iter().filter(|(_, (callee, _))| to_it(callee)).map(|(id, _)| *id).collect();
        for call in lost {
            self.call_done(call, Err(CallError::Unavailable("Node lost".into())), now);
        }
    }

    fn answered(&mut self, pending: Pending, result: Result<CallReply, CallError>, now: Instant) {
        match pending {
            Pending::Nothing => {}
            Pending::PlaceParticipant { participant, arrival } => {
                self.participant_placed(&participant, arrival, scheduled(result));
            }
            Pending::PlaceMixer => self.mixer_placed(scheduled(result), now),
            Pending::OpenPublication(stream) => self.publication_opened(&stream, done(result)),
            Pending::OpenSubscription(subscription) => self.subscription_opened(&subscription, done(result)),
            Pending::Signal { request, transport } => {
                let result = done(result).map(|()| Reply::Done);
                self.reply(request, result.map_err(|error| node_refusal(error, &transport)));
            }
            Pending::StreamActive { script, stream, kind, active } => {
                self.stream_activated(script, &stream, kind, active, done(result), now);
            }
            Pending::SubscriptionActive { request, subscription, kinds, flowing } => {
                self.subscription_activated(request, &subscription, kinds, flowing, done(result), now);
            }
            Pending::TellFlow { session, kind } => self.flow_told(&session, kind, &done(result), now),
            Pending::SetSource { subscription, kind, feed } => {
                self.source_set(&subscription, kind, feed, done(result), now);
            }
            Pending::SelectAudio(worker) => self.selection_told(&worker, &done(result), now),
            Pending::AdoptRoom { node, named } => self.room_adopted(&node, &named, adopted(result), now),
            Pending::AdoptTransports(node) => self.transports_adopted(&node, missing(result), now),
            Pending::SetPart { part, revision, mixer } => {
                self.part_set(&part, revision, &mixer, result, now);
            }
            Pending::RemovePart { part, mixer } => self.part_removed(&part, &mixer, done(result), now),
            Pending::Bandwidth { request, transport } => {
                self.bandwidth_estimated(request, &transport, estimated(result));
            }
            Pending::PlaceStreaming => self.streaming_placed(scheduled(result), now),
            Pending::MoveParticipant { node, participant, arrival } => {
                self.participant_moves(&node, &participant, arrival, scheduled(result), now);
            }
            Pending::MoveFrom { node, purpose } => self.move_placed(&node, purpose, scheduled(result), now),
            Pending::SetEgress { egress, revision, node } => {
                self.egress_set(&egress, revision, &node, started(result), now);
            }
            Pending::SetIngest { ingest, revision, node } => {
                self.ingest_set(&ingest, revision, &node, pulled(result), now);
            }
            Pending::RemoveEgress { egress, node } => self.egress_removed(&egress, &node, done(result), now),
        }
    }
}

/// Why a request failed whose call to an access node did.
pub(super) fn node_refusal(error: CallError, transport: &TransportId) -> Refusal {
    match error {
        CallError::Unavailable(_) | CallError::Full(_) => Refusal::NodeLost,
        CallError::NotFound(_) => Refusal::UnknownTransport(transport.to_string()),
        CallError::Refused(text) => Refusal::NodeRefused(text),
    }
}

fn done(result: Result<CallReply, CallError>) -> Result<(), CallError> {
    match result? {
        CallReply::Done => Ok(()),
        _ => Err(unexpected()),
    }
}

fn scheduled(result: Result<CallReply, CallError>) -> Result<Node, CallError> {
    match result? {
        CallReply::Scheduled(node) => Ok(node),
        _ => Err(unexpected()),
    }
}

fn adopted(result: Result<CallReply, CallError>) -> Result<Vec<TransportId>, CallError> {
    match result? {
        CallReply::Adopted(there) => Ok(there),
        _ => Err(unexpected()),
    }
}

fn missing(result: Result<CallReply, CallError>) -> Result<Vec<SessionId>, CallError> {
    match result? {
        CallReply::Missing(sessions) => Ok(sessions),
        _ => Err(unexpected()),
    }
}

fn estimated(result: Result<CallReply, CallError>) -> Result<u64, CallError> {
    match result? {
        CallReply::Bandwidth(bitrate) => Ok(bitrate),
        _ => Err(unexpected()),
    }
}

fn started(result: Result<CallReply, CallError>) -> Result<Recorded, CallError> {
    match result? {
        CallReply::Egress { host, file, manifest } => Ok(Recorded { host, file, manifest }),
        _ => Err(unexpected()),
    }
}

fn pulled(result: Result<CallReply, CallError>) -> Result<String, CallError> {
    match result? {
        CallReply::Ingest { listen_url } => Ok(listen_url),
        _ => Err(unexpected()),
    }
}

pub(super) fn unexpected() -> CallError {
    CallError::Refused("unexpected reply".into())
}
