//! What is counted and decided, for people: tables of tracks, and the report on one subscription.

use std::fmt::Write;

use serde_json::Value;
use time::OffsetDateTime;

use super::show::{Shown, Table, cell};

const TRACKS: Table = Table(&[
    ("STREAM", "/stream"),
    ("TRACK", "/id"),
    ("KIND", "/kind"),
    ("RID", "/rid"),
    ("RATE", "/bitrate"),
    ("FPS", "/frameRate"),
    ("SIZE", "/resolution"),
    ("LOST", "/fractionLost"),
    ("JITTER", "/jitter"),
    ("NACKS", "/nacks"),
    ("PLIS", "/plis"),
    ("TAKERS", "/takers"),
]);
const SUBSCRIPTIONS: Table = Table(&[
    ("ID", "/id"),
    ("PARTICIPANT", "/participant"),
    ("KIND", "/kind"),
    ("FROM", "/from"),
    ("SERVED", "/served"),
    ("LAYER", "/layer"),
    ("LIMIT", "/limit"),
    ("RATE", "/bitrate"),
    ("FPS", "/frameRate"),
    ("SIZE", "/resolution"),
    ("LOST", "/fractionLost"),
]);

/// The counters of one stream or of a list of them, a row for each track.
pub(super) fn streams(answer: Value) -> Shown {
    let all = answer.as_array().map_or(std::slice::from_ref(&answer), Vec::as_slice);
    let rows = all.iter().flat_map(|stream| {
        list(&stream["tracks"]).iter().map(|track| {
            let mut row = counters(track);
            row["stream"] = stream["id"].clone();
            row["jitter"] = unit(&track["jitter"], "ms");
            row
        })
    });
    Shown::table(rows.collect(), TRACKS, answer)
}

/// Subscriptions, a row for each track.
pub(super) fn subscriptions(answer: Value) -> Shown {
    let rows = list(&answer).iter().flat_map(|subscription| {
        list(&subscription["tracks"]).iter().map(|track| {
            let mut row = counters(&track["sent"]);
            for name in ["id", "participant"] {
                row[name] = subscription[name].clone();
            }
            for name in ["kind", "from", "served", "limit"] {
                row[name] = track[name].clone();
            }
            row["layer"] = layer(&track["layer"]).into();
            row
        })
    });
    Shown::table(rows.collect(), SUBSCRIPTIONS, answer)
}

/// All there is to know of one subscription: a report that reads from top to bottom.
pub(super) fn why(answer: Value) -> Shown {
    let mut text = format!("subscription {}", cell(&answer["id"]));
    line(&mut text, 0, "participant", &cell(&answer["participant"]));
    line(&mut text, 0, "transport", &cell(&answer["transport"]));
    line(&mut text, 0, "round trip", &cell(&unit(&answer["rtt"], "ms")));
    line(&mut text, 0, "estimate", &cell(&rate(&answer["estimatedBitrate"])));
    for track in list(&answer["tracks"]) {
        let _ = write!(text, "\n{} from {}", cell(&track["kind"]), cell(&track["from"]));
        let sent = &track["sent"];
        line(&mut text, 2, "format", &format(&track["format"]));
        line(&mut text, 2, "asked", &wish(&track["asked"]));
        line(&mut text, 2, "served", &cell(&track["served"]));
        line(&mut text, 2, "layer", &layer(&track["layer"]));
        line(&mut text, 2, "limit", &limit(&track["limit"]));
        let shown = counters(sent);
        let now = [&shown["bitrate"], &unit(&shown["frameRate"], "fps"), &shown["resolution"]].map(cell);
        line(&mut text, 2, "sent now", &now.join(", "));
        let so_far = format!(
            "{} packets, {} lost ({}), {} sent again",
            cell(&sent["packets"]),
            cell(&sent["packetsLost"]),
            cell(&shown["fractionLost"]),
            cell(&sent["retransmitted"])
        );
        line(&mut text, 2, "so far", &so_far);
        for (i, decision) in list(&track["decisions"]).iter().enumerate() {
            let said = format!(
                "{}  {}: {}",
                moment(&decision["time"]),
                cell(&decision["what"]),
                cell(&decision["why"])
            );
            line(&mut text, 2, if i == 0 { "decisions" } else { "" }, &said);
        }
    }
    Shown::Report(text, answer)
}

fn line(text: &mut String, indent: usize, name: &str, value: &str) {
    let _ = write!(text, "\n{:indent$}{name:<13}{value}", "");
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A track's counters with the rates in their units.
fn counters(track: &Value) -> Value {
    let mut row = if track.is_object() { track.clone() } else { Value::Object(serde_json::Map::new()) };
    row["bitrate"] = if track["flowing"] == false { "stopped".into() } else { rate(&track["bitrate"]) };
    row["frameRate"] = track["frameRate"].as_f64().map_or(Value::Null, |fps| format!("{fps:.0}").into());
    row["resolution"] = size(&track["resolution"]).map_or(Value::Null, Value::from);
    row["fractionLost"] =
        track["fractionLost"].as_f64().map_or(Value::Null, |f| format!("{:.1} %", f * 100.0).into());
    row
}

fn unit(value: &Value, unit: &str) -> Value {
    match value {
        Value::Number(number) => format!("{} {unit}", trimmed(number.as_f64().unwrap_or_default())).into(),
        Value::String(text) => format!("{text} {unit}").into(),
        _ => Value::Null,
    }
}

/// At most one digit after the point.
fn trimmed(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

/// bit/s
fn rate(value: &Value) -> Value {
    match value.as_f64() {
        None => Value::Null,
        Some(bits) if bits >= 1e6 => format!("{:.2} Mbit/s", bits / 1e6).into(),
        Some(bits) => format!("{:.0} kbit/s", bits / 1e3).into(),
    }
}

fn size(value: &Value) -> Option<String> {
    Some(format!("{}x{}", value["width"].as_u64()?, value["height"].as_u64()?))
}

fn format(value: &Value) -> String {
    let parts = ["codec", "profile", "sampleRate", "channelNum"].map(|name| &value[name]);
    let given: Vec<String> = parts.into_iter().filter(|part| !part.is_null()).map(cell).collect();
    or_dash(given.join(" "))
}

fn wish(value: &Value) -> String {
    let parts = [
        size(&value["resolution"]),
        value["framerate"].as_f64().map(|fps| format!("{} fps", trimmed(fps))),
        match &value["bitrate"] {
            Value::Null => None,
            number @ Value::Number(_) => Some(cell(&rate(number))),
            factor => Some(cell(factor)),
        },
        value["keyFrameInterval"].as_f64().map(|s| format!("a key frame each {} s", trimmed(s))),
    ];
    or_dash(parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn layer(value: &Value) -> String {
    let named = value["rid"].as_str().filter(|rid| !rid.is_empty()).or(value["track"].as_str());
    match (named, size(&value["resolution"])) {
        (Some(name), Some(size)) => format!("{name} ({size})"),
        (Some(name), None) => name.to_owned(),
        (None, size) => size.unwrap_or_else(|| "-".to_owned()),
    }
}

/// What the word stands for.
fn limit(value: &Value) -> String {
    let meaning = match value.as_str() {
        Some("none") => "the best there is, is sent",
        Some("bandwidth") => "the way to the client does not carry more",
        Some("asked") => "no more was asked for",
        Some("paused") => "paused, by the client, by management or by a permission",
        Some("source") => "the source sends nothing, or nothing better",
        _ => return cell(value),
    };
    format!("{}: {meaning}", cell(value))
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// A part of one, in hundredths.
pub(super) fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |part| format!("{:.0} %", part * 100.0))
}

/// Unix ms as date and time of day, UTC.
pub(super) fn moment(value: &Value) -> String {
    let at = value.as_i64().and_then(|ms| OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000)).ok());
    at.map_or_else(
        || "-".to_owned(),
        |at| {
            let (date, h, m, s) = (at.date(), at.hour(), at.minute(), at.second());
            format!("{date} {h:02}:{m:02}:{s:02}")
        },
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(shown: &Shown) -> Vec<String> {
        shown.text(false).lines().map(str::to_owned).collect()
    }

    fn sent() -> Value {
        json!({ "id": "t", "kind": "video", "flowing": true, "bitrate": 1_234_567, "frameRate": 23.97, "resolution": { "width": 640, "height": 360 },
                "packets": 1000, "packetsLost": 4, "fractionLost": 0.0039, "jitter": 2.34, "retransmitted": 3, "nacks": 5, "plis": 1, "takers": 2 })
    }

    #[test]
    fn a_stream_has_a_row_for_each_track() {
        let one = json!({ "id": "s", "tracks": [sent(), { "id": "u", "kind": "audio", "flowing": false, "bitrate": 0 }] });
        let shown = streams(one.clone());
        assert_eq!(
            lines(&shown),
            [
                "STREAM  TRACK  KIND   RID  RATE         FPS  SIZE     LOST   JITTER  NACKS  PLIS  TAKERS",
                "s       t      video  -    1.23 Mbit/s  24   640x360  0.4 %  2.3 ms  5      1     2",
                "s       u      audio  -    stopped      -    -        -      -       -      -     -",
            ]
        );
        assert_eq!(shown.text(true), one.to_string(), "programs get it as it is");
        assert_eq!(lines(&streams(json!([one, { "id": "r", "tracks": [sent()] }]))).len(), 4);
    }

    fn subscription() -> Value {
        json!({ "id": "b", "participant": "p", "transport": "w", "rtt": 23, "estimatedBitrate": 900_000, "tracks": [{
            "kind": "video", "from": "s", "format": { "codec": "vp8" }, "asked": { "resolution": { "width": 1280, "height": 720 }, "bitrate": "x0.8" },
            "served": "forward", "layer": { "track": "t", "rid": "h", "resolution": { "width": 640, "height": 360 } }, "limit": "bandwidth", "sent": sent(),
            "decisions": [{ "time": 1_700_000_000_000_u64, "what": "layer h", "why": "the estimate fell" }, { "time": 1_700_000_001_000_u64, "what": "on", "why": "resumed" }],
        }] })
    }

    #[test]
    fn subscriptions_tell_what_limits_each_track() {
        assert_eq!(
            lines(&subscriptions(json!([subscription()])))[1],
            "b   p            video  s     forward  h (640x360)  bandwidth  1.23 Mbit/s  24   640x360  0.4 %"
        );
    }

    #[test]
    fn one_subscription_is_a_report() {
        assert_eq!(
            lines(&why(subscription())),
            [
                "subscription b",
                "participant  p",
                "transport    w",
                "round trip   23 ms",
                "estimate     900 kbit/s",
                "video from s",
                "  format       vp8",
                "  asked        1280x720, x0.8",
                "  served       forward",
                "  layer        h (640x360)",
                "  limit        bandwidth: the way to the client does not carry more",
                "  sent now     1.23 Mbit/s, 24 fps, 640x360",
                "  so far       1000 packets, 4 lost (0.4 %), 3 sent again",
                "  decisions    2023-11-14 22:13:20  layer h: the estimate fell",
                "               2023-11-14 22:13:21  on: resumed",
            ]
        );
    }

    #[test]
    fn what_is_missing_is_a_dash() {
        let shown = why(json!({ "id": "b", "tracks": [{ "kind": "audio" }] }));
        assert!(lines(&shown).contains(&"  sent now     -, -, -".to_owned()), "{shown:?}");
        assert_eq!(moment(&json!("soon")), "-");
        assert_eq!(lines(&streams(json!("nonsense"))).len(), 1);
    }
}
