//! What flows: whether each kind of a session does, and what its access node was told of that. Pauses and plays that clients ask for
//! count once the node has answered; what the room orders by itself counts at once, and the node is told until it knows.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kaigi_proto::ids::TransportId;

use super::{
    Room, calls::Pending, input::CallError, media::Kind, output::Callee, refusal::Refusal,
    sessions::SessionKey, state::Phase,
};

/// Pause before a node is told again what it may not know. A kind that is not permitted any more may flow that much longer when the
/// node does not answer; each try costs one call.
const RETELL: Duration = Duration::from_secs(1);

/// What nodes were told of the flow of sessions; rebuilt from the state when lost.
#[derive(Debug, Default)]
pub(super) struct FlowLink {
    /// What nodes were told anything of; the others flow.
    flows: BTreeMap<(SessionKey, Kind), Flow>,
    retell_at: Option<Instant>,
}

#[derive(Debug)]
struct Flow {
    /// The last that the node was told, whether or not it has answered.
    told: bool,
    /// It may not know.
    doubtful: bool,
    /// Clients' requests that it has not answered yet.
    asked: u32,
}

impl FlowLink {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.retell_at
    }

    /// The node takes it for that.
    pub(super) fn assume(&mut self, session: &SessionKey, kind: Kind, active: bool) {
        self.tell(session, kind, active);
    }

    fn tell(&mut self, session: &SessionKey, kind: Kind, active: bool) -> &mut Flow {
        let fresh = Flow { told: active, doubtful: false, asked: 0 };
        let flow = self.flows.entry((session.clone(), kind)).or_insert(fresh);
        (flow.told, flow.doubtful) = (active, false);
        flow
    }

    fn doubt(&mut self, session: &SessionKey, kind: Kind, now: Instant) {
        if let Some(flow) = self.flows.get_mut(&(session.clone(), kind)) {
            flow.doubtful = true;
            self.retell_at.get_or_insert(now + RETELL);
        }
    }

    /// The session is gone.
    pub(super) fn forget(&mut self, session: &SessionKey) {
        for kind in Kind::ALL {
            self.flows.remove(&(session.clone(), kind));
        }
    }
}

impl Room {
    /// Asks the access node for what a client wants; `pending` takes its answer, to [`Self::flow_answered`] first.
    pub(super) fn ask_flow(
        &mut self,
        session: &SessionKey,
        kind: Kind,
        active: bool,
        pending: Pending,
    ) -> Result<(), Refusal> {
        let (transport, _) = self.flow(session, kind).ok_or(Refusal::StreamNotReady)?;
        let node = self.node_of(&transport).ok_or(Refusal::StreamNotReady)?;
        self.flows.tell(session, kind, active).asked += 1;
        let call = Self::set_active_request(&transport, session.as_str(), kind, active);
        self.call(Callee::Access(node), call, pending);
        Ok(())
    }

    /// A call of [`Self::ask_flow`] is answered. Followed by the change of the state, and [`Self::settle_flow`].
    pub(super) fn flow_answered(
        &mut self,
        session: &SessionKey,
        kind: Kind,
        result: &Result<(), CallError>,
        now: Instant,
    ) {
        if let Some(flow) = self.flows.flows.get_mut(&(session.clone(), kind)) {
            flow.asked = flow.asked.saturating_sub(1);
        }
        self.flow_told(session, kind, result, now);
    }

    /// Tells the access node how a kind of a session is now, unless it was told so.
    pub(super) fn order_flow(&mut self, session: &SessionKey, kind: Kind) {
        let Some((transport, active)) = self.flow(session, kind) else { return };
        if self.flows.flows.get(&(session.clone(), kind)).is_none_or(|flow| flow.told) != active {
            self.tell_flow(session, kind, &transport, active);
        }
    }

    /// As [`Self::order_flow`], once the node has answered all that clients have asked of it.
    pub(super) fn settle_flow(&mut self, session: &SessionKey, kind: Kind) {
        if self.flows.flows.get(&(session.clone(), kind)).is_some_and(|flow| flow.asked == 0) {
            self.order_flow(session, kind);
        }
    }

    fn tell_flow(&mut self, session: &SessionKey, kind: Kind, transport: &TransportId, active: bool) {
        let Some(node) = self.node_of(transport) else { return };
        self.flows.tell(session, kind, active);
        let call = Self::set_active_request(transport, session.as_str(), kind, active);
        self.call(Callee::Access(node), call, Pending::TellFlow { session: session.clone(), kind });
    }

    pub(super) fn flow_told(
        &mut self,
        session: &SessionKey,
        kind: Kind,
        result: &Result<(), CallError>,
        now: Instant,
    ) {
        match result {
            // Nothing flows of what the node does not have.
            Ok(()) | Err(CallError::NotFound(_)) => {}
            Err(CallError::Unavailable(_) | CallError::Full(_) | CallError::Refused(_)) => {
                self.flows.doubt(session, kind, now);
            }
        }
    }

    pub(super) fn flow_timeout(&mut self, now: Instant) {
        if self.flows.retell_at.is_none_or(|at| at > now) {
            return;
        }
        self.flows.retell_at = None;
        let due = self.flows.flows.iter().filter(|(_, flow)| flow.doubtful && flow.asked == 0);
        let due: Vec<(SessionKey, Kind)> = due.map(|(key, _)| key.clone()).collect();
        for (session, kind) in due {
            if let Some((transport, active)) = self.flow(&session, kind) {
                self.tell_flow(&session, kind, &transport, active);
            }
        }
        if self.flows.flows.values().any(|flow| flow.doubtful) {
            self.flows.retell_at = Some(now + RETELL);
        }
    }

    /// The session's transport and whether the kind is to flow; `None` while the access node has no such track.
    fn flow(&self, session: &SessionKey, kind: Kind) -> Option<(TransportId, bool)> {
        match session {
            SessionKey::Publication(id) => {
                let publication =
                    self.state.publications.get(id).filter(|p| p.phase == Phase::Established)?;
                let track = publication.first_track(kind)?;
                publication.transport().map(|transport| (transport.clone(), track.active))
            }
            SessionKey::Subscription(id) => {
                let subscription = self.state.subscriptions.get(id).filter(|s| s.phase != Phase::Placing)?;
                let track = subscription.tracks.iter().find(|track| track.kind == kind)?;
                Some((subscription.transport.clone(), track.active))
            }
        }
    }
}
