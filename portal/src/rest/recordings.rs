//! Streams kept in files. Nothing keeps them here yet: what is asked is checked, and refused.

use axum::http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{
    call::RoomCall,
    error::RestError,
    operation::{Answered, Operation, Reply, room},
    server_side::{MediaRequest, SubscriptionPatch, bad_request, check_changes},
    streaming_outs,
};

const TAG: &str = "recordings";

/// What can be asked of recordings.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        room(Method::GET, "/recordings", "listRecordings", streaming_outs::list)
            .doc(TAG, "List what is recorded: nothing yet")
            .gives::<Vec<Value>>(),
        room(Method::POST, "/recordings", "createRecording", create)
            .doc(TAG, "Record")
            .more("Not available yet.")
            .takes::<RecordingRequest>()
            .replies(Reply::Never),
        room(Method::PATCH, "/recordings/{recording}", "updateRecording", update)
            .doc(TAG, "Change what is recorded")
            .more("Not available yet.")
            .takes::<SubscriptionPatch>()
            .replies(Reply::Never),
        room(Method::DELETE, "/recordings/{recording}", "deleteRecording", delete)
            .doc(TAG, "Record no more")
            .more("Not available yet.")
            .replies(Reply::Never),
    ]
}

/// OWT's rules.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "its form is checked; nobody serves it here yet")]
struct RecordingRequest {
    /// `auto` if not given.
    container: Option<Container>,
    media: MediaRequest,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Container {
    Mp4,
    Mkv,
    Ts,
    Auto,
}

async fn create(call: RoomCall) -> Answered {
    call.read::<RecordingRequest>(bad_request)?;
    Err(RestError::NotAvailable("recordings"))
}

async fn update(call: RoomCall) -> Answered {
    check_changes(&call.body, "")?;
    Err(RestError::NotAvailable("recordings"))
}

async fn delete(_: RoomCall) -> Answered {
    Err(RestError::NotAvailable("recordings"))
}
