//! What leaves to a client whose way is narrow, and to those whose is not.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use support::{narrow::Narrow, world::*, *};

/// bit/s
const CAPACITY: f64 = 500_000.0;
const FRAME: Duration = Duration::from_millis(40);

/// One who publishes sound and picture, and one who gets both by a way of that capacity.
fn conference(capacity: f64) -> World {
    let mut world = World::conference();
    world.narrow.insert(1, Narrow::new(world.now, capacity));
    world
}

/// Sends frames of so many packets for some time, and sound.
fn run(world: &mut World, frames: usize, packets: usize) {
    for frame in 0..frames {
        if frame % 100 == 0 {
            let check = world.clients[1].1.check();
            world.send(1, &check);
        }
        send_frame(world, frame == 0, packets);
        for _ in 0..2 {
            world.media(0, 0, &[7; 80], 960);
            world.pass(FRAME / 2);
        }
    }
}

fn send_frame(world: &mut World, key: bool, packets: usize) {
    for at in 0..packets {
        let mut payload = if at == 0 { vp8(key, 1) } else { vec![0, 1] };
        payload.resize(1_000, 1);
        world.clients[0].1.frame_goes_on = at + 1 < packets;
        world.media(0, 1, &payload, if at == 0 { 3_600 } else { 0 });
    }
    world.clients[0].1.frame_goes_on = false;
}

fn waited(world: &mut World) -> Duration {
    std::mem::take(&mut world.narrow.get_mut(&1).unwrap().waited)
}

fn dropped(world: &mut World) -> usize {
    std::mem::take(&mut world.narrow.get_mut(&1).unwrap().dropped)
}

/// The way was found narrow, and is not full any more.
fn narrow() -> World {
    let mut world = conference(CAPACITY);
    run(&mut world, 25, 4);
    run(&mut world, 250, 1);
    waited(&mut world);
    dropped(&mut world);
    world
}

#[test]
fn a_key_frame_stands_in_no_queue_of_a_narrow_way() {
    let mut world = narrow();
    send_frame(&mut world, true, 18);
    for _ in 0..20 {
        world.media(0, 0, &[7; 80], 960);
        world.pass(FRAME / 2);
    }
    // 148 kbit take 300 ms of the way.
    let waited = waited(&mut world);
    assert!(waited < Duration::from_millis(200), "{waited:?}");
    assert_eq!(dropped(&mut world), 0);
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    assert!(world.clients[1].1.take_rtp(ssrc).len() >= 18 + 250, "all of it came");
}

#[test]
fn where_the_way_was_never_found_narrow_a_key_frame_leaves_at_once() {
    let mut world = conference(50_000_000.0);
    run(&mut world, 100, 1);
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    world.clients[1].1.take_rtp(ssrc);
    send_frame(&mut world, true, 60);
    world.pass(Duration::from_millis(32));
    assert_eq!(world.clients[1].1.take_rtp(ssrc).len(), 60);
}

#[test]
fn frames_of_the_usual_size_are_not_delayed_on_a_narrow_way() {
    let mut world = narrow();
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    for _ in 0..50 {
        world.clients[1].1.take_rtp(ssrc);
        send_frame(&mut world, false, 1);
        world.pass(FRAME);
        assert_eq!(world.clients[1].1.take_rtp(ssrc).len(), 1);
        let check = world.clients[1].1.check();
        world.send(1, &check);
    }
}
