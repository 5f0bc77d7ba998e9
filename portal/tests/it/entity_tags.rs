//! Changes of a part of a room, and changes that are tied to what their caller has seen.

use serde_json::{Value, json};

use super::{
    House,
    cluster::{KEY, ROOM, SERVICE},
    http::{self, Answer, mauth},
};

impl House {
    async fn rest_if(&self, tag: &str, method: &str, path: &str, body: Value) -> Answer {
        let authorization = mauth(SERVICE, KEY);
        let headers = [
            ("authorization", authorization.as_str()),
            ("content-type", "application/json"),
            ("if-match", tag),
        ];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        http::send(self.management, method, path, &headers, &body).await
    }
}

fn room() -> String {
    format!("/v1/rooms/{ROOM}")
}

fn tag(answer: &Answer) -> String {
    answer.header("etag").unwrap_or_else(|| panic!("no tag: {answer:?}")).to_owned()
}

#[tokio::test]
async fn a_room_is_changed_in_part() {
    let house = House::new().await;
    let merged = house
        .rest(
            "PATCH",
            &room(),
            json!({"inputLimit": 2, "notifying": {"streamChange": false}, "_id": "other"}),
        )
        .await
        .json();
    assert_eq!((&merged["inputLimit"], &merged["_id"]), (&json!(2), &json!(ROOM)));
    assert_eq!(merged["notifying"], json!({"participantActivities": true, "streamChange": false}));
    assert_eq!(merged["views"].as_array().map(Vec::len), Some(1), "what is not named stays");

    // As OWT's REST client has it (`updateRoomPartially`), to both versions.
    let path = format!("/v1.1/rooms/{ROOM}/");
    let patch = json!([{"op": "replace", "path": "/participantLimit", "value": 9}, {"op": "remove", "path": "/views/0"}]);
    let patched = house.rest("PATCH", &path, patch).await.json();
    assert_eq!((&patched["participantLimit"], &patched["views"]), (&json!(9), &json!([])));
    assert_eq!(house.rest("GET", &room(), Value::Null).await.json()["inputLimit"], 2);
    assert_eq!(house.rest("PATCH", &room(), json!({"inputLimit": null})).await.json()["inputLimit"], -1);

    for bad in [
        json!({"inputLimit": "many"}),
        json!({"views": [{"video": {"format": {"codec": "av1"}}}]}),
        json!([{"op": "replace", "path": "/nothing/there", "value": 1}]),
        json!([{"op": "explode"}]),
    ] {
        assert_eq!(house.rest("PATCH", &room(), bad.clone()).await.code(), (400, 1201), "{bad}");
    }
    let elsewhere = house.rest("PATCH", "/v1/rooms/655b9af6e53c84ffd6009999", json!({})).await;
    assert_eq!(elsewhere.code(), (404, 1003));
}

#[tokio::test]
async fn a_merge_patch_is_known_by_its_own_type() {
    let house = House::new().await;
    for kind in ["application/merge-patch+json", "application/json-patch+json; charset=utf-8"] {
        let authorization = mauth(SERVICE, KEY);
        let headers = [("authorization", authorization.as_str()), ("content-type", kind)];
        let body = if kind.contains("merge") {
            json!({"inputLimit": 7})
        } else {
            json!([{"op": "replace", "path": "/inputLimit", "value": 8}])
        };
        let answer = http::send(house.management, "PATCH", &room(), &headers, &body.to_string()).await;
        assert_eq!(answer.status, 200, "{kind}: {answer:?}");
    }
    assert_eq!(house.rest("GET", &room(), Value::Null).await.json()["inputLimit"], 8);
}

#[tokio::test]
async fn a_change_of_a_room_may_be_tied_to_what_was_seen() {
    let house = House::new().await;
    let seen = tag(&house.rest("GET", &room(), Value::Null).await);
    assert_eq!(tag(&house.rest("GET", &room(), Value::Null).await), seen, "the same content, the same tag");
    let changed = house.rest_if(&seen, "PUT", &room(), json!({"inputLimit": 5})).await;
    assert_eq!(changed.status, 200);
    assert_ne!(tag(&changed), seen);
    for (method, body) in [("PUT", json!({"inputLimit": 6})), ("PATCH", json!({})), ("DELETE", Value::Null)] {
        let late = house.rest_if(&seen, method, &room(), body).await;
        assert_eq!(late.code(), (412, 1201), "{method}");
    }
    let now = house.rest("GET", &room(), Value::Null).await;
    assert_eq!((now.json()["inputLimit"].as_i64(), tag(&now)), (Some(5), tag(&changed)));

    let either = format!("{seen}, {}", tag(&now));
    assert_eq!(house.rest_if(&either, "PATCH", &room(), json!({"inputLimit": 7})).await.status, 200);
    assert_eq!(house.rest_if("nonsense", "PATCH", &room(), json!({})).await.code(), (400, 1201));
    assert_eq!(house.rest_if("*", "DELETE", &room(), Value::Null).await.body, "Room deleted");
}

#[tokio::test]
async fn of_many_who_saw_the_same_one_changes_it() {
    let house = House::new().await;
    let seen = tag(&house.rest("GET", &room(), Value::Null).await);
    let path = room();
    let change = |limit: i64| house.rest_if(&seen, "PATCH", &path, json!({"inputLimit": limit}));
    let answers = futures::future::join_all((0..20).map(change)).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses.iter().filter(|&&status| status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|&&status| status == 412).count(), 19, "{statuses:?}");
}

#[tokio::test]
async fn a_change_of_a_service_may_be_tied_to_what_was_seen() {
    let house = House::new().await;
    let path = format!("/services/{SERVICE}");
    let seen = tag(&house.rest("GET", &path, Value::Null).await);
    assert_eq!(house.rest_if(&seen, "PUT", &path, json!({"name": "new"})).await.status, 200);
    assert_eq!(house.rest_if(&seen, "PUT", &path, json!({"name": "newer"})).await.code(), (412, 1201));
    let key = format!("{path}/key");
    assert_eq!(house.rest_if(&seen, "POST", &key, json!({})).await.code(), (412, 1201));
    assert_eq!(house.rest("GET", &path, Value::Null).await.json()["name"], "new");
}
