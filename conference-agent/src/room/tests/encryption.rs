//! Streams that are encrypted end to end: forwarded as they are, and nothing is made of them.

use kaigi_room_config::Resolution;
use serde_json::json;

use super::world::{Published, World, codec, participant, stream};
use crate::room::{
    CallRequest, Command, EgressMedia, EgressTarget, EgressWhat, Kind, Refusal, Reply, StartEgress,
    StreamOperation, SubscriptionUpdate, TrackUpdate, VideoParameters, Wish,
};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];
const ENCRYPTED: &str = r#"{"name":"Ann","e2ee":"sframe"}"#;

fn announce(world: &mut World, attributes: &str, kinds: &[Kind]) -> Published {
    let mut command = World::publish_command("ann", kinds, 0);
    if let Command::Publish(publish) = &mut command {
        publish.attributes = Some(attributes.to_owned());
    }
    match world.run(command).unwrap() {
        Reply::Session { session, transport, .. } => {
            Published { stream: stream(session.as_str()), transport }
        }
        other => panic!("{other:?}"),
    }
}

/// Ann publishes sound and picture so, Bob is there.
fn published(room: serde_json::Value, attributes: &str) -> (World, Published) {
    let mut world = World::new(room);
    world.presenters(&["ann", "bob"]);
    let published = announce(&mut world, attributes, &BOTH);
    world.establish(&published, &BOTH);
    (world, published)
}

fn subscribe(world: &mut World, from: &str, wish: Wish) -> Result<Reply, Refusal> {
    let mut command = World::subscribe_command("bob", from, &[Kind::Video]);
    if let Command::Subscribe(subscribe) = &mut command {
        subscribe.tracks[0].wish = wish;
    }
    world.run(command)
}

fn size(width: u32, height: u32) -> VideoParameters {
    VideoParameters { resolution: Some(Resolution { width, height }), ..VideoParameters::default() }
}

fn makes_nothing(world: &mut World) -> bool {
    let looks_into =
        |call: &CallRequest| matches!(call, CallRequest::SetTranscoder(_) | CallRequest::SetOutput(_));
    !world.made().iter().any(looks_into)
}

#[test]
fn they_are_not_mixed() {
    let (mut world, published) = published(json!({"autoMix": true}), ENCRYPTED);
    let views = |world: &mut World| {
        let shown = world.streams().into_iter().find(|s| s.id == published.stream.as_str());
        shown.unwrap().in_views
    };
    assert!(views(&mut world).is_empty(), "not by itself");
    let operations = vec![StreamOperation::Mix("common".into())];
    let stream = published.stream.clone();
    let mix = Command::ControlStream { participant: participant("ann"), stream, operations };
    assert_eq!(world.run(mix), Err(Refusal::StreamIsEncrypted));
    assert!(views(&mut world).is_empty());
}

#[test]
fn they_are_forwarded_as_they_are_and_offered_as_nothing_else() {
    let (mut world, published) = published(json!({}), ENCRYPTED);
    let id = published.stream.as_str();
    let shown = world.streams().into_iter().find(|s| s.id == id).unwrap();
    for track in &shown.tracks {
        assert!(track.optional_formats.is_empty());
    }
    let offered = shown.tracks[1].optional_parameters.clone().unwrap();
    assert!(offered.resolutions.is_empty() && offered.framerates.is_empty() && offered.bitrates.is_empty());

    let subscription = world.subscribe("bob", id, &BOTH).unwrap();
    let opened = world.made().into_iter().find_map(|call| match call {
        CallRequest::OpenSubscription(open) => Some(open),
        _ => None,
    });
    for track in opened.unwrap().tracks {
        assert_eq!(track.formats.len(), 1, "nothing else can be negotiated");
    }
    world.establish_subscription(&subscription);
    assert!(makes_nothing(&mut world));
}

#[test]
fn nothing_is_made_of_them() {
    let (mut world, published) = published(json!({}), ENCRYPTED);
    let id = published.stream.to_string();
    let smaller = Wish { parameters: size(320, 240), ..Wish::default() };
    let other_codec = Wish { format: Some(codec("vp9")), ..Wish::default() };
    for wish in [smaller.clone(), other_codec] {
        assert_eq!(subscribe(&mut world, &id, wish), Err(Refusal::StreamIsEncrypted));
    }
    let subscription = world.subscribe("bob", &id, &[Kind::Video]).unwrap();
    world.establish_subscription(&subscription);
    let change = TrackUpdate { parameters: smaller.parameters, ..TrackUpdate::default() };
    let update = Command::UpdateSubscription {
        by: Some(participant("bob")),
        subscription,
        update: SubscriptionUpdate { audio: None, video: Some(change) },
    };
    assert_eq!(world.run(update), Err(Refusal::StreamIsEncrypted));

    for target in [
        EgressTarget::Recording { container: "mkv".into(), name: String::new() },
        EgressTarget::Broadcast {
            protocol: "rtmp".into(),
            url: "rtmp://live.example/app/key".into(),
            segments: None,
        },
    ] {
        let media = vec![EgressMedia { kind: Kind::Audio, from: id.clone(), wish: Wish::default() }];
        let start = Command::StartEgress(StartEgress { target, what: EgressWhat::Media(media) });
        assert_eq!(world.run(start), Err(Refusal::StreamIsEncrypted));
    }
    assert!(makes_nothing(&mut world));
}

#[test]
fn of_their_layers_any_size_can_be_had() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = announce(&mut world, ENCRYPTED, &[Kind::Video]);
    world.establish_layers(&published, &["q", "h"]);
    let wish = Wish { parameters: size(320, 180), ..Wish::default() };
    assert!(subscribe(&mut world, published.stream.as_str(), wish).is_ok());
    let often = VideoParameters { key_frame_interval: Some(2), ..VideoParameters::default() };
    let wish = Wish { parameters: often, ..Wish::default() };
    assert_eq!(subscribe(&mut world, published.stream.as_str(), wish), Err(Refusal::StreamIsEncrypted));
    assert!(makes_nothing(&mut world));
}

#[test]
fn attributes_that_deny_it_or_are_of_something_else_are_of_ordinary_streams() {
    for attributes in [r#"{"e2ee":null}"#, r#"{"e2ee":false}"#, r#"{"name":"e2ee"}"#, "{}"] {
        let (mut world, published) = published(json!({"autoMix": true}), attributes);
        let shown = world.streams().into_iter().find(|s| s.id == published.stream.as_str()).unwrap();
        assert_eq!(shown.in_views, ["common"], "{attributes}");
    }
    let (mut world, published) = published(json!({"autoMix": true}), r#"{"e2ee":true}"#);
    let shown = world.streams().into_iter().find(|s| s.id == published.stream.as_str()).unwrap();
    assert!(shown.in_views.is_empty());
}
