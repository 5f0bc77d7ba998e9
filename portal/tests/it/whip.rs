//! WHIP (RFC 9725) and WHEP.

use jsonwebtoken::{EncodingKey, Header, encode};
use kaigi_proto::v1::{
    Progress, RemovedStream, SessionError, StreamEvent, join_event, progress, stream_event,
};
use serde_json::{Value, json};
use tonic::Status;

use super::{
    House,
    cluster::{KEY, OTHER_SERVICE, ROOM, SERVICE},
    eventually,
    http::{self, Answer},
};

const ICE: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";
const RESTARTED: &str = "a=ice-ufrag:wxyz\r\na=ice-pwd:abcdefghijabcdefghijab\r\n";
const CANDIDATE: &str = "a=candidate:1 1 udp 2130706431 192.0.2.7 50000 typ host\r\n";

fn offer(direction: &str, sections: &[(&str, u8)]) -> String {
    let mids: Vec<String> = (0..sections.len()).map(|mid| mid.to_string()).collect();
    let mut text =
        format!("v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n", mids.join(" "));
    for ((kind, payload), mid) in sections.iter().zip(mids) {
        text.push_str(&format!(
            "m={kind} 9 UDP/TLS/RTP/SAVPF {payload}\r\n{ICE}a=mid:{mid}\r\na={direction}\r\n"
        ));
    }
    text
}

fn both(direction: &str) -> String {
    offer(direction, &[("audio", 111), ("video", 96)])
}

impl House {
    async fn whip(&self, method: &str, path: &str, token: &str, more: &[(&str, &str)], body: &str) -> Answer {
        let authorization = format!("Bearer {token}");
        let mut headers = vec![("authorization", authorization.as_str())];
        headers.extend(more);
        http::send(self.http, method, path, &headers, body).await
    }

    async fn offered(&self, path: &str, token: &str, offer: &str) -> Answer {
        self.whip("POST", path, token, &[("content-type", "application/sdp")], offer).await
    }

    async fn patched(&self, path: &str, token: &str, if_match: Option<&str>, body: &str) -> Answer {
        let mut headers = vec![("content-type", "application/trickle-ice-sdpfrag")];
        headers.extend(if_match.map(|tags| ("if-match", tags)));
        self.whip("PATCH", path, token, &headers, body).await
    }

    /// A session of its own: its address, its tag, and its token.
    async fn begun(&self, path: &str, direction: &str) -> (String, String, String) {
        let token = self.token("camera").await;
        let answer = self.offered(path, &token, &both(direction)).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let header = |name: &str| answer.header(name).unwrap().to_owned();
        (header("location"), header("etag"), token)
    }

    async fn empties(&self) {
        eventually("nobody is in the room", || self.cluster.state().members.is_empty()).await;
    }

    fn member(&self) -> String {
        self.cluster.state().members.keys().next().unwrap().clone()
    }
}

fn problem(answer: &Answer) -> (u16, String) {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status);
    let kind = problem["type"].as_str().unwrap().strip_prefix("urn:kaigi:problem:").unwrap();
    (answer.status, kind.to_owned())
}

fn whip() -> String {
    format!("/whip/{ROOM}")
}

fn whep() -> String {
    format!("/whep/{ROOM}/{ROOM}-common")
}

#[tokio::test]
async fn a_publisher_comes_by_one_request_and_goes_by_another() {
    let house = House::with(&["--ice-servers", "stun:stun.example:3478,turn:u:c@turn.example"]).await;
    let token = house.token("camera").await;
    let answer = house.offered(&whip(), &token, &both("sendonly")).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/sdp"));
    assert!(answer.body.starts_with("v=0") && answer.body.contains("a=ice-ufrag:dcba"));
    assert!(answer.header("etag").unwrap().starts_with('"'));
    let links: Vec<&str> = answer.head.lines().filter_map(|line| line.strip_prefix("link: ")).collect();
    assert_eq!(
        links,
        [
            "<stun:stun.example:3478>; rel=\"ice-server\"",
            "<turn:turn.example>; rel=\"ice-server\"; username=\"u\"; credential=\"c\"; credential-type=\"password\""
        ]
    );
    assert_eq!(house.cluster.calls("publish")[0]["tracks"], 2);
    assert_eq!(house.cluster.calls("join")[0]["user"], "\"camera\"");

    let location = answer.header("location").unwrap();
    assert!(location.starts_with(&format!("/whip/{ROOM}/")));
    let other = house.token("thief").await;
    assert_eq!(
        problem(&house.whip("DELETE", location, &other, &[], "").await),
        (401, "invalid-token".into())
    );
    assert_eq!(house.whip("DELETE", location, &token, &[], "").await.status, 200);
    house.empties().await;
    assert_eq!(problem(&house.whip("DELETE", location, &token, &[], "").await), (404, "no-session".into()));
}

#[tokio::test]
async fn a_player_gets_what_the_stream_has_of_what_it_asks_for() {
    let house = House::new().await;
    let (location, ..) = house.begun(&whep(), "recvonly").await;
    assert!(location.starts_with(&format!("/whep/{ROOM}/{ROOM}-common/")));
    let common = format!("{ROOM}-common");
    assert_eq!(house.cluster.calls("subscribe")[0]["from"], json!([common, common]));
    let unknown = house.token("b").await;
    let answer = house.offered(&format!("/whep/{ROOM}/0b"), &unknown, &both("recvonly")).await;
    assert_eq!(problem(&answer), (404, "no-stream".into()));
}

#[tokio::test]
async fn candidates_are_taken_for_the_ice_session_that_they_are_of() {
    let house = House::new().await;
    let (location, tag, token) = house.begun(&whip(), "sendonly").await;
    let fragment =
        format!("{ICE}m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n{CANDIDATE}a=end-of-candidates\r\n");
    let taken = house.patched(&location, &token, Some(&tag), &fragment).await;
    assert_eq!((taken.status, taken.header("etag")), (204, None));
    let signals = house.cluster.calls("signal");
    assert!(signals[1].as_str().unwrap().contains("192.0.2.7"), "{signals:?}");
    assert_eq!(signals.len(), 3, "the offer, a candidate, and the end of candidates");

    let stale = house.patched(&location, &token, Some("\"other\""), &fragment).await;
    assert_eq!(problem(&stale), (412, "other-ice-session".into()));
    let bare = house.patched(&location, &token, None, &fragment).await;
    assert_eq!(problem(&bare), (428, "no-precondition".into()));
    let broken = house.patched(&location, &token, Some(&tag), "hello").await;
    assert_eq!(problem(&broken), (400, "malformed-fragment".into()));
    let headers = [("content-type", "application/sdp"), ("if-match", tag.as_str())];
    let wrong = house.whip("PATCH", &location, &token, &headers, &fragment).await;
    assert_eq!(problem(&wrong), (415, "media-type".into()));
    assert_eq!(house.cluster.calls("signal").len(), 3, "nothing of that reached the room");
}

#[tokio::test]
async fn ice_restarts_with_new_credentials_and_a_new_tag() {
    let house = House::new().await;
    let (location, tag, token) = house.begun(&whip(), "sendonly").await;
    let fragment = format!("{RESTARTED}m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n{CANDIDATE}");
    let tied = house.patched(&location, &token, Some(&tag), &fragment).await;
    assert_eq!(problem(&tied), (400, "malformed-fragment".into()), "a restart is not tied to a tag");

    let restarted = house.patched(&location, &token, Some("*"), &fragment).await;
    assert_eq!(restarted.status, 200, "{restarted:?}");
    assert_eq!(restarted.header("content-type"), Some("application/trickle-ice-sdpfrag"));
    assert!(restarted.body.contains("a=ice-ufrag:zyxw\r\n"), "{restarted:?}");
    let new_tag = restarted.header("etag").unwrap().to_owned();
    assert_ne!(new_tag, tag);
    let again = house.cluster.calls("signal").pop().unwrap();
    assert!(again.as_str().unwrap().contains("o=- 7 2 ") && again.as_str().unwrap().contains("wxyz"));

    let candidates = format!("{RESTARTED}m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n{CANDIDATE}");
    assert_eq!(house.patched(&location, &token, Some(&tag), &candidates).await.status, 412);
    assert_eq!(house.patched(&location, &token, Some(&new_tag), &candidates).await.status, 204);
}

#[tokio::test]
async fn a_session_ends_with_its_stream_its_transport_or_its_place() {
    let house = House::new().await;
    let gone = async |location: &str, token: &str| {
        house.empties().await;
        let gone = async || house.whip("DELETE", location, token, &[], "").await.status == 404;
        tokio::time::timeout(super::PATIENCE, async { while !gone().await {} }).await.unwrap();
    };
    let progress = |progress| {
        join_event::Event::Progress(Progress { transport_id: "0a".repeat(16), progress: Some(progress) })
    };
    let failed = SessionError { session_id: "0a".repeat(16), reason: "x".into() };
    for event in [
        progress(progress::Progress::TransportError("ICE failed".into())),
        progress(progress::Progress::SessionError(failed)),
    ] {
        let (location, _, token) = house.begun(&whip(), "sendonly").await;
        house.cluster.tell(event).await;
        gone(&location, &token).await;
    }

    let (location, _, token) = house.begun(&whep(), "recvonly").await;
    let removed = stream_event::Change::Removed(RemovedStream::default());
    let event = StreamEvent { stream_id: format!("{ROOM}-common"), change: Some(removed) };
    house.cluster.tell(join_event::Event::Stream(event)).await;
    gone(&location, &token).await;

    let (location, _, token) = house.begun(&whip(), "sendonly").await;
    let kicked = format!("/v1/rooms/{ROOM}/participants/{}", house.member());
    let headers = [("authorization", http::mauth(SERVICE, KEY))];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(http::send(house.management, "DELETE", &kicked, &headers, "").await.status, 200);
    gone(&location, &token).await;
}

#[tokio::test]
async fn a_portal_that_ends_takes_its_sessions_out_of_their_rooms() {
    let house = House::new().await;
    house.begun(&whip(), "sendonly").await;
    house.stop.cancel();
    house.empties().await;
}

#[tokio::test]
async fn a_login_token_is_good_for_one_session() {
    let house = House::new().await;
    let token = house.token("camera").await;
    // What can't be served does not use it up.
    for (path, body, kind) in [
        (whip(), "hello".to_owned(), (400, "malformed-offer")),
        (whip(), both("recvonly"), (422, "offer-not-served")),
        (whep(), both("sendonly"), (422, "offer-not-served")),
        (format!("/whip/{}", "0".repeat(24)), both("sendonly"), (403, "not-permitted")),
        ("/whip/a%20b".to_owned(), both("sendonly"), (404, "no-room")),
    ] {
        let answer = house.offered(&path, &token, &body).await;
        assert_eq!(problem(&answer), (kind.0, kind.1.to_owned()), "{path}");
    }
    // Nor does a room that can't yet.
    let full = Status::resource_exhausted("Room is full");
    house.cluster.state().refusals.insert("join", full);
    let answer = house.offered(&whip(), &token, &both("sendonly")).await;
    assert_eq!(problem(&answer), (503, "full".into()));
    assert_eq!(answer.header("retry-after"), Some("2"));
    house.cluster.state().refusals.clear();

    assert_eq!(house.offered(&whip(), &token, &both("sendonly")).await.status, 201);
    let again = house.offered(&whip(), &token, &both("sendonly")).await;
    assert_eq!(problem(&again), (401, "invalid-token".into()));
    assert!(again.header("www-authenticate").unwrap().starts_with("Bearer "));
}

#[tokio::test]
async fn what_a_room_refuses_leaves_nobody_behind() {
    let house = House::new().await;
    for (call, refusal, expected) in [
        ("publish", Status::permission_denied("unauthorized"), (403, "not-permitted")),
        ("signal", Status::invalid_argument("offer has no usable certificate fingerprint"), (400, "refused")),
        ("publish", Status::unavailable("No access node"), (503, "not-available")),
    ] {
        house.cluster.state().refusals.insert(call, refusal);
        let answer = house.offered(&whip(), &house.token("a").await, &both("sendonly")).await;
        assert_eq!(problem(&answer), (expected.0, expected.1.to_owned()));
        house.cluster.state().refusals.clear();
        house.empties().await;
    }
    let no_format = offer("sendonly", &[("audio", 111), ("video", 126)]);
    let answer = house.offered(&whip(), &house.token("a").await, &no_format).await;
    assert_eq!(problem(&answer), (422, "offer-not-served".into()));
    house.empties().await;
}

#[tokio::test]
async fn a_service_gives_devices_tokens_that_last() {
    let house = House::new().await;
    let signed = |claims: Value| {
        encode(&Header::default(), &claims, &EncodingKey::from_secret(KEY.as_bytes())).unwrap()
    };
    let exp = jsonwebtoken::get_current_timestamp() + 60;
    let join = json!({"user": "camera 1", "role": "presenter"});
    let claims = |grants: Value| json!({"iss": SERVICE, "exp": exp, "grants": grants});
    let token = signed(claims(json!({"rooms": [ROOM], "join": join})));
    for _ in 0..2 {
        let begun = house.offered(&whip(), &token, &both("sendonly")).await;
        assert_eq!(begun.status, 201, "{begun:?}");
        let location = begun.header("location").unwrap();
        assert_eq!(house.whip("DELETE", location, &token, &[], "").await.status, 200);
    }
    assert_eq!(house.cluster.calls("join")[0]["user"], "\"camera 1\"");
    let managing = house.whip("GET", "/v1/rooms", &token, &[], "").await;
    assert_eq!(managing.status, 404, "that is on another port");
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str())];
    assert_eq!(http::send(house.management, "GET", "/v1/rooms", &headers, "").await.status, 403);

    for (claims, expected) in [
        (claims(json!({"rooms": ["f"], "join": join})), 403),
        (claims(json!({"rooms": [ROOM]})), 403),
        (claims(json!({"join": {"user": "a", "role": "nobody"}})), 401),
        (json!({"iss": SERVICE, "exp": 1, "grants": {"join": join}}), 401),
        (json!({"iss": "0".repeat(24), "exp": exp, "grants": {"join": join}}), 401),
    ] {
        let answer = house.offered(&whip(), &signed(claims.clone()), &both("sendonly")).await;
        assert_eq!(problem(&answer).0, expected, "{claims}");
    }
    let other = encode(
        &Header::default(),
        &json!({"iss": OTHER_SERVICE, "exp": exp, "grants": {"join": join}}),
        &EncodingKey::from_secret(b"guessed"),
    );
    assert_eq!(house.offered(&whip(), &other.unwrap(), &both("sendonly")).await.status, 401);
}

#[tokio::test]
async fn who_brings_no_token_or_too_much_is_refused() {
    let house = House::new().await;
    let sdp = [("content-type", "application/sdp")];
    let bare = http::send(house.http, "POST", &whip(), &sdp, &both("sendonly")).await;
    assert_eq!(problem(&bare), (401, "no-token".into()));
    assert_eq!(bare.header("www-authenticate"), Some("Bearer realm=\"kaigi\""));
    let forged = house.offered(&whip(), "bm90IGEgdG9rZW4=", &both("sendonly")).await;
    assert_eq!(problem(&forged), (401, "invalid-token".into()));
    let long = format!("{}{}", both("sendonly"), "a=x\r\n".repeat(20_000));
    assert_eq!(problem(&house.offered(&whip(), "t", &long).await), (413, "too-large".into()));
    let json = [("content-type", "application/json")];
    assert_eq!(problem(&house.whip("POST", &whip(), "t", &json, "{}").await), (415, "media-type".into()));
    for (method, path) in [("GET", whip()), ("PUT", whep()), ("GET", format!("{}/0", whip()))] {
        let answer = house.whip(method, &path, "t", &[], "").await;
        assert_eq!(answer.status, 405, "{method} {path}");
    }
    assert!(house.cluster.calls("join").is_empty());
}

#[tokio::test]
async fn a_portal_holds_as_many_sessions_as_connections() {
    let house = House::with(&["--max-connections", "1"]).await;
    let (location, _, token) = house.begun(&whip(), "sendonly").await;
    let second = house.token("b").await;
    let full = house.offered(&whip(), &second, &both("sendonly")).await;
    assert_eq!(problem(&full), (503, "too-many-sessions".into()));
    assert_eq!(house.whip("DELETE", &location, &token, &[], "").await.status, 200);
    let later = async || house.offered(&whip(), &second, &both("sendonly")).await.status == 201;
    tokio::time::timeout(super::PATIENCE, async { while !later().await {} }).await.unwrap();
}

#[tokio::test]
async fn pages_of_allowed_origins_may_use_it() {
    let house = House::with(&["--cors", "https://one.example"]).await;
    let asked = async |origin: &str, path: &str| {
        let headers = [("origin", origin), ("access-control-request-method", "POST")];
        http::send(house.http, "OPTIONS", path, &headers, "").await
    };
    let answer = asked("https://one.example", &whip()).await;
    assert_eq!((answer.status, answer.header("accept-post")), (200, Some("application/sdp")));
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://one.example"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST,PATCH,DELETE,OPTIONS"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("authorization,content-type,if-match"));
    let session = asked("https://one.example", &format!("{}/0", whep())).await;
    assert_eq!(session.header("accept-patch"), Some("application/trickle-ice-sdpfrag"));
    assert_eq!(asked("https://two.example", &whip()).await.header("access-control-allow-origin"), None);

    let token = house.token("a").await;
    let headers = [("content-type", "application/sdp"), ("origin", "https://one.example")];
    let begun = house.whip("POST", &whip(), &token, &headers, &both("sendonly")).await;
    let exposed = begun.header("access-control-expose-headers").unwrap();
    assert!(["location", "etag", "link"].iter().all(|name| exposed.contains(name)), "{exposed}");
}
