//! Forward streams.

use kaigi_proto::{
    ids::{SessionId, TrackId, TransportId},
    v1::{join_event::Event, signal_transport_request::Signal, stream_event::Change},
};
use kaigi_room_config::Resolution;
use serde_json::json;

use super::world::{Published, World, opus, participant, stream};
use crate::room::{
    AccessChange, CallRequest, Command, Format, Input, Kind, Negotiated, Publish, Refusal, Reply,
};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];

fn on_transport(command: Command, transport: &str) -> Command {
    match command {
        Command::Publish(publish) => {
            Command::Publish(Publish { transport: Some(TransportId::new(transport).unwrap()), ..publish })
        }
        other => other,
    }
}

fn unpublish(name: &str, published: &Published) -> Command {
    Command::Unpublish { participant: participant(name), stream: published.stream.clone() }
}

#[test]
fn the_first_transport_has_the_id_of_the_first_session() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let first = world.announce("ann", &BOTH).unwrap();
    assert_eq!(first.stream.as_str(), first.transport.as_str());
    assert_eq!(first.stream.as_str().len(), 32);
    let second = on_transport(World::publish_command("ann", &[Kind::Audio], 2), first.transport.as_str());
    let Ok(Reply::Session { session, transport, .. }) = world.run(second) else { panic!() };
    assert_eq!(transport, first.transport);
    assert_ne!(session.as_str(), transport.as_str());
}

#[test]
fn the_ack_comes_when_the_access_node_has_accepted() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let request = world.ask(World::publish_command("ann", &BOTH, 0));
    assert!(!world.replies.contains_key(&request));
    world.answer_all();
    assert!(world.replies[&request].is_ok());
    let opened = world.made().into_iter().find_map(|call| match call {
        CallRequest::OpenPublication(open) => Some(open),
        _ => None,
    });
    let opened = opened.unwrap();
    assert_eq!((opened.epoch, opened.agent_id.as_str()), (7, "agent-1"));
    assert_eq!(opened.tracks[1].track_id, format!("{}-1", opened.transport_id));
    let accepted: Vec<_> = opened.tracks[1].accepted_formats.iter().map(|f| f.codec.as_str()).collect();
    assert_eq!(accepted, ["h264", "vp8", "vp9"]);
}

#[test]
fn everybody_learns_of_the_stream_before_its_publisher_is_ready() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.announce("ann", &BOTH).unwrap();
    world.access_event(&published.transport, AccessChange::Answer("sdp".into()));
    world.access_event(&published.transport, AccessChange::Ready);
    world.access_event(&published.transport, AccessChange::Ready);
    world.establish(&published, &BOTH);
    world.establish(&published, &BOTH);
    let id = published.stream.as_str();
    assert_eq!(
        world.told("ann"),
        ["answer sdp".to_owned(), "transport-ready".to_owned(), format!("add {id}"), format!("ready {id}")]
    );
    assert_eq!(world.told("bob"), [format!("add {id}")]);
    let listed = world.streams().pop().unwrap();
    assert_eq!((listed.id.as_str(), listed.owner.as_str(), listed.info_type.as_str()), (id, "ann", "webrtc"));
    assert_eq!(listed.tracks[0].id, format!("{id}-0"));
    assert_eq!((listed.tracks[0].source.as_str(), listed.tracks[1].source.as_str()), ("mic", "camera"));
    assert!(listed.tracks.iter().all(|track| track.active));
    assert!(listed.tracks[1].parameters.is_none());
    assert_eq!(listed.tracks[1].optional_parameters.as_ref().unwrap().framerates, [6, 12, 15, 24]);
}

#[test]
fn what_is_established_before_the_ack_is_told_after_it() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let request = world.ask(World::publish_command("ann", &[Kind::Audio], 0));
    let (call, callee, schedule) = world.calls.pop_back().unwrap();
    let answer = world.good_answer(&callee, &schedule);
    world.put(Input::CallDone { call, result: answer });
    let id = world.room.state.publications.keys().next().unwrap().clone();
    let published = Published { transport: TransportId::new(id.as_str()).unwrap(), stream: id };
    let open = world.calls.pop_back().unwrap();
    world.establish(&published, &[Kind::Audio]);
    assert!(world.told("ann").is_empty() && !world.replies.contains_key(&request));
    world.calls.push_back(open);
    world.answer_all();
    assert!(world.replies[&request].is_ok());
    assert_eq!(
        world.told("ann"),
        [format!("add {}", published.stream), format!("ready {}", published.stream)]
    );
}

#[test]
fn a_role_publishes_only_what_it_may() {
    let mut world = World::new(json!({}));
    world.join("ann", "audio_only_presenter").unwrap();
    assert_eq!(world.announce("ann", &BOTH).unwrap_err(), Refusal::Unauthorized);
    assert!(world.announce("ann", &[Kind::Audio]).is_ok());
    assert_eq!(world.announce("bob", &[Kind::Audio]).unwrap_err(), Refusal::NotJoined);
}

#[test]
fn connecting_streams_count_as_inputs() {
    let mut world = World::new(json!({"inputLimit": 1}));
    world.presenters(&["ann", "bob"]);
    let first = world.announce("ann", &[Kind::Audio]).unwrap();
    assert_eq!(world.announce("bob", &[Kind::Audio]).unwrap_err().to_string(), "Too many inputs");
    world.run(unpublish("ann", &first)).unwrap();
    assert!(world.announce("bob", &[Kind::Audio]).is_ok());
}

#[test]
fn a_transport_is_its_owners_alone() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.announce("ann", &[Kind::Audio]).unwrap();
    let id = published.transport.as_str();
    let stolen = world.run(on_transport(World::publish_command("bob", &[Kind::Audio], 5), id)).unwrap_err();
    assert_eq!(stolen.to_string(), format!("Transport {id} does NOT exist"));
    let signal = |name: &str| Command::Signal {
        participant: participant(name),
        transport: published.transport.clone(),
        signal: Signal::Offer("sdp".into()),
    };
    assert_eq!(world.run(signal("bob")), Err(Refusal::UnknownTransport(id.into())));
    assert_eq!(world.run(signal("ann")), Ok(Reply::Done));
}

#[test]
fn two_sessions_of_a_transport_have_different_mids() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let first = world.announce("ann", &[Kind::Audio]).unwrap();
    let again = || World::publish_command("ann", &[Kind::Audio], 0);
    let id = first.transport.as_str();
    assert_eq!(world.run(on_transport(again(), id)), Err(Refusal::MidInUse("0".into())));
    world.run(unpublish("ann", &first)).unwrap();
    assert!(world.run(on_transport(again(), id)).is_ok());
}

#[test]
fn an_offer_of_a_refused_publish_still_reaches_the_access_node() {
    let mut world = World::new(json!({"inputLimit": 1}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &[Kind::Audio]);
    assert!(world.announce("ann", &[Kind::Audio]).is_err());
    world.forget();
    let signal = Command::Signal {
        participant: participant("ann"),
        transport: published.transport.clone(),
        signal: Signal::Offer("sdp".into()),
    };
    assert_eq!(world.run(signal), Ok(Reply::Done));
    assert!(matches!(world.made().as_slice(), [CallRequest::Signal(_)]));
}

fn negotiated(published: &Published, mid: &str, kind: Kind, format: Format) -> AccessChange {
    let track = TrackId::new(format!("{}-{mid}", published.transport)).unwrap();
    let tracks = vec![Negotiated { track: Some(track), mid: mid.into(), kind, format }];
    AccessChange::Established { session: SessionId::new(published.stream.as_str()).unwrap(), tracks }
}

#[test]
fn a_stream_without_acceptable_tracks_is_an_error_and_no_stream() {
    let mut world = World::new(
        json!({"mediaIn": {"audio": [{"codec": "opus", "sampleRate": 48000, "channelNum": 2}], "video": []}}),
    );
    world.presenters(&["ann"]);
    let published = world.announce("ann", &[Kind::Audio]).unwrap();
    let pcmu = Format { codec: "pcmu".into(), ..Format::default() };
    world.access_event(&published.transport, negotiated(&published, "0", Kind::Audio, pcmu));
    assert_eq!(world.told("ann"), [format!("error {} Audio format unacceptable", published.stream)]);

    let published = world.announce("ann", &[Kind::Audio]).unwrap();
    world.access_event(&published.transport, negotiated(&published, "9", Kind::Audio, opus()));
    assert_eq!(world.told("ann"), [format!("error {} No valid tracks in stream", published.stream)]);
    assert_eq!(world.streams().len(), 1);
}

#[test]
fn a_failed_session_is_told_to_its_publisher() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.announce("ann", &[Kind::Audio]).unwrap();
    let session = SessionId::new(published.stream.as_str()).unwrap();
    let change = AccessChange::SessionFailed { session, reason: "No valid tracks in stream".into() };
    world.access_event(&published.transport, change);
    assert_eq!(world.told("ann"), [format!("error {} No valid tracks in stream", published.stream)]);
    assert!(world.told("bob").is_empty(), "the stream was never there");
}

#[test]
fn a_new_picture_size_is_told_once_with_its_options() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    world.forget();
    let size = AccessChange::Resolution {
        track: TrackId::new(format!("{}-1", published.transport)).unwrap(),
        resolution: Resolution { width: 320, height: 240 },
        layers: Vec::new(),
        temporal: 0,
    };
    world.access_event(&published.transport, size.clone());
    world.access_event(&published.transport, size);
    let events = world.events("ann");
    let [Event::Stream(event)] = events.as_slice() else { panic!("{events:?}") };
    let Some(Change::Replaced(replaced)) = &event.change else { panic!("{event:?}") };
    let track = &replaced.tracks[1];
    assert_eq!(track.parameters.as_ref().unwrap().resolution.unwrap().width, 320);
    let widths: Vec<_> =
        track.optional_parameters.as_ref().unwrap().resolutions.iter().map(|r| r.width).collect();
    assert_eq!(widths, [240, 212, 160, 106, 80]);
}

#[test]
fn an_unpublished_stream_is_removed_without_an_error() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    world.forget();
    assert_eq!(world.run(unpublish("bob", &published)), Err(Refusal::Unauthorized));
    world.run(unpublish("ann", &published)).unwrap();
    assert_eq!(world.told("ann"), [format!("remove {}", published.stream)]);
    assert!(world.made().iter().any(|call| matches!(call, CallRequest::CloseSession(_))));
    assert_eq!(world.run(unpublish("ann", &published)), Err(Refusal::UnknownStream));
}

#[test]
fn a_publisher_is_told_when_the_management_deletes_its_stream() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let published = world.publish("ann", &BOTH);
    world.forget();
    world.run(Command::DeleteStream { stream: published.stream.clone() }).unwrap();
    let id = published.stream;
    assert_eq!(world.told("ann"), [format!("error {id} Stream deleted"), format!("remove {id}")]);
    assert_eq!(world.run(Command::DeleteStream { stream: id }), Err(Refusal::UnknownStream));
    assert_eq!(
        world.run(Command::DeleteStream { stream: stream(super::world::MIXED) }),
        Err(Refusal::StreamIsMixed)
    );
}

#[test]
fn a_session_that_its_requester_never_learned_of_is_ended() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.announce("ann", &BOTH).unwrap();
    let session = SessionId::new(published.stream.as_str()).unwrap();
    world.put(Input::Abandoned { participant: participant("bob"), session: session.clone() });
    assert_eq!(world.room.counts().1, 1, "it is not bob's");
    world.put(Input::Abandoned { participant: participant("ann"), session });
    assert_eq!(world.room.counts().1, 0);
}
