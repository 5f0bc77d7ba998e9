//! OWT's experimental stream engine (v1.1), which is another kind of server: its paths are known, and refused.

use axum::http::Method;

use super::{
    call::Call,
    error::RestError,
    operation::{Answered, Operation, Reply, Versions, service},
};

/// The engine's paths.
pub(super) fn operations() -> Vec<Operation> {
    let all = [
        (Method::POST, "/stream-engine/tokens", "createEngineToken"),
        (Method::GET, "/stream-engine/publications", "listEnginePublications"),
        (Method::POST, "/stream-engine/publications", "createEnginePublication"),
        (Method::GET, "/stream-engine/publications/{publication}", "getEnginePublication"),
        (Method::PATCH, "/stream-engine/publications/{publication}", "updateEnginePublication"),
        (Method::DELETE, "/stream-engine/publications/{publication}", "deleteEnginePublication"),
        (Method::GET, "/stream-engine/subscriptions", "listEngineSubscriptions"),
        (Method::POST, "/stream-engine/subscriptions", "createEngineSubscription"),
        (Method::GET, "/stream-engine/subscriptions/{subscription}", "getEngineSubscription"),
        (Method::PATCH, "/stream-engine/subscriptions/{subscription}", "updateEngineSubscription"),
        (Method::DELETE, "/stream-engine/subscriptions/{subscription}", "deleteEngineSubscription"),
        (Method::GET, "/stream-engine/processors", "listEngineProcessors"),
        (Method::POST, "/stream-engine/processors", "createEngineProcessor"),
        (Method::GET, "/stream-engine/processors/{processor}", "getEngineProcessor"),
        (Method::DELETE, "/stream-engine/processors/{processor}", "deleteEngineProcessor"),
        (Method::GET, "/stream-engine/participants", "listEngineParticipants"),
        (Method::POST, "/stream-engine/participants", "createEngineParticipant"),
        (Method::GET, "/stream-engine/participants/{participant}", "getEngineParticipant"),
        (Method::DELETE, "/stream-engine/participants/{participant}", "deleteEngineParticipant"),
        (Method::GET, "/stream-engine/nodes", "listEngineNodes"),
    ];
    let refused = |(method, path, id)| {
        service(method, path, id, refuse)
            .versions(Versions::V1_1)
            .doc("engine", "Not available")
            .replies(Reply::Never)
    };
    all.into_iter().map(refused).collect()
}

async fn refuse(_: Call) -> Answered {
    Err(RestError::NotAvailable("stream-engine"))
}
