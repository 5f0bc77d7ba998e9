//! One association between the node's side and a client's, on virtual time.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use kaigi_access_node::sctp::{
    ChannelId, MAX_BUFFERED, MAX_CHANNELS, MAX_MESSAGE, Message, Sctp, SctpEvent, Sent,
};
use rtc_datachannel::message::message_channel_open::ChannelType;
use support::data::{DataPeer, chance};

struct Pair {
    now: Instant,
    node: Sctp,
    client: DataPeer,
    events: Vec<SctpEvent>,
    loses: Box<dyn FnMut() -> bool>,
    /// Packets of a flight arrive the last first, now and then.
    disorders: bool,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self::unconnected(|| false);
        pair.settle();
        assert!(pair.node.is_established());
        pair
    }

    fn unconnected(loses: impl FnMut() -> bool + 'static) -> Self {
        let now = Instant::now();
        Self {
            now,
            node: Sctp::new(now),
            client: DataPeer::new(now),
            events: Vec::new(),
            loses: Box::new(loses),
            disorders: false,
        }
    }

    fn open(&mut self, label: &str, kind: ChannelType, parameter: u32) -> u16 {
        let id = self.client.open(self.now, label, kind, parameter);
        self.settle();
        id
    }

    fn settle(&mut self) {
        loop {
            self.node.process(self.now);
            while let Some(event) = self.node.poll_event() {
                self.events.push(event);
            }
            let mut to_node = self.client.packets(self.now);
            let mut to_client: Vec<_> = std::iter::from_fn(|| self.node.poll_transmit()).collect();
            if to_node.is_empty() && to_client.is_empty() {
                return;
            }
            if self.disorders && (self.loses)() {
                to_node.reverse();
                to_client.reverse();
            }
            for packet in to_node {
                if !(self.loses)() {
                    self.node.handle_packet(self.now, packet);
                }
            }
            for packet in to_client {
                if !(self.loses)() {
                    self.client.handle(self.now, packet);
                }
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.settle();
        let end = self.now + time;
        while let Some(at) = [self.node.next_timeout(), self.client.next_timeout()]
            .into_iter()
            .flatten()
            .min()
            .filter(|at| *at <= end)
        {
            self.now = self.now.max(at);
            self.node.handle_timeout(self.now);
            self.client.handle_timeout(self.now);
            self.settle();
        }
        self.now = end;
    }

    fn messages(&mut self) -> Vec<(u16, Message)> {
        let messages = self.events.iter().filter_map(|event| match event {
            SctpEvent::Message(id, message) => Some((id.0, message.clone())),
            _ => None,
        });
        messages.collect()
    }
}

fn text(payload: &str) -> Message {
    Message { payload: Bytes::copy_from_slice(payload.as_bytes()), text: true }
}

fn binary(payload: &[u8]) -> Message {
    Message { payload: Bytes::copy_from_slice(payload), text: false }
}

#[test]
fn a_channel_is_opened_by_the_client_and_carries_both_ways() {
    let mut pair = Pair::new();
    let id = pair.open("session", ChannelType::Reliable, 0);
    assert_eq!(pair.events, [SctpEvent::Opened(ChannelId(id))]);
    assert!(pair.client.acknowledged.contains(&id));
    assert_eq!(pair.node.label(ChannelId(id)), Some("session"));
    for (payload, is_text) in [(&b"hello"[..], true), (b"\x00\xff", false), (b"", true), (b"", false)] {
        pair.client.send(pair.now, id, payload, is_text);
        let message = Message { payload: Bytes::copy_from_slice(payload), text: is_text };
        assert_eq!(pair.node.send(pair.now, ChannelId(id), &message), Sent::Queued);
    }
    pair.settle();
    let expected = [text("hello"), binary(b"\x00\xff"), text(""), binary(b"")];
    assert_eq!(pair.messages(), expected.clone().map(|message| (id, message)));
    let sent: Vec<_> = expected.iter().map(|m| (id, m.payload.to_vec(), m.text)).collect();
    assert_eq!(pair.client.received, sent);
}

#[test]
fn the_longest_message_passes_and_a_longer_one_costs_its_channel_alone() {
    let mut pair = Pair::new();
    let (long, other) =
        (pair.open("long", ChannelType::Reliable, 0), pair.open("other", ChannelType::Reliable, 0));
    pair.client.send(pair.now, long, &[7; MAX_MESSAGE], false);
    pair.settle();
    assert_eq!(pair.messages(), [(long, binary(&[7; MAX_MESSAGE]))]);
    assert_eq!(pair.node.send(pair.now, ChannelId(long), &binary(&[8; MAX_MESSAGE])), Sent::Queued);
    pair.settle();
    assert_eq!(pair.client.take(), [vec![8; MAX_MESSAGE]]);
    pair.events.clear();
    pair.client.send(pair.now, long, &[7; MAX_MESSAGE + 1], false);
    pair.client.send(pair.now, long, b"after", true);
    pair.client.send(pair.now, other, b"as before", true);
    pair.settle();
    pair.pass(Duration::from_secs(1));
    assert_eq!(pair.messages(), [(other, text("as before"))]);
    assert_eq!(pair.client.closed, [long]);
    assert_eq!(pair.node.channels(), 1);
    // The stream can be used again.
    pair.client.open_on(pair.now, long, "again", ChannelType::Reliable, 0);
    pair.client.send(pair.now, long, b"new", true);
    pair.settle();
    assert_eq!(pair.messages().last(), Some(&(long, text("new"))));
}

#[test]
fn a_message_without_end_costs_the_association() {
    let mut pair = Pair::new();
    let id = pair.open("endless", ChannelType::Reliable, 0);
    pair.client.send(pair.now, id, &vec![7; 1 << 20], false);
    pair.settle();
    pair.pass(Duration::from_secs(1));
    assert!(!pair.node.is_established());
    assert_eq!(pair.events.last(), Some(&SctpEvent::Closed(ChannelId(id))));
    // The client may begin anew.
    pair.client = DataPeer::new(pair.now);
    pair.settle();
    assert!(pair.node.is_established());
}

#[test]
fn reliable_messages_arrive_once_and_in_order_through_loss() {
    for seed in 1..=5 {
        let mut pair = Pair::unconnected(chance(seed, 8));
        pair.pass(Duration::from_secs(20));
        assert!(pair.node.is_established(), "seed {seed}");
        let id = pair.open("session", ChannelType::Reliable, 0);
        pair.pass(Duration::from_secs(20));
        let lengths = [10, 3000, 1, 20_000, 500];
        for number in 0..100u8 {
            let payload = vec![number; lengths[usize::from(number) % 5]];
            pair.client.send(pair.now, id, &payload, false);
            assert_eq!(pair.node.send(pair.now, ChannelId(id), &binary(&payload)), Sent::Queued);
            pair.pass(Duration::from_millis(20));
        }
        pair.pass(Duration::from_secs(600));
        let numbers: Vec<_> = pair.messages().iter().map(|(_, message)| message.payload[0]).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<u8>>(), "seed {seed}, to the node");
        let numbers: Vec<_> = pair.client.take().iter().map(|payload| payload[0]).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<u8>>(), "seed {seed}, to the client");
    }
}

#[test]
fn unordered_messages_overtake_a_lost_one() {
    let mut pair = Pair::new();
    for (kind, in_order) in [(ChannelType::ReliableUnordered, false), (ChannelType::Reliable, true)] {
        let id = pair.open("session", kind, 0);
        pair.client.take();
        pair.node.send(pair.now, ChannelId(id), &text("lost at first"));
        pair.node.process(pair.now);
        assert!(pair.node.poll_transmit().is_some());
        pair.node.send(pair.now, ChannelId(id), &text("second"));
        pair.settle();
        let expected = if in_order { vec![] } else { vec![b"second".to_vec()] };
        assert_eq!(pair.client.take(), expected);
        pair.pass(Duration::from_secs(5));
        assert!(pair.client.take().contains(&b"lost at first".to_vec()));
    }
}

#[test]
fn what_may_be_lost_is_not_repeated_in_either_direction() {
    let unreliable = [
        (ChannelType::PartialReliableRexmit, 0),
        (ChannelType::PartialReliableRexmitUnordered, 0),
        (ChannelType::PartialReliableTimed, 100),
        (ChannelType::PartialReliableTimedUnordered, 100),
    ];
    for (kind, parameter) in unreliable {
        let mut pair = Pair::new();
        let id = pair.open("session", kind, parameter);
        pair.node.send(pair.now, ChannelId(id), &text("lost"));
        pair.client.send(pair.now, id, b"lost", true);
        pair.node.process(pair.now);
        assert!(pair.node.poll_transmit().is_some());
        assert_eq!(pair.client.packets(pair.now).len(), 1);
        pair.pass(Duration::from_secs(5));
        pair.node.send(pair.now, ChannelId(id), &text("next"));
        pair.client.send(pair.now, id, b"next", true);
        pair.settle();
        pair.pass(Duration::from_secs(5));
        assert_eq!(pair.client.take(), [b"next"], "{kind:?}");
        assert_eq!(pair.messages(), [(id, text("next"))], "{kind:?}");
        assert_eq!(pair.node.buffered(), 0, "{kind:?}");
    }
}

#[test]
fn channels_are_closed_by_either_side() {
    let mut pair = Pair::new();
    let (mine, yours) = (pair.open("a", ChannelType::Reliable, 0), pair.open("b", ChannelType::Reliable, 0));
    pair.client.close(pair.now, mine);
    pair.settle();
    assert_eq!(pair.events.last(), Some(&SctpEvent::Closed(ChannelId(mine))));
    pair.node.close(ChannelId(yours));
    // What is under way when the channel is closed holds nothing up.
    pair.client.send(pair.now, yours, &[1; 5000], false);
    pair.settle();
    pair.pass(Duration::from_secs(5));
    assert_eq!(pair.client.closed, [mine, yours]);
    assert_eq!((pair.messages(), pair.node.channels()), (vec![], 0));
    assert_eq!(pair.node.send(pair.now, ChannelId(yours), &text("late")), Sent::Closed);
}

#[test]
fn a_flood_of_channels_is_bounded() {
    let mut pair = Pair::new();
    for number in 0..1000 {
        pair.open(&format!("channel{number}"), ChannelType::Reliable, 0);
    }
    pair.pass(Duration::from_secs(10));
    let opened = pair.events.iter().filter(|event| matches!(event, SctpEvent::Opened(_))).count();
    assert_eq!(opened, MAX_CHANNELS);
    assert_eq!(pair.node.channels(), MAX_CHANNELS);
    assert!(pair.node.is_established());
}

#[test]
fn what_is_never_acknowledged_is_bounded_and_given_up() {
    for (kind, refused) in
        [(ChannelType::Reliable, Sent::TooSlow), (ChannelType::PartialReliableRexmit, Sent::Lost)]
    {
        for length in [0, 1000, MAX_MESSAGE] {
            let mut pair = Pair::new();
            let id = pair.open("session", kind, 3);
            pair.client.is_deaf = true;
            let message = binary(&vec![1; length]);
            let mut outcomes = Vec::new();
            while outcomes.last() != Some(&refused) {
                outcomes.push(pair.node.send(pair.now, ChannelId(id), &message));
                pair.settle();
                assert!(outcomes.len() < 100_000, "no bound");
            }
            assert!(pair.node.buffered() <= MAX_BUFFERED + MAX_MESSAGE + 1000);
            pair.pass(Duration::from_secs(119));
            assert!(pair.node.is_established());
            pair.pass(Duration::from_secs(2));
            assert!(!pair.node.is_established());
            assert_eq!(pair.events.last(), Some(&SctpEvent::Closed(ChannelId(id))));
        }
    }
}

#[test]
fn a_repeated_init_gets_the_same_answer() {
    let mut pair = Pair::unconnected(|| false);
    let init = pair.client.packets(pair.now).remove(0);
    for _ in 0..3 {
        pair.node.handle_packet(pair.now, init.clone());
    }
    let answers: Vec<_> = std::iter::from_fn(|| pair.node.poll_transmit()).collect();
    assert_eq!(answers.len(), 3);
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    pair.client.handle(pair.now, answers[2].clone());
    pair.settle();
    assert!(pair.node.is_established());
    pair.node.handle_packet(pair.now, init);
    assert!(pair.node.is_established());
}

#[test]
fn no_packet_is_too_strange() {
    let mut state = 9u32;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for round in 0..300 {
        let mut pair = Pair::unconnected(|| false);
        if round % 4 != 0 {
            pair.settle();
            pair.open("a", ChannelType::PartialReliableRexmitUnordered, 1);
            pair.open("b", ChannelType::Reliable, 0);
        }
        for step in 0..12u8 {
            if pair.client.open.len() == 2 {
                pair.client.send(pair.now, u16::from(step % 2) * 2, &vec![step; random(4000) + 1], false);
            }
            if step == 7 && pair.client.open.len() == 2 {
                pair.client.close(pair.now, 0);
                pair.client.open.clear();
            }
            for packet in pair.client.packets(pair.now) {
                let mut broken = packet.to_vec();
                for _ in 0..random(4) {
                    let at = random(broken.len());
                    match random(5) {
                        0 => broken.truncate(at.max(1)),
                        1 => broken[at] = random(256) as u8,
                        2 => broken[at] ^= 1 << random(8),
                        3 => broken[at] = [0, 0xff][random(2)],
                        _ => broken.extend_from_slice(&packet[12.min(packet.len())..]),
                    }
                }
                if broken.len() >= 12 {
                    broken[8..12].fill(0);
                    let sum = crc32c::crc32c(&broken);
                    broken[8..12].copy_from_slice(&sum.to_le_bytes());
                }
                pair.node.handle_packet(pair.now, broken.into());
            }
            while let Some(packet) = pair.node.poll_transmit() {
                pair.client.handle(pair.now, packet);
            }
            pair.now += Duration::from_millis(300);
            pair.node.handle_timeout(pair.now);
            pair.client.handle_timeout(pair.now);
        }
    }
}

/// Whatever loss and disorder do to channels of all kinds, none of it is taken for hostile.
#[test]
fn loss_and_disorder_cost_no_association() {
    for seed in 1..=4 {
        let mut pair = Pair::new();
        let kinds = [
            (ChannelType::Reliable, 0),
            (ChannelType::ReliableUnordered, 0),
            (ChannelType::PartialReliableRexmit, 0),
            (ChannelType::PartialReliableRexmitUnordered, 1),
            (ChannelType::PartialReliableTimed, 50),
            (ChannelType::PartialReliableTimedUnordered, 200),
        ];
        let channels = kinds.map(|(kind, parameter)| pair.open("session", kind, parameter));
        pair.loses = Box::new(chance(seed, 6));
        pair.disorders = true;
        let mut number = 0usize;
        for _ in 0..400 {
            for channel in channels {
                number += 1;
                let payload = vec![number as u8; 1 + number * 37 % 4000];
                pair.client.send(pair.now, channel, &payload, number.is_multiple_of(2));
                let _ = pair.node.send(pair.now, ChannelId(channel), &binary(&payload));
            }
            pair.pass(Duration::from_millis(50));
        }
        pair.pass(Duration::from_secs(300));
        pair.loses = Box::new(|| false);
        pair.pass(Duration::from_secs(120));
        assert!(pair.node.is_established(), "seed {seed}");
        let messages = pair.messages();
        let heard = |channel| messages.iter().filter(|(id, _)| *id == channel).count();
        assert_eq!([heard(channels[0]), heard(channels[1])], [400, 400], "seed {seed}");
        let lossy: Vec<_> = channels[2..].iter().map(|channel| heard(*channel)).collect();
        assert!(lossy.iter().all(|heard| (1..400).contains(heard)), "seed {seed}: {lossy:?}");
        assert_eq!(pair.node.buffered(), 0, "seed {seed}");
    }
}
