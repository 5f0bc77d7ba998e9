//! The end of the link that wants the track.

use bytes::{Bytes, BytesMut};
use rtc_rtcp::{
    Packet, packet,
    payload_feedbacks::picture_loss_indication::PictureLossIndication,
    receiver_report::ReceiverReport,
    sender_report::SenderReport,
    transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
};
use rtc_srtp::context::Context;

use super::{LinkError, LinkKeys};
use crate::{rtp::is_rtcp, srtp::RtpUnprotector};

/// What a producer sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromProducer {
    /// A plain RTP packet.
    Rtp(BytesMut),
    /// Which NTP time an RTP timestamp stands for.
    SenderReport {
        /// NTP time, 64 bits.
        ntp: u64,
        /// RTP timestamp.
        rtp: u32,
    },
    /// Other RTCP.
    Other,
}

/// One attachment at the consuming node.
pub struct LinkConsumer {
    /// For RTP, and for RTCP.
    unprotector: RtpUnprotector,
    incoming: Context,
    outgoing: Context,
    ssrc: u32,
}

impl std::fmt::Debug for LinkConsumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkConsumer").field("ssrc", &self.ssrc).finish_non_exhaustive()
    }
}

impl LinkConsumer {
    /// The end for keys that go out in an attach request, with the SSRC that the request names.
    ///
    /// # Errors
    /// If no SRTP context can be made.
    pub fn new(keys: &LinkKeys, ssrc: u32) -> Result<Self, LinkError> {
        Ok(Self {
            unprotector: keys.producer_unprotector()?,
            incoming: keys.producer_context()?,
            outgoing: keys.consumer_context()?,
            ssrc,
        })
    }

    /// Reads what the producer sent.
    ///
    /// # Errors
    /// If it is not authentic, replayed, or neither RTP nor RTCP.
    pub fn unprotect(&mut self, datagram: &[u8]) -> Result<FromProducer, LinkError> {
        if !is_rtcp(datagram) {
            let mut plain = Vec::with_capacity(datagram.len());
            self.unprotect_rtp_into(datagram, &mut plain)?;
            return Ok(FromProducer::Rtp(BytesMut::from(Bytes::from(plain))));
        }
        let plain = self.incoming.decrypt_rtcp(datagram)?;
        let packets = packet::unmarshal(&mut &plain[..])?;
        let report = packets.iter().find_map(|p| p.as_any().downcast_ref::<SenderReport>());
        Ok(report
            .map_or(FromProducer::Other, |r| FromProducer::SenderReport { ntp: r.ntp_time, rtp: r.rtp_time }))
    }

    /// A plain RTP packet in place of what is in the buffer. Allocates nothing if that is large enough.
    ///
    /// # Errors
    /// If it is not authentic, replayed, or no RTP.
    pub fn unprotect_rtp_into(&mut self, datagram: &[u8], plain: &mut Vec<u8>) -> Result<(), LinkError> {
        Ok(self.unprotector.unprotect_into(datagram, plain)?)
    }

    /// A protected receiver report, to be sent every [`super::REPORT_INTERVAL`] so that the flow goes on.
    ///
    /// # Errors
    /// If the key is used up.
    pub fn report(&mut self) -> Result<BytesMut, LinkError> {
        self.protect(Box::new(ReceiverReport { ssrc: self.ssrc, ..Default::default() }))
    }

    /// A protected request for a key frame (PLI, RFC 4585 §6.3.1).
    ///
    /// # Errors
    /// If the key is used up.
    pub fn request_key_frame(&mut self) -> Result<BytesMut, LinkError> {
        self.protect(Box::new(PictureLossIndication { sender_ssrc: self.ssrc, media_ssrc: self.ssrc }))
    }

    /// A protected request for packets that are missing (RFC 4585 §6.2.1); `missing` ascending.
    ///
    /// # Errors
    /// If the key is used up.
    pub fn nack(&mut self, missing: &[u16]) -> Result<BytesMut, LinkError> {
        self.protect(Box::new(TransportLayerNack {
            sender_ssrc: self.ssrc,
            media_ssrc: self.ssrc,
            nacks: nack_pairs_from_sequence_numbers(missing),
        }))
    }

    fn protect(&mut self, packet: Box<dyn Packet>) -> Result<BytesMut, LinkError> {
        let plain = packet::marshal(&[packet])?;
        Ok(self.outgoing.encrypt_rtcp(&plain)?)
    }
}
