//! SRTP and SRTCP of one transport.

use std::collections::HashSet;

use bytes::BytesMut;
pub use kaigi_media::srtp::SrtpError;
use kaigi_media::srtp::{MAX_SOURCES, REPLAY_WINDOW, RtpProtector, RtpUnprotector};
use rtc_srtp::{
    context::Context,
    crypto::RTCCrypto,
    option::{srtcp_replay_protection, srtp_replay_protection},
    protection_profile::ProtectionProfile,
};

use super::SrtpKeys;

/// Room for the tag of a packet that is protected.
const TAG: usize = 16;

/// Both directions. RTP is done in place, RTCP by the library.
pub struct Srtp {
    incoming: Context,
    outgoing: Context,
    /// Of RTCP.
    sources: HashSet<u32>,
    unprotector: RtpUnprotector,
    protector: RtpProtector,
}

impl std::fmt::Debug for Srtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Srtp").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}

impl Srtp {
    /// Contexts for the keys that the handshake gave.
    ///
    /// # Errors
    /// If the crypto provider can't do the profile.
    pub fn new(keys: &SrtpKeys, crypto: &dyn RTCCrypto) -> Result<Self, SrtpError> {
        let context = |key: &[u8], salt: &[u8], profile: ProtectionProfile| {
            Context::new(
                key,
                salt,
                profile,
                Some(srtp_replay_protection(REPLAY_WINDOW)),
                Some(srtcp_replay_protection(REPLAY_WINDOW)),
                crypto,
            )
        };
        let ((remote, remote_salt), (local, local_salt)) = (&keys.remote, &keys.local);
        Ok(Self {
            incoming: context(remote, remote_salt, keys.profile)?,
            outgoing: context(local, local_salt, keys.profile)?,
            sources: HashSet::new(),
            unprotector: RtpUnprotector::new(keys.profile, remote, remote_salt, crypto)?,
            protector: RtpProtector::new(keys.profile, local, local_salt, crypto)?,
        })
    }

    /// A plain RTP packet from a protected one, into an emptied buffer; what is in there after an error is garbage. Allocates nothing
    /// if the buffer is large enough.
    ///
    /// # Errors
    /// See [`SrtpError`].
    pub fn unprotect_rtp_into(&mut self, packet: &[u8], plain: &mut Vec<u8>) -> Result<(), SrtpError> {
        self.unprotector.unprotect_into(packet, plain)
    }

    /// A plain RTP packet from a protected one.
    ///
    /// # Errors
    /// See [`SrtpError`].
    pub fn unprotect_rtp(&mut self, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let mut plain = Vec::with_capacity(packet.len());
        self.unprotect_rtp_into(packet, &mut plain)?;
        Ok(plain)
    }

    /// Plain RTCP from protected.
    ///
    /// # Errors
    /// See [`SrtpError`].
    pub fn unprotect_rtcp(&mut self, packet: &[u8]) -> Result<BytesMut, SrtpError> {
        self.admit(packet, 4)?;
        Ok(self.incoming.decrypt_rtcp(packet)?)
    }

    /// Appends a protected packet from a plain RTP one; after an error the buffer is as it was. Allocates nothing if there is room.
    ///
    /// # Errors
    /// See [`SrtpError`].
    pub fn protect_rtp_onto(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Result<(), SrtpError> {
        let start = out.len();
        out.extend_from_slice(packet);
        let protected = self.protector.protect(out, start);
        if protected.is_err() {
            out.truncate(start);
        }
        protected
    }

    /// A protected packet from a plain RTP one.
    ///
    /// # Errors
    /// See [`SrtpError`].
    pub fn protect_rtp(&mut self, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
        let mut protected = Vec::with_capacity(packet.len() + TAG);
        self.protect_rtp_onto(packet, &mut protected)?;
        Ok(protected)
    }

    /// Protected RTCP from plain.
    ///
    /// # Errors
    /// See [`SrtpError`].
    pub fn protect_rtcp(&mut self, packet: &[u8]) -> Result<BytesMut, SrtpError> {
        Ok(self.outgoing.encrypt_rtcp(packet)?)
    }

    /// The context keeps state for each source it sees, before it knows whether the packet is genuine.
    fn admit(&mut self, packet: &[u8], ssrc_at: usize) -> Result<(), SrtpError> {
        let ssrc = packet.get(ssrc_at..ssrc_at + 4).ok_or(SrtpError::TooShort)?;
        let ssrc = u32::from_be_bytes([ssrc[0], ssrc[1], ssrc[2], ssrc[3]]);
        if self.sources.len() >= MAX_SOURCES && !self.sources.contains(&ssrc) {
            return Err(SrtpError::TooManySources);
        }
        self.sources.insert(ssrc);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(profile: ProtectionProfile) -> (Srtp, Srtp) {
        let side = |byte| (vec![byte; profile.key_len()], vec![byte; profile.salt_len()]);
        let provider = rtc_srtp::crypto::default_provider().unwrap();
        let srtp = |local, remote| {
            let keys = SrtpKeys { profile, local: side(local), remote: side(remote) };
            Srtp::new(&keys, provider.crypto()).unwrap()
        };
        (srtp(1, 2), srtp(2, 1))
    }

    /// One packet with each way of extending a header.
    fn packets() -> Vec<Vec<u8>> {
        let plain = |flags: u8, rest: &[u8]| {
            let header = [0x80 | flags, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
            [&header[..], rest, b"payload"].concat()
        };
        vec![
            plain(0, &[]),
            plain(1, &[9; 4]),
            plain(0x10, &[0xbe, 0xde, 0, 0]),
            plain(0x10, &[0xbe, 0xde, 0, 2, 0x10, 1, 0, 0, 0x22, 1, 2, 3]),
            plain(0x10, &[0x10, 0x00, 0, 1, 5, 0, 6, 0]),
            plain(0x12, &[9, 9, 9, 9, 8, 8, 8, 8, 0xab, 0xcd, 0, 1, 1, 2, 3, 4]),
        ]
    }

    #[test]
    fn packets_pass_whatever_their_header_looks_like() {
        for profile in [ProtectionProfile::AeadAes128Gcm, ProtectionProfile::Aes128CmHmacSha1_80] {
            for packet in packets() {
                let (mut here, mut there) = pair(profile);
                let protected = here.protect_rtp(&packet).unwrap();
                assert_ne!(protected[packet.len() - 7..packet.len()], *b"payload");
                assert_eq!(there.unprotect_rtp(&protected).unwrap(), packet);
                assert!(there.unprotect_rtp(&protected).is_err(), "a replay passed");
            }
        }
    }

    /// The library's own context on the other side, over several roll-overs of the sequence number and with losses and disorder.
    #[test]
    fn a_peer_with_another_implementation_understands() {
        for profile in [ProtectionProfile::AeadAes128Gcm, ProtectionProfile::Aes128CmHmacSha1_80] {
            let (mut here, _) = pair(profile);
            let (_, mut there) = pair(profile);
            let number = |n: u32| {
                let mut packet = packets()[3].clone();
                packet[2..4].copy_from_slice(&(n as u16).to_be_bytes());
                packet
            };
            let order = (0..40_000u32).map(|n| n ^ 3).filter(|n| n % 11 != 0);
            for n in order.map(|n| n * 9 + 20_000) {
                let packet = number(n);
                let protected = here.protect_rtp(&packet).unwrap();
                assert_eq!(there.incoming.decrypt_rtp(&protected).unwrap(), packet, "{n}");
                let protected = there.outgoing.encrypt_rtp(&packet).unwrap();
                assert_eq!(here.unprotect_rtp(&protected).unwrap(), packet, "{n}");
                assert!(matches!(here.unprotect_rtp(&protected), Err(SrtpError::Replayed)));
            }
        }
    }

    #[test]
    fn what_is_cut_or_altered_is_refused() {
        for profile in [ProtectionProfile::AeadAes128Gcm, ProtectionProfile::Aes128CmHmacSha1_80] {
            let (mut here, mut there) = pair(profile);
            let protected = here.protect_rtp(&packets()[3]).unwrap();
            let rtcp = here.protect_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 9]).unwrap();
            for length in 0..protected.len() {
                assert!(there.unprotect_rtp(&protected[..length]).is_err());
            }
            for length in 0..rtcp.len() {
                assert!(there.unprotect_rtcp(&rtcp[..length]).is_err());
            }
            for at in 0..protected.len() {
                let mut altered = protected.clone();
                altered[at] ^= 0x40;
                assert!(there.unprotect_rtp(&altered).is_err(), "byte {at}");
            }
            assert!(there.unprotect_rtcp(&rtcp).is_ok());
        }
    }

    #[test]
    fn forged_sources_leave_nothing_behind() {
        for profile in [ProtectionProfile::AeadAes128Gcm, ProtectionProfile::Aes128CmHmacSha1_80] {
            let (_, mut there) = pair(profile);
            for ssrc in 0..10_000u32 {
                let mut forged = [0x80; 64];
                forged[8..12].copy_from_slice(&ssrc.to_be_bytes());
                assert!(there.unprotect_rtp(&forged).is_err());
            }
            assert_eq!((there.unprotector.sources(), there.sources.len()), (0, 0));
        }
    }

    #[test]
    fn genuine_sources_are_limited_too() {
        let (mut here, mut there) = pair(ProtectionProfile::AeadAes128Gcm);
        let mut packet = packets()[0].clone();
        for ssrc in 0..MAX_SOURCES as u32 + 5 {
            packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
            let protected = here.protect_rtp(&packet).unwrap();
            assert_eq!(there.unprotect_rtp(&protected).is_ok(), ssrc < MAX_SOURCES as u32);
        }
    }
}
