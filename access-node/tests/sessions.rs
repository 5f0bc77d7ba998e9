//! Sessions of clients, and what is refused.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kaigi_access_node::{node::NodeError, sdp::Offer};
use kaigi_proto::{
    ids::{SessionId, TransportId, WorkerId},
    v1::{self, access_event::Event},
};
use support::{world::*, *};

#[test]
fn later_offers_add_sessions_and_ended_ones_become_inactive() {
    let mut world = World::conference();
    let first = world.clients[1].1.answer.clone();
    let mid = world.clients[1].1.add("audio", Way::Send);
    world.publish(1, "publication1", &[(&mid, v1::MediaKind::Audio)]).unwrap();
    world.negotiate(1);
    assert_eq!(world.established().last().unwrap(), "publication1");
    let second = world.clients[1].1.answer.clone();
    assert_eq!(second.directions, ["sendonly", "sendonly", "recvonly"]);
    assert_eq!(
        (second.ssrcs[0].clone(), second.ssrcs[1].clone()),
        (first.ssrcs[0].clone(), first.ssrcs[1].clone())
    );
    assert_eq!((second.ufrag, second.password), (first.ufrag, first.password));
    let (transport, session) =
        (TransportId::new("transport1").unwrap(), SessionId::new("subscription1").unwrap());
    world.node.close_session(&transport, &session);
    world.negotiate(1);
    assert_eq!(world.clients[1].1.answer.directions, ["inactive", "inactive", "recvonly"]);
    world.media(0, 1, &vp8(true, 0), 3000);
    assert!(world.clients[1].1.take_rtp(first.ssrcs[1][0]).is_empty());
}

#[test]
fn a_session_that_can_not_be_fails_and_the_offer_is_answered() {
    let mut world = World::new();
    let client = world.client();
    let mid = world.clients[client].1.add("video", Way::Receive);
    world
        .subscribe(client, "subscription0", &[(&mid, v1::MediaKind::Video, source("track", "av1"))])
        .unwrap();
    let audio = world.clients[client].1.add("audio", Way::Receive);
    world.publish(client, "publication0", &[(&audio, v1::MediaKind::Audio)]).unwrap();
    world.negotiate(client);
    assert_eq!(world.clients[client].1.answer.directions, ["inactive", "inactive"]);
    let reasons: Vec<_> = world
        .events
        .iter()
        .filter_map(|(_, _, event)| match event {
            Event::SessionFailed(error) => Some((error.session_id.as_str(), error.reason.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(
        reasons,
        [("subscription0", "No proper video codec"), ("publication0", "m-line 1 does not send"),]
    );
    world.connect(client);
    assert!(world.established().is_empty());
}

/// Clients of protocol 1.0 and 1.1 have a transport for each session and call its m-lines "0" and "1".
#[test]
fn old_clients_m_lines_are_found_by_kind() {
    let mut world = World::new();
    let publisher = world.client();
    world.clients[publisher].1.mid_prefix = "browser-";
    world.clients[publisher].1.add("audio", Way::Send);
    world.clients[publisher].1.add("video", Way::Send);
    let asked = [("0", v1::MediaKind::Audio), ("1", v1::MediaKind::Video)];
    world.publish(publisher, "publication0", &asked).unwrap();
    world.negotiate(publisher);
    world.connect(publisher);
    let both = [
        ("0", v1::MediaKind::Audio, source("transport0-0", "opus")),
        ("1", v1::MediaKind::Video, source("transport0-1", "vp8")),
    ];
    // Sound first, picture first, picture alone.
    let orders: [&[&str]; 3] = [&["audio", "video"], &["video", "audio"], &["video"]];
    for (kinds, prefix) in orders.into_iter().zip(["sdparta_", "", "v"]) {
        let client = world.client();
        world.clients[client].1.mid_prefix = prefix;
        for kind in kinds {
            world.clients[client].1.add(kind, Way::Receive);
        }
        let alone = [("0", v1::MediaKind::Video, source("transport0-1", "vp8"))];
        let asked = if kinds.len() == 2 { &both[..] } else { &alone[..] };
        world.subscribe(client, &format!("subscription{client}"), asked).unwrap();
        world.negotiate(client);
        world.connect(client);
        // Again, as browsers do for all sorts of reasons.
        world.negotiate(client);
        assert_eq!(world.clients[client].1.answer.directions, vec!["sendonly"; kinds.len()]);
        world.media(publisher, 0, b"sound", 960);
        world.media(publisher, 1, &vp8(true, 1), 3000);
        for (line, kind) in kinds.iter().enumerate() {
            let ssrc = world.clients[client].1.answer.ssrcs[line][0];
            let received = world.clients[client].1.take_rtp(ssrc);
            assert_eq!(received.len(), 1, "{kind}");
            let payload = received[0].0.payload(&received[0].1).to_vec();
            assert_eq!(payload, if *kind == "audio" { b"sound".to_vec() } else { vp8(true, 1) });
        }
    }
    assert_eq!(world.established(), ["publication0", "subscription1", "subscription2", "subscription3"]);
    let told = world.events.iter().find_map(|(_, _, event)| match event {
        Event::SessionEstablished(e) if e.session_id == "subscription2" => Some(e.clone()),
        _ => None,
    });
    let told: Vec<_> = told.unwrap().tracks.into_iter().map(|t| (t.mid, t.track_id)).collect();
    assert_eq!(told, [("0", "transport0-0"), ("1", "transport0-1")].map(|(m, t)| (m.into(), t.into())));
}

#[test]
fn an_older_epoch_is_refused_and_a_newer_one_takes_over() {
    let mut world = World::conference();
    world.events.clear();
    world.epoch = 0;
    assert_eq!(world.publish(0, "late", &[("7", v1::MediaKind::Audio)]), Err(NodeError::OldEpoch(1)));
    (world.epoch, world.agent) = (2, "conference-2".to_owned());
    let tracks = [("0", v1::MediaKind::Audio), ("1", v1::MediaKind::Video)];
    world.publish(0, "publication0", &tracks).unwrap();
    world.settle();
    let told: Vec<_> =
        world.events.iter().map(|(agent, transport, _)| (agent.as_str(), transport.as_str())).collect();
    assert_eq!(told, [("conference-2", "transport0")]);
    assert_eq!(world.established(), ["publication0"]);
    world.publish(0, "publication0", &tracks).unwrap();
    world.settle();
    assert_eq!(world.events.len(), 1, "saying it again changes nothing");
    let old = WorkerId::new("conference-1").unwrap();
    world.node.close_agent(world.now, &old);
    assert_eq!(world.node.transports(), 2, "the old agent has no room any more");
    world.node.close_agent(world.now, &WorkerId::new("conference-2").unwrap());
    assert_eq!((world.node.transports(), world.node.streams()), (0, (0, 0)));
}

#[test]
fn a_client_that_is_gone_is_noticed() {
    let mut world = World::conference();
    for _ in 0..10 {
        world.pass(Duration::from_secs(5));
        let check = world.clients[0].1.check();
        world.send(0, &check);
    }
    let failed: Vec<_> = world
        .events
        .iter()
        .filter_map(|(_, transport, e)| match e {
            Event::TransportFailed(reason) => Some((transport.as_str(), reason.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(failed, [("transport1", "connection lost")]);
    assert!(world.clients[1].1.is_closed && !world.clients[0].1.is_closed);
    assert_eq!(world.node.transports(), 1);
}

#[test]
fn limits_hold() {
    let mut world = World::new();
    for client in 0..4 {
        world.publish(client, "publication", &[("0", v1::MediaKind::Audio)]).unwrap();
    }
    let more = world.publish(4, "publication", &[("0", v1::MediaKind::Audio)]);
    assert_eq!(more, Err(NodeError::TooMany("transports")));
    for session in 1..8 {
        world.publish(0, &format!("s{session}"), &[(&session.to_string(), v1::MediaKind::Audio)]).unwrap();
    }
    let more = world.publish(0, "s8", &[("8", v1::MediaKind::Audio)]);
    assert_eq!(more, Err(NodeError::TooMany("sessions")));
    assert_eq!(world.publish(1, "other", &[("0", v1::MediaKind::Audio)]), Err(NodeError::InUse("mid")));
    assert_eq!(
        world.publish(1, "publication", &[("1", v1::MediaKind::Audio)]),
        Err(NodeError::InUse("session"))
    );
    let unknown = TransportId::new("nobody").unwrap();
    let offer = Offer::parse(&{
        let mut client = Client::new();
        client.add("audio", Way::Send);
        client.offer()
    })
    .unwrap();
    assert_eq!(world.node.offer(world.now, &unknown, &offer), Err(NodeError::UnknownTransport));
}
