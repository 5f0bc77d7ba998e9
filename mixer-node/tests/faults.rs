//! Inputs that can't be decoded, and codecs that stop, fail or never start: the view goes on, and what failed is made anew.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::{sync::Arc, time::Instant};

use kaigi_media::rtp::write_header;
use kaigi_mixer_node::link::OutputTrack;
use kaigi_proto::v1::{self, mixer_event::Event};
use support::{
    Consumer, MixerNode, Publisher, Screen, eventually,
    faults::{Fault, let_go, next_hangs_at_its_start, started, tamper},
    tap::{Packet, Tap, picture_times},
    view,
};
use tokio::sync::{Mutex, MutexGuard};

const RED: u32 = 0xff0000;
const GREEN: u32 = 0x00ff00;
const GREY: u32 = 0x202020;
/// The middles of the first two regions of four.
const TWO: [(u32, u32); 2] = [(40, 30), (240, 30)];
/// Of inputs in VP9; the mix is H.264, so that whoever looks at it has another.
const DECODER: &str = "GstVP9Dec";
/// Of the mix; publishers have another.
const ENCODER: &str = "GstX264Enc";

/// Elements are tampered with in the whole process.
async fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    let alone = ONE.lock().await;
    tamper();
    alone
}

fn h264(mut view: v1::ViewDescription) -> v1::ViewDescription {
    let video = view.video.as_mut().unwrap();
    video.format.as_mut().unwrap().codec = "h264".into();
    video.avatars = true;
    view
}

/// Whether a packet has parameter sets or a part of a picture that refers to no other (RFC 6184 §5.6–§5.8).
fn is_of_key_frame(packet: &Packet) -> bool {
    let kinds = |kind: u8| matches!(kind & 0x1f, 5 | 7);
    match packet.payload[0] & 0x1f {
        24 => {
            let mut rest = &packet.payload[1..];
            while let [high, low, kind, ..] = *rest {
                if kinds(kind) {
                    return true;
                }
                rest = rest.get(2 + usize::from(u16::from_be_bytes([high, low]))..).unwrap_or_default();
            }
            false
        }
        28 => kinds(packet.payload[1]),
        _ => kinds(packet.payload[0]),
    }
}

/// That the packets' numbers and times go on, and how long it took from one picture to the next at most, in milliseconds.
fn unbroken(packets: &[Packet]) -> u32 {
    for pair in packets.windows(2) {
        let (before, after) = (pair[0].header, pair[1].header);
        assert_eq!(after.sequence, before.sequence.wrapping_add(1));
        assert_eq!(after.ssrc, before.ssrc);
        let step = after.timestamp.wrapping_sub(before.timestamp);
        assert!(step < u32::MAX / 2, "back in time by {}", step.wrapping_neg());
    }
    let times = picture_times(packets);
    times.windows(2).map(|pair| (pair[1] - pair[0]) / 90).max().unwrap()
}

async fn two_in_a_view(node: &mut MixerNode, inputs: Vec<v1::ViewInput>) -> (Screen, Tap, Consumer) {
    let reply = node.control.set_view(h264(view(1, inputs, 2))).await.unwrap().into_inner();
    let consumer = Consumer::start();
    let video = reply.video.unwrap();
    (consumer.watch(&video), Tap::attach(&video).await, consumer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decoder_that_stops_is_replaced_and_no_picture_of_the_view_is_lost() {
    let _alone = alone().await;
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let (a, b) = (publisher.publish_vp9("a", RED, 400.0), publisher.publish_vp9("b", GREEN, 700.0));
    let before = started(DECODER).len();
    let (screen, tap, _consumer) = two_in_a_view(&mut node, vec![a.input(), b.input()]).await;
    eventually("both", || screen.shows(TWO, [RED, GREEN])).await;
    for (number, fault) in [Fault::Hang, Fault::Swallow, Fault::Error].into_iter().enumerate() {
        let decoders = started(DECODER);
        assert_eq!(decoders.len(), before + 2 + number);
        decoders.last().unwrap().breaks(fault);
        eventually("another decoder works", || {
            started(DECODER).get(before + 2 + number).is_some_and(|decoder| decoder.taken() > 5)
        })
        .await;
        eventually("both", || screen.shows(TWO, [RED, GREEN])).await;
    }
    let_go();
    println!(
        "decoders stopped: {} ms from one picture of the mix to the next at most",
        unbroken(&tap.packets())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_that_stops_or_never_starts_is_replaced_and_the_track_goes_on_with_a_key_frame() {
    let _alone = alone().await;
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publisher.publish("a", RED, 400.0);
    let before = started(ENCODER).len();
    let (screen, tap, _consumer) = two_in_a_view(&mut node, vec![a.input()]).await;
    let (at, colour) = ([TWO[0]], [RED]);
    eventually("the picture", || screen.shows(at, colour)).await;
    let faults = [Some(Fault::Hang), Some(Fault::Swallow), Some(Fault::Error), None];
    for (next, fault) in (before + 1..).zip(faults) {
        let last = started(ENCODER).last().cloned().unwrap();
        if fault.is_none() {
            // The thread that composes waits for it, and is replaced, too.
            next_hangs_at_its_start(ENCODER);
        }
        let sent = tap.packets().len();
        last.breaks(fault.unwrap_or(Fault::Error));
        eventually("another encoder works", || {
            started(ENCODER).get(next).is_some_and(|encoder| encoder.taken() > 5)
        })
        .await;
        let shown = screen.number();
        eventually("pictures are decoded", || screen.number() > shown + 5 && screen.shows(at, colour)).await;
        let packets = tap.packets();
        let begun = packets[sent..].iter().any(is_of_key_frame);
        assert!(begun, "{fault:?}: the new one begins with a key frame");
        let longest = unbroken(&packets[sent.saturating_sub(1)..]);
        println!("{}: {longest} ms", fault.map_or("NeverStarts".into(), |fault| format!("{fault:?}")));
    }
    let_go();
    let shown = screen.number();
    eventually("what came back does no harm", || screen.number() > shown + 15).await;
    println!(
        "encoders stopped: {} ms from one picture of the mix to the next at most",
        unbroken(&tap.packets())
    );
}

/// Sends what looks like a key frame of VP8 and is none.
fn send_rubbish(track: &Arc<OutputTrack>) {
    let mut packet = Vec::new();
    let number = track.next_sequence();
    write_header(&mut packet, true, 100, number, u32::from(number) * 1800, 0);
    // Payload descriptor: the beginning of a picture (RFC 7741 §4.2); frame header of a key frame of 320×180 whose first partition is
    // longer than all of it (RFC 6386 §9.1), so that no decoder makes anything of it.
    packet.extend([0x10, 0xf0, 0xff, 0xff, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xb4, 0x00]);
    packet.extend((0..400u32).map(|byte| (byte.wrapping_mul(2_654_435_761) >> 13) as u8));
    track.send(&packet, Instant::now());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_cannot_be_decoded_is_shown_as_one_without_a_picture_until_it_can() {
    let _alone = alone().await;
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let b = publisher.publish("b", GREEN, 700.0);
    let (track, source) = publisher.track("a-video", v1::MediaKind::Video, "vp8", 90_000);
    let input = v1::ViewInput {
        stream_id: "a".into(),
        owner: "pa".into(),
        name: "Ann".into(),
        video: Some(source),
        ..Default::default()
    };
    let request = v1::MixerEventsRequest { agent_id: "agent-1".into() };
    let mut events = node.control.events(request).await.unwrap().into_inner();
    let (screen, tap, _consumer) = two_in_a_view(&mut node, vec![input, b.input()]).await;
    eventually("the good one", || screen.shows(TWO, [GREY, GREEN])).await;
    let has_avatar = || {
        let row = screen.luma(45).unwrap_or_default();
        row.iter().take(150).any(|luma| luma.abs_diff(row[2]) > 30)
    };
    assert!(!has_avatar(), "its first picture may come yet");
    eventually("an avatar", || {
        send_rubbish(&track);
        has_avatar()
    })
    .await;
    assert!(screen.shows([TWO[1]], [GREEN]));
    let failed = loop {
        let told = tokio::time::timeout(std::time::Duration::from_secs(20), events.message()).await;
        match told.expect("an event is missing").unwrap().unwrap().event.unwrap() {
            Event::InputFailed(failed) => break failed,
            Event::ActiveInput(_) => {}
            Event::TranscoderFailed(failed) => panic!("{failed:?}"),
        }
    };
    assert_eq!(failed.stream_id, "a");
    assert!(failed.reason.contains("not decodable"), "{}", failed.reason);

    let good = publisher.feed(&track, RED);
    eventually("a picture when there is one", || screen.shows(TWO, [RED, GREEN])).await;
    drop(good);
    println!("garbage: {} ms from one picture of the mix to the next at most", unbroken(&tap.packets()));
}
