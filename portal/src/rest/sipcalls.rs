//! Calls to and from telephones. Nobody makes them here yet: what is asked is checked, and refused.

use axum::http::Method;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

use super::{
    call::RoomCall,
    error::RestError,
    operation::{Answered, Operation, Reply, room},
    server_side::{self, OrFalse, ParametersRequest, SipCallPatch, bad_request, check_changes},
};

const TAG: &str = "sip";

/// What can be asked of SIP calls.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        room(Method::GET, "/sipcalls", "listSipCalls", server_side::none)
            .doc(TAG, "List the calls: none yet")
            .gives::<Vec<Value>>(),
        room(Method::POST, "/sipcalls", "createSipCall", create)
            .doc(TAG, "Call somebody")
            .more("Not available yet.")
            .takes::<SipCallRequest>()
            .replies(Reply::Never),
        room(Method::PATCH, "/sipcalls/{sipCall}", "updateSipCall", update)
            .doc(TAG, "Change what the other side gets")
            .more("Not available yet.")
            .takes::<SipCallPatch>()
            .replies(Reply::Never),
        room(Method::DELETE, "/sipcalls/{sipCall}", "deleteSipCall", delete)
            .doc(TAG, "Hang up")
            .more("Not available yet.")
            .replies(Reply::Never),
    ]
}

/// OWT's rules.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "its form is checked; nobody serves it here yet")]
struct SipCallRequest {
    /// `user@host`
    #[serde(rename = "peerURI")]
    peer_uri: String,
    media_in: SipMediaIn,
    media_out: SipMediaOut,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "its form is checked; nobody serves it here yet")]
struct SipMediaIn {
    #[serde(deserialize_with = "only_true")]
    #[schemars(extend("const" = true))]
    audio: bool,
    video: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "its form is checked; nobody serves it here yet")]
struct SipMediaOut {
    audio: SipAudioOut,
    video: OrFalse<SipVideoOut>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "its form is checked; nobody serves it here yet")]
struct SipAudioOut {
    /// Stream id.
    from: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "its form is checked; nobody serves it here yet")]
struct SipVideoOut {
    /// Stream id.
    from: String,
    parameters: Option<ParametersRequest>,
}

fn only_true<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    if bool::deserialize(deserializer)? { Ok(true) } else { Err(D::Error::custom("must be true")) }
}

async fn create(call: RoomCall) -> Answered {
    call.read::<SipCallRequest>(bad_request)?;
    Err(RestError::NotAvailable("sipcalls"))
}

async fn update(call: RoomCall) -> Answered {
    check_changes(&call.body, "/output")?;
    Err(RestError::NotAvailable("sipcalls"))
}

async fn delete(_: RoomCall) -> Answered {
    Err(RestError::NotAvailable("sipcalls"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_follow_owts_rules() {
        let reads = |value: &Value| serde_json::from_value::<SipCallRequest>(value.clone()).is_ok();
        let call = json!({
            "peerURI": "a@b", "mediaIn": {"audio": true, "video": false},
            "mediaOut": {"audio": {"from": "s"}, "video": {"from": "s", "parameters": {"framerate": 24}}},
        });
        assert!(reads(&call));
        for (place, value) in [
            ("/peerURI", json!(1)),
            ("/mediaIn/audio", json!(false)),
            ("/mediaIn/video", json!("auto")),
            ("/mediaOut/audio", json!(false)),
            ("/mediaOut/video", json!(true)),
            ("/mediaOut/video/parameters/framerate", json!("24")),
        ] {
            let mut bad = call.clone();
            *bad.pointer_mut(place).unwrap() = value;
            assert!(!reads(&bad), "{place}");
        }
    }
}
