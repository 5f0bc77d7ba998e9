//! What requests become on their way to the room, and what their answers carry.

use kaigi_proto::v1::{RemovedStream, Stream, StreamEvent, StreamType, join_event, stream_event::Change};
use serde_json::{Value, json};
use tonic::Status;

use super::{
    House,
    client::{Client, Speech, login_request},
    cluster::ROOM,
};

impl House {
    /// A client of that protocol version, with an SDK of that type.
    async fn joined_as(&self, protocol: &str, sdk: &str) -> (Client, Value) {
        let mut client = Client::connect(self.http, Speech::Eio4WebSocket).await;
        let mut login = login_request(&self.token("aki").await);
        login["protocol"] = protocol.into();
        login["userAgent"]["sdk"]["type"] = sdk.into();
        let (status, answer) = client.request("login", login).await;
        assert_eq!(status, "ok", "{answer}");
        (client, answer)
    }
}

fn control(operation: &str, data: Value) -> Value {
    json!({"id": "0a", "operation": operation, "data": data})
}

fn ok(data: Value) -> (String, Value) {
    ("ok".to_owned(), data)
}

#[tokio::test]
async fn regions_are_set_and_asked_for() {
    let house = House::new().await;
    for protocol in ["1.0", "1.1", "1.2"] {
        let (mut client, _) = house.joined_as(protocol, "JavaScript").await;
        let region = control("set-region", json!({"view": "common", "region": "2"}));
        assert_eq!(client.request("stream-control", region).await, ok(Value::Null));
        let asked = client.request("stream-control", control("get-region", json!("common"))).await;
        assert_eq!(asked, ok(json!({"region": "2"})));
    }
    let calls = house.cluster.calls("control_stream");
    assert_eq!(calls[0], r#"SetRegion(SetRegion { view: "common", region: "2" })"#);
    assert_eq!(calls[1], r#"GetRegion("common")"#);
}

#[tokio::test]
async fn subscriptions_are_updated_and_their_bandwidth_is_asked_for() {
    let house = House::new().await;
    for protocol in ["1.0", "1.1", "1.2"] {
        let (mut client, _) = house.joined_as(protocol, "JavaScript").await;
        let update =
            control("update", json!({"audio": {"from": "a"}, "video": {"parameters": {"bitrate": "x0.6"}}}));
        assert_eq!(client.request("subscription-control", update).await, ok(Value::Null));
        let asked =
            client.request("subscription-control", json!({"id": "0a", "operation": "querybwe"})).await;
        assert_eq!(asked, ok(json!({"estimatedBitrate": 1_250_000})));
        let bad = control("update", json!({"video": {"parameters": {"bitrate": "fast"}}}));
        let (status, text) = client.request("subscription-control", bad).await;
        assert_eq!(
            (status.as_str(), text),
            ("error", json!("request.data.video.parameters.bitrate should be a number or a text like x0.6"))
        );
    }
    let calls = house.cluster.calls("control_subscription");
    assert_eq!(calls.len(), 6, "what is malformed does not reach the room");
    let update = calls[0].as_str().unwrap();
    assert!(update.contains(r#"from: "a""#) && update.contains(r#"bitrate_multiplier: "x0.6""#), "{update}");
}

#[tokio::test]
async fn what_the_room_refuses_is_told_in_its_words() {
    let house = House::new().await;
    let (mut client, _) = house.joined_as("1.2", "JavaScript").await;
    let track = json!({"media": {"tracks": [{"type": "video", "mid": "0", "from": "s"}]}});
    let table = [
        (
            "publish",
            "publish",
            json!({"media": {"tracks": [{"type": "video", "mid": "0"}]}}),
            Status::permission_denied("unauthorized"),
        ),
        (
            "subscribe",
            "subscribe",
            track,
            Status::not_found("Target video stream does NOT satisfy:Requested video stream"),
        ),
        ("unpublish", "unpublish", json!({"id": "0a"}), Status::not_found("Stream does NOT exist")),
        ("unsubscribe", "unsubscribe", json!({"id": "0a"}), Status::not_found("Subscription does NOT exist")),
        (
            "stream-control",
            "control_stream",
            control("set-region", json!({"view": "common", "region": "9"})),
            Status::invalid_argument("Invalid region_id."),
        ),
        (
            "stream-control",
            "control_stream",
            control("mix", json!("none")),
            Status::invalid_argument("Invalid view"),
        ),
        (
            "subscription-control",
            "control_subscription",
            control("update", json!({"video": {"from": "x"}})),
            Status::failed_precondition("Update subscription failed"),
        ),
        (
            "soac",
            "signal",
            json!({"id": "0a", "signaling": {"type": "offer", "sdp": "v=0"}}),
            Status::not_found("Transport 0a does NOT exist"),
        ),
        (
            "text",
            "text",
            json!({"to": "all", "message": "x"}),
            Status::not_found("Participant has not joined"),
        ),
    ];
    for (event, call, data, refusal) in table {
        let text = refusal.message().to_owned();
        house.cluster.state().refusals.insert(call, refusal);
        assert_eq!(client.request(event, data).await, ("error".to_owned(), json!(text)), "{event}");
        house.cluster.state().refusals.clear();
    }
}

#[tokio::test]
async fn messages_are_strings_of_limited_length() {
    let house = House::new().await;
    for protocol in ["1.0", "1.1", "1.2"] {
        let (mut client, _) = house.joined_as(protocol, "JavaScript").await;
        let mut say =
            async |message: Value| client.request("text", json!({"to": "all", "message": message})).await;
        assert_eq!(say(json!("🎉".repeat(1024))).await.0, "ok");
        let refused = |text: &str| ("error".to_owned(), json!(text));
        assert_eq!(say(json!("🎉".repeat(1025))).await, refused("Message is longer than 2048 characters"));
        assert_eq!(say(json!({"a": 1})).await, refused("Message is not a string"));
    }
}

#[tokio::test]
async fn formats_and_parameters_of_a_subscription_reach_the_room_in_every_version() {
    let house = House::new().await;
    let format = json!({"codec": "h264", "profile": "CB"});
    let parameters = json!({"resolution": {"width": 320, "height": 240}, "framerate": 15, "bitrate": 300, "keyFrameInterval": 5});
    let audio = json!({"from": "a", "format": {"codec": "opus", "sampleRate": 48000, "channelNum": 2}});
    let video = json!({"from": "v", "format": format, "parameters": parameters});
    for protocol in ["1.0", "1.1", "1.2"] {
        let (mut client, _) = house.joined_as(protocol, "JavaScript").await;
        let media = if protocol == "1.2" {
            let (mut a, mut v) = (audio.clone(), video.clone());
            (a["type"], a["mid"], v["type"], v["mid"]) =
                (json!("audio"), json!("0"), json!("video"), json!("1"));
            json!({"tracks": [a, v]})
        } else {
            json!({"audio": audio, "video": video})
        };
        assert_eq!(client.request("subscribe", json!({"media": media})).await.0, "ok");
    }
    let state = house.cluster.state();
    assert_eq!(state.subscribed.len(), 3);
    for request in &state.subscribed {
        let [audio, video] = &request.tracks[..] else { panic!("{request:?}") };
        let opus = audio.format.as_ref().unwrap();
        assert_eq!((opus.codec.as_str(), opus.sample_rate, opus.channels), ("opus", 48000, 2));
        let h264 = video.format.as_ref().unwrap();
        assert_eq!((h264.codec.as_str(), h264.profile.as_str()), ("h264", "CB"));
        let parameters = video.parameters.as_ref().unwrap();
        assert_eq!((parameters.framerate, parameters.bitrate, parameters.key_frame_interval), (15, 300, 5));
        assert_eq!(parameters.resolution.map(|r| (r.width, r.height)), Some((320, 240)));
    }
}

#[tokio::test]
async fn data_is_published_and_subscribed_in_the_newest_version_alone() {
    let house = House::new().await;
    let publish = json!({"media": null, "data": true, "transport": {"type": "webrtc"}});
    let subscribe = json!({"media": null, "data": {"from": "d"}});
    for sdk in ["JavaScript", "Kaigi"] {
        let (mut client, _) = house.joined_as("1.2", sdk).await;
        assert_eq!(client.request("publish", publish.clone()).await.0, "ok");
        assert_eq!(client.request("subscribe", subscribe.clone()).await.0, "ok");
        let mut quic = publish.clone();
        quic["transport"]["type"] = "quic".into();
        let refused = ("error".to_owned(), json!("Only transports of type webrtc are available"));
        assert_eq!(client.request("publish", quic).await, refused);
    }
    assert_eq!(house.cluster.calls("publish")[0], json!({"tracks": 0, "attributes": null, "data": true}));
    assert_eq!(house.cluster.calls("subscribe")[0], json!({"from": [], "data": "d", "transport": ""}));
    for protocol in ["1.0", "1.1"] {
        let (mut client, _) = house.joined_as(protocol, "JavaScript").await;
        assert_eq!(client.request("publish", publish.clone()).await.0, "error");
        assert_eq!(client.request("subscribe", subscribe.clone()).await.0, "error");
    }
}

#[tokio::test]
async fn streams_of_data_alone_are_told_to_those_who_know_them() {
    let house = House::new().await;
    let (mut newest, _) = house.joined_as("1.2", "JavaScript").await;
    let (mut older, _) = house.joined_as("1.1", "JavaScript").await;
    let stream = Stream {
        id: "d".into(),
        r#type: StreamType::Forward.into(),
        data: true,
        owner: "p".into(),
        ..Stream::default()
    };
    for change in [Change::Added(stream), Change::Removed(RemovedStream { data_only: true })] {
        let event = StreamEvent { stream_id: "d".into(), change: Some(change) };
        house.cluster.tell(join_event::Event::Stream(event)).await;
    }
    house.cluster.say("after").await;
    let added = newest.event("stream").await["data"].clone();
    assert_eq!((&added["data"], &added["media"]["tracks"]), (&json!(true), &json!([])));
    assert_eq!(newest.event("stream").await, json!({"id": "d", "status": "remove"}));
    while older.event("text").await["message"] != "after" {}
    assert!(!older.order.contains(&"stream".to_owned()), "{:?}", older.order);
}

#[tokio::test]
async fn the_management_changes_layouts() {
    let house = House::new().await;
    let area = json!({"left": "0", "top": "0", "width": "1/2", "height": "1"});
    let layout = json!([{"stream": "a", "region": {"id": "1", "shape": "rectangle", "area": area}}]);
    let path = format!("/v1/rooms/{ROOM}/streams/{ROOM}-common");
    house.joined_as("1.2", "JavaScript").await;
    let patch = async |op: Value| house.rest("PATCH", &path, json!([op])).await;
    let answer = patch(json!({"op": "replace", "path": "/info/layout", "value": layout})).await;
    assert_eq!((answer.status, &answer.json()["type"]), (200, &json!("mixed")));
    assert_eq!(
        patch(json!({"op": "replace", "path": "/info/layout/0/stream", "value": "a"})).await.status,
        200
    );
    let calls = house.cluster.calls("update_stream");
    assert!(calls[0].as_str().unwrap().contains(r#"region_id: "1""#), "{calls:?}");
    assert!(
        calls[1].as_str().unwrap().contains(r#"LayoutAssignment { index: 0, stream_id: "a" }"#),
        "{calls:?}"
    );
    let bad = patch(json!({"op": "replace", "path": "/info/layout", "value": "fluid"})).await;
    assert_eq!(bad.code(), (500, 1301));
}
