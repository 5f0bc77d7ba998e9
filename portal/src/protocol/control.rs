//! `stream-control` and `subscription-control` requests, which are the same in all versions.

use kaigi_proto::{
    ids::{SessionId, StreamId, TrackId},
    v1::{
        KindFlags, QueryBandwidth, SetRegion, SubscriptionUpdate, TrackUpdate, VideoParameters,
        control_request::Operation,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    request::{RequestError, not_null, read},
    v1_2::{Parameters, Wanted, is_one, video_parameters},
};

/// Longest label of a view and longest id of a region, in bytes.
const MAX_NAME: usize = 128;

/// A `stream-control` request.
#[derive(Debug, PartialEq)]
pub(crate) struct StreamControl {
    pub(crate) id: StreamId,
    pub(crate) operation: Operation,
}

/// A `subscription-control` request.
#[derive(Debug, PartialEq)]
pub(crate) struct SubscriptionControl {
    pub(crate) id: SessionId,
    /// `None` for an update without content.
    pub(crate) operation: Option<Operation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct StreamControlBody {
    id: StreamId,
    operation: StreamOperation,
    data: Value,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum StreamOperation {
    Pause,
    Play,
    Mix,
    Unmix,
    SetRegion,
    GetRegion,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct SubscriptionControlBody {
    id: SessionId,
    operation: SubscriptionOperation,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum SubscriptionOperation {
    Pause,
    Play,
    Update,
    QueryBwe,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct SetRegionBody {
    view: String,
    region: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct UpdateBody {
    #[serde(default, deserialize_with = "not_null")]
    audio: Option<AudioUpdate>,
    #[serde(default, deserialize_with = "not_null")]
    video: Option<VideoUpdate>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct AudioUpdate {
    /// Of a stream or a track.
    from: TrackId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct VideoUpdate {
    #[serde(default, deserialize_with = "not_null")]
    from: Option<TrackId>,
    #[serde(default, deserialize_with = "not_null")]
    parameters: Option<Parameters>,
}

/// Reads a `stream-control` request.
pub(crate) fn stream_control(data: Value) -> Result<StreamControl, RequestError> {
    let StreamControlBody { id, operation, data } = read(data)?;
    let operation = match operation {
        StreamOperation::Pause => Operation::Pause(kinds(&data)?),
        StreamOperation::Play => Operation::Play(kinds(&data)?),
        StreamOperation::Mix => Operation::Mix(view_label(data)?),
        StreamOperation::Unmix => Operation::Unmix(view_label(data)?),
        StreamOperation::SetRegion => Operation::SetRegion(set_region(data)?),
        StreamOperation::GetRegion => Operation::GetRegion(view_label(data)?),
    };
    Ok(StreamControl { id, operation })
}

/// Reads a `subscription-control` request. Only `querybwe` has no data.
pub(crate) fn subscription_control(data: Value) -> Result<SubscriptionControl, RequestError> {
    let SubscriptionControlBody { id, operation, data } = read(data)?;
    let operation = match operation {
        SubscriptionOperation::Pause => Some(Operation::Pause(kinds(&data)?)),
        SubscriptionOperation::Play => Some(Operation::Play(kinds(&data)?)),
        SubscriptionOperation::Update => update(data)?.map(Operation::Update),
        SubscriptionOperation::QueryBwe => Some(Operation::QueryBandwidth(QueryBandwidth {})),
    };
    Ok(SubscriptionControl { id, operation })
}

/// `None` if it asks for nothing.
fn update(data: Value) -> Result<Option<SubscriptionUpdate>, RequestError> {
    // The path of what doesn't fit begins at the request.
    let UpdateBody { audio, video } = within_data(read(data))?;
    let audio = audio.map(|audio| TrackUpdate { from: audio.from.into(), ..TrackUpdate::default() });
    let video = match video {
        Some(VideoUpdate { from, parameters }) => {
            let given = parameters.map(|given| video_parameters(".data.video", given)).transpose()?;
            let Wanted { parameters, multiplier, priority } = given.unwrap_or_default();
            // All of it is a change here: it takes an earlier factor back.
            let bitrate_multiplier = if is_one(&multiplier) { "x1".to_owned() } else { multiplier };
            let update = TrackUpdate {
                from: from.map(String::from).unwrap_or_default(),
                parameters: (parameters != VideoParameters::default()).then_some(parameters),
                bitrate_multiplier,
                priority,
            };
            (update != TrackUpdate::default()).then_some(update)
        }
        None => None,
    };
    let update = SubscriptionUpdate { audio, video };
    Ok((update != SubscriptionUpdate::default()).then_some(update))
}

fn set_region(data: Value) -> Result<SetRegion, RequestError> {
    let SetRegionBody { view, region } = within_data(read(data))?;
    if region.is_empty() || region.len() > MAX_NAME {
        return Err(RequestError::shape(".data.region", "should be the id of a region"));
    }
    Ok(SetRegion { view: view_label(json!(view))?, region })
}

fn within_data<T>(read: Result<T, RequestError>) -> Result<T, RequestError> {
    read.map_err(|error| match error {
        RequestError::Shape { path, problem } => RequestError::shape(format!(".data{path}"), problem),
        other => other,
    })
}

fn kinds(data: &Value) -> Result<KindFlags, RequestError> {
    match data.as_str() {
        Some("audio") => Ok(KindFlags { audio: true, video: false }),
        Some("video") => Ok(KindFlags { audio: false, video: true }),
        Some("av") => Ok(KindFlags { audio: true, video: true }),
        Some(_) | None => Err(RequestError::shape(".data", "should be audio, video or av")),
    }
}

fn view_label(data: Value) -> Result<String, RequestError> {
    match data {
        Value::String(label) if !label.is_empty() && label.len() <= MAX_NAME => Ok(label),
        _ => Err(RequestError::shape(".data", "should be the label of a view")),
    }
}

#[cfg(test)]
mod tests {
    use kaigi_proto::v1::Resolution;

    use super::*;

    fn stream(operation: &str, data: Value) -> Result<Operation, RequestError> {
        stream_control(json!({"id": "s", "operation": operation, "data": data})).map(|c| c.operation)
    }

    fn update(data: Value) -> Result<Option<SubscriptionUpdate>, RequestError> {
        let control = subscription_control(json!({"id": "s", "operation": "update", "data": data}))?;
        Ok(control.operation.map(|operation| match operation {
            Operation::Update(update) => update,
            other => panic!("{other:?}"),
        }))
    }

    #[test]
    fn controls_name_kinds_and_views() {
        assert_eq!(
            stream("pause", json!("av")),
            Ok(Operation::Pause(KindFlags { audio: true, video: true }))
        );
        assert_eq!(stream("mix", json!("common")), Ok(Operation::Mix("common".into())));
        assert_eq!(stream("get-region", json!("common")), Ok(Operation::GetRegion("common".into())));
        let region = SetRegion { view: "common".into(), region: "2".into() };
        assert_eq!(
            stream("set-region", json!({"view": "common", "region": "2"})),
            Ok(Operation::SetRegion(region))
        );
    }

    #[test]
    fn controls_of_another_shape_are_refused_with_the_path() {
        for (operation, data, text) in [
            ("pause", json!("text"), "request.data should be audio"),
            ("play", json!(1), "request.data should be audio"),
            ("mix", json!(""), "request.data should be the label"),
            ("unmix", Value::Null, "request.data should be the label"),
            ("get-region", json!({}), "request.data should be the label"),
            ("set-region", json!("1"), "request.data invalid type"),
            ("set-region", json!({"view": "common"}), "request.data missing field `region`"),
            ("set-region", json!({"view": "common", "region": ""}), "request.data.region should be"),
            ("set-region", json!({"view": "common", "region": 1}), "request.data.region invalid type"),
            ("set-region", json!({"view": "", "region": "1"}), "request.data should be the label"),
            ("explode", json!("av"), "request.operation unknown variant"),
        ] {
            let refused = stream(operation, data).unwrap_err().to_string();
            assert!(refused.starts_with(text), "{operation}: {refused}");
        }
        assert!(stream_control(json!({"id": "s", "operation": "pause"})).is_err());
        assert!(stream_control(json!({"id": "s", "operation": "pause", "data": "av", "more": 1})).is_err());
        assert!(subscription_control(json!({"id": "s", "operation": "play"})).is_err());
    }

    #[test]
    fn an_update_names_another_source_or_other_parameters() {
        let from = |from: &str| TrackUpdate { from: from.into(), ..TrackUpdate::default() };
        assert_eq!(
            update(json!({"audio": {"from": "a"}, "video": {"from": "v"}})),
            Ok(Some(SubscriptionUpdate { audio: Some(from("a")), video: Some(from("v")) }))
        );
        let video = update(json!({"video": {"parameters": {"resolution": {"width": 640, "height": 480},
            "framerate": 15, "bitrate": "x0.6", "keyFrameInterval": 30}}}));
        let video = video.unwrap().unwrap().video.unwrap();
        assert_eq!((video.from.as_str(), video.bitrate_multiplier.as_str()), ("", "x0.6"));
        let parameters = VideoParameters {
            resolution: Some(Resolution { width: 640, height: 480 }),
            framerate: 15,
            bitrate: 0,
            key_frame_interval: 30,
        };
        assert_eq!(video.parameters, Some(parameters));
        let number = update(json!({"video": {"parameters": {"bitrate": 500}}})).unwrap().unwrap();
        assert_eq!(number.video.unwrap().parameters.unwrap().bitrate, 500);
        for priority in [0, 3] {
            let update = update(json!({"video": {"parameters": {"priority": priority}}})).unwrap().unwrap();
            assert_eq!(update.video.unwrap().priority, Some(priority));
        }
        let back = update(json!({"video": {"parameters": {"bitrate": "x1.00"}}})).unwrap().unwrap();
        assert_eq!(back.video.unwrap().bitrate_multiplier, "x1");
    }

    #[test]
    fn an_update_that_changes_nothing_is_fine() {
        for data in [json!({}), json!({"video": {}}), json!({"video": {"parameters": {}}})] {
            assert_eq!(update(data), Ok(None));
        }
    }

    #[test]
    fn updates_of_another_shape_are_refused_with_the_path() {
        for (data, text) in [
            (Value::Null, "request.data invalid type"),
            (json!("x"), "request.data invalid type"),
            (json!({"text": {}}), "request.data"),
            (json!({"audio": {}}), "request.data.audio missing field `from`"),
            (json!({"audio": null}), "request.data.audio"),
            (json!({"audio": {"from": "a b"}}), "request.data.audio.from"),
            (json!({"audio": {"from": "a", "parameters": {}}}), "request.data.audio"),
            (json!({"video": {"format": {"codec": "vp8"}}}), "request.data.video"),
            (json!({"video": {"parameters": {"framerate": 0}}}), "request.data.video.parameters.framerate"),
            (json!({"video": {"parameters": {"bitrate": "slow"}}}), "request.data.video.parameters.bitrate"),
        ] {
            let refused = update(data.clone()).unwrap_err().to_string();
            assert!(refused.starts_with(text), "{data}: {refused}");
        }
    }

    #[test]
    fn the_bandwidth_is_asked_for_without_data() {
        for request in [
            json!({"id": "s", "operation": "querybwe"}),
            json!({"id": "s", "operation": "querybwe", "data": {}}),
        ] {
            let asked = Some(Operation::QueryBandwidth(QueryBandwidth {}));
            assert_eq!(subscription_control(request).unwrap().operation, asked);
        }
    }
}
