//! The media link's two ends at this node: tracks that it consumes ([`Receiver`], [`VideoSource`], [`AudioSource`]) and tracks
//! that it produces ([`Outputs`], [`OutputTrack`]).

mod clock;
mod outputs;
mod receiver;
mod source;
mod throttle;
mod track;

pub use clock::MediaClock;
pub use outputs::{AttachError, Outputs};
pub use receiver::{Flow, Receiver};
pub use source::{AudioSource, Failure, LinkContext, SourceError, VideoSource, VideoSources};
pub use throttle::{Backoff, Throttle};
pub use track::{OutputTrack, TrackDescription};

use std::{io, net::IpAddr};

/// Bytes of the kernel's buffer for a link socket: a key frame of each of a view's inputs may come at once.
const SOCKET_BUFFER: usize = 4 << 20;
/// Largest datagram taken; larger ones are cut off and then not authentic.
const MAX_DATAGRAM: usize = 2048;

/// A UDP socket for the media link on a free port.
///
/// # Errors
/// If the address is not of this machine.
fn bind(address: IpAddr) -> io::Result<std::net::UdpSocket> {
    let socket =
        socket2::Socket::new(socket2::Domain::for_address((address, 0).into()), socket2::Type::DGRAM, None)?;
    // The kernel may grant less, which costs packets only under load.
    let _granted = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _granted = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&std::net::SocketAddr::from((address, 0)).into())?;
    Ok(socket.into())
}
