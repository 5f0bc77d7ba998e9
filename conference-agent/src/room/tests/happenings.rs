//! What the room's service is told.

use serde_json::json;

use super::world::{World, participant};
use crate::room::{AccessChange, Command, Happening, Input, Kind, Kinds, PermissionChange, StreamOperation};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];

/// What has happened since this was asked last, in short.
fn happened(world: &mut World) -> Vec<String> {
    std::mem::take(&mut world.happened).iter().map(short).collect()
}

fn short(happening: &Happening) -> String {
    match happening {
        Happening::ParticipantJoined(participant) => format!("{} joined", participant.id),
        Happening::ParticipantLeft { participant, why } => format!("{participant} {}", why.name()),
        Happening::ParticipantUpdated(participant) => format!("{} updated", participant.id),
        Happening::StreamAdded(stream) => format!("stream of {}", stream.owner),
        Happening::StreamUpdated { stream, part } => format!("{} of {}", part.name(), stream.owner),
        Happening::StreamRemoved(_) => "stream removed".to_owned(),
        Happening::SubscriptionAdded(facts) => {
            format!("{} subscribes {}", facts.participant, facts.tracks.len())
        }
        Happening::SubscriptionRemoved { participant, .. } => format!("{participant} unsubscribes"),
        Happening::StreamingUpdated(facts) => format!("{:?} {}", facts.what, facts.id),
    }
}

#[test]
fn the_life_of_a_room() {
    let mut world = World::new(json!({"views": []}));
    world.presenters(&["ann", "bob"]);
    assert_eq!(happened(&mut world), ["ann joined", "bob joined"]);
    let published = world.announce("ann", &BOTH).unwrap();
    assert_eq!(happened(&mut world), Vec::<String>::new(), "nothing flows yet");
    world.establish(&published, &BOTH);
    assert_eq!(happened(&mut world), ["stream of ann"]);
    let subscription = world.subscribe("bob", published.stream.as_str(), &BOTH).unwrap();
    world.establish_subscription(&subscription);
    assert_eq!(happened(&mut world), ["bob subscribes 2"]);
    world.run(Command::Leave { participant: participant("ann") }).unwrap();
    assert_eq!(happened(&mut world), ["bob unsubscribes", "stream removed", "ann left"]);
    world.put(Input::Gone(participant("bob")));
    assert_eq!(happened(&mut world), ["bob lost"]);
}

#[test]
fn changes() {
    let mut world = World::new(json!({"views": []}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    happened(&mut world);
    let operations = vec![StreamOperation::Status {
        kinds: Kinds { audio: false, video: true },
        active: false,
        repeat: false,
    }];
    world.run(Command::UpdateStream { stream: published.stream.clone(), operations }).unwrap();
    assert_eq!(happened(&mut world), ["video.status of ann"]);
    let change = PermissionChange { publish_audio: Some(false), ..PermissionChange::default() };
    world.run(Command::UpdateParticipant { participant: participant("ann"), change }).unwrap();
    assert_eq!(happened(&mut world), ["audio.status of ann", "ann updated"]);
    world.run(Command::DropParticipant { participant: participant("ann") }).unwrap();
    assert_eq!(happened(&mut world), ["stream removed", "ann dropped"]);
}

#[test]
fn everything_ends_with_the_room() {
    let mut world = World::new(json!({"views": []}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &[Kind::Audio]);
    let subscription = world.subscribe("bob", published.stream.as_str(), &[Kind::Audio]).unwrap();
    world.establish_subscription(&subscription);
    world.announce("bob", &[Kind::Audio]).unwrap();
    happened(&mut world);
    world.run(Command::Destroy { reason: "over".into() }).unwrap();
    assert_eq!(
        happened(&mut world),
        ["bob unsubscribes", "stream removed", "ann roomEnded", "bob roomEnded"]
    );
}

#[test]
fn what_never_came_about_is_not_told_of() {
    let mut world = World::new(json!({"views": []}));
    world.presenters(&["ann"]);
    let published = world.announce("ann", &BOTH).unwrap();
    world.access_event(&published.transport, AccessChange::Failed { reason: "no ICE".into() });
    assert_eq!(happened(&mut world), ["ann joined"]);
}

/// `notifying` is for the participants.
#[test]
fn the_service_is_told_what_participants_are_not() {
    let notifying = json!({"participantActivities": false, "streamChange": false});
    let mut world = World::new(json!({"views": [], "notifying": notifying}));
    world.presenters(&["ann"]);
    world.publish("ann", &BOTH);
    assert_eq!(happened(&mut world), ["ann joined", "stream of ann"]);
}
