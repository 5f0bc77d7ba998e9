//! OWT's peer server: clients of OWT's peer-to-peer mode, as raw Engine.IO.

use std::net::SocketAddr;

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{
    House,
    client::{Client, Speech},
    cluster::{KEY, SERVICE},
    http,
};

const PORT: [&str; 2] = ["--owt-peer-port", "0"];

impl House {
    fn owt(&self) -> SocketAddr {
        self.owt_peers.unwrap()
    }
}

impl Client {
    /// Sends an event and waits for what its ack carries: `null` if nothing.
    async fn plain(&mut self, event: &str, data: Value) -> Value {
        let id = self.send_event(event, &[data]).await;
        self.plain_ack(id).await.first().cloned().unwrap_or_default()
    }

    async fn known(server: SocketAddr, speech: Speech, token: &str) -> Self {
        let mut client = Self::connect(server, speech).await;
        assert_eq!(client.plain("authentication", json!({"token": token})).await, json!({"uid": token}));
        assert_eq!(client.event("server-authenticated").await, json!({"uid": token}));
        client
    }
}

fn message(to: &str, data: &str) -> Value {
    json!({"to": to, "data": data})
}

#[tokio::test]
async fn clients_of_all_kinds_reach_each_other_at_several_portals() {
    let one = House::with(&PORT).await;
    let two = House::of(one.cluster.clone(), &PORT).await;
    for speech in Speech::ALL {
        let mut a = Client::known(one.owt(), speech, "aki@example.com").await;
        let mut b = Client::known(two.owt(), Speech::Eio4WebSocket, "愛子").await;
        assert_eq!(a.plain("owt-message", message("愛子", "{\"type\":\"chat-ua\"}")).await, Value::Null);
        let told = b.event("owt-message").await;
        assert_eq!(told, json!({"from": "aki@example.com", "data": "{\"type\":\"chat-ua\"}"}), "{speech:?}");
        assert_eq!(b.plain("owt-message", message("aki@example.com", "x")).await, Value::Null);
        assert_eq!(a.event("owt-message").await["from"], "愛子");
        assert_eq!(a.plain("owt-message", message("nobody", "x")).await, "2201", "as OWT's server has it");
        assert_eq!(a.plain("owt-message", json!("x")).await, "2402");
        a.vanish().await;
        b.vanish().await;
    }
}

#[tokio::test]
async fn one_who_connects_elsewhere_is_told_where_he_was_not_to_come_back() {
    let one = House::with(&PORT).await;
    let two = House::of(one.cluster.clone(), &PORT).await;
    let mut older = Client::known(one.owt(), Speech::Eio4WebSocket, "aki").await;
    let mut newer = Client::known(two.owt(), Speech::Eio4WebSocket, "aki").await;
    older.event("server-disconnect").await;
    older.disconnected().await;
    assert_eq!(newer.plain("owt-message", message("aki", "to me")).await, Value::Null);
    assert_eq!(newer.event("owt-message").await["data"], "to me");
}

#[tokio::test]
async fn who_says_no_name_gets_one_and_who_is_not_known_is_put_out() {
    let house = House::with(&PORT).await;
    let mut nameless = Client::connect(house.owt(), Speech::Eio4WebSocket).await;
    let known = nameless.plain("authentication", json!({})).await;
    assert!(known["uid"].as_str().unwrap().ends_with("@anonymous"), "{known}");
    let mut unknown = Client::connect(house.owt(), Speech::Eio4WebSocket).await;
    assert_eq!(unknown.plain("owt-message", message("a", "x")).await, 2120);
    unknown.disconnected().await;
    let mut bad = Client::connect(house.owt(), Speech::Eio4WebSocket).await;
    assert_eq!(bad.plain("authentication", json!({"token": "a\nb"})).await, json!({"error": 2121}));
    bad.disconnected().await;
    assert_eq!(http::send(house.owt(), "GET", "/", &[], "").await.status, 405);
}

#[tokio::test]
async fn with_tokens_the_name_is_the_tokens() {
    let house = House::with(&["--owt-peer-port", "0", "--peer-rooms", "token"]).await;
    let token = |grants: Value| {
        let claims =
            json!({"iss": SERVICE, "exp": jsonwebtoken::get_current_timestamp() + 60, "grants": grants});
        encode(&Header::default(), &claims, &EncodingKey::from_secret(KEY.as_bytes())).unwrap()
    };
    for refused in ["aki".to_owned(), token(json!({"peers": {}})), token(json!({}))] {
        let mut client = Client::connect(house.owt(), Speech::Eio4WebSocket).await;
        assert_eq!(client.plain("authentication", json!({"token": refused})).await, json!({"error": 2121}));
        client.disconnected().await;
    }
    let mut client = Client::connect(house.owt(), Speech::Eio4WebSocket).await;
    let aki = token(json!({"peers": {"peer": "aki"}}));
    assert_eq!(client.plain("authentication", json!({"token": aki})).await, json!({"uid": "aki"}));
}

#[tokio::test]
async fn a_hub_that_begins_anew_is_not_noticed() {
    let house = House::with(&PORT).await;
    let mut a = Client::known(house.owt(), Speech::Eio4WebSocket, "a").await;
    let mut b = Client::known(house.owt(), Speech::Eio4WebSocket, "b").await;
    house.cluster.restart_hub_of_peers();
    // Refused while the hub is away; more often than that would be too many messages.
    let sent = async {
        while a.plain("owt-message", message("b", "x")).await != Value::Null {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(super::PATIENCE, sent).await.unwrap();
    assert_eq!(b.event("owt-message").await["from"], "a");
}
