//! Data channels of one transport without I/O: SCTP over DTLS (RFC 8261) with the channels that the client opens on it (RFC 8831 and
//! RFC 8832). The protocol itself is `rtc-sctp`'s; [`Sctp`] drives it, and keeps what a client can make it hold within bounds.

mod association;
mod channel;
mod guard;
#[cfg(test)]
mod hostile;
mod packet;

pub use association::{Sctp, SctpEvent};
pub use channel::{ChannelId, Message, Reliability, Sent};

use std::time::Duration;

/// Longest message in either direction, in bytes; what answers announce (RFC 8841 §6.1).
pub const MAX_MESSAGE: usize = 65_536;
/// Channels of one transport. More are closed as soon as they are opened.
pub const MAX_CHANNELS: usize = 256;
/// Streams of one association, as announced to the client: a channel that was closed keeps its stream until the client resets it.
const MAX_STREAMS: u16 = 1024;
/// What may wait to be sent, or to be acknowledged, on one channel, in bytes. That is four seconds of 8 Mbit/s; a client that is
/// further behind is not catching up.
pub const MAX_BUFFERED: usize = 4 * 1024 * 1024;
/// The same for all channels of a transport.
pub const MAX_BUFFERED_TOTAL: usize = 4 * MAX_BUFFERED;
/// What a message costs beyond its bytes in [`MAX_BUFFERED`], so that many empty ones are bounded as well.
const MESSAGE_OVERHEAD: usize = 256;
/// The receive window, in bytes: four of the longest messages. A client that sends a single message as long as that loses the
/// association.
const RECEIVE_WINDOW: u32 = 4 * MAX_MESSAGE as u32;
/// Time without any acknowledgement after which an association with something to send is given up: twice the longest pause between two
/// attempts (RFC 9260 §16, RTO.Max).
const STALL: Duration = Duration::from_secs(120);
