//! Sound with redundancy (RFC 2198) among which its publisher sends packets of nothing but padding, as browsers do to probe a way that
//! loses: of sound and padding some are lost and some are late.

#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::BTreeSet, time::Duration};

use kaigi_media::{
    red::{Block, MAX_OFFSET, write},
    rtp::RtpHeader,
};
use kaigi_proto::{ids::TransportId, v1};
use rand::{Rng, SeedableRng, rngs::StdRng};
use support::{world::*, *};

/// Of a packet of sound.
const INTERVAL: Duration = Duration::from_millis(20);
const STEP: u32 = 960;
/// Where the publisher's sound begins: both wrap soon.
const FIRST: (u16, u32) = (65_400, u32::MAX - 50_000);

/// One packet of a publisher.
#[derive(Clone)]
struct Packet {
    bytes: Vec<u8>,
    /// Which of the sounds it carries, its own last.
    carries: Vec<usize>,
}

impl Packet {
    fn is_padding(&self) -> bool {
        self.carries.is_empty()
    }
}

/// What a browser does.
#[derive(Clone, Copy)]
struct Habits {
    /// Sounds before its own that a packet carries.
    depth: usize,
    /// The share of sounds after which there is padding.
    padded: f64,
    /// The share of sounds before which there is a pause.
    pauses: f64,
}

fn data(sound: usize) -> Vec<u8> {
    let mut data = (sound as u32).to_be_bytes().to_vec();
    data.resize(5 + sound % 90, 7);
    data
}

/// What is sent, and the timestamps of the sounds.
fn sent(random: &mut StdRng, sounds: usize, habits: Habits) -> (Vec<Packet>, Vec<u32>) {
    let (mut packets, mut times): (Vec<Packet>, Vec<u32>) = Default::default();
    let mut timestamp = FIRST.1;
    for sound in 0..sounds {
        // Longer ones than redundancy can tell of, too.
        let pause = if random.random_bool(habits.pauses) { random.random_range(2..30) } else { 1 };
        timestamp = timestamp.wrapping_add(STEP * pause);
        times.push(timestamp);
        let earlier: Vec<_> = (sound.saturating_sub(habits.depth)..sound)
            .filter(|earlier| timestamp.wrapping_sub(times[*earlier]) < MAX_OFFSET)
            .collect();
        let texts: Vec<_> = earlier.iter().map(|earlier| data(*earlier)).collect();
        let blocks = earlier.iter().zip(&texts).map(|(earlier, data)| Block {
            payload_type: OPUS,
            offset: timestamp.wrapping_sub(times[*earlier]),
            data,
        });
        let mut payload = Vec::new();
        write(&mut payload, OPUS, blocks, &data(sound));
        let mut send = |payload: &[u8], pads: bool, carries: Vec<usize>| {
            let number = packets.len() as u16;
            let sequence = FIRST.0.wrapping_add(number);
            let mut bytes = packet(1000, RED, sequence, timestamp, number, payload);
            bytes[0] |= if pads { 0x20 } else { 0 };
            bytes[1] &= 0x7f;
            packets.push(Packet { bytes, carries });
        };
        send(&payload, false, earlier.iter().copied().chain([sound]).collect());
        if random.random_bool(habits.padded) {
            for _ in 0..random.random_range(1..6) {
                send(&[&[0; 99][..], &[100]].concat(), true, Vec::new());
            }
        }
    }
    (packets, times)
}

fn publish(world: &mut World, packet: &[u8]) {
    let protected = world.clients[0].1.protect_rtp(packet);
    world.send(0, &protected);
}

fn pass(world: &mut World, time: Duration) {
    world.pass(time);
    for client in 0..world.clients.len() {
        let check = world.clients[client].1.check();
        world.send(client, &check);
    }
}

/// What a subscriber has been sent, in the order of its numbers: place from the first, timestamp, sound.
fn heard(world: &mut World) -> Vec<(usize, u32, usize)> {
    let ssrc = world.clients[1].1.answer.ssrcs[0][0];
    let received = world.clients[1].1.take_rtp(ssrc);
    let (first, _) = received[0];
    let mut heard: Vec<_> = received
        .iter()
        .map(|(header, packet): &(RtpHeader, Vec<u8>)| {
            assert_eq!(header.payload_type, OPUS);
            let payload = header.payload(packet);
            let sound = u32::from_be_bytes(payload[..4].try_into().unwrap()) as usize;
            assert_eq!(payload, data(sound), "as it was sent");
            let place = usize::from(header.sequence.wrapping_sub(first.sequence));
            (place, header.timestamp, sound)
        })
        .collect();
    heard.sort_unstable();
    heard
}

fn published(world: &mut World) -> v1::TrackStats {
    let transport = TransportId::new(World::transport(0)).unwrap();
    let stats = world.node.stats(world.now, std::time::SystemTime::UNIX_EPOCH, &[transport]);
    stats[0].sessions[0].tracks.iter().find(|track| track.mid == "0").unwrap().clone()
}

/// A publisher's packets arrive as `fate` says: never (`None`) or after so many of those that follow. What comes of it is checked, and
/// told: how many places are empty among what the subscriber was sent, and how many sounds never came.
fn check(
    (packets, times): (Vec<Packet>, Vec<u32>),
    mut fate: impl FnMut(usize, &Packet) -> Option<usize>,
) -> (usize, usize) {
    let mut world = World::conference();
    let mut order: Vec<_> = packets
        .iter()
        .enumerate()
        .filter_map(|(at, packet)| match at {
            0 => Some((at, packet)),
            _ => Some((at + fate(at, packet)?, packet)),
        })
        .collect();
    order.sort_by_key(|(at, _)| *at);
    let mut newest = 0;
    for (_, packet) in &order {
        if !packet.is_padding() {
            pass(&mut world, INTERVAL);
        }
        publish(&mut world, &packet.bytes);
        let number = u16::from_be_bytes([packet.bytes[2], packet.bytes[3]]).wrapping_sub(FIRST.0);
        newest = newest.max(usize::from(number));
    }

    let expected: BTreeSet<usize> =
        order.iter().flat_map(|(_, packet)| packet.carries.iter().copied()).collect();
    let heard = heard(&mut world);
    let sounds: Vec<_> = heard.iter().map(|(_, _, sound)| *sound).collect();
    let differs = sounds.iter().zip(&expected).find(|(a, b)| a != b);
    assert_eq!(differs, None, "each once, and in their order");
    assert_eq!(sounds.len(), expected.len());
    for (_, timestamp, sound) in &heard {
        let apart = |from: u32, to: u32| to.wrapping_sub(from);
        assert_eq!(apart(heard[0].1, *timestamp), apart(times[heard[0].2], times[*sound]), "{sound}");
    }
    assert!(heard.windows(2).all(|pair| pair[0].0 < pair[1].0), "each has a number of its own");

    let stats = published(&mut world);
    let sounds = order.iter().filter(|(_, packet)| !packet.is_padding()).count();
    assert_eq!(stats.packets, sounds as u64);
    assert_eq!(stats.packets_lost, (newest + 1 - order.len()) as u64, "what never came, padding too");
    let empty = heard.last().unwrap().0 + 1 - heard.len();
    (empty, times.len() - expected.len())
}

const HABITS: Habits = Habits { depth: 1, padded: 0.4, pauses: 0.0 };

#[test]
fn without_losses_nobody_sees_the_padding() {
    for depth in 0..=2 {
        let mut random = StdRng::seed_from_u64(1);
        let packets = sent(&mut random, 1_000, Habits { depth, pauses: 0.05, ..HABITS });
        assert_eq!(check(packets, |_, _| Some(0)), (0, 0));
    }
}

#[test]
fn padding_that_is_lost_leaves_no_gap() {
    for depth in 0..=2 {
        let mut random = StdRng::seed_from_u64(2);
        let packets = sent(&mut random, 1_000, Habits { depth, ..HABITS });
        // Two sounds without any between them tell how long one is.
        let fate = |at: usize, packet: &Packet| {
            (at < 20 || !packet.is_padding() || random.random_bool(0.7)).then_some(0)
        };
        assert_eq!(check(packets, fate), (0, 0));
    }
}

#[test]
fn sound_that_is_lost_among_padding_is_found() {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let habits = Habits { depth: 1 + seed as usize % 2, pauses: 0.05, ..HABITS };
        let packets = sent(&mut random, 500, habits);
        let (losses, padding) = (0.1 + 0.1 * (seed % 4) as f64, packets.0.len() - 500);
        let (empty, gone) = check(packets, |_, _| random.random_bool(1.0 - losses).then_some(0));
        // Beside pauses and sounds that never came it can't be known what else is missing.
        let unknown = (empty as f64 - gone as f64).max(0.0);
        assert!(
            2.0 * unknown < losses * padding as f64,
            "{seed}: {empty} places are empty for {gone} sounds"
        );
    }
}

#[test]
fn what_is_late_is_heard_once() {
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let habits = Habits { depth: 1 + seed as usize % 2, pauses: 0.03, ..HABITS };
        let packets = sent(&mut random, 500, habits);
        check(packets, |_, _| {
            let is_late = random.random_bool(0.1);
            random.random_bool(0.85).then_some(if is_late { random.random_range(1..8) } else { 0 })
        });
    }
}

#[test]
fn sound_without_redundancy_is_not_heard_twice_or_padded_either() {
    let mut random = StdRng::seed_from_u64(3);
    let packets = sent(&mut random, 1_000, Habits { depth: 0, pauses: 0.03, ..HABITS });
    check(packets, |_, _| {
        let is_late = random.random_bool(0.1);
        random.random_bool(0.9).then_some(if is_late { random.random_range(1..8) } else { 0 })
    });
}
