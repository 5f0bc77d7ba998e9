//! Streams made of others by algorithms.

use std::time::Duration;

use kaigi_proto::{
    ids::{StreamId, WorkerId},
    v1,
};
use serde_json::json;

use super::world::{MIXED, World, node, participant, vp8};
use crate::room::{
    AccessChange, CallError, CallRequest, Command, Condition, EgressMedia, Happening, Input, Kind,
    MixerChange, Refusal, Reply, StartAnalytics, StreamOperation, Wish,
};

const VIDEO: [Kind; 1] = [Kind::Video];

fn start(algorithm: &str, parameters: &str, from: &str) -> Command {
    let media = EgressMedia { kind: Kind::Video, from: from.into(), wish: Wish::default() };
    Command::StartAnalytics(StartAnalytics {
        algorithm: algorithm.into(),
        parameters: parameters.into(),
        media,
    })
}

fn analytics(world: &mut World, algorithm: &str, from: &str) -> v1::Analytics {
    match world.run(start(algorithm, "", from)) {
        Ok(Reply::Analytics(analytics)) => *analytics,
        other => panic!("{other:?}"),
    }
}

fn listed(world: &mut World) -> Vec<v1::Analytics> {
    match world.run(Command::ListAnalytics) {
        Ok(Reply::AllAnalytics(all)) => all,
        other => panic!("{other:?}"),
    }
}

/// What mixers were told to analyse since then.
fn described(world: &mut World) -> Vec<v1::TranscoderDescription> {
    let analysis = |call| match call {
        CallRequest::SetTranscoder(transcoder) if transcoder.analysis.is_some() => Some(*transcoder),
        _ => None,
    };
    world.made().into_iter().filter_map(analysis).collect()
}

/// A room with ann's picture and bob.
fn room() -> (World, StreamId) {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &[Kind::Audio, Kind::Video]);
    world.forget();
    (world, published.stream)
}

#[test]
fn what_is_analysed_is_a_stream_that_all_see() {
    let (mut world, camera) = room();
    let made = analytics(&mut world, "edgedetect", camera.as_str());
    let stream = format!("edgedetect{camera}");
    assert_eq!((&made.stream_id, made.state()), (&stream, v1::OutputState::Active));
    assert_eq!(world.told("bob"), [format!("add {stream}")]);
    let [_, _, shown] = &world.streams()[..] else { panic!() };
    assert_eq!(
        (shown.info_type.as_str(), shown.owner.as_str(), shown.in_views.len()),
        ("analytics", "admin", 0)
    );
    assert_eq!(shown.tracks[0].format, Some(vp8().to_wire()));
    assert_eq!(listed(&mut world), std::slice::from_ref(&made));

    let [description] = &described(&mut world)[..] else { panic!() };
    let analysis = description.analysis.as_ref().unwrap();
    assert_eq!(analysis.algorithm, "edgedetect");
    assert!(analysis.parameters.contains(r#""highThreshold":200"#), "{}", analysis.parameters);
    assert_eq!(description.video_outputs.len(), 1);
    assert_eq!(description.source.as_ref().unwrap().worker_id, "access-1");

    world.subscribe("bob", &stream, &VIDEO).unwrap();
    let source = world.made().into_iter().find_map(|call| match call {
        CallRequest::OpenSubscription(open) => open.tracks.into_iter().next()?.source,
        _ => None,
    });
    assert_eq!(source.unwrap().worker_id, "mixer-1");
    world.forget();

    world.run(Command::StopAnalytics { analytics: made.id }).unwrap();
    let told = world.told("bob");
    assert!(told[0].starts_with("error") && told[1] == format!("remove {stream}"), "{told:?}");
    assert!(world.made().iter().any(|call| matches!(call, CallRequest::RemoveTranscoder(_))));
    assert!(listed(&mut world).is_empty());
}

#[test]
fn what_is_made_of_a_stream_ends_with_it() {
    let (mut world, camera) = room();
    let first = analytics(&mut world, "cartoon", camera.as_str());
    let second = analytics(&mut world, "rotate", &first.stream_id);
    world.forget();
    world.run(Command::Unpublish { participant: participant("ann"), stream: camera.clone() }).unwrap();
    let told = world.told("bob");
    for gone in [camera.as_str(), &first.stream_id, &second.stream_id] {
        assert!(told.contains(&format!("remove {gone}")), "{gone}: {told:?}");
    }
    assert!(listed(&mut world).is_empty());
}

#[test]
fn the_stream_that_is_made_takes_its_analytics_with_it() {
    let (mut world, camera) = room();
    let made = analytics(&mut world, "cartoon", camera.as_str());
    let stream = StreamId::new(made.stream_id).unwrap();
    world.run(Command::DeleteStream { stream }).unwrap();
    assert!(listed(&mut world).is_empty());
    let gone = world.run(Command::StopAnalytics { analytics: made.id });
    assert_eq!(gone, Err(Refusal::UnknownAnalytics));
}

#[test]
fn another_mixer_goes_on_when_one_dies() {
    let (mut world, camera) = room();
    let made = analytics(&mut world, "cartoon", camera.as_str());
    let subscription = world.subscribe("bob", &made.stream_id, &VIDEO).unwrap();
    world.establish_subscription(&subscription);
    world.forget();
    world.mixer = Some("mixer-2");
    world.put(Input::NodeLost(node("mixer-1").worker));
    world.answer_all();
    assert_eq!(world.told("bob"), [""; 0], "nobody is told");
    let calls = world.made();
    let pointed = calls.iter().find_map(|call| match call {
        CallRequest::SetSource(set) => set.source.clone(),
        _ => None,
    });
    assert_eq!(pointed.unwrap().worker_id, "mixer-2");
    let again = |call: &CallRequest| matches!(call, CallRequest::SetTranscoder(t) if t.analysis.is_some());
    assert_eq!(calls.iter().filter(|call| again(call)).count(), 1);
}

#[test]
fn a_mix_can_be_analysed_and_what_comes_of_it_is_mixed_by_order_only() {
    let mut world = World::new(json!({"autoMix": true, "inputLimit": 1}));
    world.presenters(&["ann", "bob"]);
    let made = analytics(&mut world, "edgedetect", MIXED);
    let [description] = &described(&mut world)[..] else { panic!() };
    assert_eq!(description.source.as_ref().unwrap().worker_id, "mixer-1");
    assert!(world.streams()[1].in_views.is_empty());
    // It does not count as an input.
    world.publish("ann", &VIDEO);
    let stream = StreamId::new(&made.stream_id).unwrap();
    let operations = vec![StreamOperation::Mix("common".into())];
    world.run(Command::UpdateStream { stream, operations }).unwrap();
    let inputs: Vec<String> = world.view().inputs.into_iter().map(|input| input.stream_id).collect();
    assert!(inputs.contains(&made.stream_id), "{inputs:?}");
}

#[test]
fn the_mixer_chooses_among_layers() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.announce("ann", &VIDEO).unwrap();
    world.establish_layers(&published, &["q", "h", "f"]);
    analytics(&mut world, "edgedetect", published.stream.as_str());
    assert_eq!(described(&mut world)[0].layers.len(), 3);
}

#[test]
fn a_size_that_is_known_is_told_and_turned_with_the_picture() {
    let (mut world, camera) = room();
    let turned = world.run(start("rotate", r#"{"angle": 90}"#, camera.as_str()));
    let Ok(Reply::Analytics(turned)) = turned else { panic!("{turned:?}") };
    let publication = &world.room.state.publications[&camera];
    let (transport, track) = (publication.transport().unwrap().clone(), publication.tracks[1].id.clone());
    let resolution = kaigi_room_config::Resolution { width: 640, height: 360 };
    world.access_event(
        &transport,
        AccessChange::Resolution { track, resolution, layers: Vec::new(), temporal: 0 },
    );
    let shown = world.streams().into_iter().find(|stream| stream.id == turned.stream_id).unwrap();
    let size = shown.tracks[0].parameters.as_ref().unwrap().resolution.unwrap();
    assert_eq!((size.width, size.height), (360, 640));
}

#[test]
fn muting_it_is_told_to_the_mixer() {
    let (mut world, camera) = room();
    let made = analytics(&mut world, "cartoon", camera.as_str());
    world.forget();
    let stream = StreamId::new(&made.stream_id).unwrap();
    let kinds = crate::room::Kinds { audio: false, video: true };
    let operations = vec![StreamOperation::Status { kinds, active: false, repeat: false }];
    world.run(Command::UpdateStream { stream, operations }).unwrap();
    assert!(described(&mut world)[0].analysis.as_ref().unwrap().paused);
    assert!(!listed(&mut world)[0].track.as_ref().unwrap().active);
}

#[test]
fn trouble_is_listed_and_told_to_the_service() {
    let (mut world, camera) = room();
    let made = analytics(&mut world, "cartoon", camera.as_str());
    let transcoder = format!("analysis-{}", made.id);
    let told = |world: &mut World, reason: &str| {
        let reason = reason.to_owned();
        world
            .mixer_event("mixer-1", MixerChange::TranscoderFailed { transcoder: transcoder.clone(), reason });
        let happened = std::mem::take(&mut world.happened);
        happened.into_iter().find_map(|happening| match happening {
            Happening::StreamingUpdated(facts) => facts.condition,
            _ => None,
        })
    };
    world.happened.clear();
    assert_eq!(told(&mut world, "it crashed"), Some(Condition::Trouble("it crashed".into())));
    assert_eq!(
        (listed(&mut world)[0].state(), &*listed(&mut world)[0].reason),
        (v1::OutputState::Trouble, "it crashed")
    );
    assert_eq!(told(&mut world, ""), Some(Condition::Active));
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let (mut world, camera) = room();
    let camera = camera.as_str();
    let nothing = Refusal::NoSuchSource(Kind::Video);
    assert_eq!(world.run(start("cartoon", "", "nobody")), Err(nothing));
    for (algorithm, parameters) in
        [("cartoon", r#"{"levels": 99}"#), ("my-own", r#"{"a": 1}"#), ("my own", "")]
    {
        let refused = world.run(start(algorithm, parameters, camera));
        assert!(matches!(refused, Err(Refusal::InvalidAlgorithm(_))), "{refused:?}");
    }
    world.lacking = vec!["vp8"];
    let refused = world.run(start("my-own", "", camera));
    assert!(matches!(refused, Err(Refusal::NodeRefused(_))), "{refused:?}");
    world.lacking.clear();

    let waiting = world.ask(start("cartoon", "", camera));
    let is_analysis = |call: &CallRequest| matches!(call, CallRequest::SetTranscoder(_));
    world.fail(is_analysis, &CallError::Refused("too much".into()));
    assert_eq!(world.replies[&waiting], Err(Refusal::NodeRefused("too much".into())));

    world.mixer = None;
    world.put(Input::NodeLost(WorkerId::new("mixer-1").unwrap()));
    world.answer_all();
    let waiting = world.ask(start("cartoon", "", camera));
    world.pass(Duration::from_secs(20));
    assert_eq!(world.replies[&waiting], Err(Refusal::MixerUnavailable));
    assert!(listed(&mut world).is_empty() && world.streams().len() == 2);

    world.mixer = Some("mixer-1");
    world.pass(Duration::from_secs(20));
    for _ in 0..16 {
        analytics(&mut world, "cartoon", camera);
    }
    assert_eq!(world.run(start("cartoon", "", camera)), Err(Refusal::TooManyAnalytics));
}
