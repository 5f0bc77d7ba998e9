//! An agent that is to end while rooms run: they go on at another one, and nobody in them is lost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;

use cluster::{Cluster, Listener, ROOM};
use kaigi_proto::v1::{self, join_event::Event};
use tonic::Code;

async fn say(cluster: &mut Cluster, message: &str) {
    let text = v1::TextRequest {
        room_id: ROOM.into(),
        participant_id: "ann".into(),
        to: "all".into(),
        message: message.into(),
        request_id: message.into(),
    };
    cluster.client.text(text).await.unwrap();
}

/// The texts until `last`.
async fn texts(listener: &mut Listener, last: &str) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.last().is_none_or(|text| text != last) {
        if let Event::Text(text) = listener.next().await.expect("the stream ended") {
            texts.push(text.message);
        }
    }
    texts
}

/// Reads to the end of the stream; the number of the last event.
async fn to_the_end(listener: &mut Listener) -> u64 {
    let mut last = 0;
    while let Some(event) = listener.numbered().await {
        assert!(!matches!(event.event, Some(Event::Dropped(_))), "nobody is dropped");
        last = event.seq;
    }
    last
}

/// An access node knows the room only if somebody publishes there.
async fn publish(cluster: &mut Cluster) {
    let track = v1::PublishTrack { kind: v1::MediaKind::Audio.into(), mid: "0".into(), source: "mic".into() };
    let publish = v1::PublishRequest {
        room_id: ROOM.into(),
        participant_id: "ann".into(),
        tracks: vec![track],
        ..v1::PublishRequest::default()
    };
    cluster.client.publish(publish).await.unwrap();
}

#[tokio::test]
async fn rooms_of_an_agent_that_drains_run_at_another_before_anybody_is_told() {
    let mut first = Cluster::start(30).await;
    let mut ann = first.join("ann", "presenter").await.unwrap();
    let mut bob = first.join("bob", "presenter").await.unwrap();
    publish(&mut first).await;
    let mut second = first.another(30).await;
    say(&mut first, "one").await;
    first.shutdown.drain();
    let seq = to_the_end(&mut ann).await;
    assert_eq!(first.everything.known.lock().unwrap().leases.len(), 2, "the next agent has it already");
    let mut ann = second.reattach("ann", seq).await.unwrap();
    to_the_end(&mut bob).await;
    let mut bob = second.reattach("bob", 0).await.unwrap();
    say(&mut second, "two").await;
    assert_eq!(texts(&mut ann, "two").await, ["two"]);
    assert_eq!(texts(&mut bob, "two").await, ["one", "two"], "nothing is lost");
    let everything = first.everything.clone();
    first.over().await;
    everything.until("adoption", |known| known.adopted.last().is_some_and(|(_, epoch)| *epoch > 1)).await;
    let known = everything.known.lock().unwrap();
    assert!(known.closed_transports.is_empty() && known.removed_views.is_empty());
    assert_eq!(known.agents.len(), 1);
}

#[tokio::test]
async fn who_asks_an_agent_that_has_handed_a_room_over_asks_elsewhere() {
    let mut first = Cluster::start(30).await;
    let mut ann = first.join("ann", "presenter").await.unwrap();
    let second = first.another(30).await;
    // The door is closed, and the process goes on as long as it has to hand something over.
    let mut late = first.client.clone();
    first.shutdown.drain();
    to_the_end(&mut ann).await;
    let answer = late.list_participants(v1::RoomRequest { room_id: ROOM.into() }).await;
    let code = answer.unwrap_err().code();
    assert!(matches!(code, Code::Aborted | Code::Unavailable | Code::Unknown), "{code:?}");
    first.over().await;
    second.ended().await;
}

#[tokio::test]
async fn a_lone_agent_waits_for_another_and_its_rooms_go_on_meanwhile() {
    let mut first = Cluster::start(30).await;
    let mut ann = first.join("ann", "presenter").await.unwrap();
    publish(&mut first).await;
    first.shutdown.drain();
    first.everything.until("draining", |known| known.registered.as_ref().is_some_and(|w| w.draining)).await;
    say(&mut first, "one").await;
    assert_eq!(texts(&mut ann, "one").await, ["one"]);
    let mut second = first.another(30).await;
    first.over().await;
    let mut ann = second.reattach("ann", 0).await.unwrap();
    say(&mut second, "two").await;
    assert_eq!(texts(&mut ann, "two").await.last().unwrap(), "two");
}

#[tokio::test]
async fn a_lone_agent_that_is_to_end_leaves_its_rooms_to_the_next_one() {
    let mut first = Cluster::start(30).await;
    let _ann = first.join("ann", "presenter").await.unwrap();
    publish(&mut first).await;
    first.shutdown.drain();
    first.everything.until("draining", |known| known.registered.as_ref().is_some_and(|w| w.draining)).await;
    let next = first.everything.clone();
    let address = first.address();
    // The time is over, or whoever stops it has no time.
    first.ended().await;
    assert_eq!(next.known.lock().unwrap().handed_over.len(), 1);
    let mut second = Cluster::with(next, address, 30).await;
    let mut ann = second.reattach("ann", 0).await.unwrap();
    say(&mut second, "two").await;
    assert_eq!(texts(&mut ann, "two").await, ["two"]);
}

#[tokio::test]
async fn a_room_that_empties_is_not_handed_over() {
    let mut first = Cluster::start(0).await;
    let ann = first.join("ann", "presenter").await.unwrap();
    first.shutdown.drain();
    first.everything.until("draining", |known| known.registered.as_ref().is_some_and(|w| w.draining)).await;
    let everything = first.everything.clone();
    drop(ann);
    first.over().await;
    let known = everything.known.lock().unwrap();
    assert!(known.leases.is_empty() && known.handed_over.is_empty());
}
