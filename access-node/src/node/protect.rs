//! Redundancy of what is sent to clients.

use std::time::Instant;

use super::{Node, layers::sent, transport::Transport};
use crate::{
    forward::Forwarder,
    keys::{SinkKey, TransportKey},
    protect::Losses,
    sdp::Kind,
};

/// Share of the estimate that sound may take with its redundancy.
const SHARE: f64 = 0.8;

impl Node {
    /// Looks at how much a client's way loses, and protects what it is sent accordingly.
    pub(super) fn protect(&mut self, now: Instant, key: TransportKey) {
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        if !transport.protection.is_due(now) {
            return;
        }
        let mut plain = 0;
        let forward = &mut self.forward;
        for sink in redundant(transport, forward) {
            plain += sent(now, sink, forward);
        }
        let (estimate, full) = (transport.bandwidth.estimate(now), transport.bandwidth.is_full(now));
        let losses = match (full, transport.bandwidth.loss_share(now), estimate) {
            (true, ..) => Losses::OfQueues,
            (false, Some(share), _) => Losses::Share(share),
            (false, None, Some(_)) => Losses::Share(0.0),
            (false, None, None) => Losses::AsReported,
        };
        // If it was not found full, an estimate says how much was sent, not what is carried.
        let room = estimate.filter(|_| full).map(|estimate| SHARE * estimate as f64);
        let fits = |depth: usize| room.is_none_or(|room| (plain * (1 + depth as u64)) as f64 <= room);
        let depth = transport.protection.sound(now, losses, fits);
        for sink in redundant(transport, forward) {
            forward.set_redundancy(sink, depth);
        }
        let every = transport.protection.pictures(now, losses, transport.round_trip.last);
        let delay = transport.protection.playout_delay(now, losses, transport.round_trip.last);
        for sink in transport.outgoing.values() {
            forward.set_repairs(*sink, every);
            forward.set_playout_delay(*sink, delay);
        }
    }
}

/// What redundancy adds to what goes to a sink, in bit/s.
pub(super) fn added(now: Instant, sink: SinkKey, forward: &mut Forwarder) -> u64 {
    let depth = forward.redundancy(sink).unwrap_or(0) as u64;
    let every = forward.repairs(sink).unwrap_or(0) as u64;
    if depth == 0 && every == 0 {
        return 0;
    }
    let plain = sent(now, sink, forward);
    depth * plain + plain.checked_div(every).unwrap_or(0)
}

/// The client's streams that can have redundancy.
fn redundant(transport: &Transport, forward: &Forwarder) -> Vec<SinkKey> {
    let takes = |sink: &SinkKey| {
        forward.sink(*sink).is_some_and(|sink| sink.kind == Kind::Audio)
            && forward.redundancy(*sink).is_some()
    };
    transport.outgoing.values().copied().filter(takes).collect()
}
