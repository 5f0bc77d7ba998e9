//! Views that nobody watches: nothing of their inputs is decoded, and everything is there again when somebody comes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use kaigi_proto::v1;
use support::{Consumer, MixerNode, Publisher, eventually, view};

const RED: u32 = 0xff0000;
const GREEN: u32 = 0x00ff00;
const GREY: u32 = 0x202020;
const MIDDLE: [(u32, u32); 1] = [(160, 90)];

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_taken_while_somebody_watches() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publisher.publish_layers("a", &[("q", RED, (160, 90)), ("h", GREEN, (320, 180))]);
    let b = publisher.publish_layers("b", &[("h", RED, (320, 180))]);
    let watched = node.control.set_view(view(1, vec![a.input()], 1)).await.unwrap().into_inner();
    let unwatched = v1::ViewDescription { label: "other".into(), ..view(1, vec![b.input()], 1) };
    node.control.set_view(unwatched).await.unwrap();
    assert_eq!(a.attached(), [false, false]);

    let consumer = Consumer::start();
    let screen = consumer.watch(watched.video.as_ref().unwrap());
    eventually("the input", || screen.shows(MIDDLE, [GREEN])).await;
    assert_eq!(
        (a.attached(), b.attached()),
        (vec![false, true], vec![false]),
        "in the view's size, and for nobody else"
    );

    drop(screen);
    eventually("it is let go", || a.attached() == [false, false]).await;
    // A change of the view does not take it.
    node.control.set_view(view(2, vec![a.input()], 2)).await.unwrap();
    assert_eq!(a.attached(), [false, false]);
    let screen = consumer.watch(watched.video.as_ref().unwrap());
    eventually("it is there again, as the view is now", || screen.shows([(80, 44), (240, 134)], [RED, GREY]))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rendition_is_watched_as_the_view_is() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publisher.publish_layers("a", &[("h", GREEN, (320, 180))]);
    let small = v1::VideoOutput {
        id: "small".into(),
        format: Some(v1::MediaFormat { codec: "vp8".into(), ..Default::default() }),
        resolution: Some(v1::Resolution { width: 160, height: 90 }),
        ..Default::default()
    };
    let described = v1::ViewDescription { video_outputs: vec![small], ..view(1, vec![a.input()], 1) };
    let reply = node.control.set_view(described).await.unwrap().into_inner();
    assert_eq!(a.attached(), [false]);
    let consumer = Consumer::start();
    let screen = consumer.watch(reply.outputs[0].source.as_ref().unwrap());
    eventually("the input, small", || screen.shows([(80, 44)], [GREEN])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_that_nobody_hears_is_mixed_when_somebody_listens() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publisher.publish("a", RED, 700.0);
    let quiet = v1::ViewDescription { voice_activity: false, ..view(1, vec![a.input()], 1) };
    let reply = node.control.set_view(quiet).await.unwrap().into_inner();
    let consumer = Consumer::start();
    for _ in 0..2 {
        let mut ear = consumer.listen(reply.audio.as_ref().unwrap());
        eventually("the tone", || ear.hears([700.0, 400.0]) == Some([true, false])).await;
        assert_eq!(ear.lost, 0);
    }
}
