//! Padding (RFC 3550 §5.1): packets of nothing, by which the way to a client is probed, and a few bytes at the end of others.

use std::time::Instant;

use kaigi_media::rtp::write_header;

use super::{Forwarder, Outlet, sink::Destination};
use crate::{keys::SinkKey, pacing::Class};

/// Padding of one packet; a byte says how much it is (RFC 3550 §5.1).
const MOST: usize = 255;
/// About what a packet has besides, in bytes: header and extensions.
const OVERHEAD: usize = 20;

/// Adds padding of so many bytes, at most [`MOST`], to a packet that has none.
pub(super) fn pad(packet: &mut Vec<u8>, bytes: usize) {
    let Some(count) = u8::try_from(bytes).ok().filter(|count| *count > 0) else { return };
    let Some(first) = packet.first_mut() else { return };
    *first |= 0x20;
    packet.resize(packet.len() + bytes, 0);
    if let Some(last) = packet.last_mut() {
        *last = count;
    }
}

impl Forwarder {
    /// Sends packets of padding to a sink's client, so many bytes together at least, on the source of retransmissions: receivers take
    /// nothing from them, and no number of the stream is used up. Whether there is such a source.
    pub fn pad(&mut self, now: Instant, key: SinkKey, bytes: usize, out: &mut impl Outlet) -> bool {
        let Self { sinks, scratch, .. } = self;
        let Some(sink) = sinks.get_mut(key).filter(|sink| sink.flows()) else { return false };
        let Destination::Client(stream) = &mut sink.to else { return false };
        let Some((ssrc, payload_type)) = stream.parameters.rtx else { return false };
        let count = bytes.div_ceil(MOST + OVERHEAD);
        for _ in 0..count {
            let padding = (bytes / count).saturating_sub(OVERHEAD).clamp(1, MOST);
            let (sequence, timestamp) = stream.next_padding();
            scratch.clear();
            write_header(scratch, false, payload_type, sequence, timestamp, ssrc.0);
            let written = stream.write_extensions(scratch, None);
            pad(scratch, padding);
            out.client_rtp(
                now,
                stream.parameters.transport,
                scratch,
                written.transport_cc_at,
                Class::Padding,
            );
        }
        true
    }

    /// Whether [`Self::pad`] can send anything.
    #[must_use]
    pub fn can_pad(&self, key: SinkKey) -> bool {
        let sink = self.sinks.get(key).filter(|sink| sink.flows());
        sink.is_some_and(|sink| matches!(&sink.to, Destination::Client(s) if s.parameters.rtx.is_some()))
    }
}
