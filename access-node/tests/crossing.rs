//! Tracks between two nodes.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kaigi_access_node::node::LinkCall;
use kaigi_proto::{ids::TransportId, v1};
use rtc_rtcp::{
    payload_feedbacks::picture_loss_indication::PictureLossIndication, sender_report::SenderReport,
};
use support::{world::*, *};

#[test]
fn tracks_cross_between_nodes_once() {
    let mut producer = World::conference();
    let mut consumer = World::with_worker("access-2", "127.0.0.1:7001", 9);
    let remote = |track: &str, codec: &str| v1::TrackSource {
        endpoint: "http://producer".into(),
        ..source(track, codec)
    };
    for client in 0..2 {
        assert_eq!(consumer.client(), client);
        let mid = consumer.clients[client].1.add("video", Way::Receive);
        let tracks = [(&mid[..], v1::MediaKind::Video, remote("transport0-1", "vp8"))];
        consumer.subscribe(client, &format!("s{client}"), &tracks).unwrap();
        consumer.negotiate(client);
        consumer.connect(client);
    }
    let calls = std::mem::take(&mut consumer.node.output().calls);
    let [LinkCall::Attach { flow, endpoint, request }] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!(endpoint, "http://producer");
    let reply = producer.node.attach(producer.now, request).unwrap();
    producer.node.attach(producer.now, request).unwrap();
    assert_eq!((reply.clock_rate, reply.producer_address.as_str()), (90_000, "127.0.0.1:7000"));
    consumer.node.attached(consumer.now, *flow, request, Ok(reply));
    consumer.pass(Duration::ZERO);
    carry(&mut consumer, &mut producer);
    producer.key_frame_requests(0);
    producer.pass(Duration::from_secs(1));
    producer.media(0, 1, &vp8(true, 1), 3000);
    producer.media(0, 1, &vp8(false, 2), 3000);
    carry(&mut producer, &mut consumer);
    consumer.settle();
    for client in 0..2 {
        let ssrc = consumer.clients[client].1.answer.ssrcs[0][0];
        let received = consumer.clients[client].1.take_rtp(ssrc);
        assert_eq!(received.iter().map(|(h, p)| h.payload(p)[20]).collect::<Vec<_>>(), [1, 2]);
    }
    let ssrc = consumer.clients[0].1.answer.ssrcs[0][0];
    consumer.pass(Duration::from_secs(1));
    consumer.send_rtcp(0, &[Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc })]);
    producer.key_frame_requests(0);
    carry(&mut consumer, &mut producer);
    producer.settle();
    assert_eq!(producer.key_frame_requests(0), 1, "a key frame is asked for across the link");
    for client in 0..2 {
        let transport = TransportId::new(World::transport(client)).unwrap();
        consumer.node.close_transport(consumer.now, &transport);
    }
    let calls = std::mem::take(&mut consumer.node.output().calls);
    let [LinkCall::Detach { attachment, .. }] = &calls[..] else { panic!("{calls:?}") };
    producer.node.detach(attachment);
    producer.media(0, 1, &vp8(true, 3), 3000);
    assert!(producer.node.output().link_datagrams.is_empty());
}

#[test]
fn audio_levels_cross_between_nodes() {
    let mut producer = World::conference();
    let mut consumer = World::with_worker("access-2", "127.0.0.1:7001", 9);
    let client = consumer.client();
    let mid = consumer.clients[client].1.add("audio", Way::Receive);
    let remote = v1::TrackSource { endpoint: "http://producer".into(), ..source("transport0-0", "opus") };
    consumer.subscribe(client, "s", &[(&mid[..], v1::MediaKind::Audio, remote)]).unwrap();
    consumer.negotiate(client);
    consumer.connect(client);
    let calls = std::mem::take(&mut consumer.node.output().calls);
    let [LinkCall::Attach { flow, request, .. }] = &calls[..] else { panic!("{calls:?}") };
    let reply = producer.node.attach(producer.now, request).unwrap();
    assert_eq!((reply.audio_level_id, reply.dependency_descriptor_id), (1, 0));
    consumer.node.attached(consumer.now, *flow, request, Ok(reply));
    consumer.pass(Duration::ZERO);
    carry(&mut consumer, &mut producer);
    producer.media(0, 0, b"sound", 960);
    carry(&mut producer, &mut consumer);
    consumer.settle();
    let ssrc = consumer.clients[client].1.answer.ssrcs[0][0];
    let received = consumer.clients[client].1.take_rtp(ssrc);
    assert_eq!(received[0].0.extension(&received[0].1, 1), Some(&[0x91][..]));
}

#[test]
fn who_attaches_a_track_learns_at_once_when_it_was_captured() {
    let mut producer = World::conference();
    producer.media(0, 0, b"sound", 960);
    let ssrc = producer.clients[0].1.lines[0].ssrc;
    let captured = 1 << 40;
    let report = SenderReport { ssrc, ntp_time: captured, rtp_time: 960, ..Default::default() };
    producer.send_rtcp(0, &[Box::new(report)]);
    let mut consumer = World::with_worker("access-2", "127.0.0.1:7001", 9);
    let client = consumer.client();
    let mid = consumer.clients[client].1.add("audio", Way::Receive);
    let remote = v1::TrackSource { endpoint: "http://producer".into(), ..source("transport0-0", "opus") };
    consumer.subscribe(client, "s", &[(&mid[..], v1::MediaKind::Audio, remote)]).unwrap();
    consumer.negotiate(client);
    consumer.connect(client);
    let calls = std::mem::take(&mut consumer.node.output().calls);
    let [LinkCall::Attach { flow, request, .. }] = &calls[..] else { panic!("{calls:?}") };
    let reply = producer.node.attach(producer.now, request).unwrap();
    consumer.node.attached(consumer.now, *flow, request, Ok(reply));
    // The publisher says nothing more of it, but the node knows.
    consumer.pass(Duration::from_secs(1));
    carry(&mut consumer, &mut producer);
    producer.media(0, 0, b"sound", 960);
    carry(&mut producer, &mut consumer);
    consumer.settle();
    consumer.pass(Duration::from_secs(2));
    let heard = consumer.clients[client].1.answer.ssrcs[0][0];
    let packets = consumer.rtcp(client);
    let mut reports = packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<SenderReport>());
    let report = reports.find(|report| report.ssrc == heard).unwrap();
    assert!(report.ntp_time.abs_diff(captured) < 5 << 32, "{}", report.ntp_time);
}

#[test]
fn a_track_that_is_not_to_be_had_is_asked_for_again() {
    let mut world = World::with_worker("access-2", "127.0.0.1:7001", 9);
    let client = world.client();
    let mid = world.clients[client].1.add("video", Way::Receive);
    world.subscribe(client, "s", &[(&mid, v1::MediaKind::Video, source("elsewhere", "vp8"))]).unwrap();
    world.negotiate(client);
    let mut asked = 0;
    for _ in 0..60 {
        for call in std::mem::take(&mut world.node.output().calls) {
            if let LinkCall::Attach { flow, request, .. } = call {
                asked += 1;
                world.node.attached(world.now, flow, &request, Err(tonic::Status::not_found("")));
            }
        }
        world.pass(Duration::from_millis(250));
    }
    assert!((5..12).contains(&asked), "{asked} times in 15 s");
}
