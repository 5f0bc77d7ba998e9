//! What is counted, who gets what and why, and the processes of the cluster.

use kaigi_proto::v1::{
    Choice, Limit, MediaFormat, MediaKind, Purpose, Resolution, Resource, ResourceUse, RoomStatsReply,
    StreamStats, SubscribedTrackStats, SubscriptionStats, TrackStats, VideoParameters, Worker,
};
use serde_json::{Value, json};
use tonic::Status;

use super::{
    House,
    client::Speech,
    cluster::{OTHER_SERVICE, ROOM},
};

fn of_room(rest: &str) -> String {
    format!("/v1/rooms/{ROOM}{rest}")
}

fn track(id: &str, rid: &str) -> TrackStats {
    TrackStats {
        track_id: id.into(),
        kind: MediaKind::Video.into(),
        mid: "1".into(),
        rid: rid.into(),
        packets: 100,
        bytes: 90_000,
        packets_lost: 3,
        fraction_lost: 0.25,
        jitter_us: 2500,
        frames: 60,
        key_frames: 2,
        bitrate: 800_000,
        frame_rate: 29.5,
        resolution: Some(Resolution { width: 640, height: 360 }),
        flowing: true,
        takers: 2,
        ..TrackStats::default()
    }
}

fn choice(time_ms: u64, track: &str, why: &str) -> Choice {
    Choice { time_ms, track_id: track.into(), why: why.into(), ..Choice::default() }
}

fn subscription(id: &str, participant: &str, from: &str) -> SubscriptionStats {
    let sent = TrackStats {
        limit: Limit::Bandwidth.into(),
        choices: vec![choice(20, "t-1:h", "estimate fell to 312 kbit/s")],
        ..track("t-1:h", "h")
    };
    SubscriptionStats {
        subscription_id: id.into(),
        participant_id: participant.into(),
        transport_id: "t".into(),
        rtt_us: 31_000,
        estimated_bitrate: 312_000,
        tracks: vec![SubscribedTrackStats {
            kind: MediaKind::Video.into(),
            from: from.into(),
            format: Some(MediaFormat { codec: "vp8".into(), ..MediaFormat::default() }),
            asked: Some(VideoParameters { framerate: 15, ..VideoParameters::default() }),
            served: "forward".into(),
            sent: Some(sent),
            decisions: vec![choice(10, "t-1", "subscribed")],
            ..SubscribedTrackStats::default()
        }],
    }
}

/// A room with one stream and two subscriptions.
async fn house() -> House {
    let house = House::new().await;
    house.cluster.state().stats = RoomStatsReply {
        time_ms: 1_700_000_000_000,
        streams: vec![StreamStats {
            stream_id: "s".into(),
            rtt_us: 12_500,
            tracks: vec![track("t-1:h", "h")],
            subscriptions: 2,
        }],
        subscriptions: vec![subscription("x", "aki", "s"), subscription("y", "ben", "mixed")],
    };
    house
}

#[tokio::test]
async fn a_streams_counters_are_shown() {
    let house = house().await;
    assert_eq!(house.rest("GET", &of_room("/streams/s/stats"), Value::Null).await.code(), (404, 1004));
    let _client = house.joined(Speech::Eio4WebSocket).await;
    let shown = house.rest("GET", &of_room("/streams/s/stats"), Value::Null).await.json();
    assert_eq!(
        (&shown["time"], &shown["rtt"], &shown["subscriptions"]),
        (&json!(1_700_000_000_000_u64), &json!(12.5), &json!(2))
    );
    assert_eq!(
        shown["tracks"][0],
        json!({
            "id": "t-1:h", "kind": "video", "mid": "1", "rid": "h", "flowing": true, "bitrate": 800_000, "frameRate": 29.5,
            "resolution": {"width": 640, "height": 360}, "packets": 100, "bytes": 90_000, "packetsLost": 3, "fractionLost": 0.25,
            "jitter": 2.5, "frames": 60, "keyFrames": 2, "retransmitted": 0,
            "recovered": 0, "redundant": 0, "nacks": 0, "plis": 0, "firs": 0, "takers": 2,
        })
    );
    assert_eq!(house.cluster.calls("room_stats"), [json!({"stream": "s", "subscription": ""})]);
    assert_eq!(house.rest("GET", &of_room("/streams/none/stats"), Value::Null).await.code(), (404, 1004));
}

#[tokio::test]
async fn why_somebody_gets_what_it_gets_is_told() {
    let house = house().await;
    assert_eq!(house.rest("GET", &of_room("/subscriptions"), Value::Null).await.json(), json!([]));
    assert_eq!(house.rest("GET", &of_room("/subscriptions/x"), Value::Null).await.code(), (404, 1001));
    let _client = house.joined(Speech::Eio4WebSocket).await;
    let shown = house.rest("GET", &of_room("/subscriptions/x"), Value::Null).await.json();
    assert_eq!(
        (&shown["participant"], &shown["rtt"], &shown["estimatedBitrate"]),
        (&json!("aki"), &json!(31.0), &json!(312_000))
    );
    let track = &shown["tracks"][0];
    assert_eq!(
        (&track["served"], &track["limit"], &track["from"]),
        (&json!("forward"), &json!("bandwidth"), &json!("s"))
    );
    assert_eq!(
        track["layer"],
        json!({"track": "t-1:h", "rid": "h", "resolution": {"width": 640, "height": 360}})
    );
    assert_eq!(track["asked"], json!({"framerate": 15}));
    assert_eq!(
        track["decisions"],
        json!([
            {"time": 10, "what": "t-1", "why": "subscribed"},
            {"time": 20, "what": "t-1:h", "why": "estimate fell to 312 kbit/s"},
        ])
    );
    assert_eq!(house.rest("GET", &of_room("/subscriptions/none"), Value::Null).await.code(), (404, 1001));

    let ids = async |query: &str| {
        let listed = house.rest("GET", &of_room(&format!("/subscriptions{query}")), Value::Null).await.json();
        listed.as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids("/").await, ["x", "y"]);
    assert_eq!(ids("?participant=ben").await, ["y"]);
    assert_eq!(ids("?stream=s").await, ["x"]);
    assert_eq!(ids("?stream=s&participant=ben").await, Vec::<String>::new());
}

#[tokio::test]
async fn everything_of_a_room_is_had_at_once() {
    let house = house().await;
    let idle = house.rest("GET", &of_room("/stats"), Value::Null).await.json();
    assert_eq!((&idle["streams"], &idle["subscriptions"]), (&json!([]), &json!([])));
    let _client = house.joined(Speech::Eio4WebSocket).await;
    let shown = house.rest("GET", &of_room("/stats"), Value::Null).await.json();
    assert_eq!(
        (shown["streams"][0]["id"].as_str(), shown["subscriptions"][1]["id"].as_str()),
        (Some("s"), Some("y"))
    );
    let foreign = house.rest("GET", "/v1.1/rooms/655b9af6e53c84ffd6009999/stats", Value::Null).await;
    assert_eq!(foreign.code(), (404, 1003));
}

#[tokio::test]
async fn the_clusters_processes_are_shown_to_super_services() {
    let house = House::new().await;
    assert_eq!(house.rest("GET", "/cluster/nodes", Value::Null).await.code(), (403, 1102));
    house.cluster.state().workers = vec![Worker {
        worker_id: "mixer-1".into(),
        purpose: Purpose::Mixer.into(),
        endpoint: "http://10.0.0.1:1".into(),
        load: 0.5,
        resources: vec![ResourceUse { resource: Resource::Encoders.into(), used: 8.0, capacity: 16.0 }],
        tasks: 3,
        regions: vec!["tokyo".into()],
        draining: true,
        registered_ms: 1_700_000_000_000,
        ..Worker::default()
    }];
    let nodes = house.rest_as(OTHER_SERVICE, "GET", "/cluster/nodes/", Value::Null).await.json();
    assert_eq!(
        nodes,
        json!([{
            "id": "mixer-1", "purpose": "mixer", "endpoint": "http://10.0.0.1:1", "publicAddress": "", "secure": false, "load": 0.5,
            "resources": [{"name": "encoders", "used": 8.0, "capacity": 16.0}], "maxLoad": 0.85, "tasks": 3, "isps": [], "regions": ["tokyo"], "draining": true, "since": 1_700_000_000_000_u64,
        }])
    );
}

#[tokio::test]
async fn a_process_is_drained_by_super_services() {
    let house = House::new().await;
    let mixer = Worker { worker_id: "mixer-1".into(), purpose: Purpose::Mixer.into(), ..Worker::default() };
    house.cluster.state().workers = vec![mixer];
    let drain = "/cluster/nodes/mixer-1/drain";
    assert_eq!(house.rest("POST", drain, Value::Null).await.code(), (403, 1102));
    assert!(!house.cluster.state().workers[0].draining);
    assert_eq!(house.rest_as(OTHER_SERVICE, "POST", drain, Value::Null).await.status, 200);
    assert!(house.cluster.state().workers[0].draining);
    let unknown = house.rest_as(OTHER_SERVICE, "POST", "/cluster/nodes/mixer-2/drain", Value::Null).await;
    assert_eq!(
        (unknown.code(), &unknown.json()["error"]["message"]),
        ((404, 1001), &json!("Node not found"))
    );
}

#[tokio::test]
async fn whether_something_new_would_find_a_process_is_told_to_super_services() {
    let house = House::new().await;
    let asked = "/cluster/can-fit?purpose=mixer&isp=a&region=b";
    assert_eq!(house.rest("GET", asked, Value::Null).await.code(), (403, 1102));
    let fits = house.rest_as(OTHER_SERVICE, "GET", asked, Value::Null).await.json();
    assert_eq!(fits, json!({"fits": true, "nodes": 1}));
    assert_eq!(house.cluster.calls("can_fit"), [json!(["a", "b"])]);

    let refuse = |status: Status| house.cluster.state().refusals.insert("can_fit", status);
    let none = |reason: &str| json!({"fits": false, "nodes": 0, "reason": reason});
    for status in [Status::resource_exhausted("all in full load."), Status::failed_precondition("no match.")]
    {
        let reason = status.message().to_owned();
        refuse(status);
        assert_eq!(house.rest_as(OTHER_SERVICE, "GET", asked, Value::Null).await.json(), none(&reason));
    }
    refuse(Status::unavailable("none is there"));
    let unknown = house.rest_as(OTHER_SERVICE, "GET", asked, Value::Null).await;
    assert_eq!(unknown.code(), (500, 1301), "one is there, so something else is the matter");
    house.cluster.state().workers.iter_mut().for_each(|worker| worker.draining = true);
    assert_eq!(house.rest_as(OTHER_SERVICE, "GET", asked, Value::Null).await.json(), none("none is there"));

    for wrong in ["/cluster/can-fit", "/cluster/can-fit?purpose=coffee"] {
        assert_eq!(
            house.rest_as(OTHER_SERVICE, "GET", wrong, Value::Null).await.code(),
            (400, 1201),
            "{wrong}"
        );
    }
}
