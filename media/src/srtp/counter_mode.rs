//! AES-128 in counter mode with HMAC-SHA1 (RFC 3711 §4.1.1, §4.2.1).

use rtc_srtp::crypto::{
    HmacAlgorithm, Mac, RTCCrypto, StreamCipher, StreamCipherAlgorithm, constant_time_eq,
};

use super::{Packet, SrtpError, derive};

/// Bytes of salts.
const SALT: usize = 14;
/// Bytes of a tag before it is cut to what the profile sends.
const WHOLE_TAG: usize = 20;
/// Labels of key derivation (RFC 3711 §4.3.2).
const LABEL_KEY: u8 = 0;
/// See [`LABEL_KEY`].
const LABEL_AUTHENTICATION: u8 = 1;
/// See [`LABEL_KEY`].
const LABEL_SALT: u8 = 2;

/// Keys of one direction.
pub(super) struct CounterMode {
    cipher: Box<dyn StreamCipher>,
    mac: Box<dyn Mac>,
    salt: [u8; SALT],
    /// Bytes of tags as they are sent.
    tag: usize,
}

impl CounterMode {
    pub(super) fn derive(
        tag: usize,
        key: &[u8],
        salt: &[u8],
        crypto: &dyn RTCCrypto,
    ) -> Result<Self, SrtpError> {
        let cipher_key: [u8; 16] = derive(LABEL_KEY, key, salt, crypto)?;
        let mac_key: [u8; WHOLE_TAG] = derive(LABEL_AUTHENTICATION, key, salt, crypto)?;
        Ok(Self {
            cipher: crypto.new_stream_cipher(StreamCipherAlgorithm::Aes128Ctr, &cipher_key)?,
            mac: crypto.new_hmac(HmacAlgorithm::Sha1, &mac_key)?,
            salt: derive(LABEL_SALT, key, salt, crypto)?,
            tag,
        })
    }

    /// RFC 3711 §4.1.1.
    fn counter(&self, packet: Packet) -> [u8; 16] {
        let mut counter = [0; 16];
        counter[4..8].copy_from_slice(&packet.ssrc.to_be_bytes());
        counter[8..14].copy_from_slice(&packet.index.to_be_bytes()[2..]);
        for (byte, salt) in counter.iter_mut().zip(&self.salt) {
            *byte ^= salt;
        }
        counter
    }

    /// The tag of an encrypted packet with the roll-overs before it (RFC 3711 §4.2).
    fn sign(&mut self, encrypted: &[u8], of: Packet) -> Result<[u8; WHOLE_TAG], SrtpError> {
        let roll_overs = (of.index >> 16) as u32;
        let mut tag = [0; WHOLE_TAG];
        self.mac.sign(&[encrypted, &roll_overs.to_be_bytes()], &mut tag)?;
        Ok(tag)
    }

    fn apply(&mut self, packet: &mut [u8], of: Packet) -> Result<(), SrtpError> {
        let counter = self.counter(of);
        let payload = packet.get_mut(of.header..).ok_or(SrtpError::TooShort)?;
        Ok(self.cipher.apply_keystream(&counter, payload)?)
    }

    /// Protects the packet at the end of a buffer, which begins at `start`.
    pub(super) fn seal(&mut self, buffer: &mut Vec<u8>, start: usize, of: Packet) -> Result<(), SrtpError> {
        let packet = buffer.get_mut(start..).ok_or(SrtpError::TooShort)?;
        self.apply(packet, of)?;
        let tag = self.sign(packet, of)?;
        buffer.extend_from_slice(&tag[..self.tag]);
        Ok(())
    }

    /// Unprotects the packet in a buffer.
    pub(super) fn open(&mut self, buffer: &mut Vec<u8>, of: Packet) -> Result<(), SrtpError> {
        let tag_at = buffer.len().checked_sub(self.tag).ok_or(SrtpError::TooShort)?;
        let (packet, tag) = buffer.split_at_mut(tag_at);
        let expected = self.sign(packet, of)?;
        if !constant_time_eq(&expected[..self.tag], tag) {
            return Err(SrtpError::NotAuthentic);
        }
        self.apply(packet, of)?;
        buffer.truncate(tag_at);
        Ok(())
    }
}
