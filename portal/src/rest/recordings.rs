//! Streams kept in files.

use axum::http::Method;
use kaigi_proto::v1::{KindFlags, RecordingTarget, start_egress_request::Target};
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
            .more("Into Matroska or MP4; MPEG-TS is not available yet. With `each` in place of `media`, each forward stream is recorded on its own.")
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
    media: Option<MediaRequest>,
    /// In place of `media`: these kinds of each forward stream that there is or comes, each in a file of its own. Own.
    each: Option<EachRequest>,
}

/// Which kinds are recorded of each stream.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EachRequest {
    audio: bool,
    video: bool,
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
    let target = Target::Recording(RecordingTarget { container: container.to_owned(), group: None });
    match (request.media, request.each) {
        (Some(media), None) => egress::start(call, media, target).await,
        (None, Some(EachRequest { audio, video })) if audio || video => {
            egress::start_each(call, KindFlags { audio, video }, target).await
        }
        _ => Err(bad_request(String::new())),
    }
}

async fn update(call: RoomCall) -> Answered {
    egress::update(call, Class::Recording, "recording").await
}

async fn delete(call: RoomCall) -> Answered {
    egress::stop(call, Class::Recording, "recording").await
}
