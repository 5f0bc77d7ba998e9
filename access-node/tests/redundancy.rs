//! Redundancy of sound and pictures is made, and taken, without an allocation.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kaigi_access_node::transport::{Path, Peer};
use kaigi_media::red::{Block, write};
use rtc_rtcp::sender_report::SenderReport;
use support::{narrow::Narrow, world::*, *};

/// Packets of a picture; a packet of sound comes with each.
const PICTURE: usize = 8;
const INTERVAL: Duration = Duration::from_millis(1);

/// The next protected packets of sound, each with the one before it, and picture.
fn packets(world: &mut World, begin: bool) -> Vec<Vec<u8>> {
    let mut sound = Vec::new();
    let earlier = Block { payload_type: OPUS, offset: 480, data: &[7; 80] };
    write(&mut sound, OPUS, [earlier].into_iter(), &[7; 80]);
    let client = &mut world.clients[0].1;
    client.sound = RED;
    let mut packets = Vec::new();
    for picture in 0..10 {
        for at in 0..PICTURE {
            let mut payload = if at == 0 { vp8(begin && picture == 0, 1) } else { vec![0, 1] };
            payload.resize(1150, 1);
            packets.push(client.media(1, &payload, if at == 0 { 900 } else { 0 }, 0));
        }
        packets.push(client.media(0, &sound, 480, 0));
    }
    packets
}

#[test]
fn redundancy_is_made_and_taken_without_an_allocation() {
    let mut world = World::new();
    world.repairs = true;
    world.add_publisher();
    world.add_subscriber();
    let path = Path { peer: Peer { address: world.clients[0].0, tcp: None }, local: None };
    let mut way = Narrow::new(world.now, 50e6);
    (way.loses, way.delay) = (0.1, Duration::from_millis(50));
    world.narrow.insert(1, way);
    // The subscriber reports what it loses, and how long it is away.
    for round in 0..40 {
        for packet in packets(&mut world, round == 0) {
            world.now += INTERVAL;
            world.node.handle_datagram(world.now, path, &packet);
            world.settle();
        }
        let ssrc = world.clients[0].1.lines[1].ssrc;
        let report = SenderReport { ssrc, ntp_time: 77 << 32, ..Default::default() };
        world.send_rtcp(0, &[Box::new(report)]);
        world.pass(INTERVAL);
        for datagram in world.clients[1].1.take_rtcp() {
            world.answer_reports(1, &datagram);
        }
    }
    let ssrcs = world.clients[1].1.answer.ssrcs.clone();
    assert!(world.clients[1].1.take_rtp(ssrcs[1][2]).len() > 50, "pictures are protected");
    let sound = world.clients[1].1.take_rtp(ssrcs[0][0]);
    assert!(sound.iter().any(|(header, _)| header.payload_type == RED), "sound is protected");
    world.narrow.clear();
    let (mut came, mut sent, mut allocations) = (0, 0, 0);
    for round in 0..20 {
        let mut packets = packets(&mut world, false);
        // Of sound, each third is lost.
        let mut place = 0;
        packets.retain(|_| {
            place += 1;
            place % (3 * (PICTURE + 1)) != 0
        });
        let info = allocation_counter::measure(|| {
            for packet in &packets {
                world.now += INTERVAL;
                world.node.handle_datagram(world.now, path, packet);
                world.node.deliver_all(world.now);
                sent += world.node.output().datagrams.len();
                world.node.output().datagrams.clear();
            }
        });
        came += packets.len();
        // The buffer in which lost packets are made grows at the first.
        allocations += if round == 0 { 0 } else { info.count_total };
        world.node.handle_timeout(world.now);
        world.settle();
    }
    assert!(sent > came + came / 5, "{sent} of {came}: repair packets are among them");
    assert_eq!(allocations, 0);
}
