//! Simulcast by RID: each layer of a publication is a track of its own.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kaigi_access_node::node::LinkCall;
use kaigi_proto::{
    ids::{SessionId, TransportId},
    v1::{self, access_event::Event},
};
use rtc_rtcp::{
    payload_feedbacks::picture_loss_indication::PictureLossIndication, receiver_report::ReceiverReport,
    sender_report::SenderReport, transport_feedbacks::transport_layer_nack::TransportLayerNack,
};
use support::{world::*, *};

const RIDS: [&str; 3] = ["q", "h", "f"];
const SIZES: [(u16, u16); 3] = [(320, 180), (640, 360), (1280, 720)];

/// A publisher (client 0) of sound and of three layers on the m-line "1".
fn publisher() -> World {
    let mut world = World::new();
    let client = world.client();
    let audio = world.clients[client].1.add("audio", Way::Send);
    let video = world.clients[client].1.add("video", Way::Send);
    world.clients[client].1.lines[1].layers = RIDS.to_vec();
    let tracks = [(&audio[..], v1::MediaKind::Audio), (&video[..], v1::MediaKind::Video)];
    world.publish(client, "publication0", &tracks).unwrap();
    world.negotiate(client);
    world.connect(client);
    world
}

/// A client that gets one track.
fn subscriber(world: &mut World, track: &str) -> usize {
    let client = world.client();
    let mid = world.clients[client].1.add("video", Way::Receive);
    let session = format!("subscription{client}");
    world.subscribe(client, &session, &[(&mid, v1::MediaKind::Video, source(track, "vp8"))]).unwrap();
    world.negotiate(client);
    world.connect(client);
    client
}

fn send_layer(world: &mut World, layer: usize, key_frame: bool, number: u8, says: bool) {
    let packet = world.clients[0].1.layer_media(1, layer, &vp8_of(SIZES[layer], key_frame, number), says);
    world.send(0, &packet);
}

/// The numbers of the pictures that a subscriber got since the last time.
fn got(world: &mut World, client: usize) -> Vec<u8> {
    let ssrc = world.clients[client].1.answer.ssrcs[0][0];
    let received = world.clients[client].1.take_rtp(ssrc);
    received.iter().map(|(header, packet)| header.payload(packet)[20]).collect()
}

/// The sources that key frames were asked of since the last time.
fn asked(world: &mut World) -> Vec<u32> {
    let packets = world.rtcp(0);
    let requests = packets.iter().filter_map(|p| p.as_any().downcast_ref::<PictureLossIndication>());
    requests.map(|request| request.media_ssrc).collect()
}

#[test]
fn each_layer_is_a_track_with_the_m_lines_mid_and_its_own_size() {
    let mut world = publisher();
    let established = world.events.iter().find_map(|(_, _, event)| match event {
        Event::SessionEstablished(established) => Some(established.clone()),
        _ => None,
    });
    let tracks = established.unwrap().tracks;
    let told: Vec<_> = tracks.iter().map(|track| (track.mid.as_str(), track.track_id.as_str())).collect();
    assert_eq!(
        told,
        [("0", "transport0-0"), ("1", "transport0-1:q"), ("1", "transport0-1:h"), ("1", "transport0-1:f")]
    );
    assert!(tracks[1..].iter().all(|track| track.format == Some(format("vp8"))));
    for layer in [2, 0, 1] {
        send_layer(&mut world, layer, true, 0, true);
    }
    let sizes: Vec<_> = world
        .events
        .iter()
        .filter_map(|(_, _, event)| match event {
            Event::Resolution(told) => Some((told.track_id.as_str(), told.resolution.unwrap().width)),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [("transport0-1:f", 1280), ("transport0-1:q", 320), ("transport0-1:h", 640)]);
}

#[test]
fn a_layer_is_known_by_its_rid_and_then_by_its_source() {
    let mut world = publisher();
    let subscribers: Vec<_> =
        RIDS.iter().map(|rid| subscriber(&mut world, &format!("transport0-1:{rid}"))).collect();
    for layer in 0..3 {
        send_layer(&mut world, layer, true, 10 * layer as u8, true);
        send_layer(&mut world, layer, false, 10 * layer as u8 + 1, false);
    }
    for (layer, subscriber) in subscribers.iter().enumerate() {
        let base = 10 * layer as u8;
        assert_eq!(got(&mut world, *subscriber), [base, base + 1]);
    }
}

#[test]
fn packets_that_tell_no_negotiated_layer_go_nowhere() {
    let mut world = publisher();
    let q = subscriber(&mut world, "transport0-1:q");
    send_layer(&mut world, 0, true, 1, false);
    world.clients[0].1.lines[1].layers[0] = "x";
    send_layer(&mut world, 0, true, 2, true);
    assert!(got(&mut world, q).is_empty());
    assert_eq!(world.node.counters().malformed, 2);
    world.clients[0].1.lines[1].layers[0] = "q";
    send_layer(&mut world, 0, true, 3, true);
    assert_eq!(got(&mut world, q), [3]);
}

#[test]
fn key_frames_are_asked_of_the_layer_that_needs_one() {
    let mut world = publisher();
    let h = subscriber(&mut world, "transport0-1:h");
    let base = world.clients[0].1.lines[1].ssrc;
    world.pass(Duration::from_secs(5));
    assert!(asked(&mut world).is_empty(), "of a layer that does not flow none can be asked for");
    send_layer(&mut world, 0, true, 1, true);
    send_layer(&mut world, 1, false, 2, true);
    assert_eq!(asked(&mut world), [base + 10], "as soon as it flows");
    send_layer(&mut world, 1, true, 3, true);
    assert_eq!(got(&mut world, h), [3]);
    let q = subscriber(&mut world, "transport0-1:q");
    assert_eq!(asked(&mut world), [base], "the throttle is each layer's own");
    send_layer(&mut world, 0, true, 4, true);
    assert_eq!(got(&mut world, q), [4]);
    world.pass(Duration::from_secs(1));
    assert!(asked(&mut world).is_empty());
    for client in [q, h] {
        let ssrc = world.clients[client].1.answer.ssrcs[0][0];
        world.send_rtcp(client, &[Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc })]);
    }
    assert_eq!(asked(&mut world), [base, base + 10]);
}

#[test]
fn a_layers_losses_are_asked_for_and_its_retransmissions_found_by_the_repaired_rid() {
    let mut world = publisher();
    let (h, f) = (subscriber(&mut world, "transport0-1:h"), subscriber(&mut world, "transport0-1:f"));
    for layer in 0..3 {
        send_layer(&mut world, layer, true, 0, true);
    }
    let lost = vp8_of(SIZES[1], false, 1);
    let _lost = world.clients[0].1.layer_media(1, 1, &lost, false);
    send_layer(&mut world, 1, false, 2, false);
    send_layer(&mut world, 2, false, 9, false);
    world.pass(Duration::from_millis(20));
    let base = world.clients[0].1.lines[1].ssrc;
    let packets = world.rtcp(0);
    let nacks: Vec<_> = packets
        .iter()
        .filter_map(|packet| packet.as_any().downcast_ref::<TransportLayerNack>())
        .flat_map(|nack| nack.nacks.iter().flat_map(|p| p.packet_list()).map(|n| (nack.media_ssrc, n)))
        .collect();
    assert_eq!(nacks, [(base + 10, 102)]);
    let again = world.clients[0].1.layer_rtx(1, 1, 102, &lost);
    world.send(0, &again);
    assert_eq!(got(&mut world, h), [0, 2, 1]);
    assert_eq!(got(&mut world, f), [0, 9]);
}

#[test]
fn reports_are_of_each_layer() {
    let mut world = publisher();
    let f = subscriber(&mut world, "transport0-1:f");
    let base = world.clients[0].1.lines[1].ssrc;
    for layer in [0, 2] {
        send_layer(&mut world, layer, true, 0, true);
    }
    let report = SenderReport { ssrc: base + 20, ntp_time: 77 << 32, rtp_time: 53_000, ..Default::default() };
    world.send_rtcp(0, &[Box::new(report)]);
    world.pass(Duration::from_millis(1100));
    let packets = world.rtcp(0);
    let mut about: Vec<u32> = packets
        .iter()
        .filter_map(|packet| packet.as_any().downcast_ref::<ReceiverReport>())
        .flat_map(|report| report.reports.iter().map(|block| block.ssrc))
        .collect();
    about.sort_unstable();
    assert_eq!(about, [base, base + 20], "what does not flow is not reported on");
    let ssrc = world.clients[f].1.answer.ssrcs[0][0];
    let packets = world.rtcp(f);
    let mut reports = packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<SenderReport>());
    assert!(reports.any(|report| report.ssrc == ssrc));
}

#[test]
fn muting_stops_all_layers_and_ending_forgets_them() {
    let mut world = publisher();
    let (q, f) = (subscriber(&mut world, "transport0-1:q"), subscriber(&mut world, "transport0-1:f"));
    let (transport, session) =
        (TransportId::new("transport0").unwrap(), SessionId::new("publication0").unwrap());
    let video = kaigi_access_node::sdp::Kind::Video;
    for (active, number) in [(false, 1), (true, 2)] {
        world.node.set_active(world.now, &transport, &session, video, active).unwrap();
        for layer in 0..3 {
            send_layer(&mut world, layer, true, number, true);
        }
    }
    assert_eq!((got(&mut world, q), got(&mut world, f)), (vec![2], vec![2]));
    world.negotiate(0);
    send_layer(&mut world, 0, false, 3, false);
    assert_eq!(got(&mut world, q), [3], "a later offer changes nothing");
    world.node.close_session(&transport, &session);
    send_layer(&mut world, 0, true, 4, true);
    assert!(got(&mut world, q).is_empty());
    for client in [q, f] {
        world.node.close_transport(world.now, &TransportId::new(World::transport(client)).unwrap());
    }
    assert_eq!(world.node.streams(), (0, 0));
    world.publish(0, "publication1", &[("1", v1::MediaKind::Video)]).unwrap();
    world.negotiate(0);
    assert_eq!(world.node.streams().0, 3, "the m-line serves the next publication with its layers");
}

#[test]
fn a_layer_crosses_between_nodes_by_its_track_id() {
    let mut producer = publisher();
    let mut consumer = World::with_worker("access-2", "127.0.0.1:7001", 9);
    let client = subscriber(&mut consumer, "transport0-1:h");
    let calls = std::mem::take(&mut consumer.node.output().calls);
    let [LinkCall::Attach { flow, request, .. }] = &calls[..] else { panic!("{calls:?}") };
    assert_eq!(request.track_id, "transport0-1:h");
    let reply = producer.node.attach(producer.now, request).unwrap();
    let whole = v1::AttachRequest { track_id: "transport0-1".into(), ..request.clone() };
    assert!(producer.node.attach(producer.now, &whole).is_err(), "the layers stand in its place");
    consumer.node.attached(consumer.now, *flow, request, Ok(reply));
    for layer in 0..3 {
        send_layer(&mut producer, layer, true, 10 + layer as u8, true);
    }
    carry(&mut producer, &mut consumer);
    consumer.settle();
    assert_eq!(got(&mut consumer, client), [11]);
}

#[test]
fn a_track_without_layers_takes_whatever_rid_its_packets_say() {
    let mut world = World::new();
    let client = world.client();
    let mid = world.clients[client].1.add("video", Way::Send);
    world.publish(client, "publication0", &[(&mid, v1::MediaKind::Video)]).unwrap();
    world.negotiate(client);
    world.connect(client);
    let subscriber = subscriber(&mut world, "transport0-0");
    // Another source than the one that was announced, by mid and rid.
    let line = &mut world.clients[client].1.lines[0];
    (line.ssrc, line.layers) = (77, vec!["only"]);
    world.pass(Duration::from_secs(3));
    let packet = world.clients[client].1.layer_media(0, 0, &vp8(true, 5), true);
    world.send(client, &packet);
    assert!(got(&mut world, subscriber).is_empty(), "the announced one is waited for");
    world.clients[client].1.lines[0].ssrc = 1000;
    world.media(client, 0, &vp8(true, 6), 3000);
    assert_eq!(got(&mut world, subscriber), [6]);
    world.pass(Duration::from_secs(3));
    world.clients[client].1.lines[0].ssrc = 77;
    let packet = world.clients[client].1.layer_media(0, 0, &vp8(true, 7), true);
    world.send(client, &packet);
    assert_eq!(got(&mut world, subscriber), [7]);
}

#[test]
fn a_layer_is_known_by_its_rid_alone_beside_another_picture() {
    let mut world = World::new();
    let client = world.client();
    let lines = &mut world.clients[client].1;
    let mids = [lines.add("video", Way::Send), lines.add("video", Way::Send)];
    lines.lines[1].layers = RIDS.to_vec();
    lines.omits_mid = true;
    world.publish(client, "publication0", &[(&mids[0], v1::MediaKind::Video)]).unwrap();
    world.publish(client, "publication1", &[(&mids[1], v1::MediaKind::Video)]).unwrap();
    world.negotiate(client);
    world.connect(client);
    let plain = subscriber(&mut world, "transport0-0");
    let layer = subscriber(&mut world, &format!("transport0-1:{}", RIDS[1]));
    let packet = world.clients[client].1.layer_media(1, 1, &vp8(true, 8), true);
    world.send(client, &packet);
    world.media(client, 0, &vp8(true, 9), 3000);
    assert_eq!(got(&mut world, layer), [8]);
    assert_eq!(got(&mut world, plain), [9]);
}
