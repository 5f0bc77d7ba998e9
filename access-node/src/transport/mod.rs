//! One client's transport without I/O: ICE-lite ([`IceLite`]), DTLS ([`Dtls`]) and SRTP ([`Srtp`]), and what tells their datagrams
//! apart ([`classify`]).

mod demux;
mod dtls;
mod ice;
mod srtp;
mod tcp_framing;

pub use demux::{Class, classify, stun_user_name};
pub use dtls::{Certificate, Dtls, DtlsError, SrtpKeys};
pub use ice::{CONSENT_TIMEOUT, CheckError, Checked, IceLite, RESTART_GRACE};
pub use srtp::{Srtp, SrtpError};
pub use tcp_framing::{Deframer, FrameTooLong, MAX_FRAME, frame};

use std::net::{IpAddr, SocketAddr};

/// A TCP connection of the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// Where a peer is: the key by which its datagrams are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer {
    /// The peer's address.
    pub address: SocketAddr,
    /// Over which TCP connection; `None` for UDP.
    pub tcp: Option<ConnectionId>,
}

/// The way to and from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The other end.
    pub peer: Peer,
    /// The own address that the peer sends to, if known: answers must leave from it.
    pub local: Option<IpAddr>,
}
