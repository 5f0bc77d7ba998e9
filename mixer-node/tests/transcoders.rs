//! Forward tracks in other formats, sizes and rates, attached and decoded.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Instant;

use kaigi_mixer_node::link::Captured;
use kaigi_proto::v1::{self, mixer_event::Event};
use support::{
    Consumer, MixerNode, Publisher, eventually,
    tap::{Tap, hears, kbps, picture_rate, vp8_key_frames},
};

const RED: u32 = 0xff0000;
const BLUE: u32 = 0x0000ff;
const BLACK: u32 = 0x000000;

fn format(codec: &str) -> Option<v1::MediaFormat> {
    Some(v1::MediaFormat { codec: codec.into(), ..Default::default() })
}
fn video(id: &str, codec: &str, size: Option<(u32, u32)>, framerate: u32) -> v1::VideoOutput {
    let resolution = size.map(|(width, height)| v1::Resolution { width, height });
    v1::VideoOutput { id: id.into(), format: format(codec), resolution, framerate, ..Default::default() }
}
fn transcoder(
    revision: u64,
    source: &v1::TrackSource,
    video_outputs: Vec<v1::VideoOutput>,
) -> v1::TranscoderDescription {
    v1::TranscoderDescription {
        agent_id: "agent-1".into(),
        room_id: "room1".into(),
        id: "t1".into(),
        epoch: 1,
        revision,
        source: Some(source.clone()),
        video_outputs,
        ..Default::default()
    }
}
fn output<'a>(outputs: &'a [v1::OutputSource], id: &str) -> &'a v1::TrackSource {
    outputs.iter().find(|output| output.id == id).unwrap().source.as_ref().unwrap()
}
fn remove(epoch: u64) -> v1::RemoveTranscoderRequest {
    v1::RemoveTranscoderRequest { room_id: "room1".into(), id: "t1".into(), epoch }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_is_seen_in_other_codecs_and_sizes() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publisher.publish("a", RED, 400.0);
    let outputs = vec![
        video("same", "h264", None, 0),
        video("small", "vp9", Some((160, 90)), 0),
        video("square", "vp8", Some((240, 240)), 0),
        video("never", "h265", None, 0),
    ];
    let reply = node.control.set_transcoder(transcoder(1, &a.video, outputs)).await.unwrap().into_inner();
    assert_eq!(reply.outputs.len(), 3);
    assert_eq!(reply.failures[0].id, "never");
    let consumer = Consumer::start();
    for (id, size) in [("same", (320, 180)), ("small", (160, 90))] {
        let screen = consumer.watch(output(&reply.outputs, id));
        let corners = [(2, 2), (size.0 - 4, 2), (2, size.1 - 4), (size.0 / 2, size.1 / 2)];
        eventually(id, || screen.size() == Some(size) && screen.shows(corners, [RED; 4])).await;
    }
    let square = consumer.watch(output(&reply.outputs, "square"));
    let places = [(120, 20), (120, 120), (120, 220)];
    eventually("bars", || square.size() == Some((240, 240)) && square.shows(places, [BLACK, RED, BLACK]))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_made_of_a_track_is_told_by_the_clock_of_its_publisher() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publisher.publish("a", RED, 400.0);
    // It goes years ahead: 2030.
    let clock = Captured { came: Instant::now(), seconds: 4.1e9 };
    publisher.tell_time(&a, clock);
    let outputs = vec![video("other", "vp9", None, 0)];
    let reply = node.control.set_transcoder(transcoder(1, &a.video, outputs)).await.unwrap().into_inner();
    let tap = Tap::attach(output(&reply.outputs, "other")).await;
    let off = || {
        let (ntp, _) = tap.report()?;
        Some(ntp as f64 / 4_294_967_296.0 - clock.at(Instant::now()))
    };
    // At first none had come of the publisher, and it was by this node's clock. The last one may be a second old.
    eventually("reports by his clock", || off().is_some_and(|off| off.abs() < 1.5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rates_are_the_sources_or_lower() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publisher.publish_pattern("a", "pattern=ball", (320, 180, 30), 400.0);
    let outputs = [("source", 0), ("r15", 15), ("r10", 10), ("more", 60)]
        .map(|(id, rate)| video(id, "vp8", Some((160, 90)), rate));
    let described = transcoder(1, &a.video, outputs.to_vec());
    let reply = node.control.set_transcoder(described).await.unwrap().into_inner();
    for (id, rate) in [("source", 30.0), ("r15", 15.0), ("r10", 10.0), ("more", 30.0)] {
        let tap = Tap::attach(output(&reply.outputs, id)).await;
        eventually("pictures", || tap.packets().len() > 3).await;
        let found = picture_rate(&tap.first(3.0).await);
        assert!((found / rate - 1.0).abs() < 0.2, "{id}: {found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_follow_their_source_and_hold_its_last_picture() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publisher.publish("a", RED, 400.0);
    let outputs = vec![video("same", "vp8", None, 0), video("small", "vp8", Some((160, 90)), 0)];
    let reply = node.control.set_transcoder(transcoder(1, &a.video, outputs)).await.unwrap().into_inner();
    let consumer = Consumer::start();
    let (same, small) =
        (consumer.watch(output(&reply.outputs, "same")), consumer.watch(output(&reply.outputs, "small")));
    eventually("the source", || same.shows([(160, 90)], [RED]) && small.shows([(80, 45)], [RED])).await;
    assert_eq!(same.size(), Some((320, 180)));

    // Its node loses the track: the last picture is held, also for those who come now.
    publisher.forget(a);
    let late = Consumer::start();
    let screen = late.watch(output(&reply.outputs, "small"));
    eventually("the last picture", || screen.shows([(80, 45)], [RED])).await;

    // It comes back larger and blue.
    let blue = format!("pattern=solid-color foreground-color={}", 0xff00_0000u32 | BLUE);
    let _again = publisher.publish_pattern("a", &blue, (640, 360, 15), 400.0);
    eventually("the new size", || same.size() == Some((640, 360)) && same.shows([(320, 180)], [BLUE])).await;
    eventually("the same size", || small.size() == Some((160, 90)) && small.shows([(80, 45)], [BLUE])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_source_takes_over_without_a_break() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let [a, b] = [("a", RED), ("b", BLUE)].map(|(name, rgb)| publisher.publish(name, rgb, 400.0));
    let outputs = vec![video("o", "vp8", None, 0)];
    let first = transcoder(1, &a.video, outputs.clone());
    let reply = node.control.set_transcoder(first).await.unwrap().into_inner();
    let screen = Consumer::start();
    let screen = screen.watch(output(&reply.outputs, "o"));
    let tap = Tap::attach(output(&reply.outputs, "o")).await;
    eventually("the first source", || screen.shows([(160, 90)], [RED])).await;
    node.control.set_transcoder(transcoder(2, &b.video, outputs)).await.unwrap();
    eventually("the second source", || screen.shows([(160, 90)], [BLUE])).await;
    let packets = tap.packets();
    assert!(packets.windows(2).all(|p| p[1].header.sequence == p[0].header.sequence.wrapping_add(1)));
    assert!(packets.windows(2).all(|p| p[1].header.timestamp.wrapping_sub(p[0].header.timestamp) < 1 << 31));
}

#[tokio::test(flavor = "multi_thread")]
async fn key_frames_come_on_request_and_by_the_interval() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publisher.publish("a", RED, 400.0);
    let often = v1::VideoOutput { key_frame_interval: 1, ..video("often", "vp8", None, 0) };
    let described = transcoder(1, &a.video, vec![often, video("asked", "vp8", None, 0)]);
    let reply = node.control.set_transcoder(described).await.unwrap().into_inner();
    let asked = Tap::attach(output(&reply.outputs, "asked")).await;
    let often = Tap::attach(output(&reply.outputs, "often")).await;
    let keys = vp8_key_frames(&often.first(4.5).await);
    assert!(keys.len() >= 4, "{keys:?}");
    let before = vp8_key_frames(&asked.packets()).len();
    assert!(before <= 2, "{before}");
    asked.request_key_frame();
    eventually("a key frame", || vp8_key_frames(&asked.packets()).len() == before + 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bitrates_are_kept_whatever_rate_the_source_has() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let noise = publisher.publish_pattern("noise", "pattern=snow", (320, 180, 10), 400.0);
    let outputs =
        ["vp8", "vp9", "h264"].map(|codec| v1::VideoOutput { bitrate: 1200, ..video(codec, codec, None, 0) });
    let described = transcoder(1, &noise.video, outputs.to_vec());
    let reply = node.control.set_transcoder(described).await.unwrap().into_inner();
    for codec in ["vp8", "vp9", "h264"] {
        let tap = Tap::attach(output(&reply.outputs, codec)).await;
        let packets = tap.first(6.0).await;
        let begin = packets[0].header.timestamp;
        let settled: Vec<_> =
            packets.into_iter().filter(|p| p.header.timestamp.wrapping_sub(begin) >= 3 * 90_000).collect();
        let rate = kbps(&settled, 3.0);
        assert!((800.0..1500.0).contains(&rate), "{codec}: {rate}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_is_transcoded_too() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publisher.publish("a", RED, 700.0);
    let audio = |id: &str, codec: &str, minus: &str| v1::AudioOutput {
        id: id.into(),
        format: format(codec),
        minus_participant: minus.into(),
    };
    let audio_outputs = vec![
        audio("u", "pcmu", ""),
        audio("a", "pcma", ""),
        audio("g", "g722", ""),
        audio("o", "opus", ""),
        audio("minus", "opus", "p1"),
        audio("i", "ilbc", ""),
    ];
    let described = v1::TranscoderDescription { audio_outputs, ..transcoder(1, &a.audio, vec![]) };
    let reply = node.control.set_transcoder(described).await.unwrap().into_inner();
    let failed: Vec<&str> = reply.failures.iter().map(|failure| failure.id.as_str()).collect();
    assert_eq!(failed, ["i", "minus"]);
    let mut g722 = None;
    for (id, codec) in [("u", "pcmu"), ("a", "pcma"), ("g", "g722"), ("o", "opus")] {
        let source = output(&reply.outputs, id);
        let tap = Tap::attach(source).await;
        assert_eq!(hears(&tap.first(2.0).await, codec, [400.0, 700.0]), [false, true], "{id}");
        if codec == "g722" {
            g722 = Some(source.clone());
        }
    }
    // And back.
    let back = v1::TranscoderDescription {
        id: "t2".into(),
        audio_outputs: vec![audio("o", "opus", "")],
        ..transcoder(1, &g722.unwrap(), vec![])
    };
    let reply = node.control.set_transcoder(back).await.unwrap().into_inner();
    let tap = Tap::attach(output(&reply.outputs, "o")).await;
    assert_eq!(hears(&tap.first(2.0).await, "opus", [400.0, 700.0]), [false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_told_of_lost_sources_and_may_remove() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let request = v1::MixerEventsRequest { agent_id: "agent-1".into() };
    let mut events = node.control.events(request).await.unwrap().into_inner();
    let nowhere = publisher.source("a-video", v1::MediaKind::Video, None);
    let outputs = vec![video("o", "vp8", None, 0)];
    let described = transcoder(1, &nowhere, outputs.clone());
    let reply = node.control.set_transcoder(described.clone()).await.unwrap().into_inner();
    let wait = tokio::time::timeout(std::time::Duration::from_secs(20), events.message());
    let told = wait.await.expect("an event is missing").unwrap().unwrap();
    assert_eq!((told.room_id.as_str(), told.label.as_str()), ("room1", ""));
    match told.event.unwrap() {
        Event::TranscoderFailed(failed) => {
            assert_eq!(failed.id, "t1");
            assert!(failed.reason.contains("no such track"), "{}", failed.reason);
        }
        other => panic!("{other:?}"),
    }
    // It goes on trying.
    let _a = publisher.publish("a", BLUE, 400.0);
    let consumer = Consumer::start();
    let source = output(&reply.outputs, "o").clone();
    let screen = consumer.watch(&source);
    eventually("the late source", || screen.shows([(160, 90)], [BLUE])).await;

    assert_eq!(node.control.set_transcoder(described).await.unwrap().into_inner(), reply);
    let newer = v1::TranscoderDescription { epoch: 2, ..transcoder(1, &nowhere, outputs.clone()) };
    node.control.set_transcoder(newer).await.unwrap();
    let older = node.control.set_transcoder(transcoder(7, &nowhere, outputs.clone())).await.unwrap_err();
    assert_eq!(older.code(), tonic::Code::FailedPrecondition);
    let refused = node.control.remove_transcoder(remove(1)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    node.control.remove_transcoder(remove(2)).await.unwrap();
    node.control.remove_transcoder(remove(2)).await.unwrap();
    assert_eq!(Tap::refusal(&source).await, tonic::Code::NotFound);
    node.control.set_transcoder(transcoder(1, &nowhere, outputs)).await.unwrap();
    let strange = v1::TranscoderDescription { source: None, ..transcoder(2, &nowhere, vec![]) };
    let refused = node.control.set_transcoder(strange).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}

fn analysed(
    revision: u64,
    source: &v1::TrackSource,
    algorithm: &str,
    parameters: &str,
) -> v1::TranscoderDescription {
    let (algorithm, parameters) = (algorithm.to_owned(), parameters.to_owned());
    v1::TranscoderDescription {
        analysis: Some(v1::Analysis { algorithm, parameters, paused: false }),
        ..transcoder(revision, source, vec![video("out", "vp8", None, 0)])
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_is_analysed_before_it_is_encoded() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    // White in the middle, with a line of pixels of something else between.
    let a = publisher.publish_pattern("a", "pattern=smpte", (320, 180, 30), 400.0);
    let edges = analysed(1, &a.video, "edgedetect", r#"{"lowThreshold": 40, "highThreshold": 80}"#);
    let reply = node.control.set_transcoder(edges).await.unwrap().into_inner();
    let consumer = Consumer::start();
    let screen = consumer.watch(output(&reply.outputs, "out"));
    let is_grey = |[_, u, v]: [u8; 3]| u.abs_diff(128) < 10 && v.abs_diff(128) < 10;
    eventually("lines between the bars, without colours", || {
        let row = screen.luma(40).unwrap_or_default();
        let bright = row.iter().filter(|luma| **luma > 100).count();
        let pixels = screen.pixels([(10, 10), (100, 40), (200, 60), (300, 20)]);
        (3..100).contains(&bright) && pixels.is_some_and(|pixels| pixels.into_iter().all(is_grey))
    })
    .await;

    // The same output goes on with another algorithm, in the picture's new size.
    let turned = analysed(2, &a.video, "rotate", r#"{"angle": 90}"#);
    node.control.set_transcoder(turned).await.unwrap();
    eventually("on its side", || screen.size() == Some((180, 320))).await;

    let nobodys = v1::TranscoderDescription { id: "t2".into(), ..analysed(1, &a.video, "faces", "") };
    let reply = node.control.set_transcoder(nobodys).await.unwrap().into_inner();
    assert_eq!(
        (reply.outputs.len(), reply.failures[0].reason.as_str()),
        (0, "algorithm \"faces\" is not made here")
    );
    let wrong =
        v1::TranscoderDescription { id: "t3".into(), ..analysed(1, &a.video, "rotate", r#"{"angle": 999}"#) };
    assert_eq!(node.control.set_transcoder(wrong).await.unwrap_err().code(), tonic::Code::InvalidArgument);
}
