//! The room document: OWT's room attributes with their defaults (OWT REST API, "Rooms"), Kaigi's own beside them, and what a
//! valid one is. It is what the management API stores and what a conference-agent runs a room by.

mod bitrate;
mod defaults;
mod media;
mod resolution;
#[cfg(feature = "schema")]
mod schema;
pub mod strict;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use bitrate::default_bitrate;
pub use media::{
    AudioFormat, BgColor, Corner, Decoration, FitPolicy, LayoutSpec, Logo, MediaIn, MediaOut, Region,
    RegionArea, Template, Templates, Transcoding, TranscodingVideo, VideoFormat, VideoOut,
    VideoParameterFlags, VideoParameterLists, VideoParameters, View, ViewAudio, ViewVideo,
};
pub use resolution::{Resolution, named_resolution};
#[cfg(feature = "schema")]
pub use schema::{RoomAttributes, RoomDocument};

/// Why a room document is refused.
#[derive(Debug, thiserror::Error)]
pub enum RoomConfigError {
    /// An attribute has the wrong type or value; the text names it.
    #[error("ValidationError {0}")]
    Invalid(String),
    /// A view's codec is not among `mediaOut`.
    #[error("MediaOut conflicts with View Setting")]
    ViewConflict,
}

/// A whole room document as it is stored. Members that OWT names keep OWT's names.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoomConfig {
    /// 24 lower-case hex characters.
    #[serde(rename = "_id")]
    pub id: String,
    /// Need not be unique.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub name: String,
    /// Id of the service that owns the room. Kaigi's own; never shown by REST.
    #[serde(default)]
    pub service: String,
    /// Mixes every new publication into every view by itself. Kaigi's own; off by default, as in OWT.
    #[serde(default)]
    pub auto_mix: bool,
    /// Most publications at a time; negative = unlimited.
    #[serde(default = "defaults::unlimited")]
    pub input_limit: i64,
    /// Most participants at a time; 0 or negative = unlimited.
    #[serde(default = "defaults::unlimited")]
    pub participant_limit: i64,
    /// Whether the three active-audio streams exist.
    #[serde(default)]
    pub select_active_audio: bool,
    /// Whether the server chooses simulcast and SVC layers by bandwidth.
    #[serde(default)]
    pub enable_bandwidth_adaptation: bool,
    /// Roles and what each may do.
    #[serde(default = "defaults::roles")]
    pub roles: Vec<Role>,
    /// The mixed streams. Empty: no mixing.
    #[serde(default = "defaults::views")]
    pub views: Vec<View>,
    /// What publications may be.
    #[serde(default = "defaults::media_in")]
    pub media_in: MediaIn,
    /// What subscriptions may be.
    #[serde(default = "defaults::media_out")]
    pub media_out: MediaOut,
    /// Which conversions are offered.
    #[serde(default = "defaults::transcoding")]
    pub transcoding: Transcoding,
    /// Which notifications clients get.
    #[serde(default)]
    pub notifying: Notifying,
    /// SIP account of the room, kept as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sip: Option<Value>,
    /// Document version, always 0; some clients send it back.
    #[serde(rename = "__v", default)]
    pub version: u32,
}

/// Audio and video, each yes or no.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct KindFlags {
    /// Whether audio.
    pub audio: bool,
    /// Whether video.
    pub video: bool,
}

/// What one role may do.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Role {
    /// Its name.
    pub role: String,
    /// What it may publish.
    #[serde(default)]
    pub publish: KindFlags,
    /// What it may subscribe.
    #[serde(default)]
    pub subscribe: KindFlags,
}

/// Which notifications clients get.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Notifying {
    /// Joins and leaves.
    pub participant_activities: bool,
    /// Streams added, updated, removed.
    pub stream_change: bool,
}

impl Default for Notifying {
    fn default() -> Self {
        Self { participant_activities: true, stream_change: true }
    }
}

impl RoomConfig {
    /// A room with OWT's defaults.
    #[must_use]
    pub fn new(id: &str, name: &str, service: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            service: service.to_owned(),
            auto_mix: false,
            input_limit: defaults::unlimited(),
            participant_limit: defaults::unlimited(),
            select_active_audio: false,
            enable_bandwidth_adaptation: false,
            roles: defaults::roles(),
            views: defaults::views(),
            media_in: defaults::media_in(),
            media_out: defaults::media_out(),
            transcoding: defaults::transcoding(),
            notifying: Notifying::default(),
            sip: None,
            version: 0,
        }
    }

    /// A room from the `options` of a create request: attributes given at top level replace the defaults, `null`s are dropped,
    /// unknown ones ignored. A name among them does not count, but is one.
    ///
    /// # Errors
    /// See [`RoomConfigError`].
    pub fn from_options(
        id: &str,
        name: &str,
        service: &str,
        options: &Map<String, Value>,
    ) -> Result<Self, RoomConfigError> {
        if options.get("name").is_some_and(|name| !name.is_null() && name.as_str().is_none_or(str::is_empty))
        {
            return Err(RoomConfigError::Invalid("name: no text, or an empty one".into()));
        }
        let mut document = options.clone();
        document.insert("name".into(), name.into());
        Self::new(id, name, service).updated(&document)
    }

    /// The room with the given top-level attributes replaced (REST PUT). `_id`, `id`, `__v` and `service` are left as they are.
    ///
    /// # Errors
    /// See [`RoomConfigError`].
    pub fn updated(&self, attributes: &Map<String, Value>) -> Result<Self, RoomConfigError> {
        let Value::Object(mut document) = serde_json::to_value(self).map_err(invalid)? else {
            return Err(RoomConfigError::Invalid("not an object".into()));
        };
        for (key, value) in attributes {
            if !value.is_null() {
                document.insert(key.clone(), value.clone());
            }
        }
        self.replaced(document)
    }

    /// The room as a whole document describes it; what is not in it has its default. `_id`, `id`, `__v` and `service` are left as
    /// they are.
    ///
    /// # Errors
    /// See [`RoomConfigError`].
    pub fn replaced(&self, document: Map<String, Value>) -> Result<Self, RoomConfigError> {
        let Value::Object(mut document) = without_nulls(Value::Object(document)) else {
            return Err(RoomConfigError::Invalid("not an object".into()));
        };
        document.insert("_id".into(), self.id.clone().into());
        document.insert("service".into(), self.service.clone().into());
        document.insert("__v".into(), self.version.into());
        let room: Self = strict::from_value(Value::Object(document)).map_err(invalid)?;
        room.validate()?;
        Ok(room)
    }

    /// The role of that name.
    #[must_use]
    pub fn role(&self, name: &str) -> Option<&Role> {
        self.roles.iter().find(|r| r.role == name)
    }

    /// The document as REST shows it. `with_id` adds `id` beside `_id`, as OWT does in create, update and list answers.
    #[must_use]
    pub fn to_rest(&self, with_id: bool) -> Value {
        let mut document = serde_json::to_value(self).unwrap_or_default();
        if let Value::Object(members) = &mut document {
            members.remove("service");
            if with_id {
                members.insert("id".into(), self.id.clone().into());
            }
        }
        document
    }

    fn validate(&self) -> Result<(), RoomConfigError> {
        if self.name.is_empty() {
            return Err(RoomConfigError::Invalid("name: is empty".into()));
        }
        for (i, view) in self.views.iter().enumerate() {
            if self.views[..i].iter().any(|other| other.label == view.label) {
                return Err(RoomConfigError::Invalid(format!(
                    "views.{i}.label: '{}' is used twice",
                    view.label
                )));
            }
            view.validate().map_err(|e| RoomConfigError::Invalid(format!("views.{i}.{e}")))?;
            if !self.media_out.audio.contains(&view.audio.format) {
                return Err(RoomConfigError::ViewConflict);
            }
            if let Some(video) = view.video.as_ref()
                && !self.media_out.video.format.contains(&video.format)
            {
                return Err(RoomConfigError::ViewConflict);
            }
        }
        Ok(())
    }
}

fn invalid(error: serde_json::Error) -> RoomConfigError {
    RoomConfigError::Invalid(error.to_string())
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
        ),
        Value::Array(items) => {
            Value::Array(items.into_iter().filter(|v| !v.is_null()).map(without_nulls).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("not an object: {other}"),
        }
    }

    #[test]
    fn a_name_alone_gives_owts_default_room() {
        let room = RoomConfig::from_options("0".repeat(24).as_str(), "my room", "s", &Map::new()).unwrap();
        let shown = room.to_rest(true);
        assert_eq!(shown["views"][0]["label"], "common");
        assert_eq!(
            shown["views"][0]["video"]["parameters"]["resolution"],
            json!({"width": 640, "height": 480})
        );
        assert_eq!(shown["mediaOut"]["audio"].as_array().map(Vec::len), Some(10));
        assert_eq!(shown["mediaOut"]["video"]["format"][1], json!({"codec": "h264", "profile": "CB"}));
        assert_eq!(shown["inputLimit"], -1);
        assert!(shown.get("service").is_none());
    }

    #[test]
    fn what_is_given_replaces_whole_attributes() {
        let room = RoomConfig::from_options(
            "1",
            "r",
            "s",
            &options(json!({"name": "other", "autoMix": true, "inputLimit": null, "unknown": 1,
                "views": [{"label": "a", "video": false}, {"label": "b", "video": {"layout": {"templates": {"base": "lecture"}}}}]})),
        )
        .unwrap();
        assert_eq!(room.name, "r");
        assert!(room.auto_mix);
        assert!(room.views[0].video.is_none());
        assert_eq!(room.views[1].video.as_ref().unwrap().parameters.framerate, 24);
        assert_eq!(room.to_rest(false)["views"][0]["video"], false);
        let again: RoomConfig = serde_json::from_value(serde_json::to_value(&room).unwrap()).unwrap();
        assert_eq!(again, room);
    }

    #[test]
    fn what_is_drawn_over_a_view_is_told_where_it_is_not_the_default() {
        let room = |decoration: Value| {
            let views = json!([{"label": "common", "video": {"decoration": decoration}}]);
            RoomConfig::from_options("0", "room", "s", &options(json!({"views": views})))
        };
        let default = room(json!({})).unwrap();
        assert!(default.views[0].video.as_ref().unwrap().decoration.avatars);
        assert!(default.to_rest(true)["views"][0]["video"].get("decoration").is_none());
        let given = json!({"avatars": false, "captions": true, "activeBorder": {"r": 1, "g": 2, "b": 3},
            "clock": true, "animation": 300});
        assert_eq!(room(given.clone()).unwrap().to_rest(true)["views"][0]["video"]["decoration"], given);
        let plain = json!({"avatars": true, "captions": false, "activeBorder": false, "clock": false, "animation": 0});
        let pictures = json!({"avatarPicture": "face-*.png", "logo": {"picture": "l.png"}});
        let mut told = plain.clone();
        told["avatarPicture"] = json!("face-*.png");
        told["logo"] = json!({"picture": "l.png", "corner": "topLeft", "height": 10});
        assert_eq!(room(pictures).unwrap().to_rest(true)["views"][0]["video"]["decoration"], told);
        let logo = json!({"picture": "l.png", "corner": "bottomRight", "height": 25});
        let shown = room(json!({"logo": logo})).unwrap().to_rest(true);
        assert_eq!(shown["views"][0]["video"]["decoration"]["logo"], logo);
        for name in
            ["", "../secret.png", "/etc/passwd", ".hidden", "a b.png", "a/b.png", "x*y*.png", &"x".repeat(65)]
        {
            assert!(room(json!({"avatarPicture": name})).is_err(), "{name}");
            assert!(room(json!({"logo": {"picture": name}})).is_err(), "{name}");
        }
        assert!(room(json!({"logo": {"picture": "*.png"}})).is_err(), "it is nobody's");
        assert!(room(json!({"logo": {"picture": "l.png", "height": 51}})).is_err());
        assert!(room(json!({"logo": {"picture": "l.png", "corner": "middle"}})).is_err());
        assert!(room(json!({"animation": 2001})).is_err());
        assert!(room(json!({"captions": "yes"})).is_err());
        assert!(room(json!({"activeBorder": {"r": 256, "g": 0, "b": 0}})).is_err());
    }

    #[test]
    fn views_must_be_encodable_and_sane() {
        let refuse =
            |value| RoomConfig::from_options("1", "r", "s", &options(value)).unwrap_err().to_string();
        assert!(refuse(json!({"views": [{"video": {"format": {"codec": "av1"}}}]})).contains("conflicts"));
        assert!(refuse(json!({"views": [{"label": "x"}, {"label": "x"}]})).contains("twice"));
        assert!(refuse(json!({"views": [{"video": {"maxInput": 0}}]})).contains("maxInput"));
        assert!(
            refuse(json!({"views": [{"video": {"bgColor": {"r": 300, "g": 0, "b": 0}}}]})).contains("300")
        );
        assert!(refuse(json!({"inputLimit": "many"})).starts_with("ValidationError"));
        assert!(refuse(json!({"name": {}})).starts_with("ValidationError"));
        assert!(refuse(json!({"name": ""})).starts_with("ValidationError"));
        for list in [json!({"views": [[null]]}), json!({"views": [{"video": []}]}), json!({"notifying": []})]
        {
            assert!(refuse(list).contains("sequence"), "a list is no object");
        }
    }
}
