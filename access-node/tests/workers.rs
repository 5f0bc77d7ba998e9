//! A room of which transports are on several workers of a process: all is as if they were on one.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kaigi_access_node::{node::Limits, sdp::Kind};
use kaigi_proto::{
    ids::{SessionId, TransportId},
    v1,
};
use rtc_rtcp::{
    payload_feedbacks::picture_loss_indication::PictureLossIndication, sender_report::SenderReport,
    transport_feedbacks::transport_layer_nack::TransportLayerNack,
};
use support::{world::*, *};

const LIMITS: Limits = Limits { transports: 400, sessions: 8, links: 1000 };

/// A publisher on the first of so many workers and subscribers in turn on all, of whom the first is on the second worker.
fn room(workers: u16, subscribers: usize) -> World {
    let mut world = World::with_workers(workers, LIMITS);
    world.add_publisher();
    for _ in 0..subscribers {
        world.add_subscriber();
    }
    world
}

/// Source of what a client is sent on an m-line.
fn ssrc(world: &World, client: usize, line: usize) -> u32 {
    world.clients[client].1.answer.ssrcs[line][0]
}

/// The last bytes of the video packets that a client got since the last time.
fn video(world: &mut World, client: usize) -> Vec<u8> {
    let ssrc = ssrc(world, client, 1);
    let packets = world.clients[client].1.take_rtp(ssrc);
    packets.iter().map(|(header, plain)| *header.payload(plain).last().unwrap()).collect()
}

fn transport(client: usize) -> TransportId {
    TransportId::new(World::transport(client)).unwrap()
}

fn stats(world: &mut World, client: usize) -> v1::TransportStats {
    let (now, id) = (world.now, transport(client));
    world.node_of(client).stats(now, std::time::SystemTime::UNIX_EPOCH, &[id]).remove(0)
}

fn takers(world: &mut World) -> Vec<u32> {
    let mut tracks = stats(world, 0).sessions.remove(0).tracks;
    tracks.sort_by_key(|track| track.mid.clone());
    tracks.iter().map(|track| track.takers).collect()
}

/// Nothing is left but what the publisher has.
fn assert_only_publication(world: &mut World) {
    assert_eq!(world.node.streams(), (2, 0));
    for other in &mut world.others {
        assert_eq!((other.transports(), other.streams()), (0, (0, 0)));
    }
}

#[test]
fn a_track_crosses_once_for_all_subscribers_on_another_worker() {
    let mut world = room(2, 40);
    world.media(0, 1, &vp8(true, 1), 3000);
    world.media(0, 1, &vp8(false, 2), 3000);
    world.media(0, 0, &[3], 960);
    assert_eq!(world.crossed, 3);
    for client in 1..=40 {
        assert_eq!(video(&mut world, client), [1, 2], "client {client}");
        let sound = ssrc(&world, client, 0);
        let sound = world.clients[client].1.take_rtp(sound);
        assert_eq!(sound.len(), 1);
        // The level of the sound crosses too.
        assert_eq!(sound[0].0.extension(&sound[0].1, 1), Some(&[0x91][..]), "client {client}");
    }
    assert_eq!(takers(&mut world), [40, 40]);
}

#[test]
fn each_of_several_workers_gets_what_it_wants_and_no_more() {
    let mut world = room(4, 3);
    world.media(0, 1, &vp8(true, 1), 3000);
    assert_eq!(world.crossed, 3);
    let now = world.now;
    world.node_of(2).close_transport(now, &transport(2));
    world.settle();
    world.media(0, 1, &vp8(false, 2), 3000);
    assert_eq!(world.crossed, 5);
    assert_eq!([1, 2, 3].map(|client| video(&mut world, client)), [vec![1, 2], vec![1], vec![1, 2]]);
}

#[test]
fn who_comes_later_costs_the_publisher_one_key_frame_wherever_he_is() {
    let mut world = room(2, 2);
    world.media(0, 1, &vp8(true, 1), 3000);
    world.pass(Duration::from_secs(5));
    world.key_frame_requests(0);
    for _ in 0..100 {
        world.add_subscriber();
    }
    assert_eq!(world.key_frame_requests(0), 1);
    world.pass(Duration::from_millis(999));
    assert_eq!(world.key_frame_requests(0), 1);
    world.media(0, 1, &vp8(true, 2), 3000);
    for client in 3..=102 {
        assert_eq!(video(&mut world, client), [2], "client {client}");
    }
    world.pass(Duration::from_secs(3));
    assert_eq!(world.key_frame_requests(0), 0);
}

#[test]
fn a_subscribers_requests_reach_the_publisher() {
    let mut world = room(2, 1);
    world.media(0, 1, &vp8(true, 1), 3000);
    world.pass(Duration::from_secs(2));
    world.key_frame_requests(0);
    let media_ssrc = ssrc(&world, 1, 1);
    world.send_rtcp(1, &[Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc })]);
    assert_eq!(world.key_frame_requests(0), 1);
    // What is lost on the way to the subscriber is there on its own worker.
    let sent = world.clients[1].1.take_rtp(media_ssrc).remove(0).0.sequence;
    let crossed = world.crossed;
    let nacks =
        rtc_rtcp::transport_feedbacks::transport_layer_nack::nack_pairs_from_sequence_numbers(&[sent]);
    world.send_rtcp(1, &[Box::new(TransportLayerNack { sender_ssrc: 1, media_ssrc, nacks })]);
    let rtx = world.clients[1].1.answer.ssrcs[1][1];
    assert_eq!(world.clients[1].1.take_rtp(rtx).len(), 1);
    assert_eq!(world.crossed, crossed);
}

#[test]
fn packets_that_found_no_room_in_a_ring_are_repaired() {
    let mut world = room(2, 1);
    world.media(0, 1, &vp8(true, 1), 3000);
    let mut count = 0;
    world.loses_crossings = Box::new(move || {
        count += 1;
        (3..6).contains(&count)
    });
    for number in 2..20 {
        world.media(0, 1, &vp8(false, number), 3000);
        world.pass(Duration::from_millis(33));
    }
    let mut got = video(&mut world, 1);
    got.sort_unstable();
    assert_eq!(got, (1..20).collect::<Vec<_>>());
    let nacks = world.rtcp(0).iter().filter(|p| p.as_any().is::<TransportLayerNack>()).count();
    assert_eq!(nacks, 0, "the publisher has nothing to do with it");
}

#[test]
fn mute_and_pause_work_across_workers() {
    let mut world = room(2, 2);
    world.media(0, 1, &vp8(true, 1), 3000);
    let publication = SessionId::new("publication0").unwrap();
    let now = world.now;
    world.node.set_active(now, &transport(0), &publication, Kind::Video, false).unwrap();
    world.media(0, 1, &vp8(false, 2), 3000);
    world.pass(Duration::from_secs(3));
    let now = world.now;
    world.key_frame_requests(0);
    world.node.set_active(now, &transport(0), &publication, Kind::Video, true).unwrap();
    world.settle();
    assert_eq!(world.key_frame_requests(0), 1);
    world.media(0, 1, &vp8(true, 3), 3000);
    assert_eq!([1, 2].map(|client| video(&mut world, client)), [[1, 3], [1, 3]]);
    let subscription = SessionId::new("subscription1").unwrap();
    let now = world.now;
    world.node_of(1).set_active(now, &transport(1), &subscription, Kind::Video, false).unwrap();
    world.media(0, 1, &vp8(false, 4), 3000);
    let now = world.now;
    world.node_of(1).set_active(now, &transport(1), &subscription, Kind::Video, true).unwrap();
    world.settle();
    world.media(0, 1, &vp8(true, 5), 3000);
    assert_eq!([1, 2].map(|client| video(&mut world, client)), [vec![5], vec![4, 5]]);
}

#[test]
fn what_is_subscribed_before_it_is_published_comes_when_it_is() {
    let mut world = World::with_workers(2, LIMITS);
    world.client();
    // The subscriptions name what client 0 is going to publish.
    world.add_subscriber();
    world.pass(Duration::from_secs(20));
    let (audio, video_line) =
        (world.clients[0].1.add("audio", Way::Send), world.clients[0].1.add("video", Way::Send));
    let tracks = [(&audio[..], v1::MediaKind::Audio), (&video_line[..], v1::MediaKind::Video)];
    world.publish(0, "publication0", &tracks).unwrap();
    world.negotiate(0);
    world.connect(0);
    world.media(0, 1, &vp8(true, 1), 3000);
    assert_eq!(video(&mut world, 1), [1]);
    // And again after it was gone.
    world.node.close_session(&transport(0), &SessionId::new("publication0").unwrap());
    world.clients[0].1.lines.iter_mut().for_each(|line| line.way = Way::Inactive);
    world.negotiate(0);
    world.clients[0].1.lines.iter_mut().for_each(|line| line.way = Way::Send);
    world.publish(0, "again0", &tracks).unwrap();
    world.negotiate(0);
    world.media(0, 1, &vp8(true, 2), 3000);
    assert_eq!(video(&mut world, 1), [2]);
}

#[test]
fn senders_reports_cross() {
    let mut world = room(2, 1);
    world.media(0, 1, &vp8(true, 1), 3000);
    let line = world.clients[0].1.lines[1].ssrc;
    let report = SenderReport { ssrc: line, ntp_time: 1 << 40, rtp_time: 53_000, ..Default::default() };
    world.send_rtcp(0, &[Box::new(report)]);
    world.pass(Duration::from_secs(2));
    let media = ssrc(&world, 1, 1);
    let reports = world.rtcp(1);
    let mut sent = reports.iter().filter_map(|packet| packet.as_any().downcast_ref::<SenderReport>());
    let report = sent.find(|report| report.ssrc == media).unwrap();
    let after = report.ntp_time - (1 << 40);
    assert!(after < 3 << 32, "{after}");
}

#[test]
fn three_hundred_leave_at_once_and_the_others_see_no_gap() {
    let mut world = room(2, 310);
    world.media(0, 1, &vp8(true, 1), 3000);
    let staying = [1, 2, 309, 310];
    world.key_frame_requests(0);
    let now = world.now;
    for client in (1..=310).filter(|client| !staying.contains(client)) {
        world.node_of(client).close_transport(now, &transport(client));
    }
    world.media(0, 1, &vp8(false, 2), 3000);
    world.settle();
    world.media(0, 1, &vp8(false, 3), 3000);
    assert_eq!(takers(&mut world), [4, 4]);
    for client in staying {
        let ssrc = ssrc(&world, client, 1);
        let packets = world.clients[client].1.take_rtp(ssrc);
        let sequences: Vec<_> = packets.iter().map(|(header, _)| header.sequence).collect();
        assert_eq!(sequences.len(), 3, "client {client}");
        assert!(sequences.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "client {client}");
    }
    assert_eq!(world.key_frame_requests(0), 0);
    let now = world.now;
    for client in staying {
        world.node_of(client).close_transport(now, &transport(client));
    }
    world.settle();
    assert_only_publication(&mut world);
}

#[test]
fn a_publisher_that_vanishes_leaves_nothing_and_others_go_on() {
    let mut world = room(3, 6);
    // One more publisher, on the second worker, whom all get in place of the first.
    let second = world.client();
    let line = world.clients[second].1.add("video", Way::Send);
    world.publish(second, "second", &[(&line, v1::MediaKind::Video)]).unwrap();
    world.negotiate(second);
    world.connect(second);
    world.media(0, 1, &vp8(true, 1), 3000);
    let to = kaigi_access_node::node::request::source(
        Some(source(&format!("{}-0", World::transport(second)), "vp8")),
        Kind::Video,
    )
    .unwrap();
    for client in 1..=6 {
        let now = world.now;
        let session = SessionId::new(format!("subscription{client}")).unwrap();
        world.node_of(client).set_source(now, &transport(client), &session, Kind::Video, to.clone()).unwrap();
    }
    world.settle();
    // The old source goes on until the new one's key frame.
    world.media(0, 1, &vp8(false, 2), 3000);
    let now = world.now;
    world.node.close_transport(now, &transport(0));
    world.settle();
    world.media(second, 0, &vp8(true, 3), 3000);
    world.media(second, 0, &vp8(false, 4), 3000);
    for client in 1..=6 {
        let ssrc = ssrc(&world, client, 1);
        let packets = world.clients[client].1.take_rtp(ssrc);
        let numbers: Vec<_> = packets.iter().map(|(h, plain)| *h.payload(plain).last().unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3, 4], "client {client}");
        assert!(packets.windows(2).all(|p| p[1].0.sequence == p[0].0.sequence.wrapping_add(1)));
    }
    for client in 1..=second {
        let now = world.now;
        world.node_of(client).close_transport(now, &transport(client));
        world.settle();
    }
    for place in 0..3 {
        assert_eq!((world.node_at(place).transports(), world.node_at(place).streams()), (0, (0, 0)));
    }
}
