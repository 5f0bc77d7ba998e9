//! The end of the link that has the track.

use std::{net::SocketAddr, time::Instant};

use bytes::{Bytes, BytesMut};
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
use crate::{
    rtp::{FIXED_HEADER, RtpHeader, write_header},
    srtp::RtpProtector,
};

/// Most packets that one NACK may ask for; more are cut off.
const MAX_NACK: usize = 256;

/// Room for the tag of a packet that is protected.
const ROOM: usize = 16;

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
    /// For RTP, and for RTCP.
    protector: RtpProtector,
    outgoing: Context,
    incoming: Context,
    consumer_address: SocketAddr,
    ssrc: u32,
    payload_type: u8,
    last_heard: Instant,
    packets: u32,
    octets: u32,
    /// Id of the header extension that goes on to the consumer.
    kept: Option<u8>,
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
            protector: keys.producer_protector()?,
            outgoing: keys.producer_context()?,
            incoming: keys.consumer_context()?,
            consumer_address,
            ssrc: request.ssrc,
            payload_type,
            last_heard: now,
            packets: 0,
            octets: 0,
            kept: None,
        })
    }

    /// With the header extension of that id, as the track's packets have it. Others end here.
    #[must_use]
    pub fn keeping(self, extension: Option<u8>) -> Self {
        Self { kept: extension, ..self }
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

    /// Takes an RTP packet of the track, gives it the link's header, and appends it protected; after an error the buffer is as it was.
    /// Allocates nothing if there is room.
    ///
    /// # Errors
    /// If it is no RTP, or the key is used up.
    pub fn protect_rtp_onto(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Result<(), LinkError> {
        let header = RtpHeader::parse(packet)?;
        let (payload, start) = (header.payload(packet), out.len());
        write_header(out, header.marker, self.payload_type, header.sequence, header.timestamp, self.ssrc);
        let kept = self.kept.and_then(|id| Some((id, header.extension(packet, id)?)));
        if let Some((id, data)) = kept
            && let Ok(length) = u8::try_from(data.len())
        {
            // The two-byte form (RFC 8285 §4.3) has room for any.
            let words = (data.len() + 2).div_ceil(4);
            out[start] |= 0x10;
            out.extend_from_slice(&[0x10, 0, 0, words as u8, id, length]);
            out.extend_from_slice(data);
            out.resize(start + FIXED_HEADER + 4 + words * 4, 0);
        }
        out.extend_from_slice(payload);
        if let Err(error) = self.protector.protect(out, start) {
            out.truncate(start);
            return Err(error.into());
        }
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        Ok(())
    }

    /// The same in a buffer of its own.
    ///
    /// # Errors
    /// As above.
    pub fn protect_rtp(&mut self, packet: &[u8]) -> Result<BytesMut, LinkError> {
        let mut protected = Vec::with_capacity(packet.len() + FIXED_HEADER + ROOM);
        self.protect_rtp_onto(packet, &mut protected)?;
        Ok(BytesMut::from(Bytes::from(protected)))
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
