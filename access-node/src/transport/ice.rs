//! ICE-lite (RFC 8445 §2.5): the node has fixed host candidates, answers checks and lets the client choose. It keeps no candidates of
//! the client: an address is good when an authenticated check came from it. Once it is, packets that only the client can have made
//! show as well as checks do that it is there: some agents check no more once they have a way.

use std::time::{Duration, Instant};

use rtc_stun::{
    attributes::{ATTR_ICE_CONTROLLED, ATTR_MESSAGE_INTEGRITY, ATTR_USE_CANDIDATE},
    error_code::{CODE_ROLE_CONFLICT, ErrorCodeAttribute},
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_ERROR, BINDING_SUCCESS, Message, Setter},
    xoraddr::XorMappedAddress,
};

use super::{Path, Peer, stun_user_name};

/// Nothing is sent to a client from which neither a check nor an authenticated packet came for that long (consent, RFC 7675 §5.1).
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
/// A connected transport fails that much later, so that a client that found out about as late as the node that its network is another
/// one can still restart ICE. Costs nothing but the transport's memory, as nothing is sent.
pub const RESTART_GRACE: Duration = Duration::from_secs(15);
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
    /// A user name fragment of the node that is valid no more, since the client has nominated an address after a restart.
    pub retired: Option<String>,
}

/// What a client's checks are told from others' by.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Credentials {
    ufrag: String,
    password: String,
}

/// An address of the client.
#[derive(Clone, Copy, Debug)]
struct Known {
    path: Path,
    /// After which restart it was heard of last.
    generation: u32,
}

/// The node's ICE agent for one transport.
#[derive(Debug)]
pub struct IceLite {
    credentials: Credentials,
    /// Those from before a restart, as long as the client has not nominated an address under the new ones.
    previous: Option<Credentials>,
    generation: u32,
    /// Last heard of last.
    peers: Vec<Known>,
    selected: Option<Path>,
    nominated: bool,
    /// When the client last showed that it wants what is sent there.
    last_consent: Instant,
    /// When the client last showed by signaling that it is there.
    last_signal: Instant,
    /// Whether that is recent enough to send anything.
    consent: bool,
}

impl IceLite {
    /// An agent with these credentials. Silence counts from `now`.
    #[must_use]
    pub fn new(now: Instant, ufrag: String, password: String) -> Self {
        Self {
            credentials: Credentials { ufrag, password },
            previous: None,
            generation: 0,
            peers: Vec::new(),
            selected: None,
            nominated: false,
            last_consent: now,
            last_signal: now,
            consent: true,
        }
    }

    /// The client restarts ICE (RFC 8445 §9): checks are expected under new credentials. The old ones hold, and what is sent goes
    /// where it went, until the client nominates an address under the new ones. Returns the user name fragment that is valid no more: of a
    /// restart that came to nothing, or of a beginning that did.
    pub fn restart(&mut self, ufrag: String, password: String) -> Option<String> {
        let replaced = std::mem::replace(&mut self.credentials, Credentials { ufrag, password });
        self.generation = self.generation.wrapping_add(1);
        if self.previous.is_some() || self.selected.is_none() {
            return Some(replaced.ufrag);
        }
        self.previous = Some(replaced);
        None
    }

    /// Own user name fragments, all that are valid.
    pub fn ufrags(&self) -> impl Iterator<Item = &str> {
        [Some(&self.credentials), self.previous.as_ref()].into_iter().flatten().map(|c| c.ufrag.as_str())
    }

    /// Where to send: what the client nominated last, before that the first address heard of. `None` without the client's consent.
    #[must_use]
    pub fn selected(&self) -> Option<Path> {
        self.selected.filter(|_| self.consent)
    }

    /// The same whether or not the client consents, for a farewell.
    #[must_use]
    pub fn last_selected(&self) -> Option<Path> {
        self.selected
    }

    /// All addresses that checks came from.
    pub fn peers(&self) -> impl Iterator<Item = Path> + '_ {
        self.peers.iter().map(|known| known.path)
    }

    /// When it will have failed.
    #[must_use]
    pub fn expires_at(&self) -> Instant {
        let grace = if self.nominated { RESTART_GRACE } else { Duration::ZERO };
        (self.last_consent + grace).max(self.last_signal) + CONSENT_TIMEOUT
    }

    /// When [`Self::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Instant {
        let may_send = self.consent && self.selected.is_some();
        if may_send { self.last_consent + CONSENT_TIMEOUT } else { self.expires_at() }
    }

    /// Sees whether the client still consents to what it is sent.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.consent = now < self.last_consent + CONSENT_TIMEOUT;
    }

    /// The client has shown by signaling that it is there, which is no consent to be sent anything.
    pub fn heard(&mut self, now: Instant) {
        self.last_signal = now;
    }

    /// A packet came from `peer` that the client made, and not before: it passed the authentication and replay protection of SRTP, SRTCP
    /// or DTLS. Whoever sends such from the selected address is there, also if it checks no more. From elsewhere it means nothing:
    /// only a check tells a way from a detour.
    pub fn authenticated(&mut self, now: Instant, peer: &Peer) {
        if self.selected.is_some_and(|selected| selected.peer == *peer) {
            self.last_consent = now;
            self.consent = true;
        }
    }

    /// An address is gone (its TCP connection closed).
    pub fn forget(&mut self, path: &Path) {
        self.peers.retain(|known| known.path.peer != path.peer);
        if self.selected.is_some_and(|selected| selected.peer == path.peer) {
            let usable = |known: &&Known| self.previous.is_some() || known.generation == self.generation;
            self.selected = self.peers.iter().rev().find(usable).map(|known| known.path);
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
        let ufrag = stun_user_name(datagram).unwrap_or_default();
        let is_current = self.credentials.ufrag == ufrag;
        let previous = self.previous.as_ref().filter(|previous| previous.ufrag == ufrag);
        let Some(credentials) = Some(&self.credentials).filter(|_| is_current).or(previous).cloned() else {
            return Err(rtc_shared::error::Error::ErrIntegrityMismatch.into());
        };
        let password = credentials.password;
        MessageIntegrity::check(&mut request, password.as_bytes(), crypto)?;
        // The other side of a lite agent is always the controlling one (RFC 8445 §6.1.1).
        if request.contains(ATTR_ICE_CONTROLLED) {
            let conflict = ErrorCodeAttribute { code: CODE_ROLE_CONFLICT, reason: b"Role Conflict".to_vec() };
            let response = respond(&request, BINDING_ERROR, Box::new(conflict), &password, crypto)?;
            return Ok(Checked { response, forgotten: None, retired: None });
        }
        self.last_consent = now;
        self.consent = true;
        self.peers.retain(|known| known.path.peer != path.peer);
        let forgotten = (self.peers.len() >= MAX_PEERS).then(|| {
            let oldest = usize::from(self.selected.is_some_and(|s| s.peer == self.peers[0].path.peer));
            self.peers.remove(oldest).path
        });
        let generation = if is_current { self.generation } else { self.generation.wrapping_sub(1) };
        self.peers.push(Known { path, generation });
        let nominates = request.contains(ATTR_USE_CANDIDATE);
        let same = self.selected.is_some_and(|selected| selected.peer == path.peer);
        if nominates || same || self.selected.is_none() {
            self.selected = Some(path);
        }
        self.nominated |= nominates;
        let retired = (nominates && is_current).then(|| self.previous.take()).flatten().map(|c| c.ufrag);
        let address = XorMappedAddress { ip: path.peer.address.ip(), port: path.peer.address.port() };
        let response = respond(&request, BINDING_SUCCESS, Box::new(address), &password, crypto)?;
        Ok(Checked { response, forgotten, retired })
    }
}

fn respond(
    request: &Message,
    class: rtc_stun::message::MessageType,
    attribute: Box<dyn Setter>,
    password: &str,
    crypto: &dyn rtc_srtp::crypto::RTCCrypto,
) -> Result<Vec<u8>, CheckError> {
    let mut response = Message::new();
    response.build(&[
        Box::new(class),
        Box::new(request.transaction_id),
        attribute,
        Box::new(MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto)),
        Box::new(FINGERPRINT),
    ])?;
    Ok(response.raw)
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
        request_of("us", password, flags)
    }

    fn request_of(ufrag: &str, password: &str, flags: Vec<Flag>) -> Vec<u8> {
        let provider = default_provider().unwrap();
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(BINDING_REQUEST),
            Box::new(TransactionId([9; 12])),
            Box::new(TextAttribute::new(ATTR_USERNAME, format!("{ufrag}:them"))),
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
        assert_eq!(agent.peers().collect::<Vec<_>>(), [path(7)]);
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
        assert_eq!(agent.peers().count(), MAX_PEERS);
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
    fn consent_lasts_from_the_last_authenticated_packet_of_the_selected_address() {
        let (mut agent, now) = agent();
        agent.authenticated(now + Duration::from_secs(1), &path(1).peer);
        assert_eq!(agent.expires_at(), now + CONSENT_TIMEOUT, "no address is selected");
        check(&mut agent, now, path(1), &request("secret-password", vec![Flag(ATTR_USE_CANDIDATE, &[])]))
            .unwrap();
        check(&mut agent, now, path(2), &request("secret-password", vec![])).unwrap();
        let later = now + Duration::from_secs(20);
        agent.authenticated(later, &path(2).peer);
        assert_eq!(agent.next_timeout(), now + CONSENT_TIMEOUT, "from another way");
        agent.authenticated(later, &path(1).peer);
        assert_eq!(agent.next_timeout(), later + CONSENT_TIMEOUT);
        agent.handle_timeout(now + CONSENT_TIMEOUT);
        assert_eq!(agent.selected(), Some(path(1)));

        agent.handle_timeout(later + CONSENT_TIMEOUT);
        assert_eq!(agent.selected(), None);
        agent.authenticated(later + CONSENT_TIMEOUT, &path(1).peer);
        assert_eq!(agent.selected(), Some(path(1)), "it is heard again");
    }

    #[test]
    fn after_a_restart_the_old_credentials_hold_until_the_new_ones_are_used() {
        let (mut agent, now) = agent();
        let nominate = || Flag(ATTR_USE_CANDIDATE, &[]);
        let old = |flags| request("secret-password", flags);
        let new = |flags| request_of("new", "new-password", flags);
        check(&mut agent, now, path(1), &old(vec![nominate()])).unwrap();
        assert_eq!(agent.restart("new".into(), "new-password".into()), None);
        assert_eq!(agent.ufrags().collect::<Vec<_>>(), ["new", "us"]);
        assert!(check(&mut agent, now, path(2), &request_of("new", "secret-password", vec![])).is_err());
        let response = check(&mut agent, now, path(2), &new(vec![])).unwrap().response;
        let mut message = Message::new();
        message.unmarshal_binary(&response).unwrap();
        MessageIntegrity::check(&mut message, b"new-password", default_provider().unwrap().crypto()).unwrap();
        check(&mut agent, now, path(1), &old(vec![])).unwrap();
        assert_eq!(agent.selected(), Some(path(1)), "nothing is nominated anew");
        let checked = check(&mut agent, now, path(2), &new(vec![nominate()])).unwrap();
        assert_eq!((checked.retired.as_deref(), agent.selected()), (Some("us"), Some(path(2))));
        assert!(check(&mut agent, now, path(1), &old(vec![nominate()])).is_err());
        agent.forget(&path(2));
        assert_eq!(agent.selected(), None, "an address from before the restart is no way any more");
        check(&mut agent, now, path(3), &new(vec![])).unwrap();
        assert_eq!(agent.selected(), Some(path(3)), "any is better than none");
    }

    #[test]
    fn restarts_that_come_to_nothing_leave_nothing_behind() {
        let (mut agent, now) = agent();
        assert_eq!(agent.restart("0".into(), "p".into()), Some("us".into()), "nothing was begun");
        check(&mut agent, now, path(1), &request_of("0", "p", vec![Flag(ATTR_USE_CANDIDATE, &[])])).unwrap();
        assert_eq!(agent.restart("1".into(), "p".into()), None);
        for n in 2..1000 {
            assert_eq!(agent.restart(n.to_string(), "p".into()), Some((n - 1).to_string()));
        }
        assert_eq!(agent.ufrags().collect::<Vec<_>>(), ["999", "0"]);
        assert_eq!(agent.selected(), Some(path(1)));
    }

    #[test]
    fn without_consent_nothing_is_sent_but_the_client_may_come_back() {
        let (mut agent, now) = agent();
        let nominating = request("secret-password", vec![Flag(ATTR_USE_CANDIDATE, &[])]);
        check(&mut agent, now, path(1), &nominating).unwrap();
        let lost = now + CONSENT_TIMEOUT;
        assert_eq!(agent.next_timeout(), lost);
        agent.handle_timeout(lost);
        assert_eq!((agent.selected(), agent.last_selected()), (None, Some(path(1))));
        assert_eq!(agent.next_timeout(), lost + RESTART_GRACE);
        agent.restart("new".into(), "p".into());
        let later = lost + Duration::from_secs(5);
        check(&mut agent, later, path(2), &request_of("new", "p", vec![Flag(ATTR_USE_CANDIDATE, &[])]))
            .unwrap();
        assert_eq!(agent.selected(), Some(path(2)));
        assert_eq!(agent.expires_at(), later + CONSENT_TIMEOUT + RESTART_GRACE);
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
        assert_eq!(agent.peers().count(), 0);
    }
}
