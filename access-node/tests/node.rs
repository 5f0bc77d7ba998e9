//! The node between clients, on virtual time.

#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::BTreeMap, time::Duration};

use kaigi_access_node::{
    node::{NodeError, request},
    sdp::Kind,
};
use kaigi_proto::{
    ids::{SessionId, TransportId},
    v1::{self, access_event::Event},
};
use rtc_rtcp::{
    packet::Packet,
    payload_feedbacks::picture_loss_indication::PictureLossIndication,
    receiver_report::ReceiverReport,
    sender_report::SenderReport,
    transport_feedbacks::{
        transport_layer_cc::TransportLayerCc,
        transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
    },
};
use support::{world::*, *};

#[test]
fn what_is_published_reaches_the_subscriber_under_its_own_header() {
    let mut world = World::conference();
    assert_eq!(world.established(), ["publication0", "subscription1"]);
    let ready = world.events.iter().filter(|(_, _, e)| matches!(e, Event::TransportReady(_))).count();
    assert_eq!(ready, 2);
    let ssrcs = world.clients[1].1.answer.ssrcs.clone();
    assert_eq!(ssrcs.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2]);

    world.media(0, 1, &vp8(true, 1), 3000);
    world.media(0, 1, &vp8(false, 2), 3000);
    world.media(0, 0, b"sound", 960);
    let video = world.clients[1].1.take_rtp(ssrcs[1][0]);
    assert_eq!(video.len(), 2);
    assert_eq!(video[0].0.payload(&video[0].1), vp8(true, 1));
    assert_eq!(video[1].0.sequence, video[0].0.sequence.wrapping_add(1));
    assert_eq!(video[1].0.timestamp, video[0].0.timestamp.wrapping_add(3000));
    assert_eq!((video[0].0.payload_type, video[0].0.marker), (VP8, true));
    let numbers: Vec<_> = video.iter().map(|(h, p)| h.extension(p, 3).unwrap().to_vec()).collect();
    assert_eq!(numbers, [[0, 1], [0, 2]], "transport-wide numbers are the subscriber's own");
    let audio = world.clients[1].1.take_rtp(ssrcs[0][0]);
    assert_eq!(audio[0].0.payload(&audio[0].1), b"sound");
    assert_eq!(audio[0].0.extension(&audio[0].1, 1), Some(&[0x91][..]), "the audio level is kept");

    let resolution = world.events.iter().find_map(|(_, _, e)| match e {
        Event::Resolution(resolution) => Some(resolution.clone()),
        _ => None,
    });
    let resolution = resolution.unwrap();
    assert_eq!(
        (resolution.session_id.as_str(), resolution.track_id.as_str()),
        ("publication0", "transport0-1")
    );
    assert_eq!(resolution.resolution, Some(v1::Resolution { width: 640, height: 480 }));
}

#[test]
fn a_subscriber_begins_with_a_key_frame_that_is_asked_for() {
    let mut world = World::conference();
    assert_eq!(world.key_frame_requests(0), 1, "at once");
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    world.media(0, 1, &vp8(false, 1), 3000);
    assert!(world.clients[1].1.take_rtp(ssrc).is_empty());
    world.pass(Duration::from_millis(1100));
    assert_eq!(world.key_frame_requests(0), 1, "again, since somebody waits");
    world.media(0, 1, &vp8(true, 2), 3000);
    world.media(0, 1, &vp8(false, 3), 3000);
    assert_eq!(world.clients[1].1.take_rtp(ssrc).len(), 2);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.key_frame_requests(0), 0, "nobody waits any more");
}

#[test]
fn key_frame_requests_are_throttled_but_never_lost() {
    let mut world = World::conference();
    world.media(0, 1, &vp8(true, 1), 3000);
    world.pass(Duration::from_secs(2));
    world.key_frame_requests(0);
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    for _ in 0..10 {
        world.send_rtcp(1, &[Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc })]);
        world.pass(Duration::from_millis(20));
    }
    assert_eq!(world.key_frame_requests(0), 1);
    world.pass(Duration::from_millis(350));
    assert_eq!(world.key_frame_requests(0), 1, "those that came meanwhile are served together");
    world.pass(Duration::from_secs(5));
    assert_eq!(world.key_frame_requests(0), 0);
}

#[test]
fn a_lost_packet_is_sent_again_with_the_retransmission_source() {
    let mut world = World::conference();
    let ssrcs = world.clients[1].1.answer.ssrcs[1].clone();
    for number in 0..5 {
        world.media(0, 1, &vp8(number == 0, number), 3000);
    }
    let sent = world.clients[1].1.take_rtp(ssrcs[0]);
    let lost = [sent[1].0.sequence, sent[3].0.sequence];
    let nack = TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: ssrcs[0],
        nacks: nack_pairs_from_sequence_numbers(&lost),
    };
    world.send_rtcp(1, &[Box::new(nack)]);
    let again = world.clients[1].1.take_rtp(ssrcs[1]);
    assert_eq!(again.len(), 2);
    for ((header, packet), original) in again.iter().zip([1, 3]) {
        let payload = header.payload(packet);
        assert_eq!(header.payload_type, VP8_RTX);
        assert_eq!(payload[..2], sent[original].0.sequence.to_be_bytes());
        assert_eq!(&payload[2..], sent[original].0.payload(&sent[original].1));
        assert_eq!(header.timestamp, sent[original].0.timestamp);
    }
}

#[test]
fn what_the_publisher_lost_is_asked_for_and_fills_the_gap() {
    let mut world = World::conference();
    let ssrcs = world.clients[1].1.answer.ssrcs[1].clone();
    world.media(0, 1, &vp8(true, 0), 3000);
    let _lost = world.clients[0].1.media(1, &vp8(false, 1), 3000, 0);
    world.media(0, 1, &vp8(false, 2), 3000);
    world.pass(Duration::from_millis(20));
    let nacks: Vec<u16> = world
        .rtcp(0)
        .iter()
        .filter_map(|p| p.as_any().downcast_ref::<TransportLayerNack>())
        .flat_map(|nack| nack.nacks.iter().flat_map(|pair| pair.packet_list()))
        .collect();
    assert_eq!(nacks, [102]);
    let original = [&102u16.to_be_bytes()[..], &vp8(false, 1)].concat();
    let rtx = packet(world.clients[0].1.lines[1].rtx, VP8_RTX, 9, 56_000, 0, &original);
    let rtx = world.clients[0].1.srtp.as_mut().unwrap().protect_rtp(&rtx).unwrap();
    world.send(0, &rtx);
    let received = world.clients[1].1.take_rtp(ssrcs[0]);
    let first = received[0].0.sequence;
    let order: Vec<_> =
        received.iter().map(|(h, p)| (h.sequence.wrapping_sub(first), h.payload(p)[20])).collect();
    assert_eq!(order, [(0, 0), (2, 2), (1, 1)]);
    world.pass(Duration::from_secs(1));
    assert!(!world.rtcp(0).iter().any(|p| p.as_any().is::<TransportLayerNack>()));
}

/// Ten per cent of all packets are lost, retransmissions among them, on the way in and on the way out.
#[test]
fn a_stream_gets_through_heavy_loss_whole() {
    for seed in 1..=5u32 {
        let mut state = seed;
        let mut lost = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % 10 == 0
        };
        let mut world = World::conference();
        let ssrcs = world.clients[1].1.answer.ssrcs[1].clone();
        let line = world.clients[0].1.lines[1].clone();
        world.media(0, 1, &vp8(true, 0), 3000);
        let mut sent = BTreeMap::new();
        let mut received: BTreeMap<u16, Vec<u8>> = BTreeMap::new();
        let (mut next, mut rtx_sequence) = (0u16, 0u16);
        while received.len() < 301 {
            assert!(next < 1000, "{} packets after 10 s", received.len());
            next += 1;
            world.pass(Duration::from_millis(10));
            if next <= 300 {
                let payload = vp8(false, next as u8);
                sent.insert(101 + next, payload.clone());
                let packet = world.clients[0].1.media(1, &payload, 900, next);
                // A stream whose last packet is lost has no gap to tell of it.
                if next == 300 || !lost() {
                    world.send(0, &packet);
                }
            }
            let wanted: Vec<u16> = world.rtcp(0).iter().flat_map(|packet| nacked(packet.as_ref())).collect();
            for sequence in wanted {
                let again = [&sequence.to_be_bytes()[..], &sent[&sequence]].concat();
                let rtx = packet(line.rtx, VP8_RTX, rtx_sequence, 0, 0, &again);
                rtx_sequence += 1;
                let rtx = world.clients[0].1.srtp.as_mut().unwrap().protect_rtp(&rtx).unwrap();
                if !lost() {
                    world.send(0, &rtx);
                }
            }
            for (header, packet) in world.clients[1].1.take_rtp(ssrcs[0]) {
                if received.is_empty() || !lost() || next >= 300 {
                    received.insert(header.sequence, header.payload(&packet).to_vec());
                }
            }
            for (header, packet) in world.clients[1].1.take_rtp(ssrcs[1]) {
                let (number, payload) = header.payload(&packet).split_at(2);
                if !lost() {
                    received.insert(u16::from_be_bytes([number[0], number[1]]), payload.to_vec());
                }
            }
            let (first, last) = (*received.keys().next().unwrap(), *received.keys().last().unwrap());
            let missing: Vec<_> = (first..last).filter(|sequence| !received.contains_key(sequence)).collect();
            if next % 3 == 0 && !missing.is_empty() {
                let nacks = nack_pairs_from_sequence_numbers(&missing);
                world.send_rtcp(
                    1,
                    &[Box::new(TransportLayerNack { sender_ssrc: 1, media_ssrc: ssrcs[0], nacks })],
                );
            }
        }
        let numbers: Vec<u8> = received.values().map(|payload| payload[20]).collect();
        assert_eq!(numbers, (0..301u16).map(|n| n as u8).collect::<Vec<_>>());
    }
}

fn nacked(packet: &dyn Packet) -> Vec<u16> {
    let nack = packet.as_any().downcast_ref::<TransportLayerNack>();
    nack.map(|nack| nack.nacks.iter().flat_map(|pair| pair.packet_list()).collect()).unwrap_or_default()
}

#[test]
fn a_pause_leaves_no_gap() {
    let mut world = World::conference();
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    world.media(0, 1, &vp8(true, 0), 3000);
    world.media(0, 1, &vp8(false, 1), 3000);
    let (transport, session) =
        (TransportId::new("transport1").unwrap(), SessionId::new("subscription1").unwrap());
    world.node.set_active(world.now, &transport, &session, Kind::Video, false).unwrap();
    for number in 2..50 {
        world.media(0, 1, &vp8(number % 10 == 0, number), 3000);
    }
    world.pass(Duration::from_secs(2));
    world.key_frame_requests(0);
    world.node.set_active(world.now, &transport, &session, Kind::Video, true).unwrap();
    world.settle();
    assert_eq!(world.key_frame_requests(0), 1);
    world.media(0, 1, &vp8(false, 50), 3000);
    world.media(0, 1, &vp8(true, 51), 3000);
    let received = world.clients[1].1.take_rtp(ssrc);
    let numbers: Vec<_> = received.iter().map(|(h, p)| h.payload(p)[20]).collect();
    assert_eq!(numbers, [0, 1, 51]);
    assert_eq!(received[2].0.sequence, received[0].0.sequence.wrapping_add(2));
    assert_eq!(received[2].0.timestamp, received[0].0.timestamp.wrapping_add(51 * 3000));

    let publication = SessionId::new("publication0").unwrap();
    let publisher = TransportId::new("transport0").unwrap();
    world.node.set_active(world.now, &publisher, &publication, Kind::Video, false).unwrap();
    world.media(0, 1, &vp8(true, 52), 3000);
    world.node.set_active(world.now, &publisher, &publication, Kind::Video, true).unwrap();
    world.media(0, 1, &vp8(true, 53), 3000);
    let received = world.clients[1].1.take_rtp(ssrc);
    assert_eq!(received.iter().map(|(h, p)| h.payload(p)[20]).collect::<Vec<_>>(), [53]);
}

#[test]
fn another_source_goes_on_in_the_same_stream() {
    let mut world = World::conference();
    let other = world.add_publisher();
    assert_eq!(other, 2);
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    world.media(0, 1, &vp8(true, 0), 3000);
    world.rtcp(2);
    let (transport, session) =
        (TransportId::new("transport1").unwrap(), SessionId::new("subscription1").unwrap());
    let to = request::source(Some(source("transport2-1", "vp8")), Kind::Video).unwrap();
    world.now += Duration::from_millis(100);
    world.node.set_source(world.now, &transport, &session, Kind::Video, to).unwrap();
    world.settle();
    assert_eq!(world.key_frame_requests(2), 1);
    world.media(2, 1, &vp8(false, 2), 777);
    world.media(2, 1, &vp8(true, 3), 777);
    world.media(0, 1, &vp8(true, 1), 3000);
    let received = world.clients[1].1.take_rtp(ssrc);
    assert_eq!(received.iter().map(|(h, p)| h.payload(p)[20]).collect::<Vec<_>>(), [0, 3]);
    assert_eq!(received[1].0.sequence, received[0].0.sequence.wrapping_add(1));
    assert_eq!(received[1].0.timestamp, received[0].0.timestamp.wrapping_add(9000));
    let wrong = request::source(Some(source("transport2-1", "h264")), Kind::Video).unwrap();
    let refused = world.node.set_source(world.now, &transport, &session, Kind::Video, wrong);
    assert_eq!(refused, Err(NodeError::OtherFormat));
}

#[test]
fn reports_go_both_ways() {
    let mut world = World::conference();
    world.media(0, 1, &vp8(true, 0), 3000);
    let line = world.clients[0].1.lines[1].clone();
    let report = SenderReport { ssrc: line.ssrc, ntp_time: 77 << 32, rtp_time: 53_000, ..Default::default() };
    world.send_rtcp(0, &[Box::new(report)]);
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    let timestamp = world.clients[1].1.take_rtp(ssrc)[0].0.timestamp;
    world.pass(Duration::from_millis(1000));
    let to_publisher = world.rtcp(0);
    let block = to_publisher.iter().find_map(|p| {
        let report = p.as_any().downcast_ref::<ReceiverReport>()?;
        report.reports.iter().find(|block| block.ssrc == line.ssrc).cloned()
    });
    let block = block.unwrap();
    assert_eq!((block.last_sender_report, block.delay, block.total_lost), (77 << 16, 65_536, 0));
    let to_subscriber = world.rtcp(1);
    let report = to_subscriber.iter().find_map(|p| p.as_any().downcast_ref::<SenderReport>()).unwrap();
    assert_eq!((report.ssrc, report.packet_count), (ssrc, 1));
    assert_eq!(report.ntp_time >> 32, 78, "the publisher's own clock, a second later");
    assert_eq!(report.rtp_time, timestamp.wrapping_add(90_000));
}

#[test]
fn the_publisher_learns_when_each_packet_arrived() {
    let mut world = World::conference();
    for number in 1..=20u16 {
        let packet = world.clients[0].1.media(1, &vp8(number == 1, 0), 3000, number);
        world.now += Duration::from_millis(5);
        if number != 7 {
            world.send(0, &packet);
        }
    }
    world.pass(Duration::from_millis(200));
    let feedback: Vec<_> =
        world.rtcp(0).iter().filter_map(|p| p.as_any().downcast_ref::<TransportLayerCc>().cloned()).collect();
    let arrived: usize = feedback.iter().map(|f| f.recv_deltas.len()).sum();
    assert_eq!((feedback[0].base_sequence_number, arrived), (1, 19));
}

#[test]
fn nothing_that_comes_in_is_too_strange() {
    let mut world = World::conference();
    let mut state = 1u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let media = world.clients[0].1.media(1, &vp8(true, 0), 3000, 1);
    let check = world.clients[0].1.check();
    for round in 0..20_000 {
        let mut datagram = match round % 3 {
            0 => media.clone(),
            1 => check.clone(),
            _ => (0..random() % 60).map(|_| random() as u8).collect(),
        };
        if let Some(first) = datagram.first_mut().filter(|_| round % 3 == 2) {
            *first = [0, 1, 22, 23, 128, 129, 144, 200][random() as usize % 8];
        }
        datagram.truncate(random() as usize % (datagram.len() + 1));
        if !datagram.is_empty() && round % 2 == 0 {
            let at = random() as usize % datagram.len();
            datagram[at] ^= 1 << (random() % 8);
        }
        // Fatal alerts are the client's right before the handshake is through, not after.
        world.send(0, &datagram);
        world.node.handle_link_datagram(world.now, address("127.0.0.1:9"), &datagram);
    }
    assert_eq!(world.node.transports(), 2);
    world.media(0, 1, &vp8(true, 7), 3000);
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    assert!(!world.clients[1].1.take_rtp(ssrc).is_empty(), "and all goes on");
}
