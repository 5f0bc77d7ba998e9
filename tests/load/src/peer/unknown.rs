//! Whole frames of something that no publisher is known of, such as a mix: whether all packets of a frame are there, and whether it follows
//! the one before or is a key frame.

use std::time::{Duration, Instant};

use super::frames::Piece;
use crate::meter::Received;

/// What a decoder has seen so far.
#[derive(Debug, Default)]
pub(super) struct UnknownFrames {
    /// The timestamp of a frame that goes on, and whether it can be decoded.
    current: Option<(u32, bool)>,
    last: Option<Instant>,
    waits: bool,
    pub(super) first: Option<Instant>,
}

impl UnknownFrames {
    pub(super) fn needs_key_frame(&self) -> bool {
        self.waits || self.last.is_none()
    }

    pub(super) fn lost(&mut self) {
        self.waits = true;
        self.current = None;
    }

    /// The next packet; `begins` a frame, which is a key frame, if it begins one. Returns the time since the last whole frame if it ends one.
    pub(super) fn piece(
        &mut self,
        piece: &Piece,
        begins: Option<bool>,
        counts: &mut Received,
    ) -> Option<Duration> {
        let decodable = match (self.current.take(), begins) {
            (Some((timestamp, decodable)), None) if timestamp == piece.timestamp => decodable,
            // The rest of a frame whose beginning was before this receiver, or is lost.
            (_, None) => return None,
            (before, Some(key)) => {
                if before.is_some() {
                    counts.broken += 1;
                    self.waits = true;
                }
                key || !self.needs_key_frame()
            }
        };
        if !piece.marker {
            self.current = Some((piece.timestamp, decodable));
            return None;
        }
        if !decodable {
            counts.undecodable += u64::from(self.last.is_some());
            return None;
        }
        counts.frames += 1;
        self.waits = false;
        self.first.get_or_insert(piece.at);
        let last = self.last.replace(piece.at)?;
        Some(piece.at.saturating_duration_since(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Watched {
        frames: UnknownFrames,
        counts: Received,
    }

    impl Watched {
        /// A packet of the frame with a number; `begins` it, and it is a key frame.
        fn piece(&mut self, frame: u32, begins: Option<bool>, marker: bool) {
            let piece =
                Piece { at: Instant::now(), timestamp: frame * 3000, marker, place: None, numbers: None };
            self.frames.piece(&piece, begins, &mut self.counts);
        }
    }

    #[test]
    fn frames_are_whole_from_a_key_frame_on() {
        let mut watched = Watched::default();
        watched.piece(0, None, true);
        watched.piece(1, Some(false), true);
        assert!(watched.frames.needs_key_frame());
        watched.piece(2, Some(true), false);
        watched.piece(2, None, true);
        watched.piece(3, Some(false), true);
        assert_eq!((watched.counts.frames, watched.counts.undecodable, watched.counts.broken), (2, 0, 0));
    }

    #[test]
    fn after_a_loss_a_key_frame_is_waited_for() {
        let mut watched = Watched::default();
        watched.piece(0, Some(true), true);
        watched.frames.lost();
        watched.piece(2, None, true);
        watched.piece(3, Some(false), true);
        assert_eq!((watched.counts.frames, watched.counts.undecodable), (1, 1));
        watched.piece(4, Some(true), true);
        assert_eq!(watched.counts.frames, 2);
    }

    #[test]
    fn a_frame_without_its_end_is_broken() {
        let mut watched = Watched::default();
        watched.piece(0, Some(true), false);
        watched.piece(1, Some(false), true);
        assert_eq!((watched.counts.frames, watched.counts.broken), (0, 1));
        assert!(watched.frames.needs_key_frame());
    }
}
