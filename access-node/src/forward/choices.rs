//! What a subscription is sent of late, and why.

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use kaigi_proto::{ids::TrackId, v1};

/// Choices that are remembered of a stream, about 1 kB.
const REMEMBERED: usize = 16;

/// Why something else is sent than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The agent named a source.
    SourceSet,
    /// The key frame that was waited for is sent.
    Joined,
    /// Stopped by the agent.
    Paused,
    /// Started again by the agent.
    Resumed,
    /// The source was stopped for everybody.
    SourcePaused,
    /// The source was started again for everybody.
    SourceResumed,
    /// Whoever produces the source has begun to.
    SourceStarted,
    /// Nobody produces the source any more.
    SourceEnded,
    /// The source is there, and nothing comes.
    SourceSilent,
    /// Something comes again.
    SourceHeard,
    /// Of layers: what is asked for.
    Asked,
    /// Of layers: the one before sends nothing.
    LayerStopped,
    /// Of layers: the way to the client carries less than before, in kbit/s.
    LessCarried(u64),
    /// Of layers: the way to the client carries more, in kbit/s.
    MoreCarried(u64),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::SourceSet => "source set",
            Self::Joined => "key frame came",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::SourcePaused => "source is paused",
            Self::SourceResumed => "source is resumed",
            Self::SourceStarted => "source has started",
            Self::SourceEnded => "source has ended",
            Self::SourceSilent => "source sends nothing",
            Self::SourceHeard => "source sends again",
            Self::Asked => "asked for",
            Self::LayerStopped => "layer before sends nothing",
            Self::LessCarried(kbits) => return write!(f, "estimate fell to {kbits} kbit/s"),
            Self::MoreCarried(kbits) => return write!(f, "estimate rose to {kbits} kbit/s"),
        };
        f.write_str(text)
    }
}

#[derive(Clone, Debug)]
struct Choice {
    at: Instant,
    track: Option<TrackId>,
    limit: v1::Limit,
    why: Why,
    /// Video goes on at a key frame only.
    waits: bool,
}

/// The last choices of one stream, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Choices(VecDeque<Choice>);

impl Choices {
    /// From now on that is sent (none = nothing), or, if it `waits`, from its next key frame on.
    pub(super) fn made(
        &mut self,
        at: Instant,
        track: Option<&TrackId>,
        limit: v1::Limit,
        why: Why,
        waits: bool,
    ) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(Choice { at, track: track.cloned(), limit, why, waits });
    }

    /// When and why the last was made.
    pub(super) fn last(&self) -> Option<(Instant, Why)> {
        self.0.back().map(|choice| (choice.at, choice.why))
    }

    /// As they are told. `wall` is the time of day at `now`.
    pub(super) fn to_messages(&self, now: Instant, wall: SystemTime) -> Vec<v1::Choice> {
        let to_message = |choice: &Choice| v1::Choice {
            time_ms: unix_ms(wall, now.saturating_duration_since(choice.at)),
            track_id: choice.track.as_ref().map(ToString::to_string).unwrap_or_default(),
            limit: choice.limit.into(),
            why: format!("{}{}", choice.why, if choice.waits { ", waits for a key frame" } else { "" }),
        };
        self.0.iter().map(to_message).collect()
    }
}

/// Milliseconds from 1970 to `ago` before `wall`.
fn unix_ms(wall: SystemTime, ago: Duration) -> u64 {
    let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(ago);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sixteen_are_told_with_the_time_of_day() {
        let (mut choices, start) = (Choices::default(), Instant::now());
        let track = TrackId::new("t").unwrap();
        for n in 0..20 {
            let (track, why) = if n % 2 == 0 { (None, Why::Paused) } else { (Some(&track), Why::Resumed) };
            choices.made(start + Duration::from_millis(n), track, v1::Limit::None, why, n == 19);
        }
        let (now, wall) =
            (start + Duration::from_millis(1000), UNIX_EPOCH + Duration::from_millis(5_000_000));
        let told = choices.to_messages(now, wall);
        assert_eq!(told.len(), REMEMBERED);
        assert_eq!((told[0].time_ms, told[15].time_ms), (4_999_004, 4_999_019));
        assert_eq!((&told[0].why[..], &told[0].track_id[..]), ("paused", ""));
        assert_eq!((&told[15].why[..], &told[15].track_id[..]), ("resumed, waits for a key frame", "t"));
    }
}
