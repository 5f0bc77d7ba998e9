//! What one client has of the server: a relayed address, and the peers that it may talk with there.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use rtc_stun::message::TransactionId;

use super::{
    credentials::User,
    rate::{Bitrate, Bucket},
    refusal::Refusal,
};

/// RFC 8656 §9.
const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);
/// RFC 8656 §12.
const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);
/// Most addresses with permission, and most channels, of one allocation. A browser has one of each for each candidate of the other side.
const MAX_PEERS: usize = 128;

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AllocationId(pub u64);

/// Of a relayed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// A number in place of a peer's address (RFC 8656 §12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Channel(pub(super) u16);

impl Channel {
    /// `None` for numbers that are none of channels. Up to 0x7FFF, as in RFC 5766: there are such clients.
    pub(super) fn new(number: u16) -> Option<Self> {
        (0x4000..0x8000).contains(&number).then_some(Self(number))
    }
}

#[derive(Debug)]
struct Bound {
    peer: SocketAddr,
    until: Instant,
}

#[derive(Debug)]
pub(super) struct Allocation {
    pub(super) id: AllocationId,
    pub(super) user: User,
    /// Signs what the user asks and is answered.
    pub(super) key: Vec<u8>,
    /// Of the request that made it, which may be repeated.
    pub(super) transaction: TransactionId,
    pub(super) family: Family,
    /// `None` until there is a socket.
    pub(super) relayed: Option<SocketAddr>,
    pub(super) expires: Instant,
    permissions: HashMap<IpAddr, Instant>,
    channels: HashMap<Channel, Bound>,
    numbers: HashMap<SocketAddr, Channel>,
    pub(super) to_peers: Bucket,
    pub(super) from_peers: Bucket,
}

/// What makes an allocation.
pub(super) struct Grant {
    pub(super) id: AllocationId,
    pub(super) user: User,
    pub(super) key: Vec<u8>,
    pub(super) transaction: TransactionId,
    pub(super) family: Family,
    pub(super) lifetime: Duration,
    pub(super) rate: Bitrate,
}

impl Allocation {
    pub(super) fn new(grant: Grant, now: Instant) -> Self {
        let Grant { id, user, key, transaction, family, lifetime, rate } = grant;
        Self {
            id,
            user,
            key,
            transaction,
            family,
            relayed: None,
            expires: now + lifetime,
            permissions: HashMap::new(),
            channels: HashMap::new(),
            numbers: HashMap::new(),
            to_peers: Bucket::new(rate, now),
            from_peers: Bucket::new(rate, now),
        }
    }

    /// Lets these peers in, all or none.
    pub(super) fn permit(
        &mut self,
        peers: impl IntoIterator<Item = IpAddr>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let new: Vec<IpAddr> = peers.into_iter().collect();
        let more = new.iter().filter(|peer| !self.permissions.contains_key(*peer)).count();
        if self.permissions.len() + more > MAX_PEERS {
            return Err(Refusal::Capacity);
        }
        self.permissions.extend(new.into_iter().map(|peer| (peer, now + PERMISSION_LIFETIME)));
        Ok(())
    }

    /// Whether datagrams of that peer are let in, and sent to it.
    pub(super) fn permits(&self, peer: IpAddr, now: Instant) -> bool {
        self.permissions.get(&peer).is_some_and(|until| *until > now)
    }

    /// Binds a channel to a peer, or keeps it bound, and lets the peer in.
    pub(super) fn bind(&mut self, channel: Channel, peer: SocketAddr, now: Instant) -> Result<(), Refusal> {
        let of_channel = self.channels.get(&channel).map(|bound| bound.peer);
        let of_peer = self.numbers.get(&peer).copied();
        if of_channel.is_some_and(|bound| bound != peer) || of_peer.is_some_and(|number| number != channel) {
            return Err(Refusal::BadRequest);
        }
        if of_channel.is_none() && self.channels.len() >= MAX_PEERS {
            return Err(Refusal::Capacity);
        }
        self.permit([peer.ip()], now)?;
        self.channels.insert(channel, Bound { peer, until: now + CHANNEL_LIFETIME });
        self.numbers.insert(peer, channel);
        Ok(())
    }

    /// The peer of a channel.
    pub(super) fn peer_of(&self, channel: Channel, now: Instant) -> Option<SocketAddr> {
        self.channels.get(&channel).filter(|bound| bound.until > now).map(|bound| bound.peer)
    }

    /// The channel of a peer.
    pub(super) fn channel_of(&self, peer: SocketAddr, now: Instant) -> Option<Channel> {
        let channel = *self.numbers.get(&peer)?;
        self.peer_of(channel, now).map(|_| channel)
    }

    /// Forgets what is over.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.permissions.retain(|_, until| *until > now);
        self.channels.retain(|_, bound| bound.until > now);
        self.numbers.retain(|_, channel| self.channels.contains_key(channel));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allocation(now: Instant) -> Allocation {
        let grant = Grant {
            id: AllocationId(1),
            user: User::new(b"1:a").unwrap(),
            key: Vec::new(),
            transaction: TransactionId::new(),
            family: Family::V4,
            lifetime: Duration::from_secs(600),
            rate: Bitrate(1000),
        };
        Allocation::new(grant, now)
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn permissions_and_channels_end() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut own = allocation(start);
        let (channel, peer) = (Channel::new(0x4000).unwrap(), at("192.0.2.1:5"));
        own.bind(channel, peer, start).unwrap();
        assert!(own.permits(peer.ip(), after(299)) && !own.permits(peer.ip(), after(300)));
        assert_eq!(own.channel_of(peer, after(599)), Some(channel));
        assert_eq!((own.peer_of(channel, after(600)), own.channel_of(peer, after(600))), (None, None));
        own.sweep(after(600));
        own.bind(channel, at("192.0.2.2:5"), after(600)).unwrap();
    }

    #[test]
    fn a_channel_has_one_peer_and_a_peer_one_channel() {
        let now = Instant::now();
        let mut own = allocation(now);
        let (first, second) = (Channel::new(0x4000).unwrap(), Channel::new(0x7fff).unwrap());
        own.bind(first, at("192.0.2.1:5"), now).unwrap();
        own.bind(first, at("192.0.2.1:5"), now).unwrap();
        assert_eq!(own.bind(first, at("192.0.2.1:6"), now), Err(Refusal::BadRequest));
        assert_eq!(own.bind(second, at("192.0.2.1:5"), now), Err(Refusal::BadRequest));
        assert_eq!((Channel::new(0x3fff), Channel::new(0x8000)), (None, None));
    }

    #[test]
    fn one_allocation_has_so_many_peers_and_no_more() {
        let now = Instant::now();
        let mut own = allocation(now);
        let peers =
            |count: u32| (0..count).map(|n| IpAddr::from(std::net::Ipv4Addr::from_bits(0x0808_0000 + n)));
        own.permit(peers(128), now).unwrap();
        own.permit(peers(128), now).unwrap();
        assert_eq!(own.permit(peers(129), now), Err(Refusal::Capacity));
        own.sweep(now + PERMISSION_LIFETIME);
        own.permit(peers(129).skip(100), now).unwrap();
    }
}
