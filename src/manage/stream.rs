//! `kaigi stream`: what is published in a room, and its mixes.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{
    ManageError,
    api::{self, Api},
    report,
    show::{Shown, Table},
};

/// About streams.
#[derive(Clone, Debug, Subcommand)]
pub enum StreamCommand {
    /// The streams of a room
    List {
        /// Id of the room
        room: String,
    },
    /// One stream
    Show {
        /// Id of the room
        room: String,
        /// Id
        stream: String,
    },
    /// Add a stream to a mix
    Mix {
        /// Id of the room
        room: String,
        /// Id
        stream: String,
        /// Label of the view
        #[arg(default_value = "common")]
        view: String,
    },
    /// Take a stream out of a mix
    Unmix {
        /// Id of the room
        room: String,
        /// Id
        stream: String,
        /// Label of the view
        #[arg(default_value = "common")]
        view: String,
    },
    /// Mute a stream for everybody
    Mute {
        /// Id of the room
        room: String,
        /// Id
        stream: String,
        /// Sound, picture or both
        #[arg(default_value = "av")]
        kind: MuteKind,
    },
    /// End a stream's muting
    Unmute {
        /// Id of the room
        room: String,
        /// Id
        stream: String,
        /// Sound, picture or both
        #[arg(default_value = "av")]
        kind: MuteKind,
    },
    /// Where in a mix which stream is shown; changes it if asked to
    Layout {
        /// Id of the room
        room: String,
        /// Id of the mixed stream
        stream: String,
        /// JSON file with a whole layout: [{"stream"?, "region": {"id", "shape": "rectangle", "area"}}] (- = standard input)
        #[arg(long, value_name = "FILE")]
        set: Option<PathBuf>,
        /// Show that stream in the region of that number, counted from 0; may be given several times
        #[arg(long, value_name = "N=STREAM", value_parser = place)]
        put: Vec<(u32, String)>,
    },
    /// Put a filter on the picture of a mix, or on what mixes show of a stream
    Filter {
        /// Id of the room
        room: String,
        /// Id of the stream
        stream: String,
        /// none, edgedetect, cartoon or rotate
        filter: String,
        /// JSON object, for example {"lowThreshold": 50, "highThreshold": 150}
        #[arg(long, value_name = "JSON", value_parser = json_value)]
        parameters: Option<Value>,
    },
    /// What is counted of a stream, track by track
    Stats {
        /// Id of the room
        room: String,
        /// Id; without it all streams of the room
        stream: Option<String>,
    },
    /// End a stream
    #[command(visible_alias = "delete")]
    Remove {
        /// Id of the room
        room: String,
        /// Id
        stream: String,
    },
}

/// What of a stream is muted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MuteKind {
    /// Sound
    Audio,
    /// Picture
    Video,
    /// Both
    Av,
}

const STREAMS: Table = Table(&[
    ("ID", "/id"),
    ("TYPE", "/type"),
    ("OWNER", "/info/owner"),
    ("AUDIO", "/media/audio/status"),
    ("VIDEO", "/media/video/status"),
    ("IN VIEWS", "/info/inViews"),
]);
const LAYOUT: Table = Table(&[
    ("N", "/n"),
    ("REGION", "/region/id"),
    ("STREAM", "/stream"),
    ("LEFT", "/region/area/left"),
    ("TOP", "/region/area/top"),
    ("WIDTH", "/region/area/width"),
    ("HEIGHT", "/region/area/height"),
]);

fn json_value(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

pub(super) fn run(api: &Api, command: StreamCommand) -> Result<Shown, ManageError> {
    let one = |room: &str, id: &str| api::path(&["v1.1", "rooms", room, "streams", id]);
    let patch = |room: &str, id: &str, steps: Value| -> Result<Shown, ManageError> {
        Ok(Shown::rows(api.patch(&one(room, id), &steps)?, STREAMS))
    };
    Ok(match command {
        StreamCommand::List { room } => {
            Shown::rows(api.get(&api::path(&["v1.1", "rooms", &room, "streams"]))?, STREAMS)
        }
        StreamCommand::Show { room, stream } => Shown::Document(api.get(&one(&room, &stream))?),
        StreamCommand::Mix { room, stream, view } => patch(&room, &stream, in_views("add", &view))?,
        StreamCommand::Unmix { room, stream, view } => patch(&room, &stream, in_views("remove", &view))?,
        StreamCommand::Mute { room, stream, kind } => patch(&room, &stream, status(kind, "inactive"))?,
        StreamCommand::Unmute { room, stream, kind } => patch(&room, &stream, status(kind, "active"))?,
        StreamCommand::Layout { room, stream, set, put } => {
            let mut steps = Vec::new();
            if let Some(path) = set {
                steps.push(replace("/info/layout", api::document(&path)?));
            }
            steps.extend(
                put.into_iter()
                    .map(|(n, stream)| replace(&format!("/info/layout/{n}/stream"), stream.into())),
            );
            let path = one(&room, &stream);
            let stream = if steps.is_empty() { api.get(&path)? } else { api.patch(&path, &steps.into())? };
            layout(&stream)
        }
        StreamCommand::Filter { room, stream, filter, parameters } => {
            let value = match parameters {
                Some(parameters) => json!({ "algorithm": filter, "parameters": parameters }),
                None => filter.into(),
            };
            patch(&room, &stream, json!([replace("/info/filter", value)]))?
        }
        StreamCommand::Stats { room, stream: Some(stream) } => {
            report::streams(api.get(&format!("{}/stats", one(&room, &stream)))?)
        }
        StreamCommand::Stats { room, stream: None } => {
            let mut all = api.get(&api::path(&["v1.1", "rooms", &room, "stats"]))?;
            report::streams(all["streams"].take())
        }
        StreamCommand::Remove { room, stream } => {
            api.delete(&one(&room, &stream))?;
            Shown::Nothing
        }
    })
}

fn replace(path: &str, value: Value) -> Value {
    json!({ "op": "replace", "path": path, "value": value })
}

fn in_views(op: &str, view: &str) -> Value {
    json!([{ "op": op, "path": "/info/inViews", "value": view }])
}

/// The JSON Patch that gives the kind's tracks this status.
fn status(kind: MuteKind, status: &str) -> Value {
    let kinds: &[&str] = match kind {
        MuteKind::Audio => &["audio"],
        MuteKind::Video => &["video"],
        MuteKind::Av => &["audio", "video"],
    };
    kinds.iter().map(|kind| replace(&format!("/media/{kind}/status"), status.into())).collect()
}

/// `2=<stream id>`
fn place(text: &str) -> Result<(u32, String), String> {
    let (n, stream) = text.split_once('=').ok_or("the region's number, = and a stream's id")?;
    Ok((n.parse().map_err(|_| format!("{n:?} is no number of a region"))?, stream.to_owned()))
}

fn layout(stream: &Value) -> Shown {
    let regions = stream.pointer("/info/layout").and_then(Value::as_array).cloned().unwrap_or_default();
    let rows = regions.iter().enumerate().map(|(n, region)| {
        let mut row = region.clone();
        row["n"] = n.into();
        row
    });
    Shown::table(rows.collect(), LAYOUT, regions.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn muting_names_the_kinds() {
        let paths = |kind| {
            status(kind, "inactive").as_array().unwrap().iter().map(|s| s["path"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(paths(MuteKind::Av), ["/media/audio/status", "/media/video/status"]);
        assert_eq!(paths(MuteKind::Video), ["/media/video/status"]);
    }

    #[test]
    fn layouts_are_tables_of_numbered_regions() {
        assert_eq!(place("2=a-b"), Ok((2, "a-b".to_owned())));
        assert!(place("a").is_err() && place("x=a").is_err() && place("-1=a").is_err());
        let area = json!({ "left": "0", "top": "0", "width": "1/2", "height": "1" });
        let region = |id: &str| json!({ "id": id, "shape": "rectangle", "area": area });
        let regions = json!([{ "stream": "a", "region": region("1") }, { "region": region("2") }]);
        let shown = layout(&json!({ "info": { "layout": regions } }));
        assert_eq!(
            shown.text(false).lines().collect::<Vec<_>>(),
            [
                "N  REGION  STREAM  LEFT  TOP  WIDTH  HEIGHT",
                "0  1       a       0     0    1/2    1",
                "1  2       -       0     0    1/2    1"
            ]
        );
        assert_eq!(shown.text(true), regions.to_string());
        assert_eq!(layout(&json!({ "info": {} })).text(true), "[]");
    }
}
