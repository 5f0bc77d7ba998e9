//! ICE restart (RFC 8445 §9): a client whose network changed goes on with all that it has.

#![allow(clippy::unwrap_used)]

mod support;

use std::{net::SocketAddr, time::Duration};

use kaigi_access_node::transport::{CONSENT_TIMEOUT, ConnectionId, Path, Peer, RESTART_GRACE};
use kaigi_proto::v1::{self, access_event::Event};
use rtc_rtcp::receiver_report::ReceiverReport;
use support::{world::*, *};

/// The numbers of the pictures that the subscriber (client 1) got since the last time.
fn got(world: &mut World) -> Vec<u8> {
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    let received = world.clients[1].1.take_rtp(ssrc);
    received.iter().map(|(header, packet)| header.payload(packet)[20]).collect()
}

fn udp(address: SocketAddr) -> Path {
    Path { peer: Peer { address, tcp: None }, local: None }
}

/// A datagram of a client from elsewhere than its address; whether it was answered there.
fn send_from(world: &mut World, path: Path, datagram: &[u8]) -> bool {
    world.node.handle_datagram(world.now, path, datagram);
    let answered = world.node.output().datagrams.iter().any(|to| to.path.peer == path.peer);
    world.settle();
    answered
}

/// Offers with new credentials and takes the answer.
fn restart(world: &mut World, client: usize) {
    world.clients[client].1.ice += 1;
    world.negotiate(client);
}

fn failures(world: &World) -> Vec<&str> {
    let reason = |(_, _, event): &'_ (String, String, Event)| matches!(event, Event::TransportFailed(_));
    world.events.iter().filter(|event| reason(event)).map(|(_, transport, _)| transport.as_str()).collect()
}

#[test]
fn all_goes_on_while_the_client_moves() {
    let mut world = World::conference();
    world.media(0, 1, &vp8(true, 1), 3000);
    assert_eq!(got(&mut world), [1]);
    let before = world.clients[1].1.answer.clone();
    let events = world.events.len();
    restart(&mut world, 1);
    let after = world.clients[1].1.answer.clone();
    assert_ne!((&before.ufrag, &before.password), (&after.ufrag, &after.password));
    assert_eq!(before.ssrcs, after.ssrcs);
    assert_eq!(before.directions, after.directions);
    let credentials = |text: &str| text.matches(&format!("a=ice-ufrag:{}\r\n", after.ufrag)).count();
    assert_eq!(
        (credentials(&after.text), after.candidates.len()),
        (2, 2),
        "on each m-line, with all candidates"
    );

    world.media(0, 1, &vp8(false, 2), 3000);
    assert_eq!(got(&mut world), [2], "on the old way");
    let elsewhere = udp(address("203.0.113.5:9000"));
    let check = world.clients[1].1.check_by(&after, false);
    assert!(send_from(&mut world, elsewhere, &check));
    world.media(0, 1, &vp8(false, 3), 3000);
    assert_eq!(got(&mut world), [3], "nothing is nominated yet");
    world.clients[1].1.ice -= 1;
    let old = world.clients[1].1.check_by(&before, true);
    let here = udp(world.clients[1].0);
    assert!(send_from(&mut world, here, &old), "the old credentials hold");

    world.clients[1].1.ice += 1;
    world.clients[1].0 = elsewhere.peer.address;
    let check = world.clients[1].1.check_by(&after, true);
    assert!(send_from(&mut world, elsewhere, &check));
    world.media(0, 1, &vp8(false, 4), 3000);
    assert_eq!(got(&mut world), [4], "on the new way, with the same keys and numbers");
    assert!(!send_from(&mut world, here, &old), "the old credentials are dropped");
    assert_eq!(world.events.len(), events, "nothing is established anew");
    assert_eq!(world.node.counters().ice_restarts, 1);

    // The offer after that is none.
    world.negotiate(1);
    assert_eq!(world.clients[1].1.answer.ufrag, after.ufrag);
}

#[test]
fn a_publisher_moves_to_tcp_and_back() {
    let mut world = World::conference();
    let home = world.clients[0].0;
    world.media(0, 1, &vp8(true, 1), 3000);
    restart(&mut world, 0);
    let tcp = Path { peer: Peer { address: home, tcp: Some(ConnectionId(7)) }, local: None };
    let check = world.clients[0].1.check();
    assert!(send_from(&mut world, tcp, &check));
    let packet = world.clients[0].1.media(1, &vp8(false, 2), 3000, 0);
    send_from(&mut world, tcp, &packet);
    assert_eq!(got(&mut world), [1, 2]);
    restart(&mut world, 0);
    world.node.path_closed(&tcp);
    world.clients[0].0 = address("203.0.113.5:9000");
    let check = world.clients[0].1.check();
    world.send(0, &check);
    world.media(0, 1, &vp8(false, 3), 3000);
    assert_eq!(got(&mut world), [3]);
    assert_eq!(world.key_frame_requests(0), 1, "what is sent to the publisher finds it too");
}

#[test]
fn a_client_that_comes_back_in_time_goes_on_and_is_sent_nothing_meanwhile() {
    let mut world = World::conference();
    world.media(0, 1, &vp8(true, 1), 3000);
    got(&mut world);
    let stay = |world: &mut World, time: Duration| {
        let end = world.now + time;
        while world.now < end {
            world.pass(Duration::from_secs(5));
            let check = world.clients[0].1.check();
            world.send(0, &check);
        }
    };
    stay(&mut world, CONSENT_TIMEOUT - Duration::from_secs(5));
    world.media(0, 1, &vp8(false, 2), 3000);
    assert_eq!(got(&mut world), [2], "consent lasts 30 s");
    stay(&mut world, Duration::from_secs(10));
    world.media(0, 1, &vp8(false, 3), 3000);
    assert!(got(&mut world).is_empty(), "and no longer");
    restart(&mut world, 1);
    world.clients[1].0 = address("203.0.113.5:9000");
    let check = world.clients[1].1.check();
    world.send(1, &check);
    world.media(0, 1, &vp8(false, 4), 3000);
    assert_eq!(got(&mut world), [4]);
    assert!(failures(&world).is_empty());
    stay(&mut world, CONSENT_TIMEOUT + RESTART_GRACE + Duration::from_secs(5));
    assert_eq!(failures(&world), ["transport1"], "whoever does not come back is gone");
}

#[test]
fn a_client_that_checks_its_way_no_more_is_there_as_long_as_its_packets_come() {
    let mut world = World::conference();
    world.media(0, 1, &vp8(true, 1), 3000);
    let forever = 2 * (CONSENT_TIMEOUT + RESTART_GRACE);
    let end = world.now + forever;
    let mut sent = 1;
    while world.now < end {
        world.pass(Duration::from_secs(5));
        sent += 1;
        // The publisher's packets, and reports of the subscriber.
        world.media(0, 1, &vp8(false, sent), 3000);
        world.send_rtcp(1, &[Box::new(ReceiverReport::default())]);
    }
    assert!(failures(&world).is_empty());
    assert_eq!(got(&mut world), (1..=sent).collect::<Vec<_>>());

    // What somebody else sends once more from there shows nothing.
    let packet = world.clients[0].1.media(1, &vp8(false, sent + 1), 3000, 0);
    let end = world.now + CONSENT_TIMEOUT + RESTART_GRACE + Duration::from_secs(5);
    while world.now < end {
        world.pass(Duration::from_secs(5));
        world.send(0, &packet);
    }
    assert!(failures(&world).contains(&"transport0"));
}

#[test]
fn restarts_in_a_row_pile_nothing_up() {
    let mut world = World::conference();
    world.media(0, 1, &vp8(true, 1), 3000);
    let mut answers = vec![world.clients[1].1.answer.clone()];
    for _ in 0..100 {
        restart(&mut world, 1);
        answers.push(world.clients[1].1.answer.clone());
    }
    world.media(0, 1, &vp8(false, 2), 3000);
    assert_eq!(got(&mut world), [1, 2], "the way that was nominated is used until another is");
    let here = udp(world.clients[1].0);
    let valid: Vec<usize> = (0..answers.len())
        .filter(|at| {
            let check = world.clients[1].1.check_by(&answers[*at], false);
            send_from(&mut world, here, &check)
        })
        .collect();
    assert_eq!(valid, [0, 100], "the nominated and the newest credentials hold, no others");
}

#[test]
fn a_restart_before_the_first_check_and_one_with_more_m_lines() {
    let mut world = World::new();
    let client = world.client();
    let mid = world.clients[client].1.add("audio", Way::Send);
    world.publish(client, "publication0", &[(&mid, v1::MediaKind::Audio)]).unwrap();
    world.negotiate(client);
    restart(&mut world, client);
    world.connect(client);
    assert_eq!(world.established(), ["publication0"]);
    let mid = world.clients[client].1.add("audio", Way::Receive);
    let tracks = [(&mid[..], v1::MediaKind::Audio, source("transport0-0", "opus"))];
    world.subscribe(client, "subscription0", &tracks).unwrap();
    restart(&mut world, client);
    assert_eq!(world.established(), ["publication0", "subscription0"]);
    let ssrc = world.clients[client].1.answer.ssrcs[1][0];
    world.media(client, 0, b"sound", 960);
    assert_eq!(world.clients[client].1.take_rtp(ssrc).len(), 1);
}
