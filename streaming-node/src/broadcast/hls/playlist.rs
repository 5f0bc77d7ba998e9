//! The live playlist (RFC 8216 §4.3): which segments there are now.

use std::{collections::VecDeque, time::Duration};

use m3u8_rs::{MediaPlaylist, MediaSegment};

/// Segments that are stored, from the first to the last that is listed.
#[derive(Debug)]
pub(super) struct Playlist {
    window: usize,
    /// Of a segment, as promised (`#EXT-X-TARGETDURATION`), in whole seconds.
    target: u64,
    segments: VecDeque<Segment>,
    /// Number of the first that is listed.
    first: u64,
    /// Breaks before the first that is listed.
    breaks: u64,
    ended: bool,
}

/// One of the playlist's.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// Beside the playlist.
    pub(super) name: String,
    pub(super) duration: Duration,
    /// Its times do not go on from those of the one before.
    pub(super) after_break: bool,
}

impl Playlist {
    pub(super) fn new(window: usize, duration: Duration) -> Self {
        let target = duration.as_secs_f64().ceil() as u64;
        Self { window, target, segments: VecDeque::new(), first: 0, breaks: 0, ended: false }
    }

    /// Lists one more; returns the names of those that are listed no more.
    pub(super) fn push(&mut self, segment: Segment) -> Vec<String> {
        // It may grow, not shrink, and no segment may be longer when rounded (§4.3.3.1).
        self.target = self.target.max(segment.duration.as_secs_f64().round() as u64);
        self.segments.push_back(segment);
        let mut gone = Vec::new();
        while self.segments.len() > self.window {
            let Some(oldest) = self.segments.pop_front() else { break };
            self.first += 1;
            // The mark before the first one left, if any, is the next one's to bear.
            self.breaks += u64::from(oldest.after_break);
            gone.push(oldest.name);
        }
        gone
    }

    /// Nothing more will come.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// As players read it.
    pub(super) fn text(&self) -> Vec<u8> {
        let segment = |segment: &Segment| MediaSegment {
            uri: segment.name.clone(),
            duration: segment.duration.as_secs_f32(),
            discontinuity: segment.after_break,
            ..MediaSegment::default()
        };
        let playlist = MediaPlaylist {
            version: Some(3),
            target_duration: self.target.max(1),
            media_sequence: self.first,
            discontinuity_sequence: self.breaks,
            segments: self.segments.iter().map(segment).collect(),
            end_list: self.ended,
            ..MediaPlaylist::default()
        };
        let mut text = Vec::new();
        // A vector takes everything.
        let _written = playlist.write_to(&mut text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u32, seconds: f64, after_break: bool) -> Segment {
        Segment { name: format!("{number}.ts"), duration: Duration::from_secs_f64(seconds), after_break }
    }

    fn text(playlist: &Playlist) -> String {
        String::from_utf8(playlist.text()).unwrap()
    }

    #[test]
    fn the_last_segments_are_listed_under_their_numbers() {
        let mut playlist = Playlist::new(2, Duration::from_secs(2));
        assert!(playlist.push(segment(0, 2.0, false)).is_empty());
        assert!(playlist.push(segment(1, 2.04, false)).is_empty());
        assert_eq!(playlist.push(segment(2, 1.9, false)), ["0.ts"]);
        let text = text(&playlist);
        let expected = ["#EXTM3U", "#EXT-X-TARGETDURATION:2", "#EXT-X-MEDIA-SEQUENCE:1", "1.ts", "2.ts"];
        for line in expected {
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
        assert!(!text.contains("0.ts") && !text.contains("ENDLIST"));
        assert!(text.contains("#EXTINF:2.04"));
    }

    #[test]
    fn a_break_is_marked_and_counted_when_it_has_gone() {
        let mut playlist = Playlist::new(2, Duration::from_secs(2));
        playlist.push(segment(0, 2.0, false));
        playlist.push(segment(1, 2.0, true));
        assert!(text(&playlist).contains("#EXT-X-DISCONTINUITY\n"));
        playlist.push(segment(2, 2.0, false));
        playlist.push(segment(3, 2.0, false));
        assert!(text(&playlist).contains("#EXT-X-DISCONTINUITY-SEQUENCE:1"));
        assert!(!text(&playlist).contains("#EXT-X-DISCONTINUITY\n"));
    }

    #[test]
    fn no_segment_is_longer_than_promised_and_the_promise_only_grows() {
        let mut playlist = Playlist::new(1, Duration::from_millis(1_500));
        playlist.push(segment(0, 1.6, false));
        assert!(text(&playlist).contains("#EXT-X-TARGETDURATION:2"));
        playlist.push(segment(1, 4.6, false));
        assert!(text(&playlist).contains("#EXT-X-TARGETDURATION:5"));
        playlist.push(segment(2, 2.0, false));
        assert!(text(&playlist).contains("#EXT-X-TARGETDURATION:5"));
    }

    #[test]
    fn the_end_is_said() {
        let mut playlist = Playlist::new(1, Duration::from_secs(2));
        playlist.push(segment(0, 2.0, false));
        playlist.end();
        assert!(text(&playlist).ends_with("#EXT-X-ENDLIST\n"));
    }
}
