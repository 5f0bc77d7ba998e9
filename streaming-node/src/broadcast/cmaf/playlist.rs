//! Playlists of HLS (RFC 8216; parts: its second edition, draft-pantos-hls-rfc8216bis) of segments of fragmented MP4: one of each kind, and one
//! that names them.

use std::{
    fmt::{self, Write},
    time::{Duration, SystemTime},
};

use super::{
    catalogue::{Catalogue, Part, Track, codec_name, time},
    mpd::names,
    wall,
};
use crate::lanes::Kind;

/// Segments of which the parts are listed, up to the newest: those that a player who begins at the edge can want (§4.4.4.9).
const IN_PARTS: usize = 3;
/// How many parts a player is to stay behind (§4.4.3.8).
const HOLD_BACK: u32 = 3;

/// What is the same for all playlists.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    /// Of a segment, in whole seconds; no segment is longer when rounded.
    pub(super) target: u64,
    /// Of a part, if there are parts.
    pub(super) part: Option<Duration>,
    /// When the broadcast began.
    pub(super) begun: SystemTime,
}

/// What a playlist of a kind is called.
pub(super) fn name(stem: &str, kind: Kind) -> String {
    format!("{stem}-{}.m3u8", names(kind).0)
}

/// The playlist that the broadcast's URL names: which others there are. None before it is known.
pub(super) fn main_text(catalogue: &Catalogue, stem: &str) -> Option<String> {
    let formats: Option<Vec<_>> = catalogue
        .tracks
        .iter()
        .map(|track| {
            catalogue.eras.iter().rev().find_map(|era| track.format(era)).map(|format| (track.kind, format))
        })
        .collect();
    let formats = formats?;
    let codecs: Vec<String> = formats.iter().map(|(_, format)| codec_name(format)).collect();
    let bandwidth: u64 = catalogue.tracks.iter().map(|track| track.peak).sum();
    let picture = formats.iter().find(|(kind, _)| *kind == Kind::Video);
    let mut text = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n".to_owned();
    let group = if picture.is_some() && formats.len() > 1 {
        let uri = name(stem, Kind::Audio);
        text += &format!(
            "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"audio\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"{uri}\"\n"
        );
        ",AUDIO=\"audio\""
    } else {
        ""
    };
    let (kind, size) = match picture {
        Some((kind, format)) => (*kind, format!(",RESOLUTION={}x{}", format.size.0, format.size.1)),
        None => (Kind::Audio, String::new()),
    };
    let (bandwidth, codecs) = (bandwidth.max(1), codecs.join(","));
    text += &format!(
        "#EXT-X-STREAM-INF:BANDWIDTH={bandwidth},CODECS=\"{codecs}\"{size}{group}\n{}\n",
        name(stem, kind)
    );
    Some(text)
}

/// The playlist of a kind.
pub(super) fn text(catalogue: &Catalogue, track: &Track, promise: Promise) -> String {
    let mut text = String::new();
    // A string takes everything.
    let _written = write(&mut text, catalogue, track, promise);
    text
}

fn write(out: &mut String, catalogue: &Catalogue, track: &Track, promise: Promise) -> fmt::Result {
    let Promise { target, part, begun } = promise;
    writeln!(
        out,
        "#EXTM3U\n#EXT-X-VERSION:{}\n#EXT-X-TARGETDURATION:{target}",
        if part.is_some() { 9 } else { 7 }
    )?;
    if let Some(part) = part {
        let (hold, part) = ((part * HOLD_BACK).as_secs_f64(), part.as_secs_f64());
        writeln!(
            out,
            "#EXT-X-SERVER-CONTROL:PART-HOLD-BACK={hold:.3}\n#EXT-X-PART-INF:PART-TARGET={part:.3}"
        )?;
    }
    writeln!(out, "#EXT-X-MEDIA-SEQUENCE:{}\n#EXT-X-DISCONTINUITY-SEQUENCE:{}", track.gone, track.eras_gone)?;
    writeln!(out, "#EXT-X-INDEPENDENT-SEGMENTS")?;
    let mut known = None;
    let whole_from = track.segments.len().saturating_sub(IN_PARTS);
    for (place, segment) in track.segments.iter().enumerate() {
        let Some(era) = catalogue.eras.iter().find(|era| era.number == segment.era) else { continue };
        let Some((format, head)) = &era.heads[track.kind as usize] else { continue };
        let of = |ticks| time(ticks, format.codec);
        if known != Some(segment.era) {
            if known.is_some() {
                writeln!(out, "#EXT-X-DISCONTINUITY")?;
            }
            writeln!(out, "#EXT-X-MAP:URI=\"{head}\"")?;
            let at = (era.start + of(segment.begin)).saturating_sub(era.offset);
            writeln!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", wall(begun + at))?;
            known = Some(segment.era);
        }
        if place >= whole_from {
            for Part { name, duration, independent } in &segment.parts {
                let independent = if *independent { ",INDEPENDENT=YES" } else { "" };
                writeln!(
                    out,
                    "#EXT-X-PART:DURATION={:.5},URI=\"{name}\"{independent}",
                    duration.as_secs_f64()
                )?;
            }
        }
        if segment.is_complete {
            writeln!(out, "#EXTINF:{:.5},\n{}", of(segment.duration).as_secs_f64(), segment.name)?;
        }
    }
    match catalogue.has_ended {
        true => writeln!(out, "#EXT-X-ENDLIST"),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use m3u8_rs::{MasterPlaylist, MediaPlaylist, Playlist};

    use super::{super::catalogue::tests::push, *};

    const PROMISE: Promise = Promise { target: 2, part: None, begun: SystemTime::UNIX_EPOCH };

    fn media(catalogue: &Catalogue, promise: Promise) -> (MediaPlaylist, String) {
        let text = text(catalogue, &catalogue.tracks[1], promise);
        let Ok(Playlist::MediaPlaylist(playlist)) = m3u8_rs::parse_playlist_res(text.as_bytes()) else {
            panic!("{text}");
        };
        (playlist, text)
    }

    #[test]
    fn eras_are_discontinuities_with_heads_of_their_own() {
        let mut catalogue = Catalogue::new(3, &Kind::ALL);
        push(&mut catalogue, 0, 0, 2);
        push(&mut catalogue, 1, 2, 1);
        let (playlist, text) = media(&catalogue, PROMISE);
        let uris: Vec<&str> = playlist.segments.iter().map(|segment| segment.uri.as_str()).collect();
        assert_eq!(uris, ["s01-0.m4s", "s01-1.m4s", "s11-2.m4s"]);
        let breaks: Vec<bool> = playlist.segments.iter().map(|segment| segment.discontinuity).collect();
        assert_eq!(breaks, [false, false, true]);
        let heads = playlist.segments.iter().map(|segment| segment.map.as_ref().map(|map| map.uri.as_str()));
        assert_eq!(heads.collect::<Vec<_>>(), [Some("i01.mp4"), None, Some("i11.mp4")]);
        assert!(text.contains("#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:10.000Z"));
        assert!(text.contains("#EXT-X-PROGRAM-DATE-TIME:1970-01-01T00:00:20.000Z"));
        assert!(!text.contains("PART") && !playlist.end_list);
        push(&mut catalogue, 1, 3, 2);
        catalogue.trim();
        catalogue.has_ended = true;
        let (playlist, text) = media(&catalogue, PROMISE);
        assert_eq!(playlist.media_sequence, 2);
        assert!(text.contains("#EXT-X-DISCONTINUITY-SEQUENCE:1") && playlist.end_list);
        assert!(playlist.segments.iter().all(|segment| !segment.discontinuity));
    }

    #[test]
    fn the_newest_segments_are_listed_in_parts_too() {
        let mut catalogue = Catalogue::new(5, &Kind::ALL);
        push(&mut catalogue, 0, 0, 5);
        for segment in &mut catalogue.tracks[1].segments {
            let duration = Duration::from_millis(500);
            let part = |i| Part { name: format!("{}.{i}", segment.number), duration, independent: i == 0 };
            segment.parts = (0..4).map(part).collect();
            segment.is_complete = segment.number < 4;
        }
        let part = Some(Duration::from_millis(500));
        let (playlist, text) = media(&catalogue, Promise { part, ..PROMISE });
        assert_eq!((playlist.segments.len(), playlist.version), (4, Some(9)));
        assert!(
            text.contains("#EXT-X-SERVER-CONTROL:PART-HOLD-BACK=1.500\n#EXT-X-PART-INF:PART-TARGET=0.500")
        );
        assert_eq!(text.matches("#EXT-X-PART:").count(), 12);
        assert!(text.ends_with("#EXT-X-PART:DURATION=0.50000,URI=\"4.3\"\n"), "{text}");
        assert!(text.contains("URI=\"4.0\",INDEPENDENT=YES"));
    }

    fn main(catalogue: &Catalogue) -> Option<MasterPlaylist> {
        let text = main_text(catalogue, "live-7")?;
        match m3u8_rs::parse_playlist_res(text.as_bytes()) {
            Ok(Playlist::MasterPlaylist(playlist)) => Some(playlist),
            _ => panic!("{text}"),
        }
    }

    #[test]
    fn one_playlist_names_the_others() {
        let mut catalogue = Catalogue::new(5, &Kind::ALL);
        assert!(main(&catalogue).is_none());
        push(&mut catalogue, 0, 0, 1);
        let playlist = main(&catalogue).unwrap();
        let [variant] = &playlist.variants[..] else { panic!("one") };
        assert_eq!((variant.uri.as_str(), variant.bandwidth), ("live-7-video.m3u8", 2_000_000));
        assert_eq!(variant.codecs.as_deref(), Some("mp4a.40.2,avc1.42c01f"));
        assert_eq!(playlist.alternatives[0].uri.as_deref(), Some("live-7-audio.m3u8"));
        assert_eq!(variant.audio.as_deref(), Some("audio"));
    }

    #[test]
    fn a_broadcast_of_one_kind_has_one_playlist_besides() {
        let mut catalogue = Catalogue::new(5, &[Kind::Audio]);
        let mut both = Catalogue::new(5, &Kind::ALL);
        push(&mut both, 0, 0, 1);
        catalogue.eras = both.eras;
        catalogue.tracks = both.tracks.into_iter().filter(|track| track.kind == Kind::Audio).collect();
        let playlist = main(&catalogue).unwrap();
        assert_eq!(playlist.variants[0].uri, "live-7-audio.m3u8");
        assert!(playlist.alternatives.is_empty());
    }
}
