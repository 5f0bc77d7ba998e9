//! Other formats and parameters than a stream's own.

use kaigi_proto::{ids::SubscriptionId, v1};
use kaigi_room_config::Resolution;
use serde_json::json;

use super::world::{MIXED, World, audio_name, codec, h264, node, participant, video_name, vp8};
use crate::room::{
    AccessChange, CallError, CallRequest, Command, Format, Input, Kind, Refusal, Reply, VideoParameters, Wish,
};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];
const QVGA: Resolution = Resolution { width: 320, height: 240 };

/// Subscribes a picture as wanted.
fn subscribe(world: &mut World, name: &str, from: &str, wish: Wish) -> Result<SubscriptionId, Refusal> {
    let Command::Subscribe(mut command) = World::subscribe_command(name, from, &[Kind::Video]) else {
        panic!()
    };
    command.tracks[0].wish = wish;
    match world.run(Command::Subscribe(command))? {
        Reply::Session { session, .. } => Ok(SubscriptionId::new(session.as_str()).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn parameters(parameters: VideoParameters) -> Wish {
    Wish { parameters, ..Wish::default() }
}

fn small() -> Wish {
    parameters(VideoParameters { resolution: Some(QVGA), ..VideoParameters::default() })
}

fn slow() -> Wish {
    parameters(VideoParameters { framerate: Some(12), ..VideoParameters::default() })
}

fn times(multiplier: &str) -> Wish {
    Wish { bitrate_multiplier: Some(multiplier.into()), ..Wish::default() }
}

fn opened(world: &mut World) -> v1::SubscriptionTrack {
    let opened = world.made().into_iter().rev().find_map(|call| match call {
        CallRequest::OpenSubscription(open) => open.tracks.into_iter().next(),
        _ => None,
    });
    opened.expect("nothing was opened")
}

fn names(formats: &[v1::MediaFormat]) -> Vec<String> {
    formats.iter().map(|f| format!("{}{}", f.codec, f.profile)).collect()
}

/// The transcoders described, the removals, and where subscriptions were pointed, in short words.
fn done(world: &mut World) -> Vec<String> {
    let words = |call| match call {
        CallRequest::SetTranscoder(t) => {
            let video = t.video_outputs.iter().map(video_name);
            let all: Vec<_> = video.chain(t.audio_outputs.iter().map(audio_name)).collect();
            Some(format!("transcode {}", all.join(" ")))
        }
        CallRequest::RemoveTranscoder(_) => Some("remove transcoder".to_owned()),
        CallRequest::SetSource(set) => {
            let source = set.source.unwrap();
            Some(format!("{} from {}", source.format.unwrap().codec, source.worker_id))
        }
        _ => None,
    };
    world.made().into_iter().filter_map(words).collect()
}

#[test]
fn of_a_forward_stream_its_own_format_goes_first() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    world.forget();
    subscribe(&mut world, "bob", published.stream.as_str(), Wish::default()).unwrap();
    let track = opened(&mut world);
    assert_eq!(names(&track.formats), ["vp8", "h264CB", "h264B", "vp9"]);
    assert!(!track.client_order, "the first if it is offered, whatever the client prefers");
    assert!(track.source.is_some(), "flows at once if it is negotiated");
}

#[test]
fn of_a_mixed_stream_the_client_chooses() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    subscribe(&mut world, "ann", MIXED, Wish::default()).unwrap();
    let track = opened(&mut world);
    assert_eq!(names(&track.formats), ["vp8", "h264CB", "h264B", "vp9"]);
    assert!(track.client_order);
}

#[test]
fn a_format_that_is_asked_for_is_the_only_one() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let only = |format| Wish { format: Some(format), ..Wish::default() };
    subscribe(&mut world, "ann", MIXED, only(codec("vp9"))).unwrap();
    let track = opened(&mut world);
    assert_eq!(names(&track.formats), ["vp9"]);
    assert!(track.source.is_none(), "the view's own is another");
    subscribe(&mut world, "ann", MIXED, only(h264("B"))).unwrap();
    assert_eq!(names(&opened(&mut world).formats), ["h264CB", "h264B"], "a lower profile will do");
    let refused = subscribe(&mut world, "ann", MIXED, only(codec("av1"))).unwrap_err();
    assert_eq!(refused.to_string(), "Target video stream does NOT satisfy:Format is not acceptable");
}

#[test]
fn without_transcoding_there_is_one_format() {
    let mut world = World::new(json!({"transcoding": {"audio": false, "video": false}}));
    world.presenters(&["ann"]);
    subscribe(&mut world, "ann", MIXED, Wish::default()).unwrap();
    assert_eq!(names(&opened(&mut world).formats), ["vp8"]);
    let refused = subscribe(&mut world, "ann", MIXED, slow()).unwrap_err();
    assert_eq!(refused.to_string(), "Target video stream does NOT satisfy:Framerate is not acceptable");
}

#[test]
fn a_forward_stream_in_another_codec_is_transcoded_once_for_all_who_want_it() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob", "cat"]);
    let published = world.publish("ann", &BOTH);
    let first = subscribe(&mut world, "bob", published.stream.as_str(), Wish::default()).unwrap();
    let second = subscribe(&mut world, "cat", published.stream.as_str(), Wish::default()).unwrap();
    world.forget();
    world.establish_as(&first, &[h264("CB")]);
    assert_eq!(world.told("bob"), [format!("ready {first}")], "told at once");
    assert_eq!(done(&mut world), ["transcode h264:CB::0:0:1:100", "h264 from mixer-1"]);
    world.establish_as(&second, &[h264("CB")]);
    assert_eq!(done(&mut world), ["h264 from mixer-1"], "what there is serves both");

    let unsubscribe = |name: &str, id: &SubscriptionId| Command::Unsubscribe {
        participant: participant(name),
        subscription: id.clone(),
    };
    world.run(unsubscribe("bob", &first)).unwrap();
    assert!(done(&mut world).is_empty(), "somebody takes it still");
    world.run(unsubscribe("cat", &second)).unwrap();
    assert_eq!(done(&mut world), ["remove transcoder"]);
}

#[test]
fn a_lower_h264_profile_than_the_negotiated_one_is_forwarded_as_it_is() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.announce("ann", &[Kind::Video]).unwrap();
    world.establish_publication_as(&published, &[(Kind::Video, h264("CB"))]);
    let subscription = subscribe(&mut world, "bob", published.stream.as_str(), Wish::default()).unwrap();
    world.forget();
    world.establish_as(&subscription, &[h264("B")]);
    assert!(done(&mut world).is_empty());
    let other = subscribe(&mut world, "bob", published.stream.as_str(), Wish::default()).unwrap();
    world.forget();
    world.establish_as(&other, &[vp8()]);
    assert_eq!(done(&mut world), ["transcode vp8:::0:0:1:100", "vp8 from mixer-1"]);
}

#[test]
fn each_parameter_of_a_forward_stream_makes_an_output_of_its_own() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    let all = |resolution, framerate, key_frame_interval, multiplier: Option<&str>| Wish {
        format: None,
        parameters: VideoParameters { resolution, framerate, key_frame_interval, bitrate: None },
        bitrate_multiplier: multiplier.map(str::to_owned),
        priority: 0,
    };
    let cases = [
        (all(Some(QVGA), None, None, None), "vp8::320x240:0:0:1:100"),
        (all(None, Some(12), None, None), "vp8:::12:0:1:100"),
        (all(None, None, Some(5), None), "vp8:::0:0:1:5"),
        (all(None, None, None, Some("x0.6")), "vp8:::0:0:0.6:100"),
        // B(320x240@12) = 160, for VP8 192, times 0.8.
        (all(Some(QVGA), Some(12), None, Some("x0.8")), "vp8::320x240:12:154:1:100"),
    ];
    for (wish, id) in cases {
        world.forget();
        let subscription = subscribe(&mut world, "bob", published.stream.as_str(), wish).unwrap();
        assert!(opened(&mut world).source.is_none(), "what flows at once is not what is wanted");
        world.establish_as(&subscription, &[vp8()]);
        assert_eq!(done(&mut world), [format!("transcode {id}"), "vp8 from mixer-1".into()]);
        world.run(Command::Unsubscribe { participant: participant("bob"), subscription }).unwrap();
    }
}

#[test]
fn the_size_that_a_camera_has_is_its_own_track() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    let track = kaigi_proto::ids::TrackId::new(format!("{}-1", published.transport)).unwrap();
    let change = AccessChange::Resolution {
        track,
        resolution: Resolution { width: 1280, height: 720 },
        layers: Vec::new(),
        temporal: 0,
    };
    world.access_event(&published.transport, change);
    let of = |width, height| {
        let resolution = Some(Resolution { width, height });
        parameters(VideoParameters { resolution, ..VideoParameters::default() })
    };
    world.forget();
    let from = published.stream.as_str();
    subscribe(&mut world, "bob", from, of(1280, 720)).unwrap();
    assert!(opened(&mut world).source.is_some());
    let refused = subscribe(&mut world, "bob", from, of(1920, 1080)).unwrap_err();
    assert_eq!(refused.to_string(), "Target video stream does NOT satisfy:Resolution is not acceptable");
    subscribe(&mut world, "bob", from, of(640, 360)).unwrap();
    assert!(opened(&mut world).source.is_none());
}

#[test]
fn bitrates_of_mixed_pictures_follow_size_rate_and_multiplier() {
    let view = |bitrate: serde_json::Value| {
        json!({"views": [{"label": "common", "video": {"parameters": {"resolution": {"width": 640, "height": 480},
            "framerate": 24, "keyFrameInterval": 100, "bitrate": bitrate}}}]})
    };
    // VP8 640x480@24 of motion factor 0.8 is 666 kbit/s by default.
    let cases = [
        (json!(null), times("x0.6"), 399),
        (json!(1000), times("x0.6"), 600),
        (json!(null), small(), 307),
        (json!(1000), small(), 250),
        (json!(1000), slow(), 500),
    ];
    for (bitrate, wish, expected) in cases {
        let case = format!("{bitrate} {wish:?}");
        let mut world = World::new(view(bitrate));
        world.presenters(&["ann"]);
        let subscription = subscribe(&mut world, "ann", MIXED, wish).unwrap();
        world.establish_as(&subscription, &[vp8()]);
        let outputs = world.view().video_outputs;
        assert_eq!(outputs.len(), 1);
        assert!(outputs[0].bitrate.abs_diff(expected) <= 1, "{case}: {}", outputs[0].bitrate);
        assert_eq!(outputs[0].key_frame_interval, 100);
    }
}

#[test]
fn a_mixed_picture_in_another_codec_has_the_views_size_and_rate() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let subscription = subscribe(&mut world, "ann", MIXED, Wish::default()).unwrap();
    world.forget();
    world.establish_as(&subscription, &[h264("CB")]);
    let view = world.view();
    let output = &view.video_outputs[0];
    let size = output.resolution.unwrap();
    assert_eq!((size.width, size.height, output.framerate, output.bitrate), (640, 480, 24, 555));
    let same = subscribe(&mut world, "bob", MIXED, Wish::default()).unwrap();
    world.forget();
    world.establish_as(&same, &[h264("CB")]);
    assert_eq!(done(&mut world), ["h264 from mixer-1"]);
    for (name, subscription) in [("ann", subscription), ("bob", same)] {
        world.run(Command::Unsubscribe { participant: participant(name), subscription }).unwrap();
    }
    assert!(world.view().video_outputs.is_empty(), "nobody takes it any more");
}

#[test]
fn a_mix_without_oneself_is_had_in_another_codec_too() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    world.join("bob", "viewer").unwrap();
    let own = world.subscribe("ann", MIXED, &[Kind::Audio]).unwrap();
    let common = world.subscribe("bob", MIXED, &[Kind::Audio]).unwrap();
    world.establish_as(&own, &[codec("pcmu")]);
    world.establish_as(&common, &[codec("pcmu")]);
    let view = world.view();
    let mut outputs: Vec<_> = view
        .audio_outputs
        .iter()
        .map(|o| (o.format.as_ref().unwrap().codec.as_str(), o.minus_participant.as_str()))
        .collect();
    outputs.sort();
    assert_eq!(outputs, [("pcmu", ""), ("pcmu", "ann")]);
    assert!(view.minus_participants.is_empty(), "nobody hears it in the view's own format");
}

#[test]
fn a_layer_is_picked_by_its_rid() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.announce("ann", &[Kind::Video]).unwrap();
    world.establish_layers(&published, &["q", "h", "f"]);
    let mut command = World::subscribe_command("bob", published.stream.as_str(), &[Kind::Video]);
    if let Command::Subscribe(subscribe) = &mut command {
        subscribe.tracks[0].rid = Some("h".into());
    }
    world.forget();
    world.run(command).unwrap();
    assert_eq!(opened(&mut world).source.unwrap().track_id, format!("{}-0:h", published.transport));
}

#[test]
fn a_room_without_views_finds_a_mixer_when_it_needs_one() {
    let mut world = World::new(json!({"views": []}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    let subscription = subscribe(&mut world, "bob", published.stream.as_str(), Wish::default()).unwrap();
    let mixers = |world: &mut World| {
        let made = world.made();
        let mixer = i32::from(v1::Purpose::Mixer);
        made.iter().filter(|call| matches!(call, CallRequest::Schedule(s) if s.purpose == mixer)).count()
    };
    assert_eq!(mixers(&mut world), 0);
    world.establish_as(&subscription, &[codec("vp9")]);
    assert_eq!(mixers(&mut world), 1);
    assert!(world.room.state.subscriptions[&subscription].tracks[0].feed.is_some());
    world.run(Command::Destroy { reason: "over".into() }).unwrap();
    let made = world.made();
    assert!(made.iter().any(|call| matches!(call, CallRequest::RemoveTranscoder(_))), "{made:?}");
    assert!(made.iter().any(|call| matches!(call, CallRequest::Release(r) if r.task == super::world::ROOM)));
}

#[test]
fn when_the_mixer_dies_outputs_are_made_by_the_next() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    let forward = subscribe(&mut world, "bob", published.stream.as_str(), small()).unwrap();
    world.establish_as(&forward, &[vp8()]);
    let mixed = subscribe(&mut world, "bob", MIXED, slow()).unwrap();
    world.establish_as(&mixed, &[vp8()]);
    world.forget();
    world.mixer = Some("mixer-2");
    world.put(Input::NodeLost(node("mixer-1").worker));
    world.answer_all();
    for id in [forward, mixed] {
        let feed = world.room.state.subscriptions[&id].tracks[0].feed.clone().unwrap();
        assert_eq!(feed.sources()[0].node, node("mixer-2"));
    }
    assert!(world.told("bob").is_empty(), "clients are told nothing");
}

#[test]
fn an_output_that_no_mixer_makes_ends_the_subscription() {
    let mut world = World::new(json!({}));
    world.lacking = vec!["vp9"];
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    for from in [published.stream.as_str(), MIXED] {
        let subscription = subscribe(&mut world, "bob", from, Wish::default()).unwrap();
        world.forget();
        world.establish_as(&subscription, &[codec("vp9")]);
        assert_eq!(
            world.told("bob"),
            [format!("ready {subscription}"), format!("error {subscription} No encoder of vp9")]
        );
        assert!(world.room.state.subscriptions.is_empty() && world.room.state.transcoders.is_empty());
    }
}

#[test]
fn a_mixer_that_leaves_an_output_out_does_not_make_it() {
    let mut world = World::new(json!({}));
    world.omitting = true;
    world.presenters(&["ann"]);
    let subscription = subscribe(&mut world, "ann", MIXED, slow()).unwrap();
    world.forget();
    world.establish_as(&subscription, &[vp8()]);
    assert_eq!(world.told("ann")[1], format!("error {subscription} Output is not available"));
}

#[test]
fn a_view_has_only_so_many_pictures() {
    let mut world = World::new(json!({}));
    let names: Vec<String> = (0..17).map(|n| format!("p{n}")).collect();
    world.presenters(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let rates = [None, Some(6), Some(12), Some(15)];
    let multipliers = [Some("x0.8"), Some("x0.6"), Some("x0.4"), Some("x0.2")];
    let wishes = rates.into_iter().flat_map(|framerate| {
        multipliers.into_iter().map(move |multiplier| Wish {
            parameters: VideoParameters { framerate, ..VideoParameters::default() },
            bitrate_multiplier: multiplier.map(str::to_owned),
            ..Wish::default()
        })
    });
    let mut last = None;
    for (name, wish) in names.iter().zip(wishes.chain([small()])) {
        let subscription = subscribe(&mut world, name, MIXED, wish).unwrap();
        world.establish_as(&subscription, &[vp8()]);
        last = Some(subscription);
    }
    let last = last.unwrap();
    assert_eq!(world.told("p16").last(), Some(&format!("error {last} Too many outputs")));
    assert_eq!(world.view().video_outputs.len(), 16);
    assert_eq!(world.room.state.subscriptions.len(), 16);
}

#[test]
fn a_transcoder_that_is_refused_again_and_again_is_given_up() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    let subscription = subscribe(&mut world, "bob", published.stream.as_str(), small()).unwrap();
    let tracks = world.negotiated(&subscription, |_: &[Format]| vp8());
    let transport = world.room.state.subscriptions[&subscription].transport.clone();
    let session = kaigi_proto::ids::SessionId::new(subscription.as_str()).unwrap();
    let event = crate::room::AccessEvent {
        transport,
        answer: 0,
        change: AccessChange::Established { session, tracks },
    };
    world.put(Input::Access { node: node("access-1").worker, event });
    world.forget();
    let is_transcoder = |call: &CallRequest| matches!(call, CallRequest::SetTranscoder(_));
    let refused = CallError::Refused("cannot".into());
    world.fail(is_transcoder, &refused);
    assert!(world.told("bob").is_empty(), "it may have been for its age");
    world.now += std::time::Duration::from_secs(1);
    world.timeout();
    world.fail(is_transcoder, &refused);
    assert_eq!(world.told("bob"), [format!("error {subscription} cannot")]);
    world.answer_all();
    assert!(world.room.state.transcoders.is_empty());
}

#[test]
fn a_stream_that_goes_away_takes_its_transcoder_with_it() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    let subscription = subscribe(&mut world, "bob", published.stream.as_str(), small()).unwrap();
    world.establish_as(&subscription, &[vp8()]);
    world.forget();
    let unpublish = Command::Unpublish { participant: participant("ann"), stream: published.stream.clone() };
    world.run(unpublish).unwrap();
    assert_eq!(done(&mut world), ["remove transcoder"]);
    assert_eq!(world.told("bob")[0], format!("error {subscription} Source stream loss"));
}
