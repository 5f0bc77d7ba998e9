//! Recordings and broadcasts.

use kaigi_proto::v1;
use kaigi_room_config::Resolution;
use serde_json::json;

use super::world::{MIXED, World, node};
use crate::room::{
    CallRequest, Command, Condition, EgressEvent, EgressMedia, EgressTarget, EgressWhat, Input, Kind, Kinds,
    Refusal, Reply, StartEgress, SubscriptionUpdate, TrackUpdate, VideoParameters, Wish,
};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];

fn recording() -> EgressTarget {
    EgressTarget::Recording { container: "mkv".into(), name: String::new() }
}

fn broadcast() -> EgressTarget {
    EgressTarget::Broadcast {
        protocol: "rtmp".into(),
        url: "rtmp://u:p@live.example/app/key".into(),
        segments: None,
    }
}

fn start(world: &mut World, target: EgressTarget, from: &str) -> Result<v1::Egress, Refusal> {
    let media = |kind| EgressMedia { kind, from: from.into(), wish: Wish::default() };
    let media = BOTH.into_iter().map(media).collect();
    match world.run(Command::StartEgress(StartEgress { target, what: EgressWhat::Media(media) }))? {
        Reply::Egress(egress) => Ok(*egress),
        other => panic!("{other:?}"),
    }
}

fn listed(world: &mut World) -> Vec<v1::Egress> {
    match world.run(Command::ListEgresses) {
        Ok(Reply::Egresses(egresses)) => egresses,
        other => panic!("{other:?}"),
    }
}

/// The last description of an output: the tracks of sound and picture.
fn described(world: &mut World) -> [Option<String>; 2] {
    let last = world.made().into_iter().rev().find_map(|call| match call {
        CallRequest::SetOutput(output) => Some(*output),
        _ => None,
    });
    let output = last.expect("no output is described");
    [output.audio, output.video].map(|lane| lane?.source.map(|source| source.track_id))
}

#[test]
fn a_recording_takes_a_stream_as_it_is() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    let egress = start(&mut world, recording(), published.stream.as_str()).unwrap();
    assert_eq!((egress.host.as_str(), egress.file.as_str()), ("host", "file"));
    assert_eq!(egress.tracks[1].format.as_ref().unwrap().codec, "vp8");
    let transport = &published.transport;
    assert_eq!(described(&mut world), [Some(format!("{transport}-0")), Some(format!("{transport}-1"))]);
    assert!(!world.made().iter().any(|call| matches!(call, CallRequest::SetTranscoder(_))));
}

#[test]
fn what_mp4_does_not_take_is_made_for_it() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    let mp4 = EgressTarget::Recording { container: "mp4".into(), name: String::new() };
    let egress = start(&mut world, mp4, published.stream.as_str()).unwrap();
    let codecs: Vec<_> =
        egress.tracks.iter().map(|track| track.format.as_ref().unwrap().codec.clone()).collect();
    assert_eq!(codecs, ["opus", "h264"]);
    assert!(world.made().iter().any(|call| matches!(call, CallRequest::SetTranscoder(_))));
}

#[test]
fn a_broadcast_is_h264_and_shows_no_secrets() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let egress = start(&mut world, broadcast(), MIXED).unwrap();
    assert_eq!(egress.tracks[1].format.as_ref().unwrap().codec, "h264");
    let Some(v1::egress::Target::Broadcast(shown)) = egress.target else { panic!("no broadcast") };
    assert_eq!(shown.url, "rtmp://live.example/app/…");
    let [audio, video] = described(&mut world);
    assert_eq!(audio.as_deref(), Some("mixer-1-common-audio"));
    assert!(video.unwrap().contains("h264"));
}

#[test]
fn what_is_gone_or_paused_is_left_out_and_the_rest_goes_on() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    let egress = start(&mut world, recording(), published.stream.as_str()).unwrap();
    let active = [None, Some(false)];
    let update = SubscriptionUpdate::default();
    world.run(Command::UpdateEgress { egress: egress.id.clone(), update, active }).unwrap();
    world.answer_all();
    assert!(matches!(described(&mut world), [Some(_), None]));
    world
        .run(Command::Unpublish {
            participant: super::world::participant("ann"),
            stream: published.stream.clone(),
        })
        .unwrap();
    world.answer_all();
    assert_eq!(described(&mut world), [None, None]);
    assert_eq!(listed(&mut world).len(), 1);
}

#[test]
fn another_source_or_size_is_checked_and_what_is_refused_changes_nothing() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let egress = start(&mut world, broadcast(), MIXED).unwrap();
    let change = |from: Option<&str>, size: Option<Resolution>| Command::UpdateEgress {
        egress: egress.id.clone(),
        update: SubscriptionUpdate {
            audio: None,
            video: Some(TrackUpdate {
                from: from.map(str::to_owned),
                parameters: VideoParameters { resolution: size, ..VideoParameters::default() },
                ..TrackUpdate::default()
            }),
        },
        active: [None, None],
    };
    let before = listed(&mut world);
    assert!(world.run(change(Some("nobody"), None)).is_err());
    assert!(world.run(change(None, Some(Resolution { width: 1, height: 1 }))).is_err());
    assert_eq!(listed(&mut world), before);
    let Ok(Reply::Egress(changed)) = world.run(change(None, Some(Resolution { width: 320, height: 240 })))
    else {
        panic!("not changed")
    };
    let size = changed.tracks[1].parameters.and_then(|parameters| parameters.resolution).unwrap();
    assert_eq!((size.width, size.height), (320, 240));
}

#[test]
fn a_node_that_will_not_have_it_refuses_the_request() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    world.refusing = true;
    assert!(matches!(start(&mut world, broadcast(), MIXED), Err(Refusal::NodeRefused(_))));
    assert_eq!(listed(&mut world), []);
    world.refusing = false;
    world.streaming = None;
    world.put(Input::NodeLost(node("streaming-1").worker));
    assert_eq!(start(&mut world, broadcast(), MIXED), Err(Refusal::NoStreamingNode));
    world.full = true;
    world.pass(std::time::Duration::from_secs(6));
    assert_eq!(start(&mut world, broadcast(), MIXED), Err(Refusal::NoCapacity("streaming")));
    assert_eq!(listed(&mut world), []);
}

#[test]
fn when_the_node_dies_another_goes_on() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let egress = start(&mut world, recording(), MIXED).unwrap();
    let told = |world: &mut World, at: &str, condition: Condition| {
        let event = EgressEvent { egress: egress.id.clone(), condition, tracks: Vec::new() };
        world.put(Input::Streaming { node: node(at).worker, event });
        listed(world)[0].state()
    };
    assert_eq!(told(&mut world, "streaming-1", Condition::Active), v1::OutputState::Active);
    world.forget();
    world.streaming = Some("streaming-2");
    world.put(Input::NodeLost(node("streaming-1").worker));
    assert_eq!(listed(&mut world)[0].state(), v1::OutputState::Trouble);
    world.answer_all();
    assert!(described(&mut world)[1].is_some());
    assert_eq!(
        told(&mut world, "streaming-1", Condition::Active),
        v1::OutputState::Trouble,
        "a dead one speaks"
    );
    assert_eq!(told(&mut world, "streaming-2", Condition::Active), v1::OutputState::Active);
}

#[test]
fn it_ends_when_it_is_stopped_and_with_the_room() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let first = start(&mut world, recording(), MIXED).unwrap();
    start(&mut world, broadcast(), MIXED).unwrap();
    world.forget();
    assert_eq!(world.run(Command::StopEgress { egress: first.id.clone() }), Ok(Reply::Done));
    assert!(matches!(&world.made()[..], [CallRequest::RemoveOutput(removed), ..] if removed.id == first.id));
    assert_eq!(world.run(Command::StopEgress { egress: first.id }), Err(Refusal::UnknownEgress));
    world.forget();
    world.run(Command::Destroy { reason: "over".into() }).unwrap();
    let made = world.made();
    assert_eq!(made.iter().filter(|call| matches!(call, CallRequest::RemoveOutput(_))).count(), 1);
}

fn start_each(world: &mut World) -> v1::Egress {
    let what = EgressWhat::Each(Kinds { audio: true, video: true });
    match world.run(Command::StartEgress(StartEgress { target: recording(), what })) {
        Ok(Reply::Egress(egress)) => *egress,
        other => panic!("{other:?}"),
    }
}

/// Streams whose recordings are described, and those that are ended, since the world forgot.
fn apart(world: &mut World) -> (Vec<String>, usize) {
    let made = world.made();
    let group = |output: &v1::OutputDescription| match &output.target {
        Some(v1::output_description::Target::Recording(target)) => Some(target.group.clone()?.stream_id),
        _ => None,
    };
    let mut begun: Vec<String> = Vec::new();
    let mut ended = 0;
    for call in &made {
        match call {
            CallRequest::SetOutput(output) => begun.extend(group(output)),
            CallRequest::RemoveOutput(_) => ended += 1,
            _ => {}
        }
    }
    begun.dedup();
    (begun, ended)
}

#[test]
fn each_stream_is_recorded_apart_from_when_it_comes_to_when_it_goes() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let first = world.publish("ann", &BOTH);
    world.forget();
    let egress = start_each(&mut world);
    assert_eq!((egress.host.as_str(), egress.file.as_str()), ("host", "manifest"));
    assert_eq!(apart(&mut world), (vec![first.stream.to_string()], 0));
    world.forget();
    let second = world.publish("bob", &[Kind::Audio]);
    world.answer_all();
    assert_eq!(apart(&mut world), (vec![second.stream.to_string()], 0));
    let all = listed(&mut world);
    assert_eq!((all.len(), all[0].streams.len()), (1, 2), "members are listed by themselves");
    world.forget();
    let participant = super::world::participant("ann");
    world.run(Command::Unpublish { participant, stream: first.stream }).unwrap();
    world.answer_all();
    assert_eq!(apart(&mut world).1, 1);
    assert_eq!(listed(&mut world)[0].streams.len(), 1);
    world.forget();
    assert_eq!(world.run(Command::StopEgress { egress: egress.id.clone() }), Ok(Reply::Done));
    assert_eq!(apart(&mut world).1, 1);
    assert_eq!(listed(&mut world), []);
    assert_eq!(world.run(Command::StopEgress { egress: egress.id }), Err(Refusal::UnknownEgress));
}

#[test]
fn streams_are_waited_for() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let egress = start_each(&mut world);
    assert_eq!((egress.streams.len(), egress.state()), (0, v1::OutputState::Starting));
    let published = world.publish("ann", &BOTH);
    world.answer_all();
    assert_eq!(listed(&mut world)[0].streams[0].stream_id, published.stream.as_str());
    assert_eq!(listed(&mut world)[0].file, "manifest");
    world.run(Command::StopEgress { egress: egress.id }).unwrap();
    let empty = start_each(&mut world);
    world.run(Command::Leave { participant: super::world::participant("ann") }).unwrap();
    world.answer_all();
    assert_eq!(world.run(Command::StopEgress { egress: empty.id }), Ok(Reply::Done));
}

#[test]
fn a_node_that_will_not_have_them_refuses_all() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    world.publish("ann", &BOTH);
    world.publish("bob", &BOTH);
    world.refusing = true;
    let what = EgressWhat::Each(Kinds { audio: true, video: true });
    let refused = world.run(Command::StartEgress(StartEgress { target: recording(), what }));
    assert!(matches!(refused, Err(Refusal::NodeRefused(_))));
    assert_eq!(listed(&mut world), []);
}

#[test]
fn streams_beyond_what_a_room_can_record_are_told_and_recorded_once_another_goes() {
    let mut world = World::new(json!({"inputLimit": -1}));
    let people: Vec<String> = (0..43).map(|number| format!("person{number}")).collect();
    world.presenters(&people.iter().map(String::as_str).collect::<Vec<_>>());
    let mut streams = Vec::new();
    for person in people.iter().flat_map(|person| [person; 3]) {
        streams.push((person.as_str(), world.publish(person, &[Kind::Audio]).stream));
    }
    start_each(&mut world);
    world.answer_all();
    let failed = |egress: &v1::Egress| {
        let streams = egress.streams.iter().filter(|stream| stream.state() == v1::OutputState::Failed);
        streams.map(|stream| stream.reason.clone()).collect::<Vec<_>>()
    };
    let [egress] = &listed(&mut world)[..] else { panic!("one") };
    assert_eq!((egress.streams.len(), egress.state()), (129, v1::OutputState::Trouble));
    assert_eq!(failed(egress), ["the room records as many streams apart as it can"]);
    let recorded = egress.streams.iter().find(|stream| stream.state() != v1::OutputState::Failed).unwrap();
    let (person, gone) =
        streams.into_iter().find(|(_, stream)| stream.as_str() == recorded.stream_id).unwrap();
    let participant = super::world::participant(person);
    world.run(Command::Unpublish { participant, stream: gone }).unwrap();
    world.answer_all();
    let [egress] = &listed(&mut world)[..] else { panic!("one") };
    assert_eq!((egress.streams.len(), failed(egress).len()), (128, 0));
}
