//! The manifest of DASH (ISO/IEC 23009-1 §5.3) of what is live: a period for each era, in it a set for each kind, and when each segment begins.

use std::{
    fmt::{self, Write},
    time::{Duration, SystemTime},
};

use super::{
    catalogue::{Catalogue, Era, Segment, Track, codec_name, time},
    wall,
};
use crate::lanes::Kind;

/// What is the same for the whole broadcast.
#[derive(Clone, Copy, Debug)]
pub(super) struct Presentation<'p> {
    /// When it began.
    pub(super) begun: SystemTime,
    pub(super) now: SystemTime,
    /// Of a segment, at least.
    pub(super) duration: Duration,
    pub(super) window: usize,
    /// What names of segments begin with.
    pub(super) stem: &'p str,
}

/// As players read it.
pub(super) fn text(catalogue: &Catalogue, presentation: Presentation<'_>) -> String {
    let mut text = String::new();
    // A string takes everything.
    let _written = write(&mut text, catalogue, presentation);
    text
}

fn write(out: &mut String, catalogue: &Catalogue, presentation: Presentation<'_>) -> fmt::Result {
    let Presentation { begun, now, duration, window, .. } = presentation;
    let seconds = |duration: Duration| format!("PT{:.3}S", duration.as_secs_f64());
    let through = catalogue.complete();
    writeln!(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>")?;
    write!(
        out,
        "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" profiles=\"urn:mpeg:dash:profile:isoff-live:2011\" type=\"dynamic\""
    )?;
    write!(out, " availabilityStartTime=\"{}\" publishTime=\"{}\"", wall(begun), wall(now))?;
    write!(
        out,
        " minBufferTime=\"{}\" timeShiftBufferDepth=\"{}\"",
        seconds(duration),
        seconds(duration * window as u32)
    )?;
    write!(out, " suggestedPresentationDelay=\"{}\"", seconds(duration * window.min(3) as u32))?;
    match catalogue.has_ended {
        // What is known now is all there is.
        true => writeln!(out, " mediaPresentationDuration=\"{}\">", seconds(end(catalogue)))?,
        false => writeln!(out, " minimumUpdatePeriod=\"{}\">", seconds(duration))?,
    }
    for era in &catalogue.eras {
        let is_listed = |segment: &&Segment| segment.era == era.number && Some(segment.number) <= through;
        let mut sets = catalogue
            .tracks
            .iter()
            .filter(|track| track.segments.iter().any(|segment| is_listed(&segment)))
            .peekable();
        if sets.peek().is_none() {
            continue;
        }
        writeln!(out, "<Period id=\"{}\" start=\"{}\">", era.number, seconds(era.start))?;
        for track in sets {
            set(out, track, era, presentation.stem, track.segments.iter().filter(is_listed))?;
        }
        writeln!(out, "</Period>")?;
    }
    writeln!(out, "</MPD>")
}

fn set<'s>(
    out: &mut String,
    track: &Track,
    era: &Era,
    stem: &str,
    segments: impl Iterator<Item = &'s Segment>,
) -> fmt::Result {
    let Some((format, head)) = &era.heads[track.kind as usize] else { return Ok(()) };
    let (name, letter) = names(track.kind);
    let scale = format.codec.clock_rate();
    let offset = format.codec.ticks(era.offset);
    writeln!(
        out,
        "<AdaptationSet id=\"{}\" contentType=\"{name}\" mimeType=\"{name}/mp4\" segmentAlignment=\"true\" startWithSAP=\"1\">",
        track.kind as usize + 1
    )?;
    write!(
        out,
        "<Representation id=\"{name}\" codecs=\"{}\" bandwidth=\"{}\"",
        codec_name(format),
        track.peak.max(1)
    )?;
    match track.kind {
        Kind::Video => writeln!(out, " width=\"{}\" height=\"{}\">", format.size.0, format.size.1)?,
        Kind::Audio => {
            writeln!(out, " audioSamplingRate=\"{scale}\">")?;
            writeln!(
                out,
                "<AudioChannelConfiguration schemeIdUri=\"urn:mpeg:dash:23003:3:audio_channel_configuration:2011\" value=\"2\"/>"
            )?;
        }
    }
    write!(
        out,
        "<SegmentTemplate timescale=\"{scale}\" presentationTimeOffset=\"{offset}\" initialization=\"{head}\""
    )?;
    writeln!(out, " media=\"{stem}-{}{letter}-$Time$.m4s\">", era.number)?;
    writeln!(out, "<SegmentTimeline>")?;
    for Segment { begin, duration, .. } in segments {
        writeln!(out, "<S t=\"{begin}\" d=\"{duration}\"/>")?;
    }
    writeln!(out, "</SegmentTimeline>\n</SegmentTemplate>\n</Representation>\n</AdaptationSet>")
}

/// Of a segment as [`text`] says it.
pub(super) fn segment_name(stem: &str, era: u64, kind: Kind, begin: u64) -> String {
    format!("{stem}-{era}{}-{begin}.m4s", names(kind).1)
}

/// What a kind is called, and its letter in names of files.
pub(super) fn names(kind: Kind) -> (&'static str, char) {
    match kind {
        Kind::Audio => ("audio", 'a'),
        Kind::Video => ("video", 'v'),
    }
}

/// Since the beginning.
fn end(catalogue: &Catalogue) -> Duration {
    let end = |track: &Track| {
        let last = track.segments.back()?;
        let era = catalogue.eras.iter().find(|era| era.number == last.era)?;
        let codec = track.format(era)?.codec;
        Some((era.start + time(last.begin + last.duration, codec)).saturating_sub(era.offset))
    };
    catalogue.tracks.iter().filter_map(end).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{super::catalogue::tests::push, *};

    fn presentation() -> Presentation<'static> {
        let begun = SystemTime::UNIX_EPOCH;
        let (now, duration) = (begun + Duration::from_secs(20), Duration::from_secs(2));
        Presentation { begun, now, duration, window: 5, stem: "live-7" }
    }

    #[test]
    fn each_era_is_a_period_on_the_same_clock() {
        let mut catalogue = Catalogue::new(5, &Kind::ALL);
        push(&mut catalogue, 0, 0, 2);
        push(&mut catalogue, 1, 2, 1);
        let text = text(&catalogue, presentation());
        for part in [
            "type=\"dynamic\" availabilityStartTime=\"1970-01-01T00:00:00.000Z\" publishTime=\"1970-01-01T00:00:20.000Z\"",
            "timeShiftBufferDepth=\"PT10.000S\"",
            "minimumUpdatePeriod=\"PT2.000S\"",
            "<Period id=\"0\" start=\"PT10.000S\">",
            "<Period id=\"1\" start=\"PT20.000S\">",
            "codecs=\"avc1.42c01f\" bandwidth=\"1000000\" width=\"640\" height=\"480\"",
            "codecs=\"mp4a.40.2\"",
            "initialization=\"i01.mp4\" media=\"live-7-0v-$Time$.m4s\"",
            "<S t=\"180000\" d=\"180000\"/>",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(text.matches("<Period").count(), 2);
        assert_eq!(segment_name("live-7", 0, Kind::Video, 180_000), "live-7-0v-180000.m4s");
    }

    #[test]
    fn what_only_one_kind_has_is_not_told_yet() {
        let mut catalogue = Catalogue::new(5, &Kind::ALL);
        push(&mut catalogue, 0, 0, 2);
        catalogue.track(Kind::Audio).unwrap().segments.pop_back();
        assert_eq!(text(&catalogue, presentation()).matches("<S ").count(), 2);
    }

    #[test]
    fn the_end_is_said() {
        let mut catalogue = Catalogue::new(5, &Kind::ALL);
        push(&mut catalogue, 0, 0, 2);
        catalogue.has_ended = true;
        let text = text(&catalogue, presentation());
        assert!(text.contains("mediaPresentationDuration=\"PT14.000S\""), "{text}");
        assert!(!text.contains("minimumUpdatePeriod"));
    }
}
