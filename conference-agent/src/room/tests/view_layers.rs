//! A view's picture in several sizes: access nodes are told all of them, and choose by the way to each subscriber.

use kaigi_proto::{ids::SubscriptionId, v1};
use kaigi_room_config::Resolution;
use serde_json::json;

use super::world::{MIXED, World, h264, vp8};
use crate::room::{
    CallRequest, Command, EgressMedia, EgressTarget, EgressWhat, Kind, Reply, StartEgress, VideoParameters,
    Wish,
};

fn world(config: serde_json::Value) -> World {
    let mut world = World::new(config);
    world.layering = true;
    world.presenters(&["ann", "bob"]);
    world
}

fn subscribe(world: &mut World, who: &str, wish: Wish) -> SubscriptionId {
    let Command::Subscribe(mut command) = World::subscribe_command(who, MIXED, &[Kind::Video]) else {
        panic!()
    };
    command.tracks[0].wish = wish;
    match world.run(Command::Subscribe(command)) {
        Ok(Reply::Session { session, .. }) => SubscriptionId::new(session.as_str()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// What the access node was told last to take: how many layers, and the wish; or the only track.
fn told(world: &mut World) -> Option<(Vec<v1::TrackSource>, Option<v1::LayerWish>)> {
    told_by(world.made())
}

fn told_by(made: Vec<CallRequest>) -> Option<(Vec<v1::TrackSource>, Option<v1::LayerWish>)> {
    made.into_iter().rev().find_map(|call| match call {
        CallRequest::OpenSubscription(open) => {
            let track = open.tracks.into_iter().next()?;
            Some((track.layers.into_iter().chain(track.source).collect(), track.wanted))
        }
        CallRequest::SetSource(set) => Some((set.layers.into_iter().chain(set.source).collect(), set.wanted)),
        _ => None,
    })
}

#[test]
fn a_mixer_is_told_halves_and_quarters_and_what_they_may_cost() {
    let parameters = json!({"resolution": {"width": 1280, "height": 720}, "framerate": 24, "bitrate": 1600});
    let views = json!([{"label": "common", "video": {"parameters": parameters}}]);
    let mut world = world(json!({"autoMix": true, "views": views}));
    world.publish("ann", &[Kind::Video]);
    let view = world.view();
    let made = view.video_layers.iter().map(|layer| {
        let size = layer.resolution.unwrap();
        let codec = layer.format.as_ref().unwrap().codec.clone();
        (size.width, size.height, layer.framerate, layer.bitrate, codec)
    });
    let mut sorted: Vec<_> = made.collect();
    sorted.sort();
    let vp8 = || "vp8".to_owned();
    assert_eq!(sorted, [(320, 180, 24, 100, vp8()), (640, 360, 24, 400, vp8())]);
    assert!(view.video_outputs.is_empty(), "nobody wants them by name");
}

#[test]
fn whoever_takes_a_view_as_it_is_gets_the_size_that_his_way_carries() {
    let mut world = world(json!({}));
    let subscription = subscribe(&mut world, "ann", Wish { priority: 3, ..Wish::default() });
    let (layers, wanted) = told(&mut world).unwrap();
    assert_eq!(layers.len(), 3);
    assert!(layers[0].track_id.ends_with("-video"), "{}", layers[0].track_id);
    assert_eq!(wanted, Some(v1::LayerWish { priority: 3, ..Default::default() }));
    world.establish_as(&subscription, &[vp8()]);
    assert_eq!(told(&mut world), None, "it stays so");
}

#[test]
fn a_size_that_is_asked_for_and_another_codec_are_made_as_ever() {
    let mut world = world(json!({}));
    let size = Some(Resolution { width: 320, height: 240 });
    let parameters = VideoParameters { resolution: size, ..VideoParameters::default() };
    let small = subscribe(&mut world, "ann", Wish { parameters, ..Wish::default() });
    world.establish_as(&small, &[vp8()]);
    let other = subscribe(&mut world, "bob", Wish::default());
    world.forget();
    world.establish_as(&other, &[h264("CB")]);
    let made = world.made();
    let view = made.iter().rev().find_map(|call| match call {
        CallRequest::SetView(view) => Some(view.clone()),
        _ => None,
    });
    let (sources, wanted) = told_by(made).unwrap();
    assert_eq!((sources.len(), wanted), (1, None));
    let view = view.unwrap();
    let sizes: Vec<u32> = view.video_outputs.iter().map(|o| o.resolution.unwrap().width).collect();
    assert_eq!(sizes.len(), 2, "{sizes:?}");
    let shared = view.video_outputs.iter().filter(|output| view.video_layers.contains(output)).count();
    assert_eq!(shared, 1, "the size that is a layer, too, is made once");
}

#[test]
fn a_recording_has_one_size() {
    let mut world = world(json!({}));
    let media = vec![EgressMedia { kind: Kind::Video, from: MIXED.into(), wish: Wish::default() }];
    let target = EgressTarget::Recording { container: "mkv".into(), name: String::new() };
    world.run(Command::StartEgress(StartEgress { target, what: EgressWhat::Media(media) })).unwrap();
    let track = world.made().into_iter().rev().find_map(|call| match call {
        CallRequest::SetOutput(output) => output.video?.source,
        _ => None,
    });
    assert!(track.unwrap().track_id.ends_with("-video"));
}

#[test]
fn where_a_mixer_makes_no_layers_the_view_is_taken_as_it_is() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    subscribe(&mut world, "ann", Wish::default());
    let (sources, wanted) = told(&mut world).unwrap();
    assert_eq!((sources.len(), wanted), (1, None));
}
