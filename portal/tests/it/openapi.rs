//! The OpenAPI document, held against what the portal does.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use super::{
    House,
    cluster::{KEY, OTHER_SERVICE, ROOM},
    http::{self, Answer, mauth},
};

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE"];

/// The served document.
pub(crate) struct Document {
    whole: Value,
    /// By the text of the schema.
    validators: Mutex<HashMap<String, Arc<jsonschema::Validator>>>,
}

impl Document {
    pub(crate) async fn of(house: &House) -> Self {
        let answer = http::send(house.management, "GET", "/openapi.json", &[], "").await;
        assert_eq!(answer.header("content-type"), Some("application/json"));
        Self { whole: answer.json(), validators: Mutex::default() }
    }

    /// Each path with the methods that it has.
    fn paths(&self) -> Vec<(String, BTreeSet<String>)> {
        let methods = |item: &Value| {
            METHODS.iter().filter(|m| item.get(m.to_lowercase()).is_some()).map(|&m| m.to_owned()).collect()
        };
        self.whole["paths"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(path, item)| (path.clone(), methods(item)))
            .collect()
    }

    /// The operation that serves a request.
    fn operation(&self, method: &str, path: &str) -> Option<&Value> {
        let path = path.split('?').next().unwrap_or_default();
        let parts =
            |path: &str| path.split('/').filter(|p| !p.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let wanted = parts(path);
        let matches = |template: &str| {
            let template = parts(template);
            template.len() == wanted.len()
                && template.iter().zip(&wanted).all(|(t, w)| t.starts_with('{') || t.eq_ignore_ascii_case(w))
        };
        let (_, item) =
            self.whole["paths"].as_object().unwrap().iter().find(|(template, _)| matches(template))?;
        item.get(method.to_lowercase())
    }

    /// Holds an answer against what is said of it.
    pub(crate) fn check(&self, method: &str, path: &str, answer: &Answer) {
        // What is no operation of the API is refused.
        let Some(operation) = self.operation(method, path) else {
            return assert!([401, 404, 405].contains(&answer.status), "{method} {path}: {answer:?}");
        };
        let declared = &operation["responses"][answer.status.to_string()];
        let declared = declared["$ref"].as_str().map_or(declared, |place| {
            self.whole.pointer(place.trim_start_matches('#')).unwrap_or_else(|| panic!("{place}"))
        });
        assert!(declared.is_object(), "{method} {path}: {answer:?} is not declared");
        let Some(content) = declared["content"].as_object() else {
            return assert_eq!(answer.body, "", "{method} {path}: nothing is declared");
        };
        let given = answer.header("content-type").unwrap_or_default();
        let kind = given.split(';').next().unwrap_or_default();
        let schema = content.get(kind).unwrap_or_else(|| panic!("{method} {path}: {given} is not declared"));
        if kind == "application/json" {
            let errors = self.errors(&schema["schema"], &answer.json());
            assert!(errors.is_empty(), "{method} {path}: {errors:#?} in {}", answer.body);
        }
    }

    /// Whether what is sent is what is said to be taken.
    pub(crate) fn takes(&self, method: &str, path: &str, body: &Value) -> bool {
        let content = &self.operation(method, path).unwrap()["requestBody"]["content"];
        self.errors(&content["application/json"]["schema"], body).is_empty()
    }

    fn errors(&self, schema: &Value, value: &Value) -> Vec<String> {
        let validator = self
            .validators
            .lock()
            .unwrap()
            .entry(schema.to_string())
            .or_insert_with(|| {
                let mut whole = schema.clone();
                // References lead into the document.
                whole["components"] = self.whole["components"].clone();
                Arc::new(jsonschema::draft202012::new(&whole).unwrap())
            })
            .clone();
        validator.iter_errors(value).map(|error| format!("{error} at {}", error.instance_path())).collect()
    }
}

async fn as_super(house: &House, method: &str, path: &str) -> Answer {
    let authorization = mauth(OTHER_SERVICE, KEY);
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    http::send(house.management, method, path, &headers, "").await
}

#[tokio::test]
async fn routes_and_document_agree_in_both_directions() {
    let house = House::new().await;
    let document = Document::of(&house).await;
    let paths = document.paths();
    for needed in [
        "/v1/rooms/{room}",
        "/v1.1/rooms/{room}/streams/{stream}",
        "/services/{service}/key",
        "/cluster/nodes",
        "/v1.1/stream-engine/nodes",
    ] {
        assert!(paths.iter().any(|(path, _)| path == needed), "{needed}");
    }
    for (template, documented) in paths {
        let path = template.replace("{room}", ROOM).replace(['{', '}'], "");
        for method in METHODS {
            // A stream of events has no end.
            if template.ends_with("/events") && method == "GET" {
                continue;
            }
            let answer = as_super(&house, method, &path).await;
            let is_routed = answer.status != 405 && answer.status != 404
                || answer.status == 404 && answer.json()["error"]["message"] != "Resource not found";
            assert_eq!(is_routed, documented.contains(method), "{method} {template}: {answer:?}");
            if is_routed {
                document.check(method, &path, &answer);
                // The room may be gone, by one of these.
                house.cluster.put_room();
            } else {
                assert_eq!(answer.code(), (405, 1001), "{method} {template}");
                let allowed = answer.header("allow").unwrap().split(", ").map(str::to_owned);
                let allowed: BTreeSet<String> = allowed.filter(|method| method != "HEAD").collect();
                assert_eq!(allowed, documented, "{template}");
            }
        }
    }
}

#[tokio::test]
async fn everything_but_the_document_asks_for_a_proof() {
    let house = House::new().await;
    for (template, methods) in Document::of(&house).await.paths() {
        for method in methods {
            let path = template.replace(['{', '}'], "");
            let answer = http::send(house.management, &method, &path, &[], "").await;
            let expected = if template == "/openapi.json" { 200 } else { 401 };
            assert_eq!(answer.status, expected, "{method} {template}");
        }
    }
}

#[tokio::test]
async fn the_document_can_be_read_by_people() {
    let house = House::new().await;
    let get = async |path: &str| http::send(house.management, "GET", path, &[], "").await;
    assert_eq!(get("/docs/api").await.header("location"), Some("/docs/api/"));
    let page = get("/docs/api/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html")));
    assert!(page.body.contains("swagger-ui"));
    assert_eq!(get("/docs/api/swagger-ui-bundle.js").await.status, 200);
    assert_eq!(get("/docs/api/none").await.code(), (404, 1001));
    let posted = http::send(house.management, "POST", "/openapi.json", &[], "").await;
    assert_eq!((posted.code(), posted.header("allow")), ((405, 1001), Some("GET, HEAD")));
    let head = http::send(house.management, "HEAD", "/openapi.json", &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn what_is_said_to_be_taken_is_what_is_taken() {
    let house = House::new().await;
    let document = Document::of(&house).await;
    let room = format!("/v1/rooms/{ROOM}");
    for (method, path, body) in [
        ("POST", "/v1/rooms", json!({"name": "a"})),
        ("POST", "/v1/rooms", json!({"name": "a", "options": null})),
        ("POST", "/v1/rooms", json!({"name": "", "options": {}})),
        ("POST", "/v1/rooms", json!({"options": {}})),
        ("POST", "/v1/rooms", json!({"name": "a", "options": "b"})),
        ("POST", "/v1/rooms", json!({"name": "a", "options": {"roles": 1}})),
        (
            "POST",
            "/v1/rooms",
            json!({"name": "a", "options": {"views": [null, {"video": true}], "notifying": null}}),
        ),
        ("PUT", &room, json!({"inputLimit": 1, "_id": "x", "__v": 0, "unknown": {}})),
        ("PUT", &room, json!({"inputLimit": "many"})),
        ("PUT", &room, json!({"inputLimit": 1e30})),
        ("PUT", &room, json!({"views": [{"label": "a b"}]})),
        ("PUT", &room, json!({"views": [{"video": {"maxInput": 0}}]})),
        ("PUT", &room, json!({"views": [{"video": {"bgColor": {"r": 256}}}]})),
        ("PUT", &room, json!({"views": [{"video": {"layout": {"fitPolicy": "stretch"}}}]})),
        ("PUT", &room, json!({"views": [{"video": {"parameters": {"framerate": 1000}}}]})),
        (
            "PUT",
            &room,
            json!({"views": [{"video": {"parameters": {"resolution": {"width": 1, "height": 1}}}}]}),
        ),
        (
            "PUT",
            &room,
            json!({"views": [{"video": {"layout": {"templates": {"custom": [{"region": [{"id": "1", "area": {"left": "0", "top": "0", "width": "1", "height": "1"}}]}]}}}}]}),
        ),
        (
            "PUT",
            &room,
            json!({"transcoding": {"audio": false, "video": false}, "roles": [], "sip": {"sipServer": "s"}}),
        ),
        ("PUT", &room, json!({"roles": [{"publish": {}}]})),
        ("PATCH", &room, json!({"views": null, "notifying": {"streamChange": null}})),
        ("PATCH", &room, json!([{"op": "replace", "path": "/inputLimit", "value": 3}])),
        ("PATCH", &room, json!([{"op": "jump", "path": "/inputLimit", "value": 3}])),
        ("POST", &format!("{room}/tokens"), json!({"user": {"a": 1}, "role": "viewer", "preference": null})),
        ("POST", &format!("{room}/tokens"), json!({"user": 0, "role": "viewer"})),
        ("POST", &format!("{room}/tokens"), json!({"user": "a"})),
        ("POST", "/services", json!({"name": "a", "key": null})),
        ("POST", "/services", json!({"name": "a", "key": "short"})),
        ("POST", "/services", json!({"name": "a".repeat(257)})),
        ("PUT", "/services/5188b9af6e53c84ffd600413", json!({"publicKey": null, "rooms": [], "super": true})),
        ("PUT", "/services/5188b9af6e53c84ffd600413", json!({"name": 1})),
    ] {
        house.cluster.put_room();
        let authorization = mauth(OTHER_SERVICE, KEY);
        let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
        let answer = http::send(house.management, method, path, &headers, &body.to_string()).await;
        document.check(method, path, &answer);
        assert_eq!(
            answer.status == 200,
            document.takes(method, path, &body),
            "{method} {path} {body} {answer:?}"
        );
    }
}
