//! What is stored of a broadcast, as manifests tell it.

use std::{collections::VecDeque, time::Duration};

use crate::{
    frame::{Codec, Format},
    lanes::Kind,
};

/// Segments whose formats are the same and whose times go on from each other.
#[derive(Clone, Debug)]
pub(super) struct Era {
    /// Over all connections.
    pub(super) number: u64,
    /// When it begins, since the beginning of the broadcast.
    pub(super) start: Duration,
    /// What the times of its segments are then.
    pub(super) offset: Duration,
    /// How each kind is to be decoded, and the name of the file that says so, once it is stored.
    pub(super) heads: [Option<(Format, String)>; 2],
}

/// A segment, of which all or the first parts are stored.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// [`Era::number`]
    pub(super) era: u64,
    /// The same for both kinds; over all connections.
    pub(super) number: u64,
    /// In units of its codec.
    pub(super) begin: u64,
    /// See [`Segment::begin`].
    pub(super) duration: u64,
    pub(super) name: String,
    pub(super) is_complete: bool,
    pub(super) parts: Vec<Part>,
}

/// A part of a segment.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) duration: Duration,
    pub(super) independent: bool,
}

/// The segments of one kind.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) kind: Kind,
    /// In the order of their times; the last one may not be complete.
    pub(super) segments: VecDeque<Segment>,
    /// Complete ones that are listed no more.
    pub(super) gone: u64,
    /// Eras that began with those.
    pub(super) eras_gone: u64,
    /// Most bits a second of a segment.
    pub(super) peak: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Catalogue {
    /// Segments that are listed.
    window: usize,
    pub(super) eras: VecDeque<Era>,
    pub(super) tracks: Vec<Track>,
    /// Nothing more comes.
    pub(super) has_ended: bool,
}

/// Units of a codec as time.
pub(super) fn time(ticks: u64, codec: Codec) -> Duration {
    Duration::from_secs_f64(ticks as f64 / f64::from(codec.clock_rate()))
}

impl Catalogue {
    pub(super) fn new(window: usize, kinds: &[Kind]) -> Self {
        let track = |kind| Track { kind, segments: VecDeque::new(), gone: 0, eras_gone: 0, peak: 0 };
        let tracks = kinds.iter().copied().map(track).collect();
        Self { window, eras: VecDeque::new(), tracks, has_ended: false }
    }

    /// An era, made if it is not there.
    pub(super) fn era(&mut self, number: u64, start: Duration, offset: Duration) -> &mut Era {
        let place = match self.eras.iter().position(|era| era.number == number) {
            Some(place) => place,
            None => {
                self.eras.push_back(Era { number, start, offset, heads: [None, None] });
                self.eras.len() - 1
            }
        };
        &mut self.eras[place]
    }

    pub(super) fn track(&mut self, kind: Kind) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.kind == kind)
    }

    /// Up to which segment all kinds are complete.
    pub(super) fn complete(&self) -> Option<u64> {
        let complete = |track: &Track| {
            track.segments.iter().rev().find(|segment| segment.is_complete).map(|segment| segment.number)
        };
        self.tracks.iter().map(complete).min().flatten()
    }

    /// What the window has no place for is listed no more; returns names of files.
    pub(super) fn trim(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        for track in &mut self.tracks {
            while track.segments.iter().filter(|segment| segment.is_complete).count() > self.window {
                let Some(oldest) = track.segments.pop_front() else { break };
                track.gone += 1;
                track.eras_gone +=
                    u64::from(track.segments.front().is_some_and(|next| next.era != oldest.era));
                names.extend(oldest.parts.into_iter().map(|part| part.name));
                names.push(oldest.name);
            }
        }
        let tracks = &self.tracks;
        let is_used = |era: &Era| {
            tracks.iter().any(|track| track.segments.iter().any(|segment| segment.era <= era.number))
        };
        while self.eras.len() > 1 && self.eras.front().is_some_and(|era| !is_used(era)) {
            let Some(era) = self.eras.pop_front() else { break };
            names.extend(era.heads.into_iter().flatten().map(|(_, name)| name));
        }
        names
    }

    /// What an interrupted connection has not completed will never be; returns names of files.
    pub(super) fn drop_incomplete(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        for track in &mut self.tracks {
            if let Some(last) = track.segments.pop_back_if(|last| !last.is_complete) {
                names.extend(last.parts.into_iter().map(|part| part.name));
            }
        }
        names
    }

    /// Number of the newest segment.
    pub(super) fn newest(&self) -> Option<u64> {
        self.tracks.iter().filter_map(|track| track.segments.back()).map(|segment| segment.number).max()
    }
}

impl Track {
    pub(super) fn format<'e>(&self, era: &'e Era) -> Option<&'e Format> {
        era.heads[self.kind as usize].as_ref().map(|(format, _)| format)
    }
}

/// As RFC 6381 names it: what players decide by whether they can decode it.
pub(super) fn codec_name(format: &Format) -> String {
    match (format.codec, &format.config[..]) {
        (Codec::H264, [_, profile, constraints, level, ..]) => {
            format!("avc1.{profile:02x}{constraints:02x}{level:02x}")
        }
        (Codec::Aac, [first, ..]) => format!("mp4a.40.{}", first >> 3),
        (codec, _) => codec.name().to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Two seconds each, of both kinds, beginning at `from` segments after the first of an era that began ten seconds after the broadcast.
    pub(in super::super) fn push(catalogue: &mut Catalogue, era: u64, from: u64, count: u64) {
        for kind in Kind::ALL {
            let format = match kind {
                Kind::Audio => Format { config: vec![0x11, 0x90].into(), ..Format::audio(Codec::Aac) },
                Kind::Video => {
                    let config = vec![1, 0x42, 0xc0, 0x1f].into();
                    Format { codec: Codec::H264, size: (640, 480), config }
                }
            };
            let rate = u64::from(format.codec.clock_rate());
            let start = Duration::from_secs(10 * (era + 1));
            let name = format!("i{era}{}.mp4", kind as usize);
            catalogue.era(era, start, Duration::ZERO).heads[kind as usize] = Some((format, name));
            let track = catalogue.track(kind).unwrap();
            for number in from..from + count {
                track.segments.push_back(Segment {
                    era,
                    number,
                    begin: (number - from) * 2 * rate,
                    duration: 2 * rate,
                    name: format!("s{era}{}-{number}.m4s", kind as usize),
                    is_complete: true,
                    parts: Vec::new(),
                });
                track.peak = 1_000_000;
            }
        }
    }

    #[test]
    fn what_the_window_has_no_place_for_goes_and_eras_go_with_their_last_segment() {
        let mut catalogue = Catalogue::new(2, &Kind::ALL);
        push(&mut catalogue, 0, 0, 2);
        assert!(catalogue.trim().is_empty());
        push(&mut catalogue, 1, 2, 1);
        assert_eq!(catalogue.trim(), ["s00-0.m4s", "s01-0.m4s"]);
        push(&mut catalogue, 1, 3, 1);
        assert_eq!(catalogue.trim(), ["s00-1.m4s", "s01-1.m4s", "i00.mp4", "i01.mp4"]);
        assert_eq!((catalogue.eras.len(), catalogue.eras[0].number), (1, 1));
        assert!(catalogue.tracks.iter().all(|track| (track.gone, track.eras_gone) == (2, 1)));
    }

    #[test]
    fn complete_is_what_both_kinds_have() {
        let mut catalogue = Catalogue::new(5, &Kind::ALL);
        assert_eq!(catalogue.complete(), None);
        push(&mut catalogue, 0, 0, 3);
        assert_eq!(catalogue.complete(), Some(2));
        catalogue.track(Kind::Audio).unwrap().segments.back_mut().unwrap().is_complete = false;
        assert_eq!((catalogue.complete(), catalogue.newest()), (Some(1), Some(2)));
        catalogue.drop_incomplete();
        assert_eq!(catalogue.track(Kind::Audio).unwrap().segments.len(), 2);
    }

    #[test]
    fn codecs_have_the_names_that_players_know() {
        let mut catalogue = Catalogue::new(1, &Kind::ALL);
        push(&mut catalogue, 0, 0, 1);
        let names: Vec<String> =
            catalogue.eras[0].heads.iter().flatten().map(|(format, _)| codec_name(format)).collect();
        assert_eq!(names, ["mp4a.40.2", "avc1.42c01f"]);
    }
}
