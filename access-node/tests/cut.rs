//! Encoders cut a frame into packets of about one size. To subscribers they leave in one size, by padding, so that the kernel can take them
//! together; nothing else of them changes.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kaigi_media::rtp::RtpHeader;
use rtc_rtcp::{
    sender_report::SenderReport,
    transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
};
use support::{world::*, *};

/// Lengths of a frame's payloads as Chromium cuts it, and as GStreamer does.
const EVEN: [usize; 5] = [700, 700, 701, 701, 701];
const FULL: [usize; 3] = [1100, 1100, 300];

/// Publishes a frame of packets of those lengths; the payloads.
fn publish(world: &mut World, frame: u8, lengths: &[usize]) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    for (at, length) in lengths.iter().enumerate() {
        let mut payload = if at == 0 { vp8(frame == 0, frame) } else { vec![0, frame, at as u8] };
        payload.resize(*length, frame.wrapping_add(at as u8));
        world.clients[0].1.frame_goes_on = at + 1 < lengths.len();
        world.media(0, 1, &payload, if at == 0 { 3000 } else { 0 });
        payloads.push(payload);
    }
    world.pass(Duration::from_millis(33));
    payloads
}

fn received(world: &mut World, source: usize) -> Vec<(RtpHeader, Vec<u8>)> {
    let ssrc = world.clients[1].1.answer.ssrcs[1][source];
    world.clients[1].1.take_rtp(ssrc)
}

fn payloads(packets: &[(RtpHeader, Vec<u8>)]) -> Vec<Vec<u8>> {
    packets.iter().map(|(header, packet)| header.payload(packet).to_vec()).collect()
}

fn sizes(packets: &[(RtpHeader, Vec<u8>)]) -> Vec<usize> {
    packets.iter().map(|(_, packet)| packet.len()).collect()
}

#[test]
fn the_packets_of_a_frame_leave_in_one_size_with_what_they_carried() {
    let mut world = World::conference();
    publish(&mut world, 0, &EVEN);
    received(&mut world, 0);
    for frame in 1..100 {
        let sent = publish(&mut world, frame, &EVEN);
        let received = received(&mut world, 0);
        assert_eq!(payloads(&received), sent);
        let sizes = sizes(&received);
        assert!(sizes.iter().all(|size| *size == sizes[0]), "frame {frame}: {sizes:?}");
    }
}

#[test]
fn frames_that_are_cut_into_full_packets_are_not_padded() {
    let mut world = World::conference();
    for frame in 0..10 {
        let sent = publish(&mut world, frame, &FULL);
        let received = received(&mut world, 0);
        assert_eq!(payloads(&received), sent);
        assert!(received.iter().all(|(_, packet)| packet[0] & 0x20 == 0));
    }
}

#[test]
fn retransmissions_carry_no_padding() {
    let mut world = World::conference();
    publish(&mut world, 0, &EVEN);
    received(&mut world, 0);
    let sent = publish(&mut world, 1, &EVEN);
    let first = received(&mut world, 0).first().unwrap().0.sequence;
    let nack = TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: world.clients[1].1.answer.ssrcs[1][0],
        nacks: nack_pairs_from_sequence_numbers(&[first, first.wrapping_add(1)]),
    };
    world.send_rtcp(1, &[Box::new(nack)]);
    let again = received(&mut world, 1);
    let number = |at: u16| first.wrapping_add(at).to_be_bytes().to_vec();
    assert_eq!(
        payloads(&again),
        [[number(0), sent[0].clone()].concat(), [number(1), sent[1].clone()].concat()]
    );
    assert!(again.iter().all(|(_, packet)| packet[0] & 0x20 == 0));
}

#[test]
fn what_is_counted_is_what_was_carried() {
    let mut world = World::conference();
    let mut sent = 0;
    for frame in 0..40 {
        sent += publish(&mut world, frame, &EVEN).iter().map(Vec::len).sum::<usize>();
    }
    let report =
        SenderReport { ssrc: world.clients[0].1.lines[1].ssrc, ntp_time: 7 << 32, ..Default::default() };
    world.send_rtcp(0, &[Box::new(report)]);
    world.pass(Duration::from_secs(2));
    let reports = world.rtcp(1);
    let mut octets = reports
        .iter()
        .filter_map(|packet| packet.as_any().downcast_ref::<SenderReport>())
        .map(|r| r.octet_count);
    assert_eq!(octets.next_back(), Some(sent as u32));
}
