//! What is counted: of tracks that clients publish, of streams that they are sent, and of the way to them.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, SystemTime};

use kaigi_access_node::{node::request, sdp::Kind};
use kaigi_proto::{
    ids::{SessionId, TransportId},
    v1,
};
use rtc_rtcp::{
    extended_report::{DLRRReport, DLRRReportBlock, ExtendedReport, ReceiverReferenceTimeReportBlock},
    payload_feedbacks::{
        full_intra_request::{FirEntry, FullIntraRequest},
        picture_loss_indication::PictureLossIndication,
    },
    receiver_report::ReceiverReport,
    reception_report::ReceptionReport,
    sender_report::SenderReport,
    transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers},
};
use support::{world::*, *};

const FRAME: Duration = Duration::from_millis(40);

fn stats(world: &mut World, client: usize) -> v1::TransportStats {
    let id = TransportId::new(World::transport(client)).unwrap();
    let unknown = TransportId::new("nobody").unwrap();
    let mut told =
        world.node.stats(world.now, SystemTime::UNIX_EPOCH + Duration::from_secs(9), &[unknown, id]);
    assert_eq!(told.len(), 1, "those that are not here are left out");
    told.remove(0)
}

fn track(world: &mut World, client: usize, kind: v1::MediaKind) -> v1::TrackStats {
    let told = stats(world, client);
    let mut tracks = told.sessions.into_iter().flat_map(|session| session.tracks);
    tracks.find(|track| track.kind() == kind).unwrap()
}

fn video(world: &mut World, client: usize) -> v1::TrackStats {
    track(world, client, v1::MediaKind::Video)
}

/// Pictures of two packets, 25 a second; the first is a key frame of 640×480. Those of `lost` never arrive.
fn play(world: &mut World, frames: u8, lost: &[u8]) {
    for n in 0..frames {
        for (half, step) in [3600, 0].into_iter().enumerate() {
            let mut payload = vp8(n == 0 && half == 0, n);
            payload.resize(500, n);
            let packet = world.clients[0].1.media(1, &payload, step, 0);
            if half == 0 || !lost.contains(&n) {
                world.send(0, &packet);
            }
        }
        world.pass(FRAME);
    }
}

fn whys(track: &v1::TrackStats) -> Vec<&str> {
    track.choices.iter().map(|choice| choice.why.as_str()).collect()
}

fn pause(world: &mut World, client: usize, session: &str, active: bool) {
    let transport = TransportId::new(World::transport(client)).unwrap();
    let session = SessionId::new(session).unwrap();
    world.node.set_active(world.now, &transport, &session, Kind::Video, active).unwrap();
    world.settle();
}

#[test]
fn what_comes_in_and_goes_out_is_counted() {
    let mut world = World::conference();
    play(&mut world, 75, &[]);
    let published = video(&mut world, 0);
    assert_eq!((published.track_id.as_str(), published.mid.as_str()), ("transport0-1", "1"));
    assert_eq!((published.packets, published.frames, published.key_frames), (150, 75, 1));
    assert_eq!(published.resolution, Some(v1::Resolution { width: 640, height: 480 }));
    assert_eq!((published.takers, published.flowing, published.packets_lost), (1, true, 0));
    // 12 bytes of header, and what the extensions take.
    let per_packet = published.bytes / 150;
    assert!((512..540).contains(&per_packet), "{per_packet}");
    let expected = (per_packet * 8 * 50) as f64;
    assert!((published.bitrate as f64 / expected - 1.0).abs() < 0.1, "{} of {expected}", published.bitrate);
    assert!((published.frame_rate - 25.0).abs() < 2.0, "{}", published.frame_rate);
    assert!(published.plis > 0, "a key frame was asked for");

    let sent = video(&mut world, 1);
    assert_eq!((sent.track_id.as_str(), sent.mid.as_str()), ("transport0-1", "1"));
    assert_eq!((sent.packets, sent.frames, sent.key_frames, sent.flowing), (150, 75, 1, true));
    assert_eq!((sent.resolution, sent.limit()), (published.resolution, v1::Limit::None));
    assert!((sent.frame_rate - 25.0).abs() < 2.0);
    let silent = track(&mut world, 0, v1::MediaKind::Audio);
    assert_eq!((silent.packets, silent.flowing, silent.takers), (0, false, 1));
    assert_eq!(track(&mut world, 1, v1::MediaKind::Audio).limit(), v1::Limit::Source);

    world.pass(Duration::from_secs(3));
    let published = video(&mut world, 0);
    assert_eq!((published.packets, published.bitrate, published.flowing), (150, 0, false));
    assert_eq!(video(&mut world, 1).limit(), v1::Limit::Source);
}

#[test]
fn losses_on_the_way_in_are_counted_and_asked_for() {
    let mut world = World::conference();
    play(&mut world, 50, &[3, 4, 30]);
    world.pass(Duration::from_secs(1));
    let published = video(&mut world, 0);
    assert_eq!((published.packets, published.packets_lost, published.frames), (97, 3, 50));
    assert!(published.nacks >= 3, "{}", published.nacks);
    assert_eq!(video(&mut world, 1).packets, 97);
}

#[test]
fn losses_on_the_way_out_are_the_clients_to_tell() {
    let mut world = World::conference();
    play(&mut world, 25, &[]);
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    let received = world.clients[1].1.take_rtp(ssrc);
    let missing: Vec<u16> = received[10..13].iter().map(|(header, _)| header.sequence).collect();
    let nack = TransportLayerNack {
        sender_ssrc: 1,
        media_ssrc: ssrc,
        nacks: nack_pairs_from_sequence_numbers(&missing),
    };
    let fir =
        FullIntraRequest { sender_ssrc: 1, media_ssrc: 0, fir: vec![FirEntry { ssrc, sequence_number: 1 }] };
    let report = |ssrc, total_lost| ReceiverReport {
        ssrc: 1,
        reports: vec![ReceptionReport {
            ssrc,
            fraction_lost: 64,
            total_lost,
            jitter: 900,
            ..Default::default()
        }],
        ..Default::default()
    };
    let rtx = world.clients[1].1.answer.ssrcs[1][1];
    world.send_rtcp(
        1,
        &[
            Box::new(report(ssrc, 3)),
            Box::new(report(rtx, 99)),
            Box::new(nack),
            Box::new(fir),
            Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc }),
            Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: ssrc }),
        ],
    );
    let sent = video(&mut world, 1);
    assert_eq!((sent.packets_lost, sent.fraction_lost, sent.jitter_us), (3, 0.25, 10_000));
    assert_eq!((sent.nacks, sent.retransmitted, sent.plis, sent.firs), (3, 3, 2, 1));
    assert_eq!((sent.packets, sent.frames), (53, 25), "a packet that is sent again is no new picture");
}

#[test]
fn the_round_trip_to_a_subscriber_is_known_from_its_reports() {
    let mut world = World::conference();
    let report =
        SenderReport { ssrc: world.clients[0].1.lines[1].ssrc, ntp_time: 77 << 32, ..Default::default() };
    play(&mut world, 5, &[]);
    world.send_rtcp(0, &[Box::new(report)]);
    assert_eq!(stats(&mut world, 1).rtt_us, 0, "not measured yet");
    world.pass(Duration::from_secs(2));
    let ssrc = world.clients[1].1.answer.ssrcs[1][0];
    let packets = world.rtcp(1);
    let mut reports = packets.iter().filter_map(|p| p.as_any().downcast_ref::<SenderReport>());
    let last = reports.rfind(|report| report.ssrc == ssrc).unwrap();
    let reference = (last.ntp_time >> 16) as u32;
    // How long ago it went out is not known here: within the second.
    let answer = |delay| ReceiverReport {
        ssrc: 1,
        reports: vec![ReceptionReport { ssrc, last_sender_report: reference, delay, ..Default::default() }],
        ..Default::default()
    };
    world.send_rtcp(1, &[Box::new(answer(0))]);
    let since = stats(&mut world, 1).rtt_us;
    world.pass(Duration::from_millis(300));
    world.send_rtcp(1, &[Box::new(answer(0x4000))]);
    assert!(
        stats(&mut world, 1).rtt_us.abs_diff(since + 50_000) < 100,
        "250 of the 300 ms were the client's"
    );
    world.send_rtcp(1, &[Box::new(answer(u32::MAX))]);
    assert!(stats(&mut world, 1).rtt_us.abs_diff(since + 50_000) < 100, "nonsense changes nothing");
}

#[test]
fn the_round_trip_to_a_publisher_is_known_from_its_answers_to_reference_times() {
    let mut world = World::conference();
    play(&mut world, 30, &[]);
    let packets = world.rtcp(0);
    let extended =
        packets.iter().filter_map(|p| p.as_any().downcast_ref::<ExtendedReport>()).next_back().unwrap();
    let block = extended.reports[0].as_any().downcast_ref::<ReceiverReferenceTimeReportBlock>().unwrap();
    let dlrr = |ssrc| {
        let last_rr = (block.ntp_timestamp >> 16) as u32;
        let reports = vec![DLRRReport { ssrc, last_rr, dlrr: 0 }];
        ExtendedReport { sender_ssrc: 1, reports: vec![Box::new(DLRRReportBlock { reports })] }
    };
    world.send_rtcp(0, &[Box::new(dlrr(extended.sender_ssrc ^ 1))]);
    assert_eq!(stats(&mut world, 0).rtt_us, 0, "another's");
    world.send_rtcp(0, &[Box::new(dlrr(extended.sender_ssrc))]);
    let rtt = stats(&mut world, 0).rtt_us;
    assert!((1..1_000_000).contains(&rtt), "{rtt}");
}

#[test]
fn what_was_chosen_is_remembered_with_its_reasons() {
    let mut world = World::conference();
    play(&mut world, 5, &[]);
    let sent = video(&mut world, 1);
    assert_eq!(whys(&sent), ["source set, waits for a key frame", "key frame came"]);
    assert!(
        sent.choices
            .iter()
            .all(|choice| choice.track_id == "transport0-1" && choice.limit() == v1::Limit::None)
    );
    assert_eq!(sent.choices[1].time_ms, 9000 - 200, "five frames ago");

    pause(&mut world, 1, "subscription1", false);
    let paused = video(&mut world, 1);
    assert_eq!((paused.limit(), paused.track_id.as_str()), (v1::Limit::Paused, ""));
    let last = paused.choices.last().unwrap();
    assert_eq!((last.why.as_str(), last.limit(), last.track_id.as_str()), ("paused", v1::Limit::Paused, ""));
    pause(&mut world, 1, "subscription1", true);
    play(&mut world, 5, &[]);
    pause(&mut world, 0, "publication0", false);
    assert_eq!(video(&mut world, 1).limit(), v1::Limit::Source);
    assert!(!video(&mut world, 0).flowing);
    pause(&mut world, 0, "publication0", true);
    play(&mut world, 5, &[]);
    let expected = [
        "source set, waits for a key frame",
        "key frame came",
        "paused",
        "resumed, waits for a key frame",
        "key frame came",
        "source is paused",
        "source is resumed, waits for a key frame",
        "key frame came",
    ];
    assert_eq!(whys(&video(&mut world, 1)), expected);

    world.pass(Duration::from_secs(5));
    play(&mut world, 30, &[]);
    let sent = video(&mut world, 1);
    let last: Vec<_> =
        sent.choices[8..].iter().map(|c| (c.why.as_str(), c.limit(), &c.track_id[..])).collect();
    let expected = [
        ("source sends nothing", v1::Limit::Source, ""),
        ("source sends again", v1::Limit::None, "transport0-1"),
    ];
    assert_eq!(last, expected);
    for _ in 0..20 {
        pause(&mut world, 1, "subscription1", false);
        pause(&mut world, 1, "subscription1", true);
    }
    assert_eq!(video(&mut world, 1).choices.len(), 16);
}

#[test]
fn a_change_of_the_source_is_told_with_both_names() {
    let mut world = World::conference();
    play(&mut world, 5, &[]);
    let third = world.add_publisher();
    let (transport, session) =
        (TransportId::new(World::transport(1)).unwrap(), SessionId::new("subscription1").unwrap());
    let to = request::source(Some(source("transport2-1", "vp8")), Kind::Video).unwrap();
    world.node.set_source(world.now, &transport, &session, Kind::Video, to).unwrap();
    world.settle();
    assert_eq!(video(&mut world, 1).track_id, "transport0-1", "until the new one's key frame");
    world.media(third, 1, &vp8(true, 9), 3000);
    let sent = video(&mut world, 1);
    assert_eq!(sent.track_id, "transport2-1");
    let last: Vec<_> = sent.choices[2..].iter().map(|c| (c.why.as_str(), &c.track_id[..])).collect();
    assert_eq!(
        last,
        [("source set, waits for a key frame", "transport2-1"), ("key frame came", "transport2-1")]
    );
    assert_eq!((sent.packets, video(&mut world, 0).takers, video(&mut world, third).takers), (11, 0, 1));
}

#[test]
fn each_layer_is_counted_by_itself() {
    let mut world = World::new();
    let client = world.client();
    let mid = world.clients[client].1.add("video", Way::Send);
    world.clients[client].1.lines[0].layers = vec!["q", "h"];
    world.publish(client, "publication0", &[(&mid, v1::MediaKind::Video)]).unwrap();
    world.negotiate(client);
    world.connect(client);
    let told = stats(&mut world, client);
    let layers: Vec<_> = told.sessions[0]
        .tracks
        .iter()
        .map(|t| (t.rid.as_str(), t.track_id.as_str(), t.mid.as_str()))
        .collect();
    assert_eq!(layers, [("q", "transport0-0:q", "0"), ("h", "transport0-0:h", "0")]);
}

#[test]
fn what_is_not_negotiated_yet_flows_nowhere() {
    let mut world = World::new();
    let client = world.client();
    let mid = world.clients[client].1.add("video", Way::Receive);
    let sources = [(&mid[..], v1::MediaKind::Video, source("transport0-1", "vp8"))];
    world.subscribe(client, "subscription0", &sources).unwrap();
    let told = video(&mut world, client);
    assert_eq!((told.packets, told.limit(), told.mid.as_str()), (0, v1::Limit::Source, "0"));
    pause(&mut world, client, "subscription0", false);
    assert_eq!(video(&mut world, client).limit(), v1::Limit::Paused);
}
