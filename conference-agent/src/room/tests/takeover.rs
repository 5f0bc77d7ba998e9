//! An agent dies, and another one goes on with its room.

use std::time::Duration;

use kaigi_proto::{ids::SessionId, v1};
use serde_json::json;

use super::world::{MIXED, World, node, participant};
use crate::room::{
    AccessChange, AccessEvent, CallReply, CallRequest, Command, EgressMedia, EgressTarget, EgressWhat, Input,
    Kind, Receiver, Refusal, Reply, StartEgress, StreamOperation, Wish, media::Kinds,
};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];

/// Ann publishes; bob sees her, and the mix.
fn conference() -> (World, super::world::Published) {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann", "bob"]);
    let ann = world.publish("ann", &BOTH);
    for from in [ann.stream.as_str(), MIXED] {
        let subscription = world.subscribe("bob", from, &BOTH).unwrap();
        world.establish_subscription(&subscription);
    }
    world.forget();
    (world, ann)
}

fn lists(world: &mut World) -> (Vec<v1::Stream>, Reply, (usize, usize, usize)) {
    let participants = world.run(Command::ListParticipants).unwrap();
    (world.streams(), participants, world.room.counts())
}

fn text(message: &str) -> Command {
    Command::Text { from: participant("ann"), to: Receiver::All, message: message.into() }
}

fn recording() -> Command {
    let media = EgressMedia { kind: Kind::Video, from: MIXED.into(), wish: Wish::default() };
    Command::StartEgress(StartEgress {
        target: EgressTarget::Recording { container: "mkv".into(), name: String::new() },
        what: EgressWhat::Media(vec![media]),
    })
}

fn egresses(world: &mut World) -> Vec<String> {
    match world.run(Command::ListEgresses).unwrap() {
        Reply::Egresses(all) => all.into_iter().map(|egress| egress.id).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nobody_is_told_anything_and_media_are_not_touched() {
    let (mut world, _) = conference();
    let before = lists(&mut world);
    let happened = world.happened.len();
    world.take_over();
    world.answer_all();
    for call in world.made() {
        let harmless = matches!(
            call,
            CallRequest::AdoptRoom(_) | CallRequest::AdoptTransports(_) | CallRequest::SetView(_)
        );
        assert!(harmless, "{call:?}");
    }
    world.pass(Duration::from_secs(40));
    assert_eq!(lists(&mut world), before);
    assert!(world.told("ann").is_empty() && world.told("bob").is_empty());
    assert_eq!(world.happened.len(), happened, "the service hears nothing of it");
}

#[test]
fn nodes_are_told_everything_under_the_new_epoch() {
    let (mut world, ann) = conference();
    world
        .run(Command::UpdateStream {
            stream: ann.stream.clone(),
            operations: vec![StreamOperation::Status {
                kinds: Kinds { audio: true, video: false },
                active: false,
                repeat: false,
            }],
        })
        .unwrap();
    world.forget();
    world.take_over();
    let made = world.made();
    let adopted: Vec<&v1::AdoptedSession> = made
        .iter()
        .filter_map(|call| match call {
            CallRequest::AdoptTransports(call) => {
                assert_eq!(call.epoch, 8);
                Some(call.transports.iter().flat_map(|transport| &transport.sessions))
            }
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(adopted.len(), 3);
    let publication = adopted.iter().find(|session| session.session_id == ann.stream.as_str()).unwrap();
    assert_eq!(publication.stopped, Some(v1::KindFlags { audio: true, video: false }));
    let sources = adopted.iter().map(|session| session.sources.len()).sum::<usize>();
    assert_eq!(sources, 4, "both kinds of both subscriptions");
    let views: Vec<u64> = made
        .iter()
        .filter_map(|call| if let CallRequest::SetView(view) = call { Some(view.epoch) } else { None })
        .collect();
    assert_eq!(views, [8]);
    world.answer_all();
    let status =
        StreamOperation::Status { kinds: Kinds { audio: true, video: false }, active: true, repeat: false };
    world.forget();
    world.run(Command::UpdateStream { stream: ann.stream, operations: vec![status] }).unwrap();
    assert!(world.made().iter().any(|call| matches!(call, CallRequest::SetActive(call) if call.active)));
}

#[test]
fn a_session_that_nobody_was_told_of_is_made_once_when_it_is_asked_for_again() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let publish = || World::publish_command("ann", &BOTH, 0);
    world.ask_as("1", publish());
    world.take_over();
    assert_eq!(world.room.counts().1, 0);
    let first = world.run_as("1", publish()).unwrap();
    assert_eq!(world.run_as("1", publish()).unwrap(), first);
    world.take_over();
    assert_eq!(world.run_as("1", publish()).unwrap(), first);
    assert_eq!(world.room.counts().1, 1);
    assert!(world.run_as("2", publish()).is_ok_and(|second| second != first), "another request");
}

#[test]
fn one_who_asks_again_before_the_answer_gets_it() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let first = world.ask_as("1", World::publish_command("ann", &BOTH, 0));
    let again = world.run_as("1", World::publish_command("ann", &BOTH, 0));
    assert!(matches!(again, Ok(Reply::Session { .. })), "{again:?}");
    assert_eq!(world.replies[&first], Err(Refusal::AskedAgain));
    assert_eq!(world.room.counts().1, 1);
}

#[test]
fn what_is_done_at_once_is_done_once() {
    let (mut world, ann) = conference();
    world.run_as("1", text("hi")).unwrap();
    let delete = || Command::DeleteStream { stream: ann.stream.clone() };
    world.run_as("2", delete()).unwrap();
    world.take_over();
    world.answer_all();
    world.forget();
    assert_eq!(world.run_as("1", text("hi")), Ok(Reply::Done));
    assert_eq!(world.run_as("2", delete()), Ok(Reply::Done));
    assert!(world.told("bob").is_empty());
    assert_eq!(world.run_as("3", delete()), Err(Refusal::UnknownStream), "another request");
    world.run_as("4", text("hi")).unwrap();
    assert_eq!(world.told("bob").len(), 1);
}

#[test]
fn what_nodes_lost_meanwhile_ends_as_with_them() {
    let (mut world, ann) = conference();
    let of_mix = |s: &crate::room::state::Subscription| {
        matches!(s.tracks[0].from, crate::room::state::Origin::View(_))
    };
    let lost = world.room.state.subscriptions.iter().find(|(_, s)| of_mix(s)).unwrap().0.clone();
    world.take_over();
    while let Some((call, callee, request)) = world.calls.pop_front() {
        let result = match &request {
            CallRequest::AdoptRoom(adopt) => {
                let there = adopt.transport_ids.iter().filter(|id| *id != ann.transport.as_str());
                Ok(CallReply::Adopted(there.map(|id| id.clone().try_into().unwrap()).collect()))
            }
            CallRequest::AdoptTransports(_) => {
                Ok(CallReply::Missing(vec![SessionId::new(lost.as_str()).unwrap()]))
            }
            _ => world.good_answer(&callee, &request),
        };
        world.put(Input::CallDone { call, result });
    }
    let told = world.told("ann");
    assert!(told.contains(&format!("error {} Node lost", ann.stream)), "{told:?}");
    assert!(told.contains(&"transport-error Node lost".to_owned()), "{told:?}");
    assert!(world.told("bob").contains(&format!("error {lost} Node lost")));
    assert_eq!(world.room.counts(), (2, 0, 0));
}

#[test]
fn a_node_that_does_not_answer_is_told_again() {
    let (mut world, _) = conference();
    world.take_over();
    let is_adoption =
        |call: &CallRequest| matches!(call, CallRequest::AdoptRoom(_) | CallRequest::AdoptTransports(_));
    world.fail(is_adoption, &crate::room::CallError::Unavailable("late".into()));
    world.answer_all();
    world.forget();
    world.pass(Duration::from_secs(3));
    assert_eq!(world.made().iter().filter(|call| is_adoption(call)).count(), 2);
    assert_eq!(world.room.counts(), (2, 1, 2));
}

#[test]
fn an_answer_is_passed_on_once() {
    let (mut world, ann) = conference();
    let answer = |world: &mut World, number: u64, sdp: &str| {
        let change = AccessChange::Answer(sdp.into());
        let event = AccessEvent { transport: ann.transport.clone(), answer: number, change };
        world.put(Input::Access { node: node("access-1").worker, event });
    };
    answer(&mut world, 1, "first");
    assert_eq!(world.told("ann"), ["answer first"]);
    world.take_over();
    answer(&mut world, 1, "first");
    assert!(world.told("ann").is_empty());
    answer(&mut world, 2, "second");
    assert_eq!(world.told("ann"), ["answer second"]);
}

#[test]
fn recordings_go_on_and_those_that_nobody_knows_of_end() {
    let (mut world, _) = conference();
    let Reply::Egress(known) = world.run_as("1", recording()).unwrap() else { panic!("no recording") };
    world.ask_as("2", recording());
    let unknown: Vec<_> = world.room.state.egresses.keys().filter(|id| **id != known.id).cloned().collect();
    world.forget();
    world.take_over();
    assert_eq!(egresses(&mut world), std::slice::from_ref(&known.id));
    let ends = |call: &CallRequest| matches!(call, CallRequest::RemoveOutput(call) if call.id == unknown[0]);
    assert_eq!(world.made().iter().filter(|call| ends(call)).count(), 1);
    let Reply::Egress(again) = world.run_as("1", recording()).unwrap() else { panic!("no recording") };
    assert_eq!(again.id, known.id);
    world.run_as("2", recording()).unwrap();
    assert_eq!(egresses(&mut world).len(), 2);
    world.ask_as("3", Command::StopEgress { egress: known.id.clone() });
    world.take_over();
    assert_eq!(world.run_as("3", Command::StopEgress { egress: known.id }), Ok(Reply::Done));
    assert_eq!(egresses(&mut world).len(), 1);
}

#[test]
fn a_room_in_which_nobody_is_left_ends_in_its_time() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    world.run(Command::Leave { participant: participant("ann") }).unwrap();
    world.take_over();
    world.pass(Duration::from_secs(29));
    assert!(!world.ended);
    world.pass(Duration::from_secs(2));
    assert!(world.ended);
}

#[test]
fn little_is_written_of_what_changes_little() {
    let (mut world, ann) = conference();
    world.presenters(&["cat", "dan", "eve"]);
    world.write_down();
    let pause = Command::ControlStream {
        participant: participant("ann"),
        stream: ann.stream,
        operations: vec![StreamOperation::Status {
            kinds: Kinds { audio: true, video: true },
            active: false,
            repeat: false,
        }],
    };
    world.run(pause).unwrap();
    let changes = world.room.changes();
    let names: Vec<&str> = changes.parts.iter().map(|(name, _)| name.split('/').next().unwrap()).collect();
    assert_eq!(names, ["publication", "view"], "muted in the mix");
    world.run(text("hi")).unwrap();
    assert!(world.room.changes().is_empty());
}
