//! What the node tells of the way to a client, from the client's own feedback.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kaigi_access_node::{forward::TransportCcReceiver, node::NodeError};
use kaigi_proto::{ids::TransportId, v1};
use support::{world::*, *};

/// The id of the transport-wide numbers in the clients' offers.
const TRANSPORT_CC: u8 = 3;

fn estimate(world: &World, client: usize) -> Result<u64, NodeError> {
    world.node.estimate_bandwidth(world.now, &TransportId::new(World::transport(client)).unwrap())
}

/// Sends a picture of 1000 bytes every 10 ms, which is 800 kbit/s and what is around it, and lets the subscriber report what came.
fn stream(world: &mut World, subscriber: usize, line: usize, time: Duration) {
    let mut reports = TransportCcReceiver::new(world.now);
    let ssrc = world.clients[subscriber].1.answer.ssrcs[line][0];
    let mut payload = vp8(true, 1);
    payload.resize(1000, 1);
    let end = world.now + time;
    while world.now < end {
        world.media(0, 1, &payload, 900);
        for (header, packet) in world.clients[subscriber].1.take_rtp(ssrc) {
            if let Some([high, low]) = header.extension(&packet, TRANSPORT_CC) {
                reports.receive(world.now, u16::from_be_bytes([*high, *low]));
            }
        }
        world.pass(Duration::from_millis(10));
        while reports.next_timeout().is_some_and(|at| at <= world.now)
            && let Some(report) = reports.feedback(1, ssrc)
        {
            let protected = world.clients[subscriber].1.protect_rtcp(&report);
            world.send(subscriber, &protected);
        }
    }
}

#[test]
fn the_estimate_is_made_from_the_clients_feedback() {
    let mut world = World::conference();
    assert_eq!(estimate(&world, 1), Err(NodeError::NoEstimate));
    let status = tonic::Status::from(NodeError::NoEstimate);
    assert_eq!((status.code(), status.message()), (tonic::Code::FailedPrecondition, "No bandwidth estimate"));
    stream(&mut world, 1, 1, Duration::from_secs(5));
    let known = estimate(&world, 1).unwrap();
    assert!((800_000..1_300_000).contains(&known), "{known}");
    assert_eq!(estimate(&world, 0), Err(NodeError::NoEstimate), "nothing is sent to the publisher");
    assert_eq!(
        world.node.estimate_bandwidth(world.now, &TransportId::new("nobody").unwrap()),
        Err(NodeError::UnknownTransport)
    );
}

#[test]
fn another_way_is_estimated_anew() {
    let mut world = World::conference();
    stream(&mut world, 1, 1, Duration::from_secs(3));
    world.clients[1].1.ice += 1;
    world.negotiate(1);
    assert!(estimate(&world, 1).is_ok(), "the old way is in use still");
    world.clients[1].0 = address("203.0.113.5:9000");
    let check = world.clients[1].1.check();
    world.send(1, &check);
    assert_eq!(estimate(&world, 1), Err(NodeError::NoEstimate));
    stream(&mut world, 1, 1, Duration::from_secs(3));
    assert!(estimate(&world, 1).is_ok());
}

#[test]
fn there_is_none_where_feedback_was_not_negotiated() {
    let mut world = World::new();
    let publisher = world.client();
    world.clients[publisher].1.add("audio", Way::Inactive);
    world.clients[publisher].1.add("video", Way::Send);
    world.publish(publisher, "publication0", &[("1", v1::MediaKind::Video)]).unwrap();
    world.negotiate(publisher);
    world.connect(publisher);
    let subscriber = world.client();
    world.clients[subscriber].1.without_transport_cc = true;
    let mid = world.clients[subscriber].1.add("video", Way::Receive);
    let tracks = [(&mid[..], v1::MediaKind::Video, source("transport0-1", "vp8"))];
    world.subscribe(subscriber, "subscription1", &tracks).unwrap();
    world.negotiate(subscriber);
    world.connect(subscriber);
    assert!(!world.clients[subscriber].1.answer.text.contains("transport-cc"));
    stream(&mut world, subscriber, 0, Duration::from_secs(3));
    assert_eq!(estimate(&world, subscriber), Err(NodeError::NoEstimate));
    // A client that reports on packets without numbers is not believed.
    let mut reports = TransportCcReceiver::new(world.now);
    for number in 0..200 {
        reports.receive(world.now + Duration::from_millis(10 * u64::from(number)), number);
    }
    let report = reports.feedback(1, 2).unwrap();
    let protected = world.clients[subscriber].1.protect_rtcp(&report);
    world.send(subscriber, &protected);
    assert_eq!(estimate(&world, subscriber), Err(NodeError::NoEstimate));
}
