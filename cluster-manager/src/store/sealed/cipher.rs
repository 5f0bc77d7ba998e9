//! How documents are sealed: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), whose nonces are long enough to be taken at random for ever.
//!
//! A sealed text is a mark, the nonce (24 bytes) and the ciphertext with its tag (16 bytes). Where it belongs is authenticated with it:
//! moved to another key, it does not open.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};

use kaigi_proto::ids::RoomId;

use super::SealKey;
use crate::store::{Collection, Key, SecretName};

/// What sealed texts begin with, and nothing else that is stored: documents are JSON or protobuf, and no protobuf begins with a field of
/// number 0.
const MARK: &[u8; 8] = b"\0kgseal\x01";
const NONCE: usize = 24;

/// Where a sealed text belongs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    Document(Collection, &'a Key),
    Secret(&'a SecretName),
    Snapshot(&'a RoomId, &'a Key),
}

impl Place<'_> {
    /// As it is authenticated; part of the stored format.
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Document(collection, key) => {
                [b"document\0".as_slice(), &[collection.number()], key.as_str().as_bytes()].concat()
            }
            Self::Secret(name) => [b"secret\0", name.as_str().as_bytes()].concat(),
            Self::Snapshot(room, key) => {
                [b"snapshot\0", room.as_str().as_bytes(), b"\0", key.as_str().as_bytes()].concat()
            }
        }
    }
}

/// It was changed, it belongs to another place, or it was sealed under another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DoesNotOpen;

/// Seals and opens.
pub(super) struct Cipher(XChaCha20Poly1305);

impl Cipher {
    pub(super) fn new(key: &SealKey) -> Self {
        Self(XChaCha20Poly1305::new(&key.0.into()))
    }

    pub(super) fn seal(&self, place: Place<'_>, plain: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload { msg: plain, aad: &place.bytes() };
        let sealed = self.0.encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.expect("documents are far below the cipher's limit of 256 GiB");
        [MARK.as_slice(), &nonce, &sealed].concat()
    }

    /// What was sealed. A text without the mark is from before there was sealing, and is what it is.
    pub(super) fn open(&self, place: Place<'_>, stored: Vec<u8>) -> Result<Vec<u8>, DoesNotOpen> {
        let Some(rest) = stored.strip_prefix(MARK) else { return Ok(stored) };
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or(DoesNotOpen)?;
        let payload = Payload { msg: sealed, aad: &place.bytes() };
        self.0.decrypt(&XNonce::from(*nonce), payload).map_err(|_| DoesNotOpen)
    }
}

pub(super) fn is_sealed(stored: &[u8]) -> bool {
    stored.starts_with(MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[test]
    fn a_text_opens_where_it_was_sealed_under_its_key() {
        let (cipher, other) = (Cipher::new(&SealKey::random()), Cipher::new(&SealKey::random()));
        let (a, b, name) = (key("a"), key("b"), SecretName::new("a").unwrap());
        let place = Place::Document(Collection::Services, &a);
        for plain in [&b""[..], b"text", &[0; 10_000]] {
            let sealed = cipher.seal(place, plain);
            assert!(is_sealed(&sealed));
            assert_eq!(cipher.open(place, sealed.clone()).unwrap(), plain);
            assert_ne!(cipher.seal(place, plain), sealed, "the same is not seen to be the same");
            assert_eq!(other.open(place, sealed.clone()), Err(DoesNotOpen));
            for elsewhere in [
                Place::Document(Collection::Services, &b),
                Place::Document(Collection::Webhooks, &a),
                Place::Secret(&name),
            ] {
                assert_eq!(cipher.open(elsewhere, sealed.clone()), Err(DoesNotOpen));
            }
        }
    }

    #[test]
    fn whatever_is_changed_does_not_open() {
        let (cipher, a) = (Cipher::new(&SealKey::random()), key("a"));
        let place = Place::Document(Collection::Services, &a);
        let sealed = cipher.seal(place, b"text");
        for i in MARK.len()..sealed.len() {
            let mut changed = sealed.clone();
            changed[i] ^= 1;
            assert_eq!(cipher.open(place, changed), Err(DoesNotOpen), "byte {i}");
        }
        for length in MARK.len()..sealed.len() {
            assert_eq!(cipher.open(place, sealed[..length].to_vec()), Err(DoesNotOpen), "{length} bytes");
        }
    }

    #[test]
    fn what_is_from_before_is_taken_as_it_is() {
        let (cipher, a) = (Cipher::new(&SealKey::random()), key("a"));
        for plain in [&b""[..], b"{}", b"\0kgseal"] {
            assert_eq!(
                cipher.open(Place::Document(Collection::Services, &a), plain.to_vec()).unwrap(),
                plain
            );
        }
    }
}
