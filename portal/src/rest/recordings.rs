//! Streams kept in files.

use axum::http::Method;
use kaigi_proto::v1::{RecordingTarget, start_egress_request::Target};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    call::RoomCall,
    egress::{self, Class, Recording},
    error::RestError,
    operation::{Answered, Operation, room},
    server_side::{MediaRequest, SubscriptionPatch, bad_request},
};

const TAG: &str = "recordings";

/// What can be asked of recordings.
pub(super) fn operations() -> Vec<Operation> {
    vec![
        room(Method::GET, "/recordings", "listRecordings", list)
            .doc(TAG, "List what is recorded")
            .gives::<Vec<Recording>>(),
        room(Method::POST, "/recordings", "createRecording", create)
            .doc(TAG, "Record")
            .more("Into Matroska; MP4 and MPEG-TS are not available yet.")
            .takes::<RecordingRequest>()
            .gives::<Recording>()
            .makes("recording"),
        room(Method::PATCH, "/recordings/{recording}", "updateRecording", update)
            .doc(TAG, "Change what is recorded")
            .takes::<SubscriptionPatch>()
            .gives::<Recording>(),
        room(Method::DELETE, "/recordings/{recording}", "deleteRecording", delete)
            .doc(TAG, "Record no more")
            .more("The file is complete when this is answered."),
    ]
}

/// OWT's rules.
#[derive(Deserialize, JsonSchema)]
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

async fn list(call: RoomCall) -> Answered {
    egress::list(call, Class::Recording).await
}

async fn create(call: RoomCall) -> Answered {
    let request: RecordingRequest = call.read(bad_request)?;
    let container = match request.container.unwrap_or(Container::Auto) {
        Container::Mkv | Container::Auto => "mkv",
        Container::Mp4 => "mp4",
        Container::Ts => return Err(RestError::NotAvailable("recordings in MPEG-TS")),
    };
    let target = Target::Recording(RecordingTarget { container: container.to_owned() });
    egress::start(call, request.media, target).await
}

async fn update(call: RoomCall) -> Answered {
    egress::update(call, Class::Recording, "recording").await
}

async fn delete(call: RoomCall) -> Answered {
    egress::stop(call, Class::Recording, "recording").await
}
