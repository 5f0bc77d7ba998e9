//! Clients of the older protocol versions beside those of the newest, in one room.

use kaigi_proto::v1::{
    MediaFormat, MediaKind, Stream, StreamEvent, StreamType, Track, join_event, stream_event::Change,
};
use serde_json::{Value, json};

use super::{
    House,
    client::{Client, Speech, login_request},
    eventually,
};

/// A login as OWT's Android SDK makes it.
fn old_login(token: &str, protocol: &str) -> Value {
    let mut login = login_request(token);
    login["protocol"] = protocol.into();
    login["userAgent"] = json!({
        "sdk": {"type": "Android", "version": 5.0},
        "runtime": {"name": "Android", "version": "14"},
        "os": {"name": "Android", "version": "14"},
    });
    login
}

impl House {
    async fn joined_old(&self, protocol: &str) -> (Client, Value) {
        let mut client = Client::connect(self.http, Speech::Eio3WebSocket).await;
        let (status, answer) = client.request("login", old_login(&self.token("aki").await, protocol)).await;
        assert_eq!(status, "ok", "{answer}");
        (client, answer)
    }
}

fn camera(id: &str) -> Stream {
    let layer = |rid: &str| Track {
        id: format!("{id}-1:{rid}"),
        kind: MediaKind::Video.into(),
        mid: "1".into(),
        rid: rid.into(),
        source: "camera".into(),
        format: Some(MediaFormat { codec: "vp8".into(), ..MediaFormat::default() }),
        active: true,
        ..Track::default()
    };
    Stream {
        id: id.into(),
        r#type: StreamType::Forward.into(),
        tracks: vec![layer("q"), layer("h")],
        info_type: "webrtc".into(),
        owner: "p".into(),
        ..Stream::default()
    }
}

#[tokio::test]
async fn each_client_sees_streams_in_the_shape_of_its_version() {
    let house = House::new().await;
    let (mut newest, answer) = house.joined(Speech::Eio4WebSocket).await;
    assert!(answer["room"]["streams"][0]["media"]["tracks"].is_array());
    let (mut middle, answer) = house.joined_old("1.1").await;
    let mixed = &answer["room"]["streams"][0]["media"];
    assert_eq!(mixed["video"]["original"], json!([{"format": {"codec": "vp8"}}]));
    assert_eq!(mixed["audio"]["format"], json!({"codec": "opus"}));
    assert_eq!(mixed.get("tracks"), None);
    let (mut oldest, answer) = house.joined_old("1.0").await;
    assert_eq!(answer["room"]["streams"][0]["media"]["video"]["format"], json!({"codec": "vp8"}));

    for change in [Change::Added(camera("s")), Change::Replaced(camera("s"))] {
        let event = StreamEvent { stream_id: "s".into(), change: Some(change) };
        house.cluster.tell(join_event::Event::Stream(event)).await;
    }
    let shown = |added: Value, replaced: Value| {
        assert_eq!((&added["status"], &replaced["data"]["field"]), (&json!("add"), &json!(".")));
        assert_eq!(added["data"], replaced["data"]["value"]);
        added["data"]["media"].clone()
    };
    let media = shown(newest.event("stream").await, newest.event("stream").await);
    assert_eq!(media["tracks"].as_array().unwrap().len(), 2);
    let media = shown(middle.event("stream").await, middle.event("stream").await);
    assert_eq!(media["video"]["original"][1]["simulcastRid"], "h");
    assert_eq!(media.get("audio"), None);
    let media = shown(oldest.event("stream").await, oldest.event("stream").await);
    assert_eq!(media["video"]["format"], json!({"codec": "vp8"}));
    assert_eq!(media["video"].get("original"), None);
}

#[tokio::test]
async fn old_clients_publish_and_subscribe_by_kind_on_a_transport_for_each_session() {
    let house = House::new().await;
    for protocol in ["1.0", "1.1"] {
        let (mut client, _) = house.joined_old(protocol).await;
        let publish = json!({"media": {"audio": {"source": "mic"}, "video": {"source": "camera"}}, "attributes": {"a": 1}});
        let (status, session) = client.request_with("publish", &[publish, Value::Null]).await;
        assert_eq!(status, "ok", "{session}");
        assert_eq!(session["id"], session["transportId"]);
        let id = session["id"].clone();
        // As Android sends it: without an ack id, with an argument too many.
        let offer = json!({"id": id, "signaling": {"type": "offer", "sdp": "v=0"}});
        client.send(&format!("42{}", json!(["soac", offer, null]))).await;
        assert_eq!(client.event("progress").await["data"], json!({"type": "answer", "sdp": "answer to v=0"}));
        assert_eq!(client.event("progress").await, json!({"id": id, "status": "ready"}));
        assert_eq!(
            client.event("session-progress").await,
            json!({"id": id, "sessionId": id, "status": "ready"}),
            "the session's own word has a name that these clients do not listen to"
        );
        let subscribe = json!({"media": {"audio": false, "video": {"from": "s", "simulcastRid": "q"}}});
        assert_eq!(client.request("subscribe", subscribe).await.0, "ok");
        let tracks = json!({"media": {"tracks": [{"type": "audio", "mid": "0"}]}});
        assert_eq!(client.request("publish", tracks).await.0, "error", "of another version");
        assert_eq!(client.request_with("refreshReconnectionTicket", &[]).await.0, "ok");
        assert_eq!(client.request("unpublish", json!({"id": id})).await.0, "ok");
    }
    assert_eq!(house.cluster.calls("publish")[0], json!({"tracks": 2, "attributes": {"a": 1}}));
}

#[tokio::test]
async fn an_old_client_comes_back_in_its_version() {
    let house = House::new().await;
    let (client, answer) = house.joined_old("1.0").await;
    client.vanish().await;
    let acknowledged =
        || house.cluster.calls("acknowledge").iter().filter(|c| c["participant"] == answer["id"]).count();
    eventually("the client is away", || acknowledged() >= 2).await;
    let event = StreamEvent { stream_id: "s".into(), change: Some(Change::Added(camera("s"))) };
    house.cluster.tell(join_event::Event::Stream(event)).await;
    let mut client = Client::connect(house.http, Speech::Eio3Polling).await;
    let (status, ticket) = client.request("relogin", answer["reconnectionTicket"].clone()).await;
    assert_eq!((status.as_str(), ticket.is_string()), ("ok", true), "the ticket as text");
    assert_eq!(client.event("stream").await["data"]["media"]["video"]["format"], json!({"codec": "vp8"}));
}
