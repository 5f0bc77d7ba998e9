//! Statistics of a room through gRPC: what the nodes count, asked of them once for all.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use cluster::{Cluster, Listener, ROOM};
use futures::future::join_all;
use kaigi_proto::v1::{self, join_event::Event, progress::Progress};
use tonic::Code;

fn all() -> v1::RoomStatsRequest {
    v1::RoomStatsRequest { room_id: ROOM.into(), ..Default::default() }
}

/// Ann subscribes the mix; her subscription's id, when it is negotiated.
async fn watching() -> (Cluster, Listener, String) {
    let mut cluster = Cluster::start(30).await;
    let mut ann = cluster.join("ann", "presenter").await.unwrap();
    let track = |kind: v1::MediaKind, mid: &str| v1::SubscribeTrack {
        kind: kind.into(),
        mid: mid.into(),
        from: format!("{ROOM}-common"),
        ..v1::SubscribeTrack::default()
    };
    let subscribe = v1::SubscribeRequest {
        room_id: ROOM.into(),
        participant_id: "ann".into(),
        tracks: vec![track(v1::MediaKind::Audio, "0"), track(v1::MediaKind::Video, "1")],
        ..v1::SubscribeRequest::default()
    };
    let session = cluster.client.subscribe(subscribe).await.unwrap().into_inner();
    let offer = v1::SignalRequest {
        room_id: ROOM.into(),
        participant_id: "ann".into(),
        transport_id: session.transport_id.clone(),
        signal: Some(v1::signal_request::Signal::Offer("offer".into())),
        request_id: String::new(),
    };
    cluster.client.signal(offer).await.unwrap();
    let ready = |event: &Event| match event {
        Event::Progress(v1::Progress { progress: Some(Progress::SessionReady(id)), .. }) => Some(id.clone()),
        _ => None,
    };
    assert_eq!(ann.find(ready).await, session.session_id);
    (cluster, ann, session.session_id)
}

#[tokio::test]
async fn what_nodes_count_comes_together() {
    let (mut cluster, _ann, id) = watching().await;
    let told = cluster.client.room_stats(all()).await.unwrap().into_inner();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    assert!(now.abs_diff(told.time_ms) < 5000);
    let [mix] = &told.streams[..] else { panic!("{told:?}") };
    assert_eq!((mix.subscriptions, mix.rtt_us), (1, 0));
    let made: Vec<_> = mix.tracks.iter().map(|track| track.track_id.as_str()).collect();
    assert_eq!(made, ["common-video", "common-audio", "common-minus-ann"]);
    let [taken] = &told.subscriptions[..] else { panic!("{told:?}") };
    assert_eq!((taken.subscription_id.as_str(), taken.participant_id.as_str()), (&id[..], "ann"));
    assert_eq!((taken.rtt_us, taken.estimated_bitrate), (30_000, 2_000_000));
    let seen = &taken.tracks[1];
    assert_eq!((seen.served.as_str(), seen.sent.as_ref().unwrap().packets), ("mixed", 1000));
    let whys: Vec<_> = seen.decisions.iter().map(|decision| decision.why.as_str()).collect();
    assert_eq!(whys[0], format!("subscribed to {ROOM}-common"));
    assert!(seen.decisions.iter().all(|decision| now.abs_diff(decision.time_ms) < 60_000), "{seen:?}");

    let one = v1::RoomStatsRequest { subscription_id: id.clone(), ..all() };
    let told = cluster.client.room_stats(one).await.unwrap().into_inner();
    assert_eq!((told.streams.len(), told.subscriptions.len()), (0, 1));
    let one = v1::RoomStatsRequest { stream_id: format!("{ROOM}-common"), ..all() };
    let told = cluster.client.room_stats(one).await.unwrap().into_inner();
    assert_eq!((told.streams.len(), told.subscriptions.len()), (1, 0));
    cluster.ended().await;
}

#[tokio::test]
async fn what_is_not_there_has_no_statistics() {
    let (mut cluster, _ann, _) = watching().await;
    let refused = [
        (v1::RoomStatsRequest { room_id: "other".into(), ..all() }, "Room not found"),
        (v1::RoomStatsRequest { stream_id: "other".into(), ..all() }, "Stream does NOT exist"),
        (v1::RoomStatsRequest { subscription_id: "other".into(), ..all() }, "Subscription does NOT exist"),
        (v1::RoomStatsRequest { stream_id: "no id!".into(), ..all() }, "Stream does NOT exist"),
    ];
    for (request, text) in refused {
        let status = cluster.client.room_stats(request).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::NotFound, text));
    }
    let both = v1::RoomStatsRequest { stream_id: "a".into(), subscription_id: "b".into(), ..all() };
    assert_eq!(cluster.client.room_stats(both).await.unwrap_err().code(), Code::InvalidArgument);
    cluster.ended().await;
}

#[tokio::test]
async fn a_node_is_asked_once_a_second_however_many_want_to_know() {
    let (cluster, _ann, id) = watching().await;
    let since = Instant::now();
    for _ in 0..5 {
        let calls = (0..20).map(|n| {
            let mut client = cluster.client.clone();
            let subscription_id = if n % 2 == 0 { String::new() } else { id.clone() };
            async move { client.room_stats(v1::RoomStatsRequest { subscription_id, ..all() }).await }
        });
        let told = join_all(calls).await.into_iter().map(|reply| reply.unwrap().into_inner());
        let whole: BTreeSet<u64> = told.filter(|r| !r.streams.is_empty()).map(|r| r.time_ms).collect();
        assert!(whole.len() <= 2, "the room is looked at once a second, too: {whole:?}");
    }
    let seconds = since.elapsed().as_secs() as usize + 1;
    let asked = cluster.everything.known.lock().unwrap().counted.len();
    assert!(asked >= 2 && asked <= 2 * seconds, "{asked} questions to two nodes in {seconds} s");
    cluster.ended().await;
}

#[tokio::test]
async fn a_node_that_hangs_costs_its_part_and_holds_up_no_one_else() {
    let (mut cluster, _ann, id) = watching().await;
    cluster.everything.known.lock().unwrap().mixer_hangs = true;
    let since = Instant::now();
    let slow = tokio::spawn({
        let mut client = cluster.client.clone();
        async move { client.room_stats(all()).await.unwrap().into_inner() }
    });
    cluster.everything.until("the mixer is asked", |known| known.counted.len() == 2).await;
    let request = v1::RoomRequest { room_id: ROOM.into() };
    cluster.client.list_participants(request).await.unwrap();
    let one = v1::RoomStatsRequest { subscription_id: id, ..all() };
    let told = cluster.client.room_stats(one).await.unwrap().into_inner();
    assert_eq!(told.subscriptions[0].rtt_us, 30_000);
    assert!(!slow.is_finished(), "the others have not waited for the mixer");
    let told = slow.await.unwrap();
    let waited = since.elapsed();
    assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&waited), "{waited:?}");
    assert_eq!((told.streams[0].tracks.len(), told.subscriptions[0].rtt_us), (0, 30_000));
    cluster.ended().await;
}
