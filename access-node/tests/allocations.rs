//! Forwarding allocates nothing once its buffers have grown: what is received is decrypted, rewritten, kept for retransmission and
//! encrypted for each subscriber in memory that is there already, on this worker, on another one of the process and on another node.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kaigi_access_node::{
    ids::WorkerNumber,
    node::{Limits, LinkCall, record_length},
    transport::{Path, Peer, Srtp, SrtpKeys},
};
use kaigi_proto::v1;
use rtc_srtp::{crypto, protection_profile::ProtectionProfile};
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

    /// One who sends on the first of two workers, and receivers on both in turn.
    fn on_two_workers() -> Self {
        let limits = Limits { transports: SUBSCRIBERS + 1, sessions: 8, links: 8 };
        let mut world = World::with_workers(2, limits);
        world.add_publisher();
        for _ in 0..SUBSCRIBERS {
            world.add_subscriber();
        }
        Self { world, transport_cc: 0, frames: 0 }
    }

    /// One who sends, and nobody who receives.
    fn alone() -> Self {
        let mut world = World::new();
        world.add_publisher();
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
                client.frame_goes_on = at + 1 < FRAME;
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
            self.world.node.deliver(self.world.now, |_| None);
            sent += self.world.node.output().datagrams.len();
            self.world.node.output().datagrams.clear();
        }
        sent
    }

    /// The same on two workers.
    fn forward_across(&mut self, packets: &[Vec<u8>]) -> usize {
        let path = Path { peer: Peer { address: self.world.clients[0].0, tcp: None }, local: None };
        let mut sent = 0;
        for packet in packets {
            self.world.now += FRAME_INTERVAL / (FRAME as u32 + 1);
            let World { node, others, now, .. } = &mut self.world;
            node.handle_datagram(*now, path, packet);
            node.deliver(*now, |_| None);
            for (to, mut records) in node.output().crossings.iter() {
                assert_eq!(to, WorkerNumber(1));
                while let Some(length) = record_length(records) {
                    let (record, rest) = records.split_at(length);
                    others[0].handle_crossing(*now, WorkerNumber(0), record);
                    records = rest;
                }
            }
            node.output().crossings.clear();
            others[0].deliver(*now, |_| None);
            for node in [node, &mut others[0]] {
                sent += node.output().datagrams.len();
                node.output().datagrams.clear();
            }
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

#[test]
fn what_crosses_to_another_worker_is_forwarded_there_without_an_allocation() {
    let mut meeting = Meeting::on_two_workers();
    for _ in 0..30 {
        let packets = meeting.packets(10);
        meeting.forward_across(&packets);
        meeting.tick();
    }
    let (mut received, mut allocations) = (0, 0);
    while received < 3_000 {
        let packets = meeting.packets(10);
        let mut sent = 0;
        let info = allocation_counter::measure(|| sent = meeting.forward_across(&packets));
        assert_eq!(sent, packets.len() * SUBSCRIBERS);
        received += packets.len();
        allocations += info.count_total;
        meeting.tick();
    }
    assert_eq!(allocations, 0, "for {received} packets");
}

#[test]
fn what_goes_to_another_node_is_forwarded_there_without_an_allocation() {
    let mut here = Meeting::alone();
    let limits = Limits { transports: SUBSCRIBERS, sessions: 8, links: 8 };
    let mut there = World::with_limits("access-2", "127.0.0.1:7001", 9, limits);
    for client in 0..SUBSCRIBERS {
        assert_eq!(there.client(), client);
        let mid = there.clients[client].1.add("video", Way::Receive);
        let from = v1::TrackSource { endpoint: "http://a".into(), ..source("transport0-1", "vp8") };
        there.subscribe(client, "s", &[(&mid[..], v1::MediaKind::Video, from)]).unwrap();
        there.negotiate(client);
        there.connect(client);
    }
    for call in std::mem::take(&mut there.node.output().calls) {
        let LinkCall::Attach { flow, request, .. } = call else { panic!("{call:?}") };
        let reply = here.world.node.attach(here.world.now, &request).unwrap();
        there.node.attached(there.now, flow, &request, Ok(reply));
    }
    let (mut sent, mut allocations) = (0, 0);
    for round in 0..60 {
        let packets = here.packets(10);
        there.now = here.world.now;
        let mut count = 0;
        let info = allocation_counter::measure(|| {
            for packet in &packets {
                here.forward(std::slice::from_ref(packet));
                there.now += FRAME_INTERVAL / (FRAME as u32 + 1);
                carry(&mut here.world, &mut there);
                there.node.deliver(there.now, |_| None);
                count += there.node.output().datagrams.len();
                there.node.output().datagrams.clear();
            }
        });
        // Buffers and caches grow at first.
        if round >= 20 {
            allocations += info.count_total;
            assert_eq!(count, 10 * FRAME * SUBSCRIBERS);
        }
        sent += count;
        there.node.handle_timeout(there.now);
        there.settle();
        carry(&mut there, &mut here.world);
        here.tick();
    }
    assert_eq!(allocations, 0, "for {sent} packets");
}

#[test]
fn packets_are_protected_in_place_by_either_profile() {
    for profile in [ProtectionProfile::AeadAes128Gcm, ProtectionProfile::Aes128CmHmacSha1_80] {
        let provider = crypto::default_provider().unwrap();
        let side = |byte| (vec![byte; profile.key_len()], vec![byte; profile.salt_len()]);
        let srtp = |local, remote| {
            let keys = SrtpKeys { profile, local: side(local), remote: side(remote) };
            Srtp::new(&keys, provider.crypto()).unwrap()
        };
        let (mut here, mut there) = (srtp(1, 2), srtp(2, 1));
        let (mut protected, mut plain) = (Vec::with_capacity(2000), Vec::with_capacity(2000));
        let mut pass = |sequence| {
            let sent = packet(1, VP8, sequence, 0, 0, &[7; 1000]);
            let info = allocation_counter::measure(|| {
                protected.clear();
                here.protect_rtp_onto(&sent, &mut protected).unwrap();
                there.unprotect_rtp_into(&protected, &mut plain).unwrap();
            });
            assert_eq!(plain, sent);
            info.count_total
        };
        pass(0);
        assert_eq!((1..1000).map(&mut pass).sum::<u64>(), 0, "{profile:?}");
    }
}

#[test]
fn in_a_room_that_selects_ten_thousand_packets_are_forwarded_without_an_allocation() {
    const PEOPLE: usize = 20;
    let mut room = room::Room::new(PEOPLE, 3);
    room.select(&[Some(0), Some(1), Some(2)]).unwrap();
    let level = |client| if client < 5 { 20 + client as u8 } else { room::SILENT };
    let all: Vec<_> = (0..PEOPLE).map(|client| (client, level(client))).collect();
    room.speak(Duration::from_secs(2), &all);
    let (mut received, mut allocations) = (0, 0);
    for round in 0.. {
        // As long as it takes until it is evaluated who is heard, and a frame more.
        let mut packets = Vec::new();
        for _ in 0..10 {
            for (address, client) in &mut room.world.clients {
                packets.push((*address, client.media(0, &[7; 80], 960, 0)));
            }
        }
        let mut sent = 0;
        let info = allocation_counter::measure(|| {
            for (address, packet) in &packets {
                let path = Path { peer: Peer { address: *address, tcp: None }, local: None };
                room.world.now += room::FRAME / PEOPLE as u32;
                room.world.node.handle_datagram(room.world.now, path, packet);
                room.world.node.deliver(room.world.now, |_| None);
                sent += room.world.node.output().datagrams.len();
                room.world.node.output().datagrams.clear();
            }
        });
        assert_eq!(sent, 10 * 3 * (PEOPLE - 1), "three are heard, by all but themselves");
        // What is kept for retransmission is as large as these are then.
        if round >= 10 {
            received += packets.len();
            allocations += info.count_total;
        }
        if received >= 10_000 {
            break;
        }
        room.world.node.handle_timeout(room.world.now);
        room.world.settle();
        room.told();
    }
    assert_eq!(allocations, 0, "for {received} packets");
}
