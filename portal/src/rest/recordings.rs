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
/// See [`is_name`]; an empty one is none.
const NAME: &str = r"^([A-Za-z0-9_-][A-Za-z0-9._-]{0,99})?$";

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
    /// What the names of its files begin with, before its id: up to 100 letters, digits, `-`, `_` and `.`, but not that first. Own.
    #[schemars(regex(pattern = NAME))]
    name: Option<String>,
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

/// Whether names of files can begin with it, and files stay where they belong.
fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=100).contains(&text.len()) && !text.starts_with('.') && text.chars().all(plain)
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
    let name = request.name.unwrap_or_default();
    if !name.is_empty() && !is_name(&name) {
        return Err(bad_request(String::new()));
    }
    let target = Target::Recording(RecordingTarget { container: container.to_owned(), group: None, name });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_where_they_belong() {
        assert!(["a", "weekly-2.b_3", &"x".repeat(100)].into_iter().all(is_name));
        for bad in ["", ".a", "..", "a/b", "a b", "\u{e9}", &"x".repeat(101)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
