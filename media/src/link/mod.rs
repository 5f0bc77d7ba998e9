//! The media link: one track from the node that has it to a node that wants it, as SRTP over UDP, with RTCP on the way back.
//!
//! Protected by AEAD_AES_128_GCM (RFC 7714) under keys that the consumer makes and hands over in `MediaLink.Attach`. The packets carry the
//! SSRC that the consumer chose, the payload type that the producer chose, the source's sequence numbers and timestamps, and no header
//! extensions. RTCP names the same SSRC as its sender in both directions, so that either end tells by (address, SSRC) whose it is. Both ends are without I/O: [`LinkProducer`] and [`LinkConsumer`].

mod consumer;
mod keys;
mod producer;

pub use consumer::{FromProducer, LinkConsumer};
pub use keys::LinkKeys;
pub use producer::{Feedback, LinkProducer};

use std::time::Duration;

/// Silence of a consumer after which the producer ends the flow.
pub const CONSUMER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a consumer reports, so that the flow goes on.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What can go wrong on the link.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// An attach request has keys of the wrong length or an address that is none.
    #[error("attach request: {0}")]
    BadRequest(&'static str),
    /// No RTP.
    #[error(transparent)]
    Rtp(#[from] crate::rtp::RtpError),
    /// Not authentic, replayed, or no SRTP.
    #[error(transparent)]
    Srtp(#[from] crate::srtp::SrtpError),
    /// Not authentic, replayed, or no SRTCP.
    #[error("SRTCP: {0}")]
    Srtcp(#[from] rtc_shared::error::Error),
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::rtp::{RtpHeader, write_header};

    fn pair() -> (LinkProducer, LinkConsumer, Instant) {
        let now = Instant::now();
        let keys = LinkKeys::random();
        let request = keys.attach_request("a1", "t-0", "127.0.0.1:5000".parse().unwrap(), 77);
        let producer = LinkProducer::new(now, &request, 96).unwrap();
        (producer, LinkConsumer::new(&keys, 77).unwrap(), now)
    }

    fn packet(sequence: u16) -> Vec<u8> {
        let mut packet = Vec::new();
        write_header(&mut packet, true, 120, sequence, 90_000, 5);
        packet[0] |= 0x10;
        packet.extend_from_slice(&[0xbe, 0xde, 0, 1, 0x10, 0x7f, 0, 0]);
        packet.extend_from_slice(b"payload");
        packet
    }

    #[test]
    fn a_packet_crosses_with_the_links_own_ssrc_and_payload_type() {
        let (mut producer, mut consumer, _) = pair();
        assert_eq!(producer.consumer_address(), "127.0.0.1:5000".parse().unwrap());
        for sequence in [65534, 65535, 0, 2, 1] {
            let protected = producer.protect_rtp(&packet(sequence)).unwrap();
            let FromProducer::Rtp(plain) = consumer.unprotect(&protected).unwrap() else { panic!("no RTP") };
            let header = RtpHeader::parse(&plain).unwrap();
            assert_eq!(
                (header.ssrc, header.payload_type, header.sequence, header.marker),
                (77, 96, sequence, true)
            );
            assert_eq!(header.payload(&plain), b"payload");
            assert!(consumer.unprotect(&protected).is_err(), "a replay passed");
        }
    }

    #[test]
    fn one_header_extension_crosses_if_it_is_to() {
        let (producer, mut consumer, _) = pair();
        let mut cross = |producer: &mut LinkProducer, sequence| {
            let protected = producer.protect_rtp(&packet(sequence)).unwrap();
            let FromProducer::Rtp(plain) = consumer.unprotect(&protected).unwrap() else { panic!("no RTP") };
            let header = RtpHeader::parse(&plain).unwrap();
            assert_eq!(header.payload(&plain), b"payload");
            header.extensions(&plain).map(|(id, data)| (id, data.to_vec())).collect::<Vec<_>>()
        };
        let mut producer = producer.keeping(Some(1));
        assert_eq!(cross(&mut producer, 1), [(1, vec![0x7f])]);
        let mut producer = producer.keeping(Some(2));
        assert_eq!(cross(&mut producer, 2), []);
    }

    #[test]
    fn feedback_returns_and_keeps_the_flow_alive() {
        let (mut producer, mut consumer, now) = pair();
        let later = now + CONSUMER_TIMEOUT;
        assert!(producer.is_silent(later));
        let protected = consumer.report().unwrap();
        assert_eq!(producer.unprotect_rtcp(later, &protected).unwrap(), vec![Feedback::Report]);
        assert!(!producer.is_silent(later));
        let protected = consumer.request_key_frame().unwrap();
        assert_eq!(producer.unprotect_rtcp(later, &protected).unwrap(), vec![Feedback::KeyFrameRequest]);
        let protected = consumer.nack(&[3, 4, 30]).unwrap();
        assert_eq!(producer.unprotect_rtcp(later, &protected).unwrap(), vec![Feedback::Nack(vec![3, 4, 30])]);
    }

    #[test]
    fn sender_reports_cross() {
        let (mut producer, mut consumer, _) = pair();
        let protected = producer.sender_report(0x1234_5678_9abc_def0, 4242).unwrap();
        let FromProducer::SenderReport { ntp, rtp } = consumer.unprotect(&protected).unwrap() else {
            panic!("no report")
        };
        assert_eq!((ntp, rtp), (0x1234_5678_9abc_def0, 4242));
    }

    #[test]
    fn what_is_altered_or_foreign_is_refused() {
        let (mut producer, mut consumer, now) = pair();
        let mut protected = producer.protect_rtp(&packet(1)).unwrap();
        let last = protected.len() - 1;
        protected[last] ^= 1;
        assert!(consumer.unprotect(&protected).is_err());
        for length in 0..80 {
            assert!(consumer.unprotect(&vec![0x80; length]).is_err());
            assert!(consumer.unprotect(&vec![200; length]).is_err());
            assert!(producer.unprotect_rtcp(now, &vec![0x81; length]).is_err());
        }
    }
}
