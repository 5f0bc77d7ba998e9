//! A publisher's track and its receiver, with a way between them that may lose packets, on virtual time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kaigi_media::rtp::RtpHeader;

use super::{
    Content,
    receiver::{Packet, Receiver},
    sdp::Extensions,
    sender::{Outgoing, Sender},
};
use crate::{
    meter::Meters,
    recording::{Codec, tests::recording},
    track::Track,
};

const SSRC: u32 = 7;
const RTX: u32 = 8;
const STEP: Duration = Duration::from_millis(1);

struct Pair {
    now: Instant,
    sender: Sender,
    receiver: Receiver,
    meters: Meters,
    number: u16,
    /// Packets on their way to the receiver, and when they arrive.
    way: Vec<(Instant, Vec<u8>)>,
    /// Which of the packets that are sent are lost.
    loses: Box<dyn FnMut(&RtpHeader) -> bool>,
    requests: usize,
}

impl Pair {
    fn new(codec: Codec) -> Self {
        let now = Instant::now();
        let track = Arc::new(Track::new(Arc::new(recording(codec, 1)), now));
        let outgoing = Outgoing {
            mid: "0".into(),
            payload_type: 96,
            rtx_type: (!codec.is_audio()).then_some(97),
            ssrcs: vec![(SSRC, RTX)],
            rids: Vec::new(),
            level: 20,
        };
        let extensions = Extensions { transport_cc: Some(3), mid: Some(4), ..Extensions::default() };
        let mut sender = Sender::new(track.clone(), outgoing, extensions);
        sender.start(now);
        Self {
            now,
            sender,
            receiver: Receiver::new(SSRC, Content::Track(track)),
            meters: Meters::default(),
            number: 0,
            way: Vec::new(),
            loses: Box::new(|_| false),
            requests: 0,
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut buffer = Vec::new();
        while self.now < end {
            self.now += STEP;
            let arrival = self.now + Duration::from_millis(10);
            let mut missing = Vec::new();
            self.receiver.take_missing(self.now, &mut self.meters, &mut missing);
            self.requests += missing.len();
            let mut sent = Vec::new();
            let number = &mut self.number;
            self.sender.again(SSRC, missing.into_iter(), &mut buffer, number, |p| sent.push(p.to_vec()));
            if self.receiver.wants_key_frame(self.now) {
                self.sender.key_frame(SSRC);
            }
            self.sender.play(self.now, &mut buffer, &mut self.number, |packet| sent.push(packet.to_vec()));
            for packet in sent {
                if !(self.loses)(&RtpHeader::parse(&packet).unwrap()) {
                    self.way.push((arrival, packet));
                }
            }
            let now = self.now;
            for (at, packet) in self.way.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
                self.arrive(at, &packet);
            }
        }
    }

    fn arrive(&mut self, at: Instant, packet: &[u8]) {
        let header = RtpHeader::parse(packet).unwrap();
        let payload = header.payload(packet);
        let retransmitted = header.ssrc == RTX;
        let (sequence, payload) = match (retransmitted, payload) {
            (true, [high, low, rest @ ..]) => (u16::from_be_bytes([*high, *low]), rest),
            (_, payload) => (header.sequence, payload),
        };
        let packet = Packet {
            sequence,
            timestamp: header.timestamp,
            marker: header.marker,
            bytes: packet.len(),
            payload,
            retransmitted,
        };
        self.receiver.receive(at, packet, &mut self.meters);
    }
}

#[test]
fn everything_arrives_whole_on_a_good_way() {
    for codec in [Codec::Vp8, Codec::H264, Codec::Opus] {
        let mut pair = Pair::new(codec);
        pair.run(Duration::from_secs(10));
        let (counts, sent) = (pair.receiver.counts, pair.sender.counts);
        assert!(counts.is_flawless(), "{codec:?}: {counts:?}");
        assert!(sent.frames - counts.frames <= 2, "{codec:?}: {counts:?} of {sent:?}");
        assert_eq!((counts.missed, pair.requests, counts.key_frame_requests), (0, 0, 0));
    }
}

#[test]
fn what_is_lost_is_asked_for_and_sent_again() {
    let mut pair = Pair::new(Codec::Vp8);
    let mut count = 0;
    pair.loses = Box::new(move |_| {
        count += 1;
        count % 7 == 0
    });
    pair.run(Duration::from_secs(10));
    let counts = pair.receiver.counts;
    assert!(counts.is_flawless(), "{counts:?}");
    assert!(counts.retransmitted > 50, "{counts:?}");
    assert!(pair.sender.counts.retransmitted >= counts.retransmitted);
    assert!(pair.sender.counts.frames - counts.frames <= 10, "{counts:?}");
}

#[test]
fn what_never_comes_is_given_up_and_the_next_key_frame_goes_on() {
    let mut pair = Pair::new(Codec::Vp8);
    pair.run(Duration::from_secs(1));
    let mut passed = 0;
    pair.loses = Box::new(move |header| {
        passed += usize::from(header.ssrc == SSRC);
        header.ssrc == RTX || passed == 5
    });
    pair.run(Duration::from_secs(3));
    let counts = pair.receiver.counts;
    assert_eq!((counts.missed, counts.lost), (1, 1), "{counts:?}");
    assert!(counts.nacks > 5 && counts.retransmitted == 0, "{counts:?}");
    assert!((1..10).contains(&counts.undecodable), "one group of pictures: {counts:?}");
    let before = counts.frames;
    pair.run(Duration::from_secs(1));
    assert!(pair.receiver.counts.frames >= before + 29);
}

#[test]
fn one_who_comes_late_asks_for_a_key_frame() {
    let mut pair = Pair::new(Codec::Vp8);
    let began = pair.now;
    let mut count = 0;
    pair.loses = Box::new(move |_| {
        count += 1;
        count <= 8
    });
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.receiver.counts.key_frame_requests, 1);
    assert_eq!(pair.sender.counts.key_frames_asked, 1);
    let first = pair.receiver.first_frame().expect("a whole frame came");
    assert!(first - began < Duration::from_millis(250), "{:?}", first - began);
    assert!(pair.receiver.counts.is_flawless());
}

#[test]
fn a_lost_sound_is_not_waited_for() {
    let mut pair = Pair::new(Codec::Opus);
    let mut count = 0;
    pair.loses = Box::new(move |_| {
        count += 1;
        count == 20
    });
    pair.run(Duration::from_secs(2));
    let counts = pair.receiver.counts;
    assert_eq!((counts.lost, pair.requests), (1, 0), "{counts:?}");
    assert!(counts.frames > 90, "{counts:?}");
}

#[test]
fn what_is_altered_is_not_taken_for_what_was_published() {
    let mut pair = Pair::new(Codec::Vp8);
    pair.run(Duration::from_secs(1));
    let mut altered = pair.way.first().map(|(_, packet)| packet.clone());
    while altered.is_none() {
        pair.run(STEP);
        altered = pair.way.first().map(|(_, packet)| packet.clone());
    }
    let at = pair.way[0].1.len() - 1;
    pair.way[0].1[at] ^= 1;
    pair.run(Duration::from_millis(200));
    assert_eq!(pair.receiver.counts.corrupt, 1);
}

#[test]
fn reports_tell_what_is_missing() {
    let mut pair = Pair::new(Codec::Opus);
    let mut count = 0;
    pair.loses = Box::new(move |_| {
        count += 1;
        count % 4 == 0
    });
    pair.run(Duration::from_secs(4));
    let report = pair.receiver.report(pair.now).unwrap();
    assert!((60..68).contains(&report.fraction_lost), "{report:?}");
    assert!((45..52).contains(&report.total_lost), "{report:?}");
}

#[test]
fn a_publisher_that_does_not_get_rid_of_its_packets_leaves_frames_out() {
    let play = |times: usize, step: Duration, pair: &mut Pair| {
        let (mut sent, mut buffer) = (0, Vec::new());
        for _ in 0..times {
            pair.now += step;
            pair.sender.play(pair.now, &mut buffer, &mut pair.number, |_| sent += 1);
        }
        sent
    };
    let (mut punctual, mut starved) = (Pair::new(Codec::Vp8), Pair::new(Codec::Vp8));
    let usual = play(250, STEP, &mut punctual);
    play(300, 400 * STEP, &mut starved);
    let later = play(250, STEP, &mut starved);
    assert!((usual..usual + 60).contains(&later), "{later}, not {usual}");
}
