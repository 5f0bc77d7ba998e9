//! Statistics: whom a room has asked, what it adds, and the reasons that it remembers.

use std::{sync::Arc, time::Duration};

use kaigi_proto::{
    ids::{StreamId, SubscriptionId},
    v1,
};
use kaigi_room_config::Resolution;
use serde_json::json;

use super::world::{MIXED, World, participant, stream, vp8};
use crate::room::{
    CallError, CallRequest, Command, Countable, Counted, Kind, Kinds, NodeStats, PermissionChange, Refusal,
    Reply, StreamOperation, SubscriptionUpdate, TrackUpdate, VideoParameters, stats::StatsPlan,
};

const BOTH: [Kind; 2] = [Kind::Audio, Kind::Video];
const VIDEO: Kinds = Kinds { audio: false, video: true };
const QVGA: Resolution = Resolution { width: 320, height: 240 };
/// The time of day in all tests.
const WALL: u64 = 1_000_000;

fn plan(world: &mut World, of: Counted) -> StatsPlan {
    match world.run(Command::Stats { of, wall_ms: WALL }).unwrap() {
        Reply::Stats(plan) => *plan,
        other => panic!("{other:?}"),
    }
}

/// What is told if no node answers.
fn known(world: &mut World, of: Counted) -> v1::RoomStatsReply {
    plan(world, of).complete(WALL, &[] as &[Arc<NodeStats>])
}

fn subscription(world: &mut World, id: &SubscriptionId) -> v1::SubscriptionStats {
    known(world, Counted::Subscription(id.clone())).subscriptions.remove(0)
}

fn video(told: &v1::SubscriptionStats) -> &v1::SubscribedTrackStats {
    told.tracks.iter().find(|track| track.kind() == v1::MediaKind::Video).unwrap()
}

fn whys(world: &mut World, id: &SubscriptionId) -> Vec<String> {
    video(&subscription(world, id)).decisions.iter().map(|choice| choice.why.clone()).collect()
}

/// What was added since there were so many.
fn since(world: &mut World, id: &SubscriptionId, count: usize) -> Vec<String> {
    whys(world, id).split_off(count)
}

fn questions(plan: &StatsPlan) -> Vec<(String, Vec<String>)> {
    let names = |of: &Countable| match of {
        Countable::Transports(ids) => ids.iter().map(ToString::to_string).collect(),
        Countable::Tracks(ids) | Countable::Pulled(ids) => ids.iter().map(ToString::to_string).collect(),
    };
    plan.questions.iter().map(|question| (question.node.worker.to_string(), names(&question.of))).collect()
}

fn update(by: Option<&str>, id: &SubscriptionId, change: TrackUpdate) -> Command {
    let update = SubscriptionUpdate { video: Some(change), ..SubscriptionUpdate::default() };
    Command::UpdateSubscription { by: by.map(participant), subscription: id.clone(), update }
}

fn small() -> TrackUpdate {
    let parameters = VideoParameters { resolution: Some(QVGA), ..VideoParameters::default() };
    TrackUpdate { parameters, ..TrackUpdate::default() }
}

fn listen(name: &str, id: &SubscriptionId, active: bool) -> Command {
    let (participant, subscription) = (participant(name), id.clone());
    Command::ControlSubscription { participant, subscription, kinds: VIDEO, active }
}

fn status(active: bool) -> Vec<StreamOperation> {
    vec![StreamOperation::Status { kinds: VIDEO, active, repeat: false }]
}

/// Ann publishes, and Bob subscribes that as it is.
fn forwarded() -> (World, StreamId, SubscriptionId) {
    forwarded_in(json!({}))
}

fn forwarded_in(attributes: serde_json::Value) -> (World, StreamId, SubscriptionId) {
    let mut world = World::new(attributes);
    world.presenters(&["ann", "bob"]);
    let published = world.publish("ann", &BOTH);
    let id = world.subscribe("bob", published.stream.as_str(), &BOTH).unwrap();
    world.establish_subscription(&id);
    (world, published.stream, id)
}

#[test]
fn each_node_is_asked_for_all_that_the_room_has_there() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann", "bob"]);
    world.publish("ann", &BOTH);
    world.access = Some("access-2");
    world.presenters(&["cat"]);
    let id = world.subscribe("cat", MIXED, &BOTH).unwrap();
    world.establish_subscription(&id);
    let asked = questions(&plan(&mut world, Counted::All));
    let [(first, ann), (second, cat), (mixer, made)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!([first, second, mixer], ["access-1", "access-2", "mixer-1"]);
    assert_eq!((ann.len(), cat.len()), (1, 1));
    assert_eq!(made, &["mixer-1-common-video", "mixer-1-common-audio", "mixer-1-common-minus-cat"]);

    let of_one = questions(&plan(&mut world, Counted::Subscription(id)));
    assert_eq!(of_one, [asked[1].clone()], "others are not asked");
    assert_eq!(questions(&plan(&mut world, Counted::Stream(stream(MIXED)))), [asked[2].clone()]);
    let unknown = world.run(Command::Stats { of: Counted::Stream(stream("no")), wall_ms: 0 });
    assert_eq!(unknown, Err(Refusal::UnknownStream));
    let of = Counted::Subscription(SubscriptionId::new("no").unwrap());
    assert_eq!(world.run(Command::Stats { of, wall_ms: 0 }), Err(Refusal::UnknownSubscription));
}

#[test]
fn what_nodes_count_is_put_to_what_the_room_knows() {
    let (mut world, published, id) = forwarded();
    let transport = world.room.state.publications[&published].transport().unwrap().to_string();
    let to = world.room.state.subscriptions[&id].transport.to_string();
    let track = |kind: v1::MediaKind, packets, limit: v1::Limit| v1::TrackStats {
        kind: kind.into(),
        packets,
        limit: limit.into(),
        ..v1::TrackStats::default()
    };
    let counted = |transport_id: &str, session: &str, tracks| v1::TransportStats {
        transport_id: transport_id.into(),
        rtt_us: 20_000,
        estimated_bitrate: 800_000,
        sessions: vec![v1::SessionStats { session_id: session.into(), tracks }],
    };
    let (audio, video) = (v1::MediaKind::Audio, v1::MediaKind::Video);
    let none = v1::Limit::Unspecified;
    let from = counted(&transport, published.as_str(), vec![track(audio, 10, none), track(video, 20, none)]);
    let sent = vec![track(video, 19, v1::Limit::None), track(audio, 9, v1::Limit::Source)];
    let node = |all: &[&v1::TransportStats]| {
        let named = all.iter().map(|t| (t.transport_id.clone(), (*t).clone()));
        Arc::new(NodeStats { transports: named.collect(), ..NodeStats::default() })
    };
    let to = counted(&to, id.as_str(), sent);
    let told = plan(&mut world, Counted::All).complete(77, &[node(&[&from]), node(&[&to])]);
    assert_eq!(told.time_ms, 77);
    let [mixed, forward] = &told.streams[..] else { panic!("{told:?}") };
    assert_eq!((mixed.stream_id.as_str(), mixed.subscriptions, mixed.tracks.len()), (MIXED, 0, 0));
    assert_eq!((forward.stream_id.as_str(), forward.subscriptions), (published.as_str(), 1));
    assert_eq!((forward.rtt_us, &forward.tracks), (20_000, &from.sessions[0].tracks));
    let [taken] = &told.subscriptions[..] else { panic!("{told:?}") };
    assert_eq!(
        (taken.participant_id.as_str(), taken.rtt_us, taken.estimated_bitrate),
        ("bob", 20_000, 800_000)
    );
    let packets: Vec<_> = taken.tracks.iter().map(|t| (t.kind(), t.sent.as_ref().unwrap().packets)).collect();
    assert_eq!(packets, [(audio, 9), (video, 19)]);
    let seen = &taken.tracks[1];
    assert_eq!((seen.from.as_str(), seen.served.as_str()), (published.as_str(), "forward"));
    assert_eq!(seen.format.as_ref().unwrap().codec, "vp8");
    assert_eq!(seen.asked, None);

    let told = plan(&mut world, Counted::All).complete(77, &[node(&[&from])]);
    let sent = told.subscriptions[0].tracks[1].sent.as_ref().unwrap();
    assert_eq!((sent.packets, sent.limit(), sent.kind()), (0, none, video), "its node has not answered");
    world.run(listen("bob", &id, false)).unwrap();
    let told = plan(&mut world, Counted::All).complete(77, &[node(&[&from])]);
    let sent = told.subscriptions[0].tracks[1].sent.as_ref().unwrap();
    assert_eq!(sent.limit(), v1::Limit::Paused);
}

#[test]
fn of_a_mixed_stream_the_outputs_that_run_are_told() {
    let mut world = World::new(json!({}));
    world.presenters(&["ann"]);
    let id = world.subscribe("ann", MIXED, &BOTH).unwrap();
    world.establish_as(&id, &[vp8()]);
    let made = |id: &str, takers| {
        (id.to_owned(), v1::TrackStats { track_id: id.into(), takers, ..v1::TrackStats::default() })
    };
    let tracks = [made("mixer-1-common-video", 1), made("mixer-1-common-audio", 0), made("another", 5)];
    let node = Arc::new(NodeStats { tracks: tracks.into(), ..NodeStats::default() });
    let told = plan(&mut world, Counted::Stream(stream(MIXED))).complete(0, &[node]);
    let running: Vec<_> = told.streams[0].tracks.iter().map(|track| track.track_id.as_str()).collect();
    assert_eq!(running, ["mixer-1-common-video"]);
    assert_eq!(told.streams[0].subscriptions, 1);
    assert_eq!(video(&subscription(&mut world, &id)).served, "mixed");
}

#[test]
fn the_way_to_what_is_sent_is_remembered() {
    let (mut world, published, id) = forwarded();
    let track = world.room.state.publications[&published].tracks[1].id.to_string();
    world.now += Duration::from_millis(700);
    let told = subscription(&mut world, &id);
    let decisions = &video(&told).decisions;
    let words: Vec<_> = decisions.iter().map(|choice| choice.why.clone()).collect();
    assert_eq!(words, [format!("subscribed to {published}"), format!("takes {track}, as published")]);
    assert_eq!((decisions[1].time_ms, &decisions[1].track_id), (WALL - 700, &track));

    world.run(update(Some("bob"), &id, small())).unwrap();
    let made =
        world.room.state.subscriptions[&id].tracks[1].feed.as_ref().unwrap().sources()[0].track.to_string();
    let expected = [
        "320×240 asked by its participant".to_owned(),
        "transcoding asked: vp8 320×240".to_owned(),
        format!("switched to {made}, transcoded, when it was ready"),
    ];
    assert_eq!(since(&mut world, &id, 2), expected);
    let told = subscription(&mut world, &id);
    let tracks: Vec<_> = video(&told).decisions.iter().map(|choice| choice.track_id.clone()).collect();
    assert_eq!(tracks, [String::new(), track.clone(), track.clone(), track, made], "what is sent meanwhile");
    assert_eq!(video(&told).served, "transcoded");
    let asked = video(&told).asked.as_ref().unwrap().resolution;
    assert_eq!(asked, Some(v1::Resolution { width: 320, height: 240 }));

    let to_mix = TrackUpdate { from: Some(MIXED.into()), ..TrackUpdate::default() };
    world.run(update(None, &id, to_mix)).unwrap();
    let expected = [
        format!("source changed by management to {MIXED}"),
        "switched to mixer-1-common-video, an output of the mix, when it was ready".to_owned(),
    ];
    assert_eq!(since(&mut world, &id, 5), expected);
}

#[test]
fn a_node_is_not_taken_at_its_word_when_less_was_asked_for() {
    let (mut world, _, id) = forwarded();
    world.run(update(Some("bob"), &id, small())).unwrap();
    let transport_id = world.room.state.subscriptions[&id].transport.to_string();
    let mut limit = |limit: v1::Limit| {
        let sent = v1::TrackStats {
            kind: v1::MediaKind::Video.into(),
            limit: limit.into(),
            ..v1::TrackStats::default()
        };
        let sessions = vec![v1::SessionStats { session_id: id.to_string(), tracks: vec![sent] }];
        let transport = v1::TransportStats { sessions, ..v1::TransportStats::default() };
        let transports = [(transport_id.clone(), transport)].into();
        let node = Arc::new(NodeStats { transports, ..NodeStats::default() });
        let told = plan(&mut world, Counted::Subscription(id.clone())).complete(0, &[node]);
        video(&told.subscriptions[0]).sent.as_ref().unwrap().limit()
    };
    assert_eq!(limit(v1::Limit::None), v1::Limit::Asked);
    assert_eq!(limit(v1::Limit::Source), v1::Limit::Source);
    assert_eq!(limit(v1::Limit::Bandwidth), v1::Limit::Bandwidth);
}

#[test]
fn pauses_are_told_with_who_wanted_them() {
    let both = json!({"audio": true, "video": true});
    let role = |name| json!({"role": name, "publish": both, "subscribe": both});
    let (mut world, published, id) = forwarded_in(json!({"roles": [role("admin"), role("presenter")]}));
    world.join("eve", "admin").unwrap();
    world.run(listen("bob", &id, false)).unwrap();
    world.run(listen("eve", &id, true)).unwrap();
    let control = |name: &str, active| Command::ControlStream {
        participant: participant(name),
        stream: published.clone(),
        operations: status(active),
    };
    world.run(control("ann", false)).unwrap();
    world.run(control("eve", true)).unwrap();
    world.run(Command::UpdateStream { stream: published.clone(), operations: status(false) }).unwrap();
    let expected = [
        "paused by its participant",
        "resumed by an administrator",
        "source paused by its publisher",
        "source resumed by an administrator",
        "source paused by management",
    ];
    assert_eq!(since(&mut world, &id, 2), expected);
    let audio = subscription(&mut world, &id).tracks[0].decisions.len();
    assert_eq!(audio, 2, "only the picture was paused");
}

#[test]
fn permissions_are_told() {
    let (mut world, _, id) = forwarded();
    let may = |name: &str, change| Command::UpdateParticipant { participant: participant(name), change };
    let subscribe = |video| PermissionChange { subscribe_video: Some(video), ..PermissionChange::default() };
    let publish = |video| PermissionChange { publish_video: Some(video), ..PermissionChange::default() };
    world.run(may("bob", subscribe(false))).unwrap();
    world.run(may("bob", subscribe(true))).unwrap();
    world.run(may("ann", publish(false))).unwrap();
    let expected = [
        "video not permitted any more",
        "video permitted again",
        "source's publisher may not publish video any more",
    ];
    assert_eq!(since(&mut world, &id, 2), expected);
}

#[test]
fn what_comes_to_nothing_is_told_too() {
    let (mut world, _, id) = forwarded();
    world.ask(update(Some("bob"), &id, small()));
    let set = |call: &CallRequest| matches!(call, CallRequest::SetTranscoder(_));
    world.fail(set, &CallError::Refused("no encoder".into()));
    world.answer_all();
    assert_eq!(since(&mut world, &id, 2).last().unwrap(), "change failed, as it was before");
    assert_eq!(video(&subscription(&mut world, &id)).served, "forward");
}

#[test]
fn sixteen_are_remembered_and_none_of_who_is_gone() {
    let (mut world, _, id) = forwarded();
    for _ in 0..20 {
        world.run(listen("bob", &id, false)).unwrap();
        world.run(listen("bob", &id, true)).unwrap();
    }
    assert_eq!(whys(&mut world, &id).len(), 16);
    world.run(Command::Unsubscribe { participant: participant("bob"), subscription: id.clone() }).unwrap();
    assert_eq!(known(&mut world, Counted::All).subscriptions, []);
    assert!(format!("{:?}", world.room.decisions).contains("tracks: {}"), "nothing is kept");
}
