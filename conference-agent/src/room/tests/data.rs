//! Data streams.

use kaigi_proto::{
    ids::{SessionId, SubscriptionId},
    v1,
};
use serde_json::json;

use super::world::{MIXED, Published, World, node, participant, stream};
use crate::room::{
    AccessChange, CallRequest, Command, Input, Kind, PermissionChange, Refusal, Reply, StreamOperation,
};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];

fn publish_command(name: &str, kinds: &[Kind]) -> Command {
    match World::publish_command(name, kinds, 0) {
        Command::Publish(publish) => Command::Publish(crate::room::Publish { data: true, ..publish }),
        other => other,
    }
}

/// Publishes data, beside the kinds.
fn publish(world: &mut World, name: &str, kinds: &[Kind]) -> Published {
    let Ok(Reply::Session { session, transport, .. }) = world.run(publish_command(name, kinds)) else {
        panic!()
    };
    let published = Published { stream: stream(session.as_str()), transport };
    world.establish(&published, kinds);
    published
}

fn subscribe_command(name: &str, data_from: &str, media: Option<(&str, &[Kind])>) -> Command {
    let (from, kinds) = media.unwrap_or(("", &[]));
    match World::subscribe_command(name, from, kinds) {
        Command::Subscribe(subscribe) => {
            Command::Subscribe(crate::room::Subscribe { data_from: Some(data_from.into()), ..subscribe })
        }
        other => other,
    }
}

fn subscribe(
    world: &mut World,
    name: &str,
    data_from: &str,
    media: Option<(&str, &[Kind])>,
) -> Result<SubscriptionId, Refusal> {
    match world.run(subscribe_command(name, data_from, media))? {
        Reply::Session { session, .. } => Ok(SubscriptionId::new(session.as_str()).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn opened(world: &mut World) -> v1::OpenSubscriptionRequest {
    let mut calls = world.made().into_iter().filter_map(|call| match call {
        CallRequest::OpenSubscription(open) => Some(open),
        _ => None,
    });
    calls.next().expect("nothing was opened")
}

#[test]
fn data_alone_is_a_stream_without_tracks() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = publish(&mut world, "ann", &[]);
    let id = published.stream.as_str();
    let calls = world.made();
    let asked = calls.iter().any(
        |call| matches!(call, CallRequest::OpenPublication(open) if open.data && open.tracks.is_empty()),
    );
    assert!(asked, "{calls:?}");
    assert_eq!(world.told("ann"), [format!("add {id}"), format!("ready {id}")]);
    let listed = world.streams().pop().unwrap();
    assert!(listed.data && listed.tracks.is_empty());
    assert_eq!((listed.id.as_str(), listed.info_type.as_str()), (id, "webrtc"));
    assert!(!world.streams()[0].data, "mixes have none");
}

#[test]
fn data_comes_beside_media() {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann"]);
    publish(&mut world, "ann", &BOTH);
    let listed = world.streams().pop().unwrap();
    assert!(listed.data);
    assert_eq!(listed.tracks.len(), 2);
    assert_eq!(listed.in_views, ["common"]);
}

#[test]
fn data_comes_from_its_publishers_node() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = publish(&mut world, "ann", &[]);
    let id = published.stream.as_str();
    world.access = Some("access-2");
    world.forget();
    let subscription = subscribe(&mut world, "bob", id, None).unwrap();
    let open = opened(&mut world);
    let data = open.data.unwrap();
    assert!(open.tracks.is_empty());
    assert_eq!(
        (data.stream_id.as_str(), data.worker_id.as_str(), data.endpoint.as_str()),
        (id, "access-1", "http://access-1")
    );
    world.establish_subscription(&subscription);
    assert_eq!(world.told("bob"), [format!("ready {subscription}")]);
}

#[test]
fn data_and_media_may_come_from_different_streams() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let data = publish(&mut world, "ann", &[]).stream;
    world.forget();
    subscribe(&mut world, "bob", data.as_str(), Some((MIXED, &BOTH))).unwrap();
    let open = opened(&mut world);
    assert_eq!(open.tracks.len(), 2);
    assert_eq!(open.data.unwrap().stream_id, data.as_str());
}

#[test]
fn a_stream_without_data_has_none_to_subscribe() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let media = world.publish("ann", &BOTH).stream;
    let Ok(Reply::Session { session: connecting, .. }) = world.run(publish_command("ann", &[])) else {
        panic!()
    };
    for from in [media.as_str(), MIXED, "none", connecting.as_str()] {
        let refused = subscribe(&mut world, "bob", from, None).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "Target data stream does NOT satisfy:Requested data stream",
            "{from}"
        );
    }
    let data = publish(&mut world, "ann", &[]).stream;
    let refused = world.subscribe("bob", data.as_str(), &[Kind::Audio]);
    assert_eq!(refused, Err(Refusal::NoSuchSource(Kind::Audio)));
}

#[test]
fn a_subscription_ends_with_its_data() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let data = publish(&mut world, "ann", &[]).stream;
    let media = world.publish("ann", &BOTH).stream;
    let both = subscribe(&mut world, "bob", data.as_str(), Some((media.as_str(), &BOTH))).unwrap();
    world.forget();
    world.run(Command::Unpublish { participant: participant("ann"), stream: data.clone() }).unwrap();
    assert_eq!(world.told("bob"), [format!("error {both} Source stream loss"), format!("remove {data}")]);
}

#[test]
fn a_subscription_whose_data_goes_before_it_is_opened_is_refused() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let data = publish(&mut world, "ann", &[]).stream;
    let request = world.ask(subscribe_command("bob", data.as_str(), None));
    world.put(Input::Gone(participant("ann")));
    let refused = world.replies[&request].clone().unwrap_err();
    assert_eq!(refused.to_string(), "Target data stream early released");
    world.answer_all();
    assert_eq!(world.room.counts(), (1, 0, 0));
}

#[test]
fn data_goes_with_its_publishers_node() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let data = publish(&mut world, "ann", &[]).stream;
    world.access = Some("access-2");
    let subscription = subscribe(&mut world, "bob", data.as_str(), None).unwrap();
    world.forget();
    world.put(Input::NodeLost(node("access-1").worker));
    assert_eq!(
        world.told("bob"),
        [format!("error {subscription} Source stream loss"), format!("remove {data}")]
    );
}

#[test]
fn who_may_publish_anything_may_publish_data() {
    let mut world = World::new(json!({}));
    world.join("ann", "audio_only_presenter").unwrap();
    world.join("bob", "viewer").unwrap();
    assert!(world.run(publish_command("ann", &[])).is_ok());
    assert_eq!(world.run(publish_command("ann", &BOTH)), Err(Refusal::Unauthorized));
    assert_eq!(world.run(publish_command("bob", &[])), Err(Refusal::Unauthorized));
}

#[test]
fn data_goes_on_while_anything_is_permitted() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = publish(&mut world, "ann", &[Kind::Audio]);
    let subscription = subscribe(&mut world, "bob", published.stream.as_str(), None).unwrap();
    world.forget();
    let mut permit = |name: &str, change| {
        world.run(Command::UpdateParticipant { participant: participant(name), change }).unwrap();
        (world.told("ann"), world.told("bob"))
    };
    let id = published.stream.as_str();
    let silence = PermissionChange { publish_audio: Some(false), ..PermissionChange::default() };
    assert_eq!(permit("ann", silence).0, [format!("status {id} audio inactive")]);
    let blind = PermissionChange { subscribe_video: Some(false), ..PermissionChange::default() };
    assert!(permit("bob", blind).1.is_empty());
    let deaf = PermissionChange { subscribe_audio: Some(false), ..PermissionChange::default() };
    assert_eq!(permit("bob", deaf).1, [format!("error {subscription} unauthorized")]);
    let nothing = PermissionChange { publish_video: Some(false), ..PermissionChange::default() };
    assert_eq!(permit("ann", nothing).0, [format!("error {id} unauthorized"), format!("remove {id}")]);
    let refused = subscribe(&mut world, "bob", id, None);
    assert_eq!(refused, Err(Refusal::Unauthorized));
}

#[test]
fn data_counts_as_an_input_of_the_room_and_of_no_view() {
    let mut world = World::new(json!({"inputLimit": 1, "autoMix": true}));
    world.presenters(&["ann"]);
    let data = publish(&mut world, "ann", &[]).stream;
    assert_eq!(world.run(publish_command("ann", &[])), Err(Refusal::TooManyInputs));
    assert!(world.streams().pop().unwrap().in_views.is_empty());
    let operations = vec![StreamOperation::Mix("common".into())];
    let mix = Command::ControlStream { participant: participant("ann"), stream: data.clone(), operations };
    assert_eq!(world.run(mix), Err(Refusal::NoTrackToMix));
    let operations = vec![StreamOperation::Status {
        kinds: crate::room::Kinds { audio: true, video: true },
        active: false,
        repeat: true,
    }];
    let pause = Command::ControlStream { participant: participant("ann"), stream: data, operations };
    assert_eq!(world.run(pause), Err(Refusal::NoTrackToMute));
}

#[test]
fn a_stream_whose_media_can_not_be_goes_on_with_its_data() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let Ok(Reply::Session { session, transport, .. }) = world.run(publish_command("ann", &[Kind::Audio]))
    else {
        panic!()
    };
    let established =
        AccessChange::Established { session: SessionId::new(session.as_str()).unwrap(), tracks: Vec::new() };
    world.access_event(&transport, established);
    let listed = world.streams().pop().unwrap();
    assert!(listed.data && listed.tracks.is_empty());
}
