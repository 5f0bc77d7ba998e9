//! Cuts sound and picture into segments of fragmented MP4, each kind for itself (CMAF, ISO/IEC 23000-19): at key frames of the picture once
//! they are long enough, and the sound where the picture is cut. Segments may come in parts, which are shorter.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;

use crate::{
    frame::{Format, Frame},
    lanes::Kind,
    mp4::fragment::{self, Run, Sample},
};

/// Most bytes that wait: without key frames they would grow without end.
const MAX_BYTES: usize = 64 << 20;

/// A segment of one kind, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) kind: Kind,
    /// Which run of segments with the same formats it belongs to, and when that begins.
    pub(super) era: u64,
    /// See [`Chunk::era`].
    pub(super) era_begin: Duration,
    /// How it is to be decoded.
    pub(super) format: Format,
    /// Number of its segment, the same for both kinds.
    pub(super) segment: u64,
    /// Its segment is complete with it.
    pub(super) last: bool,
    /// Decoding can begin with it.
    pub(super) independent: bool,
    /// In units of [`crate::frame::Codec::clock_rate`].
    pub(super) begin: u64,
    /// See [`Chunk::begin`].
    pub(super) duration: u64,
    pub(super) data: Bytes,
}

/// What can't be cut.
#[derive(Debug, thiserror::Error)]
pub(super) enum CutError {
    #[error("no key frame comes")]
    NoKeyFrame,
    #[error("no MP4: {0}")]
    Mp4(#[from] std::io::Error),
}

/// See the module. Of one connection, whose frames have times that do not go back.
#[derive(Debug)]
pub(super) struct Segmenter {
    at_least: Duration,
    part: Option<Duration>,
    /// By whose frames segments are cut.
    leader: Kind,
    /// Which segments have begun that some kind has not begun yet, or is in.
    cuts: VecDeque<Cut>,
    tracks: Vec<Track>,
}

/// Where a segment begins.
#[derive(Clone, Copy, Debug)]
struct Cut {
    number: u64,
    at: Duration,
    era: u64,
    era_begin: Duration,
}

#[derive(Debug)]
struct Track {
    kind: Kind,
    /// Of the frames that come.
    format: Option<Format>,
    /// What has come, up to where it is not known yet which segment it belongs to.
    waiting: VecDeque<(Frame, Format)>,
    /// Time of the newest that has come.
    newest: Option<Duration>,
    /// Frames of the part under way.
    part: Vec<Frame>,
    /// Their format and segment.
    within: Option<(Format, Cut)>,
    number: u32,
}

impl Segmenter {
    /// Of segments that last at least so long, in parts of at most so long. `kinds` is not empty.
    pub(super) fn new(at_least: Duration, part: Option<Duration>, kinds: &[Kind]) -> Self {
        let leader = if kinds.contains(&Kind::Video) { Kind::Video } else { Kind::Audio };
        // The leader decides before the other follows.
        let mut kinds = kinds.to_vec();
        kinds.sort_by_key(|kind| *kind != leader);
        let track = |kind| Track {
            kind,
            format: None,
            waiting: VecDeque::new(),
            newest: None,
            part: Vec::new(),
            within: None,
            number: 0,
        };
        let tracks = kinds.into_iter().map(track).collect();
        Self { at_least, part, leader, cuts: VecDeque::new(), tracks }
    }

    /// Takes a frame in a format; returns what it completes.
    pub(super) fn push(&mut self, kind: Kind, frame: Frame, format: &Format) -> Result<Vec<Chunk>, CutError> {
        if kind == self.leader {
            self.cut(&frame, format);
            if self.cuts.is_empty() {
                return Ok(Vec::new());
            }
        }
        if let Some(track) = self.tracks.iter_mut().find(|track| track.kind == kind) {
            track.newest = track.newest.max(Some(frame.time));
            track.format = Some(format.clone());
            track.waiting.push_back((frame, format.clone()));
        }
        let chunks = self.advance(false)?;
        match self.tracks.iter().map(Track::bytes).sum::<usize>() > MAX_BYTES {
            true => Err(CutError::NoKeyFrame),
            false => Ok(chunks),
        }
    }

    /// Whether a frame of the leader begins a segment.
    fn cut(&mut self, frame: &Frame, format: &Format) {
        if !frame.key {
            return;
        }
        let known = self
            .tracks
            .iter()
            .find(|track| track.kind == self.leader)
            .and_then(|track| track.format.as_ref());
        let is_new = known.is_some_and(|known| known != format);
        let next = match self.cuts.back() {
            None => Cut { number: 0, at: frame.time, era: 0, era_begin: frame.time },
            Some(last) if is_new => {
                Cut { number: last.number + 1, at: frame.time, era: last.era + 1, era_begin: frame.time }
            }
            Some(last) if frame.time.saturating_sub(last.at) >= self.at_least => {
                Cut { number: last.number + 1, at: frame.time, ..*last }
            }
            Some(_) => return,
        };
        self.cuts.push_back(next);
    }

    /// What can be cut now; `at_end`: no cut comes any more.
    fn advance(&mut self, at_end: bool) -> Result<Vec<Chunk>, CutError> {
        let led = self.tracks.iter().find(|track| track.kind == self.leader).and_then(|track| track.newest);
        let mut chunks = Vec::new();
        for track in &mut self.tracks {
            let follows = track.kind != self.leader;
            while let Some((frame, _)) = track.waiting.front() {
                // Whether a segment begins before it, the leader has not said yet.
                if follows && led.is_none_or(|led| frame.time > led) && !at_end {
                    break;
                }
                if let Some((frame, format)) = track.waiting.pop_front() {
                    track.take(frame, format, &self.cuts, self.part, &mut chunks)?;
                }
            }
        }
        let reached = |track: &Track| track.within.as_ref().map_or(0, |(_, cut)| cut.number);
        let reached = self.tracks.iter().map(reached).min().unwrap_or(0);
        while self.cuts.len() > 1 && self.cuts.front().is_some_and(|cut| cut.number < reached) {
            self.cuts.pop_front();
        }
        Ok(chunks)
    }

    /// What there is since the last cut.
    pub(super) fn finish(&mut self) -> Result<Vec<Chunk>, CutError> {
        let mut chunks = self.advance(true)?;
        for track in &mut self.tracks {
            let (Some(last), Some((format, _))) = (track.part.last(), &track.within) else { continue };
            // As long as those before it were.
            let usual = match &track.part[..] {
                [.., before, last] => last.time.saturating_sub(before.time),
                _ => Duration::from_millis(20),
            };
            let (end, format) = (last.time + usual, format.clone());
            let frames = std::mem::take(&mut track.part);
            chunks.extend(track.chunk(frames, end, &format, true)?);
        }
        Ok(chunks)
    }
}

impl Track {
    fn bytes(&self) -> usize {
        let waiting = self.waiting.iter().map(|(frame, _)| frame.data.len());
        waiting.chain(self.part.iter().map(|frame| frame.data.len())).sum()
    }

    /// Takes the next frame, which ends the one before.
    fn take(
        &mut self,
        frame: Frame,
        format: Format,
        cuts: &VecDeque<Cut>,
        part: Option<Duration>,
        chunks: &mut Vec<Chunk>,
    ) -> Result<(), CutError> {
        let Some(cut) = cuts.iter().rev().find(|cut| cut.at <= frame.time).copied() else {
            // Before the first segment.
            return Ok(());
        };
        match self.within.clone() {
            Some((known, within)) if within.number == cut.number => {
                if let Some(target) = part {
                    self.end_part(&frame, target, &known, chunks)?;
                }
            }
            Some((known, _)) => {
                let mut frames = std::mem::take(&mut self.part);
                let ends = frames.first().map(|first| first.time).zip(frames.last().map(|last| last.time));
                if let (Some(target), Some((begin, end))) = (part, ends)
                    && frames.len() > 1
                    && frame.time.saturating_sub(begin) > target
                {
                    let last = frames.split_off(frames.len() - 1);
                    chunks.extend(self.chunk(frames, end, &known, false)?);
                    frames = last;
                }
                chunks.extend(self.chunk(frames, frame.time, &known, true)?);
                self.within = Some((format, cut));
            }
            None => self.within = Some((format, cut)),
        }
        self.part.push(frame);
        Ok(())
    }

    /// Ends the part before or after its last frame, if it would be too long with the one that comes.
    fn end_part(
        &mut self,
        next: &Frame,
        target: Duration,
        format: &Format,
        chunks: &mut Vec<Chunk>,
    ) -> Result<(), CutError> {
        let Some(first) = self.part.first() else { return Ok(()) };
        let length = next.time.saturating_sub(first.time);
        if length < target {
            return Ok(());
        }
        let mut frames = std::mem::take(&mut self.part);
        let mut end = next.time;
        if length > target
            && frames.len() > 1
            && let Some(last) = frames.pop()
        {
            end = last.time;
            self.part.push(last);
        }
        chunks.extend(self.chunk(frames, end, format, false)?);
        Ok(())
    }

    fn chunk(
        &mut self,
        frames: Vec<Frame>,
        end: Duration,
        format: &Format,
        last: bool,
    ) -> Result<Option<Chunk>, CutError> {
        let (Some(first), Some((_, cut))) = (frames.first(), self.within.as_ref()) else { return Ok(None) };
        let (codec, independent) = (format.codec, first.key);
        let times: Vec<u64> =
            frames.iter().map(|frame| frame.time).chain([end]).map(|time| codec.ticks(time)).collect();
        let (begin, end) = (times[0], times[frames.len()]);
        let sample = |(Frame { key, data, .. }, times): (Frame, &[u64])| Sample {
            duration: u32::try_from(times[1].saturating_sub(times[0])).unwrap_or(u32::MAX),
            key,
            data,
        };
        let samples = frames.into_iter().zip(times.windows(2)).map(sample).collect();
        self.number += 1;
        let data = fragment::fragment(self.number, &[Run { track: 1, begin, samples }])?;
        let chunk = Chunk {
            kind: self.kind,
            era: cut.era,
            era_begin: cut.era_begin,
            format: format.clone(),
            segment: cut.number,
            last,
            independent,
            begin,
            duration: end.saturating_sub(begin),
            data: data.into(),
        };
        Ok(Some(chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Codec;

    const AT_LEAST: Duration = Duration::from_secs(2);

    fn format(config: &'static [u8]) -> Format {
        Format { codec: Codec::H264, size: (640, 480), config: Bytes::from_static(config) }
    }

    fn frame(ms: u64, key: bool) -> Frame {
        Frame { time: Duration::from_millis(ms), key, data: Bytes::from_static(b"frame") }
    }

    /// Pictures, 25 a second, with a key frame each `keys` ms, and frames of sound of 20 ms, in the order of their times.
    fn cut(
        segmenter: &mut Segmenter,
        kinds: &[Kind],
        ms: u64,
        keys: u64,
        config: &'static [u8],
    ) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        for at in (0..ms).step_by(20) {
            for kind in kinds {
                let (frame, format) = match kind {
                    Kind::Audio => (frame(at, true), Format::audio(Codec::Aac)),
                    Kind::Video if at % 40 == 0 => (frame(at, at % keys == 0), format(config)),
                    Kind::Video => continue,
                };
                chunks.extend(segmenter.push(*kind, frame, &format).unwrap());
            }
        }
        chunks.extend(segmenter.finish().unwrap());
        chunks
    }

    /// Segment, begin and length in ms, whether it is the last one.
    fn told(chunks: &[Chunk], kind: Kind) -> Vec<(u64, u64, u64, bool)> {
        let of_it = chunks.iter().filter(|chunk| chunk.kind == kind);
        let ms = |ticks: u64, chunk: &Chunk| ticks * 1000 / u64::from(chunk.format.codec.clock_rate());
        of_it
            .map(|chunk| (chunk.segment, ms(chunk.begin, chunk), ms(chunk.duration, chunk), chunk.last))
            .collect()
    }

    #[test]
    fn segments_are_cut_at_key_frames_and_the_sound_with_them() {
        for kinds in [[Kind::Audio, Kind::Video], [Kind::Video, Kind::Audio]] {
            let chunks = cut(&mut Segmenter::new(AT_LEAST, None, &kinds), &kinds, 5_000, 1_200, b"a");
            let expected = [(0, 0, 2_400, true), (1, 2_400, 2_400, true), (2, 4_800, 200, true)];
            assert_eq!(told(&chunks, Kind::Video), expected);
            assert_eq!(told(&chunks, Kind::Audio), expected);
            assert!(chunks.iter().all(|chunk| chunk.independent && chunk.era == 0));
        }
    }

    #[test]
    fn sound_alone_is_cut_by_its_length() {
        let kinds = [Kind::Audio];
        let chunks = cut(&mut Segmenter::new(AT_LEAST, None, &kinds), &kinds, 5_000, 1, b"");
        let expected = [(0, 0, 2_000, true), (1, 2_000, 2_000, true), (2, 4_000, 1_000, true)];
        assert_eq!(told(&chunks, Kind::Audio), expected);
    }

    #[test]
    fn parts_are_no_longer_than_promised_and_make_up_their_segment() {
        let kinds = [Kind::Video, Kind::Audio];
        let part = Duration::from_millis(500);
        let chunks = cut(&mut Segmenter::new(AT_LEAST, Some(part), &kinds), &kinds, 4_000, 2_000, b"a");
        for kind in kinds {
            let told = told(&chunks, kind);
            assert!(told.iter().all(|(_, _, length, _)| *length <= 500), "{told:?}");
            let first: u64 = told.iter().filter(|chunk| chunk.0 == 0).map(|chunk| chunk.2).sum();
            assert_eq!(first, 2_000);
            assert_eq!(told.iter().filter(|chunk| chunk.3).count(), 2);
            let full = told.iter().filter(|chunk| !chunk.3);
            // RFC 8216bis §4.4.4.9: at least 85 %, but for the last.
            assert!(full.clone().count() >= 6 && full.clone().all(|chunk| chunk.2 >= 425), "{told:?}");
        }
    }

    #[test]
    fn another_format_begins_another_era_for_both_kinds() {
        let mut segmenter = Segmenter::new(AT_LEAST, None, &[Kind::Video, Kind::Audio]);
        let mut chunks = Vec::new();
        for at in (0..2_000).step_by(20) {
            let config: &[u8] = if at < 1_000 { b"a" } else { b"b" };
            if at % 40 == 0 {
                let pushed = segmenter.push(Kind::Video, frame(at, at % 1_000 == 0), &format(config));
                chunks.extend(pushed.unwrap());
            }
            let pushed = segmenter.push(Kind::Audio, frame(at, true), &Format::audio(Codec::Aac));
            chunks.extend(pushed.unwrap());
        }
        chunks.extend(segmenter.finish().unwrap());
        for kind in Kind::ALL {
            assert_eq!(told(&chunks, kind), [(0, 0, 1_000, true), (1, 1_000, 1_000, true)]);
            let eras: Vec<u64> = chunks.iter().filter(|c| c.kind == kind).map(|chunk| chunk.era).collect();
            assert_eq!(eras, [0, 1]);
        }
        let video: Vec<&Chunk> = chunks.iter().filter(|chunk| chunk.kind == Kind::Video).collect();
        assert_eq!((&video[0].format.config[..], &video[1].format.config[..]), (&b"a"[..], &b"b"[..]));
        assert_eq!(video[1].era_begin, Duration::from_secs(1));
    }

    #[test]
    fn what_comes_before_the_first_key_frame_is_left_out() {
        let mut segmenter = Segmenter::new(AT_LEAST, None, &[Kind::Video]);
        for at in [0, 40, 80] {
            assert!(segmenter.push(Kind::Video, frame(at, at == 80), &format(b"a")).unwrap().is_empty());
        }
        assert_eq!(told(&segmenter.finish().unwrap(), Kind::Video)[0].1, 80);
    }

    #[test]
    fn what_never_ends_fails() {
        let mut segmenter = Segmenter::new(AT_LEAST, None, &[Kind::Video]);
        let large = Bytes::from(vec![0; 1 << 20]);
        let mut pushed = (0..100).map(|number| {
            let frame = Frame { data: large.clone(), ..frame(number * 40, number == 0) };
            segmenter.push(Kind::Video, frame, &format(b"a"))
        });
        assert!(pushed.any(|pushed| matches!(pushed, Err(CutError::NoKeyFrame))));
    }
}
