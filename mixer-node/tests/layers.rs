//! Pictures that come in several sizes: which of them are taken, and that nobody sees it change.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use kaigi_proto::v1;
use support::{Consumer, Layered, MixerNode, Publisher, Screen, eventually, view};

const RED: u32 = 0xff0000;
const GREEN: u32 = 0x00ff00;
const BLUE: u32 = 0x0000ff;
const GREY: u32 = 0x202020;
/// The middle of the first region, be there one or four.
const FIRST: [(u32, u32); 1] = [(40, 30)];

/// One stream in three sizes: a quarter of the view's in red, its whole in green, four times that in blue.
fn publish(publisher: &Publisher) -> Layered {
    publisher.publish_layers("a", &[("q", RED, (160, 90)), ("h", GREEN, (320, 180)), ("f", BLUE, (640, 360))])
}

/// Waits for a colour; none but those `allowed` may be seen until then.
async fn turns(screen: &Screen, rgb: u32, allowed: &[u32], what: &str) {
    eventually(what, || {
        let known = allowed.iter().chain([&rgb]).any(|colour| screen.shows(FIRST, [*colour]));
        assert!(known, "{what}: {:?} in between", screen.pixels(FIRST));
        screen.shows(FIRST, [rgb])
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_layer_follows_the_layout_without_a_blink() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publish(&publisher);
    let reply = node.control.set_view(view(1, vec![a.input()], 2)).await.unwrap().into_inner();
    let consumer = Consumer::start();
    let screen = consumer.watch(&reply.video.unwrap());
    eventually("the small layer", || screen.shows(FIRST, [RED])).await;
    assert_eq!(a.attached(), [true, false, false]);

    node.control.set_view(view(2, vec![a.input()], 1)).await.unwrap();
    turns(&screen, GREEN, &[RED], "the whole picture").await;
    eventually("one layer is left", || a.attached() == [false, true, false]).await;

    node.control.set_view(view(3, vec![a.input()], 2)).await.unwrap();
    turns(&screen, RED, &[GREEN], "a quarter again").await;
    eventually("one layer is left", || a.attached() == [true, false, false]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_region_of_all_views_and_transcoders_decides() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publish(&publisher);
    let reply = node.control.set_view(view(1, vec![a.input()], 2)).await.unwrap().into_inner();
    let consumer = Consumer::start();
    let screen = consumer.watch(&reply.video.unwrap());
    eventually("the small layer", || screen.shows(FIRST, [RED])).await;
    let other = v1::ViewDescription { label: "other".into(), ..view(1, vec![a.input()], 1) };
    let reply = node.control.set_view(other).await.unwrap().into_inner();
    let _other = consumer.watch(&reply.video.unwrap());
    turns(&screen, GREEN, &[RED], "what the other view needs").await;

    let format = Some(v1::MediaFormat { codec: "h264".into(), ..Default::default() });
    let whole = v1::VideoOutput { id: "o".into(), format, ..Default::default() };
    let transcoder = v1::TranscoderDescription {
        agent_id: "agent-1".into(),
        room_id: "room1".into(),
        id: "t".into(),
        epoch: 1,
        revision: 1,
        source: a.described()[0].source.clone(),
        layers: a.described(),
        video_outputs: vec![whole.clone()],
        ..Default::default()
    };
    let reply = node.control.set_transcoder(transcoder.clone()).await.unwrap().into_inner();
    turns(&screen, BLUE, &[GREEN], "the transcoder takes the largest").await;
    let transcoded = consumer.watch(reply.outputs[0].source.as_ref().unwrap());
    eventually("its picture has that size", || transcoded.size() == Some((640, 360))).await;

    let resolution = Some(v1::Resolution { width: 160, height: 90 });
    let small = v1::VideoOutput { resolution, ..whole };
    let small = v1::TranscoderDescription { revision: 2, video_outputs: vec![small], ..transcoder };
    node.control.set_transcoder(small).await.unwrap();
    turns(&screen, GREEN, &[BLUE], "less is wanted again").await;
    assert_eq!(a.attached().iter().filter(|attached| **attached).count(), 1, "decoded once for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_region_shows_is_not_attached() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publish(&publisher);
    let mut hidden = view(1, vec![a.input()], 1);
    hidden.video.as_mut().unwrap().layout = Some(v1::Layout::default());
    let reply = node.control.set_view(hidden).await.unwrap().into_inner();
    let consumer = Consumer::start();
    let screen = consumer.watch(&reply.video.unwrap());
    eventually("the background", || screen.shows(FIRST, [GREY])).await;
    assert_eq!(a.attached(), [false; 3]);
    node.control.set_view(view(2, vec![a.input()], 1)).await.unwrap();
    eventually("the picture", || screen.shows(FIRST, [GREEN])).await;
    let mut hidden = view(3, vec![a.input()], 1);
    hidden.video.as_mut().unwrap().layout = Some(v1::Layout::default());
    node.control.set_view(hidden).await.unwrap();
    eventually("let go", || a.attached() == [false; 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_stops_is_replaced_by_the_best_other() {
    let mut node = MixerNode::start().await;
    let publisher = Publisher::start().await;
    let a = publish(&publisher);
    let reply = node.control.set_view(view(1, vec![a.input()], 1)).await.unwrap().into_inner();
    let consumer = Consumer::start();
    let screen = consumer.watch(&reply.video.unwrap());
    eventually("the layer that fits", || screen.shows(FIRST, [GREEN])).await;
    a.pause(1, true);
    turns(&screen, BLUE, &[GREEN], "the one above").await;
    a.pause(2, true);
    turns(&screen, RED, &[BLUE], "the one that is left").await;
    a.pause(1, false);
    turns(&screen, GREEN, &[RED], "the one that fits comes back").await;
}
