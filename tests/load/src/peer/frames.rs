//! Whether what came makes whole frames that can be decoded one after the other, each as it was published.

use std::time::{Duration, Instant};

use crate::{
    meter::Received,
    recording::{Place, Recording},
};

/// A packet in its order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) at: Instant,
    pub(super) timestamp: u32,
    pub(super) marker: bool,
    /// `None`: it is not what was published.
    pub(super) place: Option<Place>,
    /// VP8's picture id and TL0PICIDX.
    pub(super) numbers: Option<(u16, u8)>,
}

#[derive(Clone, Copy, Debug)]
struct Whole {
    at: Instant,
    place: Place,
    timestamp: u32,
    numbers: Option<(u16, u8)>,
}

/// What a decoder has seen so far.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The last piece of a frame that goes on, and whether the frame can be decoded.
    current: Option<(Piece, Place, bool)>,
    last: Option<Whole>,
    /// Nothing can be decoded until a key frame.
    waits: bool,
    /// When the first whole frame was there.
    pub(super) first: Option<Instant>,
}

impl Frames {
    /// Whether a key frame is needed.
    pub(super) fn needs_key_frame(&self) -> bool {
        self.waits || self.last.is_none()
    }

    /// Packets before the next one are lost.
    pub(super) fn lost(&mut self) {
        self.waits = true;
        self.current = None;
    }

    /// The next packet. Returns the time since the last whole frame if it ends one.
    pub(super) fn piece(
        &mut self,
        recording: &Recording,
        piece: Piece,
        counts: &mut Received,
    ) -> Option<Duration> {
        let (Some(place), Some(frame)) = (piece.place, piece.place.and_then(|place| recording.frame(place)))
        else {
            counts.corrupt += 1;
            self.lost();
            return None;
        };
        let begins = self.current.as_ref().is_none_or(|(before, ..)| before.timestamp != piece.timestamp);
        let decodable = if begins {
            if self.current.take().is_some() {
                // Without its end.
                self.broken(counts);
            }
            if place.chunk != 0 {
                // The rest of a frame whose beginning is lost, or was before this receiver.
                if !self.needs_key_frame() {
                    self.broken(counts);
                }
                return None;
            }
            self.begin(recording, &piece, place, frame.key, counts)
        } else {
            let (_, before, decodable) = self.current.take()?;
            if (Place { chunk: before.chunk + 1, ..before }) != place {
                self.broken(counts);
                return None;
            }
            decodable
        };
        if piece.marker != (usize::from(place.chunk) + 1 == frame.chunks.len()) {
            self.broken(counts);
            return None;
        }
        if !piece.marker {
            self.current = Some((piece, place, decodable));
            return None;
        }
        if !decodable {
            counts.undecodable += u64::from(self.last.is_some());
            return None;
        }
        self.whole(&piece, place, frame.key, counts)
    }

    /// Whether the frame can be decoded.
    fn begin(
        &mut self,
        recording: &Recording,
        piece: &Piece,
        place: Place,
        key: bool,
        counts: &mut Received,
    ) -> bool {
        if key {
            return true;
        }
        let Some(last) = self.last.filter(|_| !self.waits) else { return false };
        let frames = recording.layers[usize::from(place.layer)].frames.len() as u32;
        let follows = place.layer == last.place.layer && place.frame == (last.place.frame + 1) % frames;
        let later = piece.timestamp.wrapping_sub(last.timestamp) as i32 > 0;
        if !follows || !later {
            self.broken(counts);
        }
        follows && later
    }

    fn whole(&mut self, piece: &Piece, place: Place, key: bool, counts: &mut Received) -> Option<Duration> {
        counts.frames += 1;
        counts.key_frames += u64::from(key);
        self.first.get_or_insert(piece.at);
        let whole = Whole { at: piece.at, place, timestamp: piece.timestamp, numbers: piece.numbers };
        let last = self.last.replace(whole);
        let waited = std::mem::take(&mut self.waits);
        let last = last?;
        counts.switches += u64::from(last.place.layer != place.layer);
        // After a loss ids may be missing.
        if let (Some((picture, tl0)), Some((last_picture, last_tl0)), false) =
            (piece.numbers, last.numbers, waited)
        {
            let follows = picture == (last_picture + 1) & 0x7fff && tl0 == last_tl0.wrapping_add(1);
            counts.picture_ids += u64::from(!follows);
        }
        Some(piece.at.saturating_duration_since(last.at))
    }

    fn broken(&mut self, counts: &mut Received) {
        counts.broken += 1;
        self.lost();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Codec, tests::recording};

    struct Decoder {
        recording: Recording,
        frames: Frames,
        counts: Received,
        now: Instant,
        numbers: (u16, u8),
        timestamp: u32,
    }

    impl Decoder {
        fn new() -> Self {
            let recording = recording(Codec::Vp8, 2);
            let (frames, counts) = Default::default();
            Self {
                recording,
                frames,
                counts,
                now: Instant::now(),
                numbers: (0x7ffe, 254),
                timestamp: u32::MAX - 5000,
            }
        }

        /// Pieces of the next frame.
        fn pieces(&mut self, layer: u8, frame: u32) -> Vec<Piece> {
            self.timestamp = self.timestamp.wrapping_add(3000);
            self.numbers = ((self.numbers.0 + 1) & 0x7fff, self.numbers.1.wrapping_add(1));
            self.now += Duration::from_millis(33);
            let chunks = self.recording.layers[usize::from(layer)].frames[frame as usize].chunks.len() as u16;
            let piece = |chunk| Piece {
                at: self.now,
                timestamp: self.timestamp,
                marker: chunk + 1 == chunks,
                place: Some(Place { layer, chunk, frame }),
                numbers: Some(self.numbers),
            };
            (0..chunks).map(piece).collect()
        }

        fn take(&mut self, pieces: &[Piece]) -> Option<Duration> {
            pieces
                .iter()
                .filter_map(|piece| self.frames.piece(&self.recording, *piece, &mut self.counts))
                .last()
        }

        fn frame(&mut self, layer: u8, frame: u32) -> Option<Duration> {
            let pieces = self.pieces(layer, frame);
            self.take(&pieces)
        }
    }

    #[test]
    fn frames_in_order_are_flawless_around_the_end_of_the_recording() {
        let mut decoder = Decoder::new();
        for frame in 20..80 {
            let gap = decoder.frame(1, frame % 30);
            assert_eq!(gap.is_some(), frame > 20);
        }
        assert_eq!((decoder.counts.frames, decoder.counts.key_frames), (60, 6));
        assert!(decoder.counts.is_flawless());
    }

    #[test]
    fn nothing_is_decoded_before_the_first_key_frame() {
        let mut decoder = Decoder::new();
        let middle = decoder.pieces(0, 0).split_off(1);
        decoder.take(&middle);
        decoder.frame(0, 18);
        decoder.frame(0, 19);
        assert!(decoder.frames.needs_key_frame());
        decoder.frame(0, 20);
        assert!(!decoder.frames.needs_key_frame());
        assert_eq!(decoder.counts, Received { frames: 1, key_frames: 1, ..Received::default() });
    }

    #[test]
    fn a_publisher_and_a_server_change_at_key_frames_only() {
        let mut decoder = Decoder::new();
        decoder.frame(0, 0);
        decoder.frame(0, 1);
        decoder.frame(0, 20);
        decoder.frame(1, 20);
        assert!(decoder.counts.is_flawless());
        assert_eq!(decoder.counts.switches, 1);
        decoder.frame(0, 21);
        assert_eq!((decoder.counts.broken, decoder.frames.needs_key_frame()), (1, true));
        decoder.frame(0, 22);
        assert_eq!(decoder.counts.undecodable, 2);
    }

    #[test]
    fn each_flaw_is_seen() {
        type Spoil = fn(&mut Decoder, &mut Vec<Piece>);
        type Count = fn(&Received) -> u64;
        let flaws: [(Spoil, Count); 9] = [
            (|_, pieces| pieces[1].place = None, |counts| counts.corrupt),
            (|_, pieces| _ = pieces.remove(1), |counts| counts.broken),
            (|_, pieces| _ = pieces.pop(), |counts| counts.broken),
            (|_, pieces| _ = pieces.remove(0), |counts| counts.broken),
            (|_, pieces| pieces[0].marker = true, |counts| counts.broken),
            (|_, pieces| pieces.iter_mut().for_each(|piece| piece.marker = false), |counts| counts.broken),
            (
                |_, pieces| pieces.iter_mut().for_each(|p| p.numbers = Some((5, 1))),
                |counts| counts.picture_ids,
            ),
            (|decoder, pieces| *pieces = decoder.pieces(0, 4), |counts| counts.broken),
            (|_, pieces| pieces.iter_mut().for_each(|p| p.timestamp = 1 << 30), |counts| counts.broken),
        ];
        for (number, (spoil, count)) in flaws.into_iter().enumerate() {
            let mut decoder = Decoder::new();
            decoder.frame(0, 0);
            decoder.frame(0, 1);
            assert!(decoder.counts.is_flawless());
            let mut pieces = decoder.pieces(0, 2);
            spoil(&mut decoder, &mut pieces);
            decoder.take(&pieces);
            decoder.frame(0, 3);
            assert!(count(&decoder.counts) > 0, "flaw {number}: {:?}", decoder.counts);
            assert!(!decoder.counts.is_flawless());
        }
    }
}
