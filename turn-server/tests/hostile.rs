//! Input of strangers: it costs nothing, changes nothing and is not answered where an answer would help nobody.
#![allow(clippy::unwrap_used, reason = "a failing test says where")]

mod support;

use kaigi_turn_server::core::{Deframer, MAX_MESSAGE};
use rtc_stun::{
    attributes::{ATTR_DATA, ATTR_MESSAGE_INTEGRITY, ATTR_NONCE, ATTR_REALM, ATTR_USERNAME, AttrType},
    message::{
        CLASS_INDICATION, CLASS_REQUEST, METHOD_ALLOCATE, METHOD_BINDING, METHOD_CHANNEL_BIND,
        METHOD_CREATE_PERMISSION, METHOD_REFRESH, METHOD_SEND, Message, MessageType, TransactionId,
    },
};
use support::{Client, Settings, Stage, channel, peer, raw, udp};

/// xorshift: the same each time.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        (0..self.next() % most).map(|_| self.next() as u8).collect()
    }
}

#[test]
fn garbage_is_counted_and_not_answered() {
    let mut stage = Stage::new(&Settings::default());
    let (stranger, mut chance) = (Client::new(1, "x").flow, Chance(1));
    let mut said = 0;
    for _ in 0..20_000 {
        let bytes = chance.bytes(200);
        // The magic cookie by chance is no garbage.
        if bytes.get(4..8) != Some(&[0x21, 0x12, 0xa4, 0x42]) && !matches!(bytes.first(), Some(0x40..=0x7f)) {
            stage.say(stranger, &bytes);
            said += 1;
        }
    }
    assert_eq!((stage.to_clients.len(), stage.server.allocations()), (0, 0));
    assert_eq!(stage.server.counters().malformed, said);
}

#[test]
fn messages_that_are_cut_or_changed_bring_nothing_about() {
    let mut stage = Stage::new(&Settings::default());
    let mut aki = Client::new(1, "aki");
    aki.allocate(&mut stage).unwrap();
    let mut chance = Chance(2);
    for (method, attributes) in [
        (METHOD_ALLOCATE, vec![udp()]),
        (METHOD_REFRESH, vec![]),
        (METHOD_CREATE_PERMISSION, vec![peer("8.8.8.8:5")]),
        (METHOD_CHANNEL_BIND, vec![channel(0x4000), peer("8.8.8.8:5")]),
    ] {
        let good = aki.sign(&stage, method, attributes);
        for cut in 0..good.len() {
            stage.say(aki.flow, &good[..cut]);
        }
        assert_eq!(stage.to_clients, [], "a piece of a message is none");
        for _ in 0..4000 {
            let mut bad = good.clone();
            let place = chance.next() as usize % bad.len();
            bad[place] ^= 1 + (chance.next() % 255) as u8;
            stage.say(aki.flow, &bad);
        }
        stage.to_clients.clear();
    }
    // Nothing but what was signed counted.
    let id = stage.opened[0];
    stage.peer_says(id, "8.8.8.8:5", b"hello");
    assert_eq!((stage.to_clients.len(), stage.server.allocations(), stage.closed.len()), (0, 1, 0));
}

#[test]
fn attributes_of_any_length_and_order_are_read_or_refused() {
    let mut stage = Stage::new(&Settings::default());
    let (stranger, mut chance) = (Client::new(1, "x").flow, Chance(3));
    let methods = [
        METHOD_BINDING,
        METHOD_ALLOCATE,
        METHOD_REFRESH,
        METHOD_CREATE_PERMISSION,
        METHOD_CHANNEL_BIND,
        METHOD_SEND,
    ];
    let known = [ATTR_MESSAGE_INTEGRITY, ATTR_USERNAME, ATTR_REALM, ATTR_NONCE, ATTR_DATA];
    for _ in 0..20_000 {
        let mut message = Message::new();
        let method = methods[chance.next() as usize % methods.len()];
        let class = if chance.next() % 4 == 0 { CLASS_INDICATION } else { CLASS_REQUEST };
        message.build(&[Box::new(MessageType::new(method, class)), Box::new(TransactionId::new())]).unwrap();
        for _ in 0..chance.next() % 8 {
            let kind = match chance.next() % 2 {
                0 => known[chance.next() as usize % known.len()],
                _ => AttrType((chance.next() % 0x30) as u16),
            };
            message.add(kind, &chance.bytes(40));
        }
        stage.say(stranger, &message.raw);
    }
    assert_eq!((stage.server.allocations(), stage.to_peers.len()), (0, 0));
    assert!(
        stage.to_clients.iter().all(|(_, answer)| answer.len() < 300),
        "no answer is much larger than what asked for it"
    );
}

#[test]
fn a_signature_of_another_length_or_place_is_refused() {
    let mut stage = Stage::new(&Settings::default());
    let mut aki = Client::new(1, "aki");
    aki.allocate(&mut stage).unwrap();
    for length in [0, 1, 19, 21, 32] {
        let mut message = Message::new();
        let text = |kind, text: &str| raw(kind, text.as_bytes());
        message
            .build(&[
                Box::new(MessageType::new(METHOD_REFRESH, CLASS_REQUEST)),
                Box::new(TransactionId::new()),
                raw(ATTR_MESSAGE_INTEGRITY, &vec![0; length]),
                text(ATTR_USERNAME, &aki.name),
                text(ATTR_REALM, &aki.realm),
                text(ATTR_NONCE, &aki.nonce),
            ])
            .unwrap();
        stage.say(aki.flow, &message.raw);
        assert_eq!(support::outcome(&stage.answer().unwrap()), Err(400), "{length}");
    }
}

#[test]
fn what_stands_behind_a_signature_does_not_count() {
    let mut stage = Stage::new(&Settings::default());
    let mut aki = Client::new(1, "aki");
    let id = aki.allocate(&mut stage).unwrap();
    let signed = aki.sign(&stage, METHOD_CREATE_PERMISSION, vec![peer("8.8.8.8:5")]);
    let mut message = Message::new();
    message.unmarshal_binary(&signed).unwrap();
    peer("8.8.4.4:5").add_to(&mut message).unwrap();
    stage.say(aki.flow, &message.raw);
    stage.to_clients.clear();
    stage.peer_says(id, "8.8.4.4:5", b"smuggled in");
    assert_eq!(stage.to_clients, []);
}

#[test]
fn a_stream_holds_one_message_at_most() {
    let mut chance = Chance(4);
    for _ in 0..2000 {
        let mut deframer = Deframer::default();
        let mut held = 0;
        for _ in 0..100 {
            let bytes = chance.bytes(3000);
            deframer.push(&bytes);
            held += bytes.len();
            loop {
                match deframer.next_message() {
                    Ok(Some(message)) => held -= message.len(),
                    Ok(None) => break,
                    Err(_) => {
                        held = 0;
                        deframer = Deframer::default();
                    }
                }
            }
            assert!(held <= MAX_MESSAGE + 3 * 100, "{held}");
        }
    }
}
