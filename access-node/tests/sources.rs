//! What a subscription may be sent, and where it comes from: choice of formats, sources named later, changes of the source.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kaigi_access_node::{
    node::{LinkCall, NodeError, request},
    sdp::Kind,
};
use kaigi_proto::{
    ids::{SessionId, TransportId},
    v1::{self, access_event::Event},
};
use support::{world::*, *};

/// A track of `formats` in whose order the client's or their own decides.
fn choice(
    mid: &str,
    kind: v1::MediaKind,
    from: Option<v1::TrackSource>,
    formats: &[&str],
    client_order: bool,
) -> v1::SubscriptionTrack {
    v1::SubscriptionTrack {
        kind: kind.into(),
        mid: mid.into(),
        source: from,
        formats: formats.iter().map(|codec| format(codec)).collect(),
        client_order,
        ..Default::default()
    }
}

/// A client that subscribes video of one of the formats.
fn subscriber(
    world: &mut World,
    from: Option<v1::TrackSource>,
    formats: &[&str],
    client_order: bool,
) -> usize {
    let client = world.client();
    let mid = world.clients[client].1.add("video", Way::Receive);
    let track = choice(&mid, v1::MediaKind::Video, from, formats, client_order);
    world.subscribe_to(client, &format!("subscription{client}"), vec![track]).unwrap();
    world.negotiate(client);
    world.connect(client);
    client
}

/// Track and codec that the agent is told.
fn told(world: &World, session: &str) -> Vec<(String, String)> {
    let established = world.events.iter().find_map(|(_, _, event)| match event {
        Event::SessionEstablished(established) if established.session_id == session => Some(established),
        _ => None,
    });
    let tracks = established.expect("it is established").tracks.iter();
    tracks.map(|t| (t.track_id.clone(), t.format.clone().unwrap().codec)).collect()
}

fn set_source(world: &mut World, client: usize, to: v1::TrackSource) -> Result<(), NodeError> {
    let transport = TransportId::new(World::transport(client)).unwrap();
    let session = SessionId::new(format!("subscription{client}")).unwrap();
    let to = request::source(Some(to), Kind::Video).unwrap();
    let result = world.node.set_source(world.now, &transport, &session, Kind::Video, to);
    world.settle();
    result
}

/// The numbers of the pictures that a subscriber got since the last time.
fn got(world: &mut World, client: usize) -> Vec<u8> {
    let ssrc = world.clients[client].1.answer.ssrcs[0][0];
    let received = world.clients[client].1.take_rtp(ssrc);
    received.iter().map(|(header, packet)| *header.payload(packet).last().unwrap()).collect()
}

#[test]
fn the_first_of_the_formats_goes_before_the_clients_order_or_does_not() {
    // The client offers VP8, H.264, VP9.
    let table = [
        (&["vp9", "av1", "vp8"][..], false, "vp9", "a=rtpmap:98 VP9/90000"),
        (&["av1", "vp9", "vp8"], false, "vp8", "a=rtpmap:96 VP8/90000"),
        (&["av1", "vp9", "h264"], true, "h264", "a=rtpmap:102 H264/90000"),
    ];
    let mut world = World::new();
    world.add_publisher();
    for (formats, client_order, taken, line) in table {
        let client = subscriber(&mut world, None, formats, client_order);
        let expected = [("".to_owned(), taken.to_owned())];
        assert_eq!(told(&world, &format!("subscription{client}")), expected, "{formats:?}");
        assert!(world.clients[client].1.answer.text.contains(line));
    }
}

#[test]
fn a_source_of_another_format_than_the_negotiated_one_does_not_flow() {
    let mut world = World::new();
    world.add_publisher();
    let client = subscriber(&mut world, Some(source("transport0-1", "vp8")), &["vp9", "vp8"], false);
    assert_eq!(told(&world, "subscription1"), [("".to_owned(), "vp9".to_owned())]);
    world.media(0, 1, &vp8(true, 1), 3000);
    assert!(got(&mut world, client).is_empty());
    assert_eq!(
        set_source(&mut world, client, source("transport0-1", "vp8")),
        Err(NodeError::OtherFormat),
        "nor can it be named later"
    );
    assert_eq!(
        tonic::Status::from(NodeError::OtherFormat).code(),
        tonic::Code::FailedPrecondition,
        "the agent can tell"
    );
    let other = subscriber(&mut world, Some(source("transport0-1", "vp8")), &["vp9", "vp8"], true);
    assert_eq!(told(&world, "subscription2"), [("transport0-1".to_owned(), "vp8".to_owned())]);
    world.media(0, 1, &vp8(true, 2), 3000);
    assert_eq!((got(&mut world, client), got(&mut world, other)), (vec![], vec![2]));
}

#[test]
fn a_source_may_be_named_before_or_after_the_negotiation() {
    let mut world = World::new();
    world.add_publisher();
    let after = subscriber(&mut world, None, &["vp8"], false);
    world.media(0, 1, &vp8(true, 1), 3000);
    assert!(got(&mut world, after).is_empty());
    set_source(&mut world, after, source("transport0-1", "vp8")).unwrap();
    world.media(0, 1, &vp8(true, 2), 3000);
    assert_eq!(got(&mut world, after), [2]);

    let before = world.client();
    let mid = world.clients[before].1.add("video", Way::Receive);
    let track = choice(&mid, v1::MediaKind::Video, None, &["vp8", "h264"], true);
    world.subscribe_to(before, "subscription2", vec![track]).unwrap();
    assert_eq!(set_source(&mut world, before, source("transport0-1", "vp9")), Err(NodeError::OtherFormat));
    set_source(&mut world, before, source("transport0-1", "vp8")).unwrap();
    world.negotiate(before);
    world.connect(before);
    assert_eq!(told(&world, "subscription2"), [("transport0-1".to_owned(), "vp8".to_owned())]);
    world.media(0, 1, &vp8(true, 3), 3000);
    assert_eq!(got(&mut world, before), [3]);
}

#[test]
fn without_a_common_format_the_session_fails_and_is_never_established() {
    let mut world = World::new();
    let client = world.client();
    let audio = world.clients[client].1.add("audio", Way::Receive);
    let video = world.clients[client].1.add("video", Way::Receive);
    let track = choice(&audio, v1::MediaKind::Audio, None, &["ilbc", "isac"], true);
    world.subscribe_to(client, "sound", vec![track]).unwrap();
    let track = choice(&video, v1::MediaKind::Video, Some(source("t", "vp8")), &["h265", "av1"], false);
    world.subscribe_to(client, "picture", vec![track]).unwrap();
    world.negotiate(client);
    world.connect(client);
    let failures: Vec<_> = world
        .events
        .iter()
        .filter_map(|(_, _, event)| match event {
            Event::SessionFailed(error) => Some((error.session_id.as_str(), error.reason.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(failures, [("sound", "No proper audio codec"), ("picture", "No proper video codec")]);
    assert!(world.established().is_empty());
    let nothing = choice("7", v1::MediaKind::Video, None, &[], false);
    assert!(matches!(world.subscribe_to(client, "nothing", vec![nothing]), Err(NodeError::Invalid(_))));
}

/// A VP8 picture with a 15-bit id and TL0PICIDX.
fn numbered(key_frame: bool, id: u16, base: u8, number: u8) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let mut payload =
        vec![0x90, 0xe0, high | 0x80, low, base, 0x20, u8::from(!key_frame), 0, 0, 0x9d, 1, 0x2a];
    payload.extend_from_slice(&[0x80, 2, 0xe0, 1, number]);
    payload
}

#[test]
fn the_old_source_goes_on_until_the_new_one_can_be_joined() {
    let mut world = World::new();
    world.add_publisher();
    let client = subscriber(&mut world, Some(source("transport0-1", "vp8")), &[], false);
    let other = world.add_publisher();
    world.media(0, 1, &numbered(true, 0x7ffe, 255, 1), 3000);
    set_source(&mut world, client, source("transport2-1", "vp8")).unwrap();
    assert_eq!(world.key_frame_requests(other), 1);
    world.now += Duration::from_millis(100);
    world.media(other, 1, &numbered(false, 5, 9, 100), 3000);
    world.media(0, 1, &numbered(false, 0x7fff, 255, 2), 3000);
    world.media(other, 1, &numbered(true, 6, 10, 101), 3000);
    world.media(0, 1, &numbered(false, 0, 0, 3), 3000);
    world.media(other, 1, &numbered(false, 7, 11, 102), 3000);
    let ssrc = world.clients[client].1.answer.ssrcs[0][0];
    let received = world.clients[client].1.take_rtp(ssrc);
    let first = received[0].0;
    let seen: Vec<_> = received
        .iter()
        .map(|(header, packet)| {
            let payload = header.payload(packet);
            let id = u16::from_be_bytes([payload[2], payload[3]]) & 0x7fff;
            (*payload.last().unwrap(), header.sequence.wrapping_sub(first.sequence), id, payload[4])
        })
        .collect();
    assert_eq!(
        seen,
        [(1, 0, 0x7ffe, 255), (2, 1, 0x7fff, 255), (101, 2, 0, 0), (102, 3, 1, 1)],
        "sequence numbers and picture ids go on"
    );
    let timestamps: Vec<_> =
        received.iter().map(|(h, _)| h.timestamp.wrapping_sub(first.timestamp)).collect();
    assert_eq!(timestamps, [0, 3000, 3001, 6001], "and so does time");
    let nack = rtc_rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: ssrc,
        nacks: rtc_rtcp::transport_feedbacks::transport_layer_nack::nack_pairs_from_sequence_numbers(&[
            received[2].0.sequence,
        ]),
    };
    world.send_rtcp(client, &[Box::new(nack)]);
    let rtx = world.clients[client].1.answer.ssrcs[0][1];
    let again = world.clients[client].1.take_rtp(rtx);
    assert_eq!(
        again[0].0.payload(&again[0].1)[2..],
        *received[2].0.payload(&received[2].1),
        "what is sent again is what was sent"
    );
}

#[test]
fn a_switch_that_can_not_wait_does_not() {
    let mut world = World::new();
    world.add_publisher();
    let client = subscriber(&mut world, Some(source("transport0-1", "vp8")), &[], false);
    let other = world.add_publisher();
    world.media(0, 1, &vp8(true, 1), 3000);
    // The new one is muted: the old one's picture would stay for ever.
    let (transport, session) =
        (TransportId::new("transport2").unwrap(), SessionId::new("publication2").unwrap());
    world.node.set_active(world.now, &transport, &session, Kind::Video, false).unwrap();
    set_source(&mut world, client, source("transport2-1", "vp8")).unwrap();
    world.media(0, 1, &vp8(true, 2), 3000);
    assert_eq!(got(&mut world, client), [1]);
    world.node.set_active(world.now, &transport, &session, Kind::Video, true).unwrap();
    world.media(other, 1, &vp8(true, 3), 3000);
    assert_eq!(got(&mut world, client), [3]);
    // It is muted while it is waited for.
    set_source(&mut world, client, source("transport0-1", "vp8")).unwrap();
    world.media(other, 1, &vp8(false, 4), 3000);
    let (first, publication) =
        (TransportId::new("transport0").unwrap(), SessionId::new("publication0").unwrap());
    world.node.set_active(world.now, &first, &publication, Kind::Video, false).unwrap();
    world.media(other, 1, &vp8(false, 5), 3000);
    assert_eq!(got(&mut world, client), [4]);
    // The subscriber pauses while it waits, and comes back.
    world.node.set_active(world.now, &first, &publication, Kind::Video, true).unwrap();
    world.media(0, 1, &vp8(true, 6), 3000);
    set_source(&mut world, client, source("transport2-1", "vp8")).unwrap();
    let (transport, session) =
        (TransportId::new("transport1").unwrap(), SessionId::new("subscription1").unwrap());
    for active in [false, true] {
        world.node.set_active(world.now, &transport, &session, Kind::Video, active).unwrap();
    }
    world.media(0, 1, &vp8(true, 7), 3000);
    world.media(other, 1, &vp8(true, 8), 3000);
    assert_eq!(got(&mut world, client), [6, 8]);
}

#[test]
fn changing_ones_mind_and_leaving_in_between_leave_nothing_behind() {
    let mut world = World::new();
    world.add_publisher();
    let client = subscriber(&mut world, Some(source("transport0-1", "vp8")), &[], false);
    world.add_publisher();
    world.media(0, 1, &vp8(true, 1), 3000);
    let elsewhere = |track: &str| v1::TrackSource { worker_id: "access-2".into(), ..source(track, "vp8") };
    let streams = world.node.streams();
    set_source(&mut world, client, elsewhere("far-1")).unwrap();
    set_source(&mut world, client, elsewhere("far-2")).unwrap();
    assert_eq!(world.node.streams(), (streams.0 + 1, streams.1), "only the last is waited for");
    let calls = std::mem::take(&mut world.node.output().calls);
    assert!(
        matches!(&calls[..], [LinkCall::Attach { .. }, LinkCall::Attach { .. }, LinkCall::Detach { .. }]),
        "{calls:?}"
    );
    set_source(&mut world, client, source("transport0-1", "vp8")).unwrap();
    assert_eq!(world.node.streams(), streams);
    world.media(0, 1, &vp8(false, 2), 3000);
    assert_eq!(got(&mut world, client), [1, 2], "as if nothing had been");
    set_source(&mut world, client, elsewhere("far-1")).unwrap();
    let (transport, session) =
        (TransportId::new("transport1").unwrap(), SessionId::new("subscription1").unwrap());
    world.node.close_session(&transport, &session);
    assert_eq!(world.node.streams(), (streams.0, streams.1 - 1));
}

#[test]
fn a_subscription_that_ends_before_the_publication_is_negotiated_takes_nothing_with_it() {
    let mut world = World::new();
    let publisher = world.client();
    let mid = world.clients[publisher].1.add("video", Way::Send);
    world.publish(publisher, "publication0", &[(&mid, v1::MediaKind::Video)]).unwrap();
    subscriber(&mut world, Some(source("transport0-0", "vp8")), &[], false);
    let (transport, session) =
        (TransportId::new("transport1").unwrap(), SessionId::new("subscription1").unwrap());
    world.node.close_session(&transport, &session);
    world.negotiate(publisher);
    world.connect(publisher);
    let late = subscriber(&mut world, Some(source("transport0-0", "vp8")), &[], false);
    world.media(publisher, 0, &vp8(true, 1), 3000);
    assert_eq!(got(&mut world, late), [1]);
}
