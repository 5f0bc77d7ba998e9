//! SRTP by AES-128-GCM (RFC 7714), in place: a packet is protected where it was written and unprotected where it was received, so that
//! neither costs an allocation. RTCP and the other profile are rare and left to the library.

use rtc_srtp::crypto::{AeadAlgorithm, AeadCipher, BlockCipherAlgorithm, RTCCrypto};

use super::{SrtpError, replay::ReplayWindow, srtp::MAX_SOURCES};

/// Bytes of keys (RFC 7714 §12).
pub(super) const KEY: usize = 16;
/// Bytes of salts.
pub(super) const SALT: usize = 12;
/// Bytes that protection adds.
pub(super) const TAG: usize = 16;
/// Labels of key derivation (RFC 3711 §4.3.2).
const LABEL_KEY: u8 = 0;
/// See [`LABEL_KEY`].
const LABEL_SALT: u8 = 2;
/// Packets of one source under one key (RFC 3711 §9.2).
const MAX_INDEX: u64 = 1 << 48;

/// A packet's own numbers and the length of its header, which stays readable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    pub(super) ssrc: u32,
    pub(super) sequence: u16,
    pub(super) header: usize,
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

/// Key and salt of one direction.
struct SessionKey {
    cipher: Box<dyn AeadCipher>,
    salt: [u8; SALT],
}

impl SessionKey {
    fn derive(key: &[u8], salt: &[u8], crypto: &dyn RTCCrypto) -> Result<Self, SrtpError> {
        if key.len() != KEY || salt.len() != SALT {
            return Err(SrtpError::KeyLength);
        }
        // RFC 3711 §4.3.3, with a key derivation rate of zero; RFC 7714 §11 on the shorter salt.
        let derive = |label: u8| {
            let mut block = [0; 16];
            block[..SALT].copy_from_slice(salt);
            block[7] ^= label;
            crypto.block_encrypt(BlockCipherAlgorithm::Aes128, key, &mut block).map(|()| block)
        };
        let session_salt = derive(LABEL_SALT)?;
        let mut salt = [0; SALT];
        salt.copy_from_slice(&session_salt[..SALT]);
        Ok(Self { cipher: crypto.new_aead(AeadAlgorithm::Aes128Gcm, &derive(LABEL_KEY)?)?, salt })
    }

    /// RFC 7714 §8.1.
    fn nonce(&self, ssrc: u32, index: u64) -> [u8; SALT] {
        let mut nonce = [0; SALT];
        nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
        nonce[6..].copy_from_slice(&index.to_be_bytes()[2..]);
        for (byte, salt) in nonce.iter_mut().zip(&self.salt) {
            *byte ^= salt;
        }
        nonce
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

/// Protects what is sent.
pub(super) struct AeadSender {
    key: SessionKey,
    highest: Sources<Option<u64>>,
}

impl AeadSender {
    pub(super) fn new(key: &[u8], salt: &[u8], crypto: &dyn RTCCrypto) -> Result<Self, SrtpError> {
        Ok(Self { key: SessionKey::derive(key, salt, crypto)?, highest: Sources(Vec::new()) })
    }

    /// Protects the packet at the end of a buffer, which begins at `start`.
    pub(super) fn seal(&mut self, buffer: &mut Vec<u8>, start: usize, of: Numbers) -> Result<(), SrtpError> {
        let highest = self.highest.entry(of.ssrc);
        let index = index(*highest, of.sequence);
        if index >= MAX_INDEX {
            return Err(SrtpError::KeyUsedUp);
        }
        let nonce = self.key.nonce(of.ssrc, index);
        let packet = buffer.get_mut(start..).ok_or(SrtpError::TooShort)?;
        let (header, payload) = packet.split_at_mut_checked(of.header).ok_or(SrtpError::TooShort)?;
        let mut tag = [0; TAG];
        self.key.cipher.seal_in_place(&nonce, header, payload, &mut tag)?;
        buffer.extend_from_slice(&tag);
        *highest = (*highest).max(Some(index));
        Ok(())
    }
}

/// Unprotects what is received.
pub(super) struct AeadReceiver {
    key: SessionKey,
    seen: Sources<ReplayWindow>,
}

impl AeadReceiver {
    pub(super) fn new(key: &[u8], salt: &[u8], crypto: &dyn RTCCrypto) -> Result<Self, SrtpError> {
        Ok(Self { key: SessionKey::derive(key, salt, crypto)?, seen: Sources(Vec::new()) })
    }

    /// Unprotects the packet in a buffer. A forged one leaves no trace but in the buffer.
    pub(super) fn open(&mut self, buffer: &mut Vec<u8>, of: Numbers) -> Result<(), SrtpError> {
        let seen = self.seen.get(of.ssrc);
        if seen.is_none() && self.seen.0.len() >= MAX_SOURCES {
            return Err(SrtpError::TooManySources);
        }
        let index = index(seen.and_then(ReplayWindow::highest), of.sequence);
        if seen.is_some_and(|seen| seen.has(index)) {
            return Err(SrtpError::Replayed);
        }
        let tag_at = buffer.len().checked_sub(TAG).ok_or(SrtpError::TooShort)?;
        let nonce = self.key.nonce(of.ssrc, index);
        let (packet, tag) = buffer.split_at_mut(tag_at);
        let (header, payload) = packet.split_at_mut_checked(of.header).ok_or(SrtpError::TooShort)?;
        self.key.cipher.open_in_place(&nonce, header, payload, tag)?;
        buffer.truncate(tag_at);
        self.seen.entry(of.ssrc).add(index);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The packet of RFC 7714 §16.1 under its session key and salt.
    #[test]
    fn the_rfcs_packet_is_protected_as_the_rfc_says() {
        let provider = rtc_srtp::crypto::default_provider().unwrap();
        let key: Vec<u8> = (0..16).collect();
        let cipher = provider.crypto().new_aead(AeadAlgorithm::Aes128Gcm, &key).unwrap();
        let session = SessionKey { cipher, salt: *b"Quid pro quo" };
        let mut sender = AeadSender { key: session, highest: Sources(Vec::new()) };
        let header = [0x80, 0x40, 0xf1, 0x7b, 0x80, 0x41, 0xf8, 0xd3, 0x55, 0x01, 0xa0, 0xb2];
        let text = b"Gallia est omnis divisa in partes tres";
        let mut packet = [&header[..], text].concat();
        let of = Numbers { ssrc: 0x5501_a0b2, sequence: 0xf17b, header: 12 };
        sender.seal(&mut packet, 0, of).unwrap();
        let expected = [
            0xf2, 0x4d, 0xe3, 0xa3, 0xfb, 0x34, 0xde, 0x6c, 0xac, 0xba, 0x86, 0x1c, 0x9d, 0x7e, 0x4b, 0xca,
            0xbe, 0x63, 0x3b, 0xd5, 0x0d, 0x29, 0x4e, 0x6f, 0x42, 0xa5, 0xf4, 0x7a, 0x51, 0xc7, 0xd1, 0x9b,
            0x36, 0xde, 0x3a, 0xdf, 0x88, 0x33, 0x89, 0x9d, 0x7f, 0x27, 0xbe, 0xb1, 0x6a, 0x91, 0x52, 0xcf,
            0x76, 0x5e, 0xe4, 0x39, 0x0c, 0xce,
        ];
        assert_eq!(packet[..12], header);
        assert_eq!(packet[12..], expected);
    }

    #[test]
    fn indices_are_the_nearest_to_the_highest() {
        assert_eq!(index(None, 65_535), 65_535);
        assert_eq!(index(Some(65_535), 0), 65_536);
        assert_eq!(index(Some(65_536), 65_535), 65_535);
        assert_eq!(index(Some(65_536 * 3 + 7), 65_530), 65_536 * 3 - 6);
        assert_eq!(index(Some(10), 65_535), 65_535, "nothing is before the first roll-over");
    }
}
