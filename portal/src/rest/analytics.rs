//! Streams looked at by programs. Nothing looks at them here yet: what is asked is checked, and refused.

use axum::http::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{
    call::RoomCall,
    error::RestError,
    operation::{Answered, Operation, Reply, room},
    server_side::{self, MediaRequest, bad_request},
};

const TAG: &str = "analytics";

/// What can be asked of analytics.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        room(Method::GET, "/analytics", "listAnalytics", server_side::none)
            .doc(TAG, "List what is analysed: nothing yet")
            .gives::<Vec<Value>>(),
        room(Method::POST, "/analytics", "createAnalytics", create)
            .doc(TAG, "Analyse a stream")
            .more("Not available yet.")
            .takes::<AnalyticsRequest>()
            .replies(Reply::Never),
        room(Method::DELETE, "/analytics/{analytics}", "deleteAnalytics", delete)
            .doc(TAG, "Analyse no more")
            .more("Not available yet.")
            .replies(Reply::Never),
    ]
}

/// OWT's rules.
#[derive(Deserialize, JsonSchema)]
#[expect(dead_code, reason = "its form is checked; nobody serves it here yet")]
struct AnalyticsRequest {
    /// Id of the program.
    algorithm: Option<String>,
    media: MediaRequest,
}

async fn create(call: RoomCall) -> Answered {
    call.read::<AnalyticsRequest>(bad_request)?;
    Err(RestError::NotAvailable("analytics"))
}

async fn delete(_: RoomCall) -> Answered {
    Err(RestError::NotAvailable("analytics"))
}
