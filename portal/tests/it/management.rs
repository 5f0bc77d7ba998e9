//! The management API, as OWT's clients use it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kaigi_proto::v1::Purpose;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    House,
    client::{Client, Speech},
    cluster::{KEY, OTHER_SERVICE, ROOM, SERVICE},
    eventually,
    http::{self, Answer, mauth, mauth_at},
    openapi::Document,
};

impl House {
    pub(crate) async fn rest(&self, method: &str, path: &str, body: Value) -> Answer {
        self.rest_as(SERVICE, method, path, body).await
    }

    pub(crate) async fn rest_as(&self, service: &str, method: &str, path: &str, body: Value) -> Answer {
        let authorization = mauth(service, KEY);
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = http::send(self.management, method, path, &headers, &body).await;
        // All portals have the same document.
        DOCUMENT.get_or_init(|| Document::of(self)).await.check(method, path, &answer);
        answer
    }
}

static DOCUMENT: OnceCell<Document> = OnceCell::const_new();

fn of_room(rest: &str) -> String {
    format!("/v1/rooms/{ROOM}{rest}")
}

#[tokio::test]
async fn rooms_are_created_listed_changed_and_deleted() {
    let house = House::new().await;
    let created =
        house.rest("POST", "/v1/rooms", json!({"name": "mine", "options": {"participantLimit": 5}})).await;
    assert_eq!(created.status, 200, "{created:?}");
    let room = created.json();
    let id = room["id"].as_str().unwrap().to_owned();
    assert_eq!((room["_id"].as_str(), room["participantLimit"].as_i64()), (Some(id.as_str()), Some(5)));
    assert!(room.get("service").is_none());

    let listed = house.rest("GET", "/v1/rooms?page=1&per_page=50", Value::Null).await.json();
    assert_eq!(
        listed.as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["default", "mine"]
    );
    assert_eq!(house.rest("GET", "/v1/rooms?page=2&per_page=1", Value::Null).await.json()[0]["name"], "mine");

    let path = format!("/v1.1/rooms/{id}/");
    assert!(house.rest("GET", &path, Value::Null).await.json().get("id").is_none());
    let whole = json!({"_id": "other", "id": "other", "__v": 0, "name": "renamed", "views": []});
    let changed = house.rest("PUT", &path, whole).await.json();
    assert_eq!(
        (&changed["name"], &changed["views"], &changed["id"]),
        (&json!("renamed"), &json!([]), &json!(id))
    );
    assert_eq!(house.rest("PUT", &path, json!({"inputLimit": "many"})).await.code(), (400, 1201));

    let deleted = house.rest("DELETE", &path, Value::Null).await;
    assert_eq!((deleted.status, deleted.body.as_str()), (200, "Room deleted"));
    assert_eq!(house.rest("GET", &path, Value::Null).await.code(), (404, 1003));
    assert_eq!(house.rest("DELETE", &path, Value::Null).await.code(), (404, 1003));
}

#[tokio::test]
async fn bad_rooms_are_refused() {
    let house = House::new().await;
    for (body, expected) in [
        (json!({}), (400, 1201)),
        (json!({"name": ""}), (400, 1201)),
        (json!([]), (400, 1201)),
        (json!({"name": "a", "options": "b"}), (400, 1201)),
        (json!({"name": "a", "options": {"roles": 1}}), (500, 2001)),
        (json!({"name": "a", "options": {"views": [{"video": {"format": {"codec": "av1"}}}]}}), (500, 2001)),
    ] {
        assert_eq!(house.rest("POST", "/v1/rooms", body.clone()).await.code(), expected, "{body}");
    }
}

#[tokio::test]
async fn only_services_are_let_in_and_only_to_their_rooms() {
    let house = House::new().await;
    let as_header = async |authorization: &str| {
        http::send(house.management, "GET", "/v1/rooms", &[("authorization", authorization)], "").await.code()
    };
    assert_eq!(as_header("").await, (401, 1101));
    assert_eq!(as_header(&mauth(SERVICE, "wrong")).await, (401, 1101));
    assert_eq!(as_header(&mauth("5188b9af6e53c84ffd600499", KEY)).await, (401, 1101));
    assert_eq!(as_header(&mauth("no such id!", KEY)).await, (401, 1101));
    assert_eq!(http::send(house.management, "GET", "/v1/rooms", &[], "").await.code(), (401, 1101));

    let foreign = house.rest_as(OTHER_SERVICE, "POST", "/v1/rooms", json!({"name": "theirs"})).await.json();
    let path = format!("/v1/rooms/{}", foreign["id"].as_str().unwrap());
    assert_eq!(house.rest("GET", &path, Value::Null).await.code(), (404, 1003));
    assert_eq!(
        house.rest("POST", &format!("{path}/tokens"), json!({"user": "u", "role": "presenter"})).await.code(),
        (404, 1003)
    );
    assert_eq!(house.rest("GET", &format!("{path}/streams"), Value::Null).await.code(), (404, 1003));
    let seen_by_super = house.rest_as(OTHER_SERVICE, "GET", "/v1/rooms", Value::Null).await.json();
    assert_eq!(seen_by_super.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_signed_request_is_good_once_and_in_its_time() {
    let house = House::new().await;
    let list = async |authorization: &str| {
        http::send(house.management, "GET", "/v1/rooms", &[("authorization", authorization)], "").await
    };
    let signed = mauth(SERVICE, KEY);
    assert_eq!(list(&signed).await.status, 200);
    assert_eq!(list(&signed).await.code(), (401, 1101), "a second time");
    let hour = Duration::from_secs(3600);
    for made in [SystemTime::now() - hour, SystemTime::now() + hour] {
        assert_eq!(list(&mauth_at(SERVICE, KEY, made)).await.code(), (401, 1101));
    }

    let signed = mauth(SERVICE, KEY);
    let beside = house.beside().await;
    assert_eq!(list(&signed).await.status, 200);
    let again = http::send(beside.management, "GET", "/v1/rooms", &[("authorization", &signed)], "").await;
    assert_eq!(again.code(), (401, 1101), "nor at another portal");

    let lax = House::with(&["--mauth-window", "0"]).await;
    let old = mauth_at(SERVICE, KEY, SystemTime::now() - hour);
    for _ in 0..2 {
        let headers = [("authorization", old.as_str())];
        assert_eq!(http::send(lax.management, "GET", "/v1/rooms", &headers, "").await.status, 200);
    }
}

#[tokio::test]
async fn a_json_web_token_lets_in_to_what_it_grants() {
    let house = House::new().await;
    let ends = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 60;
    let call = async |claims: Value, method: &str, path: &str| {
        let key = EncodingKey::from_secret(KEY.as_bytes());
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let body = if method == "POST" { r#"{"name": "n", "user": "u", "role": "viewer"}"# } else { "" };
        http::send(house.management, method, path, &headers, body).await
    };
    let all = json!({"iss": SERVICE, "exp": ends});
    let room = call(all.clone(), "POST", "/v1/rooms").await.json();
    let path = format!("/v1/rooms/{}", room["id"].as_str().unwrap());
    assert_eq!(call(all.clone(), "GET", "/v1/rooms").await.json().as_array().unwrap().len(), 2);

    let of_one = json!({"iss": SERVICE, "exp": ends, "grants": {"rooms": [room["id"]]}});
    assert_eq!(call(of_one.clone(), "GET", "/v1/rooms").await.json().as_array().unwrap().len(), 1);
    assert_eq!(call(of_one.clone(), "POST", &format!("{path}/tokens")).await.status, 200);
    assert_eq!(call(of_one.clone(), "GET", &of_room("")).await.code(), (404, 1003));
    assert_eq!(call(of_one, "POST", "/v1/rooms").await.code(), (403, 1102));
    let foreign = json!({"iss": SERVICE, "exp": ends, "grants": {"rooms": ["655b9af6e53c84ffd6009999"]}});
    assert_eq!(call(foreign, "GET", &path).await.code(), (404, 1003));

    assert_eq!(call(json!({"iss": SERVICE, "exp": 1}), "GET", &path).await.code(), (401, 1101));
    assert_eq!(call(json!({"iss": "unknown", "exp": ends}), "GET", &path).await.code(), (401, 1101));
    let garbage = [("authorization", "Bearer garbage")];
    assert_eq!(http::send(house.management, "GET", &path, &garbage, "").await.code(), (401, 1101));
}

#[tokio::test]
async fn a_super_service_makes_services_and_removes_them() {
    let house = House::new().await;
    let as_super = async |method, path: &str, body| house.rest_as(OTHER_SERVICE, method, path, body).await;
    let made = as_super("POST", "/services", json!({"name": "tenant"})).await.json();
    let (id, key) = (made["_id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let path = format!("/services/{id}");
    let own = async |key: &str, method: &str, path: &str, body: &str| {
        let authorization = mauth(id, key);
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        http::send(house.management, method, path, &headers, body).await
    };
    let room = own(key, "POST", "/v1/rooms", r#"{"name": "theirs"}"#).await.json();
    let seen = own(key, "GET", &path, "").await.json();
    assert_eq!(
        (&seen["name"], &seen["rooms"], &seen["super"]),
        (&json!("tenant"), &json!([room["id"]]), &json!(false))
    );
    assert!(seen.get("key").is_none(), "a key is told once");
    let listed = as_super("GET", "/services/", Value::Null).await.json();
    assert_eq!(listed.as_array().unwrap().len(), 3);
    assert!(!listed.to_string().contains("key"));

    assert_eq!(own(key, "GET", "/services", "").await.code(), (403, 1102));
    assert_eq!(own(key, "POST", "/services", r#"{"name": "x"}"#).await.code(), (403, 1102));
    assert_eq!(own(key, "GET", &format!("/services/{SERVICE}"), "").await.code(), (403, 1102));
    assert_eq!(own(key, "DELETE", &path, "").await.code(), (403, 1102));

    let renewed = own(key, "POST", &format!("{path}/key"), "").await.json();
    assert_eq!(own(key, "GET", &path, "").await.code(), (401, 1101), "the old key is void");
    let key = renewed["key"].as_str().unwrap();
    assert_eq!(own(key, "GET", &path, "").await.status, 200);

    assert_eq!(as_super("DELETE", &path, Value::Null).await.body, "Service deleted");
    assert_eq!(as_super("DELETE", &path, Value::Null).await.code(), (404, 1002));
    assert_eq!(own(key, "GET", &path, "").await.code(), (401, 1101));
    let kept = format!("/v1/rooms/{}", room["id"].as_str().unwrap());
    assert_eq!(as_super("GET", &kept, Value::Null).await.status, 200, "its rooms stay");
}

#[tokio::test]
async fn bad_services_are_refused() {
    let house = House::new().await;
    let as_super =
        async |method, path: &str, body| house.rest_as(OTHER_SERVICE, method, path, body).await.code();
    for body in [
        json!({}),
        json!({"name": ""}),
        json!({"name": 1}),
        json!({"name": "a", "key": "short"}),
        json!({"name": "a", "key": 7}),
    ] {
        assert_eq!(as_super("POST", "/services", body.clone()).await, (400, 1201), "{body}");
    }
    assert_eq!(as_super("DELETE", &format!("/services/{OTHER_SERVICE}"), Value::Null).await, (403, 1102));
    assert_eq!(as_super("GET", "/services/unknown", Value::Null).await, (404, 1002));
    assert_eq!(as_super("POST", "/services/unknown/key", Value::Null).await, (404, 1002));
}

#[tokio::test]
async fn a_token_of_the_management_api_admits_a_client() {
    let house = House::new().await;
    let body = json!({"user": "aki", "role": "viewer", "preference": {"isp": "isp", "region": "region"}});
    let answer = house.rest("POST", &of_room("/tokens/"), body).await;
    assert_eq!(answer.status, 200);
    let token: Value = serde_json::from_slice(&STANDARD.decode(&answer.body).unwrap()).unwrap();
    assert_eq!(token["host"], format!("kaigi.test:{}", house.http.port()), "the name that the caller used");
    assert_eq!(token["secure"], false);
    let mut client = Client::connect(house.http, Speech::Eio4WebSocket).await;
    let (status, data) = client.login(&answer.body).await;
    assert_eq!((status.as_str(), &data["role"]), ("ok", &json!("viewer")));
    for bad in [
        json!({"user": "aki", "role": "king"}),
        json!({"user": "", "role": "viewer"}),
        json!({"role": "viewer"}),
        json!({"user": "a"}),
    ] {
        assert_eq!(house.rest("POST", &of_room("/tokens"), bad).await.code(), (400, 1201));
    }
}

#[tokio::test]
async fn a_room_where_nobody_is_has_empty_lists() {
    let house = House::new().await;
    for list in [
        "participants",
        "streams/",
        "streaming-ins",
        "streaming-outs/",
        "recordings",
        "sipcalls",
        "analytics",
    ] {
        assert_eq!(
            house.rest("GET", &of_room(&format!("/{list}")), Value::Null).await.json(),
            json!([]),
            "{list}"
        );
    }
    assert_eq!(house.rest("GET", &of_room("/participants/p"), Value::Null).await.code(), (404, 1005));
    assert_eq!(house.rest("GET", &of_room("/streams/s"), Value::Null).await.code(), (404, 1004));
    assert_eq!(house.rest("DELETE", &of_room("/participants/p"), Value::Null).await.code(), (500, 1301));
    assert_eq!(house.rest("PATCH", &of_room("/streams/s"), json!([])).await.code(), (500, 1301));
    assert_eq!(house.rest("DELETE", &of_room("/streams/s"), Value::Null).await.code(), (500, 1301));
}

#[tokio::test]
async fn a_live_room_shows_and_changes_what_is_in_it() {
    let house = House::new().await;
    let (mut client, me) = house.joined(Speech::Eio4WebSocket).await;
    let id = me["id"].as_str().unwrap();
    let participants = house.rest("GET", &of_room("/participants/"), Value::Null).await.json();
    assert_eq!(participants[0]["permission"]["publish"]["audio"], true);
    assert_eq!(participants[0]["user"], "aki");
    assert_eq!(
        house.rest("GET", &of_room(&format!("/participants/{id}")), Value::Null).await.json(),
        participants[0]
    );

    let patch = json!([{"op": "replace", "path": "/permission/publish/audio", "value": false}]);
    let changed = house.rest("PATCH", &of_room(&format!("/participants/{id}")), patch.clone()).await.json();
    assert_eq!(changed["permission"]["publish"], json!({"audio": false, "video": true}));
    assert_eq!(changed["id"], id);
    assert_eq!(house.rest("PATCH", &of_room("/participants/none"), patch).await.code(), (500, 1301));

    let stream = format!("/streams/{ROOM}-common");
    let shown = house.rest("GET", &of_room(&stream), Value::Null).await.json();
    assert_eq!(shown["media"]["video"]["format"]["codec"], "vp8");
    let newer = house.rest("GET", &format!("/v1.1/rooms/{ROOM}{stream}"), Value::Null).await.json();
    assert_eq!(newer["media"]["video"]["original"][0]["format"]["codec"], "vp8");
    let patch = json!([{"op": "add", "path": "/info/inViews", "value": "common"}, {"op": "replace", "path": "/info/filter", "value": "edgedetect"}]);
    assert_eq!(house.rest("PATCH", &of_room(&stream), patch).await.json(), shown);
    assert!(house.cluster.calls("update_stream")[0].as_str().unwrap().contains("edgedetect"));
    assert_eq!(house.rest("PATCH", &of_room("/streams/none"), json!([])).await.code(), (500, 1301));

    let dropped = house.rest("DELETE", &of_room(&format!("/participants/{id}")), Value::Null).await;
    assert_eq!((dropped.status, dropped.body.as_str()), (200, ""));
    client.disconnected().await;
    assert_eq!(client.order[client.order.len() - 2..], ["drop", "41"]);

    house.rest("DELETE", &of_room(""), Value::Null).await;
    eventually("the room is ended", || house.cluster.calls("destroy_room") == [ROOM]).await;
}

#[tokio::test]
async fn recordings_and_broadcasts_are_begun_listed_changed_and_ended() {
    let house = House::new().await;
    house.cluster.state().live = true;
    let video =
        json!({"from": "s", "parameters": {"resolution": {"width": 320, "height": 240}, "bitrate": "x0.6"}});
    let media = json!({"audio": {"from": "m", "format": {"codec": "aac"}}, "video": video});
    let wanted = json!({"url": "rtmp://u:p@live.example/app/key", "media": media});
    let broadcast = house.rest("POST", &of_room("/streaming-outs"), wanted).await.json();
    assert_eq!(
        (&broadcast["id"], &broadcast["protocol"], &broadcast["state"]),
        (&json!("e1"), &json!("rtmp"), &json!("starting"))
    );
    assert_eq!(
        broadcast["media"]["video"]["parameters"],
        json!({"resolution": {"width": 320, "height": 240}, "bitrate": "x0.6"})
    );
    assert_eq!(broadcast["media"]["audio"]["format"]["codec"], "aac");
    let wanted = json!({"media": {"audio": {"from": "m"}, "video": false}});
    let recording = house.rest("POST", &of_room("/recordings"), wanted).await.json();
    assert_eq!((&recording["id"], &recording["container"]), (&json!("e2"), &json!("mkv")));
    assert!(recording["media"].get("video").is_none() && recording["storage"].is_object());

    let ids = async |path: &str| {
        let list = house.rest("GET", &of_room(path), Value::Null).await.json();
        list.as_array().unwrap().iter().map(|one| one["id"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (ids("/streaming-outs").await, ids("/recordings").await),
        (vec![json!("e1")], vec![json!("e2")])
    );

    let patch = json!([{"op": "replace", "path": "/media/video/status", "value": "inactive"}]);
    let changed = house.rest("PATCH", &of_room("/streaming-outs/e1"), patch.clone()).await;
    assert_eq!(changed.status, 200);
    assert_eq!(house.cluster.calls("update_egress"), [json!({"id": "e1", "video": false})]);
    for (method, path) in [
        ("PATCH", "/recordings/e1"),
        ("PATCH", "/recordings/none"),
        ("DELETE", "/streaming-outs/e2"),
        ("DELETE", "/recordings/none"),
    ] {
        let answer = house.rest(method, &of_room(path), patch.clone()).await;
        assert_eq!(answer.code(), (500, 1301), "{method} {path}");
    }
    let each = json!({"each": {"audio": true, "video": false}, "container": "mp4"});
    let apart = house.rest("POST", &of_room("/recordings"), each).await.json();
    assert_eq!(
        (&apart["each"], &apart["container"]),
        (&json!({"audio": true, "video": false}), &json!("mp4"))
    );
    assert_eq!(apart["streams"], json!([]));
    assert_eq!(house.rest("DELETE", &of_room("/recordings/e3"), Value::Null).await.status, 200);
    let neither = json!({"each": {"audio": false, "video": false}});
    assert_eq!(house.rest("POST", &of_room("/recordings"), neither).await.code(), (400, 1201));
    let nothing = json!({"media": {"audio": false, "video": false}});
    assert_eq!(house.rest("POST", &of_room("/recordings"), nothing).await.code(), (400, 1201));
    assert_eq!(house.rest("DELETE", &of_room("/recordings/e2"), Value::Null).await.status, 200);
    assert_eq!(ids("/recordings").await, [0; 0].map(Value::from));
}

#[tokio::test]
async fn streams_come_in_and_are_listed_without_credentials() {
    let house = House::new().await;
    house.cluster.state().live = true;
    let wanted = json!({
        "connection": {"url": "rtsp://u:p@camera.example/stream/1", "transportProtocol": "udp"},
        "media": {"audio": "auto", "video": true}, "attributes": {"a": 1},
    });
    let stream = house.rest("POST", &of_room("/streaming-ins/"), wanted.clone()).await.json();
    assert_eq!((&stream["id"], &stream["type"]), (&json!("1"), &json!("forward")));
    assert_eq!((&stream["info"]["type"], &stream["info"]["owner"]), (&json!("streaming"), &json!("admin")));
    assert_eq!(stream["info"]["attributes"], json!({"a": 1}));
    let asked = json!({"url": "rtsp://u:p@camera.example/stream/1", "udp": true, "attributes": r#"{"a":1}"#});
    assert_eq!(house.cluster.calls("start_ingest"), [asked]);
    let list = house.rest("GET", &of_room("/streaming-ins"), Value::Null).await.json();
    let expected = json!([{
        "id": "1", "state": "trouble", "reason": "gone", "media": {"audio": "auto", "video": true},
        "connection": {"url": "rtsp://camera.example/stream/…", "transportProtocol": "udp"},
    }]);
    assert_eq!(list, expected);
    let bad = json!({"connection": {}, "media": {"audio": "auto", "video": true}});
    assert_eq!(house.rest("POST", &of_room("/streaming-ins"), bad).await.code(), (500, 1301));
    let pushed = json!({"connection": {"listen": "rtmp"}, "media": {"audio": "auto", "video": true}});
    let answer = house.rest("POST", &of_room("/streaming-ins"), pushed).await.json();
    let key = answer["connection"]["key"].as_str().unwrap();
    assert_eq!(house.cluster.calls("listen_ingest"), [json!({"url": "", "key": key})]);
    let expected = json!({"listen": "rtmp", "url": "rtmp://live.example/live"});
    let list = house.rest("GET", &of_room("/streaming-ins"), Value::Null).await.json();
    assert_eq!(list[1]["connection"], expected, "the key is told once");
    house.cluster.state().live = false;
    assert_eq!(house.rest("GET", &of_room("/streaming-ins"), Value::Null).await.json(), json!([]));
}

#[tokio::test]
async fn analytics_are_begun_listed_and_ended() {
    let house = House::new().await;
    {
        let mut state = house.cluster.state();
        state.live = true;
        let mixers = state.workers.iter_mut().filter(|worker| worker.purpose() == Purpose::Mixer);
        mixers.for_each(|mixer| mixer.algorithms = vec!["faces".into()]);
    }
    let media = json!({"audio": false, "video": {"from": "s", "format": {"codec": "vp8"}}});
    let wanted = json!({"algorithm": "edgedetect", "parameters": {"aperture": 5}, "media": media});
    let begun = house.rest("POST", &of_room("/analytics/"), wanted).await.json();
    assert_eq!(
        begun,
        json!({"id": "1", "state": "active",
            "analytics": {"algorithm": "edgedetect", "parameters": {"aperture": 5}, "stream": "edgedetects"},
            "media": {"video": {"from": "s", "format": {"codec": "vp8"}, "status": "active"}}})
    );
    assert_eq!(house.cluster.calls("start_analytics"), [json!(["edgedetect", r#"{"aperture":5}"#, "s"])]);
    assert_eq!(house.rest("GET", &of_room("/analytics"), Value::Null).await.json(), json!([begun]));
    assert_eq!(house.rest("GET", &of_room("/analytics/1"), Value::Null).await.status, 405);

    let known = house.rest("GET", &of_room("/algorithms"), Value::Null).await.json();
    let ids: Vec<&str> = known.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["edgedetect", "cartoon", "rotate", "faces"]);
    assert_eq!(
        (&known[0]["parameters"]["lowThreshold"], &known[3]["type"]),
        (&json!(100), &json!("pipeline"))
    );

    for wrong in [
        json!({"algorithm": "edgedetect", "media": {"audio": false, "video": false}}),
        json!({"algorithm": "edgedetect", "parameters": {"aperture": 4}, "media": media}),
        json!({"algorithm": "edgedetect", "pipeline": "fakesrc", "media": media}),
        json!({"media": media}),
        json!({"algorithm": 7, "media": media}),
    ] {
        let answer = house.rest("POST", &of_room("/analytics"), wrong.clone()).await;
        assert_eq!(answer.code(), (400, 1201), "{wrong}");
    }
    assert_eq!(house.cluster.calls("start_analytics").len(), 1);

    let ended = house.rest("DELETE", &of_room("/analytics/1"), Value::Null).await;
    assert_eq!((ended.status, ended.body.as_str()), (200, ""));
    assert_eq!(house.rest("DELETE", &of_room("/analytics/1"), Value::Null).await.code(), (500, 1301));
    assert_eq!(house.rest("GET", &of_room("/analytics"), Value::Null).await.json(), json!([]));
}

#[tokio::test]
async fn what_is_not_served_is_checked_and_says_so() {
    let house = House::new().await;
    let media = json!({"audio": {"from": "s"}, "video": false});
    let call = json!({"peerURI": "a@b", "mediaIn": {"audio": true, "video": false}, "mediaOut": media});
    let joined = json!({"options": {"evIP": "a", "evPort": 1, "room": "r", "token": "t"}});
    let of_call = json!([{"op": "replace", "path": "/output/media/audio/from", "value": "s"}]);
    let media = json!({"media": media});
    for (method, path, body, to_nonsense) in [
        ("POST", "/recordings/", json!({"container": "ts", "media": media["media"]}), (400, 1201)),
        ("POST", "/sipcalls", call, (400, 1201)),
        ("POST", "/cascading", joined, (500, 1301)),
        ("PATCH", "/sipcalls/1", of_call, (500, 1301)),
    ] {
        let answer = house.rest(method, &of_room(path), body).await;
        assert_eq!(answer.code(), (500, 1301), "{method} {path}");
        assert!(answer.body.contains("not available"), "{method} {path} {answer:?}");
        let answer = house.rest(method, &of_room(path), json!({"nonsense": 1})).await;
        assert_eq!(answer.code(), to_nonsense, "{method} {path}");
        assert!(!answer.body.contains("not available"), "{method} {path} {answer:?}");
        let elsewhere = format!("/v1.1/rooms/655b9af6e53c84ffd6009999{path}");
        assert_eq!(house.rest(method, &elsewhere, json!({})).await.code(), (404, 1003), "{method} {path}");
    }
    for path in ["/sipcalls/1"] {
        assert_eq!(house.rest("DELETE", &of_room(path), Value::Null).await.code(), (500, 1301), "{path}");
    }
    assert_eq!(
        house.rest("GET", &of_room("/bridges"), json!({"targetCluster": "a"})).await.code(),
        (500, 1301)
    );
    let engine = house.rest("GET", "/v1.1/stream-engine/nodes", Value::Null).await;
    assert_eq!(engine.code(), (500, 1301));
}

#[tokio::test]
async fn errors_outside_of_the_api_have_owts_codes() {
    let house = House::new().await;
    assert_eq!(house.rest("GET", "/v1/unknown", Value::Null).await.code(), (404, 1001));
    assert_eq!(house.rest("GET", "/", Value::Null).await.code(), (404, 1001));
    assert_eq!(house.rest("GET", &of_room("/unknown"), Value::Null).await.code(), (404, 1001));
    let send = async |body: &str| {
        let headers = [("content-type", "application/json")];
        http::send(house.management, "POST", "/v1/rooms", &headers, body).await.code()
    };
    assert_eq!(send("{\"name\":").await, (400, 1201), "before anybody is asked who he is");
    assert_eq!(send(&"[".repeat(50_000)).await, (400, 1201));
    assert_eq!(send(&"x".repeat(110_000)).await, (413, 1201));
    let options = http::send(house.management, "OPTIONS", "/v1/rooms", &[], "").await;
    assert_eq!((options.status, options.body.as_str()), (200, "OK"));
    assert_eq!(options.header("access-control-allow-origin"), Some("*"));
}
