//! The agent as a process: real gRPC on both sides, everything around it played.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;

use std::time::Duration;

use cluster::{Cluster, ROOM};
use kaigi_proto::v1::{self, join_event::Event, progress::Progress, stream_event::Change};
use tonic::Code;

fn publish(name: &str) -> v1::PublishRequest {
    let track = |kind: v1::MediaKind, mid: &str, source: &str| v1::PublishTrack {
        kind: kind.into(),
        mid: mid.into(),
        source: source.into(),
    };
    v1::PublishRequest {
        room_id: ROOM.into(),
        participant_id: name.into(),
        tracks: vec![track(v1::MediaKind::Audio, "0", "mic"), track(v1::MediaKind::Video, "1", "camera")],
        ..v1::PublishRequest::default()
    }
}

fn subscribe(name: &str, from: &str) -> v1::SubscribeRequest {
    let track = |kind: v1::MediaKind, mid: &str| v1::SubscribeTrack {
        kind: kind.into(),
        mid: mid.into(),
        from: from.into(),
        ..v1::SubscribeTrack::default()
    };
    v1::SubscribeRequest {
        room_id: ROOM.into(),
        participant_id: name.into(),
        tracks: vec![track(v1::MediaKind::Audio, "0"), track(v1::MediaKind::Video, "1")],
        ..v1::SubscribeRequest::default()
    }
}

fn offer(name: &str, transport: &str) -> v1::SignalRequest {
    v1::SignalRequest {
        room_id: ROOM.into(),
        participant_id: name.into(),
        transport_id: transport.into(),
        signal: Some(v1::signal_request::Signal::Offer("offer".into())),
        request_id: String::new(),
    }
}

fn session_ready(event: &Event) -> Option<String> {
    match event {
        Event::Progress(v1::Progress { progress: Some(Progress::SessionReady(session)), .. }) => {
            Some(session.clone())
        }
        _ => None,
    }
}

fn leave(name: &str) -> v1::LeaveRoomRequest {
    v1::LeaveRoomRequest { room_id: ROOM.into(), participant_id: name.into() }
}

#[tokio::test]
async fn join_publish_subscribe_the_mix_and_leave() {
    let mut cluster = Cluster::start(1).await;
    let mut ann = cluster.join("ann", "presenter").await.unwrap();
    let Some(Event::Joined(joined)) = ann.next().await else { panic!("the first event is not `joined`") };
    assert_eq!((joined.epoch, joined.views.as_slice()), (1, ["common".to_owned()].as_slice()));
    let mixed = joined.streams[0].id.clone();
    assert_eq!(mixed, format!("{ROOM}-common"));
    cluster.everything.until("heartbeat with the room", |known| known.tasks == [ROOM]).await;

    let session = cluster.client.publish(publish("ann")).await.unwrap().into_inner();
    assert_eq!(session.session_id, session.transport_id);
    cluster.client.signal(offer("ann", &session.transport_id)).await.unwrap();
    let mut heard = Vec::new();
    for _ in 0..5 {
        heard.push(match ann.next().await.unwrap() {
            Event::Progress(progress) => match progress.progress.unwrap() {
                Progress::Answer(sdp) => sdp,
                Progress::TransportReady(_) => "transport ready".into(),
                Progress::SessionReady(session) => format!("ready {session}"),
                other => panic!("{other:?}"),
            },
            Event::Stream(event) => match event.change.unwrap() {
                Change::Added(stream) => format!("add {}", stream.id),
                Change::Layout(layout) => format!("layout with {}", layout.regions[0].stream_id),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        });
    }
    let id = &session.session_id;
    let expected = [
        "answer to offer".to_owned(),
        "transport ready".to_owned(),
        format!("add {id}"),
        format!("ready {id}"),
        format!("layout with {id}"),
    ];
    assert_eq!(heard, expected);

    let subscription = cluster.client.subscribe(subscribe("ann", &mixed)).await.unwrap().into_inner();
    let sources = {
        let known = cluster.everything.known.lock().unwrap();
        let tracks = &known.opened.last().unwrap().tracks;
        tracks.iter().map(|track| track.source.clone().unwrap().track_id).collect::<Vec<_>>()
    };
    assert_eq!(sources, ["common-minus-ann", "common-video"], "ann hears all but herself");
    cluster.client.signal(offer("ann", &subscription.transport_id)).await.unwrap();
    assert_eq!(ann.find(session_ready).await, subscription.session_id);

    cluster.client.leave(leave("ann")).await.unwrap();
    while ann.next().await.is_some() {}
    cluster.everything.until("both transports closed", |known| known.closed_transports.len() == 2).await;
    cluster.everything.until("room's lease given back", |known| known.leases.is_empty()).await;
    cluster
        .everything
        .until("placements given back", |known| {
            ["Access ann".to_owned(), format!("Mixer {ROOM}"), format!("Conference {ROOM}")]
                .iter()
                .all(|placement| known.released.contains(placement))
        })
        .await;
    cluster.everything.until("view removed", |known| known.removed_views == ["common"]).await;
    let status = cluster.client.list_streams(v1::RoomRequest { room_id: ROOM.into() }).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);

    let mut again = cluster.join("ann", "presenter").await.unwrap();
    let Some(Event::Joined(joined)) = again.next().await else { panic!() };
    assert_eq!(joined.epoch, 2, "a room that starts anew has a higher epoch");
    cluster.ended().await;
}

#[tokio::test]
async fn refusals_have_a_class_and_owts_text() {
    let mut cluster = Cluster::start(30).await;
    let refused = cluster.client.join(v1::JoinRequest {
        room_id: "00000000000000000000000b".into(),
        participant_id: "ann".into(),
        role: "presenter".into(),
        ..v1::JoinRequest::default()
    });
    let status = refused.await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "Room not found"));
    let status = cluster.join("ann", "nonsense").await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "Invalid role"));
    let _bob = cluster.join("bob", "viewer").await.unwrap();
    let status = cluster.client.publish(publish("bob")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "unauthorized"));
    let status = cluster.client.signal(offer("bob", "none")).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "Transport none does NOT exist"));
    let status = cluster.client.signal(v1::SignalRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn whoever_drops_the_stream_has_left_at_once() {
    let mut cluster = Cluster::start(30).await;
    let mut ann = cluster.join("ann", "presenter").await.unwrap();
    let bob = cluster.join("bob", "presenter").await.unwrap();
    drop(bob);
    let left = ann
        .find(|event| match event {
            Event::Participant(event) => match event.action.clone().unwrap() {
                v1::participant_event::Action::Left(who) => Some(who),
                v1::participant_event::Action::Joined(_) => None,
            },
            _ => None,
        })
        .await;
    assert_eq!(left, "bob");
    assert!(cluster.join("bob", "presenter").await.is_ok());
}

#[tokio::test]
async fn a_participant_who_does_not_drain_its_events_is_dropped_and_nobody_else() {
    let mut cluster = Cluster::start(30).await;
    let mut ann = cluster.join("ann", "presenter").await.unwrap();
    let _slow = cluster.join("slow", "viewer").await.unwrap();
    let mut talker = cluster.client.clone();
    let talk = tokio::spawn(async move {
        let text = v1::TextRequest {
            room_id: ROOM.into(),
            participant_id: "ann".into(),
            to: "slow".into(),
            message: "x".repeat(60_000),
            request_id: String::new(),
        };
        // HTTP/2 windows take some megabytes before the queue begins to fill.
        while talker.text(text.clone()).await.is_ok() {}
    });
    let left = ann.find(|event| match event {
        Event::Participant(event) => match event.action.clone().unwrap() {
            v1::participant_event::Action::Left(who) => Some(who),
            v1::participant_event::Action::Joined(_) => None,
        },
        _ => None,
    });
    assert_eq!(left.await, "slow");
    talk.await.unwrap();
    let room = v1::RoomRequest { room_id: ROOM.into() };
    let there = cluster.client.list_participants(room).await.unwrap().into_inner().participants;
    assert_eq!(there.len(), 1);
}

#[tokio::test]
async fn when_the_mixer_dies_subscriptions_follow_to_the_next() {
    let mut cluster = Cluster::start(30).await;
    let _ann = cluster.join("ann", "viewer").await.unwrap();
    let mixed = format!("{ROOM}-common");
    let session = cluster.client.subscribe(subscribe("ann", &mixed)).await.unwrap().into_inner();
    let dead = {
        let mut known = cluster.everything.known.lock().unwrap();
        let dead = known.mixer_node.clone().unwrap();
        known.mixer_node = Some(v1::Worker { worker_id: "mixer-2".into(), ..dead.clone() });
        dead
    };
    cluster.everything.lose(dead);
    cluster
        .everything
        .until("both tracks moved", |known| {
            let moved = |s: &&v1::SetSourceRequest| s.source.as_ref().unwrap().worker_id == "mixer-2";
            known.sources.iter().filter(|s| s.session_id == session.session_id).filter(moved).count() == 2
        })
        .await;
}

#[tokio::test]
async fn a_destroyed_room_tells_everybody_and_the_agent_goes_on() {
    let mut cluster = Cluster::start(30).await;
    let mut ann = cluster.join("ann", "viewer").await.unwrap();
    cluster.client.destroy_room(v1::RoomRequest { room_id: ROOM.into() }).await.unwrap();
    let reason = ann
        .find(|event| match event {
            Event::Dropped(dropped) => Some(dropped.reason.clone()),
            _ => None,
        })
        .await;
    assert_eq!(reason, "Room destruction");
    assert!(ann.next().await.is_none());
    assert!(cluster.join("ann", "viewer").await.is_ok());
}

#[tokio::test]
async fn a_stopped_agent_drops_its_participants_and_leaves_the_cluster() {
    let mut cluster = Cluster::start(30).await;
    let mut ann = cluster.join("ann", "viewer").await.unwrap();
    let (everything, started) = (cluster.everything.clone(), std::time::Instant::now());
    cluster.ended().await;
    assert!(started.elapsed() < Duration::from_secs(2));
    let reason = ann
        .find(|event| match event {
            Event::Dropped(dropped) => Some(dropped.reason.clone()),
            _ => None,
        })
        .await;
    assert_eq!(reason, "Server is shutting down");
    let known = everything.known.lock().unwrap();
    assert!(known.registered.is_none() && known.leases.is_empty());
}

#[tokio::test]
async fn a_participant_comes_back_on_another_stream_without_loss_or_doubling() {
    let mut cluster = Cluster::start(30).await;
    let join = |name: &str, window| v1::JoinRequest {
        room_id: ROOM.into(),
        participant_id: name.into(),
        role: "presenter".into(),
        resume_window_ms: window,
        ..v1::JoinRequest::default()
    };
    let mut ann = cluster.client.join(join("ann", 60_000)).await.unwrap().into_inner();
    assert_eq!(ann.message().await.unwrap().unwrap().seq, 0);
    let text = |message: &str| v1::TextRequest {
        room_id: ROOM.into(),
        participant_id: "ann".into(),
        to: "all".into(),
        message: message.into(),
        request_id: String::new(),
    };
    cluster.client.text(text("1")).await.unwrap();
    // That she joined is the first, which she is not told.
    assert_eq!(ann.message().await.unwrap().unwrap().seq, 2);
    let acknowledge = |seq| v1::AcknowledgeRequest {
        room_id: ROOM.into(),
        participant_id: "ann".into(),
        seq,
        exact: false,
    };
    cluster.client.acknowledge(acknowledge(0)).await.unwrap();
    drop(ann);
    for message in ["2", "3", "4"] {
        cluster.client.text(text(message)).await.unwrap();
    }
    cluster.client.acknowledge(acknowledge(3)).await.unwrap();
    let resume = |after_seq| v1::ResumeRequest {
        room_id: ROOM.into(),
        participant_id: "ann".into(),
        after_seq,
        ..v1::ResumeRequest::default()
    };
    let mut back = cluster.client.resume(resume(0)).await.unwrap().into_inner();
    assert_eq!(back.message().await.unwrap().unwrap().seq, 4);
    assert_eq!(back.message().await.unwrap().unwrap().seq, 5);

    let mut third = cluster.client.resume(resume(5)).await.unwrap().into_inner();
    let last = back.message().await.unwrap().unwrap();
    assert!(matches!(last.event, Some(Event::Dropped(_))), "taken over: {last:?}");
    assert!(back.message().await.unwrap().is_none());
    cluster.client.text(text("5")).await.unwrap();
    assert_eq!(third.message().await.unwrap().unwrap().seq, 6);

    cluster.client.leave(leave("ann")).await.unwrap();
    let gone = cluster.client.resume(resume(6)).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
    let mut bob = cluster.client.join(join("bob", 0)).await.unwrap().into_inner();
    bob.message().await.unwrap();
    let request = v1::ResumeRequest { participant_id: "bob".into(), ..resume(0) };
    let refused = cluster.client.resume(request).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::FailedPrecondition, "Reconnection is not allowed")
    );
}

#[tokio::test]
async fn regions_layouts_permissions_and_data_are_served() {
    use v1::{control_request::Operation, stream_operation::Operation as Update};
    let mut cluster = Cluster::start(30).await;
    let mut ann = cluster.join("ann", "presenter").await.unwrap();
    let data = v1::PublishRequest { data: true, ..publish("ann") };
    let session = cluster.client.publish(data).await.unwrap().into_inner();
    cluster.client.signal(offer("ann", &session.transport_id)).await.unwrap();
    let id = ann.find(session_ready).await;
    let mixed = format!("{ROOM}-common");

    let control = |operation| v1::ControlRequest {
        room_id: ROOM.into(),
        participant_id: "ann".into(),
        id: id.clone(),
        operation: Some(operation),
    };
    let set =
        |region: &str| Operation::SetRegion(v1::SetRegion { view: "common".into(), region: region.into() });
    cluster.client.control_stream(control(set("1"))).await.unwrap();
    let got = cluster.client.control_stream(control(Operation::GetRegion("common".into()))).await.unwrap();
    assert_eq!(got.into_inner().region, "1");
    let refused = cluster.client.control_stream(control(set("9"))).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "Invalid region_id."));

    let update = |operation| v1::UpdateStreamRequest {
        room_id: ROOM.into(),
        stream_id: mixed.clone(),
        operations: vec![v1::StreamOperation { operation: Some(operation) }],
    };
    let layout = |width: &str| {
        let (left, top, width, height) = ("1/4".into(), "0".into(), width.into(), "1".into());
        let region =
            v1::LayoutRegion { stream_id: id.clone(), region_id: "r".into(), left, top, width, height };
        Update::Layout(v1::Layout { regions: vec![region] })
    };
    let changed = cluster.client.update_stream(update(layout("2/4"))).await.unwrap().into_inner();
    let region = &changed.layout.unwrap().regions[0];
    assert_eq!((region.stream_id.as_str(), region.width.as_str()), (id.as_str(), "1/2"));
    let refused = cluster.client.update_stream(update(layout("5/4"))).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "Invalid region"));
    let assign = Update::Assignment(v1::LayoutAssignment { index: 7, stream_id: id.clone() });
    let refused = cluster.client.update_stream(update(assign)).await.unwrap_err();
    assert_eq!(refused.message(), "Not mixed stream or invalid region");

    let wanted = v1::SubscribeRequest { tracks: Vec::new(), data_from: id.clone(), ..subscribe("ann", &id) };
    cluster.client.subscribe(wanted).await.unwrap();
    let source = cluster.everything.known.lock().unwrap().opened.last().unwrap().data.clone();
    assert_eq!(source.unwrap().stream_id, id);

    let permission = v1::UpdateParticipantRequest {
        room_id: ROOM.into(),
        participant_id: "ann".into(),
        publish_audio: Some(false),
        publish_video: Some(false),
        ..v1::UpdateParticipantRequest::default()
    };
    cluster.client.update_participant(permission).await.unwrap();
    let error = |event: &Event| match event {
        Event::Progress(v1::Progress { progress: Some(Progress::SessionError(error)), .. }) => {
            Some(error.clone())
        }
        _ => None,
    };
    let unauthorized = v1::SessionError { session_id: id.clone(), reason: "unauthorized".into() };
    assert_eq!(ann.find(error).await, unauthorized);
    assert_eq!(ann.find(error).await.reason, "Source stream loss");
}

#[tokio::test]
async fn a_subscriber_gets_its_own_codec_and_changes_what_it_wants() {
    let mut cluster = Cluster::start(30).await;
    let mut ann = cluster.join("ann", "presenter").await.unwrap();
    let published = cluster.client.publish(publish("ann")).await.unwrap().into_inner();
    cluster.client.signal(offer("ann", &published.transport_id)).await.unwrap();
    assert_eq!(ann.find(session_ready).await, published.session_id);

    let mut bob = cluster.join("bob", "viewer").await.unwrap();
    cluster.everything.known.lock().unwrap().offered = vec!["opus", "h264"];
    let request = subscribe("bob", &published.session_id);
    let subscription = cluster.client.subscribe(request).await.unwrap().into_inner();
    cluster.client.signal(offer("bob", &subscription.transport_id)).await.unwrap();
    assert_eq!(bob.find(session_ready).await, subscription.session_id);
    let pointed = |codec: &'static str, from: String| {
        move |known: &cluster::Known| {
            known.sources.last().is_some_and(|set| {
                let source = set.source.clone().unwrap();
                source.format.unwrap().codec == codec && source.track_id.starts_with(&from)
            })
        }
    };
    let track = format!("{}-1", published.transport_id);
    cluster.everything.until("H.264 of the camera", pointed("h264", format!("mixer-1-{track}-"))).await;
    let transcoder = cluster.everything.known.lock().unwrap().transcoders.last().unwrap().clone();
    assert_eq!((transcoder.id.as_str(), transcoder.video_outputs.len()), (track.as_str(), 1));
    assert_eq!(transcoder.source.unwrap().track_id, track);

    let control = |operation| v1::ControlRequest {
        room_id: ROOM.into(),
        participant_id: "bob".into(),
        id: subscription.session_id.clone(),
        operation: Some(operation),
    };
    let mixed = v1::SubscriptionUpdate {
        audio: None,
        video: Some(v1::TrackUpdate {
            from: format!("{ROOM}-common"),
            parameters: Some(v1::VideoParameters { framerate: 12, ..Default::default() }),
            bitrate_multiplier: "x0.8".into(),
            priority: None,
        }),
    };
    use v1::control_request::Operation;
    cluster.client.control_subscription(control(Operation::Update(mixed.clone()))).await.unwrap();
    cluster.everything.until("H.264 of the mix", pointed("h264", "mixer-1-common-".into())).await;
    cluster.everything.until("no transcoder", |known| known.removed_transcoders == [track.clone()]).await;
    let output = cluster.everything.known.lock().unwrap().views.last().unwrap().video_outputs[0].clone();
    assert_eq!((output.framerate, output.format.unwrap().codec.as_str()), (12, "h264"));

    let video = mixed.video.map(|video| v1::TrackUpdate { bitrate_multiplier: "x3".into(), ..video });
    let wrong = v1::SubscriptionUpdate { video, ..Default::default() };
    let refused = cluster.client.control_subscription(control(Operation::Update(wrong))).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "Target video stream does NOT satisfy:Bitrate is not acceptable")
    );
    let reply =
        cluster.client.control_subscription(control(Operation::QueryBandwidth(v1::QueryBandwidth {})));
    assert_eq!(reply.await.unwrap().into_inner().estimated_bitrate, 1_200_000);
}
