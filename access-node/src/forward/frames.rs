//! What has come in and has not been sent yet. The packets of a frame wait for its last one, so that all of it leaves together; a decoder can't
//! begin before that one, which never waits, so this delays no frame, unless its last packet is lost or out of order. And they are written
//! for one subscriber after the other: what was written for some can leave before it is written for the next ones, while it is in
//! the processor's cache.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use kaigi_media::rtp::RtpHeader;

use super::{accept::Arrived, descriptions::Read, picture::Picture, picture_id::PictureIds};
use crate::{keys::SourceKey, pacing::Class};

/// A frame waits so long for its next packet.
const PATIENCE: Duration = Duration::from_millis(1);
/// And so long for all.
const MOST: Duration = Duration::from_millis(4);
/// Packets that are written together. More of one source are more than its frames have, or were held up on their way; and as many packets of
/// sound, which are kept for a second only, are still there when they are written.
const LONGEST: usize = 32;
/// Lists of packets that are kept to be used again: no more frames than that wait at a time, but for moments.
const SPARE: usize = 64;

/// A packet that has come in. The packet itself is with those that are kept for retransmission.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) sequence: u64,
    pub(super) header: RtpHeader,
    pub(super) is_newest: bool,
    pub(super) arrived: Arrived,
    pub(super) picture: Picture,
    /// What its dependency descriptor says, if it has one that can be read.
    pub(super) read: Option<Read>,
    /// It can't be told whether a decoder would get on with it. If its structure comes yet, receivers ask for it again.
    pub(super) is_unreadable: bool,
    pub(super) ids: PictureIds,
    pub(super) audio_level: Option<u8>,
    pub(super) class: Class,
    /// Bytes that make it as long as others of its picture.
    pub(super) padding: usize,
}

/// Packets of a source that leave together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) source: SourceKey,
    /// Of the source, when they came: what came before it began anew is gone with it.
    pub(super) restarts: u32,
    pub(super) packets: Vec<Held>,
    /// Until when they wait for more; `None` if they don't.
    until: Option<Instant>,
    /// Until when they wait at most.
    latest: Instant,
}

/// All that has not been sent, in the order in which it came.
#[derive(Debug, Default)]
pub(super) struct Frames {
    batches: VecDeque<Batch>,
    spare: Vec<Vec<Held>>,
}

impl Frames {
    /// A packet is to be sent; `waits` says whether more of its frame is coming. Returns whether so much of its source is there that it has to be
    /// sent now.
    pub(super) fn add(
        &mut self,
        now: Instant,
        source: SourceKey,
        restarts: u32,
        packet: Held,
        waits: bool,
    ) -> bool {
        let of_source = self.batches.iter_mut().filter(|batch| batch.source == source);
        let is_again = packet.arrived == Arrived::Again;
        for batch in of_source.filter(|batch| batch.until.is_some() && !is_again) {
            let timestamp = batch.packets.first().map(|first| first.header.timestamp);
            if batch.restarts != restarts || timestamp != Some(packet.header.timestamp) {
                // The last packet of that frame is lost, or comes too late.
                batch.until = None;
                continue;
            }
            batch.packets.push(packet);
            let goes_on = waits && batch.packets.len() < LONGEST;
            batch.until = goes_on.then(|| (now + PATIENCE).min(batch.latest));
            return self.is_full(source);
        }
        let mut packets = self.spare.pop().unwrap_or_default();
        packets.push(packet);
        let until = waits.then(|| now + PATIENCE);
        self.batches.push_back(Batch { source, restarts, packets, until, latest: now + MOST });
        self.is_full(source)
    }

    fn is_full(&self, source: SourceKey) -> bool {
        let due = self.batches.iter().filter(|batch| batch.source == source && batch.until.is_none());
        due.map(|batch| batch.packets.len()).sum::<usize>() >= LONGEST
    }

    /// The first that waits no more.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Batch> {
        self.take(|batch| batch.until.is_none_or(|until| until <= now))
    }

    /// The first, of that source if one is given, whether or not it waits.
    pub(super) fn take_any(&mut self, source: Option<SourceKey>) -> Option<Batch> {
        self.take(|batch| source.is_none_or(|source| batch.source == source))
    }

    fn take(&mut self, is_taken: impl Fn(&Batch) -> bool) -> Option<Batch> {
        let at = self.batches.iter().position(is_taken)?;
        self.batches.remove(at)
    }

    /// A batch was sent: its list is used again.
    pub(super) fn sent(&mut self, mut batch: Batch) {
        if self.spare.len() < SPARE {
            batch.packets.clear();
            self.spare.push(batch.packets);
        }
    }

    /// Whether all that is there waits.
    pub(super) fn all_wait(&self) -> bool {
        !self.batches.is_empty() && self.batches.iter().all(|batch| batch.until.is_some())
    }

    /// When the first of those that wait does no more.
    pub(super) fn next_timeout(&self) -> Option<Instant> {
        self.batches.iter().filter_map(|batch| batch.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arena::Key;

    fn packet(sequence: u64, timestamp: u32) -> Held {
        let mut bytes = [0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
        Held {
            sequence,
            header: RtpHeader::parse(&bytes).unwrap(),
            is_newest: true,
            arrived: Arrived::Once { bytes: bytes.len() },
            picture: Picture::default(),
            read: None,
            is_unreadable: false,
            ids: PictureIds::default(),
            audio_level: None,
            class: Class::Picture,
            padding: 0,
        }
    }

    fn source(number: u32) -> SourceKey {
        Key::for_tests(number)
    }

    fn taken(frames: &mut Frames, now: Instant) -> Option<Vec<u64>> {
        let batch = frames.take_due(now)?;
        let numbers = batch.packets.iter().map(|packet| packet.sequence).collect();
        frames.sent(batch);
        Some(numbers)
    }

    #[test]
    fn a_frame_leaves_with_its_last_packet_and_others_don_t_wait_for_it() {
        let (mut frames, now) = (Frames::default(), Instant::now());
        for number in 0..3 {
            frames.add(now, source(1), 0, packet(number, 5), true);
            assert!(frames.all_wait());
            frames.add(now, source(2), 0, packet(number, 9), false);
            assert_eq!(taken(&mut frames, now), Some(vec![number]));
            assert_eq!(taken(&mut frames, now), None);
        }
        frames.add(now, source(1), 0, packet(3, 5), false);
        assert_eq!(taken(&mut frames, now), Some(vec![0, 1, 2, 3]));
        assert!(frames.next_timeout().is_none() && !frames.all_wait());
    }

    #[test]
    fn packets_wait_for_each_next_one_and_not_for_ever() {
        let (mut frames, start) = (Frames::default(), Instant::now());
        let at = |micros| start + Duration::from_micros(micros);
        frames.add(start, source(1), 0, packet(0, 5), true);
        assert_eq!(frames.next_timeout(), Some(at(1000)));
        assert_eq!(taken(&mut frames, at(999)), None);
        assert_eq!(taken(&mut frames, at(1000)), Some(vec![0]), "nothing came");
        for number in 1..9 {
            let time = at(900 * number);
            frames.add(time, source(1), 0, packet(number, 5), true);
            if let Some(numbers) = taken(&mut frames, time) {
                assert_eq!(numbers, [1, 2, 3, 4, 5, 6], "until 4 ms are over");
                return;
            }
        }
        panic!("it waits for ever");
    }

    #[test]
    fn a_frame_whose_last_packet_is_lost_leaves_before_the_next_one() {
        let (mut frames, now) = (Frames::default(), Instant::now());
        frames.add(now, source(1), 0, packet(0, 5), true);
        let again = Held { arrived: Arrived::Again, ..packet(9, 1) };
        frames.add(now, source(1), 0, again, false);
        assert_eq!(taken(&mut frames, now), Some(vec![9]), "a retransmission is of no frame that waits");
        assert_eq!(taken(&mut frames, now), None);
        frames.add(now, source(1), 0, packet(2, 6), true);
        assert_eq!(taken(&mut frames, now), Some(vec![0]));
        frames.add(now, source(1), 1, packet(0, 6), true);
        assert_eq!(taken(&mut frames, now), Some(vec![2]), "the source began anew");
    }

    #[test]
    fn no_more_of_a_source_waits_than_is_kept() {
        let (mut frames, now) = (Frames::default(), Instant::now());
        for number in 1..LONGEST as u64 {
            assert!(!frames.add(now, source(1), 0, packet(number, 5), true));
            assert!(!frames.add(now, source(2), 0, packet(number, number as u32), false));
        }
        assert!(frames.add(now, source(1), 0, packet(99, 5), true));
        assert!(frames.add(now, source(2), 0, packet(99, 99), false));
        assert_eq!(taken(&mut frames, now).map(|numbers| numbers.len()), Some(LONGEST));
    }
}
