//! Telling the protocols apart that share a port.

/// What a datagram's first byte says it is (RFC 7983 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// ICE connectivity check.
    Stun,
    /// Handshake.
    Dtls,
    /// RTP or RTCP, protected.
    Media,
}

/// Reads the first byte; `None` for what belongs to nothing here.
#[must_use]
pub fn classify(datagram: &[u8]) -> Option<Class> {
    match datagram.first()? {
        0..=3 => Some(Class::Stun),
        20..=63 => Some(Class::Dtls),
        128..=191 => Some(Class::Media),
        _ => None,
    }
}

const HEADER: usize = 20;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const BINDING_REQUEST: [u8; 2] = [0, 1];
const USERNAME: u16 = 0x0006;

/// The user name's first half, which is the fragment of whom it is for, of a binding request (RFC 8445 §7.2.2). Looks only, so that
/// a stranger's datagram costs nothing; whether the request is genuine is [`super::IceLite`]'s to say.
#[must_use]
pub fn stun_user_name(datagram: &[u8]) -> Option<&str> {
    let header = datagram.get(..HEADER)?;
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[..2] != BINDING_REQUEST || header[4..8] != MAGIC_COOKIE || datagram.len() != HEADER + length {
        return None;
    }
    let mut rest = &datagram[HEADER..];
    while let [t0, t1, l0, l1, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let value = tail.get(..length)?;
        if u16::from_be_bytes([*t0, *t1]) == USERNAME {
            return std::str::from_utf8(value).ok()?.split_once(':').map(|(ours, _)| ours);
        }
        rest = tail.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_are_told_by_their_first_byte() {
        let of = |byte: u8| classify(&[byte, 0]);
        assert_eq!(
            [of(0), of(1), of(22), of(128), of(191)].map(Option::unwrap),
            [Class::Stun, Class::Stun, Class::Dtls, Class::Media, Class::Media]
        );
        assert_eq!([of(4), of(19), of(64), of(127), of(192), of(255)], [None; 6]);
        assert_eq!(classify(&[]), None);
    }

    #[test]
    fn the_user_name_is_found_or_nothing_is() {
        let mut request = vec![0, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42];
        request.extend_from_slice(&[7; 12]);
        request.extend_from_slice(&[0, 6, 0, 7]);
        request.extend_from_slice(b"abcd:ef\0");
        assert_eq!(stun_user_name(&request), Some("abcd"));
        for length in 0..request.len() {
            assert_eq!(stun_user_name(&request[..length]), None);
        }
        for at in 0..request.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = request.clone();
                broken[at] = value;
                let _ = stun_user_name(&broken);
            }
        }
    }
}
