//! ICE-lite (RFC 8445 §2.5): the node has fixed host candidates, answers checks and lets the client choose. It keeps no candidates of
//! the client: an address is good when an authenticated check came from it.

use std::time::{Duration, Instant};

use rtc_stun::{
    attributes::{ATTR_ICE_CONTROLLED, ATTR_MESSAGE_INTEGRITY, ATTR_USE_CANDIDATE},
    error_code::{CODE_ROLE_CONFLICT, ErrorCodeAttribute},
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_ERROR, BINDING_SUCCESS, Message, Setter},
    xoraddr::XorMappedAddress,
};

use super::Path;

/// A transport fails when no check came for that long (consent, RFC 7675 §5.1).
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// Most addresses of one client that are known at a time; the one longest not heard of is forgotten for a new one. A client has
/// one per network interface and address family.
const MAX_PEERS: usize = 16;

/// Why a check is not answered.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Not a well-formed request, or its fingerprint or integrity is wrong.
    #[error("STUN: {0}")]
    Stun(#[from] rtc_shared::error::Error),
}

/// What a genuine check leads to.
#[derive(Debug, PartialEq, Eq)]
pub struct Checked {
    /// Goes back where the check came from.
    pub response: Vec<u8>,
    /// The address forgotten for it.
    pub forgotten: Option<Path>,
}

/// The node's ICE agent for one transport.
#[derive(Debug)]
pub struct IceLite {
    ufrag: String,
    password: String,
    /// Last heard of last.
    peers: Vec<Path>,
    selected: Option<Path>,
    nominated: bool,
    last_heard: Instant,
}

impl IceLite {
    /// An agent with these credentials. Silence counts from `now`.
    #[must_use]
    pub fn new(now: Instant, ufrag: String, password: String) -> Self {
        Self { ufrag, password, peers: Vec::new(), selected: None, nominated: false, last_heard: now }
    }

    /// Own user name fragment.
    #[must_use]
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Own password.
    #[must_use]
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Where to send: what the client nominated last, before that the first address heard of.
    #[must_use]
    pub fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// All addresses that checks came from.
    #[must_use]
    pub fn peers(&self) -> &[Path] {
        &self.peers
    }

    /// When it will have failed.
    #[must_use]
    pub fn expires_at(&self) -> Instant {
        self.last_heard + CONSENT_TIMEOUT
    }

    /// The client has shown elsewhere (by signaling) that it is there.
    pub fn heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    /// An address is gone (its TCP connection closed).
    pub fn forget(&mut self, path: &Path) {
        self.peers.retain(|known| known.peer != path.peer);
        if self.selected.is_some_and(|selected| selected.peer == path.peer) {
            self.selected = self.peers.last().copied();
        }
    }

    /// Answers a binding request that is addressed to this agent's user name fragment.
    ///
    /// # Errors
    /// If the request is not genuine. The reply to such would help nobody but an attacker, so there is none.
    pub fn check(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &[u8],
        crypto: &dyn rtc_srtp::crypto::RTCCrypto,
    ) -> Result<Checked, CheckError> {
        let mut request = Message::new();
        request.unmarshal_binary(datagram)?;
        if request.contains(rtc_stun::attributes::ATTR_FINGERPRINT) {
            FINGERPRINT.check(&request)?;
        }
        if request.get(ATTR_MESSAGE_INTEGRITY)?.len() != 20 {
            return Err(rtc_shared::error::Error::ErrIntegrityMismatch.into());
        }
        MessageIntegrity::check(&mut request, self.password.as_bytes(), crypto)?;
        // The other side of a lite agent is always the controlling one (RFC 8445 §6.1.1).
        if request.contains(ATTR_ICE_CONTROLLED) {
            let conflict = ErrorCodeAttribute { code: CODE_ROLE_CONFLICT, reason: b"Role Conflict".to_vec() };
            let response = self.respond(&request, BINDING_ERROR, Box::new(conflict), crypto)?;
            return Ok(Checked { response, forgotten: None });
        }
        self.last_heard = now;
        self.peers.retain(|known| known.peer != path.peer);
        let forgotten = (self.peers.len() >= MAX_PEERS).then(|| {
            let oldest = usize::from(self.selected.is_some_and(|s| s.peer == self.peers[0].peer));
            self.peers.remove(oldest)
        });
        self.peers.push(path);
        let nominates = request.contains(ATTR_USE_CANDIDATE);
        let same = self.selected.is_some_and(|selected| selected.peer == path.peer);
        if nominates || same || !self.nominated {
            if nominates || same || self.selected.is_none() {
                self.selected = Some(path);
            }
            self.nominated |= nominates;
        }
        let address = XorMappedAddress { ip: path.peer.address.ip(), port: path.peer.address.port() };
        let response = self.respond(&request, BINDING_SUCCESS, Box::new(address), crypto)?;
        Ok(Checked { response, forgotten })
    }

    fn respond(
        &self,
        request: &Message,
        class: rtc_stun::message::MessageType,
        attribute: Box<dyn Setter>,
        crypto: &dyn rtc_srtp::crypto::RTCCrypto,
    ) -> Result<Vec<u8>, CheckError> {
        let mut response = Message::new();
        response.build(&[
            Box::new(class),
            Box::new(request.transaction_id),
            attribute,
            Box::new(MessageIntegrity::new_short_term_integrity_with_provider(self.password.clone(), crypto)),
            Box::new(FINGERPRINT),
        ])?;
        Ok(response.raw)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use rtc_srtp::crypto::default_provider;
    use rtc_stun::{
        attributes::{ATTR_ICE_CONTROLLING, ATTR_USERNAME},
        message::{BINDING_REQUEST, TransactionId},
        textattrs::TextAttribute,
    };

    use super::*;
    use crate::transport::Peer;

    struct Flag(rtc_stun::attributes::AttrType, &'static [u8]);
    impl Setter for Flag {
        fn add_to(&self, message: &mut Message) -> rtc_shared::error::Result<()> {
            message.add(self.0, self.1);
            Ok(())
        }
    }

    fn path(port: u16) -> Path {
        Path { peer: Peer { address: SocketAddr::from(([192, 0, 2, 1], port)), tcp: None }, local: None }
    }

    fn request(password: &str, flags: Vec<Flag>) -> Vec<u8> {
        let provider = default_provider().unwrap();
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId([9; 12])),
            Box::new(TextAttribute::new(ATTR_USERNAME, "us:them".into())),
        ];
        setters.extend(flags.into_iter().map(|flag| Box::new(flag) as Box<dyn Setter>));
        setters.push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            password.into(),
            provider.crypto(),
        )));
        setters.push(Box::new(FINGERPRINT));
        let mut message = Message::new();
        message.build(&setters).unwrap();
        message.raw
    }

    fn controlling() -> Flag {
        Flag(ATTR_ICE_CONTROLLING, &[0; 8])
    }

    fn agent() -> (IceLite, Instant) {
        let now = Instant::now();
        (IceLite::new(now, "us".into(), "secret-password".into()), now)
    }

    fn check(agent: &mut IceLite, now: Instant, path: Path, request: &[u8]) -> Result<Checked, CheckError> {
        agent.check(now, path, request, default_provider().unwrap().crypto())
    }

    #[test]
    fn a_genuine_check_is_answered_with_the_address_it_came_from() {
        let (mut agent, now) = agent();
        let checked =
            check(&mut agent, now, path(7), &request("secret-password", vec![controlling()])).unwrap();
        assert_eq!(agent.peers(), [path(7)]);
        let mut response = Message::new();
        response.unmarshal_binary(&checked.response).unwrap();
        assert_eq!((response.typ, response.transaction_id), (BINDING_SUCCESS, TransactionId([9; 12])));
        let mut mapped = XorMappedAddress::default();
        rtc_stun::message::Getter::get_from(&mut mapped, &response).unwrap();
        assert_eq!((mapped.ip.to_string(), mapped.port), ("192.0.2.1".to_owned(), 7));
        FINGERPRINT.check(&response).unwrap();
        MessageIntegrity::check(&mut response, b"secret-password", default_provider().unwrap().crypto())
            .unwrap();
    }

    #[test]
    fn the_client_chooses_and_changes_its_mind() {
        let (mut agent, now) = agent();
        let plain = || request("secret-password", vec![controlling()]);
        let nominating = || request("secret-password", vec![controlling(), Flag(ATTR_USE_CANDIDATE, &[])]);
        check(&mut agent, now, path(1), &plain()).unwrap();
        assert_eq!(agent.selected(), Some(path(1)), "the first will do until one is nominated");
        check(&mut agent, now, path(2), &plain()).unwrap();
        assert_eq!(agent.selected(), Some(path(1)));
        check(&mut agent, now, path(2), &nominating()).unwrap();
        assert_eq!(agent.selected(), Some(path(2)));
        check(&mut agent, now, path(1), &plain()).unwrap();
        assert_eq!(agent.selected(), Some(path(2)));
        check(&mut agent, now, path(3), &nominating()).unwrap();
        assert_eq!(agent.selected(), Some(path(3)));
        agent.forget(&path(3));
        assert_eq!(agent.selected(), Some(path(1)), "the one heard of last takes its place");
    }

    #[test]
    fn addresses_are_bounded_and_the_selected_one_stays() {
        let (mut agent, now) = agent();
        let nominating = request("secret-password", vec![Flag(ATTR_USE_CANDIDATE, &[])]);
        check(&mut agent, now, path(1), &nominating).unwrap();
        let plain = request("secret-password", vec![]);
        let forgotten: Vec<_> = (2..40)
            .filter_map(|port| check(&mut agent, now, path(port), &plain).unwrap().forgotten)
            .collect();
        assert_eq!(agent.peers().len(), MAX_PEERS);
        assert_eq!(forgotten.first(), Some(&path(2)));
        assert!(!forgotten.contains(&path(1)));
    }

    #[test]
    fn consent_lasts_from_the_last_genuine_check() {
        let (mut agent, now) = agent();
        let later = now + Duration::from_secs(20);
        assert!(check(&mut agent, later, path(1), &request("wrong", vec![])).is_err());
        assert_eq!(agent.expires_at(), now + CONSENT_TIMEOUT);
        check(&mut agent, later, path(1), &request("secret-password", vec![])).unwrap();
        assert_eq!(agent.expires_at(), later + CONSENT_TIMEOUT);
    }

    #[test]
    fn a_client_that_wants_to_be_controlled_is_told_so() {
        let (mut agent, now) = agent();
        let request = request("secret-password", vec![Flag(ATTR_ICE_CONTROLLED, &[0; 8])]);
        let checked = check(&mut agent, now, path(1), &request).unwrap();
        let mut response = Message::new();
        response.unmarshal_binary(&checked.response).unwrap();
        assert_eq!(response.typ, BINDING_ERROR);
        assert_eq!(agent.selected(), None);
    }

    #[test]
    fn broken_requests_are_refused() {
        let (mut agent, now) = agent();
        let whole = request("secret-password", vec![controlling()]);
        for length in 0..whole.len() {
            assert!(check(&mut agent, now, path(1), &whole[..length]).is_err());
        }
        // The fingerprint at the end is no part of what is authenticated.
        for at in 0..whole.len() - 8 {
            let mut broken = whole.clone();
            broken[at] ^= 0x55;
            assert!(check(&mut agent, now, path(1), &broken).is_err(), "byte {at}");
        }
        assert_eq!(agent.peers(), []);
    }
}
