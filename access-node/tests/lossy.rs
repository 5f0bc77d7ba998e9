//! A way that loses a tenth of everything, there and back: how long the picture of one who asks for what is missing stands still.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use kaigi_access_node::transport::{Path, Peer};
use rtc_rtcp::{
    packet::marshal,
    transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
};
use support::{narrow::Narrow, world::*, *};

const LOSS: f64 = 0.1;
const DELAY: Duration = Duration::from_millis(50);
const TICK: Duration = Duration::from_millis(5);
/// 15 frames a second.
const FRAME: Duration = Duration::from_millis(65);
/// Between two requests for one packet: browsers that only receive take this for the round trip.
const AGAIN: Duration = Duration::from_millis(100);
/// How long pictures are kept before they are shown: a round trip and what one waits to be asked for, as browsers' buffers grow to.
const BUFFER: Duration = Duration::from_millis(150);

/// One who receives a picture as browsers do.
struct Viewer {
    ssrc: u32,
    rtx: u32,
    first: Option<u16>,
    highest: u16,
    /// When each packet came, counted from the first.
    came: BTreeMap<u16, Instant>,
    missing: BTreeMap<u16, Instant>,
    requests: VecDeque<(Instant, Vec<u8>)>,
    packets: usize,
}

impl Viewer {
    fn new(world: &World) -> Self {
        let ssrcs = &world.clients[1].1.answer.ssrcs[1];
        let (ssrc, rtx) = (ssrcs[0], ssrcs[1]);
        let (first, highest, packets) = (None, 0, 0);
        let (came, missing, requests) = Default::default();
        Self { ssrc, rtx, first, highest, came, missing, requests, packets }
    }

    fn take(&mut self, world: &mut World) {
        let now = world.now;
        for (header, _) in world.clients[1].1.take_rtp(self.ssrc) {
            self.arrived(now, header.sequence);
        }
        for (header, packet) in world.clients[1].1.take_rtp(self.rtx) {
            if let [high, low, ..] = header.payload(&packet) {
                self.arrived(now, u16::from_be_bytes([*high, *low]));
            }
        }
        let due: Vec<_> =
            self.missing.iter().filter(|(_, at)| **at <= now).map(|(number, _)| *number).collect();
        if due.is_empty() {
            return;
        }
        self.missing.extend(due.iter().map(|number| (*number, now + AGAIN)));
        let base = self.first.unwrap();
        let numbers: Vec<_> = due.iter().map(|number| base.wrapping_add(*number)).collect();
        let nack = TransportLayerNack {
            sender_ssrc: 1,
            media_ssrc: self.ssrc,
            nacks: nack_pairs_from_sequence_numbers(&numbers),
        };
        let plain = marshal(&[Box::new(nack)]).unwrap();
        let protected = world.clients[1].1.protect_rtcp(&plain);
        if !world.narrow.get_mut(&1).unwrap().loses_report() {
            self.requests.push_back((now + DELAY, protected));
        }
    }

    fn arrived(&mut self, now: Instant, sequence: u16) {
        self.packets += 1;
        let number = sequence.wrapping_sub(*self.first.get_or_insert(sequence));
        self.came.entry(number).or_insert(now);
        self.missing.remove(&number);
        if number > self.highest {
            self.missing.extend((self.highest + 1..number).map(|lost| (lost, now)));
            self.highest = number;
        }
    }

    fn ask(&mut self, world: &mut World) {
        while let Some((_, request)) = self.requests.pop_front_if(|(at, _)| *at <= world.now) {
            let path = Path { peer: Peer { address: world.clients[1].0, tcp: None }, local: None };
            world.node.handle_datagram(world.now, path, &request);
            world.settle();
        }
    }

    /// The share of the time in which the picture stood still: between two pictures is more than three times the usual time, or 150 ms more
    /// than that.
    fn frozen(&self, sent: &[Instant], packets: usize) -> f64 {
        let (mut shown, mut frozen) = (sent[0] + BUFFER, Duration::ZERO);
        let began = shown;
        for (frame, sent) in sent.iter().enumerate() {
            let of = (frame * packets..(frame + 1) * packets).map(|number| self.came.get(&(number as u16)));
            let Some(complete) = of.collect::<Option<BTreeSet<_>>>() else { continue };
            let at = (*sent + BUFFER).max(**complete.last().unwrap()).max(shown);
            let between = at - shown;
            if between > (3 * FRAME).max(FRAME + Duration::from_millis(150)) {
                frozen += between;
            }
            shown = at;
        }
        frozen.as_secs_f64() / (shown - began).as_secs_f64()
    }
}

/// What comes of pictures of so many packets each: the share of the time in which they stand still, and how many packets come for each.
fn watch(packets: usize) -> (f64, f64) {
    let mut world = World::conference();
    let mut narrow = Narrow::new(world.now, 20e6);
    (narrow.loses, narrow.loses_reports, narrow.delay) = (LOSS, LOSS, DELAY);
    world.narrow.insert(1, narrow);
    let mut viewer = Viewer::new(&world);
    let mut sent = Vec::new();
    for tick in 0..24_000u32 {
        if tick % 400 == 0 {
            for client in 0..2 {
                let check = world.clients[client].1.check();
                world.send(client, &check);
            }
        }
        if tick % 13 == 0 {
            // Until the first packet has come, all is a beginning.
            let key = viewer.first.is_none();
            if key {
                sent.clear();
            }
            sent.push(world.now);
            for at in 0..packets {
                let mut payload = if at == 0 { vp8(key, 1) } else { vec![0, 1] };
                payload.resize(1_000, 1);
                world.clients[0].1.frame_goes_on = at + 1 < packets;
                world.media(0, 1, &payload, if at == 0 { 5_850 } else { 0 });
            }
            world.clients[0].1.frame_goes_on = false;
        }
        world.pass(TICK);
        viewer.take(&mut world);
        viewer.ask(&mut world);
    }
    let whole = &sent[..sent.len() - 10];
    (viewer.frozen(whole, packets), viewer.packets as f64 / (packets * sent.len()) as f64)
}

#[test]
fn pictures_stand_still_for_less_than_a_fiftieth_of_the_time() {
    for packets in [3, 8] {
        let (frozen, received) = watch(packets);
        println!("{packets} packets a frame: {:.2} % frozen, {received:.2} packets for each", 100.0 * frozen);
        assert!(frozen < 0.02, "{packets} packets a frame: {frozen}");
        assert!(received < 1.35, "{packets} packets a frame: {received} packets for each");
    }
}
