//! Joining, leaving, texts, and the end of a room.

use std::time::Duration;

use serde_json::json;

use super::world::{MIXED, World, participant};
use crate::room::{CallRequest, Command, Input, Kind, Receiver, Refusal};

fn leave(name: &str) -> Command {
    Command::Leave { participant: participant(name) }
}

fn text(from: &str, to: Receiver, message: &str) -> Command {
    Command::Text { from: participant(from), to, message: message.into() }
}

#[test]
fn the_first_event_of_a_join_is_the_whole_room() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &[Kind::Audio]);
    let joined = world.join("bob", "viewer").unwrap();
    assert_eq!(joined.epoch, 7);
    assert_eq!(joined.views, ["common"]);
    assert_eq!(joined.participants.iter().map(|p| p.id.as_str()).collect::<Vec<_>>(), ["ann", "bob"]);
    assert_eq!(
        joined.streams.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(),
        [MIXED, published.stream.as_str()]
    );
    let permission = joined.permission.unwrap();
    assert!(!permission.publish.unwrap().audio && permission.subscribe.unwrap().video);
    assert_eq!(world.told("bob"), ["joined"]);
}

#[test]
fn others_hear_of_joins_and_leaves() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    world.join("bob", "viewer").unwrap();
    assert!(world.run(leave("bob")).is_ok());
    assert_eq!(world.told("ann"), ["join bob", "leave bob"]);
    assert_eq!(world.run(leave("bob")), Err(Refusal::NotJoined));
}

#[test]
fn nobody_hears_of_them_where_the_room_says_so() {
    let mut world = World::new(json!({"notifying": {"participantActivities": false, "streamChange": false}}));
    world.presenters(&["ann"]);
    world.join("bob", "presenter").unwrap();
    let published = world.publish("bob", &[Kind::Audio]);
    world.run(leave("bob")).unwrap();
    assert!(world.told("ann").is_empty());
    assert_eq!(world.told("bob"), ["joined".to_owned(), format!("ready {}", published.stream)]);
}

#[test]
fn a_join_is_refused_in_owts_order() {
    let mut world = World::new(json!({"participantLimit": 2}));
    world.presenters(&["ann"]);
    assert_eq!(world.join("ann", "presenter"), Err(Refusal::AlreadyInRoom));
    assert_eq!(world.join("bob", "nonsense"), Err(Refusal::InvalidRole));
    world.join("bob", "viewer").unwrap();
    assert_eq!(world.join("cat", "nonsense"), Err(Refusal::RoomFull));
    assert_eq!(world.told("ann"), ["join bob"]);
}

#[test]
fn a_text_to_all_comes_back_to_its_sender() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    world.run(text("ann", Receiver::All, "hi")).unwrap();
    world.run(text("bob", Receiver::One(participant("ann")), "hello")).unwrap();
    assert_eq!(world.told("ann"), ["text ann all hi", "text bob me hello"]);
    assert_eq!(world.told("bob"), ["text ann all hi"]);
    let refused = world.run(text("ann", Receiver::One(participant("cat")), "?")).unwrap_err();
    assert_eq!(refused.to_string(), "Target participant does NOT exist: cat");
    assert_eq!(world.run(text("cat", Receiver::All, "?")), Err(Refusal::NotJoined));
}

#[test]
fn whoever_drops_the_stream_has_left() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("bob", &[Kind::Audio]);
    world.forget();
    world.put(Input::Gone(participant("bob")));
    assert_eq!(world.told("ann"), [format!("remove {}", published.stream), "leave bob".to_owned()]);
    world.put(Input::Gone(participant("bob")));
    assert!(world.told("ann").is_empty());
}

#[test]
fn a_dropped_participant_is_told_last() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    world.run(Command::DropParticipant { participant: participant("bob") }).unwrap();
    assert_eq!(world.told("bob"), ["dropped Dropped by the management"]);
    assert_eq!(world.told("ann"), ["leave bob"]);
}

#[test]
fn a_leave_closes_transports_and_gives_the_access_node_back() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    world.publish("ann", &[Kind::Audio]);
    world.forget();
    world.run(leave("ann")).unwrap();
    let made = world.made();
    assert!(made.iter().any(|call| matches!(call, CallRequest::CloseTransport(_))));
    assert!(made.iter().any(|call| matches!(call, CallRequest::Release(r) if r.task == "ann")));
}

#[test]
fn a_room_ends_after_thirty_seconds_without_anybody() {
    let mut world = World::new(json!({}));
    world.pass(Duration::from_secs(29));
    world.presenters(&["ann"]);
    world.pass(Duration::from_secs(1000));
    assert!(!world.ended);
    world.run(leave("ann")).unwrap();
    world.pass(Duration::from_millis(29_999));
    assert!(!world.ended);
    world.forget();
    world.pass(Duration::from_millis(1));
    assert!(world.ended);
    let made = world.made();
    assert!(
        made.iter()
            .any(|call| matches!(call, CallRequest::RemoveView(v) if v.label == "common" && v.epoch == 7))
    );
    assert!(made.iter().any(|call| matches!(call, CallRequest::Release(_))));
    assert_eq!(world.join("bob", "viewer"), Err(Refusal::RoomEnds));
}

#[test]
fn a_destroyed_room_drops_everybody_and_answers_everything() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let waiting = world.ask(World::publish_command("bob", &[Kind::Audio], 0));
    world.run(Command::Destroy { reason: "Room destruction".into() }).unwrap();
    assert_eq!(world.told("ann"), ["dropped Room destruction"]);
    assert_eq!(world.told("bob"), ["dropped Room destruction"]);
    assert_eq!(world.replies[&waiting], Err(Refusal::RoomEnds));
    assert!(world.ended && world.present.is_empty());
}
