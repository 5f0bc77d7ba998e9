//! Datagrams of clients.

use std::time::Instant;

use bytes::BytesMut;
use kaigi_media::rtp::{RtpHeader, is_rtcp};
use kaigi_proto::v1::{self, access_event::Event};
use rtc_rtcp::{
    packet::Packet,
    receiver_report::ReceiverReport,
    source_description::{SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem},
};

use super::{
    Node,
    transport::{Incoming, Layer, MAX_INCOMING, REPORT_INTERVAL, Role, RoundTrip, Transport},
};
use crate::{
    bandwidth::BandwidthEstimator,
    forward::{Repair, Rtcp, nacked, walk},
    ids::{Mid, Rid},
    keys::{SourceKey, TransportKey},
    protect::Protection,
    transport::{Class, Path, Peer, Srtp, classify, stun_user_name},
};

/// Most report blocks of one receiver report (RFC 3550 §6.4.2: the count has five bits).
const MAX_BLOCKS: usize = 31;
/// A track's (or layer's) packets under a source that was not announced are taken only if the one known has been silent that long.
/// Layers of simulcast by groups of sources, which is not answered, stay out that way.
const SOURCE_CHANGE: std::time::Duration = std::time::Duration::from_secs(2);

/// Where more than this share of what is sent is lost, what is sent again is sent twice: of that, too, so much is lost.
const LOSSY: f64 = 0.04;

impl Node {
    /// A datagram (or a frame of a TCP connection) came in.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, bytes: &[u8]) {
        match classify(bytes) {
            Some(Class::Stun) => self.handle_stun(now, path, bytes),
            Some(class) => {
                let Some(&key) = self.net.by_peer.get(&path.peer) else {
                    self.net.counters.strangers += 1;
                    return;
                };
                match class {
                    Class::Dtls => self.handle_dtls(now, key, &path.peer, bytes),
                    Class::Media if is_rtcp(bytes) => self.handle_rtcp(now, key, &path.peer, bytes),
                    Class::Media | Class::Stun => self.handle_rtp(now, key, &path.peer, bytes),
                }
            }
            None => self.net.counters.strangers += 1,
        }
    }

    /// A way to a client is gone: its TCP connection has closed.
    pub fn path_closed(&mut self, path: &Path) {
        if let Some(key) = self.net.by_peer.remove(&path.peer)
            && let Some(transport) = self.net.transports.get_mut(key)
        {
            transport.ice.forget(path);
        }
    }

    fn handle_stun(&mut self, now: Instant, path: Path, bytes: &[u8]) {
        let key = stun_user_name(bytes).and_then(|ufrag| self.net.by_ufrag.get(ufrag)).copied();
        let Some((key, transport)) = key.and_then(|key| Some((key, self.net.transports.get_mut(key)?)))
        else {
            self.net.counters.strangers += 1;
            return;
        };
        let crypto = self.config.certificate.provider().crypto();
        let before = transport.ice.last_selected();
        let checked = match transport.ice.check(now, path, bytes, crypto) {
            Ok(checked) => checked,
            Err(error) => {
                tracing::trace!(%error, "check refused");
                self.net.counters.malformed += 1;
                return;
            }
        };
        // Nothing is known of another way.
        let after = transport.ice.last_selected();
        if before.is_some() && before.map(|path| path.peer) != after.map(|path| path.peer) {
            transport.bandwidth = BandwidthEstimator::new(now);
            transport.round_trip = RoundTrip::default();
            transport.protection = Protection::default();
            transport.layering.begin_anew();
            transport.pacer.carries(None);
            self.net.paced.set(key, transport.pacer.next_timeout());
        }
        // Until there is an offer there is no certificate to expect, so nothing to begin.
        let begins = transport.dtls.is_some() && transport.handshake_since.is_none();
        if begins && transport.ice.selected().is_some() {
            transport.handshake_since = Some(now);
            if let Some(dtls) = &mut transport.dtls
                && let Err(error) = dtls.start(now)
            {
                return self.end_transport(now, key, Some(error.to_string()));
            }
        }
        if let Some(forgotten) = checked.forgotten
            && self.net.by_peer.get(&forgotten.peer) == Some(&key)
        {
            self.net.by_peer.remove(&forgotten.peer);
        }
        if let Some(retired) = checked.retired {
            self.net.by_ufrag.remove(&retired);
        }
        self.net.output.datagrams.push(path, key, &checked.response);
        // Whoever checked last from an address owns it: behind a NAT it may have been another client's before.
        self.net.by_peer.insert(path.peer, key);
        self.net.flush_dtls(key);
        self.net.schedule(key);
    }

    fn handle_dtls(&mut self, now: Instant, key: TransportKey, from: &Peer, bytes: &[u8]) {
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        let Some(dtls) = &mut transport.dtls else { return };
        let was_complete = dtls.is_complete();
        let result = dtls.read(now, bytes);
        match result {
            Ok(None) if dtls.has_packet() => transport.ice.authenticated(now, from),
            Ok(None) => {}
            Ok(Some(keys)) => {
                match Srtp::new(&keys, self.config.certificate.provider().crypto()) {
                    Ok(srtp) => transport.srtp = Some(srtp),
                    Err(error) => return self.end_transport(now, key, Some(error.to_string())),
                }
                transport.next_report = Some(now + REPORT_INTERVAL);
                tracing::info!(transport = %transport.id, profile = ?keys.profile, "transport connected");
                self.net.flush_dtls(key);
                self.net.event(key, Event::TransportReady(v1::TransportReady {}));
                self.establish(key);
                self.open_sinks(now, key);
            }
            Err(crate::transport::DtlsError::Closed) => {
                return self.end_transport(now, key, Some("closed by the client".to_owned()));
            }
            // What comes after the handshake may be forged; only the peer's authenticated farewell ends the transport then.
            Err(error) if was_complete => {
                self.net.counters.malformed += 1;
                tracing::debug!(%error, "DTLS datagram dropped");
            }
            Err(error) => return self.end_transport(now, key, Some(error.to_string())),
        }
        self.handle_packets(now, key);
        self.net.flush_dtls(key);
        self.net.schedule(key);
    }

    /// Subscriptions that were negotiated before the transport was connected begin to flow.
    fn open_sinks(&mut self, now: Instant, key: TransportKey) {
        let Some(transport) = self.net.transports.get(key) else { return };
        let sinks: Vec<_> = transport.outgoing.values().copied().collect();
        for sink in sinks {
            self.forward.open_sink(now, sink, &mut self.net);
        }
    }

    fn handle_rtp(&mut self, now: Instant, key: TransportKey, from: &Peer, bytes: &[u8]) {
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        let Some(srtp) = &mut transport.srtp else { return };
        self.net.counters.packets_in += 1;
        self.net.counters.bytes_in += bytes.len() as u64;
        let mut plain = std::mem::take(&mut self.plain);
        match srtp.unprotect_rtp_into(bytes, &mut plain) {
            Ok(()) => {
                transport.ice.authenticated(now, from);
                self.handle_plain_rtp(now, key, &mut plain);
            }
            Err(error) => {
                tracing::trace!(%error, "RTP dropped");
                self.net.counters.malformed += 1;
            }
        }
        self.plain = plain;
    }

    fn handle_plain_rtp(&mut self, now: Instant, key: TransportKey, plain: &mut [u8]) {
        let Some(transport) = self.net.transports.get(key) else { return };
        let Ok(header) = RtpHeader::parse(plain) else {
            self.net.counters.malformed += 1;
            return;
        };
        let known = transport.incoming.get(&header.ssrc).copied();
        let Some(incoming) = known.or_else(|| self.learn(now, key, &header, plain)) else {
            self.net.counters.malformed += 1;
            return;
        };
        let (Incoming::Primary(source) | Incoming::Rtx(source) | Incoming::Repair(source)) = incoming;
        self.note_transport_cc(now, key, source, &header, plain);
        match incoming {
            Incoming::Primary(_) => {
                if self.forward.source(source).is_some_and(|source| source.is_red(&header)) {
                    if !self.forward.receive_red(now, source, plain, &header, &mut self.net) {
                        self.net.counters.malformed += 1;
                    }
                } else {
                    self.forward.receive(now, source, plain, &header, false, &mut self.net);
                }
            }
            Incoming::Rtx(_) => {
                if let Some((original, header)) = self.unwrap_rtx(key, source, &header, plain) {
                    self.forward.receive(now, source, &original, &header, true, &mut self.net);
                }
            }
            Incoming::Repair(_) => {
                if !self.forward.receive_repair(now, source, header.payload(plain), &mut self.net) {
                    self.net.counters.malformed += 1;
                }
            }
        }
    }

    fn note_transport_cc(
        &mut self,
        now: Instant,
        key: TransportKey,
        source: SourceKey,
        header: &RtpHeader,
        packet: &[u8],
    ) {
        let supply = self.forward.source(source).and_then(|source| source.supply.as_ref());
        let Some(id) = supply.and_then(|supply| supply.extensions.transport_cc) else { return };
        let Some([high, low, ..]) = header.extension(packet, id) else { return };
        let number = u16::from_be_bytes([*high, *low]);
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        let idle = transport.transport_cc.next_timeout().is_none();
        transport.transport_cc.receive(now, number);
        if idle {
            self.net.schedule(key);
        }
    }

    /// Finds out which track an unannounced source is of: by the mid that its packets carry (RFC 8843 §9.2), else by its payload type
    /// if only one track has that, else by its rid if only one has that too. Which of a track's layers it is the rid tells (RFC 8852), or
    /// the repaired one for retransmissions.
    fn learn(
        &mut self,
        now: Instant,
        key: TransportKey,
        header: &RtpHeader,
        packet: &[u8],
    ) -> Option<Incoming> {
        let transport = self.net.transports.get(key)?;
        let mut candidates = Vec::new();
        for track in transport.sessions.values().flat_map(|session| &session.tracks) {
            let Role::Published(layers) = &track.role else { continue };
            let Some(negotiated) = transport.negotiation.negotiated(&track.mid) else { continue };
            let rtx = match header.payload_type {
                pt if pt == negotiated.payload.number => false,
                pt if negotiated.red.as_ref().is_some_and(|(red, _)| *red == pt) => false,
                pt if negotiated.rtx.as_ref().is_some_and(|(rtx, _)| *rtx == pt) => true,
                _ => continue,
            };
            let extensions = &negotiated.extensions;
            let said = |id: Option<u8>| std::str::from_utf8(header.extension(packet, id?)?).ok();
            let line = said(extensions.mid).and_then(Mid::new);
            let fits = line.map(|line| transport.negotiation.binding_of_line(&line) == Some(&track.mid));
            let rid = said(if rtx { extensions.repaired_rid } else { extensions.rid }).and_then(Rid::new);
            let layer = layers.iter().find(|layer| layer.rid.is_none() || layer.rid == rid);
            let is_told = layer.is_some_and(|layer| layer.rid == rid);
            candidates.push((layer.map(|layer| layer.source), rtx, fits, is_told));
        }
        let by_mid = candidates.iter().find(|(_, _, fits, _)| *fits == Some(true));
        let alone = || candidates.first().filter(|(_, _, fits, _)| candidates.len() == 1 && fits.is_none());
        let by_layer = || {
            let mut told = candidates.iter().filter(|(_, _, fits, is_told)| fits.is_none() && *is_told);
            told.next().filter(|_| told.next().is_none())
        };
        let &(source, rtx, _, _) = by_mid.or_else(alone).or_else(by_layer)?;
        let source = source?;
        if !rtx && !self.forward.source(source)?.accepts_new_ssrc(now, SOURCE_CHANGE) {
            return None;
        }
        let incoming = if rtx { Incoming::Rtx(source) } else { Incoming::Primary(source) };
        let transport = self.net.transports.get_mut(key)?;
        if transport.incoming.len() >= MAX_INCOMING {
            transport.incoming.clear();
        }
        transport.incoming.insert(header.ssrc, incoming);
        Some(incoming)
    }

    /// The original packet in a retransmission (RFC 4588 §4). `None` for padding, which browsers send to probe for bandwidth.
    fn unwrap_rtx(
        &self,
        key: TransportKey,
        source: SourceKey,
        header: &RtpHeader,
        packet: &[u8],
    ) -> Option<(BytesMut, RtpHeader)> {
        let payload = header.payload(packet);
        let (number, rest) = payload.split_at_checked(2)?;
        if rest.is_empty() {
            return None;
        }
        let ssrc = self.forward.source(source)?.supply.as_ref()?.ssrc?;
        let transport = self.net.transports.get(key)?;
        let mut negotiated = transport.sessions.values().flat_map(|s| &s.tracks).filter_map(|track| {
            let of = |layers: &[Layer]| layers.iter().any(|layer| layer.source == source);
            let is_of = matches!(&track.role, Role::Published(layers) if of(layers));
            is_of.then(|| transport.negotiation.negotiated(&track.mid)).flatten()
        });
        let payload_type = negotiated.next()?.payload.number;
        let mut original = BytesMut::with_capacity(packet.len());
        original.extend_from_slice(packet.get(..header.payload_start)?);
        original.extend_from_slice(rest);
        original[0] &= !0x20;
        original[1] = original[1] & 0x80 | payload_type;
        original[2..4].copy_from_slice(number);
        original[8..12].copy_from_slice(&ssrc.to_be_bytes());
        let header = RtpHeader::parse(&original).ok()?;
        Some((original, header))
    }

    fn handle_rtcp(&mut self, now: Instant, key: TransportKey, from: &Peer, bytes: &[u8]) {
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        let Some(srtp) = &mut transport.srtp else { return };
        let Ok(plain) = srtp.unprotect_rtcp(bytes) else {
            self.net.counters.malformed += 1;
            return;
        };
        transport.ice.authenticated(now, from);
        for packet in walk(&plain) {
            match packet {
                Rtcp::SenderReport { ssrc, ntp, rtp, blocks } => {
                    let incoming = self.net.transports.get(key).and_then(|t| t.incoming.get(&ssrc));
                    if let Some(Incoming::Primary(source)) = incoming.copied() {
                        self.forward.sender_report(now, source, ntp, rtp, &mut self.net);
                    }
                    self.receiver_reports(now, key, blocks);
                }
                Rtcp::ReceiverReport { blocks } => self.receiver_reports(now, key, blocks),
                Rtcp::LastReference { ssrc, reference } => self.last_reference(now, key, ssrc, reference),
                Rtcp::Nack { ssrc, pairs } => {
                    self.net.counters.nacks_in += 1;
                    self.repair(now, key, ssrc, true, nacked(pairs));
                }
                Rtcp::KeyFrameRequest { ssrc, intra } => {
                    self.net.counters.key_frame_requests_in += 1;
                    if let Some(sink) =
                        self.net.transports.get(key).and_then(|t| t.outgoing.get(&ssrc)).copied()
                    {
                        self.forward.count_key_frame_request(sink, intra);
                        self.forward.key_frame_request(now, sink, &mut self.net);
                    }
                }
                Rtcp::TransportCc { feedback } => self.handle_transport_cc(now, key, feedback),
                Rtcp::CanTake { bitrate } => {
                    if let Some(transport) = self.net.transports.get_mut(key) {
                        transport.bandwidth.can_take(now, bitrate);
                    }
                    self.has_estimated(now, key);
                }
                Rtcp::Other => {}
            }
        }
    }

    fn handle_transport_cc(&mut self, now: Instant, key: TransportKey, feedback: &[u8]) {
        self.net.counters.transport_cc_in += 1;
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        let mut lost = std::mem::take(&mut self.lost);
        let Transport { bandwidth, repairs, .. } = transport;
        bandwidth.feedback(now, feedback, |number| lost.extend(repairs.find(number)));
        repairs.set_needed(bandwidth.loses(now, LOSSY));
        lost.sort_unstable();
        for of_one in lost.chunk_by(|(one, _), (other, _)| one == other) {
            let ssrc = of_one.first().map_or(0, |(ssrc, _)| ssrc.0);
            self.repair(now, key, ssrc, false, of_one.iter().map(|(_, sequence)| *sequence));
        }
        lost.clear();
        self.lost = lost;
        self.has_estimated(now, key);
        self.protect(now, key);
    }

    /// A client misses packets of a stream, and has asked for them or not.
    fn repair(
        &mut self,
        now: Instant,
        key: TransportKey,
        ssrc: u32,
        asked: bool,
        missing: impl Iterator<Item = u16> + Clone,
    ) {
        let Some(transport) = self.net.transports.get(key) else { return };
        let Some(&sink) = transport.outgoing.get(&ssrc) else { return };
        let twice = transport.bandwidth.loses(now, LOSSY) && !transport.pacer.is_waiting();
        let repair = Repair { round_trip: transport.round_trip.last, twice, asked };
        let sent = self.forward.retransmit(now, sink, missing, repair, &mut self.net);
        self.net.counters.retransmissions += sent as u64;
    }

    /// Something new is known of the way to a client.
    pub(super) fn has_estimated(&mut self, now: Instant, key: TransportKey) {
        self.net.pace(now, key);
        if self.net.transports.get(key).is_some_and(|transport| transport.falls_short(now)) {
            self.allocate(now, key);
        }
    }

    pub(super) fn transport_timeout(&mut self, now: Instant, key: TransportKey) {
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        if transport.ice.expires_at() <= now {
            let reason = if transport.is_connected() { "connection lost" } else { "no connection" };
            return self.end_transport(now, key, Some(reason.to_owned()));
        }
        transport.ice.handle_timeout(now);
        let overdue =
            transport.handshake_since.is_some_and(|at| at + super::transport::HANDSHAKE_TIMEOUT <= now);
        if overdue && !transport.is_connected() {
            return self.end_transport(now, key, Some("DTLS handshake timed out".to_owned()));
        }
        if let Some(dtls) = &mut transport.dtls
            && let Err(error) = dtls.handle_timeout(now)
        {
            return self.end_transport(now, key, Some(error.to_string()));
        }
        self.net.flush_dtls(key);
        self.data_timeout(now, key);
        self.send_transport_cc(now, key);
        self.layers_timeout(now, key);
        self.interest_timeout(now, key);
        let due = self.net.transports.get(key).and_then(|t| t.next_report).is_some_and(|at| at <= now);
        if due {
            self.send_reports(now, key);
        }
        self.net.schedule(key);
    }

    fn send_transport_cc(&mut self, now: Instant, key: TransportKey) {
        loop {
            let Some(transport) = self.net.transports.get_mut(key) else { return };
            if transport.transport_cc.next_timeout().is_none_or(|at| at > now) || !transport.is_connected() {
                return;
            }
            let media = transport.incoming.keys().next().copied().unwrap_or_default();
            let ssrc = transport.ssrc;
            while let Some(packet) =
                self.net.transports.get_mut(key).and_then(|t| t.transport_cc.feedback(ssrc, media))
            {
                self.net.client_rtcp(key, &packet);
            }
        }
    }

    fn send_reports(&mut self, now: Instant, key: TransportKey) {
        let Some(transport) = self.net.transports.get_mut(key) else { return };
        transport.next_report = Some(now + REPORT_INTERVAL);
        let (own, name) = (transport.ssrc, transport.name.clone());
        let mut sinks = Vec::new();
        for (ssrc, sink) in &transport.outgoing {
            self.forward.watch_source(now, *sink);
            let report = self.forward.report_on(now, &self.clock, *sink).filter(|r| r.ssrc == *ssrc);
            if let Some(report) = report {
                self.forward.sender_report_sent(now, *sink, report.ntp_time);
                sinks.push(report);
            }
        }
        let mut blocks = Vec::new();
        for (ssrc, incoming) in &transport.incoming {
            let Incoming::Primary(source) = incoming else { continue };
            let Some(source) = self.forward.source_mut(*source) else { continue };
            if source.supply.as_ref().and_then(|supply| supply.ssrc) == Some(*ssrc) {
                blocks.extend(source.reception_mut().and_then(|reception| reception.report(now, *ssrc)));
            }
        }
        let mut reference = Some(transport.round_trip.reference(now, self.clock.ntp(now), own));
        for reports in blocks.chunks(MAX_BLOCKS) {
            let report = ReceiverReport { ssrc: own, reports: reports.to_vec(), ..Default::default() };
            let mut packets: Vec<Box<dyn Packet>> = vec![Box::new(report), canonical_name(own, &name)];
            if let Some(reference) = reference.take() {
                packets.push(Box::new(reference));
            }
            self.net.client_rtcp_packets(key, &packets);
        }
        for report in sinks {
            let name = canonical_name(report.ssrc, &name);
            self.net.client_rtcp_packets(key, &[Box::new(report), name]);
        }
    }
}

fn canonical_name(ssrc: u32, name: &str) -> Box<dyn Packet> {
    Box::new(SourceDescription {
        chunks: vec![SourceDescriptionChunk {
            source: ssrc,
            items: vec![SourceDescriptionItem {
                sdes_type: SdesType::SdesCname,
                text: bytes::Bytes::copy_from_slice(name.as_bytes()),
            }],
        }],
    })
}
