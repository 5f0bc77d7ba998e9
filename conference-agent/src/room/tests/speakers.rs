//! Selecting streams: who is heard in them, and what nodes and clients are told of that.

use std::time::Duration;

use kaigi_proto::{
    ids::{ParticipantId, TrackId},
    v1,
};
use serde_json::json;

use super::world::{Published, World, codec, node, participant};
use crate::room::{
    AccessChange, CallError, CallRequest, Command, Input, Kind, Kinds, Loudness, Refusal, StreamOperation,
};

const AUDIO: [Kind; 1] = [Kind::Audio];

/// A room that selects, with three presenters at access-1 who publish, and a fourth at access-2 who does.
struct Selecting {
    world: World,
    published: Vec<Published>,
}

const NAMES: [&str; 4] = ["ann", "bob", "cat", "dan"];

impl Selecting {
    fn new() -> Self {
        Self::with(json!({"selectActiveAudio": true}))
    }

    fn with(attributes: serde_json::Value) -> Self {
        let mut world = World::new(attributes);
        world.presenters(&NAMES);
        let mut published: Vec<_> = NAMES[..3].iter().map(|name| world.publish(name, &AUDIO)).collect();
        world.access = Some("access-2");
        published.push(world.publish("dan", &AUDIO));
        world.forget();
        Self { world, published }
    }

    fn track(&self, at: usize) -> TrackId {
        TrackId::new(format!("{}-0", self.published[at].transport)).unwrap()
    }

    /// A node tells that its publications are that loud.
    fn hear(&mut self, at: &str, loud: &[(usize, u32)]) {
        let heard = loud
            .iter()
            .map(|(who, loud)| (self.track(*who), Loudness { immediate: *loud, medium: *loud, long: *loud }));
        let heard = heard.collect();
        self.world.now += Duration::from_millis(200);
        self.world.put(Input::Speakers { node: node(at).worker, heard });
        self.world.answer_all();
    }

    /// Who is in the slots, as clients see them.
    fn shown(&mut self) -> Vec<&'static str> {
        let streams = self.world.streams();
        let selecting = streams.iter().filter(|stream| stream.info_type == "selecting");
        let name = |id: &str| self.published.iter().position(|p| p.stream.as_str() == id).map(|at| NAMES[at]);
        selecting.map(|stream| name(&stream.active_input).unwrap_or("-")).collect()
    }

    /// Who is in the slots, as each node was told last, by its name.
    fn told_nodes(&mut self) -> Vec<v1::AudioSelection> {
        let calls = self.world.made().into_iter().filter_map(|call| match call {
            CallRequest::SelectAudio(call) => call.selection,
            _ => None,
        });
        calls.collect()
    }
}

fn owners(selection: &v1::AudioSelection) -> Vec<&str> {
    selection.slots.iter().map(|slot| slot.owner.as_str()).collect()
}

#[test]
fn a_room_that_selects_has_three_more_streams_from_the_start() {
    let mut world = World::new(json!({"selectActiveAudio": true}));
    let joined = world.join("ann", "presenter").unwrap();
    let selecting: Vec<_> = joined.streams.iter().filter(|stream| stream.info_type == "selecting").collect();
    let ids: Vec<_> = selecting.iter().map(|stream| stream.id.as_str()).collect();
    assert_eq!(ids, ["active-audio-0", "active-audio-1", "active-audio-2"]);
    for stream in selecting {
        assert_eq!(stream.r#type(), v1::StreamType::Forward);
        assert_eq!((stream.owner.as_str(), stream.active_input.as_str()), ("unknown", "unknown"));
        let [track] = &stream.tracks[..] else { panic!("{:?}", stream.tracks) };
        assert_eq!((track.kind(), track.active, track.id.as_str()), (v1::MediaKind::Audio, true, ""));
        assert_eq!(track.format.as_ref().unwrap().codec, "unknown");
    }
    let mut world = World::new(json!({}));
    assert!(world.join("ann", "presenter").unwrap().streams.iter().all(|s| s.info_type != "selecting"));
}

#[test]
fn the_loudest_of_all_nodes_are_heard() {
    let mut room = Selecting::new();
    room.hear("access-1", &[(0, 200), (1, 100), (2, 150)]);
    assert_eq!(room.shown(), ["ann", "cat", "bob"]);
    room.hear("access-2", &[(3, 400)]);
    assert_eq!(room.shown(), ["ann", "cat", "dan"]);
    let told = room.told_nodes();
    assert_eq!(told.len(), 4, "two changes, two nodes");
    assert_eq!(owners(&told[3]), ["ann", "cat", "dan"]);
    let sources: Vec<_> =
        told[3].slots.iter().map(|slot| slot.source.as_ref().unwrap().worker_id.as_str()).collect();
    assert_eq!(sources, ["access-1", "access-1", "access-2"]);
    assert!(told[1].revision < told[3].revision);
}

#[test]
fn everybody_is_told_who_is_in_which_stream_and_who_leads() {
    let mut room = Selecting::new();
    let id = |room: &Selecting, at: usize| room.published[at].stream.clone();
    room.hear("access-1", &[(0, 200)]);
    let (ann, bob) = (id(&room, 0), id(&room, 1));
    assert_eq!(room.world.told("dan"), [format!("active-audio-0 has {ann}, major")]);
    room.hear("access-1", &[(0, 200), (1, 300)]);
    assert_eq!(
        room.world.told("dan"),
        [format!("active-audio-0 has {ann}, minor"), format!("active-audio-1 has {bob}, major")]
    );
    room.hear("access-1", &[(0, 210), (1, 290)]);
    room.hear("access-1", &[]);
    assert!(room.world.told("dan").is_empty(), "nothing has changed");
}

#[test]
fn what_a_node_tells_of_others_publications_is_not_believed() {
    let mut room = Selecting::new();
    room.hear("access-2", &[(0, 400)]);
    room.hear("access-1", &[(3, 400)]);
    assert_eq!(room.shown(), ["-", "-", "-"]);
    room.world.put(Input::Speakers {
        node: node("access-1").worker,
        heard: vec![(
            TrackId::new("never-heard-of").unwrap(),
            Loudness { immediate: 400, medium: 400, long: 400 },
        )],
    });
    assert_eq!(room.shown(), ["-", "-", "-"]);
}

#[test]
fn a_publisher_that_leaves_frees_its_slot_at_once_for_the_next_loudest() {
    let mut room = Selecting::new();
    room.hear("access-1", &[(0, 400), (1, 300), (2, 200)]);
    room.hear("access-2", &[(3, 150)]);
    assert_eq!(room.shown(), ["ann", "bob", "cat"]);
    room.world.forget();
    room.world.run(Command::Leave { participant: participant("bob") }).unwrap();
    assert_eq!(room.shown(), ["ann", "dan", "cat"]);
    assert_eq!(owners(room.told_nodes().last().unwrap()), ["ann", "dan", "cat"]);
    let told = room.world.told("ann");
    assert!(told.iter().any(|text| text.starts_with("active-audio-1 has ")), "{told:?}");
    room.world.run(Command::Leave { participant: participant("dan") }).unwrap();
    assert_eq!(room.shown(), ["ann", "-", "cat"]);
    let told = room.told_nodes();
    assert_eq!(
        (owners(told.last().unwrap()), &told.last().unwrap().slots[1].source),
        (vec!["ann", "", "cat"], &None)
    );
}

#[test]
fn who_is_muted_takes_no_slot() {
    let mut room = Selecting::new();
    let stream = room.published[0].stream.clone();
    let audio = Kinds { audio: true, video: false };
    let pause = StreamOperation::Status { kinds: audio, active: false, repeat: false };
    room.world.run(Command::UpdateStream { stream, operations: vec![pause] }).unwrap();
    room.hear("access-1", &[(0, 400), (1, 300)]);
    assert_eq!(room.shown(), ["bob", "-", "-"]);
}

#[test]
fn a_publication_in_another_format_takes_no_slot() {
    let mut world = World::new(json!({"selectActiveAudio": true}));
    world.presenters(&["ann"]);
    let published = world.announce("ann", &AUDIO).unwrap();
    world.establish_publication_as(&published, &[(Kind::Audio, codec("pcmu"))]);
    let mut room = Selecting { world, published: vec![published] };
    room.hear("access-1", &[(0, 400)]);
    assert_eq!(room.shown(), ["-", "-", "-"]);
}

#[test]
fn what_is_encrypted_end_to_end_takes_no_slot() {
    let mut room = Selecting::new();
    let stream = room.published[0].stream.clone();
    let publication = room.world.room.state.publications.get_mut(&stream).unwrap();
    publication.attributes = Some(json!({"e2ee": "sframe"}).to_string());
    room.hear("access-1", &[(0, 400), (1, 300)]);
    assert_eq!(room.shown(), ["bob", "-", "-"]);
}

#[test]
fn a_slot_is_subscribed_like_a_stream_of_sound_before_anybody_speaks() {
    let mut room = Selecting::new();
    let world = &mut room.world;
    let subscription = world.subscribe("ann", "active-audio-1", &AUDIO).unwrap();
    let opened = world.made().into_iter().find_map(|call| match call {
        CallRequest::OpenSubscription(open) => Some(open),
        _ => None,
    });
    let open = opened.unwrap();
    let [track] = &open.tracks[..] else { panic!("{:?}", open.tracks) };
    assert_eq!((track.selected.as_ref().unwrap().slot, &track.source), (1, &None));
    let formats: Vec<_> = track.formats.iter().map(|format| format.codec.as_str()).collect();
    assert_eq!(formats, ["opus"]);
    assert_eq!(open.selection.unwrap().slots.len(), 3);
    world.establish_subscription(&subscription);
    assert_eq!(world.told("ann"), [format!("ready {subscription}")]);
    room.hear("access-1", &[(1, 300)]);
    let changed = room.world.made().into_iter().any(|call| matches!(call, CallRequest::SetSource(_)));
    assert!(!changed, "nobody is told of each subscription");
}

#[test]
fn a_slot_is_had_in_its_own_format_alone_and_has_no_picture() {
    let mut room = Selecting::new();
    let refused = room.world.subscribe("ann", "active-audio-0", &[Kind::Video]).unwrap_err();
    assert_eq!(refused, Refusal::NoSuchSource(Kind::Video));
    let Command::Subscribe(mut subscribe) = World::subscribe_command("ann", "active-audio-0", &AUDIO) else {
        unreachable!()
    };
    subscribe.tracks[0].wish.format = Some(codec("pcmu"));
    let refused = room.world.run(Command::Subscribe(subscribe)).unwrap_err();
    assert_eq!(refused.to_string(), "Target audio stream does NOT satisfy:Format is not acceptable");
    assert_eq!(
        room.world.subscribe("ann", "active-audio-3", &AUDIO).unwrap_err(),
        Refusal::NoSuchSource(Kind::Audio)
    );
}

#[test]
fn nobody_ends_pauses_or_mixes_a_selecting_stream() {
    let mut room = Selecting::new();
    let stream = super::world::stream("active-audio-0");
    let ann: ParticipantId = participant("ann");
    let mix = || vec![StreamOperation::Mix("common".into())];
    let kinds = Kinds { audio: true, video: false };
    let pause = || vec![StreamOperation::Status { kinds, active: false, repeat: false }];
    let commands = [
        Command::Unpublish { participant: ann.clone(), stream: stream.clone() },
        Command::DeleteStream { stream: stream.clone() },
        Command::UpdateStream { stream: stream.clone(), operations: mix() },
        Command::UpdateStream { stream: stream.clone(), operations: pause() },
        Command::ControlStream { participant: ann.clone(), stream: stream.clone(), operations: pause() },
        Command::ControlStream { participant: ann, stream, operations: mix() },
    ];
    for command in commands {
        let what = format!("{command:?}");
        assert_eq!(room.world.run(command).unwrap_err().to_string(), "Stream is Selecting", "{what}");
    }
}

#[test]
fn selecting_streams_are_no_inputs_and_keep_no_room_alive() {
    let mut world = World::new(json!({"selectActiveAudio": true, "inputLimit": 1}));
    world.presenters(&["ann"]);
    world.publish("ann", &AUDIO);
    assert_eq!(world.announce("ann", &AUDIO).unwrap_err(), Refusal::TooManyInputs);
    world.run(Command::Leave { participant: participant("ann") }).unwrap();
    world.pass(Duration::from_secs(31));
    assert!(world.ended);
}

#[test]
fn when_an_access_node_dies_its_speakers_are_gone_and_others_are_heard() {
    let mut room = Selecting::new();
    room.hear("access-1", &[(0, 400), (1, 300), (2, 200)]);
    room.hear("access-2", &[(3, 150)]);
    room.world.forget();
    room.world.put(Input::NodeLost(node("access-1").worker));
    room.world.answer_all();
    assert_eq!(room.shown(), ["dan", "-", "-"]);
    let told = room.told_nodes();
    assert_eq!(told.iter().map(owners).collect::<Vec<_>>(), [["dan", "", ""]], "only who lives is told");
    // They come back elsewhere, and are heard.
    room.world.access = Some("access-3");
    room.published[0] = room.world.publish("ann", &AUDIO);
    room.hear("access-3", &[(0, 400)]);
    assert_eq!(room.shown(), ["dan", "ann", "-"]);
}

#[test]
fn a_node_that_does_not_answer_is_told_again() {
    let mut room = Selecting::new();
    let heard = vec![(room.track(0), Loudness { immediate: 300, medium: 300, long: 300 })];
    room.world.put(Input::Speakers { node: node("access-1").worker, heard });
    let selecting = |call: &CallRequest| matches!(call, CallRequest::SelectAudio(_));
    room.world.fail(selecting, &CallError::Unavailable("busy".into()));
    room.told_nodes();
    room.world.pass(Duration::from_millis(1100));
    let told = room.told_nodes();
    assert_eq!(told.iter().map(owners).collect::<Vec<_>>(), [["ann", "", ""], ["ann", "", ""]]);
    room.world.pass(Duration::from_secs(5));
    assert!(room.told_nodes().is_empty(), "they know");
}

#[test]
fn a_busy_node_has_one_call_at_a_time_and_the_last_word() {
    let mut room = Selecting::new();
    for at in 0..3 {
        let heard = vec![(room.track(at), Loudness { immediate: 300, medium: 300, long: 300 })];
        room.world.put(Input::Speakers { node: node("access-1").worker, heard });
    }
    let waiting =
        room.world.calls.iter().filter(|(_, _, c)| matches!(c, CallRequest::SelectAudio(_))).count();
    assert_eq!(waiting, 2, "one for each node");
    room.world.answer_all();
    let told = room.told_nodes();
    assert_eq!(told.len(), 4);
    assert!(told[2..].iter().all(|selection| owners(selection) == ["ann", "bob", "cat"]));
}

#[test]
fn a_transport_that_fails_frees_the_slot() {
    let mut room = Selecting::new();
    room.hear("access-1", &[(0, 400), (1, 300)]);
    let transport = room.published[0].transport.clone();
    room.world.access_event(&transport, AccessChange::Failed { reason: "connection lost".into() });
    assert_eq!(room.shown(), ["-", "bob", "-"]);
}
