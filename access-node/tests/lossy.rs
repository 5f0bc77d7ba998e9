//! A way that loses a tenth of everything, there and back: how long the picture of one who asks for what is missing stands still.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use kaigi_access_node::transport::{Path, Peer};
use rtc_rtcp::{
    packet::{Packet, marshal},
    receiver_report::ReceiverReport,
    reception_report::ReceptionReport,
    sender_report::SenderReport,
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
/// The id of what says how long pictures are to be kept before they are shown, which browsers' buffers go by on a way like this: they do
/// not see by themselves that frames are late that were sent again.
const PLAYOUT_DELAY: u8 = 5;
/// By how much the time that pictures are kept grows or shrinks in a second.
const CHANGE: f64 = 0.1;

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
    /// What was said of how long pictures are to be kept, and when.
    told: Vec<(Instant, Duration)>,
}

impl Viewer {
    fn new(world: &World) -> Self {
        let ssrcs = &world.clients[1].1.answer.ssrcs[1];
        let (ssrc, rtx) = (ssrcs[0], ssrcs[1]);
        let (first, highest, packets) = (None, 0, 0);
        let (came, missing, requests, told) = Default::default();
        Self { ssrc, rtx, first, highest, came, missing, requests, packets, told }
    }

    fn take(&mut self, world: &mut World) {
        let now = world.now;
        for (header, packet) in world.clients[1].1.take_rtp(self.ssrc) {
            self.arrived(now, header.sequence);
            if let Some([high, low, _]) = header.extension(&packet, PLAYOUT_DELAY) {
                let least = u16::from_be_bytes([*high, *low]) >> 4;
                let least = Duration::from_millis(10 * u64::from(least));
                if self.told.last().is_none_or(|(_, before)| *before != least) {
                    self.told.push((now, least));
                }
            }
        }
        for (header, packet) in world.clients[1].1.take_rtp(self.rtx) {
            if let [high, low, ..] = header.payload(&packet) {
                self.arrived(now, u16::from_be_bytes([*high, *low]));
            }
        }
        for report in world.rtcp(1) {
            if let Some(report) = report.as_any().downcast_ref::<SenderReport>()
                && report.ssrc == self.ssrc
            {
                self.report(world, report);
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
        self.say(world, Box::new(nack));
    }

    /// By this the node knows how far away the viewer is.
    fn report(&mut self, world: &mut World, report: &SenderReport) {
        let last_sender_report = (report.ntp_time >> 16) as u32;
        let block = ReceptionReport { ssrc: report.ssrc, last_sender_report, ..Default::default() };
        self.say(world, Box::new(ReceiverReport { ssrc: 1, reports: vec![block], ..Default::default() }));
    }

    fn say(&mut self, world: &mut World, packet: Box<dyn Packet>) {
        let protected = world.clients[1].1.protect_rtcp(&marshal(&[packet]).unwrap());
        if !world.narrow.get_mut(&1).unwrap().loses_report() {
            self.requests.push_back((world.now + DELAY, protected));
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
        let (mut shown, mut frozen) = (sent[0], Duration::ZERO);
        let began = shown;
        let (mut buffer, mut told) = (0.0_f64, self.told.iter().peekable());
        let mut wanted = 0.0;
        for (frame, sent) in sent.iter().enumerate() {
            let of = (frame * packets..(frame + 1) * packets).map(|number| self.came.get(&(number as u16)));
            let Some(complete) = of.collect::<Option<BTreeSet<_>>>() else { continue };
            while let Some((_, least)) = told.next_if(|(at, _)| at <= sent) {
                wanted = least.as_secs_f64();
            }
            let change = CHANGE * FRAME.as_secs_f64();
            buffer += (wanted - buffer).clamp(-change, change);
            let at = (*sent + Duration::from_secs_f64(buffer)).max(**complete.last().unwrap()).max(shown);
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
    let ssrc = world.clients[0].1.lines[1].ssrc;
    world.send_rtcp(0, &[Box::new(SenderReport { ssrc, ntp_time: 77 << 32, ..Default::default() })]);
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
