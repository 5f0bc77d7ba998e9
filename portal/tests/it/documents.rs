//! Stored documents: changed by several at once, and many of them.

use std::collections::BTreeSet;

use futures::future::join_all;
use kaigi_proto::v1::Collection;
use kaigi_room_config::RoomConfig;
use serde_json::{Value, json};

use super::{
    House,
    cluster::{OTHER_SERVICE, ROOM, SERVICE},
};

/// Attributes of a room that hold a number or a text.
const ATTRIBUTES: [&str; 4] = ["name", "participantLimit", "inputLimit", "selectActiveAudio"];

fn value(attribute: &str, i: usize) -> Value {
    match attribute {
        "name" => format!("name {i}").into(),
        "selectActiveAudio" => (i % 8 < 4).into(),
        _ => i.into(),
    }
}

#[tokio::test]
async fn of_many_who_change_a_room_at_once_nobody_is_overwritten() {
    let house = House::new().await;
    // Not only one portal's own order.
    let beside = house.beside().await;
    let path = format!("/v1/rooms/{ROOM}");
    let before = house.rest("GET", &path, Value::Null).await.json();
    house.cluster.state().history.clear();

    let puts = (0..100).map(async |i| {
        let attribute = ATTRIBUTES[i % ATTRIBUTES.len()];
        let portal = if i % 2 == 0 { &house } else { &beside };
        let answer = portal.rest("PUT", &path, json!({ attribute: value(attribute, i) })).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()[attribute], value(attribute, i), "the answer shows what was asked for");
    });
    join_all(puts).await;

    // The use of nonces is stored as well, as documents without content.
    let mut history = house.cluster.state().history.clone();
    history.retain(|document| !document.is_empty());
    assert_eq!(history.len(), 100, "each was written once");
    assert!(house.cluster.state().aborted > 0, "they were in each other's way");
    let (mut was, mut seen) = (before, BTreeSet::new());
    for document in history {
        let now = serde_json::from_slice::<RoomConfig>(&document).unwrap().to_rest(false);
        let changed: Vec<&str> = ATTRIBUTES.into_iter().filter(|name| was[name] != now[name]).collect();
        assert!(changed.len() <= 1, "one took back what another had written: {was} {now}");
        seen.extend(changed.into_iter().map(|name| format!("{name}={}", now[name])));
        was = now;
    }
    for i in (0..100).filter(|i| ATTRIBUTES[i % 4] != "selectActiveAudio") {
        let attribute = ATTRIBUTES[i % 4];
        let wanted = format!("{attribute}={}", value(attribute, i));
        assert!(seen.contains(&wanted), "{wanted} was never there");
    }
}

#[tokio::test]
async fn a_services_name_and_key_may_be_changed_at_once() {
    let house = House::new().await;
    let path = format!("/services/{SERVICE}");
    let key_path = format!("{path}/key");
    for i in 0..10 {
        let (name, key) = (format!("name {i}"), format!("key of some length {i}"));
        let (named, keyed) = tokio::join!(
            house.rest_as(OTHER_SERVICE, "PUT", &path, json!({ "name": name })),
            house.rest_as(OTHER_SERVICE, "POST", &key_path, json!({ "key": key })),
        );
        assert_eq!((named.status, keyed.status), (200, 200));
        let document = house.cluster.document(Collection::Services, SERVICE).unwrap();
        assert_eq!((&document["name"], &document["key"]), (&json!(name), &json!(key)));
    }
}

#[tokio::test]
async fn who_never_gets_a_turn_is_told() {
    let house = House::new().await;
    house.cluster.state().restless = vec![Collection::Rooms.into(), Collection::Services.into()];
    let path = format!("/v1/rooms/{ROOM}");
    let refused = house.rest("PUT", &path, json!({"name": "new"})).await;
    assert_eq!(refused.code(), (409, 1301), "{refused:?}");
    assert_eq!(house.rest("GET", &path, Value::Null).await.json()["name"], "default");
    let key_path = format!("/services/{SERVICE}/key");
    assert_eq!(house.rest("POST", &key_path, json!({})).await.code(), (409, 1301));
}

#[tokio::test]
async fn thousands_of_rooms_are_read_page_by_page_and_no_further_than_needed() {
    let house = House::new().await;
    let room = |id: &str, name: &str, service: &str| {
        let room = RoomConfig::new(id, name, service);
        house.cluster.put(Collection::Rooms, id, &serde_json::to_value(room).unwrap());
    };
    for i in 0..3_000 {
        let service = if i % 2 == 0 { SERVICE } else { OTHER_SERVICE };
        room(&format!("{i:024x}"), &format!("room {i}"), service);
    }
    let list = async |query: &str| {
        house.cluster.state().pages = 0;
        let rooms = house.rest("GET", &format!("/v1/rooms{query}"), Value::Null).await.json();
        let names = rooms.as_array().unwrap().iter().map(|room| room["name"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>(), house.cluster.state().pages)
    };
    let (all, pages) = list("").await;
    assert_eq!((all.len(), pages), (1_501, 4));
    assert_eq!(
        (all[0].as_str(), all[1_499].as_str(), all[1_500].as_str()),
        ("room 0", "room 2998", "default")
    );
    assert_eq!(
        list("?per_page=3&page=2").await,
        (vec!["room 6".into(), "room 8".into(), "room 10".into()], 1)
    );
    assert_eq!(list("?per_page=2&page=251").await, (vec!["room 1000".into(), "room 1002".into()], 2));
    assert_eq!(list("?per_page=2&page=9999").await, (Vec::new(), 4));
    let of_service = house.rest("GET", &format!("/services/{SERVICE}"), Value::Null).await.json();
    assert_eq!(of_service["rooms"].as_array().unwrap().len(), 1_501);
}

#[tokio::test]
async fn rooms_with_large_documents_are_all_listed() {
    let house = House::new().await;
    let large = "x".repeat(900 << 10);
    for i in 0..8 {
        let id = format!("{i:024x}");
        let room = RoomConfig::new(&id, &format!("{i} {large}"), SERVICE);
        house.cluster.put(Collection::Rooms, &id, &serde_json::to_value(room).unwrap());
    }
    let rooms = house.rest("GET", "/v1/rooms", Value::Null).await.json();
    assert_eq!(rooms.as_array().unwrap().len(), 9);
}
