//! Streams made of others by algorithms.

use axum::http::Method;
use kaigi_filters::Filter;
use kaigi_proto::{
    ids::StreamId,
    v1::{Analytics, Purpose, StartAnalyticsRequest},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    call::RoomCall,
    egress::{condition, condition_schema, shown_track, video_media},
    error::RestError,
    operation::{Answered, Operation, empty_response, json_response, room},
    server_side::{OrFalse, VideoRequest, bad_request},
    shapes,
};
use crate::backend::CLUSTER_TIMEOUT;

const TAG: &str = "analytics";

/// What can be asked of analytics.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        room(Method::GET, "/analytics", "listAnalytics", list)
            .doc(TAG, "List what is analysed")
            .gives::<Vec<ShownAnalytics>>(),
        room(Method::POST, "/analytics", "createAnalytics", create)
            .doc(TAG, "Analyse a stream")
            .more("Its picture, as the algorithm leaves it, is a new forward stream, whose `info.type` is `analytics`. It ends with the stream that it is made of.")
            .takes::<AnalyticsRequest>()
            .gives::<ShownAnalytics>()
            .makes("analytics"),
        room(Method::GET, "/algorithms", "listAlgorithms", algorithms)
            .doc(TAG, "List the algorithms that there are")
            .more("The filters, and what the operator has configured. Kaigi's own.")
            .gives::<Vec<Algorithm>>(),
        room(Method::DELETE, "/analytics/{analytics}", "deleteAnalytics", delete)
            .doc(TAG, "Analyse no more")
            .more("The stream that was made ends."),
    ]
}

/// OWT's rules.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AnalyticsRequest {
    /// Id of the algorithm.
    algorithm: String,
    /// Of a filter; what is not given has its default. Own.
    parameters: Option<Map<String, Value>>,
    media: AnalyticsMedia,
}

/// What is analysed, and what is made of it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AnalyticsMedia {
    #[expect(dead_code, reason = "sound is not analysed")]
    audio: Option<Value>,
    video: OrFalse<VideoRequest>,
}

async fn list(call: RoomCall) -> Answered {
    let all = call.api.backend.analytics(&call.id).await?.unwrap_or_default();
    Ok(json_response(all.iter().map(shown).collect::<Value>()))
}

async fn create(call: RoomCall) -> Answered {
    let AnalyticsRequest { algorithm, parameters, media } = call.read(bad_request)?;
    let OrFalse::Wanted(video) = media.video else { return Err(bad_request(String::new())) };
    let parameters = parameters.map(Value::Object).unwrap_or_default();
    if Filter::NAMES.contains(&algorithm.as_str()) {
        Filter::new(&algorithm, parameters.clone())
            .map_err(|error| RestError::BadRequest(error.to_string()))?;
    }
    let request = StartAnalyticsRequest {
        room_id: call.id.to_string(),
        algorithm,
        parameters: if parameters.is_null() { String::new() } else { parameters.to_string() },
        media: Some(video_media(video)),
    };
    let analytics = call.api.backend.start_analytics(&call.id, request).await?;
    tracing::info!(room = %call.id, analytics = analytics.id, algorithm = analytics.algorithm, "analytics begun");
    Ok(json_response(shown(&analytics)))
}

async fn delete(call: RoomCall) -> Answered {
    let unknown = |_| RestError::Operation("Analytics do NOT exist".to_owned());
    let id: StreamId = call.id("analytics").map_err(unknown)?;
    call.api.backend.stop_analytics(&call.id, id.as_str()).await?;
    tracing::info!(room = %call.id, analytics = %id, "analytics ended");
    Ok(empty_response())
}

async fn algorithms(call: RoomCall) -> Answered {
    let workers = call.api.backend.workers(CLUSTER_TIMEOUT).await?;
    let mixers = workers.into_iter().filter(|worker| worker.purpose() == Purpose::Mixer);
    let mut own: Vec<String> = mixers.flat_map(|mixer| mixer.algorithms).collect();
    own.sort_unstable();
    own.dedup();
    let filters = Filter::NAMES.into_iter().filter_map(|name| Filter::parse(name, "").ok());
    let filters = filters
        .map(|filter| json!({ "id": filter.name(), "type": "filter", "parameters": filter.parameters() }));
    let own = own.into_iter().map(|id| json!({ "id": id, "type": "pipeline" }));
    Ok(json_response(filters.chain(own).collect::<Value>()))
}

fn shown(analytics: &Analytics) -> Value {
    let mut algorithm = json!({ "algorithm": analytics.algorithm, "stream": analytics.stream_id });
    if let Ok(parameters) = serde_json::from_str::<Value>(&analytics.parameters) {
        algorithm["parameters"] = parameters;
    }
    let mut shown = json!({
        "id": analytics.id,
        "analytics": algorithm,
        "media": { "video": analytics.track.as_ref().map(|track| shown_track(track, false)) },
        "state": condition(analytics.state()),
    });
    if !analytics.reason.is_empty() {
        shown["reason"] = analytics.reason.clone().into();
    }
    shown
}

/// What [`shown`] makes.
struct ShownAnalytics;

impl JsonSchema for ShownAnalytics {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Analytics".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let (state, reason) = condition_schema();
        json_schema!({
            "type": "object",
            "properties": {
                "id": { "type": "string" },
                "analytics": {
                    "type": "object",
                    "properties": {
                        "algorithm": { "type": "string" },
                        "stream": { "type": "string", "description": "What is made: a stream of the room" },
                        "parameters": { "type": "object", "description": "All, those that were not given among them" },
                    },
                    "required": ["algorithm", "stream"],
                },
                "media": {
                    "type": "object",
                    "properties": { "video": {
                        "type": "object",
                        "properties": {
                            "from": { "type": "string" },
                            "format": shapes::format(),
                            "parameters": { "type": "object" },
                            "status": { "enum": ["active", "inactive"] },
                        },
                        "required": ["from", "format", "status"],
                    } },
                    "required": ["video"],
                },
                "state": state,
                "reason": reason,
            },
            "required": ["id", "analytics", "media", "state"],
        })
    }
}

/// An algorithm, in JSON.
struct Algorithm;

impl JsonSchema for Algorithm {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Algorithm".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": {
                "id": { "type": "string" },
                "type": { "enum": ["filter", "pipeline"], "description": "`pipeline`: the operator has configured it" },
                "parameters": { "type": "object", "description": "Of a filter, with their defaults" },
            },
            "required": ["id", "type"],
        })
    }
}
