//! SRTP packets in place (RFC 3711, RFC 7714): a packet is protected where it was written and unprotected where it was received, so that
//! neither costs an allocation. RTCP is rare and left to the library.

mod aead;
mod counter_mode;
mod replay;

pub use replay::REPLAY_WINDOW;

use rtc_srtp::{
    crypto::{BlockCipherAlgorithm, CryptoError, RTCCrypto},
    protection_profile::ProtectionProfile,
};

use self::{aead::Gcm, counter_mode::CounterMode, replay::ReplayWindow};
use crate::rtp::{RtpError, RtpHeader};

/// Most sources that one peer may send under. Each costs about 300 bytes, for which its packets have to be genuine.
pub const MAX_SOURCES: usize = 512;
/// Packets of one source under one key (RFC 3711 §9.2).
const MAX_INDEX: u64 = 1 << 48;
/// Bytes of AES-128 keys.
const KEY: usize = 16;

/// Why a packet can't be protected or unprotected.
#[derive(Debug, thiserror::Error)]
pub enum SrtpError {
    /// More sources than one peer may have.
    #[error("too many sources")]
    TooManySources,
    /// Too short to have a source.
    #[error("packet too short")]
    TooShort,
    /// Not RTP.
    #[error(transparent)]
    Rtp(#[from] RtpError),
    /// Received before, or too old to tell.
    #[error("packet was received before")]
    Replayed,
    /// As many packets as one key may protect (RFC 3711 §9.2).
    #[error("the key is used up")]
    KeyUsedUp,
    /// A key or salt of another length than the profile's.
    #[error("key or salt of a wrong length")]
    KeyLength,
    /// Neither AES-128-GCM nor AES-128 in counter mode.
    #[error("protection profile unknown")]
    UnknownProfile,
    /// The tag is not that of the packet.
    #[error("packet is not authentic")]
    NotAuthentic,
    /// Not authentic, or the provider can't.
    #[error("SRTP: {0}")]
    Crypto(#[from] CryptoError),
    /// Not authentic, replayed, malformed, or the key is used up.
    #[error("SRTP: {0}")]
    Srtp(#[from] rtc_shared::error::Error),
}

/// A packet's own number and the length of its header, which stays readable.
#[derive(Clone, Copy, Debug)]
struct Packet {
    ssrc: u32,
    header: usize,
    /// The sequence number with the roll-overs before it.
    index: u64,
}

/// Keys of one direction.
enum Keys {
    Gcm(Gcm),
    CounterMode(CounterMode),
}

impl Keys {
    fn new(
        profile: ProtectionProfile,
        key: &[u8],
        salt: &[u8],
        crypto: &dyn RTCCrypto,
    ) -> Result<Self, SrtpError> {
        if key.len() != KEY || salt.len() != profile.salt_len() {
            return Err(SrtpError::KeyLength);
        }
        match profile {
            ProtectionProfile::AeadAes128Gcm => Ok(Self::Gcm(Gcm::derive(key, salt, crypto)?)),
            ProtectionProfile::Aes128CmHmacSha1_80 | ProtectionProfile::Aes128CmHmacSha1_32 => {
                Ok(Self::CounterMode(CounterMode::derive(profile.rtp_auth_tag_len(), key, salt, crypto)?))
            }
            _ => Err(SrtpError::UnknownProfile),
        }
    }
}

/// Something derived from a master key (RFC 3711 §4.3.3 with a key derivation rate of zero; RFC 7714 §11 on the shorter salt).
fn derive<const N: usize>(
    label: u8,
    key: &[u8],
    salt: &[u8],
    crypto: &dyn RTCCrypto,
) -> Result<[u8; N], SrtpError> {
    let mut derived = [0; N];
    for (number, part) in (0u8..).zip(derived.chunks_mut(16)) {
        let mut block = [0; 16];
        block.get_mut(..salt.len()).ok_or(SrtpError::KeyLength)?.copy_from_slice(salt);
        block[7] ^= label;
        block[15] = number;
        crypto.block_encrypt(BlockCipherAlgorithm::Aes128, key, &mut block)?;
        part.copy_from_slice(&block[..part.len()]);
    }
    Ok(derived)
}

/// Something of each of few sources.
struct Sources<T>(Vec<(u32, T)>);

impl<T: Default> Sources<T> {
    fn get(&self, ssrc: u32) -> Option<&T> {
        let at = self.0.binary_search_by_key(&ssrc, |source| source.0).ok()?;
        self.0.get(at).map(|source| &source.1)
    }

    fn entry(&mut self, ssrc: u32) -> &mut T {
        let at = self.0.binary_search_by_key(&ssrc, |source| source.0).unwrap_or_else(|at| {
            self.0.insert(at, (ssrc, T::default()));
            at
        });
        &mut self.0[at].1
    }
}

/// The index of a packet, which is its sequence number with the roll-overs before it (RFC 3711 §3.3.1).
fn index(highest: Option<u64>, sequence: u16) -> u64 {
    let Some(highest) = highest else { return sequence.into() };
    let ahead = sequence.wrapping_sub(highest as u16);
    if ahead < 0x8000 {
        return highest + u64::from(ahead);
    }
    // Nothing is before the first roll-over.
    highest.checked_sub(u64::from(ahead.wrapping_neg())).unwrap_or(sequence.into())
}

/// Protects RTP packets that are sent.
pub struct RtpProtector {
    keys: Keys,
    highest: Sources<Option<u64>>,
}

impl std::fmt::Debug for RtpProtector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RtpProtector").field("sources", &self.highest.0.len()).finish_non_exhaustive()
    }
}

impl RtpProtector {
    /// From master key and salt.
    ///
    /// # Errors
    /// If the profile is unknown or a length is not its own.
    pub fn new(
        profile: ProtectionProfile,
        key: &[u8],
        salt: &[u8],
        crypto: &dyn RTCCrypto,
    ) -> Result<Self, SrtpError> {
        Ok(Self { keys: Keys::new(profile, key, salt, crypto)?, highest: Sources(Vec::new()) })
    }

    /// Protects the plain RTP packet at the end of a buffer, which begins at `start`. Allocates nothing if the buffer has room for the tag.
    ///
    /// # Errors
    /// See [`SrtpError`]; the packet is garbage then.
    pub fn protect(&mut self, buffer: &mut Vec<u8>, start: usize) -> Result<(), SrtpError> {
        let header = RtpHeader::parse_encrypted(buffer.get(start..).ok_or(SrtpError::TooShort)?)?;
        let highest = self.highest.entry(header.ssrc);
        let index = index(*highest, header.sequence);
        if index >= MAX_INDEX {
            return Err(SrtpError::KeyUsedUp);
        }
        let packet = Packet { ssrc: header.ssrc, header: header.payload_start, index };
        match &mut self.keys {
            Keys::Gcm(keys) => keys.seal(buffer, start, packet)?,
            Keys::CounterMode(keys) => keys.seal(buffer, start, packet)?,
        }
        *highest = (*highest).max(Some(index));
        Ok(())
    }
}

/// Unprotects RTP packets that are received.
pub struct RtpUnprotector {
    keys: Keys,
    seen: Sources<ReplayWindow>,
}

impl std::fmt::Debug for RtpUnprotector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RtpUnprotector").field("sources", &self.seen.0.len()).finish_non_exhaustive()
    }
}

impl RtpUnprotector {
    /// From master key and salt.
    ///
    /// # Errors
    /// If the profile is unknown or a length is not its own.
    pub fn new(
        profile: ProtectionProfile,
        key: &[u8],
        salt: &[u8],
        crypto: &dyn RTCCrypto,
    ) -> Result<Self, SrtpError> {
        Ok(Self { keys: Keys::new(profile, key, salt, crypto)?, seen: Sources(Vec::new()) })
    }

    /// A plain RTP packet from a protected one, in place of what is in the buffer; garbage after an error. A forged one leaves no other
    /// trace. Allocates nothing if the buffer is large enough.
    ///
    /// # Errors
    /// See [`SrtpError`].
    pub fn unprotect_into(&mut self, packet: &[u8], plain: &mut Vec<u8>) -> Result<(), SrtpError> {
        let header = RtpHeader::parse_encrypted(packet)?;
        let seen = self.seen.get(header.ssrc);
        if seen.is_none() && self.seen.0.len() >= MAX_SOURCES {
            return Err(SrtpError::TooManySources);
        }
        let index = index(seen.and_then(ReplayWindow::highest), header.sequence);
        if seen.is_some_and(|seen| seen.has(index)) {
            return Err(SrtpError::Replayed);
        }
        plain.clear();
        plain.extend_from_slice(packet);
        let of = Packet { ssrc: header.ssrc, header: header.payload_start, index };
        match &mut self.keys {
            Keys::Gcm(keys) => keys.open(plain, of)?,
            Keys::CounterMode(keys) => keys.open(plain, of)?,
        }
        self.seen.entry(header.ssrc).add(index);
        Ok(())
    }

    /// How many sources genuine packets have come under.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.seen.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_the_nearest_to_the_highest() {
        assert_eq!(index(None, 65_535), 65_535);
        assert_eq!(index(Some(65_535), 0), 65_536);
        assert_eq!(index(Some(65_536), 65_535), 65_535);
        assert_eq!(index(Some(65_536 * 3 + 7), 65_530), 65_536 * 3 - 6);
        assert_eq!(index(Some(10), 65_535), 65_535, "nothing is before the first roll-over");
    }

    /// The keys of RFC 3711, appendix B.3.
    #[test]
    fn keys_are_derived_as_the_rfc_says() {
        let provider = rtc_srtp::crypto::default_provider().unwrap();
        let key =
            [0xe1, 0xf9, 0x7a, 0x0d, 0x3e, 0x01, 0x8b, 0xe0, 0xd6, 0x4f, 0xa3, 0x2c, 0x06, 0xde, 0x41, 0x39];
        let salt = [0x0e, 0xc6, 0x75, 0xad, 0x49, 0x8a, 0xfe, 0xeb, 0xb6, 0x96, 0x0b, 0x3a, 0xab, 0xe6];
        let cipher: [u8; 16] = derive(0, &key, &salt, provider.crypto()).unwrap();
        assert_eq!(
            cipher,
            [0xc6, 0x1e, 0x7a, 0x93, 0x74, 0x4f, 0x39, 0xee, 0x10, 0x73, 0x4a, 0xfe, 0x3f, 0xf7, 0xa0, 0x87]
        );
        let session_salt: [u8; 14] = derive(2, &key, &salt, provider.crypto()).unwrap();
        assert_eq!(
            session_salt,
            [0x30, 0xcb, 0xbc, 0x08, 0x86, 0x3d, 0x8c, 0x85, 0xd4, 0x9d, 0xb3, 0x4a, 0x9a, 0xe1]
        );
        let auth: [u8; 20] = derive(1, &key, &salt, provider.crypto()).unwrap();
        assert_eq!(
            auth,
            [
                0xce, 0xbe, 0x32, 0x1f, 0x6f, 0xf7, 0x71, 0x6b, 0x6f, 0xd4, 0xab, 0x49, 0xaf, 0x25, 0x6a,
                0x15, 0x6d, 0x38, 0xba, 0xa4
            ]
        );
    }
}
