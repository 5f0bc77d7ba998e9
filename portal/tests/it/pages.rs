//! Health, web pages, the sample application's door, TLS.

use kaigi_proto::v1::Purpose;
use serde_json::{Value, json};

use super::{House, cluster::ROOM, http};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

async fn status(house: &House, path: &str) -> (u16, u16) {
    let on = async |port| http::send(port, "GET", path, &[], "").await.status;
    (on(house.http).await, on(house.health).await)
}

#[tokio::test]
async fn ready_means_that_a_conference_can_be_held() {
    let house = House::new().await;
    assert_eq!(status(&house, "/health").await, (200, 200));
    assert_eq!(status(&house, "/ready").await, (200, 200));
    assert_eq!(status(&house, "/metrics").await, (200, 200));
    house.cluster.state().workers.retain(|w| w.purpose() != Purpose::Mixer);
    tokio::time::timeout(super::PATIENCE, async { while status(&house, "/ready").await != (503, 503) {} })
        .await
        .unwrap();
    assert!(http::send(house.http, "GET", "/ready", &[], "").await.body.contains("mixer-node"));
}

#[tokio::test]
async fn the_portal_makes_itself_known() {
    let house = House::with(&["--public-host", "kaigi.example"]).await;
    let known = format!("kaigi.example:{}", house.http.port());
    let there = || {
        house
            .cluster
            .state()
            .workers
            .iter()
            .any(|w| w.purpose() == Purpose::Portal && w.public_address == known)
    };
    super::eventually("it is registered", there).await;
}

#[tokio::test]
async fn the_sample_door_gives_tokens_for_ordinary_roles() {
    let house = House::new().await;
    let ask =
        async |body: Value| http::send(house.http, "POST", "/sample/tokens", &JSON, &body.to_string()).await;
    let given = ask(json!({"user": "aki"})).await;
    assert_eq!(given.json()["room"], ROOM);
    assert_eq!(ask(json!({"user": "aki", "role": "viewer", "room": ROOM})).await.status, 200);
    assert_eq!(ask(json!({"user": "aki", "room": "0".repeat(24)})).await.status, 404);
    for bad in [
        json!({"user": "aki", "role": "admin"}),
        json!({"user": ""}),
        json!({}),
        json!([]),
        json!({"user": "a", "room": "a/b"}),
    ] {
        assert_eq!(ask(bad.clone()).await.status, 400, "{bad}");
    }
    assert!(ask(json!({"user": "x".repeat(20_000)})).await.status == 400);
}

#[tokio::test]
async fn the_sample_door_is_not_open_wide() {
    let house = House::new().await;
    let ask = || http::send(house.http, "POST", "/sample/tokens", &JSON, r#"{"user":"a"}"#);
    let answers = futures::future::join_all((0..250).map(|_| ask())).await;
    assert!(answers.iter().any(|a| a.status == 429));
    assert!(answers.iter().filter(|a| a.status == 200).count() >= 100);
    let closed = House::with(&["--sample", "false"]).await;
    assert_ne!(http::send(closed.http, "POST", "/sample/tokens", &JSON, r#"{"user":"a"}"#).await.status, 200);
}

#[tokio::test]
async fn web_pages_are_served_from_their_directory() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("index.html"), "<h1>Kaigi</h1>").unwrap();
    let house = House::with(&["--web-root", root.path().to_str().unwrap()]).await;
    let page = http::send(house.http, "GET", "/", &[], "").await;
    assert_eq!((page.status, page.body.as_str()), (200, "<h1>Kaigi</h1>"));
    assert_eq!(http::send(house.http, "GET", "/none", &[], "").await.status, 404);
    let nowhere = House::with(&["--web-root", "/nonexistent"]).await;
    assert!(http::send(nowhere.http, "GET", "/", &[], "").await.body.contains("--web-root"));
}

#[tokio::test]
async fn both_ports_speak_tls_with_a_certificate_of_their_own() {
    let data = tempfile::tempdir().unwrap();
    let house = House::with(&["--tls", "self-signed", "--data-dir", data.path().to_str().unwrap()]).await;
    let mut roots = rustls::RootCertStore::empty();
    let pem = std::fs::read(data.path().join("portal-cert.pem")).unwrap();
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
    roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
    let config = std::sync::Arc::new(
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth(),
    );
    for port in [house.http, house.management] {
        let answer = tokio::task::spawn_blocking({
            let config = config.clone();
            move || {
                use std::io::{Read, Write};
                let mut session =
                    rustls::ClientConnection::new(config, ServerName::try_from("localhost").unwrap())
                        .unwrap();
                let mut tcp = std::net::TcpStream::connect(port).unwrap();
                let mut stream = rustls::Stream::new(&mut session, &mut tcp);
                stream
                    .write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
                    .unwrap();
                let mut text = String::new();
                let _: Result<_, _> = stream.read_to_string(&mut text);
                text
            }
        });
        assert!(answer.await.unwrap().starts_with("HTTP/1.1 "));
    }
}
