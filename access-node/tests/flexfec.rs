//! Repair packets (FlexFEC): what a publisher's way loses of its picture is made of them, and a subscriber whose way loses, and is long,
//! gets them.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use kaigi_media::{
    flexfec::{Parity, Repair},
    rtp::{RtpHeader, write_header},
};
use kaigi_proto::{ids::TransportId, v1};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rtc_rtcp::{
    packet::Packet, receiver_report::ReceiverReport, reception_report::ReceptionReport,
    sender_report::SenderReport, transport_feedbacks::transport_layer_nack::TransportLayerNack,
};
use support::{
    narrow::{Narrow, TRANSPORT_CC},
    world::*,
    *,
};

/// Packets of a picture.
const PICTURE: usize = 3;
const INTERVAL: Duration = Duration::from_millis(33);
/// The publisher's picture and its repair packets.
const SOURCE: u32 = 2000;
/// See [`SOURCE`].
const REPAIRS: u32 = SOURCE + 2;

/// The n-th packet of the picture: no two are the same. Every second picture is cut as browsers do, a byte longer from the second packet on.
fn payload(number: usize) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(number as u64);
    let mut payload = if number.is_multiple_of(PICTURE) { vp8(number == 0, 1) } else { vec![0, 1] };
    let (picture, place) = (number / PICTURE, number % PICTURE);
    let more = match picture % 2 {
        0 => 200 + picture % 800 + usize::from(place > 0) - payload.len(),
        _ => random.random_range(200..1_000),
    };
    payload.extend((0..more).map(|_| random.random::<u8>()));
    payload
}

/// The same as it is sent.
fn media(number: usize) -> Vec<u8> {
    let timestamp = 50_000 + 3_000 * (number / PICTURE) as u32;
    let sequence = 65_400u16.wrapping_add(number as u16);
    let mut packet = packet(SOURCE, VP8, sequence, timestamp, number as u16, &payload(number));
    packet[1] = packet[1] & 0x7f | u8::from(number % PICTURE == PICTURE - 1) << 7;
    packet
}

/// A repair packet of those, as a browser makes it.
fn repair(numbers: std::ops::Range<usize>, sequence: u16) -> Vec<u8> {
    let mut parity = Parity::default();
    for number in numbers.clone() {
        let mut packet = media(number);
        let at = numbers_at(&packet);
        packet[at..at + 2].fill(0);
        assert!(parity.add(&packet));
    }
    let mut packet = Vec::new();
    write_header(&mut packet, false, FLEXFEC, sequence, 0, REPAIRS);
    parity.write(&mut packet);
    packet
}

/// Where the transport-wide number stands.
fn numbers_at(packet: &[u8]) -> usize {
    let numbers = RtpHeader::parse(packet).unwrap().extension(packet, TRANSPORT_CC).unwrap().as_ptr();
    numbers as usize - packet.as_ptr() as usize
}

fn send(world: &mut World, packet: &[u8]) {
    let protected = world.clients[0].1.protect_rtp(packet);
    world.send(0, &protected);
}

/// Time for a picture passes; clients go on checking.
fn pass(world: &mut World) {
    world.pass(INTERVAL);
    for client in 0..world.clients.len() {
        let check = world.clients[client].1.check();
        world.send(client, &check);
    }
}

fn conference() -> World {
    let mut world = World::new();
    world.repairs = true;
    world.add_publisher();
    world.add_subscriber();
    world
}

fn stats(world: &mut World, client: usize) -> v1::TrackStats {
    let transport = TransportId::new(World::transport(client)).unwrap();
    let stats = world.node.stats(world.now, SystemTime::UNIX_EPOCH, &[transport]);
    stats[0].sessions[0].tracks.iter().find(|track| track.mid == "1").unwrap().clone()
}

/// What the subscriber got of the picture since the last time, by the place that sequence numbers give it.
fn got(world: &mut World, line: usize) -> BTreeMap<usize, Vec<u8>> {
    let ssrc = world.clients[1].1.answer.ssrcs[1][line];
    let received = world.clients[1].1.take_rtp(ssrc);
    let Some((first, _)) = received.first().cloned() else { return BTreeMap::new() };
    let place = |header: &RtpHeader| usize::from(header.sequence.wrapping_sub(first.sequence));
    received.into_iter().map(|(header, packet)| (place(&header), packet)).collect()
}

fn payload_of(packet: &[u8]) -> &[u8] {
    RtpHeader::parse(packet).unwrap().payload(packet)
}

#[test]
fn what_a_publishers_way_loses_is_made_before_it_is_asked_for() {
    let mut world = conference();
    let mut random = StdRng::seed_from_u64(1);
    let mut expected = Vec::new();
    let mut lost = 0;
    for group in 0..400 {
        let numbers = 5 * group..5 * (group + 1);
        let losses: Vec<_> = numbers.clone().filter(|n| *n > 0 && random.random_bool(0.1)).collect();
        for number in numbers.clone().filter(|number| !losses.contains(number)) {
            send(&mut world, &media(number));
        }
        send(&mut world, &repair(numbers.clone(), group as u16));
        expected.extend(numbers.filter(|number| losses.len() < 2 || !losses.contains(number)));
        lost += losses.len();
        pass(&mut world);
    }
    let received = got(&mut world, 0);
    assert_eq!(received.keys().copied().collect::<Vec<_>>(), expected);
    for (number, packet) in &received {
        assert_eq!(payload_of(packet), payload(*number), "{number}");
        assert_eq!(packet[1] & 0x80 != 0, number % PICTURE == PICTURE - 1);
    }
    let published = stats(&mut world, 0);
    let unrepaired = 2_000 - expected.len();
    assert!(lost > 150 && unrepaired < lost, "{lost} {unrepaired}");
    assert_eq!(published.recovered, (lost - unrepaired) as u64);
    let pictures: BTreeSet<_> = expected.iter().map(|number| number / PICTURE).collect();
    assert_eq!(published.frames, pictures.len() as u64);
    let asked: usize = world
        .rtcp(0)
        .iter()
        .filter_map(|packet| packet.as_any().downcast_ref::<TransportLayerNack>())
        .flat_map(|nack| &nack.nacks)
        .map(|pair| pair.packet_list().len())
        .sum();
    assert!(asked >= unrepaired, "what could not be made is asked for");
    assert!(published.nacks as usize <= 10 * unrepaired, "and nothing else");
}

#[test]
fn a_repair_packet_waits_for_what_is_sent_again() {
    let mut world = conference();
    for number in [0, 3] {
        send(&mut world, &media(number));
    }
    // 1 and 2 are missing: of a repair packet that came before them neither can be made, until one is there.
    send(&mut world, &repair(0..4, 0));
    assert_eq!(got(&mut world, 0).len(), 2);
    send(&mut world, &media(2));
    assert_eq!(stats(&mut world, 0).recovered, 1);
    let received = got(&mut world, 0);
    let payloads: Vec<_> = received.values().map(|packet| payload_of(packet).to_vec()).collect();
    assert_eq!(payloads, [payload(1), payload(2)].into_iter().rev().collect::<Vec<_>>());
}

#[test]
fn no_repair_packet_does_harm() {
    let mut world = conference();
    let mut random = StdRng::seed_from_u64(2);
    for number in 0..3_000 {
        if number % 7 != 3 {
            send(&mut world, &media(number));
        }
        let mut bad = repair(number.saturating_sub(3)..number + 1, number as u16);
        for _ in 0..random.random_range(1..8) {
            let at = random.random_range(12..bad.len().min(60));
            bad[at] = random.random();
        }
        bad.truncate(random.random_range(12..=bad.len()));
        send(&mut world, &bad);
        if number % 10 == 0 {
            pass(&mut world);
        }
    }
    got(&mut world, 0);
    for number in 3_000..3_003 {
        send(&mut world, &media(number));
    }
    let received = got(&mut world, 0);
    assert!(
        (3_000..3_003).all(|number| received.values().any(|packet| payload_of(packet) == payload(number)))
    );
}

/// Publishes pictures to a subscriber who reports.
fn play(world: &mut World, numbers: std::ops::Range<usize>) {
    for number in numbers {
        send(world, &media(number));
        if number % PICTURE == PICTURE - 1 {
            pass(world);
        }
    }
}

/// The subscriber answers a sender report, so that the round trip is known.
fn answer_report(world: &mut World, round_trip: Duration) {
    let report = SenderReport { ssrc: SOURCE, ntp_time: 77 << 32, ..Default::default() };
    world.send_rtcp(0, &[Box::new(report)]);
    world.rtcp(1);
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    let reference = loop {
        world.pass(Duration::from_millis(1));
        let packets = world.rtcp(1);
        let mut reports = packets.iter().filter_map(|p| p.as_any().downcast_ref::<SenderReport>());
        if let Some(report) = reports.rfind(|report| report.ssrc == ssrc) {
            break (report.ntp_time >> 16) as u32;
        }
    };
    let block = ReceptionReport { ssrc, last_sender_report: reference, ..Default::default() };
    world.pass(round_trip);
    let answer: Box<dyn Packet> =
        Box::new(ReceiverReport { ssrc: 1, reports: vec![block], ..Default::default() });
    world.send_rtcp(1, &[answer]);
}

/// A subscriber behind a way of which he reports.
fn narrow(round_trip: Duration) -> World {
    let mut world = conference();
    world.narrow.insert(1, Narrow::new(world.now, 20e6));
    play(&mut world, 0..300);
    answer_report(&mut world, round_trip);
    world
}

#[test]
fn a_subscriber_gets_repair_packets_as_long_as_his_way_loses() {
    let mut world = narrow(Duration::from_millis(80));
    assert_eq!(got(&mut world, 2).len(), 0, "none without losses");
    world.narrow.get_mut(&1).unwrap().loses = 0.1;
    play(&mut world, 300..600);
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    world.clients[1].1.take_rtp(ssrc);
    got(&mut world, 2);
    play(&mut world, 600..3_600);
    world.pass(Duration::from_millis(100));
    let received: BTreeMap<u16, Vec<u8>> = world.clients[1]
        .1
        .take_rtp(ssrc)
        .into_iter()
        .map(|(header, packet)| (header.sequence, packet))
        .collect();
    let padded = received.values().filter(|packet| packet[0] & 0x20 != 0).count();
    assert!(padded > received.len() / 10, "{padded}: padding is protected, too");
    let repairs = got(&mut world, 2);
    let overhead = repairs.len() as f64 / received.len() as f64;
    assert!((0.2..0.36).contains(&overhead), "{overhead}");
    let numbers: BTreeMap<_, _> = (600..3_700).map(|number| (payload(number), number)).collect();
    let mut made = 0;
    for packet in repairs.values() {
        let header = RtpHeader::parse(packet).unwrap();
        assert_eq!(header.payload_type, FLEXFEC);
        assert!(header.extension(packet, TRANSPORT_CC).is_some(), "it is reported on");
        let payload_of_repair = header.payload(packet);
        let repair = Repair::parse(payload_of_repair).unwrap();
        assert_eq!(repair.ssrc, ssrc);
        let protected: Vec<u16> =
            repair.places().map(|place| repair.first.wrapping_add(place as u16)).collect();
        let missing: Vec<_> = protected.iter().filter(|sequence| !received.contains_key(sequence)).collect();
        let [lost] = missing[..] else { continue };
        let mut out = Vec::new();
        repair.begin(payload_of_repair, &mut out);
        for other in protected.iter().filter_map(|sequence| received.get(sequence)) {
            let at = numbers_at(other);
            Repair::take(&mut out, other, Some(at..at + 2));
        }
        repair.finish(&mut out, *lost).unwrap();
        // What was published under the number between its neighbours'.
        let (near, packet) = received.range(..*lost).next_back().unwrap();
        let number = numbers[payload_of(packet)];
        let number = number + usize::from(*lost - *near);
        let header = RtpHeader::parse(&out).unwrap();
        assert_eq!(header.payload(&out), payload(number));
        assert_eq!((header.marker, header.payload_type), (number % PICTURE == PICTURE - 1, VP8));
        assert_eq!(header.extension(&out, TRANSPORT_CC), Some(&[0, 0][..]));
        made += 1;
    }
    let lost = 3_000 - received.len();
    assert!(made * 2 > lost, "{made} of {lost}");
    assert!(stats(&mut world, 1).redundant as usize >= repairs.len());
    world.narrow.get_mut(&1).unwrap().loses = 0.0;
    play(&mut world, 3_600..8_100);
    got(&mut world, 2);
    play(&mut world, 8_100..8_400);
    assert_eq!(got(&mut world, 2).len(), 0, "none after them");
}

#[test]
fn what_is_sent_again_soon_is_not_repaired() {
    let mut world = narrow(Duration::ZERO);
    world.narrow.get_mut(&1).unwrap().loses = 0.1;
    play(&mut world, 300..1_500);
    assert_eq!(got(&mut world, 2).len(), 0);
}

#[test]
fn who_does_not_offer_repair_packets_gets_none() {
    let mut world = World::conference();
    assert!(!world.clients[1].1.answer.text.contains("flexfec"));
    assert_eq!(world.clients[1].1.answer.ssrcs[1].len(), 2);
    world.repairs = true;
    let other = world.add_subscriber();
    assert_eq!(world.clients[other].1.answer.ssrcs[1].len(), 3);
    assert!(world.clients[other].1.answer.text.contains("a=ssrc-group:FEC-FR"));
}
