//! How far a media playlist goes (RFC 8216, and its second edition, draft-pantos-hls-rfc8216bis, of which the sections here are), and whether that is as far
//! as somebody waits for.

use std::time::Duration;

/// Announces that a request can wait (§4.4.3.8).
const CONTROL: &str = "#EXT-X-SERVER-CONTROL:";
const CAN_BLOCK: &str = "CAN-BLOCK-RELOAD=YES";

/// The end of a media playlist that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edge {
    /// Number of the segment that is not complete yet.
    next: u64,
    /// How many parts of it there are.
    open: u64,
    /// How many parts of the one before are listed.
    last: u64,
    target: Duration,
    /// By how many parts somebody may be ahead (§6.2.5.2).
    ahead: u64,
}

/// What somebody waits for (§6.2.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) segment: u64,
    pub(super) part: Option<u64>,
}

/// What is asked for beside a playlist is not in the form that it should have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is asked for is no place in a playlist")]
pub(super) struct NoPlace;

impl Wanted {
    /// Of a request's query; other parameters mean nothing here.
    pub(super) fn parse(query: &str) -> Result<Option<Self>, NoPlace> {
        let (mut segment, mut part) = (None, None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            let place = match name.as_ref() {
                "_HLS_msn" => &mut segment,
                "_HLS_part" => &mut part,
                _ => continue,
            };
            if place.replace(value.parse::<u64>().map_err(|_| NoPlace)?).is_some() {
                return Err(NoPlace);
            }
        }
        match (segment, part) {
            (Some(segment), part) => Ok(Some(Self { segment, part })),
            (None, Some(_)) => Err(NoPlace),
            (None, None) => Ok(None),
        }
    }
}

impl Edge {
    /// `None` if the text is no media playlist, or goes on no more.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (mut target, mut part_target) = (None, None);
        let (mut first, mut segments, mut open, mut last) = (0, 0, 0, 0);
        for line in text.lines() {
            if let Some(seconds) = line.strip_prefix("#EXT-X-TARGETDURATION:") {
                target = seconds.trim().parse().ok().map(Duration::from_secs);
            } else if let Some(number) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                first = number.trim().parse().ok()?;
            } else if let Some(seconds) = line.strip_prefix("#EXT-X-PART-INF:PART-TARGET=") {
                part_target = seconds.trim().parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
            } else if line.starts_with("#EXT-X-PART:") {
                open += 1;
            } else if line.starts_with("#EXTINF:") {
                segments += 1;
                (last, open) = (open, 0);
            } else if line.starts_with("#EXT-X-ENDLIST") {
                return None;
            }
        }
        let ahead =
            part_target.filter(|seconds| *seconds < 1.0).map_or(3, |seconds| (3.0 / seconds).ceil() as u64);
        Some(Self { next: u64::checked_add(first, segments)?, open, last, target: target?, ahead })
    }

    /// Whether what is wanted is there. A part behind the last one of its segment is the first of the next.
    pub(super) fn has(&self, wanted: Wanted) -> bool {
        let Wanted { segment, part } = wanted;
        let (segment, part) = match part {
            Some(part) if segment.checked_add(1) == Some(self.next) && part >= self.last => {
                (self.next, Some(0))
            }
            part => (segment, part),
        };
        segment < self.next || (segment == self.next && part.is_some_and(|part| part < self.open))
    }

    /// Whether it is so far ahead that waiting for it makes no sense.
    pub(super) fn is_far_from(&self, wanted: Wanted) -> bool {
        let by_segments = wanted.segment > self.next.saturating_add(1);
        let by_parts = wanted.part.is_some_and(|part| part >= self.open.saturating_add(self.ahead));
        by_segments || (wanted.segment == self.next && by_parts)
    }

    /// How long somebody may wait: three target durations.
    pub(super) fn patience(&self) -> Duration {
        self.target * 3
    }
}

/// The same playlist, which says that requests for it can wait.
pub(super) fn announced(text: &str) -> String {
    match text.contains(CONTROL) {
        true => text.replacen(CONTROL, &format!("{CONTROL}{CAN_BLOCK},"), 1),
        false => text.replacen(
            "#EXT-X-TARGETDURATION:",
            &format!("{CONTROL}{CAN_BLOCK}\n#EXT-X-TARGETDURATION:"),
            1,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Segments 10 and 11 are complete, 12 has one part of half a second.
    const PARTS: &str = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n#EXT-X-SERVER-CONTROL:PART-HOLD-BACK=1.500\n\
        #EXT-X-PART-INF:PART-TARGET=0.500\n#EXT-X-MEDIA-SEQUENCE:10\n#EXTINF:1.0,\na\n\
        #EXT-X-PART:DURATION=0.5,URI=\"b.0\"\n#EXT-X-PART:DURATION=0.5,URI=\"b.1\"\n#EXTINF:1.0,\nb\n\
        #EXT-X-PART:DURATION=0.5,URI=\"c.0\"\n";

    fn wanted(segment: u64, part: impl Into<Option<u64>>) -> Wanted {
        Wanted { segment, part: part.into() }
    }

    #[test]
    fn what_is_listed_is_there_and_what_is_next_is_not() {
        let edge = Edge::parse(PARTS).unwrap();
        for there in [wanted(3, None), wanted(11, None), wanted(11, 1), wanted(12, 0)] {
            assert!(edge.has(there), "{there:?}");
        }
        for missing in [wanted(12, None), wanted(12, 1), wanted(13, 0), wanted(u64::MAX, u64::MAX)] {
            assert!(!edge.has(missing), "{missing:?}");
        }
        assert_eq!(edge.patience(), Duration::from_secs(6));
    }

    #[test]
    fn a_part_behind_the_last_is_the_first_of_the_next_segment() {
        let edge = Edge::parse(PARTS).unwrap();
        assert!(edge.has(wanted(11, 2)));
        let complete = PARTS.rsplit_once("#EXT-X-PART:").unwrap().0;
        assert!(!Edge::parse(complete).unwrap().has(wanted(11, 2)));
    }

    #[test]
    fn what_is_too_far_ahead_is_said_to_be() {
        let edge = Edge::parse(PARTS).unwrap();
        for near in [wanted(12, None), wanted(13, None), wanted(12, 6), wanted(13, 40)] {
            assert!(!edge.is_far_from(near), "{near:?}");
        }
        for far in [wanted(14, None), wanted(12, 7), wanted(u64::MAX, 0)] {
            assert!(edge.is_far_from(far), "{far:?}");
        }
    }

    #[test]
    fn nothing_is_waited_for_where_nothing_comes() {
        assert_eq!(Edge::parse(&format!("{PARTS}#EXT-X-ENDLIST\n")), None);
        assert_eq!(Edge::parse("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n"), None);
        assert_eq!(Edge::parse(""), None);
    }

    #[test]
    fn places_are_numbers_once() {
        let of = Wanted::parse;
        assert_eq!(of("token=a&_HLS_skip=YES"), Ok(None));
        assert_eq!(of("_HLS_msn=12"), Ok(Some(wanted(12, None))));
        assert_eq!(of("a=b&_HLS_msn=12&_HLS_part=0"), Ok(Some(wanted(12, 0))));
        for bad in [
            "_HLS_part=0",
            "_HLS_msn=-1",
            "_HLS_msn=",
            "_HLS_msn=1&_HLS_msn=2",
            "_HLS_msn=99999999999999999999",
        ] {
            assert_eq!(of(bad), Err(NoPlace), "{bad}");
        }
    }

    #[test]
    fn playlists_say_that_requests_can_wait() {
        assert!(
            announced(PARTS).contains("#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=1.500\n")
        );
        let plain = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n";
        assert_eq!(
            announced(plain),
            "#EXTM3U\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n#EXT-X-TARGETDURATION:2\n"
        );
    }
}
