//! What clients get, what they are refused, and when it ends, on virtual time.
#![allow(clippy::unwrap_used, reason = "a failing test says where")]

mod support;

use std::time::Duration;

use kaigi_turn_server::core::{Bitrate, Flow, Limits};
use rtc_stun::{
    attributes::{
        ATTR_DATA, ATTR_DONT_FRAGMENT, ATTR_EVEN_PORT, ATTR_NONCE, ATTR_REALM, ATTR_REQUESTED_ADDRESS_FAMILY,
        ATTR_REQUESTED_TRANSPORT, ATTR_UNKNOWN_ATTRIBUTES,
    },
    message::{
        BINDING_REQUEST, CLASS_INDICATION, CLASS_REQUEST, Getter, METHOD_ALLOCATE, METHOD_REFRESH,
        METHOD_SEND, Message, MessageType, TransactionId,
    },
    textattrs::TextAttribute,
    xoraddr::XorMappedAddress,
};
use rtc_turn::proto::{lifetime::Lifetime, relayaddr::RelayedAddress};
use support::{BEGIN, Client, Settings, Stage, at, channel, lifetime, outcome, peer, raw, udp};

fn stage() -> Stage {
    Stage::new(&Settings::default())
}

fn limited(change: impl Fn(&mut Limits)) -> Stage {
    let mut settings = Settings::default();
    change(&mut settings.limits);
    Stage::new(&settings)
}

fn seconds(answer: &Message) -> u64 {
    let mut lifetime = Lifetime::default();
    lifetime.get_from(answer).unwrap();
    lifetime.0.as_secs()
}

#[test]
fn anybody_is_told_his_own_address() {
    let mut stage = stage();
    let mut request = Message::new();
    request.build(&[Box::new(BINDING_REQUEST), Box::new(TransactionId::new())]).unwrap();
    stage.say(Client::new(5, "aki").flow, &request.raw);
    let answer = stage.answer().unwrap();
    let mut mapped = XorMappedAddress::default();
    mapped.get_from(&answer).unwrap();
    assert_eq!((mapped.ip, mapped.port), (at("192.0.2.1:5").ip(), 5));
    assert_eq!(answer.transaction_id, request.transaction_id);
}

#[test]
fn who_asks_without_credentials_is_told_the_realm_and_a_nonce() {
    let mut stage = stage();
    let mut request = Message::new();
    let kind = MessageType::new(METHOD_ALLOCATE, CLASS_REQUEST);
    request.build(&[Box::new(kind), Box::new(TransactionId::new()), udp()]).unwrap();
    stage.say(Client::new(5, "aki").flow, &request.raw);
    let answer = stage.answer().unwrap();
    assert_eq!(outcome(&answer), Err(401));
    assert_eq!(TextAttribute::get_from_as(&answer, ATTR_REALM).unwrap().text, support::REALM);
    assert!(TextAttribute::get_from_as(&answer, ATTR_NONCE).is_ok());
    assert_eq!((stage.server.allocations(), stage.server.counters().refused.len()), (0, 0));
}

#[test]
fn credentials_are_good_until_their_end() {
    let mut stage = stage();
    assert!(Client::new(1, "aki").allocate(&mut stage).is_ok());
    assert_eq!(Client::new(2, &format!("{BEGIN}:over")).allocate(&mut stage), Err(401));
    assert_eq!(Client::new(3, "no:time").allocate(&mut stage), Err(401));
    let mut wrong = Client::new(4, "ben");
    wrong.password = "guessed".to_owned();
    assert_eq!(wrong.allocate(&mut stage), Err(401));
    let mut elsewhere = Client::new(5, "cho");
    elsewhere.realm = "example.org".to_owned();
    assert_eq!(elsewhere.allocate(&mut stage), Err(401));
    assert_eq!((stage.server.allocations(), stage.server.counters().refused[&401]), (1, 4));
}

#[test]
fn who_has_an_allocation_keeps_it_though_his_credentials_end() {
    let mut stage = stage();
    let mut aki = Client::new(1, &format!("{}:aki", BEGIN + 60));
    aki.allocate(&mut stage).unwrap();
    stage.after(100);
    assert!(aki.refresh(&mut stage).is_ok());
    aki.permit(&mut stage, || vec![peer("8.8.8.8:5")]).unwrap();
    assert_eq!(Client { flow: Client::new(2, "x").flow, ..aki }.allocate(&mut stage), Err(401));
}

#[test]
fn an_old_nonce_is_replaced() {
    let mut stage = stage();
    let mut aki = Client::new(1, &format!("{}:aki", BEGIN + 100_000));
    aki.allocate(&mut stage).unwrap();
    for _ in 0..8 {
        stage.after(500);
        aki.refresh(&mut stage).unwrap();
    }
    let old = aki.nonce.clone();
    stage.after(590);
    aki.refresh(&mut stage).unwrap();
    stage.after(3500);
    assert_ne!(aki.refresh(&mut stage).map(drop), Ok(()), "it has ended by then");
    aki.allocate(&mut stage).unwrap();
    assert_ne!(aki.nonce, old);
}

#[test]
fn an_allocation_is_told_and_ends_when_it_is_not_refreshed() {
    let mut stage = stage();
    let mut aki = Client::new(1, &format!("{}:aki", BEGIN + 100_000));
    let answer = aki.ask(&mut stage, METHOD_ALLOCATE, || vec![udp(), lifetime(60)]).unwrap();
    let mut relayed = RelayedAddress::default();
    relayed.get_from(&answer).unwrap();
    assert_eq!((relayed.ip, relayed.port), (at("203.0.113.7:1").ip(), 61_000));
    assert_eq!(seconds(&answer), 600, "not less than ten minutes");
    stage.after(599);
    assert_eq!(
        seconds(&aki.ask(&mut stage, METHOD_REFRESH, || vec![lifetime(100_000)]).unwrap()),
        3600,
        "not more than the limit"
    );
    stage.after(3599);
    assert_eq!(stage.server.allocations(), 1);
    stage.after(2);
    assert_eq!((stage.server.allocations(), stage.closed.len()), (0, 1));
    assert_eq!(aki.refresh(&mut stage).unwrap_err(), 437);
}

#[test]
fn an_allocation_ends_when_it_is_given_up_or_its_connection_is_closed() {
    let mut stage = stage();
    let mut aki = Client::new(1, "aki");
    aki.allocate(&mut stage).unwrap();
    assert_eq!(seconds(&aki.ask(&mut stage, METHOD_REFRESH, || vec![lifetime(0)]).unwrap()), 0);
    let mut ben = Client::by_stream(1, "ben");
    ben.allocate(&mut stage).unwrap();
    stage.server.handle_closed(ben.flow);
    stage.put_out();
    assert_eq!((stage.server.allocations(), stage.closed.len()), (0, 2));
}

#[test]
fn a_request_that_is_repeated_is_answered_again_and_another_one_is_not() {
    let mut stage = stage();
    let mut aki = Client::new(1, "aki");
    aki.transaction = Some(TransactionId::new());
    aki.allocate(&mut stage).unwrap();
    aki.allocate(&mut stage).unwrap();
    assert_eq!((stage.opened.len(), stage.server.allocations()), (1, 1));
    aki.transaction = None;
    assert_eq!(aki.allocate(&mut stage), Err(437));
    let mut ben = Client { flow: aki.flow, ..Client::new(9, "ben") };
    assert_eq!(ben.refresh(&mut stage).unwrap_err(), 441, "another's allocation");
}

#[test]
fn what_is_not_offered_is_refused() {
    let mut stage = stage();
    let mut aki = Client::new(1, "aki");
    let refused = |aki: &mut Client, stage: &mut Stage, attributes| {
        aki.ask(stage, METHOD_ALLOCATE, attributes).unwrap_err()
    };
    assert_eq!(refused(&mut aki, &mut stage, Vec::new), 400, "no transport");
    assert_eq!(
        refused(&mut aki, &mut stage, || vec![raw(ATTR_REQUESTED_TRANSPORT, &[6, 0, 0, 0])]),
        442,
        "TCP"
    );
    assert_eq!(refused(&mut aki, &mut stage, || vec![udp(), raw(ATTR_EVEN_PORT, &[0x80])]), 508);
    assert_eq!(
        refused(&mut aki, &mut stage, || vec![udp(), raw(ATTR_REQUESTED_ADDRESS_FAMILY, &[2, 0, 0, 0])]),
        440
    );
    assert_eq!(refused(&mut aki, &mut stage, || vec![udp(), raw(ATTR_DONT_FRAGMENT, &[])]), 420);
    let request = aki.sign(&stage, METHOD_ALLOCATE, vec![udp(), raw(ATTR_DONT_FRAGMENT, &[])]);
    stage.say(aki.flow, &request);
    assert_eq!(
        stage.answer().unwrap().get(ATTR_UNKNOWN_ATTRIBUTES).unwrap(),
        ATTR_DONT_FRAGMENT.value().to_be_bytes()
    );
    stage.no_ports = true;
    assert_eq!(aki.allocate(&mut stage), Err(508));
    assert_eq!(stage.server.allocations(), 0);
}

#[test]
fn a_user_and_all_users_have_so_many_allocations_and_no_more() {
    let mut stage = limited(|limits| (limits.allocations_per_user, limits.allocations) = (2, 3));
    for port in [1, 2] {
        Client::new(port, "aki").allocate(&mut stage).unwrap();
    }
    assert_eq!(Client::new(3, "aki").allocate(&mut stage), Err(486));
    let mut ben = Client::new(4, "ben");
    ben.allocate(&mut stage).unwrap();
    assert_eq!(Client::new(5, "cho").allocate(&mut stage), Err(508));
    ben.ask(&mut stage, METHOD_REFRESH, || vec![lifetime(0)]).unwrap();
    Client::new(5, "cho").allocate(&mut stage).unwrap();
}

#[test]
fn a_lifetime_is_as_long_as_the_limit_at_most() {
    let mut stage = limited(|limits| limits.lifetime = Duration::from_secs(120));
    let mut aki = Client::new(1, "aki");
    assert_eq!(seconds(&aki.ask(&mut stage, METHOD_ALLOCATE, || vec![udp()]).unwrap()), 120);
    assert_eq!(seconds(&aki.refresh(&mut stage).unwrap()), 120);
    stage.after(122);
    assert_eq!(stage.server.allocations(), 0);
}

#[test]
fn peers_beyond_the_public_internet_are_refused() {
    let settings = Settings { allow: &["10.1.2.3:5000-5999"], deny: &["9.9.9.0/24"], ..Settings::default() };
    let mut stage = Stage::new(&settings);
    let mut aki = Client::new(1, "aki");
    aki.allocate(&mut stage).unwrap();
    let forbidden: [support::Attributes; 9] = [
        || vec![peer("127.0.0.1:5")],
        || vec![peer("10.0.0.1:5")],
        || vec![peer("192.168.0.1:5")],
        || vec![peer("169.254.169.254:80")],
        || vec![peer("224.0.0.1:5")],
        || vec![peer("198.51.100.9:5")],
        || vec![peer("9.9.9.9:5")],
        || vec![peer("[::1]:5")],
        || vec![peer("8.8.8.8:5"), peer("10.0.0.1:5")],
    ];
    for attributes in forbidden {
        assert_eq!(aki.permit(&mut stage, attributes), Err(403));
    }
    assert_eq!(aki.bind(&mut stage, || vec![channel(0x4000), peer("10.0.0.1:5")]), Err(403));
    assert_eq!(aki.bind(&mut stage, || vec![channel(0x4000), peer("10.1.2.3:22")]), Err(403), "another port");
    aki.bind(&mut stage, || vec![channel(0x4000), peer("10.1.2.3:5000")]).unwrap();
    assert_eq!(stage.server.counters().refused[&403], 11);
    // The permission is the address's; the port is looked at for each datagram.
    for (to, arrives) in
        [("10.1.2.3:5001", true), ("10.1.2.3:22", false), ("10.0.0.1:5", false), ("8.8.8.8:5", false)]
    {
        send(&mut stage, aki.flow, to);
        assert_eq!(stage.to_peers.pop().is_some(), arrives, "{to}");
    }
    assert_eq!(stage.server.counters().not_permitted, 3);
}

fn send(stage: &mut Stage, flow: Flow, to: &str) {
    let mut message = Message::new();
    let kind = MessageType::new(METHOD_SEND, CLASS_INDICATION);
    message
        .build(&[Box::new(kind), Box::new(TransactionId::new()), peer(to), raw(ATTR_DATA, b"hello")])
        .unwrap();
    stage.say(flow, &message.raw);
}

#[test]
fn peers_are_heard_and_sent_to_while_they_are_permitted() {
    let mut stage = stage();
    let mut aki = Client::new(1, "aki");
    let id = aki.allocate(&mut stage).unwrap();
    stage.peer_says(id, "8.8.8.8:5", b"early");
    assert_eq!(stage.to_clients, []);
    aki.permit(&mut stage, || vec![peer("8.8.8.8:0"), peer("8.8.4.4:0")]).unwrap();
    send(&mut stage, aki.flow, "8.8.8.8:5");
    assert_eq!(stage.to_peers.pop(), Some((id, at("8.8.8.8:5"), b"hello".to_vec())));
    stage.peer_says(id, "8.8.4.4:9", b"hi");
    let told = stage.answer().unwrap();
    assert_eq!((told.get(ATTR_DATA).unwrap(), told.typ.class), (b"hi".to_vec(), CLASS_INDICATION));
    stage.after(301);
    send(&mut stage, aki.flow, "8.8.8.8:5");
    stage.peer_says(id, "8.8.4.4:9", b"late");
    assert_eq!((stage.to_peers.len(), stage.to_clients.len()), (0, 0));
}

#[test]
fn a_channel_is_used_both_ways_and_filled_up_in_streams() {
    let mut stage = stage();
    for (mut client, frame) in [
        (Client::new(1, "aki"), vec![0x40, 1, 0, 2, b'h', b'i']),
        (Client::by_stream(1, "ben"), vec![0x40, 1, 0, 2, b'h', b'i', 0, 0]),
    ] {
        let id = client.allocate(&mut stage).unwrap();
        client.bind(&mut stage, || vec![channel(0x4001), peer("8.8.8.8:5")]).unwrap();
        stage.say(client.flow, &[0x40, 1, 0, 3, 1, 2, 3, 0]);
        assert_eq!(stage.to_peers.pop(), Some((id, at("8.8.8.8:5"), vec![1, 2, 3])));
        stage.peer_says(id, "8.8.8.8:5", b"hi");
        assert_eq!(stage.to_clients.pop(), Some((client.flow, frame)));
        stage.say(client.flow, &[0x40, 2, 0, 0]);
        assert_eq!(stage.to_peers, [], "a channel that is not bound");
        assert_eq!(client.bind(&mut stage, || vec![channel(0x3fff), peer("8.8.8.8:5")]), Err(400));
        assert_eq!(client.bind(&mut stage, || vec![channel(0x4001), peer("8.8.8.8:6")]), Err(400));
        assert_eq!(client.bind(&mut stage, || vec![channel(0x4002), peer("[2606:4700::1]:6")]), Err(443));
    }
}

#[test]
fn a_near_peer_is_sent_to_where_it_is_and_heard_under_its_name() {
    let settings = Settings {
        allow: &["203.0.113.8:10000-10003"],
        near: &["203.0.113.8=127.0.0.1"],
        ..Settings::default()
    };
    let mut stage = Stage::new(&settings);
    let mut aki = Client::new(1, "aki");
    let id = aki.allocate(&mut stage).unwrap();
    assert_eq!(aki.permit(&mut stage, || vec![peer("127.0.0.1:10000")]), Err(403));
    aki.bind(&mut stage, || vec![channel(0x4000), peer("203.0.113.8:10000")]).unwrap();
    stage.say(aki.flow, &[0x40, 0, 0, 1, 7]);
    assert_eq!(stage.to_peers.pop(), Some((id, at("127.0.0.1:10000"), vec![7])));
    stage.peer_says(id, "127.0.0.1:10000", b"hi!!");
    assert_eq!(stage.to_clients.pop(), Some((aki.flow, vec![0x40, 0, 0, 4, b'h', b'i', b'!', b'!'])));
    stage.peer_says(id, "127.0.0.1:3000", b"not its port");
    assert_eq!(stage.to_clients, []);
}

#[test]
fn two_users_of_the_server_reach_each_other_without_the_network() {
    let mut stage = stage();
    let (mut aki, mut ben) = (Client::new(1, "aki"), Client::new(2, "ben"));
    aki.allocate(&mut stage).unwrap();
    ben.allocate(&mut stage).unwrap();
    // Though the address is none of the public internet.
    aki.bind(&mut stage, || vec![channel(0x4000), peer("203.0.113.7:61001")]).unwrap();
    stage.say(aki.flow, &[0x40, 0, 0, 1, 7]);
    assert_eq!(stage.to_clients, [], "Ben has not let him in");
    ben.bind(&mut stage, || vec![channel(0x4000), peer("203.0.113.7:61000")]).unwrap();
    stage.say(aki.flow, &[0x40, 0, 0, 1, 7]);
    assert_eq!(stage.to_clients.pop(), Some((ben.flow, vec![0x40, 0, 0, 1, 7])));
    assert_eq!(stage.to_peers, []);
    assert_eq!(aki.bind(&mut stage, || vec![channel(0x4001), peer("203.0.113.7:22")]), Err(403), "no user's");
}

#[test]
fn what_is_beyond_the_rate_is_dropped() {
    let mut stage = limited(|limits| limits.rate = Bitrate(80_000));
    let mut aki = Client::new(1, "aki");
    let id = aki.allocate(&mut stage).unwrap();
    aki.bind(&mut stage, || vec![channel(0x4000), peer("8.8.8.8:5")]).unwrap();
    let datagram = [&[0x40, 0, 0x03, 0xe8][..], &[7; 1000]].concat();
    for _ in 0..100 {
        stage.say(aki.flow, &datagram);
        stage.peer_says(id, "8.8.8.8:5", &[7; 1000]);
    }
    assert_eq!((stage.to_peers.len(), stage.to_clients.len()), (10, 10), "a second's");
    assert_eq!(stage.server.counters().over_rate, 180);
    assert_eq!(
        (stage.server.counters().bytes_to_peers, stage.server.counters().bytes_from_peers),
        (10_000, 10_000)
    );
}

#[test]
fn who_drains_takes_nobody_new() {
    let mut stage = stage();
    let mut aki = Client::new(1, "aki");
    aki.allocate(&mut stage).unwrap();
    stage.server.drain();
    assert_eq!(Client::new(2, "ben").allocate(&mut stage), Err(508));
    assert!(aki.refresh(&mut stage).is_ok());
}
