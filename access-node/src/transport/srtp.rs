//! SRTP and SRTCP of one transport.

use std::collections::HashSet;

use bytes::BytesMut;
use rtc_srtp::{
    context::Context,
    crypto::RTCCrypto,
    option::{srtcp_replay_protection, srtp_replay_protection},
    protection_profile::ProtectionProfile,
};

use super::SrtpKeys;

/// Packets that may arrive out of order before they count as replayed: about a second of 10 Mbit/s video.
const REPLAY_WINDOW: usize = 1024;
/// Most sources that one client may send under. Each costs about 300 bytes, even if the packet is forged.
const MAX_SOURCES: usize = 512;

/// Why a packet can't be protected or unprotected.
#[derive(Debug, thiserror::Error)]
pub enum SrtpError {
    /// More sources than [`MAX_SOURCES`].
    #[error("too many sources")]
    TooManySources,
    /// Too short to have a source.
    #[error("packet too short")]
    TooShort,
    /// Not authentic, replayed, malformed, or the key is used up.
    #[error("SRTP: {0}")]
    Srtp(#[from] rtc_shared::error::Error),
}

/// Both directions.
pub struct Srtp {
    incoming: Context,
    outgoing: Context,
    sources: HashSet<u32>,
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
        Ok(Self {
            incoming: context(&keys.remote.0, &keys.remote.1, keys.profile)?,
            outgoing: context(&keys.local.0, &keys.local.1, keys.profile)?,
            sources: HashSet::new(),
        })
    }

    /// A plain RTP packet from a protected one.
    ///
    /// # Errors
    /// See [`SrtpError`].
    pub fn unprotect_rtp(&mut self, packet: &[u8]) -> Result<BytesMut, SrtpError> {
        self.admit(packet, 8)?;
        Ok(self.incoming.decrypt_rtp(packet)?)
    }

    /// Plain RTCP from protected.
    ///
    /// # Errors
    /// See [`SrtpError`].
    pub fn unprotect_rtcp(&mut self, packet: &[u8]) -> Result<BytesMut, SrtpError> {
        self.admit(packet, 4)?;
        Ok(self.incoming.decrypt_rtcp(packet)?)
    }

    /// A protected packet from a plain RTP one.
    ///
    /// # Errors
    /// See [`SrtpError`].
    pub fn protect_rtp(&mut self, packet: &[u8]) -> Result<BytesMut, SrtpError> {
        Ok(self.outgoing.encrypt_rtp(packet)?)
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
