//! Nodes that are to end are left while they still work.

use std::time::Duration;

use kaigi_proto::ids::{StreamId, TrackId};
use serde_json::json;

use super::world::{MIXED, World, codec, node, opus};
use crate::room::{
    CallRequest, Callee, Command, Condition, EgressEvent, EgressMedia, EgressTarget, EgressWhat,
    IngestSource, IngestWish, Input, Kind, PulledTrack, StartEgress, StartIngest, Wish,
};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];
/// Longer than what was left goes on.
const LATER: Duration = Duration::from_secs(4);

fn drain(world: &mut World, name: &str) {
    world.put(Input::NodeDrains(node(name).worker));
}

/// Without answering what is asked meanwhile.
fn pass(world: &mut World, time: Duration) {
    let end = world.now + time;
    while let Some(due) = world.room.next_deadline().filter(|due| *due <= end) {
        world.now = world.now.max(due);
        world.timeout();
    }
    world.now = end;
    world.timeout();
}

/// Answers calls one by one; names of the calls to mixers and streaming-nodes, and of sources that access nodes are told of, in their order.
fn happens(world: &mut World) -> Vec<String> {
    let mut names = Vec::new();
    while let Some((call, callee, request)) = world.calls.pop_front() {
        let at = match &callee {
            Callee::Cluster => "cluster".to_owned(),
            Callee::Access(node) | Callee::Mixer(node) | Callee::Streaming(node) => node.worker.to_string(),
        };
        match &request {
            CallRequest::SetView(_) => names.push(format!("view at {at}")),
            CallRequest::RemoveView(_) => names.push(format!("no view at {at}")),
            CallRequest::SetTranscoder(_) => names.push(format!("transcoder at {at}")),
            CallRequest::RemoveTranscoder(_) => names.push(format!("no transcoder at {at}")),
            CallRequest::SetOutput(_) => names.push(format!("output at {at}")),
            CallRequest::RemoveOutput(_) => names.push(format!("no output at {at}")),
            CallRequest::SetInput(_) => names.push(format!("input at {at}")),
            CallRequest::RemoveInput(_) => names.push(format!("no input at {at}")),
            CallRequest::SetSource(set) => {
                let from = set.source.as_ref().map(|source| source.worker_id.clone());
                names.push(format!("source from {}", from.unwrap_or_default()));
            }
            _ => {}
        }
        let result = world.good_answer(&callee, &request);
        world.put(Input::CallDone { call, result });
    }
    names
}

/// Ann publishes; bob watches the mix as it is, and ann's picture in another codec.
fn watched() -> World {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann", "bob"]);
    let ann = world.publish("ann", &BOTH);
    let mix = world.subscribe("bob", MIXED, &BOTH).unwrap();
    world.establish_subscription(&mix);
    let single = world.subscribe("bob", ann.stream.as_str(), &[Kind::Video]).unwrap();
    world.establish_as(&single, &[codec("vp9")]);
    world.forget();
    world
}

#[test]
fn a_mixer_is_left_when_another_one_makes_everything_and_its_takers_are_there() {
    let mut world = watched();
    world.mixer = Some("mixer-2");
    drain(&mut world, "mixer-1");
    let happened = happens(&mut world);
    let of = |what: &str| happened.iter().filter(|name| *name == what).count();
    assert_eq!((of("view at mixer-2"), of("transcoder at mixer-2")), (1, 1), "{happened:?}");
    assert_eq!(of("source from mixer-2"), 3, "sound, picture and the other codec: {happened:?}");
    assert_eq!(of("no view at mixer-1") + of("no transcoder at mixer-1"), 0, "{happened:?}");
    assert!(world.told("bob").is_empty(), "nobody notices");
    pass(&mut world, LATER);
    assert_eq!(happens(&mut world), ["no view at mixer-1", "no transcoder at mixer-1"]);
    world.put(Input::NodeLost(node("mixer-1").worker));
    assert!(happens(&mut world).is_empty());
}

#[test]
fn a_mixer_without_a_successor_goes_on_until_there_is_one() {
    let mut world = watched();
    // The cluster names the same again, as there is no other.
    drain(&mut world, "mixer-1");
    assert!(happens(&mut world).is_empty());
    world.mixer = None;
    pass(&mut world, LATER);
    assert!(happens(&mut world).is_empty());
    world.publish("bob", &BOTH);
    let changed = world.made();
    assert!(
        changed.iter().any(|call| matches!(call, CallRequest::SetView(_))),
        "it is still told of changes"
    );
    world.mixer = Some("mixer-2");
    world.put(Input::MixersChanged);
    assert!(happens(&mut world).contains(&"view at mixer-2".to_owned()));
    pass(&mut world, LATER);
    assert!(happens(&mut world).contains(&"no view at mixer-1".to_owned()));
}

#[test]
fn a_mixer_that_dies_while_it_is_left_is_none_any_more() {
    let mut world = watched();
    world.mixer = Some("mixer-2");
    drain(&mut world, "mixer-1");
    // The cluster's answer, and the description.
    let (call, callee, request) = world.calls.pop_front().unwrap();
    let result = world.good_answer(&callee, &request);
    world.put(Input::CallDone { call, result });
    world.put(Input::NodeLost(node("mixer-1").worker));
    let happened = happens(&mut world);
    assert!(happened.contains(&"source from mixer-2".to_owned()), "{happened:?}");
    pass(&mut world, LATER);
    assert!(happens(&mut world).is_empty(), "nothing is said to the dead");
}

#[test]
fn a_room_that_ends_ends_at_both() {
    let mut world = watched();
    world.mixer = Some("mixer-2");
    drain(&mut world, "mixer-1");
    happens(&mut world);
    world.ask(Command::Destroy { reason: "over".into() });
    let happened = happens(&mut world);
    for at in ["mixer-1", "mixer-2"] {
        assert!(happened.contains(&format!("no view at {at}")), "{happened:?}");
    }
}

fn record(world: &mut World, target: EgressTarget) {
    let media = |kind| EgressMedia { kind, from: MIXED.into(), wish: Wish::default() };
    let media = BOTH.into_iter().map(media).collect();
    world.run(Command::StartEgress(StartEgress { target, what: EgressWhat::Media(media) })).unwrap();
    world.forget();
}

#[test]
fn a_recording_goes_on_in_another_file_before_the_first_one_ends() {
    let mut world = watched();
    record(&mut world, EgressTarget::Recording { container: "mkv".into(), name: String::new() });
    world.streaming = Some("streaming-2");
    drain(&mut world, "streaming-1");
    assert_eq!(happens(&mut world), ["output at streaming-2"]);
    pass(&mut world, LATER);
    assert_eq!(happens(&mut world), ["no output at streaming-1"]);
}

#[test]
fn a_broadcast_ends_before_it_begins_elsewhere_as_servers_take_one() {
    let mut world = watched();
    let url = "rtmp://live.example/app/key".into();
    record(&mut world, EgressTarget::Broadcast { protocol: "rtmp".into(), url, segments: None });
    world.streaming = Some("streaming-2");
    drain(&mut world, "streaming-1");
    assert_eq!(happens(&mut world), ["no output at streaming-1", "output at streaming-2"]);
    pass(&mut world, LATER);
    assert!(happens(&mut world).is_empty());
}

#[test]
fn a_stream_that_is_pulled_is_pulled_twice_until_it_flows_from_the_new_node() {
    let mut world = watched();
    let from = IngestSource {
        url: "rtsp://camera.example/main".into(),
        listen: None,
        udp: false,
        buffer: 0,
        audio: IngestWish::Needed,
        video: IngestWish::Not,
    };
    world.ask(Command::StartIngest(StartIngest { from, attributes: None }));
    world.answer_all();
    let input = world.made().into_iter().find_map(|call| match call {
        CallRequest::SetInput(input) => Some(*input),
        _ => None,
    });
    let id = StreamId::new(input.unwrap().id).unwrap();
    let flows = |world: &mut World, at: &str| {
        let track = PulledTrack {
            id: TrackId::new(format!("in-{id}-audio")).unwrap(),
            kind: Kind::Audio,
            format: opus(),
            resolution: None,
        };
        let (egress, condition) = (id.to_string(), Condition::Active);
        let event = EgressEvent { egress, condition, tracks: vec![track] };
        world.put(Input::Streaming { node: node(at).worker, event });
    };
    flows(&mut world, "streaming-1");
    let listening = world.subscribe("bob", id.as_str(), &[Kind::Audio]).unwrap();
    world.establish_subscription(&listening);
    world.forget();

    world.streaming = Some("streaming-2");
    drain(&mut world, "streaming-1");
    assert_eq!(happens(&mut world), ["input at streaming-2"]);
    pass(&mut world, LATER);
    assert!(happens(&mut world).is_empty(), "as long as nothing flows there");
    flows(&mut world, "streaming-2");
    assert!(happens(&mut world).contains(&"source from streaming-2".to_owned()));
    pass(&mut world, LATER);
    assert_eq!(happens(&mut world), ["no input at streaming-1"]);
    assert!(world.told("bob").is_empty());
}

#[test]
fn connections_at_an_access_node_stay_and_what_comes_next_goes_elsewhere() {
    let mut world = watched();
    drain(&mut world, "access-1");
    happens(&mut world);
    assert!(world.told("ann").is_empty(), "there is no other node");
    let same = world.publish("ann", &[Kind::Audio]);
    assert_eq!(world.room.node_of(&same.transport).unwrap(), node("access-1"));
    world.forget();
    world.access = Some("access-2");
    pass(&mut world, LATER);
    assert!(happens(&mut world).is_empty(), "nothing is closed");
    let transports: Vec<_> =
        world.room.state.transports.iter().map(|(id, t)| (t.owner.clone(), id.clone())).collect();
    for name in ["ann", "bob"] {
        let theirs = transports.iter().filter(|(owner, _)| owner.as_str() == name);
        let told: Vec<_> = theirs.map(|(_, id)| format!("moving {id}")).collect();
        assert_eq!(world.told(name), told);
    }
    let next = world.publish("ann", &[Kind::Audio]);
    assert_eq!(world.room.node_of(&next.transport).unwrap(), node("access-2"));
    world.forget();
    pass(&mut world, LATER);
    happens(&mut world);
    assert!(world.told("bob").iter().all(|told| !told.starts_with("moving")), "told once");
}
