//! Forwarding allocates nothing once its buffers have grown: what is received is decrypted, rewritten, kept for retransmission and
//! encrypted for each subscriber in memory that is there already.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kaigi_access_node::{
    node::Limits,
    transport::{Path, Peer},
};
use support::{world::*, *};

const SUBSCRIBERS: usize = 20;
/// Packets of a frame of video; a packet of sound comes with each.
const FRAME: usize = 8;
const FRAME_INTERVAL: Duration = Duration::from_millis(10);

/// One sends sound and picture, the others receive.
struct Meeting {
    world: World,
    transport_cc: u16,
    frames: usize,
}

impl Meeting {
    fn new() -> Self {
        let limits = Limits { transports: SUBSCRIBERS + 1, sessions: 8, links: 8 };
        let mut world = World::with_limits("access-1", "127.0.0.1:7000", 7, limits);
        world.add_publisher();
        for _ in 0..SUBSCRIBERS {
            world.add_subscriber();
        }
        Self { world, transport_cc: 0, frames: 0 }
    }

    /// The next protected packets of sound and video, as they come in.
    fn packets(&mut self, frames: usize) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for _ in 0..frames {
            let client = &mut self.world.clients[0].1;
            for at in 0..FRAME {
                let mut payload = if at == 0 { vp8(self.frames == 0, 1) } else { vec![0, 1] };
                payload.resize(1150, 1);
                let step = if at == 0 { 900 } else { 0 };
                packets.push(client.media(1, &payload, step, self.transport_cc));
                self.transport_cc = self.transport_cc.wrapping_add(1);
            }
            packets.push(client.media(0, &[7; 80], 480, self.transport_cc));
            self.transport_cc = self.transport_cc.wrapping_add(1);
            self.frames += 1;
        }
        packets
    }

    /// Hands packets to the node; returns how many came out. What is due at a time and not for a packet (feedback, reports) is left out.
    fn forward(&mut self, packets: &[Vec<u8>]) -> usize {
        let path = Path { peer: Peer { address: self.world.clients[0].0, tcp: None }, local: None };
        let mut sent = 0;
        for packet in packets {
            self.world.now += FRAME_INTERVAL / (FRAME as u32 + 1);
            self.world.node.handle_datagram(self.world.now, path, packet);
            sent += self.world.node.output().datagrams.len();
            self.world.node.output().datagrams.clear();
        }
        sent
    }

    /// Does what is due.
    fn tick(&mut self) {
        self.world.node.handle_timeout(self.world.now);
        self.world.settle();
    }
}

#[test]
fn ten_thousand_packets_are_forwarded_without_an_allocation() {
    let mut meeting = Meeting::new();
    for _ in 0..30 {
        let packets = meeting.packets(10);
        meeting.forward(&packets);
        meeting.tick();
    }
    let (mut received, mut allocations) = (0, 0);
    while received < 10_000 {
        // A tenth of a second, after which feedback is due.
        let packets = meeting.packets(10);
        let mut sent = 0;
        let info = allocation_counter::measure(|| sent = meeting.forward(&packets));
        assert_eq!(sent, packets.len() * SUBSCRIBERS);
        received += packets.len();
        allocations += info.count_total;
        meeting.tick();
    }
    assert_eq!(allocations, 0, "for {received} packets");
}
