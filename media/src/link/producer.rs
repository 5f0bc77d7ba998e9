//! The end of the link that has the track.

use std::{net::SocketAddr, time::Instant};

use bytes::BytesMut;
use kaigi_proto::v1::AttachRequest;
use rtc_rtcp::{
    packet,
    payload_feedbacks::{
        full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication,
    },
    sender_report::SenderReport,
    transport_feedbacks::transport_layer_nack::TransportLayerNack,
};
use rtc_srtp::context::Context;

use super::{CONSUMER_TIMEOUT, LinkError, LinkKeys};
use crate::rtp::{FIXED_HEADER, RtpHeader, write_header};

/// Most packets that one NACK may ask for; more are cut off.
const MAX_NACK: usize = 256;

/// What a consumer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Feedback {
    /// It is there.
    Report,
    /// It can't decode until the next key frame.
    KeyFrameRequest,
    /// Packets that it misses, by sequence number.
    Nack(Vec<u16>),
}

/// One attachment at the producing node.
pub struct LinkProducer {
    outgoing: Context,
    incoming: Context,
    consumer_address: SocketAddr,
    ssrc: u32,
    payload_type: u8,
    last_heard: Instant,
    scratch: BytesMut,
    packets: u32,
    octets: u32,
}

impl std::fmt::Debug for LinkProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkProducer")
            .field("to", &self.consumer_address)
            .field("ssrc", &self.ssrc)
            .finish_non_exhaustive()
    }
}

impl LinkProducer {
    /// The end for a consumer's request; `payload_type` is what this node calls the format on the link.
    ///
    /// # Errors
    /// If the request's keys or address are unusable.
    pub fn new(now: Instant, request: &AttachRequest, payload_type: u8) -> Result<Self, LinkError> {
        let keys = LinkKeys::from_request(request)?;
        let consumer_address = request
            .consumer_address
            .parse()
            .map_err(|_| LinkError::BadRequest("consumer_address is no socket address"))?;
        Ok(Self {
            outgoing: keys.producer_context()?,
            incoming: keys.consumer_context()?,
            consumer_address,
            ssrc: request.ssrc,
            payload_type,
            last_heard: now,
            scratch: BytesMut::with_capacity(1500),
            packets: 0,
            octets: 0,
        })
    }

    /// Where packets go and feedback comes from.
    #[must_use]
    pub fn consumer_address(&self) -> SocketAddr {
        self.consumer_address
    }

    /// The SSRC of the track on the link.
    #[must_use]
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Whether the consumer has been silent for too long, so that the flow is to end.
    #[must_use]
    pub fn is_silent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_heard) >= CONSUMER_TIMEOUT
    }

    /// Takes an RTP packet of the track, gives it the link's header, and protects it.
    ///
    /// # Errors
    /// If it is no RTP, or the key is used up.
    pub fn protect_rtp(&mut self, packet: &[u8]) -> Result<BytesMut, LinkError> {
        let header = RtpHeader::parse(packet)?;
        let payload = header.payload(packet);
        self.scratch.clear();
        self.scratch.reserve(FIXED_HEADER + payload.len());
        write_header(
            &mut self.scratch,
            header.marker,
            self.payload_type,
            header.sequence,
            header.timestamp,
            self.ssrc,
        );
        self.scratch.extend_from_slice(payload);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        Ok(self.outgoing.encrypt_rtp(&self.scratch)?)
    }

    /// A protected sender report: the NTP time (64 bits, RFC 3550 §4) at which the RTP timestamp was sampled.
    ///
    /// # Errors
    /// If the key is used up.
    pub fn sender_report(&mut self, ntp: u64, rtp: u32) -> Result<BytesMut, LinkError> {
        let report = SenderReport {
            ssrc: self.ssrc,
            ntp_time: ntp,
            rtp_time: rtp,
            packet_count: self.packets,
            octet_count: self.octets,
            ..Default::default()
        };
        let plain = packet::marshal(&[Box::new(report)])?;
        Ok(self.outgoing.encrypt_rtcp(&plain)?)
    }

    /// Reads what the consumer sent.
    ///
    /// # Errors
    /// If it is not authentic or no RTCP.
    pub fn unprotect_rtcp(&mut self, now: Instant, datagram: &[u8]) -> Result<Vec<Feedback>, LinkError> {
        let plain = self.incoming.decrypt_rtcp(datagram)?;
        let packets = packet::unmarshal(&mut &plain[..])?;
        self.last_heard = now;
        let mut feedback = Vec::new();
        for packet in packets {
            let any = packet.as_any();
            if any.is::<PictureLossIndication>() || any.is::<FullIntraRequest>() {
                feedback.push(Feedback::KeyFrameRequest);
            } else if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
                let missing = nack.nacks.iter().flat_map(|pair| pair.packet_list()).take(MAX_NACK).collect();
                feedback.push(Feedback::Nack(missing));
            } else {
                feedback.push(Feedback::Report);
            }
        }
        Ok(feedback)
    }
}
