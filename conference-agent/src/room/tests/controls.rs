//! Pausing, and changes by the management.

use serde_json::json;

use super::world::{MIXED, World, participant, stream};
use crate::room::{CallError, CallRequest, Command, Filter, Kind, Kinds, Refusal, Reply, StreamOperation};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];
const AUDIO: Kinds = Kinds { audio: true, video: false };
const AV: Kinds = Kinds { audio: true, video: true };

fn status(kinds: Kinds, active: bool, repeat: bool) -> StreamOperation {
    StreamOperation::Status { kinds, active, repeat }
}

fn control(name: &str, id: &str, kinds: Kinds, active: bool) -> Command {
    let operations = vec![status(kinds, active, true)];
    Command::ControlStream { participant: participant(name), stream: stream(id), operations }
}

fn update(id: &str, operations: Vec<StreamOperation>) -> Command {
    Command::UpdateStream { stream: stream(id), operations }
}

#[test]
fn a_paused_stream_is_told_to_all_and_silent_in_the_mix() {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    let id = published.stream.as_str();
    world.forget();
    world.run(control("ann", id, AV, false)).unwrap();
    let told = [format!("status {id} audio inactive"), format!("status {id} video inactive")];
    assert_eq!(world.told("ann"), told);
    assert_eq!(world.told("bob"), told);
    let view = world.view();
    assert!(view.inputs[0].audio_muted && view.inputs[0].video_muted);
    assert!(world.streams()[1].tracks.iter().all(|track| !track.active));

    world.run(control("ann", id, AUDIO, true)).unwrap();
    let view = world.view();
    assert!(!view.inputs[0].audio_muted && view.inputs[0].video_muted);
}

#[test]
fn a_pause_while_paused_repeats_the_notice_but_not_the_managements() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    let id = published.stream.as_str();
    world.run(control("ann", id, AUDIO, false)).unwrap();
    world.forget();
    world.run(control("ann", id, AUDIO, false)).unwrap();
    assert_eq!(world.told("ann"), [format!("status {id} audio inactive")]);
    world.run(update(id, vec![status(AUDIO, false, false)])).unwrap();
    assert!(world.told("ann").is_empty());
    assert!(world.made().is_empty(), "the access node knows already");
}

#[test]
fn streams_are_controlled_by_their_owner_or_an_admin() {
    let role = json!({"role": "admin", "publish": {"audio": true, "video": true}, "subscribe": {"audio": true, "video": true}});
    let presenter = json!({"role": "presenter", "publish": {"audio": true, "video": true}, "subscribe": {"audio": true, "video": true}});
    let mut world = World::new(json!({"roles": [role, presenter]}));
    world.presenters(&["ann", "bob"]);
    world.join("boss", "admin").unwrap();
    let published = world.publish("ann", &[Kind::Audio]);
    let id = published.stream.as_str();
    assert_eq!(world.run(control("bob", id, AUDIO, false)), Err(Refusal::Unauthorized));
    assert_eq!(world.run(control("boss", id, AUDIO, false)), Ok(Reply::Done));
    assert_eq!(world.run(control("boss", MIXED, AUDIO, false)), Err(Refusal::StreamIsMixed));
    assert_eq!(world.run(control("boss", "none", AUDIO, false)), Err(Refusal::UnknownStream));
    let video = Kinds { audio: false, video: true };
    let refused = world.run(control("ann", id, video, false)).unwrap_err();
    assert_eq!(refused.to_string(), "Stream does NOT contain valid track to mute/unmute");
}

#[test]
fn a_pause_that_the_node_does_not_do_is_not_told() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    world.forget();
    let request = world.ask(control("ann", published.stream.as_str(), AV, false));
    world.fail(|call| matches!(call, CallRequest::SetActive(_)), &CallError::Unavailable(String::new()));
    assert_eq!(world.replies[&request], Err(Refusal::NodeLost));
    assert!(world.told("ann").is_empty());
}

#[test]
fn a_subscription_is_paused_silently() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &[Kind::Audio]);
    let subscription = world.subscribe("bob", published.stream.as_str(), &[Kind::Audio]).unwrap();
    world.forget();
    let pause = |name: &str, kinds| Command::ControlSubscription {
        participant: participant(name),
        subscription: subscription.clone(),
        kinds,
        active: false,
    };
    assert_eq!(world.run(pause("ann", AUDIO)), Err(Refusal::Unauthorized));
    assert_eq!(world.run(pause("bob", AV)), Ok(Reply::Done));
    let made = world.made();
    let [CallRequest::SetActive(call)] = made.as_slice() else { panic!("{made:?}") };
    assert_eq!((call.session_id.as_str(), call.active), (subscription.as_str(), false));
    assert!(world.told("bob").is_empty());
    let refused = world.run(pause("bob", Kinds { audio: false, video: true })).unwrap_err();
    assert_eq!(refused.to_string(), "Target subscription does NOT have video to update");
}

#[test]
fn the_managements_changes_stop_at_the_first_that_fails() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    let id = published.stream.as_str();
    let mix = |view: &str| StreamOperation::Mix(view.into());
    let Ok(Reply::Stream(after)) = world.run(update(id, vec![mix("common"), status(AUDIO, false, false)]))
    else {
        panic!()
    };
    assert_eq!(after.in_views, ["common"]);
    assert!(!after.tracks[0].active);
    let stopped = vec![StreamOperation::Unmix("common".into()), mix("none"), status(AUDIO, true, false)];
    assert_eq!(world.run(update(id, stopped)), Err(Refusal::InvalidView));
    let now = world.streams().remove(1);
    assert!(now.in_views.is_empty());
    assert!(!now.tracks[0].active);
}

#[test]
fn a_filter_is_put_on_a_mixed_stream() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    world.forget();
    let filter = || vec![StreamOperation::Filter(Filter::new("edgedetect", "").unwrap())];
    let Ok(Reply::Stream(after)) = world.run(update(MIXED, filter())) else { panic!() };
    assert_eq!(after.filter, "edgedetect");
    assert_eq!(world.view().video.unwrap().filter, "edgedetect");
    assert_eq!(world.told("ann"), [format!("replaced {MIXED}")]);
    assert!(after.filter_parameters.contains(r#""lowThreshold":100"#), "{}", after.filter_parameters);
    assert_eq!(world.run(update("nobody", filter())), Err(Refusal::UnknownStream));

    let turned = Filter::new("rotate", r#"{"angle": 90}"#).unwrap();
    let id = published.stream.as_str();
    world
        .run(update(id, vec![StreamOperation::Mix("common".into()), StreamOperation::Filter(turned.clone())]))
        .unwrap();
    let [_, forward] = &world.streams()[..] else { panic!() };
    assert_eq!((&*forward.filter, &*forward.filter_parameters), ("rotate", r#"{"angle":90,"flip":"none"}"#));
    let input = &world.view().inputs[0];
    assert_eq!((&input.filter, &input.filter_parameters), (&forward.filter, &forward.filter_parameters));
    let written = serde_json::to_string(&turned).unwrap();
    assert_eq!(serde_json::from_str::<Filter>(&written).unwrap(), turned);

    world.run(update(id, vec![StreamOperation::Filter(Filter::default())])).unwrap();
    assert_eq!(world.streams()[1].filter, "");
    assert_eq!(world.view().inputs[0].filter, "");
}
