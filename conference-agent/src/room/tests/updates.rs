//! Updates of subscriptions, and what their way carries.

use kaigi_proto::ids::SubscriptionId;
use kaigi_room_config::Resolution;
use serde_json::json;

use super::world::{MIXED, World, codec, h264, participant, vp8};
use crate::room::{
    CallError, CallRequest, Command, Kind, Refusal, Reply, SubscriptionUpdate, TrackUpdate, VideoParameters,
};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];
const QVGA: Resolution = Resolution { width: 320, height: 240 };

fn video(by: &str, subscription: &SubscriptionId, change: TrackUpdate) -> Command {
    let update = SubscriptionUpdate { video: Some(change), ..SubscriptionUpdate::default() };
    Command::UpdateSubscription { by: Some(participant(by)), subscription: subscription.clone(), update }
}

fn audio(by: &str, subscription: &SubscriptionId, from: &str) -> Command {
    let change = TrackUpdate { from: Some(from.into()), ..TrackUpdate::default() };
    let update = SubscriptionUpdate { audio: Some(change), ..SubscriptionUpdate::default() };
    Command::UpdateSubscription { by: Some(participant(by)), subscription: subscription.clone(), update }
}

fn size(resolution: Resolution) -> TrackUpdate {
    let parameters = VideoParameters { resolution: Some(resolution), ..VideoParameters::default() };
    TrackUpdate { parameters, ..TrackUpdate::default() }
}

fn times(multiplier: &str) -> TrackUpdate {
    TrackUpdate { bitrate_multiplier: Some(multiplier.into()), ..TrackUpdate::default() }
}

fn from(from: &str) -> TrackUpdate {
    TrackUpdate { from: Some(from.into()), ..TrackUpdate::default() }
}

/// Bob subscribes the mix and takes VP8.
fn mixed(world: &mut World) -> SubscriptionId {
    world.presenters(&["ann", "bob"]);
    let subscription = world.subscribe("bob", MIXED, &BOTH).unwrap();
    world.establish_as(&subscription, &[vp8()]);
    world.forget();
    subscription
}

fn track<'w>(world: &'w World, id: &SubscriptionId, kind: Kind) -> &'w crate::room::state::SubscribedTrack {
    world.room.state.subscriptions[id].tracks.iter().find(|track| track.kind == kind).unwrap()
}

fn source(world: &World, id: &SubscriptionId, kind: Kind) -> String {
    let feed = track(world, id, kind).feed.as_ref().unwrap();
    feed.sources()[0].track.to_string()
}

/// Answers the calls that wait now, as good nodes do, but not those that follow from them.
fn answer_once(world: &mut World) {
    for (call, callee, request) in std::mem::take(&mut world.calls) {
        let result = world.good_answer(&callee, &request);
        world.put(crate::room::Input::CallDone { call, result });
    }
}

#[test]
fn another_size_is_made_and_then_taken() {
    let mut world = World::new(json!({}));
    let id = mixed(&mut world);
    let request = world.ask(video("bob", &id, size(QVGA)));
    assert_eq!(source(&world, &id, Kind::Video), "mixer-1-common-video", "flows until the other is there");
    answer_once(&mut world);
    assert!(!world.replies.contains_key(&request), "the access node has not answered");
    world.answer_all();
    assert_eq!(world.replies[&request], Ok(Reply::Done));
    assert_eq!(source(&world, &id, Kind::Video), "mixer-1-common-vp8::320x240:24:307:1:100");
    let back = world.run(video("bob", &id, size(Resolution { width: 640, height: 480 })));
    assert_eq!(back, Ok(Reply::Done));
    assert_eq!(source(&world, &id, Kind::Video), "mixer-1-common-video");
    world.pass(std::time::Duration::from_secs(2));
    assert!(world.view().video_outputs.is_empty(), "nobody takes the small one any more");
}

#[test]
fn the_old_output_is_kept_until_the_new_one_is_taken() {
    let mut world = World::new(json!({}));
    let id = mixed(&mut world);
    world.run(video("bob", &id, size(QVGA))).unwrap();
    world.forget();
    world.ask(video("bob", &id, times("x0.6")));
    answer_once(&mut world);
    assert_eq!(world.view().video_outputs.len(), 2);
    world.answer_all();
    world.pass(std::time::Duration::from_secs(1));
    assert!(world.made().iter().all(|call| !matches!(call, CallRequest::SetView(_))), "it may flow still");
    world.pass(std::time::Duration::from_secs(1));
    let view = world.view();
    assert_eq!(view.video_outputs.len(), 1);
    assert_eq!(view.video_outputs[0].resolution.unwrap().width, 320, "what was wanted before still is");
}

#[test]
fn what_changes_nothing_is_fine() {
    let mut world = World::new(json!({}));
    let id = mixed(&mut world);
    for nothing in [TrackUpdate::default(), from(MIXED), from("")] {
        let nothing = TrackUpdate { from: nothing.from.filter(|from| !from.is_empty()), ..nothing };
        assert_eq!(world.run(video("bob", &id, nothing)), Ok(Reply::Done));
    }
    assert!(world.made().is_empty());
    world.run(video("bob", &id, times("x0.6"))).unwrap();
    world.forget();
    assert_eq!(world.run(video("bob", &id, times("x0.6"))), Ok(Reply::Done));
    assert!(world.made().is_empty());
}

#[test]
fn a_new_source_takes_back_what_was_wanted_of_the_old_one() {
    let mut world = World::new(json!({}));
    let id = mixed(&mut world);
    let published = world.publish("ann", &BOTH);
    world.run(video("bob", &id, size(QVGA))).unwrap();
    world.run(video("bob", &id, from(published.stream.as_str()))).unwrap();
    assert_eq!(source(&world, &id, Kind::Video), format!("{}-1", published.transport));
    assert_eq!(source(&world, &id, Kind::Audio), "mixer-1-common-minus-bob", "the sound stays");
    world.run(audio("bob", &id, published.stream.as_str())).unwrap();
    assert_eq!(source(&world, &id, Kind::Audio), format!("{}-0", published.transport));
    world.pass(std::time::Duration::from_secs(2));
    assert!(world.view().minus_participants.is_empty());
}

#[test]
fn a_new_source_comes_in_the_codec_that_was_negotiated() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let id = world.subscribe("bob", MIXED, &BOTH).unwrap();
    world.establish_as(&id, &[h264("CB")]);
    let published = world.publish("ann", &BOTH);
    world.run(video("bob", &id, from(published.stream.as_str()))).unwrap();
    assert_eq!(
        source(&world, &id, Kind::Video),
        format!("mixer-1-{}-1-h264:CB::0:0:1:100", published.transport)
    );
}

#[test]
fn a_source_that_cannot_be_had_in_that_codec_is_refused() {
    let mut world = World::new(json!({"transcoding": {"audio": false, "video": false}}));
    let id = mixed(&mut world);
    let published = world.announce("ann", &[Kind::Video]).unwrap();
    world.establish_publication_as(&published, &[(Kind::Video, codec("vp9"))]);
    let refused = world.run(video("bob", &id, from(published.stream.as_str()))).unwrap_err();
    assert_eq!(refused.to_string(), "Target video stream does NOT satisfy:Format is not acceptable");
    let refused = world.run(video("bob", &id, size(QVGA))).unwrap_err();
    assert_eq!(refused.to_string(), "Target video stream does NOT satisfy:Resolution is not acceptable");
    let refused = world.run(video("bob", &id, from("nothing"))).unwrap_err();
    assert_eq!(refused.to_string(), "Target video stream does NOT satisfy:Requested video stream");
    assert_eq!(source(&world, &id, Kind::Video), "mixer-1-common-video");
}

#[test]
fn only_its_owner_or_an_admin_may_and_only_what_it_has() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let id = world.subscribe("bob", MIXED, &[Kind::Video]).unwrap();
    assert_eq!(world.run(video("ann", &id, size(QVGA))), Err(Refusal::Unauthorized));
    let refused = world.run(audio("bob", &id, MIXED)).unwrap_err();
    assert_eq!(refused.to_string(), "Target subscription does NOT have audio to update");
    let refused = world.run(video("bob", &id, size(QVGA))).unwrap_err();
    assert_eq!(refused.to_string(), "Update subscription failed", "it is not established");
    let nobodys = SubscriptionId::new("none").unwrap();
    assert_eq!(world.run(video("bob", &nobodys, size(QVGA))), Err(Refusal::UnknownSubscription));
}

#[test]
fn what_the_mixer_does_not_make_leaves_the_subscription_as_it_was() {
    let mut world = World::new(json!({}));
    let id = mixed(&mut world);
    world.lacking = vec!["vp8"];
    let refused = world.run(video("bob", &id, size(QVGA))).unwrap_err();
    assert_eq!(refused.to_string(), "Update subscription failed");
    assert_eq!(source(&world, &id, Kind::Video), "mixer-1-common-video");
    assert!(world.told("bob").is_empty());
    assert!(world.view().video_outputs.is_empty(), "it is not asked for any more");
}

#[test]
fn what_the_mixer_leaves_out_is_not_waited_for() {
    let mut world = World::new(json!({}));
    let id = mixed(&mut world);
    world.omitting = true;
    assert_eq!(world.run(video("bob", &id, size(QVGA))), Err(Refusal::UpdateFailed));
    world.omitting = false;
    assert_eq!(world.run(video("bob", &id, size(QVGA))), Ok(Reply::Done));
}

#[test]
fn an_m_line_that_the_client_has_refused_is_not_updated() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    let id = world.subscribe("bob", MIXED, &BOTH).unwrap();
    let transport = world.room.state.subscriptions[&id].transport.clone();
    let session = kaigi_proto::ids::SessionId::new(id.as_str()).unwrap();
    let mut tracks = world.negotiated(&id, |offered| offered[0].clone());
    tracks.retain(|track| track.kind == Kind::Audio);
    world.access_event(&transport, crate::room::AccessChange::Established { session, tracks });
    assert_eq!(world.run(video("bob", &id, size(QVGA))), Err(Refusal::UpdateFailed));
    assert!(world.view().video_outputs.is_empty());
}

#[test]
fn a_source_that_the_access_node_does_not_take_is_given_back() {
    let mut world = World::new(json!({}));
    let id = mixed(&mut world);
    let published = world.publish("ann", &BOTH);
    let request = world.ask(video("bob", &id, from(published.stream.as_str())));
    world.fail(|call| matches!(call, CallRequest::SetSource(_)), &CallError::Refused("no".into()));
    assert_eq!(world.replies[&request], Err(Refusal::UpdateFailed));
    world.answer_all();
    assert_eq!(source(&world, &id, Kind::Video), "mixer-1-common-video");
}

#[test]
fn updates_of_one_subscription_follow_each_other() {
    let mut world = World::new(json!({}));
    let id = mixed(&mut world);
    let requests = ["x0.8", "x0.6", "x7", "x0.4"].map(|m| world.ask(video("bob", &id, times(m))));
    world.answer_all();
    let replies: Vec<bool> = requests.iter().map(|request| world.replies[request].is_ok()).collect();
    assert_eq!(replies, [true, true, false, true]);
    assert_eq!(source(&world, &id, Kind::Video), "mixer-1-common-vp8::640x480:24:266:1:100");
    world.pass(std::time::Duration::from_secs(2));
    assert_eq!(world.view().video_outputs.len(), 1);
}

#[test]
fn the_end_of_a_subscription_is_the_end_of_its_updates() {
    let mut world = World::new(json!({}));
    let id = mixed(&mut world);
    let requests = ["x0.8", "x0.6"].map(|m| world.ask(video("bob", &id, times(m))));
    world.run(Command::Unsubscribe { participant: participant("bob"), subscription: id }).unwrap();
    assert!(requests.iter().all(|request| world.replies[request].is_err()));
    assert!(world.view().video_outputs.is_empty());
}

#[test]
fn a_stream_that_goes_away_is_not_moved_to() {
    let mut world = World::new(json!({}));
    let id = mixed(&mut world);
    let published = world.publish("ann", &BOTH);
    let small = TrackUpdate { from: Some(published.stream.to_string()), ..size(QVGA) };
    let request = world.ask(video("bob", &id, small));
    world.put(crate::room::Input::Gone(participant("ann")));
    assert_eq!(world.replies[&request], Err(Refusal::UpdateFailed));
    world.answer_all();
    assert_eq!(source(&world, &id, Kind::Video), "mixer-1-common-video");
    assert!(world.room.state.transcoders.is_empty());
}

#[test]
fn what_the_way_carries_is_asked_of_the_access_node() {
    let mut world = World::new(json!({}));
    let id = mixed(&mut world);
    let ask =
        |name: &str| Command::QueryBandwidth { participant: participant(name), subscription: id.clone() };
    assert_eq!(world.run(ask("bob")), Ok(Reply::Bandwidth(1_200_000)));
    assert_eq!(world.run(ask("ann")), Err(Refusal::Unauthorized));
    let request = world.ask(ask("bob"));
    let refusal = CallError::Refused("Nothing to estimate from".into());
    world.fail(|call| matches!(call, CallRequest::EstimateBandwidth(_)), &refusal);
    assert_eq!(world.replies[&request].clone().unwrap_err().to_string(), "Nothing to estimate from");
}
