//! What waits for the rest of its frame, so that all of it leaves together, and what does not.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kaigi_access_node::{
    node::Limits,
    transport::{Path, Peer},
};
use rtc_rtcp::{packet::marshal, payload_feedbacks::picture_loss_indication::PictureLossIndication};
use support::{world::*, *};

/// A datagram from a client; how many leave then.
fn leave(world: &mut World, client: usize, datagram: &[u8]) -> usize {
    let path = Path { peer: Peer { address: world.clients[client].0, tcp: None }, local: None };
    world.node.handle_datagram(world.now, path, datagram);
    world.node.deliver(world.now, |_| None);
    world.node.output().datagrams.len()
}

/// The next packet of the first client's picture, the last of its frame or not.
fn picture(world: &mut World, number: u8, is_last: bool) -> Vec<u8> {
    let client = &mut world.clients[0].1;
    client.frame_goes_on = !is_last;
    let packet = client.media(1, &vp8(false, number), 0, number.into());
    client.frame_goes_on = false;
    packet
}

#[test]
fn packets_of_a_frame_wait_for_its_last() {
    let mut world = World::conference();
    world.media(0, 1, &vp8(true, 0), 3000);
    for number in 1..4 {
        let packet = picture(&mut world, number, false);
        assert_eq!(leave(&mut world, 0, &packet), 0);
        assert!(world.node.only_waits());
    }
    let last = picture(&mut world, 4, true);
    assert_eq!(leave(&mut world, 0, &last), 4);
    assert!(!world.node.only_waits(), "nothing is there that could");
}

#[test]
fn nothing_else_waits_nor_ends_their_waiting() {
    let mut world = World::conference();
    world.media(0, 1, &vp8(true, 0), 3000);
    world.now += Duration::from_secs(1);
    world.node.handle_timeout(world.now);
    world.settle();
    let waits = picture(&mut world, 1, false);
    assert_eq!(leave(&mut world, 0, &waits), 0);
    world.clients[0].1.frame_goes_on = true;
    let sound = world.clients[0].1.media(0, &[1; 80], 960, 2);
    assert_eq!(leave(&mut world, 0, &sound), 1);
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    let request = PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc };
    let request = world.clients[1].1.protect_rtcp(&marshal(&[Box::new(request)]).unwrap());
    assert_eq!(leave(&mut world, 1, &request), 2, "the publisher is asked now");
    let check = world.clients[1].1.check();
    assert_eq!(leave(&mut world, 1, &check), 3);
    let last = picture(&mut world, 3, true);
    assert_eq!(leave(&mut world, 0, &last), 5);
}

#[test]
fn a_frame_whose_last_packet_does_not_come_leaves_without_it() {
    let mut world = World::conference();
    world.media(0, 1, &vp8(true, 0), 3000);
    let packet = picture(&mut world, 1, false);
    assert_eq!(leave(&mut world, 0, &packet), 0);
    world.now += Duration::from_millis(1);
    assert!(world.node.next_timeout().is_some_and(|due| due <= world.now));
    world.node.deliver(world.now, |_| None);
    assert_eq!(world.node.output().datagrams.len(), 1);
}

#[test]
fn a_frame_is_written_for_one_after_the_other_and_can_leave_in_between() {
    let limits = Limits { transports: 6, sessions: 8, links: 8 };
    let mut world = World::with_limits("access-1", "127.0.0.1:7000", 9, limits);
    world.add_publisher();
    for _ in 0..5 {
        world.add_subscriber();
    }
    world.media(0, 1, &vp8(true, 0), 3000);
    for number in 1..4 {
        let packet = picture(&mut world, number, number == 3);
        let path = Path { peer: Peer { address: world.clients[0].0, tcp: None }, local: None };
        world.node.handle_datagram(world.now, path, &packet);
    }
    let mut left = Vec::new();
    world.node.deliver(world.now, |output| {
        let to: Vec<_> = output.datagrams.iter().map(|datagram| datagram.path.peer.address).collect();
        output.datagrams.clear();
        left.push(to);
        None
    });
    let each: Vec<_> = world.clients[1..].iter().map(|(address, _)| vec![*address; 3]).collect();
    assert_eq!(left, each);
}
