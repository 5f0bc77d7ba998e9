//! Streams whose picture has several layers: an access node is told all of them and what is wanted, and chooses.

use kaigi_proto::{
    ids::{SubscriptionId, TrackId},
    v1,
};
use kaigi_room_config::Resolution;
use serde_json::json;

use super::world::{Published, World, h264, participant, vp8};
use crate::room::{
    AccessChange, CallError, CallRequest, Command, Kind, Refusal, Reply, StreamOperation, SubscriptionUpdate,
    TrackUpdate, VideoParameters, Wish,
};

const SIZES: [(&str, u32, u32); 3] = [("q", 320, 180), ("h", 640, 360), ("f", 1280, 720)];

fn size(width: u32, height: u32) -> VideoParameters {
    VideoParameters { resolution: Some(Resolution { width, height }), ..VideoParameters::default() }
}

/// Ann sends three layers of known sizes.
fn layered() -> (World, Published) {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.announce("ann", &[Kind::Video]).unwrap();
    world.establish_layers(&published, &["q", "h", "f"]);
    for (rid, width, height) in SIZES {
        let track = TrackId::new(format!("{}-0:{rid}", published.transport)).unwrap();
        let resolution = Resolution { width, height };
        let change = AccessChange::Resolution { track, resolution, layers: Vec::new(), temporal: 0 };
        world.access_event(&published.transport, change);
    }
    world.forget();
    (world, published)
}

fn subscribe(world: &mut World, from: &str, wish: Wish) -> Result<SubscriptionId, Refusal> {
    let Command::Subscribe(mut command) = World::subscribe_command("bob", from, &[Kind::Video]) else {
        panic!()
    };
    command.tracks[0].wish = wish;
    match world.run(Command::Subscribe(command))? {
        Reply::Session { session, .. } => Ok(SubscriptionId::new(session.as_str()).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn update(subscription: &SubscriptionId, change: TrackUpdate) -> Command {
    let update = SubscriptionUpdate { video: Some(change), ..SubscriptionUpdate::default() };
    Command::UpdateSubscription { by: Some(participant("bob")), subscription: subscription.clone(), update }
}

fn parameters(parameters: VideoParameters) -> TrackUpdate {
    TrackUpdate { parameters, ..TrackUpdate::default() }
}

/// What the node was told last: "q h f" with what is wanted, or the one track; and whether a mixer was called.
fn told(world: &mut World) -> (String, bool) {
    let made = world.made();
    let mixer = made.iter().any(|call| matches!(call, CallRequest::SetTranscoder(_)));
    let told = made.into_iter().rev().find_map(|call| match call {
        CallRequest::OpenSubscription(open) => {
            let track = open.tracks.into_iter().next()?;
            Some((track.source, track.layers, track.wanted))
        }
        CallRequest::SetSource(set) => Some((set.source, set.layers, set.wanted)),
        _ => None,
    });
    let Some((source, layers, wanted)) = told else { return (String::new(), mixer) };
    let name = |source: &v1::TrackSource| source.track_id.rsplit(':').next().unwrap().to_owned();
    let Some(wanted) = wanted else { return (source.as_ref().map(name).unwrap_or_default(), mixer) };
    assert_eq!(source, None);
    let names: Vec<_> = layers.iter().map(name).collect();
    let most = wanted.resolution.map(|size| format!(" {}x{}", size.width, size.height)).unwrap_or_default();
    let first = Some(wanted.priority).filter(|p| *p > 0).map(|p| format!(" before {p}")).unwrap_or_default();
    (format!("{}{most} {}fps {}bps{first}", names.join(""), wanted.framerate, wanted.bitrate), mixer)
}

#[test]
fn a_stream_stands_for_all_its_layers() {
    let (mut world, published) = layered();
    subscribe(&mut world, published.stream.as_str(), Wish::default()).unwrap();
    assert_eq!(told(&mut world), ("qhf 0fps 0bps".to_owned(), false));
}

#[test]
fn a_layers_own_id_and_its_rid_stand_for_it_alone() {
    let (mut world, published) = layered();
    subscribe(&mut world, &format!("{}-0:h", published.transport), Wish::default()).unwrap();
    assert_eq!(told(&mut world).0, "h");
    let mut command = World::subscribe_command("bob", published.stream.as_str(), &[Kind::Video]);
    if let Command::Subscribe(subscribe) = &mut command {
        subscribe.tracks[0].rid = Some("f".into());
    }
    world.run(command).unwrap();
    assert_eq!(told(&mut world).0, "f");
}

#[test]
fn a_size_a_rate_and_a_bitrate_are_left_to_the_node() {
    let (mut world, published) = layered();
    let wish = Wish { parameters: size(320, 240), ..Wish::default() };
    let subscription = subscribe(&mut world, published.stream.as_str(), wish).unwrap();
    assert_eq!(told(&mut world).0, "qhf 320x240 0fps 0bps");
    world.establish_as(&subscription, &[vp8()]);
    assert_eq!(told(&mut world), (String::new(), false), "nothing has to be made");
    let framerate = VideoParameters { framerate: Some(12), ..size(640, 360) };
    let reply = world.run(update(&subscription, parameters(framerate)));
    assert_eq!((reply, told(&mut world)), (Ok(Reply::Done), ("qhf 640x360 12fps 0bps".to_owned(), false)));
    let change = TrackUpdate { bitrate_multiplier: Some("x0.6".into()), ..TrackUpdate::default() };
    assert_eq!(world.run(update(&subscription, change)), Ok(Reply::Done));
    let (words, mixed) = told(&mut world);
    assert!(!mixed && words.starts_with("qhf 640x360 12fps ") && !words.ends_with(" 0bps"), "{words}");
    let same = TrackUpdate { from: Some(published.stream.to_string()), ..TrackUpdate::default() };
    assert_eq!(world.run(update(&subscription, same)), Ok(Reply::Done));
    assert_eq!(told(&mut world), (String::new(), false), "it is of that stream already");
}

#[test]
fn the_priority_is_left_to_the_node_and_needs_nothing_made() {
    let (mut world, published) = layered();
    let wish = Wish { priority: 7, ..Wish::default() };
    let subscription = subscribe(&mut world, published.stream.as_str(), wish).unwrap();
    assert_eq!(told(&mut world).0, "qhf 0fps 0bps before 7");
    world.establish_as(&subscription, &[vp8()]);
    let change = |priority| TrackUpdate { priority, ..TrackUpdate::default() };
    world.run(update(&subscription, change(Some(2)))).unwrap();
    assert_eq!(told(&mut world), ("qhf 0fps 0bps before 2".to_owned(), false));
    let smaller = TrackUpdate { parameters: size(320, 180), ..change(None) };
    world.run(update(&subscription, smaller)).unwrap();
    assert_eq!(told(&mut world), ("qhf 320x180 0fps 0bps before 2".to_owned(), false));
    world.run(update(&subscription, change(Some(0)))).unwrap();
    assert_eq!(told(&mut world), ("qhf 320x180 0fps 0bps".to_owned(), false));
}

#[test]
fn the_size_of_a_layer_is_offered_and_others_as_the_largest_ones_are() {
    let (mut world, published) = layered();
    for (width, height, offered) in [(320, 180, true), (640, 360, true), (426, 240, true), (333, 222, false)]
    {
        let wish = Wish { parameters: size(width, height), ..Wish::default() };
        let subscribed = subscribe(&mut world, published.stream.as_str(), wish);
        assert_eq!(subscribed.is_ok(), offered, "{width}x{height}");
    }
}

#[test]
fn what_no_layer_is_is_made_of_one() {
    let (mut world, published) = layered();
    let subscription = subscribe(&mut world, published.stream.as_str(), Wish::default()).unwrap();
    world.establish_as(&subscription, &[h264("CB")]);
    let (_, made) = told(&mut world);
    assert!(made, "another codec");
    let interval = VideoParameters { key_frame_interval: Some(2), ..VideoParameters::default() };
    let wish = Wish { parameters: interval, ..Wish::default() };
    let subscription = subscribe(&mut world, published.stream.as_str(), wish).unwrap();
    world.establish_as(&subscription, &[vp8()]);
    assert!(told(&mut world).1, "key frames at a pace of one's own");
}

#[test]
fn a_refused_update_leaves_what_was_wanted() {
    let (mut world, published) = layered();
    let subscription = subscribe(&mut world, published.stream.as_str(), Wish::default()).unwrap();
    world.establish_as(&subscription, &[vp8()]);
    world.forget();
    let request = world.ask(update(&subscription, parameters(size(320, 180))));
    world.fail(|call| matches!(call, CallRequest::SetSource(_)), &CallError::Refused("no".into()));
    assert_eq!(world.replies[&request], Err(Refusal::UpdateFailed));
    world.answer_all();
    assert_eq!(told(&mut world).0, "qhf 0fps 0bps");
}

fn described(layers: &[v1::VideoLayer]) -> String {
    let words = layers.iter().map(|layer| {
        let rid = layer.source.as_ref().unwrap().track_id.rsplit_once(':').unwrap().1.to_owned();
        let size = layer.resolution.map(|size| format!(" {}x{}", size.width, size.height));
        rid + &size.unwrap_or_default()
    });
    words.collect::<Vec<_>>().join(", ")
}

#[test]
fn mixers_are_told_all_layers_and_their_sizes_as_they_change() {
    let (mut world, published) = layered();
    let operations = vec![StreamOperation::Mix("common".into())];
    let mix =
        Command::ControlStream { participant: participant("ann"), stream: published.stream, operations };
    world.run(mix).unwrap();
    let view = world.view();
    assert_eq!(described(&view.inputs[0].video_layers), "q 320x180, h 640x360, f 1280x720");
    assert!(view.inputs[0].video.as_ref().unwrap().track_id.ends_with(":q"));
    world.forget();
    let track = TrackId::new(format!("{}-0:f", published.transport)).unwrap();
    let resolution = Resolution { width: 960, height: 540 };
    world.access_event(
        &published.transport,
        AccessChange::Resolution { track, resolution, layers: Vec::new(), temporal: 0 },
    );
    let changed = world.view();
    assert!(changed.revision > view.revision);
    assert_eq!(described(&changed.inputs[0].video_layers), "q 320x180, h 640x360, f 960x540");
}

#[test]
fn a_single_track_has_no_layers() {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann"]);
    world.publish("ann", &[Kind::Video]);
    assert!(world.view().inputs[0].video_layers.is_empty());
}

#[test]
fn a_stream_is_transcoded_from_its_layers_and_a_layer_from_itself() {
    let (mut world, published) = layered();
    let mut made = Vec::new();
    for rid in [None, Some("q")] {
        let Command::Subscribe(mut command) =
            World::subscribe_command("bob", published.stream.as_str(), &[Kind::Video])
        else {
            panic!()
        };
        command.tracks[0].rid = rid.map(str::to_owned);
        let Reply::Session { session, .. } = world.run(Command::Subscribe(command)).unwrap() else {
            panic!()
        };
        world.establish_as(&SubscriptionId::new(session.as_str()).unwrap(), &[h264("CB")]);
        made.extend(world.made().into_iter().filter_map(|call| match call {
            CallRequest::SetTranscoder(transcoder) => Some(*transcoder),
            _ => None,
        }));
    }
    let [all, one] = made.as_slice() else { panic!("{made:?}") };
    assert_eq!(described(&all.layers), "q 320x180, h 640x360, f 1280x720");
    assert!(one.layers.is_empty() && one.source.as_ref().unwrap().track_id.ends_with(":q"));
    assert_ne!(all.id, one.id);
}

/// Ann sends one track, which is told to have three sizes and frame rates once it flows.
fn scalable() -> (World, Published, AccessChange) {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &[Kind::Video]);
    let track = TrackId::new(format!("{}-0", published.transport)).unwrap();
    let sizes = SIZES.map(|(_, width, height)| Resolution { width, height });
    let change =
        AccessChange::Resolution { track, resolution: sizes[2], layers: sizes.to_vec(), temporal: 3 };
    world.forget();
    (world, published, change)
}

#[test]
fn a_scalable_track_is_chosen_from_as_layers_are() {
    let (mut world, published, change) = scalable();
    world.access_event(&published.transport, change);
    let framerate = VideoParameters { framerate: Some(15), ..size(640, 360) };
    let wish = Wish { parameters: framerate, ..Wish::default() };
    let subscription = subscribe(&mut world, published.stream.as_str(), wish).unwrap();
    let (words, made) = told(&mut world);
    assert!(!made && words.ends_with("-0 640x360 15fps 0bps"), "{words}");
    world.establish_as(&subscription, &[vp8()]);
    assert_eq!(told(&mut world), (String::new(), false), "nothing has to be made");
}

#[test]
fn a_track_that_turns_out_to_be_scalable_is_chosen_from_then_on() {
    let (mut world, published, change) = scalable();
    let wish = Wish { parameters: size(333, 222), ..Wish::default() };
    let subscription = subscribe(&mut world, published.stream.as_str(), wish).unwrap();
    world.establish_as(&subscription, &[vp8()]);
    assert!(told(&mut world).1, "a mixer makes that size of it");
    world.access_event(&published.transport, change);
    let (words, _) = told(&mut world);
    assert!(words.ends_with("-0 333x222 0fps 0bps"), "{words}");
}

#[test]
fn the_publisher_alone_is_told_which_layers_are_wanted() {
    let (mut world, published) = layered();
    let layers = [("q", true), ("h", false), ("f", false)]
        .map(|(rid, wanted)| (TrackId::new(format!("{}-0:{rid}", published.transport)).unwrap(), wanted));
    let session = kaigi_proto::ids::SessionId::new(published.stream.as_str()).unwrap();
    world.access_event(&published.transport, AccessChange::WantedLayers { session, layers: layers.to_vec() });
    assert_eq!(world.told("ann"), [format!("layers {} +q -h -f", published.stream)]);
    assert!(world.told("bob").is_empty());
}
