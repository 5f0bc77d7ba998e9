//! What may wait for the rest of its frame, so that all of it leaves together, and what may not.

#![allow(clippy::unwrap_used)]

mod support;

use kaigi_access_node::transport::{Path, Peer};
use rtc_rtcp::{packet::marshal, payload_feedbacks::picture_loss_indication::PictureLossIndication};
use support::{world::*, *};

/// A datagram from a client; whether what came out of it may wait.
fn may_wait(world: &mut World, client: usize, datagram: &[u8]) -> bool {
    let path = Path { peer: Peer { address: world.clients[client].0, tcp: None }, local: None };
    world.node.handle_datagram(world.now, path, datagram);
    assert!(!world.node.output().datagrams.is_empty());
    world.node.output().datagrams.may_wait()
}

#[test]
fn packets_of_a_frame_may_wait_for_its_last() {
    let mut world = World::conference();
    world.media(0, 1, &vp8(true, 0), 3000);
    for number in 1..5 {
        world.clients[0].1.frame_goes_on = number < 4;
        let packet = world.clients[0].1.media(1, &vp8(false, number), 0, number.into());
        assert_eq!(may_wait(&mut world, 0, &packet), number < 4);
    }
    world.settle();
    assert!(!world.node.output().datagrams.may_wait(), "nothing is there that could");
}

#[test]
fn nothing_else_may_wait() {
    let mut world = World::conference();
    world.media(0, 1, &vp8(true, 0), 3000);
    world.clients[0].1.frame_goes_on = true;
    let sound = world.clients[0].1.media(0, &[1; 80], 960, 1);
    assert!(!may_wait(&mut world, 0, &sound));
    world.settle();

    let picture = world.clients[0].1.media(1, &vp8(false, 1), 3000, 2);
    assert!(may_wait(&mut world, 0, &picture));
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    let request = PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc };
    let request = world.clients[1].1.protect_rtcp(&marshal(&[Box::new(request)]).unwrap());
    world.now += std::time::Duration::from_secs(1);
    assert!(!may_wait(&mut world, 1, &request), "the publisher is asked now");
    world.settle();

    let picture = world.clients[0].1.media(1, &vp8(false, 2), 3000, 3);
    assert!(may_wait(&mut world, 0, &picture));
    let check = world.clients[1].1.check();
    assert!(!may_wait(&mut world, 1, &check));
}
