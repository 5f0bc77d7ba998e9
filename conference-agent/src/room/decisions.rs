//! What a room decided of late for each subscribed track, and why: so that whoever asks why something is seen, or is not, gets an
//! answer. Told with the statistics; lost with the room.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::Instant,
};

use kaigi_proto::{
    ids::{ParticipantId, StreamId, SubscriptionId, TrackId},
    v1,
};
use kaigi_room_config::Resolution;

use super::{
    Room,
    feeds::Tap,
    media::{Feed, Kind, LayerWish},
    outputs::OutputSpec,
    state::{Choice, Origin},
    wish::Wish,
};

/// Decisions that are remembered of a track, about 2 kB.
const REMEMBERED: usize = 16;

/// On whose behalf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// Whose session it is.
    Owner,
    /// Another participant who may.
    Administrator,
    Management,
}

/// That something is to flow, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flowing {
    pub(super) active: bool,
    pub(super) by: By,
}

/// How a track is made for those who take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    Forward,
    Mixed,
    Transcoded,
}

impl Served {
    /// As statistics name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Mixed => "mixed",
            Self::Transcoded => "transcoded",
        }
    }

    pub(super) fn of(from: &Origin, tap: Option<&Tap>) -> Self {
        match (from, tap) {
            (Origin::View(_), _) => Self::Mixed,
            (Origin::Track { .. }, Some(Tap::Output(_))) => Self::Transcoded,
            (Origin::Track { .. }, Some(Tap::Plain | Tap::Layers(_)) | None) | (Origin::Selected(_), _) => {
                Self::Forward
            }
        }
    }
}

/// What was decided.
#[derive(Clone, Debug)]
pub(super) enum Why {
    Subscribed(String),
    /// The source, by its participant, an administrator or the management.
    SourceChanged(By, String),
    /// Size, rate, bitrate or key frame interval.
    Asked(By, String),
    /// A mixer is to make it.
    Making(Served, String),
    /// The node is told to take it; `before`: in place of another.
    Takes {
        track: TrackId,
        served: Served,
        before: bool,
    },
    /// The node is told to choose among so many layers.
    Chooses {
        layers: usize,
        wanted: LayerWish,
    },
    /// The node is told to send whoever is in that slot.
    Follows {
        slot: usize,
    },
    /// The node has not taken it; it is told again.
    NotTaken,
    /// A change that was asked for came to nothing.
    NotChanged,
    Paused(By),
    Resumed(By),
    SourcePaused(By),
    SourceResumed(By),
    Permitted(Kind, bool),
    SourcePermitted(Kind, bool),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = |by: &By, owner| match by {
            By::Owner => owner,
            By::Administrator => "an administrator",
            By::Management => "management",
        };
        match self {
            Self::Subscribed(from) => write!(f, "subscribed to {from}"),
            Self::SourceChanged(who, from) => {
                write!(f, "source changed by {} to {from}", by(who, "its participant"))
            }
            Self::Asked(who, what) => write!(f, "{what} asked by {}", by(who, "its participant")),
            Self::Making(Served::Mixed, what) => write!(f, "another output of the mix asked: {what}"),
            Self::Making(Served::Transcoded | Served::Forward, what) => {
                write!(f, "transcoding asked: {what}")
            }
            Self::Takes { track, served, before } => {
                let what = match served {
                    Served::Forward => "as published",
                    Served::Mixed => "an output of the mix",
                    Served::Transcoded => "transcoded",
                };
                match before {
                    true => write!(f, "switched to {track}, {what}, when it was ready"),
                    false => write!(f, "takes {track}, {what}"),
                }
            }
            Self::Chooses { layers, wanted } => {
                write!(f, "takes the best of {layers} layers that the network carries")?;
                let most = [
                    wanted.resolution.map(size),
                    wanted.framerate.map(|rate| format!("{rate} fps")),
                    wanted.bitrate.map(|kbps| format!("{kbps} kbit/s")),
                ];
                let most: Vec<_> = most.into_iter().flatten().collect();
                if most.is_empty() { Ok(()) } else { write!(f, ", at most {}", most.join(", ")) }
            }
            Self::Follows { slot } => write!(f, "follows who speaks, as number {slot}"),
            Self::NotTaken => f.write_str("the access-node did not take the source, it is told again"),
            Self::NotChanged => f.write_str("change failed, as it was before"),
            Self::Paused(who) => write!(f, "paused by {}", by(who, "its participant")),
            Self::Resumed(who) => write!(f, "resumed by {}", by(who, "its participant")),
            Self::SourcePaused(who) => write!(f, "source paused by {}", by(who, "its publisher")),
            Self::SourceResumed(who) => write!(f, "source resumed by {}", by(who, "its publisher")),
            Self::Permitted(kind, true) => write!(f, "{} permitted again", kind.name()),
            Self::Permitted(kind, false) => write!(f, "{} not permitted any more", kind.name()),
            Self::SourcePermitted(kind, true) => {
                write!(f, "source's publisher may publish {} again", kind.name())
            }
            Self::SourcePermitted(kind, false) => {
                write!(f, "source's publisher may not publish {} any more", kind.name())
            }
        }
    }
}

#[derive(Clone, Debug)]
struct Decision {
    at: Instant,
    track: Option<TrackId>,
    limit: v1::Limit,
    why: Why,
}

/// The last decisions of a room's subscribed tracks.
#[derive(Debug)]
pub(super) struct Decisions {
    now: Instant,
    tracks: BTreeMap<(SubscriptionId, Kind), VecDeque<Decision>>,
}

impl Decisions {
    pub(super) fn new(now: Instant) -> Self {
        Self { now, tracks: BTreeMap::new() }
    }

    /// What is decided from now on is decided then.
    pub(super) fn set_time(&mut self, now: Instant) {
        self.now = now;
    }

    /// The subscription is gone.
    pub(super) fn forget(&mut self, id: &SubscriptionId) {
        for kind in Kind::ALL {
            self.tracks.remove(&(id.clone(), kind));
        }
    }

    /// `current` is what the node was told to send until now.
    fn add(&mut self, id: &SubscriptionId, kind: Kind, current: Option<TrackId>, why: Why) {
        let limit = match why {
            Why::Paused(_) | Why::Permitted(_, false) => v1::Limit::Paused,
            Why::SourcePaused(_) | Why::SourcePermitted(_, false) => v1::Limit::Source,
            Why::Asked(..) | Why::Making(..) => v1::Limit::Asked,
            Why::Takes { .. } | Why::Chooses { .. } | Why::Resumed(_) | Why::Permitted(_, true) => {
                v1::Limit::None
            }
            Why::Follows { .. } | Why::SourceResumed(_) | Why::SourcePermitted(_, true) => v1::Limit::None,
            Why::Subscribed(_) | Why::SourceChanged(..) | Why::NotTaken | Why::NotChanged => {
                v1::Limit::Unspecified
            }
        };
        let track = match (&why, limit) {
            (Why::Takes { track, .. }, _) => Some(track.clone()),
            (_, v1::Limit::Paused | v1::Limit::Source) => None,
            (_, _) => current,
        };
        let decisions = self.tracks.entry((id.clone(), kind)).or_default();
        if decisions.len() >= REMEMBERED {
            decisions.pop_front();
        }
        decisions.push_back(Decision { at: self.now, track, limit, why });
    }

    /// As they are told, oldest first. `wall_ms` is the time of day now, Unix ms.
    pub(super) fn to_messages(&self, id: &SubscriptionId, kind: Kind, wall_ms: u64) -> Vec<v1::Choice> {
        let to_message = |decision: &Decision| {
            let ago = self.now.saturating_duration_since(decision.at).as_millis();
            v1::Choice {
                time_ms: wall_ms.saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX)),
                track_id: decision.track.as_ref().map(ToString::to_string).unwrap_or_default(),
                limit: decision.limit.into(),
                why: decision.why.to_string(),
            }
        };
        self.tracks.get(&(id.clone(), kind)).into_iter().flatten().map(to_message).collect()
    }
}

impl Room {
    pub(super) fn decided(&mut self, id: &SubscriptionId, kind: Kind, why: Why) {
        let Some(subscription) = self.state.subscriptions.get(id) else { return };
        let track = subscription.tracks.iter().find(|track| track.kind == kind);
        let current = track.and_then(|track| match track.feed.as_ref()? {
            Feed::Track(source) => Some(source.track.clone()),
            // Which one it is the node knows.
            Feed::Layers(..) | Feed::Selected(..) => None,
        });
        self.decisions.add(id, kind, current, why);
    }

    /// The same for all who take that kind of a stream.
    pub(super) fn decided_for_takers(&mut self, stream: &StreamId, kind: Kind, why: &Why) {
        let subscriptions = self.state.subscriptions.iter();
        let takers = subscriptions.filter(|(_, subscription)| {
            subscription.tracks.iter().any(|track| track.kind == kind && track.from.is_of(stream))
        });
        let takers: Vec<SubscriptionId> = takers.map(|(id, _)| id.clone()).collect();
        for id in takers {
            self.decided(&id, kind, why.clone());
        }
    }

    /// Who changes a session of that owner; `None` = the management.
    pub(super) fn by(by: Option<&ParticipantId>, owner: &ParticipantId) -> By {
        match by {
            Some(by) if by == owner => By::Owner,
            Some(_) => By::Administrator,
            None => By::Management,
        }
    }

    /// The stream or track id under which it is subscribed.
    pub(super) fn origin_id(&self, from: &Origin, kind: Kind) -> String {
        match from {
            Origin::View(label) => self.view(label).map(|view| view.stream.to_string()).unwrap_or_default(),
            Origin::Selected(slot) => {
                self.selecting_stream(*slot).map(ToString::to_string).unwrap_or_default()
            }
            Origin::Track { stream, track, .. } => {
                let publication = self.state.publications.get(stream);
                let first = publication.and_then(|publication| publication.first_track(kind));
                if first.is_some_and(|first| first.id == *track) {
                    stream.to_string()
                } else {
                    track.to_string()
                }
            }
        }
    }

    /// The access-node is told to take that.
    pub(super) fn decided_feed(&mut self, id: &SubscriptionId, kind: Kind, feed: &Feed, before: bool) {
        let Some(subscription) = self.state.subscriptions.get(id) else { return };
        let Some(track) = subscription.tracks.iter().find(|track| track.kind == kind) else { return };
        let served = Served::of(&track.from, self.tap_of(subscription, track).as_ref());
        let why = match feed {
            Feed::Track(source) => Why::Takes { track: source.track.clone(), served, before },
            Feed::Layers(layers, wanted) => Why::Chooses { layers: layers.len(), wanted: *wanted },
            Feed::Selected(slot, _) => Why::Follows { slot: *slot },
        };
        self.decided(id, kind, why);
    }

    /// What is negotiated, or chosen, has to be made first.
    pub(super) fn decided_making(&mut self, id: &SubscriptionId, next: &BTreeMap<Kind, Choice>) {
        let Some(subscription) = self.state.subscriptions.get(id) else { return };
        let owner = &subscription.owner;
        let mut making = Vec::new();
        for track in &subscription.tracks {
            let (from, conversion) = match next.get(&track.kind) {
                Some(choice) => (&choice.from, &choice.conversion),
                None => (&track.from, &track.conversion),
            };
            let tap = self.tap(owner, track.kind, from, conversion, track.negotiated.as_ref());
            let Some(tap @ Tap::Output(spec)) = &tap else { continue };
            if self.feed_of_tap(owner, track.kind, from, tap).is_none() {
                making.push((track.kind, Why::Making(Served::of(from, Some(tap)), described(spec))));
            }
        }
        for (kind, why) in making {
            self.decided(id, kind, why);
        }
    }

    /// Another source, or other parameters, are asked for.
    pub(super) fn decided_update(&mut self, id: &SubscriptionId, by: By, next: &BTreeMap<Kind, Choice>) {
        for (kind, choice) in next {
            let Some(subscription) = self.state.subscriptions.get(id) else { return };
            let Some(track) = subscription.tracks.iter().find(|track| track.kind == *kind) else { continue };
            let moved = track.from != choice.from;
            let asked = (choice.wish != track.wish || moved).then(|| wished(&choice.wish)).flatten();
            if moved {
                let to = self.origin_id(&choice.from, *kind);
                self.decided(id, *kind, Why::SourceChanged(by, to));
            }
            if let Some(asked) = asked {
                self.decided(id, *kind, Why::Asked(by, asked));
            }
        }
    }
}

fn size(resolution: Resolution) -> String {
    format!("{}×{}", resolution.width, resolution.height)
}

/// What is wanted, in short; `None` if it is nothing.
fn wished(wish: &Wish) -> Option<String> {
    let wanted = &wish.parameters;
    let parts: Vec<String> = [
        wanted.resolution.map(size),
        wanted.framerate.map(|rate| format!("{rate} fps")),
        wanted.bitrate.map(|kbps| format!("{kbps} kbit/s")),
        wish.bitrate_multiplier.as_ref().map(|factor| format!("bitrate {factor}")),
        wanted.key_frame_interval.map(|seconds| format!("key frames every {seconds} s")),
        (wish.priority > 0).then(|| format!("priority {}", wish.priority)),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What an output is, in short.
fn described(spec: &OutputSpec) -> String {
    let parts: Vec<String> = match spec {
        OutputSpec::Audio(audio) => vec![audio.format.codec.clone()],
        OutputSpec::Video(video) => [
            Some(video.format.codec.clone()),
            video.resolution.map(size),
            video.framerate.map(|rate| format!("{rate} fps")),
            video.bitrate.map(|kbps| format!("{kbps} kbit/s")),
        ]
        .into_iter()
        .flatten()
        .collect(),
    };
    parts.join(" ")
}
