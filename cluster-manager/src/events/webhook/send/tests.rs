use std::sync::Arc;

use kaigi_outbound::http::NOT_PUBLIC;

use super::*;
use crate::events::{event::tests::event, tests::document, webhook::tests::Endpoint};

fn attempt(url: &str) -> Attempt {
    let document = document("s", "w", url, &[]);
    let key = (document.service.clone(), document.id.clone());
    Attempt { key, document: Arc::new(document), event: event(12, "s", "room.started") }
}

async fn outcome(status: u16, headers: &str) -> Outcome {
    let (endpoint, mut requests) = Endpoint::start().await;
    let sender = Sender::new(Reach::Any).unwrap();
    let attempt = attempt(&endpoint.url);
    let sending = tokio::spawn(async move { sender.send(&attempt, UnixMillis(5_500)).await });
    requests.recv().await.unwrap().answer_with(status, headers);
    sending.await.unwrap()
}

fn failed(reason: &str) -> Outcome {
    Outcome::Failed { reason: reason.to_owned(), retry_after: None }
}

#[tokio::test]
async fn the_request_is_what_standard_webhooks_says() {
    let (endpoint, mut requests) = Endpoint::start().await;
    let sender = Sender::new(Reach::Any).unwrap();
    let attempt = attempt(&endpoint.url);
    let signed = attempt.document.clone();
    tokio::spawn(async move { sender.send(&attempt, UnixMillis(5_500)).await });
    let request = requests.recv().await.unwrap();
    assert_eq!((request.header("webhook-id"), request.header("webhook-timestamp")), ("12", "5"));
    assert_eq!(
        request.header("webhook-signature"),
        signatures(&signed, "12", UnixMillis(5_500), request.text())
    );
}

#[tokio::test]
async fn what_a_status_means() {
    for status in [200, 202, 204] {
        assert_eq!(outcome(status, "").await, Outcome::Delivered);
    }
    assert_eq!(outcome(410, "").await, Outcome::Gone);
    assert_eq!(outcome(400, "").await, failed("status 400"));
    // Where it points to would be another's endpoint.
    assert_eq!(outcome(302, "Location: http://127.0.0.1:1/\r\n").await, failed("status 302"));
}

#[tokio::test]
async fn an_endpoint_says_when_it_wants_to_be_asked_again() {
    let Outcome::Failed { retry_after, .. } = outcome(429, "Retry-After: 7\r\n").await else { panic!() };
    assert_eq!(retry_after, Some(Duration::from_secs(7)));
    let mut headers = HeaderMap::new();
    let now = httpdate::parse_http_date("Sat, 21 Nov 2026 10:00:00 GMT").unwrap();
    headers.insert(RETRY_AFTER, "Sat, 21 Nov 2026 10:01:30 GMT".parse().unwrap());
    assert_eq!(super::retry_after(&headers, now), Some(Duration::from_secs(90)));
    for past_or_none in ["Sat, 21 Nov 2026 09:00:00 GMT", "soon", "-5"] {
        headers.insert(RETRY_AFTER, past_or_none.parse().unwrap());
        assert_eq!(super::retry_after(&headers, now), None, "{past_or_none}");
    }
}

#[tokio::test]
async fn nobody_there_is_told_without_the_url() {
    let sender = Sender::new(Reach::Any).unwrap();
    let Outcome::Failed { reason, .. } =
        sender.send(&attempt("http://127.0.0.1:1/secret"), UnixMillis(0)).await
    else {
        panic!()
    };
    assert!(reason.contains("refused") && !reason.contains("secret"), "{reason}");
}

#[tokio::test]
async fn the_own_network_is_not_asked_if_webhooks_are_for_the_public_one() {
    let sender = Sender::new(Reach::Public).unwrap();
    for url in ["http://127.0.0.1:1/", "http://[::1]:1/", "http://localhost:1/", "http://[::ffff:10.0.0.1]/"]
    {
        assert_eq!(sender.send(&attempt(url), UnixMillis(0)).await, failed(NOT_PUBLIC), "{url}");
    }
}
