//! Statistics as they are shown. Times are Unix ms, durations ms, rates bit/s; counters count since a session began and never fall.

mod convert;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::rest::shapes;

/// Everything that is counted in a room.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RoomStats {
    /// When it was counted.
    time: u64,
    streams: Vec<StreamStatsShown>,
    subscriptions: Vec<Subscription>,
}

/// What is counted of a stream: as it is received, or as it is mixed.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "StreamStats")]
pub(super) struct StreamStatsShown {
    id: String,
    /// When it was counted.
    time: u64,
    /// Round trip to the publisher; absent = not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt: Option<f64>,
    /// How many subscriptions take it, in whatever form.
    subscriptions: u32,
    tracks: Vec<Track>,
}

/// What is counted of a track.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TrackStats")]
struct Track {
    id: String,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    mid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rid: Option<String>,
    #[serde(flatten)]
    counters: Counters,
    /// How many take it: subscriptions on its node, and other nodes.
    takers: u32,
}

#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Audio,
    Video,
}

/// What passes; rates are of about the last two seconds.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Counters {
    /// Whether it flows now.
    flowing: bool,
    /// bit/s
    bitrate: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    frame_rate: Option<f64>,
    /// Pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "size_schema")]
    resolution: Option<Value>,
    packets: u64,
    bytes: u64,
    packets_lost: u64,
    /// Of the last report, 0 to 1.
    fraction_lost: f64,
    jitter: f64,
    frames: u64,
    key_frames: u64,
    /// Packets sent again, or received again.
    retransmitted: u64,
    /// Lost packets that were made of others' redundancy.
    recovered: u64,
    /// Packets sent with redundancy, or as nothing else.
    redundant: u64,
    nacks: u64,
    plis: u64,
    firs: u64,
}

/// How somebody gets something, and why so.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subscription {
    id: String,
    participant: String,
    transport: String,
    /// Round trip to the subscriber; absent = not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt: Option<f64>,
    /// What the way to the subscriber is estimated to carry, bit/s; absent = not estimated.
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_bitrate: Option<u64>,
    tracks: Vec<SubscribedTrack>,
}

/// One kind of a subscription.
#[derive(Debug, Serialize, JsonSchema)]
struct SubscribedTrack {
    kind: Kind,
    /// Stream or track, as subscribed.
    from: String,
    /// As negotiated.
    #[schemars(schema_with = "format_schema")]
    format: Value,
    /// What was asked for; absent = as the stream is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "asked_schema")]
    asked: Option<Value>,
    served: Served,
    /// The track that is sent now; absent = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    layer: Option<Layer>,
    /// What keeps more from being sent.
    limit: LimitShown,
    sent: Counters,
    /// The room's and the node's last ones, oldest first.
    decisions: Vec<Decision>,
}

/// As published, as an output of a mix, or made for this subscription.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Served {
    Forward,
    Mixed,
    Transcoded,
}

/// The best is sent; the way carries no more; no more was asked for; somebody paused it; the source sends no more.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "Limit")]
enum LimitShown {
    None,
    Bandwidth,
    Asked,
    Paused,
    Source,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Layer {
    track: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "size_schema")]
    resolution: Option<Value>,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Decision {
    time: u64,
    /// The track that was chosen, or `nothing`.
    what: String,
    /// One sentence.
    why: String,
}

fn size_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    shapes::resolution().try_into().unwrap_or_default()
}

fn format_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    shapes::format().try_into().unwrap_or_default()
}

fn asked_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = shapes::parameters();
    schema["properties"]["bitrate"] =
        json!({ "type": ["integer", "string"], "description": "kbit/s, or a factor such as `x0.6`" });
    schema.try_into().unwrap_or_default()
}
