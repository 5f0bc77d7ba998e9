//! Two agents and one room: the second takes it over from what the first has written down, and the first does no harm any more.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;

use cluster::{Cluster, Listener, ROOM};
use kaigi_proto::v1::{self, join_event::Event};
use tonic::Code;

fn text(from: &str, message: &str, request_id: &str) -> v1::TextRequest {
    v1::TextRequest {
        room_id: ROOM.into(),
        participant_id: from.into(),
        to: "all".into(),
        message: message.into(),
        request_id: request_id.into(),
    }
}

fn publish(name: &str, request_id: &str) -> v1::PublishRequest {
    v1::PublishRequest {
        room_id: ROOM.into(),
        participant_id: name.into(),
        tracks: vec![v1::PublishTrack {
            kind: v1::MediaKind::Audio.into(),
            mid: "0".into(),
            source: "mic".into(),
        }],
        request_id: request_id.into(),
        ..v1::PublishRequest::default()
    }
}

/// The texts until `last`, with the number of the last event.
async fn texts(listener: &mut Listener, last: &str) -> (Vec<String>, u64) {
    let mut texts = Vec::new();
    loop {
        let event = listener.numbered().await.expect("the stream ended");
        if let Some(Event::Text(text)) = event.event {
            texts.push(text.message.clone());
            if text.message == last {
                return (texts, event.seq);
            }
        }
    }
}

/// Ann, who publishes, and bob.
async fn meeting() -> (Cluster, Listener, Listener, String) {
    let mut first = Cluster::start(30).await;
    let ann = first.join("ann", "presenter").await.unwrap();
    let bob = first.join("bob", "presenter").await.unwrap();
    let session = first.client.publish(publish("ann", "p1")).await.unwrap().into_inner();
    (first, ann, bob, session.session_id)
}

#[tokio::test]
async fn whoever_is_told_something_can_rely_on_the_successor_knowing_it() {
    let (mut first, _ann, mut bob, session) = meeting().await;
    first.client.text(text("ann", "one", "t1")).await.unwrap();
    first.client.text(text("ann", "two", "t2")).await.unwrap();
    let (_, seq) = texts(&mut bob, "one").await;

    let mut second = first.another(30).await;
    let mut bob = second.reattach("bob", seq).await.unwrap();
    let mut ann = second.reattach("ann", 0).await.unwrap();
    second.client.text(text("ann", "two", "t2")).await.unwrap();
    second.client.text(text("ann", "three", "t3")).await.unwrap();
    assert_eq!(texts(&mut bob, "three").await.0, ["two", "three"], "nothing is lost and nothing told twice");
    assert_eq!(texts(&mut ann, "three").await.0, ["one", "two", "three"]);

    let again = second.client.publish(publish("ann", "p1")).await.unwrap().into_inner();
    assert_eq!(again.session_id, session, "done once");
    let participants = second.client.list_participants(v1::RoomRequest { room_id: ROOM.into() }).await;
    assert_eq!(participants.unwrap().into_inner().participants.len(), 2);
    first.everything.until("adoption", |known| known.adopted.contains(&(ROOM.to_owned(), 2))).await;
    let adopted = |known: &cluster::Known| known.adopted_sessions.iter().any(|s| s.session_id == session);
    first.everything.until("the publication's adoption", adopted).await;
    first.everything.until("the view", |known| known.views.last().is_some_and(|view| view.epoch == 2)).await;
}

#[tokio::test]
async fn an_agent_whose_room_was_taken_drops_it_and_harms_nobody() {
    let (mut first, mut ann, bob, session) = meeting().await;
    let mut second = first.another(30).await;
    let mut bobs_next = second.reattach("bob", 0).await.unwrap();
    // The first one hears that somebody is gone, and of a text, and has nothing to say about it.
    drop(bob);
    let late = first.client.text(text("ann", "late", "")).await.unwrap_err();
    assert_eq!(late.code(), Code::Aborted, "{late:?}");
    while ann.numbered().await.is_some_and(|event| !matches!(event.event, Some(Event::Text(_)))) {}
    let _ann = second.reattach("ann", 0).await.unwrap();
    second.client.text(text("ann", "over", "")).await.unwrap();
    assert_eq!(texts(&mut bobs_next, "over").await.0, ["over"]);
    let known = first.everything.known.lock().unwrap();
    assert!(known.closed_transports.is_empty(), "{:?}", known.closed_transports);
    assert!(known.sessions.contains(&session) && known.removed_views.is_empty());
    assert_eq!(known.leases.len(), 2, "given back by nobody");
}

#[tokio::test]
async fn a_store_that_is_away_ends_nothing_and_is_told_everything_afterwards() {
    let (mut first, _ann, mut bob, _) = meeting().await;
    first.everything.known.lock().unwrap().store_is_away = true;
    for message in ["one", "two"] {
        first.client.text(text("ann", message, message)).await.unwrap();
    }
    assert_eq!(texts(&mut bob, "two").await.0, ["one", "two"]);
    first.everything.known.lock().unwrap().store_is_away = false;
    let has_two = |known: &cluster::Known| {
        let events = known.snapshot.iter().filter(|(key, _)| key.starts_with("event/"));
        events.filter(|(_, value)| value.windows(3).any(|bytes| bytes == b"two")).count() == 1
    };
    first.everything.until("the second text", has_two).await;
    let mut second = first.another(30).await;
    assert!(second.reattach("ann", 0).await.is_ok());
}

#[tokio::test]
async fn a_participant_whose_portal_never_heard_that_it_joined_joins_once() {
    let mut first = Cluster::start(30).await;
    let mut ann = first.join("ann", "presenter").await.unwrap();
    let _bob = first.join("bob", "presenter").await.unwrap();
    let mut second = first.another(30).await;
    let mut again = second.join("bob", "presenter").await.unwrap();
    assert!(matches!(again.next().await, Some(Event::Joined(joined)) if joined.participants.len() == 2));
    let mut after = second.reattach("ann", 0).await.unwrap();
    second.client.text(text("ann", "end", "")).await.unwrap();
    let mut joins = 0;
    loop {
        match after.next().await.unwrap() {
            Event::Participant(_) => joins += 1,
            Event::Text(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(joins, 1, "bob, as the portal might not have heard it");
    drop(ann.numbered().await);
    assert_eq!(second.join("bob", "presenter").await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_room_of_which_nothing_is_kept_is_not_running() {
    let mut first = Cluster::start(30).await;
    let refused = first.reattach("ann", 0).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
}
