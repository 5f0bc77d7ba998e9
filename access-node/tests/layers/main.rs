//! Subscriptions with layers: which is sent, on ways that carry more and less.

#![allow(clippy::unwrap_used)]

mod bottleneck;
mod remote;
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod wanted;

use std::time::Duration;

use kaigi_access_node::sdp::Kind;
use kaigi_proto::{
    ids::{SessionId, TransportId},
    v1,
};
use stage::*;
use support::{Way, world::*};

#[test]
fn the_largest_layer_is_sent_where_the_way_carries_it() {
    for workers in [1, 2] {
        let mut stage = Stage::on(workers);
        stage.run(seconds(2));
        let client = stage.subscriber(20e6, None);
        stage.run(seconds(4));
        let shown = stage.shown(client);
        assert_eq!(shown.last(), Some(&2), "{shown:?}");
        assert!(shown.len() <= 3, "{shown:?}");
        stage.run(seconds(60));
        assert_eq!(stage.shown(client), [2]);
    }
}

#[test]
fn a_way_that_becomes_narrow_gets_a_smaller_layer_and_sound_is_not_harmed() {
    for workers in [1, 2] {
        let mut stage = Stage::on(workers);
        stage.run(seconds(2));
        let (narrow, wide) = (stage.subscriber(20e6, None), stage.subscriber(20e6, None));
        stage.run(seconds(6));
        for client in [narrow, wide] {
            stage.shown(client);
        }
        stage.narrow(narrow).capacity = 800_000.0;
        stage.run(seconds(2));
        let shown = stage.shown(narrow);
        assert!(shown[1] < 2 && *shown.last().unwrap() < 2, "{shown:?}");
        stage.run(seconds(2));
        stage.sound.clear();
        let way = stage.narrow(narrow);
        (way.waited, way.dropped) = (Duration::ZERO, 0);
        stage.run(seconds(30));
        let shown = stage.shown(narrow);
        assert!(shown.len() <= 4 && !shown[1..].contains(&2), "{shown:?}");
        assert_eq!(shown.last(), Some(&1));
        let (sound, way) = (stage.sound[&narrow], stage.narrow(narrow));
        assert_eq!(way.dropped, 0);
        assert!(way.waited < Duration::from_millis(200), "{:?}", way.waited);
        assert!(sound >= 1480, "{sound}");
        assert_eq!(stage.shown(wide), [2], "the other does not notice");
        stage.narrow(narrow).capacity = 20e6;
        stage.run(seconds(10));
        let shown = stage.shown(narrow);
        assert_eq!(shown.last(), Some(&2), "{shown:?}");
        stage.run(seconds(60));
        assert_eq!(stage.shown(narrow), [2]);
    }
}

#[test]
fn pictures_pause_where_only_sound_is_carried_and_come_back() {
    for workers in [1, 2] {
        let mut stage = Stage::on(workers);
        stage.run(seconds(2));
        let client = stage.subscriber(20e6, None);
        stage.run(seconds(6));
        stage.narrow(client).capacity = 110_000.0;
        stage.run(seconds(8));
        stage.shown(client);
        stage.sound.clear();
        let way = stage.narrow(client);
        (way.waited, way.dropped) = (Duration::ZERO, 0);
        stage.run(seconds(20));
        let way = stage.narrow(client);
        assert_eq!(way.dropped, 0);
        assert!(way.waited < Duration::from_millis(200), "{:?}", way.waited);
        assert!(stage.sound[&client] >= 990);
        assert!(stage.shown(client).len() <= 1);
        stage.narrow(client).capacity = 20e6;
        stage.run(seconds(10));
        let shown = stage.shown(client);
        assert_eq!(shown.last(), Some(&2), "{shown:?}");
    }
}

#[test]
fn what_is_asked_for_is_the_most_that_is_sent() {
    for workers in [1, 2] {
        let mut stage = Stage::on(workers);
        stage.run(seconds(2));
        let client = stage.subscriber(20e6, Some(wish((320, 240))));
        stage.run(seconds(10));
        assert_eq!(stage.shown(client), [0]);
        stage.wants(client, wish((640, 360)));
        stage.run(seconds(3));
        assert_eq!(stage.shown(client), [0, 1]);
        stage.wants(client, v1::LayerWish::default());
        stage.run(seconds(5));
        assert_eq!(stage.shown(client), [1, 2]);
        stage.wants(client, v1::LayerWish { bitrate: 600_000, ..Default::default() });
        stage.run(seconds(1));
        assert_eq!(stage.shown(client), [2, 1]);
        stage.wants(client, wish((1, 1)));
        stage.run(seconds(1));
        assert_eq!(stage.shown(client), [1, 0]);
    }
}

#[test]
fn a_layer_that_stops_is_left_for_the_best_there_is() {
    for workers in [1, 2] {
        let mut stage = Stage::on(workers);
        stage.run(seconds(2));
        let client = stage.subscriber(20e6, None);
        stage.run(seconds(5));
        stage.shown(client);
        stage.live = [true, true, false];
        stage.run(seconds(3));
        assert_eq!(stage.shown(client), [2, 1]);
        stage.live = [true, false, false];
        stage.run(seconds(3));
        assert_eq!(stage.shown(client), [1, 0]);
        stage.live = [false, false, true];
        stage.run(seconds(3));
        assert_eq!(stage.shown(client), [0, 2], "the only one that there is");
        stage.live = [false, false, false];
        stage.run(seconds(3));
        stage.live = [true, true, true];
        stage.run(seconds(5));
        let shown = stage.shown(client);
        assert_eq!(shown.last(), Some(&2), "{shown:?}");
    }
}

#[test]
fn the_first_layer_that_flows_is_shown_at_once() {
    for workers in [1, 2] {
        let mut stage = Stage::on(workers);
        let client = stage.subscriber(20e6, None);
        stage.run(seconds(1));
        assert!(!stage.shown(client).is_empty());
        stage.run(seconds(4));
        assert_eq!(stage.shown(client).last(), Some(&2));
    }
}

#[test]
fn who_does_not_report_gets_what_is_wanted() {
    let mut stage = Stage::new();
    stage.run(seconds(2));
    let client = stage.subscriber(20e6, None);
    stage.narrow(client).silent = true;
    stage.run(seconds(5));
    let shown = stage.shown(client);
    assert_eq!(shown.last(), Some(&2), "{shown:?}");
    stage.run(seconds(20));
    assert_eq!(stage.shown(client), [2]);
}

#[test]
fn a_subscription_that_was_paused_goes_on_where_it_was() {
    for workers in [1, 2] {
        let mut stage = Stage::on(workers);
        stage.run(seconds(2));
        let client = stage.subscriber(20e6, None);
        stage.run(seconds(5));
        stage.shown(client);
        let transport = TransportId::new(World::transport(client)).unwrap();
        let session = SessionId::new(format!("subscription{client}")).unwrap();
        for active in [false, true] {
            let now = stage.world.now;
            stage.world.node_of(client).set_active(now, &transport, &session, Kind::Video, active).unwrap();
            stage.run(seconds(2));
        }
        stage.run(seconds(2));
        assert_eq!(stage.shown(client).last(), Some(&2));
        stage.world.node_of(client).close_session(&transport, &session);
        stage.world.settle();
        let (sources, sinks) = stage.world.node.streams();
        assert_eq!((sources, sinks), (4, 0), "nothing is left behind");
    }
}

#[test]
fn two_pictures_share_the_way_by_what_is_asked_for() {
    let mut stage = Stage::new();
    stage.run(seconds(2));
    let client = stage.subscriber(1.1e6, Some(wish((320, 240))));
    let video = stage.world.clients[client].1.add("video", Way::Receive);
    let track = v1::SubscriptionTrack {
        kind: v1::MediaKind::Video.into(),
        mid: video,
        layers: (0..3).map(layer_source).collect(),
        ..Default::default()
    };
    stage.world.subscribe_to(client, "second", vec![track]).unwrap();
    stage.world.negotiate(client);
    stage.run(seconds(20));
    assert_eq!(stage.shown(client).last(), Some(&0));
    let ssrc = stage.world.clients[client].1.answer.ssrcs[2][0];
    let second = stage.world.clients[client].1.take_rtp(ssrc);
    let (header, packet) = second.last().unwrap();
    assert_eq!(header.payload(packet).last(), Some(&1), "the large one does not fit, the middle one does");
}

/// The way swings between these, in bit/s, with that period: up slowly, down at once.
fn saw_tooth(stage: &mut Stage, client: usize, (low, high): (f64, f64), period: f64, time: Duration) {
    let begin = stage.world.now;
    while stage.world.now < begin + time {
        let at = (stage.world.now - begin).as_secs_f64() % period / period;
        stage.narrow(client).capacity = low + (high - low) * at;
        stage.run(Duration::from_millis(200));
    }
}

#[test]
fn a_way_that_swings_does_not_make_the_picture_swing() {
    for period in [6.0, 15.0] {
        let mut stage = Stage::new();
        stage.run(seconds(2));
        let client = stage.subscriber(20e6, None);
        stage.run(seconds(5));
        stage.shown(client);
        stage.sound.clear();
        saw_tooth(&mut stage, client, (400e3, 2.5e6), period, seconds(300));
        let (shown, sound) = (stage.shown(client), stage.sound[&client]);
        assert!(shown.len() <= 30, "{} switches in five minutes of {period} s", shown.len() - 1);
        assert!(sound >= 14_700, "{sound}");
    }
}

#[test]
fn it_is_told_what_is_sent_and_why_no_more() {
    let mut stage = Stage::new();
    stage.run(seconds(2));
    let client = stage.subscriber(20e6, None);
    stage.run(seconds(6));
    let told = stage.told(client);
    assert_eq!((told.limit(), told.track_id.as_str()), (v1::Limit::None, "transport0-1:f"));
    let first = &told.choices[0].why;
    assert!(first.starts_with("asked for"), "{first}");
    stage.wants(client, wish((640, 360)));
    stage.run(seconds(2));
    let told = stage.told(client);
    assert_eq!((told.limit(), told.track_id.as_str()), (v1::Limit::Asked, "transport0-1:h"));
    stage.wants(client, v1::LayerWish::default());
    stage.run(seconds(3));
    stage.narrow(client).capacity = 300_000.0;
    stage.run(seconds(4));
    let told = stage.told(client);
    assert_eq!((told.limit(), told.track_id.as_str()), (v1::Limit::Bandwidth, "transport0-1:q"));
    assert_eq!(told.resolution, Some(v1::Resolution { width: 320, height: 180 }));
    let fell: Vec<_> = told.choices.iter().filter(|c| c.why.starts_with("estimate fell to")).collect();
    assert!(!fell.is_empty(), "{:?}", told.choices);
    stage.narrow(client).capacity = 110_000.0;
    stage.run(seconds(6));
    let told = stage.told(client);
    assert_eq!((told.limit(), told.track_id.as_str(), told.flowing), (v1::Limit::Bandwidth, "", false));
    assert_eq!(told.choices.last().unwrap().track_id, "");
    stage.narrow(client).capacity = 20e6;
    stage.live = [true, true, false];
    stage.run(seconds(12));
    let told = stage.told(client);
    assert_eq!((told.limit(), told.track_id.as_str()), (v1::Limit::Source, "transport0-1:h"));
}

/// A VP8 picture of a temporal layer, with a 15-bit id and TL0PICIDX; upper layers can be gone on to at each of their pictures.
fn temporal_picture(key_frame: bool, id: u16, base: u8, temporal: u8) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let layer = temporal << 6 | if temporal > 0 { 0x20 } else { 0 };
    let mut payload =
        vec![0x90, 0xe0, high | 0x80, low, base, layer, u8::from(!key_frame), 0, 0, 0x9d, 1, 0x2a];
    payload.extend_from_slice(&[0x40, 1, 0xb4, 0]);
    payload.resize(600, temporal);
    payload
}

#[test]
fn fewer_frames_are_sent_by_leaving_out_upper_temporal_layers() {
    let mut stage = Stage::new();
    let client = stage.subscriber(20e6, Some(v1::LayerWish { framerate: 13, ..Default::default() }));
    let ssrc = stage.world.clients[client].1.answer.ssrcs[1][0];
    let mut shown = Vec::new();
    let mut base = 0u8;
    for number in 0..400u16 {
        if number == 300 {
            stage.wants(client, v1::LayerWish::default());
        }
        // The lower layer and the upper one by turns, 25 frames a second.
        let temporal = (number % 2) as u8;
        base = base.wrapping_add(1 - temporal);
        let payload = temporal_picture(number % 100 == 0, number + 32_700, base, temporal);
        let packet = stage.world.clients[0].1.layer_packet(1, 0, &payload, 3600, number < 10);
        stage.world.send(0, &packet);
        stage.world.pass(FRAME);
        for (header, packet) in stage.world.clients[client].1.take_rtp(ssrc) {
            let payload = header.payload(&packet);
            let id = u16::from_be_bytes([payload[2], payload[3]]) & 0x7fff;
            shown.push((number, header.sequence, id, payload[4], payload[5] >> 6, header.timestamp));
        }
    }
    let lower = shown.iter().filter(|frame| (100..295).contains(&frame.0));
    assert!(lower.clone().all(|frame| frame.4 == 0));
    assert!((90..=100).contains(&lower.count()), "every second one");
    let upper = shown.iter().filter(|frame| frame.0 >= 310 && frame.4 == 1).count();
    assert!(upper >= 40, "all again: {upper}");
    for pair in shown.windows(2) {
        assert_eq!(pair[1].1, pair[0].1.wrapping_add(1), "numbers go on");
        assert_eq!(pair[1].2, (pair[0].2 + 1) & 0x7fff, "those of pictures, too");
        assert_eq!(pair[1].3.wrapping_sub(pair[0].3), 1 - pair[1].4, "and those of the lowest layer");
        assert_eq!(pair[1].5.wrapping_sub(pair[0].5) % 3600, 0, "time is the source's");
    }
}
