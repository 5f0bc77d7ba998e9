//! What nodes count, as it is shown.

use kaigi_proto::v1::{
    Choice, Limit, MediaFormat, MediaKind, RoomStatsReply, StreamStats, SubscribedTrackStats,
    SubscriptionStats, TrackStats, VideoParameters,
};
use serde_json::{Map, Value, json};

use super::{
    Counters, Decision, Kind, Layer, LimitShown, RoomStats, Served, StreamStatsShown, SubscribedTrack,
    Subscription, Track,
};
use crate::protocol::stream_info;

impl RoomStats {
    pub(in crate::rest::stats) fn of(stats: RoomStatsReply) -> Self {
        Self {
            time: stats.time_ms,
            streams: stats.streams.into_iter().map(|s| StreamStatsShown::of(stats.time_ms, s)).collect(),
            subscriptions: stats.subscriptions.into_iter().map(Subscription::of).collect(),
        }
    }
}

impl StreamStatsShown {
    pub(in crate::rest::stats) fn of(time: u64, stats: StreamStats) -> Self {
        Self {
            id: stats.stream_id,
            time,
            rtt: milliseconds(stats.rtt_us),
            subscriptions: stats.subscriptions,
            tracks: stats.tracks.into_iter().filter_map(Track::of).collect(),
        }
    }
}

impl Track {
    fn of(stats: TrackStats) -> Option<Self> {
        Some(Self {
            kind: Kind::of(stats.kind())?,
            counters: Counters::of(&stats),
            takers: stats.takers,
            id: stats.track_id,
            mid: text(stats.mid),
            rid: text(stats.rid),
        })
    }
}

impl Kind {
    fn of(kind: MediaKind) -> Option<Self> {
        match kind {
            MediaKind::Unspecified => None,
            MediaKind::Audio => Some(Self::Audio),
            MediaKind::Video => Some(Self::Video),
        }
    }
}

impl Counters {
    fn of(stats: &TrackStats) -> Self {
        Self {
            flowing: stats.flowing,
            bitrate: stats.bitrate,
            frame_rate: Some(finite(stats.frame_rate)).filter(|rate| *rate > 0.0),
            resolution: size(stats.resolution.as_ref()),
            packets: stats.packets,
            bytes: stats.bytes,
            packets_lost: stats.packets_lost,
            fraction_lost: finite(stats.fraction_lost),
            jitter: f64::from(stats.jitter_us) / 1000.0,
            frames: stats.frames,
            key_frames: stats.key_frames,
            retransmitted: stats.retransmitted,
            recovered: stats.recovered,
            redundant: stats.redundant,
            nacks: stats.nacks,
            plis: stats.plis,
            firs: stats.firs,
        }
    }
}

impl Subscription {
    pub(in crate::rest::stats) fn of(stats: SubscriptionStats) -> Self {
        Self {
            id: stats.subscription_id,
            participant: stats.participant_id,
            transport: stats.transport_id,
            rtt: milliseconds(stats.rtt_us),
            estimated_bitrate: Some(stats.estimated_bitrate).filter(|rate| *rate > 0),
            tracks: stats.tracks.into_iter().filter_map(SubscribedTrack::of).collect(),
        }
    }
}

impl SubscribedTrack {
    fn of(stats: SubscribedTrackStats) -> Option<Self> {
        let sent = stats.sent.clone().unwrap_or_default();
        let mut decisions: Vec<Decision> =
            stats.decisions.iter().chain(&sent.choices).map(Decision::of).collect();
        decisions.sort_by_key(|decision| decision.time);
        Some(Self {
            kind: Kind::of(stats.kind())?,
            format: format(stats.format.as_ref()),
            asked: asked(stats.asked.as_ref(), &stats.bitrate_multiplier),
            served: match stats.served.as_str() {
                "mixed" => Served::Mixed,
                "transcoded" => Served::Transcoded,
                _ => Served::Forward,
            },
            limit: LimitShown::of(sent.limit()),
            sent: Counters::of(&sent),
            from: stats.from,
            layer: text(sent.track_id).map(|track| Layer {
                track,
                rid: text(sent.rid),
                resolution: size(sent.resolution.as_ref()),
            }),
            decisions,
        })
    }
}

impl LimitShown {
    fn of(limit: Limit) -> Self {
        match limit {
            Limit::Unspecified | Limit::None => Self::None,
            Limit::Bandwidth => Self::Bandwidth,
            Limit::Asked => Self::Asked,
            Limit::Paused => Self::Paused,
            Limit::Source => Self::Source,
        }
    }
}

impl Decision {
    fn of(choice: &Choice) -> Self {
        let what = if choice.track_id.is_empty() { "nothing" } else { &choice.track_id };
        Self { time: choice.time_ms, what: what.to_owned(), why: choice.why.clone() }
    }
}

fn format(format: Option<&MediaFormat>) -> Value {
    stream_info::format(format)
}

fn asked(parameters: Option<&VideoParameters>, multiplier: &str) -> Option<Value> {
    let mut asked = stream_info::parameters(parameters);
    if !multiplier.is_empty() {
        asked.get_or_insert_with(|| Map::new().into())["bitrate"] = multiplier.into();
    }
    asked
}

fn size(size: Option<&kaigi_proto::v1::Resolution>) -> Option<Value> {
    let size = size.filter(|size| size.width > 0 && size.height > 0)?;
    Some(json!({ "width": size.width, "height": size.height }))
}

fn text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// `None` = not known.
fn milliseconds(microseconds: u32) -> Option<f64> {
    (microseconds > 0).then(|| f64::from(microseconds) / 1000.0)
}

/// JSON has no other numbers.
fn finite(number: f64) -> f64 {
    if number.is_finite() { number } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(time_ms: u64, track: &str, why: &str) -> Choice {
        Choice { time_ms, track_id: track.into(), why: why.into(), ..Choice::default() }
    }

    #[test]
    fn decisions_of_room_and_node_are_one_list() {
        let sent = TrackStats {
            track_id: "t-1:h".into(),
            rid: "h".into(),
            limit: Limit::Bandwidth.into(),
            choices: vec![choice(2, "t-1:h", "estimate fell to 312 kbit/s"), choice(4, "", "paused")],
            ..TrackStats::default()
        };
        let track = SubscribedTrackStats {
            kind: MediaKind::Video.into(),
            from: "s".into(),
            bitrate_multiplier: "x0.6".into(),
            served: "forward".into(),
            sent: Some(sent),
            decisions: vec![choice(1, "t-1", "subscribed"), choice(3, "t-1", "played")],
            ..SubscribedTrackStats::default()
        };
        let shown = serde_json::to_value(SubscribedTrack::of(track).unwrap()).unwrap();
        let whats: Vec<_> = shown["decisions"].as_array().unwrap().iter().map(|d| &d["what"]).collect();
        assert_eq!(whats, ["t-1", "t-1:h", "t-1", "nothing"]);
        assert_eq!(shown["limit"], "bandwidth");
        assert_eq!(shown["layer"], json!({"track": "t-1:h", "rid": "h"}));
        assert_eq!(shown["asked"], json!({"bitrate": "x0.6"}));
    }

    #[test]
    fn what_is_not_known_is_absent() {
        let track = TrackStats {
            track_id: "t".into(),
            kind: MediaKind::Audio.into(),
            frame_rate: f64::NAN,
            fraction_lost: f64::INFINITY,
            jitter_us: 1500,
            ..TrackStats::default()
        };
        let stats = StreamStats { stream_id: "s".into(), tracks: vec![track], ..StreamStats::default() };
        let shown = serde_json::to_value(StreamStatsShown::of(7, stats)).unwrap();
        assert!(shown.get("rtt").is_none());
        let track = &shown["tracks"][0];
        assert_eq!(
            (&track["jitter"], &track["fractionLost"], &track["kind"]),
            (&json!(1.5), &json!(0.0), &json!("audio"))
        );
        for absent in ["frameRate", "resolution", "mid", "rid"] {
            assert!(track.get(absent).is_none(), "{absent}");
        }
    }
}
