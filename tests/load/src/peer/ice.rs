//! The controlling side of ICE (RFC 8445) towards one address of a server, and answers to checks from servers that send them.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rtc_srtp::crypto::RTCCryptoProvider;
use rtc_stun::{
    attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType},
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId},
    textattrs::TextAttribute,
    xoraddr::XorMappedAddress,
};

/// Time between checks until one is answered: that of RFC 8445 (§14.2), doubled each time.
const FIRST_INTERVAL: Duration = Duration::from_millis(50);
/// The longest of these times.
const LAST_INTERVAL: Duration = Duration::from_secs(1);
/// Time between checks of consent (RFC 7675 §5.1).
const CONSENT_INTERVAL: Duration = Duration::from_secs(5);
/// Without an answer for that long the way is lost (RFC 7675 §5.1).
const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);

/// User name fragment and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    /// At least 4 characters.
    pub(super) ufrag: String,
    /// At least 22 characters.
    pub(super) password: String,
}

struct Raw(AttrType, &'static [u8]);

impl Setter for Raw {
    fn add_to(&self, message: &mut Message) -> rtc_shared::error::Result<()> {
        message.add(self.0, self.1);
        Ok(())
    }
}

/// What a datagram led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// The way works; said once.
    Connected,
    /// An answer to send.
    Answer(Vec<u8>),
    Nothing,
}

/// One way to a server.
pub(super) struct Ice {
    local: Credentials,
    remote: Option<Credentials>,
    crypto: Arc<dyn RTCCryptoProvider>,
    transaction: [u8; 12],
    next: Option<Instant>,
    interval: Duration,
    heard: Option<Instant>,
    connected: bool,
}

impl Ice {
    pub(super) fn new(local: Credentials, crypto: Arc<dyn RTCCryptoProvider>) -> Self {
        Self {
            local,
            remote: None,
            crypto,
            transaction: [0; 12],
            next: None,
            interval: FIRST_INTERVAL,
            heard: None,
            connected: false,
        }
    }

    pub(super) fn local(&self) -> &Credentials {
        &self.local
    }

    /// Begins to check; again with other credentials after a restart.
    pub(super) fn start(&mut self, now: Instant, remote: Credentials) {
        if self.remote.as_ref() != Some(&remote) {
            self.remote = Some(remote);
            self.next = Some(now);
            self.heard = Some(now);
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Nothing was heard for so long that the way is lost.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        self.heard.is_some_and(|heard| now >= heard + CONSENT_TIMEOUT)
    }

    /// The check that is due.
    pub(super) fn check(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.next.filter(|next| *next <= now)?;
        let interval = if self.connected { CONSENT_INTERVAL } else { self.interval };
        self.interval = (self.interval * 2).min(LAST_INTERVAL);
        self.next = Some(now + interval);
        let remote = self.remote.as_ref()?;
        self.transaction = rand::random();
        self.build(
            &remote.password,
            vec![
                Box::new(BINDING_REQUEST),
                Box::new(TransactionId(self.transaction)),
                Box::new(TextAttribute::new(ATTR_USERNAME, format!("{}:{}", remote.ufrag, self.local.ufrag))),
                Box::new(Raw(ATTR_ICE_CONTROLLING, &[1; 8])),
                // Of a peer-reflexive candidate (RFC 8445 §5.1.2).
                Box::new(Raw(ATTR_PRIORITY, &[0x6e, 0xff, 0xff, 0xff])),
                Box::new(Raw(ATTR_USE_CANDIDATE, &[])),
            ],
        )
    }

    /// A STUN message came.
    pub(super) fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Checked {
        let kind = datagram.get(..2).map_or(0, |kind| u16::from_be_bytes([kind[0], kind[1]]));
        let transaction = datagram.get(8..20).and_then(|id| <[u8; 12]>::try_from(id).ok());
        match (kind, transaction) {
            // The id of a transaction is known to the server alone.
            (0x0101, Some(id)) if id == self.transaction => {
                self.heard = Some(now);
                if std::mem::replace(&mut self.connected, true) {
                    return Checked::Nothing;
                }
                self.next = Some(now + CONSENT_INTERVAL);
                Checked::Connected
            }
            (0x0001, Some(id)) => self.answer(id, from).map_or(Checked::Nothing, Checked::Answer),
            _ => Checked::Nothing,
        }
    }

    fn answer(&self, transaction: [u8; 12], from: SocketAddr) -> Option<Vec<u8>> {
        self.build(
            &self.local.password,
            vec![
                Box::new(BINDING_SUCCESS),
                Box::new(TransactionId(transaction)),
                Box::new(XorMappedAddress { ip: from.ip(), port: from.port() }),
            ],
        )
    }

    fn build<'s>(&'s self, password: &str, mut setters: Vec<Box<dyn Setter + 's>>) -> Option<Vec<u8>> {
        let integrity = MessageIntegrity::new_short_term_integrity_with_provider(
            password.to_owned(),
            self.crypto.crypto(),
        );
        setters.push(Box::new(integrity));
        setters.push(Box::new(FINGERPRINT));
        let mut message = Message::new();
        message.build(&setters).ok()?;
        Some(message.raw)
    }
}

#[cfg(test)]
mod tests {
    use kaigi_access_node::transport::{IceLite, Path, Peer};

    use super::*;

    fn ice() -> Ice {
        let local = Credentials { ufrag: "mine".into(), password: "0123456789012345678901".into() };
        Ice::new(local, rtc_srtp::crypto::default_provider().unwrap())
    }

    fn server() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 10_000))
    }

    #[test]
    fn a_check_is_repeated_until_it_is_answered_and_then_for_consent() {
        let (mut ice, start) = (ice(), Instant::now());
        assert_eq!(ice.check(start), None, "nobody to check");
        ice.start(start, Credentials { ufrag: "their".into(), password: "x".repeat(22) });
        let mut now = start;
        for ms in [0, 50, 100, 200] {
            now += Duration::from_millis(ms);
            let due = ice.next_timeout().unwrap();
            assert_eq!(due, now);
            assert!(ice.check(due).is_some());
            assert_eq!(ice.check(due), None);
        }
        let mut answer = [&[1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], &[7; 12]].concat();
        assert_eq!(ice.receive(now, server(), &answer), Checked::Nothing, "of another transaction");
        answer[8..20].copy_from_slice(&ice.transaction);
        assert_eq!(ice.receive(now, server(), &answer), Checked::Connected);
        assert_eq!(ice.receive(now, server(), &answer), Checked::Nothing, "said once");
        assert_eq!(ice.next_timeout(), Some(now + CONSENT_INTERVAL));
        assert!(!ice.is_lost(now + Duration::from_secs(29)));
        assert!(ice.is_lost(now + Duration::from_secs(30)));
    }

    #[test]
    fn the_access_node_understands() {
        let now = Instant::now();
        let mut ice = ice();
        let remote = Credentials { ufrag: "their".into(), password: "x".repeat(22) };
        let mut node = IceLite::new(now, remote.ufrag.clone(), remote.password.clone());
        ice.start(now, remote);
        let check = ice.check(now).unwrap();
        let peer = Peer { address: SocketAddr::from(([198, 51, 100, 1], 5)), tcp: None };
        let crypto = rtc_srtp::crypto::default_provider().unwrap();
        let checked = node.check(now, Path { peer, local: None }, &check, crypto.crypto()).unwrap();
        assert_eq!(ice.receive(now, server(), &checked.response), Checked::Connected);
    }

    #[test]
    fn what_is_no_check_changes_nothing() {
        let mut ice = ice();
        for length in 0..40 {
            assert_eq!(ice.receive(Instant::now(), server(), &vec![0; length]), Checked::Nothing);
        }
    }
}
