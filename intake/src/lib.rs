//! The consuming end of the media link: tracks of other nodes come in on one UDP socket ([`Receiver`]), each kept attached by a task of its
//! own for as long as somebody wants it ([`Track`]), once for all who do.

mod fan;
mod lateness;
mod receiver;
mod throttle;
mod track;

pub use lateness::Lateness;
pub use receiver::Receiver;
pub use throttle::{Backoff, Throttle};
pub use track::{Consumer, Failure, IntakeError, LinkContext, Track, Wants};

use std::{io, net::IpAddr};

use bytes::BytesMut;

/// Bytes of the kernel's buffer for a link socket: a key frame of each of a view's inputs may come at once.
const SOCKET_BUFFER: usize = 4 << 20;
/// Largest datagram taken; larger ones are cut off and then not authentic.
pub const MAX_DATAGRAM: usize = 2048;

/// What comes from a producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A plain RTP packet.
    Packet(BytesMut),
    /// Which NTP time an RTP timestamp of the track stands for (RFC 3550 §6.4.1), by the clock of whoever captured it.
    SenderReport {
        /// 32 bits of seconds since 1900 and 32 of fractions.
        ntp: u64,
        /// RTP timestamp.
        rtp: u32,
    },
}

/// A UDP socket for the media link on a free port.
///
/// # Errors
/// If the address is not of this machine.
pub fn bind(address: IpAddr) -> io::Result<std::net::UdpSocket> {
    let socket =
        socket2::Socket::new(socket2::Domain::for_address((address, 0).into()), socket2::Type::DGRAM, None)?;
    // The kernel may grant less, which costs packets only under load.
    let _granted = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _granted = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&std::net::SocketAddr::from((address, 0)).into())?;
    Ok(socket.into())
}
