//! Clients join, speak and leave.

use base64::{Engine, engine::general_purpose::STANDARD};
use kaigi_proto::v1::{JoinEvent, Progress, SessionError, TextEvent, join_event, progress};
use serde_json::{Value, json};
use tonic::Status;

use super::{
    House,
    client::{Client, Speech, login_request},
    cluster::ROOM,
    eventually, http,
};

impl House {
    /// A token from the sample application's door.
    pub(crate) async fn token(&self, user: &str) -> String {
        let body = json!({"user": user, "role": "presenter"}).to_string();
        let headers = [("content-type", "application/json")];
        let answer = http::send(self.http, "POST", "/sample/tokens", &headers, &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn joined(&self, speech: Speech) -> (Client, Value) {
        let mut client = Client::connect(self.http, speech).await;
        let (status, data) = client.login(&self.token("aki").await).await;
        assert_eq!(status, "ok", "{data}");
        (client, data)
    }
}

#[tokio::test]
async fn every_kind_of_client_joins_publishes_and_leaves() {
    let house = House::new().await;
    for speech in Speech::ALL {
        let (mut client, answer) = house.joined(speech).await;
        assert_eq!(answer["user"], "aki", "{speech:?}");
        assert_eq!(client.event("text").await["message"], "early");
        let publish = json!({"media": {"tracks": [{"type": "audio", "mid": "0", "source": "mic"}]}, "attributes": {"a": 1}});
        let (status, session) = client.request("publish", publish).await;
        assert_eq!(status, "ok");
        assert_eq!(session["id"], session["transportId"], "the first session gives the transport its id");
        let offer = json!({"id": session["transportId"], "signaling": {"type": "offer", "sdp": "v=0 会議"}});
        assert_eq!(client.request("soac", offer).await, ("ok".to_owned(), Value::Null));
        assert_eq!(client.event("progress").await["data"]["sdp"], "answer to v=0 会議");
        assert_eq!(client.event("progress").await, json!({"id": session["id"], "status": "ready"}));
        assert_eq!(client.event("progress").await["sessionId"], session["id"]);
        assert_eq!(client.request("text", json!({"to": "all", "message": "こんにちは 🎉"})).await.0, "ok");
        assert_eq!(client.event("text").await["message"], "こんにちは 🎉");
        assert_eq!(client.request_with("logout", &[]).await, ("ok".to_owned(), Value::Null));
        eventually("the participant has left", || house.cluster.state().members.is_empty()).await;
    }
    assert_eq!(house.cluster.calls("join").len(), 4);
    assert_eq!(house.cluster.calls("publish")[0], json!({"tracks": 1, "attributes": {"a": 1}}));
}

#[tokio::test]
async fn the_answer_to_a_login_is_complete_and_comes_first() {
    let house = House::new().await;
    let (mut client, answer) = house.joined(Speech::Eio4WebSocket).await;
    let id = answer["id"].as_str().unwrap();
    assert_eq!(answer["role"], "presenter");
    let flags = json!({"audio": true, "video": true});
    assert_eq!(answer["permission"], json!({"publish": flags, "subscribe": flags}));
    assert_eq!(answer["room"]["id"], ROOM);
    assert_eq!(answer["room"]["views"], json!(["common"]));
    assert_eq!(answer["room"]["participants"], json!([{"id": id, "user": "aki", "role": "presenter"}]));
    assert_eq!(answer["room"]["streams"][0]["type"], "mixed");
    let ticket = STANDARD.decode(answer["reconnectionTicket"].as_str().unwrap()).unwrap();
    let ticket: Value = serde_json::from_slice(&ticket).unwrap();
    assert_eq!(ticket["participantId"], id);
    client.event("text").await;
    assert_eq!(client.order[0], "ack", "{:?}", client.order);
    let (status, fresh) = client.request_with("refreshReconnectionTicket", &[]).await;
    assert_eq!(status, "ok");
    assert!(fresh.as_str().is_some_and(|t| t.len() > 100));
}

#[tokio::test]
async fn nobody_can_speak_for_another_by_knowing_the_participants_id() {
    let house = House::new().await;
    let (_client, answer) = house.joined(Speech::Eio4Polling).await;
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", answer["id"].as_str().unwrap());
    assert_eq!(http::send(house.http, "POST", &path, &[], "41").await.status, 400);
    assert_eq!(house.cluster.state().members.len(), 1);
}

#[tokio::test]
async fn a_token_admits_one_login() {
    let house = House::new().await;
    let token = house.token("aki").await;
    let mut first = Client::connect(house.http, Speech::Eio4WebSocket).await;
    assert_eq!(first.login(&token).await.0, "ok");
    let mut second = Client::connect(house.http, Speech::Eio3Polling).await;
    assert_eq!(second.login(&token).await, ("error".to_owned(), json!("Token does not exist")));
    second.disconnected().await;
    assert_eq!(second.order, ["ack", "41"]);
    let again = first.login(&token).await;
    assert_eq!(again, ("error".to_owned(), json!("Connection is in service")), "and the connection stays");
    assert_eq!(first.request("text", json!({"to": "all", "message": "x"})).await.0, "ok");
}

#[tokio::test]
async fn bad_logins_are_told_why_and_disconnected() {
    let house = House::new().await;
    let altered = {
        let json = STANDARD.decode(house.token("aki").await).unwrap();
        let mut json: Value = serde_json::from_slice(&json).unwrap();
        json["host"] = "evil.example:1".into();
        STANDARD.encode(json.to_string())
    };
    let expired = {
        let token = house.token("aki").await;
        for document in house.cluster.state().documents.iter_mut().filter(|((c, _), _)| *c == 3) {
            let mut record: Value = serde_json::from_slice(document.1).unwrap();
            record["createdMs"] = (record["createdMs"].as_u64().unwrap() - 181_000).into();
            *document.1 = record.to_string().into_bytes();
        }
        token
    };
    let mut old = login_request(&house.token("aki").await);
    old["protocol"] = "0.9".into();
    let table = [
        (login_request(&altered), "Invalid token signature"),
        (login_request(&expired), "Expired"),
        (login_request("x"), "Invalid token"),
        (old, "Unknown client protocol"),
        (Value::Null, "Unknown client protocol"),
    ];
    for (request, expected) in table {
        let mut client = Client::connect(house.http, Speech::Eio4WebSocket).await;
        let (status, text) = client.request("login", request).await;
        assert_eq!(status, "error");
        assert!(text.as_str().unwrap().starts_with(expected), "{text}");
        client.disconnected().await;
    }
}

#[tokio::test]
async fn a_room_that_refuses_is_quoted() {
    let house = House::new().await;
    house.cluster.state().refusals.insert("join", Status::resource_exhausted("Room is full"));
    let mut client = Client::connect(house.http, Speech::Eio4WebSocket).await;
    assert_eq!(client.login(&house.token("aki").await).await, ("error".to_owned(), json!("Room is full")));
    client.disconnected().await;

    house.cluster.state().refusals.clear();
    let (mut client, _) = house.joined(Speech::Eio4WebSocket).await;
    house.cluster.state().refusals.insert("publish", Status::permission_denied("unauthorized"));
    let publish = json!({"media": {"tracks": [{"type": "audio", "mid": "0"}]}});
    assert_eq!(client.request("publish", publish).await, ("error".to_owned(), json!("unauthorized")));
    let to_nobody = client.request("text", json!({"to": "nobody", "message": "x"})).await;
    assert_eq!(to_nobody, ("error".to_owned(), json!("Target participant does NOT exist: nobody")));
}

#[tokio::test]
async fn a_login_waits_for_an_agent_that_is_just_starting() {
    let house = House::new().await;
    house.cluster.state().refusals.insert("schedule", Status::unavailable("No conference agent is alive"));
    let mut client = Client::connect(house.http, Speech::Eio4WebSocket).await;
    let token = house.token("aki").await;
    let cluster = house.cluster.clone();
    tokio::spawn(async move {
        eventually("two attempts", || cluster.calls("schedule").len() >= 2).await;
        cluster.state().refusals.clear();
    });
    assert_eq!(client.login(&token).await.0, "ok");
}

#[tokio::test]
async fn requests_outside_of_a_room_are_illegal() {
    let house = House::new().await;
    let mut client = Client::connect(house.http, Speech::Eio4WebSocket).await;
    for event in ["publish", "soac", "text", "logout", "refreshReconnectionTicket", "whatever"] {
        assert_eq!(
            client.request(event, json!({})).await,
            ("error".to_owned(), json!("Illegal request")),
            "{event}"
        );
    }
    assert_eq!(client.login(&house.token("aki").await).await.0, "ok", "and do no harm");
    assert_eq!(client.request("whatever", json!({})).await, ("error".to_owned(), json!("Illegal request")));
}

#[tokio::test]
async fn extra_arguments_and_missing_ack_ids_are_accepted() {
    let house = House::new().await;
    let (mut client, _) = house.joined(Speech::Eio3WebSocket).await;
    let soac =
        json!({"id": "t", "signaling": {"type": "candidate", "candidate": {"candidate": "a=candidate:1"}}});
    assert_eq!(client.request_with("soac", &[soac.clone(), Value::Null]).await.0, "ok");
    client.send(&format!("42{}", json!(["soac", soac, null]))).await;
    eventually("both were signaled", || house.cluster.calls("signal").len() == 2).await;
}

#[tokio::test]
async fn requests_are_handled_in_order() {
    let house = House::new().await;
    let (mut client, _) = house.joined(Speech::Eio4WebSocket).await;
    for i in 0..50 {
        client.send(&format!("42{}", json!(["text", {"to": "all", "message": i.to_string()}]))).await;
    }
    assert_eq!(client.event("text").await["message"], "early");
    for i in 0..50 {
        assert_eq!(client.event("text").await["message"], i.to_string());
    }
}

#[tokio::test]
async fn what_is_told_about_a_session_comes_after_its_answer() {
    let house = House::new().await;
    let (mut client, _) = house.joined(Speech::Eio4WebSocket).await;
    client.event("text").await;
    let error = SessionError { session_id: "0a".repeat(16), reason: "Source stream loss".into() };
    let early =
        Progress { transport_id: "t".into(), progress: Some(progress::Progress::SessionError(error)) };
    house.cluster.state().told_early.push(join_event::Event::Progress(early));
    let before = client.order.len();
    let publish = json!({"media": {"tracks": [{"type": "audio", "mid": "0"}]}});
    client.request("publish", publish).await;
    assert_eq!(client.event("progress").await["status"], "error");
    assert_eq!(client.order[before..], ["ack", "progress"]);
}

#[tokio::test]
async fn where_nobody_may_come_back_a_client_that_vanishes_leaves() {
    let house = House::with(&["--reconnection-timeout", "0"]).await;
    for speech in Speech::ALL {
        let (client, answer) = house.joined(speech).await;
        client.vanish().await;
        eventually("it has left", || house.cluster.calls("leave").contains(&answer["id"])).await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_put_out_and_nobody_waits_for_it() {
    let house = House::new().await;
    let (_deaf, answer) = house.joined(Speech::Eio4WebSocket).await;
    let (mut other, _) = house.joined(Speech::Eio4WebSocket).await;
    let deaf = house.cluster.state().members[answer["id"].as_str().unwrap()].1.clone();
    let text = TextEvent { from: "room".into(), to_all: true, message: "x".repeat(16_000) };
    let event = JoinEvent { seq: 0, event: Some(join_event::Event::Text(text)) };
    let fill = async { while deaf.send(Ok(event.clone())).await.is_ok() {} };
    tokio::time::timeout(super::PATIENCE, fill).await.expect("an end to patience");
    eventually("it has left", || house.cluster.calls("leave") == [answer["id"].clone()]).await;
    assert_eq!(other.request("text", json!({"to": "all", "message": "x"})).await.0, "ok");
}

#[tokio::test]
async fn when_the_agent_dies_clients_are_dropped() {
    let house = House::new().await;
    let (mut client, _) = house.joined(Speech::Eio4WebSocket).await;
    let (mut other, _) = house.joined(Speech::Eio3Polling).await;
    house.cluster.kill_agent();
    for client in [&mut client, &mut other] {
        client.disconnected().await;
        assert_eq!(client.order[client.order.len() - 2..], ["drop", "41"]);
    }
}

#[tokio::test]
async fn when_the_portal_ends_clients_are_dropped_and_leave() {
    let mut house = House::new().await;
    let (mut client, answer) = house.joined(Speech::Eio4WebSocket).await;
    house.stop.cancel();
    client.disconnected().await;
    assert!(client.order.contains(&"drop".to_owned()));
    tokio::time::timeout(super::PATIENCE, &mut house.ended).await.unwrap().unwrap().unwrap();
    assert_eq!(house.cluster.calls("leave"), [answer["id"].clone()]);
    assert!(
        house.cluster.state().workers.iter().all(|w| w.public_address.is_empty()),
        "its lease is given back"
    );
}

#[tokio::test]
async fn controls_reach_the_room() {
    let house = House::new().await;
    let (mut client, _) = house.joined(Speech::Eio4WebSocket).await;
    let control = |operation: &str, data: Value| json!({"id": "s", "operation": operation, "data": data});
    for (event, data) in [
        ("stream-control", control("pause", json!("audio"))),
        ("stream-control", control("mix", json!("common"))),
        ("subscription-control", control("play", json!("av"))),
        ("subscription-control", control("update", json!({"video": {"parameters": {}}}))),
        ("unpublish", json!({"id": "0a"})),
        ("unsubscribe", json!({"id": "0b"})),
    ] {
        assert_eq!(client.request(event, data).await, ("ok".to_owned(), Value::Null), "{event}");
    }
    assert_eq!(house.cluster.calls("control_stream").len(), 2);
    assert_eq!(
        house.cluster.calls("control_subscription").len(),
        1,
        "an empty update asks the room for nothing"
    );
    assert_eq!(house.cluster.calls("unsubscribe"), ["0b"]);
    let subscribe = json!({"media": {"tracks": [{"type": "video", "mid": "2", "from": "s"}]}, "transport": {"type": "webrtc", "id": "0a"}});
    assert_eq!(client.request("subscribe", subscribe).await.1["transportId"], "0a");
}

#[tokio::test]
async fn pages_of_other_origins_may_connect() {
    let house = House::new().await;
    let headers = [("origin", "https://app.example")];
    let answer = http::send(house.http, "GET", "/socket.io/?EIO=4&transport=polling", &headers, "").await;
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));

    let strict = House::with(&["--cors", "https://one.example,https://two.example"]).await;
    let origin_of = async |origin: &str| {
        let headers = [("origin", origin)];
        let answer =
            http::send(strict.http, "GET", "/socket.io/?EIO=4&transport=polling", &headers, "").await;
        answer.header("access-control-allow-origin").map(str::to_owned)
    };
    assert_eq!(origin_of("https://two.example").await.as_deref(), Some("https://two.example"));
    assert_eq!(origin_of("https://three.example").await, None);
}
