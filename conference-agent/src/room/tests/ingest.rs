//! Streams that are pulled from elsewhere.

use std::time::Duration;

use kaigi_proto::{
    ids::{StreamId, TrackId},
    v1,
};
use kaigi_room_config::Resolution;
use serde_json::json;

use super::world::{World, h264, node, opus};
use crate::room::{
    CallRequest, Command, Condition, EgressEvent, Happening, IngestSource, IngestWish, Input, Kind, Kinds,
    Listen, PulledTrack, Refusal, Reply, RequestId, StartIngest, StreamOperation,
};

fn camera() -> StartIngest {
    StartIngest {
        from: IngestSource {
            url: "rtsp://user:secret@camera.example/stream/main".into(),
            listen: None,
            udp: false,
            buffer: 0,
            audio: IngestWish::IfThere,
            video: IngestWish::Needed,
        },
        attributes: Some(r#"{"place":"door"}"#.into()),
    }
}

/// Asks for a camera; the node has taken it, and has not said more.
fn ask(world: &mut World) -> (RequestId, StreamId) {
    let request = world.ask(Command::StartIngest(camera()));
    world.answer_all();
    let id = described(world).id;
    (request, StreamId::new(id).unwrap())
}

/// The last description of an input.
fn described(world: &mut World) -> v1::InputDescription {
    let last = world.made().into_iter().rev().find_map(|call| match call {
        CallRequest::SetInput(input) => Some(*input),
        _ => None,
    });
    last.expect("no input is described")
}

fn tracks(id: &StreamId, width: u32) -> Vec<PulledTrack> {
    let track = |kind, what, format| PulledTrack {
        id: TrackId::new(format!("in-{id}-{what}")).unwrap(),
        kind,
        format,
        resolution: (kind == Kind::Video).then_some(Resolution { width, height: 360 }),
    };
    vec![track(Kind::Audio, "audio", opus()), track(Kind::Video, "video", h264("M"))]
}

fn told(world: &mut World, at: &str, id: &StreamId, condition: Condition, tracks: Vec<PulledTrack>) {
    let event = EgressEvent { egress: id.to_string(), condition, tracks };
    world.put(Input::Streaming { node: node(at).worker, event });
    world.answer_all();
}

/// A camera that flows.
fn pulled(world: &mut World) -> (v1::Stream, StreamId) {
    let (request, id) = ask(world);
    told(world, "streaming-1", &id, Condition::Active, tracks(&id, 640));
    match world.replies.remove(&request) {
        Some(Ok(Reply::Stream(stream))) => (*stream, id),
        other => panic!("{other:?}"),
    }
}

fn listed(world: &mut World) -> Vec<v1::Ingest> {
    match world.run(Command::ListIngests) {
        Ok(Reply::Ingests(ingests)) => ingests,
        other => panic!("{other:?}"),
    }
}

/// At which worker those who subscribe find tracks, by the last call.
fn found_at(world: &mut World) -> Option<String> {
    world.made().into_iter().rev().find_map(|call| match call {
        CallRequest::SetSource(set) => set.source.map(|source| source.worker_id),
        CallRequest::OpenSubscription(open) => open.tracks[0].source.as_ref().map(|s| s.worker_id.clone()),
        _ => None,
    })
}

#[test]
fn a_request_is_answered_with_the_stream_when_it_flows() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let (request, id) = ask(&mut world);
    assert!(id.as_str().bytes().all(|digit| digit.is_ascii_digit()), "{id}");
    assert!(!world.replies.contains_key(&request) && world.streams().len() == 1);
    assert_eq!(listed(&mut world)[0].state(), v1::OutputState::Starting);
    told(&mut world, "streaming-1", &id, Condition::Active, tracks(&id, 640));
    let Some(Ok(Reply::Stream(stream))) = world.replies.remove(&request) else { panic!("not answered") };
    assert_eq!((stream.info_type.as_str(), stream.owner.as_str()), ("streaming", "admin"));
    assert_eq!((stream.id.as_str(), stream.attributes.as_str()), (id.as_str(), r#"{"place":"door"}"#));
    let formats: Vec<_> = stream.tracks.iter().map(|t| t.format.as_ref().unwrap().codec.as_str()).collect();
    assert_eq!(formats, ["opus", "h264"]);
    assert!(stream.tracks.iter().all(|track| track.id.is_empty() && track.mid.is_empty() && track.active));
    assert_eq!(stream.tracks[1].parameters.unwrap().resolution.unwrap().width, 640);
    assert_eq!(world.told("ann"), [format!("add {id}")]);
    assert_eq!(listed(&mut world)[0].state(), v1::OutputState::Active);
}

#[test]
fn credentials_go_to_the_node_alone() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    pulled(&mut world);
    assert!(described(&mut world).url.contains("secret"));
    assert_eq!(listed(&mut world)[0].url, "rtsp://camera.example/stream/…");
}

#[test]
fn it_is_subscribed_and_mixed_as_any_other() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let (_, id) = pulled(&mut world);
    world.forget();
    world.subscribe("ann", id.as_str(), &[Kind::Audio, Kind::Video]).unwrap();
    assert_eq!(found_at(&mut world).as_deref(), Some("streaming-1"));
    let mix = vec![StreamOperation::Mix("common".into())];
    world.run(Command::UpdateStream { stream: id.clone(), operations: mix }).unwrap();
    world.answer_all();
    let view = world.view();
    let input = &view.inputs[0];
    assert_eq!((input.stream_id.as_str(), input.owner.as_str()), (id.as_str(), "admin"));
    assert_eq!(input.video.as_ref().unwrap().worker_id, "streaming-1");
}

#[test]
fn it_is_muted_by_its_description() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let (_, id) = pulled(&mut world);
    world.forget();
    let kinds = Kinds { audio: true, video: false };
    let mute = |active| Command::UpdateStream {
        stream: id.clone(),
        operations: vec![StreamOperation::Status { kinds, active, repeat: false }],
    };
    let Ok(Reply::Stream(stream)) = world.run(mute(false)) else { panic!("refused") };
    assert!(!stream.tracks[0].active && stream.tracks[1].active);
    world.answer_all();
    let description = described(&mut world);
    assert!(description.audio_paused && !description.video_paused);
    assert_eq!(description.tracks.len(), 2, "it is to stay what it was");
    world.forget();
    world.run(mute(true)).unwrap();
    world.answer_all();
    assert!(!described(&mut world).audio_paused);
}

#[test]
fn what_can_not_be_had_is_refused_and_forgotten() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let (request, id) = ask(&mut world);
    world.forget();
    told(&mut world, "streaming-1", &id, Condition::Failed("no such camera".into()), Vec::new());
    let refusal = world.replies.remove(&request).unwrap().unwrap_err();
    assert_eq!(refusal, Refusal::NodeRefused("no such camera".into()));
    assert_eq!(listed(&mut world), []);
    assert!(world.made().iter().any(|call| matches!(call, CallRequest::RemoveInput(_))));
    world.refusing = true;
    let request = world.ask(Command::StartIngest(camera()));
    world.answer_all();
    assert!(matches!(world.replies.remove(&request), Some(Err(Refusal::NodeRefused(_)))));
    assert_eq!(listed(&mut world), []);
}

#[test]
fn trouble_is_listed_and_the_stream_stays() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let (_, id) = pulled(&mut world);
    told(&mut world, "streaming-1", &id, Condition::Trouble("gone".into()), tracks(&id, 640));
    let ingest = &listed(&mut world)[0];
    assert_eq!((ingest.state(), ingest.reason.as_str()), (v1::OutputState::Trouble, "gone"));
    assert_eq!(world.streams().len(), 2);
    world.forget();
    told(&mut world, "streaming-1", &id, Condition::Active, tracks(&id, 1280));
    assert_eq!(world.told("ann"), [format!("replaced {id}")], "of another size");
}

#[test]
fn when_its_node_dies_another_goes_on() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let (_, id) = pulled(&mut world);
    let subscription = world.subscribe("ann", id.as_str(), &[Kind::Video]).unwrap();
    world.establish_as(&subscription, &[h264("M")]);
    world.forget();
    world.streaming = Some("streaming-2");
    world.put(Input::NodeLost(node("streaming-1").worker));
    world.answer_all();
    assert_eq!(world.streams().len(), 2, "the stream is gone");
    let description = described(&mut world);
    assert_eq!(description.tracks.len(), 2);
    assert_eq!(found_at(&mut world), None);
    told(&mut world, "streaming-2", &id, Condition::Trouble("taken over".into()), tracks(&id, 640));
    assert_eq!(found_at(&mut world).as_deref(), Some("streaming-2"));
}

#[test]
fn it_ends_by_order_and_with_the_room() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let (_, id) = pulled(&mut world);
    world.forget();
    assert_eq!(world.run(Command::DeleteStream { stream: id.clone() }), Ok(Reply::Done));
    world.answer_all();
    assert_eq!(world.told("ann"), [format!("remove {id}")]);
    assert!(
        world.made().iter().any(|call| matches!(call, CallRequest::RemoveInput(r) if r.id == id.as_str()))
    );
    assert_eq!(listed(&mut world), []);
    pulled(&mut world);
    world.forget();
    world.run(Command::Destroy { reason: "over".into() }).unwrap();
    assert!(world.made().iter().any(|call| matches!(call, CallRequest::RemoveInput(_))));
}

#[test]
fn it_counts_as_an_input_from_the_request_on() {
    let mut world = World::new(json!({"inputLimit": 1}));
    world.presenters(&["ann"]);
    let (_, id) = ask(&mut world);
    assert_eq!(world.run(World::publish_command("ann", &[Kind::Audio], 0)), Err(Refusal::TooManyInputs));
    told(&mut world, "streaming-1", &id, Condition::Active, tracks(&id, 640));
    assert_eq!(world.run(Command::StartIngest(camera())), Err(Refusal::TooManyInputs));
}

#[test]
fn a_room_that_something_comes_into_does_not_end_by_itself() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let (_, id) = pulled(&mut world);
    world.run(Command::Leave { participant: super::world::participant("ann") }).unwrap();
    world.pass(Duration::from_secs(600));
    assert!(!world.ended);
    world.run(Command::DeleteStream { stream: id }).unwrap();
    world.answer_all();
    world.pass(Duration::from_secs(600));
    assert!(world.ended);
}

#[test]
fn its_service_is_told_how_it_is() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let (_, id) = pulled(&mut world);
    let states = |world: &mut World| {
        let all = std::mem::take(&mut world.happened).into_iter();
        let states = all.filter_map(|happening| match happening {
            Happening::StreamingUpdated(facts) => Some(facts.condition),
            _ => None,
        });
        states.collect::<Vec<_>>()
    };
    assert_eq!(states(&mut world), [Some(Condition::Active)]);
    told(&mut world, "streaming-1", &id, Condition::Trouble("gone".into()), tracks(&id, 640));
    told(&mut world, "streaming-1", &id, Condition::Trouble("gone".into()), tracks(&id, 640));
    assert_eq!(states(&mut world), [Some(Condition::Trouble("gone".into()))], "told twice");
    world.run(Command::DeleteStream { stream: id }).unwrap();
    assert_eq!(states(&mut world), [None]);
    let (_, id) = ask(&mut world);
    told(&mut world, "streaming-1", &id, Condition::Failed("none".into()), Vec::new());
    assert_eq!(states(&mut world), [], "what never came about is the answer of its request alone");
}

/// What an encoder is to push.
fn pushed() -> StartIngest {
    let camera = camera();
    let listen = Listen { key: "0123456789abcdef".into(), protocol: "srt".into() };
    StartIngest { from: IngestSource { url: String::new(), listen: Some(listen), ..camera.from }, ..camera }
}

/// Asks for one; a node waits for it.
fn await_push(world: &mut World) -> (v1::Ingest, StreamId) {
    let request = world.ask(Command::StartIngest(pushed()));
    world.answer_all();
    match world.replies.remove(&request) {
        Some(Ok(Reply::Ingest(ingest))) => {
            let id = StreamId::new(&ingest.id).unwrap();
            (*ingest, id)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_pushed_is_waited_for_and_comes_as_a_stream() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let (ingest, id) = await_push(&mut world);
    assert_eq!((ingest.url.as_str(), ingest.listens), ("rtmp://streaming-1/live", true));
    let description = described(&mut world);
    assert_eq!(
        (description.listen_key.as_str(), description.listen_protocol.as_str()),
        ("0123456789abcdef", "srt")
    );
    assert_eq!(world.streams().len(), 1, "nobody pushes yet");
    told(&mut world, "streaming-1", &id, Condition::Trouble("the source has ended".into()), Vec::new());
    assert_eq!(world.streams().len(), 1);
    told(&mut world, "streaming-1", &id, Condition::Active, tracks(&id, 640));
    assert_eq!(world.told("ann"), [format!("add {id}")]);
    told(&mut world, "streaming-1", &id, Condition::Trouble("it left".into()), tracks(&id, 640));
    assert_eq!(listed(&mut world)[0].reason, "it left");
    assert_eq!(world.streams().len(), 2, "it may come back");
}

#[test]
fn another_node_waits_for_it_elsewhere_with_the_same_key() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    await_push(&mut world);
    world.forget();
    world.streaming = Some("streaming-2");
    world.put(Input::NodeLost(node("streaming-1").worker));
    assert_eq!(listed(&mut world)[0].url, "", "nobody waits");
    world.answer_all();
    assert_eq!(described(&mut world).listen_key, "0123456789abcdef");
    assert_eq!(listed(&mut world)[0].url, "rtmp://streaming-2/live");
}

#[test]
fn what_never_came_can_be_ended() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let (_, id) = await_push(&mut world);
    world.forget();
    assert_eq!(world.run(Command::DeleteStream { stream: id.clone() }), Ok(Reply::Done));
    world.answer_all();
    assert!(world.made().iter().any(|call| matches!(call, CallRequest::RemoveInput(_))));
    assert_eq!(listed(&mut world), []);
    assert_eq!(world.run(Command::DeleteStream { stream: id }), Err(Refusal::UnknownStream));
    let (request, id) = ask(&mut world);
    world.run(Command::DeleteStream { stream: id }).unwrap();
    assert_eq!(world.replies.remove(&request), Some(Err(Refusal::UnknownStream)));
}
