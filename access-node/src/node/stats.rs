//! What is counted of transports and their tracks, as agents are told of it; and how long it takes to clients and back.

use std::time::{Duration, Instant, SystemTime};

use kaigi_proto::{
    ids::{SessionId, TransportId},
    v1,
};
use rtc_rtcp::extended_report::{ExtendedReport, ReceiverReferenceTimeReportBlock};

use super::{
    Node,
    transport::{Role, RoundTrip, Session, SessionTrack, Transport},
};
use crate::{
    forward::{Forwarder, Reference, report_blocks},
    keys::TransportKey,
};

impl RoundTrip {
    /// Asks a client that publishes, and so gets no sender reports to refer to, for the time (RFC 3611 §4.4).
    pub(super) fn reference(&mut self, now: Instant, ntp: u64, own: u32) -> ExtendedReport {
        self.references.sent(now, ntp);
        let block = ReceiverReferenceTimeReportBlock { ntp_timestamp: ntp };
        ExtendedReport { sender_ssrc: own, reports: vec![Box::new(block)] }
    }

    fn micros(&self) -> u32 {
        // 0 stands for what is not known.
        let micros = |round_trip: Duration| u32::try_from(round_trip.as_micros()).unwrap_or(u32::MAX).max(1);
        self.last.map_or(0, micros)
    }
}

impl Node {
    /// What is counted of those of the transports that are here. `wall` is the time of day at `now`.
    pub fn stats(
        &mut self,
        now: Instant,
        wall: SystemTime,
        transports: &[TransportId],
    ) -> Vec<v1::TransportStats> {
        let Self { by_id, net, forward, .. } = self;
        let here = transports.iter().filter_map(|id| Some((id, net.transports.get(*by_id.get(id)?)?)));
        here.map(|(id, transport)| v1::TransportStats {
            transport_id: id.to_string(),
            rtt_us: transport.round_trip.micros(),
            estimated_bitrate: transport.bandwidth.estimate(now).unwrap_or(0),
            sessions: sessions(now, wall, transport, forward),
        })
        .collect()
    }

    /// What a client says of the streams that it is sent.
    pub(super) fn receiver_reports(&mut self, now: Instant, key: TransportKey, blocks: &[u8]) {
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        let mut any = false;
        for block in report_blocks(blocks) {
            let Some(sink) = transport.outgoing.get(&block.ssrc) else { continue };
            transport.bandwidth.lost(now, f64::from(block.fraction_lost) / 256.0);
            any = true;
            if let Some(round_trip) = self.forward.receiver_report(now, *sink, &block) {
                transport.round_trip.last = Some(round_trip);
            }
            transport.protection.reported(now, f64::from(block.fraction_lost) / 256.0);
        }
        self.protect(now, key);
        if any {
            self.has_estimated(now, key);
        }
    }

    /// A client that publishes says which receiver reference time it got last.
    pub(super) fn last_reference(&mut self, now: Instant, key: TransportKey, ssrc: u32, answer: Reference) {
        let Some(transport) = self.net.transports.get_mut(key).filter(|t| t.ssrc == ssrc) else { return };
        if let Some(round_trip) = transport.round_trip.references.round_trip(now, answer) {
            transport.round_trip.last = Some(round_trip);
        }
    }
}

fn sessions(
    now: Instant,
    wall: SystemTime,
    transport: &Transport,
    forward: &mut Forwarder,
) -> Vec<v1::SessionStats> {
    let mut session = |(id, session): (&SessionId, &Session)| v1::SessionStats {
        session_id: id.to_string(),
        tracks: session.tracks.iter().flat_map(|track| tracks(now, wall, track, forward)).collect(),
    };
    transport.sessions.iter().map(&mut session).collect()
}

/// One of a subscription, one for each layer of a publication.
fn tracks(
    now: Instant,
    wall: SystemTime,
    track: &SessionTrack,
    forward: &mut Forwarder,
) -> Vec<v1::TrackStats> {
    let kind = v1::MediaKind::from(track.kind).into();
    let mid = track.mid.to_string();
    match &track.role {
        Role::Published(layers) => layers
            .iter()
            .map(|layer| v1::TrackStats {
                mid: mid.clone(),
                rid: layer.rid.as_ref().map(ToString::to_string).unwrap_or_default(),
                ..forward.source_stats(now, layer.source).unwrap_or_default()
            })
            .collect(),
        Role::Subscribed { active, sink, .. } => {
            let not_negotiated = || {
                let limit = if *active { v1::Limit::Source } else { v1::Limit::Paused };
                v1::TrackStats { kind, limit: limit.into(), ..v1::TrackStats::default() }
            };
            let counted = sink.and_then(|sink| forward.sink_stats(now, wall, sink));
            vec![v1::TrackStats { mid, ..counted.unwrap_or_else(not_negotiated) }]
        }
    }
}
