//! Clients whose connection breaks come back with their ticket.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    House,
    client::{Client, Speech, login_request},
    eventually,
};

pub(crate) fn ticket_of(answer: &Value) -> String {
    answer["reconnectionTicket"].as_str().unwrap().to_owned()
}

fn altered(ticket: &str, member: &str, value: Value) -> String {
    let mut json: Value = serde_json::from_slice(&STANDARD.decode(ticket).unwrap()).unwrap();
    json[member] = value;
    STANDARD.encode(json.to_string())
}

impl House {
    /// A client that has got everything so far, which the room knows.
    async fn settled(&self, speech: Speech) -> (Client, Value) {
        let (mut client, answer) = self.joined(speech).await;
        assert_eq!(client.event("text").await["message"], "early");
        (client, answer)
    }

    /// Waits until the room knows that this participant is away.
    pub(crate) async fn away(&self, answer: &Value) {
        let told =
            || self.cluster.calls("acknowledge").iter().filter(|c| c["participant"] == answer["id"]).count();
        eventually("the client is away", || told() >= 2).await;
    }

    /// Waits until this ticket can't be used again.
    pub(crate) async fn used_up(&self, ticket: &Value) {
        let json: Value =
            serde_json::from_slice(&STANDARD.decode(ticket.as_str().unwrap()).unwrap()).unwrap();
        let key = format!("ticket-{}-again", json["ticketId"].as_str().unwrap());
        let remembered = || self.cluster.state().documents.keys().any(|(_, k)| *k == key);
        eventually("the ticket is used up", remembered).await;
    }

    pub(crate) async fn refused(&self, ticket: Value) -> String {
        let mut client = Client::connect(self.http, Speech::Eio4WebSocket).await;
        let (status, text) = client.request("relogin", ticket).await;
        assert_eq!(status, "error");
        client.disconnected().await;
        text.as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn what_was_told_meanwhile_comes_in_order_right_after_the_answer() {
    let house = House::new().await;
    for speech in Speech::ALL {
        let (client, answer) = house.settled(speech).await;
        client.vanish().await;
        house.away(&answer).await;
        for i in 0..20 {
            house.cluster.say(&format!("missed {i}")).await;
        }
        let mut client = Client::connect(house.http, speech).await;
        let (status, fresh) = client.request("relogin", ticket_of(&answer).into()).await;
        assert_eq!(status, "ok", "{fresh}");
        assert!(fresh.as_str().is_some_and(|ticket| ticket != ticket_of(&answer)), "a new ticket, as text");
        // The first text is so young that the room can't know whether it has arrived.
        let mut first = client.event("text").await;
        if first["message"] == "early" {
            first = client.event("text").await;
        }
        assert_eq!(first["message"], "missed 0");
        for i in 1..20 {
            assert_eq!(client.event("text").await["message"], format!("missed {i}"));
        }
        assert_eq!(client.order[0], "ack", "{:?}", client.order);
        house.cluster.say("now").await;
        assert_eq!(client.event("text").await["message"], "now");
        assert_eq!(client.request_with("logout", &[]).await.0, "ok");
    }
    assert!(house.cluster.calls("join").iter().all(|join| join["window"] == 60_000));
}

#[tokio::test]
async fn what_a_client_has_surely_got_is_not_told_again() {
    let house = House::new().await;
    let (mut client, answer) = house.settled(Speech::Eio4WebSocket).await;
    // Requests are signs of life; the room hears of them now and then.
    let known = |call: &Value| call["participant"] == answer["id"] && call["seq"].as_u64() >= Some(1);
    let give_up = tokio::time::Instant::now() + super::PATIENCE;
    while !house.cluster.calls("acknowledge").iter().any(known) {
        assert!(tokio::time::Instant::now() < give_up, "the text is never known to have arrived");
        client.request("text", json!({"to": "nobody", "message": "x"})).await;
    }
    client.vanish().await;
    house.away(&answer).await;
    house.cluster.say("missed").await;
    let mut client = Client::connect(house.http, Speech::Eio4WebSocket).await;
    assert_eq!(client.request("relogin", ticket_of(&answer).into()).await.0, "ok");
    assert_eq!(client.event("text").await["message"], "missed");
}

#[tokio::test]
async fn requests_sent_right_behind_wait_until_the_client_is_back() {
    let house = House::new().await;
    let (client, answer) = house.settled(Speech::Eio4WebSocket).await;
    client.vanish().await;
    house.away(&answer).await;
    let mut client = Client::connect(house.http, Speech::Eio4WebSocket).await;
    client.send(&format!("4290{}", json!(["relogin", ticket_of(&answer)]))).await;
    client.send(&format!("4291{}", json!(["text", {"to": "all", "message": "queued"}]))).await;
    assert_eq!(client.ack(90).await.0, "ok");
    assert_eq!(client.ack(91).await.0, "ok");
    assert_eq!(house.cluster.calls("text"), [json!({"to": "all", "message": "queued"})]);
}

#[tokio::test]
async fn a_ticket_is_good_once_and_at_every_portal() {
    let house = House::new().await;
    let other = house.beside().await;
    let (mut client, answer) = house.settled(Speech::Eio4WebSocket).await;
    let refreshed = client.request_with("refreshReconnectionTicket", &[]).await.1;
    client.vanish().await;
    house.away(&answer).await;
    house.cluster.say("missed").await;

    let mut client = Client::connect(other.http, Speech::Eio4WebSocket).await;
    assert_eq!(client.request("relogin", refreshed.clone()).await.0, "ok");
    while client.event("text").await["message"] != "missed" {}
    // It has shown that it is back.
    client.request("text", json!({"to": "nobody", "message": "x"})).await;
    house.used_up(&refreshed).await;
    assert_eq!(house.refused(refreshed.clone()).await, "Ticket is expired", "used");
    assert_eq!(client.request("relogin", refreshed).await.1, "Connection is in service");

    // The older ticket was not used, so that it is still good: it takes the place over.
    let mut third = Client::connect(house.http, Speech::Eio4WebSocket).await;
    assert_eq!(third.request("relogin", ticket_of(&answer).into()).await.0, "ok");
    client.disconnected().await;
    assert_eq!(client.order[client.order.len() - 2..], ["drop", "41"]);
    assert!(house.cluster.calls("leave").is_empty(), "the one put out does not leave in the other's name");
    assert_eq!(third.request("text", json!({"to": "all", "message": "x"})).await.0, "ok");
}

#[tokio::test]
async fn bad_tickets_are_told_why() {
    let house = House::with(&["--reconnection-ticket-lifetime", "2"]).await;
    let (_client, answer) = house.settled(Speech::Eio4WebSocket).await;
    let ticket = ticket_of(&answer);
    for bad in [Value::Null, json!("t"), json!({"ticket": "t", "seq": 1}), json!({"seq": 1}), json!(7)] {
        assert_eq!(house.refused(bad).await, "Invalid reconnection ticket signature");
    }
    for (member, value) in [
        ("participantId", json!("other")),
        ("roomId", json!("x")),
        ("notAfter", json!(9_999_999_999_999_u64)),
    ] {
        let text = house.refused(altered(&ticket, member, value).into()).await;
        assert_eq!(text, "Invalid reconnection ticket signature", "{member}");
    }
    assert_eq!(house.refused(altered(&ticket, "notAfter", json!(1)).into()).await, "Ticket is expired");
    let (mut gone, answer) = house.settled(Speech::Eio4WebSocket).await;
    gone.request_with("logout", &[]).await;
    assert_eq!(house.refused(ticket_of(&answer).into()).await, "Client does NOT exist");
}

#[tokio::test]
async fn where_nobody_may_come_back_tickets_are_refused() {
    let house = House::with(&["--reconnection-timeout", "0"]).await;
    let (_client, answer) = house.settled(Speech::Eio4WebSocket).await;
    assert_eq!(house.refused(ticket_of(&answer).into()).await, "Reconnection is not allowed");
    assert_eq!(house.cluster.calls("join")[0]["window"], 0);
}

#[tokio::test]
async fn clients_without_a_ticket_leave_at_once() {
    let house = House::new().await;
    let mut login = login_request(&house.token("aki").await);
    login["userAgent"]["sdk"]["type"] = "Mine".into();
    let mut client = Client::connect(house.http, Speech::Eio4WebSocket).await;
    let (status, answer) = client.request("login", login).await;
    assert_eq!((status.as_str(), &answer["reconnectionTicket"]), ("ok", &Value::Null));
    let refresh = client.request_with("refreshReconnectionTicket", &[]).await;
    assert_eq!(refresh, ("error".to_owned(), json!("Reconnection is not enabled.")));
    client.vanish().await;
    eventually("it has left", || house.cluster.calls("leave") == [answer["id"].clone()]).await;
}
