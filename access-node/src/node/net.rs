//! Everything that packets leave through: transports, links, and what is waiting to be sent.

use std::{collections::HashMap, time::Instant};

use kaigi_proto::{
    ids::{ParticipantId, RoomId, TrackId, TransportId, WorkerId},
    v1::{self, access_event::Event},
};
use rtc_rtcp::{
    packet::{Packet, marshal},
    payload_feedbacks::picture_loss_indication::PictureLossIndication,
    transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
};

use super::{
    Counters, Notice, Output,
    data::Data,
    links::{Links, Taker},
    remote::RemoteLayers,
    speakers::Selected,
    transport::{Role, Transport},
};
use crate::{
    arena::Arena,
    forward::{Origin, Outlet, Size},
    ids::WorkerNumber,
    keys::{AttachmentKey, TransportKey, TransportTag},
    pacing::Class,
    timers::Timers,
    transport::{Path, Peer},
};

/// A room of which this node has transports.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) agent: WorkerId,
    pub(super) epoch: u64,
    pub(super) transports: usize,
    /// Who is in its selected tracks, and who gets them.
    pub(super) selected: Selected,
}

impl Room {
    /// It is served by that agent, unless a newer one does.
    pub(super) fn serve(&mut self, agent: &WorkerId, epoch: u64) {
        if epoch >= self.epoch {
            (self.agent, self.epoch) = (agent.clone(), epoch);
        }
    }
}

#[derive(Debug)]
pub(super) struct Net {
    pub(super) rooms: HashMap<RoomId, Room>,
    pub(super) transports: Arena<Transport, TransportTag>,
    pub(super) by_ufrag: HashMap<String, TransportKey>,
    pub(super) by_peer: HashMap<Peer, TransportKey>,
    pub(super) timers: Timers<TransportKey>,
    pub(super) links: Links,
    /// The other workers of the process.
    pub(super) others: Vec<WorkerNumber>,
    pub(super) remote: RemoteLayers,
    pub(super) data: Data,
    pub(super) output: Output,
    pub(super) counters: Counters,
    /// When paced packets leave.
    pub(super) paced: Timers<TransportKey>,
    /// The one that leaves.
    leaving: Vec<u8>,
}

impl Net {
    pub(super) fn new(links: Links) -> Self {
        Self {
            rooms: HashMap::new(),
            transports: Arena::default(),
            by_ufrag: HashMap::new(),
            by_peer: HashMap::new(),
            timers: Timers::default(),
            links,
            others: Vec::new(),
            remote: RemoteLayers::default(),
            data: Data::default(),
            output: Output::default(),
            counters: Counters::default(),
            paced: Timers::default(),
            leaving: Vec::new(),
        }
    }

    /// Says something to another worker.
    pub(super) fn tell(&mut self, worker: WorkerNumber, notice: Notice) {
        self.output.notices.push((worker, notice));
    }

    /// Says something to all other workers.
    pub(super) fn tell_all(&mut self, notice: &Notice) {
        let notices = self.others.iter().map(|worker| (*worker, notice.clone()));
        self.output.notices.extend(notices);
    }

    /// Tells the agent of the transport's room.
    pub(super) fn event(&mut self, key: TransportKey, event: Event) {
        if let Some(transport) = self.transports.get(key) {
            let (room, participant, id) =
                (transport.room.clone(), transport.participant.clone(), transport.id.clone());
            let answer = if let Event::Answer(_) = event { transport.answers.count } else { 0 };
            self.numbered_event_of(&room, &participant, &id, event, answer);
        }
    }

    /// The same for a transport that is gone already.
    pub(super) fn event_of(
        &mut self,
        room: &RoomId,
        participant: &ParticipantId,
        transport: &TransportId,
        event: Event,
    ) {
        self.numbered_event_of(room, participant, transport, event, 0);
    }

    fn numbered_event_of(
        &mut self,
        room: &RoomId,
        participant: &ParticipantId,
        transport: &TransportId,
        event: Event,
        answer_number: u64,
    ) {
        let Some(agent) = self.rooms.get(room).map(|room| room.agent.clone()) else { return };
        let event = v1::AccessEvent {
            room_id: room.to_string(),
            participant_id: participant.to_string(),
            transport_id: transport.to_string(),
            event: Some(event),
            answer_number,
        };
        self.output.events.push((agent, event));
    }

    /// Sends plain RTCP to a client, protected.
    pub(super) fn client_rtcp(&mut self, to: TransportKey, plain: &[u8]) {
        let Some(transport) = self.transports.get_mut(to) else { return };
        let (Some(srtp), Some(path)) = (&mut transport.srtp, transport.ice.selected()) else { return };
        match srtp.protect_rtcp(plain) {
            Ok(datagram) => self.output.datagrams.push(path, to, &datagram),
            Err(error) => tracing::debug!(%error, transport = %transport.id, "RTCP not protected"),
        }
    }

    pub(super) fn client_rtcp_packets(&mut self, to: TransportKey, packets: &[Box<dyn Packet>]) {
        match marshal(packets) {
            Ok(plain) => self.client_rtcp(to, &plain),
            Err(error) => tracing::debug!(%error, "RTCP not written"),
        }
    }

    /// Sends what the DTLS endpoint has to say.
    pub(super) fn flush_dtls(&mut self, key: TransportKey) {
        let path = self.transports.get(key).and_then(|transport| transport.ice.selected());
        self.flush_dtls_to(key, path);
    }

    /// The same, even to a client that was not heard of lately: it may hear still.
    pub(super) fn say_farewell(&mut self, key: TransportKey) {
        let path = self.transports.get(key).and_then(|transport| transport.ice.last_selected());
        self.flush_dtls_to(key, path);
    }

    fn flush_dtls_to(&mut self, key: TransportKey, path: Option<Path>) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let (Some(dtls), Some(path)) = (&mut transport.dtls, path) else { return };
        while let Some(datagram) = dtls.poll_transmit() {
            self.output.datagrams.push(path, key, &datagram);
        }
    }

    pub(super) fn schedule(&mut self, key: TransportKey) {
        let next = self.transports.get(key).and_then(Transport::next_timeout);
        self.timers.set(key, next);
    }

    /// A plain RTP packet leaves to a client.
    fn send_rtp(
        &mut self,
        now: Instant,
        to: TransportKey,
        packet: &mut [u8],
        transport_cc_at: Option<usize>,
    ) {
        let Some(transport) = self.transports.get_mut(to) else { return };
        let (Some(srtp), Some(path)) = (&mut transport.srtp, transport.ice.selected()) else { return };
        if let Some(field) = transport_cc_at.and_then(|at| packet.get_mut(at..at + 2)) {
            let next = transport.next_transport_cc;
            field.copy_from_slice(&next.to_be_bytes());
            transport.next_transport_cc = next.wrapping_add(1);
            transport.bandwidth.sent(now, next, packet.len());
            transport.repairs.sent(next, packet);
        } else {
            transport.bandwidth.sent_unnumbered(now, packet.len());
        }
        let protect = |out: &mut Vec<u8>| srtp.protect_rtp_onto(packet, out);
        match self.output.datagrams.write(path, to, protect) {
            Ok(size) => {
                self.counters.packets_out += 1;
                self.counters.bytes_out += size as u64;
            }
            Err(error) => tracing::debug!(%error, transport = %transport.id, "RTP not protected"),
        }
    }

    /// Paced packets that are due leave.
    pub(super) fn release_paced(&mut self, now: Instant) {
        let mut packet = std::mem::take(&mut self.leaving);
        while let Some(key) = self.paced.pop_due(now) {
            while let Some(place) = self.transports.get_mut(key).and_then(|t| t.pacer.pop(now, &mut packet)) {
                self.send_rtp(now, key, &mut packet, place);
            }
            let next = self.transports.get(key).and_then(|transport| transport.pacer.next_timeout());
            self.paced.set(key, next);
        }
        self.leaving = packet;
    }

    /// Paces what leaves to a client by what its way is known to carry.
    pub(super) fn pace(&mut self, now: Instant, key: TransportKey) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let narrow = transport.bandwidth.has_fallen();
        transport.pacer.carries(transport.bandwidth.estimate(now).filter(|_| narrow));
        let at = transport.pacer.next_timeout();
        self.paced.set(key, at);
    }
}

impl Outlet for Net {
    fn client_rtp(
        &mut self,
        now: Instant,
        to: TransportKey,
        packet: &mut [u8],
        transport_cc_at: Option<usize>,
        class: Class,
    ) {
        let Some(transport) = self.transports.get_mut(to) else { return };
        if transport.pacer.leaves(now, class, packet, transport_cc_at) {
            self.send_rtp(now, to, packet, transport_cc_at);
        } else {
            let at = transport.pacer.next_timeout();
            self.paced.set(to, at);
        }
    }

    fn link_rtp(&mut self, to: AttachmentKey, packet: &[u8]) {
        match self.links.attachments.get_mut(to).map(|attachment| &mut attachment.taker) {
            Some(Taker::Node { producer, .. }) => {
                let to = producer.consumer_address();
                let protect = |out: &mut Vec<u8>| producer.protect_rtp_onto(packet, out);
                if self.output.link_datagrams.write(to, protect).is_ok() {
                    self.counters.link_packets_out += 1;
                }
            }
            Some(Taker::Worker { number, flow }) => {
                self.counters.worker_packets_out += 1;
                self.output.crossings.packet(*number, *flow, packet);
            }
            None => {}
        }
    }

    fn link_report(&mut self, to: AttachmentKey, ntp: u64, rtp: u32) {
        match self.links.attachments.get_mut(to).map(|attachment| &mut attachment.taker) {
            Some(Taker::Node { producer, .. }) => {
                if let Ok(datagram) = producer.sender_report(ntp, rtp) {
                    self.output.link_datagrams.push(producer.consumer_address(), &datagram);
                }
            }
            Some(Taker::Worker { number, flow }) => self.output.crossings.report(*number, *flow, ntp, rtp),
            None => {}
        }
    }

    fn request_key_frame(&mut self, from: Origin, ssrc: u32) {
        self.counters.key_frame_requests_out += 1;
        match from {
            Origin::Publisher(key) => {
                let Some(sender_ssrc) = self.transports.get(key).map(|t| t.ssrc) else { return };
                self.client_rtcp_packets(
                    key,
                    &[Box::new(PictureLossIndication { sender_ssrc, media_ssrc: ssrc })],
                );
            }
            Origin::Flow(key) => {
                if let Some((to, sent)) = self.links.feedback(key, |consumer| consumer.request_key_frame()) {
                    self.output.link_datagrams.push(to, &sent);
                }
            }
            Origin::Worker(key) => {
                if let Some((worker, attachment)) = self.links.giver(key) {
                    self.tell(worker, Notice::KeyFrameRequest { attachment });
                }
            }
        }
    }

    fn request_packets(&mut self, from: Origin, ssrc: u32, missing: &[u16]) {
        self.counters.nacks_out += missing.len() as u64;
        match from {
            Origin::Publisher(key) => {
                let Some(sender_ssrc) = self.transports.get(key).map(|t| t.ssrc) else { return };
                self.client_rtcp_packets(
                    key,
                    &[Box::new(TransportLayerNack {
                        sender_ssrc,
                        media_ssrc: ssrc,
                        nacks: nack_pairs_from_sequence_numbers(missing),
                    })],
                );
            }
            Origin::Flow(key) => {
                if let Some((to, sent)) = self.links.feedback(key, |consumer| consumer.nack(missing)) {
                    self.output.link_datagrams.push(to, &sent);
                }
            }
            Origin::Worker(key) => {
                if let Some((worker, attachment)) = self.links.giver(key) {
                    let sequences = missing.to_vec();
                    self.tell(worker, Notice::Missing { attachment, sequences });
                }
            }
        }
    }

    fn picture_size(&mut self, from: Origin, track: &TrackId, size: Size, layers: &[Size], temporal: u8) {
        let Origin::Publisher(key) = from else { return };
        let Some(transport) = self.transports.get(key) else { return };
        let session = transport.sessions.iter().find(|(_, session)| {
            session
                .tracks
                .iter()
                .any(|t| matches!(&t.role, Role::Published(layers) if layers.iter().any(|layer| layer.track == *track)))
        });
        let Some((session, _)) = session else { return };
        let event = v1::TrackResolution {
            session_id: session.to_string(),
            track_id: track.to_string(),
            resolution: Some(to_message(size)),
            temporal_layers: temporal.into(),
            layers: layers.iter().copied().map(to_message).collect(),
        };
        self.event(key, Event::Resolution(event));
    }
}

fn to_message((width, height): Size) -> v1::Resolution {
    v1::Resolution { width, height }
}
