//! One received stream: its packets are put in order, missing ones asked for, and what comes out is checked.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    Content,
    frames::{Frames, Piece},
    rtcp::Block,
    unknown::UnknownFrames,
};
use crate::{
    meter::{Meters, Received},
    payload::{self, vp8},
    recording::{Codec, Place},
};

/// Most packets that wait for a missing one. A picture of 8 Mbit/s has as many in a second.
const WINDOW: usize = 1024;
/// A missing packet is asked for again after that time, or after a round trip if that is longer.
const NACK_INTERVAL: Duration = Duration::from_millis(80);
/// A missing packet of a picture is given up after that time; browsers wait about as long.
const PATIENCE: Duration = Duration::from_millis(800);
/// A missing packet of a sound, which is concealed.
const SOUND_PATIENCE: Duration = Duration::from_millis(120);
/// Time between requests for a key frame.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(300);

/// A received packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet<'p> {
    pub(super) sequence: u16,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    pub(super) bytes: usize,
    /// Empty if it is padding.
    pub(super) payload: &'p [u8],
    pub(super) retransmitted: bool,
}

#[derive(Debug)]
enum Slot {
    Missing {
        since: Instant,
        asked: Option<Instant>,
    },
    /// With whether it begins a frame, and that a key frame, where no recording tells.
    Came(Piece, Option<bool>),
    Padding,
}

/// What comes out.
#[derive(Debug)]
enum Checked {
    Known(Frames),
    Unknown(UnknownFrames),
}

impl Checked {
    fn needs_key_frame(&self) -> bool {
        match self {
            Self::Known(frames) => frames.needs_key_frame(),
            Self::Unknown(frames) => frames.needs_key_frame(),
        }
    }

    fn lost(&mut self) {
        match self {
            Self::Known(frames) => frames.lost(),
            Self::Unknown(frames) => frames.lost(),
        }
    }

    fn first(&self) -> Option<Instant> {
        match self {
            Self::Known(frames) => frames.first,
            Self::Unknown(frames) => frames.first,
        }
    }
}

/// One received stream.
#[derive(Debug)]
pub struct Receiver {
    pub(super) ssrc: u32,
    content: Content,
    /// Slots from the first that is missing.
    slots: VecDeque<Slot>,
    /// The extended number of the first slot.
    next: Option<u64>,
    missing: usize,
    /// Place of the packet that came last.
    place: Option<Place>,
    frames: Checked,
    last_frame: Option<Instant>,
    longest_gap: Duration,
    /// A key frame was asked for.
    asked: Option<Instant>,
    reception: Reception,
    /// What came.
    pub counts: Received,
}

/// For reports (RFC 3550 §6.4.1, A.3, A.8).
#[derive(Debug, Default)]
struct Reception {
    first: u64,
    packets: u64,
    reported: (u64, u64),
    began: Option<Instant>,
    transit: Option<i64>,
    jitter: f64,
    last_report: Option<(u32, Instant)>,
}

impl Receiver {
    /// Nothing came yet.
    pub(super) fn new(ssrc: u32, content: Content) -> Self {
        let frames = match &content {
            Content::Track(_) => Checked::Known(Frames::default()),
            Content::Unknown(_) => Checked::Unknown(UnknownFrames::default()),
        };
        Self {
            ssrc,
            content,
            slots: VecDeque::new(),
            next: None,
            missing: 0,
            place: None,
            frames,
            last_frame: None,
            longest_gap: Duration::ZERO,
            asked: None,
            reception: Reception::default(),
            counts: Received::default(),
        }
    }

    fn codec(&self) -> Codec {
        self.content.codec()
    }

    /// When the first whole frame was there.
    #[must_use]
    pub fn first_frame(&self) -> Option<Instant> {
        self.frames.first()
    }

    /// When the last whole frame was there.
    #[must_use]
    pub fn last_frame(&self) -> Option<Instant> {
        self.last_frame
    }

    /// The longest time from one whole frame to the next since this was asked last.
    pub fn take_longest_gap(&mut self) -> Duration {
        std::mem::take(&mut self.longest_gap)
    }

    fn highest(&self) -> Option<u64> {
        self.next.map(|next| (next + self.slots.len() as u64).wrapping_sub(1))
    }

    /// A packet came.
    pub(super) fn receive(&mut self, arrival: Instant, packet: Packet<'_>, meters: &mut Meters) {
        let sequence = match self.highest() {
            None => (1 << 32) | u64::from(packet.sequence),
            Some(highest) => {
                let ahead = packet.sequence.wrapping_sub(highest as u16) as i16;
                highest.wrapping_add_signed(ahead.into())
            }
        };
        if self.next.is_none() {
            self.reception.first = sequence;
        }
        let next = *self.next.get_or_insert(sequence);
        let Some(at) = sequence.checked_sub(next).map(|at| at as usize) else {
            self.counts.duplicates += 1;
            return;
        };
        if at >= WINDOW {
            self.leap(sequence);
            return self.receive(arrival, packet, meters);
        }
        if matches!(self.slots.get(at), Some(Slot::Came(..) | Slot::Padding)) {
            self.counts.duplicates += 1;
            return;
        }
        let known = self.slots.len();
        self.counts.missed += at.saturating_sub(known) as u64;
        while self.slots.len() <= at {
            self.slots.push_back(Slot::Missing { since: arrival, asked: None });
            self.missing += 1;
        }
        self.missing -= 1;
        match (at < known, packet.retransmitted) {
            (true, true) => self.counts.retransmitted += 1,
            // It was late only.
            (true, false) => self.counts.missed -= 1,
            (false, _) => {}
        }
        self.counts.packets += 1;
        self.counts.bytes += packet.bytes as u64;
        self.slots[at] = self.slot(arrival, &packet, meters);
        self.reception(arrival, &packet);
        self.advance(meters);
    }

    fn slot(&mut self, arrival: Instant, packet: &Packet<'_>, meters: &mut Meters) -> Slot {
        if packet.payload.is_empty() {
            return Slot::Padding;
        }
        let (numbers, chunk) = match self.codec() {
            Codec::Vp8 => match vp8::Descriptor::read(packet.payload) {
                Some((descriptor, length)) => {
                    let numbers = descriptor.picture.and_then(|picture| Some((picture, descriptor.tl0?)));
                    (numbers, &packet.payload[length..])
                }
                None => (None, packet.payload),
            },
            Codec::H264 | Codec::Opus => (None, packet.payload),
        };
        let mut piece = Piece {
            at: arrival,
            timestamp: packet.timestamp,
            marker: packet.marker || self.codec().is_audio(),
            place: None,
            numbers,
        };
        let Content::Track(track) = &self.content else {
            return Slot::Came(piece, payload::begins_frame(self.codec(), packet.payload));
        };
        let expected = self.place.map(|place| track.recording().following(place));
        piece.place = track.recording().find(chunk, expected);
        self.place = piece.place.or(self.place);
        if let Some(age) = piece.place.filter(|_| !packet.retransmitted).and_then(|p| track.age(arrival, p)) {
            let meter = if self.codec().is_audio() { &mut meters.sound } else { &mut meters.picture };
            meter.add(age);
        }
        Slot::Came(piece, None)
    }

    /// Takes what is in order.
    fn advance(&mut self, meters: &mut Meters) {
        while let Some(Slot::Came(..) | Slot::Padding) = self.slots.front() {
            if let Some(Slot::Came(piece, begins)) = self.slots.pop_front() {
                self.come(piece, begins, meters);
            }
            self.next = self.next.map(|next| next + 1);
        }
    }

    /// The next packet in order.
    fn come(&mut self, piece: Piece, begins: Option<bool>, meters: &mut Meters) {
        let whole = self.counts.frames;
        let gap = match (&mut self.frames, &self.content) {
            (Checked::Known(frames), Content::Track(track)) => {
                frames.piece(track.recording(), piece, &mut self.counts)
            }
            (Checked::Unknown(frames), _) => frames.piece(&piece, begins, &mut self.counts),
            (Checked::Known(_), Content::Unknown(_)) => None,
        };
        if self.counts.frames > whole {
            self.last_frame = Some(piece.at);
        }
        if let Some(gap) = gap {
            self.longest_gap = self.longest_gap.max(gap);
            if !self.codec().is_audio() {
                meters.gaps.add(gap);
            }
        }
    }

    /// Gives up everything before a packet that is far ahead.
    fn leap(&mut self, to: u64) {
        let Some(next) = self.next else { return };
        let came = self.slots.len() - self.missing;
        self.counts.lost += to - next - came as u64;
        self.counts.missed += to - next - came as u64;
        self.slots.clear();
        self.missing = 0;
        self.next = Some(to);
        self.frames.lost();
    }

    /// When [`Self::take_missing`] or [`Self::wants_key_frame`] may have something to say.
    pub(super) fn next_timeout(&self, now: Instant) -> Option<Instant> {
        let repeated = self.asked.map_or(now, |asked| asked + KEY_FRAME_INTERVAL);
        let key_frame = self.starves().then_some(repeated);
        let missing = (self.missing > 0).then_some(now + NACK_INTERVAL / 4);
        [key_frame, missing].into_iter().flatten().min()
    }

    /// There are packets, but nothing that can be decoded.
    fn starves(&self) -> bool {
        !self.codec().is_audio() && self.next.is_some() && self.frames.needs_key_frame()
    }

    /// Whether a key frame is to be asked for now.
    pub(super) fn wants_key_frame(&mut self, now: Instant) -> bool {
        let due = self.asked.is_none_or(|asked| now >= asked + KEY_FRAME_INTERVAL);
        if !self.starves() || !due {
            return false;
        }
        self.asked = Some(now);
        self.counts.key_frame_requests += 1;
        true
    }

    /// Packets to ask for now, ascending. What is missing for too long is given up.
    pub(super) fn take_missing(&mut self, now: Instant, meters: &mut Meters, out: &mut Vec<u16>) {
        if self.missing == 0 {
            return;
        }
        let sound = self.codec().is_audio();
        let patience = if sound { SOUND_PATIENCE } else { PATIENCE };
        while let Some(Slot::Missing { since, .. }) = self.slots.front() {
            if now < *since + patience {
                break;
            }
            self.slots.pop_front();
            self.missing -= 1;
            self.next = self.next.map(|next| next + 1);
            self.counts.lost += 1;
            self.frames.lost();
            self.advance(meters);
        }
        if sound {
            return;
        }
        let Some(next) = self.next else { return };
        for (slot, sequence) in self.slots.iter_mut().zip(next..) {
            if let Slot::Missing { asked, .. } = slot
                && asked.is_none_or(|asked| now >= asked + NACK_INTERVAL)
            {
                *asked = Some(now);
                self.counts.nacks += 1;
                out.push(sequence as u16);
            }
        }
    }

    /// A sender report came.
    pub(super) fn sender_report(&mut self, now: Instant, ntp: u64) {
        self.reception.last_report = Some(((ntp >> 16) as u32, now));
    }

    fn reception(&mut self, arrival: Instant, packet: &Packet<'_>) {
        self.reception.packets += 1;
        if packet.retransmitted {
            return;
        }
        let rate = if self.codec().is_audio() { 48_000 } else { 90_000 };
        let began = *self.reception.began.get_or_insert(arrival);
        let micros = arrival.saturating_duration_since(began).as_micros() as i64;
        let transit = (micros * rate / 1_000_000) as u32;
        let transit = i64::from(transit.wrapping_sub(packet.timestamp) as i32);
        if let Some(before) = self.reception.transit.replace(transit) {
            let change = (transit - before).abs() as f64;
            self.reception.jitter += (change - self.reception.jitter) / 16.0;
        }
    }

    /// What a receiver report says of the stream.
    pub(super) fn report(&mut self, now: Instant) -> Option<Block> {
        let highest = self.highest()?;
        let reception = &mut self.reception;
        let expected = highest + 1 - reception.first;
        let lost = expected as i64 - reception.packets as i64;
        let (expected_before, packets_before) =
            std::mem::replace(&mut reception.reported, (expected, reception.packets));
        let expected_now = (expected - expected_before) as i64;
        let lost_now = expected_now - (reception.packets - packets_before) as i64;
        let fraction = if expected_now > 0 { (lost_now.max(0) * 256 / expected_now).min(255) } else { 0 };
        let (last, delay) = reception.last_report.map_or((0, 0), |(report, at)| {
            let delay = now.saturating_duration_since(at);
            (report, (delay.as_secs_f64() * 65_536.0) as u32)
        });
        Some(Block {
            ssrc: self.ssrc,
            fraction_lost: fraction as u8,
            total_lost: lost.clamp(-(1 << 23), (1 << 23) - 1) as i32,
            highest: highest as u32,
            jitter: reception.jitter as u32,
            last,
            delay,
        })
    }
}
