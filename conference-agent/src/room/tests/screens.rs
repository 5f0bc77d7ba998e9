//! Screens that are shared: whoever mixes or transcodes them is told, since text is not encoded as faces are.

use kaigi_proto::ids::SubscriptionId;
use serde_json::json;

use super::world::{Published, World, h264, stream};
use crate::room::{CallRequest, Command, Kind, Reply};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];

/// Publishes a picture that comes from there.
fn publish(world: &mut World, name: &str, from: &str) -> Published {
    let Command::Publish(mut command) = World::publish_command(name, &BOTH, 0) else { panic!() };
    command.tracks[1].source = Some(from.into());
    let Reply::Session { session, transport, .. } = world.run(Command::Publish(command)).unwrap() else {
        panic!()
    };
    let published = Published { stream: stream(session.as_str()), transport };
    world.establish(&published, &BOTH);
    published
}

#[test]
fn the_mixer_is_told_which_inputs_are_screens() {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann", "bob"]);
    publish(&mut world, "ann", "camera");
    publish(&mut world, "bob", "screen-cast");
    let inputs = world.view().inputs;
    let screens: Vec<_> = inputs.iter().map(|input| (input.owner.as_str(), input.screen)).collect();
    assert_eq!(screens, [("ann", false), ("bob", true)]);
}

#[test]
fn whoever_transcodes_a_screen_is_told_so() {
    for (from, is_screen) in [("screen-cast", true), ("camera", false), ("file", false)] {
        let mut world = World::new(json!({}));
        world.presenters(&["ann", "bob"]);
        let published = publish(&mut world, "ann", from);
        let command = World::subscribe_command("bob", published.stream.as_str(), &[Kind::Video]);
        let Reply::Session { session, .. } = world.run(command).unwrap() else { panic!() };
        world.forget();
        world.establish_as(&SubscriptionId::new(session.as_str()).unwrap(), &[h264("CB")]);
        let transcoder = world.made().into_iter().find_map(|call| match call {
            CallRequest::SetTranscoder(transcoder) => Some(*transcoder),
            _ => None,
        });
        assert_eq!(transcoder.expect("it is transcoded").screen, is_screen, "{from}");
    }
}
