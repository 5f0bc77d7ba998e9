//! What clients ask (RFC 8489, RFC 8656 §7 to §12).

use std::{net::SocketAddr, time::Duration};

use rtc_stun::{
    attributes::{
        ATTR_CHANNEL_NUMBER, ATTR_EVEN_PORT, ATTR_LIFETIME, ATTR_MESSAGE_INTEGRITY, ATTR_NONCE, ATTR_REALM,
        ATTR_REQUESTED_ADDRESS_FAMILY, ATTR_REQUESTED_TRANSPORT, ATTR_RESERVATION_TOKEN, ATTR_USERNAME,
    },
    integrity::MessageIntegrity,
    message::{
        CLASS_SUCCESS_RESPONSE, METHOD_ALLOCATE, METHOD_BINDING, METHOD_CHANNEL_BIND,
        METHOD_CREATE_PERMISSION, METHOD_REFRESH, Message, Setter,
    },
    textattrs::TextAttribute,
    xoraddr::XorMappedAddress,
};
use rtc_turn::proto::{lifetime::Lifetime, relayaddr::RelayedAddress};

use super::{
    allocation::{Allocation, AllocationId, Channel, Family, Grant},
    credentials::User,
    message::{Signature, answer, attribute, number, peers, refuse, unknown},
    refusal::Refusal,
    server::{Flow, Now, Output, Server},
};

/// RFC 8656 §3.2: what clients get that ask for less, or for nothing.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(600);
/// Protocol number of UDP.
const UDP: u32 = 17;
/// Bytes of MESSAGE-INTEGRITY.
const INTEGRITY: usize = 20;

/// Whose request it is, as its signature shows.
struct Asker {
    user: User,
    key: Vec<u8>,
}

type Attributes = Vec<Box<dyn Setter>>;

impl Server {
    pub(super) fn handle_request(&mut self, flow: Flow, request: &mut Message, now: Now) {
        let method = request.typ.method;
        if method == METHOD_BINDING {
            let refusal = unknown(request);
            let mapped: Attributes = vec![Box::new(mapped(flow))];
            let answered = match refusal.is_empty() {
                true => answer(request, CLASS_SUCCESS_RESPONSE, mapped, None),
                false => refuse(request, &Refusal::UnknownAttributes(refusal), Vec::new(), None),
            };
            self.outputs.extend(answered.map(|answer| Output::ToClient(flow, answer)));
            return;
        }
        if ![METHOD_ALLOCATE, METHOD_REFRESH, METHOD_CREATE_PERMISSION, METHOD_CHANNEL_BIND].contains(&method)
        {
            self.counters.malformed += 1;
            return;
        }
        let asker = match self.authenticate(flow, request, now) {
            Ok(asker) => asker,
            Err(refusal) => return self.refuse(flow, request, &refusal, None, now),
        };
        let done = match unknown(request) {
            kinds if !kinds.is_empty() => Err(Refusal::UnknownAttributes(kinds)),
            _ if method == METHOD_ALLOCATE => match self.allocate(flow, request, &asker, now) {
                // Answered when there is a socket.
                Ok(()) => return,
                Err(refusal) => Err(refusal),
            },
            _ if method == METHOD_REFRESH => self.refresh(flow, request, &asker, now),
            _ if method == METHOD_CREATE_PERMISSION => self.create_permission(flow, request, &asker, now),
            _ => self.bind_channel(flow, request, &asker, now),
        };
        match done {
            Ok(attributes) => {
                let signature = Signature { key: &asker.key, crypto: self.crypto.crypto() };
                let answer = answer(request, CLASS_SUCCESS_RESPONSE, attributes, Some(&signature));
                self.outputs.extend(answer.map(|answer| Output::ToClient(flow, answer)));
            }
            Err(refusal) => self.refuse(flow, request, &refusal, Some(&asker.key), now),
        }
    }

    fn refuse(&mut self, flow: Flow, request: &Message, refusal: &Refusal, key: Option<&[u8]>, now: Now) {
        let more: Attributes = match refusal {
            Refusal::Challenge | Refusal::Unauthorized | Refusal::StaleNonce => {
                let nonce = self.nonces.make(flow.client().ip(), now.unix);
                vec![
                    Box::new(TextAttribute::new(ATTR_REALM, self.config.realm.clone())),
                    Box::new(TextAttribute::new(ATTR_NONCE, nonce)),
                ]
            }
            _ => Vec::new(),
        };
        // That a nonce gets old is no trouble either.
        if !matches!(refusal, Refusal::Challenge | Refusal::StaleNonce) {
            *self.counters.refused.entry(refusal.code()).or_default() += 1;
        }
        let signature = key.map(|key| Signature { key, crypto: self.crypto.crypto() });
        let answer = refuse(request, refusal, more, signature.as_ref());
        self.outputs.extend(answer.map(|answer| Output::ToClient(flow, answer)));
    }

    /// RFC 8489 §9.2.4.
    fn authenticate(&self, flow: Flow, request: &mut Message, now: Now) -> Result<Asker, Refusal> {
        if attribute(request, ATTR_MESSAGE_INTEGRITY).ok_or(Refusal::Challenge)?.len() != INTEGRITY {
            return Err(Refusal::BadRequest);
        }
        let text = |kind| attribute(request, kind).ok_or(Refusal::BadRequest);
        let (name, realm, nonce) = (text(ATTR_USERNAME)?, text(ATTR_REALM)?, text(ATTR_NONCE)?);
        if !self.nonces.accepts(nonce, flow.client().ip(), now.unix) {
            return Err(Refusal::StaleNonce);
        }
        let user =
            User::new(name).filter(|_| realm == self.config.realm.as_bytes()).ok_or(Refusal::Unauthorized)?;
        let own = self.allocations.get(&flow).filter(|own| own.user == user);
        // Who has an allocation keeps it: a call may be longer than the credentials that it began with are good for.
        if own.is_none() && !user.is_good_at(now.unix) {
            return Err(Refusal::Unauthorized);
        }
        let key = match own {
            Some(own) => own.key.clone(),
            None => self.key(&user).ok_or(Refusal::Unauthorized)?,
        };
        match MessageIntegrity::check(request, &key, self.crypto.crypto()) {
            Ok(()) => {
                cut_behind_signature(request);
                Ok(Asker { user, key })
            }
            Err(_) => Err(Refusal::Unauthorized),
        }
    }

    fn key(&self, user: &User) -> Option<Vec<u8>> {
        let (name, realm) = (user.name().to_owned(), self.config.realm.clone());
        let password = self.config.secret.credential(user);
        MessageIntegrity::long_term_integrity_key(name, realm, password, self.crypto.crypto()).ok()
    }

    fn allocate(&mut self, flow: Flow, request: &Message, asker: &Asker, now: Now) -> Result<(), Refusal> {
        if let Some(own) = self.allocations.get(&flow) {
            if own.transaction != request.transaction_id || own.user != asker.user {
                return Err(Refusal::AllocationMismatch);
            }
            // The answer was lost.
            self.answer_allocate(flow, Ok(()), now);
            return Ok(());
        }
        let protocol = number(request, ATTR_REQUESTED_TRANSPORT)?.ok_or(Refusal::BadRequest)? >> 24;
        if protocol != UDP {
            return Err(Refusal::Transport);
        }
        let family = requested_family(request)?.unwrap_or(Family::V4);
        if !self.config.families.contains(&family) {
            return Err(Refusal::AddressFamily);
        }
        // Pairs of ports for RTP and RTCP are not reserved: no browser uses them.
        if [ATTR_EVEN_PORT, ATTR_RESERVATION_TOKEN].iter().any(|kind| attribute(request, *kind).is_some()) {
            return Err(Refusal::Capacity);
        }
        let lifetime = self.lifetime(request)?.max(DEFAULT_LIFETIME).min(self.config.limits.lifetime);
        if self.users.get(&asker.user).is_some_and(|count| *count >= self.config.limits.allocations_per_user)
        {
            return Err(Refusal::Quota);
        }
        if self.draining || self.allocations.len() >= self.config.limits.allocations {
            return Err(Refusal::Capacity);
        }
        let id = AllocationId(self.next);
        self.next += 1;
        let grant = Grant {
            id,
            user: asker.user.clone(),
            key: asker.key.clone(),
            transaction: request.transaction_id,
            family,
            lifetime,
            rate: self.config.limits.rate,
        };
        *self.users.entry(asker.user.clone()).or_default() += 1;
        self.flows.insert(id, flow);
        self.allocations.insert(flow, Allocation::new(grant, now.instant));
        self.outputs.push_back(Output::Open(id, family));
        Ok(())
    }

    /// Tells a client what became of its allocation.
    pub(super) fn answer_allocate(&mut self, flow: Flow, made: Result<(), Refusal>, now: Now) {
        let Some(own) = self.allocations.get(&flow) else { return };
        // As much of the request as an answer needs.
        let mut request = Message::new();
        request.typ.method = METHOD_ALLOCATE;
        request.transaction_id = own.transaction;
        let key = own.key.clone();
        match (made, own.relayed) {
            (Err(refusal), _) => self.refuse(flow, &request, &refusal, Some(&key), now),
            (Ok(()), None) => {}
            (Ok(()), Some(relayed)) => {
                let attributes: Attributes = vec![
                    Box::new(RelayedAddress { ip: relayed.ip(), port: relayed.port() }),
                    Box::new(Lifetime(own.expires.saturating_duration_since(now.instant))),
                    Box::new(mapped(flow)),
                ];
                let signature = Signature { key: &key, crypto: self.crypto.crypto() };
                let answer = answer(&request, CLASS_SUCCESS_RESPONSE, attributes, Some(&signature));
                self.outputs.extend(answer.map(|answer| Output::ToClient(flow, answer)));
            }
        }
    }

    fn refresh(
        &mut self,
        flow: Flow,
        request: &Message,
        asker: &Asker,
        now: Now,
    ) -> Result<Attributes, Refusal> {
        let wanted = self.lifetime(request)?;
        let family = requested_family(request)?;
        let longest = self.config.limits.lifetime;
        let own = self.own(flow, asker)?;
        if family.is_some_and(|family| family != own.family) {
            return Err(Refusal::PeerAddressFamily);
        }
        let lifetime = if wanted.is_zero() { wanted } else { wanted.max(DEFAULT_LIFETIME).min(longest) };
        own.expires = now.instant + lifetime;
        if lifetime.is_zero() {
            self.remove(flow);
        }
        Ok(vec![Box::new(Lifetime(lifetime))])
    }

    fn create_permission(
        &mut self,
        flow: Flow,
        request: &Message,
        asker: &Asker,
        now: Now,
    ) -> Result<Attributes, Refusal> {
        self.own(flow, asker)?;
        let peers = peers(request)?;
        if peers.is_empty() {
            return Err(Refusal::BadRequest);
        }
        for peer in &peers {
            let is_user = self.relayed.keys().any(|relayed| relayed.ip() == peer.ip());
            if !is_user && !self.config.peers.allow_some_of(peer.ip()) {
                return Err(Refusal::Forbidden);
            }
        }
        let own = self.own(flow, asker)?;
        check_family(own, &peers)?;
        own.permit(peers.into_iter().map(|peer| peer.ip()), now.instant)?;
        Ok(Vec::new())
    }

    fn bind_channel(
        &mut self,
        flow: Flow,
        request: &Message,
        asker: &Asker,
        now: Now,
    ) -> Result<Attributes, Refusal> {
        self.own(flow, asker)?;
        let channel =
            number(request, ATTR_CHANNEL_NUMBER)?.and_then(|number| u16::try_from(number >> 16).ok());
        let channel = channel.and_then(Channel::new).ok_or(Refusal::BadRequest)?;
        let [peer] = peers(request)?[..] else { return Err(Refusal::BadRequest) };
        if !self.relayed.contains_key(&peer) && !self.config.peers.allow(peer) {
            return Err(Refusal::Forbidden);
        }
        let own = self.own(flow, asker)?;
        check_family(own, &[peer])?;
        own.bind(channel, peer, now.instant)?;
        Ok(Vec::new())
    }

    /// The client's allocation.
    fn own(&mut self, flow: Flow, asker: &Asker) -> Result<&mut Allocation, Refusal> {
        let own = self.allocations.get_mut(&flow).filter(|own| own.relayed.is_some());
        let own = own.ok_or(Refusal::AllocationMismatch)?;
        if own.user == asker.user { Ok(own) } else { Err(Refusal::WrongCredentials) }
    }

    /// What is asked for, or the default.
    fn lifetime(&self, request: &Message) -> Result<Duration, Refusal> {
        let seconds = number(request, ATTR_LIFETIME)?;
        Ok(seconds.map_or(DEFAULT_LIFETIME, |seconds| Duration::from_secs(seconds.into())))
    }
}

/// What stands behind the signature is nobody's (RFC 8489 §14.5).
fn cut_behind_signature(request: &mut Message) {
    let attributes = &mut request.attributes.0;
    if let Some(signature) = attributes.iter().position(|attribute| attribute.typ == ATTR_MESSAGE_INTEGRITY) {
        attributes.truncate(signature);
    }
}

fn mapped(flow: Flow) -> XorMappedAddress {
    XorMappedAddress { ip: flow.client().ip(), port: flow.client().port() }
}

fn requested_family(request: &Message) -> Result<Option<Family>, Refusal> {
    match number(request, ATTR_REQUESTED_ADDRESS_FAMILY)?.map(|value| value >> 24) {
        None => Ok(None),
        Some(1) => Ok(Some(Family::V4)),
        Some(2) => Ok(Some(Family::V6)),
        Some(_) => Err(Refusal::AddressFamily),
    }
}

fn check_family(own: &Allocation, peers: &[SocketAddr]) -> Result<(), Refusal> {
    let same = peers.iter().all(|peer| Family::of(peer.ip()) == own.family);
    if same { Ok(()) } else { Err(Refusal::PeerAddressFamily) }
}
