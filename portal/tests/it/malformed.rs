//! Whatever comes in, the portal goes on.

use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Map, Value, json};

use super::{
    House,
    client::{Client, Speech},
    http,
};

const EVENTS: [&str; 13] = [
    "login",
    "logout",
    "relogin",
    "refreshReconnectionTicket",
    "publish",
    "unpublish",
    "subscribe",
    "unsubscribe",
    "stream-control",
    "subscription-control",
    "soac",
    "text",
    "",
];

/// Random JSON out of words that the protocol knows.
fn noise(random: &mut StdRng, depth: u32) -> Value {
    const WORDS: [&str; 26] = [
        "media",
        "tracks",
        "type",
        "mid",
        "source",
        "from",
        "audio",
        "video",
        "transport",
        "id",
        "signaling",
        "offer",
        "sdp",
        "candidate",
        "candidates",
        "removed-candidates",
        "operation",
        "data",
        "to",
        "all",
        "message",
        "parameters",
        "bitrate",
        "x0.6",
        "",
        "\u{0}\u{ffff}🎉",
    ];
    let word = |random: &mut StdRng| WORDS[random.random_range(0..WORDS.len())];
    match random.random_range(0..if depth == 0 { 6 } else { 10 }) {
        0 => Value::Null,
        1 => random.random::<bool>().into(),
        2 => random.random::<i64>().into(),
        3 => random.random::<f64>().into(),
        4 | 5 => word(random).into(),
        6 => (0..random.random_range(0..4)).map(|_| noise(random, depth - 1)).collect(),
        _ => {
            let members: Map<String, Value> = (0..random.random_range(0..6))
                .map(|_| (word(random).to_owned(), noise(random, depth - 1)))
                .collect();
            members.into()
        }
    }
}

#[tokio::test]
async fn random_requests_are_answered_and_harm_nobody() {
    let house = House::new().await;
    let (mut witness, _) = house.joined(Speech::Eio3WebSocket).await;
    let mut random = StdRng::seed_from_u64(20_261_121);
    for speech in [Speech::Eio4WebSocket, Speech::Eio3WebSocket] {
        let (mut client, _) = house.joined(speech).await;
        for _ in 0..1500 {
            let event = EVENTS[random.random_range(0..EVENTS.len())];
            if event == "logout" {
                continue;
            }
            let (status, _) = client.request(event, noise(&mut random, 4)).await;
            assert!(status == "ok" || status == "error");
        }
        assert_eq!(client.request("text", json!({"to": "all", "message": "still here"})).await.0, "ok");
    }
    let mut stranger = Client::connect(house.http, Speech::Eio4WebSocket).await;
    for event in EVENTS.iter().filter(|e| !e.ends_with("login")) {
        assert_eq!(stranger.request(event, noise(&mut random, 4)).await.0, "error");
    }
    assert_eq!(witness.request("text", json!({"to": "all", "message": "all is well"})).await.0, "ok");
}

#[tokio::test]
async fn broken_packets_end_at_most_their_own_connection() {
    let house = House::new().await;
    let (mut witness, _) = house.joined(Speech::Eio4WebSocket).await;
    let packets = [
        "42",
        "42[",
        "42[]",
        "42[1]",
        "42{}",
        "42null",
        "42[null]",
        "4",
        "",
        "9",
        "é",
        "49",
        "45",
        "451-",
        "451-[\"a\"]",
        "46",
        "43",
        "4300[",
        "40/other,",
        "42/other,[\"a\"]",
        "41/other",
        "4299999999999999999999[\"text\"]",
        "b!!!",
        "42[\"a\\",
        "4é",
        "2é",
        "6",
        "0{}",
        "42[\"\\u0000\",{}]",
    ];
    for speech in Speech::ALL {
        for packet in packets {
            let client = Client::connect(house.http, speech).await;
            // It may be refused, or end the connection; sending must not be expected to work.
            let sent = tokio::spawn(async move {
                let mut client = client;
                client.send(packet).await;
            });
            let _: Result<_, _> =
                tokio::time::timeout(Duration::from_secs(5), sent).await.expect("an answer in time");
        }
    }
    let nested = format!("42[\"text\",{}{}]", "[".repeat(100_000), "]".repeat(100_000));
    let mut client = Client::connect(house.http, Speech::Eio4WebSocket).await;
    client.send(&nested).await;
    assert_eq!(witness.request("text", json!({"to": "all", "message": "all is well"})).await.0, "ok");
}

#[tokio::test]
async fn messages_that_are_too_large_are_not_taken() {
    let house = House::new().await;
    let mut client = Client::connect(house.http, Speech::Eio4WebSocket).await;
    client.send(&format!("42{}", json!(["text", {"to": "all", "message": "x".repeat(1_100_000)}]))).await;
    client.disconnected().await;
    let (mut client, _) = house.joined(Speech::Eio4WebSocket).await;
    let (status, text) = client.request("text", json!({"to": "all", "message": "x".repeat(900_000)})).await;
    assert_eq!(status, "error");
    assert!(text.as_str().unwrap().contains("longer"), "{text}");
}

#[tokio::test]
async fn a_flood_of_requests_is_refused_not_hoarded() {
    let house = House::new().await;
    let (mut client, _) = house.joined(Speech::Eio4WebSocket).await;
    let big = "x".repeat(60_000);
    // No await on answers: most of these wait in the queue, the rest finds no place.
    for id in 1000..1100 {
        client
            .send(&format!(
                "42{id}{}",
                json!(["soac", {"id": "t", "signaling": {"type": "offer", "sdp": big}}])
            ))
            .await;
    }
    let mut refused = 0;
    for id in 1000..1100 {
        if client.ack(id).await.1 == "Too many requests" {
            refused += 1;
        }
    }
    assert!(refused < 100, "some are served");
    assert_eq!(client.request("text", json!({"to": "all", "message": "still here"})).await.0, "ok");
}

#[tokio::test]
async fn random_http_is_answered() {
    let house = House::new().await;
    let paths = [
        "/",
        "/v1",
        "/v1/rooms",
        "/v1/rooms/%00",
        "/v1.1/rooms/a/b/c/d/e",
        "/services",
        "//",
        "/socket.io/",
        "/socket.io/?EIO=9",
        "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA",
        "/socket.io/?EIO=3&transport=carrier-pigeon",
        "/sample/tokens",
        "/ready",
        "/%2e%2e/%2e%2e/etc/passwd",
    ];
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "BREW"] {
        for path in paths {
            for (port, body) in
                [(house.http, "{"), (house.management, "[[[["), (house.http, ""), (house.management, "\u{0}")]
            {
                let headers = [("content-type", "application/json"), ("authorization", "MAuth ,,,=,")];
                let answer = http::send(port, method, path, &headers, body).await;
                assert!(answer.status >= 200, "{method} {path}");
            }
        }
    }
    assert_eq!(http::send(house.http, "GET", "/health", &[], "").await.status, 200);
}
