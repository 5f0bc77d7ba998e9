//! A portal that is to end while clients are in rooms.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;

use super::{
    House, PATIENCE,
    client::{Client, Speech, login_request},
    cluster::ROOM,
    http,
    reconnection::ticket_of,
};

impl House {
    async fn over(&mut self) {
        timeout(PATIENCE, &mut self.ended).await.expect("it ends").unwrap().unwrap();
    }

    async fn ready(&self) -> u16 {
        http::send(self.http, "GET", "/ready", &[], "").await.status
    }
}

#[tokio::test]
async fn who_can_come_back_is_sent_to_another_portal_and_misses_nothing() {
    for speech in Speech::ALL {
        let mut first = House::new().await;
        let second = first.beside().await;
        let mut client = Client::connect(first.http, speech).await;
        let (status, answer) = client.login(&first.token("aki").await).await;
        assert_eq!(status, "ok");
        first.cluster.say("one").await;
        // A request that is on its way is answered.
        let asked = client.send_event("unpublish", &[json!({"id": "0a"})]).await;
        first.shutdown.drain();
        assert_eq!(client.ack(asked).await.0, "ok", "{speech:?}");
        client.disconnected().await;
        assert!(
            !client.order.iter().any(|packet| packet == "41" || packet == "drop"),
            "SDKs come back from a broken connection alone: {:?}",
            client.order
        );
        first.cluster.say("two").await;
        let mut again = Client::connect(second.http, speech).await;
        assert_eq!(again.request("relogin", ticket_of(&answer).into()).await.0, "ok", "{speech:?}");
        let mut texts = Vec::new();
        for told in [&mut client, &mut again] {
            let told = told.events.iter().filter(|(name, _)| name == "text");
            texts.extend(told.map(|(_, text)| text["message"].clone()));
        }
        if texts.last() != Some(&json!("two")) {
            texts.push(again.event("text").await["message"].clone());
        }
        texts.retain(|text| text != "early");
        texts.dedup();
        assert_eq!(texts, ["one", "two"], "{speech:?}");
        assert!(first.cluster.calls("leave").is_empty(), "nobody has left");
        first.over().await;
    }
}

#[tokio::test]
async fn who_always_asks_has_every_answer_before_the_connection_breaks() {
    for speech in [Speech::Eio3WebSocket, Speech::Eio4WebSocket] {
        let mut house = House::new().await;
        let mut client = Client::connect(house.http, speech).await;
        assert_eq!(client.login(&house.token("aki").await).await.0, "ok");
        house.shutdown.drain();
        // Never quiet for long enough, and it does not matter: an ack that does not come fails this.
        loop {
            assert_eq!(client.request("unpublish", json!({"id": "0a"})).await.0, "ok", "{speech:?}");
            if !client.listens(Duration::from_millis(40)).await {
                break;
            }
        }
        assert!(!client.order.iter().any(|packet| packet == "41" || packet == "drop"), "{:?}", client.order);
        house.over().await;
    }
}

#[tokio::test]
async fn who_asks_without_end_is_answered_what_was_taken() {
    let mut house = House::new().await;
    let mut client = Client::connect(house.http, Speech::Eio4WebSocket).await;
    assert_eq!(client.login(&house.token("aki").await).await.0, "ok");
    house.shutdown.drain();
    let mut asked = 0;
    // There is always one more on its way.
    while client.listens(Duration::from_millis(2)).await {
        client.send_event("unpublish", &[json!({"id": "0a"})]).await;
        asked += 1;
    }
    let answers = client.order.iter().filter(|packet| *packet == "ack").count() - 1;
    let done = house.cluster.calls("unpublish").len();
    assert!(answers > 0 && answers <= asked, "{answers} of {asked}");
    assert_eq!(answers, done, "what was done was answered, and what was not answered was not done");
    assert!(!client.order.iter().any(|packet| packet == "41" || packet == "drop"), "{:?}", client.order);
    house.over().await;
}

#[tokio::test]
async fn who_could_not_come_back_stays_and_all_others_meanwhile() {
    let mut house = House::with(&["--drain-timeout", "600"]).await;
    let mut login = login_request(&house.token("kiosk").await);
    login["userAgent"]["sdk"]["type"] = "Toaster".into();
    let mut kiosk = Client::connect(house.http, Speech::Eio4WebSocket).await;
    let (status, answer) = kiosk.request("login", login).await;
    assert_eq!((status.as_str(), answer.get("reconnectionTicket")), ("ok", None));
    let mut aki = Client::connect(house.http, Speech::Eio4WebSocket).await;
    aki.login(&house.token("aki").await).await;

    house.shutdown.drain();
    while house.ready().await == 200 {
        tokio::task::yield_now().await;
    }
    assert_eq!(aki.request("unpublish", json!({"id": "0a"})).await.0, "ok", "aki is served to the end");
    let token = house.token("camera").await;
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/sdp")];
    let refused = http::send(house.http, "POST", &format!("/whip/{ROOM}"), &headers, "v=0").await;
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true), "{refused:?}");

    assert_eq!(kiosk.request_with("logout", &[]).await.0, "ok");
    aki.disconnected().await;
    assert!(!aki.order.iter().any(|packet| packet == "drop"), "{:?}", aki.order);
    house.over().await;
}

#[tokio::test]
async fn who_does_not_leave_in_time_is_dropped() {
    let mut house = House::with(&["--drain-timeout", "0"]).await;
    let mut login = login_request(&house.token("kiosk").await);
    login["userAgent"]["sdk"]["type"] = "Toaster".into();
    let mut kiosk = Client::connect(house.http, Speech::Eio4WebSocket).await;
    assert_eq!(kiosk.request("login", login).await.0, "ok");
    house.shutdown.drain();
    kiosk.event("drop").await;
    kiosk.disconnected().await;
    house.over().await;
    assert_eq!(house.cluster.calls("leave").len(), 1);
}
