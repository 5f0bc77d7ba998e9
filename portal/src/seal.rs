//! OWT's way to sign texts: base64 of the lower-case hex text of HMAC-SHA256 over the parts joined by commas. Used by login
//! tokens, reconnection tickets and the management API alike.

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

fn mac(key: &[u8], parts: &[&str]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            mac.update(b",");
        }
        mac.update(part.as_bytes());
    }
    mac
}

/// Signs `parts`, joined by commas. The result has 88 characters.
pub(crate) fn sign(key: &[u8], parts: &[&str]) -> String {
    STANDARD.encode(hex::encode(mac(key, parts).finalize().into_bytes()))
}

/// Whether `signature` is that of `parts`; takes the same time wherever it differs.
pub(crate) fn verify(key: &[u8], parts: &[&str], signature: &str) -> bool {
    let Ok(text) = STANDARD.decode(signature) else { return false };
    let Ok(bytes) = hex::decode(text) else { return false };
    mac(key, parts).verify_slice(&bytes).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2, whose text has no comma.
    #[test]
    fn a_signature_is_base64_of_hex_text() {
        let signature = sign(b"Jefe", &["what do ya want for nothing?"]);
        let hex_text = STANDARD.decode(&signature).unwrap();
        assert_eq!(hex_text, b"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        assert_eq!(signature.len(), 88);
    }

    #[test]
    fn parts_are_joined_by_commas() {
        assert_eq!(sign(b"k", &["a", "b"]), sign(b"k", &["a,b"]));
        assert!(verify(b"k", &["a", "b"], &sign(b"k", &["a,b"])));
    }

    #[test]
    fn anything_else_is_refused() {
        let good = sign(b"k", &["a"]);
        assert!(!verify(b"other", &["a"], &good));
        assert!(!verify(b"k", &["b"], &good));
        for bad in ["", "====", "zz", &good[..40]] {
            assert!(!verify(b"k", &["a"], bad), "{bad}");
        }
    }
}
