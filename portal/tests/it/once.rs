//! Whatever the way to the portal does, a client gets every notification once and in order.

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    House, PATIENCE,
    client::{Client, Speech, login_request},
    eventually,
    reconnection::ticket_of,
    relay::Relay,
};

/// How the way breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Break {
    /// Both sides notice it.
    Cut,
    /// What the portal sends is lost, and the portal takes the connection for open when the client is back on another one.
    Silent,
}

/// All ways of speaking; `true`: upgraded from polling to WebSocket.
const WAYS: [(Speech, bool); 6] = [
    (Speech::Eio3Polling, false),
    (Speech::Eio3Polling, true),
    (Speech::Eio3WebSocket, false),
    (Speech::Eio4Polling, false),
    (Speech::Eio4Polling, true),
    (Speech::Eio4WebSocket, false),
];

async fn connect(relay: &Relay, (speech, upgraded): (Speech, bool)) -> Client {
    let mut client = Client::connect(relay.address, speech).await;
    if upgraded {
        client.upgrade().await;
    }
    client
}

/// The numbers among the texts that the client gets, up to `last`.
async fn numbers(client: &mut Client, last: u64) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        numbers.extend(client.event("text").await["message"].as_str().unwrap().parse::<u64>());
    }
    numbers
}

impl House {
    async fn count(&self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            self.cluster.say(&number.to_string()).await;
        }
    }

    async fn joined_by(&self, client: &mut Client, protocol: &str, sdk: &str) -> Value {
        let mut login = login_request(&self.token("aki").await);
        login["protocol"] = protocol.into();
        login["userAgent"]["sdk"]["type"] = sdk.into();
        let (status, answer) = client.request("login", login).await;
        assert_eq!(status, "ok", "{answer}");
        answer
    }

    /// Whether the receipts for all that this participant was told have reached the room.
    fn is_receipted(&self, id: &str) -> bool {
        let state = self.cluster.state();
        let (told, acknowledged) = &state.told[id];
        told.len() as u64 == *acknowledged
    }

    /// Reads until the portal has the receipts for everything.
    async fn receipted(&self, client: &mut Client, id: &str) {
        let give_up = Instant::now() + PATIENCE;
        while !self.is_receipted(id) {
            assert!(Instant::now() < give_up, "no receipts");
            client.request("unpublish", json!({"id": "0a"})).await;
        }
    }
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_when_the_way_breaks() {
    let house = House::with(&["--acknowledge-interval-ms", "10"]).await;
    for way in WAYS {
        for protocol in ["1.2", "1.1"] {
            for broken in [Break::Cut, Break::Silent] {
                let case = format!("{way:?} {protocol} {broken:?}");
                let mut relay = Relay::to(house.http).await;
                let mut client = connect(&relay, way).await;
                let answer = house.joined_by(&mut client, protocol, "JavaScript").await;
                let id = answer["id"].as_str().unwrap();
                let mut ticket = ticket_of(&answer);
                let mut got = Vec::new();
                // The way breaks again and again.
                for round in 0..3 {
                    let (first, second) = (round * 10, round * 10 + 5);
                    house.count(first..second).await;
                    got.extend(numbers(&mut client, second - 1).await);
                    house.receipted(&mut client, id).await;
                    match broken {
                        Break::Cut => {
                            relay.cut();
                            house.count(second..second + 5).await;
                        }
                        Break::Silent => {
                            relay.swallow();
                            let reader = tokio::spawn(async move { client.event("never").await });
                            house.count(second..second + 5).await;
                            eventually("it goes into the void", || relay.swallowed() > 0).await;
                            reader.abort();
                        }
                    }
                    let next = Relay::to(house.http).await;
                    client = connect(&next, way).await;
                    let (status, fresh) = client.request("relogin", ticket.into()).await;
                    assert_eq!(status, "ok", "{case}: {fresh}");
                    relay = next;
                    ticket = fresh.as_str().unwrap().to_owned();
                    got.extend(numbers(&mut client, second + 4).await);
                }
                assert_eq!(got, (0..30).collect::<Vec<_>>(), "{case}");
                assert_eq!(client.request_with("logout", &[]).await.0, "ok");
            }
        }
    }
    assert!(house.cluster.calls("leave").len() == 24, "nobody has left but by logout");
}

#[tokio::test]
async fn the_own_sdk_counts_and_gets_exactly_what_follows() {
    let house = House::new().await;
    for (way, plain) in WAYS.into_iter().zip([false, true].into_iter().cycle()) {
        let relay = Relay::to(house.http).await;
        let mut client = connect(&relay, way).await;
        let answer = house.joined_by(&mut client, "1.2", "Kaigi").await;
        house.count(0..5).await;
        assert_eq!(numbers(&mut client, 4).await, [0, 1, 2, 3, 4]);
        let have = *client.seqs.last().unwrap();
        assert_eq!(client.seqs, (1..=have).collect::<Vec<_>>(), "{way:?}");
        // At once, without any receipt.
        relay.cut();
        house.count(5..10).await;
        let mut client = Client::connect(house.http, way.0).await;
        let data = json!({"ticket": ticket_of(&answer), "seq": have});
        let (status, ticket) = client.request("relogin", data).await;
        assert_eq!((status.as_str(), ticket.is_string()), ("ok", true), "{ticket}");
        assert_eq!(numbers(&mut client, 9).await, [5, 6, 7, 8, 9], "{way:?}");
        assert_eq!(client.seqs, (have + 1..=have + 5).collect::<Vec<_>>());
        if plain {
            // A plain ticket will do as well; the numbers tell what comes twice.
            let mut again = Client::connect(house.http, way.0).await;
            assert_eq!(again.request("relogin", ticket).await.0, "ok");
            house.count(10..11).await;
            numbers(&mut again, 10).await;
            assert_eq!(again.seqs.last(), Some(&(have + 6)));
            client = again;
        }
        client.request_with("logout", &[]).await;
    }
}

#[tokio::test]
async fn others_are_told_no_numbers() {
    let house = House::new().await;
    let (mut client, _) = house.joined(Speech::Eio4WebSocket).await;
    house.count(0..1).await;
    numbers(&mut client, 0).await;
    assert!(client.seqs.is_empty());
}

#[tokio::test]
async fn a_ticket_whose_answer_was_lost_is_good_once_more() {
    let house = House::new().await;
    for way in WAYS {
        let (client, answer) = house.joined(way.0).await;
        let ticket = json!(ticket_of(&answer));
        client.vanish().await;
        let relay = Relay::to(house.http).await;
        let mut client = connect(&relay, way).await;
        relay.swallow();
        let resumed = house.cluster.calls("resume").len();
        let request = format!("4290{}", json!(["relogin", ticket]));
        let asking = tokio::spawn(async move {
            client.send(&request).await;
            client.ack(90).await
        });
        eventually("it is back", || house.cluster.calls("resume").len() > resumed).await;
        eventually("the answer is lost", || relay.swallowed() > 0).await;
        asking.abort();

        let mut client = Client::connect(house.http, way.0).await;
        assert_eq!(client.request("relogin", ticket.clone()).await.0, "ok", "{way:?}");
        assert_eq!(house.refused(ticket).await, "Ticket is expired", "{way:?}: used twice");
        assert_eq!(client.request_with("logout", &[]).await.0, "ok");
    }
}

#[tokio::test]
async fn who_has_shown_that_it_is_back_has_used_its_ticket_up() {
    let house = House::new().await;
    for way in WAYS {
        let (client, answer) = house.joined(way.0).await;
        let ticket = json!(ticket_of(&answer));
        client.vanish().await;
        let relay = Relay::to(house.http).await;
        let mut client = connect(&relay, way).await;
        assert_eq!(client.request("relogin", ticket.clone()).await.0, "ok");
        // No request: what it has received is receipted without it.
        let reading = tokio::spawn(async move { client.event("never").await });
        house.count(0..1).await;
        house.used_up(&ticket).await;
        assert_eq!(house.refused(ticket).await, "Ticket is expired", "{way:?}");
        reading.abort();
    }
}
