//! Nodes that die, are missing, or do not do what they are asked.

use std::time::Duration;

use kaigi_proto::v1::signal_transport_request::Signal;
use serde_json::json;

use super::world::{MIXED, World, node, participant};
use crate::room::{AccessChange, CallError, CallRequest, Command, Input, Kind, Refusal};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];

fn unavailable() -> CallError {
    CallError::Unavailable("gone".into())
}

fn lose(world: &mut World, name: &str) {
    world.put(Input::NodeLost(node(name).worker));
    world.answer_all();
}

#[test]
fn a_dead_access_node_takes_its_streams_with_it_and_nothing_else() {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann", "bob"]);
    let on_first = world.publish("ann", &BOTH);
    world.access = Some("access-2");
    let on_second = world.publish("bob", &[Kind::Audio]);
    let subscription = world.subscribe("bob", on_first.stream.as_str(), &BOTH).unwrap();
    world.forget();
    lose(&mut world, "access-1");
    let (lost, mixed) = (on_first.stream.as_str(), format!("layout {MIXED} []"));
    assert_eq!(
        world.told("ann"),
        [
            format!("error {lost} Node lost"),
            mixed.clone(),
            format!("remove {lost}"),
            "transport-error Node lost".to_owned()
        ]
    );
    assert_eq!(
        world.told("bob"),
        [format!("error {subscription} Source stream loss"), mixed, format!("remove {lost}")]
    );
    let calls = world.made();
    let closed = calls.iter().filter(|call| matches!(call, CallRequest::CloseSession(_))).count();
    assert_eq!(closed, 1, "only the subscription at the living node is closed");
    assert_eq!(world.streams().last().unwrap().id, on_second.stream.as_str());

    world.publish("ann", &BOTH);
    let made = world.made();
    assert!(
        made.iter().any(|call| matches!(call, CallRequest::Schedule(s) if s.task == "ann")),
        "placed anew"
    );
}

#[test]
fn requests_that_a_dead_node_had_are_answered() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.announce("ann", &[Kind::Audio]).unwrap();
    let signal = world.ask(Command::Signal {
        participant: participant("ann"),
        transport: published.transport,
        signal: Signal::Offer("sdp".into()),
    });
    let publish = world.ask(World::publish_command("ann", &[Kind::Audio], 3));
    world.calls.clear();
    world.put(Input::NodeLost(node("access-1").worker));
    assert_eq!(world.replies[&signal], Err(Refusal::NodeLost));
    assert!(world.replies[&publish].is_err());
}

#[test]
fn without_an_access_node_publishing_is_unavailable_and_tried_anew_the_next_time() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    world.access = None;
    assert_eq!(world.announce("ann", &BOTH).unwrap_err(), Refusal::NoAccessNode);
    assert!(world.room.state.transports.is_empty());
    world.access = Some("access-1");
    assert!(world.announce("ann", &BOTH).is_ok());
}

#[test]
fn who_finds_all_nodes_full_is_told_so_and_may_ask_again() {
    let mut world = World::new(json!({}));
    (world.full, world.access, world.mixer) = (true, None, None);
    world.presenters(&["ann"]);
    assert_eq!(world.announce("ann", &BOTH).unwrap_err(), Refusal::NoCapacity("access"));
    world.access = Some("access-1");
    assert!(world.announce("ann", &BOTH).is_ok());
    assert_eq!(world.subscribe("ann", MIXED, &BOTH), Err(Refusal::NoCapacity("mixer")));
    (world.full, world.mixer) = (false, Some("mixer-1"));
    world.pass(std::time::Duration::from_secs(6));
    assert!(world.subscribe("ann", MIXED, &BOTH).is_ok());
}

#[test]
fn a_participant_is_placed_once() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let requests = [0, 2, 4].map(|mid| world.ask(World::publish_command("ann", &[Kind::Audio], mid)));
    world.answer_all();
    assert!(requests.iter().all(|request| world.replies[request].is_ok()));
    let placed =
        world.made().into_iter().filter(|c| matches!(c, CallRequest::Schedule(s) if s.task == "ann"));
    assert_eq!(placed.count(), 1);
}

#[test]
fn a_session_that_the_node_does_not_open_leaves_nothing_behind() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let request = world.ask(World::publish_command("ann", &BOTH, 0));
    let (call, callee, schedule) = world.calls.pop_back().unwrap();
    let result = world.good_answer(&callee, &schedule);
    world.put(Input::CallDone { call, result });
    world.forget();
    world.fail(|call| matches!(call, CallRequest::OpenPublication(_)), &unavailable());
    assert_eq!(world.replies[&request], Err(Refusal::NodeLost));
    assert!(world.room.state.publications.is_empty() && world.room.state.transports.is_empty());
    assert!(matches!(world.made().as_slice(), [CallRequest::CloseTransport(_)]), "it may have opened it");
}

#[test]
fn a_lost_transport_ends_its_sessions_and_then_itself() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    world.forget();
    world.access_event(&published.transport, AccessChange::Failed { reason: "Ice procedure failed.".into() });
    let id = published.stream.as_str();
    assert_eq!(
        world.told("ann"),
        [
            format!("error {id} Ice procedure failed."),
            format!("remove {id}"),
            "transport-error Ice procedure failed.".to_owned(),
        ]
    );
    assert_eq!(world.told("bob"), [format!("remove {id}")]);
}

#[test]
fn when_the_mixer_dies_another_one_takes_over_and_subscriptions_follow() {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann"]);
    world.publish("ann", &BOTH);
    let subscription = world.subscribe("ann", MIXED, &BOTH).unwrap();
    world.establish_subscription(&subscription);
    world.forget();
    world.mixer = Some("mixer-2");
    lose(&mut world, "mixer-1");
    let made = world.made();
    let [
        CallRequest::Schedule(_),
        CallRequest::SetView(view),
        CallRequest::SetSource(audio),
        CallRequest::SetSource(video),
    ] = made.as_slice()
    else {
        panic!("{made:?}")
    };
    assert_eq!((view.inputs.len(), view.minus_participants.as_slice()), (1, ["ann".to_owned()].as_slice()));
    assert_eq!(audio.source.as_ref().unwrap().track_id, "mixer-2-common-minus-ann");
    assert_eq!(video.source.as_ref().unwrap().worker_id, "mixer-2");
    assert!(world.told("ann").is_empty(), "clients are told nothing");
}

#[test]
fn a_mixer_that_does_not_answer_is_asked_again_with_growing_pauses() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    world.mixer = None;
    lose(&mut world, "mixer-1");
    world.forget();
    world.pass(Duration::from_secs(20));
    let asked = world.made().len();
    assert!((5..=12).contains(&asked), "asked {asked} times in 20 s");
    world.mixer = Some("mixer-1");
    world.put(Input::MixersChanged);
    world.answer_all();
    assert_eq!(world.view().revision, 1, "at once, and the same description serves again");
}

#[test]
fn a_subscription_that_could_not_be_moved_is_moved_later() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let subscription = world.subscribe("ann", MIXED, &[Kind::Video]).unwrap();
    world.establish_subscription(&subscription);
    world.mixer = Some("mixer-2");
    world.put(Input::NodeLost(node("mixer-1").worker));
    for _ in 0..2 {
        let (call, callee, request) = world.calls.pop_front().unwrap();
        let result = world.good_answer(&callee, &request);
        world.put(Input::CallDone { call, result });
    }
    world.fail(|call| matches!(call, CallRequest::SetSource(_)), &unavailable());
    world.forget();
    world.pass(Duration::from_secs(5));
    assert!(matches!(world.made().as_slice(), [CallRequest::SetSource(_)]));
}

#[test]
fn a_mixer_that_was_out_of_hearing_is_told_the_views_again() {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann"]);
    world.publish("ann", &BOTH);
    let before = world.view();
    world.put(Input::NodeResumed(node("mixer-1").worker));
    world.answer_all();
    assert_eq!(world.view(), before);
}

#[test]
fn a_description_that_is_refused_as_old_is_sent_newer() {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann"]);
    let published = world.announce("ann", &BOTH).unwrap();
    world.forget();
    let session = kaigi_proto::ids::SessionId::new(published.stream.as_str()).unwrap();
    let tracks = vec![crate::room::Negotiated {
        track: Some(kaigi_proto::ids::TrackId::new(format!("{}-0", published.transport)).unwrap()),
        mid: "0".into(),
        kind: Kind::Audio,
        format: super::world::opus(),
    }];
    let change = AccessChange::Established { session, tracks };
    let event = crate::room::AccessEvent { transport: published.transport, answer: 0, change };
    world.put(Input::Access { node: node("access-1").worker, event });
    let refused = world.view().revision;
    world.fail(|call| matches!(call, CallRequest::SetView(_)), &CallError::Refused("older revision".into()));
    world.pass(Duration::from_secs(1));
    assert_eq!(world.view().revision, refused + 1);
}
