//! Rooms of several clusters. They are not joined here yet: what is asked is checked, and refused.

use axum::http::Method;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    call::RoomCall,
    error::RestError,
    operation::{Answered, Operation, Reply, room},
};

const TAG: &str = "cascading";

/// What can be asked of cascading.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        room(Method::POST, "/cascading", "createCascading", create)
            .doc(TAG, "Join the room with one of another cluster")
            .more("Not available yet.")
            .takes::<CascadingRequest>()
            .replies(Reply::Never),
        room(Method::GET, "/bridges", "getBridges", bridges)
            .doc(TAG, "Where another cluster joins")
            .more("Not available yet. OWT's controller names the other cluster in a body, `{\"targetCluster\"}`.")
            .replies(Reply::Never),
    ]
}

/// OWT's rules.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "its form is checked; nobody serves it here yet")]
struct CascadingRequest {
    options: CascadingOptions,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "its form is checked; nobody serves it here yet")]
struct CascadingOptions {
    #[serde(rename = "evIP")]
    event_ip: String,
    #[serde(rename = "evPort")]
    event_port: f64,
    room: String,
    token: String,
    #[serde(rename = "mediaIP")]
    media_ip: Option<String>,
    media_port: Option<f64>,
    target_cluster: Option<String>,
    self_cluster: Option<String>,
}

async fn create(call: RoomCall) -> Answered {
    // OWT answers what is none as it does what fails.
    call.read::<CascadingRequest>(|_| RestError::Operation("Operation failed".to_owned()))?;
    Err(RestError::NotAvailable("cascading"))
}

async fn bridges(_: RoomCall) -> Answered {
    Err(RestError::NotAvailable("cascading"))
}
