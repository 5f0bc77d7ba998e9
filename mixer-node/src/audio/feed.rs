//! The way of an input's packets from the network to the audio thread.

use std::{collections::VecDeque, time::Instant};

use bytes::BytesMut;
use parking_lot::Mutex;

use super::AudioCodec;

/// Packets that wait for the next tick. A tick takes them all, so more than a handful means that the thread hangs.
const MAX_WAITING: usize = 64;

/// What is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Grows with each stream of the feed.
    pub number: u64,
    /// Its codec.
    pub codec: AudioCodec,
    /// Id of the header extension with the audio level (RFC 6464), if its packets have one.
    pub level_id: Option<u8>,
}

/// One input's packets. Both sides hold the lock only to exchange pointers.
#[derive(Debug, Default)]
pub struct AudioFeed(Mutex<Feed>);

#[derive(Debug, Default)]
struct Feed {
    attached: Option<Attached>,
    packets: VecDeque<(Instant, BytesMut)>,
}

impl AudioFeed {
    /// A (new) source is attached: what comes from now on is a stream of its own.
    pub fn attach(&self, codec: AudioCodec, level_id: Option<u8>) {
        let mut feed = self.0.lock();
        let number = feed.attached.map_or(0, |attached| attached.number + 1);
        feed.attached = Some(Attached { number, codec, level_id });
        feed.packets.clear();
    }

    /// Takes an RTP packet; the oldest goes if too many wait.
    pub fn push(&self, packet: BytesMut, now: Instant) {
        let mut feed = self.0.lock();
        if feed.packets.len() >= MAX_WAITING {
            feed.packets.pop_front();
        }
        feed.packets.push_back((now, packet));
    }

    /// The stream that is attached, if any ever was, and its packets; `packets` is emptied first.
    pub fn drain(&self, packets: &mut VecDeque<(Instant, BytesMut)>) -> Option<Attached> {
        packets.clear();
        let mut feed = self.0.lock();
        std::mem::swap(&mut feed.packets, packets);
        feed.attached
    }
}
