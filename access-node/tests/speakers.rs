//! Rooms that select their audio: who is heard is told, and whoever is selected is sent, on virtual time.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use kaigi_access_node::{
    node::{LinkCall, NodeError, request},
    sdp::Kind,
};
use kaigi_proto::{
    ids::{RoomId, SessionId, TransportId},
    v1,
};
use support::{room::*, world::*};

const SECOND: Duration = Duration::from_secs(1);

/// Payloads of what came.
fn words(heard: &[(kaigi_media::rtp::RtpHeader, String)]) -> Vec<&str> {
    let mut words: Vec<_> = heard.iter().map(|(_, text)| text.as_str()).collect();
    words.dedup();
    words
}

#[test]
fn the_loudest_are_told_five_times_a_second_and_nobody_else() {
    let mut room = Room::new(6, 0);
    room.speak(SECOND, &[(0, 50), (1, 40), (2, 30), (3, 20), (4, 10), (5, SILENT)]);
    let told = room.told();
    assert_eq!(told.len(), 5);
    let names: Vec<_> = told[4].iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["transport4-0", "transport3-0", "transport2-0"]);
    assert_eq!(told[0][0].1, [500, 250, 100]);
    assert_eq!(told[4][0].1, [500, 500, 500]);
}

#[test]
fn who_is_selected_is_told_of_however_loud_others_are() {
    let mut room = Room::new(5, 0);
    room.select(&[Some(0), None, None]).unwrap();
    room.speak(SECOND, &[(0, 50), (1, 40), (2, 30), (3, 20), (4, 10)]);
    let told = room.told();
    let names: Vec<_> = told[4].iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["transport0-0", "transport4-0", "transport3-0", "transport2-0"]);
}

#[test]
fn silence_is_told_once_and_then_nothing_is_done() {
    let mut room = Room::new(3, 0);
    room.speak(SECOND, &[(0, 20), (1, SILENT)]);
    room.told();
    room.speak(2 * SECOND, &[(0, SILENT), (1, SILENT), (2, 0x80 | 80)]);
    let told = room.told();
    assert_eq!(told.last().unwrap(), &[("transport0-0".to_owned(), [0, 0, 0])]);
    assert_eq!(told.len(), 5, "one second of fading, then silence: {told:?}");
}

#[test]
fn one_that_is_not_among_the_loudest_any_more_is_told_a_last_time() {
    let mut room = Room::new(4, 0);
    room.speak(SECOND, &[(0, 40), (1, 30), (2, 30)]);
    room.told();
    room.speak(Duration::from_millis(800), &[(0, 40), (1, 30), (2, 30), (3, 10)]);
    let told = room.told();
    let of_first: Vec<_> =
        told.iter().map(|told| told.iter().any(|(name, _)| name == "transport0-0")).collect();
    assert_eq!(of_first, [true, false, false, false], "{told:?}");
}

#[test]
fn who_is_muted_is_silent() {
    let mut room = Room::new(1, 0);
    let (transport, session) =
        (TransportId::new("transport0").unwrap(), SessionId::new("publication0").unwrap());
    room.speak(SECOND, &[(0, 20)]);
    room.told();
    let now = room.world.now;
    room.world.node.set_active(now, &transport, &session, Kind::Audio, false).unwrap();
    room.speak(2 * SECOND, &[(0, 20)]);
    assert_eq!(room.told().last().unwrap()[0].1, [0, 0, 0]);
}

#[test]
fn a_room_that_does_not_select_is_not_listened_to() {
    let mut world = World::conference();
    for _ in 0..50 {
        world.media(0, 0, b"loud", 960);
        world.pass(FRAME);
    }
    let speakers = world.events.iter().filter(|(_, _, e)| matches!(e, v1::access_event::Event::Speakers(_)));
    assert_eq!(speakers.count(), 0);
}

#[test]
fn three_streams_carry_whoever_is_selected_however_many_publish() {
    let mut room = Room::new(8, 3);
    room.select(&[Some(0), Some(1), Some(2)]).unwrap();
    let all: Vec<_> = (0..8).map(|client| (client, 20)).collect();
    room.speak(SECOND, &all);
    let before = room.world.node.counters().packets_out;
    room.speak(SECOND, &all);
    // Five get all three; of the three each lacks itself.
    assert_eq!(room.world.node.counters().packets_out - before, 50 * (5 * 3 + 3 * 2));
    for slot in 0..3 {
        assert_eq!(words(&room.heard(7, slot)), [format!("from {slot}")]);
    }
}

#[test]
fn nobody_hears_himself() {
    let mut room = Room::new(2, 1);
    room.select(&[Some(0)]).unwrap();
    room.speak(SECOND, &[(0, 20), (1, 20)]);
    assert_eq!(words(&room.heard(0, 0)), [""; 0]);
    assert_eq!(words(&room.heard(1, 0)), ["from 0"]);
    room.select(&[Some(1)]).unwrap();
    room.speak(SECOND, &[(0, 20), (1, 20)]);
    assert_eq!(words(&room.heard(0, 0)), ["from 1"]);
    assert_eq!(words(&room.heard(1, 0)), [""; 0]);
}

#[test]
fn a_change_of_speakers_leaves_no_gap_in_numbers_and_time() {
    let mut room = Room::new(3, 1);
    room.select(&[Some(0)]).unwrap();
    room.speak(SECOND, &[(0, 20), (1, SILENT)]);
    room.select(&[Some(1)]).unwrap();
    room.speak(SECOND, &[(0, SILENT), (1, 20)]);
    room.select(&[None]).unwrap();
    room.speak(SECOND, &[(0, 20), (1, 20)]);
    room.select(&[Some(0)]).unwrap();
    room.speak(SECOND, &[(0, 20), (1, 20)]);
    let heard = room.heard(2, 0);
    assert_eq!(words(&heard), ["from 0", "from 1", "from 0"]);
    // Who was there is sent until the first packet of who is there now.
    assert_eq!(heard.len(), 151);
    let steps = |n: usize| {
        let ((before, _), (after, _)) = (&heard[n], &heard[n + 1]);
        (after.sequence.wrapping_sub(before.sequence), after.timestamp.wrapping_sub(before.timestamp))
    };
    for n in 0..150 {
        let (sequence, time) = steps(n);
        assert_eq!(sequence, 1, "after packet {n}");
        // From one to the next at the same time; a second in which nobody is there.
        let expected = match n {
            50 => 1,
            100 => 48_960,
            _ => 960,
        };
        assert_eq!(time, expected, "after packet {n}");
    }
}

#[test]
fn who_stays_keeps_the_stream_and_who_comes_late_finds_everybody() {
    let mut room = Room::new(3, 3);
    room.select(&[Some(0), Some(1), None]).unwrap();
    room.select(&[Some(0), Some(1), Some(2)]).unwrap();
    let late = room.enter(3);
    room.speak(SECOND, &[(0, 20), (1, 20), (2, 20)]);
    let slots: Vec<_> = (0..3).map(|slot| words(&room.heard(late, slot)).join(" ")).collect();
    assert_eq!(slots, ["from 0", "from 1", "from 2"]);
}

#[test]
fn what_is_older_than_what_was_said_changes_nothing() {
    let mut room = Room::new(3, 1);
    room.say(9, &[Some(published(0))]).unwrap();
    room.say(8, &[Some(published(1))]).unwrap();
    room.say(9, &[Some(published(1))]).unwrap();
    room.speak(SECOND, &[(0, 20), (1, 20)]);
    assert_eq!(words(&room.heard(2, 0)), ["from 0"]);
    // A newer agent begins anew.
    room.world.epoch = 2;
    room.say(1, &[Some(published(1))]).unwrap();
    room.speak(SECOND, &[(0, 20), (1, 20)]);
    assert_eq!(words(&room.heard(2, 0)), ["from 0", "from 1"]);
    room.world.epoch = 1;
    room.say(20, &[None]).unwrap();
    room.speak(SECOND, &[(0, 20), (1, 20)]);
    assert_eq!(words(&room.heard(2, 0)), ["from 1"]);
}

#[test]
fn a_room_that_is_not_here_selects_nothing() {
    let mut room = Room::new(1, 0);
    let selection = request::selection(room.world.selection.clone().unwrap()).unwrap();
    let now = room.world.now;
    let other = RoomId::new("other").unwrap();
    assert_eq!(room.world.node.select_audio(now, &other, 1, &selection), Err(NodeError::UnknownRoom));
}

#[test]
fn what_agents_say_is_bounded_and_of_sound() {
    let slots = vec![v1::SelectedAudio::default(); 9];
    assert!(request::selection(v1::AudioSelection { revision: 1, slots }).is_err());
    let picture = v1::SelectedAudio { source: Some(source("t", "vp8")), owner: "p".into() };
    assert!(request::selection(v1::AudioSelection { revision: 1, slots: vec![picture] }).is_err());
    let nobody = v1::SelectedAudio { source: Some(source("t", "opus")), owner: String::new() };
    assert!(request::selection(v1::AudioSelection { revision: 1, slots: vec![nobody] }).is_err());
    let slot = |slot, codec: &str| v1::SelectedTrack { slot, format: Some(format(codec)) };
    assert!(request::selected(&slot(7, "opus"), Kind::Audio).is_ok());
    assert!(request::selected(&slot(8, "opus"), Kind::Audio).is_err());
    assert!(request::selected(&slot(0, "vp8"), Kind::Audio).is_err());
    assert!(request::selected(&slot(0, "opus"), Kind::Video).is_err());
    assert!(request::selected(&v1::SelectedTrack { slot: 0, format: None }, Kind::Audio).is_err());
}

#[test]
fn a_source_of_another_format_is_not_sent() {
    let mut room = Room::new(2, 1);
    let (mut track, owner) = published(0);
    track.format = Some(format("pcmu"));
    room.say(2, &[Some((track, owner))]).unwrap();
    room.speak(SECOND, &[(0, 20)]);
    assert!(room.heard(1, 0).is_empty());
}

#[test]
fn a_subscription_can_go_over_to_a_stream_and_back_to_a_slot() {
    let mut room = Room::new(3, 1);
    room.select(&[Some(0)]).unwrap();
    let (transport, session) =
        (TransportId::new("transport2").unwrap(), SessionId::new("subscription2-0").unwrap());
    let to = |room: &mut Room, feed| {
        let now = room.world.now;
        room.world.node.set_source(now, &transport, &session, Kind::Audio, feed).unwrap();
        room.speak(SECOND, &[(0, 20), (1, 20)]);
    };
    room.speak(SECOND, &[(0, 20), (1, 20)]);
    let named = request::feed(Some(source("transport1-0", "opus")), vec![], None, Kind::Audio).unwrap();
    to(&mut room, named.unwrap());
    room.select(&[Some(2)]).unwrap();
    room.speak(SECOND, &[(0, 20), (1, 20), (2, 20)]);
    room.select(&[Some(0)]).unwrap();
    let slot = v1::SelectedTrack { slot: 0, format: Some(format("opus")) };
    to(&mut room, request::selected(&slot, Kind::Audio).unwrap());
    assert_eq!(words(&room.heard(2, 0)), ["from 0", "from 1", "from 0"]);
}

#[test]
fn a_subscription_that_ends_is_forgotten() {
    let mut room = Room::new(2, 1);
    room.select(&[Some(0)]).unwrap();
    room.speak(SECOND, &[(0, 20)]);
    let (transport, session) =
        (TransportId::new("transport1").unwrap(), SessionId::new("subscription1-0").unwrap());
    room.world.node.close_session(&transport, &session);
    room.heard(1, 0);
    room.select(&[None]).unwrap();
    room.select(&[Some(0)]).unwrap();
    room.speak(SECOND, &[(0, 20)]);
    assert!(room.heard(1, 0).is_empty());
    room.world.node.close(room.world.now);
    assert_eq!(room.world.node.streams(), (0, 0));
}

#[test]
fn who_is_published_elsewhere_is_brought_when_selected_and_let_go_after() {
    let mut there = Room::at("access-2", "127.0.0.1:7002", 1, 0);
    let mut here = Room::new(2, 1);
    let track = source("transport0-0", "opus");
    let elsewhere = v1::TrackSource { worker_id: "access-2".into(), ..track };
    here.say(2, &[Some((elsewhere, "somebody".into()))]).unwrap();
    let calls = std::mem::take(&mut here.world.node.output().calls);
    let [LinkCall::Attach { flow, request, .. }] = &calls[..] else { panic!("{calls:?}") };
    let reply = there.world.node.attach(there.world.now, request).unwrap();
    here.world.node.attached(here.world.now, *flow, request, Ok(reply));
    for _ in 0..10 {
        there.world.clients[0].1.level = 20;
        there.world.media(0, 0, b"from afar", 960);
        carry(&mut there.world, &mut here.world);
        here.world.settle();
    }
    assert_eq!(words(&here.heard(1, 0)), ["from afar"]);
    here.say(3, &[None]).unwrap();
    let calls = std::mem::take(&mut here.world.node.output().calls);
    assert!(matches!(&calls[..], [LinkCall::Detach { .. }]), "{calls:?}");
}
