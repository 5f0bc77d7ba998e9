//! Views: what is mixed, how it is laid out, and what the mixer is told.

use kaigi_proto::v1;
use serde_json::json;

use super::world::{MIXED, World, participant, stream};
use crate::room::{CallRequest, Command, Kind, MixerChange, Refusal, StreamOperation};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];

fn mix(name: &str, id: &str, view: &str) -> Command {
    let operations = vec![StreamOperation::Mix(view.into())];
    Command::ControlStream { participant: participant(name), stream: stream(id), operations }
}

fn unmix(name: &str, id: &str, view: &str) -> Command {
    let operations = vec![StreamOperation::Unmix(view.into())];
    Command::ControlStream { participant: participant(name), stream: stream(id), operations }
}

#[test]
fn a_view_is_described_as_the_room_has_it() {
    let mut world = World::new(json!({"views": [{"label": "common", "video": {
        "format": {"codec": "vp8"},
        "parameters": {"resolution": {"width": 1280, "height": 720}, "framerate": 24, "keyFrameInterval": 2},
        "bgColor": {"r": 1, "g": 2, "b": 3},
        "layout": {"fitPolicy": "crop", "templates": {"base": "lecture"}}}}]}));
    world.answer_all();
    let view = world.view();
    assert_eq!((view.epoch, view.revision, view.room_id.as_str()), (7, 1, super::world::ROOM));
    assert!(view.voice_activity && view.inputs.is_empty());
    assert_eq!(view.audio_format.unwrap().codec, "opus");
    let video = view.video.unwrap();
    assert_eq!((video.framerate, video.key_frame_interval, video.background_rgb), (24, 2, 0x01_02_03));
    assert!(video.crop);
    assert_eq!(video.bitrate, 1574, "B(1280x720@24) x 1.2 x 0.8");
    assert_eq!(video.layout.unwrap().regions.len(), 1);
    assert_eq!(video.filter, "none");
}

#[test]
fn what_is_drawn_besides_is_described_as_the_room_has_it() {
    let drawn = |decoration: serde_json::Value| {
        let view = json!({"label": "common", "audio": {"vad": false}, "video": {"decoration": decoration}});
        let mut world = World::new(json!({"views": [view]}));
        world.answer_all();
        let view = world.view();
        let video = view.video.unwrap();
        let drawn = (video.avatars, video.captions, video.active_border_rgb, video.clock, video.animation_ms);
        (drawn, view.voice_activity)
    };
    assert_eq!(drawn(json!({})), ((true, false, None, false, 0), false));
    assert_eq!(drawn(json!({"avatars": false})).0, (false, false, None, false, 0));
    assert_eq!(drawn(json!({"captions": true})).0, (true, true, None, false, 0));
    let border = json!({"activeBorder": {"r": 1, "g": 2, "b": 3}});
    assert_eq!(drawn(border), ((true, false, Some(0x01_02_03), false, 0), true), "it follows the voices");
    assert_eq!(drawn(json!({"clock": true})).0, (true, false, None, true, 0));
    assert_eq!(drawn(json!({"animation": 250})).0, (true, false, None, false, 250));
}

#[test]
fn pictures_beside_the_inputs_are_described_as_the_room_has_them() {
    let pictures = |decoration: serde_json::Value| {
        let view = json!({"label": "common", "video": {"decoration": decoration}});
        let mut world = World::new(json!({"views": [view]}));
        world.answer_all();
        let video = world.view().video.unwrap();
        (video.avatar_picture, video.logo)
    };
    assert_eq!(pictures(json!({})), (String::new(), None));
    assert_eq!(pictures(json!({"avatarPicture": "*.png"})), ("*.png".into(), None));
    for (name, corner) in [
        ("topLeft", v1::Corner::TopLeft),
        ("topRight", v1::Corner::TopRight),
        ("bottomLeft", v1::Corner::BottomLeft),
        ("bottomRight", v1::Corner::BottomRight),
    ] {
        let logo = json!({"logo": {"picture": "l.png", "corner": name, "height": 20}});
        let described = v1::Logo { picture: "l.png".into(), corner: corner.into(), height_percent: 20 };
        assert_eq!(pictures(logo).1, Some(described));
    }
}

#[test]
fn every_parameter_of_the_picture_is_described() {
    let video = |parameters: serde_json::Value| {
        let mut world = World::new(json!({"views": [{"label": "common", "video": parameters}]}));
        world.answer_all();
        world.view().video.unwrap()
    };
    let plain = video(json!({}));
    assert_eq!((plain.bitrate, plain.crop, plain.motion_factor), (666, false, 0.8));
    assert_eq!(video(json!({"parameters": {"bitrate": 900}})).bitrate, 900);
    assert_eq!(video(json!({"motionFactor": 1.6})).motion_factor, 1.6);
    assert!(video(json!({"motionFactor": 1.6})).bitrate.abs_diff(plain.bitrate * 2) <= 1);
    assert_eq!(video(json!({"format": {"codec": "vp9"}})).format.unwrap().codec, "vp9");
    let h264 = video(json!({"format": {"codec": "h264", "profile": "CB"}})).format.unwrap();
    assert_eq!((h264.codec.as_str(), h264.profile.as_str()), ("h264", "CB"));
    let region = |id: &str, left: &str| json!({"id": id, "area": {"left": left, "top": "0", "width": "1/2", "height": "1"}});
    let halves = json!({"layout": {"templates": {"base": "void", "custom": [{"region": [region("l", "0"), region("r", "1/2")]}]}}});
    let ids: Vec<String> =
        video(halves).layout.unwrap().regions.into_iter().map(|region| region.region_id).collect();
    assert_eq!(ids, ["l", "r"]);
}

#[test]
fn an_audio_only_view_has_one_track() {
    let mut world = World::new(json!({"views": [{"label": "common", "video": false}], "autoMix": true}));
    world.presenters(&["ann"]);
    world.publish("ann", &BOTH);
    assert_eq!(world.streams()[0].tracks.len(), 1);
    assert!(world.view().video.is_none());
    assert!(world.subscribe("ann", MIXED, &[Kind::Audio]).is_ok());
    assert_eq!(world.subscribe("ann", MIXED, &[Kind::Video]), Err(Refusal::NoSuchSource(Kind::Video)));
    assert!(!world.told("ann").iter().any(|event| event.starts_with("layout")));
}

#[test]
fn the_layout_is_empty_until_it_changes() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    assert!(world.streams()[0].layout.as_ref().unwrap().regions.is_empty());
    let published = world.publish("ann", &BOTH);
    world.forget();
    world.run(mix("ann", published.stream.as_str(), "common")).unwrap();
    let id = published.stream.as_str();
    assert_eq!(world.told("ann"), [format!("replaced {id}"), format!("layout {MIXED} [{id}]")]);
    assert_eq!(world.streams()[0].layout.as_ref().unwrap().regions[0].stream_id, id);
    let view = world.view();
    assert_eq!((view.inputs[0].owner.as_str(), view.inputs[0].name.as_str()), ("ann", "ann"));
    assert_eq!(view.inputs[0].video.as_ref().unwrap().worker_id, "access-1");
    assert_eq!(view.video.unwrap().layout.unwrap().regions[0].stream_id, id);
}

#[test]
fn mixing_twice_and_unmixing_what_is_not_mixed_change_nothing() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    let id = published.stream.as_str();
    world.run(mix("ann", id, "common")).unwrap();
    world.forget();
    world.run(mix("ann", id, "common")).unwrap();
    assert!(world.made().is_empty() && world.told("ann").is_empty());
    world.run(unmix("ann", id, "common")).unwrap();
    world.forget();
    world.run(unmix("ann", id, "common")).unwrap();
    assert!(world.made().is_empty() && world.told("ann").is_empty());
}

#[test]
fn only_ready_streams_are_mixed_and_only_into_views() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.announce("ann", &BOTH).unwrap();
    let id = published.stream.as_str();
    assert_eq!(world.run(mix("ann", id, "common")).unwrap_err().to_string(), "Stream is NOT ready");
    world.establish(&published, &BOTH);
    assert_eq!(world.run(mix("ann", id, "none")).unwrap_err().to_string(), "Invalid view");
}

#[test]
fn an_auto_mixed_stream_is_announced_before_the_layout_that_shows_it() {
    let mut world = World::new(json!({"autoMix": true, "views": [{"label": "common"}, {"label": "other"}]}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    let id = published.stream.as_str();
    let other = MIXED.replace("common", "other");
    assert_eq!(
        world.told("ann"),
        [
            format!("add {id}"),
            format!("ready {id}"),
            format!("layout {MIXED} [{id}]"),
            format!("layout {other} [{id}]"),
        ]
    );
    assert_eq!(world.streams()[2].in_views, ["common", "other"]);
}

#[test]
fn changes_while_a_description_is_under_way_go_together_with_the_next() {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann", "bob"]);
    let first = world.announce("ann", &BOTH).unwrap();
    let second = world.announce("bob", &BOTH).unwrap();
    let third = world.announce("ann", &[Kind::Audio]).unwrap();
    world.forget();
    // The helper answers calls, so the view's is held back by hand.
    world.establish(&first, &BOTH);
    let settled = world.view().revision;
    let session = |p: &super::world::Published| kaigi_proto::ids::SessionId::new(p.stream.as_str()).unwrap();
    let established =
        |p: &super::world::Published, mid: &str, kind, format| crate::room::AccessChange::Established {
            session: session(p),
            tracks: vec![crate::room::Negotiated {
                track: Some(kaigi_proto::ids::TrackId::new(format!("{}-{mid}", p.transport)).unwrap()),
                mid: mid.into(),
                kind,
                format,
            }],
        };
    for (published, mid, kind, format) in
        [(&second, "1", Kind::Video, super::world::vp8()), (&third, "0", Kind::Audio, super::world::opus())]
    {
        let event = crate::room::AccessEvent {
            answer: 0,
            transport: published.transport.clone(),
            change: established(published, mid, kind, format),
        };
        world.put(crate::room::Input::Access { node: super::world::node("access-1").worker, event });
    }
    assert_eq!(world.calls.len(), 1, "one description is under way");
    world.answer_all();
    let views: Vec<_> = world
        .made()
        .into_iter()
        .filter_map(|call| match call {
            CallRequest::SetView(view) => Some((view.revision, view.inputs.len())),
            _ => None,
        })
        .collect();
    assert_eq!(views, [(settled + 1, 2), (settled + 2, 3)]);
}

#[test]
fn the_loudest_input_is_told_when_it_changes() {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann"]);
    assert_eq!(world.streams()[0].active_input, "unknown");
    let published = world.publish("ann", &BOTH);
    world.forget();
    for input in [published.stream.clone(), published.stream.clone(), stream("nobody")] {
        world.mixer_event("mixer-1", MixerChange::ActiveInput(input));
    }
    world.mixer_event("mixer-2", MixerChange::ActiveInput(published.stream.clone()));
    assert_eq!(world.told("ann"), [format!("active-input {MIXED} {}", published.stream)]);
    assert_eq!(world.streams()[0].active_input, published.stream.as_str());
    assert!(world.made().is_empty(), "the layout is as it was");
}

#[test]
fn the_loudest_input_becomes_the_primary_one_where_the_view_says_so() {
    let view = json!({"label": "common", "audio": {"vad": false}, "video": {"keepActiveInputPrimary": true}});
    let mut world = World::new(json!({"autoMix": true, "views": [view]}));
    world.presenters(&["ann", "bob"]);
    let (ann, bob) = (world.publish("ann", &BOTH).stream, world.publish("bob", &BOTH).stream);
    assert!(world.view().voice_activity, "needed though it is not told");
    world.forget();
    world.mixer_event("mixer-1", MixerChange::ActiveInput(bob.clone()));
    assert_eq!(world.told("ann"), [format!("layout {MIXED} [{bob},{ann},,]")]);
    assert_eq!(world.view().video.unwrap().layout.unwrap().regions[0].stream_id, bob.as_str());
}
