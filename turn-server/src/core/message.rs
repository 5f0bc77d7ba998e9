//! STUN messages as this server reads and writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rtc_stun::{
    attributes::{
        ATTR_CHANNEL_NUMBER, ATTR_DATA, ATTR_EVEN_PORT, ATTR_FINGERPRINT, ATTR_LIFETIME,
        ATTR_MESSAGE_INTEGRITY, ATTR_NONCE, ATTR_REALM, ATTR_REQUESTED_ADDRESS_FAMILY,
        ATTR_REQUESTED_TRANSPORT, ATTR_RESERVATION_TOKEN, ATTR_USERNAME, ATTR_XOR_PEER_ADDRESS, AttrType,
    },
    crypto::RTCCrypto,
    error_code::{ErrorCode, ErrorCodeAttribute},
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{CLASS_ERROR_RESPONSE, MAGIC_COOKIE, Message, MessageClass, MessageType, Setter},
    uattrs::UnknownAttributes,
};

use super::refusal::Refusal;

/// What has to be understood and is.
const KNOWN: [AttrType; 13] = [
    ATTR_USERNAME,
    ATTR_MESSAGE_INTEGRITY,
    ATTR_REALM,
    ATTR_NONCE,
    ATTR_LIFETIME,
    ATTR_CHANNEL_NUMBER,
    ATTR_XOR_PEER_ADDRESS,
    ATTR_DATA,
    ATTR_REQUESTED_ADDRESS_FAMILY,
    ATTR_REQUESTED_TRANSPORT,
    ATTR_EVEN_PORT,
    ATTR_RESERVATION_TOKEN,
    // MESSAGE-INTEGRITY-SHA256 (RFC 8489 §14.6): only checked by clients that were offered it.
    rtc_stun::attributes::ATTR_MESSAGE_INTEGRITY_SHA256,
];

/// A well-formed message that is all of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Option<Message> {
    let mut message = Message::new();
    message.unmarshal_binary(bytes).ok()?;
    let whole = bytes.len() == 20 + usize::try_from(message.length).ok()?;
    let genuine = !message.contains(ATTR_FINGERPRINT) || FINGERPRINT.check(&message).is_ok();
    (whole && genuine).then_some(message)
}

/// The first attribute of that kind.
pub(super) fn attribute(message: &Message, kind: AttrType) -> Option<&[u8]> {
    message.attributes.0.iter().find(|attribute| attribute.typ == kind).map(|attribute| &attribute.value[..])
}

/// A number of 32 bits; `Err` if there is an attribute that is none.
pub(super) fn number(message: &Message, kind: AttrType) -> Result<Option<u32>, Refusal> {
    let Some(value) = attribute(message, kind) else { return Ok(None) };
    let bytes = value.try_into().map_err(|_| Refusal::BadRequest)?;
    Ok(Some(u32::from_be_bytes(bytes)))
}

/// All XOR-PEER-ADDRESS (RFC 8656 §18.3), of which a request may have several.
pub(super) fn peers(message: &Message) -> Result<Vec<SocketAddr>, Refusal> {
    let values = message.attributes.0.iter().filter(|attribute| attribute.typ == ATTR_XOR_PEER_ADDRESS);
    values
        .map(|attribute| address(&attribute.value, &message.transaction_id.0).ok_or(Refusal::BadRequest))
        .collect()
}

/// An address as XOR-MAPPED-ADDRESS has it (RFC 8489 §14.2).
fn address(value: &[u8], transaction: &[u8; 12]) -> Option<SocketAddr> {
    let (&[_, family, high, low], address) = value.split_first_chunk()?;
    let port = u16::from_be_bytes([high, low]) ^ (MAGIC_COOKIE >> 16) as u16;
    let ip = match family {
        1 => Ipv4Addr::from_bits(u32::from_be_bytes(address.try_into().ok()?) ^ MAGIC_COOKIE).into(),
        2 => {
            let mut mask = [0; 16];
            mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
            mask[4..].copy_from_slice(transaction);
            let address = u128::from_be_bytes(address.try_into().ok()?);
            IpAddr::from(Ipv6Addr::from_bits(address ^ u128::from_be_bytes(mask)))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Attributes that have to be understood (the lower half of all) and are not.
pub(super) fn unknown(message: &Message) -> Vec<AttrType> {
    let kinds = message.attributes.0.iter().map(|attribute| attribute.typ);
    kinds.filter(|kind| kind.value() < 0x8000 && !KNOWN.contains(kind)).collect()
}

/// What signs an answer.
pub(super) struct Signature<'a> {
    pub(super) key: &'a [u8],
    pub(super) crypto: &'a dyn RTCCrypto,
}

/// The answer to a request; `None` if one of the attributes can't be written, which none of this server's are.
pub(super) fn answer(
    request: &Message,
    class: MessageClass,
    attributes: Vec<Box<dyn Setter + '_>>,
    signature: Option<&Signature<'_>>,
) -> Option<Vec<u8>> {
    let mut setters: Vec<Box<dyn Setter + '_>> =
        vec![Box::new(MessageType::new(request.typ.method, class)), Box::new(request.transaction_id)];
    setters.extend(attributes);
    if let Some(Signature { key, crypto }) = signature {
        setters.push(Box::new(MessageIntegrity::new_raw_integrity_with_provider(*key, *crypto)));
    }
    setters.push(Box::new(FINGERPRINT));
    let mut answer = Message::new();
    answer.build(&setters).ok()?;
    Some(answer.raw)
}

/// The answer to a request that is refused.
pub(super) fn refuse<'a>(
    request: &Message,
    refusal: &Refusal,
    more: Vec<Box<dyn Setter + 'a>>,
    signature: Option<&Signature<'_>>,
) -> Option<Vec<u8>> {
    let reason = refusal.to_string().into_bytes();
    let mut attributes: Vec<Box<dyn Setter + 'a>> =
        vec![Box::new(ErrorCodeAttribute { code: ErrorCode(refusal.code()), reason })];
    if let Refusal::UnknownAttributes(kinds) = refusal {
        attributes.push(Box::new(UnknownAttributes(kinds.clone())));
    }
    attributes.extend(more);
    answer(request, CLASS_ERROR_RESPONSE, attributes, signature)
}

#[cfg(test)]
mod tests {
    use rtc_stun::message::{CLASS_REQUEST, METHOD_CREATE_PERMISSION, TransactionId};
    use rtc_turn::proto::peeraddr::PeerAddress;

    use super::*;

    #[test]
    fn every_peer_of_a_request_is_read() {
        let mut message = Message::new();
        message
            .build(&[
                Box::new(MessageType::new(METHOD_CREATE_PERMISSION, CLASS_REQUEST)),
                Box::new(TransactionId::new()),
                Box::new(PeerAddress { ip: "192.0.2.1".parse().unwrap(), port: 5 }),
                Box::new(PeerAddress { ip: "2001:db8::1".parse().unwrap(), port: 6 }),
            ])
            .unwrap();
        let read = read(&message.raw).unwrap();
        assert_eq!(
            peers(&read),
            Ok(vec!["192.0.2.1:5".parse().unwrap(), "[2001:db8::1]:6".parse().unwrap()])
        );
        message.add(ATTR_XOR_PEER_ADDRESS, &[0, 1, 0, 5, 1]);
        assert_eq!(peers(&message), Err(Refusal::BadRequest));
    }

    #[test]
    fn a_message_is_read_whole_or_not_at_all() {
        let mut message = Message::new();
        message.build(&[Box::new(TransactionId::new()), Box::new(FINGERPRINT)]).unwrap();
        message.write_header();
        let good = message.raw.clone();
        for cut in 0..good.len() {
            assert!(read(&good[..cut]).is_none());
        }
        assert!(read(&[&good[..], &[0; 4]].concat()).is_none());
        let mut changed = good;
        changed[10] ^= 1;
        assert!(read(&changed).is_none(), "its fingerprint is another's");
    }
}
