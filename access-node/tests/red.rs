//! Sound with redundancy (RFC 2198): what a publisher's way loses is taken from it, and a subscriber whose way loses gets it.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kaigi_access_node::sdp::Kind;
use kaigi_media::{
    red::{Block, RedPayload, write},
    rtp::{RtpHeader, write_header},
};
use kaigi_proto::ids::{SessionId, TransportId};
use rand::{Rng, SeedableRng, rngs::StdRng};
use support::{narrow::Narrow, world::*, *};

/// Of a packet of sound.
const INTERVAL: Duration = Duration::from_millis(20);
const STEP: u32 = 960;
/// Where the client's sound begins.
const FIRST: (u16, u32) = (65_500, u32::MAX - 20_000);

/// What a voice encodes into: no two packets are the same, and some are of silence.
fn voice(number: usize) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(number as u64);
    let length = if number.is_multiple_of(17) { 1 } else { random.random_range(40..160) };
    let mut data: Vec<u8> = (0..length).map(|_| random.random()).collect();
    data[0] = number as u8;
    data
}

/// A packet of the voice as a browser sends it, with so many before it, plain if none.
fn sent(number: usize, depth: usize) -> Vec<u8> {
    let count = depth.min(number);
    let earlier: Vec<_> = (number - count..number).map(voice).collect();
    let blocks = earlier.iter().zip((1..=count as u32).rev()).map(|(data, back)| Block {
        payload_type: OPUS,
        offset: STEP * back,
        data,
    });
    let mut payload = Vec::new();
    write(&mut payload, OPUS, blocks, &voice(number));
    if depth == 0 { with(OPUS, number, &voice(number)) } else { with(RED, number, &payload) }
}

/// The voice's n-th packet with that payload.
fn with(payload_type: u8, number: usize, payload: &[u8]) -> Vec<u8> {
    let (sequence, timestamp) =
        (FIRST.0.wrapping_add(number as u16), FIRST.1.wrapping_add(STEP * number as u32));
    let mut packet = packet(1000, payload_type, sequence, timestamp, number as u16, payload);
    packet[1] &= 0x7f;
    packet
}

fn publish(world: &mut World, packet: &[u8]) {
    let protected = world.clients[0].1.protect_rtp(packet);
    world.send(0, &protected);
    pass(world);
}

/// Time for a packet passes; clients go on checking.
fn pass(world: &mut World) {
    world.pass(INTERVAL);
    for client in 0..world.clients.len() {
        let check = world.clients[client].1.check();
        world.send(client, &check);
    }
}

fn take(world: &mut World, client: usize) -> Vec<(RtpHeader, Vec<u8>)> {
    let ssrc = world.clients[client].1.answer.ssrcs[0][0];
    world.clients[client].1.take_rtp(ssrc)
}

/// Which packets of the voice they are, plain ones all of them, by the place that their sequence numbers give them.
fn plain(received: &[(RtpHeader, Vec<u8>)]) -> Vec<(usize, Vec<u8>)> {
    let (first, _) = received[0];
    received
        .iter()
        .map(|(header, packet)| {
            assert_eq!(header.payload_type, OPUS);
            let number = usize::from(header.sequence.wrapping_sub(first.sequence));
            assert_eq!(header.timestamp.wrapping_sub(first.timestamp), STEP * number as u32);
            assert_eq!(header.extension(packet, 1), Some(&[0x91][..]), "the level stays with it");
            (number, header.payload(packet).to_vec())
        })
        .collect()
}

/// In their order, each once, and as they were.
fn assert_same(received: &[(usize, Vec<u8>)], expected: &[(usize, Vec<u8>)]) {
    let numbers =
        |packets: &[(usize, Vec<u8>)]| packets.iter().map(|(number, _)| *number).collect::<Vec<_>>();
    let (received_numbers, expected_numbers) = (numbers(received), numbers(expected));
    let differs = received_numbers.iter().zip(&expected_numbers).position(|(a, b)| a != b);
    assert_eq!(differs.map(|at| (received_numbers[at], expected_numbers[at])), None, "first that differs");
    assert_eq!(received.len(), expected.len());
    let other = received.iter().zip(expected).find(|(a, b)| a != b);
    assert_eq!(other, None);
}

fn stats(world: &mut World, client: usize) -> kaigi_proto::v1::TrackStats {
    let transport = TransportId::new(World::transport(client)).unwrap();
    let stats = world.node.stats(world.now, std::time::SystemTime::UNIX_EPOCH, &[transport]);
    stats[0].sessions[0].tracks.iter().find(|track| track.mid == "0").unwrap().clone()
}

#[test]
fn what_is_lost_is_found_in_later_packets() {
    for depth in [1, 2] {
        let mut world = World::conference();
        let mut random = StdRng::seed_from_u64(depth as u64);
        let mut arrived = Vec::new();
        for number in 0..2_000 {
            let arrives = number == 0 || random.random_bool(0.8);
            arrived.push(arrives);
            if arrives {
                publish(&mut world, &sent(number, depth));
            } else {
                pass(&mut world);
            }
        }
        let found = |number: usize| (0..=depth).any(|after| arrived.get(number + after) == Some(&true));
        let expected: Vec<_> =
            (0..arrived.len()).filter(|n| found(*n)).map(|number| (number, voice(number))).collect();
        let received = take(&mut world, 1);
        assert_same(&plain(&received), &expected);
        let lost = arrived.iter().filter(|arrives| !**arrives).count();
        let published = stats(&mut world, 0);
        assert_eq!(published.packets, (arrived.len() - lost) as u64);
        assert_eq!(published.recovered, (expected.len() - (arrived.len() - lost)) as u64);
        assert!(published.packets_lost >= published.recovered, "what the way loses is lost");
        assert_eq!(published.nacks, 0);
    }
}

#[test]
fn what_comes_late_after_all_is_not_sent_twice() {
    let mut world = World::conference();
    for number in [0, 1, 3, 2, 5, 4, 6, 6, 8, 9] {
        publish(&mut world, &sent(number, 2));
    }
    let numbers: Vec<_> = plain(&take(&mut world, 1)).into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn plain_packets_may_come_between() {
    let mut world = World::conference();
    for number in 0..100 {
        publish(&mut world, &sent(number, number % 3));
    }
    let expected: Vec<_> = (0..100).map(|number| (number, voice(number))).collect();
    assert_same(&plain(&take(&mut world, 1)), &expected);
    assert_eq!(stats(&mut world, 0).recovered, 0);
}

/// Blocks that are not what they claim: of packets that there were no numbers for, or of another kind.
#[test]
fn nothing_is_made_of_blocks_that_can_not_be_packets() {
    let block = |payload_type, offset| Block { payload_type, offset, data: &[9; 20] };
    let table = [
        ("of before the one that came", block(OPUS, 2 * STEP), 1),
        ("of another kind", block(110, STEP), 1),
        ("of one that came", block(OPUS, STEP), 0),
        ("of nothing", Block { data: &[], ..block(OPUS, STEP) }, 1),
    ];
    for (why, block, lost) in table {
        let mut world = World::conference();
        publish(&mut world, &sent(0, 0));
        publish(&mut world, &sent(1, 0));
        let number = 2 + lost;
        let mut payload = Vec::new();
        write(&mut payload, OPUS, [block].into_iter(), &voice(number));
        publish(&mut world, &with(RED, number, &payload));
        let numbers: Vec<_> = plain(&take(&mut world, 1)).into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [0, 1, number], "{why}");
    }
}

#[test]
fn a_malformed_packet_costs_itself_alone() {
    let mut world = World::conference();
    let mut random = StdRng::seed_from_u64(3);
    let malformed = world.node.counters().malformed;
    publish(&mut world, &sent(0, 1));
    for number in 1..3_000 {
        let mut packet = sent(number, 2);
        if number % 10 == 5 {
            // The next packet finds what was in it.
            let end = 24 + random.random_range(0..8);
            packet.truncate(end);
            packet[24..].fill(0xff);
        }
        publish(&mut world, &packet);
    }
    let expected: Vec<_> = (0..3_000).map(|number| (number, voice(number))).collect();
    assert_same(&plain(&take(&mut world, 1)), &expected);
    assert_eq!(world.node.counters().malformed - malformed, 300);
}

#[test]
fn no_bytes_do_harm() {
    let mut world = World::conference();
    let mut random = StdRng::seed_from_u64(4);
    publish(&mut world, &sent(0, 0));
    for number in 1..5_000 {
        let mut packet = sent(number, 2);
        for _ in 0..random.random_range(0..12) {
            let at = random.random_range(24..packet.len());
            packet[at] = random.random();
        }
        packet.truncate(random.random_range(24..=packet.len()));
        publish(&mut world, &packet);
    }
    take(&mut world, 1);
    publish(&mut world, &sent(5_000, 0));
    publish(&mut world, &sent(5_001, 0));
    let received = take(&mut world, 1);
    assert_eq!(received.last().unwrap().0.payload(&received.last().unwrap().1), voice(5_001));
}

/// A subscriber behind a way of which he reports.
fn narrow() -> World {
    let mut world = World::conference();
    world.narrow.insert(1, Narrow::new(world.now, 10e6));
    world
}

fn run(world: &mut World, numbers: std::ops::Range<usize>) -> Vec<(RtpHeader, Vec<u8>)> {
    for number in numbers {
        publish(world, &sent(number, 0));
    }
    world.pass(Duration::from_millis(100));
    take(world, 1)
}

fn share(received: &[(RtpHeader, Vec<u8>)]) -> f64 {
    let red = received.iter().filter(|(header, _)| header.payload_type == RED).count();
    red as f64 / received.len() as f64
}

#[test]
fn a_subscriber_whose_way_loses_gets_redundancy_as_long_as_it_does() {
    let mut world = narrow();
    assert!((share(&run(&mut world, 0..500))) < f64::EPSILON, "none without losses");
    world.narrow.get_mut(&1).unwrap().loses = 0.1;
    run(&mut world, 500..700);
    let received = run(&mut world, 700..2_700);
    assert!(share(&received) > 0.99, "{}", share(&received));
    // Each carries those before it as they were sent, with which nearly all can be played.
    let (first, packet) = &received[0];
    let of = usize::from(RedPayload::parse(first.payload(packet)).unwrap().primary()[0]);
    let place = |header: &RtpHeader| usize::from(header.sequence.wrapping_sub(first.sequence));
    let begin = (700..956).find(|number| number % 256 == of).unwrap();
    let mut there = vec![false; 2_000];
    for (header, packet) in &received {
        let at = begin + place(header);
        let red = RedPayload::parse(header.payload(packet)).unwrap();
        assert_eq!((red.payload_type, red.primary()), (OPUS, &voice(at)[..]));
        for (block, back) in red.blocks().zip((1..=red.len()).rev()) {
            assert_eq!((block.payload_type, block.offset), (OPUS, STEP * back as u32));
            assert_eq!(block.data, voice(at - back));
            if let Some(there) = (at - back).checked_sub(begin).and_then(|at| there.get_mut(at)) {
                *there = true;
            }
        }
        assert_eq!(header.extension(packet, 1), Some(&[0x91][..]), "the level stays with it");
        if let Some(there) = there.get_mut(place(header)) {
            *there = true;
        }
    }
    let end = place(&received.last().unwrap().0);
    let missing = there[..end].iter().filter(|there| !**there).count();
    assert!(missing * 100 < end, "{missing} of {end} can't be played");
    assert!(stats(&mut world, 1).redundant >= received.len() as u64);
    world.narrow.get_mut(&1).unwrap().loses = 0.0;
    run(&mut world, 2_700..4_700);
    assert!(share(&run(&mut world, 4_700..5_000)) < f64::EPSILON, "none after them");
}

#[test]
fn what_was_not_sent_to_a_subscriber_is_not_sent_as_redundancy() {
    let mut world = narrow();
    world.narrow.get_mut(&1).unwrap().loses = 0.1;
    run(&mut world, 0..300);
    world.narrow.get_mut(&1).unwrap().loses = 0.0;
    let (transport, session) =
        (TransportId::new("transport1").unwrap(), SessionId::new("subscription1").unwrap());
    world.node.set_active(world.now, &transport, &session, Kind::Audio, false).unwrap();
    run(&mut world, 300..310);
    world.node.set_active(world.now, &transport, &session, Kind::Audio, true).unwrap();
    let received = run(&mut world, 310..313);
    let carried = |(header, packet): &(RtpHeader, Vec<u8>)| {
        let red = RedPayload::parse(header.payload(packet)).unwrap();
        red.blocks().map(|block| block.data.to_vec()).collect::<Vec<_>>()
    };
    let expected = [[298, 299], [299, 310], [310, 311]].map(|numbers| numbers.map(voice).to_vec());
    assert_eq!(received.iter().map(carried).collect::<Vec<_>>(), expected);
}

#[test]
fn pauses_of_the_voice_and_large_packets_have_no_redundancy() {
    let mut world = narrow();
    world.narrow.get_mut(&1).unwrap().loses = 0.1;
    run(&mut world, 0..300);
    world.narrow.get_mut(&1).unwrap().loses = 0.0;
    // (data, timestamp after the last): silence is sent each 400 ms, which 14 bits can't tell.
    let packets = [(vec![1; 1], 19_200), (vec![2; 1], 19_200), (vec![3; 1_050], STEP), (vec![4; 100], STEP)];
    let mut timestamp = FIRST.1.wrapping_add(STEP * 299);
    for (number, (data, step)) in (300u16..).zip(packets) {
        timestamp = timestamp.wrapping_add(step);
        let mut packet = Vec::new();
        write_header(&mut packet, false, OPUS, FIRST.0.wrapping_add(number), timestamp, 1000);
        packet.extend_from_slice(&data);
        publish(&mut world, &packet);
    }
    world.pass(Duration::from_millis(100));
    let received = take(&mut world, 1);
    let read = |(header, packet): &(RtpHeader, Vec<u8>)| {
        let payload = header.payload(packet);
        let red = (header.payload_type == RED).then(|| RedPayload::parse(payload).unwrap());
        (red.map_or(0, |red| red.len()), red.map_or(payload.len(), |red| red.primary().len()))
    };
    // 1,050 bytes take one byte of silence with them, and can't be taken by the next as such; what was before them can.
    assert_eq!(received.iter().map(read).collect::<Vec<_>>(), [(0, 1), (0, 1), (1, 1_050), (1, 100)]);
}
