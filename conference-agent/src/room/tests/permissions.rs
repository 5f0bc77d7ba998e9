//! Permissions that change while their participant is there.

use std::time::Duration;

use kaigi_proto::ids::SubscriptionId;
use serde_json::json;

use super::world::{MIXED, World, participant, stream};
use crate::room::{
    CallError, CallRequest, Command, Kind, Kinds, PermissionChange, Refusal, Reply, StreamOperation,
};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];
const AUDIO: Kinds = Kinds { audio: true, video: false };
const VIDEO: Kinds = Kinds { audio: false, video: true };
const AV: Kinds = Kinds { audio: true, video: true };
const NONE: Kinds = Kinds { audio: false, video: false };

fn may_publish(name: &str, kinds: Kinds) -> Command {
    let (publish_audio, publish_video) = (Some(kinds.audio), Some(kinds.video));
    let change = PermissionChange { publish_audio, publish_video, ..PermissionChange::default() };
    Command::UpdateParticipant { participant: participant(name), change }
}

fn may_subscribe(name: &str, kinds: Kinds) -> Command {
    let (subscribe_audio, subscribe_video) = (Some(kinds.audio), Some(kinds.video));
    let change = PermissionChange { subscribe_audio, subscribe_video, ..PermissionChange::default() };
    Command::UpdateParticipant { participant: participant(name), change }
}

fn control(name: &str, id: &str, kinds: Kinds, active: bool) -> Command {
    let operations = vec![StreamOperation::Status { kinds, active, repeat: true }];
    Command::ControlStream { participant: participant(name), stream: stream(id), operations }
}

fn listen(name: &str, id: &SubscriptionId, kinds: Kinds, active: bool) -> Command {
    let (participant, subscription) = (participant(name), id.clone());
    Command::ControlSubscription { participant, subscription, kinds, active }
}

/// Session, kind and state of what the access nodes were told to stop or to let flow.
fn flows(world: &mut World) -> Vec<(String, &'static str, bool)> {
    let calls = world.made().into_iter().filter_map(|call| match call {
        CallRequest::SetActive(call) => Some(call),
        _ => None,
    });
    calls.map(|call| (call.session_id, Kind::from_wire(call.kind).unwrap().name(), call.active)).collect()
}

#[test]
fn a_changed_permission_counts_for_later_requests() {
    let mut world = World::new(json!({}));
    world.join("bob", "viewer").unwrap();
    assert_eq!(world.announce("bob", &[Kind::Audio]).unwrap_err(), Refusal::Unauthorized);
    let Reply::Participant(bob) = world.run(may_publish("bob", AUDIO)).unwrap() else { panic!() };
    let publish = bob.permission.unwrap().publish.unwrap();
    assert!(publish.audio && !publish.video);
    assert!(world.announce("bob", &[Kind::Audio]).is_ok());
    assert_eq!(world.announce("bob", &BOTH).unwrap_err(), Refusal::Unauthorized);
    assert_eq!(world.run(may_publish("cat", AV)), Err(Refusal::NotJoined));
}

#[test]
fn a_withdrawn_kind_stops_at_once_for_everybody_and_in_the_mix() {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    let id = published.stream.as_str();
    world.forget();
    world.ask(may_publish("ann", VIDEO));
    let told = [format!("status {id} audio inactive")];
    assert_eq!((world.told("ann"), world.told("bob")), (told.to_vec(), told.to_vec()));
    let made = world.made();
    let stopped = made.iter().any(|call| matches!(call, CallRequest::SetActive(call) if !call.active));
    let muted = made.iter().any(|call| {
        matches!(call, CallRequest::SetView(view) if view.inputs[0].audio_muted && !view.inputs[0].video_muted)
    });
    assert!(stopped && muted, "before any node has answered: {made:?}");
    world.answer_all();
    world.run(may_publish("ann", VIDEO)).unwrap();
    assert!(world.told("bob").is_empty(), "nothing changes by saying it again");
}

#[test]
fn a_kind_that_is_not_permitted_is_not_played() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    let id = published.stream.as_str();
    world.run(may_publish("ann", VIDEO)).unwrap();
    world.forget();
    assert_eq!(world.run(control("ann", id, AV, true)), Err(Refusal::Unauthorized));
    let operations = vec![StreamOperation::Status { kinds: AUDIO, active: true, repeat: false }];
    let by_management = Command::UpdateStream { stream: published.stream.clone(), operations };
    assert_eq!(world.run(by_management), Err(Refusal::Unauthorized));
    assert_eq!(world.run(control("ann", id, VIDEO, true)), Ok(Reply::Done));
    assert!(flows(&mut world).is_empty());
}

#[test]
fn a_kind_that_is_granted_again_flows_again() {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    let id = published.stream.as_str();
    world.run(may_publish("ann", AUDIO)).unwrap();
    world.forget();
    world.run(may_publish("ann", AV)).unwrap();
    assert_eq!(world.told("ann"), [format!("status {id} video active")]);
    assert!(!world.view().inputs[0].video_muted);
}

#[test]
fn what_was_paused_stays_paused_when_it_is_granted_again() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    let id = published.stream.as_str();
    world.run(control("ann", id, AUDIO, false)).unwrap();
    world.run(may_publish("ann", VIDEO)).unwrap();
    world.run(may_publish("ann", AUDIO)).unwrap();
    assert_eq!(world.run(control("ann", id, VIDEO, false)), Ok(Reply::Done), "paused while it is withheld");
    world.forget();
    world.run(may_publish("ann", AV)).unwrap();
    assert!(world.told("ann").is_empty() && flows(&mut world).is_empty());
    assert_eq!(world.run(control("ann", id, AV, true)), Ok(Reply::Done));
}

#[test]
fn a_stream_of_which_nothing_is_permitted_ends() {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    let subscription = world.subscribe("bob", published.stream.as_str(), &BOTH).unwrap();
    world.forget();
    world.run(may_publish("ann", NONE)).unwrap();
    let (id, mixed) = (published.stream.as_str(), format!("layout {MIXED} []"));
    assert_eq!(
        world.told("ann"),
        [format!("error {id} unauthorized"), mixed.clone(), format!("remove {id}")]
    );
    assert_eq!(
        world.told("bob"),
        [format!("error {subscription} Source stream loss"), mixed, format!("remove {id}")]
    );
    let closed = world.made().into_iter().filter(|call| matches!(call, CallRequest::CloseSession(_)));
    assert_eq!(closed.count(), 2);
}

#[test]
fn a_session_that_is_not_open_yet_is_refused_when_its_permission_goes() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let publish = world.ask(World::publish_command("ann", &[Kind::Audio], 0));
    let subscribe = world.ask(World::subscribe_command("ann", MIXED, &[Kind::Audio]));
    world.ask(may_publish("ann", VIDEO));
    assert_eq!(world.replies[&publish], Err(Refusal::Unauthorized));
    world.ask(may_subscribe("ann", VIDEO));
    assert_eq!(world.replies[&subscribe], Err(Refusal::Unauthorized));
    world.answer_all();
    assert_eq!(world.room.counts(), (1, 0, 0));
}

#[test]
fn a_stream_comes_without_what_was_withdrawn_while_it_connected() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.announce("ann", &BOTH).unwrap();
    world.run(may_publish("ann", VIDEO)).unwrap();
    world.forget();
    world.establish(&published, &BOTH);
    let id = published.stream.as_str();
    assert_eq!(flows(&mut world), [(id.to_owned(), "audio", false)]);
    let active: Vec<_> = world.streams()[1].tracks.iter().map(|track| track.active).collect();
    assert_eq!(active, [false, true]);
    world.run(may_publish("ann", AV)).unwrap();
    assert_eq!(flows(&mut world), [(id.to_owned(), "audio", true)]);
}

#[test]
fn a_subscriber_stops_receiving_what_it_may_not() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    let subscription = world.subscribe("bob", published.stream.as_str(), &BOTH).unwrap();
    world.forget();
    let id = subscription.to_string();
    world.run(may_subscribe("bob", AUDIO)).unwrap();
    assert_eq!(flows(&mut world), [(id.clone(), "video", false)]);
    assert_eq!(world.run(listen("bob", &subscription, VIDEO, true)), Err(Refusal::Unauthorized));
    world.run(may_subscribe("bob", AV)).unwrap();
    assert_eq!(flows(&mut world), [(id.clone(), "video", true)]);

    world.run(listen("bob", &subscription, AUDIO, false)).unwrap();
    world.run(may_subscribe("bob", VIDEO)).unwrap();
    world.forget();
    world.run(may_subscribe("bob", AV)).unwrap();
    assert!(flows(&mut world).is_empty(), "it has paused that itself");
    world.run(may_subscribe("bob", NONE)).unwrap();
    assert_eq!(world.told("bob"), [format!("error {id} unauthorized")]);
    assert!(world.told("ann").is_empty());
}

#[test]
fn a_mix_without_oneself_follows_the_permission_to_speak() {
    let mut world = World::new(json!({}));
    world.join("bob", "viewer").unwrap();
    let subscription = world.subscribe("bob", MIXED, &[Kind::Audio]).unwrap();
    world.establish_subscription(&subscription);
    let heard = |world: &mut World| {
        let made = world.made().into_iter().rev();
        let mut sources = made.filter_map(|call| match call {
            CallRequest::SetSource(call) => call.source,
            _ => None,
        });
        sources.next().map(|source| source.track_id)
    };
    world.forget();
    world.run(may_publish("bob", AUDIO)).unwrap();
    assert_eq!(heard(&mut world).as_deref(), Some("mixer-1-common-minus-bob"));
    world.ask(may_publish("bob", NONE));
    assert_eq!(heard(&mut world).as_deref(), Some("mixer-1-common-audio"), "before its own mix is gone");
    world.answer_all();
    assert!(world.room.state.views[0].outputs.as_ref().unwrap().minus.is_empty());
}

#[test]
fn a_node_that_may_not_know_what_is_stopped_is_told_until_it_does() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    world.forget();
    let told = |call: &CallRequest| matches!(call, CallRequest::SetActive(_));
    world.ask(may_publish("ann", VIDEO));
    world.fail(told, &CallError::Unavailable("no answer".into()));
    for _ in 0..3 {
        world.forget();
        world.now += Duration::from_secs(1);
        world.timeout();
        assert_eq!(flows(&mut world), [(published.stream.to_string(), "audio", false)]);
        world.fail(told, &CallError::Unavailable("no answer".into()));
    }
    world.pass(Duration::from_secs(5));
    assert_eq!(flows(&mut world).len(), 1, "it has answered");
}

#[test]
fn a_play_under_way_does_not_undo_a_withdrawal() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    let id = published.stream.as_str();
    world.run(control("ann", id, AUDIO, false)).unwrap();
    world.forget();
    let play = world.ask(control("ann", id, AUDIO, true));
    world.run(may_publish("ann", VIDEO)).unwrap();
    assert_eq!(world.replies[&play], Err(Refusal::Unauthorized));
    let audio = |active| (id.to_owned(), "audio", active);
    assert_eq!(flows(&mut world), [audio(true), audio(false)]);
    assert!(world.told("ann").is_empty(), "it was never active");
}

#[test]
fn a_pause_under_way_outlasts_a_withdrawal_and_a_grant() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    let id = published.stream.as_str();
    world.forget();
    let pause = world.ask(control("ann", id, AUDIO, false));
    world.ask(may_publish("ann", VIDEO));
    world.ask(may_publish("ann", AV));
    world.answer_all();
    assert_eq!(world.replies[&pause], Ok(Reply::Done));
    let audio = |active| (id.to_owned(), "audio", active);
    assert_eq!(flows(&mut world), [audio(false), audio(true), audio(false)]);
    assert!(!world.streams()[1].tracks[0].active);
}
