//! AES-128-GCM (RFC 7714).

use rtc_srtp::crypto::{AeadAlgorithm, AeadCipher, RTCCrypto};

use super::{Packet, SrtpError, derive};

/// Bytes of salts (RFC 7714 §12).
const SALT: usize = 12;
/// Bytes that protection adds.
const TAG: usize = 16;
/// Labels of key derivation (RFC 3711 §4.3.2).
const LABEL_KEY: u8 = 0;
/// See [`LABEL_KEY`].
const LABEL_SALT: u8 = 2;

/// Key and salt of one direction.
pub(super) struct Gcm {
    cipher: Box<dyn AeadCipher>,
    salt: [u8; SALT],
}

impl Gcm {
    pub(super) fn derive(key: &[u8], salt: &[u8], crypto: &dyn RTCCrypto) -> Result<Self, SrtpError> {
        let cipher_key: [u8; 16] = derive(LABEL_KEY, key, salt, crypto)?;
        let cipher = crypto.new_aead(AeadAlgorithm::Aes128Gcm, &cipher_key)?;
        Ok(Self { cipher, salt: derive(LABEL_SALT, key, salt, crypto)? })
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

    /// Protects the packet at the end of a buffer, which begins at `start`.
    pub(super) fn seal(&mut self, buffer: &mut Vec<u8>, start: usize, of: Packet) -> Result<(), SrtpError> {
        let nonce = self.nonce(of.ssrc, of.index);
        let packet = buffer.get_mut(start..).ok_or(SrtpError::TooShort)?;
        let (header, payload) = packet.split_at_mut_checked(of.header).ok_or(SrtpError::TooShort)?;
        let mut tag = [0; TAG];
        self.cipher.seal_in_place(&nonce, header, payload, &mut tag)?;
        buffer.extend_from_slice(&tag);
        Ok(())
    }

    /// Unprotects the packet in a buffer.
    pub(super) fn open(&mut self, buffer: &mut Vec<u8>, of: Packet) -> Result<(), SrtpError> {
        let tag_at = buffer.len().checked_sub(TAG).ok_or(SrtpError::TooShort)?;
        let nonce = self.nonce(of.ssrc, of.index);
        let (packet, tag) = buffer.split_at_mut(tag_at);
        let (header, payload) = packet.split_at_mut_checked(of.header).ok_or(SrtpError::TooShort)?;
        self.cipher.open_in_place(&nonce, header, payload, tag)?;
        buffer.truncate(tag_at);
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
        let mut session = Gcm { cipher, salt: *b"Quid pro quo" };
        let header = [0x80, 0x40, 0xf1, 0x7b, 0x80, 0x41, 0xf8, 0xd3, 0x55, 0x01, 0xa0, 0xb2];
        let text = b"Gallia est omnis divisa in partes tres";
        let mut packet = [&header[..], text].concat();
        let of = Packet { ssrc: 0x5501_a0b2, index: 0xf17b, header: 12 };
        session.seal(&mut packet, 0, of).unwrap();
        let expected = [
            0xf2, 0x4d, 0xe3, 0xa3, 0xfb, 0x34, 0xde, 0x6c, 0xac, 0xba, 0x86, 0x1c, 0x9d, 0x7e, 0x4b, 0xca,
            0xbe, 0x63, 0x3b, 0xd5, 0x0d, 0x29, 0x4e, 0x6f, 0x42, 0xa5, 0xf4, 0x7a, 0x51, 0xc7, 0xd1, 0x9b,
            0x36, 0xde, 0x3a, 0xdf, 0x88, 0x33, 0x89, 0x9d, 0x7f, 0x27, 0xbe, 0xb1, 0x6a, 0x91, 0x52, 0xcf,
            0x76, 0x5e, 0xe4, 0x39, 0x0c, 0xce,
        ];
        assert_eq!(packet[..12], header);
        assert_eq!(packet[12..], expected);
    }
}
