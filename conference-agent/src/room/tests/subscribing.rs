//! Subscriptions of forward and of mixed streams.

use kaigi_proto::{ids::SubscriptionId, v1};
use serde_json::json;

use super::world::{MIXED, World, participant};
use crate::room::{CallRequest, Command, Input, Kind, Refusal};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];

fn opened(world: &mut World) -> v1::OpenSubscriptionRequest {
    let calls = world.made().into_iter().rev();
    let mut opened = calls.filter_map(|call| match call {
        CallRequest::OpenSubscription(open) => Some(open),
        _ => None,
    });
    opened.next().expect("nothing was opened")
}

fn sources(open: &v1::OpenSubscriptionRequest) -> Vec<(&str, &str)> {
    let sources = open.tracks.iter().filter_map(|track| track.source.as_ref());
    sources.map(|source| (source.track_id.as_str(), source.worker_id.as_str())).collect()
}

fn unsubscribe(name: &str, subscription: &SubscriptionId) -> Command {
    Command::Unsubscribe { participant: participant(name), subscription: subscription.clone() }
}

#[test]
fn a_forward_stream_comes_from_its_publishers_node() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    world.access = Some("access-2");
    let subscription = world.subscribe("bob", published.stream.as_str(), &BOTH).unwrap();
    let open = opened(&mut world);
    let (audio, video) = (format!("{}-0", published.transport), format!("{}-1", published.transport));
    assert_eq!(sources(&open), [(audio.as_str(), "access-1"), (video.as_str(), "access-1")]);
    assert_eq!(open.transport_id, subscription.as_str(), "a first transport has its session's id");
    world.forget();
    world.establish_subscription(&subscription);
    world.establish_subscription(&subscription);
    assert_eq!(world.told("bob"), [format!("ready {subscription}")]);
    assert!(world.told("ann").is_empty());
}

#[test]
fn a_track_can_be_named_by_its_own_id() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    let video = format!("{}-1", published.transport);
    assert!(world.subscribe("bob", &video, &[Kind::Video]).is_ok());
    let refused = world.subscribe("bob", &video, &[Kind::Audio]).unwrap_err();
    assert_eq!(refused.to_string(), "Target audio stream does NOT satisfy:Requested audio stream");
}

#[test]
fn what_the_stream_does_not_have_is_refused() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &[Kind::Audio]);
    let refused = world.subscribe("bob", published.stream.as_str(), &BOTH).unwrap_err();
    assert_eq!(refused.to_string(), "Target video stream does NOT satisfy:Requested video stream");
    let connecting = world.announce("ann", &BOTH).unwrap();
    assert!(world.subscribe("bob", connecting.stream.as_str(), &[Kind::Audio]).is_err());
    world.join("cat", "video_only_viewer").unwrap();
    assert_eq!(world.subscribe("cat", published.stream.as_str(), &[Kind::Audio]), Err(Refusal::Unauthorized));
}

#[test]
fn who_may_speak_hears_the_mix_without_itself() {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann"]);
    world.join("bob", "viewer").unwrap();
    world.publish("ann", &BOTH);
    world.subscribe("bob", MIXED, &BOTH).unwrap();
    assert_eq!(
        sources(&opened(&mut world)),
        [("mixer-1-common-audio", "mixer-1"), ("mixer-1-common-video", "mixer-1")]
    );
    let subscription = world.subscribe("ann", MIXED, &BOTH).unwrap();
    assert_eq!(
        sources(&opened(&mut world)),
        [("mixer-1-common-minus-ann", "mixer-1"), ("mixer-1-common-video", "mixer-1")]
    );
    world.forget();
    world.run(unsubscribe("ann", &subscription)).unwrap();
    assert!(world.view().minus_participants.is_empty(), "nobody needs a mix of its own any more");
}

#[test]
fn a_stream_that_goes_away_is_told_first_to_its_subscribers() {
    let mut world = World::new(json!({"autoMix": true}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    let subscription = world.subscribe("bob", published.stream.as_str(), &BOTH).unwrap();
    world.establish_subscription(&subscription);
    world.forget();
    world
        .run(Command::Unpublish { participant: participant("ann"), stream: published.stream.clone() })
        .unwrap();
    let id = published.stream.as_str();
    assert_eq!(
        world.told("bob"),
        [
            format!("error {subscription} Source stream loss"),
            format!("layout {MIXED} []"),
            format!("remove {id}"),
        ]
    );
    let closed: Vec<_> = world
        .made()
        .into_iter()
        .filter_map(|call| match call {
            CallRequest::CloseSession(close) => Some(close.session_id),
            _ => None,
        })
        .collect();
    assert_eq!(closed, [id, subscription.as_str()]);
}

#[test]
fn a_subscription_whose_source_goes_before_it_is_opened_is_refused() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &[Kind::Audio]);
    let request = world.ask(World::subscribe_command("bob", published.stream.as_str(), &[Kind::Audio]));
    world.put(Input::Gone(participant("ann")));
    let refused = world.replies[&request].clone().unwrap_err();
    assert_eq!(refused.to_string(), "Target audio stream early released");
    world.answer_all();
    assert_eq!(world.room.counts(), (1, 0, 0));
    assert!(world.room.state.transports.is_empty());
}

#[test]
fn an_unwanted_subscription_ends_silently() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    let subscription = world.subscribe("bob", published.stream.as_str(), &BOTH).unwrap();
    world.forget();
    assert_eq!(world.run(unsubscribe("ann", &subscription)), Err(Refusal::Unauthorized));
    world.run(unsubscribe("bob", &subscription)).unwrap();
    assert!(world.told("bob").is_empty());
    assert_eq!(world.run(unsubscribe("bob", &subscription)), Err(Refusal::UnknownSubscription));
}

#[test]
fn the_mixed_stream_is_waited_for_while_it_is_being_made() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let request = world.ask(World::subscribe_command("ann", MIXED, &BOTH));
    assert!(!world.replies.contains_key(&request), "its own mix has to be made first");
    world.answer_all();
    assert!(world.replies[&request].is_ok());
}

#[test]
fn without_a_mixer_the_mixed_stream_is_unavailable_and_the_room_goes_on() {
    let mut world = World::new(json!({}));
    world.mixer = None;
    world.presenters(&["ann"]);
    assert_eq!(world.streams()[0].id, MIXED);
    assert_eq!(world.subscribe("ann", MIXED, &BOTH), Err(Refusal::MixerUnavailable));
    world.mixer = Some("mixer-1");
    world.pass(std::time::Duration::from_secs(6));
    assert!(world.subscribe("ann", MIXED, &BOTH).is_ok());
}

#[test]
fn a_transport_made_for_one_session_alone_ends_with_it() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    let mut command = World::subscribe_command("bob", published.stream.as_str(), &BOTH);
    if let Command::Subscribe(subscribe) = &mut command {
        subscribe.own_transport = true;
    }
    let crate::room::Reply::Session { session, .. } = world.run(command).unwrap() else { panic!() };
    let shared = world.subscribe("bob", published.stream.as_str(), &BOTH).unwrap();
    world.forget();
    world.run(unsubscribe("bob", &SubscriptionId::new(session.as_str()).unwrap())).unwrap();
    world.run(unsubscribe("bob", &shared)).unwrap();
    let made = world.made();
    let closed: Vec<_> = made.iter().filter(|call| matches!(call, CallRequest::CloseTransport(_))).collect();
    assert!(
        matches!(closed.as_slice(), [CallRequest::CloseTransport(close)] if close.transport_id == session.as_str()),
        "{closed:?}"
    );
}

#[test]
fn a_layer_that_the_stream_lacks_is_refused() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    let with_rid = |rid: Option<&str>| {
        let mut command = World::subscribe_command("bob", published.stream.as_str(), &[Kind::Video]);
        if let Command::Subscribe(subscribe) = &mut command {
            subscribe.tracks[0].rid = rid.map(str::to_owned);
        }
        command
    };
    assert_eq!(world.run(with_rid(Some("q"))), Err(Refusal::NoSuchSource(Kind::Video)));
    assert!(world.run(with_rid(None)).is_ok());
}
