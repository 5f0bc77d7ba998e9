//! Playlists of HLS (RFC 8216): their segments, one after the other.

use std::time::Duration;

use gstreamer_app::AppSrc;
use m3u8_rs::{AlternativeMediaType, KeyMethod, MasterPlaylist, MediaPlaylist, MediaSegment, Playlist};
use url::Url;

use super::fetch::{FetchError, Part, Web, push, room_in};

/// Bytes of a playlist.
const MAX_PLAYLIST: usize = 1 << 20;
/// Bytes of a segment.
const MAX_SEGMENT: usize = 64 << 20;
/// Segments from the end of a live playlist at which it is begun (RFC 8216 §6.3.3: not nearer than three target durations).
const FROM_END: usize = 3;
/// Widest picture that is chosen where there is a choice.
const MAX_WIDTH: u64 = 1920;

/// The media playlists that together are the stream: sound may have one of its own.
pub(super) async fn playlists(web: &Web, url: &Url) -> Result<Vec<Url>, FetchError> {
    let (text, found) = web.bytes(url, None, MAX_PLAYLIST).await?;
    match m3u8_rs::parse_playlist_res(&text) {
        Ok(Playlist::MediaPlaylist(_)) => Ok(vec![found]),
        Ok(Playlist::MasterPlaylist(master)) => {
            let chosen = choose(&master).ok_or(FetchError::Playlist("the playlist is empty"))?;
            let join =
                |uri: &str| found.join(uri).map_err(|_| FetchError::Playlist("the playlist names no URL"));
            chosen.into_iter().map(join).collect()
        }
        Err(_) => Err(FetchError::Playlist("what is there is no playlist")),
    }
}

/// The best picture that is not too large, and its sound if that is apart.
fn choose(master: &MasterPlaylist) -> Option<Vec<&str>> {
    let variants = || master.variants.iter().filter(|variant| !variant.is_i_frame);
    let fits = |width: u64| width <= MAX_WIDTH;
    let fitting = variants().filter(|variant| variant.resolution.is_none_or(|size| fits(size.width)));
    let best = fitting.max_by_key(|variant| variant.bandwidth);
    let best = best.or_else(|| variants().min_by_key(|variant| variant.bandwidth))?;
    let of_group = master.alternatives.iter().filter(|media| {
        media.media_type == AlternativeMediaType::Audio && Some(&media.group_id) == best.audio.as_ref()
    });
    let sound = of_group.max_by_key(|media| media.default).and_then(|media| media.uri.as_deref());
    Some(std::iter::once(best.uri.as_str()).chain(sound).collect())
}

/// Feeds the segments of a media playlist, for as long as it goes on.
pub(super) async fn feed(web: &Web, url: Url, source: &AppSrc) -> Result<(), FetchError> {
    let mut follower = Follower::default();
    loop {
        let (text, found) = web.bytes(&url, None, MAX_PLAYLIST).await?;
        let Ok(Playlist::MediaPlaylist(playlist)) = m3u8_rs::parse_playlist_res(&text) else {
            return Err(FetchError::Playlist("what is there is no playlist"));
        };
        let fetches = follower.follow(&playlist)?;
        let none = fetches.is_empty();
        for Fetch { uri, part } in fetches {
            let url = found.join(&uri).map_err(|_| FetchError::Playlist("the playlist names no URL"))?;
            room_in(source).await;
            let (bytes, _) = web.bytes(&url, part, MAX_SEGMENT).await?;
            push(source, bytes)?;
        }
        if playlist.end_list {
            let _flow = source.end_of_stream();
            return Ok(());
        }
        // RFC 8216 §6.3.4: a playlist that has not changed is asked for again after half of its target duration.
        let target = Duration::from_secs(playlist.target_duration.clamp(1, 60));
        tokio::time::sleep(if none { target / 2 } else { target.min(Duration::from_secs(2)) }).await;
    }
}

/// A file, or a part of one, that is next.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fetch {
    uri: String,
    part: Option<Part>,
}

/// Knows what of a playlist was fed.
#[derive(Debug, Default)]
struct Follower {
    /// Number of the next segment.
    next: Option<u64>,
    /// The initialization that was fed last.
    map: Option<Fetch>,
    /// Where a part without an offset begins.
    end_of: Option<(String, u64)>,
}

impl Follower {
    /// What is new in a playlist.
    fn follow(&mut self, playlist: &MediaPlaylist) -> Result<Vec<Fetch>, FetchError> {
        let first = playlist.media_sequence;
        let count = playlist.segments.len();
        let begin = if playlist.end_list { 0 } else { count.saturating_sub(FROM_END) };
        let begin = first + begin as u64;
        // One that counts anew is another; what is out of the playlist is lost.
        let end = first + count as u64;
        let next = self.next.filter(|next| *next <= end).map_or(begin, |next| next.max(first));
        let mut fetches = Vec::new();
        let mut map = None;
        for (number, segment) in (first..).zip(&playlist.segments) {
            if segment.key.as_ref().is_some_and(|key| key.method != KeyMethod::None) {
                return Err(FetchError::Playlist("the stream is encrypted"));
            }
            map = segment.map.as_ref().or(map);
            let fetch = self.part(segment);
            if number < next {
                continue;
            }
            if let Some(map) = map {
                let part =
                    map.byte_range.as_ref().map(|range| (range.offset.unwrap_or(0), Some(range.length)));
                let map = Fetch { uri: map.uri.clone(), part };
                if self.map.as_ref() != Some(&map) || segment.discontinuity {
                    fetches.push(map.clone());
                    self.map = Some(map);
                }
            }
            fetches.push(fetch);
        }
        self.next = Some(end);
        Ok(fetches)
    }

    fn part(&mut self, segment: &MediaSegment) -> Fetch {
        let uri = segment.uri.clone();
        let part = segment.byte_range.as_ref().map(|range| {
            let follows = self.end_of.as_ref().filter(|(of, _)| *of == uri).map_or(0, |(_, end)| *end);
            (range.offset.unwrap_or(follows), range.length)
        });
        self.end_of = part.map(|(from, length)| (uri.clone(), from.saturating_add(length)));
        Fetch { uri, part: part.map(|(from, length)| (from, Some(length))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn media(text: &str) -> MediaPlaylist {
        match m3u8_rs::parse_playlist_res(text.as_bytes()) {
            Ok(Playlist::MediaPlaylist(playlist)) => playlist,
            other => panic!("{other:?}"),
        }
    }
    fn live(first: u64, count: u64, end: &str) -> MediaPlaylist {
        let segments: String = (first..first + count).map(|n| format!("#EXTINF:2,\ns{n}.ts\n")).collect();
        media(&format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{first}\n{segments}{end}"))
    }
    fn names(follower: &mut Follower, playlist: &MediaPlaylist) -> Vec<String> {
        follower.follow(playlist).unwrap().into_iter().map(|fetch| fetch.uri).collect()
    }

    #[test]
    fn a_live_playlist_is_begun_near_its_end_and_followed() {
        let mut follower = Follower::default();
        assert_eq!(names(&mut follower, &live(10, 5, "")), ["s12.ts", "s13.ts", "s14.ts"]);
        assert!(names(&mut follower, &live(10, 5, "")).is_empty());
        assert_eq!(names(&mut follower, &live(12, 5, "")), ["s15.ts", "s16.ts"]);
        assert_eq!(names(&mut follower, &live(30, 2, "")), ["s30.ts", "s31.ts"], "some are lost");
        assert_eq!(names(&mut follower, &live(0, 2, "")), ["s0.ts", "s1.ts"], "it counts anew");
    }

    #[test]
    fn a_stored_one_is_played_from_its_beginning() {
        let whole = live(0, 5, "#EXT-X-ENDLIST\n");
        assert_eq!(names(&mut Follower::default(), &whole).len(), 5);
    }

    #[test]
    fn initializations_come_before_their_segments_and_once() {
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MAP:URI=\"i.mp4\"\n#EXTINF:2,\na.m4s\n#EXTINF:2,\nb.m4s\n\
            #EXT-X-MAP:URI=\"j.mp4\"\n#EXTINF:2,\nc.m4s\n";
        let mut follower = Follower::default();
        assert_eq!(names(&mut follower, &media(text)), ["i.mp4", "a.m4s", "b.m4s", "j.mp4", "c.m4s"]);
        let more = format!("{text}#EXTINF:2,\nd.m4s\n");
        assert_eq!(names(&mut follower, &media(&more)), ["d.m4s"]);
    }

    #[test]
    fn parts_of_a_file_follow_each_other() {
        let text = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n#EXT-X-BYTERANGE:100@50\na.ts\n\
            #EXTINF:2,\n#EXT-X-BYTERANGE:30\na.ts\n";
        let parts: Vec<_> =
            Follower::default().follow(&media(text)).unwrap().into_iter().map(|fetch| fetch.part).collect();
        assert_eq!(parts, [Some((50, Some(100))), Some((150, Some(30)))]);
    }

    #[test]
    fn what_is_encrypted_is_refused() {
        let text =
            "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:2,\na.ts\n";
        assert!(Follower::default().follow(&media(text)).is_err());
    }

    #[test]
    fn the_best_picture_that_is_not_too_large_is_chosen_with_its_sound() {
        let text = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"en\",DEFAULT=YES,URI=\"en.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=9000000,RESOLUTION=3840x2160,AUDIO=\"a\"\n4k.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=3000000,RESOLUTION=1920x1080,AUDIO=\"a\"\nhd.m3u8\n\
            #EXT-X-STREAM-INF:BANDWIDTH=500000,RESOLUTION=640x360,AUDIO=\"a\"\nsd.m3u8\n";
        let Ok(Playlist::MasterPlaylist(master)) = m3u8_rs::parse_playlist_res(text.as_bytes()) else {
            panic!()
        };
        assert_eq!(choose(&master).unwrap(), ["hd.m3u8", "en.m3u8"]);
    }
}
