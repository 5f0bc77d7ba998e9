//! Offers, and what they change.

use std::time::Instant;

use kaigi_proto::{
    ids::{SessionId, TrackId, TransportId},
    v1::{self, access_event::Event},
};
use rand::RngCore;

use super::{
    Node, NodeError, TrackSource,
    adoption::Answers,
    layers::Fed,
    sessions::{PASSWORD_BYTES, UFRAG_BYTES},
    speakers::Taker,
    transport::{Incoming, Layer, MAX_INCOMING, Role},
};
use crate::{
    forward::{Forwarder, Origin, RedTypes, StreamParameters, Supply},
    ids::{Mid, Rid, Ssrc},
    keys::{SinkKey, SourceKey, TransportKey},
    sdp::{Change, Kind, Negotiated, Offer},
    transport::Dtls,
};

impl Node {
    /// Answers an offer; the answer is an event. Every offer is answered, whatever became of the sessions.
    ///
    /// # Errors
    /// If there is no such transport, or DTLS can't be set up.
    pub fn offer(&mut self, now: Instant, transport: &TransportId, offer: &Offer) -> Result<(), NodeError> {
        self.offer_of(now, transport, offer, "")
    }

    /// The same of a request with a name; when it comes again, it is answered already.
    ///
    /// # Errors
    /// See [`Self::offer`].
    pub fn offer_of(
        &mut self,
        now: Instant,
        transport: &TransportId,
        offer: &Offer,
        request: &str,
    ) -> Result<(), NodeError> {
        let key = *self.by_id.get(transport).ok_or(NodeError::UnknownTransport)?;
        let answers = self.net.transports.get(key).map(|transport| &transport.answers);
        if answers.is_some_and(|answers| !request.is_empty() && answers.request == request) {
            return Ok(());
        }
        self.restart_ice(key, offer);
        let Some(entry) = self.net.transports.get_mut(key) else { return Err(NodeError::UnknownTransport) };
        let rng = &mut self.rng;
        let outcome = entry.negotiation.answer(offer, || rng.next_u32());
        entry.ice.heard(now);
        if entry.dtls.is_none() {
            let certificate = self.config.certificate.clone();
            let dtls = Dtls::new(certificate, outcome.role, offer.fingerprint().clone())
                .map_err(|error| NodeError::Crypto(error.to_string()))?;
            entry.dtls = Some(dtls);
        }
        let count = entry.answers.count + 1;
        entry.answers = Answers { count, last: outcome.answer.clone(), request: request.to_owned() };
        self.net.event(key, Event::Answer(outcome.answer));
        for change in outcome.changes {
            match change {
                Change::Negotiated(mid) => self.negotiated(now, key, &mid),
                Change::Refused(session, reason) => self.refuse(key, &session, reason),
                Change::Sources(mid, ssrc, rtx) => self.announce_sources(key, &mid, ssrc, rtx),
                Change::Repairs(mid, ssrc) => self.announce_repairs(key, &mid, ssrc),
            }
        }
        self.establish(key);
        self.net.schedule(key);
        Ok(())
    }

    /// Candidates of the client. An ICE-lite node has no use for them, so that they may be anything; that the transport is there is
    /// checked.
    ///
    /// # Errors
    /// If there is no such transport.
    pub fn candidate(&mut self, now: Instant, transport: &TransportId) -> Result<(), NodeError> {
        let key = *self.by_id.get(transport).ok_or(NodeError::UnknownTransport)?;
        if let Some(entry) = self.net.transports.get_mut(key) {
            entry.ice.heard(now);
        }
        Ok(())
    }

    /// If the offer asks for an ICE restart (RFC 8839 §4.4.1.1.1), there are new credentials for its answer. All else goes on.
    fn restart_ice(&mut self, key: TransportKey, offer: &Offer) {
        let (ufrag, password) = (self.random_text(UFRAG_BYTES), self.random_text(PASSWORD_BYTES));
        let Some(entry) = self.net.transports.get_mut(key) else { return };
        let Some(remote) = offer.ice_credentials() else { return };
        let before = entry.remote_ice.replace(remote.clone());
        if before.is_none_or(|before| before == *remote) {
            return;
        }
        entry.negotiation.restart_ice(ufrag.clone(), password.clone());
        let retired = entry.ice.restart(ufrag.clone(), password);
        tracing::info!(room = %entry.room, participant = %entry.participant, transport = %entry.id, "ICE restarts");
        self.net.counters.ice_restarts += 1;
        self.net.by_ufrag.insert(ufrag, key);
        if let Some(retired) = retired {
            self.net.by_ufrag.remove(&retired);
        }
    }

    fn refuse(&mut self, key: TransportKey, session: &SessionId, reason: String) {
        self.end_session(key, session);
        let event = v1::SessionError { session_id: session.to_string(), reason };
        self.net.event(key, Event::SessionFailed(event));
    }

    /// A track's m-line is agreed on: it can flow.
    fn negotiated(&mut self, now: Instant, key: TransportKey, mid: &Mid) {
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        let Some(negotiated) = transport.negotiation.negotiated(mid).cloned() else { return };
        let track =
            transport.sessions.values_mut().flat_map(|s| &mut s.tracks).find(|track| track.mid == *mid);
        let Some(track) = track else { return };
        let kind = track.kind;
        match &mut track.role {
            Role::Published(layers) => {
                split(&mut self.forward, layers, kind, &negotiated.layers);
                let sources: Vec<_> = layers.iter().map(|layer| layer.source).collect();
                let selects = self.net.rooms.get(&transport.room).is_some_and(|room| room.selected.is_on());
                for source in sources {
                    self.end_crossing(source);
                    if selects {
                        self.forward.listen_to(source);
                    }
                    let supply = Supply {
                        origin: Origin::Publisher(key),
                        format: negotiated.format,
                        extensions: negotiated.extensions,
                        nack: negotiated.has_feedback("nack"),
                        red: red_types(&negotiated),
                        ssrc: None,
                    };
                    self.forward.supply(now, source, supply, &mut self.net);
                    self.supply_workers(now, source);
                }
            }
            Role::Subscribed { from, active, sink } => {
                let Some(parameters) = stream_parameters(key, &negotiated) else { return };
                let ssrc = parameters.ssrc.0;
                let rtx = parameters.rtx;
                let (open, random) = (transport.srtp.is_some(), self.rng.next_u64());
                let new = self.forward.add_client_sink(kind, parameters, open, random);
                *sink = Some(new);
                // One of another format is of no use any more; the agent names one of the format that it is told.
                let carried =
                    |from: &Fed| from.format().is_some_and(|format| negotiated.format.carries(format));
                *from = from.take().filter(carried);
                let (track, selected) = match from {
                    Some(Fed::Track(source)) => (Some(source.clone()), None),
                    Some(Fed::Selected(slot, format)) => (None, Some((*slot, *format))),
                    Some(Fed::Layers(_)) | None => (None, None),
                };
                let active = *active;
                transport.outgoing.insert(ssrc, new);
                if let Some((rtx, _)) = rtx {
                    transport.outgoing.insert(rtx.0, new);
                }
                if !active {
                    self.forward.set_sink_active(now, new, false, &mut self.net);
                }
                match (track, selected) {
                    (Some(track), _) => self.connect(now, new, kind, &track),
                    (None, Some((slot, format))) => {
                        self.take_selected(now, slot, Taker { transport: key, sink: new, format });
                    }
                    (None, None) => self.allocate(now, key),
                }
            }
        }
    }

    /// Gives a stream its source, which may be on another node.
    pub(super) fn connect(&mut self, now: Instant, sink: SinkKey, kind: Kind, from: &TrackSource) {
        let source = self.forward.source_of(&from.track, kind);
        self.forward.connect(now, sink, source, &mut self.net);
        self.bring(now, source, from);
        self.release_left();
    }

    /// Sees to it that what comes from another node or worker comes.
    pub(super) fn bring(&mut self, now: Instant, source: SourceKey, from: &TrackSource) {
        if from.worker == self.config.worker {
            self.ensure_crossing(source);
        } else {
            self.ensure_flow(now, source, from);
        }
    }

    /// The client says under which sources it sends.
    fn announce_sources(&mut self, key: TransportKey, mid: &Mid, ssrc: Ssrc, rtx: Option<Ssrc>) {
        let Some(source) = self.published_source(key, mid) else { return };
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        if transport.incoming.len() + 3 > MAX_INCOMING {
            transport.incoming.clear();
        }
        transport.incoming.insert(ssrc.0, Incoming::Primary(source));
        if let Some(rtx) = rtx {
            transport.incoming.insert(rtx.0, Incoming::Rtx(source));
        }
        // Key frames can be asked for before the first packet has come.
        if let Some(supply) = self.forward.source_mut(source).and_then(|s| s.supply.as_mut()) {
            supply.ssrc.get_or_insert(ssrc.0);
        }
    }

    /// The same of repair packets.
    fn announce_repairs(&mut self, key: TransportKey, mid: &Mid, ssrc: Ssrc) {
        let Some(source) = self.published_source(key, mid) else { return };
        if let Some(transport) = self.net.transports.get_mut(key) {
            transport.incoming.insert(ssrc.0, Incoming::Repair(source));
        }
    }

    /// The source of a track without layers.
    fn published_source(&self, key: TransportKey, mid: &Mid) -> Option<SourceKey> {
        let transport = self.net.transports.get(key)?;
        let mut tracks = transport.sessions.values().flat_map(|session| &session.tracks);
        tracks.find(|track| track.mid == *mid).and_then(|track| match &track.role {
            Role::Published(layers) => layers.iter().find(|l| l.rid.is_none()).map(|layer| layer.source),
            Role::Subscribed { .. } => None,
        })
    }
}

/// Puts the negotiated layers, if there are any, in the place of the one that stood for all. A layer's track is named after the whole
/// one's.
fn split(forward: &mut Forwarder, layers: &mut Vec<Layer>, kind: Kind, rids: &[Rid]) {
    let [whole] = &layers[..] else { return };
    if rids.is_empty() {
        return;
    }
    let (track, before) = (whole.track.clone(), whole.source);
    let active = forward.source(before).is_none_or(|source| source.active);
    let split: Vec<_> = rids
        .iter()
        .filter_map(|rid| {
            let track = TrackId::new(format!("{track}:{rid}")).ok()?;
            let source = forward.source_of(&track, kind);
            let source_state = forward.source_mut(source).filter(|source| source.supply.is_none())?;
            source_state.active = active;
            Some(Layer { rid: Some(rid.clone()), track, source })
        })
        .collect();
    *layers = split;
    forward.release_claim(before);
}

fn red_types(negotiated: &Negotiated) -> Option<RedTypes> {
    let (red, _) = negotiated.red.as_ref()?;
    Some(RedTypes { red: *red, plain: negotiated.payload.number })
}

fn stream_parameters(transport: TransportKey, negotiated: &Negotiated) -> Option<StreamParameters> {
    let send = negotiated.send.as_ref()?;
    Some(StreamParameters {
        transport,
        clock_rate: negotiated.format.clock_rate(),
        ssrc: send.ssrc,
        payload_type: negotiated.payload.number,
        rtx: send.rtx_ssrc.zip(negotiated.rtx.as_ref().map(|(number, _)| *number)),
        nack: negotiated.has_feedback("nack"),
        red: negotiated.red.as_ref().map(|(number, _)| *number),
        repair: send.repair_ssrc.zip(negotiated.repair.as_ref().map(|repair| repair.number)),
        extensions: negotiated.extensions,
    })
}
